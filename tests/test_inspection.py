import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinydefects.data.defects import find_defects
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.inspection import draw_discs, inspect_defects, inspect_disc, kept_by_shrinking
from tinydefects.planner.showing import describe_inspection


def sample_with(mask: np.ndarray, folder: Path, name: str = "0") -> Sample:
    write_png(folder / f"{name}.png", np.zeros(mask.shape, dtype=np.uint8))
    write_png(folder / f"{name}_mask.png", mask)
    mask_path = folder / f"{name}_mask.png"
    return Sample(id=f"test/pit/{name}", image_path=folder / f"{name}.png", mask_paths=(mask_path,), label="defect")


def dots(size: tuple[int, int], *places: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    for place in places:
        mask[place] = True
    return mask


def test_a_pixel_between_the_sampling_points_is_lost_at_half_size(tmp_path):
    mask = dots((8, 8), (0, 0), (3, 3))  # half size samples rows and columns 1, 3, 5, 7
    inspection = inspect_defects([sample_with(mask, tmp_path)], patch_size=4, resolutions=(4,))
    assert inspection.n_defects == 2
    half, native = inspection.plans
    assert (half.resolution, half.nearest.share_gone, half.nearest.share_pixels_lost) == (4, 0.5, 0.5)
    assert (native.resolution, native.nearest.share_gone, native.nearest.share_pixels_lost) == (None, 0.0, 0.0)


def test_bilinear_shrinking_keeps_what_fills_more_than_half_of_a_cell():
    mask = np.zeros((8, 8), dtype=bool)
    mask[0:2, 0:2] = True  # a whole cell in the corner, where the triangle is cut off by the border
    mask[4, 4] = True  # a quarter of a cell
    kept = kept_by_shrinking(mask, 4, "bilinear")
    assert kept[:2, :2].all()
    assert not kept[4, 4]


@pytest.mark.parametrize("rule", ["nearest", "bilinear"])
def test_what_shrinking_keeps_is_what_pillow_marks_brought_back(rule):
    mask = np.random.default_rng(3).random((60, 40)) > 0.6
    filters = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR}
    shrunk = np.asarray(Image.fromarray(mask.astype(np.float32)).resize((20, 30), filters[rule])) > 0.5
    back = np.repeat(np.repeat(shrunk, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(kept_by_shrinking(mask, 30, rule), back & mask)


def test_a_mask_that_is_not_shrunk_loses_nothing():
    mask = dots((30, 20), (3, 3))
    for resolution in (None, 30, 1036):
        assert kept_by_shrinking(mask, resolution, "bilinear") is mask


def test_the_smallest_quarter_is_counted_apart(tmp_path):
    mask = dots((64, 64), (0, 0))
    for row in (8, 24, 40):
        mask[row : row + 8, 8:16] = True
    (plan, _) = inspect_defects([sample_with(mask, tmp_path)], resolutions=(16,)).plans
    assert (plan.nearest.share_gone, plan.nearest.share_gone_smallest) == (0.25, 1.0)
    assert plan.nearest.share_pixels_lost == pytest.approx(1 / 193)


def test_diameter_in_patches_shrinks_with_the_resolution(tmp_path):
    mask = np.zeros((100, 50), dtype=bool)
    mask[10:30, 10:30] = True  # 400 px: a disc of 22.57 px
    half, native = inspect_defects([sample_with(mask, tmp_path)], patch_size=10, resolutions=(50,)).plans
    assert half.diameter_quantiles_patches == pytest.approx([1.128] * 6, abs=1e-3)
    assert native.diameter_quantiles_patches == pytest.approx([2.257] * 6, abs=1e-3)
    assert (half.share_below_one_patch, half.share_below_two_patches) == (0.0, 1.0)
    assert native.share_below_two_patches == 0.0
    assert (half.two_patches_px, native.two_patches_px) == (40.0, 20.0)


def test_the_plan_is_made_for_the_five_percent_quantile_in_the_largest_image(tmp_path):
    small, large = np.zeros((40, 40), dtype=bool), np.zeros((50, 90), dtype=bool)
    small[5:9, 5:9] = True
    large[5:25, 5:25] = True
    samples = [sample_with(small, tmp_path, "small"), sample_with(large, tmp_path, "large")]
    plan = inspect_defects(samples).input_plan
    assert plan.image_size_px == (50, 90)
    assert plan.defect_px == pytest.approx(np.quantile([4.514, 22.568], 0.05), abs=1e-3)
    assert inspect_defects(samples, defect_px=9.0).input_plan.defect_px == 9.0


def test_the_description_speaks_millimetres_when_the_pitch_is_known(tmp_path):
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:9, 5:9] = True
    text = describe_inspection(
        "a/b", inspect_defects([sample_with(mask, tmp_path)], resolutions=(10,), pixel_pitch_mm=0.5)
    )
    assert "diameter, mm" in text
    assert "2.257" in text  # 4.514 px at half a millimetre


def test_no_defects_is_said_in_words_and_has_no_plan():
    inspection = inspect_defects([])
    assert "no defects" in describe_inspection("a/b", inspection)
    assert inspection.input_plan is None
    assert math.isnan(inspection.plans[0].bilinear.share_gone)


@pytest.mark.slow
@pytest.mark.parametrize("diameter", [1.0, 2.0, 5.5, 40.0])
def test_drawn_discs_have_the_asked_for_area_on_average_and_stand_apart(diameter):
    areas = [defect.area_px for defect in find_defects(draw_discs(diameter, (600, 900), cell_px=4.0))]
    assert len(areas) > 50
    assert np.mean(areas) == pytest.approx(math.pi * diameter**2 / 4, rel=0.02 if diameter > 1 else 0.3)


@pytest.mark.slow
def test_as_many_one_pixel_discs_survive_sampling_as_the_grid_has_pixels_for():
    """A single pixel is hit with probability 1 / g² where one pixel in g is sampled along each side."""
    inspection = inspect_disc(0.5, (1000, 1500), resolutions=(375,))
    assert inspection.area_quantiles_px == (1.0,) * 6
    assert 1 - inspection.plans[0].nearest.share_gone == pytest.approx(1 / 16, abs=0.01)


def test_a_disc_larger_than_the_image_is_refused():
    with pytest.raises(TinyDefectsError, match=r"a disc of 90 px does not fit into 80x500 px"):
        inspect_disc(90.0, (80, 500))
