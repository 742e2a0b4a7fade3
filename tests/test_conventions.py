"""docs/conventions.md, one short proof each; the details are tested beside each module."""

import inspect
import json

import numpy as np
import pytest
import torch

from dataset_trees import draw
from tinydefects.data.defects import find_defects
from tinydefects.data.json_files import nan_to_null
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.datasets.folder import load_folder
from tinydefects.detector.detector import Detector
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.teacher import load_teacher
from tinydefects.errors import DatasetError, ResolutionMismatchError
from tinydefects.metrics.evaluation import evaluate


@pytest.fixture
def one_defect(tmp_path) -> Sample:
    """A 40 x 60 image (height x width) with a defect of 2 x 3 px at row 10, column 20."""
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:12, 20:23] = True
    write_png(tmp_path / "image.png", np.zeros((40, 60, 3), dtype=np.uint8))
    write_png(tmp_path / "mask.png", mask)
    return Sample(
        id="test/pit/0", image_path=tmp_path / "image.png", mask_paths=(tmp_path / "mask.png",), label="defect"
    )


def test_1_sizes_are_height_then_width(one_defect):
    assert one_defect.mask().shape == (40, 60)
    assert find_defects(one_defect.mask())[0].box == (slice(10, 12), slice(20, 23))
    assert PatchGrid.proportional((40, 60), patch=10, resolution=60).shape == (4, 6)


def test_2_higher_is_more_anomalous(one_defect):
    scores = one_defect.mask().astype(np.float32)
    assert evaluate([(one_defect, Prediction(scores, 1.0))]).pixel_auroc == 1.0
    assert evaluate([(one_defect, Prediction(-scores, 1.0))]).pixel_auroc == 0.0


def test_3_a_map_of_another_size_is_refused(one_defect):
    with pytest.raises(ResolutionMismatchError, match=r"\(20, 30\).*\(40, 60\)"):
        evaluate([(one_defect, Prediction(np.zeros((20, 30), dtype=np.float32), 1.0))])


def test_4_a_single_hot_patch_peaks_at_its_own_centre():
    grid = PatchGrid.proportional((160, 240), patch=16, resolution=240)
    patch_scores = torch.zeros(grid.shape)
    patch_scores[4, 9] = 1.0  # covers rows 64 to 80 and columns 144 to 160
    anomaly_map = grid.to_image(patch_scores)
    highest = np.argwhere(anomaly_map == anomaly_map.max())
    assert highest.mean(axis=0) == pytest.approx([71.5, 151.5])


def test_5_pixels_that_touch_at_a_corner_are_one_defect():
    assert [defect.area_px for defect in find_defects(np.eye(3, dtype=bool))] == [3]


@pytest.mark.parametrize("limit", [0.3, 0.05])
def test_6_a_map_that_says_nothing_scores_half_the_limit(one_defect, limit):
    constant = Prediction(np.zeros((40, 60), dtype=np.float32), 0.0)
    assert evaluate([(one_defect, constant)], fpr_limits=[limit]).overall.aupro == pytest.approx((limit / 2,))


def test_7_undefined_is_nan_beside_its_count_and_null_in_json(one_defect):
    evaluation = evaluate([(one_defect, Prediction(np.zeros((40, 60), dtype=np.float32), 0.0))])
    assert (np.isnan(evaluation.image_auroc), evaluation.n_good_images) == (True, 0)
    assert json.dumps(nan_to_null({"image_auroc": evaluation.image_auroc})) == '{"image_auroc": null}'


def test_8_images_and_masks_meet_by_stem_and_a_missing_mask_is_an_error(tmp_path):
    for name in ("good/0.png", "good/1.png", "defect/b.png", "mask/a.png"):
        draw(tmp_path / name)
    with pytest.raises(DatasetError, match=r"b\.png: no mask"):
        load_folder(tmp_path)


def test_9_both_blocks_carry_the_final_norm():
    teacher = load_teacher("builtin", device="cpu")
    batch = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        bare = teacher.model.forward_intermediates(
            batch, indices=list(teacher.blocks), norm=False, output_fmt="NLC", intermediates_only=True
        )
        for features, unnormed in zip(teacher.features(batch), bare, strict=True):
            normed = teacher.model.norm(unnormed).reshape(1, 4, 6, teacher.dim)
            torch.testing.assert_close(features, normed)


def test_10_learning_is_given_images_and_nothing_else(one_defect):
    told = [
        "self",
        "images",
        "channels",
        "calibration",
        "unseen",
        "learnt",
        "progress",
    ]  # calibration: wishes, no images
    assert list(inspect.signature(Detector.fit).parameters) == told
    text = str(evaluate([(one_defect, Prediction(np.zeros((40, 60), dtype=np.float32), 0.0))]))
    assert "best F1" in text
    assert text.count("oracle") == text.count("best F1")
