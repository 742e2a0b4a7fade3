"""Photographs that come with a request, written to its own folder as they arrive: memory stays flat, whatever comes.

Every byte is counted, and all must have arrived in time. Of a form nothing but files is taken, and none is written
under a name of the sender's.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from tinydefects.serve.service_settings import MEGA, ServeSettings
from tinydefects.serve.work import Photograph

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

FORM_FIELD = "photographs"
ALONE = "the photograph"  # what a single one is called
LONGEST_NAME = 200  # of a file, as it is told back
MOST_TEXT_BYTES = 1 << 20  # of a request that is JSON


async def save_photograph(request: Request, folder: Path, settings: ServeSettings) -> Photograph:
    """The body of a request as one photograph.

    Raises:
        HTTPException: as `receive`; or the body is empty.
    """
    path = folder / "0"
    with path.open("wb") as file:
        n_bytes = await receive(request, file.write, settings)
    if not n_bytes:
        raise HTTPException(422, "the request is empty; send the photograph's bytes (curl --data-binary @part.png)")
    return Photograph(path, ALONE)


async def save_form(request: Request, folder: Path, settings: ServeSettings) -> list[Photograph]:
    """The files of a form, in their order.

    Raises:
        HTTPException: as `receive`; or it is no form, has other fields, too many files or none.
    """
    boundary = parse_options_header(request.headers.get("content-type"))[1].get(b"boundary")
    if not boundary:
        raise HTTPException(400, "the form has no boundary; let your client write the header Content-Type")
    form = _Form(folder, settings.most_photographs)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        await receive(request, parser.write, settings)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"not readable as a form ({error}); send it again") from error
    finally:
        form.close()
    if not form.is_whole:  # what is there of a file that was cut off may look like a whole one
        raise HTTPException(400, "the form ends before its closing boundary; send it again")
    if not form.photographs:
        raise HTTPException(422, f"the form holds no file; send them as {FORM_FIELD}=@part.png")
    return form.photographs


async def receive_text(request: Request, settings: ServeSettings) -> bytes:
    """The body of a request that is text.

    Raises:
        HTTPException: as `receive`.
    """
    text = bytearray()
    await receive(request, text.extend, settings, most_bytes=min(MOST_TEXT_BYTES, settings.most_bytes))
    return bytes(text)


async def receive(
    request: Request, take: Callable[[bytes], object], settings: ServeSettings, *, most_bytes: int | None = None
) -> int:
    """Hand a request's body on as it arrives; how many bytes it had. `most_bytes` None is that of the settings.

    Raises:
        HTTPException: 413, it has more; 408, it did not arrive in time; 400, the sender is gone.
    """
    most = settings.most_bytes if most_bytes is None else most_bytes
    too_large = HTTPException(413, f"more than {most / MEGA:g} MB; send fewer at once, or see --most-megabytes")
    told, n_bytes = request.headers.get("content-length", ""), 0
    if told.isdecimal() and (len(told) > len(str(most)) or int(told) > most):
        raise too_large
    try:
        async with asyncio.timeout(settings.body_seconds):
            async for part in request.stream():
                n_bytes += len(part)
                if n_bytes > most:
                    raise too_large
                if part:
                    take(part)  # into the system's own memory of the file: quicker than a change of threads
    except TimeoutError as error:
        line = f"did not arrive within {settings.body_seconds:g} s (--body-seconds); send it again"
        raise HTTPException(408, line, headers={"Connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the sender is gone") from error
    return n_bytes


def takes(content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The body of a request, for the OpenAPI document."""
    return {"requestBody": {"required": True, "content": {content_type: {"schema": schema}}}}


def require_type(request: Request, *types: str) -> None:
    """Refuse a body that does not say what it is: a web page can send such to anybody, without asking.

    Raises:
        HTTPException: 415.
    """
    told = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any(told == one or (one.endswith("/") and told.startswith(one)) for one in types):
        wanted = " or ".join(f"{one}*" if one.endswith("/") else one for one in types)
        raise HTTPException(415, f"Content-Type is {told[:60] or 'missing'}; send {wanted}")


class _Form:
    """Writes the files of a form into a folder, under numbers; whole once its closing boundary has come."""

    def __init__(self, folder: Path, most: int) -> None:
        self.photographs: list[Photograph] = []
        self.is_whole = False
        self._folder, self._most = folder, most
        self._file: IO[bytes] | None = None
        self._header, self._value, self._told = b"", b"", b""

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls; each is handed bytes of which those from `start` to `end` count, or nothing."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_header,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._open,
            "on_part_data": self._write,
            "on_part_end": self.close,
            "on_end": self._end,
        }

    def close(self) -> None:
        """Of the file at hand, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _end(self) -> None:
        self.is_whole = True

    def _begin(self) -> None:
        self._told = b""

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._told = self._value
        self._header, self._value = b"", b""

    def _open(self) -> None:
        options = parse_options_header(self._told)[1]
        if options.get(b"name") != FORM_FIELD.encode() or b"filename" not in options:
            raise HTTPException(422, f"of a form only files named {FORM_FIELD} are taken; leave other fields out")
        number = len(self.photographs)
        if number == self._most:
            line = f"more than {self._most} photographs; send fewer at once, or see --most-photographs"
            raise HTTPException(422, line)
        name = options[b"filename"].decode(errors="replace")[:LONGEST_NAME]
        photograph = Photograph(self._folder / str(number), name or f"photograph {number}")
        self._file = photograph.path.open("wb")
        self.photographs.append(photograph)

    def _write(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
