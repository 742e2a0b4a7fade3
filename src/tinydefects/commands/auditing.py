"""Question the numbers: audit."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.commands.options import (
    MOST_PIXELS,
    Allow,
    CategoryId,
    ImageScore,
    Json,
    Option,
    Root,
    check_masks_of,
    load,
    print_result,
    say,
    show_progress,
)


def audit(
    maps: Annotated[list[Path], typer.Argument(help="One folder of maps a method, named after it; two or more rank.")],
    category_id: CategoryId,
    root: Root = Path("data"),
    option: Option = None,
    allow: Allow = None,
    out: Annotated[Path | None, typer.Option(help="Write the numbers to this JSON file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw every rule and method to this file (.png, .svg).")] = None,
    input_px: Annotated[
        int, typer.Option(min=1, max=MOST_PIXELS, help="Side of the networks' input, where masks are shrunk to it.")
    ] = 224,
    image_score: Annotated[ImageScore, typer.Option(help="How an image is scored.")] = ImageScore.stored,
    as_json: Json = False,
) -> None:
    """Score maps under the rules other work has used: what each does to the numbers and to the ranking."""
    from tinydefects.benchmark.audit import audit_maps, write_audit
    from tinydefects.benchmark.audit_text import describe_audit
    from tinydefects.pixels import require_writable

    category = load(category_id, root, option, allow=allow)
    settings = {"dataset_options": " ".join(option)} if option else {}
    for path in filter(None, (out, plot)):
        require_writable(path.parent)
    with show_progress() as progress:
        category = check_masks_of(category, allow, progress)
        found = audit_maps(
            maps, category, track=progress.track, input_px=input_px, image_score=image_score.value, settings=settings
        )
    if not any(figures["n_defects"] for by_rule in found.values.values() for figures in by_rule.values()):
        say(f"{category.id}: no defective image is outlined; only the image figures are defined")
    if out is not None:
        say(f"audit: {write_audit(found, out)}")
    if plot is not None:
        from tinydefects.audit_plot import plot_audit

        say(f"picture: {plot_audit([found], plot)}")
    print_result(asdict(found), as_json, describe_audit(found))
