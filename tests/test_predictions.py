import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

from dataset_trees import draw
from tinydefects.data.pairing import MapsError, pair_maps
from tinydefects.data.predictions import (
    image_score,
    map_path,
    read_maker,
    read_paired,
    read_prediction,
    write_maker,
    write_prediction,
)
from tinydefects.data.sample import Category, Prediction, Sample

SIZE = (4, 6)
SAMPLE = Sample(id="test/crack/000", image_path=Path("000.png"), label="good")


@pytest.fixture
def category(tmp_path):
    """Two test images of 4 x 6 pixels."""
    paths = [draw(tmp_path / "images" / f"{number}.png", size=SIZE) for number in (0, 1)]
    test = [Sample(id=f"test/crack/00{n}", image_path=path, label="good") for n, path in enumerate(paths)]
    return Category(id="mvtec_ad/screw", train=[], test=test)


def save_maps(folder, *maps):
    folder.mkdir(parents=True, exist_ok=True)
    for number, anomaly_map in enumerate(maps):
        np.save(folder / f"{number:03d}.npy", np.asarray(anomaly_map))


def read_pairs(source, category, rule="stored", *, resample="none"):
    pairing = pair_maps(source, category, resample=resample, stored_scores=rule == "stored")
    pairing.require_sound()
    return read_paired(pairing, rule)


def test_maps_lie_where_mvtec_looks_for_them():
    assert map_path(Path("maps"), "mvtec_ad/screw", SAMPLE) == Path("maps/screw/test/crack/000.tiff")


def test_map_and_score_come_back_bit_for_bit(tmp_path):
    anomaly_map = np.random.default_rng(0).random((7, 5), dtype=np.float32)
    path = write_prediction(tmp_path, "mvtec_ad/screw", SAMPLE, Prediction(anomaly_map, 0.1234567890123))
    stored = tifffile.imread(path)
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, anomaly_map)
    assert read_prediction(path).score == 0.1234567890123


def test_a_map_without_a_score_gets_the_mean_of_its_highest_thousandth(tmp_path):
    anomaly_map = np.arange(3000, dtype=np.float32).reshape(50, 60)
    np.save(tmp_path / "map.npy", anomaly_map)
    assert read_prediction(tmp_path / "map.npy").score == 2998.0  # mean of 2997, 2998, 2999
    assert read_prediction(tmp_path / "map.npy", "max").score == 2999.0


def test_a_stored_score_counts_only_where_the_rule_says_so():
    anomaly_map = np.array([[1.0, 5.0]], dtype=np.float32)
    assert image_score(anomaly_map, "stored", 0.25) == 0.25
    assert image_score(anomaly_map, "max", 0.25) == 5.0
    assert image_score(anomaly_map, "top_0.1_percent", 0.25) == 5.0  # at least one pixel


@pytest.mark.parametrize("layout", ["screw/test/crack", "test/crack"])
@pytest.mark.parametrize("suffix", [".tiff", ".tif"])
def test_foreign_maps_are_found_in_both_layouts(tmp_path, category, layout, suffix):
    (tmp_path / layout).mkdir(parents=True)
    for number in (0, 1):
        tifffile.imwrite(tmp_path / layout / f"00{number}{suffix}", np.full(SIZE, number, dtype=np.float16))
    pairs = list(read_pairs(tmp_path, category))
    assert [sample for sample, _ in pairs] == list(category.test)
    assert [prediction.score for _, prediction in pairs] == [0.0, 1.0]
    assert pairs[0][1].anomaly_map.dtype == np.float32


def test_a_missing_map_is_named_before_anything_is_scored(tmp_path, category):
    save_maps(tmp_path / "test/crack", np.zeros(SIZE))
    with pytest.raises(MapsError, match=r"1 missing \(test/crack/001: expected .*screw/test/crack/001 with \.tiff"):
        read_pairs(tmp_path, category)


def test_every_map_that_is_not_finite_is_collected_and_nothing_after_the_first_is_scored(tmp_path, category):
    broken = [np.full(SIZE, value, dtype=np.float64) for value in (np.nan, 1e300)]  # the second overflows float32
    save_maps(tmp_path / "test/crack", *broken)
    yielded = []
    with pytest.raises(MapsError, match=r"2 not finite \(test/crack/000: ") as caught:
        yielded.extend(read_pairs(tmp_path, category))
    assert yielded == []
    assert [(problem.kind, problem.name) for problem in caught.value.problems] == [
        ("not finite", "test/crack/000"),
        ("not finite", "test/crack/001"),
    ]


def test_sound_maps_after_a_broken_one_are_read_but_not_scored(tmp_path, category):
    save_maps(tmp_path / "test/crack", np.full(SIZE, np.nan), np.zeros(SIZE))
    yielded = []
    with pytest.raises(MapsError, match="1 not finite"):
        yielded.extend(read_pairs(tmp_path, category))
    assert yielded == []


def test_a_map_of_another_size_is_resampled_only_when_asked_and_its_image_score_with_it(tmp_path, category):
    coarse = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=np.float32)
    save_maps(tmp_path / "test/crack", coarse, np.zeros(SIZE))
    with pytest.raises(MapsError, match=r"1 wrong size .*\(2, 3\), the image \(4, 6\).*--resample bilinear"):
        read_pairs(tmp_path, category)
    (_, enlarged), (_, untouched) = read_pairs(tmp_path, category, "max", resample="bilinear")
    assert enlarged.anomaly_map.shape == untouched.anomaly_map.shape == SIZE
    assert enlarged.anomaly_map[3].tolist() == pytest.approx([0, 0, 0, 0.25, 0.75, 1.0])
    assert enlarged.score == 1.0


def test_a_manifest_brings_maps_and_scores(tmp_path, category):
    save_maps(tmp_path / "mine", np.zeros(SIZE), np.ones(SIZE))
    (tmp_path / "mine/manifest.csv").write_text("path,map,score\n1.png,001.npy,0.5\n0.png,000.npy,0.75\n")
    pairs = list(read_pairs(tmp_path / "mine/manifest.csv", category))
    assert [(sample.id, prediction.score) for sample, prediction in pairs] == [
        ("test/crack/000", 0.75),
        ("test/crack/001", 0.5),
    ]
    assert pairs[1][1].anomaly_map.min() == 1.0


def test_a_folder_remembers_who_made_its_maps_last(tmp_path):
    write_maker(tmp_path / "maps", {"detector": "a", "seed": 3})
    assert read_maker(tmp_path / "maps") == {"detector": "a", "seed": 3}
    assert read_maker(tmp_path / "maps" / "screw") == {"detector": "a", "seed": 3}
    assert read_maker(tmp_path / "elsewhere" / "screw") == {}
    write_maker(tmp_path / "maps", {"detector": "b", "seed": 3})
    assert read_maker(tmp_path / "maps")["detector"] == "b"


def test_nan_is_found_in_a_map_that_is_resampled_too(tmp_path, category):
    coarse = np.zeros((2, 3), dtype=np.float32)
    coarse[1, 1] = np.nan
    save_maps(tmp_path / "test/crack", np.zeros(SIZE), coarse)
    with pytest.raises(MapsError, match=r"1 not finite \(test/crack/001"):
        list(read_pairs(tmp_path, category, resample="bilinear"))


def test_one_map_is_in_memory_at_a_time(tmp_path):
    image = draw(tmp_path / "0.png", size=(200, 300))
    test = [Sample(id=f"test/good/{n:03d}", image_path=image, label="good") for n in range(20)]
    save_maps(tmp_path / "maps/test/good", *[np.zeros((200, 300), dtype=np.float32)] * 20)
    pairs = read_pairs(tmp_path / "maps", Category(id="a/b", train=[], test=test))
    tracemalloc.start()
    scores = [prediction.score for _, prediction in pairs]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(scores) == 20
    assert peak < 4 * 200 * 300 * 4  # bytes of four maps
