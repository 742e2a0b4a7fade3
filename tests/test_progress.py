import numpy as np
import pytest

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.detector.detector import Detector
from tinydefects.progress import Progress

IMAGES = list(np.random.default_rng(0).integers(90, 130, (2, 48, 64, 3), dtype=np.uint8))
BAR_BEGINS = "\x1b[?25l"  # the cursor is hidden for as long as there are bars


def lines_of(capsys, total, *, known=True):
    with Progress() as progress:
        for done in range(1, total + 1):
            progress("teacher", done, total if known else None)
    return [line.rpartition(",")[0] for line in capsys.readouterr().err.splitlines()]


def test_without_a_terminal_a_stage_writes_a_line_every_tenth(capsys):
    lines = lines_of(capsys, 200)
    assert len(lines) == 10
    assert (lines[0], lines[-1]) == ("teacher: 20 of 200 (10%)", "teacher: 200 of 200 (100%)")


def test_a_stage_of_three_writes_three_lines(capsys):
    assert lines_of(capsys, 3) == ["teacher: 1 of 3 (33%)", "teacher: 2 of 3 (67%)", "teacher: 3 of 3 (100%)"]


def test_where_the_total_is_unknown_the_lines_are_twice_as_far_apart_each_time(capsys):
    assert lines_of(capsys, 9, known=False) == ["teacher: 1", "teacher: 2", "teacher: 4", "teacher: 8"]


def test_tracked_things_pass_unchanged_and_every_stage_has_lines_of_its_own(capsys):
    with Progress() as progress:
        assert list(progress.track("ab", "read", 2)) == ["a", "b"]
        assert list(progress.track("c", "score", 1)) == ["c"]
    stages = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert stages == ["read", "read", "score"]


def test_a_terminal_gets_bars_instead_of_lines(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes any stream for a terminal
    with Progress() as progress:
        progress("teacher", 1, 2)
    written = capsys.readouterr().err
    assert "1/2" in written
    assert "(50%)" not in written


class ZMQInteractiveShell:
    """What a notebook's kernel calls itself."""


@pytest.fixture
def watched_by(monkeypatch):
    def look(who):
        if who == "terminal":
            monkeypatch.setenv("FORCE_COLOR", "1")
        if who == "notebook":
            monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)

    return look


def fit(capsys, **options):
    Detector(teacher=counting_teacher(), resolution=64, epochs=3).fit(IMAGES, **options)
    return capsys.readouterr().err


@pytest.mark.parametrize("who", ["terminal", "notebook"])
def test_a_fit_shows_its_stages_to_whoever_watches(capsys, watched_by, who):
    watched_by(who)
    written = fit(capsys)
    assert "teacher" in written
    assert "students" in written
    assert {"terminal": "3/3", "notebook": "3 of 3"}[who] in written


@pytest.mark.parametrize("who", ["terminal", "notebook"])
def test_a_fit_that_was_told_so_shows_nothing(capsys, watched_by, who):
    watched_by(who)
    assert fit(capsys, progress=False) == ""


def test_a_fit_that_nobody_watches_shows_nothing_unless_it_was_told_to(capsys):
    assert fit(capsys) == ""
    assert "students: 3 of 3" in fit(capsys, progress=True)


def test_a_function_is_called_instead_of_a_display(capsys, watched_by):
    watched_by("terminal")
    told = []
    assert fit(capsys, progress=lambda *step: told.append(step)) == ""
    assert told[-1] == ("students", 3, 3)


def test_in_a_notebook_a_stage_is_one_line_drawn_over_itself(capsys, watched_by):
    watched_by("notebook")
    with Progress() as progress:
        for done in (1, 2):
            progress("read", done, 2)
        progress("score", 1, None)
    read, score = capsys.readouterr().err.split("\n")
    first, last = read.split("\r")
    assert (first.count("█"), last.count("█")) == (15, 30)
    assert last.startswith("read: ")
    assert "2 of 2" in last
    assert score.startswith("score: 1, ")


def test_the_fit_of_the_command_line_shows_one_display(tmp_path, monkeypatch, capsys, watched_by):
    watched_by("terminal")
    monkeypatch.chdir(tmp_path)
    arguments = ["synthetic/brushed_metal", "--option", "size=64", "--option", "n_train=2", "--resolution", "64"]
    arguments += ["--teacher", "builtin", "--device", "cpu", "--epochs", "1"]
    code, _, err = run(monkeypatch, capsys, "fit", *arguments)
    assert code == 0
    assert "students" in err
    shown = {"depth of images", "read, teacher and students"}
    assert err.count(BAR_BEGINS) == len(shown)
