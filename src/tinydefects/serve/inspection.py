"""What the inspection page asks: its own files, maps, photographs as a browser can show them, thresholds."""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response
from numpy.typing import NDArray
from starlette.types import Receive, Scope, Send

from tinydefects.decisions.guarantees import highest_rate
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.answers import CalibrationCard, GoodAdded, Inspected, refusals
from tinydefects.serve.calibrated import Calibrated, ThresholdsChangedError
from tinydefects.serve.gate import PAGE, PAGE_FILES
from tinydefects.serve.service import Service
from tinydefects.serve.service_settings import MEGA
from tinydefects.serve.uploads import require_type, save_form, save_photograph, takes

LOG = logging.getLogger("tinydefects")
FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
AT_ONCE = 1 << 20  # bytes that are sent before others have their turn
CONFIDENCE = 0.95
BYTES_SCHEMA = {"type": "string", "format": "binary"}


def page_files() -> APIRouter:
    """The page: files of this package, the same for everybody."""
    router = APIRouter(include_in_schema=False)

    @router.get(PAGE)
    async def page() -> Response:
        return _file("index.html")

    @router.get(f"{PAGE_FILES}{{name}}")
    async def file(name: str) -> Response:
        return _file(name)

    return router


def _file(name: str) -> Response:
    if name not in _files():
        raise HTTPException(404, "no such file of the page")
    content, kind = _files()[name]
    return Response(content, media_type=kind)


@cache
def _files() -> Mapping[str, tuple[bytes, str]]:
    """All files of the page with their types, by name."""
    return {path.name: (path.read_bytes(), TYPES[path.suffix]) for path in FOLDER.iterdir() if path.suffix in TYPES}


def inspecting(service: Service) -> APIRouter:
    """What is asked of one model."""
    router = APIRouter(responses=refusals(400, 401, 403, 404))
    codes = refusals(408, 413, 415, 422, 429, 500, 503, 504)
    revision = {"type": "object", "properties": {"revision": {"type": "string"}}, "required": ["revision"]}
    decision = {"allOf": [{"$ref": "#/components/schemas/Decided"}, revision]}
    parts = {"type": "object", "properties": {"decision": decision, "map": BYTES_SCHEMA}}
    map_answer: dict[int | str, Any] = {200: {"content": {"multipart/form-data": {"schema": parts}}}}
    png_answer: dict[int | str, Any] = {200: {"content": {"image/png": {"schema": BYTES_SCHEMA}}}}
    one_file = takes("application/octet-stream", BYTES_SCHEMA)

    @router.post("/map", response_class=Response, responses={**codes, **map_answer}, openapi_extra=one_file)
    async def anomaly_map(name: str, request: Request) -> Response:
        """Decide one photograph as `image` does, and answer its map as well.

        The answer is a form of two: `decision`, and `map`, the height times width values as 32-bit floats, little
        endian, row by row. Its revision is that of the thresholds.
        """
        model, inspects = service.model(name), inspecting_model(service, name)
        require_type(request, "application/octet-stream", "image/")
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(service.place())
            photograph = await save_photograph(request, place.folder, service.settings)
            await stack.enter_async_context(service.maps)
            (outcome,) = await service.decide(model, [photograph], place, inspects.inspect)
            if outcome.decision is None or outcome.size is None:
                raise HTTPException(413 if outcome.is_too_large else 422, outcome.problem)
            (height, width), seen = outcome.size, outcome.more
            told = Inspected(
                model=name,
                fingerprint=model.fingerprint,
                height=height,
                width=width,
                decision=dict(outcome.decision),
                revision=seen.revision,
            )
            form = _form(told.model_dump_json().encode(), seen.anomaly_map)
            return _Held(form, stack.pop_all(), service.settings.body_seconds)

    @router.post("/photograph", response_class=Response, responses={**codes, **png_answer}, openapi_extra=one_file)
    async def photograph_as_png(name: str, request: Request) -> Response:
        """One photograph as the model sees it, upright, 8 bits a colour: for what browsers cannot show."""
        model = service.model(name)
        require_type(request, "application/octet-stream", "image/")
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(service.place())
            photograph = await save_photograph(request, place.folder, service.settings)
            outcome = await service.show(model, photograph, place)
            if outcome.more is None:
                raise HTTPException(413 if outcome.is_too_large else 422, outcome.problem)
            png = _Sendable("image/png", outcome.more.stat().st_size, _parts_of(outcome.more))
            return _Held(png, stack.pop_all(), service.settings.body_seconds)

    @router.get("/calibration")
    async def calibration(name: str) -> CalibrationCard:
        """The thresholds in force, the good parts that they follow from, and what any other would be worth."""
        return _card(service, inspecting_model(service, name))

    _add_recalibration(router, service)
    return router


def _add_recalibration(router: APIRouter, service: Service) -> None:
    files = {"type": "array", "minItems": 1, "maxItems": service.settings.most_photographs, "items": BYTES_SCHEMA}
    form = {"type": "object", "properties": {"photographs": files}, "required": ["photographs"]}
    codes = refusals(408, 409, 413, 415, 422, 429, 500, 503, 504)

    @router.post("/good-parts", responses=codes, openapi_extra=takes("multipart/form-data", form))
    async def add_good_parts(name: str, request: Request, revision: Annotated[str, Query()] = "") -> GoodAdded:
        """Add photographs of good parts to the thresholds: all of a form, or none if one cannot be read.

        `revision` is that of the thresholds they are added to. The former ones are kept in MODEL/history.
        """
        if not service.settings.allow_recalibration:
            raise HTTPException(403, "good parts cannot be added here (--allow-recalibration)")
        model, inspects = service.model(name), inspecting_model(service, name)
        require_type(request, "multipart/form-data")
        if revision != inspects.thresholds.revision:
            raise HTTPException(409, "the thresholds have changed meanwhile; look at them again")
        async with service.place() as place:
            photographs = await save_form(request, place.folder, service.settings)
            outcomes = await service.decide(model, photographs, place, inspects.look_at_good)
            records = []
            for outcome in outcomes:
                if outcome.problem is not None:
                    raise HTTPException(422, f"{outcome.problem}; nothing was added")
                if outcome.more is None:
                    line = "the detector has learnt from this photograph, so it proves nothing; nothing was added"
                    raise HTTPException(422, f"{outcome.photograph.name}: {line}")
                records.append((outcome.photograph.name, outcome.more))
            try:
                added = await asyncio.to_thread(inspects.add, records, revision)
            except ThresholdsChangedError as error:
                raise HTTPException(409, str(error)) from error
            except TinyDefectsError as error:
                LOG.error("%s: %s", name, error)
                raise HTTPException(503, "the thresholds cannot be written; the log of the service says why") from error
        LOG.warning("%s: %d good parts added, the former thresholds are in %s", name, added.n_added, added.kept or "-")
        left_out = list(added.left_out)
        return GoodAdded(
            n_added=added.n_added, left_out=left_out, kept=added.kept, calibration=_card(service, inspects)
        )


def inspecting_model(service: Service, name: str) -> Calibrated:
    """The model of that name, which must be one that answers maps.

    Raises:
        HTTPException: 404.
    """
    decides = service.model(name).decides
    if not isinstance(decides, Calibrated):
        raise HTTPException(404, "this model has neither maps nor thresholds to show")
    return decides


def _card(service: Service, model: Calibrated) -> CalibrationCard:
    thresholds, settings = model.thresholds, service.settings
    known = thresholds.calibration
    n_parts, above = known.scores.size, known.defect_above
    low, high = model.detector.colour_scale
    return CalibrationCard(
        revision=thresholds.revision,
        obtained=known.obtained,
        n_photographs=len(known.images),
        scores=known.scores.tolist(),
        peaks=[peak for peak in known.highest_peaks.tolist() if np.isfinite(peak)],
        most_share=[highest_rate(n_above, n_parts, CONFIDENCE) for n_above in range(n_parts + 1)],
        confidence=CONFIDENCE,
        good_up_to=known.good_up_to,
        defect_above=above if np.isfinite(above) else None,
        peak_above=known.seed,
        extent=known.extent,
        min_area_px=known.settings.smallest_px,
        pixel_pitch_mm=model.pixel_pitch_mm,
        colours=(low, high),
        words=str(known).splitlines(),
        may_add=settings.allow_recalibration,
        most_photographs=settings.most_photographs,
        most_megabytes=settings.most_bytes / MEGA,
    )


class _Sendable:
    """The body of an answer in parts: its type, its length in bytes."""

    def __init__(self, kind: str, n_bytes: int, parts: Iterable[bytes]) -> None:
        self.kind, self.n_bytes, self.parts = kind, n_bytes, parts


def _form(decision: bytes, anomaly_map: NDArray[np.float32]) -> _Sendable:
    limit, values = secrets.token_hex(16), np.ascontiguousarray(anomaly_map, dtype="<f4")
    head = (
        f'--{limit}\r\nContent-Disposition: form-data; name="decision"\r\nContent-Type: application/json\r\n\r\n'
    ).encode() + decision
    head += (
        f'\r\n--{limit}\r\nContent-Disposition: form-data; name="map"; filename="map.f32"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{limit}--\r\n".encode()

    def parts() -> Iterator[bytes]:
        yield head
        content = values.reshape(-1).view(np.uint8)
        for start in range(0, values.nbytes, AT_ONCE):
            yield content[start : start + AT_ONCE].tobytes()
        yield end

    kind = f"multipart/form-data; boundary={limit}"
    return _Sendable(kind, len(head) + values.nbytes + len(end), parts())


def _parts_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while part := file.read(AT_ONCE):
            yield part


class _Held(Response):
    """An answer that keeps what its request holds until it has been sent, or its reader has taken too long."""

    def __init__(self, body: _Sendable, held: AsyncExitStack, seconds: float) -> None:
        super().__init__(media_type=body.kind, headers={"Content-Length": str(body.n_bytes)})
        self._parts, self._held, self._seconds = body.parts, held, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            try:
                async with asyncio.timeout(self._seconds):
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    for part in self._parts:
                        await send({"type": "http.response.body", "body": part, "more_body": True})
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
            except TimeoutError:  # the connection is closed, as the answer is not whole
                LOG.warning("an answer was not read within %g s (--body-seconds)", self._seconds)
