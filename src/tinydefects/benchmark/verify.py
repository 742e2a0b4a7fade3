"""Whether results are what they say: numbers counted again, and the fingerprints of protocol, data, weights, versions.

Every result is checked against its tally (`results/recount.py`). A sample of them has its intervals drawn again and,
where maps were kept and the data is at hand, is scored again from the maps. Nothing here is proof against somebody who
writes a tally to fit: it shows damage, edits and mistakes, and that what was sent belongs together.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tinydefects.benchmark.data_digests import (
    DATA_FILE,
    Categories,
    DataDigests,
    changed_files,
    in_both,
    read_digests,
    split_digest,
)
from tinydefects.benchmark.run_folder import FAILED_SUFFIX, SPLIT, home_of, read_protocol, results_below
from tinydefects.data.json_files import parse_json, read_bytes, read_json
from tinydefects.data.walk import PROTOCOL_FILE, counted, walk
from tinydefects.errors import MissingExtraError, ResultError, TinyDefectsError
from tinydefects.progress import Progress
from tinydefects.results.attachments import is_table_of
from tinydefects.results.protocol import NO_RESOLUTION, EvaluationProtocol, Job
from tinydefects.results.recount import differences, interval_differences, map_differences
from tinydefects.results.result import TABLE_SUFFIX, Result, is_as_written, read_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to look at besides the results themselves.

    Attributes:
        root: folder of the datasets, to compare images and masks; None leaves them alone.
        weights: file of the teacher's weights; those of the built-in teacher are known without.
        n_sampled: how many results have their intervals drawn again and their maps scored again.
        seed: decides which.
    """

    root: Path | None = None
    weights: Path | None = None
    n_sampled: int = 5
    seed: int = 0


@dataclass(slots=True)
class Verification:
    """What was found.

    Attributes:
        n_results: results that could be read.
        wrong: a line for each thing that is not as it should be, beginning with its file.
        checked: what held, by what it is, and for how many results, categories or files.
        unchecked: what could not be looked at, by why, and how often.
        remarks: what is no fault and a reader should know.
    """

    n_results: int = 0
    wrong: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    unchecked: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def numbers(self) -> dict[str, object]:
        """For programs."""
        counted = {"checked": dict(+self.checked), "unchecked": dict(+self.unchecked)}
        return {"n_results": self.n_results, "wrong": self.wrong, **counted, "remarks": self.remarks}

    def lines(self) -> Iterator[str]:
        """For people: what is wrong first."""
        yield from self.wrong
        yield from (f"holds: {what}: {n}" for what, n in (+self.checked).items())
        yield from (f"not checked: {what}: {n}" for what, n in (+self.unchecked).items())
        yield from (f"note: {remark}" for remark in self.remarks)
        faults = f"{len(self.wrong)} things are wrong" if len(self.wrong) != 1 else "1 thing is wrong"
        yield f"{counted('result', self.n_results)} read; {faults if self.wrong else 'all that was checked holds'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What is kept of a result once it was looked at."""

    path: Path
    category: str
    split: str
    options: Mapping[str, object]
    allowed: tuple[str, ...]
    versions: tuple[tuple[str, str], ...]
    commit: str


def verify(folder: Path, request: Request, progress: Progress) -> Verification:
    """Check every result below a folder, or a single one.

    Raises:
        ResultError: there is none.
    """
    found = Verification()
    home, protocol = _protocol(folder, found)
    paths = results_below(folder)
    _find_orphans(folder, set(paths), found)
    sampled = set(random.Random(request.seed).sample(paths, min(request.n_sampled, len(paths))))
    categories = Categories(request.root)
    seen = []
    for path in progress.track(paths, "check results", len(paths)):
        try:
            result = read_result(path)
        except ResultError as error:
            found.wrong.append(str(error))
            continue
        found.n_results += 1
        _check_content(path, found)
        _check_table(path, result, found)
        holds = _check_numbers(path, result, found)
        if result.run is None:
            found.unchecked["protocol and data, as no benchmark made the result"] += 1
            continue
        if protocol is not None:
            _check_job(path, home, result, protocol, found)
        seen.append(_seen(path, result, protocol))
        if path in sampled and holds:
            _check_sampled(seen[-1], result, protocol, categories, found)
    _check_data(home, seen, categories, found)
    if protocol is not None:
        _check_weights(home, protocol, request.weights, found)
    _tell_versions(seen, found)
    return found


def _protocol(folder: Path, found: Verification) -> tuple[Path, EvaluationProtocol | None]:
    """The folder that holds the protocol, from the one given upwards, and the protocol if it is as written."""
    home = home_of(folder)
    if home is None:
        found.unchecked[f"which protocol was followed, as there is no {PROTOCOL_FILE}"] += 1
        return folder, None
    path = home / PROTOCOL_FILE
    try:
        protocol = read_protocol(home)
        told = read_json(path, ResultError, kind="protocol", way_out="ask for it again")["fingerprint"]
    except ResultError as error:
        found.wrong.append(str(error))
        return home, None
    assert protocol is not None
    if not protocol.seeds:
        found.wrong.append(f"{path}: names no seed; ask for it again")
    if told != protocol.fingerprint:
        found.wrong.append(f"{path}: says fingerprint {told}, its settings give {protocol.fingerprint}: it was changed")
    else:
        found.checked["fingerprint of the protocol"] += 1
    return home, protocol


def _find_orphans(folder: Path, known: set[Path], found: Verification) -> None:
    """Results that lost their crops are no results to other commands; here they are missed."""
    for _, path in walk(folder, {".json"}, with_own=True).files if folder.is_dir() else ():
        if path in known or path.name in {PROTOCOL_FILE, DATA_FILE} or path.name.endswith(FAILED_SUFFIX):
            continue
        try:
            content = parse_json(read_bytes(path))
        except (OSError, ValueError) as error:
            found.wrong.append(f"{path}: cannot be read ({error}); if it is a result, ask for it again")
            continue
        if isinstance(content, dict) and {"evaluation", "provenance"} <= content.keys():
            found.wrong.append(f"{path.with_suffix('.npz')}: is missing, and belongs to {path.name}")


def _check_content(path: Path, found: Verification) -> None:
    as_written = is_as_written(path)
    if as_written is None:
        found.unchecked["digest of the file itself, which results of earlier versions lack"] += 1
    elif as_written:
        found.checked["digest of the file itself"] += 1
    else:
        found.wrong.append(f"{path}: was changed after it was written (its digest is of other content)")


def _check_table(path: Path, result: Result, found: Verification) -> None:
    table = path.with_suffix(TABLE_SUFFIX)
    holds = is_table_of(result.evaluation, table) if table.exists() else None
    found.checked["table of defects"] += holds is True
    found.unchecked["table of defects, whose columns are of another version"] += table.exists() and holds is None
    if holds is False:
        found.wrong.append(f"{table}: is not the table of {path.name}; remove it")


def _check_numbers(path: Path, result: Result, found: Verification) -> bool:
    """Whether they hold, as far as a tally can say."""
    if result.outcome is not None:
        found.unchecked["what the thresholds of a calibration achieved, which no tally gives"] += 1
    if result.evaluation.tally is None:
        found.unchecked["numbers, as there is no tally"] += 1
        return True
    try:
        faults = [str(one) for one in differences(result.evaluation)]
    except (TinyDefectsError, ValueError, LookupError, TypeError, ArithmeticError, MemoryError) as error:
        faults = [f"does not fit its tally ({error})"]
    if faults:
        found.wrong.append(f"{path}: {_several(faults)}")
        return False
    found.checked["numbers counted again from the tally"] += 1
    if result.evaluation.curve_rule != "exact":
        found.unchecked[f"AUPRO under the rule {result.evaluation.curve_rule}, which no tally gives"] += 1
    return True


def _check_job(path: Path, home: Path, result: Result, protocol: EvaluationProtocol, found: Verification) -> None:
    """Whether a result answers the job it names under the protocol of its folder."""
    run, evaluation = result.run, result.evaluation
    assert run is not None
    if run.protocol != protocol.fingerprint:
        found.wrong.append(
            f"{path}: made under another protocol ({run.protocol}) than that of {home / PROTOCOL_FILE} "
            f"({protocol.fingerprint})"
        )
        return
    name, method, resolution, seed = evaluation.category, run.method, run.resolution, run.seed
    job = Job(protocol=protocol, category=name, method=method, resolution=resolution, seed=seed)
    settings, decisive = result.provenance.settings, protocol.decisive()
    faults = [
        f"its record says {name} {settings[name]}, the protocol {value}"
        for name, value in decisive.items()
        if name in settings and settings[name] != str(value)
    ]
    asked, pitch_mm, found_by = protocol.evaluation, evaluation.pixel_pitch_mm, evaluation.detectability
    made = (evaluation.fpr_limits, evaluation.curve_rule, found_by.rule, found_by.rate, evaluation.bins)
    due = (asked.fpr_limits, asked.curve, decisive["detection_rule"], decisive["false_alarm_rate"], asked.bins)
    if made != due or asked.pixel_pitch_mm != (None if math.isnan(pitch_mm) else pitch_mm):
        faults.append("its limits, curve, detection rule, bins or pixel pitch are not those of the protocol")
    if run.job != job.fingerprint:
        faults.append(f"answers another job than {job.name} with the options that the protocol names")
    elif (home / job.path).absolute() != path.absolute():
        faults.append(f"is the result of {job.name}, whose place is {job.path}")
    if resolution not in (NO_RESOLUTION, *protocol.resolutions, protocol.own_sizes.get(method)):
        faults.append(f"is at {resolution} px, which {PROTOCOL_FILE} names neither for all methods nor for {method}")
    if faults:
        found.wrong.append(f"{path}: {_several(faults)}")
    else:
        found.checked["job and protocol that the result answers"] += 1


def _seen(path: Path, result: Result, protocol: EvaluationProtocol | None) -> _Seen:
    assert result.run is not None
    facts, category = result.provenance, result.evaluation.category
    return _Seen(
        path=path,
        category=category,
        split=result.run.settings.get(SPLIT, ""),
        options=protocol.options.get(category.partition("/")[0], {}) if protocol else {},
        allowed=tuple(facts.settings.get("allowed", "").split()),
        versions=tuple(sorted(facts.versions.items())),
        commit=facts.commit,
    )


def _check_sampled(
    seen: _Seen, result: Result, protocol: EvaluationProtocol | None, categories: Categories, found: Verification
) -> None:
    """Intervals, and numbers from the maps: what takes seconds a result."""
    if protocol is None:
        return
    asked, path = protocol.evaluation, seen.path
    if is_as_written(path) is None:
        found.unchecked["intervals of results of earlier versions, which drew otherwise"] += 1
    elif result.evaluation.tally is not None:
        faults = interval_differences(result.evaluation, n_resamples=asked.n_resamples, seed=asked.seed)
        if faults:
            found.wrong.append(f"{path}: {_several([str(one) for one in faults])}")
        else:
            found.checked["intervals drawn again (a sample)"] += 1
    maps = path.with_suffix("")
    if not maps.is_dir():
        found.unchecked["numbers from the maps, which were not kept (a sample)"] += 1
    elif not categories.at_hand:
        found.unchecked["numbers from the maps, which need the masks: give --root (a sample)"] += 1
    else:
        try:
            category = categories.load(seen.category, seen.options, seen.allowed)
            faults_of_maps = [str(one) for one in map_differences(result, maps, category, asked)]
        except (TinyDefectsError, ValueError) as error:
            faults_of_maps = [f"cannot be scored again from its maps: {error}"]
        if faults_of_maps:
            found.wrong.append(f"{path}: {_several(faults_of_maps)}")
        else:
            found.checked["numbers scored again from the maps (a sample)"] += 1


def _check_data(home: Path, seen: list[_Seen], categories: Categories, found: Verification) -> None:
    """Whether all results of a category are of the same images and masks, and whether these are those at hand."""
    by_category: dict[str, list[_Seen]] = {}
    for one in seen:
        if one.split:
            by_category.setdefault(one.category, []).append(one)
        else:
            found.unchecked["images and masks, of which results of earlier versions have no digest"] += 1
    for name, results in by_category.items():
        path, stored = home / name / DATA_FILE, None
        try:
            stored = read_digests(path)
            lacking = f"digest of each single file, as there is no {DATA_FILE} beside the results"
            found.unchecked[lacking] += stored is None
            found.remarks += in_both(stored, name) if stored else []
        except ResultError as error:
            found.wrong.append(str(error))
        made = stored.split if stored else Counter(one.split for one in results).most_common(1)[0][0]
        others = [one for one in results if one.split != made]
        of = path if stored else "the other results"
        found.wrong += [f"{one.path}: is of other images or masks of {name} than {of}" for one in others]
        found.checked["results of a category are of the same images and masks"] += not others
        _check_files(results[0], made, stored, categories, found)


def _check_files(
    seen: _Seen, split: str, stored: DataDigests | None, categories: Categories, found: Verification
) -> None:
    if not categories.at_hand:
        found.unchecked["images and masks themselves: give --root"] += 1
        return
    try:
        category = categories.load(seen.category, seen.options, seen.allowed)
        faults = changed_files(category, stored) if stored else []
        if not stored and split_digest(category) != split:
            faults = [f"{seen.path}: was made with other images or masks of {seen.category}; which, it does not say"]
    except TinyDefectsError as error:
        faults = [str(error)]
    found.wrong += faults
    found.checked["images and masks are those of the results (categories)"] += not faults


def _check_weights(home: Path, protocol: EvaluationProtocol, weights: Path | None, found: Verification) -> None:
    if not protocol.teacher_fingerprint:
        return  # no method needed one
    if weights is None and protocol.teacher != "builtin":
        found.unchecked[f"weights of {protocol.teacher}: give --teacher-weights FILE"] += 1
        return
    try:
        from tinydefects.detector.teacher import load_teacher

        own = load_teacher(protocol.teacher, weights=weights, device="cpu").fingerprint
    except (ModuleNotFoundError, MissingExtraError):
        found.unchecked["weights of the teacher, which need the extra 'detector'"] += 1
        return
    except TinyDefectsError as error:
        found.wrong.append(str(error))
        return
    if own == protocol.teacher_fingerprint:
        found.checked["weights of the teacher"] += 1
    else:
        known, here = protocol.teacher_fingerprint[:12], weights or "this version"
        found.wrong.append(f"{home / PROTOCOL_FILE}: the teacher's weights are {known}, those of {here} {own[:12]}")


def _tell_versions(seen: list[_Seen], found: Verification) -> None:
    """Versions decide last digits, and of trained methods a little more: no fault, but to be known."""
    for package in dict.fromkeys(name for one in seen for name, _ in one.versions):
        versions = sorted({dict(one.versions).get(package, "unknown") for one in seen})
        if len(versions) > 1:
            found.remarks.append(f"results were made with {package} {', '.join(versions)}")
    if seen and all(one.versions for one in seen):
        found.checked["versions of packages are recorded"] += len(seen)
    else:
        found.unchecked["versions, which a result does not record"] += sum(not one.versions for one in seen)
    changed = sorted({one.commit for one in seen if one.commit.endswith("+changes")})
    if changed:
        found.remarks.append(f"made with changes to the code that no commit holds: {', '.join(changed)}")


def _several(faults: list[str]) -> str:
    """The first, and how many more there are."""
    return faults[0] if len(faults) == 1 else f"{faults[0]}; and {len(faults) - 1} more such"
