"""Where the pixels of an image end up in a network's input, learnt from the preprocessing itself, and the way back.

Two ramps, one along each axis, are sent through the same preprocessing as the images: what arrives at an input pixel
says where it came from. So any scaling, centre crop or padding is undone without knowing how it was written.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.detector.patch_grid import Size
from tinydefects.errors import ResolutionMismatchError, TinyDefectsError

Pixels = NDArray[np.float32]
LARGEST_DEVIATION_PX = 0.25  # of a position from a straight line; resampling of a ramp leaves a few hundredths


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGeometry:
    """Input position u (pixels from the input's border) lies at `offset + scale * u` in the image, for each axis.

    Attributes:
        image_size, input_size: (H, W) of the image and of what the network sees, in pixels.
        scale: image pixels to an input pixel; rows, columns.
        offset: of the input's upper left corner in the image, in image pixels; above 0 where the image was cropped.
    """

    image_size: Size
    input_size: Size
    scale: tuple[float, float]
    offset: tuple[float, float]

    @property
    def unseen_share(self) -> float:
        """Share of the image's pixels that the network does not see."""
        rows, columns = (self._places(axis)[1] for axis in (0, 1))
        return 1.0 - float(rows.mean() * columns.mean())

    def to_image(self, anomaly_map: Pixels) -> Pixels:
        """A map (h, w) over the whole input, of any resolution, as the (H, W) map of the image: bilinear, no blur.

        What lies outside the input was not looked at and gets the lowest score of the map.
        """
        if anomaly_map.ndim != 2 or not anomaly_map.size:
            raise ResolutionMismatchError(f"an anomaly map is (h, w), this one is {anomaly_map.shape}")
        (row_places, row_seen), (column_places, column_seen) = self._places(0), self._places(1)
        rows = _interpolation(row_places / self.input_size[0], anomaly_map.shape[0])
        columns = _interpolation(column_places / self.input_size[1], anomaly_map.shape[1])
        drawn: Pixels = np.asarray(rows @ anomaly_map.astype(np.float32) @ columns.T, dtype=np.float32)
        drawn[~row_seen] = anomaly_map.min()
        drawn[:, ~column_seen] = anomaly_map.min()
        return drawn

    def _places(self, axis: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Where the centre of each image pixel lies in the input, from its border, and whether that is inside."""
        centres = np.arange(self.image_size[axis], dtype=np.float64) + 0.5
        places: NDArray[np.float64] = (centres - self.offset[axis]) / self.scale[axis]
        return places, (places >= 0) & (places <= self.input_size[axis])


def learn_geometry(preprocess: Callable[[Pixels], Pixels], image_size: Size) -> InputGeometry:
    """From preprocessing of (3, H, W) float32 in [0, 1] to (3, h, w), which may also change each channel's values.

    Raises:
        TinyDefectsError: it does more than scaling, cropping and padding along the axes, or the image is one pixel high
            or wide, where a ramp has no slope.
    """
    if 1 in image_size:
        raise TinyDefectsError(
            f"an image of {image_size[0]} x {image_size[1]} pixels is too thin to tell where preprocessing puts it: "
            "leave it out, or choose a method of this package"
        )
    black = preprocess(np.zeros((3, *image_size), np.float32))[0]
    gain = preprocess(np.ones((3, *image_size), np.float32))[0] - black
    seen = np.abs(gain) > 0.5 * np.abs(gain).max()  # elsewhere it is padded
    lines = [_line(_ramp(image_size, axis), axis, preprocess, black, np.where(seen, gain, np.nan)) for axis in (0, 1)]
    (row_scale, row_offset), (column_scale, column_offset) = lines
    return InputGeometry(
        image_size=image_size,
        input_size=(black.shape[0], black.shape[1]),
        scale=(row_scale, column_scale),
        offset=(row_offset, column_offset),
    )


def _ramp(image_size: Size, axis: int) -> Pixels:
    """(3, H, W): the position of each pixel's centre along an axis, in [0, 1]."""
    positions = (np.arange(image_size[axis], dtype=np.float32) + 0.5) / image_size[axis]
    shape = (1, -1, 1) if axis == 0 else (1, 1, -1)
    return np.ascontiguousarray(np.broadcast_to(positions.reshape(shape), (3, *image_size)))


def _line(
    ramp: Pixels, axis: int, preprocess: Callable[[Pixels], Pixels], black: Pixels, gain: Pixels
) -> tuple[float, float]:
    """Scale and offset, in image pixels, of the straight line through what arrives of a ramp."""
    length = ramp.shape[1 + axis]
    arrived = (preprocess(ramp)[0] - black) / gain * length
    along = np.moveaxis(arrived, axis, 0)
    along = along[:, ~np.isnan(along).all(axis=0)]
    inside = np.flatnonzero(~np.isnan(along).any(axis=1))
    # Near its ends a ramp is bent: resampling finds no pixels beyond them.
    margin = len(inside) // 8
    inside = inside[margin : len(inside) - margin]
    if len(inside) < 2:
        raise TinyDefectsError(
            f"an input of {black.shape[0]} x {black.shape[1]} pixels says too little of its geometry"
        )
    positions = along[inside].mean(axis=1, dtype=np.float64)
    scale, offset = np.polyfit(inside + 0.5, positions, 1)
    deviation = np.abs(along[inside] - (scale * (inside + 0.5) + offset)[:, None]).max()
    if not deviation <= max(LARGEST_DEVIATION_PX, 0.1 * abs(scale)) or scale <= 0:
        raise TinyDefectsError(
            f"the preprocessing bends an image of {ramp.shape[1]} x {ramp.shape[2]} pixels by {deviation:.2g} pixels; "
            "only scaling, cropping and padding can be undone"
        )
    return float(scale), float(offset)


def _interpolation(share: NDArray[np.float64], length: int) -> Pixels:
    """Weights (pixels, length) of linear interpolation at a share of the axis; constant beyond the outer centres."""
    place = np.clip(share * length - 0.5, 0, length - 1)
    left = np.minimum(place.astype(np.int64), max(length - 2, 0))
    weights = np.zeros((len(share), length), dtype=np.float32)
    pixel = np.arange(len(share))
    weights[pixel, left] = 1.0 - (place - left)
    weights[pixel, np.minimum(left + 1, length - 1)] += (place - left).astype(np.float32)
    return weights
