"""The tinydefects command: its subcommands, and one line with exit code 2 for whatever a user can mend."""

import functools
import signal
import sys
from collections.abc import Callable
from typing import Any

import typer

from tinydefects.commands import (
    auditing,
    benchmarking,
    detecting,
    evaluating,
    exporting,
    inspecting,
    scoring,
    submitting,
)
from tinydefects.errors import MissingExtraError, Stopped, TinyDefectsError

DETECTOR_PACKAGES = {"torch", "torchvision", "timm", "safetensors"}

app = typer.Typer(
    name="tinydefects",
    help="Find defects a few pixels wide, and measure honestly how small one can go.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Terminated(KeyboardInterrupt):
    """SIGTERM came: end as after Ctrl-C, and leave nothing half-written."""


def stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, in which Ctrl-C and SIGTERM raise `Stopped`; of a KeyboardInterrupt typer would not say a word."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - typer's
        before = signal.signal(signal.SIGTERM, _terminate)
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as stop:
            line = str(stop) or "stopped; run the same command again to go on"
            raise Stopped(line, 143 if isinstance(stop, Terminated) else 130) from None
        finally:
            signal.signal(signal.SIGTERM, before)

    return run


for command in (
    detecting.demo,
    inspecting.inspect,
    detecting.fit,
    detecting.predict,
    evaluating.evaluate,
    benchmarking.benchmark,
    auditing.audit,
    scoring.report,
    scoring.compare,
    submitting.submit,
    exporting.export,
):
    app.command()(stoppable(command))


def main() -> None:
    """Run the command; an error a user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except TinyDefectsError as error:
        message = " ".join(str(error).split())
    except ModuleNotFoundError as error:
        if error.name not in DETECTOR_PACKAGES:
            raise
        message = str(MissingExtraError("this command", "detector"))
    except OSError as error:
        message = (
            f"{error.filename or 'system'}: {error.strerror or error}; check the path, its rights and the free space"
        )
    except MemoryError:
        message = "out of memory; lower --resolution or close other programs"
    except Stopped as stop:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # threads may have to end what they do
        line, code = stop.args
        sys.stderr.write(f"{line}\n")
        sys.exit(code)
    else:
        return
    sys.stderr.write(f"tinydefects: {message}\n")
    sys.exit(2)


def _terminate(*_: object) -> None:
    raise Terminated


if __name__ == "__main__":
    main()
