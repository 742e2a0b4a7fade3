"""Hand in: submit."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.cli.options import Json, Root, bounded, print_result, say, show_progress
from tinydefects.errors import ResultError


class ThresholdSource(StrEnum):
    """How an object's threshold follows from its validation images."""

    quantile = "validation"
    three_std = "validation_3_std"


def submit(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps; with --check, the submission itself.")],
    objects: Annotated[
        list[str] | None, typer.Argument(metavar="[mvtec_ad2/OBJECT]...", help="Left out: all eight.")
    ] = None,
    root: Root = Path("data"),
    out: Annotated[Path, typer.Option(help="The archive to write.")] = Path("submission.tar.gz"),
    threshold_from: Annotated[
        ThresholdSource, typer.Option(help="Quantile of the validation pixels, or their mean + 3 standard deviations.")
    ] = ThresholdSource.quantile,
    alpha: Annotated[
        float,
        typer.Option(
            callback=bounded(0, 1, without_most=True),
            help="Share of the validation pixels that may exceed the threshold.",
        ),
    ] = 0.001,
    threshold: Annotated[
        float | None,
        typer.Option(callback=bounded(-3.4e38, 3.4e38), help="A number instead, on the scale of the maps."),
    ] = None,
    rescale: Annotated[
        bool, typer.Option("--rescale", help="Bring validation scores to [0, 1], where float16 is fine enough.")
    ] = False,
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
            found = check_submission(maps, root=root, objects=names, report=progress)
        print_result(asdict(found), as_json, str(found))
        if found.faults:
            raise ResultError(
                f"{maps}: {len(found.faults)} faults, first: {found.faults[0]}; mend them and check again"
            )
        return
    planned = find_maps(maps, root, names, with_validation=threshold is None or rescale)
    if dry_run:
        return print_result([one.name for one in planned], as_json, describe_maps(planned))
    require_writable(out.parent)
    with show_progress() as progress:
        prepared = prepare(
            planned, threshold=threshold, rule=threshold_from.value, alpha=alpha, rescale=rescale, report=progress
        )
        written = write_submission(prepared, out, report=progress)
    print_result([asdict(one) for one in written], as_json, describe_submission(written))
    say(f"archive: {out}")
