"""Compare methods: benchmark."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.benchmark.run_settings import HOW, BenchmarkSettings, RunSettings, parse_resources
from tinydefects.cli.options import Json, check_masks_of, print_result, say, say_remarks, show_progress
from tinydefects.cli.settings_options import options_of
from tinydefects.data.sample import Category

if TYPE_CHECKING:
    from tinydefects.benchmark.estimate import Plan
    from tinydefects.benchmark.run_folder import Finished
    from tinydefects.results.protocol import EvaluationProtocol, Job


@options_of(BenchmarkSettings)
def benchmark(
    settings: BenchmarkSettings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the jobs and what they take, then stop.", rich_help_panel=HOW)
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare methods under one protocol: same images, same teacher, same scoring.

    Every job (category, resolution, method, seed) leaves a result below OUT. Run
    the same command again to go on where it stopped; failed jobs are tried again.
    Test images and masks are out of reach while a method learns.

    tinydefects benchmark --methods fbft,patchcore --categories 'mvtec_ad/*' --dry-run
    tinydefects benchmark --methods all --categories 'synthetic/*' --teacher builtin
    --resolutions 384 --option synthetic.size=384 --seeds 0,1,2 --workers 2
    """
    from tinydefects.benchmark.estimate import plan_jobs, require_space
    from tinydefects.benchmark.run_folder import find_finished, write_protocol
    from tinydefects.benchmark.selection import load_all, parse_methods, select
    from tinydefects.benchmark.text import describe_plan, describe_totals, plan_numbers
    from tinydefects.detector.devices import require_device

    require_device(settings.device)
    names = parse_methods(settings.methods)
    selection = select(_protocol(settings), names, settings)
    loaded = load_all(selection, settings)
    finished = _finished(selection.jobs, loaded, settings)
    plan = plan_jobs(selection.jobs, loaded, finished, settings)
    totals = describe_totals(plan, settings, n_asked=selection.n_asked)
    if dry_run:
        return print_result(plan_numbers(plan), as_json, describe_plan(plan), totals)
    say(totals)
    require_space(plan, settings)
    write_protocol(selection.protocol, settings.out)
    failed = _run_all(plan, settings)
    finished |= find_finished([estimate.job for estimate in plan.left], settings.out)
    counts = {"results": str(settings.out), "finished": len(finished), "failed": failed}
    _print_leaderboards(settings, counts, as_json)
    say(f"report: tinydefects report {settings.out}{', once all shards have ended' if settings.shard else ''}")
    if failed:
        say(f"{len(failed)} of {len(selection.jobs)} jobs failed; the same command tries them again:")
        say("\n".join(f"  {name}: {reason}" for name, reason in failed.items()))
        raise typer.Exit(2)


def _protocol(settings: BenchmarkSettings) -> "EvaluationProtocol":
    """What is asked for, before the folder of results is looked at."""
    from tinydefects.benchmark.selection import dataset_options, find_categories
    from tinydefects.results.protocol import EvaluationProtocol

    found = find_categories(settings.categories, settings.root)
    return EvaluationProtocol(
        categories=found,
        options=dataset_options(settings.option, found),
        resolutions=settings.resolutions,
        seeds=settings.seeds,
        teacher=settings.teacher,
    )


def _finished(
    jobs: "Sequence[Job]", categories: Mapping[str, Category], settings: RunSettings
) -> "dict[str, Finished]":
    """The results that are there and still hold; images and masks are checked on the way, and remarks are said."""
    from tinydefects.benchmark.job import of_these_maps
    from tinydefects.benchmark.run_folder import find_finished, require_same_images

    found = find_finished(jobs, settings.out)
    for category in categories.values():
        say_remarks(category)
    require_same_images(settings.out, categories)
    finished = of_these_maps(found, categories)
    for name in found.keys() - finished.keys():
        say(f"{name}: its maps have changed since, so it is scored again")
    with show_progress() as progress:
        for category in categories.values():
            check_masks_of(category, settings.allowed, progress)
    return finished


def _print_leaderboards(settings: RunSettings, counts: Mapping[str, object], as_json: bool) -> None:
    """Those of all results in the folder, as the report shows them: also of methods that this run left alone.

    A shard prints none: the others may be at work still.
    """
    from tinydefects.benchmark.board import boards
    from tinydefects.benchmark.run_folder import read_numbers
    from tinydefects.benchmark.text import LEGEND, SHOWN, describe_leaderboard, leaderboard_numbers

    stored = read_numbers(settings.out) if counts["finished"] and not settings.shard else []
    ranked = [(board, board.rank([*SHOWN])) for board in boards(stored)]
    numbers = [leaderboard_numbers(board, found) for board, found in ranked]
    text = "\n\n".join(describe_leaderboard(board, found) for board, found in ranked)
    nothing = f"shard {settings.shard}: {counts['finished']} jobs finished" if settings.shard else "no results"
    print_result({**counts, "leaderboards": numbers}, as_json, f"{text}\n{LEGEND}" if ranked else nothing)


def _run_all(plan: "Plan", settings: RunSettings) -> dict[str, str]:
    """Run what is left; the reasons of failed jobs by name."""
    from tinydefects.benchmark.runner import run
    from tinydefects.benchmark.text import JobDisplay

    jobs = [estimate.job for estimate in plan.left]
    with show_progress() as progress, _workers(settings) as (executor, n_at_once):
        display = JobDisplay(progress, plan, settings.n_workers)
        for outcome in run(jobs, settings, executor, n_at_once=n_at_once, started=display.start):
            display.finish(outcome)
    return display.failed


@contextmanager
def _workers(settings: RunSettings) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """Where jobs run, and how many are sent there at a time."""
    from tinydefects.benchmark.cluster import open_cluster
    from tinydefects.benchmark.processes import InThisProcess, IsolatedProcesses

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
