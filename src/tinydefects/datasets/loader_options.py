"""Options of a dataset's loader from text such as `n_train=300`, checked against the loader's signature."""

import inspect
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from tinydefects.data.masks import MaskRule
from tinydefects.datasets.catalog import LOADERS
from tinydefects.datasets.folder import load_folder, suggest
from tinydefects.errors import DatasetError

NOT_FROM_TEXT = {"root", "progress", "allow_unmarked", "training_only"}


def parse_options(dataset: str, texts: Sequence[str]) -> dict[str, object]:
    """Keyword arguments for `load_category` from `NAME=VALUE` texts; lists and tuples are written as JSON.

    Raises:
        DatasetError: no such dataset, or an option that its loader does not have or whose value is of another kind.
    """
    if dataset not in LOADERS:
        raise DatasetError(f"{dataset}: no such dataset; {suggest(dataset, LOADERS)}")
    kinds = option_kinds(dataset)
    options = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if name not in kinds or not separator:
            raise DatasetError(f"{dataset}: {text!r} is no option; write NAME=VALUE, one of {_describe(kinds)}")
        options[name] = _parse(dataset, name, value, kinds[name])
    return options


def option_kinds(dataset: str) -> dict[str, Any]:
    """The types of a loader's options by name."""
    loader = load_folder if dataset == "folder" else LOADERS[dataset]  # the named folder passes its options on
    keywords = [
        name
        for name, parameter in inspect.signature(loader).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in NOT_FROM_TEXT
    ]
    hints = get_type_hints(loader)
    return {name: hints[name] for name in keywords} | {"mask_rule": MaskRule}  # which every dataset takes


def _parse(dataset: str, name: str, value: str, kind: Any) -> object:  # noqa: ANN401 - any type
    adapter: TypeAdapter[object] = TypeAdapter(kind)
    try:
        return adapter.validate_strings(value)
    except ValidationError:
        pass
    try:
        return adapter.validate_json(value)
    except ValidationError as error:
        raise DatasetError(f"{dataset}: option {name} is {_plain(kind)}, not {value!r}") from error


def _describe(kinds: dict[str, Any]) -> str:
    return ", ".join(f"{name} ({_plain(kind)})" for name, kind in kinds.items())


def _plain(kind: Any) -> str:  # noqa: ANN401 - any type
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace(" |", " or")
