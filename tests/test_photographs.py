"""Which photographs the words of a command line mean."""

import unicodedata
from pathlib import Path

import pytest

from dataset_trees import draw, draw_all
from tinydefects.datasets.photographs import address_among, find_photographs, require_own_folder
from tinydefects.errors import DatasetError


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current directory: four photographs in in/, one of them named like a pattern."""
    draw_all(tmp_path, "in/000.png in/001.png in/[x].png in/sub/000.png")
    (tmp_path / "in/notes.heic").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_link_that_leads_nowhere_is_named_with_what_it_leads_to(here):
    (here / "in/002.png").symlink_to("gone.png")
    with pytest.raises(DatasetError, match=r"in/002\.png: a link to gone\.png, which is not there; mend the link"):
        find_photographs(["in/002.png"])


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["in"], "000 001 [x] sub/000"),
        (["in/"], "000 001 [x] sub/000"),
        (["in/000.png"], "000"),
        (["./in/000.png", "in/000.png"], "000"),
        (["in/001.png", "in/000.png"], "000 001"),
        (["in/*.png"], "000 001 [x]"),
        (["in/*"], "000 001 [x] sub/000"),
        (["in/**/*.png"], "000 001 [x] sub/000"),
        (["in/00?.png", "in/sub"], "000 001 sub/000"),
        (["in/[x].png"], "[x]"),
        (["in\\000.png"], "000"),
        (["in/sub/000.png", "in/000.png"], "000 sub/000"),
        (["in/000.png", "in/notes.heic"], "000"),
    ],
)
def test_files_folders_and_patterns_in_any_mixture(here, words, ids):
    assert address_among(words, Path("data")) is None
    found = find_photographs(words)
    assert [sample.id.removeprefix("images/") for sample in found.samples] == ids.split()
    assert found.name == "in"  # one folder, one place for its maps, whichever words led there


def test_files_of_one_stem_in_two_folders_keep_their_folders(here):
    draw(here / "other/000.png")
    found = find_photographs(["in/000.png", "other/000.png"])
    assert [sample.id for sample in found.samples] == ["images/in/000", "images/other/000"]


def test_what_was_left_out_is_told_in_a_line(here):
    assert find_photographs(["in"]).remarks == ["in: 4 photographs; left out: 1 file of no known format (.heic)"]
    draw(here / "in/train/good/0.png")
    assert "images to learn from" in find_photographs(["in"]).remarks[1]


def test_a_name_is_found_however_it_is_composed(here):
    draw(here / "in" / unicodedata.normalize("NFD", "bär.png"))
    assert find_photographs(["in/" + unicodedata.normalize("NFC", "bär.png")]).samples[0].id == "images/b\u00e4r"


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("in/00.png", r"in/00\.png: no such file; did you mean in/00\d\.png"),
        ("in/000.PNG", r"in/000\.PNG: no such file; did you mean in/000\.png"),
        ("in/x/000.png", r"no such file, there is no folder in/x"),
        ("in/000.png/1.png", r"in/000\.png is a file, no folder"),
        ("in/*.jpg", r"in/\*\.jpg: no file matches this pattern"),
        ("~/nothing/0.png", "no such file"),
        ("./mvtec_ad/screw", r"\./mvtec_ad/screw: no such file"),
        ("in/notes.heic", r"no images here \(left out: 1 file of no known format \(\.heic\)\)"),
    ],
)
def test_what_looks_like_a_path_is_spoken_of_as_a_path(here, word, told):
    assert address_among([word], Path("data")) is None
    with pytest.raises(DatasetError, match=told):
        find_photographs([word])


@pytest.mark.parametrize("word", ["nothing", "no/thing", ""])
def test_a_word_that_is_neither_path_nor_address_is_told_both(here, word):
    with pytest.raises(DatasetError, match="no such file or folder; as an address: "):
        address_among([word], Path("data"))


def test_an_address_stands_alone_and_comes_before_a_folder_of_its_name(here):
    draw_all(here / "mvtec_ad/screw", "train/good/0.png test/good/0.png")
    for word in ("mvtec_ad/screw", "mvtec_ad/screw/", "./mvtec_ad/screw", "MVTEC_AD\\Screw"):
        assert address_among([word], Path()) == word
    assert address_among(["mvtec_ad/screw"], Path("data")) is None  # not there: the folder is meant
    assert address_among([str(here / "mvtec_ad/screw")], Path()) is None
    (here / "data").mkdir()
    (here / "mvtec_ad").rename(here / "data/mvtec_ad")
    with pytest.raises(DatasetError, match="mvtec_ad/screw: the address of a category stands alone"):
        address_among(["in/000.png", "mvtec_ad/screw"], Path("data"))


def test_own_maps_and_overlays_are_no_photographs_however_they_are_named(here):
    draw_all(here, "in/maps/in/images/000.tiff in/maps/overlays/in/images/000.png")
    (here / "in/maps/made_by.json").write_text("{}")
    for words in (["in"], ["in/*"], ["in/**/*"]):
        found = find_photographs(words)
        assert len(found.samples) == 4, words
        assert "1 folder of own output" in found.remarks[0], words
    for word in ("in/maps", "in/maps/in", "in/maps/overlays"):
        with pytest.raises(DatasetError, match=r"holds maps that 'predict' wrote|no images here"):
            find_photographs([word])


@pytest.mark.parametrize(("out", "is_own"), [("in/maps", True), ("maps", True), ("in", False), (".", False)])
def test_maps_never_lie_among_the_photographs(here, out, is_own):
    found = find_photographs(["in"])
    if is_own:
        require_own_folder(Path(out), found.name, found.samples, [found.folder])
    else:
        with pytest.raises(DatasetError, match=r"the maps would lie among the photographs of .*in; choose a folder"):
            require_own_folder(Path(out), found.name, found.samples, [found.folder])
