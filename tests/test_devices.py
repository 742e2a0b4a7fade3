"""A device that this machine lacks is one line and exit code 2, before any work; the command and the library agree."""

import subprocess
import sys

import pytest
import torch

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.benchmark.job import method_inputs
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.cli.demo import DemoSettings, run_demo
from tinydefects.detector.detector import Detector
from tinydefects.detector.devices import devices_here, require_device
from tinydefects.detector.teacher import best_device, load_teacher
from tinydefects.errors import TinyDefectsError
from tinydefects.results.protocol import EvaluationProtocol, Job

NOT_HERE = ("cuda", "cuda:0", "cuda:7", "mps", "gpu", "0", "CPU", "cpu:0", "auto", " cpu")


@pytest.fixture
def only_cpu(monkeypatch):
    pretend(monkeypatch)


def pretend(monkeypatch, *, n_cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)


@pytest.mark.parametrize("device", NOT_HERE)
def test_a_device_that_is_not_here_is_refused_with_those_that_are(only_cpu, device):
    with pytest.raises(TinyDefectsError, match=r"^--device .*: no such device here; there is cpu$"):
        require_device(device)


def test_what_is_here_passes_unchanged(monkeypatch):
    pretend(monkeypatch, n_cuda=2, mps=True)
    assert devices_here() == ["cpu", "cuda", "cuda:0", "cuda:1", "mps"]
    for device in (None, *devices_here()):
        assert require_device(device) == device
    with pytest.raises(TinyDefectsError, match=r"--device cuda:2: .* there is cpu, cuda, cuda:0, cuda:1, mps$"):
        require_device("cuda:2")


@pytest.mark.parametrize(("here", "best"), [({}, "cpu"), ({"mps": True}, "mps"), ({"n_cuda": 1, "mps": True}, "cuda")])
def test_the_best_device_is_cuda_then_mps_then_the_processor(monkeypatch, here, best):
    pretend(monkeypatch, **here)
    assert best_device() == best


def test_a_torch_without_cuda_says_so_to_those_who_ask_for_it(only_cpu, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with pytest.raises(TinyDefectsError, match=r"there is cpu \(this torch is built without CUDA\)$"):
        require_device("cuda")
    with pytest.raises(TinyDefectsError, match=r"there is cpu$"):
        require_device("mps")


@pytest.mark.parametrize("device", ["gpu", "CUDA", 0])
def test_the_library_refuses_at_construction(only_cpu, device):
    for make in (
        lambda: Detector(device=device),
        lambda: Detector(teacher=counting_teacher(), device=device),
        lambda: load_teacher("builtin", device=device),
    ):
        with pytest.raises(TinyDefectsError, match="no such device here; there is cpu"):
            make()


def test_demo_and_benchmark_refuse_before_they_draw_or_load(only_cpu, tmp_path):
    with pytest.raises(TinyDefectsError, match="no such device"):
        run_demo(tmp_path / "demo", DemoSettings(), device="cuda", progress=lambda *_: None)
    assert not (tmp_path / "demo").exists()
    protocol = EvaluationProtocol(categories=("folder/parts",), teacher="builtin")
    job = Job(protocol=protocol, category="folder/parts", method="local_contrast", resolution=0, seed=0)
    settings = RunSettings(root=tmp_path, out=tmp_path, features=tmp_path, device="cuda")
    with pytest.raises(TinyDefectsError, match="no such device"):
        method_inputs(job, settings, {})


@pytest.mark.parametrize(
    "arguments",
    [
        ("demo",),
        ("fit", "folder/nothing"),
        ("predict", "no_model", "no_images"),
        ("inspect", "folder/nothing"),
        ("benchmark", "--methods", "fbft", "--categories", "folder/nothing"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_checks_the_device_before_anything_else(only_cpu, monkeypatch, capsys, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    expected = (2, "", "tinydefects: --device cuda: no such device here; there is cpu\n")
    assert run(monkeypatch, capsys, *arguments, "--device", "cuda") == expected
    assert list(tmp_path.iterdir()) == []


def test_naming_the_processor_imports_no_torch():
    program = "import sys; from tinydefects.detector.devices import require_device; require_device('cpu'); "
    program += "require_device(None); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
