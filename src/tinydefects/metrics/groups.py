"""Groups of defects (all, by size, by type), which know their members, and their scores.

Every group is scored against all normal pixels and all good images of the category. A group goes by its key, which is
unique; its name may be that of another group, too: a defect type may be called `Q1`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
from tinydefects.metrics.ranking import Ranking, rank
from tinydefects.metrics.records import GroupScores, PlottedCurve
from tinydefects.metrics.size import QUARTILES, SizeBins, cumulative_quartiles, disjoint_quartiles
from tinydefects.metrics.tally import Tally

CurveRule = Literal["exact", "published_99", "normal_thresholds"]
CURVE_RULES: dict[str, Callable[[Ranking, NDArray[np.float64]], Curve]] = {
    "exact": exact_curve,
    "published_99": published_curve,
    "normal_thresholds": normal_threshold_curve,
}


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
        types = np.array([name.split("/")[-2:][0] for name in tally.sample_id.tolist()], dtype=np.str_)
        images |= ~tally.is_good & (types == key.removeprefix("type:"))
    return images
