import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.slow_map import slow_map
from tinydefects.detector.patch_grid import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PatchGrid,
    axis_matrix,
    image_size,
    normalise,
    whole_patches,
)
from tinydefects.errors import ImageReadError, ResolutionMismatchError

BLUR_REACH_PX = 5 * 2 + 3 * 3  # five filters of radius 2, three of radius 3
BLURS = ("none", "reflect")
SIZES = st.tuples(st.integers(40, 400), st.integers(40, 400))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("resolution", "patch", "expected"),
    [(1036, 14, 1036), (1036, 8, 1040), (20, 14, 14), (21, 14, 28), (3, 14, 14)],
)
def test_a_resolution_is_rounded_to_whole_patches_and_never_to_none(resolution, patch, expected):
    assert whole_patches(resolution, patch) == expected


def test_the_long_side_gets_the_resolution_and_the_other_follows_in_proportion():
    grid = PatchGrid.proportional((1500, 2000), patch=14, resolution=1036)
    assert grid.resized_size == (777, 1036)
    assert grid.shape == (56, 74)  # 777 / 14 = 55.5
    assert PatchGrid.proportional((2000, 1500), patch=14, resolution=1036).shape == (74, 56)


def test_a_sliver_of_an_image_still_has_one_row_of_patches():
    grid = PatchGrid.proportional((1, 3000), patch=8, resolution=80)
    assert grid.shape == (1, 10)
    assert grid.to_image(torch.full((1, 10), 2.0)).shape == (1, 3000)


def test_an_image_at_resolution_reaches_the_teacher_pixel_by_pixel():
    image = noise(16, 24, 3)
    patches = PatchGrid.proportional((16, 24), patch=8, resolution=24).to_patches(image)
    by_hand = (image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    assert patches.shape == (3, 16, 24)
    assert patches.dtype == torch.float32
    np.testing.assert_allclose(patches.permute(1, 2, 0), by_hand, atol=1e-6)


def test_rows_missing_to_a_whole_patch_repeat_the_last_row_below():
    image = noise(13, 24, 3)
    patches = PatchGrid.proportional((13, 24), patch=8, resolution=24).to_patches(image)
    assert patches.shape == (3, 16, 24)
    assert torch.equal(patches[:, 13:], patches[:, 12:13].expand(3, 3, 24))
    assert not torch.equal(patches[:, 11], patches[:, 12])


def test_published_squares_repeat_the_edges_on_both_sides():
    image = noise(6, 11, 3)
    patches = PatchGrid.published((6, 11), patch=11, resolution=11).to_patches(image)
    first, last = patches[:, 2], patches[:, 7]  # 5 rows are missing: 2 above, 3 below
    assert torch.equal(patches[:, :2], first[:, None].expand(3, 2, 11))
    assert torch.equal(patches[:, 8:], last[:, None].expand(3, 3, 11))


def test_another_normalisation_can_be_asked_for():
    image = noise(8, 8, 3)
    patches = PatchGrid.proportional((8, 8), patch=8, resolution=8).to_patches(image, (0.5,) * 3, (0.5,) * 3)
    np.testing.assert_allclose(patches.permute(1, 2, 0), image / 127.5 - 1.0, atol=1e-6)


def test_several_images_are_normalised_alike_however_they_lie_in_memory():
    images = noise(2, 6, 5, 3)
    mirrored, locked = images[:, :, ::-1], images.copy()
    locked.setflags(write=False)
    for pixels in (images, mirrored, locked, images[:, ::2]):
        found = normalise(pixels, IMAGENET_MEAN, IMAGENET_STD)
        assert found.is_contiguous()
        by_hand = np.moveaxis((pixels / 255.0 - IMAGENET_MEAN) / IMAGENET_STD, -1, -3)
        np.testing.assert_allclose(found, by_hand, atol=1e-6)
    assert images.flags.writeable
    assert np.array_equal(images, noise(2, 6, 5, 3))  # what is given stays as it is


@pytest.mark.parametrize("image", [noise(8, 8), noise(8, 8, 4), noise(8, 8, 3) / 255, noise(0, 8, 3), "image.png"])
def test_what_is_no_rgb_image_of_8_bits_is_refused(image):
    with pytest.raises(ImageReadError, match=r"an image is \(H, W, 3\) uint8"):
        image_size(image)


def test_an_image_of_another_size_is_refused():
    grid = PatchGrid.proportional((8, 8), patch=8, resolution=8)
    with pytest.raises(ResolutionMismatchError, match=r"the image is \(8, 9\), this grid is for \(8, 8\)"):
        grid.to_patches(noise(8, 9, 3))


def test_transposed_scores_are_refused():
    grid = PatchGrid.proportional((16, 24), patch=8, resolution=24)
    with pytest.raises(ResolutionMismatchError, match=r"\(3, 2\), this grid is \(2, 3\)"):
        grid.to_image(torch.zeros(3, 2))


@pytest.mark.parametrize("size", [(61, 100), (100, 61), (90, 90), (7, 23)])
@pytest.mark.parametrize(("blur", "border"), [("none", "none"), ("reflect", "symmetric")])
def test_the_default_map_equals_the_slow_one_at_fractional_scales(size, blur, border):
    grid = PatchGrid.proportional(size, patch=8, resolution=64, blur=blur)
    scores = np.random.default_rng(1).random(grid.shape)
    patch_px = tuple(8 * full / resized for full, resized in zip(size, grid.resized_size, strict=True))
    expected = slow_map(scores, patch_px=patch_px, size=size, border=border)
    np.testing.assert_allclose(grid.to_image(torch.tensor(scores)), expected, atol=2e-6)


@pytest.mark.parametrize(("size", "top", "left"), [((60, 100), 20, 0), ((100, 60), 0, 20), ((93, 90), 0, 2)])
def test_the_published_map_equals_the_slow_one_cropped_with_its_rounding(size, top, left):
    # 93 - 90 = 3 is padded 1 left and 2 right, but cropped from round(1.5) = 2: the known shift by one pixel
    grid, side = PatchGrid.published(size, patch=14, resolution=70), max(size)
    scores = np.random.default_rng(2).random((5, 5))
    square = slow_map(scores, patch_px=(side / 5, side / 5), size=(side, side), border="constant")
    expected = square[top : top + size[0], left : left + size[1]]
    np.testing.assert_allclose(grid.to_image(torch.tensor(scores)), expected, atol=2e-6)


@pytest.mark.slow
@settings(max_examples=60)
@given(size=SIZES, patch=st.sampled_from([8, 14, 16]), resolution=st.integers(60, 500), data=st.data())
def test_a_single_hot_patch_peaks_at_its_own_centre(size, patch, resolution, data):
    grid = PatchGrid.proportional(size, patch=patch, resolution=resolution, blur=data.draw(st.sampled_from(BLURS)))
    hot = tuple(data.draw(st.integers(0, count - 1)) for count in grid.shape)
    scores = torch.zeros(grid.shape)
    scores[hot] = 1.0
    anomaly_map = grid.to_image(scores)
    for axis in (0, 1):
        pitch_px = patch * size[axis] / grid.resized_size[axis]
        centre_px = (hot[axis] + 0.5) * pitch_px
        profile = anomaly_map.max(axis=1 - axis)
        peak_px = np.flatnonzero(profile >= profile.max() * (1 - 1e-5)).mean() + 0.5  # the middle of a tie
        margin_px = BLUR_REACH_PX + pitch_px  # nearer to the border its own mirror image pulls at it
        if margin_px <= centre_px <= size[axis] - margin_px:
            assert abs(peak_px - centre_px) <= 1.0
        else:
            assert abs(peak_px - centre_px) <= margin_px


@settings(max_examples=50)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)), resolution=st.integers(8, 200), blur=st.sampled_from(BLURS)
)
def test_constant_scores_give_a_constant_map_up_to_the_last_pixel(size, resolution, blur):
    grid = PatchGrid.proportional(size, patch=8, resolution=resolution, blur=blur)
    np.testing.assert_allclose(grid.to_image(torch.full(grid.shape, 3.0)), np.full(size, 3.0), rtol=1e-6)


def test_the_published_blur_darkens_the_border_and_nothing_else():
    constant = PatchGrid.published((100, 100), patch=14, resolution=70).to_image(torch.ones(5, 5))
    inner = constant[BLUR_REACH_PX:-BLUR_REACH_PX, BLUR_REACH_PX:-BLUR_REACH_PX]
    np.testing.assert_allclose(inner, 1.0, rtol=1e-6)
    assert constant[0, 0] < 0.5


def test_a_canvas_smaller_than_the_image_leaves_zeros_around_it():
    drawn = PatchGrid.published((20, 30), patch=14, resolution=70, canvas_px=11).to_image(torch.ones(5, 5))
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 14, 9, 19)


@pytest.mark.parametrize(("side", "first", "last"), [(12, 0, 10), (13, 1, 11), (14, 1, 11)])
def test_a_canvas_that_is_barely_too_small_keeps_the_size_of_the_image(side, first, last):
    drawn = PatchGrid.published((side, 30), patch=14, resolution=70, canvas_px=11).to_image(torch.ones(5, 5))
    rows, _ = np.nonzero(drawn)
    assert drawn.shape == (side, 30)
    assert (rows.min(), rows.max()) == (first, last)


def test_axis_matrices_are_shared_and_cannot_be_written():
    arguments = {"patches": 5, "patches_per_pixel": 0.1, "canvas_px": 50, "image_px": 50, "blur": "reflect"}
    assert axis_matrix(**arguments) is axis_matrix(**arguments)
    with pytest.raises(ValueError, match="read-only"):
        axis_matrix(**arguments).data[0] = 1.0
