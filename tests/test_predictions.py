from pathlib import Path

import numpy as np
import pytest
import tifffile

from tinydefects.errors import ImageReadError, ScoreError
from tinydefects.predictions import (
    claim_folder,
    image_score,
    map_path,
    read_maker,
    read_pairs,
    read_prediction,
    write_prediction,
)
from tinydefects.sample import Category, Prediction, Sample

SAMPLE = Sample(id="test/crack/000", image_path=Path("000.png"), label="good")
CATEGORY = Category(id="mvtec_ad/screw", train=[], test=[SAMPLE])


def test_maps_lie_where_mvtec_looks_for_them():
    assert map_path(Path("maps"), "mvtec_ad/screw", SAMPLE) == Path("maps/screw/test/crack/000.tiff")


def test_map_and_score_come_back_bit_for_bit(tmp_path):
    anomaly_map = np.random.default_rng(0).random((7, 5), dtype=np.float32)
    path = write_prediction(tmp_path, CATEGORY.id, SAMPLE, Prediction(anomaly_map, 0.1234567890123))
    stored = tifffile.imread(path)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, anomaly_map)
    assert read_prediction(path).score == 0.1234567890123


def test_a_map_without_a_score_gets_the_mean_of_its_highest_thousandth(tmp_path):
    anomaly_map = np.arange(3000, dtype=np.float32).reshape(50, 60)
    np.save(tmp_path / "map.npy", anomaly_map)
    assert read_prediction(tmp_path / "map.npy").score == 2998.0  # mean of 2997, 2998, 2999
    assert read_prediction(tmp_path / "map.npy", "max").score == 2999.0


def test_the_image_score_uses_at_least_one_pixel():
    assert image_score(np.array([[1.0, 5.0]], dtype=np.float32), Path("map.npy"), "top_0.1_percent") == 5.0


@pytest.mark.parametrize("layout", ["screw/test/crack", "test/crack"])
@pytest.mark.parametrize("suffix", [".tiff", ".tif"])
def test_foreign_maps_are_found_in_both_layouts(tmp_path, layout, suffix):
    (tmp_path / layout).mkdir(parents=True)
    tifffile.imwrite(tmp_path / layout / f"000{suffix}", np.ones((4, 4), dtype=np.float16))
    ((sample, prediction),) = read_pairs(tmp_path, CATEGORY)
    assert sample is SAMPLE
    assert prediction.anomaly_map.dtype == np.float32


def test_a_missing_map_is_named_before_anything_is_scored(tmp_path):
    with pytest.raises(ImageReadError, match=r"no anomaly map for 1 of 1 test images \(test/crack/000\)"):
        read_pairs(tmp_path, CATEGORY)


def test_a_map_with_nan_is_named(tmp_path):
    (tmp_path / "test/crack").mkdir(parents=True)
    np.save(tmp_path / "test/crack/000.npy", np.full((2, 2), np.nan, dtype=np.float32))
    with pytest.raises(ScoreError, match=r"000\.npy.*nan"):
        list(read_pairs(tmp_path, CATEGORY))


def test_a_folder_remembers_who_made_its_maps_and_takes_no_other(tmp_path):
    claim_folder(tmp_path / "maps", {"detector": "a", "seed": 3})
    claim_folder(tmp_path / "maps", {"detector": "a", "seed": 3})
    assert read_maker(tmp_path / "maps") == {"detector": "a", "seed": 3}
    assert read_maker(tmp_path / "maps" / "screw") == {"detector": "a", "seed": 3}
    assert read_maker(tmp_path / "elsewhere" / "screw") == {}
    with pytest.raises(ImageReadError, match="maps of another detector"):
        claim_folder(tmp_path / "maps", {"detector": "b", "seed": 3})
