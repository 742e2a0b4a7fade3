"""Small tables on disk: CSV, JSON, JSON lines and Parquet (extra `tables`) read by rows, CSV written by columns.

A manifest is a table that says which map belongs to which image, and may bring the image's score: id or path, map,
score. Other columns are left alone, and rows of images outside the category too: one may serve many categories.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tinydefects.data.json_files import parse_json, read_bytes
from tinydefects.data.pixels import write_whole
from tinydefects.errors import MissingExtraError, TableError

TABLE_SUFFIXES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet")
IMAGE_COLUMNS = ("id", "path")  # of a manifest
Row = Mapping[str, Any]
Columns = Mapping[str, Sequence[object]]


def read_rows(path: Path) -> list[Row]:
    """The rows of a table by its suffix, `TABLE_SUFFIXES`; every value of a CSV is text, an empty one is None.

    A JSON file is a list of rows, or one object `{id: row}` or `{id: map}`, which become rows with that `id`.

    Raises:
        TableError: the file is missing, damaged, or holds something else.
        MissingExtraError: a Parquet file without pyarrow.
    """
    try:
        rows = _READERS[path.suffix.lower()](path)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        reason = ((text or "").splitlines() or [""])[0] or type(error).__name__
        raise TableError(f"{path}: not a readable table ({reason}); expected {', '.join(TABLE_SUFFIXES)}") from error
    wrong = next((number for number, row in enumerate(rows, start=1) if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise TableError(f"{path}: row {wrong} is no object with named values; write one object a row")
    return rows


def write_csv(path: Path, columns: Columns) -> None:
    """Write columns of equal length under their names, whole or not at all.

    None and nan become empty cells, bytes of a name that are no UTF-8 become escapes.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_cell, row) for row in zip(*columns.values(), strict=True))
    write_whole(path, lambda file: file.write(text.getvalue().encode(errors="backslashreplace")))


def _cell(value: object) -> object:
    return "" if value is None or value != value else value  # nan is the one value that differs from itself


def _read_csv(path: Path) -> list[Row]:
    reader = csv.DictReader(io.StringIO(read_bytes(path).decode(), newline=""), strict=True)
    if len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
        raise ValueError("two columns of one name")
    rows: list[Row] = [{name: value or None for name, value in row.items()} for row in reader]
    if any(None in row for row in rows):
        raise ValueError("a row has more cells than the header")
    return rows


def _read_json(path: Path) -> list[Row]:
    content = parse_json(read_bytes(path), finite=False)
    if isinstance(content, dict):
        return [{"id": name, **(row if isinstance(row, dict) else {"map": row})} for name, row in content.items()]
    if not isinstance(content, list):
        raise ValueError("neither a list of rows nor an object of them")
    return content


def _read_json_lines(path: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        try:
            rows += [parse_json(line, finite=False)] if line.strip() else []
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return rows


def _read_parquet(path: Path) -> list[Row]:
    pyarrow, parquet = _pyarrow(path)
    try:
        rows: list[Row] = parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    return rows


def _pyarrow(path: Path) -> tuple[ModuleType, ModuleType]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(f"{path}: Parquet", "tables") from error
    return pyarrow, pyarrow.parquet


_READERS = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """The image a row names (sample id or path of the image), its map, and its score where the row has one."""

    image: str
    map_path: Path
    score: float | None = None


def read_manifest(path: Path) -> list[ManifestRow]:
    """The rows of a CSV, JSON, JSON lines or Parquet manifest; map paths are relative to the manifest's folder.

    A row has `id` or `path`, `map` and maybe `score`. JSON may also be `{id: map}`.

    Raises:
        TableError: it cannot be read, or a row lacks a column or has a score that is no finite number.
        MissingExtraError: Parquet without the extra `tables`.
    """
    rows = read_rows(path)
    if not rows:
        raise TableError(f"{path}: holds no row; write one row an image with the columns id (or path) and map")
    return [_parse(path, number, row) for number, row in enumerate(rows, start=1)]


def _parse(path: Path, number: int, row: Row) -> ManifestRow:
    image = next((row[column] for column in IMAGE_COLUMNS if row.get(column)), None)
    if not isinstance(image, str) or not isinstance(row.get("map"), str):
        columns = ", ".join(str(column) for column in row)
        raise TableError(f"{path}: row {number} has {columns}; it needs text in id (or path) and in map")
    if "\0" in image + row["map"]:
        raise TableError(f"{path}: row {number} has a zero byte in its names; write the manifest again")
    return ManifestRow(image=image, map_path=path.parent / row["map"], score=_score(path, number, row.get("score")))


def _score(path: Path, number: int, given: object) -> float | None:
    if given is None:
        return None
    try:
        score = float(str(given))
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise TableError(f"{path}: row {number} has the score {given!r}; give a finite number or leave it empty")
    return score
