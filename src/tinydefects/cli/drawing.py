"""Parts to measure on, drawn: draw."""

import shlex
from dataclasses import asdict
from typing import Annotated

import typer

from tinydefects.cli.options import Json, print_result, say, show_progress
from tinydefects.cli.settings_options import options_of
from tinydefects.datasets.synthetic.draw_settings import DrawSettings


@options_of(DrawSettings)
def draw(
    families: Annotated[list[str], typer.Argument(metavar="FAMILY...", help="granite, leather, …, or all.")],
    settings: DrawSettings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Draw a few images aside, say what all take, write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Draw parts with defects of exactly known size: photographs, masks and splits as MVTec AD lays them out.

    Whatever reads MVTec AD reads them. A manifest holds the truth of every defect,
    croissant.json the licence (CC0), the settings and the versions, SHA256SUMS every
    file. A drawing that was stopped goes on with the same command.

    tinydefects draw granite leather --out drawn --size 512 --n-defect 70
    tinydefects draw all --out pits --kind pit --min-area-px 4 --max-area-share 0.01 --dry-run
    tinydefects draw granite --out faint --sweep 8x8 --kind pit --diameters 2,48 --contrasts 4,96
    """
    from tinydefects.datasets.synthetic.drawing import look, plan_drawing, write

    plan = plan_drawing(families, settings)
    if dry_run:
        summary = look(plan)
        last = "nothing is written (--dry-run)"
        return print_result(asdict(summary), as_json, str(summary), f"about {summary.seconds:.0f} s; {last}")
    if plan.done:
        say(f"{settings.out}: {len(plan.done)} of {plan.n_images} photographs are there; going on")
    with show_progress() as progress:
        summary = write(plan, progress)
    end = f"written: {settings.out}" if summary.n_drawn else f"was there already, every file as drawn: {settings.out}"
    print_result(asdict(summary), as_json, str(summary), end)
    say(f"next: tinydefects inspect mvtec_ad/{summary.families[0]} --root {shlex.quote(str(settings.out))}")
