import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from reference import slow_metrics
from tinydefects.metrics.curves import Curve, auroc, average_precision, best_f1, exact_curve
from tinydefects.metrics.ranking import rank

SCORES = st.lists(st.sampled_from([-3.0, -0.5, 0.0, 0.25, 0.5, 1.0, 4.0]), min_size=1, max_size=25)


def float32(scores):
    return np.array(scores, dtype=np.float32)


def pro_curve(regions, normal_scores):
    weights = np.concatenate([np.full(len(scores), 1 / (len(scores) * len(regions))) for scores in regions])
    return exact_curve(rank(np.concatenate(regions), [normal_scores]), weights)


def test_a_random_detector_scores_half_the_limit():
    diagonal = Curve(fpr=np.array([0.0, 1.0]), recall=np.array([0.0, 1.0]))
    assert diagonal.area(fpr_limit=0.30) == pytest.approx(0.15)


def test_a_curve_that_ends_before_the_limit_has_no_area():
    assert np.isnan(Curve(fpr=np.array([0.0, 0.2]), recall=np.array([0.0, 1.0])).area(fpr_limit=0.3))


def test_the_limit_cuts_a_segment_where_it_falls():
    # A step to 0.5, then a ramp from (0.2, 0.5) to (0.6, 0.9): up to 0.4, 0.2 * 0.5 + 0.2 * (0.5 + 0.7) / 2 = 0.22.
    curve = Curve(fpr=np.array([0.0, 0.0, 0.2, 0.6]), recall=np.array([0.0, 0.5, 0.5, 0.9]))
    assert curve.area(fpr_limit=0.4) == pytest.approx(0.22 / 0.4)


def test_a_region_above_every_normal_pixel_scores_exactly_one():
    curve = pro_curve([float32([5, 6, 7])], float32(range(5)))
    assert [curve.area(fpr_limit=limit) for limit in (1.0, 0.3, 0.01)] == [1.0, 1.0, 1.0]


def test_each_pixel_of_one_region_contributes_its_distance_to_the_limit():
    # Ten normal pixels 0 … 9. Pixel 9.5 is passed by none, 8.5 by one (fpr 0.1), 5.5 by four (beyond the limit 0.3):
    # the mean of max(0, 1 - fpr / 0.3) is (1 + 2/3 + 0) / 3.
    curve = pro_curve([float32([9.5, 8.5, 5.5])], float32(range(10)))
    assert curve.area(fpr_limit=0.3) == pytest.approx((1 + 2 / 3) / 3)


def test_regions_weigh_the_same_whatever_their_area():
    # A found pixel and a missed region of 99: pixel recall is 1 %, PRO is one half.
    curve = pro_curve([float32([9]), float32([-1] * 99)], float32(range(5)))
    assert curve.area(fpr_limit=0.5) == pytest.approx(0.5)


def test_when_everything_ties_the_curve_is_the_diagonal():
    curve = pro_curve([float32([1, 1])], float32([1] * 7))
    assert curve.area(fpr_limit=0.2) == pytest.approx(0.1)


@settings(max_examples=50)
@given(regions=st.lists(SCORES, min_size=1, max_size=4), normals=SCORES, limit=st.sampled_from([0.01, 0.1, 1 / 3, 1.0]))
def test_the_curve_is_that_of_trying_every_threshold(regions, normals, limit):
    regions, normals = [float32(scores) for scores in regions], float32(normals)
    curve = pro_curve(regions, normals)
    assert np.all(np.diff(curve.fpr) >= 0)
    assert np.all(np.diff(curve.recall) >= 0)
    slow = slow_metrics.area(slow_metrics.curve(regions, normals), limit)
    assert curve.area(fpr_limit=limit) == pytest.approx(slow, abs=1e-12)


@settings(max_examples=50)
@given(defects=SCORES, normals=SCORES)
def test_single_numbers_agree_with_scikit_learn(defects, normals):
    ranking = rank(float32(defects), [float32(normals)])
    truth, scores = [1] * len(defects) + [0] * len(normals), defects + normals
    precision, recall, _ = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    assert auroc(ranking) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert auroc(ranking) == pytest.approx(slow_metrics.auroc(defects, normals), abs=1e-12)
    assert average_precision(ranking) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert best_f1(ranking) == pytest.approx(f1.max(), abs=1e-12)


@pytest.mark.parametrize(("defects", "normals"), [([], []), ([1], []), ([], [1])])
def test_without_a_defect_or_without_a_normal_score_all_numbers_are_nan(defects, normals):
    ranking = rank(float32(defects), [float32(normals)])
    curve = exact_curve(ranking, np.full(len(defects), 1 / max(1, len(defects))))
    numbers = [auroc(ranking), average_precision(ranking), best_f1(ranking), curve.area(fpr_limit=0.3)]
    assert np.isnan(numbers).all()


def test_a_short_curve_is_drawn_whole():
    curve = Curve(fpr=np.array([0.0, 0.1, 1.0]), recall=np.array([0.0, 0.7, 1.0]))
    assert curve.thinned().fpr == (0.0, 0.1, 1.0)
    assert curve.thinned().pro == (0.0, 0.7, 1.0)


def test_a_thinned_curve_keeps_its_ends_its_start_and_its_late_step():
    normals = np.linspace(0, 1, 100_001, dtype=np.float32)
    rng = np.random.default_rng(0)
    curve = pro_curve([rng.uniform(0.99, 1.0, 50_000).astype(np.float32), float32([0.2])], normals)
    thinned = curve.thinned()
    fpr, pro = np.array(thinned.fpr), np.array(thinned.pro)
    assert len(fpr) <= 300
    assert (fpr[0], pro[0], fpr[-1], pro[-1]) == (0, 0, 1, 1)
    assert np.count_nonzero((fpr > 0) & (fpr < 0.001)) > 30
    # Half the height is reached at 0.01, the other half in one step at 0.8: no slanted line in between.
    assert fpr[pro > 0.51].min() == pytest.approx(0.8, abs=1e-3)
    assert fpr[pro < 0.51].max() == pytest.approx(0.8, abs=1e-3)
    area = np.trapezoid(pro, fpr)
    assert area == pytest.approx(curve.area(fpr_limit=1.0), abs=1e-4)
