"""What a walk through somebody's folder finds, and how it tells what it left out."""

import os
import unicodedata
from pathlib import Path

import pytest

from dataset_trees import draw, draw_all
from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.walk import LeftOut, by_stem, counted, on_disk, sub_folders, walk
from tinydefects.errors import DatasetError

COMPOSED = unicodedata.normalize("NFC", "bär")
DECOMPOSED = unicodedata.normalize("NFD", "bär")


def names(folder: Path, **how: object) -> list[str]:
    return [name for name, _ in walk(folder, IMAGE_SUFFIXES, **how).files]


def left(folder: Path, **how: object) -> str:
    return str(walk(folder, IMAGE_SUFFIXES, **how).left_out)


def test_sub_folders_and_suffixes_of_any_case_count_in_the_order_of_their_paths(tmp_path):
    draw_all(tmp_path, "b.PNG a.JpEg cam2/0.tif cam1/deep/1.bmp")
    assert names(tmp_path) == ["a.JpEg", "b.PNG", "cam1/deep/1.bmp", "cam2/0.tif"]
    assert names(tmp_path, deep=False) == ["a.JpEg", "b.PNG"]
    assert names(tmp_path, skip=[tmp_path / "cam1"]) == ["a.JpEg", "b.PNG", "cam2/0.tif"]
    assert left(tmp_path) == left(tmp_path, skip=[tmp_path / "cam1"]) == ""


@pytest.mark.parametrize(
    ("stray", "told"),
    [
        ("._0.png", "1 hidden file"),
        (".ipynb_checkpoints/0.png", "1 hidden folder"),
        (".Trash-1000/0.png", "1 hidden folder"),
        ("Thumbs.db", "1 system file"),
        (".DS_Store", "1 system file"),
        ("desktop.ini", "1 system file"),
        ("__MACOSX/._0.png", "1 system folder"),
        ("@eaDir/0.png", "1 system folder"),
        ("$RECYCLE.BIN/0.png", "1 system folder"),
        ("lost+found/0.png", "1 system folder"),
        ("lot.tif/0.png", "1 folder named like an image (lot.tif)"),
        ("new.HEIC", "1 file of no known format (.heic)"),
        ("0.png~", "1 file of no known format (.png~)"),
        ("noext", "1 file of no known format (noext)"),
        ("maps/made_by.json", "1 folder of own output (maps)"),
        ("model/detector.json model/model.safetensors", "1 folder of own output (model)"),
        ("small/export.json", "1 folder of own output (small)"),
        (f"cache/{64 * 'a'}.npy", "1 folder of own output (cache)"),
        (f"page/{20 * 'a'}.webp", "1 folder of own output (page)"),
        ("results/0.tally.npz", "1 folder of own output (results)"),
    ],
)
def test_what_is_left_out_is_counted(tmp_path, stray, told):
    draw(tmp_path / "in" / "0.png")
    for name in stray.split():
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"")
    assert names(tmp_path / "in") == ["0.png"]
    assert left(tmp_path / "in") == f"left out: {told}"


def test_licences_and_readmes_are_not_worth_a_word(tmp_path):
    for name in ("README", "readme.txt", "Read_me.md", "LICENSE", "licence.txt"):
        (tmp_path / name).write_text("free")
    assert left(tmp_path) == ""


def test_a_benchmark_is_known_by_its_protocol_and_a_protocol_of_ones_own_is_not(tmp_path):
    for name, text in {"ours": '{"version": 1, "fingerprint": "0"}', "yours": '{"shift": "night"}'}.items():
        draw(tmp_path / name / "0.png")
        (tmp_path / name / "protocol.json").write_text(text)
    assert names(tmp_path) == ["yours/0.png"]
    assert names(tmp_path, with_own=True) == ["ours/0.png", "yours/0.png"]
    assert "1 folder of own output (ours)" in left(tmp_path)


def test_counts_of_one_kind_are_added_and_only_three_names_are_told():
    things = [("folder(s) linked again", name) for name in "abcd"] + [("hidden file(s)", "._0")] * 2
    assert str(LeftOut(tuple(things))) == "left out: 4 folders linked again (a, b, c, …), 2 hidden files"
    assert str(LeftOut()) == ""
    assert (counted("image", 1), counted("image", 0)) == ("1 image", "0 images")


def test_linked_folders_are_followed_once_and_never_in_a_circle(tmp_path):
    draw_all(tmp_path, "in/a/0.png in/z/1.png elsewhere/2.png")
    links = {"in/A_first": "a", "in/z/up": "..", "in/out": "../elsewhere", "in/self": "self", "in/gone.png": "nowhere"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    assert names(tmp_path / "in") == ["a/0.png", "out/2.png", "z/1.png"]
    expected = "left out: 2 broken links (gone.png, self), 2 folders linked again (A_first, z/up)"
    assert left(tmp_path / "in") == expected
    (tmp_path / "way").symlink_to("in")
    assert names(tmp_path / "way") == names(tmp_path / "in")


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    assert (names(tmp_path), left(tmp_path)) == ([], "left out: 1 special file (0.png)")


def test_names_compare_composed_whatever_the_disk_says(tmp_path):
    draw(tmp_path / DECOMPOSED / f"{DECOMPOSED}.png")
    assert names(tmp_path) == [f"{COMPOSED}/{COMPOSED}.png"]
    assert list(sub_folders(tmp_path)) == [COMPOSED]
    assert on_disk(tmp_path / COMPOSED / f"{COMPOSED}.png").exists()
    assert on_disk(tmp_path / "nothing") == tmp_path / "nothing"


def test_two_files_of_one_composed_name_are_refused(tmp_path):
    draw_all(tmp_path, f"{COMPOSED}.png {DECOMPOSED}.png")
    with pytest.raises(DatasetError, match="has the same stem"):
        by_stem(walk(tmp_path, IMAGE_SUFFIXES).files)


def test_a_name_that_is_not_utf_8_is_left_out_and_told(tmp_path):
    draw(tmp_path / "0.png")
    with open(os.fsencode(tmp_path) + b"/\xff.png", "wb"):  # noqa: PTH123 - no Path can hold it
        pass
    assert names(tmp_path) == ["0.png"]
    assert left(tmp_path) == r"left out: 1 file whose name is not UTF-8 ('\udcff.png')"


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, monkeypatch):
    draw(tmp_path / "locked" / "0.png")
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if Path(folder).name == "locked":
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"locked: cannot list this folder \(Permission denied\); give yourself"):
        walk(tmp_path, IMAGE_SUFFIXES)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone: cannot list this folder \(No such file or directory\)"):
        walk(tmp_path / "gone", IMAGE_SUFFIXES)
