import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.input_plan import plan_input
from tinydefects.planner.recall import (
    ALL,
    MeasuredRecall,
    RecallAdvice,
    RecallCurve,
    RecallPoint,
    inputs_for_recall,
    measured_recall,
)
from tinydefects.planner.recommendation import cost_per_megapixel
from tinydefects.planner.showing import describe_recall

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "runs" / "recall.py"))


def curve(name: str, *shares: tuple[float, float, float, float]) -> RecallCurve:
    points = [RecallPoint(width_patches=w, recall=r, low=low, high=high, n_defects=9) for w, r, low, high in shares]
    return RecallCurve(name=name, n_defects=9 * len(points), points=tuple(points))


EVERY = curve(ALL, (0.5, 0.2, 0.1, 0.4), (1, 0.4, 0.3, 0.6), (4, 0.8, 0.7, 0.9), (8, 0.8, 0.7, 0.9))
MEASURED = MeasuredRecall(
    method="fbft",
    teacher="builtin",
    patch_size=8,
    rules=("own_peak_at_image_fpr",),
    false_alarm_rate=0.05,
    n_alarming=2,
    n_good=60,
    sources=("results/x.json",),
    commits=("0123456789ab",),
    created="2026-11-21T00:00:00+00:00",
    curves=(EVERY, curve("d/easy", (0.5, 0.9, 0.8, 1.0)), curve("d/hard", (0.5, 0.1, 0.0, 0.2))),
)


def advice_for(recall: float, defect_px: float, size: tuple[int, int], **more: object) -> RecallAdvice:
    plan = plan_input(defect_px, size, patch_size=8, max_input=1032)
    return inputs_for_recall(recall, plan, **{"measured": MEASURED, **more})


def test_a_curve_is_straight_over_the_logarithm_level_beyond_its_end_and_unknown_before_its_begin():
    recall, interval = EVERY.at(2.0)  # half of the way from 1 to 4
    assert (recall, interval.low, interval.high) == pytest.approx((0.6, 0.5, 0.75))
    assert EVERY.at(100.0)[0] == pytest.approx(0.8)
    assert math.isnan(EVERY.at(0.49)[0])
    assert EVERY.at(0.5)[0] == pytest.approx(0.2)


def test_the_width_for_a_share_is_the_least_at_which_it_is_found():
    assert EVERY.width_for(0.6) == pytest.approx(2.0)
    assert EVERY.width_for(0.8) == pytest.approx(4.0)  # not 8, where it is found as well
    assert EVERY.width_for(0.1) == pytest.approx(0.5)  # nothing narrower was measured
    assert EVERY.width_for(0.7, "low") == pytest.approx(4.0)
    assert math.isnan(EVERY.width_for(0.81))


@pytest.mark.parametrize("recall", [0.25, 0.4, 0.6, 0.79])
def test_the_cheapest_input_that_reaches_it_is_named_and_no_cheaper_one_does(recall):
    advice = advice_for(recall, 12.0, (600, 800))
    best = advice.inputs.best
    assert advice.is_reachable
    assert best.width_patches >= advice.width_patches - 1e-9
    found = dict(zip(advice.inputs.options, (share for share, _ in advice.found), strict=True))
    assert found[best] >= recall - 1e-9
    cheaper = [option for option in advice.inputs.options if option.n_patches < best.n_patches]
    assert cheaper
    assert all(math.isnan(found[option]) or found[option] < recall for option in cheaper)


def test_every_input_is_told_with_the_smallest_defect_that_it_finds_so_often():
    advice = advice_for(0.6, 12.0, (600, 800))
    for option, smallest in zip(advice.inputs.options, advice.smallest_px, strict=True):
        assert smallest * option.width_patches / 12.0 == pytest.approx(2.0)  # patches that 60 % takes
    text = describe_recall(advice, pixel_pitch_mm=0.05)
    assert "to find 60 % of defects of 12 px (0.6 mm), going by all measured surfaces: 2.00 patches across" in text
    assert "(95 %: 1.00 to 2.83)" in text  # where the upper and the lower end pass 60 %
    assert "d/easy 0.5; nowhere on d/hard" in text
    assert "2 of 60 good images alarming (5 % allowed), commits 0123456789ab" in text
    assert "another part, light, kind of defect or teacher may lie outside" in text


def test_enlarging_is_said():
    assert advice_for(0.6, 12.0, (600, 800)).enlarges  # 1.5 patches at its own size, 2 are needed
    assert "no detail is added" in describe_recall(advice_for(0.6, 12.0, (600, 800)))
    assert not advice_for(0.6, 16.0, (600, 800)).enlarges
    assert "no detail is added" not in describe_recall(advice_for(0.6, 16.0, (600, 800)))


def test_a_share_that_nothing_reached_is_no_promise():
    advice = advice_for(0.9, 12.0, (600, 800))
    assert not advice.is_reachable
    assert (advice.reachable, advice.widest) == (0.8, 4.0)
    text = describe_recall(advice)
    assert "90 % of defects of 12 px cannot be promised by any input" in text
    assert "the most that was found there is 80 %, from 4.00 patches across on" in text
    assert "tinydefects fit" not in text
    assert "> " not in text
    assert advice_for(0.9, 12.0, (600, 800), like="d/easy").is_reachable


def test_within_a_time_limit_the_nearest_is_named_with_what_reaching_it_costs():
    cost = cost_per_megapixel(100.0, patch_size=8)
    advice = advice_for(0.6, 12.0, (600, 800), cost=cost, latency_ms=20)
    assert not advice.inputs.keeps
    assert advice.inputs.best.ms <= 20 < advice.inputs.cheapest_keeping.ms
    text = describe_recall(advice)
    assert "no input within 20 ms an image reaches it" in text
    assert "about ms" in text
    assert "no input fits into 0.1 ms" in describe_recall(advice_for(0.6, 12.0, (600, 800), cost=cost, latency_ms=0.1))


def test_no_input_smaller_than_any_that_was_measured_is_named():
    advice = advice_for(0.4, 300.0, (600, 800))
    assert advice.width_patches == pytest.approx(1.0)  # which an input of 24 px would give
    assert advice.inputs.best.resolution == 224


def test_a_plan_for_other_widths_than_two_patches_keeps_them():
    for across in (0.5, 1.7, 6.0):
        plan = plan_input(10.0, (600, 800), patch_size=8, patches_across=across)
        assert 10.0 * plan.resolution_px / 800 / 8 >= across - 1e-9
        assert 10.0 * (plan.resolution_px - 8) / 800 / 8 < across


@pytest.mark.parametrize("recall", [0.0, 1.0, -1.0, math.nan])
def test_shares_that_are_none_are_refused(recall):
    with pytest.raises(TinyDefectsError, match="give a share above 0 and below 1"):
        advice_for(recall, 12.0, (600, 800))


def test_what_ships_is_a_measurement_with_its_sources_and_rises():
    shipped = measured_recall()
    assert shipped.curves[0].name == ALL
    assert all((ROOT / source).is_file() for source in shipped.sources)
    assert shipped.commits
    for one in shipped.curves:
        for bound in ("width_patches", "recall", "low", "high"):
            values = [getattr(point, bound) for point in one.points]
            assert values == sorted(values), (one.name, bound)
        assert all(0 <= point.low <= point.recall <= point.high <= 1 for point in one.points)
        assert sum(point.n_defects for point in one.points) == one.n_defects


def test_shares_of_a_surface_are_counted_by_octaves_with_exact_intervals():
    hits = [(0.6, False), (0.8, True), (1.5, True), (1.6, False), (1.7, False), (3.0, True)]
    made = SCRIPT["surface_curve"]("d/x", hits)
    assert made.points[0].width_patches == pytest.approx(math.sqrt(0.6 * 0.8))
    # a half of 2 and a third of 3 fall; together they are 2 of 5
    assert [point.recall for point in made.points] == pytest.approx([0.4, 0.4, 1.0])
    assert made.points[2].low == pytest.approx(0.025)  # 1 of 1, Clopper and Pearson
    assert [point.n_defects for point in made.points] == [2, 3, 1]


def test_all_surfaces_count_the_same_and_octaves_of_few_are_left_out():
    hits = {f"d/{place}": [(1.5, place < 2)] * (1 + 9 * place) for place in range(5)}
    hits["d/0"] = [*hits["d/0"], (0.1, True)]
    (point,) = SCRIPT["curve_of_all"](hits).points
    assert point.recall == pytest.approx(2 / 5)  # of surfaces, though most defects are on those where none is found
    assert point.low < 0.2 < 0.6 < point.high
    assert point.n_defects == int(np.sum([1 + 9 * place for place in range(5)]))


def test_the_page_shows_what_ships():
    page = (ROOT / "docs" / "can_it_be_seen.md").read_text()
    assert SCRIPT["table"](measured_recall()) in page
    made = SCRIPT["table"](MEASURED)
    assert "| all | – | – | 20 % (10 to 40 %, 9) | 40 % (30 to 60 %, 9) |" in made  # an edge belongs to what is above
    assert "| d/easy | – | – | 90 % (9) |" in made


DISCS = ["inspect", "--image-size", "600x800", "--defect-mm", "0.6", "--pixel-pitch", "0.05"]


def test_inspect_says_which_input_finds_a_share(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--recall", 0.5, "--patch-size", 8)
    assert code == 0
    assert "to find 50 % of defects of 12 px (0.6 mm), going by all measured surfaces:" in out
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--recall", 0.5, "--like", "synthetic/brushed_metal", "--json")
    assert code == 0
    told = json.loads(out)["recall"]
    assert told["like"] == "synthetic/brushed_metal"
    assert told["inputs"]["best"]["width_patches"] >= told["width_patches"]
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--json")
    assert (code, json.loads(out)["recall"]) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--recall", "1.5"], "recall"),
        (["--recall", "nan"], "recall"),
        (["--recall", "0.5", "--like", "nothing"], "--like nothing: nothing was measured there; choose one of all,"),
        (["--like", "synthetic/leather"], "--like synthetic/leather needs --recall"),
        (["--recall", "0.5", "--max-input", "100"], "too small to tile; give --max-input"),
    ],
)
def test_inspect_refuses_what_cannot_be_answered(monkeypatch, capsys, arguments, expected):
    code, _, err = run(monkeypatch, capsys, *DISCS, *arguments)
    assert code == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
