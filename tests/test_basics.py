"""What people try first with any command: its version, its help, silence, completion, pipes, and what an error says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinydefects
from command_line import run
from tinydefects.cli import app as cli
from tinydefects.cli import inspecting
from tinydefects.errors import TinyDefectsError

pytestmark = pytest.mark.slow

COMMANDS = (
    *("demo", "inspect", "fit", "predict", "evaluate", "benchmark", "audit", "report", "compare", "submit", "export"),
    *("calibrate", "watch", "monitor", "update", "serve", "import-masks", "datasets", "unpack", "methods", "config"),
    *("verify", "merge", "paper", "reproduce", "draw"),
)
PLAN = ("inspect", "--image-size", "300x400", "--defect-px", 4)


def start(*arguments: str, **options: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tinydefects", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def in_shell(line: str) -> subprocess.CompletedProcess:
    """A line of bash in which `tinydefects` is this package's."""
    program = f'tinydefects() {{ "{sys.executable}" -m tinydefects "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True)


def test_the_version_names_what_it_runs_with():
    finished = start("--version")
    assert finished.returncode == 0
    assert finished.stdout.startswith(f"tinydefects {tinydefects.__version__}, Python {sys.version.split()[0]}, numpy ")
    assert "torch" in finished.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_h_is_help_on_every_command(monkeypatch, capsys, command):
    code, short, _ = run(monkeypatch, capsys, command, "-h")
    assert (code, run(monkeypatch, capsys, command, "--help")[1]) == (0, short)
    for option in ("--quiet", "--traceback", "--help"):
        assert option in short


def test_without_a_command_the_help_is_shown_and_names_every_one(monkeypatch, capsys):
    code, alone, _ = run(monkeypatch, capsys)
    assert code == 2
    assert alone.strip() == run(monkeypatch, capsys, "-h")[1].strip()
    assert set(COMMANDS) == set(cli.COMMANDS)
    assert all(re.search(rf"^\W+{command} ", alone, re.MULTILINE) for command in COMMANDS)
    assert "--version" in alone


@pytest.mark.parametrize("command", COMMANDS)
def test_the_line_of_a_command_is_the_first_of_its_own_help(command):
    assert cli.load_command(command).help.split("\n\n")[0].replace("\n", " ") == cli.COMMANDS[command][1]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_completion_is_there_for_the_usual_shells(shell):
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = start("--show-completion", shell, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert "_TINYDEFECTS_COMPLETE" in shown.stdout


def test_completion_offers_commands_and_options():
    words = {"_TINYDEFECTS_COMPLETE": "complete_bash", "COMP_CWORD": "1", "COMP_WORDS": "tinydefects in"}
    assert start(env={**os.environ, **words}).stdout.split() == ["inspect"]
    words |= {"COMP_CWORD": "2", "COMP_WORDS": "tinydefects compare --res"}
    assert start(env={**os.environ, **words}).stdout.split() == ["--resamples"]


def test_quiet_leaves_results_and_errors_alone(monkeypatch, capsys, tmp_path):
    plot = ("--plot", tmp_path / "plan.svg")
    code, loud_out, loud_err = run(monkeypatch, capsys, *PLAN, *plot)
    assert (code, loud_err) == (0, f"plot: {tmp_path / 'plan.svg'}\n")
    for flag in ("--quiet", "-q"):
        assert run(monkeypatch, capsys, *PLAN, *plot, flag) == (0, loud_out, "")
    assert run(monkeypatch, capsys, *PLAN, *plot)[2] == loud_err  # it does not last
    code, out, err = run(monkeypatch, capsys, "report", tmp_path / "nowhere", "--quiet")
    assert (code, out) == (2, "")
    assert err.startswith("tinydefects: ")


def broken(*_: object, **__: object) -> None:
    raise ZeroDivisionError("seven\nby zero")


def test_a_fault_of_ours_is_one_line_that_says_how_to_report_it(monkeypatch, capsys):
    monkeypatch.setattr(inspecting, "parse_size", broken)
    code, out, err = run(monkeypatch, capsys, *PLAN)
    assert (code, out) == (70, "")
    assert err.count("\n") == 1
    for part in ("tinydefects: ", "ZeroDivisionError: seven by zero", tinydefects.__version__, "numpy", "/issues"):
        assert part in err


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_traceback_is_shown_to_whoever_asks(monkeypatch, capsys, way):
    monkeypatch.setattr(inspecting, "parse_size", broken)
    if way == "environment":
        monkeypatch.setenv("TINYDEFECTS_TRACEBACK", "1")
    code, _, err = run(monkeypatch, capsys, *PLAN, *(["--traceback"] if way == "option" else []))
    assert code == 70
    assert err.startswith("Traceback")
    assert "in broken" in err
    assert err.splitlines()[-1].startswith("tinydefects: a fault of this program")


def test_a_missing_package_that_is_no_extra_is_our_fault(monkeypatch, capsys):
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy")

    monkeypatch.setattr(inspecting, "parse_size", missing)
    code, _, err = run(monkeypatch, capsys, *PLAN)
    assert code == 70
    assert "No module named 'scipy'" in err


@pytest.mark.parametrize("line", ["tinydefects --help | head -1", "tinydefects inspect -h | true"])
def test_a_reader_that_leaves_early_gets_no_complaint(line):
    finished = in_shell(line)
    assert finished.stderr == ""
    assert finished.returncode in {0, 141}


def test_a_full_or_closed_output_is_told_once_or_borne():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    plan = " ".join(map(str, PLAN))
    full = in_shell(f"tinydefects {plan} > /dev/full")
    assert full.returncode == 2
    assert full.stderr.startswith("tinydefects: ")
    assert full.stderr.count("\n") == 1
    for closed in (">&-", "2>&-", ">&- 2>&-"):
        finished = in_shell(f"tinydefects {plan} {closed}")
        assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_terminal_can_show_any_name(tmp_path, encoding):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LANG": "C", "LC_ALL": "C"}
    shown = start(*map(str, PLAN), env=environment)
    assert shown.returncode == 0, shown.stderr
    name = os.fsdecode(b"r\xff\xc3\xa9sult \xe2\x82\xac.json")  # neither ASCII nor whole UTF-8
    refused = subprocess.run(
        [sys.executable, "-m", "tinydefects", "report", name], capture_output=True, cwd=tmp_path, env=environment
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith(b"tinydefects: ")
    assert b"Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["report", ""], "an argument"), (["report", "r", "--out", " "], "--out"), (["report", "r", "--out="], "--out")],
)
def test_an_empty_value_is_not_taken_for_the_current_folder(monkeypatch, capsys, arguments, named):
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 2
    assert err == f"tinydefects: {named}: the value is empty; give one, or leave it out (is a variable unset?)\n"


def test_an_error_of_the_command_line_is_one_line_that_points_to_the_help(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "compare", "a", "b", "--resamples", 3)
    assert code == 2
    assert err.startswith("tinydefects: Invalid value for '--resamples'")
    assert err.endswith("see tinydefects compare --help\n")
    assert err.count("\n") == 1


def test_a_mended_error_keeps_its_own_words(monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise TinyDefectsError("a.png: is gone;\n bring it back")

    monkeypatch.setattr(inspecting, "parse_size", refuse)
    assert run(monkeypatch, capsys, *PLAN) == (2, "", "tinydefects: a.png: is gone; bring it back\n")


def test_json_stays_parseable_beside_remarks(monkeypatch, capsys, tmp_path):
    code, out, err = run(monkeypatch, capsys, *PLAN, "--plot", tmp_path / "plan.svg", "--json")
    assert code == 0
    assert err
    assert json.loads(out)
