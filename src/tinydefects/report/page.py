"""The benchmark page: one HTML file that needs no server and no network.

Pictures of defects are inside it while they are few; many lie in a folder beside it, which must travel with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinydefects.benchmark.board import NOT_TOLD_MARK, MethodAt, boards, headline_limit
from tinydefects.benchmark.run_folder import read_failures
from tinydefects.benchmark.stored import StoredResult, read_benchmark, shared_facts
from tinydefects.data.json_files import nan_to_null
from tinydefects.data.pixels import write_whole
from tinydefects.methods.stages import STAGES
from tinydefects.metrics.detectability import Detectability
from tinydefects.metrics.size import QUARTILES
from tinydefects.metrics.statistics.comparison import N_RESAMPLES
from tinydefects.report.cost_plot import cost_figure
from tinydefects.report.costs import CostRow, cost_rows
from tinydefects.report.crops import png_data_uri
from tinydefects.report.evaluation_page import DETECTION_RULES, rate_in_words, read_template
from tinydefects.report.figures import mean_pro_curve, pod_figure, pro_figure, size_figure
from tinydefects.report.gallery import cards, gallery_json
from tinydefects.report.ranked_board import (
    Cell,
    RankedBoard,
    csv_link,
    figure_names,
    first_seeds,
    rank_board,
)
from tinydefects.report.strips import RAREST, StripStore, colour_shares
from tinydefects.report.theme import Look, looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """PRO and POD of all methods, of one category or of all categories of a board together."""

    name: str
    pro_svg: str
    pod_svg: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoardView:
    """One board as the page shows it: columns of the table by the figure's name, drawings by FPR limit."""

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


def write_benchmark_report(
    folder: Path, path: Path | str, *, title: str = "tinydefects benchmark", n_resamples: int = N_RESAMPLES
) -> Path:
    """Read the results of a benchmark, write the page and return its path.

    Args:
        folder: where `tinydefects benchmark` put its results.
        path: the HTML file, replaced whole; pictures lie in `<name>_files` beside it unless they are few.
        title: heading and browser title.
        n_resamples: draws of the images behind intervals and verdicts.

    Raises:
        ResultError: no results of a benchmark, one that cannot be read, or results of different protocols.
        TinyDefectsError: a path that cannot be written.
    """
    target = Path(path)
    stored = read_benchmark(folder)
    every_board = boards(stored)
    ranked = [rank_board(board, n_resamples=n_resamples) for board in every_board]
    in_order = list(dict.fromkeys(method for one in ranked for method in one.methods))
    methods = [*in_order, *sorted({one.method for one in stored} - set(in_order))]
    drawn_as = looks(methods)
    store = StripStore(target)
    first = stored[0].evaluation
    page = read_template("benchmark.html.jinja").render(
        title=title,
        methods=methods,
        looks=drawn_as,
        views=[_view(one, drawn_as, f"board-{number}") for number, one in enumerate(ranked)],
        limits=first.fpr_limits,
        headline_limit=headline_limit(first.fpr_limits),
        quartiles=QUARTILES,
        stages=STAGES,
        not_told_mark=NOT_TOLD_MARK,
        stored=stored,
        evaluations={one.evaluation.category: one.evaluation for one in stored},
        failures=read_failures(folder),
        facts=shared_facts(one.provenance for one in stored),
        most=_most_found(ranked[0]),
        rate=_rate_in_words(stored),
        detection_rule=DETECTION_RULES[first.detectability.rule],
        gallery=gallery_json(cards(stored, methods), methods, store),
        colour_scale=png_data_uri(colour_shares(np.geomspace(1, RAREST, 256)[None])),
        csv_link=csv_link(ranked),
    )
    write_whole(target, lambda file: file.write(page.encode("utf-8")))
    store.remove_old()
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class MostFound:
    """Who finds the largest share of the defects of the first board's shared categories, all seeds together."""

    method: MethodAt
    share: float
    n_defects: int


def _most_found(ranked: RankedBoard) -> MostFound:
    categories = ranked.leaderboard.categories
    shares = ranked.board.found_shares(categories)
    method = max(ranked.methods, key=lambda one: np.nan_to_num(shares[one], nan=-1.0))
    once = first_seeds(ranked.board, method, categories)
    n_defects = sum(one.evaluation.overall.n_defects for one in once)
    return MostFound(method=method, share=shares[method], n_defects=n_defects)


def _rate_in_words(stored: Sequence[StoredResult]) -> str:
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


def _view(ranked: RankedBoard, drawn_as: Mapping[MethodAt, Look], key: str) -> BoardView:
    limits = ranked.limits
    figures = {name: ranked.by_category(name) for name in figure_names(limits)}
    categories = ranked.leaderboard.categories
    values = {
        name: [[round(by_category.get(one, np.nan), 4) for one in categories] for by_category in figure.values()]
        for name, figure in figures.items()
    }
    return BoardView(
        key=key,
        ranked=ranked,
        columns={name: ranked.cells(name) for name in figure_names(limits)},
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
