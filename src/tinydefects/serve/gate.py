"""Who may ask: the host that is asked for, the page that asks, the key. Before anything of a request is read.

Host and origin keep web pages out, which run on the machines of people who may ask: a page can make a browser ask any
address, under a name of the page's own (DNS rebinding) or across origins (CSRF).
"""

import hmac
import stat
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tinydefects.data.json_files import read_bytes
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.service_settings import ServeSettings

KEY_VARIABLE = "TINYDEFECTS_API_KEY"
SHORTEST_KEY = 16  # characters
OPEN_TO_ALL = frozenset({"/health", "/ready", "/version"})
PAGE, PAGE_FILES = "/", "/page/"  # the inspection page, which asks for the key itself, and what belongs to it
SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def gated(app: ASGIApp, settings: ServeSettings, key: str | None) -> ASGIApp:
    """The app behind the gate; without a key everybody who gets there may ask."""
    return _SafeHeaders(
        TrustedHostMiddleware(_Gate(app, key), allowed_hosts=settings.hosts, www_redirect=False),
    )


def read_key(settings: ServeSettings, environment: Mapping[str, str]) -> str | None:
    """The key that all must give: of the file, else of the environment; None where neither is given.

    Raises:
        TinyDefectsError: the file cannot be read; the key is short, or has other than plain letters; or there is none
            and others than this machine could ask.
    """
    key, where = environment.get(KEY_VARIABLE), KEY_VARIABLE
    if settings.api_key_file is not None:
        where = f"--api-key-file {settings.api_key_file}"
        try:
            key = read_bytes(settings.api_key_file).decode()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TinyDefectsError(f"{where}: not readable ({reason}); give a text file with the key in it") from error
    if key is None and not settings.is_local:
        raise TinyDefectsError(
            f"--host {settings.host}: others than this machine could ask without a key; give --api-key-file FILE or "
            f"{KEY_VARIABLE}, or leave --host out"
        )
    if key is None and settings.allow_recalibration:
        raise TinyDefectsError(
            "--allow-recalibration: whoever is on this machine could move the thresholds; give --api-key-file FILE or "
            f"{KEY_VARIABLE}, or leave it out"
        )
    if key is None:
        return None
    key = key.strip()
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise TinyDefectsError(
            f"{where}: a key is one word of at least {SHORTEST_KEY} plain letters and digits; make one with: "
            "openssl rand -hex 32"
        )
    return key


def key_remark(settings: ServeSettings) -> str | None:
    """What a reader should know of the key's file; None if there is nothing to say."""
    path = settings.api_key_file
    if path is not None and path.stat().st_mode & stat.S_IROTH:
        return f"{path}: everybody on this machine can read the key; chmod 600 {path}"
    return None


def is_of_page(path: str) -> bool:
    """Whether this is the inspection page or one of its files: the same for everybody, so no key is needed."""
    return path == PAGE or path.startswith(PAGE_FILES)


class _Gate:
    """Refuses requests of pages of other origins, and those without the key where one is needed."""

    def __init__(self, app: ASGIApp, key: str | None) -> None:
        self._app = app
        self._told = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None and not _is_own(origin, headers["host"]):
            return JSONResponse({"detail": "pages of other origins may not ask"}, 403)
        if self._told is None or scope["path"] in OPEN_TO_ALL or is_of_page(scope["path"]):
            return None
        given = headers.get("authorization", "").encode("latin-1")
        if hmac.compare_digest(given, self._told):
            return None
        line = "a key is needed, and this is none or another; send the header Authorization: Bearer KEY"
        return JSONResponse({"detail": line}, 401, headers={"WWW-Authenticate": "Bearer"})


class _SafeHeaders:
    """Adds to every answer what tells browsers to do nothing with it, or with the page, nothing from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(SAFE_HEADERS)
                if is_of_page(scope["path"]):
                    headers["Content-Security-Policy"] = PAGE_POLICY
            await send(message)

        await self._app(scope, receive, send_safely)


def _is_own(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()
