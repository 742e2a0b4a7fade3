"""The one leaderboard of a benchmark: who meets whom and in which order, the same for tables, command and page.

A board is one dataset at one resolution common to all, or each method at the size it was published with; methods that
see no teacher's input stand on all boards of their dataset. It is ranked by `leaderboard.py` on the categories that all
its methods have: no mean runs over other categories than the one beside it. p values are corrected for all pairs of
methods of a board, so that they depend on who is on it: all that rank methods divide them here.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from tinydefects.metrics.records import PART_AUROC
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.comparison import N_RESAMPLES
from tinydefects.metrics.statistics.leaderboard import Leaderboard, LeaderboardRow, leaderboard
from tinydefects.results.protocol import NO_RESOLUTION, CostSheet, RunRecord, Sizes

HEADLINE_LIMIT = 0.05
SMALLEST = "aupro_Q1@"
NOT_TOLD_MARK = "="  # beside a number that cannot be told from the best


class Finished(Protocol):
    """A result that a benchmark made."""

    @property
    def evaluation(self) -> Evaluation: ...

    @property
    def run(self) -> RunRecord: ...

    @property
    def sizes(self) -> Sizes: ...


FinishedT = TypeVar("FinishedT", bound=Finished)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MethodAt:
    """A method, named as on the command line, and the long side of its input in pixels, 0 where it has none."""

    name: str
    resolution: int

    @property
    def label(self) -> str:
        """`fbft 384`; the method alone where resolution plays no part."""
        return f"{self.name} {self.resolution}" if self.resolution else self.name


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Board(Generic[FinishedT]):
    """The methods of one dataset at one resolution, or each at its own.

    Attributes:
        resolution: of the teacher's input in pixels; 0 where no method sees one, and where each has its own.
        results: by method, then by category, one for each seed, ascending.
        missing: methods that lack categories which others of this board have.
        unranked: methods that would leave fewer than half of the categories to rank the others on; never the one with
            most categories.
        at_own_sizes: whether each method stands here at the size it was published with.
        without_own: names of methods of the other boards of the dataset that have no result at such a size.
    """

    dataset: str
    resolution: int
    results: Mapping[MethodAt, Mapping[str, tuple[FinishedT, ...]]]
    missing: Mapping[MethodAt, tuple[str, ...]]
    unranked: tuple[MethodAt, ...]
    at_own_sizes: bool = False
    without_own: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[MethodAt, ...]:
        return tuple(self.results)

    @property
    def name(self) -> str:
        """`mvtec_ad at 384 px`; the dataset alone where resolution plays no part."""
        if self.at_own_sizes:
            return f"{self.dataset}, each method at its own size"
        return f"{self.dataset} at {self.resolution} px" if self.resolution else self.dataset

    @property
    def of_no_size(self) -> tuple[str, ...]:
        """Names of methods that stand on a board of some size and see no teacher's input: it is not theirs."""
        return tuple(one.name for one in self.methods if self.resolution and not one.resolution)

    @property
    def own_metrics(self) -> dict[str, str]:
        """Metrics that this dataset has beside those of all, with a heading: of whole parts, of saturated defects."""
        every = [one for by_category in self.results.values() for seeds in by_category.values() for one in seeds]
        limit = headline_limit(every[0].evaluation.fpr_limits)
        found = {PART_AUROC: "part AUROC"} if all(one.evaluation.n_parts for one in every) else {}
        if all(one.evaluation.n_saturated for one in every):
            found[f"spro@{limit:g}"] = f"sPRO@{100 * limit:g} %"
        return found

    def rank(self, metrics: Sequence[str], *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Leaderboard:
        """All methods on these metrics, by their names: resolution is the board's; and on those of `own_metrics`."""
        metrics = [*dict.fromkeys((*metrics, *self.own_metrics))]
        evaluations = {
            method.name: {category: [one.evaluation for one in seeds] for category, seeds in by_category.items()}
            for method, by_category in self.results.items()
        }
        return leaderboard(evaluations, metrics=metrics, n_resamples=n_resamples, seed=seed)

    def cost_sheets(self, categories: Iterable[str]) -> dict[MethodAt, dict[str, CostSheet]]:
        """The cost sheet of the first seed that was timed, by method and category."""
        measured: dict[MethodAt, dict[str, CostSheet]] = {method: {} for method in self.methods}
        for method, by_category in self.results.items():
            for category in categories:
                sheet = next((one.run.cost for one in by_category[category] if one.run.cost), None)
                if sheet is not None:
                    measured[method][category] = sheet
        return measured

    def found_shares(self, categories: Sequence[str]) -> dict[MethodAt, float]:
        """As `found_share`, of all defects of these categories, every seed."""
        shares = {}
        for method, by_category in self.results.items():
            evaluations = [one.evaluation for category in categories for one in by_category[category]]
            counts = [(sum(one.detectability.hits), one.overall.n_defects) for one in evaluations]
            shares[method] = found_share(counts)
        return shares


def boards(finished: Iterable[FinishedT], family: str = "") -> tuple[Board[FinishedT], ...]:
    """One for each dataset and common resolution, and one at own sizes: datasets with most categories first, then the
    finest resolution, own sizes last.

    With a `family`, only methods whose names begin with it: a question of its own, with p values of its own.
    """
    by_dataset: dict[str, list[FinishedT]] = {}
    for one in sorted(finished, key=lambda one: (one.evaluation.category, method_of(one.run), one.run.seed)):
        if one.run.method.startswith(family):
            by_dataset.setdefault(one.evaluation.category.partition("/")[0], []).append(one)
    n_categories = {name: len({one.evaluation.category for one in of}) for name, of in by_dataset.items()}
    found = []
    for dataset in sorted(by_dataset, key=lambda name: -n_categories[name]):
        own = by_dataset[dataset]
        common = [one for one in own if one.sizes.is_common]
        at_own = [one for one in own if one.sizes.is_own or one.run.resolution == NO_RESOLUTION]
        has_own = any(one.sizes.is_own for one in at_own)
        resolutions = {one.run.resolution for one in common} - {NO_RESOLUTION}
        for resolution in sorted(resolutions, reverse=True) or [NO_RESOLUTION] * (not has_own):
            there = [one for one in common if one.run.resolution in (resolution, NO_RESOLUTION)]
            found.append(_board(dataset, resolution, there))
        if has_own:
            without = {one.run.method for one in common} - {one.run.method for one in at_own}
            board = _board(dataset, NO_RESOLUTION, at_own)
            found.append(replace(board, at_own_sizes=True, without_own=tuple(sorted(without))))
    return tuple(found)


def beside(
    ranked: Sequence[tuple[Board[FinishedT], Leaderboard]], board: Board[FinishedT]
) -> tuple[dict[str, MethodAt], Leaderboard] | None:
    """The methods at their own sizes, by name, and their leaderboard, to be shown beside a board at a common size.

    None where there are none, or where their means run over other categories.
    """
    own = next((one for one in ranked if one[0].at_own_sizes and one[0].dataset == board.dataset), None)
    categories = next((found.categories for one, found in ranked if one is board), ())
    if own is None or board.at_own_sizes or own[1].categories != categories:
        return None
    return {method.name: method for method in own[0].methods}, own[1]


def headline_limit(fpr_limits: Sequence[float]) -> float:
    """The FPR limit that methods are ordered by and single numbers quoted at: 5 % if there is one, else the first."""
    return HEADLINE_LIMIT if HEADLINE_LIMIT in fpr_limits else fpr_limits[0]


def headline_rows(found: Leaderboard) -> tuple[LeaderboardRow, ...]:
    """The rows that all tables are ordered by, the best at the smallest quarter of the defects first."""
    limits = [float(row.metric.removeprefix(SMALLEST)) for row in found.rows if row.metric.startswith(SMALLEST)]
    return found.of(f"{SMALLEST}{headline_limit(limits):g}")


def found_share(counts: Iterable[tuple[int, int]]) -> float:
    """Share of defects that are found at the protocol's false-alarm rate, from (found, all) of several results.

    nan where there are no defects.
    """
    pairs = list(counts)
    n_defects = sum(n for _, n in pairs)
    return sum(n for n, _ in pairs) / n_defects if n_defects else math.nan


MethodT = TypeVar("MethodT")


def timed_sheets(measured: Mapping[MethodT, Mapping[str, CostSheet]]) -> dict[MethodT, list[CostSheet]]:
    """The cost sheets in the categories that most methods were timed in, of the methods that have all of these.

    Times on other images cannot be compared with theirs.
    """
    n_timed: dict[str, int] = {}
    for by_category in measured.values():
        for category in by_category:
            n_timed[category] = n_timed.get(category, 0) + 1
    timed = [category for category, n in n_timed.items() if n == max(n_timed.values())]
    return {
        method: [by_category[category] for category in timed]
        for method, by_category in measured.items()
        if timed and by_category.keys() >= set(timed)
    }


def milliseconds(sheets: Sequence[CostSheet]) -> float:
    """For one image, from file to map: the mean over categories of measured medians."""
    return math.fsum(sheet.end_to_end.median_ms for sheet in sheets) / len(sheets)


def three_digits(number: float) -> str:
    """And all of those before the point; a dash for none."""
    return "–" if math.isnan(number) else f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def method_of(run: RunRecord) -> MethodAt:
    """Whose result this run left."""
    return MethodAt(name=run.method, resolution=run.resolution)


def _board(dataset: str, resolution: int, finished: Iterable[FinishedT]) -> Board[FinishedT]:
    found: dict[MethodAt, dict[str, tuple[FinishedT, ...]]] = {}
    for one in finished:
        by_category = found.setdefault(method_of(one.run), {})
        by_category[one.evaluation.category] = (*by_category.get(one.evaluation.category, ()), one)
    every = {category for by_category in found.values() for category in by_category}
    shared, ranked = every, dict[MethodAt, Mapping[str, tuple[FinishedT, ...]]]()
    for method, by_category in sorted(found.items(), key=lambda one: (-len(one[1]), one[0])):
        if not ranked or 2 * len(shared & by_category.keys()) >= len(every):
            shared, ranked[method] = shared & by_category.keys(), by_category
    return Board(
        dataset=dataset,
        resolution=resolution,
        results=ranked,
        missing={method: tuple(sorted(lacking)) for method, of in ranked.items() if (lacking := every - of.keys())},
        unranked=tuple(method for method in found if method not in ranked),
    )
