"""Exact curves and single numbers from a ranking: PRO and ROC curves, AUROC, average precision, best F1.

Ties are one threshold: a curve crosses a tie on the diagonal, so an uninformative detector scores what chance scores.

For comparison only there is the rule that the published numbers of arXiv 2407.04092 were computed with, and its limit.
That curve is sampled at 99 equally spaced ranks of the normal pixels, so its false-positive rate moves in steps of 1/98
and AUPRO@1 % is one trapezoid: lower than the exact value by 0.144 on average, 0.005 at 30 %. Its false-positive rate
is the rank, not a count, so ties are pessimistic: a constant map scores 0 where chance scores half the limit.

AUPIMO: the share of each image's defect that is found while good images stay almost free of false positives.

Bertoldo, Ameln, Vaidya and Akçay, "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low
Tolerance", BMVC 2024 (arXiv 2401.01984). Theirs takes thresholds from an even grid of scores; here they are all scores.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.ranking import Ranking, Scores, Tally
from tinydefects.metrics.records import PlottedCurve
from tinydefects.metrics.spool import ScoreSpool

PLOTTED_POINTS = 300
PUBLISHED_POINTS = 99
BLOCK = 2**20
FPR_BOUNDS = (1e-5, 1e-4)


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


def pixel_weights(areas_px: NDArray[np.int64], members: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(M,) weight of every defect pixel in PRO: one over its region's area and the number of regions in the group.

    `members` (D,) says which regions are in the group; the pixels of the others weigh nothing.
    """
    n_members = max(1, int(np.count_nonzero(members)))
    return np.repeat(np.where(members, 1 / (areas_px * n_members), 0.0), areas_px)


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
    areas = np.full(ranking.scores.size, np.nan)
    for block in blocks(areas.size if ranking.n_normal else 0):
        start, end = ranking.normal_above[block] / ranking.n_normal, ranking.normal_at_least[block] / ranking.n_normal
        tied = end - start
        inside = np.clip(fpr_limit - start, 0, tied)
        ramp = np.divide(inside**2, 2 * tied, out=np.zeros_like(tied), where=tied > 0)
        areas[block] = (ramp + np.maximum(fpr_limit - end, 0)) / fpr_limit
    return areas


def region_means(
    level_values: NDArray[np.float64], level: NDArray[np.integer[Any]], areas_px: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(D,) mean over the pixels of each region, for (K,) values of levels and regions that lie one after the other."""
    ends = np.cumsum(areas_px)
    means = np.empty(areas_px.size)
    first = 0
    while first < areas_px.size:  # as many whole regions at a time as fit into a block, one at least
        start = ends[first] - areas_px[first]
        last = max(first + 1, int(np.searchsorted(ends, start + BLOCK, side="right")))
        values = level_values[level[start : ends[last - 1]]]
        means[first:last] = np.add.reduceat(values, ends[first:last] - areas_px[first:last] - start)
        first = last
    return means / areas_px


def blocks(size: int) -> Iterator[slice]:
    """[0, size) in pieces, so that temporary arrays stay small beside those of all levels."""
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))


def auroc(ranking: Ranking) -> float:
    """Share of pairs (defect, normal) in the right order, ties counted half; nan when either is missing."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    twice_wins = 0
    for block in blocks(ranking.scores.size):
        losses = ranking.normal_above[block] + ranking.normal_at_least[block]
        twice_wins += int(ranking.hits[block] @ (2 * ranking.n_normal - losses))
    return twice_wins / (2 * ranking.n_defect * ranking.n_normal)


def average_precision(ranking: Ranking) -> float:
    """Precision at each distinct threshold, weighted by the recall gained there, as scikit-learn defines it."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    total, before = 0.0, 0
    for block in blocks(ranking.scores.size):
        found = before + np.cumsum(ranking.hits[block])
        total += float(ranking.hits[block] @ (found / (found + ranking.normal_at_least[block])))
        before = int(found[-1])
    return total / ranking.n_defect


def best_f1(ranking: Ranking) -> float:
    """The highest F1 over all thresholds: an oracle that has seen the truth; nan when either is missing."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    best, before = 0.0, 0
    for block in blocks(ranking.scores.size):
        found = before + np.cumsum(ranking.hits[block])
        best = max(best, float(np.max(2 * found / (found + ranking.normal_at_least[block] + ranking.n_defect))))
        before = int(found[-1])
    return best


def f1(*, n_found: int, n_false: int, n_defect: int, n_normal: int) -> float:
    """F1 of a decision that calls `n_found` of `n_defect` and `n_false` of `n_normal`; nan when either is missing."""
    return 2 * n_found / (n_found + n_false + n_defect) if n_defect and n_normal else float("nan")


def fpr_at_tpr(ranking: Ranking, *, percent: int) -> float:
    """The smallest false-positive rate among thresholds that find at least `percent` % of the defect scores, or nan."""
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan")
    enough = 100 * np.cumsum(ranking.hits) >= percent * ranking.n_defect  # in integers: 95 % of 20 is 19
    return float(ranking.normal_at_least[np.argmax(enough)] / ranking.n_normal)


def published_ranks(n_normal: int, n_points: int = PUBLISHED_POINTS) -> NDArray[np.int64]:
    """(n_points,) ranks of the thresholds among the ascending normal scores, highest first; repeated if few."""
    return np.linspace(0, n_normal - 1, n_points).astype(np.int64)[::-1]


def published_curve(ranking: Ranking, weights: NDArray[np.float64], n_points: int = PUBLISHED_POINTS) -> Curve:
    """The published PRO curve, for (M,) weights of the defect scores that sum to 1, closed by the point (1, 1).

    A defect score exceeds the threshold of rank r exactly when more than r normal scores lie strictly below it, so
    the counts of the ranking suffice and the thresholds themselves are never looked up.
    """
    if not ranking.n_defect or not ranking.n_normal:
        return Curve(fpr=np.empty(0), recall=np.empty(0))
    ranks = published_ranks(ranking.n_normal, n_points)
    normal_below = ranking.n_normal - ranking.normal_at_least
    n_levels_above = np.searchsorted(-normal_below, -ranks, side="left")
    found = np.concatenate([[0.0], np.cumsum(level_gains(ranking, weights))])
    fpr = (ranking.n_normal - 1 - ranks) / ranking.n_normal
    return Curve(fpr=np.append(fpr, 1.0), recall=np.append(found[n_levels_above], 1.0))


def normal_threshold_curve(ranking: Ranking, weights: NDArray[np.float64]) -> Curve:
    """What the published rule tends to with ever more points, its ties mended: a threshold at every normal score.

    Nothing is sampled between two neighbouring normal scores, so the defect scores there appear to rise along a slope
    where the exact curve steps after it: higher than exact by at most 1 / (2 * number of normal pixels * limit)
    while normal scores are distinct.
    """
    return curve_of_rises(ranking, weights, ranking.normal_above_next)


def level_aupimos(above: NDArray[np.float64], at_least: NDArray[np.float64]) -> NDArray[np.float64]:
    """(K,) what a pixel adds to the AUPIMO of its image, in [0, 1], from the rates of good pixels above and from it on.

    A pixel counts as found from `at_least` on and gradually across a tie, on the straight line in the plane of rate and
    recall as for AUPRO; the area is taken over the logarithm of the rate. A constant map scores what chance scores,
    (1e-4 - 1e-5) / ln 10.
    """
    low, high = FPR_BOUNDS
    start, end = np.clip(above, low, high), np.clip(at_least, low, high)
    tied = at_least - above
    ramp = np.divide(
        (end - start) - above * np.log(end / start), tied, out=np.zeros_like(tied), where=(tied > 0) & (end > start)
    )
    return np.asarray((ramp + np.log(high / end)) / math.log(high / low))


def good_rates(
    scores: Scores, normal_scores: ScoreSpool, good: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The mean over good images of their share of pixels above, and at least, the first of (K,) scores, descending.

    `good` are the runs of the good images; each image counts the same whatever its size. The answer is exact and ends
    where the rate has surely passed the higher bound of AUPIMO: only scores that high are read back.
    """
    pivot = _pivot(normal_scores, good)
    scores = scores[: int(np.count_nonzero(scores >= pivot))]
    tails, weights, n_tied = [np.empty(0, np.float32)], [np.empty(0)], 0.0
    chosen = set(good)
    for number, run in enumerate(normal_scores.runs()):
        if number in chosen:
            start = int(np.searchsorted(run, pivot, side="right"))
            weight = 1 / (run.size * len(good))
            tails.append(np.array(run[start:]))
            weights.append(np.full(run.size - start, weight))
            n_tied += weight * (start - int(np.searchsorted(run, pivot, side="left")))
    ordered = np.concatenate(tails)
    order = np.argsort(ordered)
    ordered = ordered[order]
    rates = np.append(np.cumsum(np.concatenate(weights)[order][::-1])[::-1], 0.0)
    above = rates[np.searchsorted(ordered, scores, side="right")]
    at_least = rates[np.searchsorted(ordered, scores, side="left")]
    at_least[scores == pivot] += n_tied
    return above, at_least


def _pivot(normal_scores: ScoreSpool, good: Sequence[int]) -> np.float32:
    """A good score at which the rate reaches the higher bound, and above which it is less than twice that."""
    tops = [normal_scores.tops(number) for number in good]
    values = np.concatenate([scores for scores, _ in tops])
    shares = [np.diff(ranks, prepend=0) / (ranks[-1] * len(good)) for _, ranks in tops]
    order = np.argsort(values)[::-1]
    surely = np.cumsum(np.concatenate(shares)[order])
    return np.float32(values[order[np.argmax(surely >= FPR_BOUNDS[1])]])


def image_aupimos(ranking: Ranking, normal_scores: ScoreSpool, tally: Tally) -> NDArray[np.float64]:
    """(I,) AUPIMO of each defective image, over all its defect pixels together; nan for others, or without good images.

    The false-positive rate is the mean over good images of the share of their own pixels; defective images' normal
    pixels do not count.
    """
    n_images = tally.is_good.size
    aupimos = np.full(n_images, np.nan)
    good = np.flatnonzero(tally.is_good).tolist()
    if good and tally.area_px.size:
        above, at_least = good_rates(ranking.scores, normal_scores, good)
        level_values = np.zeros(ranking.scores.size)
        level_values[: above.size] = level_aupimos(above, at_least)
        found = region_means(level_values, ranking.level, tally.area_px) * tally.area_px
        n_pixels = np.bincount(tally.image_of_defect, tally.area_px, minlength=n_images)
        marked = n_pixels > 0
        aupimos[marked] = np.bincount(tally.image_of_defect, found, minlength=n_images)[marked] / n_pixels[marked]
    return aupimos
