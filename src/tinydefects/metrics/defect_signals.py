"""What shows of one defect: its own peak in the map, and how much it stands out in the photograph.

A peak is a defect's own where no neighbour's glow could have lifted it. Maps are interpolated and often blurred, so
that a tiny defect beside a large one shares its glow. A pixel of a defect is its own when no way leads from it to a
pixel of another defect that scores higher without passing below its own score; ways go over neighbouring pixels,
diagonal ones too, and stay within an eighth of the image's long side. On the slope of a neighbour's glow such a way
exists: uphill. The highest pixel that is a defect's own is its own peak. Where one summit covers several defects, it
belongs to the one that scores highest in it, and to all that tie.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.defects import EIGHT_CONNECTED, Box, Defect

FIRST_MARGIN_PX, REACH = 8, 1 / 8
RING_PX = 5
MAD_TO_SIGMA = 1.4826  # of a normal distribution
SMALLEST_NOISE = 1.0  # gray level of 255: the step of 8 bits; without it, drawn backgrounds would divide by 0


def own_peaks(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], defects: Sequence[Defect]) -> list[float]:
    """The own peak of each defect of one image, nan where it has none; (H, W) map and mask of all its defects."""
    peaks = [float(anomaly_map[defect.box][defect.pixels].max()) for defect in defects]
    highest = max(peaks, default=0.0)
    return [
        peak if peak == highest else _own_peak(anomaly_map, mask, defect)
        for peak, defect in zip(peaks, defects, strict=True)
    ]


def _own_peak(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], defect: Defect) -> float:
    scores = np.where(defect.pixels, anomaly_map[defect.box], -np.inf)
    top = np.unravel_index(np.argmax(scores), scores.shape)
    pixel = (int(top[0]) + defect.box[0].start, int(top[1]) + defect.box[1].start)
    if np.count_nonzero(anomaly_map[_window(pixel, 1, anomaly_map.shape)] >= anomaly_map[pixel]) == 1:
        return float(anomaly_map[pixel])  # a summit by itself: most are
    summits = defect.pixels & (scores == ndimage.maximum_filter(scores, size=3, mode="constant", cval=-np.inf))
    rows, columns = np.nonzero(summits)  # only there: uphill of any other pixel lies a better one
    for place in np.argsort(-scores[rows, columns], kind="stable"):
        pixel = (int(rows[place]) + defect.box[0].start, int(columns[place]) + defect.box[1].start)
        if not _climbs_elsewhere(anomaly_map, mask, pixel):
            return float(anomaly_map[pixel])
    return float("nan")


def _climbs_elsewhere(anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_], pixel: tuple[int, int]) -> bool:
    """Whether the region around a pixel that nowhere scores less holds a pixel of a defect that scores more.

    No pixel of the same defect can: it would have been tried before.
    """
    score, margin = anomaly_map[pixel], FIRST_MARGIN_PX
    furthest = max(FIRST_MARGIN_PX, round(REACH * max(anomaly_map.shape)))
    while True:
        window = _window(pixel, margin, anomaly_map.shape)
        here = anomaly_map[window]
        regions, _ = ndimage.label(here >= score, structure=EIGHT_CONNECTED)
        region = regions == regions[pixel[0] - window[0].start, pixel[1] - window[1].start]
        if (region & mask[window] & (here > score)).any():
            return True
        if margin == furthest or not _goes_on(region, window, anomaly_map.shape):
            return False
        margin = min(2 * margin, furthest)


def _window(pixel: tuple[int, int], margin: int, shape: tuple[int, ...]) -> Box:
    rows, columns = (
        slice(max(0, middle - margin), min(size, middle + margin + 1))
        for middle, size in zip(pixel, shape, strict=True)
    )
    return rows, columns


def _goes_on(region: NDArray[np.bool_], window: Box, shape: tuple[int, ...]) -> bool:
    """Whether a region reaches an edge of its window that is no edge of the image."""
    ends = [(region[0], window[0].start > 0), (region[-1], window[0].stop < shape[0])]
    ends += [(region[:, 0], window[1].start > 0), (region[:, -1], window[1].stop < shape[1])]
    return any(inside and bool(edge.any()) for edge, inside in ends)


def contrast_to_noise(image: NDArray[np.uint8], mask: NDArray[np.bool_], defect: Defect) -> float:
    """|median inside - median around| / noise around, of the colour channel where it is largest; 0 is invisible.

    `image` is (H, W, 3), `mask` (H, W) with every defect. Around are the pixels up to `RING_PX` steps (diagonal ones
    count) from the defect that belong to no defect; noise is their median absolute deviation times 1.4826, at least
    one gray level. nan when nothing lies around.
    """
    rows, columns = (
        slice(max(0, side.start - RING_PX), min(side.stop + RING_PX, length))
        for side, length in zip(defect.box, mask.shape, strict=True)
    )
    pixels = image[rows, columns]
    inside = np.zeros(pixels.shape[:2], dtype=bool)
    top, left = defect.box[0].start - rows.start, defect.box[1].start - columns.start
    height, width = defect.pixels.shape
    inside[top : top + height, left : left + width] = defect.pixels
    near = ndimage.maximum_filter(inside, size=2 * RING_PX + 1, mode="constant")
    around = pixels[near & ~mask[rows, columns]]
    if not around.size:
        return float("nan")
    middle = np.median(around, axis=0)
    noise = MAD_TO_SIGMA * np.median(np.abs(around - middle), axis=0)
    return float(np.max(np.abs(np.median(pixels[inside], axis=0) - middle) / np.maximum(noise, SMALLEST_NOISE)))
