"""What a model needs while a line runs: monitor, update."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import GENERAL, MACHINE, Json, print_result, say, show_progress
from tinydefects.cli.settings_options import GivenDevice, GivenWeights, options_of, panel
from tinydefects.decisions.drift import DriftSettings
from tinydefects.errors import TinyDefectsError
from tinydefects.limits import MOST_GB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tinydefects.decisions.calibration import Calibration
    from tinydefects.serve.line import LineMonitor

DRIFTED = 3


class MonitoringSettings(DriftSettings):
    """What `tinydefects monitor` is told besides: where its state lies, and whether to draw."""

    state: Path | None = Field(
        default=None,
        description="What is kept between two calls; left out, monitor.json beside the first of the decisions.",
    )
    plot: Path | None = Field(default=None, description="Draw the scores over time: .svg, .png or .pdf.")

    def told(self) -> dict[str, object]:
        """The settings of the monitor that were told, by name."""
        return self.model_dump(include=set(DriftSettings.model_fields), exclude_unset=True)


@options_of(MonitoringSettings)
def monitor(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit' or 'tinydefects export'.")],
    decisions: Annotated[
        list[Path],
        typer.Argument(metavar="DECISIONS.jsonl...", help="Journals of 'watch', or decisions.jsonl of 'predict'."),
    ],
    settings: MonitoringSettings,
    acknowledge: Annotated[
        bool,
        typer.Option("--acknowledge", help="Alarms up to now are settled: exit code 0.", rich_help_panel=GENERAL),
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="Forget what was read and read all of it again.", rich_help_panel=GENERAL)
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether a line has drifted since the calibration: which stream, since when. Exit code 3 if it has.

    Every call goes on where the last one stopped. Exit code 3 stays until alarms are acknowledged (--acknowledge) or
    the model is calibrated anew.
    """
    from tinydefects.serve.line import MONITOR_FILE, LineMonitor

    calibration = calibration_of(model)
    line = LineMonitor(settings.state or decisions[0].parent / MONITOR_FILE, calibration, settings.told(), anew=anew)
    n_new = line.state.monitor.n_seen
    line.read(decisions)
    n_new = line.state.monitor.n_seen - n_new
    for remark in line.remarks:
        say(remark)
    if acknowledge:
        line.acknowledge()
    line.save()
    print_result(_numbers(line, n_new), as_json, *line.describe())
    if settings.plot is not None:
        say(f"plot: {_draw(settings.plot, decisions, line, calibration)}")
    if line.standing:
        raise typer.Exit(DRIFTED)


def calibration_of(model: Path) -> "Calibration":
    """The calibration in a model's folder.

    Raises:
        NotFittedError: there is none.
        ResultError: it cannot be read.
    """
    from tinydefects.detector.deciding import calibration_in, require_calibration

    return require_calibration(calibration_in(model), model)


def _numbers(line: "LineMonitor", n_new: int) -> dict[str, object]:
    """The state for --json; of `alarms` those that nobody has acknowledged."""
    state = line.state
    return {
        "drifted": bool(line.standing),
        "n_photographs": state.monitor.n_seen,
        "n_new": n_new,
        "n_left_out": state.n_left_out,
        "n_alarms": len(state.alarms),
        "alarms": [
            {
                **alarm.drift.model_dump(),
                "began_time": alarm.began.time and alarm.began.time.isoformat(),
                "began_photograph": alarm.began.name,
                "at_time": alarm.at.time and alarm.at.time.isoformat(),
                "at_photograph": alarm.at.name,
            }
            for alarm in line.standing
        ],
        "evidence": state.monitor.evidence(),
        "settings": state.monitor.settings.model_dump(),
    }


def _draw(path: Path, decisions: "Sequence[Path]", line: "LineMonitor", calibration: "Calibration") -> Path:
    from tinydefects.report.drift_plot import DriftSpan, write_drift_plot
    from tinydefects.serve.line import scores_in_order

    before = line.state.before
    seen = list(scores_in_order(decisions))
    drifts = [alarm.drift for alarm in line.state.alarms]
    return write_drift_plot(
        path,
        [score for _, score in seen],
        [moment.time for moment, _ in seen],
        thresholds={"good up to": calibration.good_up_to, "defect above": calibration.defect_above},
        spans=[DriftSpan(stream=one.stream, began=before + one.began, at=before + one.at) for one in drifts],
        begun=before,
    )


class UpdateSettings(BaseModel):
    """What `tinydefects update` is told: which photographs show one part, what computes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    part: str | None = Field(
        default=None,
        description="Regular expression whose first group, found in a photograph's name, names its part.",
        json_schema_extra={"metavar": "REGEX"},
    )
    teacher_weights: GivenWeights = None
    device: GivenDevice = None
    cache_limit_gb: float = Field(
        default=20.0,
        ge=0,
        le=MOST_GB,
        description="Refuse to write more teacher features than this, old and new together.",
        json_schema_extra=panel(MACHINE),
    )


@options_of(UpdateSettings)
def update(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit --keep-features'.")],
    settings: UpdateSettings,
    photographs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NEW_GOOD]...", help="Good photographs to learn from: files, folders, patterns."),
    ] = None,
    back: Annotated[
        str | None,
        typer.Option(metavar="N|last", help="Put a model of MODEL/history in place; the current one goes there."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it takes.", rich_help_panel=GENERAL)
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn from more good photographs without showing the teacher the old ones again; thresholds are taken anew.

    The old model goes to MODEL/history; a run that is killed leaves it in place.
    """
    from tinydefects.detector.updating import alone_in, roll_back, version_to_go_back_to

    if (back is None) == (not photographs):
        raise TinyDefectsError("update: give good photographs to learn from, or --back, and not both")
    with alone_in(model):
        if photographs:
            return _learn_on(model, photographs, settings, dry_run=dry_run, as_json=as_json)
        number = _version_asked_for(back or "last")
        if dry_run:
            chosen = version_to_go_back_to(model, number)
            return print_result({"model": str(model), "from": str(chosen)}, as_json, f"{chosen} would take its place")
        chosen, kept = roll_back(model, number)
    told = {"model": str(model), "from": str(chosen), "history": str(kept)}
    return print_result(told, as_json, f"{chosen} is in place: {model}; what was there is {kept}")


def _learn_on(
    model: Path, photographs: "Sequence[str]", settings: UpdateSettings, *, dry_run: bool, as_json: bool
) -> None:
    from tinydefects.cli.deciding import with_parts
    from tinydefects.datasets.photographs import find_photographs
    from tinydefects.detector.detector import Detector
    from tinydefects.detector.updating import learn_on, learnt_by, not_yet_learnt, put_in_place

    old = Detector.load(model, teacher_weights=settings.teacher_weights, device=settings.device)
    learnt = learnt_by(model, old).photographs
    found = find_photographs(photographs)
    for line in found.remarks:
        say(line)
    samples = with_parts(found.samples, settings.part)
    new = not_yet_learnt(samples, learnt, old.settings.image_bits)
    if len(new) < len(samples):
        say(f"{len(samples) - len(new)} of {len(samples)} photographs were learnt before, or come twice: left out")
    cost = old.expected_cost([sample.image_path for sample in new])
    told = {"model": str(model), "n_before": len(learnt), "n_new": len(new)}
    if dry_run or not new:
        line = f"{len(learnt)} photographs whose features are there, and {len(new)} new ones; new: {cost}"
        return print_result(told | asdict(cost), as_json, line if new else f"nothing new to learn: {model}")
    say(f"new: {cost}")
    with show_progress() as progress:
        detector = learn_on(
            old,
            model,
            new,
            lambda stage, done, total: progress(stage, done, total or len(new)),
            settings.cache_limit_gb,
            say,
        )
    kept = put_in_place(model, detector)
    if detector.calibration is not None:
        say(str(detector.calibration))
    line = f"learnt from {len(new)} new photographs beside {len(learnt)}: {model}; the old model is {kept}"
    return print_result(told | {"history": str(kept)}, as_json, line)


def _version_asked_for(word: str) -> int | None:
    """`last` is None, else a number of the history.

    Raises:
        TinyDefectsError: it is neither.
    """
    if word == "last":
        return None
    if not word.isdecimal() or len(word) > 9:
        raise TinyDefectsError(f"--back {word}: give 'last', or the number of a folder in MODEL/history")
    return int(word)
