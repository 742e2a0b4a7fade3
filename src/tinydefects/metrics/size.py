"""Defects by size: the four quartiles of region area, as published (cumulative) and without overlap; bins; rho."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import SettingsError, TinyDefectsError

QUARTILES = ("Q1", "Q2", "Q3", "Q4")
SizeUnit = Literal["area_px", "diameter_px", "area_mm2", "image_share"]
SYMBOLS = {"area_px": "px²", "diameter_px": "px", "area_mm2": "mm²", "image_share": "of the image"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeBins:
    """Fixed bins of defect size, comparable between categories, unlike quartiles.

    Attributes:
        unit: area in pixels, diameter in pixels of the disc of the same area, area in mm² (the pixel pitch given), or
            the share of the image's pixels.
        edges: ascending and positive; a bin holds its lower edge and not its upper. One bin lies below the first edge
            and one from the last edge up.

    Raises:
        SettingsError: the unit is unknown, or the edges do not ascend from above 0.
    """

    unit: SizeUnit
    edges: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.unit not in get_args(SizeUnit):
            raise SettingsError(f"size unit {self.unit!r} is unknown; choose one of {', '.join(get_args(SizeUnit))}")
        if not self.edges or not all(low < high < math.inf for low, high in pairwise((0.0, *self.edges))):
            raise SettingsError(f"bin edges are {self.edges}; give ascending positive sizes, such as 2, 5, 10")

    @property
    def names(self) -> list[str]:
        """One for each bin, smallest first: `<2 px`, `2 to 5 px`, `>=5 px`."""
        symbol, edges = SYMBOLS[self.unit], [short(edge) for edge in self.edges]
        between = [f"{low} to {high} {symbol}" for low, high in pairwise(edges)]
        return [f"<{edges[0]} {symbol}", *between, f">={edges[-1]} {symbol}"]

    @property
    def keys(self) -> list[str]:
        """The same for programs: `diameter_px:<2`, `diameter_px:2-5`, `diameter_px:>=5`; equal bins have equal keys."""
        edges = [short(edge) for edge in self.edges]
        spans = [f"<{edges[0]}", *(f"{low}-{high}" for low, high in pairwise(edges)), f">={edges[-1]}"]
        return [f"{self.unit}:{span}" for span in spans]

    def members(
        self, areas_px: NDArray[np.int64], images_px: NDArray[np.int64], pixel_pitch_mm: float
    ) -> list[NDArray[np.bool_]]:
        """Membership (n,) of each bin, smallest first, for areas of defects and of their images.

        Raises:
            TinyDefectsError: the unit is mm² and the pixel pitch is not a positive length.
        """
        sizes: NDArray[np.floating[Any]] = areas_px.astype(np.float64)
        if self.unit == "diameter_px":
            sizes = 2 * np.sqrt(areas_px / np.pi)
        elif self.unit == "image_share":
            sizes = areas_px / images_px
        elif self.unit == "area_mm2":
            if not 0 < pixel_pitch_mm < math.inf:
                raise TinyDefectsError(f"bins in mm² need a pixel pitch in mm; it is {pixel_pitch_mm}, give 0.05 or so")
            sizes = areas_px * pixel_pitch_mm**2
        place = np.searchsorted(self.edges, sizes, side="right")
        return [place == number for number in range(len(self.edges) + 1)]


def parse_bins(text: str) -> SizeBins:
    """`diameter_px:2,5,10` as bins.

    Raises:
        SettingsError: it is written otherwise, or the bins make no sense.
    """
    unit, separator, edges = text.partition(":")
    try:
        numbers = tuple(float(edge) for edge in edges.split(","))
    except ValueError:
        numbers = ()
    if not (separator and numbers):
        raise SettingsError(f"{text!r}: write UNIT:EDGES, such as diameter_px:2,5,10")
    return SizeBins(unit=unit, edges=numbers)  # type: ignore[arg-type]  # it checks the unit


def short(number: float) -> str:
    """A number as figures' names hold it: `0.05`, `2`; two numbers that differ are written differently."""
    text = f"{number:g}"
    return text if float(text) == number else repr(float(number))


def quartile_areas(areas_px: NDArray[np.int64]) -> tuple[float, float, float]:
    """The 25, 50 and 75 % quantiles of all region areas, linearly interpolated; nan without regions."""
    if not areas_px.size:
        return (float("nan"),) * 3
    first, second, third = np.quantile(areas_px, (0.25, 0.5, 0.75))
    return float(first), float(second), float(third)


def cumulative_quartiles(areas_px: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Membership (n,) of Q1, Q2, Q3, Q4: areas up to the 25, 50, 75 and 100 % quantile; each holds the one before."""
    return [areas_px <= limit for limit in (*quartile_areas(areas_px), np.inf)]


def disjoint_quartiles(areas_px: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Membership (n,) of the quartiles without overlap, smallest first; one may be empty where areas repeat."""
    upto = cumulative_quartiles(areas_px)
    return [upto[0], *(larger & ~smaller for smaller, larger in pairwise(upto))]


def rho(aupro_q1_to_q4: Sequence[float]) -> float:
    """Robustness to size, mean(Q1…Q4) * min(Q1, Q4) / max(Q1, Q4) of the cumulative quartiles, in [0, 1].

    0 when Q1 and Q4 are both 0, whatever their ratio; nan when a quartile is. From a reading of the paper's definition:
    the false-positive limit it is taken at there is not known, so it is reported for each limit.
    """
    q1, q4 = aupro_q1_to_q4[0], aupro_q1_to_q4[-1]
    if max(q1, q4) == 0:
        return 0.0
    return float(np.mean(aupro_q1_to_q4)) * min(q1, q4) / max(q1, q4)
