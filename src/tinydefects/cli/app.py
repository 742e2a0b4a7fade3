"""The tinydefects command: its subcommands, and one line for whatever goes wrong.

Exit codes: 0, it worked; 2, something a user can mend; 3, `monitor` found that the line has drifted; 70, a fault of
this program; 130, stopped by Ctrl-C, and 143, by SIGTERM; 141, nobody reads the output any more.
"""

import contextlib
import io
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from tinydefects.cli.options import BASIC_FLAGS, describe_versions, with_basics
from tinydefects.data.leftovers import new_name
from tinydefects.errors import MissingExtraError, Stopped, TinyDefectsError
from tinydefects.privacy import silence_reports

NAME = "tinydefects"
DETECTOR_PACKAGES = {"torch", "torchvision", "timm", "safetensors"}
MENDABLE, OUR_FAULT, NOBODY_READS = 2, 70, 141
REPORT_TO = "https://github.com/tinydefects/tinydefects/issues"
COMMANDS = {  # its module and its line in the help; none is imported before it is asked for
    "demo": ("detecting", "Draw parts with defects of known size, learn, find and score them; needs no download."),
    "draw": (
        "drawing",
        "Draw parts with defects of exactly known size: photographs, masks and splits as MVTec AD lays them out.",
    ),
    "datasets": (
        "listing",
        "List every dataset: licence, where to get it, and what of it is found under --root. Fetches nothing.",
    ),
    "unpack": (
        "listing",
        "Write MVTec AD or VisA, packed in Parquet files for the Hugging Face hub, as the folders that are read here.",
    ),
    "inspect": (
        "inspecting",
        "Say what could be seen at all: defect sizes, what each input resolution leaves of them, and what to do.",
    ),
    "fit": ("detecting", "Learn what good parts look like, from the category's defect-free training images."),
    "predict": (
        "detecting",
        "Write an anomaly map of full size, an overlay, a score and, with thresholds, a verdict for every image.",
    ),
    "calibrate": (
        "deciding",
        "Take thresholds from good photographs, or from those at hand under other wishes; says what is guaranteed.",
    ),
    "watch": ("deciding", "Decide photographs as they arrive in a folder, each once, until Ctrl-C; one line each."),
    "monitor": (
        "living",
        "Say whether a line has drifted since the calibration: which stream, since when. Exit code 3 if it has.",
    ),
    "update": (
        "living",
        "Learn from more good photographs without showing the teacher the old ones again; thresholds are taken anew.",
    ),
    "import-masks": (
        "importing",
        "Make a folder of photographs and masks from the outlines of COCO, labelme, CVAT or YOLO.",
    ),
    "evaluate": ("evaluating", "Score anybody's anomaly maps at the images' own resolution, by defect size."),
    "benchmark": ("benchmarking", "Compare methods under one protocol: same images, same teacher, same scoring."),
    "methods": ("listing", "List every method that can be compared: paper, what it needs, and what is left out."),
    "audit": (
        "evaluating",
        "Score maps under the rules other work has used: what each does to the numbers and to the ranking.",
    ),
    "report": (
        "evaluating",
        "Turn results into one HTML page: methods of a benchmark side by side, every other evaluation for itself.",
    ),
    "compare": (
        "evaluating",
        "Compare methods on the same images: differences, their intervals, and which of them can be told from chance.",
    ),
    "verify": (
        "sharing",
        "Check results: numbers against tallies, fingerprints of protocol, data, weights; exit code 2 if any fails.",
    ),
    "reproduce": (
        "sharing",
        "Run the very job of a result again, and compare: exit code 2 if a metric moves beyond the tolerance.",
    ),
    "merge": (
        "sharing",
        "Put results of several people into one folder, unless they cannot be compared; that is said, line by line.",
    ),
    "paper": (
        "sharing",
        "Write what a paper needs: every board as LaTeX, Markdown and CSV, figures, the protocol in words, BibTeX.",
    ),
    "submit": (
        "handing_over",
        "Write or check the archive for the evaluation server of MVTec AD 2: float16 maps and thresholded images.",
    ),
    "export": (
        "handing_over",
        "Write a detector for ONNX Runtime or OpenVINO, unless its maps differ from the detector's own.",
    ),
    "serve": (
        "serving",
        "Answer requests over HTTP, and serve a page to look at photographs with. Nothing leaves the machine.",
    ),
    "config": (
        "settings_options",
        "Print the default settings of a command as YAML, each with its line of help: a file for --config.",
    ),
}
UsageError: type = typer.BadParameter.__bases__[0]  # typer raises it and does not export it


class Program(TyperGroup):
    """Lets the options that every command has stand before the command, too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's, or a copy of it
        """The arguments with those options behind the command's name."""
        n_before = next((place for place, argument in enumerate(args) if argument not in BASIC_FLAGS), len(args))
        before, command, others = args[:n_before], args[n_before : n_before + 1], args[n_before + 1 :]
        is_command = bool(command) and not command[0].startswith("-")
        return super().parse_args(ctx, [*command, *before, *others] if is_command else args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # noqa: ANN401 - click's
        """The command that is asked for, loaded."""
        name, command, others = super().resolve_command(ctx, args)
        return name, load_command(name) if name in COMMANDS else command, others


def load_command(name: str) -> Any:  # noqa: ANN401 - click's, or a copy of it
    """A command with its options and those that all have; `config` loads all, as it shows the settings of each."""
    modules = [COMMANDS[name][0], *(module for module, _ in COMMANDS.values() if name == "config")]
    module, *_ = (import_module(f"tinydefects.cli.{module}") for module in modules)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(with_basics(getattr(module, name.replace("-", "_"))))
    return typer.main.get_command(alone)


app = typer.Typer(
    name=NAME,
    cls=Program,
    help="Find defects a few pixels wide, and measure honestly how small one can go.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _not_loaded() -> None:
    """What stands in the help for a command, which `Program` puts in its place."""


for name, (_, line) in COMMANDS.items():
    app.command(name, help=line)(_not_loaded)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(describe_versions())
        raise typer.Exit


@app.callback(invoke_without_command=True)
def choose(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions and stop.")
    ] = False,
) -> None:
    """Find defects a few pixels wide, and measure honestly how small one can go."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(MENDABLE)


def main() -> None:
    """Run the command; whatever goes wrong is one line on standard error, see the module for the exit code."""
    _repair_streams()
    silence_reports()
    try:
        _refuse_empty(sys.argv[1:])
        with private_matplotlib():
            code = app(prog_name=NAME, standalone_mode=False)
        sys.stdout.flush()
    except Stopped as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # threads may have to end what they do
        line, code = stop.args
        sys.stderr.write(f"{line}\n")
        _leave(code)
    except BrokenPipeError:
        _leave(NOBODY_READS)
    except SystemExit as stop:  # with 1 typer and rich leave a broken pipe
        _leave(NOBODY_READS if stop.code == 1 else stop.code)
    except Exception as error:
        code, message = _complaint(error)
        sys.stderr.write(f"{NAME}: {' '.join(message.split())}\n")
        _leave(code)
    if code:
        sys.exit(code)


@contextlib.contextmanager
def private_matplotlib() -> Iterator[None]:
    """While the block runs, matplotlib's list of fonts lies in a temporary folder, not in the user's home.

    It is made when matplotlib asks for it; what a kill leaves of it is swept after a week.
    """
    folder = Path(tempfile.gettempdir(), new_name())
    is_ours = "MPLCONFIGDIR" not in os.environ
    if is_ours:
        os.environ["MPLCONFIGDIR"] = str(folder)
    try:
        yield
    finally:
        if is_ours:
            del os.environ["MPLCONFIGDIR"]
        shutil.rmtree(folder, ignore_errors=True)


def _complaint(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error."""
    if isinstance(error, TinyDefectsError):
        return MENDABLE, str(error)
    if isinstance(error, UsageError):
        return MENDABLE, _usage_complaint(error)
    if isinstance(error, ModuleNotFoundError) and error.name in DETECTOR_PACKAGES:
        return MENDABLE, str(MissingExtraError("this command", "detector"))
    if isinstance(error, OSError):
        place = "system" if error.filename is None else os.fsdecode(error.filename)
        return MENDABLE, f"{place}: {error.strerror or error}; check the path, its rights and the free space"
    if isinstance(error, MemoryError):
        return MENDABLE, "out of memory; lower --resolution or close other programs"
    return OUR_FAULT, (
        f"a fault of this program ({type(error).__name__}: {error}), not of your input, in {describe_versions()}; "
        f"please report this line at {REPORT_TO}, with what --traceback adds to it"
    )


def _usage_complaint(error: Exception) -> str:
    """`Invalid value for '--epochs': …; see tinydefects fit --help`."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else NAME
    text = str(error.format_message()).strip().removesuffix(".")  # type: ignore[attr-defined]  # UsageError has it
    return f"{text}; see {path} --help"


def _refuse_empty(arguments: list[str]) -> None:
    """An empty text would mean the current folder where a path is due: mostly an unset variable of the shell.

    Raises:
        TinyDefectsError: an argument is empty or holds a zero byte.
    """
    for before, argument in pairwise(["", *arguments]):
        option = argument.removesuffix("=") if argument.startswith("--") and argument.endswith("=") else None
        if option is None and not argument.strip():
            option = before if before.startswith("-") else "an argument"
        if option is not None:
            raise TinyDefectsError(f"{option}: the value is empty; give one, or leave it out (is a variable unset?)")
        if "\0" in argument:
            raise TinyDefectsError(f"{argument!r}: holds a zero byte, which no path and no option has; leave it out")


def _repair_streams() -> None:
    """Whatever is printed can be: names that are no UTF-8 and letters a terminal lacks are written as escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave(code: str | int | None) -> NoReturn:
    """Exit without a second complaint where standard output or error cannot be written any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
