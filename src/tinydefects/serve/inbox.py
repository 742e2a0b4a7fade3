"""A folder that photographs arrive in: each is decided once, in the order in which they came, and then moved away.

Nothing is done twice and nothing is lost: see `journal`. A run that is killed between a decision and the move finds the
decision and only moves the photograph. The folder is looked at again and again, as network drives tell of nothing.
"""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.leftovers import scratch_file
from tinydefects.data.map_files import file_sha256, read_photograph
from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.sample import Sample
from tinydefects.data.walk import real_path, walk
from tinydefects.datasets.photographs import OVERLAYS
from tinydefects.decisions.drift import picture_statistics
from tinydefects.detector.predict_folder import BAD_PHOTOGRAPH
from tinydefects.errors import DatasetError, TinyDefectsError
from tinydefects.serve.journal import Arrival, Entry, Journal

DECISIONS_FILE = "decisions.jsonl"
DONE, FAILED = "done", "failed"  # folders of photographs that were decided, and of those that could not be
Decide = Callable[[Sample, NDArray[np.uint8]], Mapping[str, Any]]


class WatchSettings(BaseModel):
    """When a photograph counts as whole, how often the folder is looked at, and what becomes of what is done."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    done: Literal["move", "keep"] = Field(
        default="move",
        description="move: photographs go to OUT/done or OUT/failed. keep: they stay; the journal knows them.",
    )
    settle_seconds: float = Field(
        default=0.5,
        ge=0,
        le=3600,
        description="A file is whole once it has not changed for so long; 0 where files are renamed into the folder.",
    )
    poll_seconds: float = Field(default=0.25, ge=0.01, le=3600, description="How often the folder is looked at.")
    patience_seconds: float = Field(
        default=30.0,
        ge=0,
        le=86_400,
        description="A file that cannot be read is tried for so long after its last change, then given up.",
    )
    once: bool = Field(default=False, description="Do what is there, then end; for a scheduler such as cron.")


@dataclass(slots=True)
class _Seen:
    """A file in the inbox: how it was seen last, since when it is like that, and what its last try gave."""

    arrival: Arrival
    since: float
    problem: str = ""


@dataclass(slots=True, kw_only=True)
class Watched:
    """What a run of `watch` did: decisions, photographs given up, and those that an earlier run had decided."""

    n_decided: int = 0
    n_failed: int = 0
    n_known: int = 0

    def __str__(self) -> str:
        known = f", {self.n_known} decided by an earlier run" if self.n_known else ""
        failed = f", {self.n_failed} not readable (in {FAILED}/)" if self.n_failed else ""
        return f"{self.n_decided} decision{'s' * (self.n_decided != 1)}{failed}{known}"


@dataclass(slots=True, kw_only=True)
class Inbox:
    """A folder of arrivals, and where what is done goes.

    Attributes:
        folder: what is watched, with its sub-folders; hidden files and other formats are left alone.
        out: holds the journal and the photographs that are done.
        clock: seconds that only go forward.
    """

    folder: Path
    out: Path
    settings: WatchSettings
    clock: Callable[[], float] = time.monotonic
    _seen: dict[Path, _Seen] = field(default_factory=dict)

    def look(self, is_known: Callable[[Arrival], bool]) -> tuple[list[tuple[Path, Arrival]], bool]:
        """Files that are whole, the oldest first, and whether others have to be waited for.

        What `is_known` is whole, too; where photographs stay in the folder it is not even mentioned.
        """
        now, seen = self.clock(), dict[Path, _Seen]()
        for name, path in walk(self.folder, IMAGE_SUFFIXES, skip={self.out}).files:
            arrival = _arrival(name, path)
            if arrival is None or (self.settings.done == "keep" and is_known(arrival)):
                continue
            before = self._seen.get(path)
            is_same = before is not None and before.arrival == arrival
            seen[path] = before if before and is_same else _Seen(arrival, now)
        self._seen = seen
        whole = [path for path, one in seen.items() if now - one.since >= self.settings.settle_seconds]
        ready = [path for path in whole if not seen[path].problem or self.is_given_up(path)]
        ready.sort(key=lambda path: (seen[path].arrival.changed_ns, seen[path].arrival.name))
        return [(path, seen[path].arrival) for path in ready], len(ready) < len(seen)

    def note(self, path: Path, problem: str) -> None:
        """Remember why a file could not be read; it is tried again when it changes."""
        self._seen[path].problem = problem

    def is_given_up(self, path: Path) -> bool:
        """Whether a file has not changed for so long that it will not become readable."""
        return self.clock() - self._seen[path].since >= self.settings.patience_seconds

    def move(self, path: Path, name: str, where: str) -> None:
        """Put a photograph that is done into OUT/done or OUT/failed, unless photographs stay in the folder.

        Raises:
            TinyDefectsError: it cannot be moved.
        """
        if self.settings.done == "keep":
            return
        try:
            _move(path, self.out / where / name)
        except OSError as error:
            raise TinyDefectsError(
                f"{path}: decided, and cannot be moved to {self.out / where} ({error.strerror}); check the rights of "
                "both folders, or leave photographs where they are (--done keep)"
            ) from error


def watch(
    inbox: Inbox,
    journal: Journal,
    decide: Decide,
    *,
    detector: str,
    stop: threading.Event,
    tell: Callable[[Entry], object] = lambda entry: None,
    say: Callable[[str], object] = lambda line: None,
) -> Watched:
    """Decide every photograph that arrives, until `stop` is set; the photograph at hand is finished first.

    Args:
        inbox: the folder.
        journal: takes every decision before the photograph is moved.
        decide: the decision of a photograph (H, W, 3) uint8, as JSON takes it.
        detector: fingerprint of what decides, which every entry names.
        stop: ends the run.
        tell: is called with every entry, once it is on the disk.
        say: is called with a line when the folder cannot be looked at; it is waited for.

    Raises:
        DatasetError: the folder cannot be looked at, and what is there was to be done `once`.
        TinyDefectsError: a decision cannot be written, or a photograph not be moved.
    """
    watched, is_gone = Watched(), False
    while not stop.is_set():
        try:
            ready, is_waiting = inbox.look(journal.__contains__)
        except DatasetError as error:  # a network drive may come back; what was seen there is looked at anew
            if inbox.settings.once:
                raise
            if not is_gone:
                say(f"{error}; waiting until it is back")
            is_gone = True
            stop.wait(inbox.settings.poll_seconds)
            continue
        is_gone = False
        for path, arrival in ready:
            if stop.is_set():
                break
            if arrival in journal:  # the run that decided it was killed before it could move it
                inbox.move(path, arrival.name, FAILED if journal.has_failed(arrival) else DONE)
                watched.n_known += 1
            else:
                _decide_one(inbox, journal, path, arrival, decide, detector, watched, tell)
        if inbox.settings.once and not ready and not is_waiting:
            break
        if not ready:
            stop.wait(inbox.settings.poll_seconds)
    return watched


def _decide_one(
    inbox: Inbox,
    journal: Journal,
    path: Path,
    arrival: Arrival,
    decide: Decide,
    detector: str,
    watched: Watched,
    tell: Callable[[Entry], object],
) -> None:
    sample = Sample(id=f"images/{arrival.name}", image_path=path, label="unknown")
    try:
        image, _ = read_photograph(sample)
        if _arrival(arrival.name, path) != arrival:
            return  # it has changed since it was looked at
        decision = decide(sample, image)
        entry = Entry(arrival=arrival, detector=detector, decision=decision, picture=picture_statistics(image))
    except tuple(BAD_PHOTOGRAPH) as error:
        if isinstance(error.__cause__, MemoryError):
            raise error.__cause__ from error
        if not path.exists():
            return  # somebody took it away
        inbox.note(path, str(error))
        if not inbox.is_given_up(path):
            return
        entry = Entry(arrival=arrival, detector=detector, problem=str(error))
    journal.append(entry)
    inbox.move(path, arrival.name, DONE if entry.problem is None else FAILED)
    watched.n_decided += entry.problem is None
    watched.n_failed += entry.problem is not None
    tell(entry)


def _arrival(name: str, path: Path) -> Arrival | None:
    """The file as it is now; None if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Arrival(name=name, n_bytes=found.st_size, changed_ns=found.st_mtime_ns)


def _move(path: Path, target: Path) -> None:
    """Move a file, whole, to a free name: `part.png`, else `part.2.png`, ….

    Between file systems it is copied first; a copy that a killed run has left there is taken for it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for place in _names(target):
        if not place.exists():
            break
        if place.samefile(path):  # it lies there already, by whatever way
            return
        if place.stat().st_size == path.stat().st_size and file_sha256(place) == file_sha256(path):
            path.unlink()
            return
    try:
        path.rename(place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with scratch_file(place.parent) as (file, copy):
            with path.open("rb") as original:
                shutil.copyfileobj(original, file)
            file.flush()
            os.fsync(file.fileno())
            shutil.copystat(path, copy)
            copy.rename(place)
        path.unlink()


def _names(target: Path) -> Iterator[Path]:
    yield target
    number = 2
    while True:
        yield target.with_name(f"{target.stem}.{number}{target.suffix}")
        number += 1


def require_inbox(folder: Path, out: Path) -> None:
    """Refuse a folder that is not there, an OUT that is the inbox itself, or an inbox among what is done.

    Raises:
        TinyDefectsError: it is one of them.
    """
    if not folder.is_dir():
        raise TinyDefectsError(f"{folder}: no such folder; name the folder that photographs arrive in")
    inbox, outputs = real_path(folder), real_path(out)
    if inbox == outputs:
        raise TinyDefectsError(f"--out {out}: is the inbox itself; choose a folder of its own, such as --out watched")
    if inbox.is_relative_to(outputs) and inbox.relative_to(outputs).parts[0] in {DONE, FAILED, OVERLAYS}:
        raise TinyDefectsError(
            f"{folder}: lies in --out {out}, where photographs go that are done; to decide them anew, name another"
            " --out"
        )
