"""What could be seen at all: the sizes of a category's defects in pixels, patches and millimetres at each resolution.

Computed from the ground-truth masks alone, before any model runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.defects import Defect, find_defects
from tinydefects.sample import Sample

RESOLUTIONS = (224, 256, 448, 518, 1036)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionPlan:
    """What remains of the defects when the long side of the image is brought to `resolution` pixels.

    Attributes:
        resolution: long side in pixels; None is the native size.
        median_diameter_patches: median over defects of the diameter in patches.
        share_below_one_patch: share of defects whose diameter is smaller than one patch.
        share_vanished: share of defects of which nearest-neighbour sampling of the mask keeps no pixel.
    """

    resolution: int | None
    median_diameter_patches: float
    share_below_one_patch: float
    share_vanished: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Defect sizes of a category at its native resolution, and what each input resolution would leave of them.

    Attributes:
        image_sizes_px: the distinct (height, width) of the defective images, most frequent first, at most five.
        area_quantiles_px: 0, 25, 50, 75, 100 % quantiles of the areas; nan without defects.
        diameter_quantiles_px: the same of the diameters of discs of the same area.
        pixel_pitch_mm: millimetres a pixel, nan when it was not given.
    """

    n_images: int
    n_defects: int
    image_sizes_px: tuple[tuple[int, int], ...]
    area_quantiles_px: tuple[float, ...]
    diameter_quantiles_px: tuple[float, ...]
    pixel_pitch_mm: float
    patch_size: int
    plans: tuple[ResolutionPlan, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _SeenDefect:
    defect: Defect
    image_size: tuple[int, int]


def inspect_defects(
    samples: Iterable[Sample],
    *,
    patch_size: int = 14,
    resolutions: tuple[int, ...] = RESOLUTIONS,
    pixel_pitch_mm: float = float("nan"),
) -> Inspection:
    """Read the masks of all defective samples and say what each resolution would leave of their defects."""
    seen: list[_SeenDefect] = []
    sizes: dict[tuple[int, int], int] = {}
    n_images = 0
    for sample in samples:
        if sample.label == "defect":
            mask = sample.mask()
            size = (mask.shape[0], mask.shape[1])
            sizes[size] = sizes.get(size, 0) + 1
            seen += [_SeenDefect(defect=defect, image_size=size) for defect in find_defects(mask)]
            n_images += 1
    areas = np.array([one.defect.area_px for one in seen], dtype=float)
    diameters = np.array([one.defect.diameter_px for one in seen])
    return Inspection(
        n_images=n_images,
        n_defects=len(seen),
        image_sizes_px=tuple(sorted(sizes, key=lambda size: -sizes[size])[:5]),
        area_quantiles_px=_quantiles(areas),
        diameter_quantiles_px=_quantiles(diameters),
        pixel_pitch_mm=pixel_pitch_mm,
        patch_size=patch_size,
        plans=tuple(_plan(seen, resolution, patch_size) for resolution in (*resolutions, None)),
    )


def describe_inspection(category_id: str, inspection: Inspection) -> str:
    """The inspection as a short text table."""
    if not inspection.n_defects:
        return f"{category_id}: no defects in {inspection.n_images} defective images"
    sizes = ", ".join(f"{height}x{width}" for height, width in inspection.image_sizes_px)
    lines = [
        f"{category_id}: {inspection.n_defects} defects in {inspection.n_images} images ({sizes} px, height x width)",
        f"{'':22}{'smallest':>10}{'25 %':>10}{'median':>10}{'75 %':>10}{'largest':>10}",
        _row("area, px", inspection.area_quantiles_px),
        _row("diameter, px", inspection.diameter_quantiles_px),
    ]
    if inspection.pixel_pitch_mm == inspection.pixel_pitch_mm:
        in_mm = tuple(value * inspection.pixel_pitch_mm for value in inspection.diameter_quantiles_px)
        lines.append(_row("diameter, mm", in_mm))
    lines += ["", f"{'input, long side px':22}{'median patches':>16}{'below 1 patch':>16}{'lost from mask':>16}"]
    for plan in inspection.plans:
        name = "native" if plan.resolution is None else str(plan.resolution)
        shares = f"{plan.share_below_one_patch:>16.1%}{plan.share_vanished:>16.1%}"
        lines.append(f"{name:22}{plan.median_diameter_patches:>16.2f}{shares}")
    return "\n".join([*lines, f"(patches of {inspection.patch_size} px)"])


def _row(name: str, values: tuple[float, ...]) -> str:
    return f"{name:22}" + "".join(f"{value:>10.4g}" for value in values)


def _plan(seen: list[_SeenDefect], resolution: int | None, patch_size: int) -> ResolutionPlan:
    scales = [1.0 if resolution is None else resolution / max(one.image_size) for one in seen]
    patches = np.array([one.defect.diameter_px * s / patch_size for one, s in zip(seen, scales, strict=True)])
    vanished = [not _survives(one.defect, one.image_size, s) for one, s in zip(seen, scales, strict=True)]
    return ResolutionPlan(
        resolution=resolution,
        median_diameter_patches=float(np.median(patches)) if seen else float("nan"),
        share_below_one_patch=float(np.mean(patches < 1)) if seen else float("nan"),
        share_vanished=float(np.mean(vanished)) if seen else float("nan"),
    )


def _survives(defect: Defect, image_size: tuple[int, int], scale: float) -> bool:
    """Whether sampling the mask at the centres of the smaller image's pixels hits the defect at least once."""
    if scale >= 1:
        return True
    rows = _sampled(defect.box[0], image_size[0], scale)
    columns = _sampled(defect.box[1], image_size[1], scale)
    return bool(defect.pixels[np.ix_(rows, columns)].any())


def _sampled(extent: slice, length: int, scale: float) -> NDArray[np.intp]:
    n_samples = max(1, round(length * scale))
    centres = ((np.arange(n_samples) + 0.5) * length / n_samples).astype(np.intp)
    inside: NDArray[np.intp] = centres[(centres >= extent.start) & (centres < extent.stop)]
    return np.asarray(inside - extent.start)


def _quantiles(values: NDArray[np.float64]) -> tuple[float, ...]:
    if not values.size:
        return (float("nan"),) * 5
    return tuple(float(q) for q in np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
