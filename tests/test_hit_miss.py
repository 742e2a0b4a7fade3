"""Probability of detection against size: agreement with statsmodels, bounds of the likelihood ratio, honest nan."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import chi2
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools import add_constant

from tinydefects.metrics.hit_miss import CUT, LOG_ODDS_90, fit_resamples, fit_sizes, pod_curve


def draw(n, *, intercept=-3.0, slope=2.0, seed=0, whole_pixels=False):
    random = np.random.default_rng(seed)
    diameters = np.exp(random.normal(1.6, 0.8, n))
    if whole_pixels:
        diameters = 2 * np.sqrt(np.maximum(1, np.round(np.pi * diameters**2 / 4)) / np.pi)
    return diameters, random.random(n) < expit(intercept + slope * np.log(diameters))


def reference(diameters, hits, weights=None):
    design = add_constant(np.log(diameters))
    return GLM(hits.astype(float), design, family=Binomial(), freq_weights=weights).fit(tol=1e-14, maxiter=200)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slope", [0.4, 2.0, 8.0])
def test_the_fit_is_statsmodels_fit(seed, slope):
    diameters, hits = draw(80, intercept=-1.6 * slope, slope=slope, seed=seed, whole_pixels=True)
    fit, other = fit_sizes(diameters, hits), reference(diameters, hits)
    assert (fit.intercept, fit.slope) == pytest.approx(tuple(other.params), abs=1e-8)
    assert fit.deviance == pytest.approx(other.deviance, abs=1e-9)
    assert fit.slope_p == pytest.approx(chi2.sf(other.null_deviance - other.deviance, 1), abs=1e-9)


def test_the_upper_bound_of_a90_is_where_the_profile_likelihood_falls_by_the_cut():
    diameters, hits = draw(90, seed=2)
    lowest = reference(diameters, hits).deviance

    def excess(size):
        """With POD(size) held at 90 %, only the slope is free."""
        offset = np.full(hits.size, LOG_ODDS_90)
        slope = (np.log(diameters) - math.log(size))[:, None]
        held = GLM(hits.astype(float), slope, family=Binomial(), offset=offset).fit(tol=1e-14, maxiter=200)
        return held.deviance - lowest - CUT

    fit = fit_sizes(diameters, hits)
    assert fit.a90_95_px == pytest.approx(brentq(excess, fit.a90_px, 5 * fit.a90_px, xtol=1e-12), rel=1e-6)
    assert chi2.sf(CUT, 1) == pytest.approx(0.10)


def test_the_band_of_the_curve_crosses_ninety_percent_at_a90_95():
    diameters, hits = draw(90, seed=2)
    fit = fit_sizes(diameters, hits)
    curve = pod_curve(diameters, hits, np.array([fit.a50_px, fit.a90_px, fit.a90_95_px]))
    assert curve.pod[:2] == pytest.approx([0.5, 0.9])
    assert curve.low[2] == pytest.approx(0.9, abs=5e-4)
    assert (curve.low < curve.pod).all()
    assert (curve.pod < curve.high).all()


@pytest.mark.slow
def test_the_upper_bound_lies_above_the_true_a90_in_nineteen_of_twenty_experiments():
    true_a90 = math.exp((LOG_ODDS_90 + 3.0) / 2.0)
    bounds = np.array([fit_sizes(*draw(400, seed=seed, whole_pixels=True)).a90_95_px for seed in range(300)])
    assert np.mean(bounds >= true_a90) == pytest.approx(0.95, abs=0.025)  # two standard errors


@pytest.mark.slow
def test_the_goodness_of_fit_accepts_a_logistic_curve_and_rejects_another():
    p_values = [fit_sizes(*draw(100, seed=seed)).lack_of_fit_p for seed in range(100)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)
    diameters, _ = draw(400)
    fit = fit_sizes(diameters, (diameters > 3) & (diameters < 8))  # found in the middle only
    assert fit.lack_of_fit_p < 1e-6
    assert any("fits badly" in remark for remark in fit.remarks)


def test_hosmer_and_lemeshow_by_hand():
    # 30 defects of each of 3 sizes: three groups, each against its own expectation, one degree of freedom
    diameters = np.repeat([1.0, 2.0, 4.0], 30)
    hits = np.concatenate([np.arange(30) < n for n in (6, 20, 22)])
    intercept, slope = reference(diameters, hits).params
    expected = 30 * expit(intercept + slope * np.log([1, 2, 4]))
    statistic = sum((n - e) ** 2 / (e * (1 - e / 30)) for n, e in zip((6, 20, 22), expected, strict=True))
    assert fit_sizes(diameters, hits).lack_of_fit_p == pytest.approx(chi2.sf(statistic, 1))


SIZES = np.linspace(2.0, 12.0, 20)


@pytest.mark.parametrize(
    ("diameters", "hits", "reason"),
    [
        (SIZES[:9], SIZES[:9] > 4, "only 9 defects"),
        (SIZES[:0], SIZES[:0] > 4, "only 0 defects"),
        (SIZES, SIZES > 0, "all 20 defects are detected: the limit lies below the smallest, 2.0 px"),
        (SIZES, SIZES > 99, "none of 20 defects is detected: the limit lies above the largest, 12.0 px"),
        (SIZES, SIZES > 7, "all up to 6.7 px are missed, all from 7.3 px are detected"),
        (np.sort([*SIZES[:19], SIZES[9]]), np.arange(20) > 9, "hits and misses meet at one size, 6.7 px"),
        (SIZES, SIZES < 7, "size does not explain detection"),
        (np.full(20, 3.0), SIZES > 7, "all defects have one size, 3.0 px"),
    ],
)
def test_where_no_curve_can_be_fitted_there_is_nan_and_the_reason(diameters, hits, reason):
    fit = fit_sizes(diameters, hits)
    assert np.isnan([fit.intercept, fit.slope, fit.a50_px, fit.a90_px, fit.a90_95_px, fit.lack_of_fit_p]).all()
    assert fit.n_defects == diameters.size
    assert reason in " ".join(fit.remarks)
    assert pod_curve(diameters, hits, SIZES) is None


def test_a_curve_that_falls_has_no_sizes():
    fit = fit_sizes(*draw(200, intercept=3.0, slope=-2.0))
    assert fit.slope < 0
    assert np.isnan([fit.a50_px, fit.a90_px, fit.a90_95_px]).all()
    assert "not detected more often" in fit.remarks[0]


def test_a_bound_that_is_never_reached_is_nan():
    diameters, hits = draw(40, intercept=0.5, slope=0.3, seed=1)
    fit = fit_sizes(diameters, hits)
    assert fit.slope_p > 0.10
    assert math.isnan(fit.a90_95_px)
    assert any("a90/95 is never reached" in remark for remark in fit.remarks)


def test_a_size_far_beyond_the_largest_defect_is_not_claimed():
    diameters, hits = draw(2000, intercept=-2.0, slope=0.7)
    inside = diameters < 10
    fit = fit_sizes(diameters[inside], hits[inside])
    assert math.exp((LOG_ODDS_90 - fit.intercept) / fit.slope) > 20
    assert math.isnan(fit.a90_px)
    assert "a90 lies beyond twice the largest defect, 10.0 px" in fit.remarks


def test_few_defects_are_remarked():
    assert any("59 defects; the handbook asks for 60" in remark for remark in fit_sizes(*draw(59)).remarks)
    assert not any("handbook" in remark for remark in fit_sizes(*draw(60)).remarks)


def test_the_unit_of_length_does_not_matter():
    diameters, hits = draw(100)
    fit, scaled = fit_sizes(diameters, hits), fit_sizes(1000 * diameters, hits)
    assert scaled.a90_px == pytest.approx(1000 * fit.a90_px, rel=1e-8)
    assert scaled.a90_95_px == pytest.approx(1000 * fit.a90_95_px, rel=1e-8)


def test_one_overlapping_pair_in_a_thousand_is_still_a_maximum():
    diameters = np.geomspace(1, 100, 1000)
    hits = diameters > 10
    hits[[499, 500]] = hits[[500, 499]]
    fit, other = fit_sizes(diameters, hits), reference(diameters, hits)
    assert fit.slope == pytest.approx(other.params[1], rel=1e-6)
    assert fit.slope > 100


def test_resamples_fitted_together_are_those_fitted_one_by_one():
    diameters, hits = draw(60, whole_pixels=True)
    weights = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), 30).astype(float)
    a50, a90 = fit_resamples(diameters, hits, weights)
    for number, row in enumerate(weights):
        intercept, slope = reference(diameters, hits, row).params
        assert a50[number] == pytest.approx(math.exp(-intercept / slope), rel=1e-6)
        assert a90[number] == pytest.approx(math.exp((LOG_ODDS_90 - intercept) / slope), rel=1e-6)


def test_a_resample_without_a_maximum_is_nan_and_leaves_the_others_alone():
    diameters = np.array([1.0, 2.0, 3.0, 3.0, 5.0])
    hits = np.array([[0, 1, 0, 1, 1], [0, 1, 0, 1, 1], [1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
    weights = np.ones((5, 5))
    weights[1, 1] = 0  # without the small hit, hits and misses no longer overlap
    a50, a90 = fit_resamples(diameters, hits, weights)
    assert np.isfinite([a50[0], a90[0]]).all()
    assert np.isnan([a50[1:], a90[1:]]).all()


def test_ten_defects_are_fitted_and_nine_are_not():
    diameters = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], dtype=float)
    hits = np.array([0, 0, 1, 0, 0, 1, 0, 1, 1, 1], dtype=bool)
    assert not math.isnan(fit_sizes(diameters, hits).a50_px)
    fewer = fit_sizes(diameters[1:], hits[1:])
    assert (math.isnan(fewer.a50_px), fewer.remarks) == (
        True,
        ("only 9 defects: fewer than 10 say nothing about size",),
    )
