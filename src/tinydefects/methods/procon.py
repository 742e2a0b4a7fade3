"""ProCon (arXiv 2607.04894): how far a patch lies from what a few normal patches nearest to it can make up together.

A patch is projected softly on its k nearest neighbours in a bank: their mean, weighted by exp(-d² / t), where t is the
median of all d² of its image; the score is the length of what is left over. With `banks`, thinned from other starting
points, the median over them counts; with `bank_per_block`, each block has banks of its own and the mean over the blocks
counts. With k=1 the projection is the nearest neighbour itself, so that the steps of the paper's ablation are
`k=1:banks=1:bank_per_block=false`, `k=1:bank_per_block=false`, `bank_per_block=false` and no option at all.

As published: blocks at unit length, projected to 512 random channels, 1 % of the patches in a bank. Other than
published: the blocks are those of the teacher unless named (`blocks=3-4-6-9` are the paper's, of ViT-B/14), the coreset
is bounded as PatchCore's is here, t is taken from all patches instead of 512, and the image score is the one that all
methods share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Annotated

import numpy as np
from pydantic import Field

from tinydefects.detector.features import greedy_coreset
from tinydefects.methods.memory_bank import NearestNeighbours, sample_described
from tinydefects.methods.patches import Features, TrainingFeatures, unit_length

SMALLEST_TEMPERATURE = 1e-8  # where all neighbours are equal to their patches


@dataclass(frozen=True, slots=True, kw_only=True)
class ProConOptions:
    """`coreset`, `candidates` and `largest_bank` as for PatchCore, for each of the `banks`; `channels` are kept."""

    coreset: Annotated[float, Field(gt=0, le=1)] = 0.01
    candidates: Annotated[int, Field(gt=0)] = 100_000
    largest_bank: Annotated[int, Field(gt=0)] = 10_000
    banks: Annotated[int, Field(gt=0, le=100)] = 5
    k: Annotated[int, Field(gt=0)] = 5
    bank_per_block: bool = True
    channels: Annotated[int, Field(gt=0)] = 512


class ProConScorer:
    """Keeps `banks` banks for each block, or for all blocks side by side."""

    def __init__(self, options: ProConOptions, *, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._banks: list[list[NearestNeighbours]] = []

    @property
    def settings(self) -> Mapping[str, object]:
        n_vectors = sum(bank.n_vectors for banks in self._banks for bank in banks)
        return asdict(self._options) | {"seed": self._seed, "n_vectors": n_vectors}

    @property
    def size_bytes(self) -> int:
        return sum(bank.size_bytes for banks in self._banks for bank in banks)

    def learn(self, images: TrainingFeatures) -> None:
        options, generator = self._options, np.random.default_rng(self._seed)
        size = min(max(1, round(options.coreset * images.n_patches)), options.largest_bank)
        self._banks = []
        for place in range(len(images[0]) if options.bank_per_block else 1):
            vectors = sample_described(images, partial(self._described, place=place), options.candidates, generator)
            thinned = (vectors[greedy_coreset(vectors, size, generator)] for _ in range(options.banks))
            self._banks.append([NearestNeighbours(bank) for bank in thinned])

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        assert self._banks, "fit comes before predict"
        by_block = []
        for place, banks in enumerate(self._banks):
            described = self._described(blocks, place=place)
            residuals = [projection_residual(described, bank, k=self._options.k) for bank in banks]
            by_block.append(np.median(residuals, axis=0))
        return np.asarray(np.mean(by_block, axis=0), dtype=np.float32)

    def _described(self, blocks: Sequence[Features], *, place: int) -> Features:
        """Features (B, h, w, C) of the block at `place`, or of all side by side; if C is large, in random channels."""
        chosen = blocks[place : place + 1] if self._options.bank_per_block else blocks
        features = np.concatenate([unit_length(block) for block in chosen], axis=-1)
        dim, n_kept = features.shape[-1], self._options.channels
        if dim <= n_kept:
            return features
        return np.asarray(features @ random_channels(dim, n_kept, place), dtype=np.float32)


@cache
def random_channels(dim: int, n_kept: int, place: int) -> Features:
    """(dim, n_kept) that about keeps distances, the same for every seed and every bank."""
    directions = np.random.default_rng(place).standard_normal((dim, n_kept), dtype=np.float32)
    return np.asarray(directions / np.float32(n_kept**0.5))


def projection_residual(features: Features, bank: NearestNeighbours, *, k: int) -> Features:
    """Distance (B, h, w) of features (B, h, w, C) to their soft projections on k neighbours of the bank."""
    squared, neighbours = bank.nearest(features, k=k)
    temperature = np.maximum(np.median(squared, axis=(1, 2, 3), keepdims=True), SMALLEST_TEMPERATURE)
    weights = np.exp((squared[..., :1] - squared) / temperature)  # the nearest weighs 1, so that none overflows
    weights /= weights.sum(axis=-1, keepdims=True)
    projected = (weights[..., None, :] @ neighbours)[..., 0, :]
    return np.asarray(np.linalg.norm(features - projected, axis=-1), dtype=np.float32)
