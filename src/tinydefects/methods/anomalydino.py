"""AnomalyDINO (arXiv 2405.14529): cosine distance to the nearest patch of a few normal images.

All patches of `n_shot` training images chosen by chance, unthinned, from the last block. The paper's rotated copies and
its foreground mask are left out, and the image score is the one that all methods share instead of the mean of the
highest 1 % of the patches.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from tinydefects.methods.neighbours import NearestNeighbours
from tinydefects.methods.patch_method import Block, chosen_block, unit_length
from tinydefects.methods.patch_source import Features, TrainingFeatures


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyDinoOptions:
    """Training images that are remembered (all if there are fewer), neighbours averaged, features read."""

    n_shot: Annotated[int, Field(gt=0)] = 16
    k: Annotated[int, Field(gt=0)] = 1
    block: Block = "later"


class AnomalyDinoScorer:
    """Every patch of the chosen images, at unit length."""

    def __init__(self, options: AnomalyDinoOptions, *, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._bank: NearestNeighbours | None = None

    @property
    def settings(self) -> Mapping[str, object]:
        n_vectors = self._bank.n_vectors if self._bank else 0
        return asdict(self._options) | {"seed": self._seed, "n_vectors": n_vectors}

    @property
    def size_bytes(self) -> int:
        return self._bank.size_bytes if self._bank else 0

    def learn(self, images: TrainingFeatures) -> None:
        n_shot = min(self._options.n_shot, len(images))
        shown = np.random.default_rng(self._seed).choice(len(images), n_shot, replace=False).tolist()
        patches = [self._described(*images[place]) for place in sorted(shown)]
        self._bank = NearestNeighbours(np.concatenate([one.reshape(-1, one.shape[-1]) for one in patches]))

    def patch_scores(self, earlier: Features, later: Features) -> Features:
        assert self._bank is not None, "fit comes before predict"
        squared = self._bank.squared_distances(self._described(earlier, later), k=self._options.k)
        return np.asarray(squared.mean(axis=-1) / 2, dtype=np.float32)  # of unit vectors: 1 - cosine

    def _described(self, earlier: Features, later: Features) -> Features:
        return unit_length(chosen_block(earlier, later, self._options.block))
