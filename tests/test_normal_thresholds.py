import numpy as np
import pytest

from tinydefects.data.sample import Prediction
from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.detectability import thresholds_of_normals


def predictions(*maps):
    return [Prediction(np.asarray(scores, dtype=np.float32), float(np.max(scores))) for scores in maps]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.29, 0.5, 0.999])
def test_it_is_the_lowest_threshold_that_at_most_the_rate_exceed(rate):
    maps = np.random.default_rng(0).integers(0, 40, (10, 2, 5)).astype(np.float32)  # many ties
    pixel, image = thresholds_of_normals(predictions(*maps), maps.size, rate)
    allowed = np.floor(rate * maps.size + 1e-9)
    lowest = min(score for score in maps.ravel() if np.count_nonzero(maps > score) <= allowed)
    assert pixel == lowest
    peaks = maps.max(axis=(1, 2))
    assert image == min(peak for peak in peaks if np.count_nonzero(peaks > peak) <= np.floor(rate * 10 + 1e-9))


def test_a_rate_of_29_percent_of_100_pixels_lets_29_exceed():
    assert thresholds_of_normals(predictions([np.arange(100)]), 100, 0.29)[0] == 70.0  # in floats 28.999…


def test_images_of_any_sizes_pool_their_pixels():
    pixel, image = thresholds_of_normals(predictions([[1, 2, 3]], [[9], [4]]), 5, 0.2)
    assert (pixel, image) == (4.0, 9.0)  # one of five pixels may exceed it, none of two images


def test_a_rate_outside_its_range_and_no_image_at_all_are_errors():
    with pytest.raises(TinyDefectsError, match="share in"):
        thresholds_of_normals(predictions([[1]]), 1, 1.0)
    with pytest.raises(TinyDefectsError, match="no good image"):
        thresholds_of_normals([], 0, 0.1)
