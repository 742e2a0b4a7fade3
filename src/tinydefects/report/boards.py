"""A board of a benchmark as the page shows it: its table, pictures by false-positive limit, curves and costs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.benchmark.board import MethodAt, beside
from tinydefects.benchmark.run_folder import StoredResult
from tinydefects.data.json_files import nan_to_null
from tinydefects.metrics.detectability import Detectability
from tinydefects.metrics.groups import QUARTILES
from tinydefects.report.figures import INCHES_A_LABEL, WIDE_INCHES, mean_pro_curve, pod_figure, pro_figure, size_figure
from tinydefects.report.leaderboard import Cell, CostRow, RankedBoard, cost_rows, first_seeds, metric_names
from tinydefects.report.surface_figure import MOST_PANELS, surface_of, surface_svg
from tinydefects.report.theme import LABEL_POINTS, STAND_INS, Look, height_points, short_name, spread_out, themed_svg
from tinydefects.report.words import rate_in_words

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """PRO and POD of all methods, of one category or of all categories of a board together.

    The surface over size and contrast is drawn once a board, of what comes first there: it says little of few defects.
    """

    name: str
    pro_svg: str
    pod_svg: str
    surface_svg: str
    surface_remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoardView:
    """One board as the page shows it: columns of the table by metric, drawings by FPR limit.

    `beside` is what stands beside a common size: by name the method at its own size, with its cells by metric.
    """

    key: str
    ranked: RankedBoard
    columns: Mapping[str, Mapping[MethodAt, Cell]]
    size_svgs: Mapping[float, str]
    cost_svgs: Mapping[float, str]
    costs: tuple[CostRow, ...]
    curves: tuple[Curves, ...]
    heat: str
    beside: Mapping[str, tuple[MethodAt, Mapping[str, Cell]]]

    @property
    def unmeasured(self) -> tuple[MethodAt, ...]:
        """Methods whose time is not known in every timed category."""
        return tuple(one for one in self.ranked.methods if one not in self.ranked.costs)


@dataclass(frozen=True, slots=True, kw_only=True)
class MostFound:
    """Who finds the largest share of the defects of the first board's shared categories, all seeds together."""

    method: MethodAt
    share: float
    n_defects: int


def most_found(ranked: RankedBoard) -> MostFound:
    """The method that finds most, the first of the board among equals."""
    categories = ranked.leaderboard.categories
    shares = ranked.board.found_shares(categories)
    method = max(ranked.methods, key=lambda one: np.nan_to_num(shares[one], nan=-1.0))
    once = first_seeds(ranked.board, method, categories)
    n_defects = sum(one.evaluation.overall.n_defects for one in once)
    return MostFound(method=method, share=shares[method], n_defects=n_defects)


def shared_rate(stored: Sequence[StoredResult]) -> str:
    """At what share of false alarms defects count as found, each category's good images once, whatever the method."""
    most: dict[str, Detectability] = {}
    all_alike = True
    for one in stored:
        found = one.evaluation.detectability
        known = most.setdefault(one.evaluation.category, found)
        all_alike &= found.n_alarming_images == known.n_alarming_images
        if found.n_alarming_images > known.n_alarming_images:
            most[one.evaluation.category] = found
    return f"{'' if all_alike else 'up to '}{rate_in_words(*most.values())}"


def make_view(
    ranked: RankedBoard, drawn_as: Mapping[MethodAt, Look], key: str, among: Sequence[RankedBoard] = ()
) -> BoardView:
    """All that the page shows of a board, drawn; `key` is the part of the page it stands in, `among` are all boards."""
    limits = ranked.limits
    by_metric = {name: ranked.by_category(name) for name in metric_names(limits)}
    categories = ranked.leaderboard.categories
    values = {
        name: [[round(by_category.get(one, np.nan), 4) for one in categories] for by_category in by_method.values()]
        for name, by_method in by_metric.items()
    }
    return BoardView(
        key=key,
        ranked=ranked,
        columns={name: ranked.cells(name) for name in (*metric_names(limits), *ranked.board.own_metrics)},
        size_svgs={limit: size_figure(ranked, limit, drawn_as, f"{key}-size-{limit:g}") for limit in limits},
        cost_svgs={limit: cost_figure(ranked, limit, drawn_as, f"{key}-cost-{limit:g}") for limit in limits}
        if ranked.costs
        else {},
        costs=cost_rows(ranked),
        curves=tuple(_curves(ranked, drawn_as, key)),
        heat=json.dumps(nan_to_null(values), separators=(",", ":")).replace("<", "\\u003c"),
        beside=_beside(ranked, among),
    )


def _beside(ranked: RankedBoard, among: Sequence[RankedBoard]) -> dict[str, tuple[MethodAt, Mapping[str, Cell]]]:
    found = beside([(one.board, one.leaderboard) for one in among], ranked.board)
    own = next((one for one in among if found and one.leaderboard is found[1]), None)
    if found is None or own is None:
        return {}
    columns = {name: own.cells(name) for name in metric_names(own.limits)}
    return {name: (method, {metric: of[method] for metric, of in columns.items()}) for name, method in found[0].items()}


def _curves(ranked: RankedBoard, drawn_as: Mapping[MethodAt, Look], key: str) -> list[Curves]:
    """Those of all shared categories together, where there are several, then of each category."""
    board, shared = ranked.board, ranked.leaderboard.categories
    each = [(category, (category,)) for category in sorted({one for of in board.results.values() for one in of})]
    together = [(f"all {len(shared)} categories", shared)] if len(shared) > 1 else []
    drawn = []
    for number, (name, categories) in enumerate([*together, *each]):
        taking_part = [one for one in ranked.methods if board.results[one].keys() >= set(categories)]
        stored = {one: first_seeds(board, one, categories) for one in taking_part}
        curves = {one: mean_pro_curve(results, ranked.limits) for one, results in stored.items()}
        surface, remarks = ("", ()) if number else _surfaces(stored, f"{key}-surface", name)
        drawn.append(
            Curves(
                name=name,
                pro_svg=pro_figure(curves, ranked.limits, drawn_as, f"{key}-pro-{number}", name),
                pod_svg=pod_figure(stored, drawn_as, f"{key}-pod-{number}", name),
                surface_svg=surface,
                surface_remarks=remarks,
            )
        )
    return drawn


def _surfaces(stored: Mapping[MethodAt, Sequence[StoredResult]], key: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The surfaces of the first methods, side by side, and what is to be remarked of each."""
    first = list(stored.items())[:MOST_PANELS]
    found = {
        f"{method.name} {method.resolution or ''}".strip(): surface_of([one.evaluation for one in results])
        for method, results in first
    }
    panels = {method: surface for method, surface in found.items() if surface is not None}
    remarks = tuple(f"{method}: {one}" for method, surface in panels.items() for one in surface.fit.remarks)
    return surface_svg(panels, key, f"Detection by size and contrast, {name}"), remarks
