"""Which defects are detected, at a false-alarm rate that is stated, and from which size on they are found reliably.

One rule is the default, four more go by name; each looks at good pixels or good images alone to set its threshold:

- `own_peak_at_image_fpr`: the defect's own peak exceeds the lowest threshold at which at most `rate` of the good images
  hold any pixel above it: false calls counted by unit, as non-destructive testing does. 5 % unless given. Its own peak
  is its highest pixel, unless a neighbour's glow explains that: `defect_signals.py` says when.
- `own_peak_at_pixel_fpr`: the defect's own peak is flagged while at most `rate` of all normal pixels are. 1 %.
- `peak_at_image_fpr`, `peak_at_pixel_fpr`: the same for the defect's highest pixel, whoever made it glow.
- `half_at_pixel_fpr`: half of the defect's pixels are flagged while at most `rate` of all normal pixels are. 1 %.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.sample import Prediction
from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.hit_miss import SizeFit, fit_resamples, fit_sizes
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import DefectRecord, Interval

FloatT = TypeVar("FloatT", np.float32, np.float64)
DetectionRule = Literal[
    "own_peak_at_image_fpr", "own_peak_at_pixel_fpr", "peak_at_image_fpr", "peak_at_pixel_fpr", "half_at_pixel_fpr"
]
DEFAULT_RULE: DetectionRule = "own_peak_at_image_fpr"
DEFAULT_RATES: dict[str, float] = {
    "own_peak_at_image_fpr": 0.05,
    "own_peak_at_pixel_fpr": 0.01,
    "peak_at_image_fpr": 0.05,
    "peak_at_pixel_fpr": 0.01,
    "half_at_pixel_fpr": 0.01,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectability:
    """Hits and misses under one rule, and probability of detection against size fitted to them.

    Attributes:
        rule, rate: which rule, and the false-alarm rate it allows.
        threshold: a pixel above it is flagged; nan for the rules about pixels, which need ranks only, and where
            there is no good image.
        n_alarming_images, n_good_images: good images with a pixel above the threshold, as counted, at most `rate` of
            all good images; 0 of 0 for the rules about pixels.
        hits: one for each of `Evaluation.defects`, in their order; empty when the rule cannot be applied.
        n_by_glow: defects that the rule would have found by their highest pixel, and not by their own peak.
        smallest_detected_px, largest_missed_px: equivalent diameters; nan when there is none.
        fit: POD against size.
    """

    rule: str = DEFAULT_RULE
    rate: float = DEFAULT_RATES[DEFAULT_RULE]
    threshold: float = math.nan
    n_alarming_images: int = 0
    n_good_images: int = 0
    hits: tuple[bool, ...] = ()
    n_by_glow: int = 0
    smallest_detected_px: float = math.nan
    largest_missed_px: float = math.nan
    fit: SizeFit = field(default_factory=SizeFit)


def measure_detectability(
    defects: Sequence[DefectRecord],
    highest_good: NDArray[np.float32],
    *,
    rule: str = DEFAULT_RULE,
    rate: float | None = None,
) -> Detectability:
    """Apply a rule to the defects of one category and fit POD against their size.

    Args:
        defects: the records, with their false-positive rates.
        highest_good: (n,) the highest score of each good image.
        rule: one of `DEFAULT_RATES`.
        rate: false-alarm rate in [0, 1); None takes the rule's own.

    Raises:
        TinyDefectsError: an unknown rule, or a rate outside [0, 1).
    """
    rate = checked_rate(rule, rate)
    threshold = math.nan
    if counts_images(rule):
        if not highest_good.size:
            reason = "no good image: its false alarms cannot be counted; choose a rule about pixels"
            return Detectability(rule=rule, rate=rate, fit=SizeFit(n_defects=len(defects), remarks=(reason,)))
        threshold = float(image_thresholds(highest_good, np.ones((1, highest_good.size)), rate)[0])
    hits = detected(defects, rule=rule, rate=rate, threshold=threshold)
    touched = detected(defects, rule=rule.removeprefix("own_"), rate=rate, threshold=threshold)
    diameters = np.array([defect.diameter_px for defect in defects])
    return Detectability(
        rule=rule,
        rate=rate,
        threshold=threshold,
        n_alarming_images=int(np.count_nonzero(highest_good > threshold)),
        n_good_images=highest_good.size if counts_images(rule) else 0,
        hits=tuple(hits.tolist()),
        n_by_glow=int(np.count_nonzero(touched & ~hits)),
        smallest_detected_px=float(diameters[hits].min()) if hits.any() else math.nan,
        largest_missed_px=float(diameters[~hits].max()) if not hits.all() else math.nan,
        fit=fit_sizes(diameters, hits),
    )


def counts_images(rule: str) -> bool:
    """Whether a rule allows a share of the good images to alarm, rather than a share of the normal pixels."""
    return rule.endswith("peak_at_image_fpr")


def checked_rate(rule: str, rate: float | None) -> float:
    """The rate to use: the one given, or the rule's own.

    Raises:
        TinyDefectsError: an unknown rule, or a rate outside [0, 1).
    """
    if rule not in DEFAULT_RATES:
        raise TinyDefectsError(f"detection rule {rule!r} is unknown; choose one of {', '.join(DEFAULT_RATES)}")
    rate = DEFAULT_RATES[rule] if rate is None else rate
    if not 0 <= rate < 1:
        raise TinyDefectsError(
            f"the false-alarm rate is {rate:g}; give a share in [0, 1), such as {DEFAULT_RATES[rule]}"
        )
    return rate


def detected(
    defects: Sequence[DefectRecord], *, rule: str, rate: float, threshold: float = math.nan
) -> NDArray[np.bool_]:
    """(n,) whether each defect is detected; `threshold` matters to the rule about images, `rate` to the others."""
    own = rule.startswith("own_")
    if counts_images(rule):
        return np.array([(defect.own_peak if own else defect.peak) > threshold for defect in defects], dtype=bool)
    return np.array([rate_of(defect, rule) <= rate for defect in defects], dtype=bool)


def rate_of(defect: DefectRecord, rule: str) -> float:
    """The false-positive rate of pixels at which a rule's eye first sees a defect; nan where it never does."""
    if rule == "half_at_pixel_fpr":
        return defect.half_covered_fpr
    return defect.own_touched_fpr if rule.startswith("own_") else defect.first_touched_fpr


def image_thresholds(highest: NDArray[np.float32], weights: NDArray[np.float64], rate: float) -> NDArray[np.float64]:
    """(B,) the lowest threshold that images holding at most `rate` of the weight exceed with their highest score.

    `highest` is (n,), `weights` (B, n), `rate` in [0, 1); nan where there is no weight.
    """
    order = np.argsort(-highest, kind="stable")
    above = np.cumsum(weights[:, order], axis=1)
    allowed = rate * above[:, -1:] * (1 + 1e-12)  # 0.29 of 100 images are 29, not 28.999…
    first = np.argmax(above > allowed, axis=1)
    return np.where(above[:, -1] > 0, highest[order][first], np.nan).astype(np.float64)


def resample_sizes(
    tally: Tally, weights: NDArray[np.float64], *, rule: str, rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """a50 and a90 in px, each (B,), of B resamples of the images, weights (B, I); the threshold moves with them.

    nan where a resample has no fit. The rules about pixels take their thresholds from the table's.
    """
    peak = tally.own_peak if rule.startswith("own_") else tally.peak
    if counts_images(rule):
        good = tally.is_good
        thresholds = image_thresholds(tally.highest_normal[good], weights[:, good], rate)
        hits = peak > thresholds[:, None]
    else:
        fpr = weights @ tally.normal_at_least / (weights @ tally.n_normal)[:, None]
        n_allowed = np.count_nonzero(fpr <= rate, axis=1)
        thresholds = np.append(np.inf, tally.thresholds)[n_allowed]
        hits = (tally.median if rule == "half_at_pixel_fpr" else peak) >= thresholds[:, None]
    diameters = 2 * np.sqrt(tally.area_px / np.pi)
    return fit_resamples(diameters, hits, weights[:, tally.image_of_defect])


def describe(
    detectability: Detectability, *, pixel_pitch_mm: float = math.nan, intervals: Mapping[str, Interval] | None = None
) -> list[str]:
    """One line with what is detected, one with the sizes of the fit and their intervals, and one for every remark."""
    fit = detectability.fit
    if not fit.n_defects:
        return []
    if not detectability.hits:
        return [f"detected: undefined; {remark}" for remark in fit.remarks]
    extremes = (
        f"smallest detected {format_size(detectability.smallest_detected_px, pixel_pitch_mm)}, "
        f"largest missed {format_size(detectability.largest_missed_px, pixel_pitch_mm)}"
    )
    sizes = [
        f"{name} {format_size(getattr(fit, field), pixel_pitch_mm)}{_bracket((intervals or {}).get(field))}"
        for name, field in (("a50", "a50_px"), ("a90", "a90_px"), ("a90/95", "a90_95_px"))
    ]
    by_glow = detectability.n_by_glow
    return [
        f"detected: {sum(detectability.hits)} of {fit.n_defects} defects at {rate_in_words(detectability)}; {extremes}",
        *([f"  {by_glow} more {glow_in_words(by_glow)}"] if by_glow else []),
        f"POD: {', '.join(sizes)} (logistic on log diameter; lack of fit p {fit.lack_of_fit_p:.2g})",
        *(f"  {remark}" for remark in fit.remarks),
    ]


def rate_in_words(detectability: Detectability, *more: Detectability) -> str:
    """What alarmed falsely and what may: `0 of 8 good images alarming (5 % allowed)`, `1 % false-positive pixels`.

    Of several categories, each with its own threshold, the good images are counted together.
    """
    every, allowed = (detectability, *more), f"{100 * detectability.rate:g} %"
    if not counts_images(detectability.rule):
        return f"{allowed} false-positive pixels" + (
            ", half of the defect covered" if detectability.rule == "half_at_pixel_fpr" else ""
        )
    n_good, n_alarming = (sum(getattr(one, name) for one in every) for name in ("n_good_images", "n_alarming_images"))
    each = " in each category" if more else ""
    return f"{n_alarming:,} of {n_good:,} good images alarming ({allowed} allowed{each})"


def glow_in_words(n_defects: int) -> str:
    """`reach the threshold only in a neighbour's glow`, for a number of defects."""
    reach, count = ("reaches", "counts") if n_defects == 1 else ("reach", "count")
    return f"{reach} the threshold only in a neighbour's glow, and {count} as missed"


def format_size(diameter_px: float, pixel_pitch_mm: float = math.nan) -> str:
    """`6.4 px`, with a known pitch `6.4 px (0.32 mm)`; `none` for nan."""
    if math.isnan(diameter_px):
        return "none"
    in_mm = "" if math.isnan(pixel_pitch_mm) else f" ({diameter_px * pixel_pitch_mm:.3g} mm)"
    return f"{diameter_px:.1f} px{in_mm}"


def _bracket(interval: Interval | None) -> str:
    return f" ({interval.low:.1f}-{interval.high:.1f})" if interval and not math.isnan(interval.low) else ""


def thresholds_of_normals(predictions: Iterable[Prediction], n_pixels: int, rate: float) -> tuple[float, float]:
    """The lowest thresholds that at most `rate` of all pixels, and at most `rate` of the image scores, exceed.

    One map is in memory at a time and beside it the highest `rate` of all pixels: `n_pixels`, known from the headers,
    says how many that is. `rate` is in [0, 1); 0 gives the highest score seen.

    Raises:
        TinyDefectsError: the rate is outside [0, 1), or there is no prediction.
    """
    if not 0 <= rate < 1:
        raise TinyDefectsError(f"the rate of false alarms is {rate:g}; give a share in [0, 1), such as 0.001")
    n_kept = _n_allowed(rate, n_pixels) + 1
    highest = np.empty(0, dtype=np.float32)
    image_scores: list[float] = []
    for prediction in predictions:
        image_scores.append(prediction.score)
        highest = with_highest(highest, prediction.anomaly_map, n_kept)
    if not image_scores:
        raise TinyDefectsError("no good image to take a threshold from; give --threshold and --image-threshold")
    scores = _highest(np.array(image_scores), _n_allowed(rate, len(image_scores)) + 1)
    return float(highest.min()), float(scores.min())


def with_highest(highest: NDArray[np.float32], scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` highest of those kept so far, (n,), and of further scores of any shape; all while they are fewer."""
    flat = scores.ravel()
    if highest.size >= count:
        flat = flat[flat > highest.min()]
    return _highest(np.concatenate([highest, flat]), count)


def _n_allowed(rate: float, count: int) -> int:
    return int(rate * count * (1 + 1e-12))  # 0.29 of 100 are 29, not 28.999…


def _highest(scores: NDArray[FloatT], count: int) -> NDArray[FloatT]:
    return scores if scores.size <= count else np.partition(scores, scores.size - count)[-count:]
