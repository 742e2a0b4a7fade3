"""The tinydefects command: its subcommands, and one line with exit code 2 for whatever a user can mend."""

import sys

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
from tinydefects.errors import MissingExtraError, TinyDefectsError

DETECTOR_PACKAGES = {"torch", "torchvision", "timm", "safetensors"}

app = typer.Typer(
    name="tinydefects",
    help="Find defects a few pixels wide, and measure honestly how small one can go.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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
    app.command()(command)


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
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run the same command again to go on\n")
        sys.exit(130)
    else:
        return
    sys.stderr.write(f"tinydefects: {message}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
