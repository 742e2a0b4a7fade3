"""Hit/miss analysis: the probability of detection (POD) of a defect as a logistic function of the log of its size.

    POD(a) = 1 / (1 + exp(-(intercept + slope * ln a)))

the model of MIL-HDBK-1823A (2009, appendix G) and ASTM E2862 for inspections that answer yes or no. a50 and a90 are the
sizes that are found half of the time and nine times in ten. Bounds come from the likelihood ratio, the handbook's
choice for hit/miss data: a curve is believed while its deviance is at most `CUT` above the best one, and the
a90/95 is the largest a90 of all curves that are believed. Defects count as independent trials.

The regression is checked against statsmodels in the tests; it is written out because a thousand resamples are fitted
together, and because the bounds walk along the contour of the likelihood.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, expit

CUT = 2.705543454095404  # 90 % of chi-square, one degree of freedom (one number is bounded at a time): 5 % on each side
MAX_STEPS = 50
LOG_ODDS_90 = math.log(9)
FEWEST_DEFECTS = 10
HANDBOOK_DEFECTS = 60
NEAR = 2.0
N_ANGLES = 72  # five degrees: the edge of the band is off by less than a thousandth of its width

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HitTable:
    """Hits and defects per distinct size, (U,); sizes as ln(diameter), centred and scaled so that steps behave."""

    size: Floats
    n_hits: Floats
    n_defects: Floats
    centre: float
    scale: float

    @classmethod
    def of(cls, diameters_px: Floats, hits: NDArray[np.bool_]) -> "HitTable":
        centre, scale = centre_and_scale(diameters_px)
        distinct, place = np.unique(diameters_px, return_inverse=True)
        return cls(
            size=(np.log(distinct) - centre) / scale,
            n_hits=np.bincount(place, hits, minlength=distinct.size).astype(float),
            n_defects=np.bincount(place, minlength=distinct.size).astype(float),
            centre=centre,
            scale=scale,
        )

    def scaled(self, log_size: Floats) -> Floats:
        return np.asarray((log_size - self.centre) / self.scale)

    def diameter_px(self, size: float) -> float:
        """The diameter of a scaled size; infinite beyond what a float holds."""
        with np.errstate(over="ignore"):
            return float(np.exp(np.float64(self.centre + self.scale * size)))

    def unscaled(self, coefficients: Floats) -> tuple[float, float]:
        slope = float(coefficients[1]) / self.scale
        return float(coefficients[0]) - slope * self.centre, slope

    def maximum(self) -> Floats:
        """The most likely (intercept, slope) on the scaled axis."""
        return np.asarray(maximise(self.size, self.n_hits[None], self.n_defects[None])[0])

    def deviance(self, coefficients: Floats) -> Floats:
        """(A,) minus twice the log likelihood of (A, 2) pairs of intercept and slope."""
        return _deviances(coefficients, self.size, self.n_hits, self.n_defects)

    def contour(self, best: Floats, angles: Floats) -> Floats:
        """(A, 2) coefficients whose deviance is `CUT` above the best, one in each direction from it.

        The deviance is convex, so that Newton's steps along a ray reach the one place where it passes the cut.
        """
        odds = best[0] + best[1] * self.size
        spread = self.n_defects * expit(odds) * expit(-odds)
        information = np.array([[spread.sum(), spread @ self.size], [spread @ self.size, spread @ self.size**2]])
        axes = np.linalg.inv(np.linalg.cholesky(information))
        rays = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ axes
        along = rays[:, :1] + rays[:, 1:] * self.size
        lowest = self.deviance(best[None])[0]
        radius = np.full(angles.size, math.sqrt(CUT))
        for _ in range(MAX_STEPS):
            there = best + radius[:, None] * rays
            excess = self.deviance(there) - lowest - CUT
            residual = expit(there[:, :1] + there[:, 1:] * self.size) * self.n_defects - self.n_hits
            step = excess / (2 * (along * residual).sum(axis=1))
            radius -= step
            if np.abs(step).max() < 1e-10:
                break
        return np.asarray(best + radius[:, None] * rays)


def centre_and_scale(diameters_px: Floats) -> tuple[float, float]:
    """Mean and standard deviation of ln(diameter), to fit on a standard scale; (0, 1) without defects, never 0 wide."""
    logs = np.log(diameters_px)
    return (float(logs.mean()), float(logs.std()) or 1.0) if logs.size else (0.0, 1.0)


def is_separated(size: Floats, hits: NDArray[np.bool_], misses: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(B,) whether one size divides hits (B, D) from misses: the likelihood then grows without end (Albert 1984)."""
    largest_hit, smallest_hit = _extremes(size, hits)
    largest_miss, smallest_miss = _extremes(size, misses)
    return np.asarray((largest_miss <= smallest_hit) | (largest_hit <= smallest_miss))


def _extremes(size: Floats, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    return np.where(chosen, size, -np.inf).max(axis=1), np.where(chosen, size, np.inf).min(axis=1)


def maximise(size: Floats, n_hits: Floats, n_defects: Floats) -> Floats:
    """(B, 2) maximum-likelihood intercept and slope for B weighted samples (B, U) over the sizes (U,).

    Newton's method (iteratively reweighted least squares), each step halved until the likelihood does not fall.
    """
    powers = np.stack([np.ones(size.size), size, size**2], axis=1)
    coefficients = np.zeros((n_hits.shape[0], 2))
    deviance = _deviances(coefficients, size, n_hits, n_defects)
    for _ in range(MAX_STEPS):
        odds = coefficients[:, :1] + coefficients[:, 1:] * size
        chance = expit(odds)
        gradient = (n_hits - n_defects * chance) @ powers[:, :2]
        flat, cross, steep = (n_defects * chance * (1 - chance) @ powers).T
        inverse = 1 / (flat * steep - cross**2)
        step = np.stack(
            [
                inverse * (steep * gradient[:, 0] - cross * gradient[:, 1]),
                inverse * (flat * gradient[:, 1] - cross * gradient[:, 0]),
            ],
            axis=1,
        )
        for _ in range(MAX_STEPS):
            tried = _deviances(coefficients + step, size, n_hits, n_defects)
            worse = tried > deviance * (1 + 1e-12) + 1e-12
            if not worse.any():
                break
            step[worse] /= 2
        coefficients, deviance = coefficients + step, tried
        if step.size == 0 or np.abs(step).max() < 1e-9 * (1 + np.abs(coefficients).max()):
            break
    return coefficients


def _deviances(coefficients: Floats, size: Floats, n_hits: Floats, n_defects: Floats) -> Floats:
    odds = coefficients[:, :1] + coefficients[:, 1:] * size
    return np.asarray(2 * (n_defects * np.logaddexp(0, odds) - n_hits * odds).sum(axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeFit:
    """The fitted curve; sizes in px of equivalent diameter, nan where `remarks` says why.

    Attributes:
        intercept, slope: of the log odds over ln(diameter in px); nan when no maximum of the likelihood exists.
        a50_px, a90_px: sizes found half of the time and nine times in ten; nan when they lie more than an octave
            outside the sizes that were seen.
        a90_95_px: upper 95 % confidence bound of a90, one-sided; nan when it is never reached, or only more than an
            octave above the largest defect.
        slope_p: likelihood-ratio test that size does not matter, one degree of freedom.
        deviance: minus twice the log likelihood; lack_of_fit_p: Hosmer-Lemeshow test over up to ten groups of size.
        remarks: why something is nan, or should be read with care.
    """

    n_defects: int = 0
    n_hits: int = 0
    intercept: float = math.nan
    slope: float = math.nan
    a50_px: float = math.nan
    a90_px: float = math.nan
    a90_95_px: float = math.nan
    slope_p: float = math.nan
    deviance: float = math.nan
    lack_of_fit_p: float = math.nan
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PodCurve:
    """POD at (n,) diameters with the likelihood-ratio band: 90 % between `low` and `high`, 95 % above `low` alone."""

    diameter_px: Floats
    pod: Floats
    low: Floats
    high: Floats


def fit_sizes(diameters_px: Floats, hits: NDArray[np.bool_]) -> SizeFit:
    """Fit POD against size: (n,) diameters above 0 and whether each defect was detected."""
    table = HitTable.of(diameters_px, hits)
    counts = {"n_defects": int(hits.size), "n_hits": int(np.count_nonzero(hits))}
    obstacle = _obstacle(table)
    if obstacle:
        return SizeFit(**counts, remarks=(obstacle,))
    best = table.maximum()
    intercept, slope = table.unscaled(best)
    deviance = float(table.deviance(best[None])[0])
    share = counts["n_hits"] / counts["n_defects"]
    null_deviance = -2 * hits.size * (share * math.log(share) + (1 - share) * math.log1p(-share))
    a50, a90, a90_95, remarks = _sizes_found(table, best)
    chance = np.asarray(expit(best[0] + best[1] * table.size))
    lack_of_fit_p = hosmer_lemeshow(table.n_hits, table.n_defects, chance)
    if lack_of_fit_p < 0.05:
        remarks.append(f"a logistic curve fits badly (Hosmer-Lemeshow p = {lack_of_fit_p:.2g})")
    if hits.size < HANDBOOK_DEFECTS:
        remarks.append(f"{hits.size} defects; the handbook asks for {HANDBOOK_DEFECTS}")
    return SizeFit(
        **counts,
        intercept=intercept,
        slope=slope,
        a50_px=a50,
        a90_px=a90,
        a90_95_px=a90_95,
        slope_p=float(chdtrc(1, max(null_deviance - deviance, 0.0))),
        deviance=deviance,
        lack_of_fit_p=lack_of_fit_p,
        remarks=tuple(remarks),
    )


def pod_curve(diameters_px: Floats, hits: NDArray[np.bool_], at_px: Floats) -> PodCurve | None:
    """The fitted curve and its band at (n,) diameters; None when there is no fit."""
    table = HitTable.of(diameters_px, hits)
    if _obstacle(table):
        return None
    best = table.maximum()
    where = np.stack([np.ones(at_px.size), table.scaled(np.log(at_px))])
    believed = table.contour(best, np.linspace(0, 2 * np.pi, N_ANGLES, endpoint=False)) @ where
    return PodCurve(
        diameter_px=at_px, pod=expit(best @ where), low=expit(believed.min(axis=0)), high=expit(believed.max(axis=0))
    )


def fit_resamples(diameters_px: Floats, hits: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """a50 and a90 in px, each (B,), of B resamples of the same defects: hits (B, D) or (D,), weights (B, D) >= 0.

    nan where a resample has no maximum (all hits, no hits, hits and misses that do not overlap) or no rising curve.
    """
    if not diameters_px.size:
        return np.full(weights.shape[0], np.nan), np.full(weights.shape[0], np.nan)
    order = np.argsort(diameters_px, kind="stable")
    distinct, first = np.unique(diameters_px[order], return_index=True)
    n_hits, n_defects = (np.add.reduceat(part[:, order], first, axis=1) for part in (weights * hits, weights))
    centre, scale = centre_and_scale(distinct)
    size = (np.log(distinct) - centre) / scale
    fitted = ~is_separated(size, n_hits > 0, n_hits < n_defects)
    coefficients = np.full((weights.shape[0], 2), np.nan)
    coefficients[fitted] = maximise(size, n_hits[fitted], n_defects[fitted])
    intercept, slope = coefficients.T
    slope = np.where(slope > 0, slope, np.nan)
    with np.errstate(over="ignore"):
        a50, a90 = (np.exp(centre + scale * (odds - intercept) / slope) for odds in (0.0, LOG_ODDS_90))
    return a50, a90


def _obstacle(table: HitTable) -> str:
    """Why no curve can be fitted, empty when one can."""
    n, n_hits = int(table.n_defects.sum()), int(table.n_hits.sum())
    if n < FEWEST_DEFECTS:
        return f"only {n} defects: fewer than {FEWEST_DEFECTS} say nothing about size"
    smallest, largest = table.diameter_px(table.size[0]), table.diameter_px(table.size[-1])
    if n_hits == n:
        return f"all {n} defects are detected: the limit lies below the smallest, {smallest:.1f} px"
    if n_hits == 0:
        return f"none of {n} defects is detected: the limit lies above the largest, {largest:.1f} px"
    if table.size.size == 1:
        return f"all defects have one size, {largest:.1f} px"
    hit, missed = table.size[table.n_hits > 0], table.size[table.n_hits < table.n_defects]
    if missed[-1] == hit[0]:
        return f"hits and misses meet at one size, {table.diameter_px(hit[0]):.1f} px; the curve is a step there"
    if missed[-1] < hit[0]:
        return (
            f"hits and misses do not overlap: all up to {table.diameter_px(missed[-1]):.1f} px are missed, "
            f"all from {table.diameter_px(hit[0]):.1f} px are detected; the curve is a step"
        )
    if hit[-1] <= missed[0]:
        return "no defect is smaller than a missed one and missed: size does not explain detection"
    return ""


def _sizes_found(table: HitTable, best: Floats) -> tuple[float, float, float, list[str]]:
    """a50, a90, a90/95 in px, and why each that is nan is nan."""
    if best[1] <= 0:
        return math.nan, math.nan, math.nan, ["larger defects are not detected more often: no size has a known POD"]
    sizes = {"a50": -best[0] / best[1], "a90": (LOG_ODDS_90 - best[0]) / best[1], "a90/95": _upper_a90(table, best)}
    smallest, largest = table.diameter_px(table.size[0]), table.diameter_px(table.size[-1])
    found, remarks = [], []
    for name, size in sizes.items():
        diameter = table.diameter_px(size)
        if smallest / NEAR <= diameter <= largest * NEAR:
            found.append(diameter)
            continue
        found.append(math.nan)
        if math.isinf(size):
            remarks.append(f"{name} is never reached: size hardly explains detection")
        elif diameter > largest:
            remarks.append(f"{name} lies beyond twice the largest defect, {largest:.1f} px")
        else:
            remarks.append(f"{name} lies below half the smallest defect, {smallest:.1f} px")
    return found[0], found[1], found[2], remarks


def _upper_a90(table: HitTable, best: Floats) -> float:
    """The largest scaled a90 on the contour, infinite when the contour reaches a curve that does not rise."""
    middle, reach = np.pi, np.pi
    for _ in range(3):  # all round, then twice between the neighbours of the largest
        angles = np.linspace(middle - reach, middle + reach, N_ANGLES + 1)
        start, slope = table.contour(best, angles).T
        if slope.min() <= 0:
            return math.inf
        sizes = (LOG_ODDS_90 - start) / slope
        middle, reach = float(angles[sizes.argmax()]), 2 * reach / N_ANGLES
    return float(sizes.max())


def hosmer_lemeshow(n_hits: Floats, n_defects: Floats, chance: Floats) -> float:
    """P of Hosmer and Lemeshow's (1980) test over up to ten groups, five defects each at least.

    (U,) hits, defects and fitted chances, in the order that groups are cut from by rank; what stands in one entry stays
    together. nan with fewer than three groups.
    """
    n = n_defects.sum()
    n_groups = min(10, int(n // 5))
    middle_rank = np.cumsum(n_defects) - n_defects / 2
    group = np.minimum((middle_rank / n * n_groups).astype(int), max(n_groups - 1, 0))
    size = np.bincount(group, n_defects)
    hits, expected = (np.bincount(group, values)[size > 0] for values in (n_hits, n_defects * chance))
    size = size[size > 0]
    if size.size < 3:
        return math.nan
    variance = expected * (1 - expected / size)
    certain = variance < 1e-12  # a steep curve is sure of a whole group, and right: it could not be fitted otherwise
    statistic = ((hits - expected) ** 2 / np.where(certain, np.inf, variance)).sum()
    return float(chdtrc(size.size - 2, statistic))
