"""What is quick gives what is slow: every quicker road against the plain one. No test looks at a clock."""

import json
import os
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import growth
import inference
import training
from published_pipeline import PublishedPipeline
from tiny_teachers import TINY_VIT, counting_teacher, tiny_vit
from tinydefects.data.pixels import write_png
from tinydefects.data.predictions import map_path, read_prediction
from tinydefects.data.read_ahead import read_ahead
from tinydefects.data.sample import Category
from tinydefects.datasets.catalog import load_category
from tinydefects.datasets.photographs import find_images
from tinydefects.detector import precision
from tinydefects.detector.detector import Detector
from tinydefects.detector.precision import arithmetic, onednn_is_exact
from tinydefects.detector.predict_folder import predict_to_disk
from tinydefects.detector.students import pair_loss, train_students
from tinydefects.detector.teacher import Teacher, freeze_teacher, load_teacher
from tinydefects.errors import TeacherError
from tinydefects.metrics.evaluation import evaluate


def textures(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(60, 190, (*size, 3), dtype=np.uint8) for size in sizes]


@pytest.fixture(scope="module")
def vit() -> Teacher:
    return freeze_teacher(TINY_VIT, tiny_vit(), blocks=(2, 4), device="cpu")


def test_the_published_pipeline_and_the_published_preset_agree_from_images_to_scores(vit):
    images = textures(*[(60, 90)] * 5, (64, 64))
    detector = Detector(teacher=vit, resolution=64, preset="published", epochs=3, seed=115).fit(images)
    pipeline = PublishedPipeline(vit, 64)
    losses = pipeline.train_epochs(images, 3)
    np.testing.assert_allclose([sum(each) / len(each) for each in losses], detector.losses, atol=1e-5)
    for image in textures((60, 90), (90, 60), (70, 70), seed=3):
        anomaly_map, score = pipeline.predict(image)
        prediction = detector.predict(image)
        np.testing.assert_allclose(prediction.anomaly_map, anomaly_map, atol=1e-5)
        assert prediction.score == pytest.approx(score, abs=1e-5)


def test_training_on_kept_features_takes_the_steps_of_the_published_pipeline(vit):
    images = textures(*[(64, 64)] * 6)
    expected = PublishedPipeline(vit, 64).train_epochs(images, 3)
    pipeline = PublishedPipeline(vit, 64)
    losses = training.train_on_kept(pipeline, training.keep_features(pipeline, images), 3)
    np.testing.assert_allclose(np.concatenate(losses), np.concatenate(expected), atol=1e-6)


def test_float32_through_the_quick_road_is_float32_and_the_road_is_closed_afterwards():
    left, right = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(1))
    exact = left.double() @ right.double()
    before = precision.MATMUL.fp32_precision
    with arithmetic("float32", "cpu"):
        product = left @ right
        assert precision.MATMUL.fp32_precision == ("bf16" if onednn_is_exact() else before)
    assert float((product - exact).norm() / exact.norm()) < 1e-6
    assert precision.MATMUL.fp32_precision == before
    assert torch.get_float32_matmul_precision() == "highest"


def test_the_road_is_closed_after_an_error_too():
    before = precision.MATMUL.fp32_precision
    with pytest.raises(RuntimeError, match="cannot be multiplied"), arithmetic("float32", "cpu"):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert precision.MATMUL.fp32_precision == before


def test_a_processor_that_would_round_keeps_the_slow_road(monkeypatch):
    monkeypatch.setattr(precision, "onednn_is_exact", lambda: False)
    before = precision.MATMUL.fp32_precision
    with arithmetic("float32", "cpu"):
        assert precision.MATMUL.fp32_precision == before


def test_highest_is_torch_as_it_comes():
    before = precision.MATMUL.fp32_precision
    with arithmetic("highest", "cpu"):
        assert precision.MATMUL.fp32_precision == before
        assert not torch.is_autocast_enabled("cpu")


def test_the_road_stays_open_until_the_last_thread_has_left(monkeypatch):
    monkeypatch.setattr(precision, "onednn_is_exact", lambda: True)
    before, entered, leave = precision.MATMUL.fp32_precision, threading.Event(), threading.Event()

    def work() -> None:
        with arithmetic("float32", "cpu"):
            entered.set()
            leave.wait(10)

    other = threading.Thread(target=work)
    with arithmetic("float32", "cpu"):
        other.start()
        assert entered.wait(10)
    assert precision.MATMUL.fp32_precision == "bf16"
    leave.set()
    other.join()
    assert precision.MATMUL.fp32_precision == before


def test_the_quick_road_moves_features_and_maps_by_less_than_a_hundred_thousandth(vit):
    images = textures(*[(64, 96)] * 4)
    slow, quick = (Detector(teacher=vit, resolution=96, epochs=5, precision=name) for name in ("highest", "float32"))
    before, after = (one.fit(images).predict(textures((64, 96), seed=5)[0]) for one in (slow, quick))
    np.testing.assert_allclose(after.anomaly_map, before.anomaly_map, atol=1e-5)
    assert after.score == pytest.approx(before.score, abs=1e-5)


@pytest.fixture(scope="module")
def exact(tmp_path_factory) -> tuple[Detector, Category, Path]:
    """A detector with the built-in teacher, fitted in float32 to drawn metal, and where it is saved."""
    folder = tmp_path_factory.mktemp("exact")
    sizes = {"size": 128, "n_train": 4, "n_good": 4, "n_defect": 8}
    category = load_category("synthetic/brushed_metal", root=folder, seed=1, **sizes)
    detector = Detector(teacher=load_teacher("builtin", device="cpu"), resolution=128, epochs=20)
    detector.fit([sample.image() for sample in category.train]).save(folder / "model")
    return detector, category, folder / "model"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "score_bound"), [("float16", 0.002), ("bfloat16", 0.005)])
def test_16_bits_move_aupro_by_less_than_0_002_and_image_scores_by_little(exact, name, score_bound):
    detector, category, folder = exact
    found = {}
    for one in (detector, Detector.load(folder, teacher=detector.teacher, precision=name)):
        predictions = [one.predict(sample.image()) for sample in category.test]
        evaluation = evaluate(list(zip(category.test, predictions, strict=True)), n_resamples=0)
        found[one.settings.precision] = evaluation.overall.aupro, [prediction.score for prediction in predictions]
    assert found[name] != found["float32"]
    np.testing.assert_allclose(found[name][0], found["float32"][0], atol=0.002)
    np.testing.assert_allclose(found[name][1], found["float32"][1], atol=score_bound)


def test_features_are_float32_and_those_of_each_precision_are_kept_apart(vit, tmp_path):
    image = textures((64, 64))
    for name in ("float32", "highest", "bfloat16"):
        Detector(teacher=vit, resolution=64, epochs=1, precision=name, cache_dir=tmp_path).fit(image)
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    rough = replace(vit, precision="bfloat16")
    assert rough.features(torch.zeros(1, 3, 64, 64))[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "learnt_in"), [("float16", "float32"), ("bfloat16", "bfloat16"), ("highest", "highest")]
)
def test_students_learn_in_the_precision_asked_for_but_never_in_float16(monkeypatch, asked, learnt_in):
    told = []

    def note(*arguments, precision: str, **settings):
        told.append(precision)
        return train_students(*arguments, precision=precision, **settings)

    monkeypatch.setattr("tinydefects.detector.training.train_students", note)
    Detector(teacher=counting_teacher(), resolution=64, epochs=1, precision=asked).fit(textures((48, 64)))
    assert told == [learnt_in]


def test_the_loss_and_its_gradient_are_those_of_torchs_cosine():
    generator = torch.Generator().manual_seed(0)
    earlier, later, *expected = torch.randn(4, 50, 8, generator=generator)
    earlier[0], expected[0][1] = 0, 1e-5  # of no length, and of little
    losses, gradients = [], []
    for loss_of in (pair_loss, torch_pair_loss):
        leaves = [one.clone().requires_grad_() for one in expected]
        losses.append(loss_of(earlier, later, *leaves))
        gradients.append(torch.autograd.grad(losses[-1], leaves))
    assert torch.allclose(losses[0], losses[1], atol=1e-6)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in zip(*gradients, strict=True))


def torch_pair_loss(earlier, later, expected_earlier, expected_later):
    cosines = [
        F.cosine_similarity(expected, actual, dim=-1, eps=1e-6).mean()
        for expected, actual in ((expected_earlier, earlier), (expected_later, later))
    ]
    return 2 - cosines[0] - cosines[1]


def test_values_read_ahead_come_in_order_and_an_error_after_those_before_it():
    def halve(number: int) -> float:
        if number == 4:
            raise ValueError("four")
        return number / 2

    values = read_ahead(halve, range(10))
    assert [next(values) for _ in range(4)] == [0.0, 0.5, 1.0, 1.5]
    with pytest.raises(ValueError, match="four"):
        next(values)


def test_no_more_is_read_ahead_than_there_are_threads():
    drawn = []
    values = read_ahead(lambda number: number, (drawn.append(number) or number for number in range(100)), threads=3)
    assert next(values) == 0
    assert len(drawn) == 4
    values.close()
    assert len(drawn) == 4


@pytest.mark.slow
def test_patch_batches_are_steps_of_their_own_and_saved_with_the_detector(tmp_path):
    images = textures(*[(48, 64)] * 4)  # 4 x 48 patches
    settings = {"teacher": counting_teacher(), "resolution": 64, "epochs": 6, "learning_rate": 1e-2}
    whole, mixed, again = (Detector(**settings, patches_per_batch=n).fit(images) for n in (None, 50, 50))
    assert mixed.losses[-1] < whole.losses[-1]  # four steps an epoch instead of one
    assert mixed.fingerprint == again.fingerprint != whole.fingerprint
    mixed.save(tmp_path / "model")
    described = json.loads((tmp_path / "model/detector.json").read_text())
    assert described["settings"]["patches_per_batch"] == 50
    assert Detector.load(tmp_path / "model", teacher=counting_teacher()).fingerprint == mixed.fingerprint


@pytest.mark.parametrize(("preset", "expected"), [("published", "highest"), ("default", "float32")])
def test_a_model_from_before_there_was_a_precision_loads_with_that_of_its_preset(tmp_path, preset, expected):
    Detector(teacher=counting_teacher(), resolution=64, epochs=1, preset=preset).fit(textures((48, 64))).save(tmp_path)
    described = json.loads((tmp_path / "detector.json").read_text())
    assert described["settings"].pop("precision") == expected
    del described["settings"]["patches_per_batch"]
    (tmp_path / "detector.json").write_text(json.dumps(described))
    assert Detector.load(tmp_path, teacher=counting_teacher()).settings.precision == expected


def test_another_precision_at_prediction_is_another_fingerprint(tmp_path):
    detector = Detector(teacher=counting_teacher(), resolution=64, epochs=1).fit(textures((48, 64)))
    detector.save(tmp_path)
    rough, same = (Detector.load(tmp_path, teacher=counting_teacher(), precision=p) for p in ("bfloat16", "highest"))
    assert rough.teacher.precision == "bfloat16"
    assert same.fingerprint == detector.fingerprint != rough.fingerprint


def run_script(monkeypatch, script, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["script", *arguments])
    script.main()


@pytest.mark.slow
def test_the_inference_benchmark_measures_every_stage_of_every_variant(tmp_path, monkeypatch):
    sizes = ["--teachers", TINY_VIT, "--resolutions", "64", "--size", "64x96", "--ceiling-side", "64"]
    quickly = ["--rounds", "2", "--files", "3", "--no-compile"]
    run_script(monkeypatch, inference, *sizes, *quickly, "--out", str(tmp_path / "i.json"))
    written = json.loads((tmp_path / "i.json").read_text())
    (row,) = written["rows"]
    ours = {"ours", "ours, square", "ours, bfloat16", "ours, folder", "ours, bfloat16, folder"}
    assert {*inference.STAGES, "decode JPEG", "published", *ours} == set(row["times"])
    assert all(len(timing["all_ms"]) == 2 for timing in row["times"].values())
    assert row["patches"] == [3, 4]
    assert row["largest_map_difference"] < 1e-4
    assert written["provenance"]["settings"]["threads"]


def test_the_training_benchmark_reaches_the_published_loss(tmp_path, monkeypatch):
    sizes = ["--teacher", TINY_VIT, "--resolution", "32", "--images", "5", "--epochs", "4", "--timed-images", "4"]
    run_script(monkeypatch, training, *sizes, "--side", "32", "--variants", "ours", "--out", str(tmp_path / "t.json"))
    published, ours = json.loads((tmp_path / "t.json").read_text())["rows"]
    np.testing.assert_allclose(ours["losses"], published["losses"], rtol=2e-3)
    goal = 1.01 * published["losses"][-1]
    assert ours["epochs_to_loss"] == 1 + next(n for n, loss in enumerate(ours["losses"]) if loss <= goal)
    assert published["seconds_extrapolated"] == pytest.approx(published["seconds_per_image_and_epoch"] * 5 * 4)


def test_the_exponent_is_the_slope_between_the_last_two_points():
    rows = [{"value": n, "seconds": 3.0 * n**2, "peak_mb": 5.0 * n} for n in (1, 2, 8)]
    assert growth.exponent(rows) == pytest.approx({"seconds": 2.0, "peak_mb": 1.0})
    assert growth.exponent(rows[:1]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", growth.POINTS)
def test_every_kind_of_growth_is_measured(kind):
    asked = growth.options().parse_args(["--teacher", TINY_VIT, "--rounds", "1"])
    measured = growth.measure(kind, 32 if kind == "resolution" else 1, asked)
    assert measured["seconds"] > 0
    assert measured["peak_mb"] > 100


def test_maps_written_behind_the_detector_are_those_of_predict(tmp_path):
    detector = Detector(teacher=counting_teacher(), resolution=64, epochs=1).fit(textures((48, 64)))
    images = textures(*[(48, 64), (64, 48), (20, 90)] * 2, seed=2)
    for number, image in enumerate(images):
        write_png(tmp_path / "parts" / f"{number}.png", image)
    samples, told = find_images(tmp_path / "parts"), []
    for _ in range(2):  # the second time all maps are there
        made = predict_to_disk(detector, "parts", samples, tmp_path / "maps", progress=lambda *step: told.append(step))
        assert list(made.scores.values()) == [detector.predict(image).score for image in images]
    for sample, image in zip(samples, images, strict=True):
        stored = read_prediction(map_path(tmp_path / "maps", "parts", sample))
        assert np.array_equal(stored.anomaly_map, detector.predict(image).anomaly_map)
    assert told[:6] == [("predict", done, 6) for done in range(1, 7)]


@pytest.mark.skipif(not onednn_is_exact(), reason="this processor has 16-bit matrix units, or no oneDNN")
def test_attention_between_16_bit_products_is_float32_on_a_processor_without_units_for_it():
    query, key, value = torch.randn(3, 1, 2, 65, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = F.scaled_dot_product_attention(query.double(), key.double(), value.double(), scale=0.5)
    with arithmetic("bfloat16", "cpu"):
        attended = F.scaled_dot_product_attention(query, key, value, scale=0.5)
        assert (query[0, 0] @ key[0, 0].T).dtype == torch.bfloat16
    assert attended.dtype == torch.bfloat16
    assert torch.equal(attended, exact.bfloat16())  # rounded once, at the end


OF_TORCH_ITSELF = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


@pytest.mark.slow
@OF_TORCH_ITSELF
@pytest.mark.skipif(not shutil.which("g++"), reason="torch compiles for a processor with g++, which is not installed")
@pytest.mark.skipif(
    any(" " in place for place in (tempfile.gettempdir(), torch.__file__)),
    reason="torch hands its files to g++ unquoted",
)
def test_a_compiled_teacher_gives_the_same_features(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    eager = freeze_teacher(TINY_VIT, tiny_vit(), blocks=(0, 1), device="cpu")
    batch = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    for expected, found in zip(eager.features(batch), replace(eager, compiled=True).features(batch), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.slow
@OF_TORCH_ITSELF
def test_a_machine_without_a_compiler_says_so_in_one_line(vit, tmp_path):
    from torch._inductor import config  # takes seconds

    torch.compiler.reset()
    with (
        patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}),
        config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(TeacherError, match=r"no-such-compiler.*leave out.*--compile") as caught,
    ):
        replace(vit, compiled=True).features(torch.randn(1, 3, 64, 16))
    assert "\n" not in str(caught.value)
    torch.compiler.reset()
