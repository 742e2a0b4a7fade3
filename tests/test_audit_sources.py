"""Rules of the audit that stand for one named tool, each told again slowly from what that tool does."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from audit_scene import noisy_scene, store
from tinydefects.audit.curve_rules import normal_quantiles
from tinydefects.audit.rescoring import audit_pairs
from tinydefects.audit.rules import EXACT, standard_rules
from tinydefects.data.sample import Prediction
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.spool import ScoreSpool

RULES = {rule.name: rule for rule in standard_rules(input_px=24)}
LIMITS = (0.3, 0.1, 0.05, 0.01)
UNTOUCHED = ("image_auroc", "pixel_auroc")


@pytest.fixture(params=[None, 1], ids=["all scores differ", "many scores tie"])
def pairs(tmp_path, request):
    return noisy_scene(tmp_path, decimals=request.param)


def numbers_under(pairs, *names):
    found = audit_pairs(pairs, [RULES[name] for name in names])
    return [found[name] for name in names]


def pixels_of(pairs):
    """All scores and whether each is of a defect; and the scores of each region joined by sides alone."""
    scores = np.concatenate([prediction.anomaly_map.ravel() for _, prediction in pairs]).astype(float)
    truth = np.concatenate([sample.mask().ravel() for sample, _ in pairs])
    regions = []
    for sample, prediction in pairs:
        labels, n_regions = ndimage.label(sample.mask(), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
        regions += [prediction.anomaly_map[labels == number].astype(float) for number in range(1, n_regions + 1)]
    return scores, truth, regions


def area_of_points(points, limit):
    """Straight from point to point in the order given, cut at the limit, over the limit."""
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x1 > limit >= x0:
            x1, y1 = limit, y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        if x1 <= limit:
            total += (x1 - x0) * (y0 + y1) / 2
    return total / limit


@pytest.mark.parametrize("limit", LIMITS)
def test_500_quantiles_are_level_before_the_first_and_after_the_last(pairs, limit):
    (found,) = numbers_under(pairs, "quantiles_500")
    scores, truth, regions = pixels_of(pairs)
    normal, points = scores[~truth], []
    for step in range(500):
        threshold = np.quantile(normal, 1 - limit * step / 499)
        points.append((float((normal > threshold).mean()), float(np.mean([(r > threshold).mean() for r in regions]))))
    points = [(0.0, points[0][1]), *points, (max(limit, points[-1][0]), points[-1][1])]
    assert found[f"aupro@{limit:g}"] == pytest.approx(area_of_points(points, limit), abs=1e-6)
    assert found["n_defects"] == len(regions) == 24


@pytest.mark.parametrize("limit", LIMITS)
def test_64_quantiles_reach_twice_as_far_as_the_limit(pairs, limit):
    (found,) = numbers_under(pairs, "quantiles_64")
    scores, truth, regions = pixels_of(pairs)
    normal, points = scores[~truth], {(0.0, 0.0)}
    for share in np.linspace(1 - 2 * limit, 1, 64):
        threshold = np.quantile(normal, share)
        points.add((float((normal >= threshold).mean()), float(np.mean([(r >= threshold).mean() for r in regions]))))
    assert found[f"aupro@{limit:g}"] == pytest.approx(area_of_points(sorted(points), limit), abs=1e-6)
    assert found["n_defects"] == 24


@pytest.mark.parametrize("name", ["quantiles_500", "quantiles_64"])
def test_rules_about_quantiles_leave_numbers_of_pixels_and_images_alone(pairs, name):
    exact, found = numbers_under(pairs, EXACT, name)
    for metric in (*UNTOUCHED, "pixel_average_precision"):
        assert found[metric] == exact[metric]


def test_quantiles_of_scores_on_disk_are_those_of_numpy():
    """So many that they fall into several buckets, with ties at their bounds."""
    rng = np.random.default_rng(0)
    runs = [np.round(rng.gamma(2.0, 1.0, 200_001), 3).astype(np.float32) for _ in range(3)]
    shares = np.concatenate([np.linspace(0, 1, 101), 1 - np.geomspace(1e-6, 1e-2, 20)])
    with ScoreSpool() as spool:
        for run in runs:
            spool.add(run)
        found = normal_quantiles(spool, shares)
    assert found == pytest.approx(np.quantile(np.concatenate(runs).astype(float), shares), abs=1e-12)


@pytest.mark.parametrize("limit", LIMITS)
def test_a_partial_roc_is_that_of_scikit_learn(pairs, limit):
    exact, found = numbers_under(pairs, EXACT, "partial_roc")
    scores, truth, _ = pixels_of(pairs)
    assert found[f"aupro@{limit:g}"] == pytest.approx(roc_auc_score(truth, scores, max_fpr=limit), abs=1e-9)
    assert found["n_defects"] == exact["n_defects"] == 18


def test_a_partial_roc_of_a_constant_map_is_one_half_where_aupro_is_half_the_limit(tmp_path):
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:8, 5:8] = True
    flat = [(store(tmp_path, "0", mask), Prediction(np.full((20, 20), 0.5, dtype=np.float32), 0.5))]
    exact, found = numbers_under(flat, EXACT, "partial_roc")
    assert exact["aupro@0.05"] == pytest.approx(0.025)
    assert found["aupro@0.05"] == pytest.approx(0.5)


def test_trapezoids_join_the_best_precision_to_the_worst_at_the_next_recall(pairs):
    (found,) = numbers_under(pairs, "trapezoid_ap")
    scores, truth, _ = pixels_of(pairs)
    above = [scores >= threshold for threshold in sorted(set(scores.tolist()), reverse=True)]
    points = [(0.0, 1.0), *((float(truth[kept].sum() / truth.sum()), float(truth[kept].mean())) for kept in above)]
    by_recall = {recall: [precision for other, precision in points if other == recall] for recall, _ in points}
    ends = [(recall, of[-1], of[0]) for recall, of in sorted(by_recall.items())]  # worst and best of each recall
    by_hand = sum((x1 - x0) * (best + worst) / 2 for (x0, _, best), (x1, worst, _) in pairwise(ends))
    assert found["pixel_average_precision"] == pytest.approx(by_hand, abs=1e-9)
    if len(above) < 100:
        assert found["pixel_average_precision"] > average_precision_score(truth, scores) + 0.001


def test_trapezoids_give_what_anomalib_printed_for_its_own_example(tmp_path):
    """The docstring of its AUPR says 0.4899 up to 2.6 and 0.4610 from 2.7 on, for these ten scores."""
    truth = np.array([[0, 1, 1, 1, 0, 0, 0, 0, 1, 1]], dtype=bool)
    scores = np.array([[0.59, 0.35, 0.72, 0.33, 0.73, 0.81, 0.30, 0.05, 0.04, 0.48]], dtype=np.float32)
    exact, found = numbers_under([(store(tmp_path, "0", truth), Prediction(scores, 0.81))], EXACT, "trapezoid_ap")
    assert found["pixel_average_precision"] == pytest.approx(0.4899, abs=5e-5)
    assert exact["pixel_average_precision"] == pytest.approx(0.4610, abs=5e-5)


def test_defective_images_alone_are_scored_as_if_the_good_ones_were_not_there(pairs):
    exact, found = numbers_under(pairs, EXACT, "defective_only")
    expected = evaluate([(s, p) for s, p in pairs if s.label == "defect"], fpr_limits=LIMITS)
    assert tuple(found[f"aupro@{limit:g}"] for limit in LIMITS) == pytest.approx(expected.overall.aupro, abs=1e-12)
    assert found["pixel_auroc"] == pytest.approx(expected.pixel_auroc, abs=1e-12)
    assert found["pixel_average_precision"] == pytest.approx(expected.pixel_average_precision, abs=1e-12)
    assert found["image_auroc"] == exact["image_auroc"]


def test_false_positives_of_good_images_alone_forgive_what_surrounds_a_defect(tmp_path):
    """A map that glows two pixels beyond its defect: exact sees false positives, the good image none."""
    mask, glow = np.zeros((2, 30, 30), dtype=bool)
    mask[10:14, 10:14], glow[8:16, 8:16] = True, True
    hot = glow + np.float32(0.5) * (glow & ~mask)
    pairs = [
        (store(tmp_path, "bad", mask), Prediction(hot.astype(np.float32), 1.0)),
        (store(tmp_path, "good", np.zeros_like(mask)), Prediction(np.zeros((30, 30), dtype=np.float32), 0.0)),
    ]
    exact, found = numbers_under(pairs, EXACT, "good_normals")
    n_normal = 2 * 900 - 16
    assert exact["pixel_auroc"] == pytest.approx(1 - 48 / n_normal)
    assert exact["aupro@0.05"] == pytest.approx(1 - 48 / n_normal / 0.05)
    assert (found["pixel_auroc"], found["aupro@0.05"], found["pixel_average_precision"]) == (1.0, 1.0, 1.0)


def test_normal_pixels_of_good_images_are_all_there_are(pairs):
    (found,) = numbers_under(pairs, "good_normals")
    scores, truth, _ = pixels_of(pairs)
    good = np.concatenate([np.full(p.anomaly_map.size, s.label == "good") for s, p in pairs])
    counted = truth | good
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth[counted], scores[counted]), abs=1e-12)
