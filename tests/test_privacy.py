"""Nothing leaves the machine and nothing is left on it: every command is watched while it runs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from submission_trees import draw_dataset, draw_maps
from tinydefects import privacy
from tinydefects.data.pixels import write_png
from tinydefects.submission.layout import N_PRIVATE_IMAGES

WATCHED = """
import json, sys
seen = []
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
sys.addaudithook(lambda event, arguments: seen.append(f"{event} {arguments}") if event in NETWORK else None)
from functools import partial
from tinydefects.cli import app as cli
from tinydefects.cli import demo
from tinydefects.submission.layout import N_PRIVATE_IMAGES
demo.DemoSettings = partial(
    demo.DemoSettings, families=("brushed_metal",), size=96, n_train=2, n_good=2, n_defect=2
)
N_PRIVATE_IMAGES["can"] = 2
codes = []
for command in json.loads(sys.argv[1]):
    sys.argv = ["tinydefects", *command]
    try:
        cli.main()
        codes.append(0)
    except SystemExit as stop:
        codes.append(stop.code or 0)
print(json.dumps({"codes": codes, "seen": seen}), file=sys.stderr)
"""
PACKAGE = Path(privacy.__file__).parent
PARTS = "folder/parts"
needs_export = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime", "openvino", "nncf"))),
    reason="needs the extra 'export'",
)
EMPTY_OF_TORCH = "torchinductor_"  # a folder for compiled code that torch makes in the temporary folder, used or not
ELSEWHERE = ("MPLCONFIGDIR", "MATPLOTLIBRC", "HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")


def draw_parts(root):
    """A folder dataset of two good parts to learn from, two good and two defective ones to judge."""
    random = np.random.default_rng(0)
    for place in ("train/good/0", "train/good/1", "test/good/0", "test/good/1", "test/spot/0", "test/spot/1"):
        image = random.integers(90, 130, (64, 80, 3), dtype=np.uint8)
        mask = np.zeros((64, 80), np.uint8)
        if "spot" in place:
            image[20:30, 40:50], mask[20:30, 40:50] = 255, 255
            write_png(root / f"parts/ground_truth/{place.removeprefix('test/')}.png", mask)
        write_png(root / f"parts/{place}.png", image)
    return root


def watch(folder, commands):
    """Run the commands in one process; what it did beyond `folder/named`: files that are new, hosts it asked for."""
    places = {name: folder / name for name in ("home", "temporary", "here")}
    for place in places.values():
        place.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in {*ELSEWHERE, *privacy.NO_REPORTS}}
    environment |= {"HOME": str(places["home"]), "TMPDIR": str(places["temporary"])}
    program = [sys.executable, "-c", WATCHED, json.dumps([[str(word) for word in command] for command in commands])]
    trace = folder / "trace"
    finished = subprocess.run(
        [*tracer(trace), *program], capture_output=True, text=True, env=environment, cwd=places["here"]
    )
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stderr.splitlines()[-1])
    assert told["codes"] == [0] * len(commands), finished.stderr
    traced = re.findall(r".*AF_INET.*", trace.read_text()) if trace.exists() else []
    new = [path for place in places.values() for path in place.rglob("*") if not path.name.startswith(EMPTY_OF_TORCH)]
    return [*map(str, new), *told["seen"], *traced]


def tracer(trace):
    """What sees the connections of compiled code, too; Python's own are seen without."""
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    works = shutil.which("strace") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    return command if works else []


@pytest.mark.slow
def test_commands_ask_nobody_and_write_only_where_they_are_told(tmp_path, monkeypatch):
    monkeypatch.setitem(N_PRIVATE_IMAGES, "can", 2)
    named = tmp_path / "named"
    draw_dataset(named / "ad2", ["can"])
    draw_maps(named / "ad2_maps", ["can"])
    root = ("--root", draw_parts(named / "data"))
    maps, results = [named / "maps/a", named / "maps/b"], [named / "results/a", named / "results/b"]
    commands = [
        ("demo", "--out", named / "demo"),
        ("inspect", PARTS, *root, "--plot", named / "sizes.svg"),
        ("fit", PARTS, *root, "--teacher", "builtin", "--resolution", 64, "--epochs", 1, "--out", named / "model"),
        *(("predict", named / "model", PARTS, *root, "--out", out) for out in maps),
        *(("evaluate", one, PARTS, *root, "--out", out) for one, out in zip(maps, results, strict=True)),
        ("report", results[0], "--out", named / "report.html"),
        ("compare", *(out / f"{PARTS}.json" for out in results)),
        ("audit", *maps, PARTS, *root, "--out", named / "audit.json", "--plot", named / "audit.svg"),
        ("benchmark", "--methods", "local_contrast", "--categories", PARTS, *root, "--out", named / "benchmark"),
        ("submit", named / "ad2_maps", "mvtec_ad2/can", "--root", named / "ad2", "--out", named / "can.tar.gz"),
    ]
    assert watch(tmp_path, commands) == []


@pytest.mark.slow
@needs_export
def test_exports_ask_nobody_and_write_only_where_they_are_told(tmp_path):
    named = tmp_path / "named"
    root = ("--root", draw_parts(named / "data"))
    model, in_onnx, in_openvino = (named / name for name in ("model", "onnx", "openvino"))
    commands = [
        ("fit", PARTS, *root, "--teacher", "builtin", "--resolution", 64, "--epochs", 1, "--out", model),
        ("export", model, "--to", "onnx", "--out", in_onnx),
        ("export", model, "--to", "openvino", "--precision", "int8", "--calibrate", PARTS, *root, "--out", in_openvino),
        *(("predict", one, PARTS, *root, "--out", named / f"maps_{one.name}") for one in (in_onnx, in_openvino)),
    ]
    assert watch(tmp_path, commands) == []


@pytest.mark.slow
@needs_export
def test_an_exported_model_predicts_without_a_device_id(tmp_path):
    """In a process of its own, because ONNX Runtime makes up its mind when it is first imported."""
    program = (
        "import sys; from tinydefects.export.exported import open_session; from pathlib import Path; "
        "open_session(Path(sys.argv[1]), 'onnx', 'fp32')"
    )
    import onnx

    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["pixels"], ["scores"])],
        "same",
        *([onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])] for name in ("pixels", "scores")),
    )
    onnx.save(
        onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]),
        tmp_path / "model.onnx",
    )
    (tmp_path / "home").mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in {*ELSEWHERE, *privacy.NO_REPORTS}}
    environment = kept | {"HOME": str(tmp_path / "home")}
    finished = subprocess.run(
        [sys.executable, "-c", program, tmp_path], env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    assert list((tmp_path / "home").rglob("*")) == []


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("yes", True), ("on", True), ("0", False), ("", False), ("False", False)]
)
def test_the_environment_says_whether_we_are_offline(monkeypatch, value, expected):
    for name in (privacy.OFFLINE, *privacy.OFFLINE_OF_THE_HUB):
        monkeypatch.delenv(name, raising=False)
    assert not privacy.is_offline()
    for name in (privacy.OFFLINE, *privacy.OFFLINE_OF_THE_HUB):
        monkeypatch.setenv(name, value)
        assert privacy.is_offline() is expected
        monkeypatch.delenv(name)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["before", "behind"])
def test_offline_stands_before_or_behind_the_command(tmp_path, place):
    """In a process of its own, for it stays offline."""
    fit = ["fit", PARTS, "--root", str(draw_parts(tmp_path)), "--teacher", "test_vit"]
    words = ["--offline", *fit] if place == "before" else [*fit, "--offline"]
    environment = os.environ | {"HF_HOME": str(tmp_path / "empty")}
    program = "import sys; from tinydefects.cli import app; sys.argv[0] = 'tinydefects'; app.main()"
    finished = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
    assert "--offline (TINYDEFECTS_OFFLINE, HF_HUB_OFFLINE) forbids to fetch them" in finished.stderr
    assert not (tmp_path / "empty").exists()


@pytest.mark.slow
def test_offline_the_clients_of_python_fetch_nothing(tmp_path):
    """Packages that fetch weights by themselves are stopped as well; local files and our own sockets are not."""
    program = """
import socket, urllib.request, http.client
from tinydefects import privacy
from tinydefects.errors import OfflineError
privacy.silence_reports()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
for ask in (
    lambda: urllib.request.urlopen("https://example.org/weights"),
    lambda: http.client.HTTPSConnection("example.org").request("GET", "/"),
):
    try:
        ask()
    except OfflineError as error:
        print(error)
"""
    environment = os.environ | {"TINYDEFECTS_OFFLINE": "1"}
    finished = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert [line.split(": not fetched")[0] for line in finished.stdout.splitlines()] == [
        "https://example.org/weights",
        "example.org",
    ]


def test_no_package_that_reports_is_imported_before_it_is_told_not_to():
    """`privacy` first: every file that imports one of them calls `silence_reports` or `without_reporting`."""
    silenced = re.compile(r"silence_reports\(|without_reporting\(|import_openvino\(|load_timm\(|_silence\(")
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if re.search(r"^ +import (onnxruntime|openvino|nncf|timm|anomalib)\b", text, re.MULTILINE):
            assert silenced.search(text), path.name
