"""Where defect scores stand among normal scores: exact counts, ties together; and a tally at some hundred thresholds.

Every curve and every area of this package follows from the exact counts, so nothing is binned and nothing is sampled.
The tally says how many pixels of every image and every defect reach each threshold, which is what resampling needs.
Numbers that are reported come from all pixels and are exact; only their intervals are computed from the tally, which is
small enough to be stored beside a result and compared with that of another method on the same images. The curves that
are drawn are its rows, each a point of the exact curve.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.sample import defect_type_of
from tinydefects.metrics.spool import ScoreSpool, ascending

Scores = NDArray[np.floating[Any]]

SORTED_PER_SEARCH = 8  # scores that are sorted in the time of one search among them
FALLING_TARGETS, EVEN_TARGETS = 220, 110  # three thresholds each at most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Defect scores against normal scores: K levels, one for each distinct defect score, the highest first.

    Attributes:
        scores: (K,) the distinct defect scores, descending; -0.0 and 0.0 are one score.
        level: (M,) the level of each defect score, in the order they were given.
        hits: (K,) how many defect scores each level holds.
        normal_above: (K,) normal scores strictly above each level.
        normal_at_least: (K,) normal scores above or tied with each level.
        normal_above_next: (K,) normal scores above the lowest normal score that reaches the level, hence
            `normal_above` where the level is tied; only the published rule of `curves.py` and its limit look at it.
        n_normal: how many normal scores there are.
    """

    scores: Scores
    level: NDArray[np.integer[Any]]
    hits: NDArray[np.integer[Any]]
    normal_above: NDArray[np.int64]
    normal_at_least: NDArray[np.int64]
    normal_above_next: NDArray[np.int64]
    n_normal: int

    @property
    def n_defect(self) -> int:
        """M, how many defect scores there are."""
        return int(self.level.size)

    def fpr_at(self, scores: Scores) -> NDArray[np.float64]:
        """Share of normal scores that reach each of these defect scores, in [0, 1]; nan without normal scores."""
        if not self.n_normal:
            return np.full(scores.shape, np.nan)
        levels = self.scores.size - 1 - np.searchsorted(self.scores[::-1], scores)
        return self.normal_at_least[levels] / self.n_normal


def rank(defect_scores: Scores, normal_chunks: Iterable[Scores]) -> Ranking:
    """Rank (M,) defect scores among normal scores that fit in memory, in one-dimensional chunks of any size."""
    normal_scores = np.concatenate([np.empty(0, dtype=defect_scores.dtype), *normal_chunks])
    normal_scores.sort()
    counts = _Counts(defect_scores, n_normal=normal_scores.size)
    counts.count([normal_scores], low=-np.inf, high=np.inf, n_upto_low=0, n_upto_high=normal_scores.size)
    return counts.ranking()


def rank_spooled(defect_scores: NDArray[np.float32], normal_scores: ScoreSpool) -> Ranking:
    """Rank (M,) defect scores among spooled normal scores: the merging half of an external merge sort.

    Time is O(N log N) in normal scores whatever the number of images; memory is O(M) and one bucket. A bucket that no
    defect score falls into is not even read, and one that few fall into is searched as it lies, run by run.
    """
    counts = _Counts(defect_scores, n_normal=int(normal_scores.sizes.sum()))
    for bucket in normal_scores.buckets():
        n_levels = counts.n_levels(bucket.low, bucket.high)
        if n_levels:
            pieces = normal_scores.read(bucket)
            if n_levels * len(pieces) * SORTED_PER_SEARCH > sum(piece.size for piece in pieces):
                pieces = [ascending(np.concatenate(pieces))]
            counts.count(
                pieces,
                low=bucket.low,
                high=bucket.high,
                n_upto_low=bucket.n_upto_low,
                n_upto_high=bucket.n_upto_high,
            )
        counts.count_tied(bucket.high, n_below=bucket.n_below_high, n_upto=bucket.n_upto_high)
    return counts.ranking()


class _Counts:
    """The levels of (M,) defect scores, and the counts of normal scores at them as they become known."""

    def __init__(self, defect_scores: Scores, *, n_normal: int) -> None:
        kind = np.int32 if defect_scores.size < 2**31 else np.int64  # one a defect pixel: half the memory
        order = np.argsort(defect_scores)
        ordered = defect_scores[order]
        is_new = np.append(True, ordered[1:] != ordered[:-1])[: ordered.size]
        place = np.cumsum(is_new).astype(kind)
        self._level: NDArray[np.integer[Any]] = np.empty(place.size, dtype=kind)
        self._level[order] = int(np.count_nonzero(is_new)) - place
        del order, place
        first = np.flatnonzero(is_new)
        self._ascending = ordered[first]
        self._hits: NDArray[np.integer[Any]] = np.diff(first, append=ordered.size).astype(kind)
        self._n_normal = n_normal
        self._at_least, self._above, self._above_next = np.zeros((3, first.size), dtype=np.int64)

    def n_levels(self, low: float, high: float) -> int:
        """How many levels lie strictly between."""
        levels = self._between(low, high)
        return int(levels.stop - levels.start)

    def count(self, pieces: Sequence[Scores], *, low: float, high: float, n_upto_low: int, n_upto_high: int) -> None:
        """Count at the levels strictly between two bounds, given the normal scores there in ascending pieces."""
        between = self._between(low, high)
        levels = self._ascending[between]
        pieces = [piece for piece in pieces if piece.size]
        places = [np.searchsorted(piece, levels, side="left") for piece in pieces]
        reaching = [_scores_at(piece, place) for piece, place in zip(pieces, places, strict=True)]
        lowest = np.full(levels.size, np.inf, dtype=levels.dtype)
        for scores in reaching:
            np.minimum(lowest, scores, out=lowest)
        n_from = np.full(levels.size, self._n_normal - n_upto_low)
        n_lowest = np.zeros(levels.size, dtype=np.int64)  # scores that tie with the lowest
        for piece, place, scores in zip(pieces, places, reaching, strict=True):
            n_from -= place
            holds = np.flatnonzero(scores == lowest)
            n_lowest[holds] += np.searchsorted(piece, lowest[holds], side="right") - place[holds]
        self._at_least[between] = n_from
        self._above[between] = np.where(lowest == levels, n_from - n_lowest, n_from)
        self._above_next[between] = np.where(lowest < np.inf, n_from - n_lowest, self._n_normal - n_upto_high)

    def count_tied(self, score: float, *, n_below: int, n_upto: int) -> None:
        """Count at the level that ties with a normal score, if there is one."""
        level = int(np.searchsorted(self._ascending, self._ascending.dtype.type(score)))
        if level < self._ascending.size and self._ascending[level] == score:
            self._at_least[level] = self._n_normal - n_below
            self._above[level] = self._above_next[level] = self._n_normal - n_upto

    def ranking(self) -> Ranking:
        return Ranking(
            scores=self._ascending[::-1],
            level=self._level,
            hits=self._hits[::-1],
            normal_above=self._above[::-1],
            normal_at_least=self._at_least[::-1],
            normal_above_next=self._above_next[::-1],
            n_normal=self._n_normal,
        )

    def _between(self, low: float, high: float) -> slice:
        """The levels strictly between two bounds, as positions in ascending order."""
        kind = self._ascending.dtype.type  # a Python float would have the levels copied in double precision
        start = int(np.searchsorted(self._ascending, kind(low), side="right"))
        return slice(start, max(start, int(np.searchsorted(self._ascending, kind(high), side="left"))))


def _scores_at(ascending: Scores, places: NDArray[np.int64]) -> Scores:
    """The scores at places, infinite past the end."""
    scores = ascending.take(places, mode="clip")
    scores[places == ascending.size] = np.inf
    return scores


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """P parts of several views each: (P,) the image of one view, the highest score of all, whether all are good."""

    first_view: NDArray[np.int64]
    score: NDArray[np.float64]
    is_good: NDArray[np.bool_]


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
        is_view: (I,) whether the group of an image is a part that is scored as a whole, by the highest score of its
            views; (0,) where nothing is known of parts.
        saturation_px: (S,) of the defects as they were outlined, where they have saturations (`saturated.py`), how many
            pixels count as all of each; image_of_outlined: (S,) row of its image; outlined_at_least: (S, G) how many of
            its highest-scoring pixels, so many as saturate it, score at least each threshold.
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
    is_view: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, dtype=np.bool_))
    outlined_at_least: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.int32))
    saturation_px: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    image_of_outlined: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def saturated_shares(self) -> NDArray[np.float64]:
        """(S, G + 1) share of each outlined defect found between two thresholds, and below the last; in all 1."""
        n_kept = np.ceil(self.saturation_px)[:, None]
        counts = np.concatenate([self.outlined_at_least, n_kept], axis=1)
        found = np.minimum(counts / self.saturation_px[:, None], 1.0)
        return np.asarray(np.diff(found, prepend=0.0))

    def outlined_by_name(self) -> dict[str, NDArray[np.bool_]]:
        """Of the outlined defects (S,) bool of all, `spro`, and of each type, `spro_TYPE`; empty without any."""
        types = np.array(
            [defect_type_of(one) for one in self.sample_id[self.image_of_outlined].tolist()], dtype=np.str_
        )
        by_type = {f"spro_{kind}": types == kind for kind in np.unique(types)}
        return {"spro": np.ones(types.size, dtype=bool), **by_type} if types.size else {}

    def parts(self) -> "Parts":
        """The parts that are scored as a whole, none where no image is a view of one."""
        views = np.flatnonzero(self.is_view)
        _, first, part = np.unique(self.group[views], return_index=True, return_inverse=True)
        score = np.full(first.size, -np.inf)
        np.maximum.at(score, part, self.image_score[views])
        is_good = np.ones(first.size, dtype=np.bool_)
        np.logical_and.at(is_good, part, self.is_good[views])
        return Parts(first_view=views[first], score=score, is_good=is_good)


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
