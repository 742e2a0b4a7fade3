"""Regions of maps: which pixels, how large, where highest, and their outlines."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from tinydefects.decisions.regions import Extent, find_regions, label_regions, longest_way, mask_of, outline

MAPS = arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4).map(float))
EXTENTS = st.builds(Extent, level=st.integers(0, 3).map(float), good=st.just(0.0), patch_px=st.integers(0, 3))
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8)))


def slow_extent(anomaly_map, extent):
    """Pixel by pixel: above the level, and at least halfway between the usual and the highest value around."""
    inside = set()
    for row, column in np.argwhere(anomaly_map > extent.level).tolist():
        rows, columns = (slice(max(0, place - extent.patch_px), place + extent.patch_px + 1) for place in (row, column))
        if not extent.patch_px or anomaly_map[row, column] >= (anomaly_map[rows, columns].max() + extent.good) / 2:
            inside.add((row, column))
    return inside


def slow_regions(anomaly_map, extent, seed, min_area_px):
    """By flooding from one pixel after another: (pixels, peak, place of the peak), highest first."""
    left = slow_extent(anomaly_map, extent)
    found = []
    for first in sorted(left):
        if first not in left:
            continue
        region, edge = set(), [first]
        while edge:
            row, column = edge.pop()
            if (row, column) in left:
                left.remove((row, column))
                region.add((row, column))
                edge += [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
        place = min(region, key=lambda one: (-anomaly_map[one], one))
        if anomaly_map[place] > seed and len(region) >= min_area_px:
            found.append((region, float(anomaly_map[place]), place))
    return sorted(found, key=lambda one: -one[1])


def pixels_of(region):
    return {(r + region.box[0].start, c + region.box[1].start) for r, c in np.argwhere(region.pixels).tolist()}


def shoelace(polygon):
    """Twice the area inside a closed polygon of (x, y), positive where it runs clockwise on the screen."""
    following = np.roll(polygon, -1, axis=0)
    return int((polygon[:, 0] * following[:, 1] - following[:, 0] * polygon[:, 1]).sum())


@given(anomaly_map=MAPS, extent=EXTENTS, above=st.integers(0, 2), min_area_px=st.integers(1, 4))
def test_regions_are_those_of_the_slow_reference(anomaly_map, extent, above, min_area_px):
    expected = slow_regions(anomaly_map, extent, extent.level + above, min_area_px)
    found, n_found = find_regions(anomaly_map, extent=extent, seed=extent.level + above, min_area_px=min_area_px)
    assert n_found == len(expected)
    assert [(pixels_of(one), one.peak, one.peak_at) for one in found] == expected
    assert [one.area_px for one in found] == [len(pixels) for pixels, _, _ in expected]


@given(anomaly_map=MAPS, extent=EXTENTS)
def test_labelled_regions_have_the_same_peaks_and_areas(anomaly_map, extent):
    expected = slow_regions(anomaly_map, extent, -math.inf, 1)
    found = label_regions(anomaly_map, extent)
    assert sorted(zip(found.peaks.tolist(), found.areas_px.tolist(), strict=True)) == sorted(
        (peak, len(pixels)) for pixels, peak, _ in expected
    )


@given(anomaly_map=MAPS, extent=EXTENTS)
def test_fewer_regions_are_found_the_higher_the_seed(anomaly_map, extent):
    counts = [find_regions(anomaly_map, extent=extent, seed=seed)[1] for seed in range(6)]
    assert counts == sorted(counts, reverse=True)


def test_a_region_reaches_down_to_the_extent_level_and_needs_a_seed():
    anomaly_map = np.array([[0, 2, 2, 0, 0], [0, 3, 9, 0, 2], [0, 0, 0, 0, 0]], dtype=np.float32)
    (region,), n_regions = find_regions(anomaly_map, extent=Extent(level=1), seed=5, pixel_pitch_mm=0.5)
    assert n_regions == 1
    assert region.box == (slice(0, 2), slice(1, 3))
    assert region.x_y_width_height == (1, 0, 2, 2)
    assert (region.area_px, region.peak, region.peak_at) == (4, 9.0, (1, 2))
    assert region.area_mm2 == pytest.approx(1.0, abs=1e-12)
    assert region.diameter_mm == pytest.approx(math.sqrt(4 * 4 / math.pi) * 0.5, abs=1e-12)
    assert region.length_mm == pytest.approx(math.sqrt(8) * 0.5, abs=1e-12)


def test_neither_level_is_exceeded_by_a_pixel_that_equals_it():
    anomaly_map = np.array([[1.0, 5.0]], dtype=np.float32)
    assert find_regions(anomaly_map, extent=Extent(level=1), seed=5) == ((), 0)
    assert find_regions(anomaly_map, extent=Extent(level=1), seed=4)[0][0].area_px == 1
    assert find_regions(anomaly_map, extent=Extent(level=5), seed=0) == ((), 0)


def test_beyond_the_most_described_the_highest_are_kept_and_all_are_counted():
    anomaly_map = np.zeros((1, 9), dtype=np.float32)
    anomaly_map[0, ::2] = [3, 5, 1, 4, 2]
    found, n_found = find_regions(anomaly_map, extent=Extent(level=0), seed=0, most=2)
    assert ([one.peak for one in found], n_found) == ([5.0, 4.0], 5)


def test_a_small_defect_that_is_spread_over_a_patch_is_outlined_where_it_has_fallen_by_half():
    """Whatever its height; the level alone would outline a higher one wider. A faint neighbour is not swallowed."""
    rows = np.arange(400)[:, None]  # more rows than are looked at together, and the peak near such a border
    spread = np.exp(-((rows - 130) ** 2 + (np.arange(60) - 30) ** 2) / (2 * 4.0**2))  # 9.4 px wide at half its height
    areas = []
    for height in (2.0, 20.0):
        anomaly_map = np.float32(1 + height * spread)
        for patch_px in (0, 8):
            extent = Extent(level=1.2, good=1.0, patch_px=patch_px)
            (region,), _ = find_regions(anomaly_map, extent=extent, seed=2.5)
            areas.append(region.diameter_px)
    assert areas == pytest.approx([17.2, 9.4, 24.3, 9.4], abs=0.3)
    faint = 3 * np.exp(-((rows - 146) ** 2 + (np.arange(60) - 30) ** 2) / (2 * 4.0**2))
    found, _ = find_regions(np.float32(1 + 20 * spread + faint), extent=extent, seed=2.5)
    assert [one.peak_at[0] for one in found] == [130, 146]


@pytest.mark.parametrize("size", [(150, 333), (64, 64), (200, 65), (1, 300)])
@pytest.mark.parametrize("patch_px", [1, 8, 40])
def test_the_extent_of_a_large_map_does_not_show_how_it_is_cut(size, patch_px):
    anomaly_map = np.random.default_rng(patch_px).random(size, dtype=np.float32)
    extent = Extent(level=0.5, good=0.2, patch_px=patch_px)
    highest = ndimage.maximum_filter(anomaly_map, 2 * patch_px + 1)
    expected = (anomaly_map > np.float32(0.5)) & (anomaly_map >= (highest + np.float32(0.2)) / 2)
    np.testing.assert_array_equal(extent.pixels(anomaly_map), expected)


@given(anomaly_map=MAPS, extent=EXTENTS)
def test_the_mask_of_all_regions_is_the_extent(anomaly_map, extent):
    found, _ = find_regions(anomaly_map, extent=extent, seed=extent.level)
    assert set(map(tuple, np.argwhere(mask_of(found, anomaly_map.shape)).tolist())) == slow_extent(anomaly_map, extent)


@given(pixels=MASKS.filter(np.any))
def test_the_longest_way_is_the_largest_distance_of_corners(pixels):
    corners = [(r + down, c + right) for r, c in np.argwhere(pixels).tolist() for down in (0, 1) for right in (0, 1)]
    assert longest_way(pixels) == pytest.approx(max(math.dist(a, b) for a in corners for b in corners), abs=1e-9)


@pytest.mark.slow
@settings(max_examples=300)
@given(anomaly_map=MAPS)
def test_outlines_enclose_exactly_the_pixels_of_their_region(anomaly_map):
    for region in find_regions(anomaly_map, extent=Extent(level=1), seed=1)[0]:
        outer, *holes = outline(region.pixels)
        assert shoelace(outer) > 0
        assert all(shoelace(hole) < 0 for hole in holes)
        assert shoelace(outer) + sum(map(shoelace, holes)) == 2 * region.area_px
        drawn = np.zeros(np.add(region.pixels.shape, 1), dtype=int)  # crossings of a ray from the left
        for polygon in (outer, *holes):
            for (x, y), (x_next, y_next) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                assert (x == x_next) != (y == y_next)
                drawn[min(y, y_next) : max(y, y_next), x] += np.sign(y - y_next)
        np.testing.assert_array_equal(drawn.cumsum(axis=1)[:-1, :-1] > 0, region.pixels)


def test_pixels_that_touch_at_a_corner_have_one_outline():
    (polygon,) = outline(np.array([[1, 0], [0, 1]], dtype=bool))
    assert polygon.tolist() == [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [1, 2], [1, 1], [0, 1]]


def test_a_hole_has_an_outline_of_its_own():
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    outer, hole = outline(ring)
    assert outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    assert shoelace(hole) == -2
