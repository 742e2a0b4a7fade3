"""The leaderboard as a page shows it: one row a method, one cell a metric, and the same as a table to download."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.board import (
    Board,
    MethodAt,
    headline_limit,
    headline_rows,
    milliseconds,
    three_digits,
    timed_sheets,
)
from tinydefects.benchmark.run_folder import StoredResult
from tinydefects.methods.method import STAGES
from tinydefects.metrics.groups import QUARTILES
from tinydefects.metrics.hit_miss import SizeFit, fit_sizes
from tinydefects.metrics.records import PART_AUROC, Interval
from tinydefects.metrics.statistics.leaderboard import BEST, LOWER, NOT_TOLD, Leaderboard, LeaderboardRow
from tinydefects.report.words import format_rate
from tinydefects.results.protocol import CostSheet

MEMORY_HEADS = ("peak_memory_mb", "teacher_mb", "own_mb")
COST_HEADS = (*(f"{stage}_ms" for stage in STAGES), "rest_ms", "best_batch_ms_per_image", *MEMORY_HEADS)

OF_PARTS = "the AUROC of whole parts, each scored by the highest image score of its views"
OF_SATURATED = (
    "the area under the saturated per-region overlap, over the same false-positive rates as AUPRO: of a defect as it "
    "was outlined, so many pixels count as all of it as its saturation says"
)


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

    @property
    def own_words(self) -> list[str]:
        """What the metrics are that this dataset has beside those of all, a sentence each."""
        return [
            f"{head} is {OF_PARTS if metric == PART_AUROC else OF_SATURATED}."
            for metric, head in self.board.own_metrics.items()
        ]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """Times in ms for one image at batch 1 unless said otherwise; the memory of the category that takes most.

    Attributes:
        stages: by name, those that the method has in every category.
        end_to_end: from file to map and score; `quartiles` its lower and upper quartile.
        best_batch_ms: at the batch size that is fastest in each category; `best_batches` are these sizes.
        n_beside: the most jobs that ran on the machine at the same time; above 0, times are upper bounds.
    """

    method: MethodAt
    stages: Mapping[str, float]
    end_to_end: float
    quartiles: tuple[float, float]
    best_batch_ms: float
    best_batches: tuple[int, ...]
    peak_memory_bytes: int
    teacher_bytes: int
    own_bytes: int
    place: str
    n_beside: int

    @property
    def rest(self) -> float:
        """What the stages leave of the whole."""
        return max(0.0, self.end_to_end - sum(self.stages.values()))

    @property
    def model_bytes(self) -> int:
        """Everything that has to be kept to predict: the shared teacher, and what the method adds to it."""
        return self.teacher_bytes + self.own_bytes


def cost_rows(ranked: RankedBoard) -> tuple[CostRow, ...]:
    """A row for each method that was measured in every timed category, the fastest first."""
    rows = [_row(method, ranked.costs[method]) for method in ranked.methods if method in ranked.costs]
    return tuple(sorted(rows, key=lambda row: row.end_to_end))


def _row(method: MethodAt, sheets: Sequence[CostSheet]) -> CostRow:
    stages = [stage for stage in STAGES if all(stage in sheet.stages for sheet in sheets)]
    best = [sheet.by_batch.get(sheet.best_batch, sheet.end_to_end).median_ms for sheet in sheets]
    return CostRow(
        method=method,
        stages={stage: _mean([sheet.stages[stage].median_ms for sheet in sheets]) for stage in stages},
        end_to_end=milliseconds(sheets),
        quartiles=(
            _mean([sheet.end_to_end.low_ms for sheet in sheets]),
            _mean([sheet.end_to_end.high_ms for sheet in sheets]),
        ),
        best_batch_ms=_mean(best),
        best_batches=tuple(sorted({sheet.best_batch for sheet in sheets})),
        peak_memory_bytes=max(sheet.peak_memory_bytes for sheet in sheets),
        teacher_bytes=max(sheet.teacher_bytes for sheet in sheets),
        own_bytes=max(sheet.method_bytes for sheet in sheets),
        place="; ".join(sorted({_place(sheet) for sheet in sheets})),
        n_beside=max(sheet.n_beside for sheet in sheets),
    )


def _place(sheet: CostSheet) -> str:
    height, width = sheet.image_size
    threads = f", {sheet.threads} thread{'s' * (sheet.threads != 1)}"
    return f"{sheet.device}{threads}, images of {height} x {width} px"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def csv_link(ranked: Sequence[RankedBoard]) -> str:
    """Every row as comma-separated values inside a URI."""
    return f"data:text/csv;charset=utf-8,{quote(csv_text(ranked))}"


def csv_text(ranked: Sequence[RankedBoard]) -> str:
    """Every row as comma-separated values: all metrics of all methods, with intervals and verdicts."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = ("value", "interval_low", "interval_high", "seed_spread", "n_seeds", "difference_to_best", "corrected_p")
    told = ("verdict", "categories", "ms_per_image", "board", "size")
    writer.writerow(["method", "resolution_px", "metric", *names, *told, *COST_HEADS])
    for one in ranked:
        by_name = {method.name: method for method in one.methods}
        costs = {row.method: _csv_costs(row) for row in cost_rows(one)}
        for row in one.leaderboard.rows:
            method = by_name[row.method]
            writer.writerow([*_csv_row(one, method, row), *costs.get(method, [""] * len(COST_HEADS))])
    return buffer.getvalue()


def _csv_costs(row: CostRow) -> list[str]:
    """As `COST_HEADS` says; nothing for a stage that the method does not have."""
    stages = [f"{row.stages[stage]:.4g}" if stage in row.stages else "" for stage in STAGES]
    sizes = (row.peak_memory_bytes, row.teacher_bytes, row.own_bytes)
    return [*stages, f"{row.rest:.4g}", f"{row.best_batch_ms:.4g}", *(f"{size / 1e6:.4g}" for size in sizes)]


def cost_texts(ranked: RankedBoard) -> tuple[list[str], list[list[str]]]:
    """Times, memory and sizes as a table of text: its headings, and a row for each method that was timed."""
    stages = [stage for stage in STAGES if any(stage in row.stages for row in cost_rows(ranked))]
    heads = ["method", *(f"{stage} ms" for stage in stages), "rest ms", "file to map ms", "best batch ms"]
    heads += ["peak MB", "teacher MB", "own MB"]
    rows = []
    for row in cost_rows(ranked):
        times = [row.stages.get(stage, math.nan) for stage in stages]
        numbers = [*times, row.rest, row.end_to_end, row.best_batch_ms]
        numbers += [size / 1e6 for size in (row.peak_memory_bytes, row.teacher_bytes, row.own_bytes)]
        label = row.method.label if ranked.board.at_own_sizes else row.method.name
        rows.append([label, *map(three_digits, numbers)])
    return heads, rows


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
