"""EvaluationMetric says what `evaluate_arrays` says, and behaves as a metric of torchmetrics does."""
# ruff: noqa: E402 - torchmetrics may be missing, and imports torchvision, which `load_timm` repairs

import copy
import importlib
import importlib.util
import pickle
import re
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

if importlib.util.find_spec("torchmetrics") is None:
    pytest.skip("torchmetrics is not installed", allow_module_level=True)

from tinydefects.detector.networks import load_timm

load_timm()

from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAUROC

from tinydefects.errors import MaskError, MissingExtraError, ScoreError, TinyDefectsError
from tinydefects.metrics import evaluate_arrays
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.torch_metric import EvaluationMetric

PAGE = Path(__file__).resolve().parents[1] / "docs" / "arrays.md"


def batches(seed=0, *, n_batches=3, size=(12, 15)):
    """Pairs of maps (4, 1, H, W) float32 and masks (4, 1, H, W) uint8: two good images and two defective ones each."""
    random = torch.Generator().manual_seed(seed)
    for number in range(n_batches):
        masks = torch.zeros(4, 1, *size, dtype=torch.uint8)
        masks[2, 0, 2 : 3 + number, 3:5] = 1
        masks[3, 0, 7, 8 : 10 + number] = 1
        yield torch.rand(4, 1, *size, generator=random) + 0.5 * masks, masks


def joined(pairs):
    pairs = list(pairs)
    return [mask for _, masks in pairs for mask in masks], [scores for maps, _ in pairs for scores in maps]


def assert_says(numbers, pairs, **given):
    masks, maps = joined(pairs)
    expected = metrics_of(evaluate_arrays(masks, maps, n_resamples=0, **given))
    for name, value in numbers.items():
        assert value.shape == ()
        assert float(value) == pytest.approx(expected[name], abs=1e-6, nan_ok=True), name


def test_batches_say_what_all_images_say_at_once():
    metric = EvaluationMetric()
    for maps, masks in batches():
        metric.update(maps, masks)
    numbers = metric.compute()
    assert list(numbers) == [
        *(f"{name}@{limit}" for name in ("aupro", "aupro_Q1", "rho") for limit in (0.3, 0.1, 0.05, 0.01)),
        *("pixel_auroc", "pixel_average_precision", "aupimo", "image_auroc", "image_average_precision"),
    ]
    assert_says(numbers, batches())
    assert 0.3 < numbers["aupro@0.3"] < 0.9


def test_it_stands_in_a_collection_beside_others():
    collection = MetricCollection(
        {"all": EvaluationMetric(), "one": EvaluationMetric(only="aupro@0.1"), "theirs": BinaryAUROC()}, prefix="val_"
    )
    for maps, masks in batches():
        collection.update(maps / 2, masks)
    numbers = collection.compute()
    assert_says({"aupro@0.1": numbers["val_one"], "pixel_auroc": numbers["val_theirs"]}, batches())
    assert_says({"pixel_auroc": numbers["val_pixel_auroc"]}, batches())
    collection.reset()
    (batch,) = batches(5, n_batches=1)
    collection.update(batch[0] / 2, batch[1])
    assert_says({"aupro@0.1": collection.compute()["val_one"]}, [batch])


def test_lists_of_images_of_any_sizes_scores_and_images_without_mask():
    (maps, masks), (wide_maps, wide_masks) = *batches(n_batches=1), *batches(1, n_batches=1, size=(11, 30))
    metric, scores = EvaluationMetric(), torch.linspace(0, 1, 8)
    metric.update([*maps], [None, None, *masks[2:]], scores[:4])
    metric.update([one[0] for one in wide_maps], wide_masks.bool(), scores[4:].tolist())
    assert_says(metric.compute(), [(maps, masks), (wide_maps, wide_masks)], scores=scores)


def test_after_a_reset_nothing_is_left():
    metric = EvaluationMetric()
    for maps, masks in batches():
        metric.update(maps, masks)
    metric.compute()
    metric.reset()
    for maps, masks in batches(1, n_batches=2):
        metric.update(maps, masks)
    assert metric.update_count == 2
    assert_says(metric.compute(), batches(1, n_batches=2))


def test_computing_twice_and_in_between_changes_nothing():
    metric, pairs = EvaluationMetric(), list(batches())
    for number, (maps, masks) in enumerate(pairs, start=1):
        metric.update(maps, masks)
        assert_says(metric.compute(), pairs[:number])
        assert_says(metric.compute(), pairs[:number])


def test_a_call_returns_the_numbers_of_its_batch_and_takes_it_in():
    metric = EvaluationMetric()
    for maps, masks in batches():
        assert_says(metric(maps, masks), [(maps, masks)])
    assert metric.update_count == 3
    assert_says(metric.compute(), batches())


@pytest.mark.parametrize("copied", [lambda metric: pickle.loads(pickle.dumps(metric)), copy.deepcopy])
def test_a_copy_goes_on_from_there_alone(copied):
    metric, (first, second, third) = EvaluationMetric(only="aupro@0.05"), batches()
    metric.update(*first)
    twin = copied(metric)
    metric.update(*second)
    twin.update(*third)
    assert_says({"aupro@0.05": metric.compute()}, [first, second])
    assert_says({"aupro@0.05": twin.compute()}, [first, third])


@pytest.mark.parametrize("change", [lambda maps: maps.bfloat16(), lambda maps: maps.half(), lambda maps: maps.double()])
def test_tensors_of_any_precision_with_gradients(change):
    metric, ((maps, masks),) = EvaluationMetric(), batches(n_batches=1)
    metric.update(change(maps).requires_grad_(), masks)
    metric.update([*change(maps).requires_grad_()], [*masks])
    again = (change(maps).float(), masks)
    assert_says(metric.compute(), [again, again])


def test_a_refused_batch_leaves_the_metric_as_it_was():
    metric, (first, second, _) = EvaluationMetric(), batches()
    metric.update(*first)
    broken = second[0].clone()
    broken[3, 0, 0, 0] = torch.nan
    with pytest.raises(ScoreError, match=r"maps\[3\]: the map holds nan"):
        metric.update(broken, second[1])
    with pytest.raises(MaskError, match=r"masks\[2\]: .* 7 beside 0"):
        metric.update(second[0], second[1] * 7)
    metric.update(*second)
    assert_says(metric.compute(), [first, second])


def test_a_full_disk_leaves_the_metric_as_it_was(monkeypatch, tmp_path):
    class FullDisk:
        """A file that takes a part of what is written and then no more, until there is room."""

        def __init__(self):
            self.file, self.room = Path.open(tmp_path / "maps", "w+b", buffering=0), 2000

        def write(self, rest):
            if not self.room:
                raise OSError(28, "No space left on device")
            taken = rest[: self.room]
            self.room -= len(taken)
            return self.file.write(taken)

        def __getattr__(self, name):
            return getattr(self.file, name)

    disk = FullDisk()
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: disk)
    metric, (first, second, _) = EvaluationMetric(), batches()
    with pytest.raises(TinyDefectsError, match=r"cannot hold the maps \(No space .*\); free space or set"):
        metric.update(*first)
    disk.room = 10**6
    monkeypatch.undo()
    metric.update(*second)
    assert_says(metric.compute(), [second])


def test_maps_do_not_stay_in_memory():
    metric = EvaluationMetric()
    tracemalloc.start()
    for _ in range(20):
        metric.update([np.zeros((512, 512), dtype=np.float32)], [np.eye(512, dtype=bool)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 512 * 512 * 4  # twenty maps take twenty times that


def test_the_full_evaluation_knows_each_image_by_a_name_of_its_own():
    metric, (first, second, third) = EvaluationMetric(), batches()
    for maps, masks in (first, second, third):
        metric.update(maps, masks)
    masks, maps = joined([first, second, third])
    found, expected = metric.evaluate(n_resamples=100), evaluate_arrays(masks, maps, n_resamples=100)
    assert len(found.aupimo_by_image) == 6
    assert found.intervals["aupro@0.05"] == expected.intervals["aupro@0.05"]
    assert str(found) == str(expected)


def test_limits_are_chosen_and_names_are_checked():
    metric, ((maps, masks),) = EvaluationMetric(only="rho@0.2", fpr_limits=(0.2,)), batches(n_batches=1)
    metric.update(maps, masks)
    assert_says({"rho@0.2": metric.compute()}, [(maps, masks)], fpr_limits=(0.2,))
    with pytest.raises(TinyDefectsError, match=r"only='aupro@0.05': .* choose from aupro@0.2, aupro_Q1@0.2, rho"):
        EvaluationMetric(only="aupro@0.05", fpr_limits=(0.2,))
    with pytest.raises(TinyDefectsError, match=r"fpr_limits are \(30,\)"):
        EvaluationMetric(fpr_limits=(30,))


def test_it_cannot_be_merged_with_another():
    metric, ((maps, masks),) = EvaluationMetric(), batches(n_batches=1)
    metric.update(maps, masks)
    with pytest.raises(RuntimeError, match="not supported"):
        metric.merge_state(copy.deepcopy(metric))


def test_several_processes_are_refused_unless_each_wants_its_own_numbers(monkeypatch):
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda _: 2)
    ((maps, masks),) = batches(n_batches=1)
    for alone in (EvaluationMetric(), EvaluationMetric(sync_on_compute=False, distributed_available_fn=lambda: True)):
        alone.update(maps, masks)
        assert_says(alone.compute(), [(maps, masks)])
    late = EvaluationMetric(distributed_available_fn=lambda: "now" in joined_by)
    joined_by: list[str] = []
    late.update(maps, masks)
    joined_by.append("now")
    for refused in (lambda: late.update(maps, masks), late.compute):
        with pytest.raises(TinyDefectsError, match="the maps of 2 processes are not brought together; score in one"):
            refused()


def test_without_torchmetrics_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "tinydefects.metrics.torch_metric")
    with pytest.raises(MissingExtraError, match="EvaluationMetric needs the extra 'torchmetrics'"):
        importlib.import_module("tinydefects.metrics.torch_metric")


def test_the_python_of_the_page_runs():
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(block, names)
    expected = evaluate_arrays(names["masks"], names["maps"], n_resamples=0)
    assert names["evaluation"].overall == expected.overall
    assert float(names["numbers"]["aupro@0.05"]) == pytest.approx(metrics_of(expected)["aupro@0.05"], abs=1e-6)
