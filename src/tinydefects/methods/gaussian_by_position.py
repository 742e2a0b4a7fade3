"""One Gaussian for each patch position: Mahalanobis distance as in PaDiM (arXiv 2011.08785), for aligned parts.

As in the paper a random choice of channels is kept, since a covariance matrix is stored for each position. The choice
is the same for every seed, so that one run is enough.
"""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from tinydefects.errors import TinyDefectsError, TrainingError
from tinydefects.methods.gaussian import GaussianOptions
from tinydefects.methods.patch_method import chosen_block
from tinydefects.methods.patch_source import Features, TrainingFeatures


class PositionGaussianScorer:
    """Keeps the mean (h, w, c) and the inverse covariance (h, w, c, c) of the kept channels."""

    def __init__(self, options: GaussianOptions) -> None:
        self._options = options
        self._kept = np.zeros(0, np.intp)
        self._mean = np.zeros((0, 0, 0), np.float32)
        self._precision = np.zeros((0, 0, 0, 0), np.float32)

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options)

    @property
    def size_bytes(self) -> int:
        return self._kept.nbytes + self._mean.nbytes + self._precision.nbytes

    def learn(self, images: TrainingFeatures) -> None:
        dim = chosen_block(*images[0], self._options.block).shape[-1]
        n_kept = min(self._options.channels, dim)
        self._kept = np.sort(np.random.default_rng(0).choice(dim, n_kept, replace=False))
        shape = images[0][0].shape[:2]
        total, products = np.zeros((*shape, n_kept)), np.zeros((*shape, n_kept, n_kept))
        for earlier, later in images:
            if earlier.shape[:2] != shape:
                raise TrainingError(
                    f"per_position=true compares the same place of aligned images, but these are {shape} and "
                    f"{earlier.shape[:2]} patches; leave it out"
                )
            features = self._described(earlier, later).astype(np.float64)
            total += features
            products += features[..., :, None] * features[..., None, :]
        mean = total / len(images)
        covariance = products / len(images) - mean[..., :, None] * mean[..., None, :]
        variance = float(np.trace(covariance, axis1=-2, axis2=-1).mean()) / n_kept
        covariance += self._options.ridge * (variance if variance > 0 else 1.0) * np.eye(n_kept)
        self._mean = mean.astype(np.float32)
        self._precision = np.linalg.inv(covariance).astype(np.float32)

    def patch_scores(self, earlier: Features, later: Features) -> Features:
        if earlier.shape[1:3] != self._mean.shape[:2]:
            raise TinyDefectsError(
                f"per_position=true learnt images of {self._mean.shape[:2]} patches, this one has "
                f"{earlier.shape[1:3]}; leave it out"
            )
        centred = self._described(earlier, later) - self._mean
        squared = ((centred[..., None, :] @ self._precision)[..., 0, :] * centred).sum(axis=-1)
        return np.asarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)

    def _described(self, earlier: Features, later: Features) -> Features:
        return chosen_block(earlier, later, self._options.block)[..., self._kept]
