"""The numbers of a submission: scores in 16 bits, what is lost on the way, and the threshold that marks pixels.

A threshold comes from validation images, all of them defect-free, or is given by hand. Nothing here can take a test
image: what is read are the validation maps of an `ObjectMaps`, and their samples are looked at once more.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.predictions import read_paired
from tinydefects.errors import ScoreError, TinyDefectsError
from tinydefects.metrics.detectability import with_highest
from tinydefects.submission.layout import ObjectMaps

Map16 = NDArray[np.float16]
N_VALUES = 2**16
ENOUGH_LEVELS = 256  # distinct scores above the threshold below which ties are worth a warning
HARMLESS_SHARE = 0.001  # of all pixels may become 0 without a warning
Scores = NDArray[np.float32]
ThresholdRule = Literal["validation", "validation_3_std"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """`(score - offset) * factor`: never turns an order around, and chosen from validation images alone."""

    offset: float = 0.0
    factor: float = 1.0

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """Brings [low, high] to [0, 1], where float16 has 15,361 values; scores far outside still fit."""
        return cls(offset=low, factor=1 / (high - low)) if high > low else cls(offset=low)

    def apply(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores on this scale, still float32."""
        return (scores - np.float32(self.offset)) * np.float32(self.factor)

    def to_float16(self, scores: NDArray[np.float32]) -> Map16:
        """The scores on this scale, rounded to float16; infinite beyond 65504."""
        with np.errstate(over="ignore"):
            return self.apply(scores).astype(np.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Float16Loss:
    """What rounding did to the scores of one object.

    Attributes:
        n_pixels: scores that were rounded.
        n_underflow: scores that are zero now and were not.
        n_distinct: distinct scores that remain, of all pixels.
        n_above: pixels above the threshold; n_distinct_above: distinct scores among them.
        n_sampled: evenly spaced pixels whose scores were compared before and after.
        n_distinct_sampled: distinct scores among those before rounding, and after.
    """

    n_pixels: int
    n_underflow: int
    n_distinct: int
    n_above: int
    n_distinct_above: int
    n_sampled: int
    n_distinct_sampled: tuple[int, int]

    def warning(self) -> str:
        """What to say of it; empty when the loss is harmless."""
        if self.n_underflow > self.n_pixels * HARMLESS_SHARE:
            return f"{self.n_underflow:,} of {self.n_pixels:,} scores are too small for float16 and become 0"
        if self.n_distinct_above < min(ENOUGH_LEVELS, self.n_above / 2):
            return f"{self.n_above:,} pixels above the threshold share {self.n_distinct_above} distinct scores"
        return ""


class Float16Census:
    """Counts, map by map, how often each of the 65,536 values of float16 occurs."""

    SAMPLES_PER_MAP = 4096

    def __init__(self) -> None:
        self._counts = np.zeros(N_VALUES, dtype=np.int64)
        self._n_underflow = 0
        self._before: list[NDArray[np.float32]] = []
        self._after: list[Map16] = []

    def add(self, scaled: NDArray[np.float32], rounded: Map16) -> None:
        """Take in one map before and after rounding."""
        self._counts += np.bincount(rounded.view(np.uint16).ravel(), minlength=N_VALUES)
        self._n_underflow += int(np.count_nonzero((rounded == 0) & (scaled != 0)))
        step = max(1, rounded.size // self.SAMPLES_PER_MAP)
        self._before.append(scaled.ravel()[::step].copy())  # a view would keep the whole map in memory
        self._after.append(rounded.ravel()[::step].copy())

    def loss(self, threshold: float) -> Float16Loss:
        """What was lost so far; `threshold` is on the scale of the rounded scores."""
        with np.errstate(invalid="ignore"):  # some of the 65,536 are nan
            values = np.arange(N_VALUES, dtype=np.uint16).view(np.float16).astype(np.float32)
        above = values > threshold
        before, after = np.concatenate(self._before), np.concatenate(self._after)
        return Float16Loss(
            n_pixels=int(self._counts.sum()),
            n_underflow=self._n_underflow,
            n_distinct=int(np.count_nonzero(self._counts)),
            n_above=int(self._counts[above].sum()),
            n_distinct_above=int(np.count_nonzero(self._counts[above])),
            n_sampled=before.size,
            n_distinct_sampled=(np.unique(before).size, np.unique(after).size),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A pixel is marked when its submitted score exceeds `value`.

    Attributes:
        value: on the scale of the submitted scores.
        rule: `validation` (the lowest score that at most a share `alpha` of the validation pixels exceeds),
            `validation_3_std` (their mean plus three standard deviations, which the benchmark's authors suggest) or
            `given`.
        alpha: nan where the rule has none.
        n_images: validation images it was computed from, and `n_pixels` their pixels; 0 where it was given.
    """

    value: float
    rule: str
    alpha: float
    n_images: int
    n_pixels: int


def given_threshold(value: float, scale: Scale) -> Threshold:
    """A number on the scale of the maps.

    Raises:
        TinyDefectsError: it is nan or infinite.
    """
    if not math.isfinite(value):
        raise TinyDefectsError(f"--threshold {value}: a threshold is a finite score")
    scaled = float(scale.apply(np.array([value], dtype=np.float32))[0])
    return Threshold(value=scaled, rule="given", alpha=math.nan, n_images=0, n_pixels=0)


def threshold_from_validation(one: ObjectMaps, rule: ThresholdRule, alpha: float, scale: Scale) -> Threshold:
    """The threshold that follows from an object's validation maps, read as they would be submitted, in float16.

    Raises:
        TinyDefectsError: `alpha` is not a share, or a sample is no defect-free validation image.
        ScoreError: the scores do not fit into float16.
    """
    if not 0 < alpha < 1:
        raise TinyDefectsError(f"--alpha {alpha:g}: a share of pixels lies between 0 and 1")
    maps = (scale.to_float16(scores).astype(np.float32) for scores in validation_maps(one))
    sizes = [pair.image_size for pair in one.validation.pairs] if one.validation else []
    n_pixels = sum(math.prod(size) for size in sizes)
    value = upper_quantile(maps, math.floor(alpha * n_pixels)) if rule == "validation" else mean_plus_3_std(maps)
    if not math.isfinite(value):
        raise ScoreError(f"{one.name}: the scores of validation images do not fit into float16; add --rescale")
    used = alpha if rule == "validation" else math.nan
    return Threshold(value=float(np.float32(value)), rule=rule, alpha=used, n_images=len(sizes), n_pixels=n_pixels)


def scale_from_validation(one: ObjectMaps) -> Scale:
    """The scale that brings an object's validation scores to [0, 1]."""
    extremes = [(float(scores.min()), float(scores.max())) for scores in validation_maps(one)]
    return Scale.of_range(min(low for low, _ in extremes), max(high for _, high in extremes))


def validation_maps(one: ObjectMaps) -> Iterator[Scores]:
    """The maps of an object's validation images, one in memory at a time."""
    if one.validation is None or not one.validation.pairs:
        raise TinyDefectsError(f"{one.name}: there are no maps of validation images to compute this from")
    for sample, prediction in read_paired(one.validation, "max"):
        if sample.label != "good" or not sample.id.startswith("validation/good/"):
            raise TinyDefectsError(f"{sample.id}: a threshold comes from defect-free validation images alone")
        yield prediction.anomaly_map


def upper_quantile(maps: Iterable[Scores], n_above: int) -> float:
    """The (n_above + 1)-th highest score of all maps: the lowest score that at most `n_above` pixels exceed.

    Holds n_above + 1 scores beside the map that is being read.
    """
    highest = np.empty(0, dtype=np.float32)
    for scores in maps:
        highest = with_highest(highest, scores, n_above + 1)
    return float(highest.min())


def mean_plus_3_std(maps: Iterable[Scores]) -> float:
    """Mean plus three standard deviations of all scores of all maps."""
    n_pixels, total, squares = 0, 0.0, 0.0
    for scores in maps:
        exact = scores.astype(np.float64)
        n_pixels += scores.size
        total += float(exact.sum())
        squares += float(np.square(exact).sum())
    mean = total / n_pixels
    return mean + 3 * math.sqrt(max(0.0, squares / n_pixels - mean**2))
