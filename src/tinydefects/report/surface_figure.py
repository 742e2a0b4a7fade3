"""How small and how faint: the share of defects found over diameter and contrast, and where POD reaches 50 and 90 %."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.pod_surface import PodSurface, spans_both
from tinydefects.metrics.scores import Evaluation
from tinydefects.report.theme import STAND_INS, label_diameters, shortened, themed_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_PANELS, COLUMNS = 12, 3
PANEL_INCHES = (4.8, 4.1)
N_GRID = 96
# of each contour: its name, what it is a level of, the level, width and dashes
CONTOURS: tuple[tuple[str, str, float, float, Any], ...] = (
    ("50 % found", "pod", 0.5, 1.2, (0, (1.5, 1.5))),
    ("90 % found", "pod", 0.9, 1.6, (0, (5, 2))),
    ("90 % with 95 % confidence (a90/95)", "low", 0.9, 2.2, "solid"),
)
Cell = tuple[int, int]  # octave of the diameter, octave of the contrast


def surface_of(evaluations: Sequence[Evaluation]) -> PodSurface | None:
    """The surface of all defects of some evaluations; None where they do not span sizes and contrasts."""
    rows = [
        (defect.diameter_px, defect.contrast, hit)
        for one in evaluations
        for defect, hit in zip(one.defects, one.detectability.hits, strict=False)  # without a threshold nothing counts
    ]
    diameters, contrasts = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    if not rows or not spans_both(diameters, contrasts):
        return None
    return PodSurface(diameters, contrasts, np.array([row[2] for row in rows], dtype=bool))


def surface_svg(panels: Mapping[str, PodSurface], key: str, description: str) -> str:
    """A panel for each of the first `MOST_PANELS` surfaces, by name; empty without any. `key` makes its ids unique."""
    shown = dict(list(panels.items())[:MOST_PANELS])
    if not shown:
        return ""
    size = panels_inches(len(shown))
    return themed_svg(lambda figure: draw_surfaces(figure, shown, STAND_INS), key, description, inches=size)


def panels_inches(n_panels: int) -> tuple[float, float]:
    """The size of a figure of so many panels."""
    rows, columns = _grid(n_panels)
    return columns * PANEL_INCHES[0], rows * PANEL_INCHES[1] + 0.5


def draw_surfaces(figure: "Figure", panels: Mapping[str, PodSurface], colours: Mapping[str, str]) -> None:
    """The panels on one scale, and above them what the lines are; `colours` by the names of the theme."""
    from matplotlib.lines import Line2D

    (rows, columns), (width, height) = _grid(len(panels)), panels_inches(len(panels))
    figure.subplots_adjust(
        left=0.86 / width, right=1 - 0.12 / width, bottom=0.52 / height, top=1 - 0.78 / height, hspace=0.16, wspace=0.06
    )
    every = [cell for surface in panels.values() for cell in cells_of(surface)]
    spans = [(min(places), max(places) + 1) for places in zip(*every, strict=True)]
    all_axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for number, (axes, (name, surface)) in enumerate(zip(all_axes, panels.items(), strict=False)):
        _draw_panel(axes, surface, colours)
        axes.set_title(shortened(name), fontsize=11, loc="left", color=colours["ink"])
        label_diameters(axes, 2.0 ** spans[0][0], 2.0 ** spans[0][1])
        axes.set_yscale("log", base=2)
        axes.set_ylim(2.0 ** spans[1][0] * 0.93, 2.0 ** spans[1][1] * 1.07)
        ticks = [2.0**power for power in range(spans[1][0], spans[1][1] + 1)]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        is_lowest = number + columns >= len(panels)
        axes.tick_params(labelbottom=is_lowest, length=0)
        axes.set_xlabel("defect diameter (px)" if is_lowest else "")
        axes.set_ylabel("contrast (of the noise around)" if number % columns == 0 else "")
    for axes in all_axes[len(panels) :]:
        axes.set_visible(False)
    lines = [Line2D([], [], color=colours["ink"], linewidth=thick, linestyle=dashes) for *_, thick, dashes in CONTOURS]
    names = [name for name, *_ in CONTOURS]
    if columns == 1:
        names[-1] = "a90/95"
    figure.legend(
        lines,
        names,
        loc="upper left",
        ncols=3,
        bbox_to_anchor=(0.7 / width, 1.0),
        fontsize=9.5,
        handlelength=2.2,
        columnspacing=1.2,
        frameon=False,
    )


def cells_of(surface: PodSurface) -> dict[Cell, tuple[int, int]]:
    """Found and all of the defects in each octave of diameter and of contrast that holds any."""
    cells = [_cell(*pair) for pair in zip(surface.diameters_px, surface.contrasts, strict=True)]
    found = Counter(cell for cell, hit in zip(cells, surface.hits, strict=True) if hit)
    return {cell: (found[cell], count) for cell, count in sorted(Counter(cells).items())}


def _cell(diameter_px: float, contrast: float) -> Cell:
    return math.floor(math.log2(diameter_px)), math.floor(math.log2(contrast))


def _grid(n_panels: int) -> tuple[int, int]:
    columns = min(COLUMNS if n_panels != 4 else 2, n_panels)
    return math.ceil(n_panels / columns), columns


def _draw_panel(axes: "Axes", surface: PodSurface, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Rectangle

    cells = cells_of(surface)
    for (column, row), (n_found, count) in cells.items():
        left, low, share = 2.0**column, 2.0**row, n_found / count
        axes.add_patch(Rectangle((left, low), left, low, facecolor=colours["found"], alpha=0.75 * share, linewidth=0))
        axes.add_patch(Rectangle((left, low), left, low, fill=False, edgecolor=colours["line"], linewidth=0.8))
        axes.text(left * 1.06, low * 1.08, f"{n_found}/{count}", va="bottom", fontsize=7.5, color=colours["ink"])
    if surface.is_fitted:
        _draw_contours(axes, surface, cells, colours["ink"])
    else:
        axes.text(0.5, 1.0, _short(surface.fit.remarks[-1]), ha="center", va="bottom", fontsize=8.5,
                  color=colours["muted"], transform=axes.transAxes)  # fmt: skip


def _draw_contours(axes: "Axes", surface: PodSurface, cells: Mapping[Cell, object], colour: str) -> None:
    """Only over cells that hold defects: nothing is said of the others."""
    diameters, contrasts = (
        np.geomspace(2.0 ** min(places), 2.0 ** (max(places) + 1), N_GRID) for places in zip(*cells, strict=True)
    )
    pod, low = surface.pod(diameters, contrasts)
    empty: NDArray[np.bool_] = np.array(
        [[_cell(across * 0.9999, down * 0.9999) not in cells for across in diameters] for down in contrasts]
    )
    for _, what, level, thick, dashes in CONTOURS:
        values = np.where(empty, np.nan, pod if what == "pod" else low)
        if np.nanmin(values) < level < np.nanmax(values):
            axes.contour(diameters, contrasts, values, [level], colors=[colour], linewidths=thick, linestyles=[dashes])


def _short(remark: str) -> str:
    """A remark in the width of a panel."""
    return remark if len(remark) <= 60 else f"{remark[:59]}…"
