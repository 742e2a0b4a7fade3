"""What one input means for photographs of several sizes: a long side in pixels enlarges the small ones more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tinydefects.detector.passes import plan_passes
from tinydefects.detector.patch_grid import PatchGrid, Size

SHOWN = 6  # sizes in a text; the others are counted


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
