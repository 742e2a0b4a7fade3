"""One Gaussian for all normal patches: Mahalanobis distance, after PaDiM (arXiv 2011.08785).

PaDiM fits a Gaussian for each patch position, which asks for aligned images of one size and for many of them (see
`gaussian_by_position.py`). Here the patches of all positions share one, which suits textures and parts that lie
anywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from tinydefects.methods.moments import mean_and_covariance
from tinydefects.methods.patch_method import Block, chosen_block
from tinydefects.methods.patch_source import Features, TrainingFeatures


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianOptions:
    """Of both kinds of Gaussian.

    Attributes:
        ridge: times the mean variance of the channels, is added to each: PaDiM's 0.01 for features of unit variance.
        per_position: a Gaussian for each patch position, of `channels` channels drawn by chance; `channels` plays no
            part otherwise.
    """

    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    block: Block = "both"
    per_position: bool = False
    channels: Annotated[int, Field(gt=0)] = 100


class GaussianScorer:
    """Keeps the mean and the matrix that makes normal patches white; the score is the length of a whitened patch."""

    def __init__(self, options: GaussianOptions) -> None:
        self._options = options
        self._mean = np.zeros(0, np.float32)
        self._whitening = np.zeros((0, 0), np.float32)  # (C, C)

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options)

    @property
    def size_bytes(self) -> int:
        return self._mean.nbytes + self._whitening.nbytes

    def learn(self, images: TrainingFeatures) -> None:
        mean, covariance = mean_and_covariance(chosen_block(*image, self._options.block) for image in images)
        variances, directions = np.linalg.eigh(covariance)
        ridge = self._options.ridge * (float(variances.mean()) or 1.0)
        self._mean = mean.astype(np.float32)
        self._whitening = (directions / np.sqrt(np.maximum(variances, 0) + ridge)).astype(np.float32)

    def patch_scores(self, earlier: Features, later: Features) -> Features:
        white = (chosen_block(earlier, later, self._options.block) - self._mean) @ self._whitening
        return np.asarray(np.linalg.norm(white, axis=-1), dtype=np.float32)
