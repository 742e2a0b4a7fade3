"""A map over a network's input comes back to the pixels it is about, whatever the preprocessing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinydefects.errors import ResolutionMismatchError, TinyDefectsError
from tinydefects.methods.input_geometry import learn_geometry

IMAGE = (300, 420)


def resized(pixels: np.ndarray, size: tuple[int, int], mode: str = "bilinear") -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))[None]
    return F.interpolate(tensor, size, mode=mode, antialias=True, align_corners=False)[0].numpy()


def normalised(pixels: np.ndarray) -> np.ndarray:
    return (pixels - 0.45) / 0.225


def squeezed(pixels):
    return normalised(resized(pixels, (128, 128)))


def squeezed_and_cropped(pixels):
    return normalised(resized(pixels, (128, 128), "bicubic"))[:, 16:112, 16:112]


def proportional_and_cropped(pixels):
    return normalised(resized(pixels, (160, 224)))[:, 16:144, 48:176]


def enlarged(pixels):
    return resized(pixels, (400, 500))


def padded(pixels):
    return np.pad(normalised(resized(pixels, (96, 128))), ((0, 0), (16, 16), (0, 0)))


def untouched(pixels):
    return pixels


PREPROCESSINGS = [squeezed, squeezed_and_cropped, proportional_and_cropped, enlarged, padded, untouched]


def blob(size: tuple[int, int], centre: tuple[float, float], sigma: float) -> np.ndarray:
    """A Gaussian around a point measured in pixels from the upper left corner."""
    rows, columns = (np.arange(length) + 0.5 for length in size)
    return np.exp(-((rows[:, None] - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * sigma**2)).astype(np.float32)


def centre_of(anomaly_map: np.ndarray) -> tuple[float, float]:
    weights = np.where(anomaly_map > anomaly_map.max() / 4, anomaly_map, 0).astype(np.float64)
    rows, columns = (np.arange(length) + 0.5 for length in anomaly_map.shape)
    return float((weights.sum(1) * rows).sum() / weights.sum()), float((weights.sum(0) * columns).sum() / weights.sum())


@pytest.mark.parametrize("preprocess", PREPROCESSINGS)
@pytest.mark.parametrize("centre", [(150.0, 210.0), (101.3, 143.8), (190.0, 250.0)])
def test_a_spot_in_the_image_comes_back_at_its_place_to_a_fifth_of_a_pixel(preprocess, centre):
    seen = preprocess(np.repeat(blob(IMAGE, centre, 9.0)[None], 3, axis=0))[0] - preprocess(np.zeros((3, *IMAGE)))[0]
    drawn = learn_geometry(preprocess, IMAGE).to_image(seen.astype(np.float32))
    assert drawn.shape == IMAGE
    assert centre_of(drawn) == pytest.approx(centre, abs=0.2)


def test_scale_and_offset_are_those_that_follow_by_hand():
    # 300 x 420 to 128 x 128, then 16 of 128 input pixels off each side: 16 * 300 / 128 = 37.5, 16 * 420 / 128 = 52.5.
    geometry = learn_geometry(squeezed_and_cropped, IMAGE)
    assert geometry.input_size == (96, 96)
    assert geometry.scale == pytest.approx((300 / 128, 420 / 128), rel=1e-3)
    assert geometry.offset == pytest.approx((37.5, 52.5), abs=0.1)


def test_a_coarse_map_over_the_same_input_comes_back_as_well():
    # Cell (2, 5) of 12 x 12 over 128 px: its centre is at 2.5 / 12 and 5.5 / 12 of the image.
    coarse = np.zeros((12, 12), np.float32)
    coarse[2, 5] = 1
    drawn = learn_geometry(squeezed, IMAGE).to_image(coarse)
    assert centre_of(drawn) == pytest.approx((2.5 / 12 * 300, 5.5 / 12 * 420), abs=0.2)


def test_what_was_cropped_away_gets_the_lowest_score_and_its_share_is_known():
    geometry = learn_geometry(squeezed_and_cropped, IMAGE)
    drawn = geometry.to_image(np.linspace(2, 3, 96 * 96, dtype=np.float32).reshape(96, 96))
    for unseen in (drawn[:37], drawn[263:], drawn[:, :52], drawn[:, 368:]):
        assert (unseen == 2).all()
    assert (drawn[40:260, 60:360] > 2).all()
    assert geometry.unseen_share == pytest.approx(1 - (96 / 128) ** 2, abs=0.01)
    assert learn_geometry(squeezed, IMAGE).unseen_share == 0.0


def test_a_map_of_the_image_itself_is_not_changed():
    anomaly_map = np.random.default_rng(0).random(IMAGE, dtype=np.float32)
    np.testing.assert_allclose(learn_geometry(untouched, IMAGE).to_image(anomaly_map), anomaly_map, atol=1e-3)


@pytest.mark.parametrize(
    "preprocess",
    [
        lambda pixels: pixels[:, ::-1],  # upside down
        lambda pixels: pixels.transpose(0, 2, 1),
        lambda pixels: resized(pixels[:, :, np.linspace(0, 1, 420) ** 2 > 0.3], (64, 64)) ** 2,
    ],
)
def test_what_cannot_be_undone_is_refused(preprocess):
    with pytest.raises(TinyDefectsError, match="only scaling, cropping and padding can be undone"):
        learn_geometry(preprocess, IMAGE)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1)])
def test_an_image_of_one_pixel_across_is_refused_and_two_come_back(size):
    with pytest.raises(TinyDefectsError, match=f"^an image of {size[0]} x {size[1]} pixels is too thin"):
        learn_geometry(squeezed, size)
    geometry = learn_geometry(squeezed, (2, 200))
    halves = np.repeat(np.array([[0.0], [1.0]], np.float32), 128, axis=0).repeat(128, axis=1)
    np.testing.assert_allclose(geometry.to_image(halves), np.repeat([[0.0], [1.0]], 200, axis=1), atol=1e-6)


def test_a_map_that_is_none_is_refused():
    with pytest.raises(ResolutionMismatchError, match=r"this one is \(1, 4, 4\)"):
        learn_geometry(squeezed, IMAGE).to_image(np.zeros((1, 4, 4), np.float32))
