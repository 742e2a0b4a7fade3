"""Figures that show all entrants at once: AUPRO by size, coverage, probability of detection, and what accuracy costs.

Every line carries its entrant's number, so that the page can light one up, and its name at the right end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark_report.entrants import Entrant, StoredResult
from tinydefects.benchmark_report.standings import Standings, hits_by_diameter
from tinydefects.metrics.hit_miss import fit_sizes, pod_curve
from tinydefects.metrics.size import QUARTILES
from tinydefects.report_plots import N_ENTRANT_COLOURS, STAND_INS, label_diameters, themed_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOWEST_FPR = 1e-4
N_POINTS = 90
WIDTH_INCHES, WIDE_INCHES, NAMES_INCHES = 7.4, 14.6, 2.3
LEAST_HEIGHT_INCHES, INCHES_A_LABEL = 4.6, 0.19
NAME_SIGNS, LABEL_POINTS = 28, 12.5
DASHES: tuple[object, ...] = ("solid", (0, (4, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)))
MARKERS = "osD^vPX*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How one entrant is drawn everywhere: a colour for its method, dashes for its resolution."""

    number: int
    colour: int
    dashes: int

    @property
    def gid(self) -> str:
        return f"entrant-{self.number}"

    @property
    def line(self) -> dict[str, object]:
        """Settings of a line in this look."""
        return {"color": self.stand_in, "linestyle": DASHES[self.dashes], "gid": self.gid}

    @property
    def stand_in(self) -> str:
        return STAND_INS[f"e{self.colour}"]

    @property
    def marker(self) -> str:
        return MARKERS[self.dashes % len(MARKERS)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Label:
    """The name of an entrant at the height where its line ends, in shares of the axes."""

    look: Look
    text: str
    height: float


def looks(entrants: Sequence[Entrant]) -> dict[Entrant, Look]:
    """A look for each entrant, numbered as given; methods beyond the last colour start again with other dashes."""
    peers = list(dict.fromkeys(entrant.peer for entrant in entrants))
    resolutions = sorted({entrant.resolution for entrant in entrants if entrant.resolution}, reverse=True)
    found = {}
    for number, entrant in enumerate(entrants):
        turn, colour = divmod(peers.index(entrant.peer), N_ENTRANT_COLOURS)
        rank = resolutions.index(entrant.resolution) if entrant.resolution else 0
        found[entrant] = Look(number=number, colour=colour + 1, dashes=(2 * turn + rank) % len(DASHES))
    return found


def size_figure(standings: Standings, limit: float, drawn_as: Mapping[Entrant, Look], key: str) -> str:
    """AUPRO of the cumulative quartiles at one limit with its intervals, and rho beside them."""
    names = [*(f"aupro_{quartile}@{limit:g}" for quartile in QUARTILES), f"rho@{limit:g}"]
    columns = [standings.cells(name) for name in names]
    places = np.array([0.0, 1.0, 2.0, 3.0, 4.35])
    dodge = np.linspace(-0.16, 0.16, len(standings.ranked)) if len(standings.ranked) > 1 else np.zeros(1)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        ends = {}
        for entrant, shift in zip(standings.ranked, dodge, strict=True):
            look, cells = drawn_as[entrant], [column[entrant] for column in columns]
            values = np.array([cell.value for cell in cells])
            axes.plot(places[:4] + shift, values[:4], linewidth=1.5, **look.line)
            axes.plot(places + shift, values, look.marker, color=look.stand_in, markersize=4.5, gid=look.gid)
            for place, cell in zip(places + shift, cells, strict=True):
                spread = (cell.interval.low, cell.interval.high)
                axes.plot((place, place), spread, color=look.stand_in, linewidth=0.9, alpha=0.55, gid=look.gid)
            ends[entrant] = values[4] if math.isfinite(values[4]) else values[3]
        axes.set_xticks(places, ["Q1\nsmallest", "Q2", "Q3", "Q4\nall", "ρ"])
        axes.axvline(3.68, color=STAND_INS["line"], linewidth=0.9)
        axes.set_xlim(-0.35, 4.65)
        axes.grid(axis="y")
        axes.set_ylabel(f"AUPRO@{100 * limit:g} %")
        _name_lines(axes, ends, drawn_as)

    description = f"AUPRO at {100 * limit:g} % false positives by defect size"
    return _figure(draw, key, description, len(standings.ranked), width=WIDE_INCHES)


def pro_figure(
    curves: Mapping[Entrant, tuple[NDArray[np.float64], NDArray[np.float64]]],
    limits: Sequence[float],
    drawn_as: Mapping[Entrant, Look],
    key: str,
    name: str,
) -> str:
    """PRO against FPR, logarithmic; a vertical line at every limit."""

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for limit in limits:
            axes.axvline(limit, color=STAND_INS["line"], linewidth=0.9, zorder=0)
        for entrant, (fpr, pro) in curves.items():
            axes.plot(fpr, pro, linewidth=1.7, **drawn_as[entrant].line)
        axes.set_xscale("log")
        axes.set_xlim(LOWEST_FPR, max(limits))
        axes.set_ylim(0, 1.01)
        axes.grid(axis="y")
        rates = [LOWEST_FPR, *(rate for rate in (1e-3,) if rate < min(limits)), *sorted(limits)]
        axes.set_xticks(rates, [f"{100 * rate:g} %" for rate in rates])
        axes.minorticks_off()
        axes.set_xlabel("false-positive pixels (FPR)")
        axes.set_ylabel("per-region overlap (PRO)")
        _name_lines(axes, {entrant: float(pro[-1]) for entrant, (_, pro) in curves.items()}, drawn_as)

    return _figure(draw, key, f"PRO curves, {name}", len(curves))


def mean_pro_curve(
    stored: Sequence[StoredResult], limits: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """FPR, and the mean PRO of several results at it; nan where one of them has no curve."""
    fpr = np.union1d(np.geomspace(LOWEST_FPR, max(limits), N_POINTS), limits)
    curves = [one.evaluation.overall.curve for one in stored]
    drawn = [np.interp(fpr, curve.fpr, curve.pro) if curve.fpr else np.full_like(fpr, np.nan) for curve in curves]
    return fpr, np.mean(drawn, axis=0)


def pod_figure(
    stored: Mapping[Entrant, Sequence[StoredResult]], drawn_as: Mapping[Entrant, Look], key: str, name: str
) -> str:
    """POD fitted to the defects of all results given, with the band that a lit entrant shows, and a90/95 as diamonds.

    An entrant whose hits and misses allow no fit has no line.
    """
    pooled = {entrant: hits_by_diameter(results) for entrant, results in stored.items()}
    diameters = np.concatenate([np.empty(0), *(one for one, _ in pooled.values())])
    least, most = (float(diameters.min()), float(diameters.max())) if diameters.size else (1.0, 2.0)
    at = np.geomspace(least, most, N_POINTS)

    def draw(figure: "Figure") -> None:
        axes = figure.add_subplot()
        ends = {}
        for entrant, (sizes, hits) in pooled.items():
            curve, look = pod_curve(sizes, hits, at), drawn_as[entrant]
            if curve is None:
                continue
            band = f"band-{look.number}"
            axes.fill_between(at, curve.low, curve.high, color=look.stand_in, alpha=0.18, linewidth=0, gid=band)
            axes.plot(at, curve.pod, linewidth=1.7, **look.line)
            a90_95 = fit_sizes(sizes, hits).a90_95_px
            if math.isfinite(a90_95):
                axes.plot(a90_95, 0.9, "D", color=look.stand_in, markersize=5, gid=look.gid, clip_on=True)
            ends[entrant] = float(curve.pod[-1])
        axes.axhline(0.9, color=STAND_INS["muted"], linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
        axes.set_ylim(0, 1.01)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1], ["0", "25 %", "50 %", "75 %", "90 %", ""])
        axes.grid(axis="y")
        label_diameters(axes, least, most)
        axes.set_ylabel("probability of detection")
        _name_lines(axes, ends, drawn_as)

    return _figure(draw, key, f"Probability of detection, {name}", len(stored))


def cost_figure(standings: Standings, limit: float, drawn_as: Mapping[Entrant, Look], key: str) -> str:
    """AUPRO against time, one panel a quartile; the steps join entrants that none other beats in both."""
    known = standings.milliseconds

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.075, right=0.985, bottom=0.09, top=0.94, hspace=0.3, wspace=0.14)
        panels = figure.subplots(2, 2, sharex=True).ravel()
        for axes, quartile in zip(panels, QUARTILES, strict=True):
            cells = standings.cells(f"aupro_{quartile}@{limit:g}")
            points = {one: (known[one], cells[one].value) for one in known if math.isfinite(cells[one].value)}
            _draw_costs(axes, points, drawn_as)
            axes.set_title(f"{quartile}{', smallest' * (quartile == 'Q1')}{', all' * (quartile == 'Q4')}", fontsize=10.5)
        for axes in panels[::2]:
            axes.set_ylabel(f"AUPRO@{100 * limit:g} %")
        for axes in panels[2:]:
            axes.set_xlabel("ms an image")

    return themed_svg(draw, key, f"AUPRO at {100 * limit:g} % against milliseconds an image", inches=(WIDE_INCHES, 2 * max(3.6, INCHES_A_LABEL * len(known) + 0.5)))


def undominated(points: Mapping[Entrant, tuple[float, float]]) -> list[Entrant]:
    """Entrants, fastest first, that no other equals or beats both in time (lower) and in accuracy (higher)."""
    front: list[Entrant] = []
    for entrant in sorted(points, key=lambda one: (points[one][0], -points[one][1])):
        if not front or points[entrant][1] > points[front[-1]][1]:
            front.append(entrant)
    return front


def spread_out(heights: Sequence[float], gap: float) -> NDArray[np.float64]:
    """Heights moved as little as possible (least squares), so that neighbours lie `gap` apart, within [0, 1]."""
    from scipy.optimize import isotonic_regression

    wanted = np.asarray(heights, dtype=np.float64)
    order = np.argsort(wanted, kind="stable")
    gap = min(gap, 1 / max(1, wanted.size - 1))
    steps = gap * np.arange(wanted.size)
    placed = isotonic_regression(wanted[order] - steps).x
    moved = np.empty_like(wanted)
    moved[order] = np.clip(placed, 0, 1 - (steps[-1] if steps.size else 0)) + steps
    return moved


def _draw_costs(
    axes: "Axes", points: Mapping[Entrant, tuple[float, float]], drawn_as: Mapping[Entrant, Look]
) -> None:
    from matplotlib.ticker import LogLocator

    front = undominated(points)
    steps = np.array([points[entrant] for entrant in front]).reshape(-1, 2)
    axes.step(steps[:, 0], steps[:, 1], where="post", color=STAND_INS["muted"], linewidth=1, linestyle=(0, (3, 2)))
    for entrant, point in points.items():
        look = drawn_as[entrant]
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
    points: Mapping[Entrant, tuple[float, float]],
    drawn_as: Mapping[Entrant, Look],
    front: Sequence[Entrant],
) -> None:
    """A name right of each point, every one on a line of its own."""
    low, high = axes.get_ylim()
    wanted = np.array([(value - low) / (high - low) for _, value in points.values()])
    moves = (spread_out(wanted, LABEL_POINTS / _height_points(axes)) - wanted) * _height_points(axes)
    for (entrant, point), move in zip(points.items(), moves.tolist(), strict=True):
        look = drawn_as[entrant]
        note = axes.annotate(
            short_name(entrant),
            point,
            xytext=(15, move),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=STAND_INS["ink" if entrant in front else "muted"],
            arrowprops={"arrowstyle": "-", "color": look.stand_in, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        )
        note.set_gid(look.gid)


def _name_lines(axes: "Axes", ends: Mapping[Entrant, float], drawn_as: Mapping[Entrant, Look]) -> None:
    """The names right of the axes, each joined to the end of its line, none on top of another."""
    low, high = axes.get_ylim()
    heights = {entrant: (end - low) / (high - low) for entrant, end in ends.items() if math.isfinite(end)}
    placed_apart = spread_out(list(heights.values()), LABEL_POINTS / _height_points(axes))
    for entrant, placed in zip(heights, placed_apart.tolist(), strict=True):
        look = drawn_as[entrant]
        where = {"transform": axes.transAxes, "clip_on": False, "gid": look.gid}
        axes.plot((1.0, 1.035), (heights[entrant], placed), color=look.stand_in, linewidth=0.8, **where)
        axes.text(1.045, placed, short_name(entrant), va="center", color=look.stand_in, fontsize=9.5, **where)


def _height_points(axes: "Axes") -> float:
    return float(72 * axes.figure.get_figheight() * axes.get_position().height)


def short_name(entrant: Entrant) -> str:
    """The name, cut in the middle where it is too long for a figure."""
    name, resolution = entrant.peer, f" {entrant.resolution}" if entrant.resolution else ""
    room = NAME_SIGNS - len(resolution)
    return (name if len(name) <= room else f"{name[: room - 1]}…") + resolution


def _figure(
    draw: Callable[["Figure"], None], key: str, description: str, n_labels: int, *, width: float = WIDTH_INCHES
) -> str:
    """A figure with room for names at its right, high enough for all of them."""

    def draw_with_margins(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.66 / width, right=1 - NAMES_INCHES / width)
        draw(figure)

    height = max(LEAST_HEIGHT_INCHES, INCHES_A_LABEL * n_labels + 0.6)
    return themed_svg(draw_with_margins, key, description, inches=(width, height))
