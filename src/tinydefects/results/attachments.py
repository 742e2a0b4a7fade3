"""The files beside a result: pixels of its crops, the tally of its evaluation, the table of its defects.

The tally lets results be compared later without the maps. It holds how many pixels of an image or a defect reach a
score, not where they lie: no map and no photograph can be made from it. Counts are stored as their steps from threshold
to threshold, most of which are 0.
"""

import io
import math
import tempfile
import zlib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter, with_config

from tinydefects.data.json_files import read_file
from tinydefects.data.tables import Columns, write_csv
from tinydefects.metrics.groups import short
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import Crop
from tinydefects.metrics.scores import Evaluation

STEPPED = {"normal_at_least", "defect_at_least", "outlined_at_least"}  # of a tally
OUTLINED = {"saturation_px", "image_of_outlined", "outlined_at_least"}  # all of them or none
MOST_BYTES = 1 << 31  # unpacked; the largest benchmarks take some ten megabytes
KINDS = {"f": "numbers", "iu": "whole numbers", "U": "names", "b": "yes or no"}  # by NumPy's letters
TALLY_ARRAYS = {  # the axes of each array: T thresholds, I images, D defects, V views, S saturations; and its kind
    "thresholds": ("T", "f"),
    "normal_at_least": ("IT", "iu"),
    "n_normal": ("I", "iu"),
    "highest_normal": ("I", "f"),
    "defect_at_least": ("DT", "iu"),
    "area_px": ("D", "iu"),
    "peak": ("D", "f"),
    "own_peak": ("D", "f"),
    "median": ("D", "f"),
    "image_of_defect": ("D", "iu"),
    "defect_type": ("D", "U"),
    "is_good": ("I", "b"),
    "image_score": ("I", "f"),
    "sample_id": ("I", "U"),
    "group": ("I", "U"),
    "is_view": ("V", "b"),
    "saturation_px": ("S", "f"),
    "image_of_outlined": ("S", "iu"),
    "outlined_at_least": ("ST", "iu"),
}
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
    arrays = _arrays(packed)
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
    known = _arrays(packed)
    known.setdefault("own_peak", np.full_like(known["peak"], np.nan))  # before format 4 of results nobody looked
    arrays: dict[str, NDArray[Any]] = {
        field.name: known[field.name]
        for field in fields(Tally)
        if field.name in known or field.default_factory is MISSING  # before format 8 no parts and no saturations
    }
    _require_tally(arrays)
    for name in STEPPED & arrays.keys():
        arrays[name] = np.cumsum(arrays[name], axis=1, dtype=np.int32)
    return Tally(**arrays)


def _arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file that somebody else may have written: none is larger than what the file holds of it.

    Raises:
        ValueError, KeyError: not such a file.
    """
    try:
        with ZipFile(io.BytesIO(packed)) as parts:
            if sum(part.file_size for part in parts.infolist()) > MOST_BYTES:
                raise ValueError(f"its arrays take more than {MOST_BYTES:,} bytes")
            for part in parts.infolist():
                with parts.open(part) as file:
                    _require_all_of(file, part)
        with np.load(io.BytesIO(packed), allow_pickle=False) as stored:
            return dict(stored)
    except (BadZipFile, zlib.error, EOFError, RuntimeError, MemoryError) as error:  # RuntimeError: it wants a password
        raise ValueError(str(error) or type(error).__name__) from error


def _require_all_of(file: IO[bytes], part: ZipInfo) -> None:
    """Refuse an array whose header promises more than follows: memory would be set aside for it."""
    major, _ = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if math.prod(shape) * dtype.itemsize > part.file_size:
        raise ValueError(f"{part.filename} promises more than it holds")


def _require_tally(arrays: dict[str, NDArray[Any]]) -> None:
    """Numbers where numbers belong, as many as there are thresholds, images and defects, and indices within these.

    Raises:
        ValueError: otherwise.
    """
    n_thresholds, n_images, n_defects = (arrays[name].size for name in ("thresholds", "n_normal", "area_px"))
    n_views, n_outlined = (arrays[name].size if name in arrays else 0 for name in ("is_view", "saturation_px"))
    sizes = {"T": n_thresholds, "I": n_images, "D": n_defects, "V": n_images if n_views else 0, "S": n_outlined}
    for name in arrays:
        axes, kinds = TALLY_ARRAYS[name]
        array, due = arrays[name], tuple(sizes[axis] for axis in axes)
        if array.size == 0 == math.prod(due) and array.ndim == len(due):
            continue
        if array.shape != due or array.dtype.kind not in kinds:
            told = f"{name} of the tally is {array.dtype} of shape {array.shape}"
            raise ValueError(f"{told}, expected {KINDS[kinds]} of shape {due}")
    if len(arrays.keys() & OUTLINED) not in (0, len(OUTLINED)):
        raise ValueError(f"the tally lacks {' and '.join(sorted(OUTLINED - arrays.keys()))}")
    for name in arrays.keys() & {"image_of_defect", "image_of_outlined"}:
        rows = arrays[name]
        if rows.size and not (rows.min() >= 0 and rows.max() < n_images):
            raise ValueError("the tally has defects of images that it does not have")
    if n_defects and arrays["area_px"].min() < 1:
        raise ValueError("the tally has defects without a pixel")
    if n_outlined and not (np.isfinite(arrays["saturation_px"]) & (arrays["saturation_px"] >= 1)).all():
        raise ValueError("the tally has saturations below one pixel, or endless ones")
    if np.isnan(arrays["thresholds"]).any() or (np.diff(arrays["thresholds"]) > 0).any():
        raise ValueError("the thresholds of the tally do not fall")


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


def is_table_of(evaluation: Evaluation, path: Path) -> bool | None:
    """Whether a file is the table that `write_defect_table` writes; None if its columns are of another version."""
    with tempfile.TemporaryDirectory() as folder:
        write_defect_table(evaluation, Path(folder) / path.name)
        due = (Path(folder) / path.name).read_bytes()
    try:
        stored = read_file(path)
    except (OSError, ValueError):
        return False
    return None if stored.partition(b"\n")[0] != due.partition(b"\n")[0] else stored == due
