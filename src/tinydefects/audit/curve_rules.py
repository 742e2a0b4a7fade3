"""How other work takes PRO curves, areas and pixel numbers from the pixels of a category.

Every function but the exact ones loses something on purpose; `rules.py` says who does it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.curves import Curve, auroc, average_precision, exact_curve, published_curve
from tinydefects.metrics.ranking import Ranking
from tinydefects.metrics.spool import ScoreSpool, ascending

Weights = NDArray[np.float64]  # (M,), one a defect pixel; they sum to 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenPixels:
    """All pixels of a category as one rule sees them.

    Attributes:
        ranking: the M defect pixels among the normal ones.
        defect_scores: (M,) float32, region after region.
        areas_px: (D,) pixels of each region.
        normal_scores: still open, so that a rule can count at thresholds of its own.
        score_range: lowest and highest score of any map.
        images: the scores of defective images among those of good ones.
    """

    ranking: Ranking
    defect_scores: NDArray[np.float32]
    areas_px: NDArray[np.int64]
    normal_scores: ScoreSpool
    score_range: tuple[float, float]
    images: Ranking


CurvesRule = Callable[[SeenPixels, Sequence[Weights]], list[Curve]]
LimitedCurvesRule = Callable[[SeenPixels, Sequence[Weights], float], list[Curve]]  # of one FPR limit
AreaRule = Callable[[Curve, float], float]
PixelRule = Callable[[SeenPixels], tuple[float, float]]


def exact_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """Every threshold there is, ties on the diagonal."""
    return [exact_curve(seen.ranking, one) for one in weights]


def published_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """99 thresholds at equally spaced ranks of the normal pixels."""
    return [published_curve(seen.ranking, one) for one in weights]


def linear_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """200 thresholds evenly from the lowest score up to one step below the highest; found is what is above.

    The bare samples, without (0, 0): the highest threshold already lets pixels through.
    """
    thresholds = np.linspace(*seen.score_range, 200, endpoint=False, dtype=np.float32)
    return _sampled_curves(seen, weights, thresholds, at_threshold="missed")


def closed_linear_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """The same 200 samples between (0, 0) and (1, 1)."""
    return [_closed(curve) for curve in linear_curves(seen, weights)]


def binned_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """The edges of 50 equal bins from the lowest to the highest score; found is what reaches the edge."""
    thresholds = np.linspace(*seen.score_range, 51, dtype=np.float32)
    return _sampled_curves(seen, weights, thresholds, at_threshold="found")


def closed_binned_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """The same 51 samples from (0, 0) on."""
    return [_closed(curve) for curve in binned_curves(seen, weights)]


def top_500_quantile_curves(seen: SeenPixels, weights: Sequence[Weights], fpr_limit: float) -> list[Curve]:
    """500 even quantiles of the normal scores down to the limit; found is what is above; level beyond both ends."""
    thresholds = normal_quantiles(seen.normal_scores, 1 - np.linspace(0, fpr_limit, 500))[::-1]
    curves = _sampled_curves(seen, weights, _rounded(thresholds, down=True), at_threshold="missed")
    return [_level_to(curve, fpr_limit) if curve.fpr.size else curve for curve in curves]


def top_64_quantile_curves(seen: SeenPixels, weights: Sequence[Weights], fpr_limit: float) -> list[Curve]:
    """64 even quantiles of the normal scores down to twice the limit, from (0, 0) on; found is what reaches one."""
    thresholds = normal_quantiles(seen.normal_scores, np.linspace(1 - min(1.0, 2 * fpr_limit), 1, 64))
    curves = _sampled_curves(seen, weights, _rounded(np.unique(thresholds), down=False), at_threshold="found")
    return [_closed(curve) for curve in curves]


def roc_curves(seen: SeenPixels, weights: Sequence[Weights]) -> list[Curve]:
    """The exact ROC curve: every pixel of the group weighs the same, so large defects decide."""
    return [exact_curve(seen.ranking, (one > 0) / max(1, int(np.count_nonzero(one)))) for one in weights]


def normal_quantiles(normal_scores: ScoreSpool, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) scores below which each share of the normal ones lies, straight between neighbours; nan without any."""
    n_normal = int(normal_scores.sizes.sum())
    if not n_normal:
        return np.full(shares.shape, np.nan)
    places = np.clip(shares, 0, 1) * (n_normal - 1)
    lower = np.floor(places).astype(np.int64)
    ranks = np.unique(np.concatenate([lower, np.minimum(lower + 1, n_normal - 1)]))
    scores = _scores_of_rank(normal_scores, ranks).astype(np.float64)
    below = scores[np.searchsorted(ranks, lower)]
    above = scores[np.searchsorted(ranks, np.minimum(lower + 1, n_normal - 1))]
    return np.asarray(below + (above - below) * (places - lower))


def area_up_to_limit(curve: Curve, fpr_limit: float) -> float:
    """The area up to the limit, straight between samples, divided by the limit."""
    return curve.area(fpr_limit=fpr_limit)


def area_up_to_last_sample(curve: Curve, fpr_limit: float) -> float:
    """The area between the first and the last sample below the limit, divided by the last one's rate.

    Nan when fewer than two samples lie below it.
    """
    inside = curve.fpr < fpr_limit
    fpr = curve.fpr[inside]
    if fpr.size < 2 or fpr[-1] == 0:
        return float("nan")
    return float(np.trapezoid(curve.recall[inside], fpr) / fpr[-1])


def standardised_area(curve: Curve, fpr_limit: float) -> float:
    """The area up to the limit, brought to 0.5 for chance and 1 for perfect as McClish (1989) does for a ROC curve."""
    area, chance = fpr_limit * curve.area(fpr_limit=fpr_limit), fpr_limit**2 / 2
    return 0.5 * (1 + (area - chance) / (fpr_limit - chance))


def exact_pixels(seen: SeenPixels) -> tuple[float, float]:
    """Pixel AUROC and average precision over all thresholds."""
    return auroc(seen.ranking), average_precision(seen.ranking)


def binned_pixels(seen: SeenPixels) -> tuple[float, float]:
    """Pixel AUROC and the area under precision against recall, by trapezoids over the edges of 50 bins."""
    n_defect, n_normal = seen.ranking.n_defect, seen.ranking.n_normal
    if not n_defect or not n_normal:
        return float("nan"), float("nan")
    (roc,) = binned_curves(seen, [np.full(n_defect, 1 / n_defect)])
    found, false = roc.recall * n_defect, roc.fpr * n_normal
    precision = np.divide(found, found + false, out=np.ones_like(found), where=found + false > 0)
    return _closed(roc).area(fpr_limit=1.0), float(np.trapezoid(precision, roc.recall))


def trapezoid_pixels(seen: SeenPixels) -> tuple[float, float]:
    """Pixel AUROC, and trapezoids under precision over recall where all points of equal recall come worst first.

    So a straight line leads from the best precision at one recall to the worst at the next, and from (0, 1) to the
    first: higher than average precision where few scores are distinct.
    """
    ranking = seen.ranking
    if not ranking.n_defect or not ranking.n_normal:
        return float("nan"), float("nan")
    found = np.cumsum(ranking.hits)
    best = found / (found + ranking.normal_at_least)
    worst = found / (found + np.append(ranking.normal_above[1:], ranking.n_normal))
    steps = ranking.hits * (np.append(1.0, best[:-1]) + worst) / 2
    return auroc(ranking), float(steps.sum() / ranking.n_defect)


def _sampled_curves(
    seen: SeenPixels,
    weights: Sequence[Weights],
    thresholds: NDArray[np.float32],
    *,
    at_threshold: Literal["found", "missed"],
) -> list[Curve]:
    """One sample for each of the ascending thresholds; pixels that equal one are found at it, or missed."""
    n_normal = int(seen.normal_scores.sizes.sum())
    if not seen.defect_scores.size or not n_normal:
        return [Curve(fpr=np.empty(0), recall=np.empty(0)) for _ in weights]
    rejected = seen.normal_scores.count_below(thresholds, or_tied=at_threshold == "missed").sum(axis=0)
    order = np.argsort(seen.defect_scores)
    missed = np.searchsorted(seen.defect_scores[order], thresholds, "left" if at_threshold == "found" else "right")
    curves = []
    for one in weights:
        lost = np.concatenate([[0.0], np.cumsum(one[order])])
        recall = 1 - lost[missed] / lost[-1]
        curves.append(Curve(fpr=1 - rejected[::-1] / n_normal, recall=recall[::-1]))
    return curves


def _closed(curve: Curve) -> Curve:
    if not curve.fpr.size:
        return curve
    return Curve(fpr=np.concatenate([[0.0], curve.fpr, [1.0]]), recall=np.concatenate([[0.0], curve.recall, [1.0]]))


def _level_to(curve: Curve, fpr_limit: float) -> Curve:
    """The curve with its first recall from rate 0 on and its last one up to the limit."""
    fpr = np.concatenate([[0.0], curve.fpr, [max(fpr_limit, float(curve.fpr[-1]))]])
    return Curve(fpr=fpr, recall=np.concatenate([curve.recall[:1], curve.recall, curve.recall[-1:]]))


def _rounded(thresholds: NDArray[np.float64], *, down: bool) -> NDArray[np.float32]:
    """The next float32 not above the thresholds, or not below: the one that parts float32 scores as they do."""
    rounded = thresholds.astype(np.float32)
    is_off = rounded > thresholds if down else rounded < thresholds
    rounded[is_off] = np.nextafter(rounded[is_off], np.float32(-np.inf if down else np.inf))
    return rounded


def _scores_of_rank(normal_scores: ScoreSpool, ranks: NDArray[np.int64]) -> NDArray[np.float32]:
    """The normal scores at (G,) ascending ranks, 0 for the lowest; no more than a bucket of them is in memory."""
    found = np.empty(ranks.size, dtype=np.float32)
    for bucket in normal_scores.buckets():
        start, stop, end = np.searchsorted(ranks, [bucket.n_upto_low, bucket.n_below_high, bucket.n_upto_high])
        if start < stop:
            within = ascending(np.concatenate(normal_scores.read(bucket)))
            found[start:stop] = within[ranks[start:stop] - bucket.n_upto_low]
        found[stop:end] = bucket.high
    return found
