"""A board of a benchmark as the page shows it: its table, pictures by false-positive limit, curves and costs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinydefects.benchmark.board import MethodAt
from tinydefects.benchmark.stored import StoredResult
from tinydefects.data.json_files import nan_to_null
from tinydefects.metrics.detectability import Detectability
from tinydefects.report.costs import CostRow, cost_figure, cost_rows
from tinydefects.report.figures import mean_pro_curve, pod_figure, pro_figure, size_figure
from tinydefects.report.leaderboard import Cell, RankedBoard, first_seeds, metric_names
from tinydefects.report.theme import Look
from tinydefects.report.words import rate_in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """PRO and POD of all methods, of one category or of all categories of a board together."""

    name: str
    pro_svg: str
    pod_svg: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoardView:
    """One board as the page shows it: columns of the table by metric, drawings by FPR limit."""

    key: str
    ranked: RankedBoard
    columns: Mapping[str, Mapping[MethodAt, Cell]]
    size_svgs: Mapping[float, str]
    cost_svgs: Mapping[float, str]
    costs: tuple[CostRow, ...]
    curves: tuple[Curves, ...]
    heat: str

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


def make_view(ranked: RankedBoard, drawn_as: Mapping[MethodAt, Look], key: str) -> BoardView:
    """All that the page shows of a board, drawn; `key` is the part of the page it stands in."""
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
        columns={name: ranked.cells(name) for name in metric_names(limits)},
        size_svgs={limit: size_figure(ranked, limit, drawn_as, f"{key}-size-{limit:g}") for limit in limits},
        cost_svgs={limit: cost_figure(ranked, limit, drawn_as, f"{key}-cost-{limit:g}") for limit in limits}
        if ranked.costs
        else {},
        costs=cost_rows(ranked),
        curves=tuple(_curves(ranked, drawn_as, key)),
        heat=json.dumps(nan_to_null(values), separators=(",", ":")).replace("<", "\\u003c"),
    )


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
        drawn.append(
            Curves(
                name=name,
                pro_svg=pro_figure(curves, ranked.limits, drawn_as, f"{key}-pro-{number}", name),
                pod_svg=pod_figure(stored, drawn_as, f"{key}-pod-{number}", name),
            )
        )
    return drawn
