"""Mean and covariance of patches, added up image by image."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tinydefects.methods.patch_source import Features

Moments = NDArray[np.float64]


def mean_and_covariance(images: Iterable[Features]) -> tuple[Moments, Moments]:
    """Mean (C,) and covariance (C, C), divided by the number of patches, of features (h, w, C); one image in memory.

    Summed in float64 around the mean of the first image, so that nothing cancels.
    """
    n, origin = 0, np.zeros(0)
    total, products = np.zeros(0), np.zeros((0, 0))
    for features in images:
        patches = features.reshape(-1, features.shape[-1]).astype(np.float64)
        if not n:
            origin = patches.mean(axis=0)
            total, products = np.zeros_like(origin), np.zeros((len(origin), len(origin)))
        patches -= origin
        total += patches.sum(axis=0)
        products += patches.T @ patches
        n += len(patches)
    shift = total / n
    return origin + shift, products / n - np.outer(shift, shift)
