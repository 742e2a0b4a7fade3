"""Options that several subcommands share, and how they load, show progress and print."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.metrics.scores import Evaluation
    from tinydefects.progress import Progress
    from tinydefects.sample import Category


class CurveRule(StrEnum):
    """How the PRO curve is sampled."""

    exact = "exact"
    normal_thresholds = "normal_thresholds"
    published_99 = "published_99"


class ImageScore(StrEnum):
    """Where the image score comes from."""

    stored = "stored"
    max = "max"
    top = "top_0.1_percent"


def _device_here(device: str | None) -> str | None:
    """The device as it was named, checked before the command begins."""
    from tinydefects.devices import require_device

    return require_device(device)


CategoryId = Annotated[str, typer.Argument(metavar="DATASET/CATEGORY", help="e.g. mvtec_ad/screw, magnetic_tile/all")]
Root = Annotated[Path, typer.Option(help="Folder that holds the dataset.")]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="Option of the dataset's loader, e.g. n_train=300. Repeatable."
    ),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1, mps; the best one present when left out.", callback=_device_here),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON to standard output.")]
TeacherWeights = Annotated[
    Path | None, typer.Option(help="Teacher weights on disk: .safetensors, or the authors' .pth.")
]


def load(category_id: str, root: Path, options: Sequence[str] | None = None) -> "Category":
    """The category named on the command line, with the options its loader is given."""
    from tinydefects.datasets.catalog import load_category
    from tinydefects.datasets.loader_options import parse_options

    parsed = parse_options(category_id.split("/")[0], options) if options else {}
    return load_category(category_id, root=root, **parsed)


def parse_size(text: str) -> tuple[int, int]:
    """`1024x4096` as (height, width) in pixels."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise TinyDefectsError(f"--image-size {text}: write height x width in pixels, for example 1024x4096")
    return int(height), int(width)


def numbers(evaluation: "Evaluation") -> dict[str, object]:
    """The numbers of an evaluation without records and pictures, for --json."""
    from tinydefects.benchmark.result import numbers_of

    return numbers_of(evaluation)


def print_result(value: object, as_json: bool, *lines: str) -> None:
    """To standard output: the lines, or the value as strict JSON."""
    from tinydefects.benchmark.result import nan_to_null

    if as_json:
        print(json.dumps(nan_to_null(value), indent=1, allow_nan=False))
    else:
        print(*lines, sep="\n")


def say(line: str) -> None:
    """A remark for people, kept off standard output so that --json stays parseable."""
    sys.stderr.write(line + "\n")


@contextmanager
def show_progress() -> Iterator["Progress"]:
    """Progress bars on standard error for as long as the block runs."""
    from tinydefects.progress import Progress

    with Progress() as progress:
        yield progress
