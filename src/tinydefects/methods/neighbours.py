"""Distances to the nearest of many vectors, exact or approximate, by faiss."""

from types import ModuleType
from typing import Any

import numpy as np
import torch

from tinydefects.errors import MissingExtraError
from tinydefects.methods.patch_source import Features

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
        faiss.omp_set_num_threads(1)  # a graph built by several threads differs from run to run
        self._index.add(np.ascontiguousarray(bank, dtype=np.float32))
        self.size_bytes = int(faiss.serialize_index(self._index).nbytes)
        self.n_vectors = len(bank)

    def squared_distances(self, features: Features, *, k: int = 1) -> Features:
        """For vectors (..., C) the squared distances (..., k) to the k nearest, the nearest first."""
        _load_faiss()
        flat = np.ascontiguousarray(features.reshape(-1, features.shape[-1]), dtype=np.float32)
        squared, _ = self._index.search(flat, min(k, self.n_vectors))
        # Rounding takes the distance between equal vectors a little below zero.
        return np.asarray(np.maximum(squared, 0).reshape(*features.shape[:-1], -1))


def _load_faiss() -> ModuleType:
    """The module, told to use as many threads as torch does."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("a memory bank", "benchmark") from error
    faiss.omp_set_num_threads(torch.get_num_threads())
    module: ModuleType = faiss
    return module
