import numpy as np
import pytest

from random_category import random_pairs, random_samples
from reference.slow_tally import members_of, random_images, repeated_figures, tally_of
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.resampling import Plan, Resampler
from tinydefects.metrics.statistics.uncertainty import plan_of

LIMITS = (0.3, 0.05, 0.01)
IMAGE_THRESHOLD = 3.6


def resampler_of(tally, **options):
    return Resampler(tally, Plan(fpr_limits=LIMITS, members=members_of(tally), **options))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_weights_give_what_repeating_the_pixels_gives(seed):
    images = random_images(seed)
    tally = tally_of(images)
    times = np.random.default_rng(seed).integers(0, 4, len(images))
    found = resampler_of(tally, image_threshold=IMAGE_THRESHOLD).under(times[None].astype(float))
    expected = repeated_figures(images, times, members_of(tally), LIMITS, IMAGE_THRESHOLD)
    assert set(found) - set(expected) == {"aupimo", "pixel_f1", "seg_f1", "a50_px", "a90_px"}
    for name, value in expected.items():
        exact = name.startswith("image_")
        assert found[name][0] == pytest.approx(value, abs=1e-9 if exact else 1e-3), name


def test_weights_give_what_evaluating_the_repeated_images_gives(tmp_path):
    pairs = list(random_pairs(random_samples(tmp_path, n_good=15, n_defective=15), contrast=2.0))
    settings = {"fpr_limits": LIMITS, "threshold": 2.0, "n_resamples": 0}
    evaluation = evaluate(pairs, **settings)
    times = np.random.default_rng(4).integers(0, 4, len(pairs))
    found = Resampler(evaluation.tally, plan_of(evaluation)).under(times[None].astype(float))
    repeated = metrics_of(evaluate([pair for pair, n in zip(pairs, times, strict=True) for _ in range(n)], **settings))
    for name in ("aupimo", "pixel_f1", "seg_f1", "pixel_average_precision", "aupro@0.3", "aupro_pit@0.05"):
        assert found[name][0] == pytest.approx(repeated[name], abs=1e-3), name
    for name in ("a50_px", "a90_px"):
        assert found[name][0] == pytest.approx(repeated[name], rel=1e-5), name
