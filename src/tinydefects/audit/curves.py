"""How other work samples the PRO curve and takes the area under it; for the audit only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.curves import Curve, auroc, average_precision, exact_curve, published_curve
from tinydefects.metrics.ranking import Ranking
from tinydefects.metrics.spool import ScoreSpool

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
