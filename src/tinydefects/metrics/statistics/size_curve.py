"""A per-defect score as a continuous function of defect size: a local mean over neighbours in log diameter.

The mean of `DefectRecord.aupro` over a group is the group's AUPRO, so this is PRO against size without the cuts of
quartiles. Nothing is drawn where fewer than `FEWEST_NEIGHBOURS` defects carry a point.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.statistics.uncertainty import LEVEL, N_RESAMPLES

FEWEST_NEIGHBOURS = 5.0
LEAST_BANDWIDTH = 0.25
N_POINTS = 64

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SizeCurve:
    """Local means at (P,) diameters, smallest first; empty where no point is carried by enough defects.

    Attributes:
        mean: (P,) kernel-weighted mean of the scores of the defects of about this size.
        low, high: (P,) pointwise 95 % percentile interval of resampled images.
        n_defects: (P,) how many equally weighted defects carry the point: (sum w)^2 / sum w^2 (Kish 1965).
        bandwidth_octaves: standard deviation of the Gaussian kernel, in doublings of the diameter.
    """

    diameter_px: Floats
    mean: Floats
    low: Floats
    high: Floats
    n_defects: Floats
    bandwidth_octaves: float


def size_curve(
    diameters_px: Floats, scores: Floats, image_names: Sequence[str], *, n_points: int = N_POINTS, seed: int = 0
) -> SizeCurve:
    """The local mean (Nadaraya 1964, Watson 1964) of (n,) scores over ln(diameter), with its band.

    The band resamples whole images, named by `image_names` (n,): defects of one image stand or fall together.
    """
    octaves = np.log2(diameters_px)
    bandwidth = choose_bandwidth(octaves)
    at = np.linspace(octaves.min(), octaves.max(), n_points) if octaves.size else np.empty(0)
    kernel = np.exp(-0.5 * ((at - octaves[:, None]) / bandwidth) ** 2)  # (n, P)
    n_defects = kernel.sum(axis=0) ** 2 / np.maximum((kernel**2).sum(axis=0), np.finfo(float).tiny)
    carried = n_defects >= FEWEST_NEIGHBOURS
    kernel = kernel[:, carried]
    low, high = _band(kernel, scores, image_names, seed)
    return SizeCurve(
        diameter_px=2.0 ** at[carried],
        mean=scores @ kernel / kernel.sum(axis=0),
        low=low,
        high=high,
        n_defects=n_defects[carried],
        bandwidth_octaves=bandwidth,
    )


def choose_bandwidth(octaves: Floats) -> float:
    """Silverman's (1986, equation 3.31) 0.9 * min(sd, IQR / 1.34) * n^(-1/5), a quarter of an octave at least.

    Below that the areas of small defects, whole numbers of pixels, would show as steps.
    """
    if octaves.size < 2:
        return LEAST_BANDWIDTH
    first, third = np.quantile(octaves, (0.25, 0.75))
    spread = min(float(octaves.std(ddof=1)), float(third - first) / 1.34)
    return max(float(0.9 * spread * octaves.size**-0.2), LEAST_BANDWIDTH)


def _band(kernel: Floats, scores: Floats, image_names: Sequence[str], seed: int) -> tuple[Floats, Floats]:
    """(P,) and (P,) bounds over resampled images; nan with fewer than two images."""
    names, image_of_defect = np.unique(np.asarray(image_names, dtype=str), return_inverse=True)
    if names.size < 2 or not kernel.shape[1]:
        return np.full(kernel.shape[1], np.nan), np.full(kernel.shape[1], np.nan)
    weights = np.random.default_rng(seed).multinomial(names.size, np.full(names.size, 1 / names.size), N_RESAMPLES)
    totals, sums = (_sum_by_image(values, image_of_defect, names.size) for values in (kernel, kernel * scores[:, None]))
    mass = weights @ totals
    means = np.divide(weights @ sums, mass, out=np.full_like(mass, np.nan), where=mass > 0)
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(means, (tail, 1 - tail), axis=0)
    return low, high


def _sum_by_image(values: Floats, image_of_defect: NDArray[np.int64], n_images: int) -> Floats:
    sums = np.zeros((n_images, values.shape[1]))
    np.add.at(sums, image_of_defect, values)
    return sums
