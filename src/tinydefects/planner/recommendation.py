"""Which input shows a defect wide enough within a time limit: whole image, native size or tiles, shifted or not.

Passes and patches of every option are those that `Detector` would run. Shifts by half a patch set scores twice as
densely, but a defect gets no wider by them: they are named where there is time left for them. What one pass costs is
worked out from two that were timed, or from a given time a megapixel.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from tinydefects.detector.passes import PassPlan, plan_passes
from tinydefects.detector.patch_grid import PatchGrid, Size
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.input_plan import (
    OVERLAP_IN_DEFECTS,
    InputPlan,
    SizeOutcome,
    outcomes_by_size,
    tile_and_overlap,
)

Resolution = int | Literal["native"]
RESOLUTIONS = (224, 256, 336, 448, 518, 672, 784, 1036)
ROUNDING = 1e-9  # of a width that is meant to be exactly that
UNCOUNTED = "reading files and drawing maps come on top"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCost:
    """Time of a pass over n patches: n * ms_per_patch + n² * ms_per_pair. `source` says where both come from."""

    ms_per_patch: float
    ms_per_pair: float
    source: str

    def ms(self, n_patches: int) -> float:
        """Milliseconds of one pass."""
        return n_patches * self.ms_per_patch + n_patches**2 * self.ms_per_pair


def cost_per_megapixel(ms: float, *, patch_size: int) -> PassCost:
    """The cost of a teacher that takes `ms` milliseconds for each million pixels of its input, however they are cut.

    Raises:
        TinyDefectsError: the time is not above zero.
    """
    if not ms > 0:
        raise TinyDefectsError(f"--ms-per-megapixel {ms:g}: give the milliseconds that a million input pixels take")
    source = f"estimated: {ms:g} ms a megapixel of input, attention not growing faster than that; {UNCOUNTED}"
    return PassCost(ms_per_patch=ms * patch_size**2 / 1e6, ms_per_pair=0.0, source=source)


def cost_from_passes(few: tuple[int, float], many: tuple[int, float], *, timed_with: str) -> PassCost:
    """The cost that two timed passes, each (patches, milliseconds), have in common; attention is paid by pairs."""
    (n_few, ms_few), (n_many, ms_many) = few, many
    ms_per_pair = (ms_many / n_many - ms_few / n_few) / (n_many - n_few)
    ms_per_pair = min(max(0.0, ms_per_pair), ms_many / n_many**2)
    source = (
        f"estimated from a pass over {n_few:,} patches, {ms_few:.3g} ms, and one over {n_many:,}, {ms_many:.3g} ms, "
        f"timed now with {timed_with}; {UNCOUNTED}"
    )
    return PassCost(ms_per_patch=ms_many / n_many - n_many * ms_per_pair, ms_per_pair=ms_per_pair, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOption:
    """One way to show an image to the teacher, and what it costs.

    Attributes:
        resolution: long side in pixels to which the image is scaled.
        tile: side of the tiles into which the scaled image is cut, None if it is shown whole; `overlap` is theirs.
        stride: pixels from one patch to the next.
        width_patches: diameter of the defect, in patches.
        n_patches: of all passes over one image.
        ms: estimated time of all passes.
    """

    resolution: Resolution
    tile: int | None
    overlap: int | None
    stride: int
    width_patches: float
    n_passes: int
    n_patches: int
    ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """What to do about a defect of `defect_px` pixels with `latency_ms` milliseconds for each image.

    Attributes:
        cost_source: where the times come from.
        options: unshifted, each wider than all that cost less; cheapest first.
        best: the cheapest in time at the patches of the plan, or else the widest in time; None if nothing is in time.
        keeps: whether `best` shows the defect at so many patches.
        cheapest_keeping: the cheapest that does, in time or not.
        shifted: `best` with shifts by half a patch, in time or not; None for patches of odd size.
        by_size: what `best` means for each size of photographs; none if all have one size.
    """

    defect_px: float
    latency_ms: float
    cost_source: str
    options: tuple[InputOption, ...]
    best: InputOption | None
    keeps: bool
    cheapest_keeping: InputOption
    shifted: InputOption | None
    by_size: tuple[SizeOutcome, ...] = ()


def recommend_input(
    plan: InputPlan, *, cost: PassCost, latency_ms: float, counts: Mapping[Size, int] | None = None
) -> Recommendation:
    """The input to choose for the defect and the image of `plan`; the plan's own is one of the options.

    `counts` says how many photographs there are of each size.

    Raises:
        TinyDefectsError: the time is not above zero.
    """
    if not latency_ms > 0:
        raise TinyDefectsError(f"--latency-ms {latency_ms:g}: give the milliseconds that an image may take")
    defect_px, size, patch = plan.defect_px, plan.image_size_px, plan.patch_size
    grids: dict[Resolution, PatchGrid] = {"native": PatchGrid.native(size, patch=patch)}
    for resolution in (*RESOLUTIONS, *_doublings(plan), plan.resolution_px):
        grids[resolution] = PatchGrid.proportional(size, patch=patch, resolution=resolution)
    plans = [(name, passes) for name, grid in grids.items() for passes in _plans(grid, defect_px, plan.max_input_px)]
    options = _worth_their_cost([_option(name, passes, defect_px, cost) for name, passes in plans])
    in_time = [option for option in options if option.ms <= latency_ms]
    keeping = [option for option in options if option.width_patches >= plan.patches_across - ROUNDING]
    best = next((option for option in in_time if option in keeping), in_time[-1] if in_time else None)
    return Recommendation(
        defect_px=defect_px,
        latency_ms=latency_ms,
        cost_source=cost.source,
        options=tuple(options),
        best=best,
        keeps=best in keeping,
        cheapest_keeping=keeping[0],
        shifted=None if best is None or patch % 2 else _shifted(best, grids[best.resolution], defect_px, cost),
        by_size=_by_size(best, defect_px, patch, counts or {}),
    )


def planned_cost(plan: InputPlan, cost: PassCost) -> tuple[float, int]:
    """Milliseconds and passes that the input of `plan` takes for its image."""
    grid = PatchGrid.proportional(plan.image_size_px, patch=plan.patch_size, resolution=plan.resolution_px)
    tile, overlap = tile_and_overlap(plan)
    option = _option(plan.resolution_px, plan_passes(grid, tile=tile, overlap=overlap), plan.defect_px, cost)
    return option.ms, option.n_passes


def _by_size(
    best: InputOption | None, defect_px: float, patch_size: int, counts: Mapping[Size, int]
) -> tuple[SizeOutcome, ...]:
    if best is None or len(counts) < 2:
        return ()
    return outcomes_by_size(
        counts,
        defect_px=defect_px,
        patch_size=patch_size,
        resolution=best.resolution,
        tile=best.tile,
        overlap=best.overlap,
    )


def _doublings(plan: InputPlan) -> Iterator[int]:
    """From the largest input of one pass towards the plan's own resolution: what tiles can show on the way there."""
    resolution = 2 * RESOLUTIONS[-1]
    while resolution < plan.resolution_px:
        yield resolution
        resolution *= 2


def _plans(grid: PatchGrid, defect_px: float, max_input: int) -> Iterator[PassPlan]:
    """Whole if one pass can take it, and in the tiles that can; they share the defect and as much on either side."""
    if max(grid.shape) * grid.patch <= max_input:
        yield plan_passes(grid)
    overlap = max(1, math.ceil(OVERLAP_IN_DEFECTS * defect_px * _scale(grid) / grid.patch))
    for tile in (max_input // grid.patch, max_input // 2 // grid.patch):
        if overlap < tile < max(grid.shape):
            yield plan_passes(grid, tile=tile * grid.patch, overlap=overlap * grid.patch)


def _option(resolution: Resolution, plan: PassPlan, defect_px: float, cost: PassCost) -> InputOption:
    patch, passes = plan.grid.patch, plan.pass_shapes
    return InputOption(
        resolution=resolution,
        tile=None if plan.tile is None else plan.tile * patch,
        overlap=None if plan.tile is None else plan.overlap * patch,
        stride=plan.stride,
        width_patches=defect_px * _scale(plan.grid) / patch,
        n_passes=passes.total(),
        n_patches=sum(count * math.prod(shape) for shape, count in passes.items()),
        ms=sum(count * cost.ms(math.prod(shape)) for shape, count in passes.items()),
    )


def _shifted(option: InputOption, grid: PatchGrid, defect_px: float, cost: PassCost) -> InputOption:
    plan = plan_passes(grid, tile=option.tile, overlap=option.overlap, stride=grid.patch // 2)
    return _option(option.resolution, plan, defect_px, cost)


def _worth_their_cost(options: list[InputOption]) -> list[InputOption]:
    worth: list[InputOption] = []
    for option in sorted(options, key=lambda option: (option.ms, -option.width_patches)):
        if not worth or option.width_patches > worth[-1].width_patches:
            worth.append(option)
    return worth


def _scale(grid: PatchGrid) -> float:
    return max(grid.resized_size) / max(grid.image_size)
