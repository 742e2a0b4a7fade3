"""A line's scores as a picture: photograph by photograph, with the thresholds and where it drifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png", ".pdf")
MOST_POINTS = 5_000
N_DATES = 5
INK, MUTED, LINE, DOT, ALARM = "#17191c", "#5f6671", "#e1e3e7", "#8a94a6", "#c4480f"


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSpan:
    """An alarm: its stream, and the photographs, counted from 1, at which the drift began and was noticed."""

    stream: str
    began: int
    at: int


def write_drift_plot(
    path: Path,
    scores: Sequence[float],
    times: Sequence[datetime | None],
    *,
    thresholds: dict[str, float],
    spans: Sequence[DriftSpan] = (),
    begun: int = 0,
) -> Path:
    """Draw the scores in the order of time, in the format of the suffix; whole or not at all.

    Of more than `MOST_POINTS` scores the highest of every few are drawn.

    Args:
        path: where to.
        scores: one a photograph.
        times: theirs, None where they are not known.
        thresholds: lines across, by name; those that are not finite are left out.
        spans: where the line drifted.
        begun: photographs that came before the calibration; a line marks its end.

    Raises:
        TinyDefectsError: another suffix, or nothing to draw.
    """
    if path.suffix.lower() not in FORMATS:
        raise TinyDefectsError(f"{path}: a plot ends in one of {', '.join(FORMATS)}; rename it")
    if not scores:
        raise TinyDefectsError(f"{path}: there are no scores to draw yet; leave out --plot")
    import matplotlib
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    dated = {"svg": "Date", "pdf": "CreationDate"}
    with matplotlib.rc_context({"svg.hashsalt": "drift", "svg.fonttype": "none", "axes.edgecolor": LINE}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        axes = figure.subplots()
        _draw_scores(axes, np.array(scores))
        for name, value in thresholds.items():
            if np.isfinite(value):
                axes.axhline(value, color=INK, linewidth=0.9, linestyle="--")
                axes.annotate(name, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
        if begun:
            axes.axvline(begun + 0.5, color=MUTED, linestyle=":", label="calibrated anew")
        for span in spans:
            axes.axvspan(span.began, span.at, color=ALARM, alpha=0.15, linewidth=0)
            axes.axvline(span.at, color=ALARM, linewidth=1.2, label=f"drift of {span.stream}")
        _label(axes, times)
        metadata = {dated[kind]: None} if kind in dated else None
        write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=150, metadata=metadata))
    return path


def _draw_scores(axes: "Axes", scores: "np.ndarray") -> None:
    step = -(-len(scores) // MOST_POINTS)
    places = np.arange(0, len(scores), step)
    label = "score" if step == 1 else f"score, the highest of {step}"
    axes.plot(places + 1, np.maximum.reduceat(scores, places), ".", markersize=3, color=DOT, label=label)
    axes.set_xlim(0.5, len(scores) + 0.5)


def _label(axes: "Axes", times: Sequence[datetime | None]) -> None:
    axes.set_ylabel("image score")
    axes.set_xlabel("photograph")
    if times[-1] is not None:
        ticks = sorted({round(place) for place in np.linspace(0, len(times) - 1, min(N_DATES, len(times)))})
        told = [(place, times[place]) for place in ticks]
        named = [(place + 1, f"{place + 1:,}\n{time.astimezone():%Y-%m-%d %H:%M}") for place, time in told if time]
        axes.set_xticks([place for place, _ in named], [name for _, name in named], fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once, loc="upper left", frameon=False, fontsize=8)
