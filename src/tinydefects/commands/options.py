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


class Allowed(StrEnum):
    """What is refused unless it is meant."""

    unmarked = "unmarked"


CategoryId = Annotated[str, typer.Argument(metavar="DATASET/CATEGORY", help="e.g. mvtec_ad/screw, magnetic_tile/all")]
Root = Annotated[Path, typer.Option(help="Folder that holds the dataset.")]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="Option of the dataset's loader, e.g. n_train=300. Repeatable."
    ),
]
Allow = Annotated[
    list[Allowed] | None,
    typer.Option(
        "--allow",
        help="What is refused unless it is meant: 'unmarked' counts defective images without mask for image figures. "
        "Repeatable.",
    ),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; the best one present when left out.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON to standard output.")]
TeacherWeights = Annotated[
    Path | None, typer.Option(help="Teacher weights on disk: .safetensors, or the authors' .pth.")
]


def load(
    category_id: str,
    root: Path,
    options: Sequence[str] | None = None,
    *,
    allow: Sequence[Allowed] | None = None,
    training_only: bool = False,
) -> "Category":
    """The category named on the command line, with the options its loader is given; what was left out is said."""
    from tinydefects.datasets.catalog import load_category, load_training, parse_address
    from tinydefects.datasets.loader_options import parse_options

    parsed = parse_options(parse_address(category_id)[0], options) if options else {}
    if training_only:
        category = load_training(category_id, root=root, **parsed)
    else:
        category = load_category(category_id, root=root, allow_unmarked=Allowed.unmarked in (allow or ()), **parsed)
    say_remarks(category)
    return category


def say_remarks(category: "Category") -> None:
    """What its folder left open, once, for people."""
    for remark in category.remarks:
        say(f"{category.id}: {remark}")


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
