"""The tables of docs/results.md, from results/benchmark/summary.json; `runs/tables.py` puts them in their places.

Bold is the best of a column; an equals sign marks who cannot be told from it (step-down maximum over all pairs, 5 %).
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from tinydefects.benchmark.board import NOT_TOLD_MARK, found_share, headline_rows, milliseconds, timed_sheets
from tinydefects.benchmark.summary import Row, Summary, read_summary
from tinydefects.methods.method import STAGES
from tinydefects.metrics.statistics.leaderboard import BEST, NOT_TOLD, Leaderboard, LeaderboardRow
from tinydefects.results.protocol import NO_RESOLUTION, CostSheet, Spread

SUMMARY = Path(__file__).resolve().parents[1] / "results" / "benchmark" / "summary.json"
CHECKS = SUMMARY.parents[1] / "benchmarks" / "leaderboard.json"
MISSING = "No results yet: `runs/benchmark.sh DATA`, then `python runs/summary.py benchmark/results`."
OURS = "fbft"
ABLATIONS = ("fbft_forward", "fbft_backward", "fbft_sum")
QUARTERS = {"_Q1": "Q1", "_Q2": "Q2", "_Q3": "Q3", "": "all"}
LIMITS = ("0.3", "0.1", "0.05", "0.01")
HEADLINES = {
    **{f"aupro{size}@0.05": f"@5 % {name}" for size, name in QUARTERS.items()},
    **{"rho@0.05": "ρ@5 %", "aupro@0.3": "@30 % all", "image_auroc": "image AUROC"},
}
Table = Callable[[Summary], str]


@cache
def stored() -> Summary | None:
    """The summary, where there is one."""
    return read_summary(SUMMARY) if SUMMARY.exists() else None


def when_there(table: Table) -> Callable[[], str]:
    """The table with the line that says where it comes from, or how to make its source."""

    def make() -> str:
        summary = stored()
        made = table(summary) if summary else ""
        return f"{made}\n\n{source(summary)}" if summary and made else MISSING

    return make


def source(summary: Summary) -> str:
    """The line under a table."""
    facts, protocol = summary.provenance, summary.protocol
    seeds = ", ".join(map(str, protocol.seeds))
    failed = f"{len(summary.failed)} jobs failed" if summary.failed else "no job failed"
    made = f"{facts.created[:10]}, commit {facts.commit}, seeds {seeds}, teacher {protocol.teacher}, {facts.machine}"
    where = f"protocol {summary.fingerprint}; source: `results/benchmark/summary.json`"
    return f"<sub>{len(summary.rows)} results, {failed}; {made}; {where}.</sub>"


def headline_table(summary: Summary) -> str:
    """Every method but the ablations: the dataset with most categories at the highest resolution."""
    dataset, resolution = largest_board(summary)
    board = summary.board(dataset, resolution)
    timed = board_times(summary, board, resolution)
    names = {**HEADLINES, "aupro_Q1@0.05": "AUPRO@5 % Q1"}
    lines = head(f"{dataset}, {len(board.categories)} categories, {resolution} px", [*names.values(), "ms an image"])
    for method in [name for name in by_rank(board) if name not in ABLATIONS]:
        cells = [cell(row(board, method, figure)) for figure in names]
        lines.append(line(method, [*cells, f"{timed[method]:.0f}" if method in timed else "–"]))
    sides = [(name, resolutions(summary, name)[0]) for name in datasets(summary)]
    told = [f"{name}: {losses(summary.board(name, side), side)}" for name, side in sides]
    return "\n".join([*lines, "", " ".join(told)])


def leaderboard_table(dataset: str, summary: Summary) -> str:
    """Every method with intervals, one table a resolution."""
    parts = []
    for resolution in resolutions(summary, dataset):
        board = summary.board(dataset, resolution)
        found = found_shares(summary, board, resolution)
        lines = head(f"AUPRO, {resolution} px", [*HEADLINES.values(), "± seeds", "found"])
        for method in by_rank(board):
            cells = [with_interval(row(board, method, figure)) for figure in HEADLINES]
            spread = row(board, method, "aupro@0.05").seed_spread
            lines.append(line(method, [*cells, number(spread), f"{100 * found[method]:.0f} %"]))
        parts.append("\n".join([*lines, "", losses(board, resolution)]))
    return "\n\n".join(parts)


def limits_table(dataset: str, summary: Summary) -> str:
    """AUPRO of the smallest quarter and of all defects at every limit, at the highest resolution."""
    if dataset not in datasets(summary):
        return ""
    resolution = resolutions(summary, dataset)[0]
    board = summary.board(dataset, resolution)
    figures = [f"aupro{size}@{limit}" for limit in LIMITS for size in ("_Q1", "")]
    titles = [f"@{100 * float(limit):g} % {name}" for limit in LIMITS for name in ("Q1", "all")]
    lines = head(f"AUPRO, {resolution} px", titles)
    lines += [line(method, [cell(row(board, method, figure)) for figure in figures]) for method in by_rank(board)]
    return "\n".join(lines)


def ablation_table(summary: Summary) -> str:
    """FBFT beside its parts, tested among themselves."""
    parts = []
    for one in summary.boards:
        if one.family == OURS and not one.at_own_sizes:
            lines = head(f"{one.dataset}, {one.resolution} px", [*HEADLINES.values()])
            for method in by_rank(one.leaderboard):
                cells = [with_interval(row(one.leaderboard, method, figure)) for figure in HEADLINES]
                lines.append(line(method, cells))
            parts.append("\n".join(lines))
    return "\n\n".join(parts)


def category_table(figure: str, summary: Summary) -> str:
    """One row a category and resolution, one column a method; bold is the highest, nothing is tested."""
    boards = [(one.resolution, one.leaderboard) for one in summary.boards if not one.family and not one.at_own_sizes]
    methods = by_rank(summary.board(*largest_board(summary)))
    lines = head("mean over seeds", methods)
    for resolution, board in boards:
        for category in board.categories:
            values = {one.method: one.by_category.get(category, math.nan) for one in board.of(figure)}
            highest = max((value for value in values.values() if value == value), default=math.nan)
            cells = [bold(number(values.get(p, math.nan)), is_best=values.get(p) == highest) for p in methods]
            lines.append(line(f"{category}, {resolution} px", cells))
    return "\n".join(lines)


def cost_table(summary: Summary) -> str:
    """What a fitted method takes for one image: medians with quartiles, stage by stage, and what it keeps."""
    sheets = costs(summary)
    columns = [*STAGES, "end to end", "best batch", "peak, MB", "keeps, MB"]
    lines = head("ms an image", columns)
    for (method, resolution), sheet in sorted(sheets.items(), key=lambda one: (-one[0][1], one[0][0])):
        stages = [f"{sheet.stages[name].median_ms:.1f}" if name in sheet.stages else "–" for name in STAGES]
        fastest = sheet.by_batch[sheet.best_batch]
        cells = [*stages, spread(sheet.end_to_end), f"{fastest.median_ms:.1f} ({sheet.best_batch})"]
        cells += [f"{sheet.peak_memory_bytes / 1e6:,.0f}", f"{sheet.method_bytes / 1e6:.1f}"]
        lines.append(line(f"{method}, {resolution} px" if resolution else method, cells))
    return "\n".join([*lines, "", machine_line(list(sheets.values()))])


def machine_line(sheets: Sequence[CostSheet]) -> str:
    """Under which circumstances the times were taken."""
    if not sheets:
        return "Nothing was timed."
    one = sheets[0]
    sizes = " and ".join(sorted({f"{height} x {width}" for height, width in (sheet.image_size for sheet in sheets)}))
    teacher_bytes = max(sheet.teacher_bytes for sheet in sheets)
    beside = max(sheet.n_beside for sheet in sheets)
    alone = "no other job beside" if not beside else f"up to {beside} other jobs beside: times are upper bounds"
    return (
        f"Training images of {sizes} px, {one.device}, {one.threads} thread, {one.n_warmup} passes to warm up and "
        f"{one.end_to_end.n} timed, {alone}; the teacher's {teacher_bytes / 1e6:.0f} MB are shared. Learning is the "
        "wall time of that job's first part, features and students looked up where they were known."
    )


def losses(board: Leaderboard, resolution: int) -> str:
    """Where our method is not the best."""
    parts = []
    for figure, title in HEADLINES.items():
        if OURS not in {one.method for one in board.of(figure)}:
            return ""
        own, best = row(board, OURS, figure), board.of(figure)[0]
        if own.verdict not in (BEST, NOT_TOLD):
            parts.append(f"{title} ({best.method} by {abs(own.difference_to_best):.3f})")
    categories = [c for c in board.categories if _leader(board, "aupro_Q1@0.05", c) != OURS]
    worse = f"`{OURS}` is below the best on {', '.join(parts)}" if parts else f"`{OURS}` is nowhere told from the best"
    return (
        f"At {resolution} px {worse}; another method leads on the smallest quarter (AUPRO@5 %) in {len(categories)} of "
        f"{len(board.categories)} categories."
    )


def _leader(board: Leaderboard, figure: str, category: str) -> str:
    values = {one.method: one.by_category.get(category, math.nan) for one in board.of(figure)}
    return max(values, key=lambda method: -math.inf if math.isnan(values[method]) else values[method])


def board_rows(summary: Summary, board: Leaderboard, resolution: int) -> list[Row]:
    """The results behind a leaderboard."""
    there = [row for row in summary.rows if row.resolution in (resolution, NO_RESOLUTION)]
    return [row for row in there if row.category in board.categories]


def found_shares(summary: Summary, board: Leaderboard, resolution: int) -> dict[str, float]:
    """Share of all defects that are found at the protocol's false-alarm rate, by method."""
    counts: dict[str, list[tuple[int, int]]] = {}
    for row in board_rows(summary, board, resolution):
        counts.setdefault(row.method, []).append((row.detected, row.n_defects))
    return {method: found_share(of_method) for method, of_method in counts.items()}


def board_times(summary: Summary, board: Leaderboard, resolution: int) -> dict[str, float]:
    """Milliseconds for one image, by method."""
    measured: dict[str, dict[str, CostSheet]] = {}
    for row in board_rows(summary, board, resolution):
        if row.cost is not None:
            measured.setdefault(row.method, {}).setdefault(row.category, row.cost)
    return {method: milliseconds(sheets) for method, sheets in timed_sheets(measured).items()}


def costs(summary: Summary) -> dict[tuple[str, int], CostSheet]:
    """The first sheet of each method and resolution."""
    sheets: dict[tuple[str, int], CostSheet] = {}
    for row in summary.rows:
        if row.cost is not None:
            sheets.setdefault((row.method, row.resolution), row.cost)
    return sheets


def datasets(summary: Summary) -> list[str]:
    """Those that have leaderboards, the one with most categories first."""
    boards = [one for one in summary.boards if not one.family and not one.at_own_sizes]
    return list(dict.fromkeys(one.dataset for one in sorted(boards, key=lambda one: -len(one.leaderboard.categories))))


def resolutions(summary: Summary, dataset: str) -> list[int]:
    """Of the leaderboards of a dataset at common sizes, the highest first."""
    there = {one.resolution for one in summary.boards if one.dataset == dataset and not one.at_own_sizes}
    return sorted(there, reverse=True)


def largest_board(summary: Summary) -> tuple[str, int]:
    """The dataset with most categories, at the highest resolution."""
    dataset = datasets(summary)[0]
    return dataset, resolutions(summary, dataset)[0]


def by_rank(board: Leaderboard) -> list[str]:
    """Methods, the best at the smallest quarter of the defects first."""
    return [one.method for one in headline_rows(board)]


def row(board: Leaderboard, method: str, figure: str) -> LeaderboardRow:
    """Of one method."""
    return next(one for one in board.of(figure) if one.method == method)


def cell(one: LeaderboardRow) -> str:
    """The value with its mark."""
    mark = f" {NOT_TOLD_MARK}" if one.verdict == NOT_TOLD else ""
    return bold(number(one.value), is_best=one.verdict == BEST) + mark


def with_interval(one: LeaderboardRow) -> str:
    """The value with its mark and its interval."""
    if math.isnan(one.interval.low):
        return cell(one)
    return f"{cell(one)} [{one.interval.low:.2f}, {one.interval.high:.2f}]"


def bold(text: str, *, is_best: bool) -> str:
    """Text that stands out, or not."""
    return f"**{text}**" if is_best else text


def number(value: float) -> str:
    """Three decimals, or a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def spread(one: Spread) -> str:
    """Median and quartiles."""
    return f"{one.median_ms:.1f} ({one.low_ms:.1f} – {one.high_ms:.1f})"


def head(first: str, columns: Sequence[str]) -> list[str]:
    """The two lines that begin a table."""
    return [line(first, columns), "|" + "---|" * (len(columns) + 1)]


def line(first: str, cells: Sequence[str]) -> str:
    """One line of a table."""
    return "| " + " | ".join([first, *cells]) + " |"


def checks_table() -> str:
    """What `benchmarks/leaderboard.py` came to: one row a contest."""
    if not CHECKS.exists():
        return "No results yet: `python benchmarks/leaderboard.py`."
    measured = json.loads(CHECKS.read_text())
    figures = next(iter(measured["contests"].values()))["any_lower_percent"]
    lines = head("boards, %", list(figures))
    for name, one in measured["contests"].items():
        kind = "all_lower_percent" if one["contest"]["better"] else "any_lower_percent"
        lines.append(line(name, [f"{one[kind][figure]:.0f}" for figure in figures]))
    facts, large = measured["provenance"], measured["large"]
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
    made = f"{facts['created'][:10]}, commit {facts['commit']}, {settings}, {facts['machine']}"
    took = (
        "A board of 20 methods, 20 categories, 3 seeds, 8 figures and 2,000 draws takes "
        f"{large['seconds']:.0f} s of one core and {large['peak_mb']:,.0f} MB."
    )
    where = "Source: `results/benchmarks/leaderboard.json`."
    return "\n".join([*lines, "", took, f"<sub>{made}. {where}</sub>"])


BENCHMARK_TABLES: Mapping[str, Callable[[], str]] = {
    "benchmark": when_there(headline_table),
    "leaderboard_synthetic": when_there(partial(leaderboard_table, "synthetic")),
    "leaderboard_magnetic_tile": when_there(partial(leaderboard_table, "magnetic_tile")),
    "limits_synthetic": when_there(partial(limits_table, "synthetic")),
    "limits_magnetic_tile": when_there(partial(limits_table, "magnetic_tile")),
    "ablation": when_there(ablation_table),
    "categories_smallest": when_there(partial(category_table, "aupro_Q1@0.05")),
    "categories_all": when_there(partial(category_table, "aupro@0.05")),
    "cost": when_there(cost_table),
    "leaderboard_checks": checks_table,
}
