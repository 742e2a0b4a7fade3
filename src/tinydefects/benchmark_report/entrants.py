"""Who takes part: the results of a benchmark by entrant and category, what is missing, and who meets whom.

An entrant is a method at one resolution. Pictures are left on disk until the gallery asks for them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tinydefects.benchmark.result import Provenance, find_results, read_result
from tinydefects.benchmark.run_record import RunRecord
from tinydefects.errors import ResultError
from tinydefects.json_files import parse_json, read_bytes
from tinydefects.metrics.scores import Evaluation


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Entrant:
    """A method, written as on the command line, and the long side of its input in pixels, 0 where it has none."""

    peer: str
    resolution: int

    @property
    def name(self) -> str:
        """`fbft 384`; the method alone where resolution plays no part."""
        return f"{self.peer} {self.resolution}" if self.resolution else self.peer


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board:
    """The entrants of one dataset, ranked on the categories that all of them have; no mean mixes datasets.

    Attributes:
        results: by entrant, then by category, one for each seed, ascending.
        missing: entrants that lack categories which others of this board have.
        unranked: entrants that would leave fewer than half of the categories to rank the others on.
    """

    dataset: str
    results: Mapping[Entrant, Mapping[str, tuple[StoredResult, ...]]]
    missing: Mapping[Entrant, tuple[str, ...]]
    unranked: tuple[Entrant, ...]

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        return tuple(self.results)


def is_benchmark(folder: Path) -> bool:
    """Whether results of two or more entrants of a benchmark lie below a folder."""
    entrants = set()
    for path in find_results(folder):
        run = _peek(path).get("run")
        entrants.add((run.get("peer"), run.get("resolution")) if isinstance(run, dict) else None)
    return len(entrants - {None}) > 1


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


def boards(stored: Iterable[StoredResult]) -> tuple[Board, ...]:
    """One for each dataset, the one with most categories first."""
    by_dataset: dict[str, list[StoredResult]] = {}
    for one in sorted(stored, key=lambda one: (one.evaluation.category, one.entrant, one.run.seed)):
        by_dataset.setdefault(one.evaluation.category.partition("/")[0], []).append(one)
    n_categories = {name: len({one.evaluation.category for one in of}) for name, of in by_dataset.items()}
    order = sorted(by_dataset, key=lambda name: -n_categories[name])
    return tuple(_board(dataset, by_dataset[dataset]) for dataset in order)


def _board(dataset: str, stored: Iterable[StoredResult]) -> Board:
    found: dict[Entrant, dict[str, tuple[StoredResult, ...]]] = {}
    for one in stored:
        by_category = found.setdefault(one.entrant, {})
        by_category[one.evaluation.category] = (*by_category.get(one.evaluation.category, ()), one)
    every = {category for by_category in found.values() for category in by_category}
    shared, ranked = every, {}
    for entrant, by_category in sorted(found.items(), key=lambda one: (-len(one[1]), one[0])):
        if 2 * len(shared & by_category.keys()) >= len(every):
            shared, ranked[entrant] = shared & by_category.keys(), by_category
    return Board(
        dataset=dataset,
        results=ranked,
        missing={entrant: tuple(sorted(lacking)) for entrant, of in ranked.items() if (lacking := every - of.keys())},
        unranked=tuple(entrant for entrant in found if entrant not in ranked),
    )


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
