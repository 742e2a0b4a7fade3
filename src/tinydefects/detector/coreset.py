"""A few vectors that stand for many: greedy k-centre selection, as PatchCore thins its bank (arXiv 2106.08265)."""

import numpy as np
from numpy.typing import NDArray

PROJECTED_DIM = 128  # as in PatchCore's code: distances are compared after a random projection


def greedy_coreset(vectors: NDArray[np.float32], size: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Places of `size` of the (N, C) vectors, each the farthest from those chosen before it; the first by chance.

    Holds N x 128 numbers beside the vectors and takes N x 128 x `size` multiplications.
    """
    projected = _projected(vectors, generator)
    squared_length = np.einsum("nc,nc->n", projected, projected)
    nearest = np.full(len(vectors), np.inf, dtype=np.float32)
    chosen = np.empty(min(size, len(vectors)), dtype=np.int64)
    place = int(generator.integers(len(vectors)))
    for step in range(len(chosen)):
        chosen[step] = place
        np.minimum(nearest, squared_length - 2 * (projected @ projected[place]) + squared_length[place], out=nearest)
        nearest[place] = -np.inf  # equal vectors are not chosen twice before all others are
        place = int(nearest.argmax())
    return chosen


def _projected(vectors: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float32]:
    dim = vectors.shape[1]
    if dim <= PROJECTED_DIM:
        return vectors
    directions = generator.standard_normal((dim, PROJECTED_DIM), dtype=np.float32) / np.float32(PROJECTED_DIM**0.5)
    return np.asarray(vectors @ directions, dtype=np.float32)
