"""Masks as people have them: import-masks."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.cli.options import Json, print_result, say, show_progress
from tinydefects.cli.settings_options import options_of
from tinydefects.data.walk import nfc, real_path
from tinydefects.datasets.importing.plan import ImportSettings


@options_of(ImportSettings)
def import_masks(
    source: Annotated[
        Path, typer.Argument(help="COCO's .json, CVAT's .xml, YOLO's data.yaml, or the folder of labelme's .json.")
    ],
    settings: ImportSettings,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count and measure all, write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make a folder of photographs and masks from the outlines of COCO, labelme, CVAT or YOLO.

    A pixel is marked when its centre lies inside an outline. Photographs are copied as
    they are or linked, masks are PNG of 0 and 255 at the photograph's own size. An
    import that was stopped leaves nothing.

    tinydefects import-masks instances.json --unannotated good --out parts
    tinydefects import-masks labels --good photographs/good --unannotated skip --out parts --dry-run
    tinydefects import-masks export/annotations.xml --class scratch --class dent --unannotated good --out parts
    """
    from tinydefects.data.pixels import require_writable
    from tinydefects.datasets.importing.plan import plan_import
    from tinydefects.datasets.importing.writing import look, write

    plan = plan_import(source, settings)
    for remark in plan.remarks:
        say(remark)
    if not dry_run:
        require_writable(settings.out.parent)
    with show_progress() as progress:
        summary = (look if dry_run else write)(plan, settings, progress)
    if dry_run:
        return print_result(asdict(summary), as_json, str(summary), "nothing is written (--dry-run)")
    out = real_path(settings.out)
    address = f"{shlex.quote(f'folder/{nfc(out.name)}')} --root {shlex.quote(str(settings.out.parent))}"
    allow = " --allow turned" if summary.n_turned else ""
    print_result(asdict(summary), as_json, str(summary), f"written: {settings.out}")
    say(f"next: tinydefects inspect {address}{allow}; then tinydefects fit {address} --dry-run")
