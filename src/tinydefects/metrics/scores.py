"""What an evaluation says, as one frozen value, and the names of its numbers.

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
from tinydefects.metrics.detectability import Detectability
from tinydefects.metrics.groups import SizeBins, short
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import PART_AUROC, Crop, DefectRecord, GroupScores, Interval
from tinydefects.metrics.showing import html_summary, summary

FPR_LIMITS = (0.30, 0.10, 0.05, 0.01)
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
