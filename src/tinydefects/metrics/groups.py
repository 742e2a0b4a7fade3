"""Scores of groups of defects (all, by size, by type) against all normal pixels and all good images of the category."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.curves import Curve, auroc, exact_curve, level_areas, pixel_weights, region_means
from tinydefects.metrics.published import normal_threshold_curve, published_curve
from tinydefects.metrics.ranking import Ranking, rank
from tinydefects.metrics.records import GroupScores, PlottedCurve
from tinydefects.metrics.tally import Tally

CurveRule = Literal["exact", "published_99", "normal_thresholds"]
CURVE_RULES: dict[str, Callable[[Ranking, NDArray[np.float64]], Curve]] = {
    "exact": exact_curve,
    "published_99": published_curve,
    "normal_thresholds": normal_threshold_curve,
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

    def group(self, name: str, members: NDArray[np.bool_]) -> GroupScores:
        """Scores of the defects chosen by `members`, (D,) bool."""
        n_defects = int(np.count_nonzero(members))
        areas_px = self.tally.area_px[members]
        images = np.unique(self.tally.image_of_defect[members])
        curve = self._curve(members) if n_defects else Curve(fpr=np.empty(0), recall=np.empty(0))
        good_scores = self.tally.image_score[self.tally.is_good]
        return GroupScores(
            name=name,
            n_defects=n_defects,
            n_images=images.size,
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
