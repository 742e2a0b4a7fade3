"""Mahalanobis PatchCore (arXiv 2605.27748): nearest neighbours where normal patches vary by one in all directions.

Patches are described as PatchCore's, reduced to the main directions that explain 99 % of their variance, and divided by
their spread in each, so that distance between them is Mahalanobis distance. As published, the covariance is shrunk by
0.07 and the bank of at most 1,000 vectors is built image by image: each gives a coreset of 256, and the bank is thinned
again whenever it has grown too large, so that all patches are never in memory at once. Nothing is left to chance.

Other than published: directions and covariance, diagonal in them, come from one exact pass instead of incremental PCA
and a second pass; images are merged into the bank one after another; coresets start by one fixed seed; the pooling of
channels is left out, and the image score is the one that all methods share, without reweighting by neighbours. The
covariance is shrunk towards the mean variance, a usual choice: what is known of the method here does not name it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from tinydefects.detector.features import greedy_coreset
from tinydefects.methods.gaussian import mean_and_covariance
from tinydefects.methods.memory_bank import NearestNeighbours, neighbourhood_mean
from tinydefects.methods.patches import Block, Features, TrainingFeatures, chosen_block


@dataclass(frozen=True, slots=True, kw_only=True)
class WhitenedBankOptions:
    """`shrinkage` is the share of the mean variance in that of each direction, `image_coreset` vectors an image."""

    variance: Annotated[float, Field(gt=0, lt=1)] = 0.99
    shrinkage: Annotated[float, Field(ge=0, le=1)] = 0.07
    largest_bank: Annotated[int, Field(gt=0)] = 1000
    image_coreset: Annotated[int, Field(gt=0)] = 256
    block: Block = "both"
    neighbourhood: Annotated[int, Field(gt=0)] = 3


class WhitenedBankScorer:
    """Keeps mean, whitening directions and the bank; the score is the distance to its nearest vector."""

    def __init__(self, options: WhitenedBankOptions) -> None:
        self._options = options
        self._mean = np.zeros(0, np.float32)
        self._whitening = np.zeros((0, 0), np.float32)  # (C, k), orthogonal columns
        self._bank: NearestNeighbours | None = None

    @property
    def settings(self) -> Mapping[str, object]:
        n_vectors = self._bank.n_vectors if self._bank else 0
        return asdict(self._options) | {"n_directions": self._whitening.shape[1], "n_vectors": n_vectors}

    @property
    def size_bytes(self) -> int:
        return self._mean.nbytes + self._whitening.nbytes + (self._bank.size_bytes if self._bank else 0)

    def learn(self, images: TrainingFeatures) -> None:
        options, generator = self._options, np.random.default_rng(0)
        mean, covariance = mean_and_covariance(self._described([block[None] for block in image]) for image in images)
        variances, directions = (part[..., ::-1] for part in np.linalg.eigh(covariance))
        explained = np.cumsum(variances) / max(variances.sum(), np.finfo(float).tiny)
        n_kept = min(int(np.searchsorted(explained, options.variance)) + 1, len(mean))
        kept = np.maximum(variances[:n_kept], 0)
        shrunk = (1 - options.shrinkage) * kept + options.shrinkage * kept.mean()
        spread = np.sqrt(np.where(shrunk > 0, shrunk, 1))
        self._mean = mean.astype(np.float32)
        self._whitening = np.ascontiguousarray(directions[:, :n_kept] / spread, dtype=np.float32)
        bank = np.zeros((0, n_kept), np.float32)
        for image in images:
            patches = self._white([block[None] for block in image]).reshape(-1, n_kept)
            bank = np.concatenate([bank, _thinned(patches, options.image_coreset, generator)])
            bank = _thinned(bank, options.largest_bank, generator)
        self._bank = NearestNeighbours(bank)

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        assert self._bank is not None, "fit comes before predict"
        return np.sqrt(self._bank.squared_distances(self._white(blocks))[..., 0])

    def _described(self, blocks: Sequence[Features]) -> Features:
        return neighbourhood_mean(chosen_block(blocks, self._options.block), self._options.neighbourhood)

    def _white(self, blocks: Sequence[Features]) -> Features:
        """Features (B, h, w, C) of each block to whitened descriptions (B, h, w, k)."""
        return np.asarray((self._described(blocks) - self._mean) @ self._whitening, dtype=np.float32)


def _thinned(vectors: Features, size: int, generator: np.random.Generator) -> Features:
    """The vectors (N, C), or a coreset of `size` of them."""
    return vectors if len(vectors) <= size else vectors[greedy_coreset(vectors, size, generator)]
