from tinydefects.data.progress import Progress


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
