import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference import slow_metrics
from tinydefects.data.sample import Prediction
from tinydefects.metrics import curves
from tinydefects.metrics.curves import good_rates, image_aupimos, level_aupimos
from tinydefects.metrics.gathering import gather
from tinydefects.metrics.ranking import rank_spooled
from tinydefects.metrics.spool import ScoreSpool

SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.75, 1.0, 2.0]), min_size=1, max_size=20)
CHANCE = (1e-4 - 1e-5) / math.log(10)


class FakeSample:
    """A sample whose mask is at hand."""

    mask_paths, group, is_view = (), None, False

    def __init__(self, name, mask, label="defect"):
        self.id, self.label, self._mask = f"test/spot/{name}", label, np.asarray(mask, dtype=bool)
        self.defect_type = "spot"

    def mask(self):
        return self._mask

    def image(self):
        return np.zeros((*self._mask.shape, 3), np.uint8)

    def saturated_defects(self):
        return None


def pairs(defective, good):
    """`defective`: (mask, map); `good`: maps."""
    for number, (mask, scores) in enumerate(defective):
        yield FakeSample(number, mask), Prediction(np.asarray(scores, np.float32), 0.0)
    for number, scores in enumerate(good):
        scores = np.asarray(scores, np.float32)
        yield FakeSample(f"good{number}", np.zeros(scores.shape), "good"), Prediction(scores, 0.0)


def aupimos(defective, good):
    with ScoreSpool() as spool:
        gathered = gather(pairs(defective, good), spool, 0)
        ranking = rank_spooled(gathered.pooled_defect_scores(), spool)
        return image_aupimos(ranking, spool, gathered.tally(ranking, math.nan))


def test_a_defect_above_every_good_pixel_scores_one_and_one_among_them_nothing():
    good = [np.arange(100.0).reshape(10, 10)]
    perfect = ([[1, 1, 0]], [[200, 150, 0]])
    half = ([[1, 1, 0]], [[200, 50, 0]])
    assert aupimos([perfect, half], good)[:2] == pytest.approx([1.0, 0.5])


def test_a_constant_map_scores_what_chance_scores():
    assert aupimos([([[1, 0]], [[3, 3]])], [np.full((4, 5), 3)])[0] == pytest.approx(CHANCE)


def test_one_pixel_in_the_middle_decade_by_hand():
    # 50,000 good pixels, one above the defect: found from a rate of 2e-5 on, so over ln(1e-4 / 2e-5) of ln 10.
    good = np.zeros((200, 250))
    good[3, 4] = 9
    assert aupimos([([[1, 0]], [[5, 0]])], [good])[0] == pytest.approx(math.log(5) / math.log(10))


def test_normal_pixels_of_defective_images_do_not_count():
    good = [np.zeros((4, 5))]
    assert aupimos([([[1, 0, 0]], [[5, 9, 9]])], good)[0] == 1.0


def test_a_good_image_counts_the_same_whatever_its_size():
    # One high pixel in a small and in a large image: the mean rate is (1/10,000 + 1/1,000,000) / 2 = 5.05e-5.
    small, large = np.zeros((100, 100)), np.zeros((1000, 1000))
    small[0, 0] = large[0, 0] = 9
    found = aupimos([([[1, 0]], [[5, 0]])], [small, large])[0]
    assert found == pytest.approx(math.log(1e-4 / 5.05e-5) / math.log(10))


def test_good_images_unmarked_images_and_a_category_without_good_images_have_none():
    assert np.isnan(aupimos([([[0, 0]], [[5, 0]])], [np.zeros((2, 2))])).all()
    assert np.isnan(aupimos([([[1, 0]], [[5, 0]])], [])).all()


@settings(max_examples=60)
@given(defect=SCORES, good=st.lists(SCORES, min_size=1, max_size=4), low=st.sampled_from([0.01, 0.08, 0.3]))
def test_aupimo_agrees_with_trying_every_threshold_on_ties_and_mixed_sizes(defect, good, low):
    bounds = (low, 3 * low)
    mask, scores = np.append(np.ones(len(defect)), 0)[None], np.append(defect, 7.0)[None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curves, "FPR_BOUNDS", bounds)
        found = aupimos([(mask, scores)], [np.array(one)[None] for one in good])[0]
    slow = slow_metrics.aupimo(np.array(defect), [np.array(one) for one in good], bounds)
    assert found == pytest.approx(slow, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_rates_are_exact_as_far_as_they_go_and_go_as_far_as_the_bound(seed):
    random = np.random.default_rng(seed)
    good = [random.normal(size=size).round(3).astype(np.float32) for size in (30_000, 500, 70_000)]
    scores = np.unique(random.normal(3, 1, 500).round(3).astype(np.float32))[::-1]
    with ScoreSpool() as spool:
        for one in good:
            spool.add(one)
        above, at_least = good_rates(scores, spool, [0, 1, 2])
    slow_above = np.array([np.mean([np.mean(one > score) for one in good]) for score in scores])
    slow_at_least = np.array([slow_metrics.mean_rate(score, good) for score in scores])
    assert above == pytest.approx(slow_above[: above.size], abs=1e-12)
    assert at_least == pytest.approx(slow_at_least[: above.size], abs=1e-12)
    assert 0 < above.size < scores.size
    assert slow_at_least[above.size] >= curves.FPR_BOUNDS[1]


def test_a_tie_across_both_bounds_is_crossed_on_the_straight_line():
    assert level_aupimos(np.array([0.0]), np.array([1.0]))[0] == pytest.approx(CHANCE)
    assert level_aupimos(np.array([0.0, 1e-4]), np.array([1e-5, 1.0])) == pytest.approx([1.0, 0.0])
