"""A benchmark as text: what it will take, how it goes on, and its leaderboards in the end."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tinydefects.benchmark.board import (
    NOT_TOLD_MARK,
    Board,
    FinishedT,
    MethodAt,
    beside,
    headline_rows,
    milliseconds,
    three_digits,
    timed_sheets,
)
from tinydefects.benchmark.estimate import Estimate, Plan
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.benchmark.runner import Outcome, Task
from tinydefects.metrics.statistics.leaderboard import NOT_TOLD, Leaderboard, LeaderboardRow
from tinydefects.progress import Progress
from tinydefects.results.protocol import CostSheet, Job, shown_resolution

SHOWN = {
    "aupro_Q1@0.05": "Q1",
    "aupro_Q2@0.05": "Q2",
    "aupro_Q3@0.05": "Q3",
    "aupro_Q4@0.05": "Q4",
    "rho@0.05": "rho",
    "image_auroc": "im AUROC",
}
BESIDE = ("aupro_Q1@0.05", "aupro_Q4@0.05")  # of what is shown, at own sizes
LEGEND = "means over categories of means over seeds; = cannot be told from the best; intervals are in the report"
COST_LEGEND = (
    "ms: one image from file to map, by stages in the report; MB: the shared teacher and what the method keeps"
)
FIRST_COLUMN = "AUPRO@5 %"
BAR = "seconds of work (estimate)"
N_NAMED = 3  # running jobs that a line names


def describe_plan(plan: Plan) -> str:
    """A row for each job."""
    width = max((len(estimate.job.category) for estimate in plan.estimates), default=8)
    names = max((len(estimate.job.method) for estimate in plan.estimates), default=4)
    sizes = max((len(_size(estimate.job)) for estimate in plan.estimates), default=0)
    lines = [f"{'category':<{width}}  {'px':>{max(5, sizes)}}  {'method':<{names}}  seed  learn  score  about"]
    return "\n".join([*lines, *(_row(estimate, width, max(5, sizes), names) for estimate in plan.estimates)])


def _size(job: Job) -> str:
    """`384`, `own 224`, or `384 = own` where the common size is the method's own."""
    shown = shown_resolution(job.resolution)
    if not job.sizes.is_own:
        return shown
    return f"{shown} = own" if job.sizes.is_common else f"own {shown}"


def _row(estimate: Estimate, width: int, sizes: int, names: int) -> str:
    job = estimate.job
    state = "done" if estimate.is_done else f"{shown_time(estimate.seconds)}{'' if estimate.measured else ' (guess)'}"
    return (
        f"{job.category:<{width}}  {_size(job):>{sizes}}  {job.method:<{names}}  {job.seed:>4}  "
        f"{estimate.n_train:>5}  {estimate.n_test:>5}  {state}"
    )


def describe_totals(plan: Plan, settings: RunSettings, *, n_asked: int) -> str:
    """Three lines: time, space, and how both are known; `n_asked` jobs have all shards together."""
    left = plan.left
    work = f"shard {settings.shard} of {n_asked} jobs: " if settings.shard else ""
    work += f"{len(plan.estimates)} jobs, {len(plan.estimates) - len(left)} done; about {shown_time(plan.seconds)} left"
    if settings.n_workers > 1:
        work += f" for one worker, {shown_time(plan.seconds / settings.n_workers)} for {settings.n_workers}"
    space = (
        f"disk: {plan.feature_bytes / 1e9:.3g} GB of teacher features in {settings.features} (limit "
        f"{settings.features_limit_gb:g} GB), results about {plan.result_bytes / 1e6:.0f} MB; memory: up to about "
        f"{plan.memory_bytes / 1e9:.2g} GB a worker"
    )
    return "\n".join([work, space, _basis(plan)])


def _basis(plan: Plan) -> str:
    timed = ", ".join(f"{seconds:.2g} s an image at {side} px" for side, seconds in plan.teacher_seconds.items())
    guessed = sorted({estimate.job.method for estimate in plan.left if not estimate.measured})
    parts = [f"the teacher was timed here ({timed})"] if timed else []
    if any(estimate.measured for estimate in plan.left):
        parts.append("methods with finished results are scaled from those by patches")
    if guessed:
        parts.append(f"{', '.join(guessed)}: rough guesses, a factor of 3 off is possible")
    times = f"times: {'; '.join(parts)}" if parts else "times: nothing is left to do"
    known = {"results": plan.n_stored, "memory": plan.n_weighed}
    return times + "".join(f"; {what} as of {n} finished jobs" for what, n in known.items() if n)


def plan_numbers(plan: Plan) -> dict[str, object]:
    """The same for programs."""
    rows = []
    for estimate in plan.estimates:
        job = estimate.job
        own = {"category": job.category, "resolution": job.resolution, "method": job.method, "seed": job.seed}
        own |= asdict(job.sizes)
        known = {name: getattr(estimate, name) for name in ("n_train", "n_test", "is_done", "seconds", "measured")}
        rows.append({**own, **known})
    totals = {
        name: getattr(plan, name)
        for name in ("seconds", "feature_bytes", "result_bytes", "memory_bytes", "n_stored", "n_weighed")
    }
    return {"jobs": rows, **totals}


def describe_leaderboards(ranked: Sequence[tuple[Board[FinishedT], Leaderboard]]) -> str:
    """All of them, those at a common size with the numbers at each method's own size beside."""
    return "\n\n".join(describe_leaderboard(board, found, beside(ranked, board)) for board, found in ranked)


def describe_leaderboard(
    board: Board[FinishedT], found: Leaderboard, own: tuple[Mapping[str, MethodAt], Leaderboard] | None = None
) -> str:
    """One row a method; `=` marks who cannot be told from the best of a column; `own` is what stands beside."""
    title = f"{board.name}, {len(found.categories)} {'category' if len(found.categories) == 1 else 'categories'}"
    names = [row.method for row in headline_rows(found)]
    labels = {one.name: one.label if board.at_own_sizes else one.name for one in board.methods}
    width = max(len(name) for name in (*labels.values(), FIRST_COLUMN))
    shown = SHOWN | board.own_metrics
    columns = [{row.method: row for row in found.of(metric)} for metric in shown]
    cells = {name: "".join(_cell(column[name]) for column in columns) for name in names}
    heads = "".join(f"{short:>10}  " for short in shown.values())
    sheets = timed_sheets(board.cost_sheets(found.categories))
    if sheets:
        heads += f"{'ms':>9}{'MB':>9}  "
        for method in board.methods:
            cells[method.name] += _costs(sheets.get(method, ()))
    if own is not None:
        sizes, at_own = own
        heads += f"{'own px':>8}" + "".join(f"{f'own {SHOWN[metric]}':>10}  " for metric in BESIDE)
        theirs = [{row.method: row for row in at_own.of(metric)} for metric in BESIDE]
        for name in names:
            size = f"{shown_resolution(sizes[name].resolution) if name in sizes else '–':>8}"
            cells[name] += size + "".join(_cell(of[name]) if name in of else f"{'–':>10}  " for of in theirs)
    lines = [title, f"{FIRST_COLUMN:<{width}}{heads}"]
    lines += [f"{labels[name]:<{width}}{cells[name]}" for name in names]
    if found.left_out:
        lines.append(f"left out, because not every method has a result there: {', '.join(found.left_out)}")
    lines += [f"not ranked, too few categories have a result: {one.name}" for one in board.unranked]
    if board.of_no_size:
        lines.append(
            f"not at {board.resolution} px, as the teacher's input is not theirs: {', '.join(board.of_no_size)}"
        )
    if board.without_own:
        lines.append(f"no result at a published size: {', '.join(board.without_own)}")
    return "\n".join(line.rstrip() for line in lines)


def _costs(sheets: Sequence[CostSheet]) -> str:
    """Milliseconds for one image, and all that is kept to predict: the shared teacher, and what the method adds."""
    if not sheets:
        return f"{'–':>9}{'–':>9}  "
    model = max(sheet.teacher_bytes + sheet.method_bytes for sheet in sheets) / 1e6
    return "".join(f"{three_digits(one):>9}" for one in (milliseconds(sheets), model)) + "  "


def _cell(row: LeaderboardRow) -> str:
    return f"{row.value:>10.4f} {NOT_TOLD_MARK if row.verdict == NOT_TOLD else ' '}"


def leaderboard_numbers(board: Board[FinishedT], found: Leaderboard) -> dict[str, object]:
    """The same for programs."""
    return {
        "dataset": board.dataset,
        "resolution": board.resolution,
        "own_sizes": {one.name: one.resolution for one in board.methods} if board.at_own_sizes else None,
        "unranked": [one.name for one in board.unranked],
        **asdict(found),
    }


def shown_time(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class JobDisplay:
    """A bar over the estimated seconds of work, and a line for each finished job."""

    def __init__(self, progress: Progress, plan: Plan, n_workers: int) -> None:
        self.failed: dict[str, str] = {}  # reasons by name of the job
        self._progress = progress
        self._seconds = {estimate.job.name: estimate.seconds for estimate in plan.left} | dict(plan.shares)
        self._n_workers = n_workers
        self._left = dict(self._seconds)
        self._n_jobs = len(plan.left)
        self._running: dict[str, None] = {}
        self._n_ended = 0
        self._start = time.monotonic()

    def start(self, task: Task) -> None:
        """A task is about to begin."""
        self._running[task.name] = None

    def finish(self, outcome: Outcome) -> None:
        """A task has ended, well or not."""
        name = outcome.task.name
        self._running.pop(name, None)
        self._left.pop(name, None)
        if isinstance(outcome.task, Job):
            self._n_ended += 1
            self.failed |= {name: outcome.reason} if outcome.reason else {}
        state = f"FAILED: {outcome.reason}" if outcome.reason else shown_time(outcome.seconds)
        running = ", ".join(list(self._running)[:N_NAMED]) + (" …" if len(self._running) > N_NAMED else "")
        line = f"{self._n_ended} of {self._n_jobs}  {name}: {state}; {self._time_left()} left"
        self._progress.say(line + (f"; running: {running}" if running else ""))
        total = sum(self._seconds.values())
        self._progress(BAR, round(total - sum(self._left.values())), max(1, round(total)))

    def _time_left(self) -> str:
        """From the speed so far, weighted by what each task was estimated to take."""
        left, total = sum(self._left.values()), sum(self._seconds.values())
        elapsed = time.monotonic() - self._start
        return shown_time(elapsed * left / (total - left) if total > left else left / self._n_workers)
