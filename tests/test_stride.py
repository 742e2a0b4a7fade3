import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_teachers import counting_teacher
from tinydefects.detector.detector import Detector
from tinydefects.detector.passes import plan_passes
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.errors import ResolutionMismatchError, TinyDefectsError

BLUR_REACH_PX = 5 * 2 + 3 * 3  # five filters of radius 2, three of radius 3


def texture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 130, (*size, 3), dtype=np.uint8)


def fitted(**options) -> Detector:
    options = {"teacher": counting_teacher(), "resolution": "native", "epochs": 8, "learning_rate": 3e-2} | options
    return Detector(**options).fit([texture((40, 56), seed) for seed in (1, 2)])


def mean_of_every_patch(image: np.ndarray, patch: int, stride: int) -> np.ndarray:
    rows, columns = ((side - patch) // stride + 1 for side in image.shape[:2])
    return np.array(
        [
            [image[i * stride : i * stride + patch, j * stride : j * stride + patch].mean() for j in range(columns)]
            for i in range(rows)
        ],
        dtype=np.float32,
    )


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize("tile", [None, 32])
def test_scores_of_all_shifts_stand_where_their_patches_stand(stride, tile):
    image = texture((40, 72), seed=3)
    plan = plan_passes(PatchGrid.native((40, 72), patch=8), tile=tile, stride=stride)
    merged = plan.merge(mean_of_every_patch(pixels, 8, 8) for pixels, _ in plan.views(image))
    expected = mean_of_every_patch(image, 8, stride)
    assert plan.shape == merged.shape == expected.shape
    np.testing.assert_allclose(merged, expected, rtol=1e-5)


def test_half_a_patch_is_four_passes_and_a_quarter_sixteen():
    grid = PatchGrid.proportional((60, 100), patch=8, resolution=80)
    assert [len(plan_passes(grid, stride=stride).grids) for stride in (8, 4, 2)] == [1, 4, 16]
    shapes = [plan_grid.shape for plan_grid in plan_passes(grid, stride=4).grids]
    assert shapes == [(6, 10), (6, 9), (5, 10), (5, 9)]
    assert plan_passes(grid, stride=4).shape == (11, 19)


def test_a_side_of_one_patch_is_not_shifted():
    plan = plan_passes(PatchGrid.native((8, 24), patch=8), stride=4)
    assert plan.shape == (1, 5)
    assert [grid.shape for grid in plan.grids] == [(1, 3), (1, 2)]


@pytest.mark.slow
@settings(max_examples=80)
@given(
    size=st.tuples(st.integers(60, 300), st.integers(60, 300)),
    geometry=st.sampled_from([(8, 4), (8, 2), (14, 7), (14, 2), (16, 8)]),
    resolution=st.one_of(st.none(), st.integers(60, 400)),
)
def test_scores_that_rise_evenly_make_a_map_that_rises_evenly(size, geometry, resolution):
    """The value at a pixel is its place on the grid of scores: centre of the pixel less half a patch, in strides."""
    patch, stride = geometry
    grid = PatchGrid.native(size, patch=patch)
    if resolution is not None:
        grid = PatchGrid.proportional(size, patch=patch, resolution=resolution)
    rows, columns = grid.score_shape(stride)
    for axis, scores in enumerate(
        (np.arange(rows)[:, None] + np.zeros(columns), np.arange(columns) + np.zeros((rows, 1)))
    ):
        drawn = grid.to_image(scores.astype(np.float32), stride=stride).mean(axis=1 - axis)
        scale = grid.resized_size[axis] / size[axis]
        expected = ((np.arange(size[axis]) + 0.5) * scale - patch / 2) / stride
        inside = np.flatnonzero((expected >= 0) & (expected <= scores.shape[axis] - 1))[BLUR_REACH_PX:-BLUR_REACH_PX]
        np.testing.assert_allclose(drawn[inside], expected[inside], atol=2e-3)


@pytest.mark.slow
@settings(max_examples=60)
@given(size=st.tuples(st.integers(40, 300), st.integers(40, 300)), patch=st.sampled_from([8, 14]), data=st.data())
def test_a_single_hot_shifted_patch_peaks_at_its_own_centre(size, patch, data):
    grid, stride = PatchGrid.native(size, patch=patch), patch // 2
    hot = tuple(data.draw(st.integers(0, count - 1)) for count in grid.score_shape(stride))
    scores = torch.zeros(grid.score_shape(stride))
    scores[hot] = 1.0
    anomaly_map = grid.to_image(scores, stride=stride)
    for axis in (0, 1):
        centre_px = hot[axis] * stride + patch / 2
        profile = anomaly_map.max(axis=1 - axis)
        peak_px = np.flatnonzero(profile >= profile.max() * (1 - 1e-5)).mean() + 0.5
        if BLUR_REACH_PX + patch <= centre_px <= size[axis] - BLUR_REACH_PX - patch:
            assert abs(peak_px - centre_px) <= 0.5


def test_a_stride_of_one_patch_changes_no_bit():
    image = texture((45, 61), seed=4)
    plain, one_patch = fitted().predict(image), fitted(stride=8).predict(image)
    assert np.array_equal(plain.anomaly_map, one_patch.anomaly_map)
    assert plain.score == one_patch.score


def test_a_spot_between_four_patches_is_seen_whole_by_a_shifted_one():
    image = np.full((64, 64, 3), 110, np.uint8)
    image[28:36, 28:36] = (150, 110, 110)  # a quarter of it in each of four patches, all of it in the one at (28, 28)
    plain, shifted = fitted().predict(image).anomaly_map, fitted(stride=4).predict(image).anomaly_map
    assert abs(int(shifted.argmax()) // 64 - 31.5) <= 1
    assert abs(int(shifted.argmax()) % 64 - 31.5) <= 1
    assert shifted.max() > 1.5 * plain.max()


def test_shifts_work_on_scaled_images_and_students_learn_from_them():
    teacher = counting_teacher()
    detector = fitted(teacher=teacher, resolution=112, stride=4)
    assert teacher.model.passes == 2 * 4
    assert detector.n_images == 2
    assert detector.predict(texture((33, 90))).anomaly_map.shape == (33, 90)


def test_a_stride_that_does_not_divide_the_patch_is_refused_with_those_that_do():
    with pytest.raises(
        TinyDefectsError, match="a stride of 5 px does not divide the patch of 14 px: choose 14, 7, 2, 1"
    ):
        plan_passes(PatchGrid.native((60, 60), patch=14), stride=5)


def test_scores_of_another_stride_are_refused():
    grid = PatchGrid.native((16, 24), patch=8)
    with pytest.raises(ResolutionMismatchError, match=r"\(2, 3\), this grid is \(3, 5\)"):
        grid.to_image(torch.zeros(2, 3), stride=4)
