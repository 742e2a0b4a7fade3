"""The results of a benchmark read back, for its leaderboard; pictures are left on disk until the gallery asks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tinydefects.benchmark.board import MethodAt, method_of
from tinydefects.data.json_files import parse_json, read_bytes
from tinydefects.errors import ResultError
from tinydefects.metrics.scores import Evaluation
from tinydefects.results.result import Provenance, find_results, read_result
from tinydefects.results.run_record import RunRecord


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredResult:
    """One result without its pictures; `path` holds `n_pictures` of them."""

    path: Path
    n_pictures: int
    evaluation: Evaluation
    provenance: Provenance
    run: RunRecord

    @property
    def method(self) -> MethodAt:
        return method_of(self.run)


def divide_results(folder: Path) -> tuple[list[Path], list[Path]]:
    """The results below a folder that two or more methods of a benchmark left, and all others.

    A single method meets nobody: its results are evaluations like others.
    """
    runs = {path: _peek(path).get("run") for path in find_results(folder)}
    made_by = {path: (run.get("peer"), run.get("resolution")) for path, run in runs.items() if isinstance(run, dict)}
    if len(set(made_by.values())) < 2:
        return [], list(runs)
    return list(made_by), [path for path in runs if path not in made_by]


def read_benchmark(folder: Path) -> list[StoredResult]:
    """Every result below a folder that a benchmark made.

    Raises:
        ResultError: there is none, one cannot be read, or they answer different protocols.
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
    for path in find_results(folder):
        result = read_result(path)
        if result.run is not None:
            yield StoredResult(
                path=path,
                n_pictures=len(result.evaluation.exhibits),
                evaluation=replace(result.evaluation, exhibits=()),
                provenance=result.provenance,
                run=result.run,
            )


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
    return stored


def _peek(path: Path) -> Mapping[str, object]:
    try:
        content = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return {}  # read_result says what is wrong with it
    return content if isinstance(content, dict) else {}
