"""The nouns of an import: an outline somebody drew, the photograph it was drawn on, and all of them together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import DatasetError

Corners = NDArray[np.float64]
Unannotated = Literal["good", "skip"]
KINDS = ("polygon", "box", "turned box", "ellipse", "mask")  # those that have an area
ELLIPSE_CORNERS = 720  # 0.01 px off the true one at a radius of 1,000 px


@dataclass(frozen=True, slots=True, kw_only=True)
class Bitmap:
    """Pixels that a tool stored: their corner (top, left) in the photograph, (height, width), and what decodes them."""

    corner: tuple[int, int]
    size: tuple[int, int]
    decode: Callable[[], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outline:
    """One thing somebody outlined: the union of its polygons, or a bitmap.

    Attributes:
        defect_class: what it was called.
        kind: one of `KINDS`, or what the tool calls a shape without area (`point`).
        where: names it in errors.
        polygons: each (n, 2) of x and y in pixels; pixel (row, column) covers [column, column + 1) x [row, row + 1).
        are_shares: whether they are shares of the photograph's width and height instead.
    """

    defect_class: str
    kind: str
    where: str
    polygons: tuple[Corners, ...] = ()
    bitmap: Bitmap | None = None
    are_shares: bool = False

    def corners(self, size: tuple[int, ...]) -> list[Corners]:
        """The polygons in pixels of a photograph of (H, W)."""
        return [one * (size[1], size[0]) if self.are_shares else one for one in self.polygons]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotated:
    """A photograph as its annotations name it: a path below the folder of photographs, (H, W) if said, its outlines."""

    name: str
    size: tuple[int, int] | None
    outlines: tuple[Outline, ...]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Annotations:
    """All that a tool wrote.

    Attributes:
        folder: where the photographs lie unless the user says otherwise.
        lists_all: whether photographs that are not among these do not belong to it (COCO and CVAT list theirs).
        by_stem: whether photographs are named without the ending of their file.
        unannotated: what the format says of photographs without an outline, if it says something.
        remarks: what was passed over.
    """

    folder: Path
    photographs: Sequence[Annotated]
    lists_all: bool
    by_stem: bool = False
    unannotated: Unannotated | None = None
    remarks: tuple[str, ...] = ()


def polygon(values: Sequence[float], where: str) -> Corners:
    """Corners from x1, y1, x2, y2, …

    Raises:
        DatasetError: fewer than three corners, an odd number of values, or one that is not finite.
    """
    if len(values) % 2 or len(values) < 6 or not np.isfinite(values).all():
        raise DatasetError(
            f"{where}: {len(values)} coordinates, a polygon has x and y of three corners or more; mend or remove it"
        )
    return np.array(values, dtype=np.float64).reshape(-1, 2)


def box(left: float, top: float, right: float, bottom: float, *, degrees: float = 0.0) -> Corners:
    """The corners of a box, turned clockwise, as one sees it, about its middle."""
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
    return turned(corners, degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, *, degrees: float = 0.0) -> Corners:
    """An ellipse as a polygon of `ELLIPSE_CORNERS` corners, turned like a `box`."""
    angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
    around = np.stack([radius_x * np.cos(angles), radius_y * np.sin(angles)], axis=1)
    return np.asarray(turned(around, degrees) + np.array([x, y]))


def turned(corners: Corners, degrees: float) -> Corners:
    """The corners turned about the middle of their bounding box; y points down, so that it looks clockwise."""
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.asarray((corners - middle) @ np.array([[cosine, sine], [-sine, cosine]]) + middle)


def runs_of(
    counts: Sequence[int], size: tuple[int, int], where: str, *, corner: tuple[int, int] = (0, 0), by_columns: bool
) -> Bitmap:
    """A bitmap from the lengths of its runs, the first of unmarked pixels, along columns (COCO) or rows (CVAT).

    Raises:
        DatasetError: the size is not positive, or the runs do not fill it.
    """
    height, width = size
    if min(size) < 1:
        raise DatasetError(f"{where}: its runs are of {height} x {width} pixels; export it again")
    if any(count < 0 for count in counts) or sum(counts) != height * width:
        raise DatasetError(
            f"{where}: its runs add up to {sum(counts):,} pixels where {height} x {width} are {height * width:,}; "
            "export it again"
        )

    def decode() -> NDArray[np.bool_]:
        flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
        return flat.reshape(width, height).T if by_columns else flat.reshape(height, width)

    return Bitmap(corner=corner, size=size, decode=decode)
