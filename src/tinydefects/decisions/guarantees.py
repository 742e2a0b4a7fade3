"""Thresholds from good parts alone, and what each guarantees of the good parts to come. Arrays in, numbers out.

All of it rests on one assumption: the good parts at hand and those to come are alike, so that any order of them is as
likely (they are exchangeable). Nothing is assumed of how scores are distributed. A new camera, lamp or supplier breaks
it, and so do defects among the good parts and scores of photographs that the detector has learnt from.

Two promises are made for a rate a. On average (conformal prediction; Vovk, Gammerman and Shafer, 2005): a new good part
alarms with a chance of at most a, over all that is random, the good parts at hand included. With confidence (tolerance
limits; Wilks, 1941): with these very good parts, the line alarms at more than a only if luck was worse than promised,
which happens in at most 1 - confidence of all calibrations. The second costs more good parts and a higher threshold.

Whatever is counted are parts: photographs of one part are no independent evidence, so a part counts once, with its
highest score, and a part alarms when any of its photographs does.

Regions are counted, not scored. Conformal risk control (Angelopoulos, Bates, Fisch, Lei and Schuster, 2024, theorem 1)
bounds the mean of a count that is capped at B: it is monotone in the threshold of the peaks, and of n good parts

    (sum of their capped counts + B) / (n + 1) <= rate

makes the mean of a new one at most `rate`. B = 1 counts photographs with any false region: there the rule is the
conformal one for the highest peak, and needs the fewest good parts.

Scores pooled over folds, each part scored by students that have not seen it, are nearly but not quite those of one
detector. The theory (Barber, Candes, Ramdas and Tibshirani, 2021, on CV+) covers a new part that is compared with
each good part by the students of that part's fold, and promises 2a (and a little more where folds are few) instead of
a. A detector fitted once more on all parts has no such bound; where leaving out a fold changes scores little, and in
practice, its rate is close to a. Held-out or fresh good parts have the full promise.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, betaincinv

from tinydefects.errors import ScoreError, SettingsError

ROUNDING = 1e-12  # 0.29 of 100 parts are 29, not 28.999…
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """What a part must exceed to alarm, or that its good parts afford none at this rate.

    Attributes:
        value: alarm when score > value; None where no finite number keeps the promise.
        rate: of false alarms that is asked for.
        confidence: 0 for the promise on average.
        n_parts: good parts it comes from, `n_needed` as many as this rate needs at least.
    """

    value: float | None
    rate: float
    confidence: float
    n_parts: int
    n_needed: int


def part_scores(scores: Sequence[float], parts: Sequence[str]) -> Scores:
    """(n parts,) the highest score of each part, ascending; one score and the name of its part for each photograph.

    Raises:
        ScoreError: there is no score, or one is nan or infinite.
    """
    highest: dict[str, float] = {}
    for score, part in zip(scores, parts, strict=True):
        highest[part] = max(score, highest.get(part, -math.inf))
    return _ordered(list(highest.values()))


def conformal_threshold(good: Sequence[float] | Scores, rate: float) -> Threshold:
    """The k-th smallest of n scores, k = ceil((n + 1)(1 - rate)): a new good part exceeds it with chance <= rate.

    The chance is that over the good parts at hand and the new one together; ties only lower it.

    Raises:
        SettingsError: the rate is not inside (0, 1).
        ScoreError: there is no score, or one is nan or infinite.
    """
    ordered, needed = _ordered(good), parts_needed(rate)
    n_above = _conformal_above(ordered.size, rate)
    return _threshold(ordered, n_above, Threshold(value=None, rate=rate, confidence=0.0, n_parts=0, n_needed=needed))


def tolerance_threshold(good: Sequence[float] | Scores, rate: float, confidence: float = 0.95) -> Threshold:
    """The smallest score such that, with this confidence, at most `rate` of all good parts to come exceed it.

    The share of parts to come above the k-th smallest of n scores has a Beta(n - k + 1, k) distribution, or lies below
    it where scores tie; so the threshold is the smallest with P(Binomial(n, rate) <= n - k) <= 1 - confidence.

    Raises:
        SettingsError: the rate or the confidence is not inside (0, 1).
        ScoreError: there is no score, or one is nan or infinite.
    """
    ordered, needed = _ordered(good), parts_needed(rate, confidence)
    n_above = _tolerance_above(ordered.size, rate, confidence)
    known = Threshold(value=None, rate=rate, confidence=confidence, n_parts=0, n_needed=needed)
    return _threshold(ordered, n_above, known)


def parts_needed(rate: float, confidence: float = 0.0) -> int:
    """The fewest good parts that afford a threshold at this rate: on average, or with a confidence.

    On average ceil(1 / rate) - 1: 19 for 5 %, 99 for 1 %. With 95 % confidence 59 for 5 %, 299 for 1 %.

    Raises:
        SettingsError: the rate is not inside (0, 1), or the confidence not in [0, 1).
    """
    _require_share("rate of false alarms", rate)
    if not confidence:
        return math.ceil(1 / rate * (1 - ROUNDING)) - 1
    _require_share("confidence", confidence)
    return max(1, math.ceil(math.log1p(-confidence) / math.log1p(-rate) * (1 - ROUNDING)))


def affordable_rate(n_parts: int, confidence: float = 0.0) -> float:
    """The lowest rate that so many good parts afford: their highest score is the threshold then.

    Raises:
        SettingsError: there is no part, or the confidence is not in [0, 1).
    """
    if n_parts < 1:
        raise SettingsError(f"{n_parts} good parts afford no rate; take one at least")
    if not confidence:
        return 1 / (n_parts + 1)
    _require_share("confidence", confidence)
    return -math.expm1(math.log1p(-confidence) / n_parts)


def highest_rate(n_above: int, n_parts: int, confidence: float = 0.95) -> float:
    """With this confidence at most such a share of good parts to come exceeds what `n_above` of n exceed; at most 1.

    The rate at which `tolerance_threshold` lets so many of them lie above. It holds for a threshold, or a number of
    alarms, that was chosen before the good parts were looked at; of many that are tried some do worse.

    Raises:
        SettingsError: there are not 0 to n parts above, there is none, or the confidence is not inside (0, 1).
    """
    _require_share("confidence", confidence)
    if not 0 <= n_above <= n_parts or n_parts < 1:
        raise SettingsError(f"{n_above} of {n_parts} good parts: give from 0 to all of them, one at least")
    return 1.0 if n_above == n_parts else float(betaincinv(n_above + 1, n_parts - n_above, confidence))


def p_value(score: float, good: Sequence[float] | Scores) -> float:
    """(1 + how many of n good parts score at least as high) / (n + 1), in (0, 1]; 1 without any good part.

    A new good part comes to p or less with a chance of at most p, whatever ties. `good` may hold -inf for parts that
    show nothing to compare.

    Raises:
        ScoreError: a score is nan.
    """
    known = np.asarray(good, dtype=np.float64)
    if math.isnan(score) or np.isnan(known).any():
        raise ScoreError("a score is nan; only numbers can be compared")
    return (1 + int(np.count_nonzero(known >= score))) / (known.size + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRegions:
    """The peaks of the regions of one good photograph that are large enough, highest first; of which part.

    Whatever lies below `known_down_to` has not been kept: there may be any number of regions.
    """

    part: str
    peaks: Sequence[float]
    known_down_to: float = -math.inf


def region_threshold(good: Sequence[SeenRegions], rate: float, most_counted: int = 1) -> Threshold:
    """The lowest peak such that a new good photograph has at most `rate` regions above it in the mean.

    Regions of a photograph count up to `most_counted`, the B above; photographs of one part count as their mean. Value
    -inf means that all may be shown. A photograph whose regions are not all known counts in full below those that are,
    which keeps the promise.

    Raises:
        SettingsError: the rate is not positive, or `most_counted` is below 1.
        ScoreError: there is no photograph.
    """
    sizes = Counter(one.part for one in good)
    if not sizes:
        raise ScoreError("there is no map of a good part to take a threshold from; give one at least")
    needed = photographs_needed(rate, most_counted)
    peaks, weights = [np.empty(0)], [np.empty(0)]
    for one in good:
        counted = list(one.peaks[:most_counted])
        shares = [1 / sizes[one.part]] * len(counted)
        if one.known_down_to > -math.inf:
            counted.append(one.known_down_to)
            shares.append((most_counted - len(shares)) / sizes[one.part])
        peaks.append(np.array(counted, dtype=np.float64))
        weights.append(np.array(shares))
    heights = np.concatenate(peaks)
    order = np.argsort(-heights, kind="stable")
    counts = np.cumsum(np.concatenate(weights)[order])  # of all regions as high as each
    allowed = rate * (len(sizes) + 1) * (1 + ROUNDING) - most_counted
    n_allowed = int(np.count_nonzero(counts <= allowed + ROUNDING))
    value = None
    if allowed >= 0:
        value = float(heights[order][n_allowed]) if n_allowed < counts.size else -math.inf
    return Threshold(value=value, rate=rate, confidence=0.0, n_parts=len(sizes), n_needed=needed)


def photographs_needed(rate: float, most_counted: int = 1) -> int:
    """The fewest good parts that afford so many false regions a photograph: B / rate - 1, rounded up.

    Raises:
        SettingsError: the rate is not positive, or `most_counted` is below 1.
    """
    if not 0 < rate < math.inf or most_counted < 1:
        raise SettingsError(
            f"{rate:g} false regions a photograph, counted up to {most_counted}: both are above 0, such as 0.1 and 1"
        )
    return max(1, math.ceil(most_counted / rate * (1 - ROUNDING)) - 1)


def _conformal_above(n_parts: int, rate: float) -> int:
    """How many of n scores may lie above the threshold; -1 where none keeps the promise."""
    _require_share("rate of false alarms", rate)
    return math.floor(rate * (n_parts + 1) * (1 + ROUNDING)) - 1


def _tolerance_above(n_parts: int, rate: float, confidence: float) -> int:
    """The same for the promise with confidence."""
    _require_share("rate of false alarms", rate)
    _require_share("confidence", confidence)
    chances = bdtr(np.arange(n_parts), n_parts, rate)  # ascending: P(Binomial <= 0, 1, …)
    return int(np.searchsorted(chances, (1 - confidence) * (1 + ROUNDING), side="right")) - 1


def _threshold(ordered: Scores, n_above: int, known: Threshold) -> Threshold:
    value = float(ordered[ordered.size - 1 - n_above]) if n_above >= 0 else None
    return Threshold(
        value=value, rate=known.rate, confidence=known.confidence, n_parts=ordered.size, n_needed=known.n_needed
    )


def _ordered(scores: Sequence[float] | Scores) -> Scores:
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    if ordered.ndim != 1 or not ordered.size:
        raise ScoreError("there is no score of a good part to take a threshold from; give one at least")
    if not np.isfinite(ordered).all():
        raise ScoreError("a score of a good part is nan or infinite; only finite scores can be ranked")
    return ordered


def _require_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise SettingsError(f"the {name} is {value:g}; give a share between 0 and 1, such as 0.05")
