"""The rules that other work has scored with, as one list, the exact one first.

A rule differs from the exact one in one respect: what it does to maps and masks before (`view`), which pixels it joins
to regions, whose normal pixels it counts, how it samples the PRO curve, or how it takes areas. The two that sample at
quantiles join regions by sides alone as well, as their sources do. Sources are named where they were looked up.
This is the one file where a mask changes its size: it repeats what others did, and no result of ours passes through it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinydefects.audit.curve_rules import (
    AreaRule,
    CurvesRule,
    LimitedCurvesRule,
    PixelRule,
    area_up_to_last_sample,
    area_up_to_limit,
    binned_pixels,
    closed_binned_curves,
    closed_linear_curves,
    exact_curves,
    exact_pixels,
    linear_curves,
    published_curves,
    roc_curves,
    standardised_area,
    top_64_quantile_curves,
    top_500_quantile_curves,
    trapezoid_pixels,
)
from tinydefects.data.sample import Prediction

Mask: TypeAlias = NDArray[np.bool_]
View = Callable[[Prediction, Mask], tuple[Prediction, Mask]]
MaskFilter = Literal["nearest", "bilinear_any", "bilinear_half"]
Connectivity = Literal[4, 8]
NormalPixels = Literal["all", "of_good", "of_defective"]
EXACT = "exact"


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
    """One way to score: `does` says how it differs from the exact way, `used_by` where it is found.

    `normal_pixels` says whose are counted: those of all images, of good ones, or of defective ones. A rule whose
    thresholds depend on the limit has `curves_up_to` in place of `curves`.
    """

    name: str
    does: str
    used_by: str
    view: View = unchanged
    connectivity: Connectivity = 8
    normal_pixels: NormalPixels = "all"
    curves: CurvesRule = exact_curves
    curves_up_to: LimitedCurvesRule | None = None
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
    Rule(
        name="quantiles_500",
        does="PRO curve of 500 even quantiles of the normal pixels down to the limit, on regions of 4-connectivity",
        used_by="imgad 0.6",
        connectivity=4,
        curves_up_to=top_500_quantile_curves,
    ),
    Rule(
        name="quantiles_64",
        does="PRO curve of 64 even quantiles down to twice the limit, on regions of 4-connectivity",
        used_by="r4m-t1n/l2bt_mvtecad2",
        connectivity=4,
        curves_up_to=top_64_quantile_curves,
    ),
    Rule(
        name="partial_roc",
        does="ROC curve of all pixels in place of PRO, its partial area standardised: chance is 0.5",
        used_by="the test script of SuperADD, whose table calls it AU; scikit-learn's roc_auc_score with max_fpr",
        curves=roc_curves,
        area=standardised_area,
    ),
    Rule(
        name="trapezoid_ap",
        does="pixel AP by trapezoids, points of equal recall from the worst to the best",
        used_by="anomalib up to 2.6, whose AUPR is step-wise since 2.7",
        pixels=trapezoid_pixels,
    ),
)
OTHER_RULES = (
    Rule(
        name="defective_only",
        does="pixels of defective images alone; no good image counts",
        used_by="the test script of SuperADD unless told otherwise; SubspaceAD for its AU-PRO (its issue 11)",
        normal_pixels="of_defective",
    ),
    Rule(
        name="good_normals",
        does="false positives counted on good images alone",
        used_by="AUPIMO takes its rate so; here under the numbers of this table",
        normal_pixels="of_good",
    ),
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
    "bilinear_any": (
        "mask bilinear, then above 0",
        "Dinomaly and INP-Former, whose readmes call it an error; SuperADD's test script at the size of its maps",
    ),
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
