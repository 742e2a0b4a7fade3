"""Show what was scored: report, compare."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.cli.options import MOST_DRAWS, Json, Out, Seed, print_result, say


def report(
    results: Annotated[Path, typer.Argument(help="Folder of results, or one result file.")],
    out: Out = Path("report.html"),
) -> None:
    """Turn results into one HTML page: methods of a benchmark side by side, every other evaluation for itself.

    Many pictures of defects lie in OUT_files beside the page and must travel with it.
    """
    from tinydefects.report.page import write_report

    say(f"report: {write_report(results, out)}")


def compare(
    results: Annotated[list[Path], typer.Argument(help="Two or more result files of the same images, one a method.")],
    figures: Annotated[
        str, typer.Option(help="Names of figures, separated by commas, such as 'aupro_Q1@0.05'; 'all' for every one.")
    ] = "",
    resamples: Annotated[
        int, typer.Option(min=100, max=MOST_DRAWS, help="How often the images are drawn again.")
    ] = 2000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare methods on the same images: differences, their intervals, and which of them can be told from chance.

    tinydefects compare ours/screw.json theirs/screw.json --figures aupro_Q1@0.05,image_auroc
    """
    from tinydefects.metrics.statistics.comparison import compare as compare_evaluations
    from tinydefects.metrics.statistics.comparison import describe, other_rules
    from tinydefects.results.result import read_named_results

    evaluations = {name: result.evaluation for name, result in read_named_results(results).items()}
    comparisons = compare_evaluations(
        evaluations, names=[figures] if figures.strip() else [], n_resamples=resamples, seed=seed
    )
    if remark := other_rules(evaluations):
        say(remark)
    print_result([asdict(one) for one in comparisons], as_json, describe(comparisons))
