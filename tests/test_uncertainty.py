import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import bootstrap

from random_category import random_pairs, random_samples
from reference.slow_tally import members_of, random_images, tally_of
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.groups import SizeBins
from tinydefects.metrics.records import Interval
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.resampling import Plan, Resampler
from tinydefects.metrics.statistics.uncertainty import (
    bca_interval,
    draw_weights,
    intervals,
    n_trials,
    opened,
    plan_of,
    tally_intervals,
)

LIMITS = (0.3, 0.05)


@pytest.fixture
def evaluation(tmp_path):
    return evaluate(
        random_pairs(random_samples(tmp_path)),
        fpr_limits=LIMITS,
        bins=[SizeBins(unit="diameter_px", edges=(3.0,)), SizeBins(unit="image_share", edges=(0.002, 0.006))],
        threshold=2.0,
        image_threshold=4.0,
        n_resamples=200,
    )


def width(interval):
    return interval.high - interval.low


def test_the_tally_alone_gives_every_figure_to_a_thousandth(evaluation):
    tally = evaluation.tally
    found = Resampler(tally, plan_of(evaluation)).under(np.ones((1, tally.n_normal.size)))
    values = metrics_of(evaluation)
    assert set(values) == {*found, "a90_95_px"}
    for name, value in values.items():
        if name != "a90_95_px" and not math.isnan(value):
            assert found[name][0] == pytest.approx(value, abs=1e-3), name


def test_every_figure_has_an_interval_around_it_except_a_bound(evaluation):
    values = metrics_of(evaluation)
    assert set(evaluation.intervals) == set(values) - {"a90_95_px"}
    measured = [name for name in evaluation.intervals if not math.isnan(values[name])]
    assert len(measured) > 50
    for name in measured:
        assert evaluation.intervals[name].low <= values[name] + 1e-9, name
        assert evaluation.intervals[name].high >= values[name] - 1e-9, name


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others(evaluation):
    first, again, other = (intervals(evaluation, n_resamples=100, seed=seed) for seed in (1, 1, 2))
    assert str(again) == str(first)
    assert other["aupro@0.3"] != first["aupro@0.3"]


def test_no_resamples_no_intervals(evaluation):
    assert intervals(evaluation, n_resamples=0) == {}


def test_other_curve_rules_have_no_interval_for_what_they_change(tmp_path):
    published = evaluate(random_pairs(random_samples(tmp_path)), curve="published_99", n_resamples=50)
    assert not [name for name in published.intervals if name.startswith(("aupro", "rho"))]
    assert "image_auroc" in published.intervals


def test_images_of_a_group_are_drawn_together_and_each_kind_keeps_its_weight():
    tally = tally_of(random_images(0, n_groups=None), n_thresholds=50)
    tally = replace(tally, group=np.array([f"{good} {n % 4}" for n, good in enumerate(tally.is_good)]))
    weights = draw_weights(tally, 300, 0)
    for name in set(tally.group.tolist()):
        of_group = weights[:, tally.group == name]
        np.testing.assert_array_equal(of_group, of_group[:, :1].repeat(of_group.shape[1], axis=1))
    np.testing.assert_allclose(weights[:, tally.is_good].sum(axis=1), tally.is_good.sum())
    np.testing.assert_allclose(weights[:, ~tally.is_good].sum(axis=1), (~tally.is_good).sum())
    assert len(np.unique(weights, axis=0)) > 150


@pytest.mark.slow
def test_the_same_image_three_times_in_one_group_says_no_more_than_once():
    images = random_images(3)
    once = tally_of(images, n_thresholds=100)
    thrice = tally_of([image for image in images for _ in range(3)], n_thresholds=100)
    thrice = replace(thrice, group=np.repeat(once.group, 3), thresholds=thrice.thresholds)
    loose = replace(thrice, group=thrice.sample_id)
    members = members_of(once)
    plans = [Plan(fpr_limits=LIMITS, members=members), Plan(fpr_limits=LIMITS, members=members_of(thrice))]
    grouped, ungrouped = (tally_intervals(tally, plans[1], 400, 0) for tally in (thrice, loose))
    alone = tally_intervals(once, plans[0], 400, 0)
    for name in ("aupro@0.3", "pixel_auroc", "image_auroc"):
        assert width(grouped[name][1]) == pytest.approx(width(alone[name][1]), rel=0.02)
        assert width(ungrouped[name][1]) < 0.75 * width(alone[name][1])


@pytest.mark.parametrize("lone", ["good", "defective"])
def test_a_single_group_of_a_kind_leaves_every_interval_undefined(lone):
    n_good, n_defective = (1, 5) if lone == "good" else (5, 1)
    tally = tally_of(random_images(0, n_good=n_good, n_defective=n_defective), n_thresholds=50)
    found = tally_intervals(tally, Plan(fpr_limits=LIMITS, members=members_of(tally)), 50, 0)
    assert all(math.isnan(interval.low) and math.isnan(interval.high) for _, interval in found.values())


def test_figures_that_no_defect_or_no_good_image_defines_have_undefined_intervals(tmp_path):
    samples = random_samples(tmp_path, n_good=4, n_defective=4)
    only_good = evaluate(random_pairs(samples[:4]), n_resamples=50)
    only_defective = evaluate(random_pairs(samples[4:]), n_resamples=50)
    assert math.isnan(only_good.intervals["aupro@0.3"].low)
    assert math.isnan(only_defective.intervals["image_auroc"].low)
    assert width(only_defective.intervals["aupro@0.3"]) > 0


def test_a_perfect_detector_is_known_to_be_as_good_as_so_many_images_can_tell(tmp_path):
    """Eight good and eight defective images: whoever fails one time in 1 / (1 - 0.025^(1/8)) = 2.7 was not seen to."""
    perfect = evaluate(random_pairs(random_samples(tmp_path), contrast=500), n_resamples=50)
    bound = 0.025 ** (1 / 8)
    for name in ("aupro@0.3", "pixel_auroc", "image_auroc", "image_average_precision", "image_best_f1"):
        assert perfect.intervals[name].low == pytest.approx(bound, abs=1e-9), name
        assert perfect.intervals[name].high == pytest.approx(1, abs=1e-9), name
    false_alarms = perfect.intervals["image_fpr_at_95_tpr"]
    assert (false_alarms.low, false_alarms.high) == pytest.approx((0, 1 - bound), abs=1e-9)
    assert "image AUROC 1.0000 (0.631-1.000)" in str(perfect)


def test_a_group_is_known_by_its_own_images_and_one_image_tells_nothing(tmp_path):
    samples = random_samples(tmp_path)
    kinds = {8: "rare", 9: "seldom", 10: "seldom"}
    renamed = [
        replace(sample, id=f"test/{kinds.get(number, 'common')}/{number:03d}") if sample.label == "defect" else sample
        for number, sample in enumerate(samples)
    ]
    perfect = evaluate(random_pairs(renamed, contrast=500), n_resamples=50).intervals
    assert perfect["aupro_common@0.3"].low == pytest.approx(0.025 ** (1 / 5), abs=1e-9)
    assert perfect["aupro_seldom@0.3"].low == pytest.approx(0.025 ** (1 / 2), abs=1e-9)
    assert perfect["image_auroc_seldom"].low == pytest.approx(0.025 ** (1 / 2), abs=1e-9)
    assert math.isnan(perfect["aupro_rare@0.3"].low)
    assert math.isnan(perfect["image_auroc_rare"].low)


def test_an_interval_is_opened_where_it_would_be_printed_shut_and_nowhere_else():
    def ends(low, high, n):
        interval = opened(Interval(low=low, high=high), n)
        return interval.low, interval.high

    assert ends(1.0, 1.0, 3) == pytest.approx((0.2924, 1), abs=1e-4)
    assert ends(0.99951, 0.9999, 3) == pytest.approx((0.2924, 1), abs=1e-4)
    assert ends(0.0, 0.0004, 3) == pytest.approx((0, 0.7076), abs=1e-4)
    assert ends(0.9994, 1.0, 3) == (0.9994, 1.0)
    assert ends(0.0, 0.0005, 3) == (0.0, 0.0005)
    for nothing in ((0.5, 0.5, 30), (1.0, 1.0, 1), (0.2, 0.9, 1), (0.2, 0.9, 0)):
        assert np.isnan(ends(*nothing)).all(), nothing


def test_lightings_of_one_scene_are_one_trial():
    tally = tally_of(random_images(0, n_good=12, n_defective=12, n_groups=4), n_thresholds=50)
    plan = Plan(fpr_limits=LIMITS, members=members_of(tally))
    assert n_trials(["image_auroc", "aupro@0.3"], tally, plan) == {"image_auroc": 4, "aupro@0.3": 4}


@pytest.mark.parametrize(("n", "gap"), [(3, 1.0), (3, 3.0), (10, 2.0), (10, 4.0)])
def test_perfect_sets_whose_opened_interval_misses_the_true_auroc_are_at_most_one_set_in_forty(n, gap):
    """Scores `gap` apart have the AUROC Phi(gap / sqrt 2). In a perfect set all defective images are above all good."""
    random, truth = np.random.default_rng(n), float(ndtr(gap / math.sqrt(2)))
    sets = random.standard_normal((4000, 2, n)) + np.array([[0.0], [gap]])
    n_perfect = int(np.count_nonzero(sets[:, 0].max(axis=1) < sets[:, 1].min(axis=1)))
    missed = n_perfect if opened(Interval(low=1.0, high=1.0), n).low > truth else 0
    assert missed <= 0.025 * 4000 + 3 * math.sqrt(0.025 * 4000)  # three standard deviations


def test_the_interval_of_a_skewed_mean_is_that_of_scipy():
    sample = np.random.default_rng(0).gamma(4.0, size=1000)
    known = bootstrap((sample,), np.mean, method="BCa", n_resamples=2000, rng=np.random.default_rng(1))
    left_out = (sample.sum() - sample) / (sample.size - 1)
    found = bca_interval(known.bootstrap_distribution, float(sample.mean()), left_out)
    expected = known.confidence_interval
    assert found.low == pytest.approx(expected.low, abs=0.01 * (expected.high - expected.low))
    assert found.high == pytest.approx(expected.high, abs=0.01 * (expected.high - expected.low))


def test_one_image_that_carries_a_figure_widens_its_interval():
    draws = np.random.default_rng(0).standard_normal(20_000)
    even = bca_interval(draws, 0.0, np.tile([-1.0, 1.0], 10))
    carried = bca_interval(draws, 0.0, np.array([-9.0, 9.0] + 18 * [0.0]))
    assert width(carried) > 1.3 * width(even)


def test_blocks_do_not_change_a_figure(monkeypatch):
    tally = tally_of(random_images(5), n_thresholds=60)
    plan = Plan(fpr_limits=LIMITS, members=members_of(tally))
    weights = draw_weights(tally, 20, 0)
    whole = Resampler(tally, plan).under(weights)
    monkeypatch.setattr("tinydefects.metrics.statistics.resampling.BLOCK_BYTES", 1)
    pieces = Resampler(tally, plan).under(weights)
    for name, values in whole.items():
        np.testing.assert_allclose(pieces[name], values, rtol=1e-12, err_msg=name)


def test_the_summary_shows_intervals_below_and_beside_their_numbers(evaluation):
    text = str(evaluation).splitlines()
    of_q1 = evaluation.intervals["aupro_Q1@0.3"]
    row = next(place for place, line in enumerate(text) if line.startswith("Q1"))
    assert text[row + 1].split()[0] == f"{of_q1.low:.3f}-{of_q1.high:.3f}"
    of_images = evaluation.intervals["image_auroc"]
    assert f"image AUROC {evaluation.image_auroc:.4f} ({of_images.low:.3f}-{of_images.high:.3f})" in str(evaluation)
    assert "95 % intervals" in str(evaluation)
    assert "95 % intervals" not in str(replace(evaluation, intervals={}))


def test_the_summary_warns_of_a_size_group_in_few_images(tmp_path):
    few = evaluate(random_pairs(random_samples(tmp_path, n_defective=4)), n_resamples=0)
    assert "caution: fewer than 5 images with defects of Q1 " in str(few)
    many = evaluate(random_pairs(random_samples(tmp_path, n_defective=30)), n_resamples=0)
    assert "fewer than 5 images" not in str(many)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_interval_does_not_leave_what_the_figure_can_be(evaluation, value):
    """Moved all the way to the end of the range, half of it would lie outside."""
    interval = intervals(replace(evaluation, pixel_auroc=value), n_resamples=200)["pixel_auroc"]
    assert width(evaluation.intervals["pixel_auroc"]) > 0
    assert 0 <= interval.low <= value <= interval.high <= 1
