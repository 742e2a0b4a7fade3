"""One row for each defect, for whoever wants to look further than averages."""

from pathlib import Path

import numpy as np

from tinydefects.data.tables import Columns, write_csv
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.size import short


def defect_columns(evaluation: Evaluation) -> Columns:
    """The table by columns, defects in the order they came.

    `peak_rank` is 1 for the highest peak of all defects, equal peaks share the better rank; the other columns are the
    fields of `DefectRecord`, its box in four and its AUPRO in one column a limit. nan where nothing was measured.
    """
    defects = evaluation.defects
    boxes = list(zip(*(defect.box_px for defect in defects), strict=True)) or [()] * 4
    aupros = list(zip(*(defect.aupro for defect in defects), strict=True)) or [()] * len(evaluation.fpr_limits)
    peaks = np.array([defect.peak for defect in defects])
    hits = evaluation.detectability.hits or (None,) * len(defects)  # none where the rule cannot be applied
    return {
        "category": [evaluation.category] * len(defects),
        "image": [defect.sample_id for defect in defects],
        "defect_type": [defect.defect_type for defect in defects],
        **dict(zip(("top_px", "left_px", "height_px", "width_px"), boxes, strict=True)),
        "area_px": [defect.area_px for defect in defects],
        "diameter_px": [defect.diameter_px for defect in defects],
        "diameter_mm": [defect.diameter_px * evaluation.pixel_pitch_mm for defect in defects],
        "contrast": [defect.contrast for defect in defects],
        "peak": [defect.peak for defect in defects],
        "own_peak": [defect.own_peak for defect in defects],
        "peak_rank": (1 + np.searchsorted(np.sort(-peaks), -peaks)).tolist(),
        "first_touched_fpr": [defect.first_touched_fpr for defect in defects],
        "half_covered_fpr": [defect.half_covered_fpr for defect in defects],
        "own_touched_fpr": [defect.own_touched_fpr for defect in defects],
        "detected": list(hits),
        **{f"aupro@{short(limit)}": own for limit, own in zip(evaluation.fpr_limits, aupros, strict=True)},
    }


def write_defect_table(evaluation: Evaluation, path: Path) -> None:
    """Write the table as CSV."""
    write_csv(path, defect_columns(evaluation))
