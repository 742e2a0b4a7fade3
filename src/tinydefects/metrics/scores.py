"""What an evaluation says, as one frozen value, and how it is printed.

Undefined is nan with the count beside it; nothing here measures or reads anything.

`metrics_of` gives every one of its numbers under one name: what intervals, comparisons and tables are keyed by.
`aupro@0.3` is over all defects, `aupro_Q1@0.3` over a cumulative quartile, `aupro_only_Q1@0.3` over a disjoint one and
`aupro_<name>@0.3` over a defect type or a bin of sizes; `image_auroc_…` follows the same pattern. A type whose name
could be taken for another group's has `type:` before it, `aupro_type:Q1@0.3`. Whoever types a name may write the key of
any group instead (`aupro_type:crack@0.3`, `aupro_diameter_px:2-5@0.3`), the limit as any number or in percent
(`aupro_Q1@5%`), or leave it out for all limits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from tinydefects.errors import ResultError
from tinydefects.metrics.detectability import Detectability, describe
from tinydefects.metrics.groups import SizeBins, short
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import Crop, DefectRecord, GroupScores, Interval
from tinydefects.notebook import number, paragraphs, table, whisker

FPR_LIMITS = (0.30, 0.10, 0.05, 0.01)
FEW_DEFECTS, FEW_IMAGES = 10, 5
UNKNOWN = Interval(low=float("nan"), high=float("nan"))
PART_AUROC = "part_auroc"  # of datasets that know parts of several views
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
WHOLE = (
    *("pixel_auroc", "pixel_average_precision", "pixel_best_f1", "pixel_f1", "seg_f1", "aupimo"),
    *("image_auroc", "image_average_precision", "image_best_f1", "image_f1", "image_fpr_at_95_tpr"),
)
SIZES = ("a50_px", "a90_px", "a90_95_px")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Every number of one category at the images' own resolution.

    Attributes:
        curve_rule: `exact` (tie-aware, every threshold), `published_99` (the 99-point rule of published tables) or
            `normal_thresholds` (what that rule tends to with ever more points).
        n_parts, n_good_parts: parts of several views, where the dataset has such, and those without a defective view.
        part_auroc: AUROC of parts, each scored by the highest image score of its views: Real-IAD's sample level.
        spro: AU-sPRO at each limit (`saturated.py`), by name: of all `n_saturated` defects of MVTec LOCO, of each type.
        n_unmarked_images: defective images whose mask is empty; they count for the image numbers, their pixels nowhere.
        overall: all defects.
        cumulative: Q1, Q2, Q3, Q4 as published: areas up to the 25, 50, 75, 100 % quantile; Q4 is all.
        disjoint: the four size quartiles without overlap, smallest first.
        by_type: one group per defect type.
        quartile_areas_px: the three quantiles of all region areas.
        rho: robustness to size, one value per limit: mean(Q1…Q4) * min(Q1, Q4) / max(Q1, Q4), cumulative groups.
        by_bin: one group per fixed bin of size, where bins were asked for.
        pixel_best_f1: the best F1 over all thresholds, chosen on the test masks: an oracle, not a working point.
        threshold, image_threshold: decision thresholds for pixels and for images, chosen without these images; nan when
            not given. Defective means score > threshold.
        pixel_f1, image_f1: F1 at them, of all pixels of the category pooled and of all images; nan when not given.
        image_fpr_at_95_tpr: the smallest share of good images above a threshold that at least 95 % of the defective
            ones reach.
        aupimo: mean of `aupimo_by_image`, the AUPIMO of each defective image by sample id (Bertoldo et al. 2024):
            recall over the logarithm of the good images' mean false-positive rate, from 1e-5 to 1e-4.
        crops: the smallest defects and those with the lowest peaks, bounded in number.
        score_range: lowest and highest anomaly score seen.
        detectability: which of `defects` are detected at a stated false-alarm rate, and POD against their size.
        bins, pixel_pitch_mm: what `by_bin` was made from.
        intervals: 95 % intervals by the name that `metrics_of` gives, such as `aupro_Q1@0.05`; maybe none.
        tally: counts at about a thousand thresholds, for resampling; None once it is read back without them.
    """

    category: str
    curve_rule: str
    fpr_limits: tuple[float, ...]
    n_images: int
    n_good_images: int
    n_unmarked_images: int = 0
    n_normal_pixels: int
    n_defect_pixels: int
    overall: GroupScores
    cumulative: tuple[GroupScores, ...]
    disjoint: tuple[GroupScores, ...]
    by_type: tuple[GroupScores, ...]
    quartile_areas_px: tuple[float, float, float]
    rho: tuple[float, ...]
    pixel_auroc: float
    pixel_average_precision: float
    pixel_best_f1: float
    image_auroc: float
    image_average_precision: float
    image_best_f1: float
    score_range: tuple[float, float]
    defects: tuple[DefectRecord, ...]
    crops: tuple[Crop, ...]
    by_bin: tuple[GroupScores, ...] = ()
    threshold: float = float("nan")
    pixel_f1: float = float("nan")
    aupimo: float = float("nan")
    aupimo_by_image: Mapping[str, float] = field(default_factory=dict)
    image_threshold: float = float("nan")
    image_f1: float = float("nan")
    image_fpr_at_95_tpr: float = float("nan")
    n_parts: int = 0
    n_good_parts: int = 0
    part_auroc: float = float("nan")
    n_saturated: int = 0
    spro: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    detectability: Detectability = field(default_factory=Detectability)
    bins: tuple[SizeBins, ...] = ()
    pixel_pitch_mm: float = float("nan")
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    tally: Tally | None = None

    @property
    def seg_f1(self) -> float:
        """SegF1 of MVTec AD 2 (arXiv 2503.21622): F1 of all pixels of the category's test images pooled.

        It is `pixel_f1`; the name binds whoever prints it to a threshold chosen without test images.
        """
        return self.pixel_f1

    def __str__(self) -> str:
        return summary(self)

    def _repr_html_(self) -> str:
        return html_summary(self)


def summary(evaluation: Evaluation) -> str:
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


def html_summary(evaluation: Evaluation) -> str:
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


def _html_row(group: GroupScores, evaluation: Evaluation) -> list[str]:
    area = f"{group.area_px[0]:.0f} to {group.area_px[1]:.0f}" if group.n_defects else ""
    numbers = _html_numbers(f"aupro{group.suffix}", group.aupro, evaluation)
    return [group.label, *numbers, str(group.n_defects), area]


def _html_whole(name: str, evaluation: Evaluation) -> list[str]:
    value, interval = getattr(evaluation, name), evaluation.intervals.get(name, UNKNOWN)
    return [WHOLE_TOLD[name], number(value), _interval(name, evaluation), whisker(value, interval.low, interval.high)]


def _html_numbers(metric: str, values: tuple[float, ...], evaluation: Evaluation) -> list[str]:
    limits = evaluation.fpr_limits
    return [
        number(value, _interval(f"{metric}@{short(limit)}", evaluation))
        for limit, value in zip(limits, values, strict=True)
    ]


def _heading(evaluation: Evaluation) -> str:
    n_defective = evaluation.n_images - evaluation.n_good_images
    return (
        f"{evaluation.category or 'category'}: {evaluation.n_good_images} good and {n_defective} defective images, "
        f"{evaluation.overall.n_defects} defects, curve {evaluation.curve_rule}"
    )


def _detected(evaluation: Evaluation) -> list[str]:
    return describe(evaluation.detectability, pixel_pitch_mm=evaluation.pixel_pitch_mm, intervals=evaluation.intervals)


def nothing_outlined(evaluation: Evaluation) -> str:
    """What an evaluation without a single defect region leaves undefined, and why."""
    n_defective = evaluation.n_images - evaluation.n_good_images
    why = f"none of {n_defective} defective images is outlined" if n_defective else "there is no defective image"
    return f"{why}: AUPRO, rho, pixel AUROC, AUPIMO and sizes are undefined"


def _parts(evaluation: Evaluation) -> list[str]:
    n_good, n_all = evaluation.n_good_parts, evaluation.n_parts
    told = f"{WHOLE_TOLD[PART_AUROC]} {_number(PART_AUROC, evaluation)}: {n_good} good and {n_all - n_good} defective"
    return [f"{told} parts, each by the highest score of its views"] if n_all else []


def _saturated(evaluation: Evaluation, width: int) -> list[str]:
    told = f"{evaluation.n_saturated:>9}  as outlined, each up to its saturation"
    lines = []
    for name in _spro_names(evaluation):
        row = f"{name.removeprefix('spro_'):<{width}}{_numbers(evaluation.spro[name])}"
        lines += [row + told * (name == "spro"), *_intervals(name, evaluation, width)]
    return lines


def _spro_names(evaluation: Evaluation) -> list[str]:
    """Of all outlined defects, then of each type where there are several."""
    return list(evaluation.spro)[: None if len(evaluation.spro) > 2 else 1]


def _by_type(evaluation: Evaluation) -> list[str]:
    """Image AUROC of each type, for categories that have nothing else to tell them apart by; one type needs no line."""
    types = evaluation.by_type if len(evaluation.by_type) > 1 else ()
    return [
        f"  {group.label}: image AUROC {group.image_auroc:.4f}{_bracketed(f'image_auroc{group.suffix}', evaluation)}, "
        f"{group.n_images} images"
        for group in types
    ]


def _decisions(evaluation: Evaluation) -> list[str]:
    """F1 at the thresholds that were given; often nothing."""
    pixel = ("pixel F1 (SegF1)", "pixel_f1", evaluation.threshold)
    decided = [pixel, ("image F1", "image_f1", evaluation.image_threshold)]
    return [f"{told} {_number(name, evaluation)}, scores above {at:g}" for told, name, at in decided if at == at]


def _rows(group: GroupScores, evaluation: Evaluation, width: int) -> list[str]:
    area = f"  {group.area_px[0]:.0f} to {group.area_px[1]:.0f} px" if group.n_defects else ""
    numbers = f"{group.label:<{width}}{_numbers(group.aupro)}{group.n_defects:>9}{area}"
    return [numbers, *_intervals(f"aupro{group.suffix}", evaluation, width)]


def _numbers(values: tuple[float, ...]) -> str:
    return "".join(f"{value:>13.4f}" for value in values)


def _intervals(metric: str, evaluation: Evaluation, width: int) -> list[str]:
    """A line below the numbers of one metric, one interval for each limit; none where no interval is known."""
    found = [_interval(f"{metric}@{short(limit)}", evaluation) for limit in evaluation.fpr_limits]
    return [" " * width + "".join(f"{interval:>13}" for interval in found)] if any(found) else []


def _number(metric: str, evaluation: Evaluation) -> str:
    return f"{getattr(evaluation, metric):.4f}{_bracketed(metric, evaluation)}"


def _bracketed(metric: str, evaluation: Evaluation) -> str:
    interval = _interval(metric, evaluation)
    return f" ({interval})" if interval else ""


def _interval(metric: str, evaluation: Evaluation) -> str:
    """`0.711-0.823`, or nothing where there is no interval."""
    interval = evaluation.intervals.get(metric)
    return f"{interval.low:.3f}-{interval.high:.3f}" if interval and interval.low == interval.low else ""


def _cautions(evaluation: Evaluation) -> list[str]:
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


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    """Name to value, in the order of a report; nan where nothing was measured."""
    groups, limits = groups_of(evaluation), [short(limit) for limit in evaluation.fpr_limits]
    limited = {f"aupro{group.suffix}": group.aupro for group in groups} | {"rho": evaluation.rho, **evaluation.spro}
    values = {f"{name}@{limit}": one for name, own in limited.items() for limit, one in zip(limits, own, strict=True)}
    values |= {name: getattr(evaluation, name) for name in WHOLE}
    if evaluation.n_parts:
        values[PART_AUROC] = evaluation.part_auroc
    values |= {name: getattr(evaluation.detectability.fit, name) for name in SIZES}
    return values | {f"image_auroc{group.suffix}": group.image_auroc for group in groups if group.suffix}


def groups_of(evaluation: Evaluation) -> tuple[GroupScores, ...]:
    """All groups of defects in the order of a report; each has a key of its own and its members."""
    sized = (evaluation.overall, *evaluation.cumulative, *evaluation.disjoint)
    return (*sized, *evaluation.by_type, *evaluation.by_bin)


def choose_metrics(evaluations: Iterable[Evaluation], text: str) -> list[str]:
    """The metrics named in a text between commas, by the names that `metrics_of` gives them; all of them for `all`.

    A name may hold commas itself, as those of defect types can.

    Raises:
        ResultError: a name that no evaluation has a metric for.
    """
    written: dict[str, list[str]] = {}
    for evaluation in evaluations:
        for name, names in _ways_to_write(evaluation).items():
            known = written.setdefault(name, [])
            known += [one for one in names if one not in known]
    if text.strip() == "all":
        return list(dict.fromkeys(name for names in written.values() for name in names))
    chosen: list[str] = []
    parts = text.split(",")
    while parts:
        ends = (n for n in range(len(parts), 0, -1) if _names(",".join(parts[:n]).strip(), written))
        n_taken = next(ends, 1)
        name = ",".join(parts[:n_taken]).strip()
        if name:
            chosen += _names(name, written) or _refuse(name, written)
        parts = parts[n_taken:]
    return list(dict.fromkeys(chosen))


def _names(name: str, written: Mapping[str, list[str]]) -> list[str]:
    """The metrics that a name as typed stands for: as it is if that is known, else its limit written in one way."""
    return written.get(name) or written.get(_normal(name)) or []


def _refuse(name: str, written: Mapping[str, list[str]]) -> NoReturn:
    known = dict.fromkeys(one for names in written.values() for one in names)
    raise ResultError(f"no result has the metric {name!r}; choose from {', '.join(known)}")


def _ways_to_write(evaluation: Evaluation) -> dict[str, list[str]]:
    """Every accepted way to write a metric, to its name; one without a limit stands for those of all limits."""
    names = list(metrics_of(evaluation))
    written = {name: [name] for name in names}
    stems: dict[str, str] = {name: name for name in ("rho", *evaluation.spro)}
    for group in groups_of(evaluation):
        stems |= {f"{kind}_{group.key}": f"{kind}{group.suffix}" for kind in ("aupro", "image_auroc")}
        stems[f"aupro{group.suffix}"] = f"aupro{group.suffix}"
    for stem, of_metric in stems.items():
        if of_metric in names:
            written.setdefault(stem, [of_metric])
            continue
        limited = {short(limit): f"{of_metric}@{short(limit)}" for limit in evaluation.fpr_limits}
        written.setdefault(stem, list(limited.values()))
        for limit, name in limited.items():
            written.setdefault(f"{stem}@{limit}", [name])
    return written


def _normal(name: str) -> str:
    """The name with its limit written in one way: `aupro@0.05` for `aupro@5e-2` and `aupro@5%`."""
    stem, sign, limit = name.rpartition("@")
    try:
        share = float(limit.rstrip("% ")) / (100 if limit.endswith("%") else 1)
    except ValueError:
        return name
    return f"{stem}@{short(share)}" if sign else name
