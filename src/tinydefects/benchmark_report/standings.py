"""The leaderboard as a page shows it: one row an entrant, one cell a figure, and the same as a table to download."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.boards import Board, Entrant
from tinydefects.benchmark.run_record import CostSheet
from tinydefects.benchmark_report.entrants import StoredResult
from tinydefects.metrics.hit_miss import SizeFit, fit_sizes
from tinydefects.metrics.leaderboard import BEST, LOWER, NOT_TOLD, Leaderboard, Standing
from tinydefects.metrics.records import Interval
from tinydefects.metrics.size import QUARTILES
from tinydefects.report import format_rate

HEADLINE_LIMIT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One number of the table; `low_share`, `share` and `high_share` place its interval within those of its column."""

    value: float
    interval: Interval
    verdict: str
    seed_spread: float
    low_share: float
    share: float
    high_share: float

    @property
    def is_best(self) -> bool:
        return self.verdict == BEST

    @property
    def may_be_best(self) -> bool:
        """Not the best, but these images do not suffice to say so."""
        return self.verdict == NOT_TOLD


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standings:
    """A ranked board.

    Attributes:
        ranked: its entrants, the best at the smallest defects first.
        fits: probability of detection against size, defects of all shared categories and the first seed taken together,
            each found or missed at its own category's threshold.
        milliseconds: for one image, from file to map, mean over the shared categories; missing where it was not
            measured in every one.
    """

    board: Board[StoredResult]
    leaderboard: Leaderboard
    limits: tuple[float, ...]
    ranked: tuple[Entrant, ...]
    fits: Mapping[Entrant, SizeFit]
    milliseconds: Mapping[Entrant, float]

    def cells(self, figure: str) -> dict[Entrant, Cell]:
        """The cells of one column by entrant."""
        by_name = {standing.entrant: standing for standing in self.leaderboard.of(figure)}
        ends = [(one.interval.low, one.interval.high, one.value) for one in by_name.values()]
        finite = [end for three in ends for end in three if math.isfinite(end)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        return {entrant: _cell(by_name[entrant.name], low, max(high - low, 1e-9)) for entrant in self.ranked}

    def by_category(self, figure: str) -> dict[Entrant, Mapping[str, float]]:
        """The figure of each entrant in each category."""
        by_name = {standing.entrant: standing.by_category for standing in self.leaderboard.of(figure)}
        return {entrant: by_name[entrant.name] for entrant in self.ranked}

    def headline(self) -> str:
        """Who comes out best at the smallest quarter of the defects, and how many others may be as good."""
        limit = headline_limit(self.limits)
        first, *others = self.leaderboard.of(f"aupro_Q1@{limit:g}")
        if first.verdict != BEST:
            return f"No entrant has a number for the smallest quarter of the defects at {format_rate(limit)} FPR."
        start = (
            f"On the smallest quarter of the defects {first.entrant} scores highest: "
            f"AUPRO@{format_rate(limit)} {first.value:.3f}"
        )
        n_close, n_lower = (sum(one.verdict == verdict for one in others) for verdict in (NOT_TOLD, LOWER))
        if not n_close + n_lower:
            return f"{start}."
        if n_close + n_lower == 1:
            return f"{start}; the other {'cannot be told from it' if n_close else 'is measurably lower'}."
        if not n_close:
            return f"{start}; all {n_lower} others are measurably lower."
        which = f"{n_close} of {n_close + n_lower}" if n_lower else f"none of {n_close}"
        return f"{start}; {which} others {'cannot' if n_lower else 'can'} be told from it."


def rank_board(board: Board[StoredResult], *, n_resamples: int, seed: int = 0) -> Standings:
    """Compare all entrants of a board on every figure that the page shows."""
    limits = next(iter(next(iter(board.results.values())).values()))[0].evaluation.fpr_limits
    table = board.rank(figure_names(limits), n_resamples=n_resamples, seed=seed)
    by_name = {entrant.name: entrant for entrant in board.entrants}
    order = table.of(f"aupro_Q1@{headline_limit(limits):g}")
    return Standings(
        board=board,
        leaderboard=table,
        limits=limits,
        ranked=tuple(by_name[standing.entrant] for standing in order),
        fits={entrant: _pooled_fit(first_seeds(board, entrant, table.categories)) for entrant in board.entrants},
        milliseconds={
            entrant: float(np.mean([sheet.end_to_end.median_ms for sheet in sheets]))
            for entrant in board.entrants
            if (sheets := cost_sheets(board, entrant, table.categories))
        },
    )


def figure_names(limits: Sequence[float]) -> list[str]:
    """Every figure of the page."""
    by_limit = [f"{stem}@{limit:g}" for limit in limits for stem in (*(f"aupro_{one}" for one in QUARTILES), "rho")]
    return [*by_limit, "image_auroc"]


def headline_limit(limits: Sequence[float]) -> float:
    """The FPR limit that single numbers are quoted at, 5 % if there is one."""
    return HEADLINE_LIMIT if HEADLINE_LIMIT in limits else limits[0]


def first_seeds(board: Board[StoredResult], entrant: Entrant, categories: Sequence[str]) -> list[StoredResult]:
    """The result of the first seed in each category."""
    return [board.results[entrant][category][0] for category in categories]


def timed_categories(board: Board[StoredResult], categories: Sequence[str]) -> tuple[str, ...]:
    """The categories in which most entrants were timed: times on other images cannot be compared with theirs."""
    n_timed = {
        category: sum(any(one.run.cost for one in board.results[entrant][category]) for entrant in board.entrants)
        for category in categories
    }
    most = max(n_timed.values(), default=0)
    return tuple(category for category, n in n_timed.items() if n == most > 0)


def cost_sheets(board: Board[StoredResult], entrant: Entrant, categories: Sequence[str]) -> list[CostSheet]:
    """The cost sheet of each timed category, or none at all where one is missing."""
    sheets = []
    for category in timed_categories(board, categories):
        measured = [one.run.cost for one in board.results[entrant][category] if one.run.cost]
        if not measured:
            return []
        sheets.append(measured[0])
    return sheets


def hits_by_diameter(stored: Sequence[StoredResult]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n,) diameters in px and (n,) whether each defect is found; results without a threshold count nothing."""
    pairs = [
        (defect.diameter_px, hit)
        for one in stored
        for defect, hit in zip(one.evaluation.defects, one.evaluation.detectability.hits, strict=False)
    ]
    return np.array([diameter for diameter, _ in pairs]), np.array([hit for _, hit in pairs], dtype=bool)


def csv_link(standings: Sequence[Standings]) -> str:
    """Every standing as comma-separated values inside a URI."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("value", "interval_low", "interval_high", "seed_spread", "n_seeds", "difference_to_best", "corrected_p")
    writer.writerow(
        ["entrant", "peer", "resolution_px", "figure", *names, "verdict", "categories", "ms_per_image", "board"]
    )
    for one in standings:
        by_name = {entrant.name: entrant for entrant in one.ranked}
        for standing in one.leaderboard.standings:
            writer.writerow(_csv_row(one, by_name[standing.entrant], standing))
    return f"data:text/csv;charset=utf-8,{quote(buffer.getvalue())}"


def _csv_row(standings: Standings, entrant: Entrant, standing: Standing) -> list[object]:
    numbers = (
        standing.value,
        standing.interval.low,
        standing.interval.high,
        standing.seed_spread,
        standing.n_seeds,
        standing.difference_to_best,
        standing.corrected_p,
    )
    written = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
    categories = " ".join(standings.leaderboard.categories)
    milliseconds = standings.milliseconds.get(entrant)
    known = "" if milliseconds is None else f"{milliseconds:.4g}"
    head = [entrant.name, entrant.peer, entrant.resolution or "", standing.figure]
    return [*head, *written, standing.verdict, categories, known, standings.board.name]


def _cell(standing: Standing, low: float, span: float) -> Cell:
    ends = (standing.interval.low, standing.value, standing.interval.high)
    shares = [(end - low) / span for end in ends]
    return Cell(
        value=standing.value,
        interval=standing.interval,
        verdict=standing.verdict,
        seed_spread=standing.seed_spread,
        low_share=shares[0],
        share=shares[1],
        high_share=shares[2],
    )


def _pooled_fit(stored: Sequence[StoredResult]) -> SizeFit:
    return fit_sizes(*hits_by_diameter(stored))
