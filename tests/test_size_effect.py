"""The script behind the picture of size: its points are those of the result files, and README says what they say."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinydefects.benchmark.summary import Row, read_summary
from tinydefects.errors import ResultError
from tinydefects.metrics.records import Interval

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "runs" / "size_effect.py"))
SUMMARY = read_summary(SCRIPT["SUMMARY"])
SIZES = {  # diameters, long sides, areas: two categories, four defects each, one a quarter
    "synthetic/a": tuple(np.array(column) for column in ([2.0, 4, 8, 16], [100, 100, 200, 200], [3, 12, 50, 200])),
    "synthetic/b": tuple(np.array(column) for column in ([8.0, 16, 32, 64], [100] * 4, [50, 200, 800, 3200])),
}


def row(category: str, seed: int, first: float, method: str = "fbft", resolution: int = 50) -> Row:
    values = [first, 0.2, 0.4, 0.8]
    return replace(
        SUMMARY.rows[0],
        category=category,
        method=method,
        resolution=resolution,
        seed=seed,
        metrics=dict(zip(SCRIPT["QUARTERS"], values, strict=True)),
        intervals={name: Interval(low=0.1, high=0.1 + 0.392) for name in SCRIPT["QUARTERS"]},
    )


def points(*rows: Row) -> list:
    return list(SCRIPT["points_of"](replace(SUMMARY, rows=rows), SIZES, "synthetic"))


def test_a_point_is_a_quarter_of_all_categories_in_patches_of_the_input():
    found = points(row("synthetic/a", 0, 0.0), row("synthetic/a", 1, 0.2), row("synthetic/b", 0, 0.5))
    assert [one.quarter for one in found] == [1, 2, 3, 4]
    first, _, third, _ = found
    # of a: 2 px of 100 shown at 50 are 1 px of 8; of b: 8 px are 4 px
    assert first.patches == pytest.approx((1 / 8 * 4 / 8) ** 0.5)
    assert third.patches == pytest.approx((8 / 4 / 8 * 32 / 2 / 8) ** 0.5)  # a's image is 200 px there
    assert first.aupro == pytest.approx((0.1 + 0.5) / 2)  # seeds first, so that b counts as much as a
    assert first.low < 0.1 + 0.05 < 0.5 < first.high


def test_a_method_without_an_input_sees_the_photograph_and_ablations_are_left_out():
    rows = [row(name, 0, 0.5, "local_contrast", 0) for name in SIZES] + [
        row(name, 0, 0.5, "fbft_sum") for name in SIZES
    ]
    found = points(*rows)
    assert {one.method for one in found} == {"local_contrast"}
    assert found[0].patches == pytest.approx((2 / 8 * 8 / 8) ** 0.5)


def test_the_interval_holds_what_categories_and_images_leave_open():
    low, high = SCRIPT["interval_of_mean"](np.array([0.5]), np.array([0.1]))
    assert (low, high) == pytest.approx((0.5 - 0.196, 0.5 + 0.196), abs=0.01)  # 4,000 draws
    low, high = SCRIPT["interval_of_mean"](np.array([0.3, 0.7]), np.zeros(2))
    assert (low, high) == (0.3, 0.7)  # either category may be drawn twice


def test_a_method_that_lacks_a_category_is_refused():
    with pytest.raises(ResultError, match="fbft at 50 px lacks categories of synthetic"):
        points(row("synthetic/a", 0, 0.5))


def test_the_picture_shows_the_numbers_of_the_table():
    effect = SCRIPT["read_effect"](SCRIPT["RESULT"])
    board = SUMMARY.board("synthetic", 384).of("aupro_Q1@0.05")
    known = {one.method: one.value for one in board}
    shown = {
        one.method: one.aupro
        for one in effect.points
        if (one.dataset, one.quarter) == ("synthetic", 1) and one.resolution in (384, 0)
    }
    assert effect.protocol == SUMMARY.fingerprint
    assert shown == pytest.approx({name: known[name] for name in shown}, abs=2e-6)  # of six decimals each


def test_readme_says_what_the_result_says():
    effect, page = SCRIPT["read_effect"](SCRIPT["RESULT"]), (ROOT / "README.md").read_text()
    assert "docs/pictures/size_dark.png" in page
    assert SCRIPT["told"](effect) in page
