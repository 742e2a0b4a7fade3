"""The rules that other work has scored with, as one list; the exact one first.

A rule differs from the exact one in one respect only: what it does to maps and masks before (`view`), which pixels it
joins to regions, how it samples the PRO curve, or how it takes the area. Sources are named where they were looked up.
"""

from dataclasses import dataclass
from typing import Literal

from tinydefects.audit.curves import (
    AreaRule,
    CurvesRule,
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
)
from tinydefects.audit.views import MaskFilter, View, clamped, resized, stretched, unchanged

Connectivity = Literal[4, 8]
EXACT = "exact"


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
