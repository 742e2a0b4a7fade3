"""How far a number would move with other images: bootstrap intervals over groups of images, for every figure.

Images of one group (a part or scene seen under several lightings) are drawn together. Groups without a defective image
and groups with one are drawn separately, as many as there are of each: the numbers of good and defective images were
chosen, not found. From n groups n - 1 are drawn, which makes the spread of a mean right where n is small (Rao and Wu,
1988). Intervals are BCa (Efron, 1987): quantiles of the drawn figures, corrected for bias and skewness. Where a few
images carry a figure, as huge defects do the pixel scores, the normal quantiles inside BCa understate the tails; they
are replaced by Student's, as in Hesterberg's (2015) expanded percentiles, with the degrees of freedom that the kurtosis
of the images' influence leaves (Satterthwaite). `benchmarks/coverage.py` measures what all this is worth.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtrit

from tinydefects.metrics.figures import figures, named_groups
from tinydefects.metrics.records import Interval
from tinydefects.metrics.resampling import Array, Plan, Resampler
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.size import cumulative_quartiles, disjoint_quartiles
from tinydefects.metrics.tally import Tally

LEVEL = 0.95
N_RESAMPLES = 1000
MIN_FREEDOM = 2.0
UNDEFINED = Interval(low=float("nan"), high=float("nan"))


def intervals(evaluation: Evaluation, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> dict[str, Interval]:
    """A 95 % interval for every figure of an evaluation that keeps its tally, by the figure's name.

    (nan, nan) where the figure is undefined or good or defective images form a single group. Missing are `a90_95_px`,
    itself a bound, and AUPRO and rho under a curve rule other than `exact`. Each interval is moved by what the tally's
    own value lacks of the exact one, less than 0.001 as a rule, and ends where the figure does.
    """
    tally = evaluation.tally
    if tally is None or not n_resamples:
        return {}
    values = figures(evaluation)
    moved = {}
    for name, (value, interval) in tally_intervals(tally, plan_of(evaluation), n_resamples, seed).items():
        if evaluation.curve_rule != "exact" and name.startswith(("aupro", "rho")):
            continue
        moved[name] = _moved(interval, values[name] - value, highest=np.inf if name.endswith("_px") else 1.0)
    return moved


def _moved(interval: Interval, distance: float, highest: float) -> Interval:
    """The interval moved, but not out of what the figure can be: sizes are not negative, all others lie in [0, 1]."""
    low, high = np.clip([interval.low + distance, interval.high + distance], 0.0, highest)
    return Interval(low=float(low), high=float(high))


def tally_intervals(tally: Tally, plan: Plan, n_resamples: int, seed: int) -> dict[str, tuple[float, Interval]]:
    """Each figure as the tally has it, and its interval."""
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


def plan_of(evaluation: Evaluation) -> Plan:
    """What to compute again under weights: the figures this evaluation has, its groups with the members they have."""
    tally = evaluation.tally
    assert tally is not None
    groups = named_groups(evaluation)
    areas_px = tally.area_px
    chosen = [np.ones(areas_px.size, dtype=bool), *cumulative_quartiles(areas_px), *disjoint_quartiles(areas_px)]
    chosen += [tally.defect_type == group.name for group in evaluation.by_type]
    images_px = tally.n_normal + np.bincount(tally.image_of_defect, areas_px, tally.n_normal.size).astype(np.int64)
    for bins in evaluation.bins:
        chosen += bins.members(areas_px, images_px[tally.image_of_defect], evaluation.pixel_pitch_mm)
    return Plan(
        fpr_limits=evaluation.fpr_limits,
        members=dict(zip(groups, chosen, strict=True)),
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


def leave_out_weights(tally: Tally) -> Array:
    """(n groups, I) ones, but for the images of one group: what the jackknife of BCa needs."""
    group, defective = strata(tally)
    return np.asarray(np.arange(defective.size)[:, None] != group, dtype=np.float64)


def bca_interval(drawn: Array, value: float, left_out: Array) -> Interval:
    """From (B,) drawn figures, the full sample's figure and (n groups,) figures with one group left out in turn."""
    return shaped_interval(drawn, value, *shape_of_influence(left_out))


def shaped_interval(drawn: Array, value: float, skew: float, freedom: float) -> Interval:
    """The same from acceleration and degrees of freedom, as `shape_of_influence` gives them.

    Draws that left nothing to measure (nan) do not count; (nan, nan) when all do or the figure itself is nan.
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

    `left_out` (n groups,) are figures with one group of images left out in turn; nan do not count.
    """
    left_out = left_out[~np.isnan(left_out)]
    influence = left_out.sum() / max(left_out.size, 1) - left_out
    squares = float((influence**2).sum())
    if squares == 0:
        return 0.0, np.inf
    acceleration = float((influence**3).sum()) / (6 * squares**1.5)
    excess = influence.size * float((influence**4).sum()) / squares**2 - 1
    return acceleration, max(MIN_FREEDOM, 2 * influence.size / excess) if excess > 0 else np.inf
