"""The limits of the service: bytes, pixels, photographs, time and places, and who gets through the gate."""

import asyncio
import importlib.util
import io
from pathlib import Path

import pytest

if importlib.util.find_spec("fastapi") is None:
    pytest.skip("needs the extra 'serve'", allow_module_level=True)

import httpx2
from starlette.testclient import TestClient

from service_parts import BASE, BYTES, KEY, Mean, Slow, left_in, make, photograph
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.gate import KEY_VARIABLE, key_remark, read_key
from tinydefects.serve.service_settings import ServeSettings

pytestmark = pytest.mark.slow  # a whole service

IMAGE = "/models/mean/image"


def client_of(tmp_path, models=None, key=None, **settings):
    return TestClient(make(tmp_path, models, key, **settings)[1], base_url=BASE)


def in_parts(content, n_parts=10):
    """Sent in chunks, without a length."""
    step = -(-len(content) // n_parts)
    yield from (content[start : start + step] for start in range(0, len(content), step))


def test_a_request_of_the_most_bytes_is_taken_and_one_byte_more_is_not(tmp_path):
    content = photograph()
    for most, status in ((len(content), 200), (len(content) - 1, 413)):
        client = client_of(tmp_path, most_megabytes=most / 1e6)
        assert client.post(IMAGE, content=content, headers=BYTES).status_code == status
        assert client.post(IMAGE, content=in_parts(content), headers=BYTES).status_code == status
    assert left_in(tmp_path) == []


def test_a_form_is_counted_while_it_is_read_and_not_kept(tmp_path):
    files = [("photographs", ("1.png", photograph())), ("photographs", ("2.png", b"\0" * 5000))]
    request = httpx2.Request("POST", BASE, files=files)
    content = request.read()
    told = {"Content-Type": request.headers["Content-Type"]}
    for most, status in ((len(content), 200), (len(content) - 1, 413)):
        client = client_of(tmp_path, most_megabytes=most / 1e6)
        assert client.post("/models/mean/batch", content=in_parts(content), headers=told).status_code == status
    assert left_in(tmp_path) == []


def test_a_length_that_is_too_large_is_refused_before_a_byte_is_read(tmp_path):
    async def ask():
        async def never():
            raise AssertionError("the body was read")

        return await status_of(make(tmp_path, most_megabytes=0.001)[1], never, [(b"content-length", b"1001")])

    assert asyncio.run(ask()) == 413


async def status_of(app, receive, headers=(), path=IMAGE):
    """The status that a raw request is answered with."""
    told, sent = [(b"host", b"localhost"), (b"content-type", b"application/octet-stream"), *headers], []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "headers": told}
    await app(scope | {"server": ("localhost", 80), "client": ("127.0.0.1", 1)}, receive, send)
    return sent[0]["status"]


def test_pixels_are_counted_before_they_are_read(tmp_path):
    size = (100, 200)
    for most, status in ((20_000, 200), (19_999, 413)):
        client = client_of(tmp_path, most_megapixels=most / 1e6)
        answer = client.post(IMAGE, content=photograph(size=size), headers=BYTES)
        assert answer.status_code == status
    assert answer.json()["detail"].startswith("the photograph: 100 x 200 pixels, at most 0.019999 megapixels")
    files = [("photographs", ("large.png", photograph(size=size))), ("photographs", ("small.png", photograph(3)))]
    answers = client.post("/models/mean/batch", files=files).json()["answers"]
    assert answers[0]["problem"].startswith("large.png: 100 x 200 pixels")
    assert answers[1]["decision"]["score"] == 3.0


def test_a_header_that_claims_more_pixels_than_there_are_costs_no_memory(tmp_path):
    lying = bytearray(photograph(kind="BMP"))
    lying[18:26] = (30_000).to_bytes(4, "little") + (30_000).to_bytes(4, "little")
    assert client_of(tmp_path).post(IMAGE, content=bytes(lying), headers=BYTES).status_code == 413


def test_photographs_are_counted(tmp_path):
    for n, status in ((2, 200), (3, 422)):
        client = client_of(tmp_path, most_photographs=2, photographs=tmp_path)
        (tmp_path / "1.png").write_bytes(photograph())
        files = [("photographs", (f"{number}.png", photograph())) for number in range(n)]
        assert client.post("/models/mean/batch", files=files).status_code == status
        assert client.post("/models/mean/paths", json={"paths": ["1.png"] * n}).status_code == status
    assert left_in(tmp_path) == []


class FullDisk(io.BytesIO):
    def write(self, content):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("address", [IMAGE, "/models/mean/batch"])
def test_without_room_for_uploads_it_says_so_and_goes_on_once_there_is_some(tmp_path, monkeypatch, caplog, address):
    service, app = make(tmp_path, places=1)
    client, content = TestClient(app, base_url=BASE), photograph()
    sent = {"content": content, "headers": BYTES}
    if address != IMAGE:
        sent = {"files": [("photographs", ("1.png", content))]}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, mode: FullDisk())
        full = client.post(address, **sent)
    (tmp_path / "scratch").rename(tmp_path / "elsewhere")  # somebody swept it
    gone = client.post(address, **sent)
    (tmp_path / "elsewhere").rename(tmp_path / "scratch")
    for answer in (full, gone):
        assert answer.status_code == 503
        assert answer.json() == {"detail": "the service has no room for uploads left; its log says more"}
    assert "an upload cannot be kept: [Errno 28] No space left on device" in caplog.text
    assert (service.is_idle, list((tmp_path / "scratch").iterdir())) == (True, [])
    assert client.post(address, **sent).status_code == 200


def test_a_body_that_does_not_come_is_given_up_and_its_place_is_free(tmp_path):
    async def ask():
        service, app = make(tmp_path, body_seconds=0.05)
        first = iter([{"type": "http.request", "body": photograph()[:30], "more_body": True}])

        async def receive():
            return next(first, None) or await asyncio.sleep(30)

        return await status_of(app, receive), service.places.n_taken

    assert asyncio.run(ask()) == (408, 0)
    assert left_in(tmp_path) == []


def test_a_sender_who_goes_while_sending_leaves_nothing(tmp_path):
    async def ask():
        service, app = make(tmp_path)
        messages = iter([{"type": "http.request", "body": b"1", "more_body": True}, {"type": "http.disconnect"}])

        async def receive():
            return next(messages)

        return await status_of(app, receive), service.places.n_taken

    assert asyncio.run(ask()) == (400, 0)
    assert left_in(tmp_path) == []


def asked_at_once(app):
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE, timeout=60)


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("did not come")


def test_more_requests_than_places_are_told_when_to_come_back_and_are_not_read(tmp_path):
    async def ask():
        slow = Slow()
        service, app = make(tmp_path, {"slow": slow}, places=2)
        async with asked_at_once(app) as client:
            post = lambda: client.post("/models/slow/image", content=photograph(), headers=BYTES)  # noqa: E731
            running = [asyncio.create_task(post()) for _ in range(2)]
            await until(lambda: service.places.n_taken == 2)

            async def never():
                raise AssertionError("the body was read")

            assert await status_of(app, never, path="/models/slow/image") == 429
            refused = await post()
            assert (refused.status_code, int(refused.headers["Retry-After"])) == (429, 2)  # a second each, none known
            assert (await client.get("/health")).status_code == 200
            slow.let.set()
            assert [one.status_code for one in await asyncio.gather(*running)] == [200, 200]
            assert (await post()).status_code == 200

    asyncio.run(ask())
    assert left_in(tmp_path) == []


def test_when_to_come_back_follows_from_recent_decisions(tmp_path):
    async def ask():
        service, _ = make(tmp_path)
        service.work.note_seconds(10.0)
        service.work.note_seconds(3.2)
        service.work.note_seconds(3.0)
        for n, expected in ((0, 1), (1, 4), (5, 16), (10_000, 3600)):
            service.work.n_at_hand = n
            assert service.work.retry_after() == expected

    asyncio.run(ask())


def test_a_decision_that_takes_too_long_is_given_up_but_keeps_its_place_until_it_ends(tmp_path):
    async def ask():
        slow = Slow()
        service, app = make(tmp_path, {"slow": slow}, places=2, decision_seconds=0.05)
        async with asked_at_once(app) as client:
            both = (client.post("/models/slow/image", content=photograph(), headers=BYTES) for _ in range(2))
            answers = await asyncio.gather(*both)
            assert [one.status_code for one in answers] == [504, 504]
            assert service.places.n_taken == 2
            refused = await client.post("/models/slow/image", content=photograph(), headers=BYTES)
            assert refused.status_code == 429
            slow.let.set()
            await until(lambda: service.is_idle)
        assert slow.n_decided == 1  # the second had not begun, and nobody waited for it any more

    asyncio.run(ask())
    assert left_in(tmp_path) == []


def test_a_caller_who_goes_keeps_the_place_until_the_decision_ends(tmp_path):
    async def ask():
        slow = Slow()
        service, app = make(tmp_path, {"slow": slow}, places=1)
        messages = iter([{"type": "http.request", "body": photograph()}, {"type": "http.disconnect"}])

        async def receive():
            return next(messages)

        gone = asyncio.create_task(status_of(app, receive, path="/models/slow/image"))
        await until(slow.begun.is_set)
        gone.cancel()
        await asyncio.wait({gone})
        assert service.places.n_taken == 1
        async with asked_at_once(app) as client:
            refused = await client.post("/models/slow/image", content=photograph(), headers=BYTES)
            assert refused.status_code == 429
        slow.let.set()
        await until(lambda: service.is_idle)

    asyncio.run(ask())
    assert left_in(tmp_path) == []


def test_few_photographs_lie_in_memory_whatever_waits(tmp_path):
    """Three: two that are read, one that is decided."""

    async def ask():
        slow, n_read = Slow(), []
        service, app = make(tmp_path, {"slow": slow}, places=8)
        step = service.counts.step
        service.counts.step = lambda model, kind, seconds: (n_read.append(kind), step(model, kind, seconds))
        async with asked_at_once(app) as client:
            files = [("photographs", (f"{number}.png", photograph())) for number in range(6)]
            running = [asyncio.create_task(client.post("/models/slow/batch", files=files)) for _ in range(3)]
            await until(lambda: n_read.count("read") == 3)
            await asyncio.sleep(0.1)
            assert n_read.count("read") == 3
            slow.let.set()
            assert [len((await one).json()["answers"]) for one in running] == [6, 6, 6]

    asyncio.run(ask())


def test_a_single_photograph_does_not_wait_for_a_whole_batch(tmp_path):
    async def ask():
        slow = Slow()
        service, app = make(tmp_path, {"slow": slow})
        async with asked_at_once(app) as client:
            files = [("photographs", (f"{number}.png", photograph())) for number in range(30)]
            batch = asyncio.create_task(client.post("/models/slow/batch", files=files))
            await until(slow.begun.is_set)
            single = asyncio.create_task(client.post("/models/slow/image", content=photograph(), headers=BYTES))
            await until(lambda: service.work.n_at_hand == 4)
            slow.let.set()
            await single
            assert not batch.done()
            assert (await batch).status_code == 200

    asyncio.run(ask())


OPEN, CLOSED = ("/health", "/ready", "/version"), ("/models", "/metrics", "/openapi.json", "/none")


def test_with_a_key_nothing_but_health_is_open(tmp_path):
    client = client_of(tmp_path, key=KEY)
    assert [client.get(path).status_code for path in OPEN] == [200] * 3
    wrong = ({}, {"Authorization": KEY}, {"Authorization": f"Bearer {KEY}x"}, {"Authorization": f"bearer {KEY}"})
    for headers in (*wrong, {"Authorization": f"Bearer {KEY[:-1]}"}, {"Authorization": b"Bearer \xff"}):
        answers = [client.get(path, headers=headers) for path in CLOSED]
        answers.append(client.post(IMAGE, content=photograph(), headers=BYTES | headers))
        assert [one.status_code for one in answers] == [401] * 5
        assert {one.headers["WWW-Authenticate"] for one in answers} == {"Bearer"}
    right = {"Authorization": f"Bearer {KEY}"}
    assert [client.get(path, headers=right).status_code for path in CLOSED] == [200, 200, 200, 404]
    assert client.post(IMAGE, content=photograph(), headers=BYTES | right).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.2", "[::2]", ""])
def test_another_host_is_refused(tmp_path, host):
    answer = client_of(tmp_path).get("/health", headers={"Host": host})
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "10.0.0.7", "line3"])
def test_its_own_hosts_are_taken(tmp_path, host):
    client = client_of(tmp_path, host="10.0.0.7", allow_host=("Line3",))
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "",
        "http://localhost:81",
        "https://localhost:80",
        "file://localhost",
        "http://[::1",
    ],
)
def test_pages_of_other_origins_may_not_ask(tmp_path, origin):
    answer = client_of(tmp_path).post(IMAGE, content=photograph(), headers=BYTES | {"Origin": origin})
    assert answer.status_code == 403


@pytest.mark.parametrize("origin", ["http://localhost", "https://LOCALHOST"])
def test_its_own_page_may_ask(tmp_path, origin):
    answer = client_of(tmp_path).post(IMAGE, content=photograph(), headers=BYTES | {"Origin": origin})
    assert answer.status_code == 200


def test_every_answer_tells_browsers_to_do_nothing_with_it(tmp_path):
    class Broken(Mean):
        @property
        def settings(self):
            raise RuntimeError

    client = TestClient(make(tmp_path, {"m": Broken()}, KEY)[1], base_url=BASE, raise_server_exceptions=False)
    right = {"Authorization": f"Bearer {KEY}"}
    asked = [
        ("/health", {}),
        ("/none", {}),
        ("/health", {"Host": "x"}),
        ("/health", {"Origin": "x"}),
        ("/models", right),
    ]
    answers = [client.get(path, headers=headers) for path, headers in asked]
    assert [one.status_code for one in answers] == [200, 401, 400, 403, 500]
    for answer in answers:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_key_comes_from_a_file_or_from_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert read_key(ServeSettings(api_key_file=file), {KEY_VARIABLE: "other-0123456789"}) == KEY
    assert read_key(ServeSettings(host="0.0.0.0"), {KEY_VARIABLE: KEY}) == KEY
    assert read_key(ServeSettings(), {}) is None


@pytest.mark.parametrize("key", ["", "short", "0123456789 abcdef", "0123456789abcdeß", "0123456789\nabcdef"])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(TinyDefectsError, match="a key is one word of at least 16"):
        read_key(ServeSettings(), {KEY_VARIABLE: key})


def test_a_key_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(TinyDefectsError, match=r"--api-key-file .*: not readable"):
        read_key(ServeSettings(api_key_file=tmp_path / "none"), {})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "line3.example"])
def test_others_than_this_machine_need_a_key(host):
    with pytest.raises(TinyDefectsError, match=f"--host {host}: others than this machine could ask without a key"):
        read_key(ServeSettings(host=host), {})


def test_a_key_that_everybody_can_read_is_remarked(tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY)
    settings = ServeSettings(api_key_file=file)
    file.chmod(0o600)
    assert key_remark(settings) is None
    file.chmod(0o644)
    assert str(key_remark(settings)).endswith(f"everybody on this machine can read the key; chmod 600 {file}")
    assert key_remark(ServeSettings()) is None
