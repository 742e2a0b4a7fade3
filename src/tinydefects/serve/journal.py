"""The journal of a watched folder: one JSON line a photograph, on disk before the photograph leaves its place.

A line counts once its line break is written. What a killed run has left of one is cut off when the journal is opened
again, and that photograph is decided anew. One run writes at a time.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from tinydefects.data.json_files import first_fault
from tinydefects.data.leftovers import lock
from tinydefects.data.pixels import cannot_write
from tinydefects.decisions.drift import PictureRecord
from tinydefects.errors import ResultError, TinyDefectsError

KEY_BYTES = 12


class Arrival(BaseModel):
    """One file as it lay in the inbox: its path below it, its size in bytes, and when it last changed (ns)."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    n_bytes: int = Field(ge=0)
    changed_ns: int

    @property
    def key(self) -> bytes:
        """A short name for all three; twelve bytes of a hash, so that millions fit into memory."""
        text = f"{self.name}\0{self.n_bytes}\0{self.changed_ns}"
        return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=KEY_BYTES).digest()


class Entry(BaseModel):
    """One line: what came, when it was decided, the decision or why there is none, and what the photograph is like.

    `detector` is the fingerprint of the one that decided, or that could not; None in journals of earlier versions.

    Raises:
        ValidationError: both of the last two are there, or neither.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    arrival: Arrival
    detector: str | None = None
    decision: Mapping[str, Any] | None = None
    problem: str | None = None
    picture: PictureRecord | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.decision is None) == (self.problem is None):
            raise ValueError("an entry has a decision or a problem")
        return self


class Journal:
    """The journal in a file, open to go on with; a context manager.

    Attributes:
        last: the entry written last, by this run or an earlier one.

    Raises:
        ResultError: a line of it cannot be read.
        TinyDefectsError: another run writes it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last: Entry | None = None
        self._has_failed = dict[bytes, bool]()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b", buffering=0)
        except OSError as error:
            raise TinyDefectsError(cannot_write(path, error)) from error
        try:
            self._take_up()
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, arrival: Arrival) -> bool:
        return arrival.key in self._has_failed

    def __len__(self) -> int:
        return len(self._has_failed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, entry: Entry) -> None:
        """Write one line, and return once it is on the disk.

        Raises:
            TinyDefectsError: it cannot be written; the journal is as it was.
        """
        line = entry.model_dump_json(exclude_none=True).encode() + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(line)
            if written != len(line):  # a full disk takes what fits
                raise OSError(28, "No space left on device")
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise TinyDefectsError(cannot_write(self.path, error)) from error
        self._remember(entry)

    def has_failed(self, arrival: Arrival) -> bool:
        """Whether an arrival stands there with a problem in place of a decision."""
        return self._has_failed.get(arrival.key, False)

    def _remember(self, entry: Entry) -> None:
        self._has_failed[entry.arrival.key] = entry.problem is not None
        self.last = entry

    def _take_up(self) -> None:
        if lock(self._file) is False:
            raise TinyDefectsError(f"{self.path}: another run writes there; end it, or choose another --out")
        end = 0
        for line, entry in _lines(self.path):
            self._remember(entry)
            end += len(line)
        self._file.truncate(end)


def read_journal(path: Path) -> Iterator[Entry]:
    """The entries of a journal, in order; it may be written to meanwhile.

    Raises:
        ResultError: it is missing, or a line cannot be read.
    """
    return (entry for _, entry in _lines(path))


def _lines(path: Path) -> Iterator[tuple[bytes, Entry]]:
    """Every whole line with its entry."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.endswith(b"\n"):
                    yield line, _parsed(path, number, line)
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error


def _parsed(path: Path, number: int, line: bytes) -> Entry:
    try:
        return Entry.model_validate_json(line)
    except ValidationError as error:
        raise ResultError(
            f"{path}: line {number} is no entry of this journal ({first_fault(error)}); mend or remove that line"
        ) from error
