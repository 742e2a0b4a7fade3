"""A score as a function of defect size: the local mean, where it is drawn, and how wide its band is."""

import numpy as np
import pytest

from tinydefects.metrics.statistics.size_curve import FEWEST_NEIGHBOURS, LEAST_BANDWIDTH, choose_bandwidth, size_curve


def names(n):
    return [f"test/scratch/{number:03d}" for number in range(n)]


def test_a_score_that_does_not_depend_on_size_is_a_flat_line_without_width():
    curve = size_curve(np.geomspace(2, 50, 40), np.full(40, 0.7), names(40))
    for values in (curve.mean, curve.low, curve.high):
        assert values == pytest.approx(np.full(curve.diameter_px.size, 0.7))


def test_each_point_is_the_kernel_weighted_mean_over_log_diameter():
    random = np.random.default_rng(0)
    diameters, scores = np.exp(random.normal(2, 0.8, 50)), random.random(50)
    curve = size_curve(diameters, scores, names(50))
    middle = curve.diameter_px.size // 2
    octaves = np.log2(diameters / curve.diameter_px[middle])
    weights = np.exp(-((octaves / curve.bandwidth_octaves) ** 2) / 2)
    assert curve.mean[middle] == pytest.approx(np.average(scores, weights=weights))
    assert curve.n_defects[middle] == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_no_point_is_drawn_outside_the_sizes_or_where_few_defects_carry_it():
    diameters = np.concatenate([np.geomspace(2, 4, 30), [400.0]])
    curve = size_curve(diameters, np.linspace(0, 1, 31), names(31))
    assert curve.diameter_px.min() >= 2
    assert curve.diameter_px.max() < 40  # the lone defect at 400 px carries nothing
    assert curve.n_defects.min() >= FEWEST_NEIGHBOURS


@pytest.mark.parametrize("n", [0, 1, 4])
def test_a_handful_of_defects_makes_no_curve(n):
    assert not size_curve(np.geomspace(2, 4, n), np.ones(n), names(n)).diameter_px.size


def test_the_bandwidth_is_silvermans_and_a_quarter_of_an_octave_at_least():
    octaves = np.random.default_rng(0).normal(3, 1.2, 200)
    spread = min(octaves.std(ddof=1), np.subtract(*np.quantile(octaves, (0.75, 0.25))) / 1.34)
    assert choose_bandwidth(octaves) == pytest.approx(0.9 * spread * 200**-0.2)
    assert choose_bandwidth(octaves / 100) == LEAST_BANDWIDTH


def test_defects_of_one_image_stand_or_fall_together():
    # twenty images of ten equal defects: the band is that of twenty trials, not of two hundred
    random = np.random.default_rng(0)
    diameters = np.exp(random.normal(2, 0.1, 200))
    scores = np.repeat(random.random(20), 10)
    together = size_curve(diameters, scores, np.repeat(names(20), 10).tolist())
    apart = size_curve(diameters, scores, names(200))
    middle = together.diameter_px.size // 2
    width, narrow = (curve.high[middle] - curve.low[middle] for curve in (together, apart))
    assert 2 < width / narrow < 4.5  # √10 = 3.2


@pytest.mark.slow
def test_the_band_holds_the_true_mean_in_nineteen_of_twenty_experiments():
    covered = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        scores = (random.random(120) < 0.6).astype(float)
        curve = size_curve(np.exp(random.normal(2, 0.5, 120)), scores, names(120), seed=seed)
        middle = curve.diameter_px.size // 2
        covered.append(curve.low[middle] <= 0.6 <= curve.high[middle])
    assert 0.89 <= np.mean(covered) <= 0.99


def test_one_image_alone_has_no_band():
    curve = size_curve(np.geomspace(2, 4, 20), np.linspace(0, 1, 20), ["test/scratch/000"] * 20)
    assert curve.mean.size
    assert np.isnan(curve.low).all()
    assert np.isnan(curve.high).all()


def test_the_same_defects_give_the_same_band():
    arguments = np.geomspace(2, 40, 40), np.linspace(0, 1, 40), names(40)
    assert np.array_equal(size_curve(*arguments).low, size_curve(*arguments).low)


def test_five_defects_of_one_size_carry_a_point_and_four_do_not():
    assert size_curve(np.full(5, 3.0), np.ones(5), names(5)).n_defects == pytest.approx(np.full(64, 5.0))
    assert not size_curve(np.full(4, 3.0), np.ones(4), names(4)).diameter_px.size
