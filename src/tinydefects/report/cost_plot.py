"""What accuracy costs: AUPRO against time, a panel for each size quartile."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.benchmark.board import MethodAt
from tinydefects.metrics.size import QUARTILES
from tinydefects.report.evaluation_figures import STAND_INS, themed_svg
from tinydefects.report.figures import INCHES_A_LABEL, WIDE_INCHES
from tinydefects.report.ranked_board import RankedBoard
from tinydefects.report.theme import LABEL_POINTS, Look, height_points, short_name, spread_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Mapping[MethodAt, tuple[float, float]]  # ms and AUPRO

TITLES = {"Q1": "Q1, smallest", "Q4": "Q4, all"}


def cost_figure(ranked: RankedBoard, limit: float, drawn_as: Mapping[MethodAt, Look], key: str) -> str:
    """AUPRO against time, one panel a quartile; the steps join methods that none other beats in both."""
    known = ranked.milliseconds

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.075, right=0.985, bottom=0.09, top=0.94, hspace=0.3, wspace=0.14)
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, quartile in zip(panels, QUARTILES, strict=True):
            cells = ranked.cells(f"aupro_{quartile}@{limit:g}")
            points = {one: (known[one], cells[one].value) for one in known if math.isfinite(cells[one].value)}
            _draw_costs(axes, points, drawn_as)
            axes.set_title(TITLES.get(quartile, quartile), fontsize=10.5)
        for axes in panels[::2]:
            axes.set_ylabel(f"AUPRO@{100 * limit:g} %")
        for axes in panels[2:]:
            axes.set_xlabel("ms an image")

    height = 2 * max(3.6, INCHES_A_LABEL * len(known) + 0.5)
    description = f"AUPRO at {100 * limit:g} % against milliseconds an image"
    return themed_svg(draw, key, description, inches=(WIDE_INCHES, height))


def undominated(points: Points) -> list[MethodAt]:
    """Methods, fastest first, that no other equals or beats both in time (lower) and in accuracy (higher)."""
    front: list[MethodAt] = []
    for method in sorted(points, key=lambda one: (points[one][0], -points[one][1])):
        if not front or points[method][1] > points[front[-1]][1]:
            front.append(method)
    return front


def _draw_costs(axes: "Axes", points: Points, drawn_as: Mapping[MethodAt, Look]) -> None:
    from matplotlib.ticker import LogLocator

    front = undominated(points)
    steps = np.array([points[method] for method in front]).reshape(-1, 2)
    axes.step(steps[:, 0], steps[:, 1], where="post", color=STAND_INS["muted"], linewidth=1, linestyle=(0, (3, 2)))
    for method, point in points.items():
        look = drawn_as[method]
        axes.plot(*point, look.marker, color=look.stand_in, markersize=6, gid=look.gid, zorder=3)
    axes.set_xscale("log")
    times = [time for time, _ in points.values()] or [1.0]
    fastest, slowest = min(times), max(times)
    span = max(slowest / fastest, 2)
    axes.set_xlim(fastest / span**0.06, slowest * span**0.34)  # room for the name of the slowest
    axes.margins(y=0.08)
    axes.grid(axis="both")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _name_points(axes, points, drawn_as, front)


def _name_points(
    axes: "Axes",
    points: Points,
    drawn_as: Mapping[MethodAt, Look],
    front: Sequence[MethodAt],
) -> None:
    """A name right of each point, every one on a line of its own."""
    low, high = axes.get_ylim()
    wanted = np.array([(value - low) / (high - low) for _, value in points.values()])
    moves = (spread_out(wanted.tolist(), LABEL_POINTS / height_points(axes)) - wanted) * height_points(axes)
    for (method, point), move in zip(points.items(), moves.tolist(), strict=True):
        look = drawn_as[method]
        note = axes.annotate(
            short_name(method),
            point,
            xytext=(15, move),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=STAND_INS["ink" if method in front else "muted"],
            arrowprops={"arrowstyle": "-", "color": look.stand_in, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        )
        note.set_gid(look.gid)
