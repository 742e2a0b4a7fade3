"""Which defects count as detected: one default rule, two by name, each at its false-alarm rate."""

import math
from dataclasses import replace

import numpy as np
import pytest

from report_factory import make_defect
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.detectability import (
    DEFAULT_RATES,
    Detectability,
    describe,
    image_thresholds,
    measure_detectability,
    resample_sizes,
)
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.hit_miss import SizeFit, fit_sizes
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import Interval
from tinydefects.results.result import Result, describe_run, read_result, write_result

TWENTY = np.arange(1, 21, dtype=np.float32)


def drawn_pairs(folder, n_images=24, seed=0):
    """Good and defective images in turn, normal noise; squares of 1 to 12 px whose contrast grows with their side."""
    random = np.random.default_rng(seed)
    for number in range(n_images):
        name = f"test/{'crack' if number % 2 else 'good'}/{number:03d}"
        scores, mask = random.normal(0, 1, (64, 64)), np.zeros((64, 64), dtype=bool)
        for row in range(2, 62, 20) if number % 2 else ():
            side = int(random.integers(1, 13))
            mask[row : row + side, row : row + side] = True
            scores[row : row + side, row : row + side] += random.normal(1.5 + 0.3 * side, 0.8)
        image_path, mask_path = folder / f"{name}.png", folder / f"mask/{name}.png"
        write_png(image_path, np.zeros((64, 64), dtype=np.uint8))
        write_png(mask_path, mask)
        label = "defect" if number % 2 else "good"
        sample = Sample(id=name, image_path=image_path, label=label, mask_paths=(mask_path,))
        yield sample, Prediction(scores.astype(np.float32), float(scores.max()))


def test_an_evaluation_says_what_the_maps_say(tmp_path):
    pairs = list(drawn_pairs(tmp_path))
    evaluation = evaluate(pairs, false_alarm_rate=0.25)
    found = evaluation.detectability
    highest = [prediction.score for sample, prediction in pairs if sample.label == "good"]
    threshold = float(np.float32(sorted(highest)[-4]))  # three of twelve may alarm
    assert (found.threshold, found.n_alarming_images) == (threshold, 3)
    maps = {sample.id: prediction.anomaly_map for sample, prediction in pairs}
    for defect, hit in zip(evaluation.defects, found.hits, strict=True):
        row, column, height, width = defect.box_px
        assert hit == (maps[defect.sample_id][row : row + height, column : column + width].max() > threshold)
    assert 10 < found.fit.n_hits < found.fit.n_defects == 36
    assert "at 3 of 12 good images alarming (25 % allowed);" in str(evaluation)
    assert f"a90 {found.fit.a90_px:.1f} px" in str(evaluation)


def test_an_evaluation_applies_the_rule_it_was_asked_for(tmp_path):
    evaluation = evaluate(drawn_pairs(tmp_path), detection_rule="half_at_pixel_fpr")
    assert evaluation.detectability.rate == 0.01
    assert list(evaluation.detectability.hits) == [one.half_covered_fpr <= 0.01 for one in evaluation.defects]


def test_a_bad_rule_is_refused_before_the_first_map_is_read():
    with pytest.raises(TinyDefectsError, match=r"'detection_rule'.*'own_peak_at_image_fpr'.*'best_f1'"):
        evaluate(iter([None]), detection_rule="best_f1")


def test_what_is_detected_survives_the_way_to_disk_and_back(tmp_path):
    evaluation = evaluate(drawn_pairs(tmp_path / "data"))
    path = write_result(Result(evaluation=evaluation, provenance=describe_run({})), tmp_path / "a.json")
    assert repr(read_result(path).evaluation.detectability) == repr(evaluation.detectability)


def with_peaks(peaks, *, fpr=0.5):
    return [
        replace(make_defect(4 + number, fpr), peak=float(peak), own_peak=float(peak))
        for number, peak in enumerate(peaks)
    ]


def test_a_defect_is_detected_when_its_peak_exceeds_what_one_good_image_in_twenty_may_exceed():
    found = measure_detectability(with_peaks([19.0, 19.5, 20.5]), TWENTY)
    assert (found.rule, found.rate) == ("own_peak_at_image_fpr", 0.05)
    assert found.threshold == 19  # only the image that reaches 20 alarms
    assert (found.n_alarming_images, found.n_good_images) == (1, 20)
    assert found.hits == (False, True, True)


@pytest.mark.parametrize(
    ("highest", "rate", "threshold"),
    [
        (TWENTY, 0.0, 20),  # no good image may alarm
        (TWENTY, 0.049, 20),  # twenty images cannot resolve less than 5 %
        (TWENTY, 0.05, 19),
        (TWENTY, 0.5, 10),
        (np.arange(100), 0.29, 70),  # 0.29 * 100 is 28.999… in floating point, and 29 images are 29 %
        (np.array([1.0, 7, 7, 7]), 0.5, 7),  # tied images alarm together or not at all
        (np.array([3.0]), 0.05, 3),
    ],
)
def test_the_threshold_is_the_lowest_at_which_at_most_the_rate_of_good_images_alarm(highest, rate, threshold):
    highest = np.asarray(highest, dtype=np.float32)
    assert image_thresholds(highest, np.ones((1, highest.size)), rate) == pytest.approx(threshold)
    assert np.mean(highest > threshold) <= rate + 1e-12


def test_weighted_images_count_as_copies():
    random = np.random.default_rng(0)
    highest = random.random(30).astype(np.float32)
    counts = random.multinomial(30, np.full(30, 1 / 30), 50)
    thresholds = image_thresholds(highest, counts.astype(float), 0.1)
    for row, threshold in zip(counts, thresholds, strict=True):
        copies = np.repeat(highest, row)
        assert np.mean(copies > threshold) <= 0.1
        assert np.mean(copies >= threshold) > 0.1  # any lower threshold lets too many alarm


def test_the_rules_about_pixels_look_at_the_first_and_at_the_median_pixel():
    early = replace(make_defect(30, 0.004), half_covered_fpr=0.4)
    late = replace(make_defect(30, 0.011), half_covered_fpr=0.5)
    both = replace(make_defect(30, 0.0), half_covered_fpr=0.01)
    defects = [early, late, both]
    assert measure_detectability(defects, TWENTY, rule="peak_at_pixel_fpr").hits == (True, False, True)
    assert measure_detectability(defects, TWENTY, rule="half_at_pixel_fpr").hits == (False, False, True)
    assert measure_detectability(defects, TWENTY, rule="half_at_pixel_fpr", rate=0.4).hits == (True, False, True)


def test_what_only_a_neighbours_glow_lifts_over_the_threshold_is_missed_and_counted():
    glowing, own, lone = with_peaks([30, 30, 1])
    defects = [replace(glowing, own_peak=math.nan), own, lone]
    found = measure_detectability(defects, TWENTY)
    assert (found.hits, found.n_by_glow) == ((False, True, False), 1)
    assert "  1 more reaches the threshold only in a neighbour's glow, and counts as missed" in describe(found)
    by_peak = measure_detectability(defects, TWENTY, rule="peak_at_image_fpr")
    assert (by_peak.hits, by_peak.n_by_glow) == ((True, True, False), 0)
    for rule, hits in (("own_peak_at_pixel_fpr", (False, True, True)), ("peak_at_pixel_fpr", (True, True, True))):
        dim = [replace(one, first_touched_fpr=0.005, own_touched_fpr=0.005) for one in defects]
        dim[0] = replace(dim[0], own_touched_fpr=math.nan)
        assert measure_detectability(dim, TWENTY, rule=rule).hits == hits


def test_a_glow_is_missed_from_the_map_on_and_in_every_resample(tmp_path):
    """A dot 4 px beside a bright crack, on its slope; eight good images that score less."""
    rows, columns = np.mgrid[:40, :60]
    mask = np.zeros((40, 60), bool)
    mask[18:22, 10:30], mask[20, 34] = True, True
    slope = np.exp(-(np.hypot(rows - 20, np.maximum(columns - 25, 0)) ** 2) / 100) * 9
    random = np.random.default_rng(1)

    def pair(number, label):
        image, outline = tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png"
        write_png(image, np.zeros((40, 60), np.uint8))
        write_png(outline, mask & (label == "defect"))
        scores = (slope if label == "defect" else random.random((40, 60))).astype(np.float32)
        sample = Sample(id=f"test/{label}/{number}", image_path=image, label=label, mask_paths=(outline,))
        return sample, Prediction(scores, float(scores.max()))

    pairs = [pair(number, "good" if number < 8 else "defect") for number in range(12)]
    found = evaluate(pairs, n_resamples=0)
    assert found.detectability.hits == (True, False) * 4
    assert (found.detectability.n_by_glow, found.detectability.smallest_detected_px > 5) == (4, True)
    assert evaluate(pairs, n_resamples=0, detection_rule="peak_at_image_fpr").detectability.hits == (True,) * 8
    tally = found.tally
    assert np.isnan(tally.own_peak[1::2]).all()
    np.testing.assert_array_equal(tally.own_peak[::2], tally.peak[::2])


def test_the_extremes_are_those_of_the_hits_and_the_misses():
    defects = with_peaks([30, 1, 30, 1])
    found = measure_detectability(defects, TWENTY)
    assert found.smallest_detected_px == defects[0].diameter_px
    assert found.largest_missed_px == defects[3].diameter_px
    assert math.isnan(measure_detectability(defects[:1], TWENTY).largest_missed_px)
    assert math.isnan(measure_detectability(defects[1:2], TWENTY).smallest_detected_px)


def test_without_good_images_the_default_rule_says_why_it_is_undefined():
    found = measure_detectability(with_peaks([1, 2]), TWENTY[:0])
    assert found.hits == ()
    assert math.isnan(found.threshold)
    assert "choose a rule about pixels" in found.fit.remarks[0]
    reason = "no good image: its false alarms cannot be counted; choose a rule about pixels"
    assert describe(found) == [f"detected: undefined; {reason}"]
    assert measure_detectability(with_peaks([1, 2], fpr=0.0), TWENTY[:0], rule="peak_at_pixel_fpr").hits == (True, True)


def test_without_defects_there_is_nothing_to_detect():
    found = measure_detectability([], TWENTY)
    assert found.hits == ()
    assert np.isnan([found.smallest_detected_px, found.largest_missed_px, found.fit.a90_px]).all()
    assert describe(Detectability()) == []


def test_the_fit_is_that_of_the_hits_against_the_diameters():
    random = np.random.default_rng(2)
    defects = [
        replace(make_defect(int(area), 0.5), peak=float(peak), own_peak=float(peak))
        for area, peak in zip(random.integers(1, 400, 80), random.normal(19, 6, 80), strict=True)
    ]
    found = measure_detectability(defects, TWENTY)
    fit = fit_sizes(np.array([defect.diameter_px for defect in defects]), np.array(found.hits))
    assert repr(found.fit) == repr(fit)  # nan differs from nan


@pytest.mark.parametrize(("rule", "rate"), [("best_f1", None), ("peak_at_image_fpr", 1.0), ("peak_at_pixel_fpr", -0.1)])
def test_an_unknown_rule_or_rate_is_refused_with_the_choices(rule, rate):
    with pytest.raises(TinyDefectsError, match=r"choose one of own_peak_at_image_fpr|give a share in \[0, 1\)"):
        measure_detectability([], TWENTY, rule=rule, rate=rate)


def make_tally(random, n_images=40, n_defects=60):
    maps = random.normal(0, 1, (n_images, 300)).round().astype(np.float32)  # many ties
    is_good = np.arange(n_images) % 2 == 0
    thresholds = np.unique(maps)[::-1]
    areas = random.integers(1, 400, n_defects)
    peaks = random.normal(0.8 * np.log(areas) - 1, 1.2).round().astype(np.float32)
    return Tally(
        thresholds=thresholds,
        normal_at_least=np.array([(row[:, None] >= thresholds).sum(axis=0) for row in maps]),
        n_normal=np.full(n_images, 300),
        highest_normal=maps.max(axis=1),
        defect_at_least=np.zeros((n_defects, thresholds.size), dtype=np.int64),
        area_px=areas,
        peak=peaks,
        own_peak=np.where(random.random(n_defects) < 0.2, np.nan, peaks).astype(np.float32),
        median=peaks - 1,
        image_of_defect=random.choice(np.flatnonzero(~is_good), n_defects),
        defect_type=np.full(n_defects, "scratch"),
        is_good=is_good,
        image_score=maps.max(axis=1).astype(float),
        sample_id=np.array([f"test/x/{number:03d}" for number in range(n_images)]),
        group=np.array([f"test/x/{number:03d}" for number in range(n_images)]),
    ), maps


@pytest.mark.parametrize("rule", DEFAULT_RATES)
def test_a_resample_is_the_category_with_its_images_copied(rule):
    random = np.random.default_rng(3)
    tally, maps = make_tally(random)
    weights = random.multinomial(40, np.full(40, 1 / 40), 8)
    a50, a90 = resample_sizes(tally, weights.astype(float), rule=rule, rate=0.1)
    for number, row in enumerate(weights):
        copies = row[tally.image_of_defect]
        peak = tally.own_peak if rule.startswith("own_") else tally.peak
        if rule.endswith("image_fpr"):
            good = np.repeat(tally.highest_normal[tally.is_good], row[tally.is_good])
            threshold = np.sort(good)[::-1][int(0.1 * good.size)]
            hits = peak > threshold
        else:
            normal = np.repeat(maps, row, axis=0).ravel()
            scores = tally.median if rule == "half_at_pixel_fpr" else peak
            # exact up to the step between two thresholds of the table
            lowest = min(level for level in tally.thresholds if np.mean(normal >= level) <= 0.1)
            hits = scores >= lowest
        diameters = 2 * np.sqrt(np.repeat(tally.area_px, copies) / np.pi)
        fit = fit_sizes(diameters, np.repeat(hits, copies))
        assert a50[number] == pytest.approx(math.exp(-fit.intercept / fit.slope), rel=1e-6)
        assert a90[number] == pytest.approx(math.exp((math.log(9) - fit.intercept) / fit.slope), rel=1e-6)


def test_the_lines_to_print_name_the_rule_the_rate_and_the_sizes():
    fit = SizeFit(
        n_defects=80, n_hits=61, a50_px=3.14, a90_px=6.4, lack_of_fit_p=0.4, remarks=("a90/95 is never reached",)
    )
    found = Detectability(
        hits=(True,) * 61 + (False,) * 19, n_good_images=8, smallest_detected_px=1.6, largest_missed_px=12.3, fit=fit
    )
    intervals = {"a50_px": Interval(low=2.5, high=4.04), "a90_px": Interval(low=math.nan, high=math.nan)}
    detected, pod, remark = describe(found, pixel_pitch_mm=0.05, intervals=intervals)
    assert "61 of 80 defects at 0 of 8 good images alarming (5 % allowed);" in detected
    assert "smallest detected 1.6 px (0.08 mm), largest missed 12.3 px (0.615 mm)" in detected
    assert "a50 3.1 px (0.157 mm) (2.5-4.0), a90 6.4 px (0.32 mm), a90/95 none" in pod
    assert remark.strip() == "a90/95 is never reached"
