from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import slow_metrics
from tinydefects.data.defects import find_defects
from tinydefects.metrics.curves import auroc, exact_curve, normal_threshold_curve, published_curve, published_ranks
from tinydefects.metrics.groups import cumulative_quartiles, quartile_areas
from tinydefects.metrics.ranking import rank

GOLDENS = Path(__file__).resolve().parents[2] / "shared" / "goldens"
CASES = [
    "c01_strong",
    "c03_weak",
    "c04_ties32",
    "c06_single_pixel",
    "c07_diagonal",
    "c09_mixed_first_smallest",
    "c10_few_normal",
    "c11_N_ok_below_99",
    "c12_near_perfect",
    "c14_constant",
    "c15_tiny_topk0",
    "c18_one_hot_normal_pixel",
]
LIMITS = (0.30, 0.10, 0.05, 0.01)
SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=40)


class GoldenCase:
    """One golden file: its maps and masks ranked once, its numbers by key."""

    def __init__(self, name):
        with np.load(GOLDENS / "metrics" / f"{name}.npz") as stored:
            self.values = {key: stored[key] for key in stored.files}
        numbers = self.values.get("order_used", np.arange(len(self.values["labels"])))
        self.maps = [self.values[f"map_{number:03d}"] for number in numbers]
        self.masks = [self.values[f"gt_{number:03d}"] > 0 for number in numbers]
        defects = [
            (scores, defect)
            for scores, mask in zip(self.maps, self.masks, strict=True)
            for defect in find_defects(mask)
        ]
        self.areas_px = np.array([defect.area_px for _, defect in defects])
        self.normals = [scores[~mask] for scores, mask in zip(self.maps, self.masks, strict=True)]
        self.ranking = rank(np.concatenate([scores[d.box][d.pixels] for scores, d in defects]), self.normals)

    def weights(self):
        """Of every defect pixel, for Q4, Q3, Q2, Q1: the order of the golden rows."""
        for members in reversed(cumulative_quartiles(self.areas_px)):
            yield np.repeat(members / (self.areas_px * members.sum()), self.areas_px)

    def aupro(self, make_curve):
        curves = [make_curve(self.ranking, weights) for weights in self.weights()]
        return np.array([[curve.area(fpr_limit=limit) for limit in LIMITS] for curve in curves])


@pytest.fixture(scope="module", params=CASES)
def case(request):
    if not GOLDENS.is_dir():
        pytest.skip("../shared/goldens is absent")
    return GoldenCase(request.param)


def test_regions_and_their_quartiles_are_the_published_ones(case):
    assert case.areas_px.tolist() == case.values["weights"].tolist()
    assert case.areas_px.size == case.values["n_components_8conn"]
    np.testing.assert_allclose(quartile_areas(case.areas_px), case.values["q123"], atol=1e-9)


def test_the_published_curve_is_reproduced_point_by_point(case):
    ordered = np.sort(np.concatenate(case.normals))
    np.testing.assert_array_equal(np.append(ordered[published_ranks(ordered.size)], 0), case.values["thrs"])
    for weights, pros in zip(case.weights(), case.values["pros"], strict=True):
        curve = published_curve(case.ranking, weights)
        np.testing.assert_allclose(curve.fpr, case.values["fprs"], atol=1e-9)
        np.testing.assert_allclose(curve.recall, pros, atol=1e-9)


def test_published_aupro_is_reproduced_with_99_and_with_20000_points(case):
    np.testing.assert_allclose(case.aupro(published_curve), case.values["aupro_99"], atol=1e-9)
    fine = case.aupro(lambda ranking, weights: published_curve(ranking, weights, n_points=20000))
    np.testing.assert_allclose(fine, case.values["aupro_20000"], atol=1e-9)


def test_with_every_rank_as_a_point_the_published_rule_reaches_its_limit(case):
    every = case.aupro(lambda ranking, weights: published_curve(ranking, weights, n_points=ranking.n_normal))
    np.testing.assert_allclose(every, case.values["aupro_all_positions_crosscheck"], atol=1e-9)


def test_with_ties_mended_the_limit_of_the_published_rule_is_reproduced(case):
    limit = case.aupro(normal_threshold_curve)
    np.testing.assert_allclose(limit, case.values["aupro_tie_aware_crosscheck"], atol=1e-9)


def test_exact_aupro_is_below_that_limit_by_at_most_half_a_tie_and_the_pixel_auroc_is_the_golden_one(case):
    _, multiplicity = np.unique(np.concatenate(case.normals), return_counts=True)
    excess = case.values["aupro_tie_aware_crosscheck"] - case.aupro(exact_curve)
    assert excess.min() >= -1e-9
    assert np.all(excess <= multiplicity.max() / (2 * case.ranking.n_normal * np.array(LIMITS)) + 1e-9)
    np.testing.assert_allclose(auroc(case.ranking), case.values["p_auroc"], atol=1e-9)


def test_image_auroc_of_the_published_image_scores_is_the_published_one(case):
    scores, labels = case.values["image_scores"], case.values["labels"]
    if np.isnan(case.values["i_auroc"]) and not np.isnan(scores).any():
        assert np.isnan(auroc(rank(scores[labels == 1], [scores[labels == 0]])))
    elif not np.isnan(scores).any():
        assert auroc(rank(scores[labels == 1], [scores[labels == 0]])) == pytest.approx(
            case.values["i_auroc"], abs=1e-9
        )
    else:
        assert np.isnan(case.values["i_auroc"])


def test_ranks_are_equally_spaced_from_the_highest_to_the_lowest():
    assert published_ranks(11, n_points=3).tolist() == [10, 5, 0]
    assert published_ranks(2, n_points=5).tolist() == [1, 0, 0, 0, 0]  # 0, ¼, ½, ¾, 1 rounded down


@pytest.mark.slow
@settings(max_examples=50)
@given(regions=st.lists(SCORES, min_size=1, max_size=3), normals=SCORES, n_points=st.sampled_from([3, 5, 99]))
def test_the_published_curve_is_that_of_looking_every_threshold_up(regions, normals, n_points):
    regions = [np.array(scores, dtype=np.float32) for scores in regions]
    normals = np.array(normals, dtype=np.float32)
    weights = np.concatenate([np.full(scores.size, 1 / (scores.size * len(regions))) for scores in regions])
    curve = published_curve(rank(np.concatenate(regions), [normals]), weights, n_points)
    points = slow_metrics.published_curve(regions, normals, n_points)
    np.testing.assert_allclose(np.stack([curve.fpr, curve.recall], axis=1), points, atol=1e-12)


def test_between_two_normal_scores_only_the_exact_curve_knows_where_a_defect_scores():
    # Normal 4 and 2; the defect's 3 lies between: found at one half exactly, along a slope from 0 to one half else.
    ranking = rank(np.array([3.0]), [np.array([4.0, 2.0])])
    assert exact_curve(ranking, np.ones(1)).area(fpr_limit=1.0) == pytest.approx(0.5)
    assert normal_threshold_curve(ranking, np.ones(1)).area(fpr_limit=1.0) == pytest.approx(0.75)


def test_without_defects_or_normal_scores_the_published_area_is_nan():
    nothing, one = np.empty(0, np.float32), np.ones(1, np.float32)
    assert np.isnan(published_curve(rank(nothing, [one]), np.empty(0)).area(fpr_limit=0.3))
    assert np.isnan(published_curve(rank(one, [nothing]), np.ones(1)).area(fpr_limit=0.3))
