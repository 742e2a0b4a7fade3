"""Memory banks: distance to the nearest patch of normal images, exact or approximate, by faiss.

PatchCore (arXiv 2106.08265) thins its bank. As in the paper, a patch is described by the mean of its 3 x 3
neighbourhood in two blocks side by side. Other than in the paper the bank is bounded: the coreset is chosen from at
most `candidates` patches drawn by chance, and holds at most `largest_bank`.

AnomalyDINO (arXiv 2405.14529) remembers a few images: all patches of `n_shot` training images chosen by chance,
unthinned, from the last block, compared by cosine. The paper's rotated copies and its foreground mask are left out.

The image score of both is the one that all methods share, without PatchCore's reweighting and instead of AnomalyDINO's
mean of the highest 1 % of the patches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from tinydefects.detector.features import greedy_coreset
from tinydefects.errors import MissingExtraError
from tinydefects.methods.patches import Block, Features, TrainingFeatures, chosen_block, unit_length

Describe = Callable[[Sequence[Features]], Features]
HNSW_LINKS = 32  # neighbours of each vector in the graph; with the depths below, faiss's usual middle way
HNSW_BUILD_DEPTH, HNSW_SEARCH_DEPTH = 64, 64


class NearestNeighbours:
    """A bank of vectors (N, C) that answers how far others are from it, in squared Euclidean distance.

    Raises:
        MissingExtraError: faiss is not installed.
    """

    def __init__(self, bank: Features, *, approximate: bool = False) -> None:
        faiss = _load_faiss()
        dim = bank.shape[1]
        self._index: Any = faiss.IndexHNSWFlat(dim, HNSW_LINKS) if approximate else faiss.IndexFlatL2(dim)
        if approximate:
            self._index.hnsw.efConstruction = HNSW_BUILD_DEPTH
            self._index.hnsw.efSearch = HNSW_SEARCH_DEPTH
        n_threads = torch.get_num_threads()
        faiss.omp_set_num_threads(1)  # a graph built by several threads differs from run to run
        self._index.add(np.ascontiguousarray(bank, dtype=np.float32))
        faiss.omp_set_num_threads(n_threads)
        torch.set_num_threads(n_threads)  # where both share one OpenMP, it has been told of one thread, too
        self.size_bytes = int(faiss.serialize_index(self._index).nbytes)
        self.n_vectors = len(bank)

    def squared_distances(self, features: Features, *, k: int = 1) -> Features:
        """For vectors (..., C) the squared distances (..., k) to the k nearest, the nearest first."""
        _load_faiss()
        squared, _ = self._index.search(_flat(features), min(k, self.n_vectors))
        # Rounding takes the distance between equal vectors a little below zero.
        return np.asarray(np.maximum(squared, 0).reshape(*features.shape[:-1], -1))

    def nearest(self, features: Features, *, k: int) -> tuple[Features, Features]:
        """As `squared_distances`, and the k nearest vectors themselves, (..., k, C)."""
        _load_faiss()
        k = min(k, self.n_vectors)
        squared, _, vectors = self._index.search_and_reconstruct(_flat(features), k)
        leading = features.shape[:-1]
        return np.maximum(squared, 0).reshape(*leading, k), vectors.reshape(*leading, k, -1)


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
        vectors = sample_described(images, self._described, options.candidates, generator)
        size = min(max(1, round(options.coreset * images.n_patches)), options.largest_bank)
        chosen = vectors if size >= len(vectors) else vectors[greedy_coreset(vectors, size, generator)]
        self._bank = NearestNeighbours(chosen, approximate=self._approximate)

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        assert self._bank is not None, "fit comes before predict"
        squared = self._bank.squared_distances(self._described(blocks), k=self._options.k)
        return np.asarray(np.sqrt(squared).mean(axis=-1), dtype=np.float32)

    def _described(self, blocks: Sequence[Features]) -> Features:
        return neighbourhood_mean(chosen_block(blocks, self._options.block), self._options.neighbourhood)


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
        patches = [self._described(images[place]) for place in sorted(shown)]
        self._bank = NearestNeighbours(np.concatenate([one.reshape(-1, one.shape[-1]) for one in patches]))

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        assert self._bank is not None, "fit comes before predict"
        squared = self._bank.squared_distances(self._described(blocks), k=self._options.k)
        return np.asarray(squared.mean(axis=-1) / 2, dtype=np.float32)  # of unit vectors: 1 - cosine

    def _described(self, blocks: Sequence[Features]) -> Features:
        return unit_length(chosen_block(blocks, self._options.block))


def neighbourhood_mean(features: Features, size: int) -> Features:
    """Features (B, h, w, C), each the mean of its `size` x `size` neighbourhood; the border repeats."""
    for axis in (1, 2):
        features = ndimage.uniform_filter1d(features, size, axis=axis, mode="nearest")
    return features


def sample_described(
    images: TrainingFeatures, describe: Describe, n_most: int, generator: np.random.Generator
) -> Features:
    """Descriptions (N, C) of all patches of all images, or of `n_most` of them by chance.

    `describe` turns features (1, h, w, C) of each block into one description (1, h, w, C) a patch.
    """
    kept = sample_patches(images, n_most, generator)
    described, first = [], 0
    for image in images:
        patches = _flat(describe([block[None] for block in image]))
        from_here = kept[np.searchsorted(kept, first) : np.searchsorted(kept, first + len(patches))]
        described.append(patches[from_here - first])
        first += len(patches)
    return np.concatenate(described)


def sample_patches(images: TrainingFeatures, n_most: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Which patches to keep when they are counted through all images: all, or `n_most` by chance, in their order."""
    n_patches = images.n_patches
    if n_patches <= n_most:
        return np.arange(n_patches)
    return np.sort(generator.choice(n_patches, n_most, replace=False, shuffle=False))


def _flat(features: Features) -> Features:
    """(..., C) as (N, C), contiguous."""
    return np.ascontiguousarray(features.reshape(-1, features.shape[-1]), dtype=np.float32)


def _load_faiss() -> ModuleType:
    """The module, told to use as many threads as torch does."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("a memory bank", "benchmark") from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    module: ModuleType = faiss
    return module
