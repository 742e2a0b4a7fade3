"""Maps of anybody as a method of the benchmark, and the method that learns nothing."""

from pathlib import Path

import numpy as np
import pytest

from tinydefects.data import pairing
from tinydefects.data.pairing import MapsError
from tinydefects.data.pixels import write_map, write_png
from tinydefects.data.predictions import write_maker, write_prediction
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.catalog import parse_method
from tinydefects.methods.local_contrast import local_contrast
from tinydefects.methods.method import Method, MethodInputs

SIZES = [(20, 30), (30, 20), (25, 25)]


def no_teacher():
    raise AssertionError("maps need no teacher")


def make(text: str) -> Method:
    kind, options = parse_method(text)
    inputs = MethodInputs(
        teacher=no_teacher, resolution=0, seed=0, features_folder=Path(), category="folder/part", options=options
    )
    return kind.make(inputs)


@pytest.fixture
def samples(tmp_path) -> list[Sample]:
    samples = []
    for index, size in enumerate(SIZES):
        path = tmp_path / "images" / f"{index}.png"
        write_png(path, np.full((*size, 3), 100, np.uint8))
        samples.append(Sample(id=f"test/crack/{index}", image_path=path, label="unknown"))
    return samples


@pytest.fixture
def maps(tmp_path, samples) -> Path:
    generator = np.random.default_rng(0)
    for sample, size in zip(samples, SIZES, strict=True):
        made = Prediction(generator.random(size, dtype=np.float32), score=7.0)
        write_prediction(tmp_path / "maps", "folder/part", sample, made)
    return tmp_path / "maps"


def test_the_maps_come_back_in_the_order_asked_for(maps, samples):
    peer = make(f"maps:{maps}")
    peer.fit([])
    turned = samples[::-1]
    assert [one.anomaly_map.shape for one in peer.predict(turned)] == SIZES[::-1]
    np.testing.assert_array_equal(peer.predict(turned)[0].anomaly_map, peer.predict(samples)[2].anomaly_map)


def test_the_image_score_is_that_of_all_methods_unless_asked_for(maps, samples):
    (prediction,) = make(f"maps:{maps}").predict(samples[:1])
    assert prediction.score == prediction.anomaly_map.max()  # the highest 0.1 % of 600 pixels is one
    assert make(f"maps:{maps}:image_score=stored").predict(samples[:1])[0].score == 7.0


def test_a_missing_map_is_named(maps, samples):
    (maps / "part/test/crack/1.tiff").unlink()
    with pytest.raises(MapsError, match=r"1 missing \(test/crack/1: expected .*maps/part/test/crack/1"):
        make(f"maps:{maps}").predict(samples)


def test_a_map_of_another_size_is_refused_or_resampled_on_demand(maps, samples):
    write_map(maps / "part/test/crack/0.tiff", np.ones((10, 15), np.float32))
    with pytest.raises(MapsError, match=r"1 wrong size \(test/crack/0"):
        make(f"maps:{maps}").predict(samples)
    assert make(f"maps:{maps}:resample=bilinear").predict(samples)[0].anomaly_map.shape == SIZES[0]


def test_whoever_made_the_maps_is_in_the_settings(maps):
    write_maker(maps, {"preset": "published", "epochs": 50})
    settings = make(f"maps:{maps}").settings
    assert settings["folder"] == str(maps)
    assert settings["made_by.preset"] == "published"
    assert settings["made_by.epochs"] == "50"


def test_a_folder_that_is_not_there_shows_before_anything_is_fitted(tmp_path):
    with pytest.raises(TinyDefectsError, match=r"nowhere: no such folder of maps, nor a manifest"):
        make(f"maps:{tmp_path / 'nowhere'}")
    with pytest.raises(TinyDefectsError, match=r"^maps: this method is written maps:FOLDER$"):
        parse_method("maps")


def test_a_folder_may_have_colons_and_equals_signs_in_its_name():
    assert parse_method("maps:D:/runs/lr=3:resample=bilinear")[1] == {"folder": "D:/runs/lr=3", "resample": "bilinear"}


def test_local_contrast_is_the_difference_of_two_blurs():
    image = np.full((101, 101, 3), 51, np.uint8)
    assert local_contrast(image).max() < 1e-6
    image[50, 50] = 255
    # A point of height 0.8 blurred by sigma: 0.8 / (2 pi sigma^2) in its middle.
    expected = 0.8 / (2 * np.pi) * (1 - 1 / 12**2)
    assert local_contrast(image)[50, 50] == pytest.approx(expected, rel=1e-2)


def test_the_folder_is_walked_once_and_a_manifest_read_once_whatever_the_number_of_images(
    tmp_path, maps, samples, monkeypatch
):
    looks = []
    for name in ("walk", "read_manifest"):
        own = getattr(pairing, name)
        monkeypatch.setattr(pairing, name, lambda *given, own=own, **named: looks.append(given) or own(*given, **named))
    manifest = tmp_path / "maps.csv"
    manifest.write_text("id,map\n" + "".join(f"{one.id},maps/part/{one.id}.tiff\n" for one in samples))
    for source in (maps, manifest):
        method = make(f"maps:{source}")
        assert [method.predict([sample])[0].anomaly_map.shape for sample in samples] == SIZES
        assert len(looks) == 1, source
        looks.clear()


def test_maps_of_another_maker_or_without_score_are_refused_one_by_one_too(tmp_path, maps, samples):
    method = make(f"maps:{maps}:image_score=stored")
    write_map(maps / "part/test/crack/1.tiff", np.ones(SIZES[1], np.float32))
    assert method.predict(samples[:1])[0].score == 7.0
    with pytest.raises(MapsError, match=r"1 without score \(test/crack/1"):
        method.predict(samples[1:2])
    (prediction,) = make(f"maps:{maps}").predict(samples[1:2])
    assert prediction.score == 1.0
