"""PatchCore (arXiv 2106.08265): distance to the nearest normal patch in a thinned memory bank.

As in the paper, a patch is described by the mean of its 3 x 3 neighbourhood in two blocks side by side. Other than in
the paper the bank is bounded: the coreset is chosen from at most `candidates` patches drawn by chance, and holds at
most `largest_bank`; and the image score is the one that all methods share, without the paper's reweighting.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from tinydefects.detector.coreset import greedy_coreset
from tinydefects.methods.neighbours import NearestNeighbours
from tinydefects.methods.patch_method import Block, chosen_block
from tinydefects.methods.patch_source import Features, TrainingFeatures


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCoreOptions:
    """`coreset` is the share of the patches that the bank keeps, `k` the neighbours whose distances are averaged."""

    coreset: Annotated[float, Field(gt=0, le=1)] = 0.1
    candidates: Annotated[int, Field(gt=0)] = 100_000
    largest_bank: Annotated[int, Field(gt=0)] = 10_000
    k: Annotated[int, Field(gt=0)] = 1
    block: Block = "both"
    neighbourhood: Annotated[int, Field(gt=0)] = 3


class PatchCoreScorer:
    """The bank and the way to ask it; `approximate` walks a graph (HNSW) instead of looking at every vector."""

    def __init__(self, options: PatchCoreOptions, *, seed: int, approximate: bool = False) -> None:
        self._options = options
        self._seed = seed
        self._approximate = approximate
        self._bank: NearestNeighbours | None = None

    @property
    def settings(self) -> Mapping[str, object]:
        n_vectors = self._bank.n_vectors if self._bank else 0
        return asdict(self._options) | {"approximate": self._approximate, "seed": self._seed, "n_vectors": n_vectors}

    @property
    def size_bytes(self) -> int:
        return self._bank.size_bytes if self._bank else 0

    def learn(self, images: TrainingFeatures) -> None:
        options, generator = self._options, np.random.default_rng(self._seed)
        kept = sample_patches(images, options.candidates, generator)
        candidates, first = [], 0
        for earlier, later in images:
            patches = self._described(earlier[None], later[None])[0].reshape(earlier.shape[0] * earlier.shape[1], -1)
            from_here = kept[np.searchsorted(kept, first) : np.searchsorted(kept, first + len(patches))]
            candidates.append(patches[from_here - first])
            first += len(patches)
        vectors = np.concatenate(candidates)
        size = min(max(1, round(options.coreset * images.n_patches)), options.largest_bank)
        chosen = vectors if size >= len(vectors) else vectors[greedy_coreset(vectors, size, generator)]
        self._bank = NearestNeighbours(chosen, approximate=self._approximate)

    def patch_scores(self, earlier: Features, later: Features) -> Features:
        assert self._bank is not None, "fit comes before predict"
        squared = self._bank.squared_distances(self._described(earlier, later), k=self._options.k)
        return np.asarray(np.sqrt(squared).mean(axis=-1), dtype=np.float32)

    def _described(self, earlier: Features, later: Features) -> Features:
        """Features (B, h, w, C) of the chosen block, each the mean of its neighbourhood; the border repeats."""
        features = chosen_block(earlier, later, self._options.block)
        for axis in (1, 2):
            features = ndimage.uniform_filter1d(features, self._options.neighbourhood, axis=axis, mode="nearest")
        return features


def sample_patches(images: TrainingFeatures, n_most: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Which patches to keep when they are counted through all images: all, or `n_most` by chance, in their order."""
    n_patches = images.n_patches
    if n_patches <= n_most:
        return np.arange(n_patches)
    return np.sort(generator.choice(n_patches, n_most, replace=False, shuffle=False))
