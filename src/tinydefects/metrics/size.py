"""Defects by size: the four quartiles of region area, as published (cumulative) and without overlap; rho."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

QUARTILES = ("Q1", "Q2", "Q3", "Q4")


def quartile_areas(areas_px: NDArray[np.int64]) -> tuple[float, float, float]:
    """The 25, 50 and 75 % quantiles of all region areas, linearly interpolated; nan without regions."""
    if not areas_px.size:
        return (float("nan"),) * 3
    first, second, third = np.quantile(areas_px, (0.25, 0.5, 0.75))
    return float(first), float(second), float(third)


def cumulative_quartiles(areas_px: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Membership (n,) of Q1, Q2, Q3, Q4: areas up to the 25, 50, 75 and 100 % quantile; each holds the one before."""
    return [areas_px <= limit for limit in (*quartile_areas(areas_px), np.inf)]


def disjoint_quartiles(areas_px: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Membership (n,) of the quartiles without overlap, smallest first; one may be empty where areas repeat."""
    upto = cumulative_quartiles(areas_px)
    return [upto[0], *(larger & ~smaller for smaller, larger in pairwise(upto))]


def rho(aupro_q1_to_q4: Sequence[float]) -> float:
    """Robustness to size, mean(Q1…Q4) * min(Q1, Q4) / max(Q1, Q4) of the cumulative quartiles, in [0, 1].

    0 when Q1 and Q4 are both 0, whatever their ratio; nan when a quartile is. From a reading of the paper's definition:
    the false-positive limit it is taken at there is not known, so it is reported for each limit.
    """
    q1, q4 = aupro_q1_to_q4[0], aupro_q1_to_q4[-1]
    if max(q1, q4) == 0:
        return 0.0
    return float(np.mean(aupro_q1_to_q4)) * min(q1, q4) / max(q1, q4)
