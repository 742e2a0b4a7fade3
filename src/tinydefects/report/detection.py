"""The figure of detection against diameter: probability of detection above, every defect as a dot below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.metrics.detectability import Detectability, format_size, rate_of
from tinydefects.metrics.hit_miss import pod_curve
from tinydefects.metrics.records import DefectRecord
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.uncertainty import exact_interval
from tinydefects.report.theme import STAND_INS, label_diameters, themed_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_CURVE_POINTS = 120
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiameterBin:
    """Defects with `low_px` <= diameter < `high_px`, and the Clopper-Pearson interval of the share found."""

    low_px: float
    high_px: float
    n_found: int
    n_defects: int
    interval: tuple[float, float]


def bin_by_diameter(defects: Sequence[DefectRecord], hits: Sequence[bool]) -> list[DiameterBin]:
    """The defects in octaves of diameter (1 to 2 px, 2 to 4 px, …), smallest first; empty octaves are left out."""
    octaves: dict[int, list[bool]] = {}
    for defect, hit in zip(defects, hits, strict=True):
        octaves.setdefault(math.floor(math.log2(defect.diameter_px)), []).append(hit)
    bins = []
    for octave, found in sorted(octaves.items()):
        bins.append(
            DiameterBin(
                low_px=2.0**octave,
                high_px=2.0 ** (octave + 1),
                n_found=sum(found),
                n_defects=len(found),
                interval=exact_interval(sum(found), len(found)),
            )
        )
    return bins


def detection_figure(evaluation: Evaluation, detectability: Detectability, key: str) -> str:
    """POD with its band, a50, a90 and a90/95 over the shares found; below, the dots. `key` makes its ids unique."""
    defects = evaluation.defects
    bins = bin_by_diameter(defects, detectability.hits)

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.155)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1.0))
        _draw_shares(upper, bins)
        _draw_pod(upper, defects, detectability, evaluation.pixel_pitch_mm)
        _draw_defects(lower, defects, detectability, 1 / max(evaluation.n_normal_pixels, 10))
        label_diameters(lower, bins[0].low_px if bins else 1.0, bins[-1].high_px if bins else 2.0)
        figure.align_ylabels()

    return themed_svg(draw, key, f"Detection against defect diameter in {evaluation.category}")


def _draw_shares(axes: "Axes", bins: Sequence[DiameterBin]) -> None:
    for part in bins:
        low, high, share = part.low_px * 1.03, part.high_px / 1.03, part.n_found / part.n_defects
        middle = math.sqrt(low * high)
        axes.plot([low, high], [share, share], color=STAND_INS["muted"], linewidth=1.2, solid_capstyle="butt")
        axes.plot([middle, middle], part.interval, color=STAND_INS["muted"], linewidth=1.2, alpha=0.6)
        axes.text(middle, 1.05, f"{part.n_found}/{part.n_defects}", ha="center", va="bottom", color=STAND_INS["muted"])
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 0.9, 1], ["0", "50 %", "90 %", ""])
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("detected")


def _draw_pod(
    axes: "Axes", defects: Sequence[DefectRecord], detectability: Detectability, pixel_pitch_mm: float
) -> None:
    """The fitted curve where there are defects, its band, and a marker at each size that is known."""
    diameters = np.array([defect.diameter_px for defect in defects])
    if diameters.size:
        at = np.geomspace(diameters.min(), diameters.max(), N_CURVE_POINTS)
        curve = pod_curve(diameters, np.array(detectability.hits), at)
        if curve:
            axes.fill_between(at, curve.low, curve.high, color=STAND_INS["found"], alpha=0.2, linewidth=0)
            axes.plot(at, curve.pod, color=STAND_INS["found"], linewidth=2.2)
    fit = detectability.fit
    sizes = (("a50", fit.a50_px, 0.5, "o"), ("a90", fit.a90_px, 0.9, "o"), ("a90/95", fit.a90_95_px, 0.9, "D"))
    for name, size, pod, marker in sizes:
        if math.isnan(size):
            continue
        axes.plot(
            size,
            pod,
            marker,
            color=STAND_INS["ink" if name != "a50" else "surface"],
            markeredgecolor=STAND_INS["ink"],
            markersize=6,
            label=f"{name}  {format_size(size, pixel_pitch_mm)}",
            zorder=4,
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", borderaxespad=0.2, handletextpad=0.3, labelspacing=0.3)


def _draw_defects(
    axes: "Axes", defects: Sequence[DefectRecord], detectability: Detectability, one_pixel: float
) -> None:
    """Each defect at the false-positive rate it is seen at, 0 for less than one pixel; a line parts hits and misses."""
    half = detectability.rule == "half_at_pixel_fpr"
    levels = np.nan_to_num(np.array([rate_of(defect, detectability.rule) for defect in defects]), nan=1.0)
    none = max(one_pixel, levels[levels > 0].min(initial=1.0)) / 4
    levels, hits = np.maximum(levels, none), np.array(detectability.hits, dtype=bool)
    diameters = np.array([defect.diameter_px for defect in defects])
    axes.set_yscale("log")
    axes.set_ylim(1.6, none)  # turned over: what stands out most is at the top
    for found, marker in ((True, "o"), (False, "X")):
        group = np.flatnonzero(hits == found)
        axes.scatter(
            diameters[group],
            levels[group],
            marker=marker,
            s=26,
            color=STAND_INS["found" if found else "missed"],
            edgecolors=STAND_INS["surface"],
            linewidths=0.6,
            clip_on=False,
            zorder=3,
        )
        if group.size:
            named = group[(np.argmin if found else np.argmax)(diameters[group])]
            there = (float(diameters[named]), float(levels[named]))
            _name_defect(axes, there, "smallest detected" if found else "largest missed", above=found)
    if 0 < np.count_nonzero(hits) < hits.size:
        border = math.sqrt(levels[hits].max() * levels[~hits].min())
        axes.axhline(border, color=STAND_INS["muted"], linewidth=1, linestyle=(0, (4, 3)))
    axes.minorticks_off()
    axes.grid(axis="y")
    _label_decades(axes, none)
    own = detectability.rule.startswith("own_")
    axes.set_ylabel("FPR at half" if half else "FPR at own peak" if own else "FPR at first pixel")


def _label_decades(axes: "Axes", none: float) -> None:
    """About five powers of ten from 1 down, and 0 at the place of what no normal pixel reaches."""
    step = max(1, round(-math.log10(none) / 5))
    powers = [power for power in range(0, math.floor(math.log10(none)), -step) if 10.0**power > 4 * none]
    labels = ["10" + str(power).translate(SUPERSCRIPTS) if power else "1" for power in powers]
    axes.set_yticks([*(10.0**power for power in powers), none], [*labels, "0"])


def _name_defect(axes: "Axes", there: tuple[float, float], name: str, *, above: bool) -> None:
    """`name` and diameter in the corner that is empty in practice, with a line to the defect's dot."""
    axes.annotate(
        f"{name}: {there[0]:.1f} px",
        there,
        xytext=(0.015, 0.97) if above else (0.985, 0.04),
        textcoords="axes fraction",
        ha="left" if above else "right",
        va="top" if above else "bottom",
        color=STAND_INS["ink"],
        arrowprops={"arrowstyle": "-", "color": STAND_INS["muted"], "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        zorder=4,
    )
