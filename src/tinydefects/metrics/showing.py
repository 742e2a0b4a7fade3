"""An evaluation for people: a short table in a terminal, two tables in a notebook, both with intervals and cautions."""

from typing import TYPE_CHECKING

from tinydefects.metrics.detectability import describe
from tinydefects.metrics.groups import short
from tinydefects.metrics.records import PART_AUROC, GroupScores, Interval
from tinydefects.notebook import number, paragraphs, table, whisker

if TYPE_CHECKING:
    from tinydefects.metrics.scores import Evaluation

FEW_DEFECTS, FEW_IMAGES = 10, 5
UNKNOWN = Interval(low=float("nan"), high=float("nan"))
WHOLE_TOLD = {
    "image_auroc": "image AUROC",
    PART_AUROC: "part AUROC (sample-level)",
    "image_average_precision": "image AP",
    "image_best_f1": "image best F1 (oracle threshold)",
    "image_f1": "image F1 at the given threshold",
    "image_fpr_at_95_tpr": "image FPR at 95 % TPR (lower is better)",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel AP",
    "pixel_best_f1": "pixel best F1 (oracle threshold)",
    "pixel_f1": "pixel F1 at the given threshold (SegF1)",
    "aupimo": "AUPIMO",
}


def summary(evaluation: "Evaluation") -> str:
    """A short table to print: AUPRO by cumulative size quartile and by type, rho with its definition, image scores."""
    limits = "".join(f"{f'{100 * limit:g} %':>13}" for limit in evaluation.fpr_limits)
    has_intervals = any(interval.low == interval.low for interval in evaluation.intervals.values())
    by_name = (*(evaluation.by_type if len(evaluation.by_type) > 1 else ()), *evaluation.by_bin)
    width = max(10, *(len(group.label) + 1 for group in by_name)) if by_name else 10
    by_region = [
        f"{'AUPRO at':<{width}}{limits}  defects  area (Q1 is the smallest quarter, Q4 is all)",
        *(line for group in evaluation.cumulative for line in _rows(group, evaluation, width)),
        f"{'rho':<{width}}{_numbers(evaluation.rho)}           mean(Q1..Q4) * min(Q1, Q4) / max(Q1, Q4)",
        *_intervals("rho", evaluation, width),
        *(line for group in by_name for line in _rows(group, evaluation, width)),
        *_saturated(evaluation, width),
    ]
    by_pixel = [
        f"pixel AUROC {_number('pixel_auroc', evaluation)}  AP {_number('pixel_average_precision', evaluation)}  "
        f"best F1 {_number('pixel_best_f1', evaluation)} (oracle threshold)",
        f"AUPIMO {_number('aupimo', evaluation)}, mean of {len(evaluation.aupimo_by_image)} images",
    ]
    outlined = evaluation.overall.n_defects > 0
    lines = [
        _heading(evaluation),
        *(by_region if outlined else [nothing_outlined(evaluation)]),
        f"image AUROC {_number('image_auroc', evaluation)}  AP {_number('image_average_precision', evaluation)}  "
        f"best F1 {_number('image_best_f1', evaluation)} (oracle threshold)  "
        f"FPR at 95 % TPR {_number('image_fpr_at_95_tpr', evaluation)}",
        *_parts(evaluation),
        *(by_pixel if outlined else _by_type(evaluation)),
        *_decisions(evaluation),
        *_detected(evaluation),
        *(["in brackets and below: 95 % intervals, images resampled"] if has_intervals else []),
        *_cautions(evaluation),
    ]
    return "\n".join(lines)


def html_summary(evaluation: "Evaluation") -> str:
    """For notebooks, the numbers of `summary`: two tables, by group and for the whole, with intervals, and remarks."""
    by_type = evaluation.by_type if len(evaluation.by_type) > 1 else ()
    rows = [_html_row(group, evaluation) for group in (*evaluation.cumulative, *by_type, *evaluation.by_bin)]
    rows.insert(len(evaluation.cumulative), ["rho", *_html_numbers("rho", evaluation.rho, evaluation), "", ""])
    rows += [
        [name.replace("_", " ", 1), *_html_numbers(name, evaluation.spro[name], evaluation), "", ""]
        for name in _spro_names(evaluation)
    ]
    limits = [f"AUPRO at {100 * limit:g} %" for limit in evaluation.fpr_limits]
    by_group = table(["", *limits, "defects", "area, px"], rows, caption=_heading(evaluation))
    given = {"pixel_f1": evaluation.threshold, "image_f1": evaluation.image_threshold}
    given[PART_AUROC] = evaluation.part_auroc
    whole = [_html_whole(name, evaluation) for name in WHOLE_TOLD if given.get(name, 0) == given.get(name, 0)]
    legend = "Q1 is the smallest quarter of the defects, Q4 is all; in small: 95 % intervals, images resampled"
    remarks = [legend, *_detected(evaluation), *_cautions(evaluation)]
    if not evaluation.overall.n_defects:
        by_group, remarks = paragraphs([_heading(evaluation)]), [nothing_outlined(evaluation), *remarks[1:]]
    of_whole = table(["", "value", "95 % interval", "0 to 1"], whole, caption="All images and pixels")
    return "\n".join([by_group, of_whole, paragraphs(remarks)])


def _html_row(group: GroupScores, evaluation: "Evaluation") -> list[str]:
    area = f"{group.area_px[0]:.0f} to {group.area_px[1]:.0f}" if group.n_defects else ""
    numbers = _html_numbers(f"aupro{group.suffix}", group.aupro, evaluation)
    return [group.label, *numbers, str(group.n_defects), area]


def _html_whole(name: str, evaluation: "Evaluation") -> list[str]:
    value, interval = getattr(evaluation, name), evaluation.intervals.get(name, UNKNOWN)
    return [WHOLE_TOLD[name], number(value), _interval(name, evaluation), whisker(value, interval.low, interval.high)]


def _html_numbers(metric: str, values: tuple[float, ...], evaluation: "Evaluation") -> list[str]:
    limits = evaluation.fpr_limits
    return [
        number(value, _interval(f"{metric}@{short(limit)}", evaluation))
        for limit, value in zip(limits, values, strict=True)
    ]


def _heading(evaluation: "Evaluation") -> str:
    n_defective = evaluation.n_images - evaluation.n_good_images
    return (
        f"{evaluation.category or 'category'}: {evaluation.n_good_images} good and {n_defective} defective images, "
        f"{evaluation.overall.n_defects} defects, curve {evaluation.curve_rule}"
    )


def _detected(evaluation: "Evaluation") -> list[str]:
    return describe(evaluation.detectability, pixel_pitch_mm=evaluation.pixel_pitch_mm, intervals=evaluation.intervals)


def nothing_outlined(evaluation: "Evaluation") -> str:
    """What an evaluation without a single defect region leaves undefined, and why."""
    n_defective = evaluation.n_images - evaluation.n_good_images
    why = f"none of {n_defective} defective images is outlined" if n_defective else "there is no defective image"
    return f"{why}: AUPRO, rho, pixel AUROC, AUPIMO and sizes are undefined"


def _parts(evaluation: "Evaluation") -> list[str]:
    n_good, n_all = evaluation.n_good_parts, evaluation.n_parts
    told = f"{WHOLE_TOLD[PART_AUROC]} {_number(PART_AUROC, evaluation)}: {n_good} good and {n_all - n_good} defective"
    return [f"{told} parts, each by the highest score of its views"] if n_all else []


def _saturated(evaluation: "Evaluation", width: int) -> list[str]:
    told = f"{evaluation.n_saturated:>9}  as outlined, each up to its saturation"
    lines = []
    for name in _spro_names(evaluation):
        row = f"{name.removeprefix('spro_'):<{width}}{_numbers(evaluation.spro[name])}"
        lines += [row + told * (name == "spro"), *_intervals(name, evaluation, width)]
    return lines


def _spro_names(evaluation: "Evaluation") -> list[str]:
    """Of all outlined defects, then of each type where there are several."""
    return list(evaluation.spro)[: None if len(evaluation.spro) > 2 else 1]


def _by_type(evaluation: "Evaluation") -> list[str]:
    """Image AUROC of each type, for categories that have nothing else to tell them apart by; one type needs no line."""
    types = evaluation.by_type if len(evaluation.by_type) > 1 else ()
    return [
        f"  {group.label}: image AUROC {group.image_auroc:.4f}{_bracketed(f'image_auroc{group.suffix}', evaluation)}, "
        f"{group.n_images} images"
        for group in types
    ]


def _decisions(evaluation: "Evaluation") -> list[str]:
    """F1 at the thresholds that were given; often nothing."""
    pixel = ("pixel F1 (SegF1)", "pixel_f1", evaluation.threshold)
    decided = [pixel, ("image F1", "image_f1", evaluation.image_threshold)]
    return [f"{told} {_number(name, evaluation)}, scores above {at:g}" for told, name, at in decided if at == at]


def _rows(group: GroupScores, evaluation: "Evaluation", width: int) -> list[str]:
    area = f"  {group.area_px[0]:.0f} to {group.area_px[1]:.0f} px" if group.n_defects else ""
    numbers = f"{group.label:<{width}}{_numbers(group.aupro)}{group.n_defects:>9}{area}"
    return [numbers, *_intervals(f"aupro{group.suffix}", evaluation, width)]


def _numbers(values: tuple[float, ...]) -> str:
    return "".join(f"{value:>13.4f}" for value in values)


def _intervals(metric: str, evaluation: "Evaluation", width: int) -> list[str]:
    """A line below the numbers of one metric, one interval for each limit; none where no interval is known."""
    found = [_interval(f"{metric}@{short(limit)}", evaluation) for limit in evaluation.fpr_limits]
    return [" " * width + "".join(f"{interval:>13}" for interval in found)] if any(found) else []


def _number(metric: str, evaluation: "Evaluation") -> str:
    return f"{getattr(evaluation, metric):.4f}{_bracketed(metric, evaluation)}"


def _bracketed(metric: str, evaluation: "Evaluation") -> str:
    interval = _interval(metric, evaluation)
    return f" ({interval})" if interval else ""


def _interval(metric: str, evaluation: "Evaluation") -> str:
    """`0.711-0.823`, or nothing where there is no interval."""
    interval = evaluation.intervals.get(metric)
    return f"{interval.low:.3f}-{interval.high:.3f}" if interval and interval.low == interval.low else ""


def _cautions(evaluation: "Evaluation") -> list[str]:
    """What a reader must know before believing the numbers above; often nothing."""
    if not evaluation.overall.n_defects:
        return []
    groups = (*evaluation.cumulative, *evaluation.by_bin)
    few = [f"{group.label} ({group.n_defects})" for group in groups if group.n_defects < FEW_DEFECTS]
    cautions = [f"caution: fewer than {FEW_DEFECTS} defects in {', '.join(few)}"] if few else []
    few = [f"{group.label} ({group.n_images})" for group in groups if group.n_images < FEW_IMAGES]
    cautions += [f"caution: fewer than {FEW_IMAGES} images with defects of {', '.join(few)}"] if few else []
    if evaluation.n_unmarked_images:
        cautions.append(
            f"caution: {evaluation.n_unmarked_images} defective images mark no pixel; their pixels are left out"
        )
    return cautions
