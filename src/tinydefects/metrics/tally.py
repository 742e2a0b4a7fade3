"""How many pixels of every image and every defect reach each of a few hundred thresholds: what resampling needs.

Numbers that are reported come from all pixels and are exact; only their intervals are computed from this table, which
is small enough to be stored beside a result and compared with the table of another method on the same images. The
curves that are drawn are its rows, each a point of the exact curve.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.ranking import Ranking

FALLING_TARGETS, EVEN_TARGETS = 220, 110  # three thresholds each at most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Counts of pixels at G thresholds for I images and D defects, in the order the images came.

    Attributes:
        thresholds: (G,) scores, descending, about a thousand at most; spread so that the false-positive rate of the
            category moves in small steps from 1 / N up to 1, finest (in ratio) at the low end.
        normal_at_least: (I, G) normal pixels of each image that score at least each threshold.
        n_normal: (I,) normal pixels of each image; 0 where a defective image marks no pixel.
        highest_normal: (I,) the highest score of those pixels, nan where there are none.
        defect_at_least: (D, G) pixels of each defect that score at least each threshold.
        area_px: (D,) pixels of each defect.
        peak: (D,) highest score inside each defect; own_peak: the same without a neighbour's glow, nan where there is
            none (`defect_signals.py`); median: (D,) the ceil(n / 2)-th highest.
        image_of_defect: (D,) row of its image.
        defect_type: (D,) names.
        is_good: (I,) label of each image; image_score: (I,) its score.
        sample_id: (I,) names; group: (I,) images of one scene or part carry one name and are resampled together.
    """

    thresholds: NDArray[np.float32]
    normal_at_least: NDArray[np.int32]
    n_normal: NDArray[np.int64]
    highest_normal: NDArray[np.float32]
    defect_at_least: NDArray[np.int32]
    area_px: NDArray[np.int64]
    peak: NDArray[np.float32]
    own_peak: NDArray[np.float32]
    median: NDArray[np.float32]
    image_of_defect: NDArray[np.int64]
    defect_type: NDArray[np.str_]
    is_good: NDArray[np.bool_]
    image_score: NDArray[np.float64]
    sample_id: NDArray[np.str_]
    group: NDArray[np.str_]


def choose_thresholds(ranking: Ranking, decision_threshold: float = float("nan")) -> NDArray[np.float32]:
    """(G,) thresholds, descending: the corners of the exact curve nearest to fixed false-positive rates.

    Targets fall geometrically from 1 to 1 / N, and evenly. Where few defect scores are distinct, every corner is taken
    and the table loses nothing. The lowest score above `decision_threshold` is always among them.
    """
    corners: list[NDArray[np.float32]] = []
    if not np.isnan(decision_threshold):
        corners.append(np.array([lowest_above(decision_threshold)]))
    n_levels = ranking.scores.size
    if n_levels and ranking.n_normal:
        shares = [np.geomspace(1 / ranking.n_normal, 1, FALLING_TARGETS), np.linspace(0, 1, EVEN_TARGETS)]
        targets = np.floor(np.concatenate(shares) * ranking.n_normal).astype(np.int64)
        before = np.maximum(np.searchsorted(ranking.normal_at_least, targets, side="right") - 1, 0)
        after = np.minimum(before + 1, n_levels - 1)
        if n_levels <= targets.size:
            before = after = np.arange(n_levels)
        levels = ranking.scores[np.unique(np.concatenate([[0], before, after]))]
        starts = np.nextafter(ranking.scores[np.unique(after)], np.float32(np.inf))  # where a rise through ties begins
        corners += [levels.astype(np.float32), starts.astype(np.float32)]
    return np.unique(np.concatenate([np.empty(0, np.float32), *corners]))[::-1]


def lowest_above(threshold: float) -> np.float32:
    """The score next above a threshold, both in float32 as maps are: the scores that reach it exceed the threshold."""
    return np.float32(np.nextafter(np.float32(threshold), np.float32(np.inf)))


def count_at_least(scores: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.int64]:
    """(G,) how many of (n,) ascending scores are at least each threshold."""
    return scores.size - np.searchsorted(scores, thresholds, side="left")
