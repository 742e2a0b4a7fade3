"""The rule that the published numbers of arXiv 2407.04092 were computed with, and its limit; for comparison only.

The curve is sampled at 99 equally spaced ranks of the normal pixels, so its false-positive rate moves in steps of 1/98
and AUPRO@1 % is one trapezoid: lower than the exact value by 0.144 on average, 0.005 at 30 %. Its false-positive rate
is the rank, not a count, so ties are pessimistic: a constant map scores 0 where chance scores half the limit.
"""

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.curves import Curve, curve_of_rises, level_gains
from tinydefects.metrics.ranking import Ranking

PUBLISHED_POINTS = 99


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
