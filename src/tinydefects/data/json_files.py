"""JSON files of our own, written whole and read back through one guard.

Whatever lies under the name is answered in one line. A folder, a pipe, another encoding, half a file, brackets nested a
thousand deep, nan, numbers beyond 64 bits: each is an error that names the file and what is wrong with it.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError

T = TypeVar("T")
LIMIT_BYTES = 1 << 29  # the largest files of our own take a few megabytes
OTHER_ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK": "zip"}
UTF_8_MARK = b"\xef\xbb\xbf"
PERHAPS_TOO_LARGE = re.compile(rb"[eE]\+?[0-9]{3}|[0-9]{19}")  # no number without either exceeds 64 bits


def read_bytes(path: Path) -> bytes:
    """The content of a text file without its byte-order mark.

    Raises:
        ValueError: as `read_file` says, or no UTF-8 by its first bytes; the message does not name the file.
        OSError: it cannot be read.
    """
    content = read_file(path)
    for start, name in OTHER_ENCODINGS.items():
        if content.startswith(start):
            raise ValueError(f"it is {name}, expected text in UTF-8")
    return content.removeprefix(UTF_8_MARK)


def read_file(path: Path) -> bytes:
    """The content of a file; nothing is waited for, as reading a pipe would.

    Raises:
        ValueError: not an ordinary file, or too large; the message does not name the file.
        OSError: it cannot be read.
    """
    if path.is_dir():
        raise ValueError("it is a folder")
    if path.exists() and not path.is_file():
        raise ValueError("it is no ordinary file")
    if path.stat().st_size > LIMIT_BYTES:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, at most {LIMIT_BYTES:,} are read")
    return path.read_bytes()


def parse_json(content: bytes | str, *, finite: bool = True) -> Any:  # noqa: ANN401 - any JSON value
    """The value that JSON stands for; every number in it is finite and fits into 64 bits, unless `finite` is False.

    Raises:
        ValueError: no JSON, nested too deep, or such a number; the message says where.
    """
    encoded = content.encode() if isinstance(content, str) else content
    if not encoded.strip():
        raise ValueError("it is empty")
    value = from_json(encoded, allow_inf_nan=not finite)
    if finite and PERHAPS_TOO_LARGE.search(encoded):
        _refuse_too_large(value, "")
    return value


def read_json(path: Path, raised: type[TinyDefectsError], *, kind: str, way_out: str) -> Any:  # noqa: ANN401 - any JSON
    """The value in a JSON file of ours.

    Args:
        path: the file.
        raised: the class of the error.
        kind: what the file should be, in a word or two.
        way_out: what to do if it is not.

    Raises:
        TinyDefectsError: of the class `raised`; the file is missing, unreadable or no strict JSON.
    """
    return parse_json(_content(path, raised, kind, way_out))


def read_as(shape: type[T], path: Path, raised: type[TinyDefectsError], *, kind: str, way_out: str) -> T:
    """A JSON file of ours as a pydantic model or a dataclass; see `read_json`.

    Raises:
        TinyDefectsError: of the class `raised`; also for a field that is missing, unknown or of another type.
    """
    content = _content(path, raised, kind, way_out)
    try:
        return TypeAdapter(shape).validate_json(content)
    except ValidationError as error:
        raise raised(f"{path}: {first_fault(error)}; {way_out}") from error


def write_json(path: Path, value: object) -> None:
    """Write a value, or a model, as JSON indented by one; whole or not at all.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    text = value.model_dump_json(indent=1) if isinstance(value, BaseModel) else json_text(value)
    write_whole(path, lambda file: file.write(text.encode()))


def json_text(value: object) -> str:
    """Strict JSON of a value, indented by one; nan and infinity are null."""
    return json.dumps(nan_to_null(value), indent=1, allow_nan=False)


def nan_to_null(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The same structure with every nan and infinity replaced by None, as strict JSON wants it; models as mappings."""
    if isinstance(value, BaseModel):
        return nan_to_null(value.model_dump(mode="json"))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): nan_to_null(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(inner) for inner in value]
    return value


def null_to_nan(value: Any) -> Any:  # noqa: ANN401 - any JSON value; no field of a result may be None
    """The same structure with every None replaced by nan: what `nan_to_null` made, but for infinities."""
    if value is None:
        return math.nan
    if isinstance(value, dict):
        return {key: null_to_nan(inner) for key, inner in value.items()}
    return [null_to_nan(inner) for inner in value] if isinstance(value, list) else value


def first_fault(error: ValidationError) -> str:
    """Field, rule and value of the first thing wrong, in one line."""
    fault = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, fault["loc"]))
    where = f"field '{field}'" if field else "content"
    return f"{where}: {fault['msg']} (got {str(fault['input'])[:60]!r})"


def _content(path: Path, raised: type[TinyDefectsError], kind: str, way_out: str) -> bytes:
    """The bytes of a file that is strict JSON."""
    try:
        content = read_bytes(path)
        parse_json(content)
    except OSError as error:
        raise raised(f"{path}: not a readable {kind} ({error.strerror or error}); {way_out}") from error
    except ValueError as error:
        raise raised(f"{path}: not a readable {kind} ({error}); {way_out}") from error
    return content


def _refuse_too_large(value: object, place: str) -> None:
    too_large = not math.isfinite(value) if isinstance(value, float) else isinstance(value, int) and abs(value) >> 63
    if too_large:
        raise ValueError(f"field '{place}' is a number beyond 64 bits")
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_too_large(inner, f"{place}.{name}".lstrip("."))
    if isinstance(value, list):
        for number, inner in enumerate(value):
            _refuse_too_large(inner, f"{place}.{number}".lstrip("."))
