"""What follows from a tally is what evaluate() says, for every shape of category; and what does not, is found."""

from dataclasses import replace

import numpy as np
import pytest

from random_category import random_pairs, random_samples
from tinydefects.data.sample import Prediction, Sample
from tinydefects.metrics.evaluation import evaluate
from tinydefects.results.recount import differences, interval_differences

BOUNDED = ("pixel_auroc", "pixel_average_precision", "pixel_best_f1")


def tied(pairs):
    """The same with few distinct scores, the same in defects and around them."""
    for sample, prediction in pairs:
        yield sample, Prediction(np.round(prediction.anomaly_map * 2) / 2, round(prediction.score, 1))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"threshold": 2.0, "image_threshold": 2.5},
        {"bins": "diameter_px:2,5", "curve": "published_99"},
        {"detection_rule": "half_at_pixel_fpr", "fpr_limits": (0.3, 1e-3)},
    ],
    ids=["defaults", "thresholds", "bins, published curve", "rule about pixels"],
)
def test_what_evaluate_says_holds(tmp_path, asked):
    samples = random_samples(tmp_path, seed=3)
    for pairs in (random_pairs(samples, seed=1), tied(random_pairs(samples, seed=2))):
        evaluation = evaluate(pairs, n_resamples=20, seed=7, **asked)
        assert [str(one) for one in differences(evaluation)] == []
        assert [str(one) for one in interval_differences(evaluation, n_resamples=20, seed=7)] == []
        assert interval_differences(evaluation, n_resamples=20, seed=8)


def unmarked(samples):
    """The defective ones without their outlines."""
    return [replace(sample, mask_paths=()) for sample in samples]


@pytest.mark.parametrize(
    "choose",
    [
        lambda samples: samples[:8],
        lambda samples: samples[8:],
        unmarked,
        lambda samples: unmarked(samples[8:]),
        lambda samples: [*unmarked(samples[:12]), *samples[12:]],
        lambda samples: [samples[0], samples[9]],
    ],
    ids=["good alone", "defective alone", "no outline", "nothing but unmarked", "some outlines", "two images"],
)
def test_what_is_undefined_holds_as_well(tmp_path, choose):
    samples: list[Sample] = choose(random_samples(tmp_path))
    maps = dict(zip(samples, (one for _, one in random_pairs(samples)), strict=True))
    evaluation = evaluate(maps.items(), n_resamples=0)
    assert [str(one) for one in differences(evaluation)] == []


@pytest.mark.parametrize("metric", BOUNDED)
def test_bounds_are_narrow(tmp_path, metric):
    """On maps of many scores a tally leaves little room: half a percent is found in either direction."""
    evaluation = evaluate(random_pairs(random_samples(tmp_path, n_good=20)), n_resamples=0)
    for shift in (-0.005, 0.005):
        changed = replace(evaluation, **{metric: getattr(evaluation, metric) + shift})
        assert [one.place for one in differences(changed)] == [metric]


def test_a_tally_of_other_maps_is_found(tmp_path):
    samples = random_samples(tmp_path)
    one, other = (evaluate(random_pairs(samples, seed=seed), n_resamples=0) for seed in (0, 1))
    places = {found.place.partition("[")[0] for found in differences(replace(one, tally=other.tally))}
    assert {"image_auroc", "pixel_auroc", "defects"} <= places
    fewer = evaluate(random_pairs(samples[:-1]), n_resamples=0)
    with pytest.raises(ValueError, match="the tally holds"):
        differences(replace(one, tally=fewer.tally))
    with pytest.raises(ValueError, match="no tally"):
        differences(replace(one, tally=None))
