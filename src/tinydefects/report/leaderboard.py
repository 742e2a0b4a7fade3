"""The leaderboard as a page shows it: one row a method, one cell a metric, and the same as a table to download."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import Board, MethodAt, headline_limit, headline_rows, milliseconds, timed_sheets
from tinydefects.benchmark.run_folder import StoredResult
from tinydefects.metrics.groups import QUARTILES
from tinydefects.metrics.hit_miss import SizeFit, fit_sizes
from tinydefects.metrics.records import Interval
from tinydefects.metrics.statistics.leaderboard import BEST, LOWER, NOT_TOLD, Leaderboard, LeaderboardRow
from tinydefects.report.words import format_rate
from tinydefects.results.protocol import CostSheet


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
class RankedBoard:
    """A board with its leaderboard.

    Attributes:
        methods: its methods, the best at the smallest defects first.
        fits: probability of detection against size, defects of all shared categories and the first seed taken together,
            each found or missed at its own category's threshold.
        costs: of the timed categories, by method; missing where it was not measured in every one.
    """

    board: Board[StoredResult]
    leaderboard: Leaderboard
    limits: tuple[float, ...]
    methods: tuple[MethodAt, ...]
    fits: Mapping[MethodAt, SizeFit]
    costs: Mapping[MethodAt, Sequence[CostSheet]]

    @property
    def milliseconds(self) -> dict[MethodAt, float]:
        """For one image, of the methods that were timed."""
        return {method: milliseconds(sheets) for method, sheets in self.costs.items()}

    def cells(self, metric: str) -> dict[MethodAt, Cell]:
        """The cells of one column by method."""
        by_name = {row.method: row for row in self.leaderboard.of(metric)}
        ends = [(one.interval.low, one.interval.high, one.value) for one in by_name.values()]
        finite = [end for three in ends for end in three if math.isfinite(end)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        return {method: _cell(by_name[method.name], low, max(high - low, 1e-9)) for method in self.methods}

    def by_category(self, metric: str) -> dict[MethodAt, Mapping[str, float]]:
        """The metric of each method in each category."""
        by_name = {row.method: row.by_category for row in self.leaderboard.of(metric)}
        return {method: by_name[method.name] for method in self.methods}

    def headline(self) -> str:
        """Who comes out best at the smallest quarter of the defects, and how many others may be as good."""
        limit = headline_limit(self.limits)
        first, *others = headline_rows(self.leaderboard)
        if first.verdict != BEST:
            return f"No method has a number for the smallest quarter of the defects at {format_rate(limit)} FPR."
        start = (
            f"On the smallest quarter of the defects {first.method} scores highest: "
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


def rank_board(board: Board[StoredResult], *, n_resamples: int, seed: int = 0) -> RankedBoard:
    """Compare all methods of a board on every metric that the page shows."""
    limits = next(iter(next(iter(board.results.values())).values()))[0].evaluation.fpr_limits
    table = board.rank(metric_names(limits), n_resamples=n_resamples, seed=seed)
    by_name = {method.name: method for method in board.methods}
    return RankedBoard(
        board=board,
        leaderboard=table,
        limits=limits,
        methods=tuple(by_name[row.method] for row in headline_rows(table)),
        fits={method: _pooled_fit(first_seeds(board, method, table.categories)) for method in board.methods},
        costs=timed_sheets(board.cost_sheets(table.categories)),
    )


def metric_names(limits: Sequence[float]) -> list[str]:
    """Every metric of the page."""
    by_limit = [f"{stem}@{limit:g}" for limit in limits for stem in (*(f"aupro_{one}" for one in QUARTILES), "rho")]
    return [*by_limit, "image_auroc"]


def first_seeds(board: Board[StoredResult], method: MethodAt, categories: Sequence[str]) -> list[StoredResult]:
    """The result of the first seed in each category."""
    return [board.results[method][category][0] for category in categories]


def hits_by_diameter(stored: Sequence[StoredResult]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(n,) diameters in px and (n,) whether each defect is found; results without a threshold count nothing."""
    pairs = [
        (defect.diameter_px, hit)
        for one in stored
        for defect, hit in zip(one.evaluation.defects, one.evaluation.detectability.hits, strict=False)
    ]
    return np.array([diameter for diameter, _ in pairs]), np.array([hit for _, hit in pairs], dtype=bool)


def csv_link(ranked: Sequence[RankedBoard]) -> str:
    """Every row as comma-separated values inside a URI."""
    return f"data:text/csv;charset=utf-8,{quote(csv_text(ranked))}"


def csv_text(ranked: Sequence[RankedBoard]) -> str:
    """Every row as comma-separated values: all metrics of all methods, with intervals and verdicts."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("value", "interval_low", "interval_high", "seed_spread", "n_seeds", "difference_to_best", "corrected_p")
    writer.writerow(
        ["method", "resolution_px", "metric", *names, "verdict", "categories", "ms_per_image", "board", "size"]
    )
    for one in ranked:
        by_name = {method.name: method for method in one.methods}
        for row in one.leaderboard.rows:
            writer.writerow(_csv_row(one, by_name[row.method], row))
    return buffer.getvalue()


def _csv_row(ranked: RankedBoard, method: MethodAt, row: LeaderboardRow) -> list[object]:
    numbers = (
        row.value,
        row.interval.low,
        row.interval.high,
        row.seed_spread,
        row.n_seeds,
        row.difference_to_best,
        row.corrected_p,
    )
    written = ["" if math.isnan(number) else f"{number:.6g}" for number in numbers]
    categories = " ".join(ranked.leaderboard.categories)
    sheets = ranked.costs.get(method)
    known = f"{milliseconds(sheets):.4g}" if sheets else ""
    head = [method.name, method.resolution or "", row.metric]
    return [
        *head,
        *written,
        row.verdict,
        categories,
        known,
        ranked.board.name,
        "own" if ranked.board.at_own_sizes else "common",
    ]


def _cell(row: LeaderboardRow, low: float, span: float) -> Cell:
    ends = (row.interval.low, row.value, row.interval.high)
    shares = [(end - low) / span for end in ends]
    return Cell(
        value=row.value,
        interval=row.interval,
        verdict=row.verdict,
        seed_spread=row.seed_spread,
        low_share=shares[0],
        share=shares[1],
        high_share=shares[2],
    )


def _pooled_fit(stored: Sequence[StoredResult]) -> SizeFit:
    return fit_sizes(*hits_by_diameter(stored))
