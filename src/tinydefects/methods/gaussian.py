"""Gaussians of normal patches: Mahalanobis distance, after PaDiM (arXiv 2011.08785).

PaDiM fits a Gaussian for each patch position, which asks for aligned images of one size and for many of them:
`PositionGaussianScorer`. As in the paper it keeps a random choice of channels, since a covariance matrix is stored for
each position; the choice is the same for every seed, so that one run is enough. For `GaussianScorer` the patches of all
positions share one Gaussian, which suits textures and parts that lie anywhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic_core import PydanticCustomError

from tinydefects.errors import TinyDefectsError, TrainingError
from tinydefects.methods.patches import Block, Features, TrainingFeatures, chosen_block

Moments = NDArray[np.float64]
CHANNELS = 100  # kept at each position; PaDiM's with its smallest network


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianOptions:
    """Of both kinds of Gaussian.

    Attributes:
        ridge: times the mean variance of the channels, is added to each: PaDiM's 0.01 for features of unit variance.
        per_position: a Gaussian for each patch position, of `channels` channels drawn by chance; otherwise all count.
            While it learns, each position takes 12 bytes for every pair of channels: 2 GB for 130 x 130 patches.
    """

    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    block: Block = "both"
    per_position: bool = False
    channels: Annotated[int, Field(gt=0)] = CHANNELS

    def __post_init__(self) -> None:
        if not self.per_position and self.channels != CHANNELS:
            raise PydanticCustomError("channels", "channels are those of per_position=true: give it, or leave them out")


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
        mean, covariance = mean_and_covariance(chosen_block(image, self._options.block) for image in images)
        variances, directions = np.linalg.eigh(covariance)
        ridge = self._options.ridge * (float(variances.mean()) or 1.0)
        self._mean = mean.astype(np.float32)
        self._whitening = (directions / np.sqrt(np.maximum(variances, 0) + ridge)).astype(np.float32)

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        white = (chosen_block(blocks, self._options.block) - self._mean) @ self._whitening
        return np.asarray(np.linalg.norm(white, axis=-1), dtype=np.float32)


class PositionGaussianScorer:
    """Keeps the mean (h, w, c) and the inverse covariance (h, w, c, c) of the kept channels."""

    def __init__(self, options: GaussianOptions) -> None:
        self._options = options
        self._kept = np.zeros(0, np.intp)
        self._mean = np.zeros((0, 0, 0), np.float32)
        self._precision: Features = np.zeros((0, 0, 0, 0), np.float32)

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options)

    @property
    def size_bytes(self) -> int:
        return self._kept.nbytes + self._mean.nbytes + self._precision.nbytes

    def learn(self, images: TrainingFeatures) -> None:
        *shape, dim = chosen_block(images[0], self._options.block).shape
        n_kept = min(self._options.channels, dim)
        self._kept = np.sort(np.random.default_rng(0).choice(dim, n_kept, replace=False))
        total, products = np.zeros((*shape, n_kept)), np.zeros((*shape, n_kept, n_kept))
        for image in images:
            features = self._described(image).astype(np.float64)
            if features.shape != total.shape:
                raise TrainingError(
                    f"per_position=true compares the same place of aligned images, but these are {tuple(shape)} and "
                    f"{features.shape[:2]} patches; leave per_position out"
                )
            total += features
            for row, patches in enumerate(features):
                products[row] += patches[:, :, None] * patches[:, None, :]
        mean = total / len(images)
        variance = float((np.einsum("...cc->...c", products) / len(images) - mean**2).mean())
        ridge = self._options.ridge * (variance if variance > 0 else 1.0) * np.eye(n_kept)
        self._mean = mean.astype(np.float32)
        self._precision = np.empty(products.shape, np.float32)
        for row, centre in enumerate(mean):  # as large as all this is, it is held no more often than it must
            covariance = products[row] / len(images) - centre[:, :, None] * centre[:, None, :] + ridge
            self._precision[row] = np.linalg.inv(covariance)

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        features = self._described(blocks)
        if features.shape[1:3] != self._mean.shape[:2]:
            raise TinyDefectsError(
                f"per_position=true learnt images of {self._mean.shape[:2]} patches, this one has "
                f"{features.shape[1:3]}; leave per_position out"
            )
        centred = features - self._mean
        squared = ((centred[..., None, :] @ self._precision)[..., 0, :] * centred).sum(axis=-1)
        return np.asarray(np.sqrt(np.maximum(squared, 0)), dtype=np.float32)

    def _described(self, blocks: Sequence[Features]) -> Features:
        return chosen_block(blocks, self._options.block)[..., self._kept]


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
