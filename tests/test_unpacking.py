"""MVTec AD and VisA as they are packed in Parquet for the Hugging Face hub."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import run
from tinydefects.datasets.catalog import load_category
from tinydefects.datasets.unpacking import unpack
from tinydefects.errors import DatasetError, MissingExtraError, TableError

pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def picture(value: int, *, spot: tuple[int, int] | None = None, kind: str = "PNG") -> bytes:
    pixels = np.full((4, 6), value, dtype=np.uint8)
    if spot is not None:
        pixels[spot] = 255
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format=kind)
    return stored.getvalue()


def cell(content: bytes | None, path: str | None = None) -> dict[str, object]:
    """An image as the hub's library stores it."""
    return {"bytes": content, "path": path}


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def mvtec_row(split: str, defect: str, name: str, value: int) -> dict[str, object]:
    is_good = defect == "good"
    return {
        "image_path": cell(picture(value), f"{name}.png"),
        "split": split,
        "object": "screw",
        "defect": defect,
        "label": 0 if is_good else 1,
        "mask_path": None if is_good else cell(picture(0, spot=(1, 2)), f"{name}_mask.png"),
    }


MVTEC = {
    "train-00000-of-00002": [mvtec_row("train", "good", "000", 10)],
    "train-00001-of-00002": [mvtec_row("train", "good", "001", 20)],
    "test-00000-of-00001": [
        mvtec_row("test", "good", "000", 30),
        mvtec_row("test", "scratch_head", "000", 40),
        mvtec_row("test", "scratch_head", "001", 50),
    ],
}


def write_mvtec(folder: Path, *, change: tuple[str, int, dict[str, object]] | None = None, leave_out: str = "") -> Path:
    """The files in `data/`, as a download has them, one row changed if asked for."""
    for name, rows in MVTEC.items():
        told = [dict(row) for row in rows]
        if change is not None and change[0] == name:
            told[change[1]] |= change[2]
        if name != leave_out:
            write(folder / "data" / f"screw.{name}.parquet", told)
    return folder


def write_visa(folder: Path) -> Path:
    jpeg = [picture(value, kind="JPEG") for value in (10, 20, 30)]
    train = [{"image": cell(jpeg[0], "0001.JPG"), "mask": None, "label": 0}]
    test = [
        {"image": cell(jpeg[1], "0000.JPG"), "mask": None, "label": 0},
        {"image": cell(jpeg[2], "000.JPG"), "mask": cell(picture(0, spot=(3, 5)), "000.png"), "label": 1},
    ]
    write(folder / "pcb1.train-00000-of-00001.parquet", train)
    write(folder / "pcb1.test-00000-of-00001.parquet", test)
    return folder


def ids(samples) -> list[str]:
    return [sample.id for sample in samples]


def test_mvtec_is_read_afterwards_as_if_its_archive_had_been_unpacked(tmp_path):
    unpacked = unpack(write_mvtec(tmp_path / "hub"), tmp_path / "data")
    assert str(unpacked) == f"mvtec_ad: 1 category, 5 images in {tmp_path / 'data' / 'mvtec_ad'}"
    category = load_category("mvtec_ad/screw", root=tmp_path / "data")
    assert ids(category.train) == ["train/good/000", "train/good/001"]
    assert ids(category.test) == ["test/good/000", "test/scratch_head/000", "test/scratch_head/001"]
    assert [path.name for sample in category.test for path in sample.mask_paths] == ["000_mask.png", "001_mask.png"]
    assert category.test[1].mask()[1, 2]
    assert category.remarks == ()


def test_bytes_are_written_as_they_are(tmp_path):
    unpack(write_mvtec(tmp_path / "hub"), tmp_path / "data")
    assert (tmp_path / "data/mvtec_ad/screw/test/scratch_head/001.png").read_bytes() == picture(50)


def test_visa_is_read_afterwards_as_re_organised(tmp_path):
    assert unpack(write_visa(tmp_path / "hub"), tmp_path / "data").n_images == {"pcb1": 3}
    category = load_category("visa/pcb1", root=tmp_path / "data")
    assert ids(category.train) == ["train/good/0001"]
    assert ids(category.test) == ["test/good/0000", "test/bad/000"]
    assert category.test[1].mask()[3, 5]
    assert category.test[1].image_path.read_bytes() == picture(30, kind="JPEG")


def test_images_without_names_are_numbered_and_known_by_their_first_bytes(tmp_path):
    change = ("train-00001-of-00002", 0, {"image_path": cell(picture(20, kind="JPEG"))})
    unpack(write_mvtec(tmp_path / "hub", change=change), tmp_path / "data")
    names = {path.name for path in (tmp_path / "data/mvtec_ad/screw/train/good").iterdir()}
    assert names == {"000.png", "0100000.jpg"}


@pytest.mark.parametrize(
    ("place", "change", "complaint"),
    [
        (("test-00000-of-00001", 1), {"mask_path": None}, r"row 2, mask_path: holds no bytes of an image"),
        (
            ("test-00000-of-00001", 1),
            {"image_path": cell(None, "/home/a/000.png")},
            r"row 2, image_path: holds no bytes",
        ),
        (("test-00000-of-00001", 1), {"defect": "../up"}, r"row 2 has the label 1 and the defect '\.\./up'"),
        (("test-00000-of-00001", 1), {"defect": "good"}, r"row 2 has the label 1 and the defect 'good'"),
        (("test-00000-of-00001", 1), {"label": 7}, r"row 2 has the label 7, expected 0 \(good\) or 1"),
        (("test-00000-of-00001", 2), {"object": "nut"}, r"row 3 is of 'nut', 'test', unlike the file's name"),
        (("train-00000-of-00002", 0), {"label": 1, "defect": "bent"}, r"row 1 is a defective training image"),
        (
            ("test-00000-of-00001", 2),
            {"image_path": cell(picture(1), "000.png")},
            r"two images for scratch_head/000\.png",
        ),
        (("test-00000-of-00001", 1), {"image_path": cell(b"GIF89a", "000")}, r"neither its name nor its first bytes"),
    ],
)
def test_a_row_that_does_not_say_what_it_must_leaves_nothing_behind(tmp_path, place, change, complaint):
    with pytest.raises(DatasetError, match=complaint):
        unpack(write_mvtec(tmp_path / "hub", change=(*place, change)), tmp_path / "data")
    assert not (tmp_path / "data").exists() or [*(tmp_path / "data").rglob("*.png")] == []


@pytest.mark.parametrize("lost", ["train-00001-of-00002", "test-00000-of-00001"])
def test_a_part_that_was_not_fetched_is_named(tmp_path, lost):
    with pytest.raises(DatasetError, match=rf"screw\.{lost}\.parquet is missing; fetch it, or leave screw out"):
        unpack(write_mvtec(tmp_path / "hub", leave_out=lost), tmp_path / "data")


def test_what_is_there_is_not_written_over(tmp_path):
    unpack(write_mvtec(tmp_path / "hub"), tmp_path / "data")
    with pytest.raises(DatasetError, match=r"mvtec_ad.screw: is there already; remove it first"):
        unpack(tmp_path / "hub", tmp_path / "data")


def test_other_packings_are_refused_with_their_columns(tmp_path):
    rows = [{"image": cell(picture(1), "0.png"), "label": 0}]
    for split in ("train", "test"):
        write(tmp_path / "hub" / f"screw.{split}-00000-of-00001.parquet", rows)
    with pytest.raises(
        DatasetError, match=r"holds image, label, expected the columns image_path, mask_path, .* or image"
    ):
        unpack(tmp_path / "hub", tmp_path / "data")
    with pytest.raises(
        DatasetError, match=r"nothing: no file such as screw\.test-00000-of-00001\.parquet here or below"
    ):
        unpack(tmp_path / "nothing", tmp_path / "data")


def test_a_damaged_file_is_named(tmp_path):
    write_mvtec(tmp_path / "hub")
    (tmp_path / "hub/data/screw.test-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TableError, match=r"screw\.test-00000-of-00001\.parquet: not a readable table"):
        unpack(tmp_path / "hub", tmp_path / "data")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_mvtec(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"needs the extra 'tables'"):
        unpack(tmp_path / "hub", tmp_path / "data")


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path, monkeypatch, capsys):
    write_mvtec(tmp_path / "hub")
    code, out, err = run(monkeypatch, capsys, "unpack", tmp_path / "hub", "--root", tmp_path / "data", "--json")
    assert (code, json.loads(out)["n_images"]) == (0, {"screw": 5})
    assert re.search(r"next: tinydefects datasets --root \S+data$", err, re.MULTILINE)
    code, _, err = run(monkeypatch, capsys, "unpack", tmp_path / "hub", "--root", tmp_path / "data")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("tinydefects: ")


@pytest.mark.parametrize("second", ["newer/screw.test-00000-of-00001", "screw.test-00001-of-00002"])
def test_two_packings_of_one_category_are_refused_instead_of_one_being_taken(tmp_path, second):
    folder = write_mvtec(tmp_path / "packed")
    write(folder / f"{second}.parquet", MVTEC["test-00000-of-00001"][:2])
    with pytest.raises(DatasetError, match="keep one packing"):
        unpack(folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_label_that_is_no_number_is_one_line(tmp_path):
    rows = [{**row, "label": [row["label"]]} for row in MVTEC["test-00000-of-00001"]]
    folder = write_mvtec(tmp_path / "packed")
    write(folder / "data/screw.test-00000-of-00001.parquet", rows)
    with pytest.raises(DatasetError, match=r"has the label \[0\], expected 0 \(good\) or 1"):
        unpack(folder, tmp_path / "data")
