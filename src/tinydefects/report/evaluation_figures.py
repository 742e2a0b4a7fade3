"""Curves of a report over the false-positive rate and over size, as inline SVG that follows the page's theme.

Every colour is drawn as a stand-in and replaced by a CSS variable of the page; the same numbers give the same bytes.
"""

import html
import math
import re
from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.records import PlottedCurve
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.size_curve import SizeCurve, size_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_CURVE_FPR = 1e-4
FIGURE_INCHES = (5.8, 4.7)
N_METHOD_COLOURS = 12
NAMES = ("ink", "muted", "line", "surface", "found", "missed", "q1", "q2", "q3", "q4")
STAND_INS = {
    name: f"#0102{number:02x}"
    for number, name in enumerate((*NAMES, *(f"e{one}" for one in range(1, N_METHOD_COLOURS + 1))), 1)
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

    return themed_svg(draw, key, f"PRO curves of {evaluation.category} by size quartile")


def size_curve_of(evaluation: Evaluation, limit: int) -> SizeCurve:
    """Each defect's own AUPRO at one of the limits, against its diameter."""
    return size_curve(
        np.array([defect.diameter_px for defect in evaluation.defects]),
        np.array([defect.aupro[limit] for defect in evaluation.defects]),
        [defect.sample_id for defect in evaluation.defects],
    )


def size_figure(evaluation: Evaluation, key: str) -> str:
    """AUPRO at each limit as a continuous function of diameter, and how many defects carry it; `key` as above."""
    curves = [size_curve_of(evaluation, number) for number in range(len(evaluation.fpr_limits))]

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.11)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4.5, 1.0))
        _draw_means(upper, curves, evaluation.fpr_limits)
        diameters = [defect.diameter_px for defect in evaluation.defects]
        _draw_carriers(lower, curves[0], diameters)
        label_diameters(lower, min(diameters, default=1.0), max(diameters, default=2.0))
        figure.align_ylabels()

    return themed_svg(draw, key, f"AUPRO against defect diameter in {evaluation.category}")


def _draw_means(axes: "Axes", curves: Sequence[SizeCurve], limits: Sequence[float]) -> None:
    for number, (limit, curve) in enumerate(zip(limits, curves, strict=True)):
        colour = STAND_INS[f"q{4 - number % 4}"]
        axes.fill_between(curve.diameter_px, curve.low, curve.high, color=colour, alpha=0.16, linewidth=0)
        axes.plot(curve.diameter_px, curve.mean, color=colour, linewidth=2, label=f"at {100 * limit:g} %")
    axes.set_ylim(0, 1.01)
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("AUPRO")
    if curves[0].diameter_px.size:
        axes.legend(loc="lower right", borderaxespad=0.2, handlelength=1.6, labelspacing=0.35)
    else:
        axes.text(0.5, 0.5, "too few defects of one size", ha="center", transform=axes.transAxes)


def _draw_carriers(axes: "Axes", curve: SizeCurve, diameters: Sequence[float]) -> None:
    axes.fill_between(curve.diameter_px, 0, curve.n_defects, color=STAND_INS["muted"], alpha=0.35, linewidth=0)
    axes.plot(diameters, [0.0] * len(diameters), "|", color=STAND_INS["ink"], alpha=0.5, markersize=7, clip_on=False)
    axes.set_ylim(0, max(curve.n_defects, default=1.0) * 1.05)
    axes.locator_params(axis="y", nbins=2, integer=True)
    axes.set_ylabel("defects")


def _points(curve: PlottedCurve, lowest: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FPR and PRO, sampled densely: a straight piece of the curve is bent on a logarithmic axis."""
    if not curve.fpr:
        return np.empty(0), np.empty(0)
    fpr = np.union1d(np.geomspace(lowest, 1.0, 400), curve.fpr)
    fpr = fpr[fpr >= lowest]
    return fpr, np.interp(fpr, curve.fpr, curve.pro, right=math.nan)


def _label_rates(set_ticks: Callable[[list[float], list[str]], object], rates: list[float]) -> None:
    set_ticks(rates, [f"{100 * rate:g} %" for rate in rates])


def label_diameters(axes: "Axes", least_px: float, most_px: float) -> None:
    """A diameter axis by octaves, wide enough for both."""
    first = math.floor(math.log2(least_px))
    last = max(math.ceil(math.log2(most_px)), first + 1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(2.0**first * 0.93, 2.0**last * 1.07)
    ticks = [2.0**power for power in range(first, last + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("defect diameter (px)")


def themed_svg(
    draw: Callable[["Figure"], None], key: str, description: str, *, inches: tuple[float, float] = FIGURE_INCHES
) -> str:
    """What `draw` puts on a fresh figure, as an SVG element whose colours are CSS variables.

    Artists with the gid `method-3` or `band-3` become groups with the attribute `data-method="3"` or `data-band="3"`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    buffer = StringIO()
    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": key}):
        figure = Figure(figsize=inches)
        figure.subplots_adjust(right=0.97, bottom=0.115, top=0.95, hspace=0.08)
        draw(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", buffer.getvalue(), flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    svg = svg[svg.index(">", view_box.end()) + 1 :]
    svg = re.sub(r'<g id="(method|band)-(\d+)"', r'<g data-\1="\2"', svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'(id="|xlink:href="#|url\(#)', lambda match: f"{match[1].removeprefix('xlink:')}{key}-", svg)
    for name, colour in STAND_INS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return f'<svg class="plot" role="img" aria-label="{html.escape(description)}" {view_box[0]}>{svg}'
