from pathlib import Path

import numpy as np
import pytest

from tinydefects.pixels import write_png
from tinydefects.planner import describe_inspection, inspect_defects
from tinydefects.sample import Sample


def sample_with(mask: np.ndarray, folder: Path) -> Sample:
    write_png(folder / "image.png", np.zeros(mask.shape, dtype=np.uint8))
    write_png(folder / "mask.png", mask)
    return Sample(id="test/pit/000", image_path=folder / "image.png", mask_paths=(folder / "mask.png",), label="defect")


def test_a_pixel_between_the_sampling_points_is_lost_at_half_size(tmp_path):
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = True  # half size samples rows and columns 1, 3, 5, 7
    mask[3, 3] = True
    inspection = inspect_defects([sample_with(mask, tmp_path)], patch_size=4, resolutions=(4,))
    assert inspection.n_defects == 2
    half, native = inspection.plans
    assert (half.resolution, half.share_vanished) == (4, 0.5)
    assert (native.resolution, native.share_vanished) == (None, 0.0)


def test_diameter_in_patches_shrinks_with_the_resolution(tmp_path):
    mask = np.zeros((100, 50), dtype=bool)
    mask[10:30, 10:30] = True  # 400 px: a disc of 22.57 px
    inspection = inspect_defects([sample_with(mask, tmp_path)], patch_size=10, resolutions=(50,))
    assert inspection.plans[0].median_diameter_patches == pytest.approx(1.128, abs=1e-3)
    assert inspection.plans[1].median_diameter_patches == pytest.approx(2.257, abs=1e-3)
    assert inspection.plans[0].share_below_one_patch == 0.0


def test_the_description_speaks_millimetres_when_the_pitch_is_known(tmp_path):
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:9, 5:9] = True
    inspection = inspect_defects([sample_with(mask, tmp_path)], resolutions=(10,), pixel_pitch_mm=0.5)
    text = describe_inspection("a/b", inspection)
    assert "diameter, mm" in text
    assert "2.257" in text  # 4.514 px at half a millimetre


def test_no_defects_is_said_in_words():
    assert "no defects" in describe_inspection("a/b", inspect_defects([]))
