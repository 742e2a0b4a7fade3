"""The rules that other work has scored with, as one list, the exact one first, and the curves that they take.

A rule differs from the exact one in one respect only: what it does to maps and masks before (`view`), which pixels it
joins to regions, how it samples the PRO curve, or how it takes the area. Sources are named where they were looked up.
This is the one file where a mask changes its size: it repeats what others did, and no result of ours passes through it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinydefects.data.sample import Prediction
from tinydefects.metrics.curves import Curve, auroc, average_precision, exact_curve, published_curve
from tinydefects.metrics.ranking import Ranking
from tinydefects.metrics.spool import ScoreSpool

Weights = NDArray[np.float64]  # (M,), one a defect pixel; they sum to 1
Mask: TypeAlias = NDArray[np.bool_]
View = Callable[[Prediction, Mask], tuple[Prediction, Mask]]
MaskFilter = Literal["nearest", "bilinear_any", "bilinear_half"]
Connectivity = Literal[4, 8]
EXACT = "exact"


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


def unchanged(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
    """Map and mask as they are, at the image's own size."""
    return prediction, mask


def resized(side_px: int, mask_filter: MaskFilter) -> View:
    """Map and mask brought to a square of `side_px`, whatever the image's proportions; image scores stay.

    The map goes by a bilinear filter that averages when it shrinks. A mask is 0 or 255 on its way: `nearest` takes
    the pixel under each new centre; `bilinear_any` calls defective what is not black after the same filter,
    `bilinear_half` what is at least half white.
    """

    def view(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
        size = (side_px, side_px)
        picture = Image.fromarray(prediction.anomaly_map)
        anomaly_map = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        return Prediction(anomaly_map, prediction.score), _resized_mask(mask, size, mask_filter)

    return view


def clamped(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
    """Scores below 0 become 0 and above 1 become 1, those of pixels and of the image."""
    anomaly_map = np.clip(prediction.anomaly_map, 0, 1)
    return Prediction(anomaly_map, float(np.clip(prediction.score, 0, 1))), mask


def stretched(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
    """Every map on its own from 0 (its lowest pixel) to 1 (its highest), 0 where it is flat; image scores stay."""
    low, high = float(prediction.anomaly_map.min()), float(prediction.anomaly_map.max())
    scale = 1.0 / (high - low) if high > low else 0.0
    anomaly_map = (prediction.anomaly_map - np.float32(low)) * np.float32(scale)
    return Prediction(anomaly_map, prediction.score), mask


def _resized_mask(mask: Mask, size: tuple[int, int], mask_filter: MaskFilter) -> Mask:
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    nearest = mask_filter == "nearest"
    gray = np.asarray(picture.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR))
    return np.asarray(gray > (127 if mask_filter == "bilinear_half" else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One way to score: `does` says how it differs from the exact way, `used_by` where it is found."""

    name: str
    does: str
    used_by: str
    view: View = unchanged
    connectivity: Connectivity = 8
    curves: CurvesRule = exact_curves
    area: AreaRule = area_up_to_limit
    pixels: PixelRule = exact_pixels


CURVE_RULES = (
    Rule(
        name="points_99",
        does="PRO curve of 99 points at equally spaced ranks of the normal pixels",
        used_by="published code of arXiv 2407.04092",
        curves=published_curves,
    ),
    Rule(
        name="thresholds_200",
        does="PRO curve of 200 thresholds, evenly between lowest and highest score",
        used_by="CFLOW-AD and the many releases that share its routine, ADer by default",
        curves=closed_linear_curves,
    ),
    Rule(
        name="last_sample",
        does="the same 200 thresholds; area up to the last one below the limit, divided by that one's rate",
        used_by="the same routine; anomalib up to 2.2 and HiAD divide by the last rate too (anomalib issue 3718)",
        curves=linear_curves,
        area=area_up_to_last_sample,
    ),
    Rule(
        name="bins_50",
        does="all pixel numbers from a histogram of 50 equal bins",
        used_by="ADEval as ADer sets it",
        curves=closed_binned_curves,
        pixels=binned_pixels,
    ),
)
OTHER_RULES = (
    Rule(
        name="connectivity_4",
        does="pixels that touch at a corner belong to two regions",
        used_by="whoever calls scipy.ndimage.label as it comes",
        connectivity=4,
    ),
    Rule(
        name="clamp",
        does="scores clipped to [0, 1]",
        used_by="anomalib clips its normalised scores; here without the shift and scale that come first",
        view=clamped,
    ),
    Rule(
        name="stretch",
        does="each map stretched to [0, 1] by its own lowest and highest pixel",
        used_by="code that saves maps as heat pictures",
        view=stretched,
    ),
)
MASK_FILTERS: dict[MaskFilter, tuple[str, str]] = {
    "nearest": ("mask by nearest neighbour", "anomalib, at the network's input"),
    "bilinear_any": ("mask bilinear, then above 0", "Dinomaly and INP-Former, whose readmes call it an error"),
    "bilinear_half": ("mask bilinear, then above one half", "Dinomaly's readme calls it common practice"),
}


def standard_rules(input_px: int = 224) -> tuple[Rule, ...]:
    """The exact rule first, then every other; masks are brought to 256 px and to the network's `input_px`."""
    exact = Rule(name=EXACT, does="every threshold, ties on the diagonal, untouched masks", used_by="this package")
    sides_px = dict.fromkeys((256, input_px))
    resizing = [_resizing(side_px, mask_filter) for side_px in sides_px for mask_filter in MASK_FILTERS]
    return (exact, *CURVE_RULES, *resizing, *OTHER_RULES)


def _resizing(side_px: int, mask_filter: MaskFilter) -> Rule:
    does, used_by = MASK_FILTERS[mask_filter]
    return Rule(
        name=f"{side_px}_px_{mask_filter}",
        does=f"map and {does}, both on a square of {side_px} px",
        used_by=used_by,
        view=resized(side_px, mask_filter),
    )
