"""The files beside a result: pixels of its crops, the tally of its evaluation, the table of its defects.

The tally lets results be compared later without the maps. It holds how many pixels of an image or a defect reach a
score, not where they lie: no map and no photograph can be made from it. Counts are stored as their steps from threshold
to threshold, most of which are 0.
"""

import io
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, with_config

from tinydefects.data.tables import Columns, write_csv
from tinydefects.metrics.groups import short
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import Crop
from tinydefects.metrics.scores import Evaluation

STEPPED = {"normal_at_least", "defect_at_least", "outlined_at_least"}  # of a tally
with_config(ConfigDict(arbitrary_types_allowed=True))(Crop)  # its arrays are checked when they are read again


def pack_crops(crops: tuple[Crop, ...]) -> bytes:
    """The bytes of an npz file with image, mask and map of each."""
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for number, crop in enumerate(crops):
        arrays[f"{number}.image"] = crop.image
        arrays[f"{number}.mask"] = crop.mask
        arrays[f"{number}.anomaly_map"] = crop.anomaly_map
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own options
    return buffer.getvalue()


def unpack_crops(packed: bytes, records: list[dict[str, Any]]) -> tuple[Crop, ...]:
    """What `pack_crops` packed, each with the fields of its defect from `records`.

    Raises:
        ValueError, KeyError: not such a file, or not of these records.
    """
    arrays = np.load(io.BytesIO(packed), allow_pickle=False)
    crops = [
        {"defect": record, **{key: arrays[f"{number}.{key}"] for key in ("image", "mask", "anomaly_map")}}
        for number, record in enumerate(records)
    ]
    return TypeAdapter(tuple[Crop, ...]).validate_python(crops)


def pack_tally(tally: Tally) -> bytes:
    """The bytes of an npz file with one array for each attribute of the tally."""
    arrays = {field.name: getattr(tally, field.name) for field in fields(Tally)}
    for name in STEPPED:
        steps = np.diff(arrays[name], prepend=0)
        arrays[name] = steps.astype(np.min_scalar_type(steps.max(initial=0)))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def unpack_tally(packed: bytes) -> Tally:
    """What `pack_tally` packed.

    Raises:
        ValueError, KeyError: not such a file.
    """
    with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
        known = dict(stored)
    known.setdefault("own_peak", np.full_like(known["peak"], np.nan))  # before format 4 of results nobody looked
    arrays: dict[str, NDArray[Any]] = {
        field.name: known[field.name]
        for field in fields(Tally)
        if field.name in known or field.default_factory is MISSING  # before format 8 no parts and no saturations
    }
    for name in STEPPED & arrays.keys():
        arrays[name] = np.cumsum(arrays[name], axis=1, dtype=np.int32)
    return Tally(**arrays)


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
