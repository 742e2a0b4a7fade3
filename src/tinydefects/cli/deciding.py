"""From scores to decisions on a line: calibrate, watch."""

import math
import re
import signal
import threading
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field

from tinydefects.cli.options import GENERAL, Json, print_result, say, show_progress
from tinydefects.cli.settings_options import GivenDevice, GivenWeights, OutFolder, options_of
from tinydefects.data.walk import counted
from tinydefects.datasets.photographs import OVERLAYS
from tinydefects.decisions.calibration import (
    CALIBRATION_FILE,
    CalibrationSettings,
    write_calibration,
)
from tinydefects.decisions.text import HOW
from tinydefects.detector.outputs import OutputSettings, PixelPitch, drawn
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.inbox import DECISIONS_FILE, Inbox, WatchSettings, require_inbox
from tinydefects.serve.inbox import watch as watch_inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tinydefects.data.sample import Sample
    from tinydefects.decisions.calibration import Calibration
    from tinydefects.serve.journal import Entry
    from tinydefects.serve.line import LineMonitor

SAVED_EVERY = 500  # photographs that a monitor has seen


class CalibrateSettings(CalibrationSettings):
    """What `tinydefects calibrate` is told besides: which photographs show one part, what computes."""

    part: str | None = Field(
        default=None,
        description="Regular expression whose first group, found in a photograph's name, names its part: several "
        "photographs of one part count once.",
        json_schema_extra={"metavar": "REGEX"},
    )
    teacher_weights: GivenWeights = None
    device: GivenDevice = None

    def wishes(self) -> dict[str, object]:
        """Those that were told, by name."""
        return self.model_dump(include=set(CalibrationSettings.model_fields), exclude_unset=True)


@options_of(CalibrateSettings)
def calibrate(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit' or 'tinydefects export'.")],
    settings: CalibrateSettings,
    photographs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[GOOD]...",
            help="Good photographs the detector has not learnt from, as of the last days: files, folders, patterns. "
            "Left out: those it was calibrated with.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the thresholds, change nothing.", rich_help_panel=GENERAL)
    ] = False,
    as_json: Json = False,
) -> None:
    """Take thresholds from good photographs, or from those at hand under other wishes; says what is guaranteed."""
    from tinydefects.datasets.photographs import find_photographs
    from tinydefects.detector.deciding import require_calibration
    from tinydefects.export.exported import load_model

    if settings.part and not photographs:
        raise TinyDefectsError("--part is for the names of good photographs: give them, or leave it out")
    found = find_photographs(photographs) if photographs else None
    parts = [] if found is None else with_parts(found.samples, settings.part)
    detector = load_model(
        model, teacher_weights=settings.teacher_weights, device=settings.device, calibrated=found is None
    )
    if found is None:
        calibration = require_calibration(detector.calibration, model).with_changes(**settings.wishes())
    else:
        for line in found.remarks:
            say(line)
        before = _calibration_before(model)
        wishes = (before.settings if before else CalibrationSettings()).with_changes(**settings.wishes())
        with show_progress() as progress:
            calibration = detector.calibrate(
                parts, wishes, progress=lambda stage, done, total: progress(stage, done, len(parts))
            )
    if not dry_run:
        write_calibration(model / CALIBRATION_FILE, calibration)
        say(f"written: {model / CALIBRATION_FILE}")
    print_result(_numbers(calibration), as_json, str(calibration))


def _calibration_before(model: Path) -> "Calibration | None":
    """What will be replaced, which is said; None where there is nothing, or nothing that can be read."""
    from tinydefects.detector.deciding import calibration_in

    try:
        calibration = calibration_in(model)
    except TinyDefectsError as error:
        say(f"{error}; its wishes are forgotten")
        return None
    if calibration is not None:
        say(f"in place of {counted('good part', calibration.scores.size)}, {HOW[calibration.obtained]}")
    return calibration


def _numbers(calibration: "Calibration") -> dict[str, object]:
    """The thresholds for --json; None where nothing is called a defect."""
    above = calibration.defect_above
    return {
        "n_photographs": len(calibration.images),
        "n_parts": int(calibration.scores.size),
        "obtained": calibration.obtained,
        "good_up_to": calibration.good_up_to,
        "defect_above": above if math.isfinite(above) else None,
        "region_peak_above": calibration.seed,
        "region_extent_above": calibration.extent.level,
        "settings": calibration.settings.model_dump(),
    }


def with_parts(samples: "Sequence[Sample]", pattern: str | None) -> "list[Sample]":
    """The samples, each with the part that the pattern finds in its id.

    Raises:
        TinyDefectsError: it is no pattern with a group, or an id does not match.
    """
    if pattern is None:
        return list(samples)
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise TinyDefectsError(f"--part {pattern}: no regular expression ({error}); try '(.*)_cam[0-9]'") from error
    if not compiled.groups:
        raise TinyDefectsError(f"--part {pattern}: has no group; put what names the part in brackets: '(.*)_cam[0-9]'")
    named = []
    for sample in samples:
        match = compiled.search(sample.id.removeprefix("images/"))
        if match is None or not match[1]:
            raise TinyDefectsError(
                f"{sample.image_path}: --part {pattern} finds no part in this name; change one of them"
            )
        named.append(replace(sample, group=match[1]))
    return named


class WatchingSettings(WatchSettings):
    """What `tinydefects watch` is told: when a photograph is whole, what becomes of it, what is shown of it."""

    out: OutFolder = Path("watched")
    overlays: Literal["alarms", "all", "none"] = Field(
        default="alarms", description="Photographs with regions outlined, in OUT/overlays; alarms: of those not good."
    )
    pixel_pitch_mm: PixelPitch = None
    monitor: bool = Field(default=False, description="Say when the line drifts, see 'tinydefects monitor'.")
    teacher_weights: GivenWeights = None
    device: GivenDevice = None


@options_of(WatchingSettings)
def watch(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit' or 'tinydefects export'.")],
    inbox: Annotated[Path, typer.Argument(help="Folder that photographs arrive in; sub-folders are looked into.")],
    settings: WatchingSettings,
    as_json: Json = False,
) -> None:
    """Decide photographs as they arrive in a folder, each once, until Ctrl-C; one line each.

    Decisions are appended to OUT/decisions.jsonl before a photograph is moved to OUT/done, or to OUT/failed if it
    cannot be read. The model stays loaded. A run that was killed is gone on with by the same command.
    """
    from tinydefects.data.pixels import write_png
    from tinydefects.detector.deciding import require_calibration
    from tinydefects.export.exported import load_model
    from tinydefects.serve.journal import Journal

    require_inbox(inbox, settings.out)
    detector = load_model(model, teacher_weights=settings.teacher_weights, device=settings.device)
    calibration = require_calibration(detector.calibration, model)
    outputs = OutputSettings(overlays=settings.overlays)

    def decide(sample: "Sample", image: "NDArray[np.uint8]") -> dict[str, object]:
        prediction = detector.predict(image)
        decision = calibration.decide(prediction, settings.pixel_pitch_mm)
        if outputs.shows(decision):
            path = settings.out / OVERLAYS / f"{sample.id.removeprefix('images/')}.png"
            write_png(path, drawn(image, prediction, decision, detector.colour_scale))
        return decision.record()

    with Journal(settings.out / DECISIONS_FILE) as journal, stopping() as stop:
        line = _monitored(calibration, journal.path) if settings.monitor else None
        how = "looked at once" if settings.once else "watched until Ctrl-C"
        say(f"{inbox}: {how}, decisions in {journal.path}")
        watched = watch_inbox(
            Inbox(folder=inbox, out=settings.out, settings=settings),
            journal,
            decide,
            detector=detector.fingerprint,
            stop=stop,
            tell=telling(line, journal.path),
            say=say,
        )
        if line is not None:
            line.save()
    print_result(asdict(watched), as_json, str(watched))


def _monitored(calibration: "Calibration", journal: Path) -> "LineMonitor":
    """The monitor beside a journal, once it has read what earlier runs have written."""
    from tinydefects.serve.line import MONITOR_FILE, LineMonitor

    line = LineMonitor(journal.parent / MONITOR_FILE, calibration)
    line.read([journal])
    for text in [*line.remarks, *map(str, line.standing)]:
        say(text)
    return line


def telling(line: "LineMonitor | None", journal: Path) -> "Callable[[Entry], None]":
    """What to call with every entry of a journal: it says the decision, and the alarms of a monitor of the line.

    The monitor's state is saved at every alarm and every `SAVED_EVERY` photographs; what a run that is killed has not
    saved is read from the journal by the next one.
    """

    def tell(entry: "Entry") -> None:
        say(told(entry))
        if line is None:
            return
        alarms = line.read([journal])
        for alarm in alarms:
            say(str(alarm))
        if alarms or line.state.monitor.n_seen % SAVED_EVERY == 0:
            line.save()

    return tell


@contextmanager
def stopping() -> "Iterator[threading.Event]":
    """An event that Ctrl-C or SIGTERM sets, so that what is at hand is finished; the second one ends at once."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])
        say("ending after the photograph at hand")

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def told(entry: "Entry") -> str:
    """`14:03:11 part_0012.png: defect, score 1.92 (p 0.0099), 2 regions`, in local time."""
    time, name = f"{entry.time.astimezone():%H:%M:%S}", entry.arrival.name
    if entry.decision is None:  # its reason names the file
        return f"{time} {entry.problem}"
    one = entry.decision
    score = f"score {one['score']:.4g} (p {one['p_value']:.2g})"
    return f"{time} {name}: {one['verdict']}, {score}, {counted('region', one['n_regions'])}"
