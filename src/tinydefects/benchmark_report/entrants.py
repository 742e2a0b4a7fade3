"""The results of a benchmark as the page needs them; pictures are left on disk until the gallery asks for them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinydefects.benchmark.boards import Entrant
from tinydefects.benchmark.result import Provenance, find_results, read_result
from tinydefects.benchmark.run_record import RunRecord
from tinydefects.errors import ResultError
from tinydefects.json_files import parse_json, read_bytes
from tinydefects.metrics.scores import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredResult:
    """One result without its pictures; `path` holds `n_pictures` of them."""

    path: Path
    n_pictures: int
    evaluation: Evaluation
    provenance: Provenance
    run: RunRecord

    @property
    def entrant(self) -> Entrant:
        return Entrant(peer=self.run.peer, resolution=self.run.resolution)


def divide_results(folder: Path) -> tuple[list[Path], list[Path]]:
    """The results below a folder that two or more entrants of a benchmark left, and all others.

    A single entrant meets nobody: its results are evaluations like others.
    """
    runs = {path: _peek(path).get("run") for path in find_results(folder)}
    entrant_of = {path: (run.get("peer"), run.get("resolution")) for path, run in runs.items() if isinstance(run, dict)}
    if len(set(entrant_of.values())) < 2:
        return [], list(runs)
    return list(entrant_of), [path for path in runs if path not in entrant_of]


def read_benchmark(folder: Path) -> list[StoredResult]:
    """Every result below a folder that a benchmark made.

    Raises:
        ResultError: there is none, one cannot be read, or they answer different protocols.
    """
    read = [(path, read_result(path)) for path in find_results(folder)]
    stored = [
        StoredResult(
            path=path,
            n_pictures=len(result.evaluation.exhibits),
            evaluation=replace(result.evaluation, exhibits=()),
            provenance=result.provenance,
            run=result.run,
        )
        for path, result in read
        if result.run is not None
    ]
    if not stored:
        raise ResultError(f"{folder}: no results of a benchmark here; make some with 'tinydefects benchmark'")
    _check_one_protocol(stored)
    return stored


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


def _check_one_protocol(stored: Sequence[StoredResult]) -> None:
    by_protocol = {one.run.protocol: one for one in stored}
    if len(by_protocol) > 1:
        first, other = list(by_protocol.values())[:2]
        raise ResultError(
            f"{first.path} and {other.path} answer different protocols ({first.run.protocol}, {other.run.protocol}): "
            "their numbers cannot be compared; keep results of one protocol in one folder"
        )


def _peek(path: Path) -> Mapping[str, object]:
    try:
        content = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return {}  # read_result says what is wrong with it
    return content if isinstance(content, dict) else {}
