"""The drift monitor: p-values are exactly uniform, bets fair, alarms as rare as promised, and drift is found."""

import itertools
import json
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tinydefects.decisions.drift import (
    MOST_PIXELS,
    N_BETS,
    DriftMonitor,
    DriftSettings,
    DriftStream,
    bets,
    first_evidence,
    grow,
    picture_statistics,
    read_monitor,
    save_monitor,
)
from tinydefects.errors import ResultError, ScoreError, SettingsError

NOTHING = first_evidence("run_length").tolist()


def stream(*calibration: float, later: tuple[float, ...] = ()) -> DriftStream:
    return DriftStream(calibration=sorted(calibration), later=sorted(later), evidence=NOTHING)


def monitor(n: int = 100, *, seed: int = 0, names: str = "score", **settings: object) -> DriftMonitor:
    generator = np.random.default_rng((seed, 1))
    return DriftMonitor.calibrate({name: generator.normal(size=n) for name in names.split()}, DriftSettings(**settings))


def feed(watched: DriftMonitor, values: np.ndarray) -> list:
    """The alarms raised by values (photographs, streams) or of one stream."""
    rows = np.reshape(values, (len(values), -1))
    return [alarm for row in rows for alarm in watched.update(dict(zip(watched.streams, row, strict=True)))]


# P-values.


def test_a_p_value_is_the_rank_from_above_with_ties_placed_by_the_share():
    watched = stream(1, 2, 2, later=(2, 5))
    assert watched.p_value(2, 1.0) == pytest.approx(5 / 6, abs=1e-12)  # 5 above it; the three twos and itself share
    assert watched.p_value(2, 0.5) == pytest.approx((1 + 0.5 * 4) / 6, abs=1e-12)
    assert watched.p_value(9, 1.0) == pytest.approx(1 / 6, abs=1e-12)
    assert watched.p_value(0, 0.25) == pytest.approx(5.25 / 6, abs=1e-12)


def test_ranks_of_exchangeable_numbers_are_uniform_and_independent():
    """Of two calibration numbers and two later ones in all 24 orders, each pair of ranks comes equally often."""
    pairs = Counter()
    for first, second, third, fourth in itertools.permutations((1.0, 2.0, 3.0, 4.0)):
        watched = stream(first, second)
        ranks = [round(3 * watched.p_value(third, 1.0))]
        watched.take(third, 1.0, "run_length", 1)
        ranks.append(round(4 * watched.p_value(fourth, 1.0)))
        pairs[tuple(ranks)] += 1
    assert pairs == dict.fromkeys(itertools.product((1, 2, 3), (1, 2, 3, 4)), 2)


# Evidence.


@pytest.mark.parametrize("bet", range(N_BETS + 1))
def test_every_bet_is_fair_on_uniform_p_values(bet):
    small = np.exp(
        -np.linspace(np.log(2), 37, 200_001)
    )  # from 1/2 to below the smallest p-value, even in its logarithm
    paid = (bets(small) + bets(1 - small))[:, bet]
    mean = np.trapezoid((paid * small)[::-1], np.log(small)[::-1])
    assert 1 - 2e-3 < mean < 1 + 1e-4  # below the smallest, nothing more is paid


def test_evidence_grows_by_one_a_photograph_or_stays_the_same_on_average():
    evidence = np.random.default_rng(0).random(N_BETS + 1)
    fair = np.ones(N_BETS + 1)
    assert grow(evidence, fair, "run_length").sum() == pytest.approx(evidence.sum() + 1, abs=1e-12)
    assert grow(evidence, fair, "ever").sum() == pytest.approx(evidence.sum(), abs=1e-12)
    assert first_evidence("ever").sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.slow
def test_without_a_drift_alarms_are_as_rare_as_promised():
    n_repetitions, n_photographs, run_length, ever = 3_000, 600, 100, 0.1
    uniform = np.random.default_rng(0).random((n_photographs, n_repetitions))
    evidence, once = (first_evidence(rule, (n_repetitions,)) for rule in ("run_length", "ever"))
    n_alarms, has_alarmed = np.zeros(n_repetitions), np.zeros(n_repetitions, dtype=bool)
    for p_values in uniform:
        evidence, once = grow(evidence, bets(p_values), "run_length"), grow(once, bets(p_values), "ever")
        is_alarm = evidence.sum(axis=1) >= run_length
        evidence[is_alarm] = 0.0
        n_alarms += is_alarm
        has_alarmed |= once.sum(axis=1) >= 1 / ever
    of_chance = 3 * n_alarms.std() / n_repetitions**0.5
    assert n_photographs / run_length / 4 < n_alarms.mean() < n_photographs / run_length + of_chance
    assert 0.01 < has_alarmed.mean() < ever + 3 * (ever / n_repetitions) ** 0.5


def test_the_monitor_does_what_the_arrays_do():
    """Its evidence is that of arrays, on p-values counted among all numbers so far."""
    watched = stream(*np.random.default_rng(3).normal(size=12))
    seen, evidence = list(watched.calibration), first_evidence("run_length")
    values, shares = np.random.default_rng(4).random((2, 40))
    for number, (value, share) in enumerate(zip(values, shares, strict=True), start=1):
        p_value = (np.sum(np.array(seen) > value) + share) / (len(seen) + 1)
        evidence = grow(evidence, bets(np.array(p_value)), "run_length")
        assert watched.take(value, share, "run_length", number) == pytest.approx(evidence.sum(), rel=1e-9)
        seen.append(value)
    assert watched.later == sorted(values)


# Drift.


@pytest.mark.parametrize(
    ("change", "side"),
    [(lambda x: x + 1.5, "higher"), (lambda x: x - 1.5, "lower"), (lambda x: 4 * x, "more spread")],
    ids=["higher", "lower", "more spread"],
)
def test_a_drift_is_found_with_its_side_and_beginning(change, side):
    values = np.random.default_rng(5).normal(size=360)
    values[300:] = change(values[300:])
    alarms = feed(monitor(200, seed=5, run_length=2_000), values)
    assert [(alarm.stream, alarm.side) for alarm in alarms[:1]] == [("score", side)]
    assert 300 < alarms[0].at <= 340
    assert abs(alarms[0].began - 301) <= 8
    ago = alarms[0].at - alarms[0].began + 1
    told = f"drift: score is {side} since about photograph {alarms[0].began}, {ago} photographs ago: now "
    assert str(alarms[0]).startswith(told)
    low, high = alarms[0].usual
    assert (low, high) == pytest.approx((-1.64, 1.64), abs=0.5)  # of a standard normal distribution


def test_the_stream_that_drifts_is_named_and_others_are_not():
    values = np.random.default_rng(6).normal(size=(200, 3))
    values[100:, 1] -= 2
    watched = monitor(100, seed=6, names="score brightness contrast")
    alarms = feed(watched, values)
    assert {(alarm.stream, alarm.side) for alarm in alarms} == {("brightness", "lower")}
    assert "last alarm at" in str(watched)


def test_a_size_that_never_changed_is_found_when_it_does():
    watched = DriftMonitor.calibrate({"width": [640.0] * 50}, DriftSettings(run_length=100_000))
    assert feed(watched, np.full(300, 640.0)) == []
    alarms = feed(watched, np.full(12, 641.0))
    assert alarms[0].side != "lower"
    assert 250 < alarms[0].began < alarms[0].at  # ties are placed at random, some of them far out
    assert str(alarms[0]).endswith("now 641, usual are 640 to 640")


def test_many_streams_need_as_many_times_the_evidence():
    assert DriftSettings(run_length=500).threshold(6) == 3_000
    assert DriftSettings(rule="ever", ever=0.05).threshold(3) == pytest.approx(60)
    one, three = monitor(50, run_length=500), monitor(50, names="score b c", run_length=500)
    values = np.random.default_rng(7).normal(size=20)
    feed(one, values)
    for value in values:
        three.update({"score": value, "b": 0.0, "c": 0.0})
    assert three.streams["score"].evidence != NOTHING
    assert three.evidence()["score"] == pytest.approx(sum(three.streams["score"].evidence) / 1_500, rel=1e-12)


def test_with_the_rule_ever_a_stream_alarms_once():
    values = np.concatenate([np.random.default_rng(8).normal(size=50), np.full(60, 9.0) + np.arange(60)])
    watched = monitor(300, seed=8, rule="ever", ever=0.01)
    assert len(feed(watched, values)) == 1
    assert max(watched.evidence().values()) > 1


def test_later_photographs_are_forgotten_after_as_many_as_told():
    watched = monitor(20, renew_after=30)
    feed(watched, np.random.default_rng(9).normal(size=30))
    assert len(watched.streams["score"].later) == 30
    feed(watched, np.array([0.5]))
    assert watched.streams["score"].later == [0.5]


# State.


def test_a_monitor_that_is_saved_goes_on_as_if_it_had_not_been(tmp_path):
    values = np.random.default_rng(10).normal(size=(60, 2)).round(1)  # with ties
    values[40:] += 3
    whole, parted = (monitor(30, seed=10, names="score sharpness", run_length=300) for _ in range(2))
    feed(whole, values)
    feed(parted, values[:25])
    save_monitor(tmp_path / "monitor.json", parted)
    parted = read_monitor(tmp_path / "monitor.json")
    feed(parted, values[25:])
    assert whole.alarms
    assert parted == whole


def test_another_seed_places_ties_otherwise():
    states = [monitor(30, seed=1).model_copy(update={"settings": DriftSettings(seed=seed)}) for seed in (0, 0, 1)]
    for one in states:
        feed(one, np.zeros(5))
    evidence = [one.streams["score"].evidence for one in states]
    assert evidence[0] == evidence[1] != evidence[2]


@pytest.mark.parametrize(
    ("change", "line"),
    {
        "half": (lambda text: text[:100], "not a readable drift monitor"),
        "unsorted": (lambda text: changed(text, later=[2.0, 1.0]), "numbers are not sorted"),
        "short": (lambda text: changed(text, evidence=[1.0]), "evidence"),
        "nan": (lambda text: changed(text, calibration=[None]), "calibration"),
        "unknown": (lambda text: changed(text, colour=1), "colour"),
        "newer": (lambda text: text.replace('"format": 1', '"format": 2'), "format"),
    }.values(),
    ids=["half", "unsorted", "short", "nan", "unknown", "newer"],
)
def test_a_damaged_state_is_refused_in_one_line(tmp_path, change, line):
    path = tmp_path / "monitor.json"
    save_monitor(path, monitor(20))
    path.write_text(change(path.read_text()))
    with pytest.raises(ResultError, match=line) as refused:
        read_monitor(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def changed(text: str, **fields: object) -> str:
    content = json.loads(text)
    content["streams"]["score"] |= fields
    return json.dumps(content)


def test_a_state_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ResultError, match="calibrate a new one"):
        read_monitor(tmp_path / "gone.json")


# What is refused.


def test_numbers_that_cannot_be_ranked_are_refused_and_nothing_is_taken():
    watched = monitor(20, names="score brightness")
    before = watched.model_copy(deep=True)
    for numbers in ({"score": 1.0}, {"score": 1.0, "brightness": 1.0, "x": 1.0}):
        with pytest.raises(ScoreError, match="watches score, brightness"):
            watched.update(numbers)
    with pytest.raises(ScoreError, match="brightness: nan"):
        watched.update({"score": 1.0, "brightness": float("nan")})
    assert watched == before


def test_too_little_to_compare_with_is_refused():
    with pytest.raises(SettingsError, match="10 good photographs"):
        DriftMonitor.calibrate({"score": [1.0] * 9})
    with pytest.raises(SettingsError, match="no stream"):
        DriftMonitor.calibrate({})
    with pytest.raises(ScoreError, match="inf"):
        DriftMonitor.calibrate({"score": [*[1.0] * 20, float("inf")]})


# What a picture is like.


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (40, 30), (700, 700)])
def test_statistics_of_a_picture_are_those_of_the_whole_at_once(size):
    rgb = np.random.default_rng(11).integers(0, 256, size=(*size, 3), dtype=np.uint8)
    luma = rgb.astype(np.float64) @ [0.299, 0.587, 0.114]
    expected = (luma.mean(), luma.std(), ndimage.laplace(luma, mode="nearest").var(), *size)
    assert picture_statistics(rgb) == pytest.approx(expected, rel=1e-4, abs=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(3_000, 1_000), (1_000, 3_000), (2_000, 2_000), (400_000, 4), (1, 600_000)])
def test_of_a_large_picture_rows_from_top_to_bottom_stand_for_all(size):
    assert size[0] * size[1] > MOST_PIXELS
    light = np.linspace(0, 200, size[0])[:, None, None] + np.random.default_rng(13).uniform(0, 50, (*size, 1))
    rgb = np.broadcast_to(light.astype(np.uint8), (*size, 3))
    luma = rgb[..., 0].astype(np.float64)
    expected = (luma.mean(), luma.std(), ndimage.laplace(luma, mode="nearest").var(), *size)
    found = picture_statistics(rgb)
    assert found == pytest.approx(expected, rel=0.02)
    assert found == picture_statistics(np.ascontiguousarray(rgb))


def test_a_large_picture_is_measured_in_little_memory():
    rgb = np.zeros((3_000, 3_000, 3), dtype=np.uint8)
    tracemalloc.start()
    picture_statistics(rgb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MOST_PIXELS


def test_brighter_flatter_and_blurred_pictures_show_it():
    rgb = np.random.default_rng(12).integers(50, 150, size=(64, 64, 3), dtype=np.uint8)
    plain = picture_statistics(rgb)
    assert picture_statistics(rgb + np.uint8(20)).brightness == pytest.approx(plain.brightness + 20, abs=1e-3)
    assert picture_statistics(rgb // 2).contrast == pytest.approx(plain.contrast / 2, rel=0.02)
    blurred = ndimage.uniform_filter(rgb, (3, 3, 1))
    assert picture_statistics(blurred).sharpness < plain.sharpness / 4
    assert picture_statistics(np.full((9, 9, 3), 77, dtype=np.uint8))[:3] == pytest.approx((77, 0, 0), abs=1e-2)


def test_the_example_of_the_page_runs_and_sees_the_light_change(tmp_path, monkeypatch, capsys):
    page = Path(__file__).resolve().parents[1] / "docs" / "monitoring.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "drift: brightness is higher since about photograph" in printed
    assert "200 photographs, " in printed
