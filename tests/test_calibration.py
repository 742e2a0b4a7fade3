"""The record of good parts: how it is made, what follows from it, and what a file of it must say."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from good_parts import calibration_of, record
from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate, level_of
from tinydefects.decisions.calibration import (
    CALIBRATION_FILE,
    MOST_KEPT,
    Calibration,
    CalibrationSettings,
    read_calibration,
    write_calibration,
)
from tinydefects.decisions.drift import PictureStatistics
from tinydefects.decisions.guarantees import conformal_threshold, tolerance_threshold
from tinydefects.decisions.regions import Extent
from tinydefects.errors import DatasetError, ResultError, SettingsError


def photograph(number, rng, **named):
    scores = rng.standard_normal((20, 30)).astype(np.float32)
    return GoodPhotograph(id=f"good/{number}", prediction=Prediction(scores, float(scores.max())), **named)


@pytest.fixture
def calibration(tmp_path):
    rng = np.random.default_rng(3)
    return calibrate(
        (photograph(n, rng) for n in range(40)),
        CalibrationSettings(extent_quantile=0.98),
        fingerprint="abc",
        obtained="fresh",
    )


def rewritten(path, calibration, change):
    """The file of a calibration after somebody edited it."""
    write_calibration(path, calibration)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_thresholds_are_those_of_the_parts():
    calibration = calibration_of(range(300), false_alarms=0.02)
    assert calibration.average_threshold == conformal_threshold(np.arange(300.0), 0.02)
    assert calibration.certain_threshold == tolerance_threshold(np.arange(300.0), 0.02)
    assert calibration.good_up_to == 294.0  # 0.02 * 301 = 6.02: five may lie above
    assert calibration.seed == 270.0  # 0.1 * 301 = 30.1: 29 may lie above


@given(st.lists(st.tuples(st.integers(-9, 9), st.sampled_from("abcd")), min_size=1))
def test_parts_count_with_their_highest_photograph(pairs):
    images = tuple(record(n, score, part=part, peaks=[score]) for n, (score, part) in enumerate(pairs))
    calibration = Calibration(fingerprint="a", obtained="fresh", extent=Extent(level=-99.0), images=images)
    highest = sorted(max(float(score) for score, one in pairs if one == part) for part in {part for _, part in pairs})
    assert calibration.scores.tolist() == highest
    assert calibration.highest_peaks.tolist() == highest
    assert calibration.region_threshold.n_parts == calibration.average_threshold.n_parts == len(highest)


def test_a_file_says_all_that_was_recorded(tmp_path, calibration):
    path = tmp_path / "a model" / CALIBRATION_FILE
    write_calibration(path, calibration)
    assert read_calibration(path) == calibration
    assert str(read_calibration(path)) == str(calibration)
    lines = path.read_text().splitlines()
    assert sum('"id"' in line for line in lines) == 40  # one photograph a line
    assert lines.index('  "false_alarms": 0.01,') < 10


def test_what_photographs_are_like_is_optional_and_whole(tmp_path):
    rng, picture = np.random.default_rng(3), PictureStatistics(120.5, 20.0, 300.0, 480.0, 640.0)
    recorded = calibrate([photograph(0, rng, picture=picture)], fingerprint="abc", obtained="fresh")
    path = rewritten(tmp_path / CALIBRATION_FILE, recorded, lambda content: None)
    assert read_calibration(path).images[0].picture == picture
    assert json.loads(path.read_text())["images"][0]["picture"]["brightness"] == 120.5
    rewritten(path, recorded, lambda content: content["images"][0].pop("picture"))  # as before it was recorded
    assert read_calibration(path).images[0].picture is None
    rewritten(path, recorded, lambda content: content["images"][0]["picture"].pop("sharpness"))
    with pytest.raises(ResultError, match=r"images\.0\.picture\.sharpness"):
        read_calibration(path)


def test_an_edited_wish_changes_the_thresholds(tmp_path, calibration):
    def change(content):
        content["settings"]["false_alarms"] = 0.1
        content["settings"]["min_area_px"] = 2

    edited = read_calibration(rewritten(tmp_path / "c.json", calibration, change))
    assert calibration.average_threshold.value is None
    assert edited.average_threshold.value == conformal_threshold(calibration.scores, 0.1).value
    assert edited.seed < calibration.seed  # of larger regions fewer are high
    assert edited == calibration.with_changes(false_alarms=0.1, min_area_px=2)


def test_a_threshold_given_by_hand_wins_and_promises_nothing(tmp_path):
    def change(content):
        content["settings"]["image_threshold"] = 97.5

    path = rewritten(tmp_path / "c.json", calibration_of(range(100), false_alarms=0.05), change)
    edited = read_calibration(path)
    assert edited.good_up_to == edited.defect_above == 97.5
    assert "set by hand without any guarantee: 2 of 100 good parts exceed it, 2 %" in str(edited)
    assert "(95 % interval 0.243 % to 7.04 %)" in str(edited)  # Clopper and Pearson, 2 of 100


def break_score(content):
    del content["images"][2]["score"]


def break_nan(content):
    content["images"][2]["score"] = math.nan


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (break_score, "images.2.score"),
        (break_nan, "not a readable calibration"),
        (lambda c: c["settings"].update(false_alarms="0.05"), "settings.false_alarms"),
        (lambda c: c["settings"].update(false_alarms=0), "settings.false_alarms"),
        (lambda c: c["settings"].update(min_area_px=-3), "settings.min_area_px"),
        (lambda c: c["settings"].update(false_alarm=0.05), "settings.false_alarm'"),
        (lambda c: c["settings"].update(min_area_mm2=0.5), "needs pixel_pitch_mm"),
        (lambda c: c["settings"].update(min_area_mm2=1, pixel_pitch_mm=0.1, min_area_px=2), "exclude each other"),
        (lambda c: c["settings"].update(extent_quantile=0.99), "set it back, or calibrate again"),
        (lambda c: c["settings"].update(region_threshold=-50.0), "below the level"),
        (lambda c: c["settings"].update(false_regions=2.0), "above most_counted"),
        (lambda c: c["images"][0]["areas_px"].__setitem__(0, -1), "images.0.areas_px.0"),
        (lambda c: c["images"][0].update(n_regions=99), "a number of each is kept"),
        (lambda c: [one["peaks"].reverse() for one in c["images"]], "highest first"),
        (lambda c: c["images"][0].update(id=c["images"][1]["id"]), "two have the id"),
        (lambda c: [one.update(pixels_sha256="ab") for one in c["images"]], "two have the pixels_sha256"),
        (lambda c: c["extent"].update(level=50.0), "extent.level"),
        (lambda c: c.update(images=[]), "images"),
        (lambda c: c.update(version=2), "version"),
        (lambda c: c.update(thresholds={}), "thresholds"),
        (lambda c: c.update(obtained="somehow"), "obtained"),
        (lambda c: c.pop("fingerprint"), "fingerprint"),
    ],
)
def test_a_file_that_says_something_else_is_one_line_that_names_it(tmp_path, calibration, change, reason):
    path = rewritten(tmp_path / "c.json", calibration, change)
    with pytest.raises(ResultError) as caught:
        read_calibration(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert reason in text
    assert text.endswith("mend that, or calibrate again")
    assert "\n" not in text


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ResultError, match="not a readable calibration"):
        read_calibration(tmp_path / CALIBRATION_FILE)


def test_settings_that_cannot_be_are_refused_in_one_line(calibration):
    with pytest.raises(SettingsError, match="false_alarms"):
        calibration.with_changes(false_alarms=2.0)
    with pytest.raises(SettingsError, match="calibrate again"):
        calibration.with_changes(extent_quantile=0.9)


def test_areas_in_mm2_become_whole_pixels():
    settings = CalibrationSettings(min_area_mm2=0.01, pixel_pitch_mm=0.05)
    assert settings.smallest_px == 4
    assert CalibrationSettings(min_area_mm2=0.0101, pixel_pitch_mm=0.05).smallest_px == 5
    assert CalibrationSettings(min_area_mm2=1e-9, pixel_pitch_mm=0.05).smallest_px == 1


def test_the_record_holds_the_regions_above_the_level(calibration):
    rng = np.random.default_rng(3)
    maps = [photograph(n, rng).prediction.anomaly_map for n in range(40)]
    level = calibration.extent.level
    assert level == pytest.approx(np.median([level_of(one, 0.98) for one in maps[:20]]), abs=1e-6)
    assert calibration.extent.n_images == 20
    for one, anomaly_map in zip(calibration.images, maps, strict=True):
        assert sum(one.areas_px) == np.count_nonzero(anomaly_map > level)
        assert (one.peaks[0] if one.peaks else None) == (anomaly_map.max() if anomaly_map.max() > level else None)


def test_regions_end_where_the_map_falls_by_half_within_a_patch_of_the_detector(tmp_path):
    rng = np.random.default_rng(3)
    good = [photograph(n, rng, patch_px=patch_px) for n, patch_px in enumerate([3.0, 3.4, 9.0])]
    calibration = calibrate(good, CalibrationSettings(extent_quantile=0.6), fingerprint="abc", obtained="fresh")
    usual = float(np.median([np.median(one.prediction.anomaly_map) for one in good]))
    assert (calibration.extent.patch_px, calibration.extent.good) == (3, pytest.approx(usual, abs=1e-6))
    for one, stored in zip(good, calibration.images, strict=True):
        anomaly_map = one.prediction.anomaly_map
        n_pixels = np.count_nonzero(calibration.extent.pixels(anomaly_map))
        assert sum(stored.areas_px) == n_pixels < np.count_nonzero(anomaly_map > calibration.extent.level)
    path = tmp_path / CALIBRATION_FILE
    write_calibration(path, calibration)
    assert read_calibration(path) == calibration

    def as_before(content):
        del content["extent"]["patch_px"], content["extent"]["good"]

    assert read_calibration(rewritten(path, calibration, as_before)).extent.patch_px == 0


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.sampled_from([0.5, 0.8, 0.9, 0.99]))
def test_a_level_is_the_lowest_that_few_enough_pixels_exceed(values, quantile):
    anomaly_map = np.array([values], dtype=np.float32)
    allowed = (1 - quantile) * len(values) + 1e-9
    kept = [value for value in sorted(values) if np.count_nonzero(anomaly_map > value) <= allowed]
    assert level_of(anomaly_map, quantile) == min(kept)


def test_a_photograph_that_comes_twice_counts_once_and_is_told():
    rng = np.random.default_rng(0)
    shas = ["a", "b", "a", "", ""]
    found = calibrate(
        (photograph(n, rng, pixels_sha256=sha) for n, sha in enumerate(shas)), fingerprint="a", obtained="fresh"
    )
    assert [one.id for one in found.images] == ["good/0", "good/1", "good/3", "good/4"]
    assert found.duplicates == ("good/2",)
    assert "1 photograph left out, with the very pixels of another: good/2" in str(found)


def test_no_photograph_and_a_second_of_one_name_are_refused():
    with pytest.raises(DatasetError, match="no good photograph"):
        calibrate([], fingerprint="a", obtained="fresh")
    with pytest.raises(DatasetError, match="no good photograph"):
        calibrate([], fingerprint="a", obtained="fresh", extent=1.0)
    twice = [photograph(0, np.random.default_rng(0))] * 2
    with pytest.raises(DatasetError, match="two good photographs have this id"):
        calibrate(twice, fingerprint="a", obtained="fresh")


def test_maps_are_forgotten_one_by_one_once_the_level_is_known():
    rng = np.random.default_rng(0)
    alive, most = [], []

    def stream():
        import weakref

        for number in range(60):
            one = photograph(number, rng)
            alive.append(weakref.ref(one.prediction.anomaly_map))
            most.append(sum(ref() is not None for ref in alive))
            yield one
            del one

    calibrate(stream(), fingerprint="a", obtained="fresh")
    assert max(most[30:]) <= 22
    assert most[-1] <= 3


def test_beyond_the_most_kept_regions_nothing_is_promised_that_was_not_seen():
    peaks = np.arange(200, 200 - MOST_KEPT, -1)
    images = [record(number, 1.0, peaks=peaks) for number in range(9)]
    cut = [one.model_copy(update={"n_regions": 5000}) for one in images]
    whole, partly = (
        Calibration(fingerprint="a", obtained="fresh", extent=Extent(level=0.0), images=tuple(some))
        for some in (images, cut)
    )
    small = {"min_area_px": 2, "false_regions": 0.3}
    assert whole.with_changes(**small).seed == 0.0  # no region is that large
    assert partly.with_changes(**small).seed == 101.0  # those below 101 may be
    assert partly.with_changes(**small).highest_peaks.tolist() == [101.0] * 9


def test_too_few_parts_are_told_instead_of_a_number_that_means_nothing():
    text = str(calibration_of(range(40)))
    assert "1 % needs 99 good parts, 59 more; 40 afford 2.44 %" in text
    assert "1 % with 95 % confidence needs 299 good parts, 259 more; 40 afford 7.22 %" in text
    assert "peak above 36: at most 10 % of good photographs show any" in text  # 0.1 * 41: three may lie above
    few = str(calibration_of(range(5)))
    assert "needs 9 good parts, 4 more; 5 afford 0.17" in few


def test_the_words_of_a_calibration_that_affords_its_wishes():
    assert str(calibration_of(range(300), false_alarms=0.05, most_counted=3)).splitlines() == [
        "300 good parts, held out while the detector learnt",
        "good up to 285: a good part exceeds it with a chance of at most 5 %",
        "defect above 291: with 95 % confidence at most 5 % of good parts exceed it",
        "unsure between them",
        "regions of at least 1 px with a peak above 272: "
        "a good photograph shows 0.1 at most in the mean, counted up to 3",
    ]


def test_the_words_of_regions_above_a_threshold_set_by_hand():
    calibration = calibration_of(range(9), region_threshold=2.0)  # of 0 to 8, six are larger
    low, high = 100 * stats.beta.ppf([0.025, 0.975], [6, 7], [4, 3])
    assert str(calibration).splitlines()[-1] == (
        "regions of at least 1 px with a peak above 2, set by hand without any guarantee: "
        f"6 of 9 good parts exceed it, 66.7 % (95 % interval {low:.1f} % to {high:.1f} %)"
    )
    by_area = calibration_of(range(9), region_threshold=2.0, min_area_mm2=0.25, pixel_pitch_mm=0.5)
    assert "regions of at least 0.25 mm² with a peak above 2, set by hand" in str(by_area)


def test_scores_of_another_detector_are_refused(calibration):
    calibration.require_made_by("abc", "calibration.json")
    with pytest.raises(ResultError, match=r"^calibration.json: calibrated for the detector abc, this one is xyz"):
        calibration.require_made_by("xyz", "calibration.json")
