"""The benchmark page: one HTML file that needs no server and no network.

Pictures of defects are inside it while they are few; many lie in a folder beside it, which must travel with it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinydefects.benchmark.boards import Entrant, boards
from tinydefects.benchmark.result import nan_to_null
from tinydefects.benchmark.run_folder import read_failures
from tinydefects.benchmark.stages import STAGES
from tinydefects.benchmark_report.cost_plot import cost_figure
from tinydefects.benchmark_report.costs import CostRow, cost_rows
from tinydefects.benchmark_report.entrants import StoredResult, read_benchmark, shared_facts
from tinydefects.benchmark_report.gallery import cards, gallery_json
from tinydefects.benchmark_report.looks import Look, looks
from tinydefects.benchmark_report.plots import mean_pro_curve, pod_figure, pro_figure, size_figure
from tinydefects.benchmark_report.standings import (
    Cell,
    Standings,
    csv_link,
    figure_names,
    first_seeds,
    headline_limit,
    hits_by_diameter,
    rank_board,
)
from tinydefects.benchmark_report.strips import RAREST, StripStore, colour_shares
from tinydefects.metrics.comparison import N_RESAMPLES
from tinydefects.metrics.detectability import Detectability
from tinydefects.metrics.size import QUARTILES
from tinydefects.pixels import write_whole
from tinydefects.report import DETECTION_RULES, rate_in_words, read_template
from tinydefects.report_crops import png_data_uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """PRO and POD of all entrants, of one category or of all categories of a board together."""

    name: str
    pro_svg: str
    pod_svg: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BoardView:
    """One board as the page shows it: columns of the table by the figure's name, drawings by FPR limit."""

    key: str
    standings: Standings
    columns: Mapping[str, Mapping[Entrant, Cell]]
    size_svgs: Mapping[float, str]
    cost_svgs: Mapping[float, str]
    costs: tuple[CostRow, ...]
    curves: tuple[Curves, ...]
    heat: str

    @property
    def unmeasured(self) -> tuple[Entrant, ...]:
        """Entrants whose time is not known in every timed category."""
        return tuple(one for one in self.standings.ranked if one not in self.standings.milliseconds)


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
    standings = [rank_board(board, n_resamples=n_resamples) for board in every_board]
    ranked = list(dict.fromkeys(entrant for one in standings for entrant in one.ranked))
    entrants = [*ranked, *sorted({one.entrant for one in stored} - set(ranked))]
    drawn_as = looks(entrants)
    store = StripStore(target)
    first = stored[0].evaluation
    page = read_template("benchmark.html.jinja").render(
        title=title,
        entrants=entrants,
        looks=drawn_as,
        views=[_view(one, drawn_as, f"board-{number}") for number, one in enumerate(standings)],
        limits=first.fpr_limits,
        headline_limit=headline_limit(first.fpr_limits),
        quartiles=QUARTILES,
        stages=STAGES,
        stored=stored,
        evaluations={one.evaluation.category: one.evaluation for one in stored},
        failures=read_failures(folder),
        facts=shared_facts(one.provenance for one in stored),
        most=_most_found(standings[0]),
        rate=_rate_in_words(stored),
        detection_rule=DETECTION_RULES[first.detectability.rule],
        gallery=gallery_json(cards(stored, entrants), entrants, store),
        colour_scale=png_data_uri(colour_shares(np.geomspace(1, RAREST, 256)[None])),
        csv_link=csv_link(standings),
    )
    write_whole(target, lambda file: file.write(page.encode("utf-8")))
    store.remove_old()
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class MostFound:
    """Who finds most defects of the first board's shared categories, with the first seed."""

    entrant: Entrant
    n_found: int
    n_defects: int


def _most_found(standings: Standings) -> MostFound:
    found = []
    for entrant in standings.ranked:
        _, hits = hits_by_diameter(first_seeds(standings.board, entrant, standings.leaderboard.categories))
        found.append(MostFound(entrant=entrant, n_found=int(np.count_nonzero(hits)), n_defects=hits.size))
    return max(found, key=lambda one: one.n_found)


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


def _view(standings: Standings, drawn_as: Mapping[Entrant, Look], key: str) -> BoardView:
    limits = standings.limits
    figures = {name: standings.by_category(name) for name in figure_names(limits)}
    categories = standings.leaderboard.categories
    values = {
        name: [[round(by_category.get(one, np.nan), 4) for one in categories] for by_category in figure.values()]
        for name, figure in figures.items()
    }
    return BoardView(
        key=key,
        standings=standings,
        columns={name: standings.cells(name) for name in figure_names(limits)},
        size_svgs={limit: size_figure(standings, limit, drawn_as, f"{key}-size-{limit:g}") for limit in limits},
        cost_svgs={limit: cost_figure(standings, limit, drawn_as, f"{key}-cost-{limit:g}") for limit in limits}
        if standings.milliseconds
        else {},
        costs=cost_rows(standings),
        curves=tuple(_curves(standings, drawn_as, key)),
        heat=json.dumps(nan_to_null(values), separators=(",", ":")).replace("<", "\\u003c"),
    )


def _curves(standings: Standings, drawn_as: Mapping[Entrant, Look], key: str) -> list[Curves]:
    """Those of all shared categories together, where there are several, then of each category."""
    board, shared = standings.board, standings.leaderboard.categories
    each = [(category, (category,)) for category in sorted({one for of in board.results.values() for one in of})]
    together = [(f"all {len(shared)} categories", shared)] if len(shared) > 1 else []
    drawn = []
    for number, (name, categories) in enumerate([*together, *each]):
        taking_part = [one for one in standings.ranked if board.results[one].keys() >= set(categories)]
        stored = {one: first_seeds(board, one, categories) for one in taking_part}
        curves = {one: mean_pro_curve(results, standings.limits) for one, results in stored.items()}
        drawn.append(
            Curves(
                name=name,
                pro_svg=pro_figure(curves, standings.limits, drawn_as, f"{key}-pro-{number}", name),
                pod_svg=pod_figure(stored, drawn_as, f"{key}-pod-{number}", name),
            )
        )
    return drawn
