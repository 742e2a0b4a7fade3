"""What thresholds achieve on test images: counted right, beside what was promised, and chosen on none of them."""

import json
import math
import weakref
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

import command_line
from good_parts import record
from random_category import random_pairs, random_samples
from tinydefects.data.map_files import Origin, read_photograph
from tinydefects.data.pairing import pair_maps
from tinydefects.data.pixels import write_png
from tinydefects.data.predictions import write_prediction
from tinydefects.data.sample import Prediction, Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.decisions.calibration import Calibration, CalibrationSettings, write_calibration
from tinydefects.decisions.outcome import OutcomeCounting, Share, mean_interval, measure_outcome, region_mask
from tinydefects.decisions.regions import Extent, find_regions, mask_of
from tinydefects.errors import DatasetError, ResultError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.report.page import write_report
from tinydefects.results.evaluate_maps import GivenThresholds
from tinydefects.results.result import Result, describe_run, read_result, write_result

SIZE = (20, 30)
BOX, FAR = (slice(4, 7), slice(5, 9)), (slice(14, 16), slice(20, 22))


def calibrated(scores=(1.0, 2.0, 3.0, 4.0), *, extent=1.0, **wishes):
    """Good parts with these scores and peaks; regions reach down to `extent`."""
    images = tuple(
        record(number, score, peaks=[score] if score > extent else []) for number, score in enumerate(scores)
    )
    wishes = {"false_alarms": 0.25, "confidence": 0.8, "false_regions": 0.25, **wishes}
    return Calibration(
        fingerprint="abc",
        obtained="held out",
        settings=CalibrationSettings(**wishes),
        extent=Extent(level=extent),
        images=images,
    )


@pytest.fixture
def drawn(tmp_path):
    """Makes one sample with a map: 0 but for boxes of given values; boxes of defects are marked in its mask."""

    def draw(name, values, defects=(), *, score=None, group=None, is_good=False):
        image, outline = (tmp_path / f"{name}{end}.png" for end in ("", "_mask"))
        write_png(image, np.full(SIZE, 90, np.uint8))
        anomaly_map, mask = np.zeros(SIZE, np.float32), np.zeros(SIZE, bool)
        for box, value in values:
            anomaly_map[box] = value
        for box in defects:
            mask[box] = True
        write_png(outline, mask)
        sample = Sample(
            id=f"test/{'good' if is_good else 'pit'}/{name}",
            image_path=image,
            label="good" if is_good else "defect",
            mask_paths=(outline,) if defects else (),
            group=group,
        )
        return sample, Prediction(anomaly_map, float(anomaly_map.max() if score is None else score))

    return draw


def exact(count, n):
    found = binomtest(count, n).proportion_ci(0.95, method="exact")
    return pytest.approx((found.low, found.high), abs=1e-9)


def test_the_numbers_of_a_few_photographs(drawn):
    # four good parts, 25 %: on average none of 4 may lie above, the highest is the threshold; with 80 % none affords it
    calibration = calibrated()
    assert (calibration.good_up_to, calibration.defect_above, calibration.seed) == (4.0, math.inf, 4.0)
    found = measure_outcome(
        [
            drawn("a", [(BOX, 3.9)], is_good=True),
            drawn("b", [(BOX, 4.5), (FAR, 5.0)], is_good=True),
            drawn("c", [(BOX, 6.0)], [BOX]),  # hit: 12 px found
            drawn("d", [(BOX, 3.0), (FAR, 6.0)], [BOX]),  # another place is high: 4 px false, 12 px missed
            drawn("e", [(FAR, 2.0)], [FAR]),  # nothing shown, called good: 4 px missed
        ],
        calibration,
    )
    assert (found.not_good.found.count, found.not_good.found.n, found.not_good.promised) == (1, 2, 0.25)
    assert (found.not_good.found.low, found.not_good.found.high) == exact(1, 2)
    assert (found.called_defect.found.count, math.isnan(found.called_defect.threshold)) == (0, True)
    assert math.isnan(found.called_defect.promised)
    assert (found.regions.found.count, found.regions.promised, found.false_regions) == (1, 0.25, 1.0)
    assert found.hits == (True, False, False)
    every, *quartiles = found.by_size
    assert (every.not_good.count, every.not_good.n, every.hit.count, every.hit.n) == (2, 3, 1, 3)
    assert (every.hit.low, every.hit.high) == exact(1, 3)
    assert every.area_px == (4, 12)
    assert [(one.hit.count, one.hit.n) for one in quartiles] == [(0, 1), (1, 2), (0, 0), (0, 0)]
    found_px, false_px, missed_px = 12, 12 + 4 + 4, 12 + 4
    assert found.seg_f1 == 2 * found_px / (2 * found_px + false_px + missed_px)
    assert found.fit.remarks == ("only 3 defects: fewer than 10 say nothing about size",)


def test_a_defect_in_a_neighbours_glow_alone_is_missed(drawn):
    sample, prediction = drawn("a", [], [(slice(5, 10), slice(5, 10)), (slice(7, 8), slice(12, 13))])
    slope = 9.0 - np.hypot(*np.mgrid[-7:13, -7:23])  # one summit, in the larger defect
    prediction = Prediction(slope.astype(np.float32), 9.0)
    found = measure_outcome([(sample, prediction)], calibrated())
    assert (found.hits, found.n_by_glow) == ((True, False), 1)
    assert "1 more reaches the threshold only in a neighbour's glow" in str(found)


def slow_outcome(pairs, calibration):
    """Counted one by one, from decisions and regions as anybody gets them."""
    scores = {"good": {}, "defect": {}}
    regions, defects, pixels = {}, [], []
    for sample, prediction in pairs:
        decision, mask = calibration.decide(prediction), sample.mask()
        part = sample.group or sample.id
        scores[sample.label].setdefault(part, []).append(decision.verdict)
        shown = mask_of(decision.regions, mask.shape)
        pixels.append((shown.ravel(), mask.ravel()))
        if sample.label == "good":
            regions.setdefault(part, []).append(decision.n_regions)
        todo = set(map(tuple, np.argwhere(mask).tolist()))
        while todo:
            edge, defect = [min(todo)], set()
            while edge:
                row, column = edge.pop()
                if (row, column) in todo:
                    todo.remove((row, column))
                    defect.add((row, column))
                    edge += [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
            defects.append((part, len(defect), any(shown[place] for place in defect)))
    shown, mask = (np.concatenate(column) for column in zip(*pixels, strict=True))
    return scores, regions, defects, 2 * (shown & mask).sum() / (shown.sum() + mask.sum())


def n_parts(verdicts, *of_these):
    return sum(any(verdict in of_these for verdict in of_part) for of_part in verdicts.values())


@pytest.mark.parametrize(("seed", "n_scenes", "most"), [(0, None, 1), (1, None, 3), (2, 3, 1), (3, 3, 3), (4, None, 1)])
def test_agrees_with_counting_one_by_one(tmp_path, seed, n_scenes, most):
    samples = random_samples(tmp_path, seed=seed, n_good=12, n_defective=12, n_scenes=n_scenes)
    pairs = list(random_pairs(samples, seed=seed))
    good = np.random.default_rng(seed).normal(3, 0.5, 30)
    calibration = calibrated(
        good, extent=2.0, false_alarms=0.1, most_counted=most, false_regions=0.3, min_area_px=1 + seed % 2
    )
    found = measure_outcome(pairs, calibration)
    scores, regions, defects, seg_f1 = slow_outcome(pairs, calibration)
    for kept, verdicts in ((found.not_good, ("unsure", "defect")), (found.called_defect, ("defect",))):
        assert kept.found.count == n_parts(scores["good"], *verdicts)
        assert kept.found.n == len(scores["good"])
        assert (kept.found.low, kept.found.high) == exact(kept.found.count, kept.found.n)
    areas = np.array([area for _, area, _ in defects])
    limits = [0, *np.quantile(areas, (0.25, 0.5, 0.75)), np.inf]
    for place, size in enumerate(found.by_size):
        low, high = (0, np.inf) if place == 0 else limits[place - 1 : place + 1]
        inside = [one for one in defects if low < one[1] <= high]
        showing = {part: scores["defect"][part] for part, _, _ in inside} if place else scores["defect"]
        assert (size.hit.count, size.hit.n) == (sum(hit for *_, hit in inside), len(inside))
        assert (size.not_good.count, size.not_good.n) == (n_parts(showing, "unsure", "defect"), len(showing))
        assert size.called_defect.count == n_parts(showing, "defect")
    of_parts = [np.mean([min(count, most) for count in counts]) for counts in regions.values()]
    assert found.regions.found.count == pytest.approx(sum(of_parts))
    assert found.false_regions == pytest.approx(np.mean([np.mean(counts) for counts in regions.values()]))
    assert found.seg_f1 == pytest.approx(seg_f1)
    assert len(found.hits) == len(evaluate(pairs, n_resamples=0).defects)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=50)
def test_shown_pixels_are_those_of_the_regions(seed, min_area_px):
    anomaly_map = np.random.default_rng(seed).random((12, 9), dtype=np.float32)
    levels = {"extent": Extent(level=0.6, patch_px=seed % 3), "seed": 0.9, "min_area_px": min_area_px}
    regions, count = find_regions(anomaly_map, **levels)
    mask, n_regions = region_mask(anomaly_map, **levels)
    assert n_regions == count
    assert np.array_equal(mask, mask_of(regions, mask.shape))


def test_thresholds_are_those_of_the_file_whatever_the_test_images(tmp_path):
    samples = random_samples(tmp_path)
    pairs, calibration = list(random_pairs(samples)), calibrated(np.linspace(2, 4, 40), extent=2.0)
    found = measure_outcome(pairs, calibration)
    others = [(sample, Prediction(3 * one.anomaly_map, 3 * one.score)) for sample, one in pairs]
    for changed in (measure_outcome(others, calibration), measure_outcome(pairs[3:9], calibration)):
        for name in ("not_good", "called_defect", "regions"):
            one, other = getattr(found, name), getattr(changed, name)
            assert (one.threshold, one.promised, one.confidence) == (other.threshold, other.promised, other.confidence)
    assert found.not_good.threshold == calibration.good_up_to
    assert found.called_defect.threshold == calibration.defect_above
    assert found.regions.threshold == calibration.seed
    backwards = measure_outcome(reversed(pairs), calibration)
    assert backwards.by_size == found.by_size
    assert backwards.not_good == found.not_good


def test_the_threshold_itself_is_still_good(drawn):
    pairs = [drawn("a", [], is_good=True, score=4.0), drawn("b", [(BOX, 4.0)], [BOX], score=4.0)]
    found = measure_outcome(pairs, calibrated())
    assert (found.not_good.found.count, found.by_size[0].not_good.count, found.hits) == (0, 0, (False,))


def test_a_promise_lies_inside_above_or_below_the_interval(drawn):
    def good(n, n_above):
        return [drawn(str(place), [], is_good=True, score=9.0 if place < n_above else 0.0) for place in range(n)]

    calibration = calibrated()
    stands = {n_above: measure_outcome(good(20, n_above), calibration).not_good.stands for n_above in (0, 5, 15)}
    assert stands == {0: "above", 5: "inside", 15: "below"}
    assert "more than it allows" in str(measure_outcome(good(20, 15), calibration))
    assert measure_outcome([drawn("x", [(BOX, 6.0)], [BOX])], calibration).not_good.stands == ""


def test_a_threshold_by_hand_promises_nothing_and_too_few_parts_what_they_afford(drawn):
    pairs = [drawn("a", [(BOX, 3.9)], is_good=True), drawn("b", [(BOX, 6.0)], [BOX])]
    by_hand = measure_outcome(pairs, calibrated(image_threshold=3.0, region_threshold=3.5))
    assert (by_hand.not_good.threshold, by_hand.called_defect.threshold, by_hand.regions.threshold) == (3.0, 3.0, 3.5)
    assert all(math.isnan(kept.promised) for kept in (by_hand.not_good, by_hand.called_defect, by_hand.regions))
    assert str(by_hand).count("nothing is promised of a threshold set by hand") == 3
    few = measure_outcome(pairs, calibrated(false_alarms=0.01, false_regions=0.01))
    assert (few.not_good.threshold, few.not_good.promised, few.regions.promised) == (4.0, 1 / 5, 1 / 5)
    assert "no part is called defect" in str(few)


def test_regions_that_are_counted_beyond_one_are_told_by_their_mean(drawn):
    good = [drawn("a", [(BOX, 50.0), (FAR, 50.0)], is_good=True), drawn("b", [], is_good=True)]
    scores = [float(one) for one in range(2, 32)]  # 30 parts; 0.5 * 31 - 3 = 12.5 regions may lie above
    found = measure_outcome(good, calibrated(scores, false_regions=0.5, most_counted=3))
    assert (found.regions.found.value, found.regions.promised) == (1.0, 0.5)
    line = next(line.strip() for line in str(found).splitlines() if "counted up to" in line)
    share = Share.of(2.0, 2, most=3)
    assert line == (
        f"regions of a good part, counted up to 3 (peak above 19): 1 ({share.low:.3g} to {share.high:.3g}) in "
        "the mean; promised: at most 0.5 on average; the promise lies inside the interval"
    )
    assert "counted up to 3" in found._repr_html_()
    by_hand = measure_outcome(good, calibrated(scores, region_threshold=2.0, most_counted=3))
    assert "in the mean; nothing is promised of a threshold set by hand" in str(by_hand)


def test_photographs_of_one_part_count_once(drawn):
    found = measure_outcome(
        [
            drawn("a", [(BOX, 9.0)], is_good=True, group="one"),
            drawn("b", [], is_good=True, group="one"),
            drawn("c", [], is_good=True, group="two"),
            drawn("d", [(BOX, 9.0)], [BOX], group="three"),
            drawn("e", [], [BOX], group="three"),
        ],
        calibrated(),
    )
    assert (found.n_good_images, found.not_good.found.count, found.not_good.found.n) == (3, 1, 2)
    assert (found.regions.found.count, found.false_regions) == (0.5, 0.25)
    assert (found.by_size[0].not_good.count, found.by_size[0].not_good.n) == (1, 1)
    assert found.hits == (True, False)


def test_without_outlines_photographs_are_counted_and_that_is_said_once(drawn):
    pairs = [drawn("a", [], is_good=True), drawn("b", [(BOX, 6.0)]), drawn("c", [])]
    found = measure_outcome(pairs, calibrated())
    (every,) = found.by_size
    assert (every.not_good.count, every.not_good.n, every.hit.n, found.n_unmarked_images) == (1, 2, 0, 2)
    assert math.isnan(found.seg_f1)
    assert str(found).count("without outlines") == 1
    assert "POD of regions" not in str(found)
    # pixels of those without an outline are neither found nor false
    outlined = drawn("d", [(BOX, 6.0)], [BOX])
    assert measure_outcome([*pairs, outlined], calibrated()).seg_f1 == 1.0


def test_nothing_to_count_is_refused_and_good_or_defective_ones_alone_are_not(drawn):
    with pytest.raises(DatasetError, match="nothing to count"):
        measure_outcome([], calibrated())
    alone = measure_outcome([drawn("a", [], is_good=True)], calibrated())
    assert alone.by_size[0].not_good.n == 0
    assert "defects hit" not in str(alone)
    alone = measure_outcome([drawn("b", [(BOX, 6.0)], [BOX])], calibrated())
    assert math.isnan(alone.false_regions)
    assert "none to count" in str(alone)


def test_one_map_is_in_memory_at_a_time_and_an_evaluation_may_share_the_pass(tmp_path):
    samples = random_samples(tmp_path)
    alive = []

    def one_by_one():
        for sample, prediction in random_pairs(samples):
            alive.append(weakref.ref(prediction.anomaly_map))
            yield sample, prediction
            del prediction
            assert sum(one() is not None for one in alive) == 1  # whoever asks for the next still has the last

    calibration = calibrated(np.linspace(2, 4, 40), extent=2.0)
    counting = OutcomeCounting(calibration)
    evaluation = evaluate(counting.watch(one_by_one()), n_resamples=0)
    assert evaluation.overall == evaluate(random_pairs(samples), n_resamples=0).overall
    np.testing.assert_equal(asdict(counting.outcome()), asdict(measure_outcome(random_pairs(samples), calibration)))
    assert len(counting.outcome().hits) == len(evaluation.defects)


def test_intervals_of_counts_that_may_exceed_one():
    share = Share.of(6.0, 10, most=3)
    assert (share.value, (share.low / 3, share.high / 3)) == (0.6, exact(2, 10))
    counts = np.random.default_rng(0).poisson(2, 60).astype(float)
    interval = mean_interval(counts)
    spread = 1.96 * counts.std(ddof=1) / math.sqrt(60)
    assert (interval.low, interval.high) == pytest.approx((counts.mean() - spread, counts.mean() + spread), abs=0.12)
    assert mean_interval(np.zeros(9)).high == pytest.approx(1 - 0.025 ** (1 / 9))
    assert math.isnan(mean_interval(np.ones(1)).low)


def test_a_result_keeps_it_and_older_ones_are_read_without(tmp_path):
    samples = random_samples(tmp_path)
    evaluation = evaluate(random_pairs(samples), n_resamples=0, n_crops=0, category="parts")
    for wishes in ({}, {"false_alarms": 0.001}):  # nothing is called a defect: nan
        outcome = measure_outcome(random_pairs(samples), calibrated(np.linspace(2, 4, 40), extent=2.0, **wishes))
        result = Result(evaluation=evaluation, provenance=describe_run({}), outcome=outcome)
        path = write_result(result, tmp_path / "r.json")
        np.testing.assert_equal(asdict(read_result(path).outcome), asdict(outcome))
        assert str(read_result(path).outcome) == str(outcome)
    content = json.loads(path.read_text())
    del content["outcome"]
    path.write_text(json.dumps(content))
    assert read_result(path).outcome is None


@pytest.mark.slow
def test_a_page_shows_it_where_there_is_one(tmp_path):
    samples = random_samples(tmp_path)
    evaluation = evaluate(random_pairs(samples), n_resamples=0, n_crops=0, category="parts")
    outcome = measure_outcome(random_pairs(samples), calibrated(np.linspace(2, 4, 40), extent=2.0))
    result = Result(evaluation=evaluation, provenance=describe_run({}), outcome=outcome)
    page = write_report([result], tmp_path / "page.html").read_text()
    assert page.count("At the model's thresholds") == 1
    assert f"above {outcome.not_good.threshold:.4g}" in page
    plain = write_report([replace(result, outcome=None)], tmp_path / "page.html").read_text()
    assert "At the model's thresholds" not in plain


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """parts with ten good and two defective test images, and in `maps` what the detector abc made of them."""
    for name in (*(f"test/good/{n:03d}" for n in range(10)), "test/pit/010", "test/pit/011", "train/good/012"):
        path = tmp_path / f"parts/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image, mask = np.random.default_rng(int(name[-3:])).integers(90, 110, SIZE, np.uint8), np.zeros(SIZE, np.uint8)
        if "pit" in name:
            image[BOX], mask[BOX] = 200, 255
            outline = tmp_path / f"parts/{name.replace('test', 'ground_truth')}_mask.png"
            outline.parent.mkdir(parents=True, exist_ok=True)
            write_png(outline, mask > 0)
        write_png(path, image)
    monkeypatch.chdir(tmp_path)
    write_calibration(Path("calibration.json"), calibrated())
    write_maps({"detector": "abc"})
    return tmp_path


def write_maps(made_by):
    for sample in load_category("folder/parts", root=Path()).test:
        image, photograph = read_photograph(sample)
        anomaly_map = image[..., 0].astype(np.float32) / 40
        origin = Origin(photograph=photograph, made_by=made_by) if made_by else None
        write_prediction(Path("maps"), "folder/parts", sample, Prediction(anomaly_map, 5.0), origin=origin)


@pytest.fixture
def run(workplace, monkeypatch, capsys):
    return partial(command_line.run, monkeypatch, capsys)


EVALUATE = ["evaluate", "maps", "folder/parts", "--root", ".", "--resamples", 0, "--calibration", "calibration.json"]


def test_the_command_prints_it_and_writes_it_beside_the_evaluation(run):
    code, out, err = run(*EVALUATE)
    assert code == 0, err
    assert "good parts called not good (above 4): 10 of 10" in out
    stored = read_result(Path("results/folder/parts.json"))
    assert (stored.outcome.not_good.found.count, stored.outcome.hits) == (10, (True, True))
    assert len(stored.provenance.settings["calibration"]) == 64
    Path("model").mkdir()
    Path("calibration.json").rename("model/calibration.json")
    code, out, _ = run(*EVALUATE[:-1], "model", "--json")
    assert code == 0
    told = json.loads(out)["outcome"]
    assert (told["called_defect"]["threshold"], told["by_size"][0]["hit"]["count"]) == (None, 2)
    assert "outcome" not in json.loads(run(*EVALUATE[:-2], "--json")[1])


@pytest.mark.parametrize(
    ("made_by", "options", "told"),
    [
        ({"detector": "xyz"}, [], "calibrated for the detector abc, this one is xyz"),
        ({"method": "patchcore"}, [], "the maps were made by patchcore"),
        (None, [], "the maps do not say who made them"),
        ({"detector": "abc"}, ["--image-score", "max"], "--image-score stored"),
        ({"detector": "abc"}, ["--calibration", "maps"], "tinydefects calibrate MODEL GOOD"),
        ({"detector": "abc"}, ["--calibration", "parts/test/good/000.png"], "not a readable calibration"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(run, made_by, options, told):
    write_maps(made_by)
    for more in ([], ["--dry-run"]):
        code, out, err = run(*EVALUATE, *options, *more)
        (line,) = (line for line in err.splitlines() if line.startswith("tinydefects: "))
        assert (code, out) == (2, "")
        assert told in line
        assert not Path("results/folder/parts.json").exists()


def test_resampled_maps_are_refused(run):
    for sample in load_category("folder/parts", root=Path()).test:
        origin = Origin(photograph=read_photograph(sample)[1], made_by={"detector": "abc"})
        smaller = Prediction(np.ones((10, 15), np.float32), 5.0)
        write_prediction(Path("maps"), "folder/parts", sample, smaller, origin=origin)
    code, _, err = run(*EVALUATE, "--resample", "bilinear")
    assert code == 2
    assert "resampled maps have other peaks" in err


def test_maps_of_an_export_are_judged_by_the_thresholds_of_the_detector_it_was_made_from(workplace):
    category = load_category("folder/parts", root=Path())
    write_maps({"detector": "its export"})
    pairing = pair_maps(Path("maps"), category)
    GivenThresholds.read(Path("calibration.json"), {"its export": "abc"}).require_for(pairing)
    for exports in ({}, {"its export": "another"}):
        with pytest.raises(ResultError, match="calibrated for the detector abc, this one is its export"):
            GivenThresholds.read(Path("calibration.json"), exports).require_for(pairing)


def test_a_test_image_that_set_the_thresholds_is_refused(run):
    sample = load_category("folder/parts", root=Path()).test[0]
    digest = read_photograph(sample)[1].pixels_sha256
    given = calibrated()
    known = given.images[0].model_copy(update={"pixels_sha256": digest})
    write_calibration(Path("calibration.json"), given.model_copy(update={"images": (known, *given.images[1:])}))
    code, _, err = run(*EVALUATE)
    assert code == 2
    assert f"{sample.id}: has the pixels of train/good/000" in err
