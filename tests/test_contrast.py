import math

import numpy as np
import pytest

from tinydefects.data.defects import find_defects
from tinydefects.metrics.defect_signals import RING_PX, contrast_to_noise


def gray(pixels):
    return np.repeat(np.asarray(pixels, dtype=np.uint8)[..., None], 3, axis=2)


def contrasts(image, mask):
    return [contrast_to_noise(image, mask, defect) for defect in find_defects(mask)]


def spots(shape, *boxes):
    mask = np.zeros(shape, dtype=bool)
    for rows, columns in boxes:
        mask[rows, columns] = True
    return mask


DOT = (slice(20, 22), slice(20, 23))


def test_on_a_flat_background_it_counts_gray_levels():
    mask = spots((40, 40), DOT)
    assert contrasts(gray(np.where(mask, 80, 100)), mask) == [20.0]
    assert contrasts(gray(np.full((40, 40), 100)), mask) == [0.0]


def test_noise_divides_it():
    noise = np.random.default_rng(0).normal(120, 8, (200, 200))
    mask = spots((200, 200), (slice(80, 120), slice(80, 120)))
    (contrast,) = contrasts(gray(np.rint(noise + 40 * mask)), mask)
    assert contrast == pytest.approx(40 / 8, rel=0.1)


def test_the_channel_that_shows_it_best_counts():
    mask = spots((40, 40), DOT)
    image = gray(np.full((40, 40), 100))
    image[mask] = (103, 100, 60)
    assert contrasts(image, mask) == [40.0]


def test_a_far_away_edge_and_single_outliers_do_not_matter():
    mask = spots((60, 60), DOT)
    image = np.full((60, 60), 100)
    image[:, 23 + RING_PX :] = 255  # the first column out of reach
    image[19, 19] = 0
    image[mask] = 110
    assert contrasts(gray(image), mask) == [10.0]


def test_other_defects_nearby_are_no_background():
    mask = np.ones((40, 40), dtype=bool)
    mask[19:23, 19:24] = False  # a gap of one pixel around the dot, everything else is one other defect
    mask[DOT] = True
    image = np.where(mask, 255, 100)
    image[DOT] = 110
    assert sorted(contrasts(gray(image), mask)) == [10.0, 155.0]


@pytest.mark.parametrize(("step", "background"), [(4, 60), (5, 50)])
def test_around_reaches_five_pixels_far_and_no_further(step, background):
    """Around one pixel lie 48 others up to 3 steps away, 80 up to 4, 120 up to 5; each number is the majority."""
    mask = spots((21, 21), (slice(10, 11), slice(10, 11)))
    rows, columns = np.indices(mask.shape)
    distance = np.maximum(abs(rows - 10), abs(columns - 10))
    image = np.select([distance < step, distance <= 5], [50, 60], 200)
    image[10, 10] = 100
    (contrast,) = contrasts(gray(image), mask)
    assert contrast == 100 - background


def test_the_ring_reaches_round_the_whole_defect_at_the_border():
    mask = spots((10, 10), (slice(0, 1), slice(0, 1)))
    image = np.full((10, 10), 50)
    image[0, 0] = 60
    image[RING_PX + 1 :] = image[:, RING_PX + 1 :] = 200
    assert contrasts(gray(image), mask) == [10.0]


def test_a_defect_with_nothing_around_has_no_contrast():
    (contrast,) = contrasts(gray(np.zeros((4, 4))), np.ones((4, 4), dtype=bool))
    assert math.isnan(contrast)
