"""What other work does to maps and masks before it scores them; for the audit only.

This is the one file where a mask changes its size: it repeats what others did, and no result of ours passes through it.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinydefects.data.sample import Prediction

Mask: TypeAlias = NDArray[np.bool_]
View = Callable[[Prediction, Mask], tuple[Prediction, Mask]]
MaskFilter = Literal["nearest", "bilinear_any", "bilinear_half"]


def unchanged(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
    """Map and mask as they are, at the image's own size."""
    return prediction, mask


def resized(side_px: int, mask_filter: MaskFilter) -> View:
    """Map and mask brought to a square of `side_px`, whatever the image's proportions; image scores stay.

    The map goes by a bilinear filter that averages when it shrinks. A mask is 0 or 255 on its way: `nearest` takes
    the pixel under each new centre; `bilinear_any` calls defective what is not black after the same filter,
    `bilinear_half` what is at least half white.
    """

    def view(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
        size = (side_px, side_px)
        picture = Image.fromarray(prediction.anomaly_map)
        anomaly_map = np.asarray(picture.resize(size, Image.Resampling.BILINEAR))
        return Prediction(anomaly_map, prediction.score), _resized_mask(mask, size, mask_filter)

    return view


def clamped(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
    """Scores below 0 become 0 and above 1 become 1, those of pixels and of the image."""
    anomaly_map = np.clip(prediction.anomaly_map, 0, 1)
    return Prediction(anomaly_map, float(np.clip(prediction.score, 0, 1))), mask


def stretched(prediction: Prediction, mask: Mask) -> tuple[Prediction, Mask]:
    """Every map on its own from 0 (its lowest pixel) to 1 (its highest), 0 where it is flat; image scores stay."""
    low, high = float(prediction.anomaly_map.min()), float(prediction.anomaly_map.max())
    scale = 1.0 / (high - low) if high > low else 0.0
    anomaly_map = (prediction.anomaly_map - np.float32(low)) * np.float32(scale)
    return Prediction(anomaly_map, prediction.score), mask


def _resized_mask(mask: Mask, size: tuple[int, int], mask_filter: MaskFilter) -> Mask:
    picture = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    nearest = mask_filter == "nearest"
    gray = np.asarray(picture.resize(size, Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR))
    return np.asarray(gray > (127 if mask_filter == "bilinear_half" else 0))
