"""Folders of results by several people as one: what can be compared, or a refusal that says what cannot, and why.

Folders are read, never changed. The new one is written beside its place and moved there in the end, so that a merge
that was killed leaves nothing that could be taken for whole.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tinydefects.benchmark.data_digests import DATA_FILE, DataDigests, read_digests
from tinydefects.benchmark.run_folder import (
    FAILED_SUFFIX,
    SPLIT,
    protocol_differences,
    read_failures,
    read_protocol,
    results_below,
    union_of,
    write_protocol,
)
from tinydefects.benchmark.verify import Request, verify
from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.pixels import cannot_write
from tinydefects.data.walk import real_path, walk
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.scores import Evaluation, metrics_of
from tinydefects.progress import Progress
from tinydefects.results.attachments import write_defect_table
from tinydefects.results.protocol import EvaluationProtocol, Job
from tinydefects.results.recount import as_far_as_known, unequal
from tinydefects.results.result import TABLE_SUFFIX, TALLY_SUFFIX, Result, numbers_of, read_result

SUFFIXES = (".json", ".npz", TALLY_SUFFIX)  # of a result, each checked against the first
OF_DATA = {"split", "image_bits", "seed", "n_vectors", "approximate", "trained_epochs", "unseen_share", "preprocessing"}
TOLD_VERSIONS = ("tinydefects", "numpy", "torch")


@dataclass(slots=True)
class Merged:
    """What came of a merge.

    Attributes:
        refused: a line for each thing that cannot stand beside the others; with any, nothing is written.
        n_results: in the new folder.
        twice: results that two folders hold with equal numbers, taken from the first.
        remarks: what was left out, and what a reader should know.
    """

    refused: list[str] = field(default_factory=list)
    n_results: int = 0
    twice: int = 0
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """One of the folders, with what of it goes on: the first result of each job, by its place."""

    folder: Path
    protocol: EvaluationProtocol
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What later folders are compared with."""

    path: Path
    evaluation: Evaluation
    split: str
    versions: str
    job: str
    made: tuple[str, str]  # version and commit of this package
    settings: Mapping[str, str]


def merge(folders: Sequence[Path], out: Path, progress: Progress) -> Merged:
    """Put the results of several run folders into a new one.

    Raises:
        ResultError: fewer than two folders, one without results or protocol, or `out` is there already.
        TinyDefectsError: `out` cannot be written; nothing is left there.
    """
    places = [real_path(folder) for folder in (*folders, out)]
    if len({*places[:-1]}) < 2:
        raise ResultError("merge: give two folders of results or more, each once")
    for number, place in enumerate(places):
        if any(place.is_relative_to(other) for other in (*places[:number], *places[number + 1 :])):
            raise ResultError(f"{[*folders, out][number]}: lies in another of the folders; give folders side by side")
    if out.exists() or out.is_symlink():
        raise ResultError(f"{out}: is there already, and a merge overwrites nothing; choose another --out")
    merged = Merged()
    sources = [_source(folder, merged, progress) for folder in folders]
    first = sources[0]
    for other in sources[1:]:
        reasons = protocol_differences(first.protocol, other.protocol)
        if reasons:
            merged.refused.append(
                f"{other.folder}: follows another protocol than {first.folder} ({'; '.join(reasons)}); "
                "results of both cannot stand on one board"
            )
    if merged.refused:
        return merged
    taken = _choose(sources, merged)
    if not merged.refused:
        _write(sources, taken, out, merged)
    return merged


def _source(folder: Path, merged: Merged, progress: Progress) -> _Source:
    """A folder, once its results hold in themselves.

    Raises:
        ResultError: it has no results or no protocol.
    """
    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder; give folders that 'tinydefects benchmark --out' has written")
    protocol = read_protocol(folder)
    if protocol is None:
        raise ResultError(f"{folder}: holds no protocol, so that nobody knows what its numbers can be compared with")
    found = verify(folder, Request(n_sampled=0), progress)
    merged.refused += [*found.wrong, *_links_in(folder)]
    merged.remarks += [f"{folder}: {remark}" for remark in found.remarks]
    return _Source(folder=folder, protocol=protocol, paths=tuple(results_below(folder)))


def _links_in(folder: Path) -> list[str]:
    """Somebody else's links would bring files of this machine into what is passed on."""
    links: dict[Path, None] = {}
    for _, path in walk(folder, {".json", ".npz", ".csv"}, with_own=True).files:
        places = [path, *path.parents][: len(path.relative_to(folder).parts)]
        links |= dict.fromkeys(place for place in places if place.is_symlink())
    return [f"{path}: is a link; a merge takes files alone, so put the file here or remove the link" for path in links]


def _choose(sources: Sequence[_Source], merged: Merged) -> dict[Path, Path]:
    """Which file to take for each place in the new folder; refusals go into `merged`."""
    known: dict[Path, _Known] = {}
    of_category: dict[str, _Known] = {}
    of_method: dict[tuple[str, int], _Known] = {}
    for source in sources:
        for path in source.paths:
            result = read_result(path)
            if result.run is None:
                merged.remarks.append(f"{path}: left out, as no benchmark made it")
                continue
            own = _known(path, result)
            place = _place(source, result)
            category = result.evaluation.category
            reason = _other_data(of_category.setdefault(category, own), own, sources)
            reason = reason or _other_settings(
                of_method.setdefault((result.run.method, result.run.resolution), own), own, result.run.method
            )
            if not reason and place in known:
                reason = _other_numbers(known[place], own)
                reason = reason or _other_job(known[place], own)
                merged.twice += not reason
            if reason:
                merged.refused.append(reason)
            known.setdefault(place, own)
    by_versions = {one.versions: one.path for one in known.values()}
    if len(by_versions) > 1:
        told = "; ".join(f"{versions}, such as {path}" for versions, path in by_versions.items())
        merged.remarks.append(f"made with different versions, which move last digits: {told}")
    return {place: one.path for place, one in known.items()}


def _known(path: Path, result: Result) -> _Known:
    assert result.run is not None
    versions = result.provenance.versions
    named = [f"{name} {versions[name]}" for name in TOLD_VERSIONS if name in versions]
    return _Known(
        path=path,
        evaluation=result.evaluation,
        split=result.run.settings.get(SPLIT, ""),
        versions=", ".join(named),
        job=result.run.job,
        made=(versions.get("tinydefects", ""), result.provenance.commit),
        settings={name: value for name, value in result.run.settings.items() if name not in OF_DATA},
    )


def _place(source: _Source, result: Result) -> Path:
    run = result.run
    assert run is not None
    return Job(
        protocol=source.protocol,
        category=result.evaluation.category,
        method=run.method,
        resolution=run.resolution,
        seed=run.seed,
    ).path


def _other_data(first: _Known, own: _Known, sources: Sequence[_Source]) -> str:
    """Why two results of a category are not of the same images and masks; nothing where they are."""
    if first.split and first.split == own.split:
        return ""
    category = own.evaluation.category
    if not (first.split and own.split):
        old = own if not own.split else first
        return f"{old.path}: does not say which images and masks it is of; have it made again with this version"
    parts = [digests for one in (first, own) if (digests := _digests_of(one, category, sources))]
    what = f": {_first_change(*parts)}" if len(parts) == 2 else ""
    return f"{own.path}: is of other images or masks of {category} than {first.path}{what}"


def _digests_of(one: _Known, category: str, sources: Sequence[_Source]) -> DataDigests | None:
    folder = next(source.folder for source in sources if one.path in source.paths)
    return read_digests(folder / category / DATA_FILE)


def _other_settings(first: _Known, own: _Known, method: str) -> str:
    """Why two results of one method are not of the same method: a default may change from version to version."""
    if first.made == own.made:
        return ""  # the name decides the settings
    names = [name for name in dict.fromkeys((*first.settings, *own.settings)) if not name.startswith("made_by.")]
    found = [(name, first.settings.get(name, "unknown"), own.settings.get(name, "unknown")) for name in names]
    other = next((one for one in found if one[1] != one[2]), None)
    if other is None:
        return ""
    name, there, here = other
    return (
        f"{own.path}: {method} was made with {name} {here}, in {first.path} with {name} {there}: two methods under one "
        "name; have one of them made again with the other's version, or name the setting"
    )


def _first_change(first: DataDigests, other: DataDigests) -> str:
    """The first sample that two records of files differ in, and in how many they do."""
    changed = [
        name
        for one, two in zip(first.parts().values(), other.parts().values(), strict=True)
        for name in dict.fromkeys((*one, *two))
        if one.get(name) != two.get(name)
    ]
    return f"{changed[0]}, in all {len(changed)}" if changed else "their order differs"


def _other_job(first: _Known, own: _Known) -> str:
    """Why two results of one place are of different jobs: signs that no path holds are written as others there."""
    return "" if first.job == own.job else f"{own.path}: another job than {first.path} would lie in the same place"


def _other_numbers(first: _Known, own: _Known) -> str:
    """Why the same job has different numbers in two folders; nothing where they agree."""
    found = next(unequal(numbers_of(own.evaluation), numbers_of(first.evaluation)), None)
    if found is None:
        return ""
    for older, newer in ((first, own), (own, first)):
        beyond = _known_beyond(older.evaluation, newer.evaluation)
        if beyond:
            return (
                f"{older.path}: lacks {beyond}, which the version that made it did not know; {newer.path} is the same "
                "job with it and else with equal numbers: run the older one again, or take it out of its folder"
            )
    place, here, there = found
    return (
        f"{own.path}: the same job as {first.path} with other numbers ({place} is {here} here, {there} there); "
        "keep the one that can be made again"
    )


def _known_beyond(older: Evaluation, newer: Evaluation) -> str:
    """What alone a result has beyond one of an earlier version: results before format 8 know no parts, no saturations.

    Empty where it is nothing, or where other numbers differ as well.
    """
    shared = as_far_as_known(newer, older)
    names = metrics_of(shared)
    shared = replace(shared, intervals={name: one for name, one in newer.intervals.items() if name in names})
    if next(unequal(numbers_of(older), numbers_of(shared)), None) is not None:
        return ""
    known = {"part AUROC": newer.n_parts > older.n_parts, "sPRO": newer.n_saturated > older.n_saturated}
    return " and ".join(name for name, has_more in known.items() if has_more)


def _write(sources: Sequence[_Source], taken: dict[Path, Path], out: Path, merged: Merged) -> None:
    protocol = sources[0].protocol
    for source in sources[1:]:
        protocol = union_of(protocol, source.protocol)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out.parent) as new:
            for place, path in taken.items():
                (new / place).parent.mkdir(parents=True, exist_ok=True)
                for suffix in SUFFIXES:
                    if path.with_suffix(suffix).exists():
                        _copy(path.with_suffix(suffix), (new / place).with_suffix(suffix))
                if path.with_suffix(TABLE_SUFFIX).exists():
                    write_defect_table(read_result(path).evaluation, (new / place).with_suffix(TABLE_SUFFIX))
                if path.with_suffix("").is_dir():
                    merged.remarks.append(f"{path.with_suffix('')}: maps stay where they are")
            _copy_beside(sources, set(taken), new)
            write_protocol(protocol, new)
            new.rename(out)
    except OSError as error:
        raise TinyDefectsError(cannot_write(out, error)) from error
    merged.n_results = len(taken)


def _copy_beside(sources: Sequence[_Source], places: set[Path], new: Path) -> None:
    """Records of images and masks, and failed jobs that nobody has a result of."""
    for source in sources:
        for category in {str(place.parents[2]) for place in places}:
            record = source.folder / category / DATA_FILE
            if record.exists() and not (new / category / DATA_FILE).exists():
                _copy(record, new / category / DATA_FILE)
        for failure in read_failures(source.folder):
            job = Job(
                protocol=source.protocol,
                category=failure.category,
                method=failure.method,
                resolution=failure.resolution,
                seed=failure.seed,
            )
            told = job.path.with_suffix(FAILED_SUFFIX)
            is_within = not told.is_absolute() and ".." not in told.parts  # a category is text that somebody wrote
            if is_within and job.path not in places and (source.folder / told).exists():
                (new / told).parent.mkdir(parents=True, exist_ok=True)
                _copy(source.folder / told, new / told)


def _copy(source: Path, target: Path) -> None:
    """The content alone, on the disk before the new folder counts."""
    with source.open("rb") as old, target.open("xb") as new:
        shutil.copyfileobj(old, new)
        new.flush()
        os.fsync(new.fileno())
