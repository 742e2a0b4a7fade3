import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from killed import killed_at_each_step
from tinydefects.data import leftovers
from tinydefects.data.leftovers import LOCK_FILE, PREFIX, THIS_MACHINE, scratch_file, scratch_folder, sweep
from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError

LEFT = f"{THIS_MACHINE}000000000000"


@pytest.fixture(autouse=True)
def a_new_process():
    leftovers.sweep_once.cache_clear()


def left_over(folder: Path, name: str = LEFT, *, seconds: float = 10) -> Path:
    """A temporary folder as a killed run leaves it, that many seconds ago."""
    path = folder / name
    path.mkdir()
    (path / LOCK_FILE).touch()
    (path / "big").write_bytes(bytes(3_000_000))
    return aged(path, seconds)


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_run_left_is_swept_and_told_in_one_line(tmp_path, caplog):
    left_over(tmp_path)
    aged_file = tmp_path / f"{THIS_MACHINE}1"
    aged_file.write_bytes(bytes(500_000))
    aged(aged_file, 10)
    sweep(tmp_path)
    assert names(tmp_path) == []
    assert [record.getMessage() for record in caplog.records] == [
        f"swept from {tmp_path}: 2 temporary things of runs that were killed (3.5 MB)"
    ]


def test_writing_into_a_folder_sweeps_it_once(tmp_path):
    left_over(tmp_path)
    write_whole(tmp_path / "a.txt", lambda file: file.write(b"new"))
    assert names(tmp_path) == ["a.txt"]
    left_over(tmp_path)
    write_whole(tmp_path / "a.txt", lambda file: file.write(b"newer"))
    assert names(tmp_path) == [LEFT, "a.txt"]


def test_what_a_living_run_holds_is_left_alone(tmp_path):
    with scratch_folder(tmp_path) as folder, scratch_file(tmp_path) as (file, path):
        (folder / "a").write_bytes(b"mine")
        file.write(b"mine")
        for thing in (folder.parent, path):
            aged(thing, 10)
        sweep(tmp_path)
        assert (folder / "a").read_bytes() == b"mine"
        assert path.exists()
    assert names(tmp_path) == []


def test_another_living_process_keeps_its_folder_until_it_is_killed(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from tinydefects.data.leftovers import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])): print('here', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    (folder,) = tmp_path.iterdir()
    aged(folder, 10)
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sweep(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "seconds", "stays"),
    [
        (LEFT, 0.0, True),  # may be made just now, and not locked yet
        (f"{PREFIX}other0-1", 3600.0, True),  # of another machine, whose lock may not be seen here
        (f"{PREFIX}other0-1", 8 * 24 * 3600.0, False),
        (".tinydefects", 8 * 24 * 3600.0, True),  # not one of ours
        ("tinydefects-000", 8 * 24 * 3600.0, True),
    ],
)
def test_only_what_is_surely_abandoned_is_swept(tmp_path, name, seconds, stays):
    left_over(tmp_path, name, seconds=seconds)
    sweep(tmp_path)
    assert names(tmp_path) == ([name] if stays else [])


def test_where_there_are_no_locks_only_age_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "fcntl", None)
    left_over(tmp_path, seconds=3600)
    left_over(tmp_path, f"{THIS_MACHINE}1", seconds=8 * 24 * 3600)
    sweep(tmp_path)
    assert names(tmp_path) == [LEFT]


def test_what_other_users_left_is_theirs(tmp_path, monkeypatch):
    left_over(tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    sweep(tmp_path)
    assert names(tmp_path) == [LEFT]


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photograph.png").touch()
    (tmp_path / LEFT).symlink_to(tmp_path / "mine")
    os.utime(tmp_path / LEFT, (0, 0), follow_symlinks=False)
    sweep(tmp_path)
    assert names(tmp_path / "mine") == ["photograph.png"]


def test_nothing_is_logged_where_nothing_was_left(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    sweep(tmp_path)
    sweep(tmp_path / "missing")
    assert caplog.records == []


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"old")
    seen = set()
    for _ in killed_at_each_step(lambda: write_whole(path, lambda file: file.write(b"new"))):
        seen.add(path.read_bytes())
        path.write_bytes(b"old")
    assert seen == {b"old", b"new"}
    for left in tmp_path.glob(f"{PREFIX}*"):
        aged(left, 10)
    leftovers.sweep_once.cache_clear()
    write_whole(path, lambda file: file.write(b"newer"))
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_rights_of_the_users_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "new/a.txt", lambda file: file.write(b"new"))
    finally:
        os.umask(before)
    assert (tmp_path / "new/a.txt").stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_full_disk_is_one_line_although_numpy_gives_no_number_of_the_error(tmp_path):
    def fill(file):
        raise OSError("1000 requested and 512 written")

    with pytest.raises(TinyDefectsError, match=r"a\.npy: cannot write \(is the disk full\? 1000 requested and 512"):
        write_whole(tmp_path / "a.npy", fill)
    assert names(tmp_path) == []


def test_what_is_no_file_is_written_to_and_never_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, lambda file: (file.write(b"whole"), file.seek(0), file.write(b"W")))
        assert os.read(reader, 100) == b"Whole"
    finally:
        os.close(reader)
    assert names(tmp_path) == ["pipe"]
    assert pipe.is_fifo()
    with pytest.raises(TinyDefectsError, match=r"cannot write \(Is a directory\)"):
        write_whole(tmp_path, lambda file: file.write(b"whole"))


def test_a_set_that_is_a_link_is_left_alone_and_so_is_what_it_leads_to(tmp_path):
    """Results that somebody sends may hold one; to read them must not move or remove a file elsewhere."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/.seed_0.ready").symlink_to(tmp_path / "mine")
    leftovers.settle(tmp_path / "theirs", "seed_0")
    leftovers.settle_below(tmp_path / "theirs")
    assert names(tmp_path / "mine") == ["letter.txt"]
    assert names(tmp_path / "theirs") == [".seed_0.ready"]
