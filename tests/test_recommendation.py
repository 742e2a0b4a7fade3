import json
import math

import pytest

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.detector.detector import Detector
from tinydefects.detector.students import time_pass
from tinydefects.errors import TinyDefectsError
from tinydefects.planner.input_plan import plan_input
from tinydefects.planner.recommendation import (
    PassCost,
    Recommendation,
    cost_from_passes,
    cost_per_megapixel,
    recommend_input,
)
from tinydefects.planner.showing import describe_recommendation

ONE_MS_A_PATCH = PassCost(ms_per_patch=1.0, ms_per_pair=0.0, source="by hand")


def advice_for(
    defect_px: float, size: tuple[int, int], latency_ms: float, *, cost: PassCost = ONE_MS_A_PATCH, **options: int
) -> Recommendation:
    return recommend_input(plan_input(defect_px, size, **options), cost=cost, latency_ms=latency_ms)


def test_the_cheapest_input_at_two_patches_is_chosen_and_not_a_larger_one():
    advice = advice_for(40.0, (672, 672), latency_ms=3000)  # 40 px at 490 / 672 are 29.2 px: two patches and a little
    assert advice.keeps
    assert advice.best == advice.cheapest_keeping
    assert (advice.best.resolution, advice.best.tile, advice.best.n_passes) == (476, None, 1)
    assert advice.best.width_patches == pytest.approx(40 * 476 / 672 / 14)
    assert advice.best.ms == advice.best.n_patches == 34 * 34


def test_if_none_keeps_it_in_time_the_widest_in_time_is_named_with_what_keeping_would_cost():
    advice = advice_for(14.0, (672, 672), latency_ms=1500)  # two patches need 1344 px in tiles, more than 9216 patches
    assert not advice.keeps
    assert (advice.best.resolution, advice.best.ms) == (518, 37 * 37)
    assert advice.cheapest_keeping.resolution == 1344
    assert advice.cheapest_keeping.ms > 96 * 96
    text = describe_recommendation(advice)
    assert "no input keeps a defect of 14 px at 2 patches within 1,500 ms" in text
    assert f"takes about {advice.cheapest_keeping.ms:,.0f} ms" in text


def test_tiles_at_sizes_between_one_pass_and_the_one_that_keeps_it_are_options_too():
    advice = advice_for(2.0, (672, 672), latency_ms=120_000)  # two patches need 9408 px
    tiled = [option.resolution for option in advice.options if option.tile is not None]
    assert tiled == [2072, 4144, 8288, 9408]
    assert (advice.best.resolution, advice.best.n_patches) == (4144, 9 * 9 * 37 * 37)
    assert not advice.keeps


def test_if_nothing_is_in_time_nothing_is_recommended():
    advice = advice_for(14.0, (672, 672), latency_ms=100)
    assert (advice.best, advice.shifted, advice.keeps) == (None, None, False)
    assert "no input fits into 100 ms an image; the smallest takes about 256 ms" in describe_recommendation(advice)


def test_tiles_win_where_attention_over_the_whole_image_is_dear():
    pairs_only = PassCost(ms_per_patch=0.0, ms_per_pair=1e-3, source="by hand")
    tiled = advice_for(28.0, (1400, 1400), latency_ms=1e6, cost=pairs_only, max_input=1400).best
    whole = advice_for(28.0, (1400, 1400), latency_ms=1e6, max_input=1400).best
    assert (tiled.resolution, tiled.tile, tiled.overlap) == ("native", 700, 84)  # a defect, and one on either side
    assert (whole.resolution, whole.tile, whole.n_patches) == ("native", None, 100 * 100)


def test_shifts_are_offered_on_top_with_their_own_cost():
    advice = advice_for(40.0, (672, 672), latency_ms=5000)
    assert (advice.shifted.stride, advice.shifted.n_passes) == (7, 4)
    assert advice.shifted.ms == (34 + 33) ** 2  # scores on the dense grid
    assert advice.shifted.width_patches == advice.best.width_patches
    assert "fits, too" in describe_recommendation(advice)
    assert "does not fit" in describe_recommendation(advice_for(40.0, (672, 672), latency_ms=4000))


@pytest.mark.parametrize("defect_px", [3.0, 11.0, 60.0])
@pytest.mark.parametrize("size", [(300, 700), (1024, 1024)])
def test_passes_and_patches_are_those_that_the_detector_runs(defect_px, size):
    advice = advice_for(defect_px, size, latency_ms=1e9, patch_size=8, max_input=400)
    for option in (*advice.options, advice.shifted):
        detector = Detector(
            teacher=counting_teacher(),
            resolution=option.resolution,
            tile=option.tile,
            overlap=option.overlap,
            stride=option.stride,
        )
        grids = detector.passes(size).grids
        assert option.n_passes == len(grids)
        assert option.n_patches == sum(math.prod(grid.shape) for grid in grids)
        assert max(max(grid.shape) for grid in grids) * 8 <= 400
    assert [option.ms for option in advice.options] == sorted(option.ms for option in advice.options)
    widths = [option.width_patches for option in advice.options]
    assert widths == sorted(set(widths))


@pytest.mark.parametrize("max_input", [168, 518, 1036])
@pytest.mark.parametrize("defect_px", [0.4, 2.0, 17.3, 500.0])
def test_some_option_always_keeps_the_defect(defect_px, max_input):
    advice = advice_for(defect_px, (500, 901), latency_ms=1.0, max_input=max_input)
    assert advice.cheapest_keeping.width_patches >= 2 - 1e-9


def test_two_timed_passes_tell_the_part_a_patch_from_the_part_a_pair():
    cost = cost_from_passes((100, 100 * 0.5 + 100**2 * 2e-3), (400, 400 * 0.5 + 400**2 * 2e-3), timed_with="a teacher")
    assert (cost.ms_per_patch, cost.ms_per_pair) == pytest.approx((0.5, 2e-3))
    assert cost.ms(1000) == pytest.approx(2500)
    assert "100 patches, 70 ms, and one over 400, 520 ms, timed now with a teacher" in cost.source
    overhead = cost_from_passes((100, 90.0), (400, 100.0), timed_with="a teacher")  # the small pass is mostly overhead
    assert (overhead.ms_per_patch, overhead.ms_per_pair) == (0.25, 0.0)
    noisy = cost_from_passes((100, 1.0), (400, 100.0), timed_with="a teacher")
    assert noisy.ms_per_patch >= 0
    assert noisy.ms(400) == pytest.approx(100)


def test_a_megapixel_costs_what_was_given():
    assert cost_per_megapixel(300.0, patch_size=10).ms(10_000) == pytest.approx(300.0)
    with pytest.raises(TinyDefectsError, match="--ms-per-megapixel 0"):
        cost_per_megapixel(0.0, patch_size=14)
    with pytest.raises(TinyDefectsError, match="--latency-ms -1"):
        advice_for(14.0, (100, 100), latency_ms=-1)


def test_a_pass_is_timed_after_one_to_warm_up():
    teacher = counting_teacher()
    assert time_pass(teacher, (4, 3), with_students=True, repeats=3) > 0
    assert teacher.model.passes == 4


DISCS = ["inspect", "--image-size", "600x800", "--defect-px", "20"]


@pytest.mark.slow
def test_inspect_recommends_an_input_for_a_latency(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--latency-ms", 900, "--ms-per-megapixel", 1000, "--json")
    assert code == 0
    advice = json.loads(out)["recommendation"]
    assert advice["keeps"] is False
    assert advice["best"]["resolution"] == 1036
    assert advice["best"]["ms"] == pytest.approx(1000 * 56 * 74 * 14**2 / 1e6)
    monkeypatch.setattr("tinydefects.cli.inspecting.TIMED_PATCHES_A_SIDE", (4, 8))
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--latency-ms", 60_000, "--teacher", "builtin", "--device", "cpu")
    assert code == 0
    assert "patches of 8 px" in out  # the teacher's, not the 14 px of the default
    assert "to keep a defect of 20 px at 2 patches within 60,000 ms an image:" in out
    assert "> " in out
    assert "timed now with builtin on cpu" in out


@pytest.mark.slow
def test_a_teacher_alone_sets_the_patches_and_says_what_the_plan_costs(monkeypatch, capsys):
    monkeypatch.setattr("tinydefects.cli.inspecting.TIMED_PATCHES_A_SIDE", (4, 8))
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--teacher", "builtin", "--device", "cpu")
    assert code == 0
    assert "to keep a defect of 20 px at 2 patches of 8 px" in out
    assert "ms for an image, one pass\n(estimated from a pass over 16 patches" in out
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--ms-per-megapixel", 1000)
    assert code == 0
    # 20 px at two patches of 14 px enlarge the image 1.4 times, to 60 x 80 patches: two tiles of 60 x 74 of them
    assert pytest.approx(1740, abs=1) == 2 * 60 * 74 * 14**2 / 1e6 * 1000
    assert "about 1,740 ms for an image, 2 passes" in out


def test_inspect_without_a_latency_times_nothing(monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, *DISCS, "--json")
    assert code == 0
    assert json.loads(out)["recommendation"] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--latency-ms", "50"], "--latency-ms needs --teacher, which is timed here, or --ms-per-megapixel"),
        (["--teacher", "builtin", "--ms-per-megapixel", "3"], "give either --teacher, which is timed here, or"),
        (["--latency-ms", "50", "--teacher", "builtin", "--ms-per-megapixel", "3"], "one of them"),
        (["--latency-ms", "50", "--teacher", "builtin", "--patch-size", "14"], "builtin has patches of 8 px"),
    ],
)
def test_inspect_refuses_half_a_question(monkeypatch, capsys, arguments, expected):
    code, _, err = run(monkeypatch, capsys, *DISCS, *arguments)
    assert code == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
