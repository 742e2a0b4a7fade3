"""Regions of an anomaly map: seen where it exceeds a high level, outlined down to a lower one (hysteresis).

A region is an 8-connected set of pixels of the extent that holds a pixel above the seed level and is not too small. A
map spreads what is smaller than a patch over about a patch, and the higher it rises the more of that lies above any
level; so the extent ends, too, where the map has fallen by half, see `Extent`. Lengths: the diameter is that of the
disc of the same area, as for defects of masks; the length is the longest way across (maximum Feret diameter), between
outer corners of pixels, so that a single pixel is 1.41 px long.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from tinydefects.data.defects import EIGHT_CONNECTED, Box, Defect

MOST_REGIONS = 1000  # of one map that are described; all are counted
BLOCK_PX = 64  # at least; side of the squares of a map in which the highest values around are looked for
Map = NDArray[np.float32]


class Extent(BaseModel):
    """Which pixels can belong to a region, fixed before regions of good photographs were recorded.

    Those above `level` that are, besides, at least half as high as the highest one within a patch: halfway between what
    pixels of good photographs usually are and that one.

    Attributes:
        level: a pixel belongs to a region only when its value exceeds it.
        quantile: of the pixels of a good map; None where the level was given.
        n_images: good photographs whose median of that quantile it is; 0 where it was given.
        good: the usual value of a pixel of a good photograph.
        patch_px: so many pixels around, in rows and columns, are looked at for the highest one: a patch, as it was in
            most of those photographs. 0 is none, as in older files: all pixels above the level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    level: float
    quantile: float | None = None
    n_images: int = Field(default=0, ge=0)
    good: float = 0.0
    patch_px: int = Field(default=0, ge=0)

    def pixels(self, anomaly_map: Map) -> NDArray[np.bool_]:
        """(H, W) bool, True where a region can be."""
        inside = anomaly_map > np.float32(self.level)
        if not self.patch_px:
            return inside
        (height, width), reach = anomaly_map.shape, self.patch_px
        side = max(BLOCK_PX, 4 * reach)
        for top, left in product(range(0, height, side), range(0, width, side)):
            block = slice(top, top + side), slice(left, left + side)
            if inside[block].any():  # few are: of most of the map the highest values around need not be known
                above, before = min(top, reach), min(left, reach)
                around = anomaly_map[top - above : top + side + reach, left - before : left + side + reach]
                highest = ndimage.maximum_filter(around, 2 * reach + 1)[above:, before:][:side, :side]
                inside[block] &= anomaly_map[block] >= (highest + np.float32(self.good)) / 2
        return inside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region(Defect):
    """One region of a map: its box in the image, its pixels inside the box, its area; and its highest pixel.

    Attributes:
        peak: the highest value of the map in it, at `peak_at`, (row, column) in the image.
        p_value: share of good parts, the new one counted in, with a region as high; nan where none is known.
        pixel_pitch_mm: millimetres a pixel, nan where it is not known; so are all sizes in mm then.
    """

    peak: float
    peak_at: tuple[int, int]
    p_value: float = math.nan
    pixel_pitch_mm: float = math.nan

    @property
    def x_y_width_height(self) -> tuple[int, int, int, int]:
        """The box as other tools write it: left, top, width and height in pixels."""
        rows, columns = self.box
        return columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start

    @property
    def area_mm2(self) -> float:
        """Its area in mm²."""
        return self.area_px * self.pixel_pitch_mm**2

    @property
    def diameter_mm(self) -> float:
        """Diameter of the disc of the same area, in mm."""
        return self.diameter_px * self.pixel_pitch_mm

    @property
    def length_px(self) -> float:
        """The longest way across, in pixels; computed when asked for."""
        return longest_way(self.pixels)

    @property
    def length_mm(self) -> float:
        """The longest way across, in mm."""
        return self.length_px * self.pixel_pitch_mm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MapRegions:
    """All regions of one map, as numbers; highest peak first, ties in reading order.

    Attributes:
        peaks: (n,) float32, `areas_px`: (n,), `numbers`: (n,) the label of each.
        labels: (H, W) int32, 0 where there is none.
    """

    peaks: Map
    areas_px: NDArray[np.int64]
    numbers: NDArray[np.int64]
    labels: NDArray[np.int32]


def label_regions(anomaly_map: Map, extent: Extent) -> MapRegions:
    """The regions of an (H, W) map, whatever their peaks and areas.

    Takes 5 bytes a pixel beside the map, and 16 for each pixel in them.
    """
    labels = np.empty(anomaly_map.shape, dtype=np.int32)
    above = extent.pixels(anomaly_map)
    n_regions = ndimage.label(above, structure=EIGHT_CONNECTED, output=labels)
    owners, scores = labels[above], anomaly_map[above]
    peaks = np.full(n_regions + 1, -np.inf, dtype=np.float32)
    np.maximum.at(peaks, owners, scores)
    areas = np.bincount(owners, minlength=n_regions + 1)
    order = 1 + np.argsort(-peaks[1:], kind="stable")
    return MapRegions(peaks=peaks[order], areas_px=areas[order].astype(np.int64), numbers=order, labels=labels)


def find_regions(
    anomaly_map: Map,
    *,
    extent: Extent,
    seed: float,
    min_area_px: int = 1,
    pixel_pitch_mm: float = math.nan,
    most: int = MOST_REGIONS,
) -> tuple[tuple[Region, ...], int]:
    """The regions whose peak exceeds `seed` and whose area is at least `min_area_px`; how many in all.

    Highest peak first; beyond `most` the lowest are counted and not described.
    """
    if not anomaly_map.max() > np.float32(max(seed, extent.level)):
        return (), 0  # most good images
    found = label_regions(anomaly_map, extent)
    kept = np.flatnonzero((found.peaks > np.float32(seed)) & (found.areas_px >= min_area_px))
    boxes = ndimage.find_objects(found.labels)
    regions = []
    for place in kept[:most]:
        number = int(found.numbers[place])
        regions.append(_region(anomaly_map, boxes[number - 1], found.labels, number, pixel_pitch_mm))
    return tuple(regions), kept.size


def _region(anomaly_map: Map, box: Box, labels: NDArray[np.int32], number: int, pixel_pitch_mm: float) -> Region:
    pixels = labels[box] == number
    scores = np.where(pixels, anomaly_map[box], -np.inf)
    row, column = divmod(int(np.argmax(scores)), scores.shape[1])
    return Region(
        box=box,
        pixels=pixels,
        area_px=int(np.count_nonzero(pixels)),
        peak=float(scores[row, column]),
        peak_at=(row + box[0].start, column + box[1].start),
        pixel_pitch_mm=pixel_pitch_mm,
    )


def mask_of(regions: Sequence[Region], image_size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool, True in the regions."""
    mask = np.zeros(image_size, dtype=bool)
    for region in regions:
        mask[region.box] |= region.pixels
    return mask


def longest_way(pixels: NDArray[np.bool_]) -> float:
    """The largest distance between two outer corners of marked pixels of an (h, w) mask with at least one."""
    rows = np.flatnonzero(pixels.any(axis=1))
    marked = pixels[rows]
    left, right = marked.argmax(axis=1), marked.shape[1] - marked[:, ::-1].argmax(axis=1)
    corners = [np.stack([rows + below, side], axis=1) for below in (0, 1) for side in (left, right)]
    points = np.concatenate(corners).astype(np.float64)
    return float(pdist(points[ConvexHull(points).vertices]).max())


def outline(pixels: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The border of an 8-connected (h, w) mask along the edges of its pixels, as closed polygons of (x, y) corners.

    The outer one comes first, clockwise on the screen, then one a hole, counter-clockwise. Pixel (row, column) covers
    x from column to column + 1, so that the areas, holes subtracted, add up to the area in pixels exactly. Where pixels
    touch at a corner alone, the polygon passes it twice.
    """
    steps = _border_steps(pixels)
    corners = sorted(steps)  # topmost, then leftmost: the outer border comes before those of holes
    return [_walk(steps, corner) for corner in corners if corner in steps]


Step = tuple[int, int]  # rows, columns


def _border_steps(pixels: NDArray[np.bool_]) -> dict[Step, list[Step]]:
    """The steps (down, right) that leave each corner (row, column), the marked pixel always on their right hand."""
    inside = np.pad(pixels, 1).astype(np.int8)
    across = np.diff(inside, axis=0)[:, 1:-1]  # (h + 1, w): 1 where the pixel below is marked, that above is not
    along = np.diff(inside, axis=1)[1:-1]  # (h, w + 1): 1 where the pixel on the right is marked alone
    steps: dict[Step, list[Step]] = {}
    for border, sign, shift, step in (
        (across, 1, (0, 0), (0, 1)),
        (across, -1, (0, 1), (0, -1)),
        (along, 1, (1, 0), (-1, 0)),
        (along, -1, (0, 0), (1, 0)),
    ):
        for row, column in np.argwhere(border == sign).tolist():
            steps.setdefault((row + shift[0], column + shift[1]), []).append(step)
    return steps


def _walk(steps: dict[Step, list[Step]], start: Step) -> NDArray[np.int64]:
    """One closed way from a corner back to it, its steps taken out; only corners where it turns are kept.

    Where two ways cross, the one to the left goes on to the pixel that touches at the corner.
    """
    place, step, corners = start, (0, 0), []
    while place in steps:
        left = (-step[1], step[0])
        following = left if left in steps[place] else steps[place][0]
        steps[place].remove(following)
        if not steps[place]:
            del steps[place]
        if following != step:
            corners.append((place[1], place[0]))
        place, step = (place[0] + following[0], place[1] + following[1]), following
    return np.array(corners, dtype=np.int64)
