"""An exported detector where torch cannot be imported, and OpenVINO where nothing may be reported to anybody."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from tiny_teachers import counting_teacher, tiny_vit
from tinydefects.data.pixels import write_png
from tinydefects.data.predictions import read_prediction
from tinydefects.detector.detector import Detector
from tinydefects.detector.teacher import freeze_teacher
from tinydefects.export.manifest import read_manifest
from tinydefects.export.writing import plan_export, write_export

pytestmark = pytest.mark.slow

if not all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime", "openvino", "nncf"))):
    pytest.skip("needs the extra 'export'", allow_module_level=True)
SIZE = (60, 80)
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails as if it were not installed
sys.argv = ["tinydefects", *sys.argv[1:]]
from tinydefects.cli.app import main
main()
"""
WITHOUT_NETWORK = """
import socket, sys
def refuse(*_):
    sys.exit("something wanted to connect")
socket.socket.connect = socket.getaddrinfo = refuse
from pathlib import Path
import numpy as np
from tinydefects.errors import ExportError
from tinydefects.export.writing import quantise
from tinydefects.export.exported import import_openvino
openvino = import_openvino()
model = openvino.Core().read_model(sys.argv[1])
try:
    quantise(model, model.input(0).any_name, [np.zeros((1, 48, 64, 3), np.uint8)])
except ExportError:
    pass  # that this teacher is none for NNCF is another matter
assert "openvino_telemetry" not in sys.modules
assert not list(Path.home().iterdir()), "something was left in the user's home"
"""


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(teacher=counting_teacher(), resolution=96, epochs=1).fit([noise(0), noise(1)])


@pytest.fixture(scope="module")
def onnx_folder(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    write_export(detector, folder, plan_export(detector, target="onnx", precision="fp32", image_size=None))
    return folder


@pytest.fixture(scope="module")
def vit_detector() -> Detector:
    """With two blocks of a real ViT: NNCF knows nothing else."""
    vit = tiny_vit()
    vit.blocks = vit.blocks[:2]
    teacher = freeze_teacher("test_vit", vit, blocks=(0, 1), device="cpu")
    return Detector(teacher=teacher, resolution=96, epochs=1).fit([noise(0), noise(1)])


@pytest.fixture(scope="module")
def int8_folder(vit_detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "int8"
    plan = plan_export(vit_detector, target="openvino", precision="int8", image_size=None)
    write_export(vit_detector, folder, plan, calibration=[noise(0), noise(1)], category="made/screw")
    return folder


def run_program(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("target", ["onnx", "int8"])
def test_predict_runs_an_exported_folder_where_torch_is_not_installed(
    detector, vit_detector, onnx_folder, int8_folder, tmp_path, target
):
    folder, made_from, atol = {"onnx": (onnx_folder, detector, 1e-5), "int8": (int8_folder, vit_detector, 0.2)}[target]
    write_png(tmp_path / "parts" / "a.png", noise(7))
    finished = run_program(WITHOUT_TORCH, "predict", folder, tmp_path / "parts", "--out", tmp_path / "maps", "--json")
    assert finished.returncode == 0, finished.stderr
    found, expected = read_prediction(tmp_path / "maps/parts/images/a.tiff"), made_from.predict(noise(7))
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=atol)
    assert found.score == pytest.approx(expected.score, abs=atol)


def test_a_fitted_detector_says_what_it_lacks_where_torch_is_not_installed(detector, tmp_path):
    detector.save(tmp_path / "model")
    write_png(tmp_path / "parts" / "a.png", noise(7))
    finished = run_program(WITHOUT_TORCH, "predict", tmp_path / "model", tmp_path / "parts")
    assert finished.returncode == 2
    assert ".[detector]" in finished.stderr


def test_openvino_and_nncf_report_nothing_and_leave_nothing_in_the_users_home(onnx_folder, tmp_path):
    finished = run_program(WITHOUT_NETWORK, onnx_folder / "model.onnx", HOME=str(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout == ""


def test_an_int8_model_says_what_it_was_calibrated_with(int8_folder):
    manifest = read_manifest(int8_folder)
    assert manifest.calibration is not None
    assert (manifest.calibration.category, manifest.calibration.n_images) == ("made/screw", 2)
    assert "FakeQuantize" in (int8_folder / "model.xml").read_text()
