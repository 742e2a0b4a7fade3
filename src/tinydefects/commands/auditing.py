"""Question the numbers: audit."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.commands.options import (
    Allow,
    CategoryId,
    ImageScore,
    Json,
    Root,
    load,
    print_result,
    say,
    show_progress,
)


def audit(
    maps: Annotated[list[Path], typer.Argument(help="One folder of maps a method, named after it; two or more rank.")],
    category_id: CategoryId,
    root: Root = Path("data"),
    allow: Allow = None,
    out: Annotated[Path | None, typer.Option(help="Write the numbers to this JSON file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw every rule and method to this file (.png, .svg).")] = None,
    input_px: Annotated[
        int, typer.Option(min=1, help="Side of the networks' input, where masks are shrunk to it.")
    ] = 224,
    image_score: Annotated[ImageScore, typer.Option(help="How an image is scored.")] = ImageScore.stored,
    as_json: Json = False,
) -> None:
    """Score maps under the rules other work has used: what each does to the numbers and to the ranking."""
    from tinydefects.benchmark.audit import audit_maps, write_audit
    from tinydefects.benchmark.audit_text import describe_audit

    category = load(category_id, root, allow=allow)
    with show_progress() as progress:
        found = audit_maps(maps, category, track=progress.track, input_px=input_px, image_score=image_score.value)
    if out is not None:
        say(f"audit: {write_audit(found, out)}")
    if plot is not None:
        from tinydefects.audit_plot import plot_audit

        say(f"picture: {plot_audit([found], plot)}")
    print_result(asdict(found), as_json, describe_audit(found))
