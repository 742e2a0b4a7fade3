import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from killed import killed_at_each_step
from random_category import random_pairs, random_samples
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.ranking import Tally
from tinydefects.results.result import (
    TABLE_SUFFIX,
    Result,
    describe_run,
    find_results,
    numbers_of,
    read_result,
    write_result,
)


@pytest.fixture
def result(tmp_path) -> Result:
    """One defective image and no good one: image AUROC is undefined, the rest is not."""
    mask = np.zeros((40, 50), dtype=bool)
    mask[10:13, 20:25] = True
    write_png(tmp_path / "image.png", np.full((40, 50, 3), 80, dtype=np.uint8))
    write_png(tmp_path / "mask.png", mask)
    sample = Sample(
        id="test/pit/0", image_path=tmp_path / "image.png", mask_paths=(tmp_path / "mask.png",), label="defect"
    )
    scores = np.random.default_rng(0).random((40, 50), dtype=np.float32) + mask.astype(np.float32)
    evaluation = evaluate([(sample, Prediction(scores, 1.5))], category="a/b")
    return Result(evaluation=evaluation, provenance=describe_run({"seed": 3}))


def test_a_result_comes_back_as_it_went(result, tmp_path):
    again = read_result(write_result(result, tmp_path / "a/b.json"))
    assert again.provenance == result.provenance
    np.testing.assert_equal(
        [asdict(defect) for defect in again.evaluation.defects],
        [asdict(defect) for defect in result.evaluation.defects],
    )
    assert again.evaluation.disjoint[0].curve == result.evaluation.disjoint[0].curve
    np.testing.assert_equal(numbers_of(again.evaluation), numbers_of(result.evaluation))
    for kept, cut in zip(again.evaluation.crops, result.evaluation.crops, strict=True):
        np.testing.assert_array_equal(kept.anomaly_map, cut.anomaly_map)
        np.testing.assert_array_equal(kept.mask, cut.mask)
        np.testing.assert_equal(asdict(kept.defect), asdict(cut.defect))


def test_undefined_is_null_in_strict_json(result, tmp_path):
    assert math.isnan(result.evaluation.image_auroc)
    path = write_result(result, tmp_path / "r.json")
    stored = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert stored["evaluation"]["image_auroc"] is None


def test_it_records_commit_machine_versions_and_seed(result):
    facts = result.provenance.facts()
    assert facts["seed"] == "3"
    assert "numpy" in facts["versions"]
    assert facts["commit"]
    assert facts["machine"]


def test_it_records_the_instructions_in_use_and_reads_results_that_do_not(result, tmp_path):
    assert result.provenance.facts()["instructions"].startswith("numpy ")
    path = write_result(result, tmp_path / "r.json")
    content = json.loads(path.read_text())
    del content["provenance"]["instructions"]  # as version 0.1.0 wrote it
    path.write_text(json.dumps(content))
    assert read_result(path).provenance == replace(result.provenance, instructions="")
    assert "instructions" not in read_result(path).provenance.facts()


def cut_json(path: Path) -> None:
    path.write_text(path.read_text()[:500])


def change_a_field(path: Path) -> None:
    path.write_text(path.read_text().replace('"n_images": 1', '"n_images": "many"', 1))


def lose_the_crops(path: Path) -> None:
    path.with_suffix(".npz").unlink()


def swap_the_crops(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), other=np.zeros(3))


def lose_the_tally(path: Path) -> None:
    path.with_suffix(".tally.npz").unlink()


def swap_the_tally(path: Path) -> None:
    np.savez(path.with_suffix(".tally.npz"), other=np.zeros(3))


DAMAGES = [cut_json, change_a_field, lose_the_crops, swap_the_crops, lose_the_tally, swap_the_tally]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_refused_by_name(result, tmp_path, damage):
    path = write_result(result, tmp_path / "r.json")
    damage(path)
    with pytest.raises(ResultError, match=r"r\.(json|npz|tally\.npz)"):
        read_result(path)


def test_results_are_found_below_a_folder_and_nothing_else(result, tmp_path):
    write_result(result, tmp_path / "results/a/b.json")
    (tmp_path / "results/notes.json").write_text("{}")
    assert find_results(tmp_path / "results") == [tmp_path / "results/a/b.json"]
    with pytest.raises(ResultError, match="no results here"):
        find_results(tmp_path / "empty")


def test_the_tally_comes_back_count_for_count(result, tmp_path):
    tally = result.evaluation.tally
    again = read_result(write_result(result, tmp_path / "r.json")).evaluation.tally
    for field in fields(Tally):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(tally, field.name), err_msg=field.name)


def test_intervals_come_back_with_the_numbers(tmp_path):
    evaluation = evaluate(random_pairs(random_samples(tmp_path)), n_resamples=50)
    path = write_result(Result(evaluation=evaluation, provenance=describe_run({})), tmp_path / "r.json")
    again = read_result(path).evaluation
    assert again.intervals["aupro_Q1@0.05"] == evaluation.intervals["aupro_Q1@0.05"]
    assert again.intervals.keys() == evaluation.intervals.keys()


def test_a_result_without_a_tally_leaves_no_old_tally_beside_it(result, tmp_path):
    path = write_result(result, tmp_path / "r.json")
    bare = replace(result, evaluation=replace(result.evaluation, tally=None))
    assert read_result(write_result(bare, path)).evaluation.tally is None
    assert not path.with_suffix(".tally.npz").exists()


def test_a_result_of_the_first_format_is_still_read(result, tmp_path):
    path = write_result(replace(result, evaluation=replace(result.evaluation, tally=None)), tmp_path / "r.json")
    stored = json.loads(path.read_text())
    del stored["tally_sha256"], stored["evaluation"]["intervals"], stored["evaluation"]["detectability"]
    stored["exhibits_sha256"] = stored.pop("crops_sha256")
    stored["evaluation"]["exhibits"] = stored["evaluation"].pop("crops")
    path.write_text(json.dumps({**stored, "format": 1}))
    assert read_result(path).evaluation.pixel_auroc == result.evaluation.pixel_auroc


def test_a_result_of_a_later_format_asks_for_a_newer_version(result, tmp_path):
    path = write_result(result, tmp_path / "r.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(ResultError, match=r"newer version .* update"):
        read_result(path)


def test_the_tally_keeps_counts_of_scores_and_nothing_of_where_they_lie(result, tmp_path):
    stored = np.load(write_result(result, tmp_path / "r.json").with_suffix(".tally.npz"))
    assert set(stored) == {field.name for field in fields(Tally)}
    n_images, n_defects, n_thresholds = 1, 1, stored["thresholds"].size
    no_saturations = {(0,), (0, n_thresholds)}
    shapes = {stored[name].shape for name in stored}
    counts = {(n_images,), (n_defects,), (n_thresholds,), (n_images, n_thresholds), (n_defects, n_thresholds)}
    assert shapes <= counts | no_saturations
    assert n_thresholds < 40 * 50 / 4


@pytest.mark.parametrize("suffix", [".npz", ".tally.npz"])
def test_a_sound_file_of_another_result_is_refused(result, tmp_path, suffix):
    path, tally = write_result(result, tmp_path / "r.json"), result.evaluation.tally
    evaluation = replace(result.evaluation, crops=(), tally=replace(tally, image_score=tally.image_score + 1))
    other = write_result(replace(result, evaluation=evaluation), tmp_path / "other.json")
    path.with_suffix(suffix).write_bytes(other.with_suffix(suffix).read_bytes())
    with pytest.raises(ResultError, match=r"does not belong to r\.json"):
        read_result(path)


@pytest.mark.slow
def test_a_kill_at_any_step_of_another_evaluation_leaves_the_old_result_or_the_new_one(result, tmp_path):
    old, path = replace(result, provenance=replace(result.provenance, machine="old")), tmp_path / "r/a.b.json"
    new = replace(result, evaluation=replace(result.evaluation, crops=(), tally=None, category="new"))
    write_result(old, path, with_table=True)
    seen = []
    for _ in killed_at_each_step(lambda: write_result(new, path)):
        assert find_results(tmp_path) == [path]
        found = read_result(path)
        is_new = found.evaluation.category == "new"
        assert (found.provenance.machine == "old") is not is_new
        assert (found.evaluation.tally is None) is is_new
        assert path.with_suffix(TABLE_SUFFIX).exists() is not is_new, "the table tells what the result tells"
        seen.append(is_new)
        write_result(old, path, with_table=True)
    assert seen == sorted(seen)
    assert set(seen) == {False, True}
    assert sorted(file.name for file in path.parent.iterdir() if file.name[0] != ".") == ["a.b.json", "a.b.npz"]


def test_tables_of_an_earlier_result_go_with_it(result, tmp_path):
    path = write_result(result, tmp_path / "r.json", with_table=True)
    path.with_suffix(".defects.parquet").write_bytes(b"PAR1, by 0.1.0")
    write_result(result, path)
    assert [file.name for file in tmp_path.iterdir() if "defects" in file.name] == []


def test_a_first_result_that_was_killed_before_it_was_moved_is_found(result, tmp_path):
    path = write_result(result, tmp_path / "r.json")
    ready = tmp_path / ".r.ready"
    ready.mkdir()
    for file in (path, path.with_suffix(".npz"), path.with_suffix(".tally.npz")):
        file.rename(ready / file.name)
    assert find_results(tmp_path) == [path]
    assert read_result(path).evaluation.tally is not None


def test_a_full_disk_leaves_the_earlier_result_and_its_table(result, tmp_path, monkeypatch):
    path = write_result(result, tmp_path / "r.json", with_table=True)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(TinyDefectsError, match=r"r\.json: cannot write \(No space left on device\)"):
        write_result(replace(result, run=None), path, with_table=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
