"""What an evaluation says, as frozen values: numbers by group of defects, one record a defect, a few exhibits.

Undefined is nan with the count beside it; nothing here measures or reads anything.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FPR_LIMITS = (0.30, 0.10, 0.05, 0.01)
FEW_DEFECTS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PlottedCurve:
    """A curve thinned for drawing (at most a few hundred points); areas are taken before thinning."""

    fpr: tuple[float, ...]
    pro: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """Scores of one group of defects against all normal pixels of the category.

    Attributes:
        name: `all`, a size quartile (`Q1` is the smallest defects) or a defect type.
        n_defects: 8-connected regions in the group.
        n_images: images that hold at least one of them.
        area_px: smallest and largest area in the group, (nan, nan) when it is empty.
        aupro: one value per limit of `Evaluation.fpr_limits`, each divided by its limit; nan when the group is empty.
        image_auroc: images holding the group's defects against good images; nan when either is missing.
        curve: PRO against FPR for drawing.
    """

    name: str
    n_defects: int
    n_images: int
    area_px: tuple[float, float]
    aupro: tuple[float, ...]
    image_auroc: float
    curve: PlottedCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class DefectRecord:
    """One defect and how far down the ranking of normal pixels one must go to see it.

    Attributes:
        box_px: top, left, height, width.
        diameter_px: of the disc of the same area.
        peak: highest anomaly score inside the defect.
        first_touched_fpr: share of all normal pixels that score at least `peak`: the false-positive rate at which
            its first pixel is found.
        half_covered_fpr: the same for the median pixel: the rate at which half of it is found.
        aupro: this defect's own AUPRO at each of `Evaluation.fpr_limits`, exact; any group's AUPRO is the mean of it.
    """

    sample_id: str
    defect_type: str
    box_px: tuple[int, int, int, int]
    area_px: int
    diameter_px: float
    peak: float
    first_touched_fpr: float
    half_covered_fpr: float
    aupro: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exhibit:
    """A defect cut out at native pixels, with a margin: image (h, w, 3) uint8, mask (h, w) bool, map (h, w) float16."""

    defect: DefectRecord
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Every number of one category at the images' own resolution.

    Attributes:
        curve_rule: `exact` (tie-aware, every threshold), `published_99` (the 99-point rule of published tables) or
            `normal_thresholds` (what that rule tends to with ever more points).
        n_unmarked_images: defective images whose mask is empty; they count for the image numbers, their pixels nowhere.
        overall: all defects.
        cumulative: Q1, Q2, Q3, Q4 as published: areas up to the 25, 50, 75, 100 % quantile; Q4 is all.
        disjoint: the four size quartiles without overlap, smallest first.
        by_type: one group per defect type.
        quartile_areas_px: the three quantiles of all region areas.
        rho: robustness to size, one value per limit: mean(Q1…Q4) * min(Q1, Q4) / max(Q1, Q4), cumulative groups.
        pixel_best_f1: the best F1 over all thresholds, chosen on the test masks: an oracle, not a working point.
        exhibits: the smallest defects and those with the lowest peaks, bounded in number.
        score_range: lowest and highest anomaly score seen.
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
    exhibits: tuple[Exhibit, ...]

    def __str__(self) -> str:
        return summary(self)


def summary(evaluation: Evaluation) -> str:
    """A short table to print: AUPRO by cumulative size quartile and by type, rho with its definition, image scores."""
    limits = "".join(f"{f'{100 * limit:g} %':>9}" for limit in evaluation.fpr_limits)
    n_defective = evaluation.n_images - evaluation.n_good_images
    by_type = evaluation.by_type if len(evaluation.by_type) > 1 else ()
    lines = [
        f"{evaluation.category or 'category'}: {evaluation.n_good_images} good and {n_defective} defective images, "
        f"{evaluation.overall.n_defects} defects, curve {evaluation.curve_rule}",
        f"{'AUPRO at':<10}{limits}  defects  area (Q1 is the smallest quarter, Q4 is all)",
        *map(_row, evaluation.cumulative),
        f"{'rho':<10}{_numbers(evaluation.rho)}           mean(Q1..Q4) * min(Q1, Q4) / max(Q1, Q4)",
        *map(_row, by_type),
        f"image AUROC {evaluation.image_auroc:.4f}  AP {evaluation.image_average_precision:.4f}  "
        f"best F1 {evaluation.image_best_f1:.4f} (oracle threshold)",
        f"pixel AUROC {evaluation.pixel_auroc:.4f}  AP {evaluation.pixel_average_precision:.4f}  "
        f"best F1 {evaluation.pixel_best_f1:.4f} (oracle threshold)",
        *_cautions(evaluation),
    ]
    return "\n".join(lines)


def _row(group: GroupScores) -> str:
    area = f"  {group.area_px[0]:.0f} to {group.area_px[1]:.0f} px" if group.n_defects else ""
    return f"{group.name:<10}{_numbers(group.aupro)}{group.n_defects:>9}{area}"


def _numbers(values: tuple[float, ...]) -> str:
    return "".join(f"{value:>9.4f}" for value in values)


def _cautions(evaluation: Evaluation) -> list[str]:
    """What a reader must know before believing the numbers above; often nothing."""
    few = [f"{group.name} ({group.n_defects})" for group in evaluation.cumulative if group.n_defects < FEW_DEFECTS]
    cautions = [f"caution: fewer than {FEW_DEFECTS} defects in {', '.join(few)}"] if few else []
    if evaluation.n_unmarked_images:
        cautions.append(
            f"caution: {evaluation.n_unmarked_images} defective images mark no pixel; their pixels are left out"
        )
    return cautions
