"""Score and show: evaluate, report."""

from pathlib import Path
from typing import Annotated

import typer

from tinydefects.commands.options import (
    CategoryId,
    CurveRule,
    ImageScore,
    Json,
    Out,
    Root,
    load,
    numbers,
    print_result,
    say,
    show_progress,
)


def evaluate(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps, ours or anybody's, in MVTec's layout.")],
    category_id: CategoryId,
    root: Root = Path("data"),
    out: Out = Path("results"),
    curve: Annotated[
        CurveRule, typer.Option(help="'published_99' is the 99-point curve of published tables.")
    ] = CurveRule.exact,
    image_score: Annotated[ImageScore, typer.Option(help="How an image is scored.")] = ImageScore.stored,
    exhibits: Annotated[
        int, typer.Option(min=0, help="Defects cut out for the report; 0 keeps the data's pixels out of the result.")
    ] = 48,
    as_json: Json = False,
) -> None:
    """Score maps at the images' own resolution, by defect size."""
    from tinydefects.benchmark.protocol import Result, describe_run, write_result
    from tinydefects.metrics.evaluation import evaluate as evaluate_pairs
    from tinydefects.predictions import read_maker, read_pairs

    category = load(category_id, root)
    with show_progress() as progress:
        pairs = progress.track(read_pairs(maps, category, image_score.value), "score", len(category.test))
        evaluation = evaluate_pairs(pairs, category=category.id, curve=curve.value, n_exhibits=exhibits)
    rules = {"command": "evaluate", "curve": curve.value, "image_score": image_score.value}
    provenance = describe_run({**rules, **read_maker(maps)})
    path = write_result(Result(evaluation=evaluation, provenance=provenance), out / f"{category.id}.json")
    print_result(numbers(evaluation), as_json, str(evaluation), f"\nresult: {path}")


def report(
    results: Annotated[Path, typer.Argument(help="Folder of results, or one result file.")],
    out: Out = Path("report.html"),
) -> None:
    """Turn results into one self-contained HTML file."""
    from tinydefects.benchmark.protocol import find_results, read_result
    from tinydefects.report import write_report

    read = [read_result(path) for path in find_results(results)]
    write_report([one.evaluation for one in read], out, provenance=read[0].provenance.facts())
    say(f"report: {out}")
