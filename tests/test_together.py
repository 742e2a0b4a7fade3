import os
from pathlib import Path

import pytest

from killed import killed_at_each_step
from tinydefects.data import leftovers
from tinydefects.data.leftovers import PREFIX, READY, replace_together, settle, settle_below

OLD = {"model.bin": "old", "extra.bin": "old", "model.json": "old"}
NEW = {"model.bin": "new", "model.json": "new"}


@pytest.fixture(autouse=True)
def a_new_process():
    leftovers.sweep_once.cache_clear()


def put(folder: Path, files: dict[str, str]) -> None:
    def write(new: Path) -> None:
        for name, text in files.items():
            (new / name).write_text(text)

    replace_together(folder, "set", write, gone=["extra.bin"])


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(PREFIX)}


def test_files_replace_those_of_their_names_and_what_is_gone_goes(tmp_path):
    put(tmp_path / "a", OLD)
    (tmp_path / "a/notes.txt").write_text("mine")
    put(tmp_path / "a", NEW)
    assert contents(tmp_path / "a") == {**NEW, "notes.txt": "mine"}


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_the_old_set_or_the_new_one(tmp_path):
    seen = []
    put(tmp_path, OLD)
    for _ in killed_at_each_step(lambda: put(tmp_path, NEW)):
        settle(tmp_path, "set")
        seen.append(contents(tmp_path))
        assert seen[-1] in (OLD, NEW)
        put(tmp_path, OLD)
    assert seen[0] == OLD
    assert seen[-1] == NEW
    assert contents(tmp_path) == NEW
    steps = [one == NEW for one in seen]
    assert steps == sorted(steps), "once it counts, it counts"


@pytest.mark.slow
def test_a_reader_that_is_killed_while_it_settles_loses_nothing(tmp_path):
    def leave_a_finished_set() -> None:
        put(tmp_path, OLD)
        ready = tmp_path / f".set{READY}"
        ready.mkdir()
        for name, text in {**NEW, "extra.bin.removed": ""}.items():
            (ready / name).write_text(text)

    leave_a_finished_set()
    for _ in killed_at_each_step(lambda: settle(tmp_path, "set")):
        settle(tmp_path, "set")
        assert contents(tmp_path) == NEW
        leave_a_finished_set()
    assert contents(tmp_path) == NEW


def test_a_writer_finishes_what_a_killed_one_has_not_moved(tmp_path):
    ready = tmp_path / f".set{READY}"
    ready.mkdir()
    (ready / "extra.bin").write_text("finished")
    (ready / "model.json").write_text("finished")
    put(tmp_path, NEW)
    assert contents(tmp_path) == NEW


def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path):
    def fail(new: Path) -> None:
        (new / "model.bin").write_text("half")
        raise OSError(28, "No space left on device")

    put(tmp_path / "a", OLD)
    for folder in (tmp_path / "a", tmp_path / "new/below"):
        with pytest.raises(OSError, match="No space"):
            replace_together(folder, "set", fail)
    assert contents(tmp_path / "a") == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_sets_are_settled_below_a_folder_each_by_its_name(tmp_path):
    for name in ("one", "a.two"):
        ready = tmp_path / f"x/.{name}{READY}"
        ready.mkdir(parents=True)
        (ready / f"{name}.json").write_text(name)
    settle_below(tmp_path)
    assert contents(tmp_path / "x") == {"one.json": "one", "a.two.json": "a.two"}


def test_what_cannot_be_moved_by_this_user_is_read_as_it_lies(tmp_path, monkeypatch):
    put(tmp_path, OLD)
    ready = tmp_path / f".set{READY}"
    ready.mkdir()
    (ready / "model.bin").write_text("new")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    settle(tmp_path, "set")
    assert (tmp_path / "model.bin").read_text() == "old"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_and_folders_have_the_rights_of_the_users_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        put(tmp_path / "new", NEW)
    finally:
        os.umask(before)
    rights = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "new", *(tmp_path / "new").iterdir()]}
    assert rights == {"new": 0o777 & ~umask, "model.bin": 0o666 & ~umask, "model.json": 0o666 & ~umask}


def test_a_linked_folder_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere")
    put(tmp_path / "model", NEW)
    assert (tmp_path / "model").is_symlink()
    assert contents(tmp_path / "elsewhere") == NEW
