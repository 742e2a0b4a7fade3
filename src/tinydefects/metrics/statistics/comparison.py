"""Which of several methods is better on the same images: paired differences, corrected for how many are looked at.

All tallies get the same weights, so what makes an image hard for everybody cancels. An interval is the difference plus
or minus the 95 % quantile of how far resampled differences lie from it, and the p value the share of resamples that lie
at least as far as zero does, so that the two always agree; where a few images carry a difference, these distances are
first widened as Student's quantile is beside the normal one (`uncertainty.py` says why).

The corrected p values are those of the step-down maximum (Westfall and Young, 1993; Romano and Wolf, 2005): they bound
the chance of even one false verdict among all comparisons asked for, as Holm's do, but use that metrics move together,
and can be as small as 1 / (resamples + 1) for any number of comparisons.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from tinydefects.errors import ResultError
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import Interval
from tinydefects.metrics.scores import SIZES, Evaluation, choose_metrics, groups_of, metrics_of
from tinydefects.metrics.statistics.resampling import Array, Plan, Resampler
from tinydefects.metrics.statistics.uncertainty import (
    EDGE,
    LEVEL,
    can_resample,
    draw_weights,
    exact_interval,
    leave_out_weights,
    n_trials,
    plan_of,
    seed_of,
    shape_of_influence,
)

N_RESAMPLES = 2000
NOT_DISTINGUISHABLE, NO_VALUE = "not distinguishable", "undefined"
HEADLINES = ("aupro", "aupro_Q1", "rho", "pixel_average_precision", "image_auroc", "a90_px")
SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of two methods, `a` and `b`, on the same images.

    Attributes:
        difference: value of `a` minus value of `b`.
        interval: 95 % for this difference alone.
        p_value: two-sided, for this difference alone.
        corrected_p: among all comparisons made together; at most 0.05 is a verdict.
        verdict: `<name> higher`, `not distinguishable`, or `undefined` where a method has no such number.
    """

    metric: str
    a: str
    b: str
    value_a: float
    value_b: float
    difference: float
    interval: Interval
    p_value: float
    corrected_p: float
    verdict: str


def compare(
    evaluations: Mapping[str, Evaluation],
    *,
    names: Sequence[str] = (),
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Every pair of evaluations, by name, on every metric asked for; the headline metrics when `names` is empty.

    Raises:
        ResultError: fewer than two evaluations, one without a tally, other images, groups or defects, or a metric
            that none has.
    """
    tallies = {name: tally_of(name, evaluation) for name, evaluation in evaluations.items()}
    if len(tallies) < 2:
        raise ResultError("comparing needs two results of the same images at least; give another one")
    first = next(iter(tallies))
    values = {name: metrics_of(evaluation) for name, evaluation in evaluations.items()}
    chosen = _chosen(evaluations, names)
    drawn_seed = seed_of(evaluations[first].category, seed)
    weights, without = draw_weights(tallies[first], n_resamples, drawn_seed), leave_out_weights(tallies[first])
    moved, left_out = {}, {}
    for name, tally in tallies.items():
        places = matching_places(first, tallies[first], name, tally)
        require_same_groups(first, evaluations[first], name, evaluations[name], chosen)
        moved[name] = movements(tally, plan_of(evaluations[name]), weights[:, places])
        left_out[name] = movements(tally, plan_of(evaluations[name]), without[:, places])
    pairs = [(a, b, metric) for a, b in combinations(tallies, 2) for metric in chosen]
    differences = np.array([values[a].get(metric, np.nan) - values[b].get(metric, np.nan) for a, b, metric in pairs])
    plan = plan_of(evaluations[first])
    trials = n_trials(chosen, tallies[first], plan)
    apart = np.full((n_resamples, len(pairs)), np.nan)
    for place, (a, b, metric) in enumerate(pairs):
        if can_resample(tallies[first]) and trials[metric] > 1 and metric in moved[a] and metric in moved[b]:
            drawn, influence = moved[a][metric] - moved[b][metric], left_out[a][metric] - left_out[b][metric]
            apart[:, place] = distances(drawn, influence)
    return _conclude(pairs, values, differences, apart, trials)


def describe(comparisons: Sequence[Comparison]) -> str:
    """A table to print for every pair, the corrected p value beside each verdict."""
    width = max((len(comparison.metric) for comparison in comparisons), default=0)
    lines: list[str] = []
    columns = f"{'':<{width}}{'A':>9}{'B':>9}{'A - B':>9}   {'95 % interval':<20}{'p':>8}  verdict"
    for a, b in dict.fromkeys((comparison.a, comparison.b) for comparison in comparisons):
        lines += [f"A = {a}, B = {b}", columns]
        of_pair = [one for one in comparisons if (one.a, one.b) == (a, b)]
        lines += [_row(one, width) for one in of_pair if not _is_nowhere(one)]
        nowhere = [one.metric for one in of_pair if _is_nowhere(one)]
        lines += [f"undefined for both: {', '.join(nowhere)}"] if nowhere else []
    n_tested = sum(one.corrected_p == one.corrected_p for one in comparisons)
    return "\n".join([*lines, f"p is corrected for {n_tested} comparisons; a verdict needs p <= 0.05"])


def _is_nowhere(one: Comparison) -> bool:
    return bool(np.isnan(one.value_a) and np.isnan(one.value_b))


def _row(one: Comparison, width: int) -> str:
    numbers = f"{one.value_a:>9.4f}{one.value_b:>9.4f}"
    if np.isnan(one.difference):
        return f"{one.metric:<{width}}{numbers}{'':>40}  {one.verdict}"
    numbers += f"{one.difference:>+9.4f}"
    interval = f"[{one.interval.low:+.4f}, {one.interval.high:+.4f}]"
    return f"{one.metric:<{width}}{numbers}   {interval:<20}{one.corrected_p:>8.4f}  {one.verdict}"


def _conclude(
    pairs: Sequence[tuple[str, str, str]],
    values: Mapping[str, Mapping[str, float]],
    differences: Array,
    apart: Array,
    trials: Mapping[str, int],
) -> tuple[Comparison, ...]:
    """`apart` (B, n): how far each resampled difference lies from the measured one; `trials` as `n_trials`."""
    p_values, corrected = single_p_values(differences, apart), stepdown_p_values(differences, apart)
    comparisons = []
    for place, (a, b, metric) in enumerate(pairs):
        difference, corrected_p = float(differences[place]), float(corrected[place])
        value_a, value_b = values[a].get(metric, np.nan), values[b].get(metric, np.nan)
        interval = symmetric_interval(difference, apart[:, place])
        if _at_one_edge(value_a, value_b) and interval.high - interval.low < EDGE:
            reach = exact_interval(0, trials[metric])[1]
            interval = Interval(low=difference - reach, high=difference + reach)
        comparisons.append(
            Comparison(
                metric=metric,
                a=a,
                b=b,
                value_a=value_a,
                value_b=value_b,
                difference=difference,
                interval=interval,
                p_value=float(p_values[place]),
                corrected_p=corrected_p,
                verdict=_verdict(a, b, difference, corrected_p),
            )
        )
    return tuple(comparisons)


def distances(drawn: Array, left_out: Array) -> Array:
    """(B,) how far each draw lies from the measured difference, widened where few groups of images carry it.

    Both are differences minus the measured one: under B draws, and with each group of images left out in turn.
    """
    _, freedom = shape_of_influence(left_out)
    return widened(np.abs(drawn), freedom)


def widened(apart: Array, freedom: float) -> Array:
    """Distances times what Student's quantile with these degrees of freedom is beside the normal one."""
    return apart * float(stdtrit(freedom, (1 + LEVEL) / 2) / ndtri((1 + LEVEL) / 2))


def symmetric_interval(difference: float, apart: Array) -> Interval:
    """As far to either side as 95 % of the resampled differences, `apart` (B,), lie from the measured one."""
    apart = apart[~np.isnan(apart)]
    reach = float(np.quantile(apart, LEVEL)) if apart.size else np.nan
    return Interval(low=difference - reach, high=difference + reach)


def _at_one_edge(a: float, b: float) -> bool:
    """Whether both values lie at 0 or both at 1, where draws of the same images are blind (`uncertainty.py`)."""
    return max(a, b) < EDGE or min(a, b) > 1 - EDGE


def _verdict(a: str, b: str, difference: float, corrected_p: float) -> str:
    if np.isnan(difference):
        return NO_VALUE
    if not is_verdict(corrected_p):
        return NOT_DISTINGUISHABLE
    return f"{a if difference > 0 else b} higher"


def is_verdict(corrected_p: float) -> bool:
    """Whether a corrected p value tells two methods apart: at most 5 %."""
    return corrected_p <= 1 - LEVEL + 1e-12


def single_p_values(differences: Array, apart: Array) -> Array:
    """(n,) share of resamples that move at least as far as the measured difference; one is added to both counts."""
    n_drawn = np.count_nonzero(~np.isnan(apart), axis=0)
    n_as_far = np.count_nonzero(apart >= np.abs(differences), axis=0)
    return np.where(np.isnan(differences) | (n_drawn == 0), np.nan, (1 + n_as_far) / (1 + n_drawn))


def stepdown_p_values(differences: Array, apart: Array) -> Array:
    """(n,) p values corrected for all n comparisons: the largest first, each against the maximum of those left.

    Differences are measured in their own standard deviations, so that metrics of any scale can share a maximum.
    """
    defined = np.flatnonzero(~np.isnan(single_p_values(differences, apart)))
    corrected = np.full(differences.size, np.nan)
    if not defined.size:
        return corrected
    spread = np.sqrt(np.nanmean(apart[:, defined] ** 2, axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(np.abs(differences[defined]) / spread, nan=0.0, posinf=np.inf)
        moves = np.nan_to_num(apart[:, defined] / spread, nan=0.0)
    order = np.argsort(-size)
    highest = np.maximum.accumulate(moves[:, order[::-1]], axis=1)[:, ::-1]
    p_values = (1 + np.count_nonzero(highest >= size[order], axis=0)) / (1 + len(apart))
    corrected[defined[order]] = np.maximum.accumulate(p_values)
    return corrected


def movements(tally: Tally, plan: Plan, weights: Array, names: Collection[str] = ()) -> dict[str, Array]:
    """How far weights (B, I) move each metric from its value on the full sample, (B,); `names` as in `Resampler`."""
    resampler = Resampler(tally, plan)
    full = resampler.under(np.ones((1, tally.n_normal.size)), names)
    return {metric: values - full[metric] for metric, values in resampler.under(weights, names).items()}


def tally_of(name: str, evaluation: Evaluation) -> Tally:
    """The tally of the evaluation that goes by this name.

    Raises:
        ResultError: it keeps none.
    """
    if evaluation.tally is None:
        raise ResultError(f"{name}: keeps no tally to resample; evaluate its maps again with this version")
    return evaluation.tally


def _chosen(evaluations: Mapping[str, Evaluation], names: Sequence[str]) -> list[str]:
    chosen = [metric for name in names or HEADLINES for metric in choose_metrics(evaluations.values(), name)]
    remark, asked = other_rules(evaluations), names and list(names) != ["all"]
    if remark and asked and set(chosen) & set(SIZES):
        raise ResultError(remark)
    return [metric for metric in dict.fromkeys(chosen) if not remark or metric not in SIZES]


def other_rules(evaluations: Mapping[str, Evaluation]) -> str:
    """Why a50 and a90 of these evaluations cannot be compared: they call defects detected otherwise; empty if alike."""
    rules = {(found := one.detectability).rule + f" at {found.rate:g}": name for name, one in evaluations.items()}
    if len(rules) < 2:
        return ""
    told = ", ".join(f"{name} by {rule}" for rule, name in rules.items())
    return f"a50 and a90 are not compared, as defects are detected {told}; evaluate all with one --detection-rule"


def matching_places(first_name: str, first: Tally, name: str, tally: Tally) -> NDArray[np.int64]:
    """(I,) place in `first` of each image of `tally`, once both are known to hold the same images and defects.

    Raises:
        ResultError: they do not; the message goes by the two names.
    """
    known = all(one.saturation_px.size for one in (tally, first))  # results before format 8 have no saturations
    here, there = (_described(one, with_saturations=known) for one in (tally, first))
    if here.keys() != there.keys():
        lone = sorted(here.keys() ^ there.keys())
        raise ResultError(
            f"{first_name} and {name} hold different images, {len(lone)} are in one alone ({_few(lone)}); "
            "compare results of the same images"
        )
    differing = sorted(image for image in here if here[image] != there[image])
    if differing:
        raise ResultError(
            f"{first_name} and {name} disagree on the label, group, size, defects or saturations of "
            f"{len(differing)} images ({_few(differing)}); evaluate both against the same masks"
        )
    place = {image: number for number, image in enumerate(first.sample_id.tolist())}
    return np.array([place[image] for image in tally.sample_id.tolist()], dtype=np.int64)


def _described(tally: Tally, *, with_saturations: bool) -> dict[str, tuple[object, ...]]:
    """What must agree between two results, by image: label, group, normal pixels, areas of its defects, saturations."""
    areas = _by_image(tally, tally.image_of_defect, tally.area_px)
    saturations = _by_image(tally, tally.image_of_outlined, tally.saturation_px) if with_saturations else areas
    columns = (tally.is_good.tolist(), tally.group.tolist(), tally.n_normal.tolist(), areas, saturations)
    return dict(zip(tally.sample_id.tolist(), zip(*columns, strict=True), strict=True))


def _by_image(tally: Tally, images: NDArray[np.int64], numbers: NDArray[Any]) -> list[tuple[float, ...]]:
    """The numbers of each image, ascending."""
    found: list[list[float]] = [[] for _ in tally.sample_id]
    for image, number in zip(images.tolist(), numbers.tolist(), strict=True):
        found[image].append(number)
    return [tuple(sorted(one)) for one in found]


def require_same_groups(
    first_name: str, first: Evaluation, name: str, other: Evaluation, chosen: Sequence[str]
) -> None:
    """Refuse metrics of groups that hold other defects in two evaluations of the same images.

    Raises:
        ResultError: bins in millimetres differ with the pixel pitch.
    """
    here, there = ({group.key: group for group in groups_of(one)} for one in (first, other))
    for key in here.keys() & there.keys():
        own, n_other = here[key], there[key].n_defects
        asked = (one.startswith(f"aupro{own.suffix}@") or one == f"image_auroc{own.suffix}" for one in chosen)
        if (own.n_defects, own.area_px) != (n_other, there[key].area_px) and own.n_defects + n_other and any(asked):
            raise ResultError(
                f"{first_name} and {name} hold other defects in {own.label!r}, {own.n_defects} and {n_other}; "
                "evaluate both with the same pixel pitch"
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
