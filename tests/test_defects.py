import math

import numpy as np
import pytest

from tinydefects.data.defects import find_defects, most_regions
from tinydefects.errors import MaskError


def picture(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_corner_touching_pixels_are_one_defect():
    mask = picture(
        "#..",
        ".#.",
        "...",
    )
    assert [defect.area_px for defect in find_defects(mask)] == [2]


def test_pixels_two_apart_are_two_defects():
    mask = picture(
        "#.#",
        "#.#",
        "...",
    )
    assert [defect.area_px for defect in find_defects(mask)] == [2, 2]


def test_defects_come_in_reading_order_of_their_first_pixel():
    mask = picture(
        "....#",
        "##...",
        "##...",
    )
    assert [defect.area_px for defect in find_defects(mask)] == [1, 4]


def test_a_box_is_row_slice_then_column_slice():
    mask = np.zeros((10, 20), dtype=bool)
    mask[2:5, 11:17] = True
    (defect,) = find_defects(mask)
    assert defect.box == (slice(2, 5), slice(11, 17))


def test_pixels_of_a_defect_leave_out_a_neighbour_inside_its_box():
    mask = picture(
        "####",
        "#...",
        "#.#.",
    )
    ring, dot = find_defects(mask)
    assert ring.pixels.tolist() == [[True] * 4, [True, False, False, False], [True, False, False, False]]
    assert (ring.area_px, dot.area_px) == (6, 1)


def test_the_diameter_is_that_of_the_disc_of_the_same_area():
    rows, columns = np.mgrid[:101, :101]
    (disc,) = find_defects((rows - 50) ** 2 + (columns - 50) ** 2 <= 40**2)
    assert disc.diameter_px == pytest.approx(80, abs=0.5)


def test_a_single_pixel_has_diameter_two_over_root_pi():
    (defect,) = find_defects(np.ones((1, 1), dtype=bool))
    assert defect.diameter_px == 2 / math.sqrt(math.pi)


def test_an_empty_mask_has_no_defect():
    assert find_defects(np.zeros((3, 4), dtype=bool)) == []


def test_a_full_mask_is_one_defect():
    (defect,) = find_defects(np.ones((3, 4), dtype=bool))
    assert defect.area_px == 12


def test_areas_add_up_to_the_mask():
    mask = np.random.default_rng(0).random((40, 60)) > 0.7
    rebuilt = np.zeros_like(mask)
    for defect in find_defects(mask):
        assert not (rebuilt[defect.box] & defect.pixels).any()
        rebuilt[defect.box] |= defect.pixels
    np.testing.assert_array_equal(rebuilt, mask)


@pytest.mark.slow
def test_a_mask_of_too_many_regions_is_refused_by_name_and_one_of_as_many_as_may_be_is_not():
    mask = np.zeros((200, 200), dtype=bool)
    mask[::2, ::2] = True
    assert (len(find_defects(mask)), most_regions(mask)) == (10_000, 10_000)
    mask = np.pad(mask, ((0, 0), (0, 2)))
    mask[100, 201] = True
    for count in (find_defects, most_regions):
        with pytest.raises(MaskError, match=r"^spots\.png: 10,001 separate regions, more than 10,000: noise, a photo"):
            count(mask, "spots.png")
    assert len(find_defects(mask, most=mask.size)) == 10_001


def test_the_quick_bound_is_exact_for_convex_regions_and_never_too_low():
    mask = np.zeros((40, 60), dtype=bool)
    mask[3:9, 5:20] = mask[20:21, 0:60] = mask[39, 59] = mask[30, 0] = True
    assert most_regions(mask) == len(find_defects(mask)) == 4
    assert most_regions(np.zeros((5, 7), dtype=bool)) == 0
    noise = np.random.default_rng(0)
    for share in (0.01, 0.1, 0.3, 0.6, 0.9):
        mask = noise.random((50, 70)) < share
        assert len(find_defects(mask)) <= most_regions(mask) <= np.count_nonzero(mask)


def test_a_large_crooked_region_is_not_taken_for_many():
    comb = np.zeros((200, 20_100), dtype=bool)
    comb[::1, ::2] = True
    comb[-1] = True  # 10,050 teeth of one comb
    assert most_regions(comb) == 1


def test_a_slanting_line_is_one_region_to_the_quick_bound_whichever_way_it_slants():
    line = np.eye(30, 50, dtype=bool)
    assert (most_regions(line), most_regions(line[:, ::-1])) == (1, 1)
