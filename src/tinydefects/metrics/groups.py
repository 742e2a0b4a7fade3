"""Groups of defects (all, by size, by type), which know their members, and their scores.

By size there are the four quartiles of region area, as published (cumulative) and without overlap, and bins of any
edges. Every group is scored against all normal pixels and all good images of the category. A group goes by its key,
which is unique; its name may be that of another group, too: a defect type may be called `Q1`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.sample import defect_type_of
from tinydefects.errors import SettingsError, TinyDefectsError
from tinydefects.metrics.curves import (
    Curve,
    auroc,
    exact_curve,
    level_areas,
    normal_threshold_curve,
    pixel_weights,
    published_curve,
    region_means,
)
from tinydefects.metrics.ranking import Ranking, Tally, rank
from tinydefects.metrics.records import GroupScores, PlottedCurve

QUARTILES = ("Q1", "Q2", "Q3", "Q4")
SizeUnit = Literal["area_px", "diameter_px", "area_mm2", "image_share"]
SYMBOLS = {"area_px": "px²", "diameter_px": "px", "area_mm2": "mm²", "image_share": "of the image"}
CurveRule = Literal["exact", "published_99", "normal_thresholds"]
CURVE_RULES: dict[str, Callable[[Ranking, NDArray[np.float64]], Curve]] = {
    "exact": exact_curve,
    "published_99": published_curve,
    "normal_thresholds": normal_threshold_curve,
}


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
    """A number as metrics' names hold it: `0.05`, `2`; two numbers that differ are written differently."""
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """Some of the D defects of a category: `members` is (D,) bool, `key` and `name` as in `GroupScores`."""

    key: str
    name: str
    members: NDArray[np.bool_]


def size_and_type_groups(
    areas_px: NDArray[np.int64], defect_types: NDArray[np.str_], types: Iterable[str]
) -> dict[str, Group]:
    """All defects, the quartiles and the types, by key, in the order of a report."""
    found = [Group(key="all", name="all", members=np.ones(areas_px.size, dtype=bool))]
    for kind, quartiles in (("cumulative", cumulative_quartiles(areas_px)), ("disjoint", disjoint_quartiles(areas_px))):
        found += [
            Group(key=f"{kind}:{name}", name=name, members=members)
            for name, members in zip(QUARTILES, quartiles, strict=True)
        ]
    found += [Group(key=f"type:{name}", name=name, members=defect_types == name) for name in types]
    return {group.key: group for group in found}


def bin_groups(
    every_bins: Sequence[SizeBins],
    areas_px: NDArray[np.int64],
    images_px: NDArray[np.int64],
    pixel_pitch_mm: float,
) -> dict[str, Group]:
    """The bins of all sets of edges, by key; a bin that two sets have in common is one group.

    `images_px` (D,) are the pixels of each defect's image.
    """
    return {
        key: Group(key=key, name=name, members=members)
        for bins in every_bins
        for key, name, members in zip(
            bins.keys, bins.names, bins.members(areas_px, images_px, pixel_pitch_mm), strict=True
        )
    }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupScorer:
    """Scores any group of the D defects of a category.

    Attributes:
        own_aupros: (D, L) exact AUPRO of each defect at each limit; the exact AUPRO of a group is their mean.
    """

    ranking: Ranking
    tally: Tally
    fpr_limits: tuple[float, ...]
    curve_rule: str
    own_aupros: NDArray[np.float64]

    def group(self, group: Group) -> GroupScores:
        """Scores of the defects of one group; a type's images count as such even where they mark no defect."""
        members = group.members
        n_defects = int(np.count_nonzero(members))
        areas_px = self.tally.area_px[members]
        images = images_of(self.tally, group.key, members)
        curve = self._curve(members) if n_defects else Curve(fpr=np.empty(0), recall=np.empty(0))
        good_scores = self.tally.image_score[self.tally.is_good]
        return GroupScores(
            key=group.key,
            name=group.name,
            members=tuple(np.flatnonzero(members).tolist()),
            n_defects=n_defects,
            n_images=int(np.count_nonzero(images)),
            area_px=(float(areas_px.min()), float(areas_px.max())) if n_defects else (float("nan"), float("nan")),
            aupro=self._aupro(curve, members),
            image_auroc=auroc(rank(self.tally.image_score[images], [good_scores])),
            curve=curve.thinned() if curve.fpr.size else PlottedCurve(fpr=(), pro=()),
        )

    def _aupro(self, curve: Curve, members: NDArray[np.bool_]) -> tuple[float, ...]:
        if self.curve_rule == "exact" and members.any():
            return tuple(self.own_aupros[members].mean(axis=0).tolist())
        return tuple(curve.area(fpr_limit=limit) for limit in self.fpr_limits)

    def _curve(self, members: NDArray[np.bool_]) -> Curve:
        if self.curve_rule == "exact":
            return self._tallied_curve(members)
        return CURVE_RULES[self.curve_rule](self.ranking, pixel_weights(self.tally.area_px, members))

    def _tallied_curve(self, members: NDArray[np.bool_]) -> Curve:
        """The points of the exact curve that the tally holds: enough to draw it."""
        if not self.ranking.n_normal:
            return Curve(fpr=np.empty(0), recall=np.empty(0))
        fpr = self.tally.normal_at_least.sum(axis=0, dtype=np.int64) / self.ranking.n_normal
        chosen = np.flatnonzero(members)
        found = np.zeros(fpr.size)
        for few in np.array_split(chosen, 1 + chosen.size // 1000):
            found += (1 / self.tally.area_px[few]) @ self.tally.defect_at_least[few] / chosen.size
        found = np.minimum(found, 1)  # the mean of shares, rounded
        return Curve(fpr=np.concatenate([[0.0], fpr, [1.0]]), recall=np.concatenate([[0.0], found, [1.0]]))


def own_aupros(ranking: Ranking, areas_px: NDArray[np.int64], fpr_limits: tuple[float, ...]) -> NDArray[np.float64]:
    """(D, L) exact AUPRO of each defect at each limit, for defects whose pixels were ranked one after the other."""
    columns = [region_means(level_areas(ranking, fpr_limit=limit), ranking.level, areas_px) for limit in fpr_limits]
    return np.stack(columns, axis=1)


def images_of(tally: Tally, key: str, members: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(I,) the images that hold defects of a group; of a type also its defective images that mark no pixel."""
    images = np.zeros(tally.is_good.size, dtype=bool)
    images[tally.image_of_defect[members]] = True
    if key.startswith("type:"):
        types = np.array([defect_type_of(name) for name in tally.sample_id.tolist()], dtype=np.str_)
        images |= ~tally.is_good & (types == key.removeprefix("type:"))
    return images
