"""What a model needs while a line runs: monitor."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import Field

from tinydefects.cli.options import GENERAL, Json, print_result, say
from tinydefects.cli.settings_options import options_of
from tinydefects.decisions.calibration import CALIBRATION_FILE, read_calibration
from tinydefects.decisions.drift import DriftSettings

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
    from tinydefects.detector.deciding import require_calibration

    path = model / CALIBRATION_FILE
    return require_calibration(read_calibration(path) if path.exists() else None, model)


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
