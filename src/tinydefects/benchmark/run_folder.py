"""The output folder of a benchmark: its protocol, which jobs it answers already, and which failed and why."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from tinydefects.benchmark.protocol import ENUMERATED, PROTOCOL_VERSION, EvaluationProtocol, Job
from tinydefects.benchmark.result import read_result
from tinydefects.errors import ResultError
from tinydefects.metrics.figures import figures
from tinydefects.pixels import write_whole
from tinydefects.sample import Category
from tinydefects.walk import walk

PROTOCOL_FILE = "protocol.json"
FAILED_SUFFIX = ".failed.json"
SPLIT = "split"  # digest of the images, among the settings of a run
SECONDS = "seconds"  # of a whole job, among the settings of its result


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job has no result: one line, and the traceback for whoever mends the method."""

    peer: str
    category: str
    resolution: int
    seed: int
    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that has a result: on which images, how long it took, its figures by name (`metrics/figures.py`)."""

    job: Job
    split: str
    seconds: float
    figures: Mapping[str, float]


class _ProtocolFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: int
    fingerprint: str
    protocol: EvaluationProtocol


def read_protocol(out: Path) -> EvaluationProtocol | None:
    """What the results of a folder were made under; None where there are none yet.

    Raises:
        ResultError: the file is damaged, or of a version whose numbers are not comparable with today's.
    """
    path = out / PROTOCOL_FILE
    try:
        stored = _ProtocolFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultError(f"{path}: cannot be read ({error.strerror}); choose another --out") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ResultError(f"{path}: field '{field}': {first['msg']}; choose another --out") from error
    if stored.version != PROTOCOL_VERSION:
        raise ResultError(
            f"{path}: protocol version {stored.version}, this is version {PROTOCOL_VERSION}, whose numbers differ; "
            "choose another --out"
        )
    return stored.protocol


def joined(asked: EvaluationProtocol, out: Path) -> EvaluationProtocol:
    """The asked-for protocol with the categories, resolutions and seeds that the folder already holds put first.

    Raises:
        ResultError: the folder holds results of another protocol; the message names what differs.
    """
    stored = read_protocol(out)
    if stored is None:
        return asked
    if not asked.teacher_fingerprint:  # no method of this run needs one
        asked = replace(asked, teacher=stored.teacher, teacher_fingerprint=stored.teacher_fingerprint)
    differences = _differences(stored, asked)
    if differences:
        raise ResultError(f"{out}: holds results of another protocol ({'; '.join(differences)}); choose another --out")
    return replace(
        asked,
        categories=_union(stored.categories, asked.categories),
        options={**stored.options, **asked.options},
        resolutions=_union(stored.resolutions, asked.resolutions),
        seeds=_union(stored.seeds, asked.seeds),
    )


def write_protocol(protocol: EvaluationProtocol, out: Path) -> None:
    """Claim the folder for this protocol."""
    content = {"version": PROTOCOL_VERSION, "fingerprint": protocol.fingerprint, "protocol": asdict(protocol)}
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(out / PROTOCOL_FILE, lambda file: file.write(text.encode()))


def finished(job: Job, out: Path) -> Finished | None:
    """What the result of this very job says; None where there is none, or one that cannot be read back whole."""
    path = out / job.path
    try:
        result = read_result(path) if path.exists() else None
    except ResultError:
        return None
    if result is None or result.run is None or result.run.job != job.fingerprint:
        return None
    seconds = float(result.provenance.settings.get(SECONDS, "nan"))
    split = result.run.settings.get(SPLIT, "")
    return Finished(job=job, split=split, seconds=seconds, figures=figures(result.evaluation))


def find_finished(jobs: Iterable[Job], out: Path) -> dict[str, Finished]:
    """Those of the jobs that have a result, by name."""
    found = {job.name: finished(job, out) for job in jobs}
    return {name: one for name, one in found.items() if one is not None}


def require_same_images(found: Iterable[Finished], categories: Mapping[str, Category]) -> None:
    """Results of one folder are of the same images, or their numbers cannot stand beside each other.

    Raises:
        ResultError: the images of a category have changed since a result was made.
    """
    digests = {name: split_digest(category) for name, category in categories.items()}
    for one in found:
        if one.split != digests[one.job.category]:
            raise ResultError(
                f"{one.job.path}: the images of {one.job.category} have changed since; "
                "bring them back, or choose another --out"
            )


def split_digest(category: Category) -> str:
    """sha256 over ids, labels and file sizes of the images and masks of all three splits, in their order."""
    digest = hashlib.sha256()
    for split in (category.train, category.validation, category.test):
        digest.update(f"split of {len(split)}\n".encode())
        for sample in split:
            sizes = [path.stat().st_size for path in (sample.image_path, *sample.mask_paths)]
            digest.update(f"{sample.id} {sample.label} {sizes}\n".encode())
    return digest.hexdigest()


def write_failure(job: Job, reason: str, traceback: str, out: Path) -> None:
    """Say beside the place of its result why a job has none; the next run tries it again."""
    failure = Failure(
        peer=job.peer,
        category=job.category,
        resolution=job.resolution,
        seed=job.seed,
        reason=reason,
        traceback=traceback,
    )
    text = json.dumps(asdict(failure), indent=1)
    write_whole(_failure_path(job, out), lambda file: file.write(text.encode()))


def clear_failure(job: Job, out: Path) -> None:
    """Forget that a job ever failed."""
    _failure_path(job, out).unlink(missing_ok=True)


def read_failures(out: Path) -> list[Failure]:
    """The failed jobs of a folder, by path.

    Raises:
        ResultError: a file is damaged.
    """
    failures = []
    there = walk(out, {".json"}, with_own=True).files if out.is_dir() else ()
    for path in (path for _, path in there if path.name.endswith(FAILED_SUFFIX)):
        try:
            failures.append(TypeAdapter(Failure).validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise ResultError(f"{path}: not readable as a failed job; delete it and run the benchmark again") from error
    return failures


def _failure_path(job: Job, out: Path) -> Path:
    return (out / job.path).with_suffix(FAILED_SUFFIX)


def _union(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def _differences(stored: EvaluationProtocol, asked: EvaluationProtocol) -> list[str]:
    """`threshold_rate 0.01 there, 0.001 here`, for everything that must be equal."""
    pairs: list[tuple[str, object, object]] = [
        (field.name, getattr(stored, field.name), getattr(asked, field.name))
        for field in fields(EvaluationProtocol)
        if field.name not in ENUMERATED
    ]
    pairs += [
        (f"options of {dataset}", stored.options.get(dataset, {}), asked.options.get(dataset, {}))
        for dataset in _datasets(stored) & _datasets(asked)
    ]
    return [
        f"{name}: {_plain(one)} there, {_plain(two)} here" for name, one, two in pairs if _plain(one) != _plain(two)
    ]


def _datasets(protocol: EvaluationProtocol) -> set[str]:
    return {category.partition("/")[0] for category in protocol.categories}


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={json.dumps(option)}" for name, option in sorted(value.items())) or "none"
    return str(value) or "none"
