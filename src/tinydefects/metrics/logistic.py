"""Logistic regression of hits on one number, by maximum likelihood, for one sample or for many weighted ones at once.

Checked against statsmodels in the tests; written out because a thousand resamples are fitted together, and because the
bounds of `hit_miss.py` walk along the contour of the likelihood.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

CUT = 2.705543454095404  # 90 % of chi-square, one degree of freedom (one number is bounded at a time): 5 % on each side
MAX_STEPS = 50

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
