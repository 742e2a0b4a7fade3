"""Compare methods: benchmark."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.benchmark.run_settings import HOW, WHERE, BenchmarkSettings
from tinydefects.cli.options import Json, print_result, say, show_progress
from tinydefects.cli.settings_options import options_of
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.benchmark.benchmark import BenchmarkRun


@options_of(BenchmarkSettings)
def benchmark(
    settings: BenchmarkSettings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the jobs and what they take, then stop.", rich_help_panel=HOW)
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write the page of all results here when the jobs have ended.", rich_help_panel=WHERE, metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare methods under one protocol: same images, same teacher, same scoring.

    Every job (category, resolution, method, seed) leaves a result below OUT. Run
    the same command again to go on where it stopped; failed jobs are tried again.
    Test images and masks are out of reach while a method learns.

    tinydefects benchmark --suite tiny --report tiny.html
    tinydefects benchmark --methods fbft,patchcore --categories 'mvtec_ad/*' --dry-run
    tinydefects benchmark --methods all --categories 'synthetic/*' --teacher builtin
    --resolutions 384,own --option synthetic.size=384 --seeds 0,1,2 --workers 2
    """
    from tinydefects.benchmark.benchmark import carry_out, prepare
    from tinydefects.benchmark.text import describe_plan, describe_totals, plan_numbers

    if report:  # whoever wants no page does not wait for what draws it
        from tinydefects.report.page import require_page_place, write_report

        if settings.shard:
            raise TinyDefectsError(
                f"--report: a shard is not all; `tinydefects report {settings.out}` once all have ended"
            )
        require_page_place(report)
    with show_progress() as progress:
        prepared = prepare(settings, progress=progress, say=say)
    totals = describe_totals(prepared.plan, settings, n_asked=prepared.selection.n_asked)
    if dry_run:
        return print_result(plan_numbers(prepared.plan), as_json, describe_plan(prepared.plan), totals)
    say(totals)
    with show_progress() as progress:
        done = carry_out(prepared, progress=progress)
    _print_leaderboards(done, as_json)
    if report and done.finished:
        say(f"report: {write_report(done.folder, report)}")
    else:
        say(f"report: tinydefects report {settings.out}{', once all shards have ended' if settings.shard else ''}")
    if done.failed:
        say(f"{len(done.failed)} of {len(done.selection.jobs)} jobs failed; the same command tries them again:")
        say("\n".join(f"  {name}: {reason}" for name, reason in done.failed.items()))
        raise typer.Exit(2)


def _print_leaderboards(done: "BenchmarkRun", as_json: bool) -> None:
    """Those of all results in the folder, as the report shows them: also of methods that this run left alone."""
    from tinydefects.benchmark.text import COST_LEGEND, LEGEND, describe_leaderboards, leaderboard_numbers

    ranked = done.leaderboards()
    numbers = [leaderboard_numbers(board, found) for board, found in ranked]
    text = describe_leaderboards(ranked) if ranked else ""
    shard, counts = done.settings.shard, {"finished": len(done.finished), "failed": done.failed}
    nothing = f"shard {shard}: {counts['finished']} jobs finished" if shard else "no results"
    content = {"results": str(done.folder), **counts, "leaderboards": numbers}
    print_result(content, as_json, f"{text}\n{LEGEND}\n{COST_LEGEND}" if ranked else nothing)
