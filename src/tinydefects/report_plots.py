"""The two figures of a report, as inline SVG that follows the page's theme.

Every colour is drawn as a stand-in and replaced by a CSS variable of the page; the same numbers give the same bytes.
"""

import html
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.scores import DefectRecord, Evaluation, PlottedCurve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_CURVE_FPR, LOWEST_DOT_FPR = 1e-4, 1e-5
CONFIDENCE = 0.95
FIGURE_INCHES = (5.8, 4.7)
STAND_INS = {
    name: f"#0102{number:02x}"
    for number, name in enumerate(("ink", "muted", "line", "surface", "found", "missed", "q1", "q2", "q3", "q4"), 1)
}
SETTINGS: dict[Any, object] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": STAND_INS["ink"],
    "axes.labelcolor": STAND_INS["muted"],
    "axes.edgecolor": STAND_INS["line"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "grid.color": STAND_INS["line"],
    "grid.linewidth": 0.7,
    "xtick.color": STAND_INS["line"],
    "ytick.color": STAND_INS["line"],
    "xtick.labelcolor": STAND_INS["muted"],
    "ytick.labelcolor": STAND_INS["muted"],
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DiameterBin:
    """Defects with `low_px` <= diameter < `high_px`, and the Clopper-Pearson interval of the share found."""

    low_px: float
    high_px: float
    n_found: int
    n_defects: int
    interval: tuple[float, float]


def is_found(defect: DefectRecord, fpr_limit: float) -> bool:
    """Whether at least one pixel of the defect is flagged while at most `fpr_limit` of normal pixels are."""
    return defect.first_touched_fpr <= fpr_limit


def bin_by_diameter(defects: Sequence[DefectRecord], fpr_limit: float) -> list[DiameterBin]:
    """The defects in octaves of diameter (1 to 2 px, 2 to 4 px, …), smallest first; empty octaves are left out."""
    octaves: dict[int, list[bool]] = {}
    for defect in defects:
        octaves.setdefault(math.floor(math.log2(defect.diameter_px)), []).append(is_found(defect, fpr_limit))
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


def exact_interval(n_found: int, n_defects: int) -> tuple[float, float]:
    """Clopper and Pearson (1934), 95 %: each bound leaves 2.5 % of the binomial on its far side of `n_found`."""
    from scipy.special import betaincinv

    tail, n_missed = (1 - CONFIDENCE) / 2, n_defects - n_found
    low = float(betaincinv(n_found, n_missed + 1, tail)) if n_found else 0.0
    high = float(betaincinv(n_found + 1, n_missed, 1 - tail)) if n_missed else 1.0
    return low, high


def pro_figure(evaluation: Evaluation, key: str) -> str:
    """PRO against FPR, disjoint size quartiles and all defects, logarithmic FPR; `key` makes its ids unique."""
    limits = evaluation.fpr_limits
    lowest = min(LOWEST_CURVE_FPR, min(limits) / 10)

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.11)
        axes = figure.add_subplot()
        for number, group in enumerate(evaluation.disjoint, start=1):
            least, most = group.area_px
            label = f"{group.name}  {least:,.0f}–{most:,.0f} px" if group.n_defects else f"{group.name}  none"
            label = f"{label}, n = {group.n_defects}"
            axes.plot(*_points(group.curve, lowest), label=label, color=STAND_INS[f"q{number}"], linewidth=2)
        overall = evaluation.overall
        label = f"all, n = {overall.n_defects}"
        axes.plot(
            *_points(overall.curve, lowest), label=label, color=STAND_INS["ink"], linestyle=(0, (2, 2)), linewidth=1.3
        )
        for limit in limits:
            axes.axvline(limit, color=STAND_INS["line"], linewidth=0.9, zorder=0)
        axes.set_xscale("log")
        axes.set_xlim(lowest, max(limits))
        axes.set_ylim(0, 1.01)
        axes.grid(axis="y")
        _label_rates(axes.set_xticks, [lowest, *(rate for rate in (1e-3,) if rate < min(limits)), *sorted(limits)])
        axes.minorticks_off()
        axes.set_xlabel("false-positive pixels (FPR)")
        axes.set_ylabel("per-region overlap (PRO)")
        axes.legend(loc="upper left", borderaxespad=0.2, handlelength=1.6, labelspacing=0.35)

    return _themed_svg(draw, key, f"PRO curves of {evaluation.category} by size quartile")


def detection_figure(evaluation: Evaluation, fpr_limit: float, key: str) -> str:
    """Share of defects found by diameter above, every defect as a dot below; `key` makes its ids unique."""
    bins = bin_by_diameter(evaluation.defects, fpr_limit)

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.155)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.0, 1.7))
        least, most = (bins[0].low_px, bins[-1].high_px) if bins else (1.0, 2.0)
        lower.set_xscale("log", base=2)
        lower.set_xlim(least * 0.93, most * 1.07)
        _draw_shares(upper, bins)
        _draw_defects(lower, evaluation.defects, fpr_limit)
        ticks = [2.0**power for power in range(round(math.log2(least)), round(math.log2(most)) + 1)]
        lower.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        lower.minorticks_off()
        lower.set_xlabel("defect diameter (px)")
        figure.align_ylabels()

    return _themed_svg(draw, key, f"Detection against defect diameter in {evaluation.category}")


def _points(curve: PlottedCurve, lowest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FPR and PRO, sampled densely: a straight piece of the curve is bent on a logarithmic axis."""
    if not curve.fpr:
        return np.empty(0), np.empty(0)
    fpr = np.union1d(np.geomspace(lowest, 1.0, 400), curve.fpr)
    fpr = fpr[fpr >= lowest]
    return fpr, np.interp(fpr, curve.fpr, curve.pro, right=math.nan)


def _draw_shares(axes: "Axes", bins: Sequence[DiameterBin]) -> None:
    for part in bins:
        low, high = part.low_px * 1.03, part.high_px / 1.03
        axes.fill_between([low, high], *part.interval, color=STAND_INS["found"], alpha=0.2, linewidth=0)
        share = part.n_found / part.n_defects
        axes.plot([low, high], [share, share], color=STAND_INS["found"], linewidth=2.2, solid_capstyle="butt")
        middle = math.sqrt(low * high)
        axes.text(middle, 1.06, f"{part.n_found}/{part.n_defects}", ha="center", va="bottom", color=STAND_INS["muted"])
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("found")


def _draw_defects(axes: "Axes", defects: Sequence[DefectRecord], fpr_limit: float) -> None:
    axes.set_yscale("log")
    axes.set_ylim(1.3, LOWEST_DOT_FPR)  # turned over: what stands out most is at the top
    for found, marker in ((True, "o"), (False, "X")):
        group = [defect for defect in defects if is_found(defect, fpr_limit) == found]
        axes.scatter(
            [defect.diameter_px for defect in group],
            [max(defect.first_touched_fpr, LOWEST_DOT_FPR) for defect in group],
            marker=marker,
            s=26,
            color=STAND_INS["found" if found else "missed"],
            edgecolors=STAND_INS["surface"],
            linewidths=0.6,
            clip_on=False,
            zorder=3,
        )
        if group:
            named = (min if found else max)(group, key=lambda defect: defect.diameter_px)
            _name_defect(axes, named, "smallest found" if found else "largest missed", above=found)
    axes.axhline(fpr_limit, color=STAND_INS["muted"], linewidth=1, linestyle=(0, (4, 3)))
    axes.minorticks_off()
    axes.grid(axis="y")
    _label_rates(axes.set_yticks, [1.0, 0.1, 0.01, 0.001, 1e-4, LOWEST_DOT_FPR], lowest_is_bound=True)
    axes.set_ylabel("FPR at first pixel")


def _name_defect(axes: "Axes", defect: DefectRecord, name: str, *, above: bool) -> None:
    """`name` and diameter in the corner that is empty in practice, with a line to the defect's dot."""
    axes.annotate(
        f"{name}: {defect.diameter_px:.1f} px",
        (defect.diameter_px, max(defect.first_touched_fpr, LOWEST_DOT_FPR)),
        xytext=(0.015, 0.97) if above else (0.985, 0.04),
        textcoords="axes fraction",
        ha="left" if above else "right",
        va="top" if above else "bottom",
        color=STAND_INS["ink"],
        arrowprops={"arrowstyle": "-", "color": STAND_INS["muted"], "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        zorder=4,
    )


def _label_rates(
    set_ticks: Callable[[list[float], list[str]], object], rates: list[float], *, lowest_is_bound: bool = False
) -> None:
    labels = [f"{100 * rate:g} %" for rate in rates]
    if lowest_is_bound:
        labels[-1] = f"≤ {labels[-1]}"
    set_ticks(rates, labels)


def _themed_svg(draw: Callable[["Figure"], None], key: str, description: str) -> str:
    """What `draw` puts on a fresh figure, as an SVG element whose colours are CSS variables."""
    import matplotlib
    from matplotlib.figure import Figure

    buffer = StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": key}):
        figure = Figure(figsize=FIGURE_INCHES)
        figure.subplots_adjust(right=0.97, bottom=0.115, top=0.95, hspace=0.08)
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    svg = svg[svg.index(">", view_box.end()) + 1 :]
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', lambda match: f"{match[1].removeprefix('xlink:')}{key}-", svg)
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return f'<svg class="plot" role="img" aria-label="{html.escape(description)}" {view_box[0]}>{svg}'
