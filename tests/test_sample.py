from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from dataset_trees import draw
from tinydefects.data.sample import Prediction, Sample, mean_of_highest, n_scored
from tinydefects.errors import DatasetError, ResolutionMismatchError, ScoreError


def a_sample(folder: Path, **changes: object) -> Sample:
    fields = {"id": "test/crack/000", "image_path": folder / "000.png", "label": "defect"} | changes
    return Sample(**fields)


def test_the_defect_type_is_the_folder_of_the_image():
    assert a_sample(Path(), id="test/crack/000").defect_type == "crack"
    assert a_sample(Path(), id="train/good/12 (3)").defect_type == "good"


def test_an_image_comes_at_its_own_size(tmp_path):
    draw(tmp_path / "000.png", size=(5, 9))
    assert a_sample(tmp_path).image().shape == (5, 9, 3)


def test_a_good_sample_has_an_empty_mask_of_its_own_size(tmp_path):
    draw(tmp_path / "000.png", size=(5, 9), spot=(1, 1))
    mask = a_sample(tmp_path, label="good").mask()
    assert (mask.shape, mask.dtype, mask.any()) == ((5, 9), np.bool_, False)


def test_several_masks_are_united(tmp_path):
    draw(tmp_path / "000.png", size=(2, 3))
    masks = (
        draw(tmp_path / "a.png", size=(2, 3), spot=(0, 0), value=1),
        draw(tmp_path / "b.png", size=(2, 3), spot=(1, 2), value=250),
    )
    mask = a_sample(tmp_path, mask_paths=masks).mask()
    assert mask.tolist() == [[True, False, False], [False, False, True]]


def test_the_mask_rule_decides_about_a_dim_pixel(tmp_path):
    draw(tmp_path / "000.png")
    masks = (draw(tmp_path / "a.png", spot=(1, 2), value=127),)
    assert a_sample(tmp_path, mask_paths=masks).mask().sum() == 1
    assert a_sample(tmp_path, mask_paths=masks, mask_rule="above_127").mask().sum() == 0


def test_a_defective_image_that_nobody_outlined_marks_nothing(tmp_path):
    draw(tmp_path / "000.png", size=(5, 9))
    mask = a_sample(tmp_path, label="defect").mask()
    assert (mask.shape, mask.any()) == ((5, 9), False)


def test_a_sample_of_unknown_label_never_has_a_mask_of_silent_zeros(tmp_path):
    draw(tmp_path / "000.png")
    with pytest.raises(DatasetError, match=r"000\.png: labelled unknown but has no mask"):
        a_sample(tmp_path, label="unknown").mask()


def test_a_mask_of_another_size_is_refused_and_named(tmp_path):
    draw(tmp_path / "000.png", size=(4, 6))
    masks = (draw(tmp_path / "a.png", size=(6, 4)),)
    with pytest.raises(ResolutionMismatchError, match=r"a\.png: the mask is \(6, 4\) but its image .*000\.png"):
        a_sample(tmp_path, mask_paths=masks).mask()


def test_a_sample_cannot_be_changed(tmp_path):
    with pytest.raises(FrozenInstanceError):
        a_sample(tmp_path).label = "good"


def test_a_prediction_keeps_its_map_and_score():
    prediction = Prediction(np.zeros((2, 3), dtype=np.float32), -1.5)
    assert (prediction.anomaly_map.shape, prediction.score) == ((2, 3), -1.5)


@pytest.mark.parametrize("pixels_at_once", [7, 100, 1000])
def test_the_highest_pixels_of_a_large_map_are_found_part_after_part(monkeypatch, pixels_at_once):
    monkeypatch.setattr("tinydefects.data.sample.PIXELS_AT_ONCE", pixels_at_once)
    anomaly_map = np.random.default_rng(0).permutation(np.arange(6000, dtype=np.float32)).reshape(60, 100)
    assert mean_of_highest(anomaly_map) == sum(range(5994, 6000)) / 6
    assert mean_of_highest(anomaly_map[:6]) == anomaly_map[:6].max()


def test_the_image_score_is_of_a_thousandth_of_the_pixels():
    assert [n_scored(n) for n in (999, 1000, 1999, 12_000_000)] == [0, 1, 1, 12_000]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_prediction_refuses_what_cannot_be_ranked(value):
    broken = np.zeros((2, 3), dtype=np.float32)
    broken[1, 1] = value
    with pytest.raises(ScoreError, match="nan or infinity"):
        Prediction(broken, 0.0)
    with pytest.raises(ScoreError, match="nan or infinity"):
        Prediction(np.zeros((2, 3), dtype=np.float32), value)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (0, 4)])
def test_a_prediction_refuses_a_map_that_is_not_height_by_width(shape):
    with pytest.raises(ScoreError, match="an anomaly map is"):
        Prediction(np.zeros(shape, dtype=np.float32), 0.0)
