import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from reference import slow_metrics
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import DatasetError, ResolutionMismatchError, ScoreError, TinyDefectsError
from tinydefects.metrics import spool
from tinydefects.metrics.evaluation import EvaluationSettings, evaluate
from tinydefects.metrics.groups import SizeBins
from tinydefects.metrics.scores import metrics_of

GOLDENS = Path(__file__).resolve().parents[2] / "shared" / "goldens"
LIMITS = (0.30, 0.10, 0.05, 0.01)


class Folder:
    """Writes samples: a gray image whose pixels count upwards, and a mask unless the image is good."""

    def __init__(self, path):
        self.path = path

    def pair(self, name, mask, anomaly_map, score=0.0, label="defect"):
        image_path, mask_path = self.path / "image" / f"{name}.png", self.path / "mask" / f"{name}.png"
        write_png(image_path, np.arange(mask.size, dtype=np.uint32).reshape(mask.shape).astype(np.uint8))
        if label != "good":
            write_png(mask_path, mask)
        sample = Sample(
            id=f"test/{name}",
            image_path=image_path,
            label=label,
            mask_paths=() if label == "good" else (mask_path,),
        )
        return sample, Prediction(np.asarray(anomaly_map, dtype=np.float32), score)

    def good(self, name, anomaly_map, score=0.0):
        return self.pair(f"good/{name}", np.zeros(np.shape(anomaly_map), dtype=bool), anomaly_map, score, "good")


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def marked(shape, *pixels):
    mask = np.zeros(shape, dtype=bool)
    for pixel in pixels:
        mask[pixel] = True
    return mask


@pytest.fixture
def small_category(folder):
    """Ten normal pixels scoring 0 … 9; `dot` is one pixel at 8.5, `scratch` has three at 9.5, 8.5 and 5.5."""
    dot = folder.pair("dot/0", marked((1, 3), (0, 0)), [[8.5, 8, 9]], score=8.5)
    scratch = folder.pair("scratch/0", marked((2, 2), (0, 0), (0, 1), (1, 0)), [[9.5, 8.5], [5.5, 7]], score=9.5)
    return [dot, folder.good("0", [[0, 1, 2, 3], [4, 5, 6, -0.5]], score=8.5), scratch]


def test_a_category_done_by_hand(small_category):
    # Eleven normal pixels: -0.5, 0 … 9. At 8.5 one of them (9) is above, at 5.5 four (9, 8, 7, 6).
    evaluation = evaluate(small_category, category="hand/made", fpr_limits=(4 / 11,))
    dot, scratch = 1 - 1 / 4, (1 + (1 - 1 / 4) + 0) / 3
    assert evaluation.category == "hand/made"
    assert (evaluation.n_images, evaluation.n_good_images) == (3, 1)
    assert (evaluation.n_normal_pixels, evaluation.n_defect_pixels) == (11, 4)
    assert evaluation.overall.aupro == pytest.approx(((dot + scratch) / 2,))
    assert [group.name for group in evaluation.by_type] == ["dot", "scratch"]
    assert [group.aupro[0] for group in evaluation.by_type] == pytest.approx([dot, scratch])
    assert evaluation.quartile_areas_px == (1.5, 2.0, 2.5)
    assert [group.n_defects for group in evaluation.cumulative] == [1, 1, 1, 2]
    assert [group.n_defects for group in evaluation.disjoint] == [1, 0, 0, 1]
    assert evaluation.cumulative[0].aupro == pytest.approx((dot,))
    assert evaluation.cumulative[3] == replace(evaluation.overall, key="cumulative:Q4", name="Q4")
    assert np.isnan(evaluation.disjoint[1].aupro).all()
    mean, low, high = (3 * dot + (dot + scratch) / 2) / 4, (dot + scratch) / 2, dot
    assert evaluation.rho == pytest.approx((mean * low / high,))
    # The good image ties with `dot` and loses to `scratch`: (½ + 1) / 2.
    assert evaluation.image_auroc == pytest.approx(0.75)
    assert [group.image_auroc for group in evaluation.by_type] == [0.5, 1.0]
    assert evaluation.score_range == (-0.5, 9.5)


def test_each_defect_knows_where_it_is_and_what_it_takes_to_see_it(small_category):
    dot, scratch = evaluate(small_category).defects
    assert (dot.sample_id, dot.defect_type, dot.box_px, dot.area_px) == ("test/dot/0", "dot", (0, 0, 1, 1), 1)
    assert dot.diameter_px == pytest.approx(2 / np.sqrt(np.pi))
    assert (dot.peak, dot.first_touched_fpr, dot.half_covered_fpr) == (8.5, 1 / 11, 1 / 11)
    # Half of three pixels is two: the second highest, 8.5.
    assert (scratch.box_px, scratch.peak) == ((0, 0, 2, 2), 9.5)
    assert (scratch.first_touched_fpr, scratch.half_covered_fpr) == (0.0, 1 / 11)


@pytest.mark.parametrize("decimals", [1, 6])
def test_the_mean_of_the_defects_own_aupro_is_that_of_any_group(folder, decimals):
    evaluation = evaluate(random_category(folder, 3, decimals)[0])
    every = np.array([defect.aupro for defect in evaluation.defects])
    assert every.mean(axis=0) == pytest.approx(evaluation.overall.aupro, abs=1e-12)
    small = np.array([defect.area_px for defect in evaluation.defects]) <= evaluation.quartile_areas_px[0]
    assert every[small].mean(axis=0) == pytest.approx(evaluation.cumulative[0].aupro, abs=1e-12)


def test_a_normal_pixel_that_ties_with_the_peak_is_a_false_positive_at_it(folder):
    pair = folder.pair("dot/0", marked((1, 4), (0, 0)), [[5, 5, 5, 1]])
    assert evaluate([pair]).defects[0].first_touched_fpr == pytest.approx(2 / 3)


def test_half_of_an_even_defect_is_seen_without_its_lower_half(folder):
    pair = folder.pair("bar/0", marked((1, 5), (0, 0), (0, 1)), [[9.5, 5.5, 9, 8, 1]])
    assert evaluate([pair]).defects[0].half_covered_fpr == 0.0


def random_category(folder, seed, levels):
    """Six images of different sizes with few distinct scores: blobs, single pixels, one full and one good mask."""
    rng = np.random.default_rng(seed)
    pairs, maps, masks = [], [], []
    for number in range(6):
        shape = tuple(rng.integers(3, 9, size=2))
        mask = rng.random(shape) < [0.1, 0.4, 0.2, 0.15, 1.1, 0.0][number]
        mask.flat[0] |= number < 5
        scores = np.round(rng.normal(size=shape) + mask, levels).astype(np.float32)
        label = "defect" if number < 5 else "good"
        pairs.append(folder.pair(f"{label}/{number}", mask, scores, float(rng.integers(4)) + mask.any(), label))
        maps.append(scores)
        masks.append(mask)
    return pairs, maps, masks


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_every_number_agrees_with_slow_references_on_mixed_sizes_and_ties(folder, seed, decimals):
    pairs, maps, masks = random_category(folder, seed, decimals)
    evaluation = evaluate(pairs, fpr_limits=(0.3, 0.05))
    areas = [len(region) for mask in masks for region in slow_metrics.regions_of(mask)]
    largest = [*np.quantile(areas, (0.25, 0.5, 0.75)), np.inf]
    assert [record.area_px for record in evaluation.defects] == areas
    for group, largest_area in zip(evaluation.cumulative, largest, strict=True):
        slow = [slow_metrics.aupro(maps, masks, limit, largest_area) for limit in (0.3, 0.05)]
        assert group.aupro == pytest.approx(slow, abs=1e-12)
    truth, scores = np.concatenate([m.ravel() for m in masks]), np.concatenate([m.ravel() for m in maps])
    assert evaluation.pixel_auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert evaluation.pixel_average_precision == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    image_truth, image_scores = [m.any() for m in masks], [prediction.score for _, prediction in pairs]
    assert evaluation.image_auroc == pytest.approx(roc_auc_score(image_truth, image_scores), abs=1e-12)
    for record in evaluation.defects:
        assert record.first_touched_fpr == np.mean(scores[~truth] >= record.peak)


@pytest.mark.skipif(not GOLDENS.is_dir(), reason="../shared/goldens is absent")
@pytest.mark.parametrize("name", ["c04_ties32", "c09_mixed_first_smallest", "c10_few_normal", "c14_constant"])
def test_golden_categories_through_the_front_door(folder, name):
    with np.load(GOLDENS / "metrics" / f"{name}.npz") as golden:
        pairs = []
        for number, (label, score) in enumerate(zip(golden["labels"], golden["image_scores"], strict=True)):
            kind = "defect" if label else "good"
            mask = golden[f"gt_{number:03d}"] > 0
            pairs.append(folder.pair(f"{kind}/{number}", mask, golden[f"map_{number:03d}"], float(score), kind))
        for rule, key in [("published_99", "aupro_99"), ("normal_thresholds", "aupro_tie_aware_crosscheck")]:
            evaluation = evaluate(pairs, curve=rule)
            aupro = [group.aupro for group in reversed(evaluation.cumulative)]
            np.testing.assert_allclose(aupro, golden[key], atol=1e-9)
        np.testing.assert_allclose(evaluation.quartile_areas_px, golden["q123"], atol=1e-9)
        np.testing.assert_allclose(evaluation.pixel_auroc, golden["p_auroc"], atol=1e-9)
        np.testing.assert_allclose(evaluation.image_auroc, golden["i_auroc"], atol=1e-9)


def test_the_order_of_the_stream_changes_nothing(small_category):
    forward, backward = evaluate(small_category), evaluate(reversed(small_category))
    assert forward.overall == backward.overall
    assert sorted(map(repr, forward.defects)) == sorted(map(repr, backward.defects))  # nan differs from nan


def test_a_map_of_another_size_is_refused_with_both_sizes(folder):
    sample, _ = folder.good("7", np.zeros((4, 6)))
    with pytest.raises(ResolutionMismatchError, match=r"test/good/7.*\(6, 4\).*\(4, 6\).*resample the map"):
        evaluate([(sample, Prediction(np.zeros((6, 4), np.float32), 0.0))])


def test_unknown_labels_contradictions_and_nothing_at_all_are_refused(folder):
    sample, prediction = folder.pair("dot/0", marked((2, 2), (0, 0)), np.zeros((2, 2)))
    with pytest.raises(DatasetError, match="test/dot/0: labelled unknown"):
        evaluate([(replace(sample, label="unknown"), prediction)])
    with pytest.raises(DatasetError, match="test/dot/0: labelled good but its mask marks"):
        evaluate([(replace(sample, label="good"), prediction)])
    with pytest.raises(DatasetError, match="nothing to evaluate"):
        evaluate([])


@pytest.mark.parametrize("limits", [(), (0.0,), (1.5,), (float("nan"),)])
def test_impossible_settings_are_refused(small_category, limits):
    with pytest.raises(TinyDefectsError, match="fpr_limits"):
        evaluate(small_category, fpr_limits=limits)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"curve": "fast"},
            "field 'curve': Input should be 'exact', 'published_99' or 'normal_thresholds' (got 'fast')",
        ),
        ({"n_draws": 5}, "field 'n_draws': Extra inputs are not permitted (got '5')"),
        ({"n_resamples": -1}, "field 'n_resamples': Input should be greater than or equal to 0 (got '-1')"),
        ({"threshold": float("inf")}, "field 'threshold': Input should be less than"),
        ({"image_threshold": float("inf")}, "field 'image_threshold': Input should be a finite number"),
        ({"bins": "inch:2"}, "field 'bins': Value error, size unit 'inch' is unknown"),
        ({"bins": "2,5"}, "field 'bins': Value error, '2,5': write UNIT:EDGES"),
        ({"fpr_limits": None}, "field 'fpr_limits.0': Input should be a valid number"),
        ({"bins": 5}, "field 'bins.0': Input should be a dictionary or an instance of SizeBins"),
        ({"fpr_limits": "0.3,x"}, "field 'fpr_limits.1': Input should be a valid number"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named_before_the_first_image(change, told):
    with pytest.raises(TinyDefectsError) as raised:
        evaluate(iter([None]), **change)
    assert told in str(raised.value)


def test_settings_may_be_one_value_single_changes_or_both(small_category):
    settings = EvaluationSettings(fpr_limits=(0.3, 0.05), n_resamples=7, seed=3, contrast=True)
    whole, by_name = evaluate(small_category, settings), evaluate(small_category, **dict(settings))
    assert metrics_of(by_name) == pytest.approx(metrics_of(whole), abs=1e-12, nan_ok=True)
    assert by_name.intervals.keys() == whole.intervals.keys() != set()
    other = evaluate(small_category, settings, n_resamples=0)
    assert (other.fpr_limits, other.intervals, settings.n_resamples) == ((0.3, 0.05), {}, 7)


def test_settings_as_text_are_those_of_the_command_line():
    bins = (SizeBins(unit="diameter_px", edges=(2, 5)), SizeBins(unit="area_px", edges=(9,)))
    as_text = EvaluationSettings(fpr_limits="0.3,0.05,0.3", bins=["diameter_px:2,5", "area_px:9"])
    assert as_text == EvaluationSettings(fpr_limits=(0.3, 0.05), bins=bins)
    assert EvaluationSettings(bins="area_px:9", fpr_limits="0.3") == EvaluationSettings(bins=bins[1], fpr_limits=0.3)


def test_nan_is_a_setting_that_is_not_given():
    nan = float("nan")
    given = EvaluationSettings(threshold=nan, image_threshold=np.float32(nan), pixel_pitch_mm=nan)
    assert given == EvaluationSettings()


def test_settings_come_back_from_json():
    settings = EvaluationSettings(bins="area_mm2:0.5,2", pixel_pitch_mm=0.1, threshold=0.5, curve="published_99")
    assert EvaluationSettings.model_validate_json(settings.model_dump_json()) == settings


def test_maps_of_other_types_count_as_float32_unless_they_overflow(folder):
    sample, _ = folder.pair("dot/0", marked((1, 2), (0, 0)), np.zeros((1, 2)))
    tied = evaluate([(sample, Prediction(np.array([[1.0 + 1e-12, 1.0]]), 0.0))])
    assert tied.pixel_auroc == 0.5
    with pytest.raises(ScoreError, match=r"test/dot/0.*overflows float32"):
        evaluate([(sample, Prediction(np.array([[1e300, 1.0]]), 0.0))])


def test_a_defective_image_without_a_marked_pixel_counts_as_an_image_only(folder, small_category):
    unmarked = folder.pair("uneven/0", marked((2, 2)), np.full((2, 2), 99.0), score=99.0)
    before, after = evaluate(small_category), evaluate([unmarked, *small_category])
    assert (after.n_images, after.n_unmarked_images, before.n_unmarked_images) == (4, 1, 0)
    assert after.n_normal_pixels == before.n_normal_pixels
    assert after.overall == before.overall
    assert after.image_auroc == pytest.approx((1 + 0.5 + 1) / 3)
    assert (after.by_type[2].name, after.by_type[2].n_defects) == ("uneven", 0)
    assert "1 defective images mark no pixel" in str(after)


def test_without_defects_every_number_is_nan_beside_its_count(folder):
    evaluation = evaluate([folder.good("0", np.zeros((2, 3)))])
    assert (evaluation.n_images, evaluation.n_normal_pixels, evaluation.overall.n_defects) == (1, 6, 0)
    assert np.isnan([*evaluation.overall.aupro, *evaluation.rho, *evaluation.quartile_areas_px]).all()
    assert np.isnan([evaluation.pixel_auroc, evaluation.image_auroc, evaluation.image_best_f1]).all()
    assert (evaluation.defects, evaluation.by_type, evaluation.overall.curve.fpr) == ((), (), ())
    assert "nan" in str(evaluation)


@pytest.mark.parametrize("rule", ["exact", "published_99", "normal_thresholds"])
def test_without_a_normal_pixel_every_pixel_number_is_nan_beside_its_count(folder, rule):
    evaluation = evaluate([folder.pair("all/0", np.ones((2, 2), dtype=bool), np.ones((2, 2)))], curve=rule)
    assert (evaluation.n_normal_pixels, evaluation.overall.n_defects, evaluation.n_good_images) == (0, 1, 0)
    assert np.isnan([*evaluation.overall.aupro, *evaluation.rho, evaluation.pixel_average_precision]).all()
    assert np.isnan([evaluation.image_auroc, evaluation.defects[0].first_touched_fpr]).all()


def test_crops_are_the_smallest_defects_and_the_faintest_at_native_pixels(folder):
    # Areas 1 … 6 by number, peaks 6 … 1: the two smallest are 1 and 2, the two faintest 6 and 5.
    pairs = []
    for area in (3, 6, 1, 5, 2, 4):
        mask = np.zeros((200, 90), dtype=bool)
        mask[100, 50 : 50 + area] = True
        pairs.append(folder.pair(f"line/{area}", mask, np.where(mask, 7.0 - area, 0.0)))
    crops = evaluate(pairs, n_crops=4).crops
    assert [crop.defect.area_px for crop in crops] == [1, 2, 5, 6]
    smallest = crops[0]
    assert smallest.image.shape == (64, 64, 3)
    assert (smallest.mask.shape, smallest.anomaly_map.dtype) == ((64, 64), np.float16)
    # 64 rows around row 100 start at 68; of 90 columns around column 50, at 18.
    assert np.argwhere(smallest.mask).tolist() == [[100 - 68, 50 - 18]]
    assert smallest.anomaly_map[32, 32] == 6.0
    assert smallest.image[32, 32, 0] == (100 * 90 + 50) % 256
    assert smallest.defect.first_touched_fpr == 0.0


def test_a_defect_of_both_kinds_is_shown_once_and_none_when_none_is_asked_for(small_category):
    assert [crop.defect.sample_id for crop in evaluate(small_category, n_crops=2).crops] == ["test/dot/0"]
    assert evaluate(small_category, n_crops=0).crops == ()


def test_cuts_stay_inside_the_image_and_within_their_bounds(folder):
    mask = np.zeros((300, 250), dtype=bool)
    mask[0, 249] = mask[20:290, 10:200] = True
    corner, large = evaluate([folder.pair("wide/0", mask, np.zeros(mask.shape))]).crops
    assert corner.mask.shape == (64, 64)
    assert corner.mask[0, 63]
    assert large.mask.shape == (160, 160)
    small = evaluate([folder.pair("tiny/0", marked((5, 9), (2, 2)), np.full((5, 9), 1e9))]).crops[0]
    assert small.mask.shape == (5, 9)
    assert np.isfinite(small.anomaly_map).all()


def test_images_are_read_only_for_defects_worth_showing(folder):
    pairs = [folder.pair(f"dot/{n}", marked((4, 4), (0, 0)), np.full((4, 4), float(n))) for n in range(5)]
    read = []

    class Watched(Sample):
        def image(self):
            read.append(self.id)
            return Sample.image(self)

    fields = ("id", "image_path", "label", "mask_paths")
    watched = [(Watched(**{name: getattr(sample, name) for name in fields}), said) for sample, said in pairs]
    evaluate(watched, n_crops=2)
    assert read == ["test/dot/0"]  # later ones are neither smaller nor fainter


def test_the_summary_shows_quartiles_definitions_and_cautions(small_category):
    text = str(evaluate(small_category, category="hand/made"))
    assert text.startswith("hand/made: 1 good and 2 defective images, 2 defects, curve exact")
    assert "30 %" in text
    assert "mean(Q1..Q4) * min(Q1, Q4) / max(Q1, Q4)" in text
    assert "image AUROC 0.7500" in text
    assert "fewer than 10 defects in Q1 (1), Q2 (1), Q3 (1), Q4 (2)" in text


def test_memory_does_not_grow_with_the_number_of_good_images(folder, monkeypatch):
    monkeypatch.setattr(spool, "BUCKET_SCORES", (2**14, 2**14))
    defective = folder.pair("dot/0", marked((128, 128), (5, 5)), np.zeros((128, 128)))
    sample, _ = folder.good("0", np.zeros((128, 128)))

    def stream(n_good):
        yield defective
        for number in range(n_good):
            yield sample, Prediction(np.full((128, 128), float(number), np.float32), 0.0)

    def peak_bytes(n_good):
        tracemalloc.start()
        evaluation = evaluate(stream(n_good))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert evaluation.n_good_images == n_good
        return peak

    peak_bytes(2)  # what is imported and cached on first use
    one_map = 128 * 128 * 4
    assert peak_bytes(100) - peak_bytes(4) < 96 * one_map / 16  # 4 kB of counts an image, whatever its size
