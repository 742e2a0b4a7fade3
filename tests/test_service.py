"""The service over its application: what is asked and answered, and what is never read."""

import importlib.util
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if importlib.util.find_spec("fastapi") is None:
    pytest.skip("needs the extra 'serve'", allow_module_level=True)

from starlette.testclient import TestClient

from service_parts import BASE, BYTES, Mean, left_in, make, photograph
from tinydefects.errors import ModelFileError, ScoreError, TinyDefectsError
from tinydefects.serve.below import find_below
from tinydefects.serve.service_settings import ServeSettings

pytestmark = pytest.mark.slow  # a whole service


@pytest.fixture
def client(tmp_path):
    with TestClient(make(tmp_path)[1], base_url=BASE) as client:
        yield client


def with_settings(tmp_path, models=None, **settings):
    return TestClient(make(tmp_path, models, **settings)[1], base_url=BASE, raise_server_exceptions=False)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_a_photograph_is_answered_with_its_decision(client, tmp_path, kind):
    answer = client.post("/models/mean/image", content=photograph(7, kind=kind), headers=BYTES)
    assert answer.status_code == 200
    assert answer.json() == {
        "model": "mean",
        "fingerprint": "mean",
        "height": 8,
        "width": 10,
        "decision": {"verdict": "pass", "score": pytest.approx(7.0, abs=1.0)},
    }
    assert left_in(tmp_path) == []


def test_an_image_type_is_taken_and_a_form_type_is_not(client):
    content = photograph()
    assert client.post("/models/mean/image", content=content, headers={"Content-Type": "image/png"}).status_code == 200
    for told in ({"Content-Type": "text/plain"}, {"Content-Type": "imagepng"}, {}):
        assert client.post("/models/mean/image", content=content, headers=told).status_code == 415


@pytest.mark.parametrize("content", [b"", b"no image", photograph()[:40]], ids=["empty", "no image", "cut off"])
def test_what_is_no_photograph_is_told_so_without_a_place_on_this_machine(client, tmp_path, content):
    answer = client.post("/models/mean/image", content=content, headers=BYTES)
    assert answer.status_code == 422
    assert str(tmp_path) not in answer.text
    assert "scratch" not in answer.text
    assert ("the request is empty" if not content else "the photograph: not a readable image") in answer.text
    assert left_in(tmp_path) == []


def test_a_bad_photograph_of_a_batch_stops_no_other(client, tmp_path):
    named = [("1.png", photograph(1)), ("../2.png", b"no image"), ("3.png", photograph(3)), ("", photograph(4))]
    files = [("photographs", (name, content)) for name, content in named]
    body, boundary = b"", "=limit="
    for _, (name, content) in files:
        told = f'--{boundary}\r\nContent-Disposition: form-data; name="photographs"; filename="{name}"\r\n\r\n'
        body += told.encode() + content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    told = {"Content-Type": f'multipart/form-data; boundary="{boundary}"'}
    answer = client.post("/models/mean/batch", content=body, headers=told)
    assert answer.status_code == 200
    answers = answer.json()["answers"]
    assert [one["photograph"] for one in answers] == ["1.png", "../2.png", "3.png", "photograph 3"]
    assert [one["decision"] and one["decision"]["score"] for one in answers] == [1.0, None, 3.0, 4.0]
    assert [one["problem"] and one["problem"].split(" (")[0] for one in answers] == [
        None,
        "../2.png: not a readable image",
        None,
        None,
    ]
    assert left_in(tmp_path) == []


def test_a_client_s_own_form_is_read(client):
    files = [("photographs", (f"{value}.png", photograph(value), "image/png")) for value in range(12)]
    answers = client.post("/models/mean/batch", files=files).json()["answers"]
    assert [one["decision"]["score"] for one in answers] == list(range(12))


@pytest.mark.parametrize(
    ("content", "told", "status"),
    [
        (b"--x\r\n", "multipart/form-data", 400),
        (b"no form", "multipart/form-data; boundary=x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="photographs"; filename="a"\r\n\r\nab', "x", 400),
        (b'--x\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\na\r\n--x--\r\n', "x", 422),
        (b'--x\r\nContent-Disposition: form-data; name="photographs"\r\n\r\na\r\n--x--\r\n', "x", 422),
        (b"--x\r\nContent-Type: image/png\r\n\r\na\r\n--x--\r\n", "x", 422),
        (b"--x--\r\n", "x", 422),
        (b"", "application/json", 415),
    ],
)
def test_what_is_no_form_of_photographs_is_refused(client, tmp_path, content, told, status):
    told = f"multipart/form-data; boundary={told}" if told == "x" else told
    answer = client.post("/models/mean/batch", content=content, headers={"Content-Type": told})
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert left_in(tmp_path) == []


def test_several_models_answer_under_their_names(tmp_path):
    client = with_settings(tmp_path, {"a": Mean("1"), "b": Mean("2")})
    cards = client.get("/models").json()
    assert cards == [{"name": name, "fingerprint": one, "image_bits": 16} for name, one in (("a", "1"), ("b", "2"))]
    for name, fingerprint in (("a", "1"), ("b", "2")):
        answer = client.post(f"/models/{name}/image", content=photograph(), headers=BYTES).json()
        assert (answer["model"], answer["fingerprint"]) == (name, fingerprint)
    answer = client.post("/models/c/image", content=photograph(), headers=BYTES)
    assert (answer.status_code, answer.json()["detail"]) == (404, "no such model; there are: a, b (GET /models)")


class Failing(Mean):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def decide(self, image):
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ModelFileError("/secret/model: cannot run"), 500),
        (RuntimeError("/secret"), 500),
        (OSError("/secret"), 500),
        (MemoryError("/secret"), 503),
        (ScoreError("no score"), 422),
    ],
)
def test_a_model_that_fails_is_told_without_its_reasons(tmp_path, caplog, error, status):
    client = with_settings(tmp_path, {"bad": Failing(error)})
    answer = client.post("/models/bad/image", content=photograph(), headers=BYTES)
    assert answer.status_code == status
    assert "secret" not in answer.text
    assert (str(error) in caplog.text) == (status == 500)


def test_a_decision_without_a_number_is_null(tmp_path):
    class Undefined(Mean):
        def decide(self, image):
            return {"verdict": "unsure", "score": float("nan")}

    answer = with_settings(tmp_path, {"m": Undefined()}).post("/models/m/image", content=photograph(), headers=BYTES)
    assert answer.json()["decision"] == {"verdict": "unsure", "score": None}


@pytest.fixture
def tree(tmp_path):
    """Photographs of value 1 inside, of value 99 outside, and every kind of way out."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    (inside / "line 3").mkdir(parents=True)
    outside.mkdir()
    for place, value in ((inside / "1.png", 1), (inside / "line 3/ü.png", 1), (outside / "99.png", 99)):
        place.write_bytes(photograph(value))
    (tmp_path / "inside-too").mkdir()
    (tmp_path / "inside-too/99.png").write_bytes(photograph(99))
    (inside / "link.png").symlink_to(outside / "99.png")
    (inside / "linked").symlink_to(outside)
    (inside / "own link.png").symlink_to(inside / "1.png")
    (inside / "circle").symlink_to(inside / "circle")
    (inside / "bad.png").write_bytes(b"no image")
    os.mkfifo(inside / "pipe.png")
    return tmp_path.resolve()


def ask(client, *paths):
    return client.post("/models/mean/paths", json={"paths": paths})


def test_photographs_are_named_below_the_folder(tree):
    client = with_settings(tree, photographs=tree / "inside")
    answers = ask(client, "1.png", "line 3/ü.png", "./line 3//ü.png", "own link.png", "bad.png").json()["answers"]
    assert [one["decision"] and one["decision"]["score"] for one in answers] == [1.0, 1.0, 1.0, 1.0, None]
    assert answers[4]["problem"].startswith("bad.png: not a readable image")
    assert str(tree) not in str(answers)


@pytest.mark.parametrize(
    "path",
    [
        "../outside/99.png",
        "line 3/../../outside/99.png",
        "line 3/../1.png",
        "link.png",
        "linked/99.png",
        "circle",
        "pipe.png",
        "line 3",
        ".",
        "",
        "1.png\0",
        "\0",
        "/etc/passwd",
        "//etc/passwd",
        "..\\outside\\99.png",
        "C:\\99.png",
        "none.png",
        "1.png/x",
        "x" * 5000,
        "../inside-too/99.png",
    ],
)
def test_no_way_leads_out_of_the_folder_and_all_are_refused_alike(tree, path):
    client = with_settings(tree, photographs=tree / "inside")
    answer = ask(client, "1.png", path)
    line = "no such photograph: number 1 of those asked for, counted from 0"
    assert (answer.status_code, answer.json()) == (404, {"detail": line})


def test_an_absolute_path_of_the_folder_itself_is_refused(tree):
    client = with_settings(tree, photographs=tree / "inside")
    assert ask(client, str(tree / "inside/1.png")).status_code == 404


PIECES = st.sampled_from(
    [
        *("..", ".", "", "/", "\\", "\0", "~", "%2e%2e", "C:", "etc", "passwd", "\ud800", "1.png", "99.png", "ü.png"),
        *("line 3", "link.png", "own link.png", "linked", "circle", "bad.png", "inside", "inside-too", "outside"),
    ]
)


@given(pieces=st.lists(PIECES, max_size=7), between=st.sampled_from(["/", "//", "\\", ""]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # nothing changes in the tree
def test_whatever_is_named_what_is_found_lies_below_the_folder(tree, pieces, between):
    inside = tree / "inside"
    found = find_below(inside, between.join(pieces))
    assert found is None or found in {inside / "1.png", inside / "line 3/ü.png", inside / "bad.png"}


def test_without_a_folder_no_path_is_taken(client):
    assert ask(client, "1.png").status_code == 404


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(TinyDefectsError, match=r"--photographs .*: no such folder"):
        make(tmp_path, photographs=tmp_path / "none")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"paths": []}', b'{"paths": [1]}', b'{"paths": ["a"], "b": 1}']
)
def test_paths_that_are_none_are_refused(tree, content):
    client = with_settings(tree, photographs=tree / "inside")
    answer = client.post("/models/mean/paths", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)


def test_what_is_counted_can_be_read_by_prometheus(client):
    from prometheus_client.parser import text_string_to_metric_families

    client.post("/models/mean/image", content=photograph(), headers=BYTES)
    client.post("/models/mean/image", content=b"no image", headers=BYTES)
    client.post("/models/none/image", content=photograph(), headers=BYTES)
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}
    assert found["tinydefects_requests_total", "mean", "200"] == 1
    assert found["tinydefects_requests_total", "mean", "422"] == 1
    assert found["tinydefects_requests_total", "", "404"] == 1
    assert found["tinydefects_photographs_total", "mean", "pass"] == 1
    assert found["tinydefects_photographs_total", "mean", "problem"] == 1
    assert found["tinydefects_seconds_count", "mean", "read"] == 1
    assert found["tinydefects_seconds_count", "mean", "decide"] == 1
    assert (found["tinydefects_places",], found["tinydefects_places_taken",]) == (8, 0)


def test_health_readiness_and_version_are_told(tmp_path):
    service, app = make(tmp_path)
    client = TestClient(app, base_url=BASE)
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json() == {"status": "ready"}
    assert set(client.get("/version").json()) == {"version"}
    service.is_stopping = True
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    assert client.post("/models/mean/image", content=photograph(), headers=BYTES).status_code == 503


def test_there_is_a_document_with_examples_and_no_page_that_loads_scripts(client):
    document = client.get("/openapi.json").json()
    assert set(document["paths"]) == {
        *("/health", "/ready", "/version", "/models", "/metrics"),
        *(
            f"/models/{{name}}/{kind}"
            for kind in ("image", "batch", "paths", "map", "photograph", "calibration", "good-parts")
        ),
    }
    assert document["components"]["schemas"]["Decided"]["examples"]
    assert document["components"]["schemas"]["DecidedBatch"]["examples"]
    assert [client.get(path).status_code for path in ("/docs", "/redoc", "/docs/oauth2-redirect")] == [404] * 3


def test_the_settings_say_who_is_local_and_which_hosts_are_allowed():
    assert [ServeSettings(host=host).is_local for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9")] == [True] * 4
    assert [ServeSettings(host=host).is_local for host in ("0.0.0.0", "::", "10.0.0.7", "line3.example")] == [False] * 4
    hosts = ServeSettings(host="::", allow_host=("Line3.example",)).hosts
    assert hosts == ["localhost", "127.0.0.1", "[::1]", "[::]", "line3.example"]
    for bad in ("*", "*.example", "a b", "", "http://x", "x:80"):
        with pytest.raises(ValueError, match="plain names"):
            ServeSettings(allow_host=(bad,))
