"""An inspection as text and as a picture: how large the defects are, and what each input leaves of them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.input_plan import PATCHES_ACROSS, describe_by_size, describe_plan
from tinydefects.planner.inspection import Inspection, ResolutionPlan
from tinydefects.planner.recall import ALL, COUNTED, RecallAdvice
from tinydefects.planner.recommendation import InputOption, PassCost, Recommendation, planned_cost

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


def describe_inspection(title: str, inspection: Inspection) -> str:
    """The inspection as a short text: sizes, what each resolution leaves, and what to do."""
    if not inspection.n_images:
        return f"{title}: no defects, as there is no defective image"
    if not inspection.n_defects:
        return (
            f"{title}: no defect is outlined in {inspection.n_images} defective images, "
            "so there is nothing to measure; give --defect-px and --image-size to plan an input without outlines"
        )
    sizes = ", ".join(f"{height}x{width}" for height, width in inspection.image_sizes_px)
    lines = [
        f"{title}: {inspection.n_defects} defects in {inspection.n_images} images ({sizes} px, height x width)",
        f"{'':16}" + "".join(f"{name:>10}" for name in ("smallest", "5 %", "25 %", "median", "75 %", "largest")),
        _row("area, px", inspection.area_quantiles_px),
        _row("diameter, px", inspection.diameter_quantiles_px),
    ]
    if not math.isnan(inspection.pixel_pitch_mm):
        in_mm = tuple(value * inspection.pixel_pitch_mm for value in inspection.diameter_quantiles_px)
        lines.append(_row("diameter, mm", in_mm))
    if inspection.n_crumbs:
        lines.append(_crumbs(inspection))
    lines += [
        f"\n{'':10}{'diameter in patches':>21}{'defects below':>16}{'gone: nearest mask':>24}{'bilinear mask':>24}",
        f"{'long side':10}{'5 %':>10}{'median':>11}{'1 patch':>9}{'2':>7}" + f"{'all':>10}{'Q1':>7}{'pixels':>7}" * 2,
        *map(_resolution_row, inspection.plans),
        f"(patches of {inspection.patch_size} px; gone: share of all defects, and of the smallest quarter, of which",
        " a mask shrunk to this size marks no pixel, and the share of defect pixels that it leaves unmarked)",
    ]
    if inspection.input_plan is not None:
        several = bool(inspection.by_size)
        lines += ["", describe_plan(inspection.input_plan, is_largest=several)]
        lines += [describe_by_size(inspection.by_size)] if several else []
    return "\n".join(lines)


def _crumbs(inspection: Inspection) -> str:
    share = inspection.n_crumbs / inspection.n_defects
    return (
        f"caution: {inspection.n_crumbs:,} defects ({share:.0%}) in {inspection.n_masks_with_crumbs} masks are one "
        "pixel, often a crumb of annotation:\n"
        " each counts as much as any defect and is among the smallest; remove from the masks what is none"
    )


def describe_recommendation(advice: Recommendation) -> str:
    """The recommendation as a short text: what to choose, what it costs, which other inputs are worth their cost."""
    wanted = f"a defect of {advice.defect_px:.3g} px at {PATCHES_ACROSS} patches"
    limit = f"{advice.latency_ms:,g} ms an image"
    if advice.best is None:
        lines = [f"no input fits into {limit}; the smallest takes about {advice.options[0].ms:,.0f} ms"]
    elif advice.keeps:
        lines = [f"to keep {wanted} within {limit}:", f"  tinydefects fit ... {_fit_options(advice.best)}"]
    else:
        lines = [
            f"no input keeps {wanted} within {limit}; the nearest is",
            f"  tinydefects fit ... {_fit_options(advice.best)}",
            f"  and the cheapest that keeps it takes about {advice.cheapest_keeping.ms:,.0f} ms",
        ]
    if advice.shifted is not None:
        verdict = "fits, too" if advice.shifted.ms <= advice.latency_ms else "does not fit"
        lines.append(
            f"  --stride {advice.shifted.stride} on top (scores twice as dense, the defect no wider): "
            f"{advice.shifted.n_passes:,} passes, about {advice.shifted.ms:,.0f} ms, {verdict}"
        )
    lines.append(f"{'':2}{'patches wide':>12}{'about ms':>10}{'passes':>8}{'patches':>10}  {'input'}")
    lines += [_option_row(option, advice.best) for option in advice.options]
    if advice.by_size and advice.best is not None:
        lines += [f"(times and passes are those of the largest photograph; > {_fit_options(advice.best)}:)"]
        lines += [describe_by_size(advice.by_size)]
    return "\n".join([*lines, f"({advice.cost_source})"])


def describe_recall(advice: RecallAdvice, *, pixel_pitch_mm: float = math.nan) -> str:
    """The advice as a short text: what to choose, what each input would find, what it was measured on."""
    inputs, wanted = advice.inputs, f"{100 * advice.recall:.3g} %"
    of = f"{wanted} of defects of {_size(inputs.defect_px, pixel_pitch_mm)}"
    going_by = "all measured surfaces" if advice.like == ALL else advice.like
    if advice.is_reachable:
        ends = f"{_width(advice.width_low)} to {_width(advice.width_high)}"
        lines = [f"to find {of}, going by {going_by}: {advice.width_patches:.2f} patches across (95 %: {ends})"]
        lines += _chosen_for_recall(advice)
    else:
        lines = [
            f"{of} cannot be promised by any input, going by {going_by}: the most that was found there is "
            f"{100 * advice.reachable:.0f} %, from {advice.widest:.2f} patches across on"
        ]
    is_timed = inputs.cost_source != COUNTED.source
    head = f"  {'patches wide':>12}{'found (95 %)':>18}{f'{wanted} from':>22}{'passes':>8}{'patches':>12}"
    lines.append(head + f"{'about ms':>10}" * is_timed + "  input")
    for option, (recall, interval), smallest in zip(inputs.options, advice.found, advice.smallest_px, strict=True):
        share = "not measured" if math.isnan(recall) else f"{recall:.2f} ({interval.low:.2f}-{interval.high:.2f})"
        size = "–" if math.isnan(smallest) else _size(smallest, pixel_pitch_mm)
        mark = "> " if advice.is_reachable and option is inputs.best else "  "
        numbers = f"{option.width_patches:>12.2f}{share:>18}{size:>22}{option.n_passes:>8,}{option.n_patches:>12,}"
        lines.append(f"{mark}{numbers}" + f"{option.ms:>10,.0f}" * is_timed + f"  {_fit_options(option)}")
    return "\n".join([*lines, *_measured_on(advice)])


def _chosen_for_recall(advice: RecallAdvice) -> list[str]:
    """The command of the best input, and what is to be known about it."""
    inputs, best = advice.inputs, advice.inputs.best
    limit = f"{inputs.latency_ms:,g} ms an image"
    if best is None:
        return [f"  no input fits into {limit}; the smallest takes about {inputs.options[0].ms:,.0f} ms"]
    lines = [f"  tinydefects fit ... {_fit_options(best)}"]
    if not inputs.keeps:
        cheapest = f"the cheapest that does takes about {inputs.cheapest_keeping.ms:,.0f} ms"
        lines = [f"  no input within {limit} reaches it; {cheapest}, the nearest in time is", *lines]
    if advice.enlarges:
        lines.append(
            "  which enlarges: no detail is added; the shares come from photographs shown at about their own size"
        )
    if inputs.shifted is not None:
        lines.append(
            f"  (--stride {inputs.shifted.stride} on top was not measured; as many patches gain more by enlarging)"
        )
    return lines


def _measured_on(advice: RecallAdvice) -> list[str]:
    """What the shares rest on, and how far other surfaces are from them."""
    measured = advice.measured
    there = sorted((width, name) for name, width in advice.others.items() if not math.isnan(width))
    never = sorted(name for name, width in advice.others.items() if math.isnan(width))
    singly = [f"{name} {width:.2g}" for width, name in there] + ([f"nowhere on {', '.join(never)}"] if never else [])
    return [
        f"patches across that it takes on single surfaces (--like NAME): {'; '.join(singly)}",
        f"(measured: {measured.method} with the teacher {measured.teacher}, {measured.curve().n_defects} defects on "
        f"{len(measured.curves) - 1} surfaces, {measured.n_alarming} of {measured.n_good} good images alarming "
        f"({100 * measured.false_alarm_rate:g} % allowed), commits {', '.join(measured.commits)};",
        " another part, light, kind of defect or teacher may lie outside of the interval: outline yours and evaluate)",
    ]


def _size(diameter_px: float, pixel_pitch_mm: float) -> str:
    in_mm = "" if math.isnan(pixel_pitch_mm) else f" ({diameter_px * pixel_pitch_mm:.3g} mm)"
    return f"{diameter_px:.3g} px{in_mm}"


def _width(patches: float) -> str:
    return "not reached" if math.isnan(patches) else f"{patches:.2f}"


def describe_cost(inspection: Inspection, cost: PassCost) -> str:
    """What the planned input takes, without a limit to meet."""
    if inspection.input_plan is None:
        return f"({cost.source})"
    ms, n_passes = planned_cost(inspection.input_plan, cost)
    of = "the largest photograph" if inspection.by_size else "an image"
    passes = f"{n_passes:,} passes" if n_passes > 1 else "one pass"
    return f"  about {ms:,.0f} ms for {of}, {passes}\n({cost.source})"


def _option_row(option: InputOption, best: InputOption | None) -> str:
    numbers = f"{option.width_patches:>12.2f}{option.ms:>10,.0f}{option.n_passes:>8,}{option.n_patches:>10,}"
    return f"{'> ' if option is best else '  '}{numbers}  {_fit_options(option)}"


def _fit_options(option: InputOption) -> str:
    tiles = "" if option.tile is None else f" --tile {option.tile} --overlap {option.overlap}"
    return f"--resolution {option.resolution}{tiles}"


def _row(name: str, values: tuple[float, ...]) -> str:
    return f"{name:16}" + "".join(f"{value:>10.4g}" for value in values)


def _resolution_row(plan: ResolutionPlan) -> str:
    name = "native" if plan.resolution is None else str(plan.resolution)
    small, median = plan.diameter_quantiles_patches[1], plan.diameter_quantiles_patches[3]
    losses = "".join(
        f"{loss.share_gone:>10.1%}{loss.share_gone_smallest:>7.1%}{loss.share_pixels_lost:>7.1%}"
        for loss in (plan.nearest, plan.bilinear)
    )
    below = f"{plan.share_below_one_patch:>9.1%}{plan.share_below_two_patches:>7.1%}"
    return f"{name:10}{small:>10.2f}{median:>11.2f}{below}{losses}"


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
