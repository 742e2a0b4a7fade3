"""What a ground-truth mask loses when it is shrunk, as many evaluations shrink it. Counted here, never scored on."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
