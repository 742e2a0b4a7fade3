"""How small and how faint: the probability of detection as a logistic function of the logs of size and contrast.

    POD(a, c) = 1 / (1 + exp(-(intercept + size_slope * ln a + contrast_slope * ln c)))

`hit_miss.py` with one more variable, in the same spirit: maximum likelihood, bounds from the likelihood ratio, defects
as independent trials. At every size and contrast the POD is believed down to the lowest one of all surfaces whose
deviance lies at most `CUT` above the best; a90/95 at a contrast is the size from which on that lowest POD is 90 %.

Contrast is that of the defect records, in units of the noise around a defect. It is measured on the photograph: of a
defect of a few pixels on a rough surface it holds what the surface happens to do there, too.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.special import chdtrc, expit

from tinydefects.errors import SettingsError
from tinydefects.metrics.hit_miss import (
    CUT,
    FEWEST_DEFECTS,
    HANDBOOK_DEFECTS,
    LOG_ODDS_90,
    MAX_STEPS,
    NEAR,
    Floats,
    centre_and_scale,
    hosmer_lemeshow,
)

LEAST_CONTRAST = 0.1  # a tenth of the noise: what is fainter, 0 included, is invisible, and 0 has no logarithm
LEAST_SPAN = 2.0  # of sizes and of contrasts, between the 5th and the 95th percentile: a surface needs both
MOST_AT_ONCE = 1_000_000  # numbers in memory
N_DIRECTIONS = 800  # evenly over the sphere, none more than 0.09 from one: bounds are off by a 250th of their width


@dataclass(frozen=True, slots=True, kw_only=True)
class SurfaceFit:
    """The fitted surface; nan where `remarks` says why.

    Attributes:
        intercept, size_slope, contrast_slope: of the log odds over ln(diameter in px) and ln(contrast).
        deviance: minus twice the log likelihood.
        interaction_p: likelihood-ratio test that size and contrast do not act on each other, one degree of freedom.
        lack_of_fit_p: Hosmer-Lemeshow test over up to ten groups of fitted POD.
    """

    n_defects: int = 0
    n_hits: int = 0
    intercept: float = math.nan
    size_slope: float = math.nan
    contrast_slope: float = math.nan
    deviance: float = math.nan
    interaction_p: float = math.nan
    lack_of_fit_p: float = math.nan
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSizes:
    """Diameters in px found half of the time and nine times in ten at one contrast; nan where none is known."""

    a50_px: float
    a90_px: float
    a90_95_px: float


class PodSurface:
    """POD against size and contrast, fitted to hits and misses.

    Args:
        diameters_px: (n,) above 0.
        contrasts: (n,) at least 0, of bright and dark defects alike; defects without one (nan) are left out, those
            below `LEAST_CONTRAST` count as it.
        hits: (n,) whether each defect was detected.

    Raises:
        SettingsError: diameters or contrasts that are out of these bounds.

    Attributes:
        diameters_px, contrasts, hits: of the defects that were taken, so counted.
        fit: the numbers, and remarks.
    """

    def __init__(self, diameters_px: Floats, contrasts: Floats, hits: NDArray[np.bool_]) -> None:
        if not (np.isfinite(diameters_px) & (diameters_px > 0)).all():
            raise SettingsError("every diameter must be above 0 px and finite")
        if (contrasts < 0).any():
            raise SettingsError(f"the lowest contrast is {np.nanmin(contrasts):g}; give |inside - around|, 0 or more")
        known = np.isfinite(contrasts)
        self.diameters_px, self.hits = diameters_px[known], hits[known]
        self.contrasts = np.maximum(contrasts[known], LEAST_CONTRAST)
        self._scales = (centre_and_scale(self.diameters_px), centre_and_scale(self.contrasts))
        self._best, self._believed = np.full(3, np.nan), np.full((1, 3), np.nan)
        remarks = _counted_remarks(int((~known).sum()), int((contrasts[known] < LEAST_CONTRAST).sum()))
        n_defects, n_hits = int(self.hits.size), int(np.count_nonzero(self.hits))
        design = self._design(self.diameters_px, self.contrasts)
        obstacle = _obstacle(self.diameters_px, self.contrasts, design, self.hits)
        if obstacle:
            self.fit = SurfaceFit(n_defects=n_defects, n_hits=n_hits, remarks=(*remarks, obstacle))
            return
        self._best = _maximise(design, self.hits)
        self._believed = _contour(design, self.hits, self._best)
        (size_centre, size_scale), (contrast_centre, contrast_scale) = self._scales
        size_slope, contrast_slope = float(self._best[1]) / size_scale, float(self._best[2]) / contrast_scale
        self.fit = SurfaceFit(
            n_defects=n_defects,
            n_hits=n_hits,
            intercept=float(self._best[0]) - size_slope * size_centre - contrast_slope * contrast_centre,
            size_slope=size_slope,
            contrast_slope=contrast_slope,
            deviance=float(_deviances(self._best[None], design, self.hits)[0]),
            interaction_p=_interaction_p(design, self.hits, self._best),
            lack_of_fit_p=_lack_of_fit_p(expit(design @ self._best), self.hits),
        )
        self.fit = _with_remarks(self.fit, remarks, believed_slope=float(self._believed[:, 1].min()))

    @property
    def is_fitted(self) -> bool:
        """Whether there is a surface; if not, the remarks say why."""
        return bool(np.isfinite(self._best).all())

    def pod(self, diameters_px: Floats, contrasts: Floats) -> tuple[Floats, Floats]:
        """(C, D) POD at (D,) diameters and (C,) contrasts, and the lowest believed with 95 % confidence; nan unfitted.

        Both are of the model, which says so of sizes and contrasts that nobody has seen, too.
        """
        across, down = np.meshgrid(diameters_px, contrasts)
        where = self._design(across.ravel(), down.ravel())
        low = np.concatenate([(part @ self._believed.T).min(axis=1) for part in np.array_split(where, 32)])
        return expit(where @ self._best).reshape(across.shape), expit(low).reshape(across.shape)

    def sizes_at(self, contrast: float) -> FoundSizes:
        """The sizes found at one contrast; nan outside the contrasts seen, and an octave outside the sizes."""
        least, most = float(self.contrasts.min(initial=np.inf)), float(self.contrasts.max(initial=0.0))
        if not self.is_fitted or not least <= contrast <= most or self._best[1] <= 0:
            return FoundSizes(a50_px=math.nan, a90_px=math.nan, a90_95_px=math.nan)
        (centre, scale), (contrast_centre, contrast_scale) = self._scales
        faint = (math.log(contrast) - contrast_centre) / contrast_scale
        start, slope = self._best[0] + self._best[2] * faint, self._best[1]
        believed = self._believed[:, 0] + self._believed[:, 2] * faint
        never = self._believed[:, 1].min() <= 0
        upper = math.inf if never else float(((LOG_ODDS_90 - believed) / self._believed[:, 1]).max())
        with np.errstate(over="ignore"):  # a surface that hardly rises
            sizes = [
                _within(float(np.exp(np.float64(centre + scale * size))), self.diameters_px)
                for size in (-start / slope, (LOG_ODDS_90 - start) / slope, upper)
            ]
        return FoundSizes(a50_px=sizes[0], a90_px=sizes[1], a90_95_px=sizes[2])

    def _design(self, diameters_px: Floats, contrasts: Floats) -> Floats:
        """(n, 3): one, and the logs of size and contrast, centred and scaled so that steps behave."""
        pairs = zip((diameters_px, contrasts), self._scales, strict=True)
        logs = [(np.log(value) - centre) / scale for value, (centre, scale) in pairs]
        return np.stack([np.ones(diameters_px.size), *logs], axis=1)


def spans_both(diameters_px: Floats, contrasts: Floats) -> bool:
    """Whether defects differ enough in size and in contrast for a surface to say something."""
    known = np.isfinite(contrasts)
    if np.count_nonzero(known) < FEWEST_DEFECTS:
        return False
    parts = (diameters_px[known], np.maximum(contrasts[known], LEAST_CONTRAST))
    return all(float(np.quantile(part, 0.95)) >= LEAST_SPAN * float(np.quantile(part, 0.05)) for part in parts)


def _within(diameter_px: float, seen: Floats) -> float:
    return diameter_px if float(seen.min()) / NEAR <= diameter_px <= float(seen.max()) * NEAR else math.nan


def _counted_remarks(n_unknown: int, n_invisible: int) -> tuple[str, ...]:
    unknown = f"{n_unknown} without a contrast left out"
    invisible = f"{n_invisible} of a contrast below {LEAST_CONTRAST:g} counted as {LEAST_CONTRAST:g}"
    return tuple(text for text, count in ((unknown, n_unknown), (invisible, n_invisible)) if count)


def _obstacle(diameters_px: Floats, contrasts: Floats, design: Floats, hits: NDArray[np.bool_]) -> str:
    """Why no surface can be fitted, empty when one can."""
    n, n_hits = hits.size, int(np.count_nonzero(hits))
    if n < FEWEST_DEFECTS:
        return f"only {n} defects with a contrast: fewer than {FEWEST_DEFECTS} say nothing about size and contrast"
    if n_hits in {0, n}:
        return f"{'all' if n_hits else 'none'} of {n} defects detected: the limit lies outside what was shown"
    if np.linalg.matrix_rank(design, tol=1e-6) < 3:
        what = "one size" if diameters_px.min() == diameters_px.max() else "one contrast"
        same = diameters_px.min() == diameters_px.max() or contrasts.min() == contrasts.max()
        return f"all defects have {what}" if same else "size and contrast go hand in hand: they cannot be told apart"
    if _is_separated(design, hits):
        return "a straight line parts hits from misses: the surface is a step, and its slope has no maximum"
    return ""


def _is_separated(design: Floats, hits: NDArray[np.bool_]) -> bool:
    """Whether a plane divides hits from misses, ties allowed: the likelihood then grows without end (Konis 2007)."""
    signed = np.where(hits, 1.0, -1.0)[:, None] * design
    found = linprog(-signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(hits.size), bounds=[(-1, 1)] * design.shape[1])
    return bool(-found.fun > 1e-7)


def _deviances(coefficients: Floats, design: Floats, hits: NDArray[np.bool_]) -> Floats:
    """(A,) of (A, k) coefficients."""
    odds = coefficients @ design.T
    return np.asarray(2 * (np.logaddexp(0, odds) - hits * odds).sum(axis=1))


def _information(design: Floats, chance: Floats) -> Floats:
    """(k, k) Fisher information of the coefficients where defects are found with these (n,) chances."""
    return np.asarray((design * (chance * (1 - chance))[:, None]).T @ design)


def _maximise(design: Floats, hits: NDArray[np.bool_]) -> Floats:
    """(k,) of the highest likelihood: Newton's method, each step halved until the likelihood does not fall."""
    best = np.zeros(design.shape[1])
    deviance = _deviances(best[None], design, hits)[0]
    for _ in range(MAX_STEPS):
        chance = expit(design @ best)
        step = np.linalg.lstsq(_information(design, chance), design.T @ (hits - chance), rcond=None)[0]
        tried = _deviances((best + step)[None], design, hits)[0]
        for _ in range(MAX_STEPS):
            if tried <= deviance * (1 + 1e-12) + 1e-12:
                break
            step /= 2
            tried = _deviances((best + step)[None], design, hits)[0]
        best, deviance = best + step, tried
        if np.abs(step).max() < 1e-9 * (1 + np.abs(best).max()):
            break
    return best


def _contour(design: Floats, hits: NDArray[np.bool_], best: Floats) -> Floats:
    """(A, 3) coefficients whose deviance is `CUT` above the best, in directions spread over the sphere.

    The deviance is convex, so that Newton's steps along a ray reach the one place where it passes the cut.
    """
    rays = _directions() @ np.linalg.inv(np.linalg.cholesky(_information(design, expit(design @ best))))
    n_parts = math.ceil(rays.shape[0] * hits.size / MOST_AT_ONCE)
    return np.concatenate([best + _passing(part, design, hits, best) * part for part in np.array_split(rays, n_parts)])


def _passing(rays: Floats, design: Floats, hits: NDArray[np.bool_], best: Floats) -> Floats:
    """(A, 1) how far along each of (A, 3) rays the deviance passes the cut."""
    along, odds = rays @ design.T, design @ best
    lowest = _deviances(best[None], design, hits)[0]
    radius = np.full(len(rays), math.sqrt(CUT))
    for _ in range(MAX_STEPS):
        there = odds + radius[:, None] * along
        shrunk = np.exp(-np.abs(there))  # of which both the deviance and its slope are made
        excess = 2 * (np.log1p(shrunk) + np.maximum(there, 0) - hits * there).sum(axis=1) - lowest - CUT
        chance = np.where(there > 0, 1, shrunk) / (1 + shrunk)
        step = excess / (2 * (along * (chance - hits)).sum(axis=1))
        radius -= step
        if np.abs(step).max() < 1e-5:  # the next one would be about its square
            break
    return np.asarray(radius[:, None])


def _directions() -> Floats:
    """(N_DIRECTIONS, 3) unit vectors, evenly spread: a spiral from pole to pole in golden angles."""
    number = np.arange(N_DIRECTIONS) + 0.5
    height, turn = 1 - 2 * number / N_DIRECTIONS, np.pi * (1 + math.sqrt(5)) * number
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)


def _interaction_p(design: Floats, hits: NDArray[np.bool_], best: Floats) -> float:
    """Likelihood-ratio test of a product term; nan where it would separate hits from misses."""
    wider = np.column_stack([design, design[:, 1] * design[:, 2]])
    if np.linalg.matrix_rank(wider, tol=1e-6) < 4 or _is_separated(wider, hits):
        return math.nan
    gain = _deviances(best[None], design, hits)[0] - _deviances(_maximise(wider, hits)[None], wider, hits)[0]
    return float(chdtrc(1, max(float(gain), 0.0)))


def _lack_of_fit_p(chance: Floats, hits: NDArray[np.bool_]) -> float:
    order = np.argsort(chance, kind="stable")
    return hosmer_lemeshow(hits[order].astype(float), np.ones(hits.size), chance[order])


def _with_remarks(fit: SurfaceFit, before: tuple[str, ...], *, believed_slope: float) -> SurfaceFit:
    """The fit with what a reader of its contours should know."""
    remarks = list(before)
    if fit.size_slope <= 0:
        remarks.append("at equal contrast larger defects are not detected more often: no size has a known POD")
    elif believed_slope <= 0:
        remarks.append("a90/95 is never reached: at equal contrast size hardly explains detection")
    if fit.contrast_slope <= 0:
        remarks.append("at equal size fainter defects are not detected less often")
    if fit.interaction_p < 0.05:
        remarks.append(f"size and contrast act on each other (p = {fit.interaction_p:.2g}): true contours are no lines")
    if fit.lack_of_fit_p < 0.05:
        remarks.append(f"a logistic surface fits badly (Hosmer-Lemeshow p = {fit.lack_of_fit_p:.2g})")
    if fit.n_defects < HANDBOOK_DEFECTS:
        remarks.append(f"{fit.n_defects} defects; the handbook asks for {HANDBOOK_DEFECTS} for size alone")
    return replace(fit, remarks=tuple(remarks))
