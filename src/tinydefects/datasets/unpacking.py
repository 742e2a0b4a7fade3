"""Datasets packed into Parquet for the Hugging Face hub, unpacked into the folders that their loaders read.

Two packings are known, both with one or more files for each split of a category, `screw.test-00000-of-00001.parquet`:
MVTec AD with the columns image_path, mask_path, split, object, defect and label, and VisA with image, mask and label.
An image is the bytes of its file and mostly its name; bytes are written as they are, nothing is decoded. Packings
without masks, or with the images of all categories in one file, are refused.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinydefects.data.leftovers import present, scratch_folder
from tinydefects.data.pixels import IMAGE_SUFFIXES, cannot_write
from tinydefects.data.tables import Row, read_rows
from tinydefects.datasets.catalog import load_category
from tinydefects.errors import DatasetError, TinyDefectsError
from tinydefects.progress import Report

PACKED = re.compile(r"(?P<category>\w+)\.(?P<split>train|test)-(?P<part>\d{5})-of-(?P<n_parts>\d{5})\.parquet")
SPLITS = ("train", "test")
NAME = re.compile(r"\w[\w. +-]*")  # of a file or folder, on any system
SIGNATURES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packing:
    """Which columns of a dataset's files hold what; `ending` stands between the name of an image and its mask's."""

    dataset: str
    image: str
    mask: str
    others: tuple[str, ...]
    ending: str


PACKINGS = (
    _Packing(
        dataset="mvtec_ad",
        image="image_path",
        mask="mask_path",
        others=("split", "object", "defect", "label"),
        ending="_mask",
    ),
    _Packing(dataset="visa", image="image", mask="mask", others=("label",), ending=""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What was written: the dataset, its folder, and the number of images of each category."""

    dataset: str
    folder: str
    n_images: Mapping[str, int]

    def __str__(self) -> str:
        count = f"{len(self.n_images)} {'category' if len(self.n_images) == 1 else 'categories'}"
        return f"{self.dataset}: {count}, {sum(self.n_images.values()):,} images in {self.folder}"


def unpack(source: Path, root: Path, *, progress: Report = lambda stage, done, total: None) -> Unpacked:
    """Write the categories of the Parquet files in `source`, a folder, below `root`, each whole or not at all.

    `progress` is called with ("unpack", done, total) for each file.

    Raises:
        DatasetError: no such files, a part or split of a category is missing, a category is there already, or a row
            does not say what it must.
        TableError, MissingExtraError: a file cannot be read, or pyarrow is missing.
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    files = _files_of(source)
    packing = _packing_of(next(iter(files.values()))["train"][0])
    out = root / packing.dataset
    there = [category for category in files if (out / category).exists()]
    if there:
        raise DatasetError(f"{out / there[0]}: is there already; remove it first, or unpack below another --root")
    n_images, n_files, done = {}, sum(len(parts) for splits in files.values() for parts in splits.values()), 0
    try:
        with present(out):
            for category, splits in files.items():
                with scratch_folder(out) as scratch:
                    for split in SPLITS:
                        for path, rows in ((path, read_rows(path)) for path in splits[split]):
                            for place, content in _written(path, rows, packing):
                                _put(scratch / category / place, content, path)
                            done += 1
                            progress("unpack", done, n_files)
                    whole = load_category(f"{packing.dataset}/{category}", root=scratch)
                    n_images[category] = len(whole.train) + len(whole.test)
                    (scratch / category).rename(out / category)
    except OSError as error:
        raise TinyDefectsError(cannot_write(out, error)) from error
    return Unpacked(dataset=packing.dataset, folder=str(out), n_images=n_images)


def _files_of(source: Path) -> dict[str, dict[str, list[Path]]]:
    """The files of every category by split, in the order of their parts."""
    found: dict[str, dict[str, dict[int, Path]]] = defaultdict(lambda: {split: {} for split in SPLITS})
    n_parts: dict[tuple[str, str], int] = {}
    for path in sorted(source.rglob("*.parquet")):
        match = PACKED.fullmatch(path.name)
        if match is None:
            continue
        category, split, part, n_all = match["category"], match["split"], int(match["part"]), int(match["n_parts"])
        parts = found[category][split]
        if part in parts or n_parts.setdefault((category, split), n_all) != n_all:
            other = parts.get(part) or next(iter(parts.values()))
            raise DatasetError(f"{path}: the same part as {other}, or of another number of parts; keep one packing")
        parts[part] = path
    if not found:
        raise DatasetError(f"{source}: no file such as screw.test-00000-of-00001.parquet here or below; check the path")
    for category, splits in found.items():
        for split, parts in splits.items():
            lost = sorted(set(range(n_parts.get((category, split), 1))) - parts.keys())
            if lost:
                n_all = n_parts.get((category, split), 1)
                name = f"{category}.{split}-{lost[0]:05d}-of-{n_all:05d}.parquet"
                raise DatasetError(f"{source}: {name} is missing; fetch it, or leave {category} out")
    return {
        category: {split: [parts[part] for part in sorted(parts)] for split, parts in splits.items()}
        for category, splits in sorted(found.items())
    }


def _packing_of(path: Path) -> _Packing:
    rows = read_rows(path)
    columns = list(rows[0]) if rows else []
    for packing in PACKINGS:
        if {packing.image, packing.mask, *packing.others} <= set(columns):
            return packing
    known = " or ".join(", ".join((one.image, one.mask, *one.others)) for one in PACKINGS)
    raise DatasetError(f"{path}: holds {', '.join(columns) or 'no row'}, expected the columns {known}")


def _written(path: Path, rows: Sequence[Row], packing: _Packing) -> Iterator[tuple[str, bytes]]:
    """The files of one Parquet file: their places below the category's folder, and what they hold."""
    match = PACKED.fullmatch(path.name)
    assert match is not None  # see `_files_of`
    split, first = match["split"], int(match["part"]) * 100_000
    for number, row in enumerate(rows):
        where = f"{path}: row {number + 1}"
        lacking = [column for column in (packing.image, packing.mask, *packing.others) if column not in row]
        if lacking:
            raise DatasetError(f"{where} has no {lacking[0]}; fetch the file again")
        kind = _kind_of(row, packing, split, match["category"], where)
        name, content = _image_of(row[packing.image], f"{where}, {packing.image}", f"{first + number:07d}")
        yield f"{split}/{kind}/{name}", content
        if kind != "good":
            mask_name, mask = _image_of(row[packing.mask], f"{where}, {packing.mask}", "mask")
            yield f"ground_truth/{kind}/{Path(name).stem}{packing.ending}{Path(mask_name).suffix}", mask


def _kind_of(row: Row, packing: _Packing, split: str, category: str, where: str) -> str:
    """`good`, or the folder of its type of defect."""
    if not isinstance(row["label"], int | float) or row["label"] not in {0, 1}:
        raise DatasetError(f"{where} has the label {row['label']!r}, expected 0 (good) or 1; fetch the file again")
    is_good = row["label"] == 0
    if not is_good and split == "train":
        raise DatasetError(f"{where} is a defective training image; this is another split, unpack the published one")
    if "defect" not in packing.others:
        return "good" if is_good else "bad"
    kind = row["defect"]
    if not isinstance(kind, str) or NAME.fullmatch(kind) is None or (kind == "good") != is_good:
        raise DatasetError(f"{where} has the label {row['label']} and the defect {kind!r}; fetch the file again")
    if (row["split"], row["object"]) != (split, category):
        raise DatasetError(f"{where} is of {row['object']!r}, {row['split']!r}, unlike the file's name; fetch it again")
    return kind


def _image_of(value: Any, where: str, unnamed: str) -> tuple[str, bytes]:  # noqa: ANN401 - a cell
    """The name of an image's file, and what it holds."""
    content = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(content, bytes) or not content:
        raise DatasetError(f"{where}: holds no bytes of an image; fetch a packing with images and masks inside")
    name = Path(str(value.get("path") or "").replace("\\", "/")).name
    if NAME.fullmatch(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES:
        return name, content
    suffix = next((suffix for start, suffix in SIGNATURES.items() if content.startswith(start)), None)
    if suffix is None:
        raise DatasetError(f"{where}: neither its name nor its first bytes say what kind of image it is")
    return f"{unnamed}{suffix}", content


def _put(place: Path, content: bytes, source: Path) -> None:
    if place.exists():
        raise DatasetError(f"{source}: holds two images for {place.parent.name}/{place.name}; fetch it again")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
