"""Hand in: submit."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import Json, print_result, say, show_progress
from tinydefects.cli.settings_options import DataFolder, options_of
from tinydefects.errors import ResultError


class SubmitSettings(BaseModel):
    """What `tinydefects submit` is told: where things lie, and how an object's threshold is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: DataFolder = Path("data")
    out: Path = Field(default=Path("submission.tar.gz"), description="The archive to write.")
    threshold_from: Literal["validation", "validation_3_std"] = Field(
        default="validation", description="Quantile of the validation pixels, or their mean + 3 standard deviations."
    )
    alpha: float = Field(
        default=0.001, ge=0, lt=1, description="Share of the validation pixels that may exceed the threshold."
    )
    threshold: float | None = Field(
        default=None, ge=-3.4e38, le=3.4e38, description="A number instead, on the scale of the maps."
    )
    rescale: bool = Field(default=False, description="Bring validation scores to [0, 1], where float16 is fine enough.")


@options_of(SubmitSettings)
def submit(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps; with --check, the submission itself.")],
    settings: SubmitSettings,
    objects: Annotated[
        list[str] | None, typer.Argument(metavar="[mvtec_ad2/OBJECT]...", help="Left out: all eight.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check a folder or archive that exists.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be written, then stop.")] = False,
    as_json: Json = False,
) -> None:
    """Write or check the archive for the evaluation server of MVTec AD 2: float16 maps and thresholded images.

    The maps come from anywhere, or for each object from 'predict MODEL mvtec_ad2/OBJECT --split SPLIT --out
    MAPS/OBJECT' with the splits validation, test_private and test_private_mixed.
    """
    from tinydefects.data.pixels import require_writable
    from tinydefects.submission.check import check_submission
    from tinydefects.submission.layout import describe_maps, find_maps, object_names
    from tinydefects.submission.writing import describe_submission, prepare, write_submission

    names = object_names(objects or [])
    if check:
        with show_progress() as progress:
            found = check_submission(maps, root=settings.root, objects=names, report=progress)
        print_result(asdict(found), as_json, str(found))
        if found.faults:
            raise ResultError(
                f"{maps}: {len(found.faults)} faults, first: {found.faults[0]}; mend them and check again"
            )
        return
    planned = find_maps(maps, settings.root, names, with_validation=settings.threshold is None or settings.rescale)
    if dry_run:
        return print_result([one.name for one in planned], as_json, describe_maps(planned))
    require_writable(settings.out.parent)
    with show_progress() as progress:
        prepared = prepare(
            planned,
            threshold=settings.threshold,
            rule=settings.threshold_from,
            alpha=settings.alpha,
            rescale=settings.rescale,
            report=progress,
        )
        written = write_submission(prepared, settings.out, report=progress)
    print_result([asdict(one) for one in written], as_json, describe_submission(written))
    say(f"archive: {settings.out}")
