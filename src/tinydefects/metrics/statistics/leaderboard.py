"""Several methods on several categories: mean metrics, their intervals, and who cannot be told from the best.

A value is the mean over categories of the mean over seeds. Categories are fixed; images are drawn, and so are seeds: a
difference that another training run would turn round is none. Every category is resampled on its own, and all methods
get the same draws of images and seeds, so that their differences are paired. From S seeds S - 1 are drawn, as from
groups of images; a method with one seed counts as one without chance. Intervals of values are BCa (`uncertainty.py`) on
the mean itself. Two or three seeds know their own variance badly, so tails are Student's: with S - 1 degrees of freedom
for the seeds of a category and those of the images' influence, put together by Satterthwaite's rule. On a single
category whose training runs differ far more than its images let them, three seeds are still too few:
`benchmarks/leaderboard.py` counts how many false verdicts remain.

The best method is chosen from the same data that it is then compared on, which makes it look better than it is. So
for each metric all pairs of methods are tested together (step-down maximum, `comparison.py`), and those with the best
are read off: the chance that any two equal methods are told apart is 5 % for each metric, whoever comes out best.
"Not distinguishable" says that these images do not suffice, not that two methods are equal.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from tinydefects.errors import ResultError
from tinydefects.metrics.groups import QUARTILES, short
from tinydefects.metrics.records import Interval
from tinydefects.metrics.scores import Evaluation, metrics_of
from tinydefects.metrics.statistics.comparison import (
    N_RESAMPLES,
    NO_VALUE,
    is_verdict,
    matching_places,
    movements,
    require_same_groups,
    stepdown_p_values,
    tally_of,
    widened,
)
from tinydefects.metrics.statistics.resampling import Array, Plan
from tinydefects.metrics.statistics.uncertainty import (
    MIN_FREEDOM,
    UNDEFINED,
    can_resample,
    draw_weights,
    highest_of,
    leave_out_weights,
    n_trials,
    opened,
    plan_of,
    seed_of,
    shape_of_influence,
    shaped_interval,
)
from tinydefects.notebook import Html, number, paragraphs, table

LOWER_IS_BETTER = ("a50_px", "a90_px", "a90_95_px", "image_fpr_at_95_tpr")
BEST, NOT_TOLD, LOWER = "best", "not distinguishable from the best", "lower"
Evaluations = Mapping[str, Mapping[str, Sequence[Evaluation]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardRow:
    """One metric of one method.

    Attributes:
        value: mean over categories of the mean over seeds; nan where a category that others have a value for has none.
        interval: 95 % for this value alone, over images and seeds.
        seed_spread: standard deviation over seeds of the mean over categories; nan for fewer than two seeds.
        n_seeds: of the category that has the fewest.
        by_category: mean over seeds, by category; nan where one has none.
        difference_to_best: `value` minus that of the best.
        corrected_p: that this difference is chance, corrected for all pairs of methods; nan for the best itself.
        verdict: `best`, `not distinguishable from the best`, `lower` (worse, also where low values are good) or
            `undefined` (no value, or nothing to resample).
    """

    method: str
    metric: str
    value: float
    interval: Interval
    seed_spread: float
    n_seeds: int
    by_category: Mapping[str, float]
    difference_to_best: float
    corrected_p: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """Its rows, metric by metric in the order asked for, the best method first and equal ones by name.

    Attributes:
        categories: those that count, because every method has them.
        left_out: the others.
    """

    categories: tuple[str, ...]
    left_out: tuple[str, ...]
    rows: tuple[LeaderboardRow, ...]

    def of(self, metric: str) -> tuple[LeaderboardRow, ...]:
        """The rows of one metric, the best first, undefined last."""
        return tuple(row for row in self.rows if row.metric == metric)

    def _repr_html_(self) -> str:
        """For notebooks: a row a method, a column a metric, the best in bold, = what cannot be told from it."""
        names = list(dict.fromkeys(row.metric for row in self.rows))
        cells = {(row.method, row.metric): _cell(row) for row in self.rows}
        methods = list(dict.fromkeys(row.method for row in self.rows))
        rows = [[method, *(cells.get((method, name), "") for name in names)] for method in methods]
        legend = "bold: the best; =: not distinguishable from it; in small: 95 % intervals"
        left_out = [f"left out, not of all methods: {', '.join(self.left_out)}"] if self.left_out else []
        heads = [f"{name} (lower is better)" if name in LOWER_IS_BETTER else name for name in names]
        board = table(["method", *heads], rows, caption=f"Mean over {', '.join(self.categories)}")
        return "\n".join([board, paragraphs([legend, *left_out])])


@dataclass(slots=True, eq=False)
class _Column:
    """One metric of one method: by category its value for each seed; how draws and left-out images move the mean.

    `trials` as `n_trials` of `uncertainty.py`, one for each category.
    """

    values: dict[str, Array]
    moved: Array
    left_out: list[Array] = field(default_factory=list)
    trials: list[int] = field(default_factory=list)

    @property
    def by_category(self) -> dict[str, float]:
        return {category: float(of_seeds.mean()) for category, of_seeds in self.values.items()}

    @property
    def value(self) -> float:
        return float(np.mean([*self.by_category.values()])) if self.values else float("nan")

    @property
    def shares(self) -> list[Array]:
        """What the seeds of each category contribute to the mean over categories."""
        return [of_seeds / len(self.values) for of_seeds in self.values.values()]

    @property
    def seed_spread(self) -> float:
        n_seeds = min((of_seeds.size for of_seeds in self.values.values()), default=0)
        if n_seeds < 2:
            return float("nan")
        return float(np.mean([of_seeds[:n_seeds] for of_seeds in self.values.values()], axis=0).std(ddof=1))


def leaderboard(
    evaluations: Evaluations, *, metrics: Sequence[str], n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Leaderboard:
    """Rank methods on the categories that all of them have.

    A category counts for a metric when any method has a value there; a method that has none there is `undefined`.

    Args:
        evaluations: by method, then by category; one evaluation for each seed, with its tally.
        metrics: names that `scores.metrics_of` gives, such as `aupro_Q1@0.05`.
        n_resamples: draws behind intervals and verdicts.
        seed: of the draws.

    Raises:
        ResultError: no method, no category that all have, an evaluation without a tally, other images or defects in
            the same category, or a metric that none has.
    """
    categories, left_out = _shared_categories(evaluations)
    columns = _measured(evaluations, categories, metrics, n_resamples)
    for category in categories:
        _resample(columns, {method: evaluations[method][category] for method in evaluations}, category, seed)
    n_seeds = {method: min(len(by_category[one]) for one in categories) for method, by_category in evaluations.items()}
    rows = [row for metric in columns for row in _rank(metric, columns[metric], n_seeds)]
    return Leaderboard(categories=categories, left_out=left_out, rows=tuple(rows))


def _shared_categories(evaluations: Evaluations) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not evaluations:
        raise ResultError("a leaderboard needs the results of one method at least; give some")
    known = list(dict.fromkeys(category for by_category in evaluations.values() for category in by_category))
    shared = tuple(category for category in known if all(one.get(category) for one in evaluations.values()))
    if not shared:
        fewest = min(evaluations, key=lambda method: len(evaluations[method]))
        raise ResultError(f"no category has results of all methods; {fewest} has the fewest: run or leave out that one")
    return shared, tuple(category for category in known if category not in shared)


def _measured(
    evaluations: Evaluations, categories: Sequence[str], metrics: Sequence[str], n_resamples: int
) -> dict[str, dict[str, _Column]]:
    """By metric and method, the values of every category in which any method has one."""
    found = {
        method: {category: [metrics_of(one) for one in by_category[category]] for category in categories}
        for method, by_category in evaluations.items()
    }
    known = {name for by_category in found.values() for seeds in by_category.values() for one in seeds for name in one}
    columns = {}
    for metric in dict.fromkeys(metrics):
        if metric not in known:
            raise ResultError(f"no result has the metric {metric!r}; choose from {', '.join(sorted(known))}")
        values = {
            method: {one: np.array([seed.get(metric, np.nan) for seed in by[one]]) for one in categories}
            for method, by in found.items()
        }
        counted = [one for one in categories if not all(np.isnan(by[one].mean()) for by in values.values())]
        columns[metric] = {
            method: _Column(values={one: by[one] for one in counted}, moved=np.zeros(n_resamples))
            for method, by in values.items()
        }
    return columns


def _resample(
    columns: Mapping[str, Mapping[str, _Column]],
    methods: Mapping[str, Sequence[Evaluation]],
    category: str,
    seed: int,
) -> None:
    """Add what the draws of one category do to the mean over categories; the same draws for all methods."""
    counting = {metric: by_method for metric, by_method in columns.items() if _counts(by_method, category)}
    first_name, first = next((f"{name} on {category}", tally_of(name, some[0])) for name, some in methods.items())
    if not counting:
        return
    n_drawn = next(column.moved.size for by_method in counting.values() for column in by_method.values())
    drawn_seed = seed_of(category, seed)
    first_evaluation = next(iter(methods.values()))[0]
    trials = n_trials(counting, first, plan_of(first_evaluation))
    weights = np.concatenate([draw_weights(first, n_drawn, drawn_seed), leave_out_weights(first)])
    for method, of_seeds in methods.items():
        moves = []
        for evaluation in of_seeds:
            tally = tally_of(f"{method} on {category}", evaluation)
            places = matching_places(first_name, first, method, tally)
            require_same_groups(first_name, first_evaluation, method, evaluation, [*counting])
            plan = _narrowed(plan_of(evaluation), counting)
            moves.append(movements(tally, plan, weights[:, places], counting))
        seeds = _draw_seeds(len(of_seeds), n_drawn, drawn_seed)
        for metric, by_method in counting.items():
            column = by_method[method]
            moved = np.stack([move.get(metric, np.full(len(weights), np.nan)) for move in moves])
            if not can_resample(first) or trials[metric] < 2:
                moved[:] = np.nan
            values = column.values[category]
            redrawn = (seeds * (values[:, None] + moved[:, :n_drawn])).mean(axis=0)
            column.moved += (redrawn - values.mean()) / len(column.values)
            column.trials.append(trials[metric])
            column.left_out.append(moved[:, n_drawn:].mean(axis=0) / len(column.values))


def _draw_seeds(n_seeds: int, n_resamples: int, seed: int) -> Array:
    """(S, B) how often each seed is drawn, times S / (S - 1); ones for a lone one."""
    if n_seeds == 1:
        return np.ones((1, n_resamples))
    random = np.random.default_rng([seed, n_seeds])
    drawn = random.multinomial(n_seeds - 1, np.full(n_seeds, 1 / n_seeds), size=n_resamples)
    return np.asarray(drawn.T * (n_seeds / (n_seeds - 1)))


def _counts(by_method: Mapping[str, _Column], category: str) -> bool:
    return any(category in column.values for column in by_method.values())


def _narrowed(plan: Plan, names: Collection[str]) -> Plan:
    """Only what these metrics need: their limits, their groups of defects, and the quartiles for rho."""
    limits = tuple(limit for limit in plan.fpr_limits if any(name.endswith(f"@{short(limit)}") for name in names))
    always = {"", *(f"_{quartile}" for quartile in QUARTILES)}
    members = {
        group: those
        for group, those in plan.members.items()
        if group in always
        or f"image_auroc{group}" in names
        or any(f"aupro{group}@{short(limit)}" in names for limit in limits)
    }
    return replace(plan, fpr_limits=limits, members=members)


def _rank(metric: str, columns: Mapping[str, _Column], n_seeds: Mapping[str, int]) -> list[LeaderboardRow]:
    """The rows of one metric, the best first."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    order = sorted(columns, key=lambda method: (np.nan_to_num(-sign * columns[method].value, nan=np.inf), method))
    best = order[0]
    p_values = _pairwise_p_values({method: columns[method] for method in order})
    rows = []
    for method in order:
        column, corrected_p = columns[method], p_values.get((best, method), float("nan"))
        rows.append(
            LeaderboardRow(
                method=method,
                metric=metric,
                value=column.value,
                interval=_interval(column, highest=highest_of(metric)),
                seed_spread=column.seed_spread,
                n_seeds=n_seeds[method],
                by_category=column.by_category,
                difference_to_best=column.value - columns[best].value,
                corrected_p=corrected_p,
                verdict=_verdict(column.value, corrected_p, is_best=method == best),
            )
        )
    return rows


def _pairwise_p_values(columns: Mapping[str, _Column]) -> dict[tuple[str, str], float]:
    """Of every pair of methods that have a value, corrected for all of them."""
    pairs = list(combinations((method for method in columns if not np.isnan(columns[method].value)), 2))
    if not pairs:
        return {}
    differences = np.array([columns[a].value - columns[b].value for a, b in pairs])
    apart = np.stack([_distances(columns[a], columns[b]) for a, b in pairs], axis=1)
    return dict(zip(pairs, stepdown_p_values(differences, apart).tolist(), strict=True))


def _distances(one: _Column, other: _Column) -> Array:
    """(B,) how far each draw lies from the measured difference; seeds are paired where there are as many of both."""
    seeds: list[Array] = []
    for own, others in zip(one.shares, other.shares, strict=True):
        seeds += [own - others] if own.size == others.size else [own, others]
    left_out = np.concatenate(one.left_out) - np.concatenate(other.left_out)
    _, freedom = _shape(left_out, seeds)
    return widened(np.abs(one.moved - other.moved), freedom)


def _shape(left_out: Array, seeds: Sequence[Array]) -> tuple[float, float]:
    """Acceleration and degrees of freedom of images and seeds together.

    `left_out` are metrics with one group of images left out in turn, `seeds` those of the seeds of each category.
    """
    skew, freedom = shape_of_influence(left_out)
    left_out = left_out[~np.isnan(left_out)]
    of_images = float(((left_out - left_out.mean()) ** 2).sum()) if left_out.size else 0.0
    of_seeds = [(float(one.var(ddof=1)) / one.size, one.size - 1) for one in seeds if one.size > 1]
    total = of_images + sum(variance for variance, _ in of_seeds)
    uncertain = of_images**2 / freedom + sum(variance**2 / n_free for variance, n_free in of_seeds)
    if not uncertain:
        return skew, np.inf
    return skew * (of_images / total) ** 1.5, max(MIN_FREEDOM, total**2 / uncertain)


def _interval(column: _Column, highest: float) -> Interval:
    if np.isnan(column.value):
        return UNDEFINED
    skew, freedom = _shape(np.concatenate(column.left_out), column.shares)
    found = shaped_interval(column.value + column.moved, column.value, skew, freedom)
    low, high = np.clip([found.low, found.high], 0.0, highest)
    interval = Interval(low=float(low), high=float(high))
    if np.isinf(highest):
        return interval
    return opened(interval, len(column.trials) * min(column.trials, default=0))


def _cell(row: LeaderboardRow) -> Html:
    low, high = row.interval.low, row.interval.high
    interval = f"{low:.3f}-{high:.3f}" if low == low else ""
    mark = " =" if row.verdict == NOT_TOLD else ""
    return number(row.value, interval, is_best=row.verdict == BEST, mark=mark)


def _verdict(value: float, corrected_p: float, *, is_best: bool) -> str:
    if np.isnan(value):
        return NO_VALUE
    if is_best:
        return BEST
    if np.isnan(corrected_p):
        return NO_VALUE
    return LOWER if is_verdict(corrected_p) else NOT_TOLD
