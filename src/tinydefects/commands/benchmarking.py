"""Compare methods: benchmark."""

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.commands.options import (
    MOST_GB,
    MOST_PIXELS,
    MOST_SEED,
    Allow,
    Device,
    Json,
    Root,
    TeacherWeights,
    bounded,
    check_masks_of,
    print_result,
    say,
    say_remarks,
    show_progress,
)
from tinydefects.errors import TinyDefectsError
from tinydefects.walk import real_path

if TYPE_CHECKING:
    from tinydefects.benchmark.job_costs import Plan
    from tinydefects.benchmark.job_run import Place

MOST_PROCESSES = 1024
WHAT, WHERE, HOW = "What is compared", "Where it lies", "How it runs"


class Cost(StrEnum):
    """How speed and memory are measured."""

    off = "off"
    quick = "quick"
    mvtec = "mvtec"


def benchmark(
    peers: Annotated[
        str,
        typer.Option(
            help="Methods between commas, 'all' for every one; options behind colons: patchcore:coreset=0.01.",
            rich_help_panel=WHAT,
        ),
    ],
    categories: Annotated[
        str, typer.Option(help="Addresses between commas, e.g. 'mvtec_ad/*,visa/pcb1'.", rich_help_panel=WHAT)
    ],
    resolutions: Annotated[
        str, typer.Option(help="Long sides of the teacher's input in pixels, between commas.", rich_help_panel=WHAT)
    ] = "1036",
    seeds: Annotated[
        str, typer.Option(help="Between commas; methods without chance run with the first.", rich_help_panel=WHAT)
    ] = "0",
    teacher: Annotated[
        str, typer.Option(help="Any timm ViT, or 'builtin'; all methods share it.", rich_help_panel=WHAT)
    ] = "vit_base_patch14_reg4_dinov2",
    teacher_weights: TeacherWeights = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            metavar="[DATASET.]NAME=VALUE",
            help="Option of a dataset's loader, e.g. synthetic.size=384; without a dataset, of all that know it. "
            "Repeatable.",
            rich_help_panel=WHAT,
        ),
    ] = None,
    allow: Allow = None,
    root: Root = Path("data"),
    out: Annotated[Path, typer.Option(help="Folder of results; one protocol a folder.", rich_help_panel=WHERE)] = Path(
        "results"
    ),
    features: Annotated[
        Path | None,
        typer.Option(help="Keep teacher features here; OUT/features when left out.", rich_help_panel=WHERE),
    ] = None,
    features_limit_gb: Annotated[
        float,
        typer.Option(
            callback=bounded(0, MOST_GB), help="Refuse to write more features than this.", rich_help_panel=WHERE
        ),
    ] = 20.0,
    keep_maps: Annotated[
        bool, typer.Option("--keep-maps", help="Write the anomaly maps too.", rich_help_panel=WHERE)
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_PROCESSES, help="Processes on this machine; 1 when left out.", rich_help_panel=HOW
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="'local', or where a dask scheduler listens, instead of --workers.", rich_help_panel=HOW),
    ] = None,
    resources: Annotated[
        str,
        typer.Option(
            metavar="NAME=AMOUNT",
            help="What a job takes of a cluster's workers, e.g. 'GPU=1'; workers must declare it.",
            rich_help_panel=HOW,
        ),
    ] = "",
    threads: Annotated[
        int,
        typer.Option(min=1, max=MOST_PROCESSES, help="Threads of a job; part of the record.", rich_help_panel=HOW),
    ] = 1,
    cost: Annotated[
        Cost,
        typer.Option(help="Time the first seed of each method; 'mvtec' is 1,000 + 1,000 passes.", rich_help_panel=HOW),
    ] = Cost.quick,
    device: Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the jobs and what they take, then stop.", rich_help_panel=HOW)
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare methods under one protocol: same images, same teacher, same scoring.

    Every job (category, resolution, method, seed) leaves a result below OUT. Run
    the same command again to go on where it stopped; failed jobs are tried again.
    Test images and masks are out of reach while a method learns.

    tinydefects benchmark --peers fbft,patchcore --categories 'mvtec_ad/*' --dry-run
    tinydefects benchmark --peers all --categories 'synthetic/*' --teacher builtin
    --resolutions 384 --option synthetic.size=384 --seeds 0,1,2 --workers 2
    """
    from tinydefects.benchmark.job_costs import plan_jobs, require_space
    from tinydefects.benchmark.job_run import Place, of_these_maps
    from tinydefects.benchmark.protocol import EvaluationProtocol
    from tinydefects.benchmark.run_folder import find_finished, require_same_images, write_protocol
    from tinydefects.benchmark.run_text import describe_plan, describe_totals, plan_numbers
    from tinydefects.benchmark.selection import (
        dataset_options,
        find_categories,
        load_all,
        parse_peers,
        parse_resources,
        parse_whole_numbers,
        select,
    )

    if workers is not None and cluster is not None:
        raise TinyDefectsError("--workers and --cluster exclude each other: one is this machine's, the other dask's")
    if resources and cluster is None:
        raise TinyDefectsError(
            f"--resources {resources} is for the workers of a cluster: give --cluster, or leave it out"
        )
    taken = parse_resources(resources)
    n_workers = workers or (os.cpu_count() if cluster == "local" else None) or 1
    place = Place(
        root=real_path(root),
        out=real_path(out),
        features=real_path(features or out / "features"),
        features_limit_gb=features_limit_gb,
        teacher_weights=real_path(teacher_weights) if teacher_weights else None,
        device=device,
        threads=threads,
        cost=cost.value,
        n_beside=n_workers - 1 if cluster in {None, "local"} else 1,  # elsewhere nobody knows: not alone
        keep_maps=keep_maps,
        allowed=tuple(name.value for name in allow or ()),
    )
    names = parse_peers(peers)
    found = find_categories(categories, place.root)
    asked = EvaluationProtocol(
        categories=found,
        options=dataset_options(option or (), found),
        resolutions=parse_whole_numbers("--resolutions", resolutions, least=16, most=MOST_PIXELS),
        seeds=parse_whole_numbers("--seeds", seeds, least=0, most=MOST_SEED),
        teacher=teacher,
    )
    selection = select(asked, names, place)
    loaded, found_results = load_all(selection, place), find_finished(selection.jobs, place.out)
    for category in loaded.values():
        say_remarks(category)
    require_same_images(place.out, loaded)
    finished = of_these_maps(found_results, loaded)
    for name in found_results.keys() - finished.keys():
        say(f"{name}: its maps have changed since, so it is scored again")
    with show_progress() as progress:
        for category in loaded.values():
            check_masks_of(category, allow, progress)
    plan = plan_jobs(selection.jobs, loaded, finished, place)
    totals = describe_totals(plan, place, n_workers)
    if dry_run:
        return print_result(plan_numbers(plan), as_json, describe_plan(plan), totals)
    say(totals)
    require_space(plan, place)
    write_protocol(selection.protocol, place.out)
    failed = _run_all(plan, place, n_workers, cluster, taken)
    finished |= find_finished([estimate.job for estimate in plan.left], place.out)
    counts = {"results": str(place.out), "finished": len(finished), "failed": failed}
    _print_leaderboards(place.out, counts, as_json)
    say(f"report: tinydefects report {out}")
    if failed:
        say(f"{len(failed)} of {len(selection.jobs)} jobs failed; the same command tries them again:")
        say("\n".join(f"  {name}: {reason}" for name, reason in failed.items()))
        raise typer.Exit(2)


def _print_leaderboards(out: Path, counts: Mapping[str, object], as_json: bool) -> None:
    """Those of all results in the folder, as the report shows them: also of methods that this run left alone."""
    from tinydefects.benchmark.board import boards
    from tinydefects.benchmark.run_text import LEGEND, SHOWN, describe_leaderboard, leaderboard_numbers
    from tinydefects.benchmark.stored import read_numbers

    stored = read_numbers(out) if counts["finished"] else []
    ranked = [(board, board.rank([*SHOWN])) for board in boards(stored)]
    numbers = [leaderboard_numbers(board, found) for board, found in ranked]
    text = "\n\n".join(describe_leaderboard(board, found) for board, found in ranked)
    print_result({**counts, "leaderboards": numbers}, as_json, f"{text}\n{LEGEND}" if ranked else "no results")


def _run_all(
    plan: "Plan", place: "Place", n_workers: int, cluster: str | None, resources: Mapping[str, float]
) -> dict[str, str]:
    """Run what is left; the reasons of failed jobs by name."""
    from tinydefects.benchmark.runner import run
    from tinydefects.commands.job_display import JobDisplay

    jobs = [estimate.job for estimate in plan.left]
    with show_progress() as progress, _workers(place, n_workers, cluster, resources) as (executor, n_at_once):
        display = JobDisplay(progress, plan, n_workers)
        for outcome in run(jobs, place, executor, n_at_once=n_at_once, started=display.start):
            display.finish(outcome)
    return display.failed


@contextmanager
def _workers(
    place: "Place", n_workers: int, cluster: str | None, resources: Mapping[str, float]
) -> "Iterator[tuple[Executor, int]]":
    """Where jobs run, and how many are sent there at a time."""
    from tinydefects.benchmark.cluster.connection import open_executor
    from tinydefects.benchmark.processes import InThisProcess, IsolatedProcesses

    if cluster is not None:
        with open_executor(
            cluster,
            n_workers=n_workers,
            threads_per_worker=place.threads,
            resources=resources,
            root=place.root,
            out=place.out,
        ) as executor:
            yield executor, sys.maxsize  # the scheduler keeps the queue
        return
    with InThisProcess() if n_workers == 1 else IsolatedProcesses() as executor:
        yield executor, n_workers
