"""Defective images that nobody outlined count as images; their pixels are neither defect nor normal."""

import json
import math
from functools import partial

import numpy as np
import pytest

import command_line
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.statistics.comparison import compare, describe
from tinydefects.report.page import write_report
from tinydefects.results.result import read_result

IMAGE_FIGURES = ("image_auroc", "image_average_precision", "image_best_f1", "image_fpr_at_95_tpr")


def pairs(folder, *, outlined=(), n_good=4, kinds=("dent", "dent", "scratch")):
    """Good images that score below 1 and defective ones with a spot of 3; `outlined` by number."""
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(n_good + len(kinds)):
        is_good = number < n_good
        kind = "good" if is_good else kinds[number - n_good]
        scores, mask = random.random((20, 30)).astype(np.float32), np.zeros((20, 30), bool)
        if not is_good:
            mask[5:8, 9:12] = True
            scores[mask] += 2
        image, outline = folder / f"{number}.png", folder / f"{number}_mask.png"
        write_png(image, np.full(mask.shape, 90, np.uint8))
        write_png(outline, mask)
        has_mask = number - n_good in outlined and not is_good
        sample = Sample(
            id=f"test/{kind}/{number:03d}",
            image_path=image,
            label="good" if is_good else "defect",
            mask_paths=(outline,) if has_mask else (),
        )
        yield sample, Prediction(scores, float(scores.max()))


def test_image_figures_are_those_of_outlined_images_and_pixel_figures_are_undefined(tmp_path):
    found, known = (evaluate(pairs(tmp_path, outlined=which), n_resamples=50) for which in ((), (0, 1, 2)))
    for name in IMAGE_FIGURES:
        assert getattr(found, name) == getattr(known, name), name
        np.testing.assert_equal(found.intervals[name], known.intervals[name])
    assert (found.n_unmarked_images, found.n_defect_pixels, found.n_normal_pixels) == (3, 0, 4 * 600)
    assert np.isnan([found.pixel_auroc, found.pixel_average_precision, found.aupimo, *found.rho]).all()
    assert math.isnan(found.detectability.fit.a90_px)
    by_type = {group.name: (group.n_defects, group.n_images, group.image_auroc) for group in found.by_type}
    assert by_type == {"dent": (0, 2, 1.0), "scratch": (0, 1, 1.0)}
    assert found.intervals["image_auroc_dent"].low == pytest.approx(math.sqrt(0.025))


def test_it_is_said_once_in_print(tmp_path):
    text = str(evaluate(pairs(tmp_path), category="folder/parts", n_resamples=20))
    assert text.count("outlined") == 1
    assert "none of 3 defective images is outlined: AUPRO, rho, pixel AUROC, AUPIMO and sizes are undefined" in text
    assert "nan" not in text
    assert "scratch: image AUROC 1.0000, 1 images" in text


def test_some_outlines_missing_leave_the_others_as_they_were(tmp_path):
    some = evaluate(pairs(tmp_path, outlined=(0, 2)), n_resamples=0)
    assert (some.n_unmarked_images, some.overall.n_defects, some.overall.aupro[0]) == (1, 2, 1.0)
    assert some.n_normal_pixels == 4 * 600 + 2 * 591
    assert "caution: 1 defective images mark no pixel; their pixels are left out" in str(some)


@pytest.mark.slow
def test_the_page_shows_image_figures_and_nothing_that_is_not_there(tmp_path):
    page = write_report([evaluate(pairs(tmp_path), n_resamples=20)], tmp_path / "a.html").read_text()
    assert "None of 3 defective images is outlined; image AUROC 1.000." in page
    assert "there is nothing to find" not in page
    for absent in ("Probability of detection</h3>", "Scores by defect size</h3>", "<svg", "0 of 0</dd>"):
        assert absent not in page, absent
    one = write_report([evaluate(pairs(tmp_path, kinds=("dent",)), n_resamples=0)], tmp_path / "a.html").read_text()
    assert "The only defective image is not outlined" in one


def test_methods_are_compared_by_their_image_figures(tmp_path):
    evaluations = {name: evaluate(pairs(tmp_path), n_resamples=0) for name in "ab"}
    comparisons = compare(evaluations, n_resamples=100)
    assert [one.metric for one in comparisons if one.verdict != "undefined"] == ["image_auroc"]
    text = describe(comparisons)
    assert "undefined for both: aupro@0.3, aupro@0.1" in text
    assert "p is corrected for 1 comparisons" in text


@pytest.mark.slow
def test_the_commands_take_a_category_without_outlines(tmp_path, monkeypatch, capsys):
    run = partial(command_line.run, monkeypatch, capsys)
    monkeypatch.chdir(tmp_path)
    for sample, prediction in pairs(tmp_path / "drawn"):
        kind, stem = sample.id.split("/")[1:]
        (tmp_path / f"data/parts/test/{kind}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"data/parts/train/{kind}").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"maps/test/{kind}").mkdir(parents=True, exist_ok=True)
        picture = sample.image_path.read_bytes()
        (tmp_path / f"data/parts/test/{kind}/{stem}.png").write_bytes(picture)
        if kind == "good":
            (tmp_path / f"data/parts/train/good/{stem}.png").write_bytes(picture)
        np.save(tmp_path / f"maps/test/{kind}/{stem}.npy", prediction.anomaly_map)
    (tmp_path / "data/parts/train/dent").rmdir()
    (tmp_path / "data/parts/train/scratch").rmdir()
    evaluated = ["evaluate", "maps", "folder/parts", "--bins", "diameter_px:2,5", "--resamples", 20]
    code, out, err = run(*evaluated)
    assert (code, "none of 3 defective images is outlined" in out) == (0, True), err
    code, out, err = run(*evaluated, "--out", "again", "--json")
    numbers = json.loads(out)
    assert (numbers["image_auroc"], numbers["pixel_auroc"], numbers["n_unmarked_images"]) == (1.0, None, 3)
    assert read_result(tmp_path / "results/folder/parts.json").evaluation.n_unmarked_images == 3
    assert run("report", "results")[0] == 0
    assert run("compare", "results/folder/parts.json", "again/folder/parts.json", "--resamples", 100)[0] == 0
    code, out, err = run("inspect", "folder/parts")
    assert (code, "no defect is outlined in 3 defective images" in out) == (0, True), err
    code, out, err = run("audit", "maps", "folder/parts")
    assert (code, "no defective image is outlined" in err) == (0, True), err
