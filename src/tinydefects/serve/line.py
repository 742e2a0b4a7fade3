"""Has the line drifted since the calibration? A drift monitor that reads decisions and goes on where it stopped.

It reads journals of `watch`, several in the order of their times, or decisions.jsonl of `predict`, which have neither
times nor what photographs are like: only their scores are compared. What it has seen is kept in one JSON file. A file
is known by its first line, so that it may be moved or renamed, and how far it was read by its last one.
"""

import hashlib
import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from tinydefects.data.json_files import first_fault, read_as, write_json
from tinydefects.decisions.calibration import Calibration
from tinydefects.decisions.drift import DriftAlarm, DriftMonitor, DriftSettings
from tinydefects.errors import ResultError, SettingsError
from tinydefects.serve.journal import Entry

MONITOR_FILE = "monitor.json"
SCORE = "score"
NO_STATISTICS = (
    "scores alone are compared: the calibration does not say what its photographs are like; calibrate anew to have "
    "brightness, contrast, sharpness and size compared, too"
)
NO_PICTURES = "scores alone are compared: these decisions do not say what the photographs are like, those of watch do"
FORM = ConfigDict(extra="forbid", allow_inf_nan=False)


class Moment(BaseModel):
    """A photograph in the stream, by its name, and when it was decided, where that is known."""

    model_config = FORM

    name: str
    time: AwareDatetime | None = None


class LineAlarm(BaseModel):
    """An alarm, with the photographs that it speaks of."""

    model_config = FORM

    drift: DriftAlarm
    began: Moment
    at: Moment

    def __str__(self) -> str:
        """`drift: brightness is lower since about 2026-11-28 14:03 (a.png, photograph 204), alarm at …`, local time."""
        one, (low, high) = self.drift, self.drift.usual
        return (
            f"drift: {one.stream} is {one.side} since about {_told(self.began, one.began)}, alarm at "
            f"{_told(self.at, one.at)}: {one.value:.4g}, usual are {low:.4g} to {high:.4g}"
        )


class ReadUpTo(BaseModel):
    """How far a file was read: so many bytes, of which the last line has so many and this sha256."""

    model_config = FORM

    n_bytes: int = Field(default=0, ge=0)
    last_bytes: int = Field(default=0, ge=0)
    last_sha256: str = ""


class LineState(BaseModel):
    """What is kept between two calls.

    Attributes:
        calibration: sha256 of what is compared with.
        before: photographs that were read before that calibration took the place of another.
        files: how far each was read, by the sha256 of its first line.
        moments: the photographs, by number, at which the next alarm may say that the drift began.
        alarms: raised since the calibration; the first `acknowledged` of them are settled.
        n_left_out: photographs without a decision.
    """

    model_config = FORM

    format: Literal[1] = 1
    calibration: str
    before: int = Field(default=0, ge=0)
    files: dict[str, ReadUpTo] = {}
    monitor: DriftMonitor
    moments: dict[int, Moment] = {}
    alarms: list[LineAlarm] = []
    acknowledged: int = Field(default=0, ge=0)
    n_left_out: int = Field(default=0, ge=0)


class Seen(NamedTuple):
    """One line of a file: a photograph, its numbers (none if it has no decision), and the line's end in the file."""

    moment: Moment
    numbers: Mapping[str, float]
    file: str
    up_to: ReadUpTo


class LineMonitor:
    """A monitor of a line, its state in a file.

    Args:
        path: of the state; where there is none, or `anew`, it begins.
        calibration: what the photographs are compared with. If it is another than before, it begins anew with what was
            not yet read.
        told: those of `DriftSettings` that are asked for.

    Attributes:
        remarks: what a reader would not expect, a line each.

    Raises:
        ResultError: the state is damaged.
        SettingsError: too few good photographs, or what is told is not what the state was begun with.
    """

    def __init__(
        self, path: Path, calibration: Calibration, told: Mapping[str, Any] | None = None, *, anew: bool = False
    ) -> None:
        self.path = path
        self.remarks: list[str] = []
        self._streams = streams_of(calibration)
        self._told = dict(told or {})
        key = _digest(json.dumps([calibration.fingerprint, self._streams]).encode())
        self._anew = anew
        known = None if anew else _known_state(path)
        if known is None or known.calibration != key:
            self.state = self._begun(known, key)
        else:
            self.state = known
            self._require_same_settings()

    @property
    def standing(self) -> list[LineAlarm]:
        """Alarms that nobody has acknowledged."""
        return self.state.alarms[self.state.acknowledged :]

    def read(self, files: Sequence[Path]) -> list[LineAlarm]:
        """Take what these files hold and were not yet read for; the alarms that it raises.

        Raises:
            ResultError: a line cannot be read, a file is another than before, or they cannot be put in order.
        """
        state, n_before = self.state, len(self.state.alarms)
        if not state.monitor.n_seen and len(state.monitor.streams) > 1:
            counts = (len(seen.numbers) for seen in _in_order(files, state.files) if seen.numbers)
            if next(counts, 0) == 1 and all(count == 1 for count in counts):
                self.remarks.append(NO_PICTURES)
                scores = {SCORE: self._streams[SCORE]}
                state.monitor = DriftMonitor.calibrate(scores, state.monitor.settings)
        for seen in _in_order(files, state.files):
            self._take(seen)
        return state.alarms[n_before:]

    def _take(self, seen: Seen) -> None:
        state, monitor = self.state, self.state.monitor
        state.files[seen.file] = seen.up_to
        if not seen.numbers:
            state.n_left_out += 1
            return
        state.moments[monitor.n_seen + 1] = seen.moment
        numbers = {name: value for name, value in seen.numbers.items() if name in monitor.streams}
        for alarm in monitor.update(numbers, partly=True):
            began = state.moments.get(alarm.began, seen.moment)
            state.alarms.append(LineAlarm(drift=alarm, began=began, at=seen.moment))
        live = {number for stream in monitor.streams.values() for number in stream.began}
        state.moments = {number: moment for number, moment in state.moments.items() if number in live}

    def acknowledge(self) -> None:
        """The alarms up to now are settled."""
        self.state.acknowledged = len(self.state.alarms)

    def save(self) -> None:
        """Write the state, whole or not at all; what another run has acknowledged meanwhile stays so.

        Raises:
            TinyDefectsError: the disk is full or the folder cannot be written.
        """
        other = None if self._anew else _known_state(self.path)
        if other is not None and other.calibration == self.state.calibration:
            known = min(other.acknowledged, len(self.state.alarms))
            self.state.acknowledged = max(self.state.acknowledged, known)
        write_json(self.path, self.state)
        self._anew = False

    def describe(self) -> list[str]:
        """The standing alarms, then how much was seen and how near the next alarm is."""
        state, settings = self.state, self.state.monitor.settings
        bound = (
            f"at most one false alarm expected in {settings.run_length:,.0f}"
            if settings.rule == "run_length"
            else f"a false alarm ever with probability {settings.ever:g} at most"
        )
        left_out = f", {state.n_left_out:,} without a decision left out" if state.n_left_out else ""
        verdict = "drift" if self.standing else "no drift"
        shares = ", ".join(f"{name} {share:.1%}" for name, share in state.monitor.evidence().items())
        seen = f"{verdict} in {state.monitor.n_seen:,} photographs{left_out} ({bound})"
        return [*map(str, self.standing), seen, f"evidence, of what an alarm needs: {shares}"]

    def _begun(self, known: LineState | None, key: str) -> LineState:
        if len(self._streams) == 1:
            self.remarks.append(NO_STATISTICS)
        settings = DriftSettings()
        if known is not None:
            settings = known.monitor.settings
            self.remarks.append(f"{self.path}: the calibration is another than before; the monitor begins anew")
        monitor = DriftMonitor.calibrate(self._streams, settings.model_copy(update=self._told))
        if known is None:
            return LineState(calibration=key, monitor=monitor)
        return LineState(
            calibration=key, monitor=monitor, files=known.files, before=known.before + known.monitor.n_seen
        )

    def _require_same_settings(self) -> None:
        settings = self.state.monitor.settings
        for name, value in self._told.items():
            if getattr(settings, name) != value:
                raise SettingsError(
                    f"{self.path}: was begun with {name} {getattr(settings, name)}, not {value}; leave that out, or "
                    "begin anew (--anew)"
                )


def streams_of(calibration: Calibration) -> dict[str, list[float]]:
    """The numbers of the good photographs, by stream: scores, and what they are like, where that is known of all."""
    streams = {SCORE: [one.score for one in calibration.images]}
    pictures = [one.picture for one in calibration.images if one.picture is not None]
    if len(pictures) == len(calibration.images):
        streams |= {name: [getattr(one, name) for one in pictures] for name in pictures[0]._fields}
    return streams


def scores_in_order(files: Sequence[Path]) -> Iterator[tuple[Moment, float]]:
    """All photographs with a decision, as the monitor reads them, and their scores.

    Raises:
        ResultError: as `LineMonitor.read`.
    """
    return ((seen.moment, seen.numbers[SCORE]) for seen in _in_order(files, {}) if seen.numbers)


class _Predicted(BaseModel):
    """What is read of a line of `predict`."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    image: str
    score: float


class _Score(BaseModel):
    """What is read of a decision."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    score: float


def _in_order(files: Sequence[Path], known: Mapping[str, ReadUpTo]) -> Iterator[Seen]:
    streams = []
    for path in files:
        first = _first_line(path)
        if first:
            streams.append((path, _digest(first), b'"arrival"' in first))
    if len({digest for _, digest, _ in streams}) < len(streams):
        raise ResultError(f"{files[-1]}: two of the files given begin alike; give each of them once")
    if len({is_timed for *_, is_timed in streams}) > 1:
        odd = next(path for path, _, is_timed in streams if not is_timed)
        raise ResultError(f"{odd}: has no times, which journals of watch have; give them to a call (--state) each")
    read = [_lines(path, digest, known.get(digest, ReadUpTo())) for path, digest, _ in streams]
    return heapq.merge(*read, key=lambda seen: seen.moment.time or datetime.min.replace(tzinfo=UTC))


def _first_line(path: Path) -> bytes:
    """Nothing if no line is whole yet."""
    try:
        with path.open("rb") as file:
            first = file.readline()
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    return first if first.endswith(b"\n") else b""


def _lines(path: Path, digest: str, up_to: ReadUpTo) -> Iterator[Seen]:
    end = up_to.n_bytes
    with path.open("rb") as file:
        file.seek(end - up_to.last_bytes)
        if end and _digest(file.read(up_to.last_bytes)) != up_to.last_sha256:
            raise ResultError(
                f"{path}: begins like a file that was read before and goes on otherwise; read all anew (--anew)"
            )
        for line in file:
            if not line.endswith(b"\n"):  # it is being written
                return
            end += len(line)
            moment, numbers = _parsed(path, end, line)
            new = ReadUpTo(n_bytes=end, last_bytes=len(line), last_sha256=_digest(line))
            yield Seen(moment, numbers, digest, new)


def _parsed(path: Path, end: int, line: bytes) -> tuple[Moment, Mapping[str, float]]:
    try:
        if b'"arrival"' not in line:
            predicted = _Predicted.model_validate_json(line)
            return Moment(name=predicted.image), {SCORE: predicted.score}
        entry = Entry.model_validate_json(line)
        moment = Moment(name=entry.arrival.name, time=entry.time)
        if entry.decision is None:
            return moment, {}
        picture = {} if entry.picture is None else entry.picture._asdict()
        return moment, {SCORE: _Score.model_validate(entry.decision).score, **picture}
    except ValidationError as error:
        raise ResultError(
            f"{path}: the line that ends at byte {end:,} is no decision ({first_fault(error)}); mend or remove it"
        ) from error


def _known_state(path: Path) -> LineState | None:
    if not path.exists():
        return None
    return read_as(LineState, path, ResultError, kind="monitor's state", way_out="begin anew (--anew)")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _told(moment: Moment, number: int) -> str:
    if moment.time is None:
        return f"{moment.name} (photograph {number:,})"
    return f"{moment.time.astimezone():%Y-%m-%d %H:%M} ({moment.name}, photograph {number:,})"
