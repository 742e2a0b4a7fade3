"""Write the archive for MVTec AD 2's evaluation server, map by map; see `submission_layout` for what it holds."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image

from tinydefects.data.json_files import write_json
from tinydefects.data.pixels import write_whole
from tinydefects.data.predictions import read_paired
from tinydefects.errors import ScoreError, TinyDefectsError
from tinydefects.results.result import describe_run
from tinydefects.submission.layout import (
    ARCHIVE_SUFFIX,
    MARKS,
    N_PRIVATE_IMAGES,
    SCORES,
    SUFFIX_IN,
    ObjectMaps,
)
from tinydefects.submission.scale import (
    Float16Census,
    Float16Loss,
    Map16,
    Scale,
    Threshold,
    ThresholdRule,
    given_threshold,
    scale_from_validation,
    threshold_from_validation,
)

if TYPE_CHECKING:
    from tinydefects.progress import Report

GZIP_LEVEL = 1  # scores are nearly noise in their last bits: level 6 is no smaller and takes twice as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How the scores of one object become those of the submission, decided before any of them is read."""

    maps: ObjectMaps
    scale: Scale
    threshold: Threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedObject:
    """What was written for one object, and how."""

    name: str
    n_images: int
    threshold: Threshold
    scale: Scale
    loss: Float16Loss


def prepare(
    found: Sequence[ObjectMaps],
    *,
    threshold: float | None = None,
    rule: ThresholdRule = "validation",
    alpha: float = 0.001,
    rescale: bool = False,
    report: "Report" = lambda stage, done, total: None,
) -> list[Preparation]:
    """Fix scale and threshold of every object, from its validation images alone.

    Args:
        found: by `find_maps`.
        threshold: a number on the scale of the maps instead of a rule; the same for all objects.
        rule: see `Threshold`.
        alpha: share of the validation pixels that may exceed the threshold, in (0, 1).
        rescale: shift and stretch each object's scores so that its validation scores fill [0, 1].
        report: called with ("threshold", done, total).

    Raises:
        TinyDefectsError: a setting out of range, or validation maps are needed and were not looked for.
    """
    prepared = []
    for done, one in enumerate(found, start=1):
        scale = scale_from_validation(one) if rescale else Scale()
        if threshold is None:
            fixed = threshold_from_validation(one, rule, alpha, scale)
        else:
            fixed = given_threshold(threshold, scale)
        prepared.append(Preparation(maps=one, scale=scale, threshold=fixed))
        report("threshold", done, len(found))
    return prepared


def write_submission(
    prepared: Sequence[Preparation], out: Path, *, report: "Report" = lambda stage, done, total: None
) -> list[SubmittedObject]:
    """Write the archive and, beside it, how it was made (`<name>.json`); one map in memory, whole or not at all.

    The same maps give the same bytes. `report` is called with ("write", done, total).

    Raises:
        TinyDefectsError: `out` does not end in `.tar.gz`, or cannot be written.
        ScoreError: a score is nan, infinite, or too large for float16; the message names the map.
    """
    root = out.name.removesuffix(ARCHIVE_SUFFIX)
    if root in {out.name, ""}:
        raise TinyDefectsError(f"{out}: the server takes an archive; let its name end in {ARCHIVE_SUFFIX}")
    total = sum(len(pairing.pairs) for one in prepared for pairing in one.maps.private.values())
    written: list[SubmittedObject] = []
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        report("write", done, total)

    def fill(file: IO[bytes]) -> None:
        with (
            gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=GZIP_LEVEL, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|") as archive,
        ):
            written.extend(_write_object(archive, root, one, count) for one in prepared)

    write_whole(out, fill)
    record = {"provenance": asdict(describe_run({"command": "submit"})), "objects": [asdict(one) for one in written]}
    write_json(out.with_name(f"{root}.json"), record)
    return written


def describe_submission(written: Sequence[SubmittedObject]) -> str:
    """One line an object, then what is worth a warning."""
    lines = [f"{'object':14}{'images':>7}{'threshold':>12}  {'rule':18}{'distinct scores':>16}{'above threshold':>17}"]
    for one in written:
        fixed, loss = one.threshold, one.loss
        lines.append(
            f"{one.name:14}{one.n_images:>7}{fixed.value:>12.5g}  {fixed.rule:18}{loss.n_distinct:>16,}"
            f"{loss.n_distinct_above:>17,}"
        )
    lines += [f"warning: {one.name}: {text}; try --rescale" for one in written if (text := one.loss.warning())]
    missing = [name for name in N_PRIVATE_IMAGES if name not in {one.name for one in written}]
    if missing:
        lines.append(f"warning: the server refuses an archive without {', '.join(missing)}")
    return "\n".join(lines)


def _write_object(archive: tarfile.TarFile, root: str, one: Preparation, count: Callable[[], None]) -> SubmittedObject:
    census = Float16Census()
    n_images = 0
    for name, rounded in _rounded_maps(one, census):
        marks = rounded.astype(np.float32) > np.float32(one.threshold.value)
        _append(archive, f"{root}/{SCORES}/{name}{SUFFIX_IN[SCORES]}", _tiff(rounded))
        _append(archive, f"{root}/{MARKS}/{name}{SUFFIX_IN[MARKS]}", _png(marks))
        n_images += 1
        count()
    return SubmittedObject(
        name=one.maps.name,
        n_images=n_images,
        threshold=one.threshold,
        scale=one.scale,
        loss=census.loss(one.threshold.value),
    )


def _rounded_maps(one: Preparation, census: Float16Census) -> Iterator[tuple[str, Map16]]:
    """`<object>/<split>/<stem>` and the float16 map of every private image."""
    for split, pairing in one.maps.private.items():
        for sample, prediction in read_paired(pairing, "max"):
            rounded = one.scale.to_float16(prediction.anomaly_map)
            if not np.isfinite(rounded).all():
                raise ScoreError(
                    f"{one.maps.name}/{sample.id}: scores beyond 65504 do not fit into float16; add --rescale"
                )
            census.add(one.scale.apply(prediction.anomaly_map), rounded)
            yield f"{one.maps.name}/{split}/{sample.image_path.stem}", rounded


def _append(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _tiff(rounded: Map16) -> bytes:
    """Uncompressed, as every reader takes it; the archive is compressed as a whole."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, rounded, metadata=None)
    return buffer.getvalue()


def _png(marks: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(marks.astype(np.uint8) * np.uint8(255)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
