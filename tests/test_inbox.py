"""A watched folder: nothing twice, nothing lost, nothing half-written; whatever happens between two steps."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinydefects.errors import DatasetError, ResultError, TinyDefectsError
from tinydefects.serve.inbox import Inbox, WatchSettings, require_inbox, watch
from tinydefects.serve.journal import Arrival, Entry, Journal, read_journal


class Killed(BaseException):
    """The process ends here."""


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def mean(sample, image):
    return {"score": float(image.mean())}


def draw(path, value=7, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def settings(**changes):
    return WatchSettings(**{"settle_seconds": 0, "patience_seconds": 0, "poll_seconds": 0.01, "once": True} | changes)


def run(tmp_path, decide=mean, stop=None, **changes):
    out = tmp_path / "out"
    inbox = Inbox(folder=tmp_path / "in", out=out, settings=settings(**changes))
    with Journal(out / "decisions.jsonl") as journal:
        return watch(inbox, journal, decide, detector="abc", stop=stop or threading.Event())


def entries(tmp_path):
    return list(read_journal(tmp_path / "out" / "decisions.jsonl"))


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_photographs_are_decided_once_in_the_order_they_came_and_moved(tmp_path):
    for number, name in enumerate(["late.png", "cam 1/early.png", "middle.bmp"]):
        draw(tmp_path / "in" / name, value=number)
    for age, name in enumerate(["cam 1/early.png", "middle.bmp", "late.png"]):
        os.utime(tmp_path / "in" / name, (1000 + age, 1000 + age))
    assert str(run(tmp_path)) == "3 decisions"
    assert [(one.arrival.name, one.decision["score"]) for one in entries(tmp_path)] == [
        ("cam 1/early.png", 1.0),
        ("middle.bmp", 2.0),
        ("late.png", 0.0),
    ]
    assert names(tmp_path / "out" / "done") == ["cam 1/early.png", "late.png", "middle.bmp"]
    assert names(tmp_path / "in") == []
    assert str(run(tmp_path)) == "0 decisions"


def test_entries_name_the_detector_that_decided_and_those_of_older_journals_none(tmp_path):
    path = tmp_path / "out" / "decisions.jsonl"
    path.parent.mkdir()
    old = '{"time":"2026-11-01T10:00:00Z","arrival":{"name":"old.png","n_bytes":1,"changed_ns":2},"problem":"broken"}\n'
    path.write_text(old)
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_text("no picture")
    run(tmp_path)
    assert [(one.arrival.name, one.detector) for one in entries(tmp_path)] == [
        ("old.png", None),
        ("a.png", "abc"),
        ("b.png", "abc"),
    ]
    assert path.read_text().startswith(old)


def test_a_file_that_grows_is_waited_for_and_decided_when_it_is_whole(tmp_path):
    draw(tmp_path / "whole.png", size=(64, 64))
    content = (tmp_path / "whole.png").read_bytes()
    part = tmp_path / "in" / "part.png"
    part.parent.mkdir()
    part.write_bytes(content[:50])
    clock = Clock()
    given = settings(settle_seconds=2, patience_seconds=10)
    inbox = Inbox(folder=tmp_path / "in", out=tmp_path / "out", settings=given, clock=clock)

    def look():
        return [arrival.n_bytes for _, arrival in inbox.look(lambda arrival: False)[0]]

    assert look() == []
    clock.now = 1.9
    assert look() == []
    part.write_bytes(content[:90])
    clock.now = 2.1
    assert look() == []  # it has changed
    part.write_bytes(content)
    clock.now = 3
    assert look() == []
    clock.now = 5
    assert look() == [len(content)]


def test_half_a_file_is_given_up_only_after_its_patience(tmp_path):
    draw(tmp_path / "whole.png", size=(64, 64))
    content = (tmp_path / "whole.png").read_bytes()
    part = tmp_path / "in" / "part.png"
    part.parent.mkdir()
    part.write_bytes(content[: len(content) // 2])
    clock, stop = Clock(), threading.Event()
    inbox = Inbox(
        folder=tmp_path / "in",
        out=tmp_path / "out",
        settings=settings(patience_seconds=10, once=False),
        clock=clock,
    )
    looks = 0

    def later():
        nonlocal looks
        looks += 1
        clock.now += 4
        return looks > 8

    stop.is_set = later
    with Journal(tmp_path / "out" / "decisions.jsonl") as journal:
        watched = watch(inbox, journal, mean, detector="abc", stop=stop)
    (entry,) = entries(tmp_path)
    assert str(watched) == "0 decisions, 1 not readable (in failed/)"
    assert "part.png" in entry.problem
    assert names(tmp_path / "out" / "failed") == ["part.png"]


@pytest.mark.parametrize("where", ["before the decision", "before the move", "within a line"])
def test_a_kill_between_any_two_steps_neither_loses_nor_repeats_a_photograph(tmp_path, monkeypatch, where):
    for number in range(3):
        draw(tmp_path / "in" / f"{number}.png", value=number)
        os.utime(tmp_path / "in" / f"{number}.png", (1000 + number, 1000 + number))

    def die(*_, **__):
        raise Killed

    def decide(sample, image):
        if where != "before the move" and sample.id.endswith("1.png"):
            die()
        return mean(sample, image)

    with monkeypatch.context() as broken:
        if where == "before the move":
            broken.setattr(Inbox, "move", die)
        with pytest.raises(Killed):
            run(tmp_path, decide)
    if where == "within a line":
        with (tmp_path / "out" / "decisions.jsonl").open("ab") as file:
            file.write(b'{"time": "2026-')
    run(tmp_path)
    assert [one.arrival.name for one in entries(tmp_path)] == ["0.png", "1.png", "2.png"]
    assert names(tmp_path / "out" / "done") == ["0.png", "1.png", "2.png"]


def test_a_second_photograph_of_one_name_is_decided_too_and_both_are_kept(tmp_path):
    draw(tmp_path / "in" / "image.bmp", value=1)
    run(tmp_path)
    draw(tmp_path / "in" / "image.bmp", value=2)
    run(tmp_path)
    assert [one.decision["score"] for one in entries(tmp_path)] == [1.0, 2.0]
    assert names(tmp_path / "out" / "done") == ["image.2.bmp", "image.bmp"]


def test_photographs_that_stay_are_known_from_the_journal(tmp_path):
    draw(tmp_path / "in" / "a.png")
    assert run(tmp_path, done="keep").n_decided == 1
    draw(tmp_path / "in" / "b.png")
    assert run(tmp_path, done="keep").n_decided == 1
    assert names(tmp_path / "in") == ["a.png", "b.png"]


def test_the_output_below_the_inbox_is_no_arrival(tmp_path):
    draw(tmp_path / "in" / "a.png")
    inbox = Inbox(folder=tmp_path / "in", out=tmp_path / "in" / "out", settings=settings())
    for expected in (1, 0):
        with Journal(inbox.out / "decisions.jsonl") as journal:
            assert watch(inbox, journal, mean, detector="abc", stop=threading.Event()).n_decided == expected


def test_stopping_finishes_the_photograph_at_hand(tmp_path):
    for number in range(3):
        draw(tmp_path / "in" / f"{number}.png")
    stop = threading.Event()

    def decide(sample, image):
        stop.set()
        return mean(sample, image)

    assert run(tmp_path, decide, stop, once=False).n_decided == 1
    assert len(names(tmp_path / "in")) == 2
    assert len(names(tmp_path / "out" / "done")) == 1


def test_a_folder_that_goes_away_is_waited_for(tmp_path):
    folder, lines, stop = tmp_path / "in", [], threading.Event()
    draw(folder / "a.png")
    folder.rename(tmp_path / "away")
    inbox = Inbox(folder=folder, out=tmp_path / "out", settings=settings(once=False))

    def back(line):
        lines.append(line)
        (tmp_path / "away").rename(folder)

    with Journal(tmp_path / "out" / "decisions.jsonl") as journal:
        watched = watch(inbox, journal, mean, detector="abc", stop=stop, say=back, tell=lambda entry: stop.set())
    assert watched.n_decided == 1
    (line,) = lines
    assert str(folder) in line
    folder.rename(tmp_path / "away")
    with pytest.raises(DatasetError, match="in"):
        run(tmp_path)


def test_two_runs_never_share_a_journal_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "decisions.jsonl"
    with Journal(path), pytest.raises(TinyDefectsError, match="another run"):
        Journal(path)
    path.write_text('{"time": 3}\n')
    with pytest.raises(ResultError, match="line 1"):
        Journal(path)
    assert path.read_text() == '{"time": 3}\n'


def test_a_full_disk_leaves_the_photograph_where_it_was(tmp_path, monkeypatch):
    draw(tmp_path / "in" / "a.png")
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(TinyDefectsError, match="No space left"):
        run(tmp_path)
    assert names(tmp_path / "in") == ["a.png"]
    assert (tmp_path / "out" / "decisions.jsonl").read_bytes() == b""
    monkeypatch.undo()
    assert run(tmp_path).n_decided == 1


def test_a_photograph_between_file_systems_is_copied_whole_before_it_goes(tmp_path, monkeypatch):
    draw(tmp_path / "in" / "a.png")
    content = (tmp_path / "in" / "a.png").read_bytes()
    rename = type(tmp_path).rename

    def other_device(path, target):
        if path.parent == tmp_path / "in":
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", other_device)
    run(tmp_path)
    assert (tmp_path / "out" / "done" / "a.png").read_bytes() == content
    assert names(tmp_path / "in") == []


def test_what_no_inbox_can_be_is_refused(tmp_path):
    with pytest.raises(TinyDefectsError, match="no such folder"):
        require_inbox(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(TinyDefectsError, match="inbox itself"):
        require_inbox(tmp_path, tmp_path)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=20), st.booleans()), max_size=8), st.integers(0, 60))
def test_a_journal_cut_anywhere_holds_the_entries_before_the_cut(tmp_path_factory, written, cut):
    path = tmp_path_factory.mktemp("journal") / "decisions.jsonl"
    made = [
        Entry(
            arrival=Arrival(name=name.encode(errors="replace").decode(), n_bytes=number, changed_ns=number),
            decision={"score": 1.0} if is_good else None,
            problem=None if is_good else "broken",
        )
        for number, (name, is_good) in enumerate(written)
    ]
    with Journal(path) as journal:
        for entry in made:
            journal.append(entry)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - cut])
    with Journal(path) as journal:
        kept = list(read_journal(path))
        assert kept == made[: len(kept)]
        assert len(journal) == len(kept)
        assert all(entry.arrival in journal for entry in kept)
        for entry in made[len(kept) :]:
            journal.append(entry)
    assert path.read_bytes() == content
