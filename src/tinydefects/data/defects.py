"""The defects in a mask: 8-connected regions with their area and diameter in pixels, and how many may be measured."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.errors import MaskError

Box = tuple[slice, slice]
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)
MOST_IN_A_MASK = 10_000
MOST_IN_A_CATEGORY = 50_000  # each takes some 20 kB while it is scored, and 500 bytes of a result


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


def find_defects(mask: NDArray[np.bool_], source: object = "a mask", *, most: int = MOST_IN_A_MASK) -> list[Defect]:
    """The 8-connected regions of an (H, W) bool mask, in reading order of their first pixel.

    Raises:
        MaskError: there are more than `most`; `source` names the mask.
    """
    labels, _ = _label(mask, source, most)
    defects = []
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        pixels = labels[box] == number
        defects.append(Defect(box=box, pixels=pixels, area_px=int(np.count_nonzero(pixels))))
    return defects


def most_regions(mask: NDArray[np.bool_], source: object = "a mask") -> int:
    """An upper bound on the number of regions, quickly: marked pixels without a marked neighbour above or to the left.

    Each region has such a pixel, a convex one no other; exact where there are more than `MOST_IN_A_MASK` of them.

    Raises:
        MaskError: as `find_defects`.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0
    marked = mask[rows[0] : rows[-1] + 1]
    follows = np.zeros_like(marked)
    follows[:, 1:] = marked[:, :-1]
    follows[1:] |= marked[:-1]
    follows[1:, 1:] |= marked[:-1, :-1]
    follows[1:, :-1] |= marked[:-1, 1:]
    n_starts = int(np.count_nonzero(marked & ~follows))
    return n_starts if n_starts <= MOST_IN_A_MASK else _label(mask, source)[1]


def require_few(n_defects: int, source: object) -> None:
    """Refuse a category whose defects would fill the memory.

    Raises:
        MaskError: there are more than `MOST_IN_A_CATEGORY`.
    """
    if n_defects > MOST_IN_A_CATEGORY:
        raise MaskError(
            f"{source}: {n_defects:,} regions are marked in all masks together, more than {MOST_IN_A_CATEGORY:,}: "
            "most of them must be noise; remove specks from the masks, or choose another mask_rule"
        )


def _label(mask: NDArray[np.bool_], source: object, most: int = MOST_IN_A_MASK) -> tuple[NDArray[np.int32], int]:
    labels, n_regions = ndimage.label(mask, structure=EIGHT_CONNECTED)
    if n_regions > most:
        raise MaskError(
            f"{source}: {n_regions:,} separate regions, more than {most:,}: noise, a photograph in the place "
            "of a mask, or a threshold that is too low; remove specks, or choose another mask_rule such as above_half"
        )
    return labels, n_regions


def centred_span(middle: int, side: int, size: int) -> slice:
    """`side` pixels around `middle`, moved inside [0, size); all of them where there are fewer."""
    first = max(0, min(middle - side // 2, size - side))
    return slice(first, min(first + side, size))
