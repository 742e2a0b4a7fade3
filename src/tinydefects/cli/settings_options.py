"""A settings model as options of a command, as a file for --config, and as the text that `tinydefects config` prints.

The model declares each value once: type, bounds, default, and one line of help (its description). Four more things
may stand in a field's `json_schema_extra`: `panel`, the heading of the help it stands under; `metavar`; `flag`, where
the option is not named like the field; and `as_text`, where one text stands for several values, as `0,1,2`.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from enum import StrEnum
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError
from pydantic.fields import FieldInfo

from tinydefects.cli.options import MACHINE, bounded, device_here
from tinydefects.data.json_files import parse_json, read_bytes
from tinydefects.datasets.folder import suggest
from tinydefects.detector.settings import Precision
from tinydefects.errors import TinyDefectsError


def panel(heading: str, **more: str) -> dict[str, Any]:
    """The heading that a field stands under in the help, and what else there is to say of it."""
    return {"panel": heading, **more}


Command = Callable[..., None]
PLAIN = {int, float, str, bool, Path}  # other types are text on the command line, and read as JSON where they are JSON
TEXTS = (str, str | None, tuple[str, ...])
TRUTHS = {"true": True, "false": False}
MODELS: dict[str, type[BaseModel]] = {}  # of every command that takes settings, by its name
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Settings from a .yaml or .json file, see 'tinydefects config'; options given beside it win.",
    ),
]
# Fields that several models share. JSON has no paths: a model that validates its defaults would refuse these.
DataFolder = Annotated[Path, Field(description="Folder that holds the dataset.", validate_default=False)]
OutFolder = Annotated[Path, Field(description="Where to write.", validate_default=False)]
GivenDevice = Annotated[
    str | None,
    AfterValidator(device_here),
    Field(description="cpu, cuda, cuda:1, mps; the best one present when left out.", json_schema_extra=panel(MACHINE)),
]
GivenWeights = Annotated[
    Path | None,
    Field(description="Teacher weights on disk: .safetensors, or the authors' .pth.", json_schema_extra=panel(MACHINE)),
]
GivenPrecision = Annotated[
    Precision | None,
    Field(description="Of matrix products; left out, as the model was fitted.", json_schema_extra=panel(MACHINE)),
]
Compiled = Annotated[
    bool,
    Field(
        description="Compile the teacher: minutes for the first images, quicker after; needs a C++ compiler.",
        json_schema_extra=panel(MACHINE, flag="--compile"),
    ),
]


def options_of(model: type[BaseModel], parameter: str = "settings") -> Callable[[Command], Command]:
    """The command with the fields of a model as options, and --config, in place of the one parameter that takes it.

    Other parameters stay as they are; `with_basics` goes around the result.
    """

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(*, config: Path | None, **options: object) -> None:
            given = {name: options.pop(name) for name in model.model_fields}
            told = {name: value for name, value in given.items() if value is not None and value != []}
            command(**options, **{parameter: settings_from(model, told, config)})

        added = {name: _option(name, field) for name, field in model.model_fields.items()} | {"config": Config}
        own = signature(command, eval_str=True)
        others = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in own.parameters.values()]
        place = list(own.parameters).index(parameter)
        others[place : place + 1] = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=_shown(model.model_fields.get(name)), annotation=kind)
            for name, kind in added.items()
        ]
        run.__signature__ = own.replace(parameters=others)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in others}
        MODELS[command.__name__.replace("_", "-")] = model
        return run

    return decorate


def settings_from(model: type[BaseModel], told: Mapping[str, Any], config: Path | None = None) -> Any:  # noqa: ANN401
    """An instance of the model: what the options told, then what the file says, then its defaults.

    Raises:
        TinyDefectsError: the file cannot be read, or a value is not one the model allows; the message names the option
            or the file.
    """
    found = {} if config is None else _read_config(config, model)
    values = {name: _parsed(model.model_fields[name], value) for name, value in {**found, **told}.items()}
    values = {name: value for name, value in values.items() if value is not None}  # null: as if it were left out
    for name, value in values.items():
        if not _is_utf_8(str(value)):
            raise TinyDefectsError(
                f"{flag_of(name, model.model_fields[name])}: is no text in UTF-8 (got {str(value)[:60]!a})"
            )
    try:
        return model.model_validate_json(json.dumps(values, default=str))  # JSON has neither paths nor tuples
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        text = fault["msg"].removeprefix("Value error, ")
        if not fault["loc"]:
            raise TinyDefectsError(text) from error
        name = str(fault["loc"][0])
        where = f"{config}: {name}" if name in found and name not in told else flag_of(name, model.model_fields[name])
        got = "" if fault["type"] == "missing" else f" (got {str(fault['input'])[:60]!r})"
        raise TinyDefectsError(f"{where}: {text}{got}") from error


def _is_utf_8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def config(
    command: Annotated[str, typer.Argument(help="A command that takes --config, such as fit, evaluate or benchmark.")],
) -> None:
    """Print the default settings of a command as YAML, each with its line of help: a file for --config."""
    if command not in MODELS:
        raise TinyDefectsError(f"{command}: takes no --config; {suggest(command, MODELS)}")
    print(f"# tinydefects {command} --config FILE\n", *describe_defaults(MODELS[command]), sep="\n")


def describe_defaults(model: type[BaseModel]) -> Iterator[str]:
    """Lines of YAML: every field below its help, at its default; those without one are commented out."""
    panels: dict[str, list[tuple[str, FieldInfo]]] = {"": []}
    for name, field in model.model_fields.items():
        panels.setdefault(_extra(field).get("panel", ""), []).append((name, field))
    for panel, fields in panels.items():
        yield from [f"\n# --- {panel} ---"] if panel else []
        for name, field in fields:
            yield f"# {field.description or name}"
            default = json.dumps(field.get_default(call_default_factory=False), default=str)  # which is YAML, too
            yield f"# {name}: (must be given)" if field.is_required() else f"{name}: {default}"


def flag_of(name: str, field: FieldInfo) -> str:
    """The option of a field, `--cache-limit-gb`."""
    return str(_extra(field).get("flag", f"--{name.replace('_', '-')}"))


def _option(name: str, field: FieldInfo) -> Any:  # noqa: ANN401 - an annotation
    """The annotation from which typer makes the option of a field."""
    kind, rules = _plain_type(field)
    least = max([rule.ge for rule in rules if hasattr(rule, "ge")], default=-math.inf)
    above = max([rule.gt for rule in rules if hasattr(rule, "gt")], default=-math.inf)
    most = min([rule.le for rule in rules if hasattr(rule, "le")], default=math.inf)
    below = min([rule.lt for rule in rules if hasattr(rule, "lt")], default=math.inf)
    more: dict[str, Any] = {}
    if kind is int:
        lowest, highest = max(least, above + 1), min(most, below - 1)
        # typer shows these bounds; one as large as 2**63 tells a reader nothing, and is left to the model
        more = {"min": lowest if lowest > -math.inf else None, "max": highest if highest < 2**32 else None}
    if kind is float:  # infinite where nothing bounds it, and then open: nan and inf are refused
        is_open = (above >= least, below <= most)
        check = bounded(max(least, above), min(most, below), without_least=is_open[0], without_most=is_open[1])
        more = {"callback": check}
    names = [flag_of(name, field)]
    if kind is bool:
        names = [f"{names[0]}/--no-{names[0].removeprefix('--')}"]
    option = typer.Option(
        *names,
        help=f"{field.description or name} Required." if field.is_required() else field.description,
        metavar=_extra(field).get("metavar"),
        rich_help_panel=_extra(field).get("panel"),
        **more,
    )
    return Annotated[kind | None, option]


class _Shown:
    """A default that the help shows and the command is not given, so that a file can say otherwise."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self) -> None:
        """What the command is given where the option is left out."""

    def __str__(self) -> str:
        return self._text


def _shown(field: FieldInfo | None) -> _Shown | None:
    default = None if field is None or field.is_required() else field.get_default(call_default_factory=False)
    if default is None or default is False or default == () or default == "":
        return None
    return _Shown(",".join(map(str, default)) if isinstance(default, tuple) else str(default))


def _plain_type(field: FieldInfo) -> tuple[Any, list[Any]]:
    """The type of a field as typer takes it, `list` for tuples of any length, and the rules beside it."""
    kind, rules = field.annotation, list(field.metadata)
    if _extra(field).get("as_text"):
        return str, rules
    if get_origin(kind) in (Union, UnionType):
        inner = [one for one in get_args(kind) if one is not NoneType]
        kind = inner[0] if len(inner) == 1 else str
    if get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        for mark in marks:
            rules += mark.metadata if isinstance(mark, FieldInfo) else [mark]
    if get_origin(kind) is tuple and get_args(kind)[1:] == (...,):
        element: Any = get_args(kind)[0]
        if get_origin(element) is Literal:  # typer takes one of them, but a list only of an enum
            make_enum: Callable[..., Any] = StrEnum
            element = make_enum("Choice", {str(one): str(one) for one in get_args(element)})
        if is_dataclass(element):
            element = str  # the model reads its own notation
        return GenericAlias(list, (element,)), rules
    return (kind if kind in PLAIN or get_origin(kind) is Literal else str), rules


def _parsed(field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 - any value
    """A value of a file or of an option, made of its text where it is text and should be none."""
    if isinstance(value, list):
        return [_parsed(field, one) for one in value]
    if not isinstance(value, str):
        return value
    kind, _ = _plain_type(field)
    if value in ("", "~", "null"):
        return None
    if kind is bool:
        return TRUTHS.get(value.lower(), value)
    is_text = kind is Path or get_origin(kind) is Literal or field.annotation in TEXTS
    if is_text:
        return value
    try:
        return parse_json(value)  # finite, and within 64 bits
    except ValueError:
        return value


class _EachOnce(yaml.BaseLoader):  # type: ignore[misc]  # PyYAML has no types
    """Refuses a name that stands twice, of which YAML's own would take the last without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401 - PyYAML's
        _each_once([(str(key.value), None) for key, _ in node.value])
        found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return found


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raise a ValueError if a name stands twice; of JSON, too, the last would count."""
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"{name} stands there twice")
    return dict(pairs)


def _read_config(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    """What a file says of the fields of the model, as text or as JSON has it.

    Raises:
        TinyDefectsError: it cannot be read, is no list of settings, or names one that does not exist.
    """
    way_out = "give a file as 'tinydefects config' prints it"
    try:
        content = read_bytes(path)
        # BaseLoader leaves every value its text: `off` is no truth value, and 1e-3 is a number
        is_json = path.suffix.lower() == ".json"
        said = parse_json(content) if is_json else yaml.load(content, Loader=_EachOnce)
        if is_json:
            json.loads(content, object_pairs_hook=_each_once)
    except OSError as error:
        raise TinyDefectsError(f"{path}: not readable ({error.strerror or error}); {way_out}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TinyDefectsError(f"{path}: not readable as YAML or JSON ({reason}); {way_out}") from error
    if not isinstance(said, dict):
        raise TinyDefectsError(f"{path}: holds no 'name: value' lines; {way_out}")
    found = {}
    for key, value in said.items():
        name = str(key).replace("-", "_")
        if name not in model.model_fields:
            raise TinyDefectsError(f"{path}: {key}: no such setting; {suggest(name, model.model_fields)}")
        if name in found:
            raise TinyDefectsError(f"{path}: {key}: stands there twice; keep one of them")
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict | list) for one in value)):
            raise TinyDefectsError(f"{path}: {key}: a setting is one value or a flat list; {way_out}")
        found[name] = value
    return found


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
