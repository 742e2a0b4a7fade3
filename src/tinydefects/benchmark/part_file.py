"""A part of a category on disk, to be merged elsewhere: `part.json` beside `part.npz` and `part.f32`, one set of files.

The normal scores in `part.f32`, four bytes a pixel, are nearly all of it. Each file's length and digest stand in the
JSON and are compared before anything is believed.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.json_files import read_as, read_file
from tinydefects.metrics.exhibits import Cut, ExhibitKeeper
from tinydefects.metrics.gathering import Gathered
from tinydefects.metrics.parts import Part
from tinydefects.metrics.records import DefectRecord
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.pixels import cannot_write
from tinydefects.sample import Label, Sample, defect_type_of
from tinydefects.together import replace_together, settle

FORMAT = 2  # 1 knew no own peaks, nor which files a part was gathered from
HEADER, ARRAYS, SCORES = "part.json", "part.npz", "part.f32"
PART_SET = "part"
AGAIN = "copy it again or gather the part again"
PICTURES = ("image", "mask", "anomaly_map")
COLUMNS = ("sample_id", "area_px", "diameter_px", "peak", "own_peak", "contrast")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What part.json says."""

    format: int
    category: str
    n_images: int
    n_exhibits: int
    made_from: str
    files_sha256: str
    with_contrast: bool
    n_unmarked: int
    lowest: float
    highest: float
    scores_bytes: int
    scores_sha256: str
    arrays_sha256: str


def write_part(part: Part, folder: Path) -> Path:
    """Write a part into a folder of its own, one image's scores in memory at a time; returns the folder.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    try:
        replace_together(folder, PART_SET, lambda new: _write_files(part, new))
    except OSError as error:
        raise TinyDefectsError(cannot_write(folder, error)) from error
    return folder


def _write_files(part: Part, folder: Path) -> None:
    gathered = part.gathered
    digest = hashlib.sha256()
    with (folder / SCORES).open("wb") as file:
        for run in gathered.normal_scores.runs():
            content = run.tobytes()
            digest.update(content)
            file.write(content)
    packed = _packed(part)
    (folder / ARRAYS).write_bytes(packed)
    header = _Header(
        format=FORMAT,
        category=part.category,
        n_images=part.n_images,
        n_exhibits=part.n_exhibits,
        made_from=part.made_from,
        files_sha256=part.files_sha256,
        with_contrast=gathered.with_contrast,
        n_unmarked=gathered.n_unmarked,
        lowest=gathered.lowest,
        highest=gathered.highest,
        scores_bytes=4 * int(gathered.normal_scores.sizes.sum()),
        scores_sha256=digest.hexdigest(),
        arrays_sha256=hashlib.sha256(packed).hexdigest(),
    )
    (folder / HEADER).write_text(json.dumps(asdict(header), indent=1, allow_nan=False), encoding="utf-8")


@contextmanager
def read_part(folder: Path) -> Iterator[Part]:
    """The part in a folder; its normal scores stay in their file, which is open until the block ends.

    Raises:
        ResultError: a file is missing, truncated, changed, or of another format.
    """
    settle(folder, PART_SET)
    header = _read_header(folder / HEADER)
    packed = _read(folder / ARRAYS)
    if hashlib.sha256(packed).hexdigest() != header.arrays_sha256:
        raise ResultError(f"{folder / ARRAYS}: does not belong to {HEADER}; {AGAIN}")
    scores = folder / SCORES
    n_bytes = scores.stat().st_size if scores.is_file() else 0
    if n_bytes != header.scores_bytes:
        raise ResultError(f"{scores}: has {n_bytes:,} bytes instead of {header.scores_bytes:,}; {AGAIN}")
    arrays = np.load(io.BytesIO(packed), allow_pickle=False)
    digest = hashlib.sha256()
    with ScoreSpool.of_file(scores, arrays["run_sizes"], lambda run: digest.update(run.tobytes())) as normal_scores:
        if digest.hexdigest() != header.scores_sha256:
            raise ResultError(f"{scores}: was changed after it was written; {AGAIN}")
        yield _unpacked(header, arrays, normal_scores)


def _read_header(path: Path) -> _Header:
    header = read_as(_Header, path, ResultError, kind="header of a part", way_out=AGAIN)
    if header.format != FORMAT:
        raise ResultError(f"{path}: has format {header.format}, this version reads {FORMAT}; gather with one version")
    return header


def _read(path: Path) -> bytes:
    try:
        return read_file(path)
    except (OSError, ValueError) as error:
        raise ResultError(f"{path}: cannot be read ({error}); is this the folder of a whole part?") from error


def _packed(part: Part) -> bytes:
    """All but the normal scores, as the bytes of an npz file: a row for each image, each defect, each cut."""
    gathered = part.gathered
    arrays: dict[str, NDArray[Any]] = {
        "positions": np.array(part.positions, dtype=np.int64),
        "run_sizes": gathered.normal_scores.sizes,
        "image_score": np.array(gathered.image_scores),
        "image_id": np.array([sample.id for sample in gathered.samples], dtype=np.str_),
        "label": np.array([sample.label for sample in gathered.samples], dtype=np.str_),
        "group": np.array([sample.group or sample.id for sample in gathered.samples], dtype=np.str_),
        "image_of_defect": np.array(gathered.image_of_defect, dtype=np.int64),
        "image_px": np.array(gathered.image_px, dtype=np.int64),
        "box_px": np.array([record.box_px for record in gathered.records], dtype=np.int64),
        "defect_scores": np.concatenate([np.empty(0, np.float32), *gathered.defect_scores]),
        **{name: np.array([getattr(record, name) for record in gathered.records]) for name in COLUMNS},
    }
    cuts = gathered.exhibits.cuts()
    arrays["cut"] = np.array(list(cuts), dtype=np.int64)
    for number, cut in cuts.items():
        arrays |= {f"{number}.{name}": getattr(cut, name) for name in PICTURES}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]  # numpy types the keywords as its own options
    return buffer.getvalue()


def _unpacked(header: _Header, arrays: Any, normal_scores: ScoreSpool) -> Part:  # noqa: ANN401 - numpy's NpzFile
    records = _records(arrays)
    gathered = Gathered(
        normal_scores=normal_scores,
        exhibits=_exhibits(header, arrays, records),
        with_contrast=header.with_contrast,
        samples=[
            Sample(id=name, image_path=Path(name), label=cast(Label, label), group=group)  # nobody opens it again
            for name, label, group in zip(
                arrays["image_id"].tolist(), arrays["label"].tolist(), arrays["group"].tolist(), strict=True
            )
        ],
        image_scores=arrays["image_score"].tolist(),
        defect_scores=np.split(arrays["defect_scores"], np.cumsum(arrays["area_px"])[:-1]) if records else [],
        records=records,
        image_of_defect=arrays["image_of_defect"].tolist(),
        image_px=arrays["image_px"].tolist(),
        n_unmarked=header.n_unmarked,
        lowest=header.lowest,
        highest=header.highest,
    )
    return Part(
        category=header.category,
        n_images=header.n_images,
        positions=tuple(arrays["positions"].tolist()),
        n_exhibits=header.n_exhibits,
        made_from=header.made_from,
        files_sha256=header.files_sha256,
        gathered=gathered,
    )


def _records(arrays: Any) -> list[DefectRecord]:  # noqa: ANN401 - numpy's NpzFile
    columns = [arrays[name].tolist() for name in (*COLUMNS, "box_px")]
    return [
        DefectRecord(
            **dict(zip(COLUMNS, row, strict=True)),
            defect_type=defect_type_of(row[0]),
            box_px=tuple(box),
            first_touched_fpr=float("nan"),
            half_covered_fpr=float("nan"),
            aupro=(),
        )
        for *row, box in zip(*columns, strict=True)
    ]


def _exhibits(header: _Header, arrays: Any, records: list[DefectRecord]) -> ExhibitKeeper:  # noqa: ANN401 - NpzFile
    keeper = ExhibitKeeper(header.n_exhibits)
    for number in sorted(arrays["cut"].tolist()):
        cut = Cut(**{name: arrays[f"{number}.{name}"] for name in PICTURES})
        keeper.keep(number, records[number].area_px, records[number].peak, cut)
    return keeper
