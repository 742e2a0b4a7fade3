"""Samples on disk with maps in memory, for the audit."""

from pathlib import Path

import numpy as np

from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample


def store(folder: Path, name: str, mask: np.ndarray) -> Sample:
    """A sample whose image is black; good when the mask is empty."""
    write_png(folder / f"{name}.png", np.zeros((*mask.shape, 3), dtype=np.uint8))
    write_png(folder / f"{name}_mask.png", mask)
    return Sample(
        id=f"test/{'pit' if mask.any() else 'good'}/{name}",
        image_path=folder / f"{name}.png",
        label="defect" if mask.any() else "good",
        mask_paths=(folder / f"{name}_mask.png",),
    )


def noisy_scene(folder: Path, decimals: int | None = None) -> list[tuple[Sample, Prediction]]:
    """Six images of two sizes with defects of 1 to 30 px and two good ones; maps of noise, higher on defects.

    `decimals` rounds the maps, so that many pixels tie.
    """
    rng = np.random.default_rng(0)
    pairs = []
    for number in range(8):
        mask = np.zeros((40, 60) if number % 2 else (32, 32), dtype=bool)
        if number < 6:
            mask[3 : 4 + number, 5:10] = True
            mask[2:6, 14:17] = True  # beside the other, so that their rows take turns
            mask[25, 20] = mask[26, 21] = True  # one defect of two pixels that touch at a corner
        noise = rng.gamma(2.0, 0.2, mask.shape)
        anomaly_map = (noise + mask * rng.random(mask.shape)).astype(np.float32)
        if decimals is not None:
            anomaly_map = anomaly_map.round(decimals)
        pairs.append((store(folder, str(number), mask), Prediction(anomaly_map, float(anomaly_map.max()))))
    return pairs
