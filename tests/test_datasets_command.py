"""`tinydefects datasets`: every dataset, its licence, where to get it, and what of it is there."""

import json
import re
import socket
from pathlib import Path

import pytest

from command_line import run
from dataset_trees import draw, draw_all
from tinydefects.datasets.catalog import LICENCES, LOADERS
from tinydefects.datasets.inventory import NOT_PUBLISHED, PUBLISHED, take_inventory


def draw_btad(root: Path, *products: str) -> Path:
    for product in products:
        place = root / "BTech_Dataset_transformed" / product
        draw_all(place, "train/ok/0.png train/ok/1.png test/ok/0.png test/ko/0.png")
        draw(place / "ground_truth/ko/0.png", spot=(1, 2))
    return root


def entry_of(dataset: str, root: Path):
    return next(entry for entry in take_inventory(root) if entry.dataset == dataset)


def test_every_dataset_says_where_it_comes_from_and_no_other_is_listed():
    assert PUBLISHED.keys() | NOT_PUBLISHED.keys() == LOADERS.keys()
    assert not PUBLISHED.keys() & NOT_PUBLISHED.keys()
    assert all(one.source.startswith("https://") and one.categories for one in PUBLISHED.values())


def test_nothing_is_found_below_a_folder_that_is_not_there(tmp_path):
    entries = take_inventory(tmp_path / "data")
    assert [entry.dataset for entry in entries] == list(LOADERS)
    assert {entry.dataset: entry.state for entry in entries} == dict.fromkeys(PUBLISHED, "absent") | dict.fromkeys(
        NOT_PUBLISHED, "ready"
    )


def test_a_whole_dataset_is_found_with_its_categories_and_images(tmp_path):
    entry = entry_of("btad", draw_btad(tmp_path, "01", "02", "03"))
    assert (entry.state, entry.categories, entry.n_images) == ("found", ("01", "02", "03"), 12)
    assert entry.missing == ""


def test_an_absent_category_is_named(tmp_path):
    entry = entry_of("btad", draw_btad(tmp_path, "01", "03"))
    assert (entry.state, entry.categories, entry.n_images) == ("incomplete", ("01", "03"), 8)
    assert entry.missing == "no 02"


def test_a_category_whose_mask_is_missing_is_named_with_the_line_of_its_loader(tmp_path):
    draw_btad(tmp_path, "01", "02", "03")
    (tmp_path / "BTech_Dataset_transformed/02/ground_truth/ko/0.png").unlink()
    entry = entry_of("btad", tmp_path)
    assert (entry.state, entry.categories, entry.n_images) == ("incomplete", ("01", "03"), 8)
    assert re.match(r"02: .*ko.0\.png: no mask for this defective image, tried ", entry.missing)


def test_several_broken_categories_are_counted(tmp_path):
    draw_btad(tmp_path, "01", "02", "03")
    for product in ("01", "02"):
        (tmp_path / f"BTech_Dataset_transformed/{product}/ground_truth/ko/0.png").unlink()
    assert entry_of("btad", tmp_path).missing.endswith("(and 1 more like it)")


def test_an_archive_that_was_not_unpacked_is_not_absent(tmp_path):
    (tmp_path / "VisA_20220922").mkdir()
    entry = entry_of("visa", tmp_path)
    assert entry.state == "incomplete"
    assert "VisA_20220922 holds none of its categories; unpack it there" in entry.missing


def test_a_copy_with_all_categories_but_too_few_images_is_incomplete(tmp_path):
    for name in PUBLISHED["mvtec_ad"].categories:
        draw_all(tmp_path / "mvtec_ad" / name, "train/good/0.png test/good/0.png test/bent/0.png")
        draw(tmp_path / "mvtec_ad" / name / "ground_truth/bent/0_mask.png", spot=(0, 0))
    entry = entry_of("mvtec_ad", tmp_path)
    assert (entry.state, len(entry.categories), entry.n_images) == ("incomplete", 15, 45)
    assert entry.missing == "45 of 5,354 images; unpack it again"


def test_folders_of_ones_own_beside_the_datasets_are_none_of_theirs(tmp_path):
    draw_all(tmp_path / "parts", "train/good/0.png test/good/0.png")
    assert {entry.state for entry in take_inventory(tmp_path)} == {"absent", "ready"}


def test_the_table_has_a_line_for_each_dataset_and_one_for_what_is_missing(tmp_path, monkeypatch, capsys):
    draw_btad(tmp_path, "01", "02")
    code, out, err = run(monkeypatch, capsys, "datasets", "--root", tmp_path)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].split() == ["dataset", "under", str(tmp_path), "from", "licence"]
    assert [line.split()[0] for line in lines[1:] if not line.startswith(" ")] == list(LOADERS)
    (row,) = [number for number, line in enumerate(lines) if line.startswith("btad")]
    assert "2 of 3 categories, 8 images" in lines[row]
    assert lines[row].endswith(LICENCES["btad"])
    assert lines[row + 1] == "  incomplete: no 03"


def test_as_json_it_holds_the_same(tmp_path, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "datasets", "--root", draw_btad(tmp_path, "01"), "--json")
    listed = {entry["dataset"]: entry for entry in json.loads(out)}
    assert code == 0
    assert listed["btad"] == {
        "dataset": "btad",
        "state": "incomplete",
        "categories": ["01"],
        "n_images": 4,
        "missing": "no 02, 03",
        "licence": LICENCES["btad"],
        "source": PUBLISHED["btad"].source,
    }
    assert listed["visa"]["state"] == "absent"


def test_a_root_that_is_not_there_is_said_and_the_list_is_printed(tmp_path, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "datasets", "--root", tmp_path / "nowhere")
    assert code == 0
    assert "nowhere: no such folder, so nothing is found; --root names" in err
    assert "not found" in out


def test_the_network_is_not_touched(tmp_path, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        pytest.fail("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert run(monkeypatch, capsys, "datasets", "--root", draw_btad(tmp_path, "01"))[0] == 0
