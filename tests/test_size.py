import numpy as np
import pytest

from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.groups import SizeBins, cumulative_quartiles, disjoint_quartiles, quartile_areas, rho


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


@pytest.mark.parametrize("infinite", [(1.0, np.inf), (np.inf,)])
def test_an_infinite_edge_and_equal_edges_are_refused(infinite):
    for edges in (infinite, (2.0, 2.0), (0.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(TinyDefectsError, match="ascending positive sizes"):
            SizeBins(unit="area_px", edges=edges)


@pytest.mark.parametrize("pitch", [0.0, -0.1, np.inf, np.nan])
def test_a_pitch_that_is_no_length_is_refused(pitch):
    bins = SizeBins(unit="area_mm2", edges=(1.0,))
    with pytest.raises(TinyDefectsError, match=r"need a pixel pitch in mm; it is .*give 0\.05"):
        bins.members(np.array([4]), np.array([100]), pitch)


def places(bins, areas, images_px=100, pitch=np.nan):
    """The number of the bin of each area."""
    areas = np.array(areas)
    members = bins.members(areas, np.full(areas.size, images_px), pitch)
    assert (np.sum(members, axis=0) == 1).all()
    return np.argmax(members, axis=0).tolist()


def test_a_bin_holds_its_lower_edge_and_not_its_upper():
    assert places(SizeBins(unit="area_px", edges=(2, 5)), [1, 2, 4, 5, 6]) == [0, 1, 1, 2, 2]


def test_an_area_in_square_millimetres_is_that_of_its_pixels_times_the_pitch_squared():
    # A pitch of 0.5 mm: four pixels are 1 mm², and one is 0.25 mm².
    assert places(SizeBins(unit="area_mm2", edges=(0.25, 1.0)), [1, 3, 4, 5], pitch=0.5) == [1, 1, 2, 2]
    assert places(SizeBins(unit="area_mm2", edges=(1.0,)), [1], pitch=1e-3) == [0]
    assert places(SizeBins(unit="area_mm2", edges=(1.0,)), [1], pitch=2.0) == [1]


def test_a_share_is_that_of_the_image_of_the_defect():
    bins = SizeBins(unit="image_share", edges=(0.1,))
    members = bins.members(np.array([10, 10]), np.array([100, 101]), np.nan)
    assert members[1].tolist() == [True, False]


def test_a_diameter_is_that_of_the_disc_of_the_area():
    # Discs of 3 and 4 px: 2 * sqrt(area / pi) of 7 px is 2.985, of 8 px 3.192, of 12 px 3.909, of 13 px 4.068.
    assert places(SizeBins(unit="diameter_px", edges=(3, 4)), [7, 8, 12, 13]) == [0, 1, 1, 2]
