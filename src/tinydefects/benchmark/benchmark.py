"""A whole benchmark, from its settings to results in a folder: what the command does, and Python."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from tinydefects.benchmark.board import Board, boards
from tinydefects.benchmark.cluster import open_cluster
from tinydefects.benchmark.estimate import Plan, plan_jobs, require_space
from tinydefects.benchmark.job import of_these_maps
from tinydefects.benchmark.processes import InThisProcess, IsolatedProcesses
from tinydefects.benchmark.run_folder import (
    Finished,
    StoredResult,
    find_finished,
    read_numbers,
    require_same_images,
    write_protocol,
)
from tinydefects.benchmark.run_settings import OWN, BenchmarkSettings, RunSettings, parse_resources
from tinydefects.benchmark.runner import run
from tinydefects.benchmark.selection import (
    Selection,
    dataset_options,
    find_categories,
    load_all,
    parse_methods,
    select,
)
from tinydefects.benchmark.text import SHOWN, JobDisplay
from tinydefects.data.json_files import first_fault
from tinydefects.data.mask_checks import check_masks
from tinydefects.data.sample import Category
from tinydefects.detector.devices import require_device
from tinydefects.errors import SettingsError
from tinydefects.methods.catalog import own_size, parse_method
from tinydefects.metrics.statistics.leaderboard import Leaderboard
from tinydefects.progress import Progress
from tinydefects.results.protocol import EvaluationProtocol

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRun:
    """A benchmark that has been prepared, and what has become of its jobs.

    Attributes:
        settings: what was asked for, a suite resolved.
        selection: its protocol and jobs.
        plan: what they were expected to take.
        finished: jobs with a result, by name, those that were there before among them.
        failed: reasons by name; the same call tries these again.
        remarks: what a reader should know of images and masks.
    """

    settings: BenchmarkSettings
    selection: Selection
    plan: Plan
    finished: Mapping[str, Finished]
    failed: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the results lie."""
        return self.settings.out

    def leaderboards(self) -> list[tuple[Board[StoredResult], Leaderboard]]:
        """Of all results in the folder, also those of other runs; none for a shard, as others may be at work still."""
        stored = read_numbers(self.folder) if self.finished and not self.settings.shard else []
        return [(board, board.rank([*SHOWN])) for board in boards(stored)]


def run_benchmark(*, dry_run: bool = False, progress: bool = False, **settings: object) -> BenchmarkRun:
    """Do what `tinydefects benchmark` does: run the jobs that have no result yet, and keep each in `out`.

    The settings are those of the command, in `BenchmarkSettings`: `suite="tiny"`, or `methods="fbft,gaussian"` and
    `categories="synthetic/*"`, with `root`, `out`, `resolutions=(384, "own")`, … With several `workers` a script needs
    `if __name__ == "__main__":` around the call, as each is a process that imports it.

    Args:
        dry_run: only prepare: `plan` says what would be done and what it takes, and nothing is written.
        progress: whether bars are drawn on standard error.
        settings: of `BenchmarkSettings`, by name.

    Raises:
        SettingsError: a setting that does not exist or is out of bounds.
        TinyDefectsError: no such method, suite or category, results of another protocol in the folder, masks that can
            only be a mistake, or too little space. A job that fails raises nothing: see `failed`.
    """
    try:
        parsed = BenchmarkSettings.model_validate(settings)
    except ValidationError as error:
        raise SettingsError(f"run_benchmark: {first_fault(error)}") from error
    with Progress(quiet=not progress) as shown:
        prepared = prepare(parsed, progress=shown)
        return prepared if dry_run else carry_out(prepared, progress=shown)


def prepare(settings: BenchmarkSettings, *, progress: Progress, say: Say = lambda line: None) -> BenchmarkRun:
    """Find jobs and what is finished, check images and masks, and plan the rest; nothing is written.

    `say` is called with each remark at once.

    Raises:
        TinyDefectsError: as `run_benchmark`, but for the space.
    """
    require_device(settings.device)
    remarks: list[str] = []

    def note(line: str) -> None:
        remarks.append(line)
        say(line)

    methods = parse_methods(settings.methods)
    asked = _protocol(settings, methods)
    without = [one for one in methods if one not in asked.own_sizes and parse_method(one)[0].uses_teacher]
    if OWN in settings.resolutions and without:
        note(f"no published size is known of {', '.join(without)}: not among the results at own sizes")
    selection = select(asked, methods, settings)
    loaded = load_all(selection, settings)
    finished = _still_valid(selection, loaded, settings, note)
    for category in loaded.values():
        checked = check_masks(category, allowed=settings.allowed, progress=progress)
        for remark in checked.remarks:
            note(f"{category.id}: {remark}")
    plan = plan_jobs(selection.jobs, loaded, finished, settings)
    return BenchmarkRun(settings=settings, selection=selection, plan=plan, finished=finished, remarks=tuple(remarks))


def carry_out(prepared: BenchmarkRun, *, progress: Progress) -> BenchmarkRun:
    """Run the jobs that are left.

    Raises:
        TrainingError: features or results do not fit.
    """
    settings, plan = prepared.settings, prepared.plan
    require_space(plan, settings)
    write_protocol(prepared.selection.protocol, settings.out)
    jobs = [estimate.job for estimate in plan.left]
    display = JobDisplay(progress, plan, settings.n_workers)
    with _workers(settings) as (executor, n_at_once):
        for outcome in run(jobs, settings, executor, n_at_once=n_at_once, started=display.start):
            display.finish(outcome)
    return BenchmarkRun(
        settings=settings,
        selection=prepared.selection,
        plan=plan,
        finished={**prepared.finished, **find_finished(jobs, settings.out)},
        failed=display.failed,
        remarks=prepared.remarks,
    )


def _protocol(settings: BenchmarkSettings, methods: Sequence[str]) -> EvaluationProtocol:
    """What is asked for, before the folder of results is looked at."""
    found = find_categories(settings.categories, settings.root)
    own = {one: size for one in methods if (size := own_size(one))} if OWN in settings.resolutions else {}
    return EvaluationProtocol(
        categories=found,
        options=dataset_options(settings.option, found),
        resolutions=settings.common_resolutions,
        own_sizes=own,
        seeds=settings.seeds,
        teacher=settings.teacher,
    )


def _still_valid(
    selection: Selection, categories: Mapping[str, Category], settings: RunSettings, note: Say
) -> dict[str, Finished]:
    """The results that are there and still hold."""
    found = find_finished(selection.jobs, settings.out)
    for category in categories.values():
        for remark in category.remarks:
            note(f"{category.id}: {remark}")
    require_same_images(settings.out, categories)
    finished = of_these_maps(found, categories)
    for name in found.keys() - finished.keys():
        note(f"{name}: its maps have changed since, so it is scored again")
    return finished


@contextmanager
def _workers(settings: RunSettings) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """Where jobs run, and how many are sent there at a time."""
    if settings.cluster is not None:
        with open_cluster(
            settings.cluster,
            n_workers=settings.n_workers,
            threads_per_worker=settings.threads,
            resources=parse_resources(settings.resources),
            root=settings.root,
            out=settings.out,
        ) as cluster:
            yield cluster, cluster.n_places
        return
    with InThisProcess() if settings.n_workers == 1 else IsolatedProcesses() as executor:
        yield executor, lambda: settings.n_workers
