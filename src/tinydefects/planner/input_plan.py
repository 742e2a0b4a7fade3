"""Which input keeps a defect of a given size at two patches: one pass at some resolution, or tiles of some size.

A long side in pixels enlarges small photographs more than large ones: `outcomes_by_size` says what one input means for
photographs of several sizes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tinydefects.detector.passes import plan_passes
from tinydefects.detector.patch_grid import PatchGrid, Size
from tinydefects.errors import TinyDefectsError

PATCH_PX = 14  # of most teachers
PATCHES_ACROSS = 2
OVERLAP_IN_DEFECTS = 3  # the defect itself and as much again, two patches, on either side of it
SHOWN = 6  # sizes in a text; the others are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class InputPlan:
    """How an image is to be shown to a teacher so that a defect spans so many patches. Sizes are (height, width).

    Attributes:
        defect_px: diameter of the defect in pixels of the image.
        image_size_px: the image planned for.
        max_input_px: the longest side that the teacher takes in one pass.
        patches_across: what the defect is to span.
        scale: pixels of the input for one pixel of the image; above 1 the image is enlarged.
        resolution_px: long side of the whole image at that scale, in whole patches.
        n_patches: patches of the whole image at that scale.
        tile_size_px: pixels of the image that one pass sees; the image itself where one pass suffices.
        tile_input_px: long side to which each tile is brought.
        overlap_px: pixels of the image that neighbouring tiles share.
        n_tiles: (rows, columns) of tiles.
        n_passes: teacher passes for one image.
    """

    defect_px: float
    image_size_px: tuple[int, int]
    patch_size: int
    max_input_px: int
    scale: float
    resolution_px: int
    n_patches: int
    tile_size_px: tuple[int, int]
    tile_input_px: int
    overlap_px: int
    n_tiles: tuple[int, int]
    n_passes: int
    patches_across: float = PATCHES_ACROSS


def plan_input(
    defect_px: float,
    image_size: tuple[int, int],
    *,
    patch_size: int = PATCH_PX,
    max_input: int = 1036,
    patches_across: float = PATCHES_ACROSS,
) -> InputPlan:
    """The smallest input at which a defect of `defect_px` pixels spans `patches_across`, in tiles if too large.

    Neighbouring tiles overlap by three such defects: every one lies whole in some tile, with its own width around it.

    Raises:
        TinyDefectsError: sizes that are not positive, or an input that holds fewer patches than the overlap needs.
    """
    if not (defect_px > 0 and min(image_size) > 0 and patch_size > 0):
        raise TinyDefectsError(f"defect of {defect_px} px in {image_size[0]}x{image_size[1]} px: sizes are above zero")
    least = math.ceil(2 * patches_across * OVERLAP_IN_DEFECTS) * patch_size
    if max_input < least:
        raise TinyDefectsError(f"an input of {max_input} px is too small to tile; give --max-input {least} or more")
    scale = patches_across * patch_size / defect_px
    rows, columns = (math.ceil(side * scale / patch_size) for side in image_size)
    resolution = max(rows, columns) * patch_size
    input_px = min(resolution, max_input // patch_size * patch_size)
    tile = max(1, math.floor(input_px / scale))
    overlap = min(math.ceil(OVERLAP_IN_DEFECTS * defect_px), tile - 1)
    if resolution <= max_input:
        tile, overlap = max(image_size), 0
    height, width = image_size
    n_tiles = (_tiles_along(height, tile, overlap), _tiles_along(width, tile, overlap))
    return InputPlan(
        defect_px=defect_px,
        image_size_px=image_size,
        patch_size=patch_size,
        max_input_px=max_input,
        scale=scale,
        resolution_px=resolution,
        n_patches=rows * columns,
        tile_size_px=(min(tile, height), min(tile, width)),
        tile_input_px=input_px,
        overlap_px=overlap,
        n_tiles=n_tiles,
        n_passes=n_tiles[0] * n_tiles[1],
        patches_across=patches_across,
    )


def describe_plan(plan: InputPlan, *, is_largest: bool = False) -> str:
    """The plan in two or three lines; `is_largest` says that it is for the largest of several sizes."""
    height, width = plan.image_size_px
    size = f"the largest photograph, {height}x{width} px," if is_largest else f"an image of {height}x{width} px"
    scaled = f"enlarged {plan.scale:.3g} times" if plan.scale > 1 else f"shrunk to {plan.scale:.3g}"
    lines = [
        f"to keep a defect of {plan.defect_px:.3g} px at {plan.patches_across:.3g} patches of {plan.patch_size} px, "
        f"{size} is {scaled}:"
    ]
    whole = f"long side {plan.resolution_px:,} px, {plan.n_patches:,} patches"
    if plan.n_passes == 1:
        lines.append(f"  {whole}, one teacher pass")
    else:
        rows, columns = plan.n_tiles
        tile = f"{plan.tile_size_px[0]}x{plan.tile_size_px[1]} px"
        lines += [
            f"  {rows} x {columns} tiles of {tile} with {plan.overlap_px} px of overlap, "
            f"each brought to {plan.tile_input_px:,} px: {plan.n_passes:,} teacher passes an image",
            f"  (as a whole: {whole})",
        ]
    lines.append(f"  tinydefects fit ... {_fit_options(plan)}")
    if plan.defect_px < 1:
        lines.append("  it is smaller than one pixel of the camera: only a finer pixel pitch can show it")
    return "\n".join(lines)


def tile_and_overlap(plan: InputPlan) -> tuple[int | None, int | None]:
    """Of the scaled image, in pixels, as `fit` takes them; None where one pass suffices."""
    if plan.n_passes == 1:
        return None, None
    scale = plan.resolution_px / max(plan.image_size_px)
    overlap_px = math.ceil(OVERLAP_IN_DEFECTS * plan.defect_px * scale / plan.patch_size) * plan.patch_size
    return plan.tile_input_px, overlap_px


def _fit_options(plan: InputPlan) -> str:
    tile, overlap = tile_and_overlap(plan)
    return f"--resolution {plan.resolution_px}" + ("" if tile is None else f" --tile {tile} --overlap {overlap}")


def _tiles_along(length: int, tile: int, overlap: int) -> int:
    return 1 if length <= tile else math.ceil((length - overlap) / (tile - overlap))


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeOutcome:
    """What becomes of photographs of one size. Sizes are (height, width).

    Attributes:
        n_images: photographs of this size.
        scale: pixels of the input for one pixel of the photograph; above 1 it is enlarged.
        width_patches: diameter of the defect that was planned for, in patches.
        n_passes: teacher passes for one photograph.
    """

    image_size_px: Size
    n_images: int
    scale: float
    width_patches: float
    n_passes: int


def outcomes_by_size(
    counts: Mapping[Size, int],
    *,
    defect_px: float,
    patch_size: int,
    resolution: int | Literal["native"],
    tile: int | None = None,
    overlap: int | None = None,
) -> tuple[SizeOutcome, ...]:
    """What `fit --resolution … --tile … --overlap …` does to photographs of these sizes, the largest first."""
    found = []
    for size in sorted(counts, key=lambda size: (-max(size), -min(size), size)):
        if resolution == "native":
            grid = PatchGrid.native(size, patch=patch_size)
        else:
            grid = PatchGrid.proportional(size, patch=patch_size, resolution=resolution)
        scale = max(grid.resized_size) / max(size)
        passes = plan_passes(grid, tile=tile, overlap=overlap).pass_shapes
        found.append(
            SizeOutcome(
                image_size_px=size,
                n_images=counts[size],
                scale=scale,
                width_patches=defect_px * scale / patch_size,
                n_passes=passes.total(),
            )
        )
    return tuple(found)


def describe_by_size(outcomes: tuple[SizeOutcome, ...]) -> str:
    """A table of a few lines: the largest, the smallest and the most frequent; nothing for photographs of one size."""
    if len(outcomes) < 2:
        return ""
    often = sorted(outcomes[1:-1], key=lambda one: -one.n_images)[: SHOWN - 2]
    shown = [one for one in outcomes if one in (outcomes[0], outcomes[-1]) or one in often]
    n_images = sum(one.n_images for one in outcomes)
    lines = [
        f"  these {n_images:,} photographs have {len(outcomes):,} sizes; for each of them that means:",
        f"  {'height x width':>16}{'photographs':>13}{'scaled by':>11}{'patches wide':>14}{'passes':>8}",
    ]
    for one in shown:
        size = "{}x{}".format(*one.image_size_px)
        numbers = f"{one.n_images:>13,}{one.scale:>11.3g}{one.width_patches:>14.2f}{one.n_passes:>8,}"
        lines.append(f"  {size:>16}{numbers}")
    if len(shown) < len(outcomes):
        left = [one for one in outcomes if one not in shown]
        scales = f"scaled by {min(one.scale for one in left):.3g} to {max(one.scale for one in left):.3g}"
        lines.append(f"  {len(left):,} more sizes, {sum(one.n_images for one in left):,} photographs, {scales}")
    return "\n".join(lines)
