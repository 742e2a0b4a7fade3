"""What thresholds from good parts promise, by exact distributions of order statistics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinydefects.decisions.guarantees import (
    SeenRegions,
    affordable_rate,
    conformal_threshold,
    highest_rate,
    p_value,
    part_scores,
    parts_needed,
    photographs_needed,
    region_threshold,
    tolerance_threshold,
)
from tinydefects.errors import ScoreError, SettingsError

RATES = st.sampled_from([0.001, 0.01, 0.02, 0.05, 0.07, 0.1, 0.25, 0.29, 0.5])
CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])
SIZES = st.integers(1, 1200)
TIED = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=40)


def counting(n: int) -> np.ndarray:
    return np.arange(1.0, n + 1)


@given(n=SIZES, rate=RATES)
def test_the_conformal_threshold_is_the_lowest_whose_mean_rate_is_allowed(n, rate):
    value = conformal_threshold(counting(n), rate).value
    mean_rate = [(n + 1 - k) / (n + 1) for k in range(1, n + 1)]  # of Beta(n + 1 - k, k)
    allowed = [k for k, mean in enumerate(mean_rate, start=1) if mean <= rate * (1 + 1e-9)]
    assert value == (min(allowed) if allowed else None)
    assert (value is None) == (n < parts_needed(rate))


@given(n=SIZES, rate=RATES, confidence=CONFIDENCES)
def test_the_tolerance_threshold_is_the_lowest_that_keeps_its_confidence(n, rate, confidence):
    value = tolerance_threshold(counting(n), rate, confidence).value
    ranks = np.arange(1, n + 1)
    kept = ranks[stats.beta.cdf(rate, n - ranks + 1, ranks) >= confidence - 1e-12]  # of the rate above each score
    assert value == (kept.min() if kept.size else None)
    assert (value is None) == (n < parts_needed(rate, confidence))


@given(n=SIZES, rate=RATES, confidence=CONFIDENCES)
def test_confidence_costs_a_higher_threshold(n, rate, confidence):
    certain = tolerance_threshold(counting(n), rate, confidence).value
    average = conformal_threshold(counting(n), rate).value
    if certain is not None:
        assert average is not None
        assert certain >= average


@pytest.mark.parametrize(("rate", "n"), [(0.1, 29), (0.05, 59), (0.02, 149), (0.01, 299)])
def test_the_tables_of_wilks_are_reproduced(rate, n):
    assert parts_needed(rate, 0.95) == n
    assert tolerance_threshold(counting(n), rate).value == n
    assert tolerance_threshold(counting(n - 1), rate).value is None
    assert tolerance_threshold(counting(n - 1), rate).n_needed == n


@pytest.mark.parametrize(("rate", "n"), [(0.5, 1), (0.1, 9), (0.05, 19), (0.03, 33), (0.01, 99), (0.001, 999)])
def test_so_many_parts_afford_a_rate_on_average(rate, n):
    assert parts_needed(rate) == n
    assert conformal_threshold(counting(n), rate).value == n
    assert conformal_threshold(counting(n - 1), rate).value is None if n > 1 else True


@given(n=SIZES, confidence=st.sampled_from([0.0, 0.8, 0.95]))
def test_what_parts_afford_is_what_needs_them(n, confidence):
    rate = affordable_rate(n, confidence)
    assert parts_needed(rate, confidence) == n


@given(n=SIZES, confidence=CONFIDENCES, data=st.data())
def test_the_highest_rate_is_where_a_threshold_lets_as_many_good_parts_lie_above(n, confidence, data):
    n_above = data.draw(st.integers(0, n - 1))
    rate = highest_rate(n_above, n, confidence)
    assert tolerance_threshold(counting(n), rate * (1 + 1e-9), confidence).value == n - n_above
    assert tolerance_threshold(counting(n), rate * (1 - 1e-6), confidence).value in {n - n_above + 1, None}
    assert highest_rate(0, n, confidence) == pytest.approx(affordable_rate(n, confidence), rel=1e-9)
    assert highest_rate(n, n, confidence) == 1


@pytest.mark.parametrize(("n_above", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_more_alarms_than_good_parts_are_refused(n_above, n):
    with pytest.raises(SettingsError, match="give from 0 to all"):
        highest_rate(n_above, n)


@given(scores=TIED, rate=RATES)
def test_a_new_part_that_is_any_one_of_them_alarms_at_most_at_the_rate(scores, rate):
    """The exchangeable argument itself, ties included: each of n + 1 scores may be the new one."""
    alarms = 0
    for place, new in enumerate(scores):
        rest = scores[:place] + scores[place + 1 :]
        value = conformal_threshold(rest, rate).value if rest else None
        alarms += value is not None and new > value
    assert alarms <= rate * len(scores) * (1 + 1e-9)


@given(scores=TIED)
def test_p_values_of_exchangeable_parts_are_never_too_small(scores):
    values = np.array([p_value(new, scores[:place] + scores[place + 1 :]) for place, new in enumerate(scores)])
    for limit in np.unique(values):
        assert np.count_nonzero(values <= limit) <= limit * len(scores) * (1 + 1e-9)


@given(scores=TIED, new=st.integers(0, 6), rate=RATES)
def test_a_part_alarms_exactly_when_its_p_value_is_within_the_rate(scores, new, rate):
    value = conformal_threshold(scores, rate).value
    alarms = value is not None and new > value
    assert alarms == (p_value(new, scores) <= rate * (1 + 1e-12))


def test_p_values_count_ties_against_the_alarm_and_take_parts_that_show_nothing():
    assert p_value(2.0, [1.0, 2.0, 3.0]) == pytest.approx(3 / 4, abs=1e-15)
    assert p_value(9.0, [1.0, 2.0, 3.0]) == pytest.approx(1 / 4, abs=1e-15)
    assert p_value(9.0, [-math.inf, 2.0, 3.0]) == pytest.approx(1 / 4, abs=1e-15)
    assert p_value(9.0, []) == 1.0


def test_a_part_counts_once_with_its_highest_photograph():
    assert part_scores([1.0, 5.0, 3.0, 2.0], ["a", "b", "b", "a"]).tolist() == [2.0, 5.0]


@given(st.lists(st.tuples(st.floats(-9, 9), st.sampled_from("abcdef")), min_size=1))
def test_grouped_scores_are_the_maxima_of_their_parts(pairs):
    slow = sorted(max(score for score, part in pairs if part == one) for one in {part for _, part in pairs})
    assert part_scores(*zip(*pairs, strict=True)).tolist() == slow


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
def test_a_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(SettingsError, match="between 0 and 1"):
        conformal_threshold([1.0], rate)
    with pytest.raises(SettingsError, match="between 0 and 1"):
        tolerance_threshold([1.0], 0.05, rate)


@pytest.mark.parametrize("scores", [[], [math.nan], [1.0, math.inf]])
def test_scores_that_cannot_be_ranked_are_refused(scores):
    with pytest.raises(ScoreError):
        conformal_threshold(scores, 0.5)
    with pytest.raises(ScoreError):
        tolerance_threshold(scores, 0.5)


def capped(peaks, threshold, most_counted):
    return min(most_counted, sum(peak > threshold for peak in peaks))


PEAKS = st.lists(st.lists(st.integers(0, 6).map(float), max_size=6).map(lambda p: sorted(p, reverse=True)), min_size=2)


@given(photographs=PEAKS, rate=st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0]), most_counted=st.integers(1, 4))
def test_a_new_photograph_that_is_any_one_of_them_shows_at_most_the_rate(photographs, rate, most_counted):
    """The exchangeable argument of risk control: each of n + 1 photographs may be the new one."""
    total = 0
    for place, new in enumerate(photographs):
        rest = photographs[:place] + photographs[place + 1 :]
        good = [SeenRegions(part=str(number), peaks=peaks) for number, peaks in enumerate(rest)]
        value = region_threshold(good, rate, most_counted).value
        total += capped(new, math.inf if value is None else value, most_counted)
    assert total <= rate * len(photographs) * (1 + 1e-9)


@given(photographs=PEAKS, rate=st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0]), most_counted=st.integers(1, 4))
def test_the_threshold_of_regions_is_the_lowest_that_satisfies_its_inequality(photographs, rate, most_counted):
    good = [SeenRegions(part=str(number), peaks=peaks) for number, peaks in enumerate(photographs)]
    found = region_threshold(good, rate, most_counted)

    def is_kept(threshold):
        total = sum(capped(peaks, threshold, most_counted) for peaks in photographs)
        return total + most_counted <= rate * (len(photographs) + 1) + 1e-9

    kept = [one for one in (-math.inf, 0, 1, 2, 3, 4, 5, 6) if is_kept(one)]
    assert found.value == (kept[0] if kept else None)
    assert (found.value is None) == (len(photographs) < found.n_needed)


@given(scores=TIED, rate=RATES)
def test_counting_photographs_with_any_region_is_the_conformal_rule(scores, rate):
    good = [SeenRegions(part=str(number), peaks=[score, score - 1]) for number, score in enumerate(scores)]
    assert region_threshold(good, rate).value == conformal_threshold(scores, rate).value


def test_photographs_of_one_part_count_as_their_mean():
    good = [SeenRegions(part="a", peaks=[5.0]), SeenRegions(part="a", peaks=[]), SeenRegions(part="b", peaks=[4.0])]
    assert region_threshold(good, 0.5).value == 4.0  # allowed is 0.5 * 3 - 1 = 0.5: half a region, that of part a
    good += [SeenRegions(part="a", peaks=[6.0])]
    assert region_threshold(good, 0.5).value == 5.0  # a third each: 6 is allowed, 6 and 5 are not
    assert region_threshold(good, 0.5).n_parts == 2


def test_regions_that_were_not_kept_count_in_full_below_those_that_were():
    known = SeenRegions(part="a", peaks=[5.0])
    cut = SeenRegions(part="b", peaks=[6.0], known_down_to=3.0)
    assert region_threshold([known, cut], 2.0, 3).value == 3.0  # 6 - 3 regions are allowed, any number may come at 3
    assert region_threshold([known, SeenRegions(part="b", peaks=[6.0])], 2.0, 3).value == -math.inf
    assert region_threshold([cut, known], 5 / 3, 3).value == 3.0
    assert region_threshold([cut, known], 4 / 3, 3).value == 5.0


@pytest.mark.parametrize(("rate", "most_counted", "n"), [(0.1, 1, 9), (0.1, 10, 99), (0.3, 1, 3), (2.0, 1, 1)])
def test_so_many_parts_afford_so_many_false_regions(rate, most_counted, n):
    assert photographs_needed(rate, most_counted) == n


@pytest.mark.parametrize(("rate", "most_counted"), [(0.0, 1), (math.nan, 1), (0.1, 0)])
def test_a_number_of_regions_that_cannot_be_is_refused(rate, most_counted):
    with pytest.raises(SettingsError, match="above 0"):
        region_threshold([SeenRegions(part="a", peaks=[1.0])], rate, most_counted)
    with pytest.raises(ScoreError):
        region_threshold([], 0.1)


def test_without_a_good_part_no_rate_is_afforded_and_nan_is_compared_with_nothing():
    with pytest.raises(SettingsError, match="0 good parts afford no rate"):
        affordable_rate(0)
    for score, good in ((math.nan, [1.0]), (1.0, [1.0, math.nan])):
        with pytest.raises(ScoreError, match="a score is nan"):
            p_value(score, good)
