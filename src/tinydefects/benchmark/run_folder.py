"""The output folder of a benchmark: its protocol, which jobs it answers already, which failed and why, and its results.

Results are read back without their crops, which are left on disk until the gallery asks.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tinydefects.benchmark.board import MethodAt, method_of
from tinydefects.benchmark.data_digests import split_digest
from tinydefects.data.json_files import parse_json, read_as, read_bytes, read_json, write_json
from tinydefects.data.leftovers import settle
from tinydefects.data.sample import Category
from tinydefects.data.walk import PROTOCOL_FILE, walk
from tinydefects.errors import ResultError
from tinydefects.metrics.scores import Evaluation, metrics_of
from tinydefects.results.old_results import MethodName, in_our_words
from tinydefects.results.protocol import PROTOCOL_VERSION, EvaluationProtocol, Job, RunRecord, Sizes, sizes_of
from tinydefects.results.result import Provenance, find_results, read_result

FAILED_SUFFIX = ".failed.json"
SPLIT = "split"  # digest of images and masks, among the settings of a run
SECONDS = "seconds"  # of a whole job, among the settings of its result


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a job has no result: one line, and the traceback for whoever mends the method."""

    method: MethodName
    category: str
    resolution: int
    seed: int
    reason: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A job that has a result: its method's settings, how long it took, its metrics by name (`metrics/scores.py`)."""

    job: Job
    settings: Mapping[str, str]
    seconds: float
    metrics: Mapping[str, float]


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
    if not (path.exists() or path.is_symlink()):
        return None
    stored = read_as(_ProtocolFile, path, ResultError, kind="protocol", way_out="choose another --out")
    if stored.version != PROTOCOL_VERSION:
        raise ResultError(
            f"{path}: protocol version {stored.version}, this is version {PROTOCOL_VERSION}, whose numbers differ; "
            "choose another --out"
        )
    return stored.protocol


def home_of(place: Path) -> Path | None:
    """The folder that holds the protocol of a result or of a folder of results: itself or one above; None without."""
    places = (place, *place.absolute().parents) if place.is_dir() else place.absolute().parents
    return next((folder for folder in places if (folder / PROTOCOL_FILE).exists()), None)


def joined(asked: EvaluationProtocol, out: Path) -> EvaluationProtocol:
    """The asked-for protocol with the categories, sizes and seeds that the folder already holds put first.

    Raises:
        ResultError: the folder holds results of another protocol; the message names what differs.
    """
    stored = read_protocol(out)
    if stored is None:
        return asked
    if not asked.teacher_fingerprint:  # no method of this run needs one
        asked = replace(asked, teacher=stored.teacher, teacher_fingerprint=stored.teacher_fingerprint)
    differences = protocol_differences(stored, asked)
    if differences:
        raise ResultError(f"{out}: holds results of another protocol ({'; '.join(differences)}); choose another --out")
    return union_of(stored, asked)


def union_of(first: EvaluationProtocol, second: EvaluationProtocol) -> EvaluationProtocol:
    """The second protocol with what both enumerate, the first's categories, sizes and seeds before its own."""
    return replace(
        second,
        categories=_union(first.categories, second.categories),
        options={**first.options, **second.options},
        resolutions=_union(first.resolutions, second.resolutions),
        own_sizes={**first.own_sizes, **second.own_sizes},
        seeds=_union(first.seeds, second.seeds),
    )


def write_protocol(protocol: EvaluationProtocol, out: Path) -> None:
    """Claim the folder for this protocol."""
    content = _ProtocolFile(version=PROTOCOL_VERSION, fingerprint=protocol.fingerprint, protocol=protocol)
    write_json(out / PROTOCOL_FILE, content)


def finished(job: Job, out: Path) -> Finished | None:
    """What the result of this very job says; None where there is none, or one that cannot be read back whole."""
    path = out / job.path
    settle(path.parent, path.stem)
    try:
        result = read_result(path) if path.exists() else None
    except ResultError:
        return None
    if result is None or result.run is None or result.run.job != job.fingerprint:
        return None
    seconds = float(result.provenance.settings.get(SECONDS, "nan"))
    return Finished(job=job, settings=result.run.settings, seconds=seconds, metrics=metrics_of(result.evaluation))


def find_finished(jobs: Iterable[Job], out: Path) -> dict[str, Finished]:
    """Those of the jobs that have a result, by name."""
    found = {job.name: finished(job, out) for job in jobs}
    return {name: one for name, one in found.items() if one is not None}


def require_same_images(out: Path, categories: Mapping[str, Category]) -> None:
    """All results of one folder are of the same images, or their numbers cannot stand beside each other.

    Also those that nobody asks for now: a report sets all of them side by side.

    Raises:
        ResultError: the images or the truth of a category have changed since a result was made.
    """
    for name, category in categories.items():
        splits = {path: _split_of(path) for path in _files_of(out / name)}
        made = {path: split for path, split in splits.items() if split is not None}
        now = split_digest(category) if made else ""
        changed = [path for path, split in made.items() if split != now]
        if changed:
            raise ResultError(
                f"{changed[0].relative_to(out)}: the images, masks or saturations of {name} have changed since (or an "
                "earlier version made it, which did not look into the files): bring them back, choose another --out, "
                f"or delete {out / name} to have its results made again"
            )


def write_failure(job: Job, reason: str, traceback: str, out: Path) -> None:
    """Say beside the place of its result why a job has none; the next run tries it again."""
    failure = Failure(
        method=job.method,
        category=job.category,
        resolution=job.resolution,
        seed=job.seed,
        reason=reason,
        traceback=traceback,
    )
    write_json(_failure_path(job, out), asdict(failure))


def clear_failure(job: Job, out: Path) -> None:
    """Forget that a job ever failed."""
    _failure_path(job, out).unlink(missing_ok=True)


def read_failures(out: Path) -> list[Failure]:
    """The failed jobs of a folder, by path.

    Raises:
        ResultError: a file is damaged.
    """
    again = "delete it and run the benchmark again"
    return [
        read_as(Failure, path, ResultError, kind="failed job", way_out=again)
        for path in _files_of(out)
        if path.name.endswith(FAILED_SUFFIX)
    ]


def _files_of(folder: Path) -> list[Path]:
    """The JSON files below a folder; none where it is not there."""
    return [path for _, path in walk(folder, {".json"}, with_own=True).files] if folder.is_dir() else []


def _split_of(path: Path) -> str | None:
    """Which images a result is of, empty where it does not say; None for what is no result of a benchmark."""
    try:
        result = read_json(path, ResultError, kind="result", way_out="delete it")
        return str(result["run"]["settings"].get(SPLIT, ""))
    except (ResultError, TypeError, KeyError, AttributeError):
        return None


def _failure_path(job: Job, out: Path) -> Path:
    return (out / job.path).with_suffix(FAILED_SUFFIX)


def _union(first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys((*first, *second)))


def protocol_differences(stored: EvaluationProtocol, asked: EvaluationProtocol) -> list[str]:
    """`threshold_rate 0.01 there, 0.001 here`, for everything that must be equal."""
    there, here = stored.decisive(), asked.decisive()
    pairs: list[tuple[str, object, object]] = [
        (name, there.get(name, "default"), here.get(name, "default")) for name in there | here
    ]
    pairs += [
        (f"options of {dataset}", stored.options.get(dataset, {}), asked.options.get(dataset, {}))
        for dataset in _datasets(stored) & _datasets(asked)
    ]
    pairs += [
        (f"own size of {method} in px", size, asked.own_sizes[method])
        for method, size in stored.own_sizes.items()
        if method in asked.own_sizes
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredResult:
    """One result without its crops; `path` holds `n_crops` of them; `sizes` is what the protocol above it says."""

    path: Path
    n_crops: int
    evaluation: Evaluation
    provenance: Provenance
    run: RunRecord
    sizes: Sizes = field(default_factory=Sizes)

    @property
    def method(self) -> MethodAt:
        return method_of(self.run)


def results_below(folder: Path) -> list[Path]:
    """The result files below a folder, or the file itself.

    Raises:
        ResultError: there is none; where jobs failed, the message says why the first did.
    """
    try:
        return find_results(folder)
    except ResultError as error:
        failures = read_failures(folder)
        if not failures:
            raise
        first = failures[0]
        raise ResultError(
            f"{folder}: no results; failed jobs: {len(failures)}, the first {first.method} on {first.category} "
            f"({first.reason}); mend that and run 'tinydefects benchmark' again"
        ) from error


def divide_results(folder: Path) -> tuple[list[Path], list[Path]]:
    """The results below a folder that two or more methods of a benchmark left, and all others.

    A single method meets nobody: its results are evaluations like others.

    Raises:
        ResultError: there is none.
    """
    runs = {path: in_our_words(_peek(path).get("run")) for path in results_below(folder)}
    made_by = {path: (run.get("method"), run.get("resolution")) for path, run in runs.items() if isinstance(run, dict)}
    if len(set(made_by.values())) < 2:
        return [], list(runs)
    return list(made_by), [path for path in runs if path not in made_by]


def read_benchmark(folder: Path) -> list[StoredResult]:
    """Every result below a folder that a benchmark made.

    Raises:
        ResultError: there is none, one cannot be read, two are of one job, or they answer different protocols.
    """
    return _of_one_protocol(_stored(folder), folder)


def read_numbers(folder: Path) -> list[StoredResult]:
    """The same without what single defects and images say, which a large benchmark need not hold in memory.

    Raises:
        ResultError: as `read_benchmark`.
    """
    bare = (replace(one, evaluation=replace(one.evaluation, defects=(), aupimo_by_image={})) for one in _stored(folder))
    return _of_one_protocol(bare, folder)


def shared_facts(provenances: Iterable[Provenance]) -> dict[str, str]:
    """What results say of their making: a value all agree on as it is, others by how many there are."""
    values: dict[str, Counter[str]] = {}
    for provenance in provenances:
        for name, text in provenance.facts().items():
            values.setdefault(name, Counter())[text] += 1
    facts = {}
    for name, counts in values.items():
        first, last = min(counts), max(counts)
        several = f"{first} to {last}" if name == "created" else f"{len(counts)} different ones, such as {first}"
        facts[name] = first if len(counts) == 1 else several
    return facts


def _stored(folder: Path) -> Iterator[StoredResult]:
    protocols: dict[Path | None, EvaluationProtocol | None] = {None: None}
    for path in results_below(folder):
        home = home_of(path)
        if home is not None and home not in protocols:
            protocols[home] = read_protocol(home)
        result = read_result(path)
        if result.run is not None:
            yield StoredResult(
                path=path,
                n_crops=len(result.evaluation.crops),
                evaluation=replace(result.evaluation, crops=()),
                provenance=result.provenance,
                run=result.run,
                sizes=_sizes(protocols[home], result.run),
            )


def _sizes(protocol: EvaluationProtocol | None, run: RunRecord) -> Sizes:
    """By the protocol above a result, if it is that which the result answers."""
    if protocol is None or protocol.fingerprint != run.protocol:
        return Sizes()
    return sizes_of(protocol, run.method, run.resolution)


def _of_one_protocol(every: Iterable[StoredResult], folder: Path) -> list[StoredResult]:
    stored = list(every)
    if not stored:
        raise ResultError(f"{folder}: no results of a benchmark here; make some with 'tinydefects benchmark'")
    by_protocol = {one.run.protocol: one for one in stored}
    if len(by_protocol) > 1:
        first, other = list(by_protocol.values())[:2]
        raise ResultError(
            f"{first.path} and {other.path} answer different protocols ({first.run.protocol}, {other.run.protocol}): "
            "their numbers cannot be compared; keep results of one protocol in one folder"
        )
    refuse_copies((one.path, one.evaluation.category, one.run) for one in stored)
    return stored


def refuse_copies(runs: Iterable[tuple[Path, str, RunRecord]]) -> None:
    """No job may have two results, given by file and category: means over seeds would count it twice.

    Raises:
        ResultError: two files answer one job.
    """
    known: dict[tuple[str, str, str, int, int], Path] = {}
    for path, category, run in runs:
        first = known.setdefault((run.protocol, category, run.method, run.resolution, run.seed), path)
        if first != path:
            raise ResultError(
                f"{first} and {path}: both are of one job ({run.described}, {category}), which means would count "
                "twice; leave one of them in this folder"
            )


def _peek(path: Path) -> Mapping[str, object]:
    try:
        content = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return {}  # read_result says what is wrong with it
    return content if isinstance(content, dict) else {}
