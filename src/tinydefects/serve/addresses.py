"""The addresses of a service, and their OpenAPI document.

Handlers take the request as it is, because its body must not be read before it has a place; what they take is written
into the document by hand.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.security import HTTPBearer
from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinydefects.data.json_files import first_fault
from tinydefects.serve.answers import (
    Answer,
    Decided,
    DecidedBatch,
    Health,
    ModelCard,
    PathsAsked,
    Version,
    refusals,
)
from tinydefects.serve.counts import CONTENT_TYPE
from tinydefects.serve.gate import gated
from tinydefects.serve.inspection import BYTES_SCHEMA, inspecting, page_files
from tinydefects.serve.service import Service
from tinydefects.serve.uploads import FORM_FIELD, receive_text, require_type, save_form, save_photograph, takes
from tinydefects.serve.work import Model, Outcome

NO_TELEMETRY: Any = {"auto_configure": False, "tracing": False, "metrics": False, "logs": False}


def application(service: Service, key: str | None) -> ASGIApp:
    """The service as an ASGI application, behind its gate; without a key everybody who gets there may ask."""
    return _Counted(gated(_make_app(service, needs_key=key is not None), service.settings, key), service)


def _make_app(service: Service, *, needs_key: bool) -> FastAPI:
    app = FastAPI(
        title="tinydefects",
        version=_version(),
        description="Photographs in, decisions out. Nothing is kept of a photograph once it is decided.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    keys = [Depends(HTTPBearer(auto_error=False))] * needs_key  # for the document; the gate asks for it
    app.include_router(page_files())
    app.include_router(_open_to_all(service))
    app.include_router(_about(service), dependencies=keys, responses=refusals(400, 401, 403))
    for router in (_deciding(service), inspecting(service)):
        app.include_router(router, prefix="/models/{name}", dependencies=keys)
    return app


def _version() -> str:
    try:
        return version("tinydefects")
    except PackageNotFoundError:  # a checkout need not be installed
        return "unknown"


def _open_to_all(service: Service) -> APIRouter:
    """What whoever watches over the service asks, without a key."""
    router = APIRouter()

    @router.get("/health", responses=refusals(400, 403))
    async def health() -> Health:
        """Whether the process is alive."""
        return Health(status="alive")

    @router.get("/ready", responses=refusals(400, 403, 503))
    async def ready() -> Health:
        """Whether requests are taken: 503 once the service is stopping."""
        if service.is_stopping:
            raise HTTPException(503, "the service is stopping")
        return Health(status="ready")

    @router.get("/version", responses=refusals(400, 403))
    async def package_version() -> Version:
        """Of the package."""
        return Version(version=_version())

    return router


def _about(service: Service) -> APIRouter:
    """What can be asked about the models."""
    router = APIRouter()

    @router.get("/models")
    async def models() -> list[ModelCard]:
        """The models that are served."""
        return [
            ModelCard(name=one.name, fingerprint=one.fingerprint, image_bits=one.decides.settings.image_bits)
            for one in service.models.values()
        ]

    text: dict[int | str, Any] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @router.get("/metrics", response_class=Response, responses=text)
    async def metrics() -> Response:
        """Counts and times, for Prometheus."""
        return Response(service.counts.text(), media_type=CONTENT_TYPE)

    return router


def _deciding(service: Service) -> APIRouter:
    """What decides photographs."""
    codes = refusals(400, 401, 403, 404, 408, 413, 415, 422, 429, 500, 503, 504)
    router, most = APIRouter(responses=codes), service.settings.most_photographs

    @router.post("/image", openapi_extra=takes("application/octet-stream", BYTES_SCHEMA))
    async def image(name: str, request: Request) -> Decided:
        """Decide one photograph: the body is its file, PNG, JPEG, TIFF, BMP or WebP."""
        model = service.model(name)
        require_type(request, "application/octet-stream", "image/")
        async with service.place() as place:
            photograph = await save_photograph(request, place.folder, service.settings)
            (outcome,) = await service.decide(model, [photograph], place)
        if outcome.decision is None or outcome.size is None:
            raise HTTPException(413 if outcome.is_too_large else 422, outcome.problem)
        (height, width), decision = outcome.size, dict(outcome.decision)
        return Decided(model=name, fingerprint=model.fingerprint, height=height, width=width, decision=decision)

    @router.post("/batch", openapi_extra=takes("multipart/form-data", _form_schema(most)))
    async def batch(name: str, request: Request) -> DecidedBatch:
        """Decide several photographs, files of a form; a bad one stops no other."""
        model = service.model(name)
        require_type(request, "multipart/form-data")
        async with service.place() as place:
            photographs = await save_form(request, place.folder, service.settings)
            return _answered(model, await service.decide(model, photographs, place))

    @router.post("/paths", openapi_extra=takes("application/json", _paths_schema(most)))
    async def paths(name: str, request: Request) -> DecidedBatch:
        """Decide photographs below the folder that the service was given; a bad one stops no other."""
        model = service.model(name)
        require_type(request, "application/json")
        async with service.place() as place:
            try:
                asked = PathsAsked.model_validate_json(await receive_text(request, service.settings))
            except ValidationError as error:
                raise HTTPException(422, first_fault(error)) from error
            return _answered(model, await service.decide(model, service.named(asked.paths), place))

    return router


def _answered(model: Model, outcomes: Sequence[Outcome]) -> DecidedBatch:
    answers = []
    for outcome in outcomes:
        height, width = outcome.size or (None, None)
        decision = None if outcome.decision is None else dict(outcome.decision)
        name, problem = outcome.photograph.name, outcome.problem
        answers.append(Answer(photograph=name, height=height, width=width, decision=decision, problem=problem))
    return DecidedBatch(model=model.name, fingerprint=model.fingerprint, answers=answers)


def _form_schema(most: int) -> dict[str, Any]:
    files = {"type": "array", "minItems": 1, "maxItems": most, "items": BYTES_SCHEMA}
    named = {"properties": {FORM_FIELD: files}, "required": [FORM_FIELD], "additionalProperties": False}
    return {"type": "object", **named}


def _paths_schema(most: int) -> dict[str, Any]:
    schema = PathsAsked.model_json_schema()
    schema["properties"]["paths"]["maxItems"] = most
    return schema


class _Counted:
    """Counts what is asked of models, by model and status; not those who only look whether it is alive."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_count(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"].startswith("/models/"):
                name = scope["path"].split("/")[2]
                self._service.counts.request(name if name in self._service.models else "", message["status"])
            await send(message)

        await self._app(scope, receive, send_and_count)
