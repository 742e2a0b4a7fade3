import numpy as np
import pytest

from tinydefects.metrics.size import cumulative_quartiles, disjoint_quartiles, quartile_areas, rho


def test_quartile_areas_are_interpolated_quantiles_of_all_areas():
    # Of 1, 2, 3, 4, 10 the quantiles fall on the 2nd, 3rd and 4th; of 0, 2 they fall between.
    assert quartile_areas(np.array([10, 1, 3, 2, 4])) == (2.0, 3.0, 4.0)
    assert quartile_areas(np.array([0, 2])) == (0.5, 1.0, 1.5)


def test_without_regions_quartile_areas_are_nan():
    assert np.isnan(quartile_areas(np.array([], dtype=np.int64))).all()
    assert [members.size for members in cumulative_quartiles(np.array([], dtype=np.int64))] == [0, 0, 0, 0]


def test_cumulative_quartiles_include_their_limit_and_each_other():
    members = cumulative_quartiles(np.array([10, 1, 3, 2, 4]))
    assert [np.flatnonzero(chosen).tolist() for chosen in members] == [
        [1, 3],  # areas up to 2
        [1, 2, 3],  # up to 3
        [1, 2, 3, 4],  # up to 4
        [0, 1, 2, 3, 4],
    ]


def test_disjoint_quartiles_share_no_defect_and_miss_none():
    members = disjoint_quartiles(np.array([10, 1, 3, 2, 4]))
    assert [np.flatnonzero(chosen).tolist() for chosen in members] == [[1, 3], [2], [4], [0]]


def test_defects_of_one_area_are_all_in_the_first_quartile():
    assert [int(members.sum()) for members in disjoint_quartiles(np.array([7, 7, 7]))] == [3, 0, 0, 0]


def test_rho_is_the_mean_times_the_ratio_of_the_extremes():
    # mean(0.4, 0.6, 0.7, 0.8) = 0.625, ratio 0.4 / 0.8 = 0.5
    assert rho((0.4, 0.6, 0.7, 0.8)) == pytest.approx(0.3125)
    assert rho((0.8, 0.7, 0.6, 0.4)) == pytest.approx(0.3125)


def test_rho_is_the_mean_when_size_does_not_matter():
    assert rho((0.9, 0.9, 0.9, 0.9)) == pytest.approx(0.9)


def test_rho_of_a_detector_that_finds_nothing_is_zero_and_of_no_defects_nan():
    assert rho((0.0, 0.0, 0.0, 0.0)) == 0.0
    assert np.isnan(rho((float("nan"),) * 4))
