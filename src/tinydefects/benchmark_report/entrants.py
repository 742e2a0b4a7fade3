"""Who takes part: the results of a benchmark by entrant and category, what is missing, and who meets whom.

An entrant is a method at one resolution. Pictures are left on disk until the gallery asks for them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from tinydefects.benchmark.result import Provenance, find_results, read_result
from tinydefects.benchmark.run_record import RunRecord
from tinydefects.errors import ResultError
from tinydefects.metrics.scores import Evaluation

FAILED_SUFFIX = ".failed.json"


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
    """One result without its pictures; `path` holds them."""

    path: Path
    evaluation: Evaluation
    provenance: Provenance
    run: RunRecord

    @property
    def entrant(self) -> Entrant:
        return Entrant(peer=self.run.peer, resolution=self.run.resolution)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A job that has no result: its place below the results folder, and why."""

    job: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board:
    """Entrants that can be ranked together, on the categories of all of them.

    Attributes:
        results: by entrant, then by category, one for each seed, ascending.
        missing: entrants that lack categories which others of this board have.
        unranked: entrants with fewer than half of the categories; ranking them would leave too few for the others.
    """

    results: Mapping[Entrant, Mapping[str, tuple[StoredResult, ...]]]
    missing: Mapping[Entrant, tuple[str, ...]]
    unranked: tuple[Entrant, ...] = ()

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


def find_failures(folder: Path) -> tuple[Failure, ...]:
    """The jobs that left a reason instead of a result."""
    failures = []
    for path in sorted(folder.rglob(f"*{FAILED_SUFFIX}")) if folder.is_dir() else []:
        job = str(path.relative_to(folder)).removesuffix(FAILED_SUFFIX)
        failures.append(Failure(job=job, reason=str(_peek(path).get("reason") or "no reason was recorded")))
    return tuple(failures)


def boards(stored: Sequence[StoredResult]) -> tuple[Board, ...]:
    """The results as they can be ranked.

    Entrants meet when they share a category, directly or through others; those without a resolution meet everybody.
    So categories that were run at other resolutions than the rest get a board of their own.
    """
    by_entrant = {
        entrant: {
            category: tuple(of_category)
            for category, of_category in groupby(sorted(of_entrant, key=_place), lambda one: one.evaluation.category)
        }
        for entrant, of_entrant in groupby(sorted(stored, key=lambda one: one.entrant), lambda one: one.entrant)
    }
    return tuple(_board(by_entrant, categories) for categories in _circles(by_entrant))


def _circles(by_entrant: Mapping[Entrant, Mapping[str, object]]) -> list[set[str]]:
    """Categories that are connected by entrants with a resolution; all of them when there is no such entrant."""
    circles: list[set[str]] = []
    for entrant, by_category in by_entrant.items():
        if entrant.resolution or not any(one.resolution for one in by_entrant):
            touching = [circle for circle in circles if circle & by_category.keys()]
            circles = [circle for circle in circles if circle not in touching]
            circles.append(set(by_category).union(*touching))
    return sorted(circles, key=lambda circle: sorted(circle))


def _board(by_entrant: Mapping[Entrant, Mapping[str, tuple[StoredResult, ...]]], circle: set[str]) -> Board:
    taking_part = {
        entrant: {category: results for category, results in by_category.items() if category in circle}
        for entrant, by_category in by_entrant.items()
        if circle & by_category.keys()
    }
    ranked = {entrant: results for entrant, results in taking_part.items() if 2 * len(results) >= len(circle)}
    ranked = ranked or taking_part
    return Board(
        results=ranked,
        missing={entrant: lacking for entrant, of in ranked.items() if (lacking := tuple(sorted(circle - of.keys())))},
        unranked=tuple(entrant for entrant in taking_part if entrant not in ranked),
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


def _place(stored: StoredResult) -> tuple[str, int]:
    return stored.evaluation.category, stored.run.seed


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
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}  # read_result says what is wrong with it
    return content if isinstance(content, dict) else {}
