"""The parts of an evaluation, as frozen values: one record a defect, the scores of a group, an interval, a crop.

Undefined is nan with the count beside it; nothing here measures or reads anything.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PART_AUROC = "part_auroc"  # the metric that only datasets with parts of several views have
# A defect type of such a name stands in metrics' names with `type:`: a quartile, a bin or a key could bear it, too.
TAKEN = re.compile(
    r"(only_)?Q[1-4]|(<|>=)?[\d.e+-]+( to [\d.e+-]+)? (px|px²|mm²|of the image)"
    r"|(all|cumulative|disjoint|type|area_px|diameter_px|area_mm2|image_share)(:.*)?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % confidence interval; (nan, nan) where there is nothing to draw from."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlottedCurve:
    """A curve thinned for drawing (at most a few hundred points); areas are taken before thinning."""

    fpr: tuple[float, ...]
    pro: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupScores:
    """Scores of one group of defects against all normal pixels of the category.

    Attributes:
        key: unique among the groups of an evaluation: `all`, `cumulative:Q1`, `disjoint:Q1`, `type:crack`,
            `diameter_px:2-5`.
        name: `all`, a size quartile (`Q1` is the smallest defects), a defect type or a bin of sizes; not unique.
        members: places of its defects in `Evaluation.defects`, ascending.
        n_defects: 8-connected regions in the group.
        n_images: images that hold at least one of them.
        area_px: smallest and largest area in the group, (nan, nan) when it is empty.
        aupro: one value per limit of `Evaluation.fpr_limits`, each divided by its limit; nan when the group is empty.
        image_auroc: images holding the group's defects against good images; nan when either is missing.
        curve: PRO against FPR for drawing.
    """

    key: str
    name: str
    members: tuple[int, ...]
    n_defects: int
    n_images: int
    area_px: tuple[float, float]
    aupro: tuple[float, ...]
    image_auroc: float
    curve: PlottedCurve

    @property
    def kind(self) -> str:
        """What the key begins with: `all`, `cumulative`, `disjoint`, `type`, or the unit of a bin."""
        return self.key.partition(":")[0]

    @property
    def label(self) -> str:
        """Its name, with `type` before that of a defect type which could be taken for another group."""
        return f"type {self.name}" if self.kind == "type" and TAKEN.fullmatch(self.name) else self.name

    @property
    def suffix(self) -> str:
        """What tells its metrics' names from those of other groups: `_Q1` in `aupro_Q1@0.05`; empty for all defects."""
        if self.kind == "all":
            return ""
        if self.kind == "disjoint":
            return f"_only_{self.name}"
        return f"_{self.key}" if self.label != self.name else f"_{self.name}"


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
        own_peak: the highest score inside the defect that no neighbour's glow explains (`defect_signals.py`); nan where
            there is none, and in results that did not measure it.
        own_touched_fpr: as `first_touched_fpr`, for `own_peak`.
        aupro: this defect's own AUPRO at each of `Evaluation.fpr_limits`, exact; any group's AUPRO is the mean of it.
        contrast: how much it stands out in the photograph, see `defect_signals.py`; nan unless it was asked for.
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
    contrast: float = float("nan")
    own_peak: float = float("nan")
    own_touched_fpr: float = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crop:
    """The surroundings of a defect at native pixels: image (h, w, 3) uint8, mask (h, w) bool, map (h, w) float16."""

    defect: DefectRecord
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float16]
