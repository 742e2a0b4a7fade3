"""AUPIMO: the share of each image's defect that is found while good images stay almost free of false positives.

Bertoldo, Ameln, Vaidya and Akçay, "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low
Tolerance", BMVC 2024 (arXiv 2401.01984). Theirs takes thresholds from an even grid of scores; here they are all scores.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.curves import region_means
from tinydefects.metrics.ranking import Ranking, Scores
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.metrics.tally import Tally

FPR_BOUNDS = (1e-5, 1e-4)


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
