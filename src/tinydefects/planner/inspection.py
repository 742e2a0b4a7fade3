"""What could be seen at all: defect sizes in pixels, patches and millimetres, and what each input leaves of them.

From ground-truth masks alone, before any model runs; or, with no mask at hand, from discs of a given diameter. What a
mask loses when it is shrunk, as many evaluations shrink it, is counted here and never scored on.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinydefects.data.defects import Defect, find_defects, require_few
from tinydefects.data.pixels import read_size
from tinydefects.data.sample import Sample
from tinydefects.detector.patch_grid import Size
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.input_plan import (
    PATCH_PX,
    InputPlan,
    SizeOutcome,
    outcomes_by_size,
    plan_input,
    tile_and_overlap,
)

RESOLUTIONS = (224, 256, 448, 518, 1036)
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
SMALLEST_SHARE = 0.05  # the defect that is to be kept by default: this share of all defects is smaller
R2_STEPS = (0.7548776662466927, 0.5698402909980532)  # 1 / g and 1 / g² of g³ = g + 1: evenly spread in the square
ShrinkRule = Literal["nearest", "bilinear"]
SHRINK_RULES: tuple[ShrinkRule, ...] = ("nearest", "bilinear")


def kept_by_shrinking(mask: NDArray[np.bool_], resolution: int | None, rule: ShrinkRule) -> NDArray[np.bool_]:
    """The defect pixels (H, W) that a mask shrunk to `resolution` still marks, brought back to its own size.

    The long side becomes `resolution` pixels, the other follows in proportion. `nearest` takes the pixel at the centre
    of each cell. `bilinear` is Pillow's and torchvision's, a triangle as wide as the cell that weighs every pixel under
    it; what exceeds 0.5 is marked. None, or a resolution at or above the mask's own, keeps all.
    """
    height, width = mask.shape
    if resolution is None or resolution >= max(height, width):
        return mask
    rows, columns = (max(1, round(side * resolution / max(height, width))) for side in (height, width))
    if rule == "nearest":
        shrunk = np.asarray(Image.fromarray(mask.astype(np.uint8)).resize((columns, rows), Image.Resampling.NEAREST))
        marked = shrunk > 0
    else:
        grey = Image.fromarray(mask.astype(np.float32))
        marked = np.asarray(grey.resize((columns, rows), Image.Resampling.BILINEAR)) > 0.5
    kept: NDArray[np.bool_] = marked[np.ix_(_cells(height, rows), _cells(width, columns))]
    return kept & mask


def _cells(length: int, n_cells: int) -> NDArray[np.intp]:
    """The cell of the shrunk axis that holds the centre of each pixel."""
    return ((np.arange(length) + 0.5) * n_cells / length).astype(np.intp)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskLoss:
    """What shrinking the masks takes away; see `kept_by_shrinking`. Shares in [0, 1], nan without defects.

    Attributes:
        share_gone: of the defects, those of which no pixel is marked any more.
        share_gone_smallest: the same among the defects up to the 25 % quantile of the areas.
        share_pixels_lost: of all defect pixels, those that are not marked any more.
    """

    share_gone: float
    share_gone_smallest: float
    share_pixels_lost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionPlan:
    """What remains of the defects when the long side of the image is brought to `resolution` pixels.

    Attributes:
        resolution: long side in pixels; None is the native size.
        diameter_quantiles_patches: 0, 5, 25, 50, 75, 100 % quantiles of the diameters in patches.
        two_patches_px: the diameter, in pixels of the image, that spans two patches; median over the defects' images.
    """

    resolution: int | None
    diameter_quantiles_patches: tuple[float, ...]
    share_below_one_patch: float
    share_below_two_patches: float
    two_patches_px: float
    nearest: MaskLoss
    bilinear: MaskLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Defect sizes of a category at its native resolution, and what each input resolution would leave of them.

    Attributes:
        image_sizes_px: the distinct (height, width) of the defective images, most frequent first, at most five.
        area_quantiles_px: 0, 5, 25, 50, 75, 100 % quantiles of the areas; nan without defects.
        diameter_quantiles_px: the same of the diameters of discs of the same area.
        diameters_px: of every defect, in the order they were read.
        pixel_pitch_mm: millimetres a pixel, nan when it was not given.
        input_plan: how to keep the asked-for defect, or the 5 % quantile; None without defects.
        n_crumbs: defects of a single pixel, and the number of images that hold any.
        by_size: what that plan means for each size of photographs, good ones included; none if all have one size.
    """

    n_images: int
    n_defects: int
    image_sizes_px: tuple[tuple[int, int], ...]
    area_quantiles_px: tuple[float, ...]
    diameter_quantiles_px: tuple[float, ...]
    diameters_px: tuple[float, ...]
    pixel_pitch_mm: float
    patch_size: int
    plans: tuple[ResolutionPlan, ...]
    input_plan: InputPlan | None
    n_crumbs: int = 0
    n_masks_with_crumbs: int = 0
    by_size: tuple[SizeOutcome, ...] = ()


@dataclass(slots=True)
class _Seen:
    """What is remembered of the masks, one entry a defect; `kept` counts the pixels that shrinking leaves of it."""

    kept: dict[tuple[int | None, ShrinkRule], list[int]]
    areas: list[int] = field(default_factory=list)
    diameters: list[float] = field(default_factory=list)
    long_sides: list[int] = field(default_factory=list)
    n_crumbs: int = 0
    n_masks_with_crumbs: int = 0

    def add(self, mask: NDArray[np.bool_], defects: Sequence[Defect]) -> None:
        self.areas += [defect.area_px for defect in defects]
        self.diameters += [defect.diameter_px for defect in defects]
        self.long_sides += [max(mask.shape)] * len(defects)
        for (resolution, rule), counts in self.kept.items():
            left = kept_by_shrinking(mask, resolution, rule)
            counts += [int(np.count_nonzero(left[defect.box] & defect.pixels)) for defect in defects]


def inspect_defects(
    samples: Iterable[Sample],
    *,
    patch_size: int = PATCH_PX,
    resolutions: tuple[int, ...] = RESOLUTIONS,
    pixel_pitch_mm: float = math.nan,
    defect_px: float | None = None,
    max_input: int = 1036,
) -> Inspection:
    """Read the masks of all defective samples and say what each resolution would leave of their defects.

    Samples without a mask are left out.
    `defect_px` is the diameter that the plan is to keep at two patches in the largest image; None is the 5 % quantile.
    """
    seen = _Seen({(resolution, rule): [] for resolution in (*resolutions, None) for rule in SHRINK_RULES})
    sizes: dict[Size, int] = {}
    of_good: Counter[Size] = Counter()
    for sample in samples:
        if sample.label == "good":
            of_good[read_size(sample.image_path)] += 1
        if sample.label == "defect":
            mask = sample.mask()
            size = (mask.shape[0], mask.shape[1])
            sizes[size] = sizes.get(size, 0) + 1
            defects = find_defects(mask, next(iter(sample.mask_paths), sample.id))
            seen.add(mask, defects)
            n_crumbs = sum(defect.area_px == 1 for defect in defects)
            seen.n_crumbs += n_crumbs
            seen.n_masks_with_crumbs += n_crumbs > 0
            require_few(len(seen.areas), "this inspection")
    if defect_px is None and seen.diameters:
        defect_px = float(np.quantile(seen.diameters, SMALLEST_SHARE))
    plan = None
    all_sizes = of_good + Counter(sizes)
    if defect_px is not None and sizes:
        plan = plan_input(defect_px, max(all_sizes, key=max), patch_size=patch_size, max_input=max_input)
    return replace(_summary(seen, sizes, patch_size, pixel_pitch_mm, plan), by_size=_by_size(plan, all_sizes))


def inspect_disc(
    diameter_px: float,
    image_size: tuple[int, int],
    *,
    patch_size: int = PATCH_PX,
    resolutions: tuple[int, ...] = RESOLUTIONS,
    pixel_pitch_mm: float = math.nan,
    max_input: int = 1036,
) -> Inspection:
    """The same for discs of one diameter, spread over an image of (H, W) pixels; needs no mask.

    Raises:
        TinyDefectsError: such a disc does not fit into such an image.
    """
    plan = plan_input(diameter_px, image_size, patch_size=patch_size, max_input=max_input)
    seen = _Seen({(resolution, rule): [] for resolution in (*resolutions, None) for rule in SHRINK_RULES})
    mask = draw_discs(diameter_px, image_size, cell_px=max(image_size) / min(resolutions))
    seen.add(mask, find_defects(mask, most=mask.size))
    return _summary(seen, {image_size: 1}, patch_size, pixel_pitch_mm, plan)


def draw_discs(diameter_px: float, image_size: tuple[int, int], *, cell_px: float) -> NDArray[np.bool_]:
    """A mask (H, W) with as many discs as fit apart, their centres evenly spread against a grid of `cell_px` pixels.

    Every disc marks at least the pixel of its centre.

    Raises:
        TinyDefectsError: not even one fits.
    """
    cell_px = max(1.0, cell_px)
    pitch = diameter_px + 2 * cell_px + 2
    counts = [math.floor((side - diameter_px - cell_px) / pitch + 1) for side in image_size]
    if min(counts) < 1:
        raise TinyDefectsError(
            f"a disc of {diameter_px:.3g} px does not fit into {image_size[0]}x{image_size[1]} px; "
            "check --defect-px, --defect-mm and --image-size"
        )
    mask = np.zeros(image_size, dtype=bool)
    for number in range(counts[0] * counts[1]):
        places = (number // counts[1], number % counts[1])
        shifts = (step * number % 1 * cell_px for step in R2_STEPS)
        centre = [place * pitch + diameter_px / 2 + shift for place, shift in zip(places, shifts, strict=True)]
        _draw_disc(mask, centre, diameter_px / 2)
    return mask


def _draw_disc(mask: NDArray[np.bool_], centre: list[float], radius: float) -> None:
    spans = [slice(max(0, math.floor(middle - radius)), math.ceil(middle + radius) + 1) for middle in centre]
    rows, columns = (np.arange(mask.shape[axis])[span] + 0.5 - centre[axis] for axis, span in enumerate(spans))
    mask[spans[0], spans[1]] |= rows[:, None] ** 2 + columns**2 <= radius**2
    mask[int(centre[0]), int(centre[1])] = True


def _summary(
    seen: _Seen,
    sizes: dict[tuple[int, int], int],
    patch_size: int,
    pixel_pitch_mm: float,
    plan: InputPlan | None,
) -> Inspection:
    resolutions = dict.fromkeys(resolution for resolution, _ in seen.kept)
    return Inspection(
        n_images=sum(sizes.values()),
        n_defects=len(seen.areas),
        image_sizes_px=tuple(sorted(sizes, key=lambda size: -sizes[size])[:5]),
        area_quantiles_px=_quantiles(seen.areas),
        diameter_quantiles_px=_quantiles(seen.diameters),
        diameters_px=tuple(seen.diameters),
        pixel_pitch_mm=pixel_pitch_mm,
        patch_size=patch_size,
        plans=tuple(_plan(seen, resolution, patch_size) for resolution in resolutions),
        input_plan=plan,
        n_crumbs=seen.n_crumbs,
        n_masks_with_crumbs=seen.n_masks_with_crumbs,
    )


def _by_size(plan: InputPlan | None, counts: Mapping[Size, int]) -> tuple[SizeOutcome, ...]:
    if plan is None or len(counts) < 2:
        return ()
    tile, overlap = tile_and_overlap(plan)
    return outcomes_by_size(
        counts,
        defect_px=plan.defect_px,
        patch_size=plan.patch_size,
        resolution=plan.resolution_px,
        tile=tile,
        overlap=overlap,
    )


def _plan(seen: _Seen, resolution: int | None, patch_size: int) -> ResolutionPlan:
    long_sides = np.array(seen.long_sides, dtype=float)
    scales = np.ones_like(long_sides) if resolution is None else resolution / long_sides
    patches = np.array(seen.diameters) * scales / patch_size
    nearest, bilinear = (_loss(seen, resolution, rule) for rule in SHRINK_RULES)
    return ResolutionPlan(
        resolution=resolution,
        diameter_quantiles_patches=_quantiles(patches),
        share_below_one_patch=_mean(patches < 1),
        share_below_two_patches=_mean(patches < 2),
        two_patches_px=float(np.median(2 * patch_size / scales)) if patches.size else math.nan,
        nearest=nearest,
        bilinear=bilinear,
    )


def _loss(seen: _Seen, resolution: int | None, rule: ShrinkRule) -> MaskLoss:
    areas, kept = np.array(seen.areas), np.array(seen.kept[resolution, rule])
    if not areas.size:
        return MaskLoss(share_gone=math.nan, share_gone_smallest=math.nan, share_pixels_lost=math.nan)
    return MaskLoss(
        share_gone=_mean(kept == 0),
        share_gone_smallest=_mean(kept[areas <= np.quantile(areas, 0.25)] == 0),
        share_pixels_lost=1 - float(kept.sum() / areas.sum()),
    )


def _quantiles(values: Iterable[float]) -> tuple[float, ...]:
    array = np.asarray(list(values), dtype=float)
    return tuple(float(q) for q in np.quantile(array, QUANTILES)) if array.size else (math.nan,) * len(QUANTILES)


def _mean(flags: NDArray[np.bool_]) -> float:
    return float(np.mean(flags)) if flags.size else math.nan
