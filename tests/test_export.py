import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch.nn.functional as F

from command_line import run
from dataset_trees import write_image
from tiny_teachers import counting_teacher, tiny_vit, write_weights
from tinydefects.detector import Detector
from tinydefects.errors import ExportError, ModelFileError, ResolutionMismatchError
from tinydefects.export import torch_graph
from tinydefects.export.exported import ExportedDetector
from tinydefects.export.manifest import MANIFEST_FILE
from tinydefects.export.writing import calibration_choice, plan_export, write_export
from tinydefects.patch_grid import PatchGrid
from tinydefects.teacher import freeze_teacher

pytest.importorskip("onnxscript", reason="needs the extra 'export'")
pytest.importorskip("openvino", reason="needs the extra 'export'")
LYING, UPRIGHT = (140, 231), (200, 130)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def quick_detector(**settings) -> Detector:
    """A teacher that averages the colours of 8 px patches, students of one epoch."""
    settings = {"teacher": counting_teacher(), "resolution": 96, "epochs": 1} | settings
    return Detector(**settings).fit([noise(60, 80, 3, seed=seed) for seed in range(3)])


@pytest.fixture(scope="module")
def vit_detector() -> Detector:
    """A real ViT with a position embedding for 160 x 160 px, shown images of 96 px."""
    teacher = freeze_teacher("test_vit", tiny_vit(), blocks=(3, 5), device="cpu")
    return Detector(teacher=teacher, resolution=96, epochs=1).fit([noise(60, 80, 3)])


def export(detector, folder, target="onnx", precision="fp32", image_size=None, **calibration):
    plan = plan_export(detector, target=target, precision=precision, image_size=image_size)
    return write_export(detector, folder, plan, **calibration)


def assert_same(exported, detector, size, atol):
    found, expected = exported.predict(noise(*size, 3, seed=5)), detector.predict(noise(*size, 3, seed=5))
    assert found.anomaly_map.shape == size
    assert found.anomaly_map.dtype == np.float32
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=atol)
    assert found.score == pytest.approx(expected.score, abs=atol)
    assert np.ptp(expected.anomaly_map) > 100 * atol  # a flat map would agree with anything


@pytest.mark.parametrize(("target", "precision", "atol"), [("onnx", "fp32", 1e-5), ("openvino", "fp32", 1e-5)])
def test_a_vit_predicts_the_same_at_any_size_after_its_export(vit_detector, tmp_path, target, precision, atol):
    manifest = export(vit_detector, tmp_path / "model", target, precision)
    exported = ExportedDetector.load(tmp_path / "model")
    for size in (LYING, UPRIGHT, (40, 40)):
        assert_same(exported, vit_detector, size, atol)
    assert manifest.check.map_difference < manifest.check.tolerance == 1e-4
    assert all(height != width for height, width in manifest.check.image_sizes)


@pytest.mark.parametrize("preset", ["default", "published"])
def test_a_model_for_one_image_size_holds_resize_map_and_score(tmp_path, preset):
    import onnxruntime

    detector = quick_detector(preset=preset)
    export(detector, tmp_path / "model", image_size=LYING)
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    anomaly_map, score = session.run(["anomaly_map", "score"], {"image": noise(1, *LYING, 3)})
    expected = detector.predict(noise(*LYING, 3))
    np.testing.assert_allclose(anomaly_map[0], expected.anomaly_map, atol=1e-3 * expected.anomaly_map.max())
    assert score[0] == pytest.approx(expected.score, rel=1e-3)
    with pytest.raises(ResolutionMismatchError, match=r"exported for \(140, 231\)"):
        ExportedDetector.load(tmp_path / "model").predict(noise(*UPRIGHT, 3))


def test_openvino_rounds_neither_the_resize_nor_the_map_when_it_computes_in_bfloat16(tmp_path):
    detector = quick_detector()
    manifest = export(detector, tmp_path / "model", "openvino", "bf16", image_size=LYING)
    assert manifest.check.map_difference < 1e-2
    assert_same(ExportedDetector.load(tmp_path / "model"), detector, LYING, 1e-2)


@pytest.mark.parametrize("settings", [{"tile": 32, "overlap": 8}, {"stride": 4}, {"resolution": "native"}])
def test_tiles_shifts_and_native_size_are_exported_too(tmp_path, settings):
    detector = quick_detector(**settings)
    export(detector, tmp_path / "model", "torch")
    assert_same(ExportedDetector.load(tmp_path / "model"), detector, (70, 101), 1e-5)


def test_float16_halves_the_file_and_openvino_keeps_float32_unless_told(vit_detector, tmp_path):
    sizes = {}
    for precision in ("fp32", "fp16"):
        export(vit_detector, tmp_path / precision, "openvino", precision)
        sizes[precision] = (tmp_path / precision / "model.bin").stat().st_size
    networks = (vit_detector.teacher.model, vit_detector.students)
    n_weights = sum(weights.numel() for network in networks for weights in network.parameters())
    assert sizes["fp32"] > 3.9 * n_weights
    assert sizes["fp16"] < 0.55 * sizes["fp32"]
    assert_same(ExportedDetector.load(tmp_path / "fp16"), vit_detector, LYING, 1e-2)


def test_a_graph_that_resizes_without_antialiasing_is_refused_and_leaves_nothing(vit_detector, tmp_path, monkeypatch):
    def plain(embedding, new_size, old_size, num_prefix_tokens):
        prefix, grid = embedding[:, :num_prefix_tokens], embedding[:, num_prefix_tokens:]
        grid = grid.reshape(1, *old_size, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=new_size, mode="bicubic").flatten(2).transpose(1, 2)
        return torch_graph.torch.cat([prefix, grid], dim=1)

    monkeypatch.setattr(torch_graph, "resample_positions", plain)
    with pytest.raises(ExportError, match=r"maps differ by 0\.\d+ .* 0\.0001 is allowed; nothing was written"):
        export(vit_detector, tmp_path / "model", "torch")
    assert list(tmp_path.iterdir()) == []


def test_the_resize_of_a_whole_model_is_pillows_but_for_a_gray_level_here_and_there():
    grid = PatchGrid.published((230, 301), patch=8, resolution=160)
    image = noise(230, 301, 3)
    resize = torch_graph.Resize(grid)
    found = resize(torch_graph.torch.from_numpy(image[None]))[0].numpy()
    difference = np.abs(found - grid.to_pixels(image))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 5e-4


def test_int8_is_calibrated_with_images_of_the_training_split_and_says_how_many(tmp_path, monkeypatch, capsys):
    for number in range(5):
        write_image(tmp_path / f"data/made/screw/train/good/{number}.png", noise(60, 80, 3, seed=number))
    for place in ("test/good/0", "test/broken/0"):
        write_image(tmp_path / f"data/made/screw/{place}.png", noise(90, 90, 3))
    assert calibration_choice(5) == [0, 1, 2, 3, 4]
    assert len(calibration_choice(1000)) == 64
    assert calibration_choice(1000)[-1] == 999


@pytest.mark.parametrize(
    ("target", "precision", "image_size", "expected"),
    [
        ("onnx", "bf16", None, "onnx models are fp32, fp16, int8, not bf16"),
        ("torch", "int8", None, "torch models are fp32, fp16, bf16, not int8"),
        ("onnx", "int8", LYING, "leave out --image-size"),
    ],
)
def test_what_a_target_cannot_do_is_refused_before_anything_is_written(target, precision, image_size, expected):
    with pytest.raises(ExportError, match=expected):
        plan_export(quick_detector(), target=target, precision=precision, image_size=image_size)
