"""A small category on disk with random maps: images of two sizes, defects of many areas, scenes if asked for."""

import numpy as np

from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample


def random_samples(folder, *, seed=0, n_good=8, n_defective=8, n_scenes=None):
    """Samples with their masks written; image `number` belongs to scene `number % n_scenes`."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(n_good + n_defective):
        defective = number >= n_good
        kind = ("pit", "scratch")[number % 2] if defective else "good"
        mask = np.zeros((40, 60) if number % 3 else (50, 50), dtype=bool)
        for place in range(random.integers(1, 4) if defective else 0):
            side = int(random.integers(1, 8))
            mask[2 + 12 * place : 2 + 12 * place + side, 5 : 5 + side] = True
        paths = (folder / f"{number}.png", folder / f"{number}_mask.png")
        write_png(paths[0], np.full(mask.shape, 90, dtype=np.uint8))
        write_png(paths[1], mask)
        samples.append(
            Sample(
                id=f"test/{kind}/{number:03d}",
                image_path=paths[0],
                label="defect" if defective else "good",
                mask_paths=paths[1:] if defective else (),
                group=None if n_scenes is None else f"{kind} {number % n_scenes}",
            )
        )
    return samples


def random_pairs(samples, *, seed=0, contrast=1.5):
    """Each sample with a map of noise in which defects stand out by about `contrast`."""
    random = np.random.default_rng(seed)
    for sample in samples:
        mask = sample.mask()
        level = 0.3 * random.standard_normal()
        scores = level + random.standard_normal(mask.shape) + mask * contrast * random.uniform(0.3, 2)
        yield sample, Prediction(scores.astype(np.float32), float(scores.max()))
