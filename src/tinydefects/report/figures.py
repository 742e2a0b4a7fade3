"""Pictures of curves: all methods at once by size, coverage and detection; one evaluation by size quartile.

Where methods are set side by side every line carries its method's number, so that the page can light one up, and its
name at the right end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import MethodAt
from tinydefects.benchmark.run_folder import StoredResult
from tinydefects.metrics.groups import QUARTILES
from tinydefects.metrics.hit_miss import fit_sizes, pod_curve
from tinydefects.metrics.records import PlottedCurve
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.size_curve import SizeCurve, size_curve
from tinydefects.report.leaderboard import RankedBoard, hits_by_diameter
from tinydefects.report.theme import STAND_INS, Look, label_diameters, name_lines, themed_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_CURVE_FPR = 1e-4
MANY = 12
N_POINTS = 90
WIDTH_INCHES, WIDE_INCHES, NAMES_INCHES = 7.4, 14.6, 2.3
LEAST_HEIGHT_INCHES, INCHES_A_LABEL = 4.6, 0.19


def size_figure(ranked: RankedBoard, limit: float, drawn_as: Mapping[MethodAt, Look], key: str) -> str:
    """AUPRO of the cumulative quartiles at one limit and rho; intervals of many methods show when they are lit."""
    names = [*(f"aupro_{quartile}@{limit:g}" for quartile in QUARTILES), f"rho@{limit:g}"]
    columns = [ranked.cells(name) for name in names]
    places = np.array([0.0, 1.0, 2.0, 3.0, 4.35])
    dodge = np.linspace(-0.16, 0.16, len(ranked.methods)) if len(ranked.methods) > 1 else np.zeros(1)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        ends = {}
        for method, shift in zip(ranked.methods, dodge, strict=True):
            look, cells = drawn_as[method], [column[method] for column in columns]
            values = np.array([cell.value for cell in cells])
            whisker = look.gid if len(ranked.methods) <= MANY else f"band-{look.number}"
            axes.plot(places[:4] + shift, values[:4], linewidth=1.5, **look.line)
            axes.plot(places + shift, values, look.marker, color=look.stand_in, markersize=4.5, gid=look.gid)
            for place, cell in zip(places + shift, cells, strict=True):
                spread = (cell.interval.low, cell.interval.high)
                axes.plot((place, place), spread, color=look.stand_in, linewidth=0.9, alpha=0.55, gid=whisker)
            ends[method] = values[4] if math.isfinite(values[4]) else values[3]
        axes.set_xticks(places, ["Q1\nsmallest", "Q2", "Q3", "Q4\nall", "ρ"])
        axes.axvline(3.68, color=STAND_INS["line"], linewidth=0.9)
        axes.set_xlim(-0.35, 4.65)
        axes.grid(axis="y")
        axes.set_ylabel(f"AUPRO@{100 * limit:g} %")
        name_lines(axes, ends, drawn_as)

    description = f"AUPRO at {100 * limit:g} % false positives by defect size"
    return _figure(draw, key, description, len(ranked.methods), width=WIDE_INCHES)


def pro_figure(
    curves: Mapping[MethodAt, tuple[NDArray[np.float64], NDArray[np.float64]]],
    limits: Sequence[float],
    drawn_as: Mapping[MethodAt, Look],
    key: str,
    name: str,
) -> str:
    """PRO against FPR, logarithmic; a vertical line at every limit."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for limit in limits:
            axes.axvline(limit, color=STAND_INS["line"], linewidth=0.9, zorder=0)
        for method, (fpr, pro) in curves.items():
            axes.plot(fpr, pro, linewidth=1.7, **drawn_as[method].line)
        axes.set_xscale("log")
        axes.set_xlim(LOWEST_CURVE_FPR, max(limits))
        axes.set_ylim(0, 1.01)
        axes.grid(axis="y")
        rates = [LOWEST_CURVE_FPR, *(rate for rate in (1e-3,) if rate < min(limits)), *sorted(limits)]
        axes.set_xticks(rates, [f"{100 * rate:g} %" for rate in rates])
        axes.minorticks_off()
        axes.set_xlabel("false-positive pixels (FPR)")
        axes.set_ylabel("per-region overlap (PRO)")
        name_lines(axes, {method: float(pro[-1]) for method, (_, pro) in curves.items()}, drawn_as)

    return _figure(draw, key, f"PRO curves, {name}", len(curves))


def mean_pro_curve(
    stored: Sequence[StoredResult], limits: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FPR, and the mean PRO of several results at it; nan where one of them has no curve."""
    fpr = np.union1d(np.geomspace(LOWEST_CURVE_FPR, max(limits), N_POINTS), limits)
    curves = [one.evaluation.overall.curve for one in stored]
    drawn = [np.interp(fpr, curve.fpr, curve.pro) if curve.fpr else np.full_like(fpr, np.nan) for curve in curves]
    return fpr, np.mean(drawn, axis=0)


def pod_figure(
    stored: Mapping[MethodAt, Sequence[StoredResult]], drawn_as: Mapping[MethodAt, Look], key: str, name: str
) -> str:
    """POD fitted to the defects of all results given, with the band that a lit method shows, and a90/95 as diamonds.

    A method whose hits and misses allow no fit has no line.
    """
    pooled = {method: hits_by_diameter(results) for method, results in stored.items()}
    diameters = np.concatenate([np.empty(0), *(one for one, _ in pooled.values())])
    least, most = (float(diameters.min()), float(diameters.max())) if diameters.size else (1.0, 2.0)
    at = np.geomspace(least, most, N_POINTS)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        ends = {}
        for method, (sizes, hits) in pooled.items():
            curve, look = pod_curve(sizes, hits, at), drawn_as[method]
            if curve is None:
                continue
            band = f"band-{look.number}"
            axes.fill_between(at, curve.low, curve.high, color=look.stand_in, alpha=0.18, linewidth=0, gid=band)
            axes.plot(at, curve.pod, linewidth=1.7, **look.line)
            a90_95 = fit_sizes(sizes, hits).a90_95_px
            if math.isfinite(a90_95):
                axes.plot(a90_95, 0.9, "D", color=look.stand_in, markersize=5, gid=look.gid)
            ends[method] = float(curve.pod[-1])
        axes.axhline(0.9, color=STAND_INS["muted"], linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        axes.set_ylim(0, 1.01)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1], ["0", "25 %", "50 %", "75 %", "90 %", ""])
        axes.grid(axis="y")
        label_diameters(axes, least, most)
        axes.set_ylabel("probability of detection")
        name_lines(axes, ends, drawn_as)

    return _figure(draw, key, f"Probability of detection, {name}", len(stored))


def _figure(
    draw: Callable[["Figure"], None], key: str, description: str, n_labels: int, *, width: float = WIDTH_INCHES
) -> str:
    """A figure with room for names at its right, high enough for all of them."""

    def draw_with_margins(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.66 / width, right=1 - NAMES_INCHES / width)
        draw(figure)

    height = max(LEAST_HEIGHT_INCHES, INCHES_A_LABEL * n_labels + 0.6)
    return themed_svg(draw_with_margins, key, description, inches=(width, height))


def quartile_figure(evaluation: Evaluation, key: str) -> str:
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


def diameter_figure(evaluation: Evaluation, key: str) -> str:
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
