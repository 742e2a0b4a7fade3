"""The figure of how small and how faint: what stands in its cells, when it is shown, and that pages hold it."""

import re
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from report_factory import make_realistic_evaluation, write_benchmark
from tinydefects.benchmark.board import MethodAt
from tinydefects.metrics.pod_surface import PodSurface
from tinydefects.report.boards import _surfaces
from tinydefects.report.page import write_report
from tinydefects.report.surface_figure import cells_of, surface_of, surface_svg
from tinydefects.results.result import read_result, write_result

HEADING = "How small and how faint"


def with_contrasts(evaluation, contrasts):
    pairs = zip(evaluation.defects, contrasts, strict=True)
    return replace(evaluation, defects=tuple(replace(defect, contrast=float(one)) for defect, one in pairs))


@pytest.fixture(scope="module")
def evaluation():
    plain = make_realistic_evaluation(n_defects=80, n_crops=0)
    return with_contrasts(plain, np.exp(np.random.default_rng(0).normal(1, 0.8, 80)))


def test_cells_are_octaves_with_what_is_found_in_them():
    surface = PodSurface(
        np.array([1.0, 1.9, 2.0, 2.0, 9.0]),
        np.array([0.5, 0.9, 1.0, 1.0, 0.0]),  # 0 counts as 0.1, which lies between 1/16 and 1/8
        np.array([True, False, True, True, False]),
    )
    assert cells_of(surface) == {(0, -1): (1, 2), (1, 0): (2, 2), (3, -4): (0, 1)}


def test_it_takes_its_colours_from_the_page_and_counts_every_defect_once(evaluation):
    surface = surface_of([evaluation])
    svg = surface_svg({"one": surface, "two": surface}, "key", "what")
    assert "var(--ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}", svg)
    assert all(name.startswith("key-") for name in re.findall(r'id="([^"]*)"', svg))
    counts = re.findall(r">(\d+)/(\d+)<", svg)
    assert sum(int(count) for _, count in counts) == 2 * 80
    assert sum(int(found) for found, _ in counts) == 2 * sum(evaluation.detectability.hits)


def test_the_same_defects_give_the_same_picture(evaluation):
    first, second = (surface_svg({"": surface_of([evaluation])}, "key", "what") for _ in range(2))
    assert first == second


def test_without_contrasts_or_sizes_there_is_none(evaluation):
    assert surface_of([make_realistic_evaluation(n_defects=80, n_crops=0)]) is None
    assert surface_of([with_contrasts(evaluation, np.full(80, 5.0))]) is None
    assert surface_of([]) is None
    assert surface_svg({}, "key", "what") == ""


def test_what_cannot_be_fitted_is_shown_without_lines_and_says_why(evaluation):
    every = replace(evaluation, detectability=replace(evaluation.detectability, hits=(True,) * 80))
    svg = surface_svg({"": surface_of([every])}, "key", "what")
    assert "all of 80 defects detected" in svg
    assert len(re.findall(r">(\d+)/\1<", svg)) == len(cells_of(surface_of([every])))


def test_a_table_of_two_families_tells_their_rows_apart_everywhere():
    script = runpy.run_path(str(Path(__file__).resolve().parents[1] / "runs" / "surface_tables.py"))
    facts = {"created": "2000-01-01T00:00:00", "commit": "abc", "machine": "one"}
    rows = [
        {"family": family, "method": "fbft", "n_alarming_images": number, "n_good_images": 40, "rate": 0.05,
         "provenance": facts, "fit": {"remarks": [f"remark {number}"]}}
        for number, family in enumerate(["granite", "leather"])
    ]  # fmt: skip
    assert script["names_of"](rows) == ["granite, fbft", "leather, fbft"]
    assert script["names_of"](rows[:1]) == ["fbft"]
    said = script["measured_source"](rows)
    assert (
        "0 of 40 (granite, fbft), 1 of 40 (leather, fbft). granite, fbft: remark 0; leather, fbft: remark 1. " in said
    )


@pytest.mark.slow
def test_a_page_has_it_where_sizes_and_contrasts_differ_and_not_elsewhere(evaluation, tmp_path):
    page = write_report([evaluation], tmp_path / "with.html").read_text()
    assert page.count(HEADING) == 1
    faint = with_contrasts(evaluation, [0.0, *(defect.contrast for defect in evaluation.defects[1:])])
    assert "1 of a contrast below 0.1 counted as 0.1." in write_report([faint], tmp_path / "faint.html").read_text()
    plain = write_report([make_realistic_evaluation(n_defects=80, n_crops=0)], tmp_path / "without.html")
    assert HEADING not in plain.read_text()


@pytest.mark.slow
def test_the_page_of_a_benchmark_sets_methods_side_by_side_once(tmp_path):
    folder = write_benchmark(tmp_path / "results", {("strong", 64): 3.0, ("weak", 64): 0.5}, seeds=(0,), n_crops=0)
    for path in folder.rglob("seed_0.json"):
        result = read_result(path)
        contrasts = np.exp(np.random.default_rng(0).normal(1, 0.8, len(result.evaluation.defects)))
        write_result(replace(result, evaluation=with_contrasts(result.evaluation, contrasts)), path)
    page = write_report(folder, tmp_path / "report.html").read_text()
    assert page.count(f"<h3>{HEADING}, all 2 categories</h3>") == 1
    (figure,) = re.findall(r'aria-label="Detection by size and contrast, all 2 categories".*?</svg>', page, re.DOTALL)
    assert len(re.findall(r">(?:strong|weak) 64<", figure)) == 2
    assert re.search(r" (?:strong|weak) 64: \d+ defects; the handbook asks for 60 for size alone\.", page)


def test_names_that_look_alike_when_cut_have_a_panel_each(evaluation):
    results = [SimpleNamespace(evaluation=evaluation)]
    names = [f"patchcore:coreset=0.01:neighbourhood={number}" for number in (1, 3)]
    svg, _ = _surfaces({MethodAt(name=name, resolution=384): results for name in names}, "key", "drawn")
    assert all(f"neighbourhood={number}"[-6:] in svg for number in (1, 3))
    assert sum(int(count) for _, count in re.findall(r">(\d+)/(\d+)<", svg)) == 2 * 80
