import math
from itertools import pairwise

import numpy as np
import pytest

from reference import slow_metrics
from test_pimo import FakeSample
from tinydefects.data.sample import Prediction
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.ranking import choose_thresholds, count_at_least, rank


def float32(scores):
    return np.array(scores, dtype=np.float32)


def images(seed, decimals=2, size=(12, 15)):
    """Good and defective images in turn, one defective without a mark, two of one group."""
    random = np.random.default_rng(seed)
    for number in range(7):
        mask = (random.random(size) < 0.1) & (number % 2 == 1) & (number != 5)
        scores = np.round(random.normal(size=size) + mask, decimals).astype(np.float32)
        sample = FakeSample(number, mask, "defect" if number % 2 else "good")
        sample.group = "scene" if number < 2 else None
        yield sample, Prediction(scores, float(number))


@pytest.mark.parametrize("seed", range(3))
def test_every_count_is_that_of_looking(seed):
    tally = evaluate(images(seed), n_crops=0, n_resamples=0).tally
    pairs = list(images(seed))
    defects = [
        float32([said.anomaly_map[pixel] for pixel in region])
        for sample, said in pairs
        for region in slow_metrics.regions_of(sample.mask())
    ]
    assert tally.area_px.tolist() == [scores.size for scores in defects]
    assert tally.peak.tolist() == [scores.max() for scores in defects]
    assert tally.median.tolist() == [np.sort(scores)[::-1][math.ceil(scores.size / 2) - 1] for scores in defects]
    for place, threshold in enumerate(tally.thresholds):
        assert tally.defect_at_least[:, place].tolist() == [np.sum(scores >= threshold) for scores in defects]
        for number, (sample, said) in enumerate(pairs):
            normal = said.anomaly_map[~sample.mask()] if number != 5 else float32([])
            assert tally.normal_at_least[number, place] == np.sum(normal >= threshold)
            assert tally.n_normal[number] == normal.size
    assert tally.is_good.tolist() == [True, False] * 3 + [True]
    assert tally.image_score.tolist() == list(range(7))
    assert tally.group.tolist() == ["scene", "scene", *[f"test/spot/{number}" for number in range(2, 7)]]
    assert np.isnan(tally.highest_normal).tolist() == [number == 5 for number in range(7)]
    assert tally.highest_normal[0] == pairs[0][1].anomaly_map.max()
    assert set(tally.sample_id[tally.image_of_defect]) == {"test/spot/1", "test/spot/3"}


def test_few_distinct_scores_lose_nothing_and_many_move_the_rate_in_small_steps():
    random = np.random.default_rng(0)
    normal = random.normal(size=200_000).astype(np.float32)
    few, many = float32([0.5, 1.0, 1.0, 2.5]), random.normal(1, 1, 50_000).astype(np.float32)
    assert choose_thresholds(rank(few, [normal])).tolist() == [
        score for level in (2.5, 1.0, 0.5) for score in (float(np.nextafter(np.float32(level), np.float32(9))), level)
    ]
    thresholds = choose_thresholds(rank(many, [normal]))
    assert thresholds[0] >= many.max()
    assert np.all(np.diff(thresholds) < 0)
    assert thresholds.size <= 1000
    rate = count_at_least(np.sort(normal), thresholds) / normal.size
    steps = rate[1:] / np.maximum(rate[:-1], 10 / normal.size)
    assert steps[rate[1:] > 50 / normal.size].max() < 1.15


def test_without_defects_only_the_decision_threshold_is_left():
    nothing = rank(float32([]), [float32([1, 2])])
    assert choose_thresholds(nothing).size == 0
    assert choose_thresholds(nothing, 1.5).tolist() == [np.nextafter(np.float32(1.5), np.float32(9))]


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [0, 6])
def test_the_drawn_curve_runs_through_points_of_the_exact_one(decimals):
    pairs = list(images(1, decimals, size=(30, 40)))
    drawn = evaluate(pairs, n_crops=0, n_resamples=0).overall.curve
    regions = [
        float32([said.anomaly_map[pixel] for pixel in region])
        for sample, said in pairs
        for region in slow_metrics.regions_of(sample.mask())
    ]
    normal = np.concatenate(
        [said.anomaly_map[~sample.mask()] for number, (sample, said) in enumerate(pairs) if number != 5]
    )
    exact = slow_metrics.curve(regions, normal)
    corners = [(x1, y0) for (x0, y0), (x1, y1) in pairwise(exact)]
    fpr, recall = np.array(exact + corners).T
    for point in zip(drawn.fpr, drawn.pro, strict=True):
        assert np.abs([fpr - point[0], recall - point[1]]).max(axis=0).min() < 1e-12
    assert 10 < len(drawn.fpr) <= 300
    assert (drawn.fpr[0], drawn.pro[0], drawn.fpr[-1], drawn.pro[-1]) == (0, 0, 1, 1)


def test_both_ends_of_a_long_flat_stretch_are_thresholds():
    # 500 normal scores are above 9,500, then come the defect scores of the first half; the others are below 600.
    normal, high, low = np.arange(10_000), np.linspace(9500.5, 9999.5, 1000), np.linspace(100.5, 600.5, 1000)
    thresholds = choose_thresholds(rank(float32([*high, *low]), [float32(normal)]))
    assert {9500.5, float(np.nextafter(np.float32(600.5), np.float32(9999)))} <= set(thresholds.tolist())
