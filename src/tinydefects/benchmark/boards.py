"""Who meets whom: one leaderboard for each dataset and resolution, the same in tables, in the summary and on the page.

p values are corrected for all pairs of entrants of a board, so that they depend on who is on it: all that rank methods
divide them here. Methods at other resolutions are not on the same board; those that see no teacher's input stand on all
of their dataset's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from tinydefects.benchmark.protocol import NO_RESOLUTION
from tinydefects.benchmark.run_record import RunRecord
from tinydefects.metrics.leaderboard import Leaderboard, leaderboard
from tinydefects.metrics.scores import Evaluation


class Finished(Protocol):
    """A result that a benchmark made."""

    @property
    def evaluation(self) -> Evaluation: ...

    @property
    def run(self) -> RunRecord: ...


FinishedT = TypeVar("FinishedT", bound=Finished)


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
class Board(Generic[FinishedT]):
    """The entrants of one dataset at one resolution, ranked on the categories that all of them have.

    Attributes:
        resolution: of the teacher's input in pixels; 0 where no entrant sees one.
        results: by entrant, then by category, one for each seed, ascending.
        missing: entrants that lack categories which others of this board have.
        unranked: entrants that would leave fewer than half of the categories to rank the others on.
    """

    dataset: str
    resolution: int
    results: Mapping[Entrant, Mapping[str, tuple[FinishedT, ...]]]
    missing: Mapping[Entrant, tuple[str, ...]]
    unranked: tuple[Entrant, ...]

    @property
    def entrants(self) -> tuple[Entrant, ...]:
        return tuple(self.results)

    @property
    def name(self) -> str:
        """`mvtec_ad at 384 px`; the dataset alone where resolution plays no part."""
        return f"{self.dataset} at {self.resolution} px" if self.resolution else self.dataset

    def rank(
        self, figures: Sequence[str], *, n_resamples: int, seed: int = 0, with_resolution: bool = True
    ) -> Leaderboard:
        """All entrants on these figures, by their names or by those of their methods alone."""
        evaluations = {
            entrant.name if with_resolution else entrant.peer: {
                category: [one.evaluation for one in seeds] for category, seeds in by_category.items()
            }
            for entrant, by_category in self.results.items()
        }
        return leaderboard(evaluations, figures=figures, n_resamples=n_resamples, seed=seed)


def boards(finished: Iterable[FinishedT], family: str = "") -> tuple[Board[FinishedT], ...]:
    """One for each dataset and resolution, datasets with most categories first, then the finest resolution.

    With a `family`, only methods whose names begin with it: a question of its own, with p values of its own.
    """
    by_dataset: dict[str, list[FinishedT]] = {}
    for one in sorted(finished, key=lambda one: (one.evaluation.category, _entrant(one), one.run.seed)):
        if one.run.peer.startswith(family):
            by_dataset.setdefault(one.evaluation.category.partition("/")[0], []).append(one)
    n_categories = {name: len({one.evaluation.category for one in of}) for name, of in by_dataset.items()}
    found = []
    for dataset in sorted(by_dataset, key=lambda name: -n_categories[name]):
        own = by_dataset[dataset]
        resolutions = sorted({one.run.resolution for one in own} - {NO_RESOLUTION}, reverse=True) or [NO_RESOLUTION]
        for resolution in resolutions:
            there = [one for one in own if one.run.resolution in (resolution, NO_RESOLUTION)]
            found.append(_board(dataset, resolution, there))
    return tuple(found)


def _board(dataset: str, resolution: int, finished: Iterable[FinishedT]) -> Board[FinishedT]:
    found: dict[Entrant, dict[str, tuple[FinishedT, ...]]] = {}
    for one in finished:
        by_category = found.setdefault(_entrant(one), {})
        by_category[one.evaluation.category] = (*by_category.get(one.evaluation.category, ()), one)
    every = {category for by_category in found.values() for category in by_category}
    shared, ranked = every, {}
    for entrant, by_category in sorted(found.items(), key=lambda one: (-len(one[1]), one[0])):
        if 2 * len(shared & by_category.keys()) >= len(every):
            shared, ranked[entrant] = shared & by_category.keys(), by_category
    return Board(
        dataset=dataset,
        resolution=resolution,
        results=ranked,
        missing={entrant: tuple(sorted(lacking)) for entrant, of in ranked.items() if (lacking := every - of.keys())},
        unranked=tuple(entrant for entrant in found if entrant not in ranked),
    )


def _entrant(one: Finished) -> Entrant:
    return Entrant(peer=one.run.peer, resolution=one.run.resolution)
