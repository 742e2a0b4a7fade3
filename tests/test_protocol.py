import json
import math
from pathlib import Path

import numpy as np
import pytest

from tinydefects.benchmark.protocol import Result, describe_run, find_results, numbers_of, read_result, write_result
from tinydefects.errors import ResultError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.pixels import write_png
from tinydefects.sample import Prediction, Sample


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
    assert again.evaluation.defects == result.evaluation.defects
    assert again.evaluation.disjoint[0].curve == result.evaluation.disjoint[0].curve
    np.testing.assert_equal(numbers_of(again.evaluation), numbers_of(result.evaluation))
    for kept, cut in zip(again.evaluation.exhibits, result.evaluation.exhibits, strict=True):
        np.testing.assert_array_equal(kept.anomaly_map, cut.anomaly_map)
        np.testing.assert_array_equal(kept.mask, cut.mask)
        assert kept.defect == cut.defect


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


def cut_json(path: Path) -> None:
    path.write_text(path.read_text()[:500])


def change_a_field(path: Path) -> None:
    path.write_text(path.read_text().replace('"n_images": 1', '"n_images": "many"', 1))


def lose_the_exhibits(path: Path) -> None:
    path.with_suffix(".npz").unlink()


def swap_the_exhibits(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), other=np.zeros(3))


@pytest.mark.parametrize("damage", [cut_json, change_a_field, lose_the_exhibits, swap_the_exhibits])
def test_a_damaged_result_is_refused_by_name(result, tmp_path, damage):
    path = write_result(result, tmp_path / "r.json")
    damage(path)
    with pytest.raises(ResultError, match=r"r\.(json|npz)"):
        read_result(path)


def test_results_are_found_below_a_folder_and_nothing_else(result, tmp_path):
    write_result(result, tmp_path / "results/a/b.json")
    (tmp_path / "results/notes.json").write_text("{}")
    assert find_results(tmp_path / "results") == [tmp_path / "results/a/b.json"]
    with pytest.raises(ResultError, match="no results here"):
        find_results(tmp_path / "empty")
