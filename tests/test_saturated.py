"""sPRO, the metric of MVTec LOCO: by hand, against a slow restatement, and from the files of the dataset."""

import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from command_line import run
from dataset_trees import draw, draw_loco
from reference import slow_spro
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction
from tinydefects.datasets.catalog import load_category
from tinydefects.datasets.mvtec import read_loco_defects
from tinydefects.errors import (
    DatasetError,
    MaskError,
    ResolutionMismatchError,
    ResultError,
    ScoreError,
    SettingsError,
)
from tinydefects.metrics import aupro
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import Interval
from tinydefects.metrics.saturated import SaturatedScores, au_spro
from tinydefects.metrics.scores import choose_metrics, metrics_of
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.metrics.statistics.comparison import compare
from tinydefects.metrics.statistics.resampling import Resampler
from tinydefects.metrics.statistics.uncertainty import n_trials, plan_of
from tinydefects.report.page import write_report
from tinydefects.results.attachments import pack_tally, unpack_tally
from tinydefects.results.recount import differences, interval_differences
from tinydefects.results.result import Result, describe_run, read_result, write_result

ROW = np.array([[True, True, True, True, False, False, False, False]])


def test_half_of_a_defect_is_all_of_it_where_half_saturates():
    # The two highest scores are of the defect, the next four normal, the last two the rest of the defect.
    anomaly_map = np.array([[9.0, 8.0, 1.0, 0.0, 7.0, 6.0, 5.0, 4.0]])
    assert au_spro([[(ROW, 2)]], [anomaly_map], fpr_limit=1.0) == 1.0
    assert au_spro([[(ROW, 4)]], [anomaly_map], fpr_limit=1.0) == 0.5
    assert au_spro([[(ROW, 3)]], [anomaly_map], fpr_limit=1.0) == pytest.approx(2 / 3, abs=1e-12)


def test_a_constant_map_rises_along_the_diagonal_whatever_saturates():
    assert au_spro([[(ROW, 1)]], [np.ones(ROW.shape)], fpr_limit=0.5) == pytest.approx(0.25, abs=1e-12)


def test_the_mean_is_over_defects_and_not_over_pixels_or_images():
    first, second = np.zeros((2, 8), dtype=bool), np.zeros((2, 8), dtype=bool)
    first[0, :6], second[1, 0] = True, True
    anomaly_map = np.where(second, 2.0, np.where(first, 0.0, 1.0))  # the small one is found, the large one missed
    assert au_spro([[(first, 6), (second, 1)]], [anomaly_map], fpr_limit=0.5) == 0.5


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_every_threshold_in_turn_gives(seed):
    noise = np.random.default_rng(seed)
    defects, maps = [], []
    for n_defects in (0, 1, 3, 2):
        shape = tuple(noise.integers(3, 7, 2))
        maps.append(noise.integers(0, 6, shape).astype(np.float32))  # many ties
        found = []
        for _ in range(n_defects):  # they may overlap, fall apart, and be one pixel
            mask = noise.random(shape) < noise.choice([0.05, 0.3])
            mask[0, 0] = True
            found.append((mask, int(noise.integers(1, np.count_nonzero(mask) + 1))))
        defects.append(found)
    for limit in (0.05, 0.3, 1.0):
        assert au_spro(defects, maps, fpr_limit=limit) == pytest.approx(
            slow_spro.au_spro(defects, maps, limit), abs=1e-12
        )


def test_with_every_area_as_saturation_it_is_aupro():
    noise = np.random.default_rng(0)
    masks = np.zeros((3, 9, 9), dtype=bool)
    masks[0, 1:4, 1:4] = masks[1, 6:8, 2] = True
    maps = noise.random(masks.shape)
    defects = [[(mask, mask.sum())] if mask.any() else [] for mask in masks]
    assert au_spro(defects, maps, fpr_limit=0.3) == pytest.approx(aupro(masks, maps, fpr_limit=0.3), abs=1e-12)


def test_a_saturation_beyond_the_area_is_the_area():
    anomaly_map = np.random.default_rng(1).random(ROW.shape)
    assert au_spro([[(ROW, 99)]], [anomaly_map]) == au_spro([[(ROW, 4)]], [anomaly_map])


def test_without_defects_or_without_normal_pixels_it_is_undefined():
    assert math.isnan(au_spro([[], []], [np.ones((2, 2)), np.ones((2, 2))]))
    assert math.isnan(au_spro([[(np.ones((2, 2)), 1)]], [np.ones((2, 2))]))


@pytest.mark.parametrize(
    ("defects", "maps", "refused", "complaint"),
    [
        ([[(ROW, 0)]], [np.ones(ROW.shape)], MaskError, r"defects\[0\]: a defect of 4 pixels with saturation 0"),
        ([[(ROW, math.nan)]], [np.ones(ROW.shape)], MaskError, r"saturation nan; both are at least 1"),
        ([[(ROW & False, 2)]], [np.ones(ROW.shape)], MaskError, r"defects\[0\]: a defect of 0 pixels"),
        ([[(ROW, 2)]], [np.ones((2, 8))], ResolutionMismatchError, r"maps\[0\]: is \(2, 8\), the mask .*\(1, 8\)"),
        ([[], [(ROW, 2)]], [np.ones((1, 8)), np.full((1, 8), np.nan)], ScoreError, r"maps\[1\]: .* nan or infinity"),
        ([[]], [np.ones((1, 8)), np.ones((1, 8))], DatasetError, r"image 1: has no list of defects"),
        ([[], []], [np.ones((1, 8))], DatasetError, r"image 1: has no map"),
    ],
)
def test_what_cannot_be_scored_is_named_by_its_place(defects, maps, refused, complaint):
    with pytest.raises(refused, match=complaint):
        au_spro(defects, maps)


@pytest.mark.parametrize("limit", [0, -0.1, 1.5, math.nan])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(SettingsError, match="fpr_limit="):
        au_spro([[]], [np.ones((2, 2))], fpr_limit=limit)


@pytest.fixture
def loco(tmp_path):
    """One image with two defects, 5 and 6 pixels large, of which 3 and 2 are all."""
    return draw_loco(tmp_path / "mvtec_loco" / "pushpins")


def test_saturations_are_those_of_the_dataset_rounded_down_and_no_larger_than_the_defect(loco):
    sample = load_category("mvtec_loco/pushpins", root=loco.parents[1]).test[-1]
    assert [(int(mask.sum()), saturation) for mask, saturation in read_loco_defects(sample)] == [(5, 3), (6, 2)]
    write_png(loco / "ground_truth/logical_anomalies/0/000.png", np.full((4, 6), 253, dtype=np.uint8))
    assert read_loco_defects(sample)[0][1] == 24
    good = load_category("mvtec_loco/pushpins", root=loco.parents[1]).test[0]
    assert read_loco_defects(good) == []


def loco_pairs(part, seed=0):
    """Every test image with a map of a few distinct scores; a good and a defective image more than `loco` has."""
    draw(part / "test/good/1.png", size=(4, 6))
    draw(part / "test/structural_anomalies/1.png", size=(4, 6))
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[3, 1:5] = 254
    (part / "ground_truth/structural_anomalies/1").mkdir(parents=True)
    write_png(part / "ground_truth/structural_anomalies/1/000.png", pixels)
    random = np.random.default_rng(seed)
    category = load_category("mvtec_loco/pushpins", root=part.parents[1])
    maps = [random.integers(0, 6, (4, 6)).astype(np.float32) + sample.mask() for sample in category.test]
    return [(sample, Prediction(one, float(one.max()))) for sample, one in zip(category.test, maps, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_evaluate_scores_the_dataset_as_the_function_and_the_restatement_do(loco, seed):
    pairs = loco_pairs(loco, seed)
    evaluation = evaluate(pairs, n_resamples=0, fpr_limits=(1.0, 0.3))
    defects, maps = [read_loco_defects(sample) for sample, _ in pairs], [one.anomaly_map for _, one in pairs]
    assert evaluation.n_saturated == sum(map(len, defects)) == 3
    for place, limit in enumerate((1.0, 0.3)):
        value = evaluation.spro["spro"][place]
        assert value == pytest.approx(au_spro(defects, maps, fpr_limit=limit), abs=1e-12)
        assert value == pytest.approx(slow_spro.au_spro(defects, maps, limit), abs=1e-12)
    values = metrics_of(evaluation)
    assert values["spro@1"] == evaluation.spro["spro"][0]
    of_types = [values[f"spro_{kind}@0.3"] for kind in ("logical_anomalies", "structural_anomalies")]
    assert (2 * of_types[0] + of_types[1]) / 3 == pytest.approx(values["spro@0.3"], abs=1e-12)
    assert values["spro@0.3"] != pytest.approx(values["aupro@0.3"], abs=1e-3)


def test_no_more_scores_of_a_defect_are_kept_than_saturate_it():
    kept = SaturatedScores()
    kept.add([(np.ones((30, 40)), 2.5)], np.arange(1200, dtype=np.float32).reshape(30, 40), "a", 0)
    kept.add([(ROW, 99)], np.ones(ROW.shape, dtype=np.float32), "c", 3)
    assert [one.tolist() for one in kept.scores] == [[1199, 1198, 1197], [1] * 4]
    assert [one.tolist() for one in kept.weights] == [pytest.approx([0.4, 0.4, 0.2]), [0.25] * 4]
    assert kept.scores[0].base is None  # not a view that holds the whole defect
    assert (kept.image, kept.saturation_px) == ([0, 3], [2.5, 4])
    assert kept.at_least(np.array([1198, 1], dtype=np.float32)).tolist() == [[2, 3], [0, 4]]


def test_under_weights_an_image_counts_with_its_defects_as_often_as_it_is_drawn(loco):
    pairs = loco_pairs(loco)
    evaluation = evaluate(pairs, n_resamples=0, fpr_limits=(1.0, 0.3))
    n_times = [2, 1, 3, 1]
    again = [pair for pair, n in zip(pairs, n_times, strict=True) for _ in range(n)]
    defects, maps = [read_loco_defects(sample) for sample, _ in again], [one.anomaly_map for _, one in again]
    drawn = Resampler(evaluation.tally, plan_of(evaluation)).under(np.array([n_times], dtype=np.float64), ["spro@1"])
    assert set(drawn) == {name for name in metrics_of(evaluation) if name.startswith("spro")}
    for limit in (1.0, 0.3):
        assert drawn[f"spro@{limit:g}"][0] == pytest.approx(slow_spro.au_spro(defects, maps, limit), abs=2e-3)


def test_images_behind_each_overlap_are_counted_in_one_pass_over_the_defects(loco, monkeypatch):
    evaluation = evaluate(loco_pairs(loco), n_resamples=0, fpr_limits=(1.0, 0.3))
    calls, known = [], Tally.outlined_by_name
    monkeypatch.setattr(Tally, "outlined_by_name", lambda tally: calls.append(tally) or known(tally))
    names = [name for name in metrics_of(evaluation) if name.startswith("spro")]
    trials = n_trials(names, evaluation.tally, plan_of(evaluation))
    n_images = {"spro": 2, "spro_logical_anomalies": 1, "spro_structural_anomalies": 1}
    assert trials == {f"{name}@{limit}": n for name, n in n_images.items() for limit in ("1", "0.3")}
    assert len(calls) == 1


@pytest.mark.slow
def test_what_evaluate_says_of_saturated_defects_is_stored_and_printed(loco, tmp_path):
    evaluation = evaluate(loco_pairs(loco), n_resamples=20)
    assert set(evaluation.intervals) >= {"spro@0.3", "spro_logical_anomalies@0.05"}
    stored = read_result(write_result(Result(evaluation=evaluation, provenance=describe_run({})), tmp_path / "a.json"))
    assert (stored.evaluation.spro, stored.evaluation.n_saturated) == (evaluation.spro, 3)
    assert differences(stored.evaluation) == []
    assert interval_differences(stored.evaluation, n_resamples=20, seed=0) == []
    edited = replace(stored.evaluation, spro={**evaluation.spro, "spro": (1.0, *evaluation.spro["spro"][1:])})
    assert [one.place for one in differences(edited)] == ["spro.spro[0]"]
    lines = [line for line in str(evaluation).splitlines() if line.startswith(("spro", "logical", "structural"))]
    assert [float(line.split()[1]) for line in lines[-3:]] == pytest.approx(
        [evaluation.spro[name][0] for name in ("spro", "spro_logical_anomalies", "spro_structural_anomalies")],
        abs=5e-5,
    )
    page = write_report(tmp_path / "a.json", tmp_path / "a.html").read_text(encoding="utf-8")
    assert f">{evaluation.spro['spro'][0]:.3f}</td>" in page
    assert "sPRO, 3 defects as outlined" in page


def test_the_command_gives_it_from_maps_on_disk(loco, tmp_path, monkeypatch, capsys):
    pairs = loco_pairs(loco)
    for sample, prediction in pairs:
        path = tmp_path / "maps/pushpins" / f"{sample.id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, prediction.anomaly_map)
    asked = ("evaluate", tmp_path / "maps", "mvtec_loco/pushpins", "--root", loco.parents[1], "--out", tmp_path / "out")
    code, out, err = run(monkeypatch, capsys, *asked, "--image-score", "max", "--crops", "0")
    assert code == 0, err
    defects, maps = [read_loco_defects(sample) for sample, _ in pairs], [one.anomaly_map for _, one in pairs]
    told = next(line for line in out.splitlines() if line.startswith("spro"))
    assert float(told.split()[1]) == pytest.approx(slow_spro.au_spro(defects, maps, 0.3), abs=5e-5)


def test_without_saturations_all_else_is_scored_and_a_remark_says_what_is_missing(loco):
    (loco / "defects_config.json").unlink()
    category = load_category("mvtec_loco/pushpins", root=loco.parents[1])
    assert category.remarks == ("no defects_config.json, so that sPRO is left out",)
    blank = Prediction(np.arange(24, dtype=np.float32).reshape(4, 6), 0.0)
    evaluation = evaluate([(sample, blank) for sample in category.test], n_resamples=0)
    assert (evaluation.n_saturated, evaluation.spro, evaluation.overall.n_defects) == (0, {}, 1)
    assert not [name for name in metrics_of(evaluation) if "spro" in name]


@pytest.mark.parametrize(
    ("spoil", "refused", "complaint"),
    [
        (lambda part: (part / "defects_config.json").unlink(), DatasetError, r"defects_config\.json: not a readable"),
        (
            lambda part: (part / "defects_config.json").write_text('[{"pixel_value": 255}]'),
            DatasetError,
            r"field '0\.saturation_threshold': Field required",
        ),
        (
            lambda part: draw(part / "ground_truth/logical_anomalies/0/000.png", spot=(0, 0), value=7),
            DatasetError,
            r"000\.png: holds 7, which .*defects_config\.json does not know",
        ),
        (
            lambda part: draw(part / "ground_truth/logical_anomalies/0/000.png"),
            MaskError,
            r"000\.png: holds nothing beside 0, expected one value",
        ),
        (
            lambda part: draw(part / "ground_truth/logical_anomalies/0/000.png", size=(9, 9), spot=(0, 0)),
            ResolutionMismatchError,
            r"000\.png: the mask is \(9, 9\) but its image is \(4, 6\)",
        ),
    ],
)
def test_what_is_wrong_with_the_files_is_one_line(loco, spoil, refused, complaint):
    sample = load_category("mvtec_loco/pushpins", root=loco.parents[1]).test[-1]
    spoil(loco)
    with pytest.raises(refused, match=complaint):
        read_loco_defects(sample)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda spro: {**spro, "spro_missing_cable": (0.99, 0.9)}, "spro.spro_missing_cable"),
        (lambda spro: {name: own for name, own in spro.items() if name == "spro"}, "spro.spro_logical_anomalies"),
        (lambda spro: {**spro, "spro": spro["spro"][:1]}, "the length of spro.spro"),
        (lambda spro: {**spro, "spro": (*spro["spro"], 0.5)}, "the length of spro.spro"),
    ],
    ids=["a type that is not there", "a type left out", "a limit left out", "a limit too many"],
)
def test_saturated_overlap_of_other_names_or_limits_than_the_tally_has_is_found(loco, change, place):
    evaluation = evaluate(loco_pairs(loco), n_resamples=0, fpr_limits=(1.0, 0.3))
    assert differences(evaluation) == []
    found = [one.place for one in differences(replace(evaluation, spro=change(evaluation.spro)))]
    assert place in found


def test_saturated_overlap_that_was_made_up_is_found(loco):
    (loco / "defects_config.json").unlink()
    evaluation = evaluate(loco_pairs(loco), n_resamples=0, fpr_limits=(0.3,))
    assert [one.place for one in differences(replace(evaluation, spro={"spro": (0.99,)}))] == ["spro.spro"]


def test_other_saturations_of_the_same_masks_are_not_compared(loco):
    pairs = loco_pairs(loco)
    one = evaluate(pairs, n_resamples=0)
    tally = replace(one.tally, saturation_px=one.tally.saturation_px - np.array([1.0, 0, 0]))
    with pytest.raises(ResultError, match=r"or saturations of 1 images \(test/logical_anomalies/0\)"):
        compare({"a": one, "b": replace(one, tally=tally)}, names=["aupro@0.3"])


@pytest.mark.parametrize("first", ["old", "new"])
def test_beside_a_result_without_saturations_the_metric_is_undefined(loco, first):
    pairs = loco_pairs(loco)
    results = {"new": evaluate(pairs, n_resamples=0)}
    (loco / "defects_config.json").unlink()
    category = load_category("mvtec_loco/pushpins", root=loco.parents[1])
    maps = [one for _, one in pairs]
    results["old"] = evaluate(zip(category.test, maps, strict=True), n_resamples=0)
    ordered = {name: results[name] for name in (first, *results.keys() - {first})}
    found = {one.metric: one for one in compare(ordered, names=["spro@0.3", "aupro@0.3"], n_resamples=20)}
    assert found["spro@0.3"].verdict == "undefined"
    assert found["aupro@0.3"].difference == 0


def test_its_intervals_are_printed_and_a_notebook_shows_it(loco):
    evaluation = evaluate(loco_pairs(loco), n_resamples=20)
    known = replace(evaluation, intervals={**evaluation.intervals, "spro@0.3": Interval(low=0.123, high=0.987)})
    lines = str(known).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("spro"))
    assert lines[place + 1].split()[0] == "0.123-0.987"
    page = known._repr_html_()
    assert all(f">{name}</th>" in page for name in ("spro", "spro logical_anomalies", "spro structural_anomalies"))
    assert "0.123-0.987" in page


def test_without_a_limit_its_name_stands_for_all_limits(loco):
    evaluation = evaluate(loco_pairs(loco), n_resamples=0, fpr_limits=(1.0, 0.3))
    assert choose_metrics([evaluation], "spro") == ["spro@1", "spro@0.3"]
    assert choose_metrics([evaluation], "spro_logical_anomalies, spro@30%") == [
        *("spro_logical_anomalies@1", "spro_logical_anomalies@0.3", "spro@0.3")
    ]


def test_many_limits_take_no_more_memory_than_one():
    kept, scores = SaturatedScores(), np.random.default_rng(0).random((400, 500), dtype=np.float32)
    kept.add([(np.ones(scores.shape, dtype=bool), scores.size)], scores, "a", 0)
    peaks = []
    with ScoreSpool() as normal_scores:
        normal_scores.add(scores.ravel())
        for limits in ((0.3,), (0.3, 0.2, 0.1, 0.05, 0.02, 0.01)):
            tracemalloc.start()
            kept.au_spro(normal_scores, limits)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda arrays: arrays.pop("image_of_outlined"), "lacks image_of_outlined"),
        (lambda arrays: arrays.update(saturation_px=arrays["saturation_px"] * 0), "saturations below one pixel"),
        (lambda arrays: arrays.update(saturation_px=arrays["saturation_px"] * np.nan), "saturations below one pixel"),
        (lambda arrays: arrays.update(image_of_outlined=arrays["image_of_outlined"] + 9), "that it does not have"),
    ],
)
def test_saturations_of_a_tally_that_are_none_are_refused(loco, tmp_path, change, complaint):
    packed = tmp_path / "tally.npz"
    packed.write_bytes(pack_tally(evaluate(loco_pairs(loco), n_resamples=0).tally))
    with np.load(packed) as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez(packed, **arrays)
    with pytest.raises(ValueError, match=complaint):
        unpack_tally(packed.read_bytes())


def test_a_value_with_two_saturations_is_refused_when_the_category_is_loaded(loco):
    config = loco / "defects_config.json"
    config.write_text(config.read_text().replace("254", "255"))
    with pytest.raises(DatasetError, match=r"defects_config\.json: gives 255 two saturations"):
        load_category("mvtec_loco/pushpins", root=loco.parents[1])


def test_saturations_that_are_none_show_when_the_category_is_loaded(loco):
    (loco / "defects_config.json").write_text('[{"pixel_value": 255}]')
    with pytest.raises(DatasetError, match=r"field '0\.saturation_threshold': Field required"):
        load_category("mvtec_loco/pushpins", root=loco.parents[1])
