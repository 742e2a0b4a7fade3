"""What methods under test learn from: photographs of gray noise, without label or mask, and features in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample
from tinydefects.methods.patches import chosen_block


class Images:
    """Features of training images that lie in memory."""

    def __init__(self, *shapes: tuple[int, int], dim: int = 6, seed: int = 0, n_blocks: int = 2) -> None:
        generator = np.random.default_rng(seed)
        mixing = generator.standard_normal((dim, dim))
        self._images = [
            tuple((generator.standard_normal((*shape, dim)) @ mixing + 3).astype(np.float32) for _ in range(n_blocks))
            for shape in shapes
        ]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> Sequence[np.ndarray]:
        return self._images[place]

    @property
    def n_patches(self) -> int:
        return sum(self._per(one) for one in self._images)

    def patches(self, block: str) -> np.ndarray:
        return np.concatenate([chosen_block(one, block).reshape(self._per(one), -1) for one in self._images])

    @staticmethod
    def _per(one: Sequence[np.ndarray]) -> int:
        return one[0].shape[0] * one[0].shape[1]


def samples_of(folder: Path, *sizes: tuple[int, int], seed: int = 0) -> list[Sample]:
    """One sample of each size; another seed gives other pixels and other files."""
    generator = np.random.default_rng(seed)
    samples = []
    for index, size in enumerate(sizes):
        path = folder / f"{seed}_{index}.png"
        write_png(path, generator.integers(90, 130, (*size, 3), dtype=np.uint8))
        samples.append(Sample(id=f"test/unknown/{index}", image_path=path, label="unknown"))
    return samples
