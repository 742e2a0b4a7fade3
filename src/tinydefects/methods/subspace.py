"""PCA residual: what of a patch lies outside the subspace that the patches of defect-free images span.

As in SubspaceAD (2026), one subspace for all positions and images, so that nothing has to be aligned. The number of
directions follows from a share of the variance of the training patches alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from tinydefects.methods.gaussian import mean_and_covariance
from tinydefects.methods.patches import Block, Features, TrainingFeatures, chosen_block


@dataclass(frozen=True, slots=True, kw_only=True)
class SubspaceOptions:
    """Share of the variance of normal patches that the subspace explains, and which features are read."""

    variance: Annotated[float, Field(gt=0, lt=1)] = 0.99
    block: Block = "both"


class SubspaceScorer:
    """Keeps the mean and the directions of largest variance; the score is the length of what they leave over."""

    def __init__(self, options: SubspaceOptions) -> None:
        self._options = options
        self._mean = np.zeros(0, np.float32)
        self._directions = np.zeros((0, 0), np.float32)  # (C, k), orthonormal columns

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options) | {"n_directions": self._directions.shape[1]}

    @property
    def size_bytes(self) -> int:
        return self._mean.nbytes + self._directions.nbytes

    def learn(self, images: TrainingFeatures) -> None:
        mean, covariance = mean_and_covariance(chosen_block(image, self._options.block) for image in images)
        variances, directions = np.linalg.eigh(covariance)  # ascending
        explained = np.cumsum(variances[::-1]) / max(variances.sum(), np.finfo(float).tiny)
        n_directions = min(int(np.searchsorted(explained, self._options.variance)) + 1, len(mean) - 1)
        self._mean = mean.astype(np.float32)
        self._directions = directions[:, ::-1][:, :n_directions].astype(np.float32)

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        centred = chosen_block(blocks, self._options.block) - self._mean
        residual = centred - (centred @ self._directions) @ self._directions.T
        return np.asarray(np.linalg.norm(residual, axis=-1), dtype=np.float32)
