"""Decision thresholds from good images alone, so that no test image has a say in them."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.sample import Prediction
from tinydefects.errors import TinyDefectsError

FloatT = TypeVar("FloatT", np.float32, np.float64)


def thresholds_of_normals(predictions: Iterable[Prediction], n_pixels: int, rate: float) -> tuple[float, float]:
    """The lowest thresholds that at most `rate` of all pixels, and at most `rate` of the image scores, exceed.

    One map is in memory at a time and beside it the highest `rate` of all pixels: `n_pixels`, known from the headers,
    says how many that is. `rate` is in [0, 1); 0 gives the highest score seen.

    Raises:
        TinyDefectsError: the rate is outside [0, 1), or there is no prediction.
    """
    if not 0 <= rate < 1:
        raise TinyDefectsError(f"the rate of false alarms is {rate:g}; give a share in [0, 1), such as 0.001")
    n_kept = _n_allowed(rate, n_pixels) + 1
    highest = np.empty(0, dtype=np.float32)
    image_scores: list[float] = []
    for prediction in predictions:
        image_scores.append(prediction.score)
        highest = with_highest(highest, prediction.anomaly_map, n_kept)
    if not image_scores:
        raise TinyDefectsError("no good image to take a threshold from; give --threshold and --image-threshold")
    scores = _highest(np.array(image_scores), _n_allowed(rate, len(image_scores)) + 1)
    return float(highest.min()), float(scores.min())


def with_highest(highest: NDArray[np.float32], scores: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The `count` highest of those kept so far, (n,), and of further scores of any shape; all while they are fewer."""
    flat = scores.ravel()
    if highest.size >= count:
        flat = flat[flat > highest.min()]
    return _highest(np.concatenate([highest, flat]), count)


def _n_allowed(rate: float, count: int) -> int:
    return int(rate * count * (1 + 1e-12))  # 0.29 of 100 are 29, not 28.999…


def _highest(scores: NDArray[FloatT], count: int) -> NDArray[FloatT]:
    return scores if scores.size <= count else np.partition(scores, scores.size - count)[-count:]
