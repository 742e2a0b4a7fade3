"""What there is to work with: datasets, and what unpacks them; methods."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.cli.options import Json, print_result, say, show_progress

if TYPE_CHECKING:
    from tinydefects.methods.catalog import MethodKind
    from tinydefects.methods.known_methods import MethodFacts

WIDTH = 100
LABELS = 10  # letters before what stands beside them
LEGEND = (
    "offline: yes; from a file, what would be fetched can be given; no. Methods on the teacher's features need its "
    "weights: 'builtin' lies in the package, others come from --teacher-weights or the hub. "
    "'tinydefects methods NAME' tells more."
)


def datasets(
    root: Annotated[Path, typer.Option(help="Folder that holds the datasets, each in a folder of its own.")] = Path(
        "data"
    ),
    as_json: Json = False,
) -> None:
    """List every dataset: licence, where to get it, and what of it is found under --root. Fetches nothing.

    A category is found when it can be loaded: what is missing from one that cannot stands below its dataset.

    tinydefects datasets --root data
    tinydefects datasets --root data --json
    """
    from tinydefects.datasets.inventory import describe, take_inventory

    if not root.is_dir():
        say(f"{root}: no such folder, so nothing is found; --root names the folder that holds datasets")
    with show_progress() as progress:
        entries = take_inventory(root, **({"progress": progress} if progress.is_watched else {}))
    print_result([asdict(entry) for entry in entries], as_json, describe(entries, root))


def unpack(
    source: Annotated[Path, typer.Argument(help="Folder with files such as screw.test-00000-of-00001.parquet.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the datasets, each in a folder of its own.")] = Path(
        "data"
    ),
    as_json: Json = False,
) -> None:
    """Write MVTec AD or VisA, packed in Parquet files for the Hugging Face hub, as the folders that are read here.

    Images and masks are written byte by byte, each category whole or not at all. Needs
    the extra 'tables'.

    tinydefects unpack downloads/mvtec --root data
    """
    from tinydefects.datasets.unpacking import unpack as write

    with show_progress() as progress:
        unpacked = write(source, root, progress=progress)
    print_result(asdict(unpacked), as_json, str(unpacked))
    say(f"next: tinydefects datasets --root {shlex.quote(str(root))}")


def methods(
    name: Annotated[str | None, typer.Argument(help="One of them, as it is written for 'benchmark --methods'.")] = None,
    as_json: Json = False,
) -> None:
    """List every method that can be compared: paper, what it needs, and what is left out.

    tinydefects methods
    tinydefects methods procon
    tinydefects methods anomalib:EfficientAd
    """
    from tinydefects.datasets.folder import suggest
    from tinydefects.errors import TinyDefectsError
    from tinydefects.methods.catalog import list_methods

    found = list_methods()
    if name is None:
        rows = [_numbers(one, *known) for one, known in found.items()]
        return print_result(rows, as_json, *_table(found), "", fill(LEGEND, WIDTH))
    asked = next((one for one in found if name.casefold() in {one.casefold(), one.partition(":")[0]}), None)
    if asked is None:
        raise TinyDefectsError(f"{name}: no such method; {suggest(name, found)}")
    return print_result(_numbers(asked, *found[asked]), as_json, *_at_length(asked, *found[asked]))


def _numbers(name: str, facts: "MethodFacts", kind: "MethodKind | None") -> dict[str, object]:
    """For programs."""
    return {
        "name": name,
        "summary": facts.summary,
        "paper": facts.paper or None,
        "licence": facts.licence or None,
        "extra": facts.extra or None,
        "needs": facts.needs or None,
        "teacher": kind is not None and kind.uses_teacher,
        "fetches": facts.fetches or None,
        "from_file": facts.from_file or None,
        "offline": facts.offline,
        "chance": None if kind is None else kind.uses_seed,
        "published_input": asdict(kind.published_input) if kind is not None and kind.published_input else None,
        "options": {} if kind is None or facts.excluded else kind.defaults,
        "excluded": facts.excluded or None,
    }


def _table(found: "dict[str, tuple[MethodFacts, MethodKind | None]]") -> Iterator[str]:
    rows = [("name", "paper", "offline", "teacher", "extra", "what it is")]
    for name, (facts, kind) in found.items():
        teacher = "yes" if kind is not None and kind.uses_teacher else "–"
        what = f"{facts.summary}: {facts.excluded.partition(':')[0]}" if facts.excluded else facts.summary
        rows.append((name, facts.paper or "–", facts.offline, teacher, facts.extra or "–", what))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _at_length(name: str, facts: "MethodFacts", kind: "MethodKind | None") -> Iterator[str]:
    yield f"{name}: {facts.summary}"
    lines = {"paper": f"arXiv {facts.paper}" if re.match(r"\d{4}\.\d", facts.paper) else facts.paper or "none"}
    if facts.excluded or kind is None:
        lines["excluded"] = facts.excluded
    else:
        lines |= _needs(facts, kind)
    for label, text in lines.items():
        yield fill(text, WIDTH, initial_indent=f"  {label:<{LABELS}}", subsequent_indent=" " * (LABELS + 2))
    if kind is not None and not facts.excluded:
        yield from _options(name, kind)


def _needs(facts: "MethodFacts", kind: "MethodKind") -> dict[str, str]:
    teacher = "the shared teacher's: 'builtin' lies in the package, others come from --teacher-weights or the hub"
    weights = teacher if kind.uses_teacher else f"fetches {facts.fetches}" if facts.fetches else "none"
    gpu = "not needed, and of no use" if not (kind.uses_teacher or facts.fetches) else "not needed; of use to networks"
    offline = f"{facts.offline}: {facts.from_file}" if facts.from_file else facts.offline
    needs = [f"the extra '{facts.extra}'"] * bool(facts.extra) + [facts.needs] * bool(facts.needs)
    return {
        "licence": facts.licence or "Apache-2.0, as all of this package: written anew, not the published code",
        "needs": "; ".join(needs) or "nothing beside the package",
        "weights": weights,
        "offline": "yes, with such weights at hand" if kind.uses_teacher else offline,
        "GPU": gpu,
        "own size": _own_size(kind),
        "chance": "plays a part: run several seeds" if kind.uses_seed else "plays none: one seed is enough",
    }


def _own_size(kind: "MethodKind") -> str:
    if kind.published_input:
        return f"{kind.published_input.px} px: {kind.published_input.source}"
    return "no published size" if kind.uses_teacher else "sees no teacher's input: has no size here, or its own"


def _options(name: str, kind: "MethodKind") -> Iterator[str]:
    """One line each: as it is written behind the name, and what it means where a setting says so."""
    from tinydefects.detector.settings import DetectorSettings

    if not kind.defaults:
        yield "  no options"
        return
    yield f"  options, with defaults: {name}:option=value:option=value"
    width = max(len(f"{option}={_text(value)}") for option, value in kind.defaults.items())
    for option, value in kind.defaults.items():
        help_line = DetectorSettings.model_fields[option].description if option in kind.settings else None
        yield f"    {f'{option}={_text(value)}':<{width}}  {help_line or ''}".rstrip()


def _text(value: object) -> str:
    """As it is written behind a name; nothing where others decide."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
