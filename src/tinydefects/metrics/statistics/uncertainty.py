"""How far a number would move with other images: bootstrap intervals over groups of images, for every metric.

Images of one group (a part or scene seen under several lightings) are drawn together. Groups without a defective image
and groups with one are drawn separately, as many as there are of each: the numbers of good and defective images were
chosen, not found. From n groups n - 1 are drawn, which makes the spread of a mean right where n is small (Rao and Wu,
1988). Intervals are BCa (Efron, 1987): quantiles of the drawn metrics, corrected for bias and skewness. Where a few
images carry a metric, as huge defects do the pixel scores, the normal quantiles inside BCa understate the tails; they
are replaced by Student's, as in Hesterberg's (2015) expanded percentiles, with the degrees of freedom that the kurtosis
of the images' influence leaves (Satterthwaite). `benchmarks/coverage.py` measures what all this is worth.

At its edges the bootstrap is blind: where nothing went wrong in three images, nothing goes wrong in any draw of them,
and the interval would be 1.000 to 1.000. There it reaches as far as that of Clopper and Pearson (1934) for n right of
n: more than 1 - 0.025^(1/n) would hardly have gone unseen in n independent trials. For the AUROC this holds whatever
the scores: n good and n defective images make n pairs without a common image, each in order with the chance that is
asked for. A metric on which all draws agree elsewhere has no interval.
"""

import zlib
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from tinydefects.metrics.groups import images_of
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import PART_AUROC, Interval
from tinydefects.metrics.scores import SIZES, Evaluation, groups_of, metrics_of
from tinydefects.metrics.statistics.resampling import Array, Plan, Resampler

LEVEL = 0.95
N_RESAMPLES = 1000
MIN_FREEDOM = 2.0
ROUNDING = 1e-9  # of sums in another order
EDGE = 0.0005  # what lies as near to 0 or to 1 is printed as 0.000 or 1.000
UNDEFINED = Interval(low=float("nan"), high=float("nan"))


def intervals(evaluation: Evaluation, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """A 95 % interval for every metric of an evaluation that keeps its tally, by the metric's name.

    (nan, nan) where the metric is undefined or good or defective images behind it form a single group. Missing are
    `a90_95_px`, itself a bound, and AUPRO and rho under a curve rule other than `exact`. Each interval is moved by what
    the tally's own value lacks of the exact one, less than 0.001 as a rule, and ends where the metric does.
    """
    tally = evaluation.tally
    if tally is None or not n_resamples:
        return {}
    values, plan = metrics_of(evaluation), plan_of(evaluation)
    moved, found = {}, tally_intervals(tally, plan, n_resamples, seed)
    trials = n_trials(found, tally, plan)
    for name, (value, interval) in found.items():
        if evaluation.curve_rule != "exact" and name.startswith(("aupro", "rho")):
            continue
        highest = highest_of(name)
        own = _moved(interval, values[name] - value, highest=highest)
        moved[name] = own if np.isinf(highest) else opened(own, trials[name])
    return moved


def highest_of(metric: str) -> float:
    """The highest value that a metric can have: sizes have none, all others lie in [0, 1]."""
    return np.inf if metric in SIZES else 1.0


def _moved(interval: Interval, distance: float, highest: float) -> Interval:
    """The interval moved, but not out of what the metric can be: sizes are not negative, all others lie in [0, 1]."""
    low, high = np.clip([interval.low + distance, interval.high + distance], 0.0, highest)
    return Interval(low=float(low), high=float(high))


def tally_intervals(tally: Tally, plan: Plan, n_resamples: int, seed: int) -> dict[str, tuple[float, Interval]]:
    """Each metric as the tally has it, and its interval."""
    resampler = Resampler(tally, plan)
    full = resampler.under(np.ones((1, tally.n_normal.size)))
    if not can_resample(tally):
        return {name: (float(values[0]), UNDEFINED) for name, values in full.items()}
    drawn = resampler.under(draw_weights(tally, n_resamples, seed))
    left_out = resampler.under(leave_out_weights(tally))
    return {
        name: (float(values[0]), bca_interval(drawn[name], float(values[0]), left_out[name]))
        for name, values in full.items()
    }


def opened(interval: Interval, n: int) -> Interval:
    """The interval of a share, opened where the bootstrap shuts it at 0 or 1, for n independent trials.

    (nan, nan) where it has no width elsewhere, or there is a single trial: one image says nothing of others.
    """
    if n < 2:
        return UNDEFINED
    low, high = exact_interval(n, n)[0], exact_interval(0, n)[1]
    if interval.low >= 1 - EDGE:
        return Interval(low=min(low, interval.low), high=1.0)
    if interval.high < EDGE:
        return Interval(low=0.0, high=max(high, interval.high))
    return UNDEFINED if interval.high - interval.low < ROUNDING else interval


def exact_interval(n_found: float, n: int) -> tuple[float, float]:
    """Clopper and Pearson (1934), 95 %: each bound leaves 2.5 % of the binomial on its far side of `n_found`.

    Between whole numbers the bounds go on smoothly, for sums of n shares.
    """
    tail, n_missed = (1 - LEVEL) / 2, n - n_found
    low = float(betaincinv(n_found, n_missed + 1, tail)) if n_found else 0.0
    high = float(betaincinv(n_found + 1, n_missed, 1 - tail)) if n_missed else 1.0
    return low, high


def n_trials(metrics: Iterable[str], tally: Tally, plan: Plan) -> dict[str, int]:
    """How many independent pairs of a good and a defective image stand behind each metric: the fewer of the two.

    Images of one group are one, and a part counts once whatever its views. AUPRO and metrics of pixels find their
    normal pixels in defective images as well.
    """
    outlined = tally.outlined_by_name()
    return {metric: _n_trials(metric, tally, plan, outlined) for metric in metrics}


def _n_trials(metric: str, tally: Tally, plan: Plan, outlined: Mapping[str, NDArray[np.bool_]]) -> int:
    if metric == PART_AUROC:
        is_good = tally.parts().is_good
        return int(min(np.count_nonzero(is_good), np.count_nonzero(~is_good)))
    everything = np.ones(tally.area_px.size, dtype=bool)
    behind = ~tally.is_good if metric.startswith("image_") else images_of(tally, "", everything)
    if metric.startswith("spro"):
        members = outlined.get(metric.rpartition("@")[0], slice(0))  # maybe none here
        behind = np.isin(np.arange(tally.is_good.size), tally.image_of_outlined[members])
    for suffix, members in plan.members.items():
        if suffix and metric == f"image_auroc{suffix}":
            behind = plan.images.get(suffix, images_of(tally, "", members))
        elif metric.startswith(f"aupro{suffix}@") or (suffix == "_Q1" and metric.startswith("rho@")):
            behind = images_of(tally, "", members)
    normal = tally.is_good if metric.startswith(("image_", "aupimo")) else tally.n_normal > 0
    return min(np.unique(tally.group[images]).size for images in (behind, normal))


def plan_of(evaluation: Evaluation) -> Plan:
    """What to compute again under weights: the metrics this evaluation has, its groups with the members they have."""
    tally = evaluation.tally
    assert tally is not None
    groups = groups_of(evaluation)
    members = {group.suffix: np.zeros(tally.area_px.size, dtype=bool) for group in groups}
    for group in groups:
        members[group.suffix][list(group.members)] = True
    return Plan(
        fpr_limits=evaluation.fpr_limits,
        members=members,
        images={group.suffix: images_of(tally, group.key, members[group.suffix]) for group in groups},
        threshold=evaluation.threshold,
        image_threshold=evaluation.image_threshold,
        detection=(evaluation.detectability.rule, evaluation.detectability.rate),
    )


def strata(tally: Tally) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(I,) number of each image's group, and (n groups,) whether the group holds a defective image."""
    names, group = np.unique(tally.group, return_inverse=True)
    defective = np.zeros(names.size, dtype=bool)
    np.logical_or.at(defective, group, ~tally.is_good)
    return group.astype(np.int64), defective


def can_resample(tally: Tally) -> bool:
    """Whether neither kind of image forms a single group: one draw out of one says nothing about spread."""
    n_defective = int(np.count_nonzero(strata(tally)[1]))
    return n_defective != 1 and strata(tally)[1].size - n_defective != 1


def draw_weights(tally: Tally, n_resamples: int, seed: int) -> Array:
    """(B, I) how often each image is drawn, times n / (n - 1) for its kind of group; a lone group stays as it is."""
    group, defective = strata(tally)
    random = np.random.default_rng(seed)
    weights = np.ones((n_resamples, defective.size))
    for kind in (False, True):
        members = np.flatnonzero(defective == kind)
        if members.size > 1:
            drawn = random.multinomial(members.size - 1, np.full(members.size, 1 / members.size), size=n_resamples)
            weights[:, members] = drawn * (members.size / (members.size - 1))
    return np.asarray(weights[:, group])


def seed_of(category: str, seed: int) -> int:
    """The seed of a category's draws: others in each, the same whoever compares whom on it."""
    return int(np.random.SeedSequence([seed, zlib.crc32(category.encode())]).generate_state(1)[0])


def leave_out_weights(tally: Tally) -> Array:
    """(n groups, I) ones, but for the images of one group: what the jackknife of BCa needs."""
    group, defective = strata(tally)
    return np.asarray(np.arange(defective.size)[:, None] != group, dtype=np.float64)


def bca_interval(drawn: Array, value: float, left_out: Array) -> Interval:
    """From (B,) drawn metrics, the full sample's metric and (n groups,) metrics with one group left out in turn."""
    return shaped_interval(drawn, value, *shape_of_influence(left_out))


def shaped_interval(drawn: Array, value: float, skew: float, freedom: float) -> Interval:
    """The same from acceleration and degrees of freedom, as `shape_of_influence` gives them.

    Draws that left nothing to measure (nan) do not count; (nan, nan) when all do or the metric itself is nan.
    """
    drawn = drawn[~np.isnan(drawn)]
    if not drawn.size or np.isnan(value):
        return UNDEFINED
    below = (np.count_nonzero(drawn < value) + np.count_nonzero(drawn <= value)) / 2
    bias = ndtri(np.clip(below, 0.5, drawn.size - 0.5) / drawn.size)
    tails = bias + stdtrit(freedom, np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    low, high = np.quantile(drawn, ndtr(bias + tails / np.maximum(1 - skew * tails, 1e-9)))
    return Interval(low=float(low), high=float(high))


def shape_of_influence(left_out: Array) -> tuple[float, float]:
    """Acceleration of BCa, and the degrees of freedom of a variance estimated from influences of this kurtosis.

    `left_out` (n groups,) are metrics with one group of images left out in turn; nan do not count.
    """
    left_out = left_out[~np.isnan(left_out)]
    influence = left_out.sum() / max(left_out.size, 1) - left_out
    squares = float((influence**2).sum())
    if squares == 0:
        return 0.0, np.inf
    acceleration = float((influence**3).sum()) / (6 * squares**1.5)
    excess = influence.size * float((influence**4).sum()) / squares**2 - 1
    return acceleration, max(MIN_FREEDOM, 2 * influence.size / excess) if excess > 0 else np.inf
