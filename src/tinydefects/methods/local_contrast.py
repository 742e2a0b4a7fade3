"""The method that learns nothing: how far a pixel's gray is from that of its surroundings."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.sample import Prediction, Sample, mean_of_highest
from tinydefects.methods.method import StageClock

NEAR_SIGMA_PX, FAR_SIGMA_PX = 1.0, 12.0


class LocalContrastMethod:
    """Absolute difference of two Gaussian blurs of the gray image, in [0, 1]: what a defect of contrast alone gives."""

    size_bytes = 0

    def __init__(self, clock: StageClock) -> None:
        self._clock = clock

    @property
    def settings(self) -> Mapping[str, object]:
        return {"near_sigma_px": NEAR_SIGMA_PX, "far_sigma_px": FAR_SIGMA_PX}

    def fit(self, samples: Sequence[Sample]) -> None:
        """Nothing is learnt."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [self._predict(sample) for sample in samples]

    def _predict(self, sample: Sample) -> Prediction:
        with self._clock("decode"):
            image = sample.image()
        with self._clock("map"):
            anomaly_map = local_contrast(image)
            return Prediction(anomaly_map, mean_of_highest(anomaly_map))


def local_contrast(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(H, W, 3) uint8 to an (H, W) map."""
    gray = image.mean(axis=2) / 255.0
    contrast = np.abs(ndimage.gaussian_filter(gray, NEAR_SIGMA_PX) - ndimage.gaussian_filter(gray, FAR_SIGMA_PX))
    return np.asarray(contrast, dtype=np.float32)
