"""Options that several subcommands share, and how they load, show progress and print."""

import inspect
import platform
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinydefects.errors import Stopped, TinyDefectsError
from tinydefects.limits import MOST_PIXELS, MOST_SEED
from tinydefects.privacy import go_offline

if TYPE_CHECKING:
    from tinydefects.data.sample import Category
    from tinydefects.metrics.scores import Evaluation
    from tinydefects.progress import Progress


MACHINE, GENERAL = "Machine", "General"  # headings of the help
IS_QUIET: ContextVar[bool] = ContextVar("is_quiet", default=False)
Bound = Callable[[typer.Context, typer.CallbackParam, float | None], float | None]


class Allowed(StrEnum):
    """What looks like a mistake, and is none when it is named."""

    unmarked = "unmarked"
    mostly_marked = "mostly-marked"
    nothing_marked = "nothing-marked"
    multi_page = "multi-page"
    photograph_as_mask = "photograph-as-mask"
    turned = "turned"


def device_here(device: str | None) -> str | None:
    """The device as it was named, checked before the command begins."""
    from tinydefects.detector.devices import require_device

    return require_device(device)


CategoryId = Annotated[str, typer.Argument(metavar="DATASET/CATEGORY", help="e.g. mvtec_ad/screw, magnetic_tile/all")]
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
        help="What looks like a mistake and is none: defective images without a mask (they count for image metrics), "
        "or masks that are refused. Repeatable.",
    ),
]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Device = Annotated[
    str | None,
    typer.Option(
        help="cpu, cuda, cuda:1, mps; the best one present when left out.",
        callback=device_here,
        rich_help_panel=MACHINE,
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of everything random.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print machine-readable JSON to standard output.", rich_help_panel=GENERAL)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Neither progress nor remarks; errors remain.", rich_help_panel=GENERAL)
]
ShowTraceback = Annotated[
    bool,
    typer.Option(
        "--traceback",
        envvar="TINYDEFECTS_TRACEBACK",
        help="With an error, show where it was raised.",
        rich_help_panel=GENERAL,
    ),
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Fetch nothing, as with TINYDEFECTS_OFFLINE=1.", rich_help_panel=GENERAL)
]
BASIC_FLAGS = {"--quiet", "-q", "--offline", "--traceback"}


class Terminated(KeyboardInterrupt):
    """SIGTERM came: end as after Ctrl-C, and leave nothing half-written."""


def _terminate(*_: object) -> None:
    raise Terminated


def with_basics(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options that all have: --quiet, --offline and --traceback."""

    @wraps(command)
    def run(*, quiet: bool, offline: bool, show_traceback: bool, **options: object) -> None:
        if offline:
            go_offline()
        before = IS_QUIET.set(quiet)
        handler = signal.signal(signal.SIGTERM, _terminate)
        try:
            command(**options)
        except KeyboardInterrupt as stop:  # typer would end without a word
            line = str(stop) or "stopped; run the same command again to go on"
            raise Stopped(line, 143 if isinstance(stop, Terminated) else 130) from None
        except Exception as error:
            if show_traceback and not isinstance(error, typer.Exit):
                traceback.print_exc()
            raise
        finally:
            signal.signal(signal.SIGTERM, handler)
            IS_QUIET.reset(before)

    own = inspect.signature(command, eval_str=True)
    basics: dict[str, Any] = {"quiet": Quiet, "offline": Offline, "show_traceback": ShowTraceback}
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in basics.items()
    ]
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, **basics}
    return run


def bounded(least: float, most: float, *, without_least: bool = False, without_most: bool = False) -> Bound:
    """A check that an option's number lies in [least, most]; it refuses nan, too, which typer's own bounds let pass."""

    def check(context: typer.Context, parameter: typer.CallbackParam, value: float | None) -> float | None:
        source = context.get_parameter_source(parameter.name or "")
        if value is None or source is None or source.name == "DEFAULT":
            return value
        is_above = value > least if without_least else value >= least
        is_below = value < most if without_most else value <= most
        if not (is_above and is_below):
            opening, closing = "(" if without_least else "[", ")" if without_most else "]"
            raise typer.BadParameter(f"{value:g} is not in {opening}{least:g}, {most:g}{closing}")
        return value

    return check


def describe_versions() -> str:
    """What matters when something goes wrong: `tinydefects 0.1.0, Python 3.13.1, numpy 2.3.0, torch 2.10.0`."""
    from importlib import metadata

    told = []
    for package in ("tinydefects", "numpy", "torch"):
        try:
            told.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:  # torch is an extra, and a checkout need not be installed
            continue
    return ", ".join([*told[:1], f"Python {platform.python_version()}", *told[1:]])


def load(
    category_id: str,
    root: Path,
    options: Sequence[str] | None = None,
    *,
    allow: Sequence[Allowed] | None = None,
    training_only: bool = False,
) -> "Category":
    """The category named on the command line, with the options its loader is given; what was left out is said."""
    from tinydefects.data.mask_checks import allowing
    from tinydefects.datasets.catalog import load_category, load_training, parse_address, parse_options

    parsed = parse_options(parse_address(category_id)[0], options) if options else {}
    if training_only:
        category = load_training(category_id, root=root, **parsed)
    else:
        unmarked = Allowed.unmarked in (allow or ())
        category = allowing(load_category(category_id, root=root, allow_unmarked=unmarked, **parsed), allow or ())
    say_remarks(category)
    return category


def say_remarks(category: "Category") -> None:
    """What its folder left open, once, for people."""
    for remark in category.remarks:
        say(f"{category.id}: {remark}")


def check_masks_of(category: "Category", allow: Sequence[str] | None, progress: "Progress") -> "Category":
    """Look at all masks before anything is made of them; refuse mistakes, say what else a reader should know."""
    from tinydefects.data.mask_checks import check_masks

    checked = check_masks(category, allowed=allow or (), progress=progress)
    for remark in checked.remarks:
        say(f"{category.id}: {remark}")
    return checked.category


def parse_size(text: str) -> tuple[int, int]:
    """`1024x4096` as (height, width) in pixels."""
    height, _, width = text.lower().partition("x")
    if not (is_whole_number(height, 1, MOST_PIXELS) and is_whole_number(width, 1, MOST_PIXELS)):
        raise TinyDefectsError(f"--image-size {text}: write height x width in pixels, for example 1024x4096")
    return int(height), int(width)


def is_whole_number(text: str, least: int, most: int) -> bool:
    """Whether a text is one, within these bounds."""
    return text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most


def numbers(evaluation: "Evaluation") -> dict[str, object]:
    """The numbers of an evaluation without records and pictures, for --json."""
    from tinydefects.results.result import numbers_of

    return numbers_of(evaluation)


def print_result(value: object, as_json: bool, *lines: str) -> None:
    """To standard output: the lines, or the value as strict JSON."""
    from tinydefects.data.json_files import json_text

    if as_json:
        print(json_text(value))
    else:
        print(*lines, sep="\n")


def say(line: str) -> None:
    """A remark for people, kept off standard output so that --json stays parseable."""
    if not IS_QUIET.get():
        sys.stderr.write(line + "\n")


@contextmanager
def show_progress() -> Iterator["Progress"]:
    """Progress bars on standard error for as long as the block runs."""
    from tinydefects.progress import Progress

    with Progress(quiet=IS_QUIET.get()) as progress:
        yield progress
