"""A manifest says which map belongs to which image, and may bring the image's score: a table of id or path, map, score.

Other columns are left alone, and rows of images outside the category too: one manifest may serve many categories.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from tinydefects.data.tables import Row, read_rows
from tinydefects.errors import TableError

IMAGE_COLUMNS = ("id", "path")


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
