"""FBFT and its ablations as methods of the benchmark."""

from pathlib import Path

import numpy as np
import pytest

from method_samples import samples_of
from tiny_teachers import counting_teacher
from tinydefects.detector.detector import Detector
from tinydefects.detector.teacher import load_teacher
from tinydefects.errors import ModelFileError, TinyDefectsError
from tinydefects.methods.catalog import parse_method
from tinydefects.methods.fbft import FbftMethod
from tinydefects.methods.method import MethodInputs

pytestmark = pytest.mark.slow  # fits

SIZES = [(64, 96), (48, 48)]


def make(text: str, folder: Path, **inputs) -> FbftMethod:
    kind, options = parse_method(text)
    given = {"teacher": counting_teacher, "resolution": 96, "seed": 3, "features_folder": folder / "features"} | inputs
    return kind.make(MethodInputs(**given, options=options))


@pytest.mark.parametrize(("text", "preset", "seed"), [("fbft", "default", 3), ("fbft_published", "published", 118)])
def test_the_map_is_the_detector_s_own_bit_by_bit(text, preset, seed, tmp_path):
    teacher = load_teacher("builtin", device="cpu")
    train, asked = samples_of(tmp_path, *SIZES), samples_of(tmp_path, *SIZES, seed=9)
    peer = make(f"{text}:epochs=2", tmp_path, teacher=lambda: teacher)
    peer.fit(train)
    detector = Detector(teacher=teacher, resolution=96, epochs=2, seed=seed, preset=preset)
    detector.fit(sample.image() for sample in train)
    for sample, prediction in zip(asked, peer.predict(asked), strict=True):
        expected = detector.predict(sample.image())
        np.testing.assert_array_equal(prediction.anomaly_map, expected.anomaly_map)
        assert prediction.score == expected.score


@pytest.mark.parametrize(
    "changes",
    [
        {"tile": 32},
        {"tile": 32, "overlap": 16, "stride": 8},
        {"stride": 4},
        {"precision": "bfloat16"},
        {"tile": 48, "patch_fraction": 0.5, "patches_per_batch": 40, "learning_rate": 0.01},
    ],
)
def test_a_method_with_tiles_strides_and_precision_is_the_detector_with_them(changes, tmp_path):
    teacher = counting_teacher()
    train, asked = samples_of(tmp_path, *SIZES), samples_of(tmp_path, *SIZES, seed=9)
    text = ":".join(["fbft", "epochs=2", *(f"{name}={value}" for name, value in changes.items())])
    peer = make(text, tmp_path, teacher=lambda: teacher)
    peer.fit(train)
    detector = Detector(teacher=teacher, resolution=96, epochs=2, seed=3, **changes)
    detector.fit(sample.image() for sample in train)
    assert detector.passes((64, 96)).grids != Detector(teacher=teacher, resolution=96).passes((64, 96)).grids or (
        "precision" in changes
    )
    assert {name: peer.settings[name] for name in changes} == changes
    for sample, prediction in zip(asked, peer.predict(asked), strict=True):
        expected = detector.predict(sample.image())
        np.testing.assert_array_equal(prediction.anomaly_map, expected.anomaly_map)
        assert prediction.score == expected.score


def test_the_method_and_its_ablations_train_once(tmp_path, monkeypatch):
    fits = []
    fit = Detector.fit

    def counted(detector, images, **options):
        fits.append(detector)
        return fit(detector, images, **options)

    monkeypatch.setattr(Detector, "fit", counted)
    train, asked = samples_of(tmp_path, *SIZES), samples_of(tmp_path, *SIZES, seed=9)
    maps = {}
    for text in ("fbft", "fbft_forward", "fbft_backward", "fbft_sum"):
        peer = make(f"{text}:epochs=2", tmp_path)
        peer.fit(train)
        maps[text] = peer.predict(asked)[0].anomaly_map
    assert len(fits) == 1
    # Sum and single distances are linear in what is drawn, so the drawn maps add up as well.
    np.testing.assert_allclose(maps["fbft_sum"], maps["fbft_forward"] + maps["fbft_backward"], rtol=1e-4, atol=1e-6)
    assert not np.allclose(maps["fbft"], maps["fbft_sum"])
    for other in (make("fbft:epochs=3", tmp_path), make("fbft:epochs=2", tmp_path, seed=4)):
        other.fit(train)
    make("fbft:epochs=2", tmp_path).fit(samples_of(tmp_path, *SIZES, seed=1))  # other pixels
    assert len(fits) == 4


def test_stored_students_that_are_damaged_are_trained_again(tmp_path):
    train, asked = samples_of(tmp_path, *SIZES), samples_of(tmp_path, *SIZES, seed=9)
    first = make("fbft:epochs=2", tmp_path)
    first.fit(train)
    (stored,) = tmp_path.glob("features/students/*/model.safetensors")
    stored.write_bytes(stored.read_bytes()[:100])
    again = make("fbft:epochs=2", tmp_path)
    again.fit(train)
    np.testing.assert_array_equal(first.predict(asked)[0].anomaly_map, again.predict(asked)[0].anomaly_map)
    third = make("fbft:epochs=2", tmp_path)
    third.fit(train)  # from the mended file
    np.testing.assert_array_equal(first.predict(asked)[0].anomaly_map, third.predict(asked)[0].anomaly_map)


def test_students_that_another_worker_has_just_stored_are_no_failure_and_a_full_disk_is(tmp_path, monkeypatch):
    def lost_race(detector, folder):
        save(detector, folder)
        raise ModelFileError("the folder was there already")

    def full_disk(detector, folder):
        raise ModelFileError("No space left on device")

    save = Detector.save
    train = samples_of(tmp_path, *SIZES)
    monkeypatch.setattr(Detector, "save", lost_race)
    make("fbft:epochs=1", tmp_path).fit(train)
    monkeypatch.setattr(Detector, "save", full_disk)
    with pytest.raises(ModelFileError, match="No space left"):
        make("fbft:epochs=2", tmp_path).fit(train)


def test_other_blocks_of_the_same_teacher_can_be_asked_for(tmp_path):
    teacher = load_teacher("builtin", device="cpu")
    train, asked = samples_of(tmp_path, *SIZES), samples_of(tmp_path, *SIZES, seed=9)
    maps = {}
    for blocks in ("3-5", "1-4"):  # 3 and 5 are the teacher's own
        peer = make(f"fbft:epochs=1:blocks={blocks}", tmp_path, teacher=lambda: teacher)
        peer.fit(train)
        maps[blocks] = peer.predict(asked)[0].anomaly_map
        assert peer.settings["blocks"] == tuple(int(block) for block in blocks.split("-"))
    own = make("fbft:epochs=1", tmp_path, teacher=lambda: teacher)
    own.fit(train)
    np.testing.assert_array_equal(own.predict(asked)[0].anomaly_map, maps["3-5"])
    assert not np.array_equal(maps["3-5"], maps["1-4"])
    with pytest.raises(TinyDefectsError, match=r"^builtin has blocks 0 to 5: give .* ascending order, not 4-6$"):
        make("fbft:blocks=4-6", tmp_path, teacher=lambda: teacher)


def test_the_size_is_that_of_the_weights_on_disk(tmp_path):
    peer = make("fbft:epochs=1", tmp_path)
    peer.fit(samples_of(tmp_path, *SIZES))
    (stored,) = tmp_path.glob("features/students/*/model.safetensors")
    assert 0 <= stored.stat().st_size - peer.size_bytes < 2000  # the file's own header
    assert make("fbft_forward", tmp_path).size_bytes * 2 == peer.size_bytes


def test_the_options_of_training_reach_the_detector(tmp_path):
    train = samples_of(tmp_path, *SIZES)
    peer = make("fbft:epochs=2:patch_fraction=0.25:validation_fraction=0.5:patience=1", tmp_path)
    assert {name: peer.settings[name] for name in ("patch_fraction", "validation_fraction", "patience")} == {
        "patch_fraction": 0.25,
        "validation_fraction": 0.5,
        "patience": 1,
    }
    default = make("fbft:epochs=2", tmp_path)
    for method in (peer, default):
        method.fit(train)
    assert len(list(tmp_path.glob("features/students/*/model.safetensors"))) == 2
    with pytest.raises(TinyDefectsError, match="the preset published learns from every patch"):
        make("fbft_published:patch_fraction=0.25", tmp_path)
