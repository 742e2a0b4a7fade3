"""The tinydefects command: its subcommands, and one line with exit code 2 for whatever a user can mend."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

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
from tinydefects.privacy import go_offline, private_matplotlib, silence_reports

DETECTOR_PACKAGES = {"torch", "torchvision", "timm", "safetensors"}
OWN_OPTIONS = {"--offline"}  # of the program, not of a command


class Program(TyperGroup):
    """Lets the program's own options stand behind a command as well as before it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's, or a copy of it
        """The arguments with those options at the front; what follows `--` is left alone."""
        end = args.index("--") if "--" in args else len(args)
        own = [argument for argument in args[:end] if argument in OWN_OPTIONS]
        others = [argument for argument in args[:end] if argument not in OWN_OPTIONS]
        return super().parse_args(ctx, own + others + args[end:])


app = typer.Typer(
    name="tinydefects",
    help="Find defects a few pixels wide, and measure honestly how small one can go.",
    cls=Program,
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


@app.callback()
def program(
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Fetch nothing, as TINYDEFECTS_OFFLINE=1; before or behind a command."),
    ] = False,
) -> None:
    """Options of the program itself."""
    if offline:
        go_offline()


def main() -> None:
    """Run the command; an error a user can mend is one line on standard error and exit code 2."""
    silence_reports()
    try:
        with private_matplotlib():
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
