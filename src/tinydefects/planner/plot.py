"""An inspection as a picture: how large the defects are, and which of them span two patches at each input."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.inspection import Inspection, ResolutionPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf")
INK, MUTED, LINE, BAR = "#17191c", "#5f6671", "#e1e3e7", "#8a94a6"
TOO_SMALL, ONE_PATCH, KEPT = "#c4480f", "#eeb48f", "#0d7a70"  # below one patch, below two, two and more
SETTINGS: dict[Any, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "inspection",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": INK,
    "figure.facecolor": "white",
}
BINS_PER_OCTAVE = 4
COLUMNS = (1.12, 1.25, 1.38)  # right edges of the figures beside the bars, in widths of the bars


def write_plot(title: str, inspection: Inspection, path: Path) -> Path:
    """Write the picture in the format of its suffix, whole or not at all; the same inspection gives the same bytes.

    Raises:
        TinyDefectsError: another suffix, or no defect to draw.
    """
    if path.suffix.lower() not in FORMATS:
        raise TinyDefectsError(f"{path}: a plot ends in one of {', '.join(FORMATS)}; rename it")
    if not inspection.n_defects:
        raise TinyDefectsError(f"{title}: there are no defects to plot; leave out --plot")
    import matplotlib
    from matplotlib.figure import Figure

    kind = path.suffix.lower().removeprefix(".")
    dated = {"svg": "Date", "pdf": "CreationDate"}
    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(8.6, 2.9 + 0.36 * len(_bars(inspection))))
        _draw(figure, title, inspection)
        metadata = {dated[kind]: None} if kind in dated else None
        write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=150, metadata=metadata))
    return path


def _draw(figure: "Figure", title: str, inspection: Inspection) -> None:
    """The histogram of diameters above, one bar an input below, on one axis of diameters."""
    bars = _bars(inspection)
    n_rows = len(bars)
    figure.subplots_adjust(left=0.1, right=0.7, bottom=0.62 / figure.get_figheight(), top=0.86, hspace=0.1)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.6, 0.36 * n_rows))
    low, high = _octaves(inspection)
    lower.set_xscale("log", base=2)
    lower.set_xlim(low, high)
    _draw_sizes(upper, inspection, low, high)
    for row, (_, two_patches_px) in enumerate(bars):
        _draw_bar(lower, row, two_patches_px, low, high)
    for row, plan in enumerate(inspection.plans):
        _write_shares(lower, row, plan)
    lower.set_ylim(n_rows - 0.4, -0.6)
    lower.set_yticks(range(n_rows), [name for name, _ in bars])
    lower.tick_params(axis="both", length=0)
    lower.set_ylabel("input, long side (px)", labelpad=8)
    ticks = [2.0**power for power in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    lower.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    lower.minorticks_off()
    mixed = "; bars for the median image" if len(inspection.image_sizes_px) > 1 else ""
    lower.set_xlabel(f"defect diameter (px of the image){mixed}")
    _mark_planned_defect([upper, lower], inspection)
    figure.text(0.1, 0.945, f"{title}: {inspection.n_defects:,} defects", fontsize=12)
    _draw_legend(figure, inspection.patch_size)


def _draw_sizes(axes: "Axes", inspection: Inspection, low: float, high: float) -> None:
    n_bins = round(math.log2(high / low) * BINS_PER_OCTAVE)
    edges = np.geomspace(low, high, n_bins + 1)
    counts, _ = np.histogram(inspection.diameters_px, bins=edges)
    axes.bar(edges[:-1], counts, width=np.diff(edges) * 0.92, align="edge", color=BAR)
    axes.set_ylim(0, 1.25 * counts.max())
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(f"defects\n(highest bar: {counts.max():,})", labelpad=8)
    pitch = inspection.pixel_pitch_mm
    if not math.isnan(pitch):
        in_mm = axes.secondary_xaxis(
            "top", functions=(lambda px: np.multiply(px, pitch), lambda mm: np.divide(mm, pitch))
        )
        in_mm.set_xlabel("mm", labelpad=2, loc="right")
        in_mm.tick_params(axis="x", length=0, which="both")
        in_mm.xaxis.set_major_formatter("{x:g}")
        in_mm.xaxis.set_minor_formatter("")


def _bars(inspection: Inspection) -> list[tuple[str, float]]:
    """Name of each input and the diameter in pixels of the image that spans two patches there."""
    bars = [
        ("native" if plan.resolution is None else str(plan.resolution), plan.two_patches_px)
        for plan in inspection.plans
    ]
    plan = inspection.input_plan
    return bars if plan is None else [*bars, ("advised" if plan.n_passes == 1 else "tiles", plan.defect_px)]


def _draw_bar(axes: "Axes", row: int, two_patches_px: float, low: float, high: float) -> None:
    """One input, coloured by how many patches a defect of that diameter spans."""
    edges = np.clip([low, two_patches_px / 2, two_patches_px, high], low, high)
    for start, end, colour in zip(edges, edges[1:], (TOO_SMALL, ONE_PATCH, KEPT), strict=False):
        axes.barh(row, end - start, left=start, height=0.62, color=colour)


def _write_shares(axes: "Axes", row: int, plan: ResolutionPlan) -> None:
    columns = (plan.share_below_two_patches, plan.nearest.share_gone, plan.bilinear.share_gone)
    for share, place in zip(columns, COLUMNS, strict=True):
        axes.text(place, row, _percent(share), transform=axes.get_yaxis_transform(), ha="right", va="center")


def _mark_planned_defect(panels: list["Axes"], inspection: Inspection) -> None:
    plan = inspection.input_plan
    if plan is None:
        return
    for axes in panels:
        axes.axvline(plan.defect_px, color=INK, linewidth=1, linestyle=(0, (3, 2)))
    passes = "one pass" if plan.n_passes == 1 else f"{plan.n_passes:,} passes"
    panels[0].annotate(
        f"{plan.defect_px:.3g} px: two patches at scale {plan.scale:.3g}, {passes}",
        (plan.defect_px, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(5, -3),
        textcoords="offset points",
        va="top",
        fontsize=9,
    )


def _draw_legend(figure: "Figure", patch_size: int) -> None:
    from matplotlib.patches import Patch

    lower = figure.axes[1]
    heads = ("below\n2 patches", "mask gone\n(nearest)", "mask gone\n(bilinear)")
    for head, place in zip(heads, COLUMNS, strict=True):
        lower.text(place, 1.03, head, transform=lower.transAxes, ha="right", va="bottom", color=MUTED, fontsize=8)
    names = (f"below one patch of {patch_size} px", "one to two patches", "two patches and more")
    colours = (TOO_SMALL, ONE_PATCH, KEPT)
    figure.legend(
        handles=[Patch(color=colour, label=name) for colour, name in zip(colours, names, strict=True)],
        loc="upper left",
        bbox_to_anchor=(0.705, 0.87),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        handleheight=0.9,
    )


def _octaves(inspection: Inspection) -> tuple[float, float]:
    """Whole powers of two around all defects, at least four octaves apart."""
    planned = [] if inspection.input_plan is None else [inspection.input_plan.defect_px]
    sizes = [*inspection.diameters_px, *planned]
    low, high = math.floor(math.log2(min(sizes))), math.floor(math.log2(max(sizes))) + 1
    return 2.0**low, 2.0 ** max(high, low + 4)


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"
