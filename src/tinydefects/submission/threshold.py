"""The threshold of a submission: from validation images, all of them defect-free, or a number given by hand.

Nothing here can take a test image: what is read are the validation maps of an `ObjectMaps`, and their samples are
looked at once more.
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
from tinydefects.submission.float16 import Scale
from tinydefects.submission.layout import ObjectMaps

Scores = NDArray[np.float32]
ThresholdRule = Literal["validation", "validation_3_std"]


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
