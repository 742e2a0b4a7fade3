"""What the inspection page asks of the service: maps, photographs as PNG, thresholds, good parts; and its own files."""

import asyncio
import importlib.util
import io
import json
import re

import pytest

if importlib.util.find_spec("fastapi") is None:
    pytest.skip("needs the extra 'serve'", allow_module_level=True)

import numpy as np
import tifffile
from PIL import Image
from starlette.testclient import TestClient

from contrast_model import GRAY, N_GOOD, calibrated, pixels, png
from service_parts import BASE, BYTES, KEY, Mean, left_in, make
from tinydefects.data.map_files import pixels_sha256
from tinydefects.decisions.calibration import CALIBRATION_FILE, read_calibration, write_calibration
from tinydefects.decisions.guarantees import highest_rate
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.calibrated import ThresholdsChangedError
from tinydefects.serve.gate import read_key
from tinydefects.serve.inspection import FOLDER, TYPES
from tinydefects.serve.service_settings import ServeSettings

pytestmark = pytest.mark.slow  # a whole service

DEFECT = (40, 50, 2, 255)
KEYED = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def model(tmp_path):
    (tmp_path / "model").mkdir()
    return calibrated(tmp_path / "model")


def client_of(tmp_path, model, key=None, **settings):
    return TestClient(make(tmp_path, {"parts": model}, key, **settings)[1], base_url=BASE)


def parts_of(answer):
    """The parts of a form that was answered, by name."""
    limit = re.search("boundary=(.*)", answer.headers["content-type"])[1].encode()
    pieces = [one.strip(b"\r\n").split(b"\r\n\r\n", 1) for one in answer.content.split(b"--" + limit)[1:-1]]
    return {re.search(rb'name="(\w+)"', head)[1].decode(): content for head, content in pieces}


def test_a_map_comes_with_its_decision_and_is_that_of_the_model(tmp_path, model):
    client, image = client_of(tmp_path, model), pixels(7, DEFECT)
    answer = client.post("/models/parts/map", content=png(image), headers=BYTES)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    parts = parts_of(answer)
    told = json.loads(parts["decision"])
    alone = client.post("/models/parts/image", content=png(image), headers=BYTES).json()
    assert told == alone | {"revision": client.get("/models/parts/calibration").json()["revision"]}
    assert told["decision"]["verdict"] == "defect"
    expected = model.detector.predict(image).anomaly_map
    found = np.frombuffer(parts["map"], "<f4").reshape(told["height"], told["width"])
    np.testing.assert_array_equal(found, expected)
    assert left_in(tmp_path) == []


def test_a_place_is_free_once_the_map_is_sent(tmp_path, model):
    service, app = make(tmp_path, {"parts": model}, places=1)
    client = TestClient(app, base_url=BASE)
    for _ in range(4):  # more than there are places, and than maps at once
        assert client.post("/models/parts/map", content=png(pixels(1)), headers=BYTES).status_code == 200
    assert client.post("/models/parts/map", content=b"no image", headers=BYTES).status_code == 422
    assert (service.places.n_taken, service.counts.n_decided, service.counts.n_problems) == (0, 4, 1)


async def ask_and_not_read(app, let):
    """Ask for a map, read its first part once it is let; the types of what was sent."""
    sent, body = [], iter([{"type": "http.request", "body": png(pixels(1)), "more_body": False}])

    async def receive():
        return next(body, None) or await asyncio.sleep(30)

    async def send(message):
        sent.append(message["type"])
        if message.get("more_body"):
            await let.wait()

    told = [(b"host", b"localhost"), (b"content-type", b"application/octet-stream")]
    path = "/models/parts/map"
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": told}
    await app(scope | {"server": ("localhost", 80), "client": ("127.0.0.1", 1)}, receive, send)
    return sent


def test_a_map_that_nobody_reads_is_given_up_and_its_place_is_free(tmp_path, model):
    async def ask():
        service, app = make(tmp_path, {"parts": model}, body_seconds=0.2)
        return await ask_and_not_read(app, asyncio.Event()), service.places.n_taken, service.maps.locked()

    assert asyncio.run(ask()) == (["http.response.start", "http.response.body"], 0, False)
    assert left_in(tmp_path) == []


def test_two_maps_are_in_memory_at_most_whoever_reads_them_slowly(tmp_path, model):
    async def ask():
        service, app = make(tmp_path, {"parts": model})
        let = asyncio.Event()
        running = [asyncio.create_task(ask_and_not_read(app, let)) for _ in range(4)]
        while service.counts.n_decided < 2 or service.places.n_taken < 4:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        n_decided = service.counts.n_decided
        let.set()
        await asyncio.gather(*running)
        return n_decided, service.counts.n_decided, service.places.n_taken

    assert asyncio.run(ask()) == (2, 4, 0)


def test_a_model_without_maps_is_told_so(tmp_path):
    client = TestClient(make(tmp_path, {"mean": Mean()})[1], base_url=BASE)
    assert client.post("/models/mean/map", content=png(pixels(1)), headers=BYTES).status_code == 404
    assert client.get("/models/mean/calibration").status_code == 404
    assert client.get("/models/none/calibration").status_code == 404


def test_what_browsers_cannot_show_comes_as_the_model_sees_it(tmp_path, model):
    deep = np.arange(12 * 16, dtype=np.uint16).reshape(12, 16) * 300
    file = io.BytesIO()
    tifffile.imwrite(file, deep)
    answer = client_of(tmp_path, model).post("/models/parts/photograph", content=file.getvalue(), headers=BYTES)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert shown.shape == (12, 16, 3)
    np.testing.assert_array_equal(shown[..., 1], np.rint(deep * (255 / 65535)))
    assert left_in(tmp_path) == []


def test_a_photograph_that_is_shown_is_not_counted_as_decided(tmp_path, model):
    service, app = make(tmp_path, {"parts": model}, most_megapixels=0.02)
    client = TestClient(app, base_url=BASE)
    for content, status in ((png(pixels(1)), 200), (b"no image", 422), (png(pixels(1, size=(200, 200))), 413)):
        assert client.post("/models/parts/photograph", content=content, headers=BYTES).status_code == status
    assert (service.counts.n_decided, service.counts.n_problems, service.places.n_taken) == (0, 0, 0)


def test_the_thresholds_are_told_with_what_any_other_would_be_worth(tmp_path, model):
    card, known = client_of(tmp_path, model).get("/models/parts/calibration").json(), model.thresholds.calibration
    assert card["scores"] == known.scores.tolist()
    assert card["good_up_to"] == known.good_up_to
    assert card["defect_above"] == known.defect_above
    assert (card["peak_above"], card["extent"]) == (known.seed, known.extent.model_dump())
    assert card["most_share"] == [highest_rate(n_above, N_GOOD) for n_above in range(N_GOOD + 1)]
    assert card["words"] == str(known).splitlines()
    assert card["may_add"] is False


def test_where_nothing_is_called_a_defect_that_is_null(tmp_path):
    (tmp_path / "model").mkdir()
    few = calibrated(tmp_path / "model", n_good=3)
    assert client_of(tmp_path, few).get("/models/parts/calibration").json()["defect_above"] is None


def good_files(*seeds):
    return [("photographs", (f"{seed}.png", png(pixels(seed, (5, 5, 4, GRAY + 60))))) for seed in seeds]


def add(client, revision, *seeds):
    return client.post(f"/models/parts/good-parts?revision={revision}", files=good_files(*seeds), headers=KEYED)


@pytest.fixture
def adding(tmp_path, model):
    """A client that may add good parts, and the file of the thresholds."""
    client = client_of(tmp_path, model, KEY, allow_recalibration=True)
    client.headers.update(KEYED)
    return client, tmp_path / "model" / CALIBRATION_FILE


def test_good_parts_are_added_and_the_former_thresholds_kept(adding, model):
    client, path = adding
    before, was = path.read_bytes(), client.get("/models/parts/calibration").json()
    assert (
        client.post("/models/parts/image", content=png(pixels(0, (5, 5, 4, GRAY + 60))), headers=BYTES).json()[
            "decision"
        ]["verdict"]
        == "defect"
    )
    answer = add(client, was["revision"], *range(100, 133))
    assert answer.status_code == 422  # more than are taken at once
    answer = add(client, was["revision"], *range(100, 120)).json()
    assert (answer["n_added"], answer["left_out"], answer["kept"]) == (20, [], "history/calibration-0001.json")
    assert (path.parent / answer["kept"]).read_bytes() == before
    known = read_calibration(path)
    assert len(known.images) == N_GOOD + 20 == len(answer["calibration"]["scores"])
    assert known.extent == read_calibration(path.parent / answer["kept"]).extent
    assert answer["calibration"]["good_up_to"] == known.good_up_to > was["good_up_to"]
    card = client.get("/models/parts/calibration").json()
    assert card == answer["calibration"]
    verdict = client.post("/models/parts/image", content=png(pixels(0, (5, 5, 4, GRAY + 60))), headers=BYTES).json()
    assert verdict["decision"]["verdict"] == "good"  # in force at once
    again = add(client, card["revision"], 100, 120, 100).json()
    assert (again["n_added"], again["left_out"], again["kept"]) == (
        1,
        ["100.png", "100.png"],
        "history/calibration-0002.json",
    )
    nothing = add(client, again["calibration"]["revision"], 120).json()
    assert (nothing["n_added"], nothing["kept"]) == (0, "")


def test_a_record_that_was_added_is_that_of_a_calibration_from_the_start(adding, model):
    client, path = adding
    add(client, model.thresholds.revision, 300)
    image = pixels(300, (5, 5, 4, GRAY + 60))
    record = read_calibration(path).images[-1]
    assert record.score == model.detector.predict(image).score
    assert (record.peaks[0], record.areas_px[0]) == (pytest.approx(60 / GRAY, abs=1e-6), 16)
    assert record.pixels_sha256 == pixels_sha256(image)
    assert record.picture is not None


def test_thresholds_that_changed_meanwhile_are_not_written_over(adding, model):
    client, path = adding
    revision = client.get("/models/parts/calibration").json()["revision"]
    assert add(client, revision, 100).status_code == 200
    assert add(client, revision, 101).status_code == 409
    by_hand = read_calibration(path).with_changes(false_alarms=0.2)
    write_calibration(path, by_hand)  # as 'tinydefects calibrate' would, beside the service
    answer = add(client, model.thresholds.revision, 101)
    assert (answer.status_code, "start the service again" in answer.text) == (409, True)
    assert read_calibration(path) == by_hand


def test_of_two_who_add_at_once_the_second_is_told_even_if_both_were_let_in(model):
    revision, record = model.thresholds.revision, model.look_at_good(pixels(100)).more
    model.add([("1", record)], revision)
    with pytest.raises(ThresholdsChangedError, match="look at the thresholds again"):
        model.add([("2", model.look_at_good(pixels(101)).more)], revision)
    assert len(model.thresholds.calibration.images) == N_GOOD + 1


def test_a_bad_or_a_learnt_photograph_adds_nothing(tmp_path):
    (tmp_path / "model").mkdir()
    learnt = pixels(300, (5, 5, 4, GRAY + 60))
    model = calibrated(tmp_path / "model", learnt=[pixels_sha256(learnt)[:16]])
    client, before = client_of(tmp_path, model, KEY, allow_recalibration=True), model.thresholds
    for bad, line in (
        (b"no image", "bad.png: not a readable image"),
        (png(learnt), "bad.png: the detector has learnt"),
    ):
        files = [*good_files(100), ("photographs", ("bad.png", bad))]
        answer = client.post(f"/models/parts/good-parts?revision={before.revision}", files=files, headers=KEYED)
        assert answer.status_code == 422
        assert answer.json()["detail"].startswith(line)
        assert "nothing was added" in answer.text
    assert model.thresholds is before
    assert not (tmp_path / "model/history").exists()


def test_good_parts_are_added_only_where_that_is_allowed_and_with_the_key(tmp_path, model):
    revision = model.thresholds.revision
    assert add(client_of(tmp_path, model, KEY), revision, 100).status_code == 403
    client = client_of(tmp_path, model, KEY, allow_recalibration=True)
    path = f"/models/parts/good-parts?revision={revision}"
    assert client.post(path, files=good_files(100)).status_code == 401
    told = KEYED | {"Origin": "http://evil.example"}
    assert client.post(path, files=good_files(100), headers=told).status_code == 403
    assert client.post("/models/parts/good-parts", files=good_files(100), headers=KEYED).status_code == 409
    with pytest.raises(TinyDefectsError, match=r"^--allow-recalibration: .*--api-key-file"):
        read_key(ServeSettings(allow_recalibration=True), {})


def test_thresholds_that_cannot_be_written_stay_in_memory_as_they_were(tmp_path, model):
    (tmp_path / "model/history").write_text("a file, where a folder is needed")
    before, client = model.thresholds, client_of(tmp_path, model, KEY, allow_recalibration=True)
    answer = add(client, before.revision, 100)
    assert (answer.status_code, str(tmp_path) in answer.text) == (503, False)
    assert model.thresholds is before
    assert len(read_calibration(tmp_path / "model" / CALIBRATION_FILE).images) == N_GOOD


def test_the_page_needs_no_key_and_may_do_nothing_but_ask_its_own_service(tmp_path, model):
    client = client_of(tmp_path, model, KEY)
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    names = sorted(path.name for path in FOLDER.iterdir())
    assert "app.js" in names
    for path in ("/", *(f"/page/{name}" for name in names)):
        answer = client.get(path)
        assert answer.status_code == 200
        policy = dict(one.split(" ", 1) for one in answer.headers["content-security-policy"].split("; "))
        assert (
            policy["default-src"]
            == policy["base-uri"]
            == policy["form-action"]
            == policy["frame-ancestors"]
            == "'none'"
        )
        assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
        assert not {"unsafe-inline", "unsafe-eval"} & set(re.findall(r"unsafe-\w+", str(policy)))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert client.get("/models").headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    for path in ("/page/", "/page/none.js", "/page/..%2fgate.py", "/page/../gate.py", "/models"):
        assert client.get(path).status_code in {401, 404}


def test_the_page_names_no_other_place_and_holds_no_script_or_style_of_its_own(tmp_path):
    for path in FOLDER.iterdir():
        assert path.suffix in TYPES
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
        assert len(text.splitlines()) <= 400
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", page)
    for name in re.findall(r'(?:src|href)="(page/[^"]+)"', page):
        assert (FOLDER.parent / name).is_file()


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_ratio_of_black_and_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=0.001)  # WCAG's own example of a near miss


COLOURS = {
    name: shades
    for name, *shades in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", (FOLDER / "page.css").read_text())
}
GROUNDS = ("page", "surface", "sunken")


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa_and_so_have_controls(scheme):
    for ground in GROUNDS:
        for text in ("ink", "muted", "good", "unsure", "defect", "accent"):
            assert contrast(COLOURS[text][scheme], COLOURS[ground][scheme]) >= 4.5, (text, ground)
        for control in ("control", "accent"):
            assert contrast(COLOURS[control][scheme], COLOURS[ground][scheme]) >= 3, (control, ground)
    for text, ground in (("on-accent", "accent"), ("page", "ink"), ("ink", "alert"), ("defect", "alert")):
        assert contrast(COLOURS[text][scheme], COLOURS[ground][scheme]) >= 4.5, (text, ground)
