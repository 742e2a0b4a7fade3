"""The options of a method from the text behind its name, `patchcore:coreset=0.01`, checked before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from tinydefects.datasets.folder import suggest
from tinydefects.errors import TinyDefectsError

Options = TypeVar("Options")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions:
    """Of a method that has nothing to set."""


def read_options(kind: type[Options], texts: Mapping[str, str]) -> Options:
    """A frozen dataclass from text by name; what is not named keeps its default.

    Raises:
        TinyDefectsError: an option that the method does not have, or a value of another kind or out of its range.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in texts:
        if name not in known:
            raise TinyDefectsError(f"{name}: no such option; {suggest(name, known) if known else 'there are none'}")
    try:
        return TypeAdapter(kind).validate_strings(dict(texts))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in fault["loc"])
        given = f" (got {fault['input']!r})" if name in texts else ""
        raise TinyDefectsError(f"option {name}: {fault['msg']}{given}") from error
