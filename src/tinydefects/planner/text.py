"""An inspection as text, for a terminal."""

import math

from tinydefects.planner.by_size import describe_by_size
from tinydefects.planner.input_plan import PATCHES_ACROSS, describe_plan
from tinydefects.planner.inspection import Inspection, ResolutionPlan
from tinydefects.planner.recommendation import InputOption, PassCost, Recommendation, planned_cost


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
