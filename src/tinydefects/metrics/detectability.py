"""Which defects are detected, at a false-alarm rate that is stated, and from which size on they are found reliably.

One rule is the default, two more go by name; each looks at good pixels or good images alone to set its threshold:

- `peak_at_image_fpr`: the defect's highest pixel exceeds the lowest threshold at which at most `rate` of the good
  images hold any pixel above it: false calls counted by unit, as non-destructive testing does. 5 % unless given.
- `peak_at_pixel_fpr`: the defect's highest pixel is flagged while at most `rate` of all normal pixels are. 1 %.
- `half_at_pixel_fpr`: half of the defect's pixels are flagged while at most `rate` of all normal pixels are. 1 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.hit_miss import SizeFit, fit_resamples, fit_sizes
from tinydefects.metrics.records import DefectRecord, Interval
from tinydefects.metrics.tally import Tally

DetectionRule = Literal["peak_at_image_fpr", "peak_at_pixel_fpr", "half_at_pixel_fpr"]
DEFAULT_RULE: DetectionRule = "peak_at_image_fpr"
DEFAULT_RATES: dict[str, float] = {"peak_at_image_fpr": 0.05, "peak_at_pixel_fpr": 0.01, "half_at_pixel_fpr": 0.01}
WORDS = {
    "peak_at_image_fpr": "of good images alarming",
    "peak_at_pixel_fpr": "false-positive pixels",
    "half_at_pixel_fpr": "false-positive pixels, half of the defect covered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectability:
    """Hits and misses under one rule, and probability of detection against size fitted to them.

    Attributes:
        rule, rate: which rule, and the false-alarm rate it allows.
        threshold: a pixel above it is flagged; nan for the rules about pixels, which need ranks only, and where
            there is no good image.
        n_alarming_images: good images with a pixel above the threshold, as counted; at most `rate` of them.
        hits: one for each of `Evaluation.defects`, in their order; empty when the rule cannot be applied.
        smallest_detected_px, largest_missed_px: equivalent diameters; nan when there is none.
        fit: POD against size.
    """

    rule: str = DEFAULT_RULE
    rate: float = DEFAULT_RATES[DEFAULT_RULE]
    threshold: float = math.nan
    n_alarming_images: int = 0
    hits: tuple[bool, ...] = ()
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
    if rule == "peak_at_image_fpr":
        if not highest_good.size:
            reason = "no good image: its false alarms cannot be counted; choose a rule about pixels"
            return Detectability(rule=rule, rate=rate, fit=SizeFit(n_defects=len(defects), remarks=(reason,)))
        threshold = float(image_thresholds(highest_good, np.ones((1, highest_good.size)), rate)[0])
    hits = detected(defects, rule=rule, rate=rate, threshold=threshold)
    diameters = np.array([defect.diameter_px for defect in defects])
    return Detectability(
        rule=rule,
        rate=rate,
        threshold=threshold,
        n_alarming_images=int(np.count_nonzero(highest_good > threshold)),
        hits=tuple(hits.tolist()),
        smallest_detected_px=float(diameters[hits].min()) if hits.any() else math.nan,
        largest_missed_px=float(diameters[~hits].max()) if not hits.all() else math.nan,
        fit=fit_sizes(diameters, hits),
    )


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
    if rule == "peak_at_image_fpr":
        return np.array([defect.peak > threshold for defect in defects], dtype=bool)
    if rule == "peak_at_pixel_fpr":
        return np.array([defect.first_touched_fpr <= rate for defect in defects], dtype=bool)
    return np.array([defect.half_covered_fpr <= rate for defect in defects], dtype=bool)


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
    if rule == "peak_at_image_fpr":
        good = tally.is_good
        thresholds = image_thresholds(tally.highest_normal[good], weights[:, good], rate)
        hits = tally.peak > thresholds[:, None]
    else:
        fpr = weights @ tally.normal_at_least / (weights @ tally.n_normal)[:, None]
        n_allowed = np.count_nonzero(fpr <= rate, axis=1)
        thresholds = np.append(np.inf, tally.thresholds)[n_allowed]
        hits = (tally.peak if rule == "peak_at_pixel_fpr" else tally.median) >= thresholds[:, None]
    diameters = 2 * np.sqrt(tally.area_px / np.pi)
    return fit_resamples(diameters, hits, weights[:, tally.image_of_defect])


def describe(
    detectability: Detectability, *, pixel_pitch_mm: float = math.nan, intervals: Mapping[str, Interval] | None = None
) -> list[str]:
    """One line with what is detected, one with the sizes of the fit and their intervals, and one for every remark."""
    fit = detectability.fit
    if not fit.n_defects:
        return []
    extremes = (
        f"smallest detected {format_size(detectability.smallest_detected_px, pixel_pitch_mm)}, "
        f"largest missed {format_size(detectability.largest_missed_px, pixel_pitch_mm)}"
    )
    sizes = [
        f"{name} {format_size(getattr(fit, field), pixel_pitch_mm)}{_bracket((intervals or {}).get(field))}"
        for name, field in (("a50", "a50_px"), ("a90", "a90_px"), ("a90/95", "a90_95_px"))
    ]
    return [
        f"detected: {sum(detectability.hits)} of {fit.n_defects} defects at {100 * detectability.rate:g} % "
        f"{WORDS[detectability.rule]}; {extremes}",
        f"POD: {', '.join(sizes)} (logistic on log diameter; lack of fit p {fit.lack_of_fit_p:.2g})",
        *(f"  {remark}" for remark in fit.remarks),
    ]


def format_size(diameter_px: float, pixel_pitch_mm: float = math.nan) -> str:
    """`6.4 px`, with a known pitch `6.4 px (0.32 mm)`; `none` for nan."""
    if math.isnan(diameter_px):
        return "none"
    in_mm = "" if math.isnan(pixel_pitch_mm) else f" ({diameter_px * pixel_pitch_mm:.3g} mm)"
    return f"{diameter_px:.1f} px{in_mm}"


def _bracket(interval: Interval | None) -> str:
    return f" ({interval.low:.1f}-{interval.high:.1f})" if interval and not math.isnan(interval.low) else ""
