"""What is said of a photograph, at every edge of the thresholds."""

import json
import math

import numpy as np
import pytest

from good_parts import calibration_of
from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate
from tinydefects.decisions.calibration import CalibrationSettings, read_calibration, write_calibration
from tinydefects.decisions.regions import Extent

FLAT = np.zeros((4, 6), dtype=np.float32)


def verdict(calibration, score):
    return calibration.decide(Prediction(FLAT, score)).verdict


def test_a_score_is_good_up_to_one_threshold_and_a_defect_above_the_other():
    calibration = calibration_of(range(300), false_alarms=0.05)
    assert (calibration.good_up_to, calibration.defect_above) == (285.0, 291.0)
    scores = [-5.0, 285.0, math.nextafter(285, 300), 291.0, math.nextafter(291, 300), 1e9]
    assert [verdict(calibration, one) for one in scores] == ["good", "good", "unsure", "unsure", "defect", "defect"]


def test_with_too_few_parts_nothing_is_a_defect_and_good_goes_up_to_the_highest():
    few = calibration_of(range(40))  # 1 % needs 99 on average and 299 with confidence
    assert [verdict(few, one) for one in (39.0, 39.5, 1e9)] == ["good", "unsure", "unsure"]
    some = calibration_of(range(120))  # enough on average
    assert [verdict(some, one) for one in (119.0, 119.5, 1e9)] == ["good", "unsure", "unsure"]


def test_a_threshold_given_by_hand_leaves_nothing_unsure():
    calibration = calibration_of(range(40), image_threshold=7.5)
    assert [verdict(calibration, one) for one in (7.5, 7.6)] == ["good", "defect"]


def test_good_parts_that_all_score_alike_leave_nothing_between():
    calibration = calibration_of([1.0] * 300)
    assert [verdict(calibration, one) for one in (1.0, 1.1)] == ["good", "defect"]


def test_p_values_count_parts_that_score_or_peak_as_high():
    calibration = calibration_of(range(9), region_threshold=2.0)
    anomaly_map = FLAT.copy()
    anomaly_map[1, 2], anomaly_map[1, 5] = 7.0, 2.5
    calibration = calibration.model_copy(update={"extent": calibration.extent.model_copy(update={"level": 1.0})})
    decision = calibration.decide(Prediction(anomaly_map, 7.0), pixel_pitch_mm=0.1)
    assert decision.p_value == pytest.approx(3 / 10, abs=1e-12)  # 7, 8 and itself
    assert [(one.peak, one.peak_at) for one in decision.regions] == [(7.0, (1, 2)), (2.5, (1, 5))]
    assert [one.p_value for one in decision.regions] == pytest.approx([3 / 10, 7 / 10], abs=1e-12)
    assert decision.regions[0].area_mm2 == pytest.approx(0.01, abs=1e-12)
    assert decision.image_size == (4, 6)


def test_decisions_of_a_calibration_from_its_file_are_the_same(tmp_path):
    rng = np.random.default_rng(1)
    maps = rng.gamma(2.0, size=(30, 25, 40)).astype(np.float32)
    good = (GoodPhotograph(id=f"{n}", prediction=Prediction(one, float(one.max()))) for n, one in enumerate(maps))
    settings = CalibrationSettings(false_regions=2.0, most_counted=5, extent_quantile=0.9, pixel_pitch_mm=0.02)
    calibration = calibrate(good, settings, fingerprint="abc", obtained="held out")
    write_calibration(tmp_path / "c.json", calibration)
    again = read_calibration(tmp_path / "c.json")
    new = rng.gamma(2.5, size=(5, 25, 40)).astype(np.float32)
    records = [
        [one.decide(Prediction(scores, float(scores.max()))).record() for scores in new] for one in (calibration, again)
    ]
    assert json.dumps(records[0], allow_nan=False) == json.dumps(records[1], allow_nan=False)
    assert sum(len(one["regions"]) for one in records[0]) > 5


def test_good_photographs_show_as_many_regions_as_is_allowed():
    """Each good photograph in turn is the new one: the mean of what they show is within the wish."""
    maps = np.random.default_rng(2).gamma(2.0, size=(40, 20, 20)).astype(np.float32)
    settings = CalibrationSettings(false_regions=0.5, most_counted=4)
    good = [GoodPhotograph(id=f"{n}", prediction=Prediction(one, float(one.max()))) for n, one in enumerate(maps)]
    counts = []
    for place, new in enumerate(good):
        rest = good[:place] + good[place + 1 :]
        calibration = calibrate(rest, settings, fingerprint="a", obtained="fresh", extent=Extent(level=5.0))
        counts.append(min(4, calibration.decide(new.prediction).n_regions))
    assert 0.2 < np.mean(counts) <= 0.5


def test_a_decision_in_words_names_its_first_regions():
    anomaly_map = np.zeros((3, 40), dtype=np.float32)
    anomaly_map[1, ::5] = np.arange(8) + 3.0
    decision = calibration_of([0.0] * 9, region_threshold=2.0).model_copy()
    decision = decision.model_copy(update={"extent": decision.extent.model_copy(update={"level": 1.0})})
    decision = decision.decide(Prediction(anomaly_map, 4.0), pixel_pitch_mm=0.5)
    lines = str(decision).splitlines()
    assert lines[0] == "unsure: score 4 (p 0.1), 8 regions"
    assert lines[1] == "  1.1 px (0.564 mm) at row 1, column 35, peak 10 (p 0.1)"
    assert lines[-1] == "  and 3 more"
    assert decision._repr_html_().count("<p>") == len(lines)
    assert "<p>unsure: score 4 (p 0.1), 8 regions</p>" in decision._repr_html_()


def test_what_is_not_known_is_null_in_a_record():
    anomaly_map = np.full((2, 2), 9.0, dtype=np.float32)
    (region,) = calibration_of(range(9)).decide(Prediction(anomaly_map, 9.0)).record()["regions"]
    assert region["area_mm2"] is None
    assert (region["area_px"], region["x"], region["height"]) == (4, 0, 2)
