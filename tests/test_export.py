import contextlib
import importlib.util
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from command_line import run
from tiny_teachers import counting_teacher, tiny_vit
from tinydefects.data.pixels import write_png
from tinydefects.data.walk import EXPORT_FILE
from tinydefects.detector.detector import Detector
from tinydefects.detector.networks import load_timm
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.teacher import freeze_teacher
from tinydefects.errors import ExportError, ModelFileError, ResolutionMismatchError
from tinydefects.export import torch_graph
from tinydefects.export.exported import ExportedDetector
from tinydefects.export.manifest import sha256
from tinydefects.export.writing import calibration_choice, plan_export, write_export

pytestmark = pytest.mark.slow

if not all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime", "openvino"))):
    pytest.skip("needs the extra 'export'", allow_module_level=True)
LYING, UPRIGHT = (140, 231), (200, 130)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def quick_detector(**settings) -> Detector:
    """A teacher that averages the colours of 8 px patches, students of one epoch."""
    settings = {"teacher": counting_teacher(), "resolution": 96, "epochs": 1} | settings
    return Detector(**settings).fit([noise(60, 80, 3, seed=seed) for seed in range(3)])


@pytest.fixture(scope="module")
def vit_detector() -> Detector:
    """A real ViT of two blocks with a position embedding for 160 x 160 px, shown images of 96 px."""
    vit = tiny_vit()
    vit.blocks = vit.blocks[:2]
    teacher = freeze_teacher("test_vit", vit, blocks=(0, 1), device="cpu")
    return Detector(teacher=teacher, resolution=96, epochs=1).fit([noise(60, 80, 3)])


def export(detector, folder, target="onnx", precision="fp32", image_size=None, **calibration):
    plan = plan_export(detector, target=target, precision=precision, image_size=image_size)
    return write_export(detector, folder, plan, **calibration)


@pytest.fixture(scope="module")
def openvino_folder(vit_detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(vit_detector, folder, "openvino")
    return folder


def assert_same(exported, detector, size, atol):
    found, expected = exported.predict(noise(*size, 3, seed=5)), detector.predict(noise(*size, 3, seed=5))
    assert found.anomaly_map.shape == size
    assert found.anomaly_map.dtype == np.float32
    np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, atol=atol)
    assert found.score == pytest.approx(expected.score, abs=atol)
    assert np.ptp(expected.anomaly_map) > 50 * atol  # a flat map would agree with anything


def test_an_export_has_the_colours_of_its_detector(openvino_folder, vit_detector):
    assert ExportedDetector.load(openvino_folder).colour_scale == vit_detector.colour_scale


@pytest.mark.parametrize("size", [LYING, UPRIGHT, (40, 40)])
def test_openvino_predicts_as_the_detector_at_any_size(openvino_folder, vit_detector, size):
    assert_same(ExportedDetector.load(openvino_folder), vit_detector, size, 1e-5)


def test_onnx_predicts_as_the_detector_and_the_check_says_so(tmp_path):
    detector = quick_detector()
    manifest = export(detector, tmp_path / "model", "onnx")
    for size in (LYING, UPRIGHT):
        assert_same(ExportedDetector.load(tmp_path / "model"), detector, size, 1e-5)
    assert manifest.check.map_difference < 1e-5 < manifest.check.tolerance
    assert all(height != width for height, width in manifest.check.image_sizes)


def test_a_model_for_one_image_size_holds_resize_map_and_score(tmp_path):
    import onnxruntime

    detector = quick_detector(preset="published")
    export(detector, tmp_path / "model", image_size=LYING)
    session = onnxruntime.InferenceSession(tmp_path / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    anomaly_map, score = session.run(["anomaly_map", "score"], {"image": noise(1, *LYING, 3)})
    expected = detector.predict(noise(*LYING, 3))
    np.testing.assert_allclose(anomaly_map[0], expected.anomaly_map, atol=1e-3 * expected.anomaly_map.max())
    assert score[0] == pytest.approx(expected.score, rel=1e-3)
    with pytest.raises(ResolutionMismatchError, match=r"exported for \(140, 231\)"):
        ExportedDetector.load(tmp_path / "model").predict(noise(*UPRIGHT, 3))


@pytest.mark.parametrize("settings", [{"tile": 32, "stride": 4}, {"resolution": "native"}])
def test_tiles_shifts_and_native_size_are_exported_too(tmp_path, settings):
    detector = quick_detector(**settings)
    export(detector, tmp_path / "model")
    assert_same(ExportedDetector.load(tmp_path / "model"), detector, (70, 101), 1e-5)


def test_float16_halves_the_file_and_float32_is_all_of_it(openvino_folder, vit_detector, tmp_path):
    export(vit_detector, tmp_path / "half", "openvino", "fp16")
    networks = (vit_detector.teacher.model, vit_detector.students)
    n_weights = sum(weights.numel() for network in networks for weights in network.parameters())
    full_bytes, half_bytes = ((folder / "model.bin").stat().st_size for folder in (openvino_folder, tmp_path / "half"))
    assert full_bytes > 3.9 * n_weights
    assert half_bytes < 0.55 * full_bytes
    assert_same(ExportedDetector.load(tmp_path / "half"), vit_detector, LYING, 2e-3)


def test_a_graph_that_resizes_without_antialiasing_is_refused_and_leaves_nothing(vit_detector, tmp_path, monkeypatch):
    def plain(embedding, new_size, old_size, num_prefix_tokens):
        prefix, grid = embedding[:, :num_prefix_tokens], embedding[:, num_prefix_tokens:]
        grid = grid.reshape(1, *old_size, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=new_size, mode="bicubic").flatten(2).transpose(1, 2)
        return torch.cat([prefix, grid], dim=1)

    monkeypatch.setattr(torch_graph, "resample_positions", plain)
    with pytest.raises(ExportError, match=r"maps differ by 0\.\d+ .* 0\.0001 is allowed; nothing was written"):
        export(vit_detector, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_resize_of_a_whole_model_is_pillows_but_for_a_gray_level_here_and_there():
    grid = PatchGrid.published((230, 301), patch=8, resolution=160)
    image = noise(230, 301, 3)
    found = torch_graph.Resize(grid)(torch.from_numpy(image[None]))[0].numpy()
    difference = np.abs(found - grid.to_pixels(image))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 5e-4


@pytest.mark.parametrize(("old", "new"), [((10, 10), (7, 13)), ((4, 4), (9, 4)), ((5, 5), (5, 5))])
def test_position_embeddings_are_resampled_as_timm_does(old, new):
    load_timm()
    from timm.layers.pos_embed import resample_abs_pos_embed

    embedding = torch.randn(1, 1 + old[0] * old[1], 6, generator=torch.Generator().manual_seed(0))
    found = torch_graph.resample_positions(embedding, new, old, 1)
    expected = resample_abs_pos_embed(embedding, list(new), list(old), 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("target", "precision", "image_size", "expected"),
    [
        ("onnx", "bf16", None, "onnx models are fp32, fp16, int8, not bf16"),
        ("openvino", "bf16", LYING, "leave out --image-size"),
    ],
)
def test_what_a_target_cannot_do_is_refused_before_anything_is_written(target, precision, image_size, expected):
    with pytest.raises(ExportError, match=expected):
        plan_export(quick_detector(), target=target, precision=precision, image_size=image_size)


def test_tiles_do_not_go_with_one_image_size():
    with pytest.raises(ExportError, match="leave out --image-size"):
        plan_export(quick_detector(tile=32), target="onnx", precision="fp32", image_size=LYING)


def test_int8_without_images_to_calibrate_with_is_refused(tmp_path):
    with pytest.raises(ExportError, match="--calibrate DATASET/CATEGORY"):
        export(quick_detector(), tmp_path / "model", "openvino", "int8")
    assert list(tmp_path.iterdir()) == []


def test_calibration_images_are_spread_over_all_there_are():
    assert calibration_choice(5) == [0, 1, 2, 3, 4]
    chosen = calibration_choice(1000)
    assert (len(chosen), chosen[0], chosen[-1]) == (64, 0, 999)
    assert set(np.diff(chosen)) == {15, 16}


@pytest.mark.parametrize("file", ["model.bin", "model.xml", EXPORT_FILE])
def test_a_truncated_or_missing_file_is_named(openvino_folder, tmp_path, file):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in openvino_folder.iterdir():
        content = path.read_bytes()
        (folder / path.name).write_bytes(content[:-100] if path.name == file else content)
    with pytest.raises(ModelFileError, match=rf"{file}: .*export"):
        ExportedDetector.load(folder)
    (folder / file).unlink()
    with pytest.raises(ModelFileError, match=rf"{file}: no such file"):
        ExportedDetector.load(folder)


def test_a_digest_that_is_not_there_is_missed(openvino_folder, tmp_path):
    shutil.copytree(openvino_folder, tmp_path / "model")
    described = json.loads((tmp_path / "model" / EXPORT_FILE).read_text())
    del described["files"]["model.bin"]
    (tmp_path / "model" / EXPORT_FILE).write_text(json.dumps(described))
    with pytest.raises(ModelFileError, match=r"export\.json: has no sha256 of model\.bin"):
        ExportedDetector.load(tmp_path / "model")


def test_a_torch_program_is_refused_and_its_code_does_not_run(openvino_folder, tmp_path, monkeypatch, capsys):
    program, folder, flag = tmp_path / "program.pt2", tmp_path / "model", tmp_path / "flag"
    write_trap(program, flag)
    folder.mkdir()
    shutil.copy(program, folder / "model.pt2")
    described = json.loads((openvino_folder / EXPORT_FILE).read_text())
    described |= {"target": "torch", "files": {"model.pt2": sha256(program)}}  # as version 0.1.0 wrote it
    (folder / EXPORT_FILE).write_text(json.dumps(described))
    write_png(tmp_path / "parts/a.png", noise(60, 80, 3))
    code, _, err = run(monkeypatch, capsys, "predict", folder, tmp_path / "parts", "--out", tmp_path / "maps")
    assert (code, "Traceback" in err) == (2, False)
    assert "model.pt2: not opened, because files of this kind can run code" in err
    assert not flag.exists()
    with contextlib.suppress(Exception):
        torch.export.load(program)
    assert flag.exists()  # the trap works: it only was not stepped into


def write_trap(path, flag):
    """A torch program whose sample input leaves a file where it is unpickled."""
    trap = io.BytesIO()
    torch.save(Trap(flag), trap)
    whole = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Identity(), (torch.zeros(2),)), whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, trap.getvalue() if "sample_inputs" in name else source.read(name))


class Trap:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return Path.touch, (self.flag,)


@pytest.mark.parametrize("place", ["../secret.bin", "/etc/hostname", "model.onnx/../../secret.bin"])
def test_weights_outside_of_the_folder_are_not_read(tmp_path, place):
    import onnx

    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    export(quick_detector(), tmp_path / "model")
    model = onnx.load(tmp_path / "model/model.onnx")
    weights = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    n_bytes = len(weights.raw_data)
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": place, "offset": "0", "length": str(n_bytes)}.items():
        weights.external_data.add(key=key, value=value)
    (tmp_path / "model/model.onnx").write_bytes(model.SerializeToString())
    described = json.loads((tmp_path / "model" / EXPORT_FILE).read_text())
    described["files"]["model.onnx"] = sha256(tmp_path / "model/model.onnx")
    (tmp_path / "model" / EXPORT_FILE).write_text(json.dumps(described))
    with pytest.raises(ModelFileError, match=r"model\.onnx: onnx cannot run it"):
        ExportedDetector.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [("patch_size", 7, "export.json: "), ("image_size", [140, 231], "export.json: says that the model answers")],
)
def test_a_manifest_that_does_not_fit_its_model_is_named(openvino_folder, tmp_path, field, value, expected):
    shutil.copytree(openvino_folder, tmp_path / "model")
    described = json.loads((tmp_path / "model" / EXPORT_FILE).read_text())
    described["interface"][field] = value
    (tmp_path / "model" / EXPORT_FILE).write_text(json.dumps(described))
    with pytest.raises(ModelFileError, match=expected):
        ExportedDetector.load(tmp_path / "model").predict(noise(*LYING, 3))


def test_another_format_under_openvinos_name_is_not_opened(tmp_path, openvino_folder):
    shutil.copytree(openvino_folder, tmp_path / "model")
    (tmp_path / "model/model.xml").write_bytes(b"\x08\x07onnx")
    described = json.loads((tmp_path / "model" / EXPORT_FILE).read_text())
    described["files"]["model.xml"] = sha256(tmp_path / "model/model.xml")
    (tmp_path / "model" / EXPORT_FILE).write_text(json.dumps(described))
    with pytest.raises(ModelFileError, match=r"model\.xml: openvino cannot run it \(not in OpenVINO's own format\)"):
        ExportedDetector.load(tmp_path / "model")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"holds notes\.txt"):
        export(quick_detector(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_image_of_one_patch_in_a_direction_is_refused(openvino_folder):
    with pytest.raises(ResolutionMismatchError, match="one patch in a direction"):
        ExportedDetector.load(openvino_folder).predict(noise(4, 90, 3))
