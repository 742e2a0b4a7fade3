"""Figures for print: as wide as a column, PDF and SVG, in colours that the colour-blind tell apart, with markers."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinydefects.benchmark.board import MethodAt, headline_limit
from tinydefects.data.pixels import write_whole
from tinydefects.metrics.groups import QUARTILES
from tinydefects.report.leaderboard import RankedBoard
from tinydefects.report.theme import NAME_SIGNS, shortened
from tinydefects.report.words import format_rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_INCHES = 3.35  # 85 mm: a column of most journals and conferences
POINTS = 7.0
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS = "osD^vP*X"
SETTINGS: dict[Any, object] = {
    "pdf.fonttype": 42,  # letters stay letters: some publishers refuse others
    "svg.fonttype": "none",
    "svg.hashsalt": "tinydefects",
    "font.size": POINTS,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
}


def write_figures(ranked: RankedBoard, out: Path, name: str) -> list[Path]:
    """`NAME_smallest` with all methods at the smallest quarter of the defects, and `NAME_sizes` over the quartiles.

    Returns the paths, PDF and SVG of each; the same numbers give the same bytes.

    Raises:
        TinyDefectsError: the folder cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    drawings = {"smallest": _draw_smallest, "sizes": _draw_sizes}
    heights = {"smallest": 0.75 + 0.17 * len(ranked.methods), "sizes": 2.1 + 0.13 * math.ceil(len(ranked.methods) / 2)}
    paths = []
    for kind, draw in drawings.items():
        with matplotlib.rc_context(SETTINGS):
            figure = Figure(figsize=(COLUMN_INCHES, heights[kind]), layout="constrained")
            draw(figure, ranked)
            for form, without_date in (("pdf", {"CreationDate": None}), ("svg", {"Date": None})):
                path = out / f"{name}_{kind}.{form}"
                _write(path, figure, form, without_date)
                paths.append(path)
    return paths


def _write(path: Path, figure: "Figure", form: str, without_date: dict[str, None]) -> None:
    write_whole(path, lambda file: figure.savefig(file, format=form, metadata=without_date))


def _draw_smallest(figure: "Figure", ranked: RankedBoard) -> None:
    """A line a method with its interval; hollow is what cannot be told from the best."""
    axes, limit = figure.subplots(), headline_limit(ranked.limits)
    cells = ranked.cells(f"aupro_Q1@{limit:g}")
    for place, method in enumerate(ranked.methods):
        cell = cells[method]
        if not math.isnan(cell.interval.low):
            axes.plot((cell.interval.low, cell.interval.high), (place, place), color="#7F7F7F", linewidth=0.8)
        face = "white" if cell.may_be_best else COLOURS[0]
        axes.plot(cell.value, place, "o", markersize=4, markerfacecolor=face, markeredgecolor=COLOURS[0])
    axes.set_yticks(range(len(ranked.methods)), [_name(method, ranked) for method in ranked.methods])
    axes.set_ylim(len(ranked.methods) - 0.5, -0.5)
    axes.set_xlabel(f"AUPRO@{format_rate(limit)} of Q1, the smallest")
    _light_grid(axes, "x")


def _draw_sizes(figure: "Figure", ranked: RankedBoard) -> None:
    """AUPRO from the smallest quarter to all defects."""
    axes, limit = figure.subplots(), headline_limit(ranked.limits)
    columns = [ranked.cells(f"aupro_{quartile}@{limit:g}") for quartile in QUARTILES]
    for number, method in enumerate(ranked.methods):
        turn, colour = divmod(number, len(COLOURS))
        values: Sequence[float] = [cells[method].value for cells in columns]
        axes.plot(
            range(len(QUARTILES)),
            values,
            color=COLOURS[colour],
            marker=MARKERS[(colour + turn) % len(MARKERS)],
            linestyle=("-", "--", ":")[turn % 3],
            markersize=3,
            label=_name(method, ranked),
        )
    axes.set_xticks(range(len(QUARTILES)), ["Q1\nsmallest", "Q2", "Q3", "Q4\nall"])
    axes.set_ylabel(f"AUPRO@{format_rate(limit)}")
    _light_grid(axes, "y")
    figure.legend(loc="outside lower center", ncols=2, fontsize=POINTS - 1, handlelength=2)


def _name(method: MethodAt, ranked: RankedBoard) -> str:
    """With its size in pixels where each has its own. Dollars written out: two would be taken for a formula."""
    size = f", {method.resolution} px" if ranked.board.at_own_sizes and method.resolution else ""
    return (shortened(method.name, NAME_SIGNS - len(size)) + size).replace("$", r"\$")


def _light_grid(axes: "Axes", axis: Any) -> None:  # noqa: ANN401 - matplotlib's literal
    axes.grid(axis=axis, color="#DDDDDD", linewidth=0.4)
    axes.set_axisbelow(True)
