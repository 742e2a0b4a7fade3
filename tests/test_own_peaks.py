"""Which peak belongs to which defect, on maps drawn by hand and on glows of known form."""

import math

import numpy as np
import pytest

from tinydefects.data.defects import find_defects
from tinydefects.metrics.defect_signals import own_peaks


def peaks_of(scores, mask):
    """Own peaks by reading order of the defects; both pictures are (H, W), one row is enough."""
    scores, mask = np.atleast_2d(np.asarray(scores, np.float32)), np.atleast_2d(np.asarray(mask, bool))
    return own_peaks(scores, mask, find_defects(mask))


def glow(shape, *sources):
    """The highest of several Gaussian bumps, (row, column, height, sigma) each: a blurred map without noise."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    bumps = [
        height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sigma**2))
        for row, column, height, sigma in sources
    ]
    return np.max(bumps, axis=0).astype(np.float32)


def marked(shape, *places):
    """Squares of (row, column, side)."""
    mask = np.zeros(shape, dtype=bool)
    for row, column, side in places:
        mask[row : row + side, column : column + side] = True
    return mask


def test_a_lone_defect_owns_its_peak_wherever_the_summit_lies():
    assert peaks_of([0, 1, 2, 3, 9], [0, 1, 0, 0, 0]) == [1]


def test_on_the_slope_of_a_neighbours_glow_a_defect_has_no_peak_of_its_own():
    #                           ------ the crack ------
    assert peaks_of([1, 2, 3, 4, 5, 6, 7, 9, 8], [0, 1, 0, 0, 0, 1, 1, 1, 1]) == [
        pytest.approx(math.nan, nan_ok=True),
        9,
    ]


def test_a_dip_between_makes_two_peaks():
    assert peaks_of([1, 4, 2, 3, 5, 9, 5], [0, 1, 0, 0, 0, 1, 1]) == [4, 9]


def test_two_equal_neighbours_with_a_peak_each_own_them():
    assert peaks_of([1, 7, 2, 7, 1], [0, 1, 0, 1, 0]) == [7, 7]


def test_a_plateau_or_a_summit_between_two_that_tie_belongs_to_both():
    assert peaks_of([1, 7, 7, 7, 1], [0, 1, 0, 1, 0]) == [7, 7]
    assert peaks_of([1, 7, 8, 7, 1], [0, 1, 0, 1, 0]) == [7, 7]


def test_a_step_is_no_dip():
    found = peaks_of([1, 4, 4, 4, 9], [0, 1, 0, 0, 1])
    assert (math.isnan(found[0]), found[1]) == (True, 9)


def test_one_summit_over_two_defects_belongs_to_the_higher():
    found = peaks_of([1, 6, 8, 7, 1], [0, 1, 0, 1, 0])
    assert (math.isnan(found[0]), found[1]) == (True, 7)


def test_a_defect_whose_top_lies_in_a_glow_keeps_a_lower_peak_further_off():
    assert peaks_of([1, 5, 2, 3, 6, 9], [0, 1, 1, 1, 1, 0]) == [6]  # alone: the summit beside it is its own
    mask = np.zeros((3, 8), bool)
    mask[0, 1:6], mask[2, 6] = True, True  # a long defect above, a bright dot below its end
    scores = [[1, 5, 2, 3, 5, 6, 6, 0], [0, 0, 0, 0, 0, 0, 7, 0], [0, 0, 0, 0, 0, 0, 9, 0]]
    assert peaks_of(scores, mask) == [5, 9]


def test_the_highest_of_several_peaks_counts():
    assert peaks_of([4, 2, 6, 2, 5, 1, 9], [1, 1, 1, 1, 1, 0, 1]) == [6, 9]


def test_ways_lead_over_corners():
    scores = [[3, 0, 0], [0, 4, 0], [0, 0, 9]]
    found = peaks_of(scores, [[1, 0, 0], [0, 0, 0], [0, 0, 1]])
    assert (math.isnan(found[0]), found[1]) == (True, 9)


def test_glow_of_a_crack_finds_no_dot_and_a_dot_of_its_own_does():
    shape = (60, 80)
    mask = marked(shape, (30, 40, 8), (33, 53, 1))  # the dot lies 5 px beside the crack
    crack, dot = peaks_of(glow(shape, (33.5, 43.5, 10, 8)), mask)
    assert crack == pytest.approx(10, abs=0.1)
    assert math.isnan(dot)
    crack, dot = peaks_of(glow(shape, (33.5, 43.5, 10, 8), (33, 53, 9, 1.5)), mask)
    assert (crack, dot) == (pytest.approx(10, abs=0.1), pytest.approx(9))


def test_glow_counts_up_to_an_eighth_of_the_long_side():
    ramp = np.linspace(1, 2, 800, dtype=np.float32)
    for distance, is_own in ((90, False), (120, True)):
        mask = np.zeros(800, bool)
        mask[[300, 300 + distance]] = True
        assert (not math.isnan(peaks_of(ramp, mask)[0])) == is_own


def slow_own_peaks(scores, mask, defects):
    """By flooding from every pixel of a defect, in falling order of score."""
    found = []
    for defect in defects:
        own = np.zeros(mask.shape, bool)
        own[defect.box] = defect.pixels
        pixels = sorted(zip(*np.nonzero(own), strict=True), key=lambda pixel: -scores[pixel])
        peak = math.nan
        for pixel in pixels:
            seen, todo = {pixel}, [pixel]
            while todo:
                row, column = todo.pop()
                around = [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
                for at in around:
                    inside = 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1]
                    if inside and at not in seen and scores[at] >= scores[pixel]:
                        seen.add(at)
                        todo.append(at)
            if not any(mask[at] and not own[at] and scores[at] > scores[pixel] for at in seen):
                peak = float(scores[pixel])
                break
        found.append(peak)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_slow_flooding_agrees(seed):
    random = np.random.default_rng(seed)
    mask = random.random((9, 13)) < 0.2
    scores = random.integers(0, 12, mask.shape).astype(np.float32)
    if seed % 2:  # smooth maps have long slopes
        scores = glow(mask.shape, *((*random.uniform(0, 9, 2), random.uniform(3, 9), 3.0) for _ in range(3)))
    defects = find_defects(mask)
    # Nine rows and thirteen columns: the windows of 8 pixels to each side hold all that matters, or nearly.
    wide = np.pad(scores, 60, constant_values=-1), np.pad(mask, 60)
    np.testing.assert_array_equal(own_peaks(*wide, find_defects(wide[1])), slow_own_peaks(scores, mask, defects))
