"""What there is to work with: datasets, unpack."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.cli.options import Json, print_result, say, show_progress


def datasets(
    root: Annotated[Path, typer.Option(help="Folder that holds the datasets, each in a folder of its own.")] = Path(
        "data"
    ),
    as_json: Json = False,
) -> None:
    """List every dataset: licence, where to get it, and what of it is found under --root. Fetches nothing.

    A category is found when it can be loaded: what is missing from one that cannot stands below its dataset.

    tinydefects datasets --root data
    tinydefects datasets --root data --json
    """
    from tinydefects.datasets.inventory import describe, take_inventory

    if not root.is_dir():
        say(f"{root}: no such folder, so nothing is found; --root names the folder that holds datasets")
    with show_progress() as progress:
        entries = take_inventory(root, **({"progress": progress} if progress.is_watched else {}))
    print_result([asdict(entry) for entry in entries], as_json, describe(entries, root))


def unpack(
    source: Annotated[Path, typer.Argument(help="Folder with files such as screw.test-00000-of-00001.parquet.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the datasets, each in a folder of its own.")] = Path(
        "data"
    ),
    as_json: Json = False,
) -> None:
    """Write MVTec AD or VisA, packed in Parquet files for the Hugging Face hub, as the folders that are read here.

    Images and masks are written byte by byte, each category whole or not at all. Needs
    the extra 'tables'.

    tinydefects unpack downloads/mvtec --root data
    """
    from tinydefects.datasets.unpacking import unpack as write

    with show_progress() as progress:
        unpacked = write(source, root, progress=progress)
    print_result(asdict(unpacked), as_json, str(unpacked))
    say(f"next: tinydefects datasets --root {shlex.quote(str(root))}")
