"""The defects in a mask: 8-connected regions with their area and diameter in pixels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, slice]
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Defect:
    """One region: its box in the image (row slice, column slice) and its pixels inside that box, (h, w) bool."""

    box: Box
    pixels: NDArray[np.bool_]
    area_px: int

    @property
    def diameter_px(self) -> float:
        """Diameter of the disc of the same area, in pixels."""
        return 2.0 * math.sqrt(self.area_px / math.pi)


def find_defects(mask: NDArray[np.bool_]) -> list[Defect]:
    """The 8-connected regions of an (H, W) bool mask, in reading order of their first pixel."""
    labels, _ = ndimage.label(mask, structure=EIGHT_CONNECTED)
    defects = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        pixels = labels[box] == number
        defects.append(Defect(box=box, pixels=pixels, area_px=int(np.count_nonzero(pixels))))
    return defects


def centred_span(middle: int, side: int, size: int) -> slice:
    """`side` pixels around `middle`, moved inside [0, size); all of them where there are fewer."""
    first = max(0, min(middle - side // 2, size - side))
    return slice(first, min(first + side, size))
