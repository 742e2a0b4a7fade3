"""Question the numbers: audit."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.evaluating import ImageScore
from tinydefects.cli.options import (
    MOST_PIXELS,
    Allow,
    CategoryId,
    Json,
    Option,
    check_masks_of,
    load,
    print_result,
    say,
    show_progress,
)
from tinydefects.cli.settings_options import DataFolder, options_of


class AuditSettings(BaseModel):
    """What `tinydefects audit` takes: where things lie, how maps are read, how far masks are shrunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: DataFolder = Path("data")
    out: Path | None = Field(default=None, description="Write the numbers to this JSON file.")
    plot: Path | None = Field(default=None, description="Draw every rule and method to this file (.png, .svg).")
    input_px: int = Field(
        default=224, ge=1, le=MOST_PIXELS, description="Side of the networks' input, where masks are shrunk to it."
    )
    image_score: ImageScore = "stored"


@options_of(AuditSettings)
def audit(
    maps: Annotated[list[Path], typer.Argument(help="One folder of maps a method, named after it; two or more rank.")],
    category_id: CategoryId,
    settings: AuditSettings,
    option: Option = None,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Score maps under the rules other work has used: what each does to the numbers and to the ranking."""
    from tinydefects.audit.audit import audit_maps, write_audit
    from tinydefects.audit.text import describe_audit
    from tinydefects.data.pixels import require_writable

    category = load(category_id, settings.root, option, allow=allow)
    told = {"dataset_options": " ".join(option)} if option else {}
    for path in filter(None, (settings.out, settings.plot)):
        require_writable(path.parent)
    with show_progress() as progress:
        category = check_masks_of(category, allow, progress)
        found = audit_maps(
            maps,
            category,
            track=progress.track,
            input_px=settings.input_px,
            image_score=settings.image_score,
            settings=told,
        )
    if not any(figures["n_defects"] for by_rule in found.values.values() for figures in by_rule.values()):
        say(f"{category.id}: no defective image is outlined; only the image figures are defined")
    if settings.out is not None:
        say(f"audit: {write_audit(found, settings.out)}")
    if settings.plot is not None:
        from tinydefects.audit.plot import plot_audit

        say(f"picture: {plot_audit([found], settings.plot)}")
    print_result(asdict(found), as_json, describe_audit(found))
