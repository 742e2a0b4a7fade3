"""Exact curves and single numbers from a ranking: PRO and ROC curves, AUROC, average precision, best F1.

Ties are one threshold: a curve crosses a tie on the diagonal, so an uninformative detector scores what chance scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.ranking import Ranking
from tinydefects.metrics.scores import PlottedCurve

PLOTTED_POINTS = 300


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Recall against false-positive rate: both (n,) ascending in [0, 1], straight between points; empty if undefined.

    Recall is PRO, the mean share of a region that is found, when each pixel weighs one over its region's area.
    """

    fpr: NDArray[np.float64]
    recall: NDArray[np.float64]

    def area(self, *, fpr_limit: float) -> float:
        """Area for fpr in [0, fpr_limit], divided by fpr_limit: 1 is perfect, fpr_limit / 2 is chance.

        Returns nan when the curve is empty or ends before the limit.
        """
        if not self.fpr.size or self.fpr[-1] < fpr_limit:
            return float("nan")
        n_inside = int(np.searchsorted(self.fpr, fpr_limit, side="right"))
        fpr, recall = self.fpr[:n_inside], self.recall[:n_inside]
        area = float(np.trapezoid(recall, fpr))
        if n_inside < self.fpr.size:  # the limit falls between two points
            width = fpr_limit - fpr[-1]
            slope = (self.recall[n_inside] - recall[-1]) / (self.fpr[n_inside] - fpr[-1])
            area += width * (recall[-1] + slope * width / 2)
        return float(area / fpr_limit)

    def thinned(self, n_points: int = PLOTTED_POINTS) -> PlottedCurve:
        """At most `n_points` of the curve's own points, half spread evenly and half by powers of ten towards 0.

        Both ends of every flat stretch that is drawn are kept, so that a late step stays a step.
        """
        kept = np.arange(self.fpr.size)
        if self.fpr.size > n_points:
            n_targets = (n_points - 2) // 4
            smallest = self.fpr[self.fpr > 0][0]
            targets = np.concatenate([np.linspace(0, 1, n_targets), np.geomspace(smallest, 1, n_targets)])
            last_before = np.searchsorted(self.fpr, targets, side="right") - 1
            first_after = np.minimum(last_before + 1, self.fpr.size - 1)
            kept = np.unique(np.concatenate([[0], last_before, first_after]))
        return PlottedCurve(fpr=tuple(self.fpr[kept].tolist()), pro=tuple(self.recall[kept].tolist()))


def level_gains(ranking: Ranking, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) recall gained at each level, from (M,) weights of the defect scores that sum to 1."""
    return np.bincount(ranking.level, weights, minlength=ranking.scores.size).astype(np.float64, copy=False)


def exact_curve(ranking: Ranking, weights: NDArray[np.float64]) -> Curve:
    """The curve over all thresholds, for (M,) weights of the defect scores; scores of weight 0 are left out.

    Weights 1/M give the ROC curve; 1/(area of its region * number of regions) give PRO (Bergmann et al. 2021).
    """
    return curve_of_rises(ranking, weights, ranking.normal_above)


def curve_of_rises(ranking: Ranking, weights: NDArray[np.float64], n_before: NDArray[np.int64]) -> Curve:
    """The curve whose recall rises, at each level, straight from `n_before` (K,) normal scores to `normal_at_least`.

    Levels that rise between the same two counts rise together.
    """
    gains = level_gains(ranking, weights)
    used = np.flatnonzero(gains)
    if not used.size or not ranking.n_normal:
        return Curve(fpr=np.empty(0), recall=np.empty(0))
    found = np.cumsum(gains[used])
    starts, ends = n_before[used], ranking.normal_at_least[used]
    is_last = np.append((starts[1:] != starts[:-1]) | (ends[1:] != ends[:-1]), True)
    found = found[is_last] / found[-1]
    fpr, recall = np.zeros(2 * found.size + 2), np.zeros(2 * found.size + 2)
    fpr[1:-1:2] = starts[is_last] / ranking.n_normal
    fpr[2:-1:2] = ends[is_last] / ranking.n_normal
    recall[3:-1:2] = found[:-1]
    recall[2:-1:2] = found
    fpr[-1] = recall[-1] = 1.0
    return Curve(fpr=fpr, recall=recall)


def level_areas(ranking: Ranking, *, fpr_limit: float) -> NDArray[np.float64]:
    """(K,) what one pixel of each level adds to AUPRO@fpr_limit of its own: 1 if found at once, 0 if never.

    A pixel counts as found from the false-positive rate of its level on, gradually across a tie. The mean over a
    region's pixels is the region's AUPRO, and the mean over regions that of the group: the same number as the area
    under the exact curve.
    """
    if not ranking.n_normal:
        return np.full(ranking.scores.size, np.nan)
    start, end = ranking.normal_above / ranking.n_normal, ranking.normal_at_least / ranking.n_normal
    tied = end - start
    inside = np.clip(fpr_limit - start, 0, tied)
    ramp = np.divide(inside**2, 2 * tied, out=np.zeros_like(tied), where=tied > 0)
    return np.asarray((ramp + np.maximum(fpr_limit - end, 0)) / fpr_limit)


def auroc(ranking: Ranking) -> float:
    """Share of pairs (defect, normal) in the right order, ties counted half; nan when either is missing."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    twice_wins = 2 * ranking.n_normal - ranking.normal_above - ranking.normal_at_least
    return float(_hits(ranking) @ twice_wins) / (2 * ranking.n_defect * ranking.n_normal)


def average_precision(ranking: Ranking) -> float:
    """Precision at each distinct threshold, weighted by the recall gained there, as scikit-learn defines it."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    hits = _hits(ranking)
    found = np.cumsum(hits)
    return float(hits @ (found / (found + ranking.normal_at_least))) / ranking.n_defect


def best_f1(ranking: Ranking) -> float:
    """The highest F1 over all thresholds: an oracle that has seen the truth; nan when either is missing."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    found = np.cumsum(_hits(ranking))
    return float(np.max(2 * found / (found + ranking.normal_at_least + ranking.n_defect)))


def _hits(ranking: Ranking) -> NDArray[np.int64]:
    return np.bincount(ranking.level, minlength=ranking.scores.size)
