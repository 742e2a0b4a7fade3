"""The command run in this process, as the tests of its subcommands do."""

import sys

from tinydefects.cli import app as cli


def run(monkeypatch, capsys, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", ["tinydefects", *map(str, arguments)])
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
