"""Thresholds that a fit takes from its own images: nobody judges what he has learnt from, and decisions follow."""

import numpy as np
import pytest

from tinydefects.data.sample import Sample
from tinydefects.decisions.calibration import CALIBRATION_FILE, CalibrationSettings
from tinydefects.decisions.drift import picture_statistics
from tinydefects.detector.cross_fit import deal
from tinydefects.detector.detector import Detector
from tinydefects.errors import NotFittedError, ResultError, TrainingError

pytestmark = pytest.mark.slow  # fits

WISHES = CalibrationSettings(false_alarms=0.2)
SETTINGS = {"resolution": 56, "epochs": 2, "teacher": "builtin"}


def parts(n, seed=0, size=(60, 80)):
    drawn = np.random.default_rng(seed)
    return [np.uint8(np.clip(drawn.normal(128, 20, (*size, 3)), 0, 255)) for _ in range(n)]


@pytest.fixture(scope="module")
def detector():
    return Detector(**SETTINGS).fit(parts(8), calibration=WISHES, unseen="folds", progress=False)


def test_every_image_is_judged_by_students_that_learnt_from_the_others(detector):
    images = parts(8)
    folds = deal([(f"image {place}", None) for place in range(8)], list("abcdefgh"), unseen="folds", seed=0)
    scores = {one.id: one.score for one in detector.calibration.images}
    assert len(scores) == 8
    assert detector.calibration.obtained == "folds"
    for fold in range(5):
        held_out = folds.images_of(fold)
        others = [image for place, image in enumerate(images) if place not in held_out]
        assert held_out
        alone = Detector(**SETTINGS).fit(others, progress=False)
        for place in held_out:
            expected = alone.predict(images[place]).score
            # the order of batches differs from that of a fit to the others alone
            assert scores[f"image {place}"] == pytest.approx(expected, rel=0.2)


def test_what_good_photographs_are_like_is_recorded_beside_their_scores(detector, tmp_path):
    recorded = {one.id: one.picture for one in detector.calibration.images}
    assert recorded == {f"image {place}": picture_statistics(image) for place, image in enumerate(parts(8))}
    detector.save(tmp_path / "model")
    fresh = Detector.load(tmp_path / "model").calibrate(parts(6, seed=5), WISHES, progress=False)
    assert [one.picture for one in fresh.images] == [picture_statistics(image) for image in parts(6, seed=5)]


def test_thresholds_change_nothing_that_is_learnt(detector):
    image = parts(1, seed=9)[0]
    plain = Detector(**SETTINGS).fit(parts(8), progress=False)
    assert np.array_equal(plain.predict(image).anomaly_map, detector.predict(image).anomaly_map)
    assert plain.fingerprint == detector.fingerprint
    assert plain.calibration is None


def test_held_out_images_are_scored_as_the_saved_detector_scores_them():
    images = parts(10)
    detector = Detector(**SETTINGS).fit(images, calibration=WISHES, unseen="held out", progress=False)
    recorded = detector.calibration.images
    assert (len(recorded), detector.n_images, detector.calibration.obtained) == (2, 8, "held out")
    for one in recorded:
        # features that were stored have 16 bits
        expected = detector.predict(images[int(one.id.removeprefix("image "))]).score
        assert one.score == pytest.approx(expected, rel=2e-3)


def test_photographs_of_one_part_and_the_same_pixels_are_held_out_together():
    names = [("a", "1"), ("b", "1"), ("c", None), ("d", "2"), ("e", None), ("f", "3"), ("g", "4"), ("h", "5")]
    digests = ["p", "q", "r", "r", "s", "t", "u", "v"]  # c and d are the same picture
    for seed in range(10):
        folds = deal(names, digests, unseen="folds", seed=seed)
        assert folds.fold_of[0] == folds.fold_of[1]
        assert folds.fold_of[2] == folds.fold_of[3]
        assert set(folds.fold_of) == set(range(5))
        assert folds.never_learnt == frozenset()
    assert deal(names, digests, unseen="held out", seed=0).never_learnt


@pytest.mark.parametrize(
    ("names", "digests", "told"),
    [
        ([("a", None)], ["p"], "one part"),
        ([("a", "1"), ("b", "1")], ["p", "q"], "one part"),
        ([("a", None), ("b", None)], ["p", "p"], "one part"),
        ([("a", None), ("a", None)], ["p", "q"], "given twice"),
    ],
)
def test_images_that_cannot_be_held_out_are_refused(names, digests, told):
    with pytest.raises(TrainingError, match=told):
        deal(names, digests, unseen="folds", seed=0)


def test_a_share_of_the_patches_makes_no_map():
    with pytest.raises(TrainingError, match="patch_fraction"):
        Detector(**SETTINGS, patch_fraction=0.5).fit(parts(4), calibration=WISHES)


def test_a_saved_detector_decides_as_it_did_and_takes_edited_wishes(detector, tmp_path):
    image = parts(1, seed=9)[0]
    image[20:30, 20:30] = 255
    detector.save(tmp_path / "model")
    decision = detector.decide(image, pixel_pitch_mm=0.05)
    loaded = Detector.load(tmp_path / "model")
    assert loaded.decide(image, pixel_pitch_mm=0.05).record() == decision.record()
    path = tmp_path / "model" / CALIBRATION_FILE
    text = path.read_text()
    path.write_text(text.replace('"false_alarms": 0.2', '"false_alarms": 0.5'))
    assert Detector.load(tmp_path / "model").calibration.good_up_to < detector.calibration.good_up_to
    path.write_text(text.replace(detector.fingerprint, "0" * 64))
    with pytest.raises(ResultError, match="calibrated for the detector 000000000000"):
        Detector.load(tmp_path / "model")
    path.write_text("{}")
    with pytest.raises(ResultError, match=r"calibration\.json"):
        Detector.load(tmp_path / "model")


def test_fresh_photographs_take_the_place_of_those_of_the_fit_and_a_new_fit_forgets_them(detector, tmp_path):
    fitted = Detector(**SETTINGS).fit(parts(4), progress=False)
    with pytest.raises(NotFittedError, match="no thresholds"):
        fitted.decide(parts(1)[0])
    calibration = fitted.calibrate(parts(6, seed=5), WISHES, progress=False)
    assert (calibration.obtained, len(calibration.images)) == ("fresh", 6)
    assert fitted.decide(parts(6, seed=5)[0]).p_value > 1 / 7
    fitted.save(tmp_path / "model")
    fitted.fit(parts(4), progress=False).save(tmp_path / "model")
    assert not (tmp_path / "model" / CALIBRATION_FILE).exists()


def test_groups_of_samples_are_parts(tmp_path):
    from PIL import Image

    samples = []
    for place, image in enumerate(parts(6)):
        path = tmp_path / f"{place}.png"
        Image.fromarray(image).save(path)
        samples.append(Sample(id=f"train/good/{place}", image_path=path, label="good", group=f"part {place // 2}"))
    detector = Detector(**SETTINGS).fit(samples, calibration=WISHES, unseen="folds", progress=False)
    assert detector.calibration.scores.size == 3
    assert [one.part for one in sorted(detector.calibration.images, key=lambda one: one.id)][:2] == ["part 0"] * 2


def test_another_precision_leaves_thresholds_out_aloud(detector, tmp_path, caplog):
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", precision="bfloat16")
    assert loaded.calibration is None
    assert "left out" in caplog.text
