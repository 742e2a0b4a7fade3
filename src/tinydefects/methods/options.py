"""The options of a method from the text behind its name, `patchcore:coreset=0.01`, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from tinydefects.data.json_files import parse_json
from tinydefects.datasets.folder import suggest
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import TinyDefectsError

Options = TypeVar("Options")
INPUT = ("tile", "overlap", "stride", "precision", "blocks")  # settings of how the teacher sees an image
LEARNING = ("epochs", "learning_rate", "patches_per_batch", "patch_fraction", "validation_fraction", "patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions:
    """Of a method that has nothing to set."""


def read_options(kind: type[Options], texts: Mapping[str, str], *, beside: Sequence[str] = ()) -> Options:
    """A frozen dataclass from text by name; what is not named keeps its default, and names `beside` it are let be.

    Raises:
        TinyDefectsError: an option that the method does not have, or a value of another kind or out of its range.
    """
    own = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    known = [*own, *beside]
    for name in texts:
        if name not in known:
            raise TinyDefectsError(f"{name}: no such option; {suggest(name, known) if known else 'there are none'}")
    try:
        return TypeAdapter(kind).validate_strings({name: text for name, text in texts.items() if name in own})
    except ValidationError as error:
        raise TinyDefectsError(_complaint(error, texts)) from error


def read_settings(texts: Mapping[str, str], **told: object) -> DetectorSettings:
    """The settings of a detector among the options of a method, and those that the job tells.

    Raises:
        TinyDefectsError: a value of another kind or out of its range, or two that exclude each other.
    """
    given = {name: _parsed(text) for name, text in texts.items() if name in (*INPUT, *LEARNING)}
    try:
        return DetectorSettings.model_validate(given | told)
    except ValidationError as error:
        raise TinyDefectsError(_complaint(error, texts)) from error


def _parsed(text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _complaint(error: ValidationError, texts: Mapping[str, str]) -> str:
    fault = error.errors(include_url=False)[0]
    if not fault["loc"]:
        return fault["msg"]
    name = ".".join(str(part) for part in fault["loc"])
    given = f" (got {texts[name]!r})" if name in texts else ""
    return f"option {name}: {fault['msg']}{given}"
