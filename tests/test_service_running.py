"""The service as a process: it listens, is told to stop, ends what it has begun; and the command around it."""

import importlib.util
import signal
import socket
import sys
import time

import numpy as np
import pytest

if importlib.util.find_spec("fastapi") is None:
    pytest.skip("needs the extra 'serve'", allow_module_level=True)

from command_line import run
from service_parts import BYTES, KEY, photograph
from service_process import POST, Running, head_of, program_of
from tiny_teachers import counting_teacher
from tinydefects.decisions.calibration import CalibrationSettings
from tinydefects.detector.detector import Detector
from tinydefects.errors import TinyDefectsError
from tinydefects.export.exported import load_model
from tinydefects.serve.running import listen, reserve, run_service
from tinydefects.serve.service_settings import ServeSettings


@pytest.fixture
def start(tmp_path):
    running = []

    def start(seconds=0.0, more="", *, command=None, **environment):
        running.append(Running(*(command or program_of(tmp_path, seconds, more)), **environment))
        return running[-1]

    yield start
    for one in running:
        one.close()


def answer_of(connection):
    received = b""
    while part := connection.recv(65_536):
        received += part
        if b"}" in received:
            break
    connection.close()
    return received


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_answers_what_it_has_begun_and_ends_well(start, tmp_path, number):
    service = start(seconds=1.5)
    assert service.client.post(POST, content=photograph(), headers=BYTES).status_code == 200
    service.line_with("begun")
    connection = service.begin()
    service.process.send_signal(number)
    refused = service.client.post(POST, content=photograph(), headers=BYTES)
    assert (refused.status_code, service.client.get("/ready").status_code) == (503, 503)
    assert answer_of(connection).startswith(b"HTTP/1.1 200")
    assert service.wait() == (0, "stopped: 2 decisions, 1 request refused\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_idle_service_stops_at_once_whoever_holds_a_connection(start):
    service = start()
    with service.connect():
        service.client.get("/health")
        assert service.end() == (0, "stopped: 0 decisions\n")


@pytest.mark.slow
def test_a_decision_that_does_not_end_does_not_hold_it_for_ever(start, tmp_path):
    service = start(600, "stop_seconds=0.2")
    with service.begin():
        assert service.end() == (7, "stopped: 0 decisions, 1 request given up\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_told_twice_it_ends_at_once(start):
    service = start(600)
    with service.begin():
        service.process.send_signal(signal.SIGTERM)
        while service.client.get("/ready").status_code == 200:
            time.sleep(0.05)
        assert service.end() == (7, "stopped: 0 decisions, 1 request given up\n")


@pytest.mark.slow
def test_a_caller_who_hangs_up_keeps_the_place(start):
    service = start(2.0, "places=1")
    service.begin().close()
    time.sleep(0.2)
    assert service.client.post(POST, content=photograph(), headers=BYTES).status_code == 429
    while (answer := service.client.post(POST, content=photograph(), headers=BYTES)).status_code == 429:
        time.sleep(0.1)
    assert answer.status_code == 200


@pytest.mark.slow
def test_a_refused_body_of_any_size_leaves_its_sender_the_answer(start):
    service = start(0.0, "most_megabytes=0.1")
    for content in (b"\0" * 20_000_000, iter([b"\0" * 1_000_000] * 20)):
        assert service.client.post(POST, content=content, headers=BYTES).status_code == 413
    assert service.client.get("/health").status_code == 200


@pytest.mark.slow
def test_a_slow_body_is_told_so_and_its_connection_closed(start):
    service = start(0.0, "body_seconds=0.2")
    received = b""
    with service.connect() as connection:
        connection.sendall(head_of(1000) + b"0")
        while part := connection.recv(65_536):
            received += part
    assert received.startswith(b"HTTP/1.1 408")


WATCHED = """
import sys
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request"}
sys.addaudithook(lambda event, told: print("asked", event, file=sys.stderr, flush=True) if event in NETWORK else None)
"""


@pytest.mark.slow
def test_it_asks_nobody_whatever_the_environment_tells_other_packages(start, tmp_path):
    """FastAPI reports to OpenTelemetry where these variables say so; here it must not even try."""
    told = {"FASTAPI_OTEL_AUTO_CONFIGURE": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    python, option, program, scratch = program_of(tmp_path)
    service = start(command=[python, option, WATCHED + program, scratch], **told)
    assert service.client.post(POST, content=photograph(), headers=BYTES).status_code == 200
    service.process.send_signal(signal.SIGTERM)
    out, err = service.process.communicate(timeout=60)
    assert out == "stopped: 1 decision\n"
    assert "asked" not in "".join(service.lines) + err


def test_a_port_in_use_is_refused_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(TinyDefectsError, match=f"^127.0.0.1:{port}: cannot listen there .*choose another --port"):
            reserve("127.0.0.1", port)


def test_a_port_in_use_is_noticed_before_a_model_is_loaded(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = ServeSettings(port=other.getsockname()[1], scratch=tmp_path)
        with pytest.raises(TinyDefectsError, match="cannot listen there"):
            run_service(lambda: pytest.fail("loaded"), settings, None)


def test_connections_are_refused_while_models_load_and_the_port_is_kept():
    with reserve("127.0.0.1", 0) as door:
        address = door.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=5)
        listen(door)
        socket.create_connection(address, timeout=5).close()
        with pytest.raises(TinyDefectsError, match="cannot listen there"):
            reserve(*address)
    with reserve("127.0.0.1", 0) as first, reserve(*first.getsockname()) as second:
        listen(second)
        with pytest.raises(TinyDefectsError, match=f":{second.getsockname()[1]}: cannot listen there"):
            listen(first)


def test_models_of_one_teacher_hold_it_once(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), dtype=np.uint8)
    for name, changes in (("a", {}), ("b", {"seed": 1}), ("c", {"blocks": (2, 4)})):
        Detector(teacher="builtin", resolution=48, epochs=1, **changes).fit(noise, progress=False).save(tmp_path / name)
    loaded = []
    for name in ("a", "b", "c"):
        loaded.append(load_model(tmp_path / name, precision="bfloat16" if name == "b" else None, loaded=loaded))
    first, second, third = (one.teacher for one in loaded)
    assert second.model is first.model is not third.model
    assert (first.precision, second.precision, third.blocks) == ("float32", "bfloat16", (2, 4))
    alone = Detector.load(tmp_path / "b", precision="bfloat16").predict(noise[0])
    assert np.array_equal(loaded[1].predict(noise[0]).anomaly_map, alone.anomaly_map)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A fitted model and an exported one."""
    from tinydefects.export.writing import plan_export, write_export

    folder = tmp_path_factory.mktemp("two models")
    noise = np.random.default_rng(0).integers(0, 256, (2, 60, 80, 3), dtype=np.uint8)
    detector = Detector(teacher=counting_teacher(), resolution=96, epochs=1)
    detector.fit(list(noise), calibration=CalibrationSettings(), unseen="folds")
    plan = plan_export(detector, target="onnx", precision="fp32", image_size=None)
    write_export(detector, folder / "exported", plan)
    return folder


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # importing it now fails as if it were not installed
sys.argv = ["tinydefects", *sys.argv[1:]]
from tinydefects.cli.app import main
main()
"""
needs_export = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime"))), reason="needs the extra 'export'"
)


@pytest.mark.slow
@needs_export
def test_exported_models_are_served_without_torch(start, fitted):
    command = ["serve", fitted / "exported", f"again={fitted / 'exported'}", "--port", 0]
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, command)]
    service = start(command=command, TINYDEFECTS_API_KEY=KEY)
    service.client.headers["Authorization"] = f"Bearer {KEY}"
    assert [one["name"] for one in service.client.get("/models").json()] == ["exported", "again"]
    scores = []
    for name in ("exported", "again"):
        answer = service.client.post(f"/models/{name}/image", content=photograph(size=(60, 80)), headers=BYTES)
        assert answer.status_code == 200, answer.text
        scores.append(answer.json()["decision"]["score"])
    assert scores[0] == scores[1] > 0
    assert service.end() == (0, "stopped: 2 decisions\n")


@pytest.mark.slow
@needs_export
def test_the_command_refuses_in_one_line_what_it_cannot_serve(fitted, tmp_path, monkeypatch, capsys):
    model = fitted / "exported"
    with socket.create_server(("127.0.0.1", 0)) as other:
        in_use = other.getsockname()[1]
        for words, line in (
            (["--port", in_use], f"tinydefects: 127.0.0.1:{in_use}: cannot listen there"),
            (["--host", "0.0.0.0"], "tinydefects: --host 0.0.0.0: others than this machine could ask without a key"),
            ([model], "tinydefects: exported: two models of that name; give one of them another: other="),
            ([f"../x={model}"], "tinydefects: "),
            (["--photographs", tmp_path / "none"], "tinydefects: --photographs"),
            (["--scratch", "/proc/none"], "tinydefects: /proc/none: cannot write"),
            (["--allow-host", "*"], "tinydefects: --allow-host: give plain names without port"),
            (["--device", "cuda"], "tinydefects: "),
        ):
            code, out, err = run(monkeypatch, capsys, "serve", model, *words)
            assert (code, out) == (2, ""), err
            assert err.splitlines()[-1].startswith(line)


def test_without_the_extra_the_command_says_which(monkeypatch, capsys, tmp_path):
    for name in [name for name in sys.modules if name.startswith(("tinydefects.serve.", "fastapi", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = run(monkeypatch, capsys, "serve", tmp_path)
    assert code == 2
    assert err == "tinydefects: serve needs the extra 'serve': pip install '.[serve]' in the checkout\n"
