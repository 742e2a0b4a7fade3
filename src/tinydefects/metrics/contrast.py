"""How much a defect stands out in the photograph, whatever a detector says: its contrast-to-noise ratio."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.defects import Defect

RING_PX = 5
MAD_TO_SIGMA = 1.4826  # of a normal distribution
SMALLEST_NOISE = 1.0  # gray level of 255: the step of 8 bits; without it, drawn backgrounds would divide by 0


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
