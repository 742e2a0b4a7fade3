"""Photographs small enough for methods under test: gray noise, no label, no mask."""

from pathlib import Path

import numpy as np

from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample


def samples_of(folder: Path, *sizes: tuple[int, int], seed: int = 0) -> list[Sample]:
    """One sample of each size; another seed gives other pixels and other files."""
    generator = np.random.default_rng(seed)
    samples = []
    for index, size in enumerate(sizes):
        path = folder / f"{seed}_{index}.png"
        write_png(path, generator.integers(90, 130, (*size, 3), dtype=np.uint8))
        samples.append(Sample(id=f"test/unknown/{index}", image_path=path, label="unknown"))
    return samples
