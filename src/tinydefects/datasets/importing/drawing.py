"""Which pixels an outline marks: those whose centre lies inside.

That keeps the area, as COCO's own code does: drawing libraries colour every pixel that an edge passes through, which
makes a disc of 4 px more than half as large again. A sliver may hold no centre, or lose its middle; then the pixels
that its edge passes through are marked, too, so that one outline stays one defect. Overlapping edges of one polygon
cancel (even-odd).
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.defects import EIGHT_CONNECTED, Box
from tinydefects.datasets.importing.annotations import Corners, Outline
from tinydefects.errors import DatasetError

MOST_BEYOND_PX = 1.0  # over the edge: tools round
MAY_REACH_BEYOND = {"turned box", "ellipse"}  # tools let these
STEP_PX = 0.5  # along an edge, so that the pixels of two steps touch


def draw(mask: NDArray[np.bool_], outline: Outline, *, clip: bool = False) -> bool:
    """Mark the pixels of an outline in a mask (H, W); whether some are marked only as its edge passes through them.

    Raises:
        DatasetError: it lies outside of the photograph (in part, unless `clip` or its kind may), or marks nothing.
    """
    if outline.bitmap is not None:
        _draw_bitmap(mask, outline)
        return False
    was_thin = False
    for corners in outline.corners(mask.shape):
        _require_inside(corners, mask.shape, outline, may_leave=clip or outline.kind in MAY_REACH_BEYOND)
        box = _bounding_box(corners, mask.shape)
        origin = np.array([box[1].start, box[0].start])
        pixels = centres_inside(corners - origin, mask[box].shape)
        if ndimage.label(pixels, EIGHT_CONNECTED)[1] != 1:
            pixels |= passed_through(corners - origin, pixels.shape)
            was_thin = True
        if not pixels.any():
            raise DatasetError(f"{outline.where}: marks no pixel of the photograph; mend or remove it")
        mask[box] |= pixels
    return was_thin


def centres_inside(corners: Corners, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) whether the centre of each pixel lies inside a polygon (even-odd); left and upper edges belong to it."""
    height, width = size
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    low, high = np.minimum(y, next_y), np.maximum(y, next_y)
    first = np.clip(np.ceil(low - 0.5), 0, height).astype(np.intp)  # the rows whose centres an edge crosses
    n_rows = np.clip(np.ceil(high - 0.5), 0, height).astype(np.intp) - first
    edges = np.repeat(np.arange(len(corners)), n_rows)
    rows = first[edges] + np.arange(len(edges)) - (np.cumsum(n_rows) - n_rows)[edges]
    along = (rows + 0.5 - y[edges]) / (next_y - y)[edges]
    crossed_at = x[edges] + along * (next_x - x)[edges]
    columns = np.clip(np.ceil(crossed_at - 0.5), 0, width).astype(np.intp)  # the first centre behind the crossing
    crossings = np.zeros((height, width + 1), dtype=np.bool_)
    np.logical_xor.at(crossings, (rows, columns), True)
    return np.asarray(np.logical_xor.accumulate(crossings, axis=1)[:, :width])


def passed_through(corners: Corners, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W) whether the edge of a polygon passes through a pixel, up to a quarter of a pixel at its corners."""
    height, width = size
    pixels = np.zeros(size, dtype=np.bool_)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        n_steps = int(np.ceil(np.hypot(*(end - start)) / STEP_PX)) + 1
        x, y = np.linspace(start, end, n_steps + 1).T
        near = (x >= -MOST_BEYOND_PX) & (x <= width + MOST_BEYOND_PX)
        near &= (y >= -MOST_BEYOND_PX) & (y <= height + MOST_BEYOND_PX)
        columns = np.clip(np.floor(x[near]), 0, width - 1).astype(np.intp)
        rows = np.clip(np.floor(y[near]), 0, height - 1).astype(np.intp)
        pixels[rows, columns] = True
    return pixels


def _bounding_box(corners: Corners, size: tuple[int, ...]) -> Box:
    """The rows and columns that a polygon may mark, one pixel at least."""
    height, width = size
    (left, top), (right, bottom) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
    rows = slice(int(np.clip(top, 0, height - 1)), int(np.clip(bottom, 1, height)))
    columns = slice(int(np.clip(left, 0, width - 1)), int(np.clip(right, 1, width)))
    return slice(rows.start, max(rows.stop, rows.start + 1)), slice(columns.start, max(columns.stop, columns.start + 1))


def _require_inside(corners: Corners, size: tuple[int, ...], outline: Outline, *, may_leave: bool) -> None:
    height, width = size
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    reach = f"x {left:g} to {right:g}, y {top:g} to {bottom:g}, where the photograph is {width} wide and {height} high"
    if left >= width or top >= height or right <= 0 or bottom <= 0:
        raise DatasetError(f"{outline.where}: lies outside, {reach}; mend or remove it")
    is_inside = min(left, top) >= -MOST_BEYOND_PX and right <= width + MOST_BEYOND_PX
    if not may_leave and not (is_inside and bottom <= height + MOST_BEYOND_PX):
        raise DatasetError(
            f"{outline.where}: reaches outside, {reach}; is it that photograph? if so, --clip cuts what lies outside"
        )


def _draw_bitmap(mask: NDArray[np.bool_], outline: Outline) -> None:
    assert outline.bitmap is not None
    (top, left), (height, width) = outline.bitmap.corner, outline.bitmap.size
    if min(top, left) < 0 or top + height > mask.shape[0] or left + width > mask.shape[1]:
        raise DatasetError(
            f"{outline.where}: its {height} x {width} pixels at row {top}, column {left} reach outside of the "
            f"photograph of {mask.shape[0]} x {mask.shape[1]}; export it again"
        )
    pixels = outline.bitmap.decode()
    if not pixels.any():
        raise DatasetError(f"{outline.where}: marks no pixel; mend or remove it")
    mask[top : top + height, left : left + width] |= pixels
