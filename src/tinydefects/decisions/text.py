"""A calibration in words: what is promised, and what more good parts would buy where nothing is."""

from collections.abc import Iterator

import numpy as np

from tinydefects.decisions.calibration import Calibration
from tinydefects.decisions.guarantees import Scores, Threshold, affordable_rate
from tinydefects.metrics.statistics.uncertainty import exact_interval

HOW = {
    "held out": "held out while the detector learnt",
    "fresh": "taken after the detector had learnt",
    "folds": "each scored by students that had not seen it",
}
OF_FOLDS = (
    "  scores from folds: the rates are close to these where a fold more or less changes little; proven are they for "
    "held-out and fresh good parts"
)


def describe(calibration: Calibration) -> list[str]:
    """The lines a person reads."""
    n_parts, n_images = calibration.scores.size, len(calibration.images)
    photographs = "" if n_parts == n_images else f" in {_plural(n_images, 'photograph')}"
    lines = [f"{_plural(n_parts, 'good part')}{photographs}, {HOW[calibration.obtained]}"]
    if calibration.duplicates:
        lines.append(
            f"  {_plural(len(calibration.duplicates), 'photograph')} left out, with the very pixels of another: "
            f"{', '.join(calibration.duplicates[:3])}{', …' if len(calibration.duplicates) > 3 else ''}"
        )
    if calibration.obtained == "folds":
        lines.append(OF_FOLDS)
    return [*lines, *_of_images(calibration), *_of_regions(calibration)]


def _of_images(calibration: Calibration) -> Iterator[str]:
    given = calibration.settings.image_threshold
    if given is not None:
        yield f"defect above {given:.4g}, set by hand without any guarantee: {_counted(calibration.scores, given)}"
        return
    average, certain = calibration.average_threshold, calibration.certain_threshold
    if average.value is not None:
        chance = _percent(average.rate)
        yield f"good up to {average.value:.4g}: a good part exceeds it with a chance of at most {chance}"
    else:
        yield f"good up to {calibration.good_up_to:.4g}, the highest score of a good part: {_lacking(average)}"
    if certain.value is not None:
        confidence, rate = _percent(certain.confidence), _percent(certain.rate)
        yield f"defect above {certain.value:.4g}: with {confidence} confidence at most {rate} of good parts exceed it"
        if certain.value > calibration.good_up_to:
            yield "unsure between them"
    else:
        yield f"defect: nothing is called one, what exceeds that is unsure: {_lacking(certain)}"


def _of_regions(calibration: Calibration) -> Iterator[str]:
    settings, threshold = calibration.settings, calibration.region_threshold
    size = f"{settings.smallest_px} px" if settings.min_area_mm2 is None else f"{settings.min_area_mm2:g} mm²"
    what = f"regions of at least {size} with a peak above {calibration.seed:.4g}"
    if settings.region_threshold is not None:
        counted = _counted(calibration.highest_peaks, settings.region_threshold)
        yield f"{what}, set by hand without any guarantee: {counted}"
        return
    if settings.most_counted == 1:
        promise = f"at most {_percent(threshold.rate)} of good photographs show any"
    else:
        promise = (
            f"a good photograph shows {threshold.rate:g} at most in the mean, counted up to {settings.most_counted}"
        )
    if threshold.value is not None:
        yield f"{what}: {promise}"
        return
    more = threshold.n_needed - threshold.n_parts
    yield (
        f"{what}, the highest of a good part: that {promise} needs {_plural(threshold.n_needed, 'good part')}, "
        f"{more} more; {threshold.n_parts} afford {settings.most_counted / (threshold.n_parts + 1):.2g}"
    )


def _lacking(threshold: Threshold) -> str:
    """`1 % with 95 % confidence needs 299 good parts, 179 more; 120 afford 2.5 %`."""
    confidence = f" with {_percent(threshold.confidence)} confidence" if threshold.confidence else ""
    rate = affordable_rate(threshold.n_parts, threshold.confidence)
    return (
        f"{_percent(threshold.rate)}{confidence} needs {_plural(threshold.n_needed, 'good part')}, "
        f"{threshold.n_needed - threshold.n_parts} more; {threshold.n_parts} afford {_percent(rate)}"
    )


def _counted(values: Scores, threshold: float) -> str:
    """What the good parts at hand did: `2 of 120 good parts exceed it, 1.7 % (0.2 to 5.9 %)`."""
    n_above = int(np.count_nonzero(values > threshold))
    low, high = exact_interval(n_above, values.size)
    share = f"{_percent(n_above / values.size)} (95 % interval {_percent(low)} to {_percent(high)})"
    return f"{n_above} of {_plural(values.size, 'good part')} exceed it, {share}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
