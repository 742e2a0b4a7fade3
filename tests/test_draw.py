"""`tinydefects draw`: an ordinary dataset with a card, whole or known as half drawn; sweeps keep their grid."""

import errno
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from killed import killed_at_each_step
from tinydefects.data.defects import find_defects
from tinydefects.data.pixels import read_image
from tinydefects.datasets.catalog import load_category
from tinydefects.datasets.synthetic import dataset
from tinydefects.datasets.synthetic import drawing as module
from tinydefects.datasets.synthetic.card import CARD, SUMS, read_sums
from tinydefects.datasets.synthetic.dataset import draw_clean, load_synthetic, read_manifest
from tinydefects.datasets.synthetic.defects import least_room
from tinydefects.datasets.synthetic.draw_settings import DrawSettings, most_crowded
from tinydefects.datasets.synthetic.drawing import look, plan_drawing, write
from tinydefects.errors import DatasetError

SMALL = {"size": "64x96", "n_train": 2, "n_good": 1, "n_defect": 3}
SWEEP = {
    "size": 128,
    "n_train": 1,
    "n_good": 1,
    "kinds": ["pit"],
    "sweep": "3x2",
    "diameters": "2,16",
    "contrasts": "5,60",
    "repeats": 2,
    "per_image": 3,
}


def drawn(out: Path, *families: str, **settings: object) -> module.DrawSummary:
    chosen = DrawSettings.model_validate({"out": out, **(settings or SMALL)})
    return write(plan_drawing(families or ("granite",), chosen), lambda *_: None)


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything but the card, which holds the date, and what killed processes leave for later ones to sweep."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != CARD and not path.name.startswith(".tinydefects-")
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "parts of mine"
    drawn(out, "granite", "machined_part")
    return out


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("swept") / "pits"
    drawn(out, "machined_part", **SWEEP)
    return out


def test_other_tools_read_it_as_mvtec_ad(whole):
    category = load_category("mvtec_ad/machined_part", root=whole)
    assert [sample.id for sample in category.train] == ["train/good/000", "train/good/001"]
    assert [sample.id for sample in category.test] == [
        "test/good/000", "test/crack/000", "test/foreign/000", "test/missing/000",
    ]  # fmt: skip
    assert all(sample.image().shape == (64, 96, 3) and sample.mask().any() for sample in category.test[1:])
    assert category.remarks == ()


def test_it_holds_the_very_bytes_that_the_synthetic_dataset_draws(whole, tmp_path):
    category = load_synthetic("granite", root=tmp_path, size=(64, 96), n_train=2, n_good=1, n_defect=3)
    folder = category.train[0].image_path.parents[2]
    assert len(files_of(folder)) == 2 + 1 + 3 + 3 + 1  # and the manifest
    assert files_of(whole / "granite") == files_of(folder)


def test_the_card_says_licence_settings_versions_and_the_sum_of_every_file(whole):
    card = json.loads((whole / CARD).read_text())
    assert card["license"] == "https://creativecommons.org/publicdomain/zero/1.0/"
    assert card["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert [one["family"] for one in card["drawing"]["settings"]] == ["granite", "machined_part"]
    assert card["drawing"]["versions"].keys() >= {"numpy", "scipy", "pillow", "format", "instructions"}
    objects = {one["@id"]: one["sha256"] for one in card["distribution"] if one["@type"] == "cr:FileObject"}
    assert objects.keys() == {SUMS, "granite/manifest.json", "machined_part/manifest.json"}
    sums = read_sums(whole)
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files_of(whole).items()}
    assert listed == sums | {SUMS: objects[SUMS]}
    assert objects["granite/manifest.json"] == sums["granite/manifest.json"]


def test_the_same_drawing_again_draws_nothing_and_finds_what_changed(whole):
    assert drawn(whole, "granite", "machined_part").n_drawn == 0
    path = whole / "granite/test/crack/000.png"
    before = path.read_bytes()
    path.write_bytes(before + b"x")
    told = (
        r"crack.000\.png: missing, or not as it was drawn \(1 such file\); name a new folder, or remove this one first"
    )
    with pytest.raises(DatasetError, match=told):
        drawn(whole, "granite", "machined_part")
    path.write_bytes(before)


def test_a_whole_drawing_is_checked_where_it_may_only_be_read(whole, monkeypatch):
    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert drawn(whole, "granite", "machined_part").n_drawn == 0


@pytest.mark.parametrize("changed", [{"seed": 5}, {"n_train": 3}, {"kinds": ["pit"]}])
def test_another_drawing_is_refused_where_one_lies_whole_or_half(whole, tmp_path, changed):
    with pytest.raises(DatasetError, match="holds another drawing; name a new folder"):
        drawn(whole, "granite", "machined_part", **{**SMALL, **changed})
    stopped_after(tmp_path, 2)
    with pytest.raises(DatasetError, match="holds another drawing; name a new folder"):
        drawn(tmp_path, **{**SMALL, **changed})


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="is there and not an empty folder"):
        drawn(tmp_path)
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


def stopped_after(out: Path, n_images: int) -> None:
    def stop(_family: str, done: int, _total: int | None) -> None:
        if done == n_images:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(plan_drawing(["granite"], DrawSettings.model_validate({"out": out, **SMALL})), stop)


def test_a_stopped_drawing_goes_on_where_it_was(tmp_path, monkeypatch):
    drawn(tmp_path / "whole")
    stopped_after(tmp_path / "half", 4)
    assert not (tmp_path / "half" / CARD).exists()
    places = []
    draw_one = module.draw_one
    monkeypatch.setattr(module, "draw_one", lambda *given: places.append(given[-1]) or draw_one(*given))
    assert drawn(tmp_path / "half").n_drawn == 2
    assert places == [4, 5]
    assert files_of(tmp_path / "half") == files_of(tmp_path / "whole")


def test_what_was_torn_after_it_was_drawn_is_drawn_again(tmp_path):
    drawn(tmp_path / "whole")
    stopped_after(tmp_path / "half", 5)
    (tmp_path / "half/granite/train/good/001.png").write_bytes(b"torn")
    (tmp_path / "half/granite/ground_truth/crack/000_mask.png").unlink()
    journal = tmp_path / "half" / module.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30])  # as a line that was being written
    assert drawn(tmp_path / "half").n_drawn == 4  # these two, the one whose line is torn, and the last
    assert files_of(tmp_path / "half") == files_of(tmp_path / "whole")


def test_other_versions_do_not_go_on_with_a_drawing(tmp_path):
    stopped_after(tmp_path, 2)
    journal = tmp_path / module.JOURNAL
    journal.write_text(journal.read_text().replace('"numpy":"', '"numpy":"0.'))
    with pytest.raises(DatasetError, match=r"was drawn with numpy 0\..* may draw other bytes"):
        drawn(tmp_path)


@pytest.mark.parametrize("second", [SMALL, {**SMALL, "seed": 5}])
def test_two_runs_do_not_draw_into_one_folder_at_once(tmp_path, monkeypatch, second):
    """Or the sums in the card would be those of one, and files those of the other."""
    drawn(tmp_path / "one")
    draw_one, refused = module.draw_one, []

    def draw_while_another_wants_to(folder, settings, sample_id, place):
        if place == 2:
            with pytest.raises(DatasetError, match=r"--out .*two: another run draws there") as error:
                write(plans[1], lambda *_: None)
            refused.append(str(error.value))
        return draw_one(folder, settings, sample_id, place)

    chosen = [DrawSettings.model_validate({"out": tmp_path / "two", **one}) for one in (SMALL, second)]
    plans = [plan_drawing(["granite"], one) for one in chosen]
    monkeypatch.setattr(module, "draw_one", draw_while_another_wants_to)
    write(plans[0], lambda *_: None)
    assert len(refused) == 1
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")
    if second == SMALL:
        assert write(plans[1], lambda *_: None).n_drawn == 0
    else:
        with pytest.raises(DatasetError, match="holds another drawing"):  # planned while the folder was empty
            write(plans[1], lambda *_: None)
    assert files_of(tmp_path / "two") == files_of(tmp_path / "one")


@pytest.mark.slow
def test_killed_anywhere_it_is_never_taken_for_whole_and_goes_on(tmp_path):
    few = {"size": 64, "n_train": 1, "n_good": 0, "n_defect": 1}
    drawn(tmp_path / "whole", **few)
    out = tmp_path / "killed"
    for _ in killed_at_each_step(lambda: drawn(out, **few)):
        if (out / CARD).exists():
            assert files_of(tmp_path / "whole").items() <= files_of(out).items()
    drawn(out, **few)
    assert files_of(out) == files_of(tmp_path / "whole")


def test_a_dry_look_writes_nothing_and_says_about_what_comes(tmp_path):
    out = tmp_path / "new"
    said = look(plan_drawing(["granite"], DrawSettings.model_validate({"out": out, **SMALL})))
    assert not out.exists()
    assert (said.n_images, said.n_drawn) == (6, 0)
    assert said.folders == {"train/good": 2, "test/good": 1, "test/crack": 1, "test/foreign": 1, "test/missing": 1}
    assert said.examples[0].startswith("granite/test/crack/000: crack of ")
    assert said.n_bytes == pytest.approx(drawn(out).n_bytes, rel=0.15)


def test_kinds_and_area_scale_are_those_asked_for(tmp_path):
    wishes = {"size": 128, "n_train": 0, "n_good": 0, "n_defect": 13, "min_area_px": 10, "max_area_share": 0.02}
    drawn(tmp_path / "even", **wishes, kinds=["pit", "stain"], areas="uniform")
    drawn(tmp_path / "log", **wishes, kinds=["pit", "stain"])
    medians = {}
    for name in ("even", "log"):
        manifest = read_manifest(tmp_path / name / "granite")
        assert {one.id.split("/")[1] for one in manifest.images} == {"pit", "stain"}
        areas = [one.defects[0].area_px for one in manifest.images]
        assert 10 <= min(areas) <= max(areas) <= 327  # floor(0.02 * 128 * 128)
        medians[name] = np.median(areas)
    assert medians["even"] == pytest.approx((10 + 327) / 2, rel=0.1)
    assert medians["log"] == pytest.approx(math.sqrt(10 * 327), rel=0.15)


def test_what_is_named_twice_is_drawn_once(tmp_path):
    """Two kinds of one name would be numbered alike, and the second photograph replace the first."""
    wishes = {"size": 64, "n_train": 0, "n_good": 0, "n_defect": 4}
    summary = drawn(tmp_path, "granite", "granite", **wishes, kinds=["pit", "stain", "pit"])
    assert (summary.n_images, summary.families) == (4, ("granite",))
    ids = [one.id for one in read_manifest(tmp_path / "granite").images]
    assert ids == ["test/pit/000", "test/stain/000", "test/pit/001", "test/stain/001"]
    sweep = DrawSettings.model_validate({"out": tmp_path, **SWEEP, "kinds": ["pit", "pit"]})
    assert sweep.of("granite").kinds == ("pit",)


def test_a_sweep_holds_every_pair_as_often_as_asked_and_meets_its_contrast(swept):
    manifest = read_manifest(swept / "machined_part")
    defects = [defect for one in manifest.images for defect in one.defects]
    sweep = manifest.settings.sweep
    assert sweep.diameters_px == (2.0, 5.657, 16.0)  # 2 * sqrt(8)
    assert sweep.contrasts == (5.0, 60.0)
    grid = [(round(math.pi * d * d / 4), c) for d in sweep.diameters_px for c in sweep.contrasts]
    for area_px, contrast in grid:
        near = [one for one in defects if one.area_px == area_px and abs(math.log(one.contrast / contrast)) < 0.2]
        assert len(near) == 2, (area_px, contrast)
    assert len(defects) == 12
    assert [len(one.defects) for one in manifest.images if one.id.startswith("test/pit")] == [3, 3, 3, 3]


def test_contrasts_beyond_black_are_counted_and_said(swept, tmp_path):
    """Granite is about 145 bright and 40 at its darkest: dark pits change it by 30, never by 200."""
    wishes = {**SWEEP, "size": 64, "sweep": "2x2", "diameters": "2,8", "contrasts": "30,200", "repeats": 1}
    first, again = drawn(tmp_path / "deep", **wishes), drawn(tmp_path / "deep", **wishes)
    assert (first.n_fainter, again.n_fainter, again.n_drawn) == (2, 2, 0)
    assert "fainter than asked by more than a tenth, as black or white ended them: 2 defects" in str(first)
    met = drawn(swept, "machined_part", **SWEEP)
    assert met.n_fainter == 0
    assert "fainter" not in str(met)


def test_what_a_sweep_says_is_what_its_pixels_show(swept):
    """Area, box and contrast against the clean drawing; nothing else has changed, and defects keep their distance."""
    category, manifest = load_category("mvtec_ad/machined_part", root=swept), read_manifest(swept / "machined_part")
    records = {one.id: one.defects for one in manifest.images}
    for index, sample in enumerate(sample for sample in category.test if sample.label == "defect"):
        clean = draw_clean(manifest.settings, "defect", index).image[..., 0].astype(float)
        change = np.abs(read_image(sample.image_path)[..., 0] - clean)
        mask = sample.mask()
        assert change[mask].min() >= 1
        assert change[~mask].max() == 0
        found = {}
        for defect in find_defects(mask):
            rows, columns = defect.box
            box = (rows.start, columns.start, rows.stop, columns.stop)
            found[box] = (defect.area_px, round(float(change[defect.box][defect.pixels].mean()), 2))
        assert {one.box: (one.area_px, pytest.approx(one.contrast, abs=0.011)) for one in records[sample.id]} == found
        for box in found:
            grown = np.zeros_like(mask)
            grown[max(0, box[0] - 11) : box[2] + 11, max(0, box[1] - 11) : box[3] + 11] = True
            inside = np.zeros_like(mask)
            inside[box[0] : box[2], box[1] : box[3]] = True
            assert not (mask & grown & ~inside).any()  # 16 px apart: an eighth of 128, 11 of them also across corners


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"kinds": ["pit", "crack"]}, "--sweep: draws one kind of defect"),
        ({"n_defect": 9}, "--n-defect: a sweep decides it"),
        ({"sweep": "1x8"}, "--sweep: give 2 to 64 diameters"),
        ({"diameters": "9,3"}, "--diameters: give two, the smaller first"),
        ({"contrasts": "0.5,3"}, "--contrasts: give two, the fainter first"),
        ({"sweep": None}, "--diameters: is of a sweep"),
        ({"size": "8x"}, "write two numbers, as 512x768"),
    ],
)
def test_wishes_that_contradict_each_other_are_refused(changed, words):
    with pytest.raises(ValueError, match=words):
        DrawSettings.model_validate({"out": "out", **SWEEP, **changed})


def test_a_diameter_without_room_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(DatasetError, match="--diameters: 100 px is more than 10% of 128 x 128 pixels; use 45 at most"):
        drawn(tmp_path / "out", **{**SWEEP, "diameters": "2,100"})
    assert not (tmp_path / "out").exists()


def test_the_defect_that_finds_no_room_is_the_one_that_is_named(monkeypatch, tmp_path):
    plant = dataset.plant

    def all_but_the_last(*given: object, **more: object) -> tuple[object, object, list[object]]:
        image, mask, planted = plant(*given, **more)
        return image, mask, planted[:-1]

    monkeypatch.setattr(dataset, "plant", all_but_the_last)
    with pytest.raises(DatasetError, match="a pit of 3 pixels finds no room in image 0; use fewer on an image"):
        drawn(tmp_path, **{**SWEEP, "repeats": 1, "per_image": 6})  # all six, of 201, 201, 25, 25, 3 and 3 pixels


def test_more_defects_than_a_photograph_can_hold_are_refused_before_anything_is_drawn(tmp_path):
    """Nine of 40 px across and 16 px apart: each takes 51 x 51 px at least of 144 x 144, rim included."""
    crowded = {**SWEEP, "diameters": "39,40", "sweep": "3x3", "per_image": 9}
    with pytest.raises(
        DatasetError, match=r"--per-image: defects of 1257, .* pixels, 16 px apart, find no room on one"
    ):
        drawn(tmp_path / "out", **crowded)
    assert not (tmp_path / "out").exists()
    assert least_room([1257] * 7, 16, (128, 128)) < 1 < least_room([1257] * 8, 16, (128, 128))
    assert least_room([144 * 144], 0, (144, 144)) == 1  # a defect that is the image


def test_the_most_crowded_photograph_is_drawn_first_and_leaves_nothing_where_it_finds_no_room(tmp_path, monkeypatch):
    """Its sizes fit by their areas and not by their places: known once they were tried, which comes before all else."""
    tried, draw_one = [], module.draw_one
    monkeypatch.setattr(module, "draw_one", lambda *given: tried.append(given[-1]) or draw_one(*given))
    crowded = {**SWEEP, "n_train": 4, "diameters": "30,45", "repeats": 3, "per_image": 6}
    with pytest.raises(
        DatasetError, match=r"finds no room in image \d; use fewer on an image \(--per-image\), smaller"
    ):
        drawn(tmp_path / "out", "machined_part", **crowded)
    chosen = DrawSettings.model_validate({"out": tmp_path, **crowded}).of("machined_part")
    assert tried == [5 + most_crowded(chosen).index]
    assert not (tmp_path / "out").exists() or not files_of(tmp_path / "out")
    with pytest.raises(DatasetError, match=r"finds no room in image"):
        look(plan_drawing(["machined_part"], DrawSettings.model_validate({"out": tmp_path / "out", **crowded})))
    assert drawn(tmp_path / "out", "machined_part", **SWEEP).n_drawn == 6  # the folder holds no other drawing


def test_what_was_drawn_before_room_ended_is_told(tmp_path, monkeypatch):
    draw_one = module.draw_one

    def fail_late(folder: Path, settings: dataset.Settings, sample_id: str, place: int) -> dataset.ImageRecord:
        if place == 4:
            raise DatasetError("synthetic/granite: a pit of 3 pixels finds no room")
        return draw_one(folder, settings, sample_id, place)

    monkeypatch.setattr(module, "draw_one", fail_late)
    with pytest.raises(DatasetError, match=r"no room; 4 photographs stay in .*, name a new --out for other settings"):
        drawn(tmp_path)
    monkeypatch.undo()
    assert drawn(tmp_path).n_drawn == 2


def test_the_command_draws_looks_and_names_the_next_step(monkeypatch, capsys, tmp_path):
    wishes = ("granite", "--out", tmp_path / "new", "--size", 64, "--n-train", 1, "--n-good", 1, "--n-defect", 1)
    code, out, _ = run(monkeypatch, capsys, "draw", *wishes, "--dry-run")
    assert code == 0
    assert "nothing is written (--dry-run)" in out
    assert not (tmp_path / "new").exists()
    code, out, err = run(monkeypatch, capsys, "draw", *wishes, "--json")
    assert (code, json.loads(out)["n_drawn"]) == (0, 3)
    assert "next: tinydefects inspect mvtec_ad/granite --root " in err
    code, out, _ = run(monkeypatch, capsys, "draw", *wishes)
    assert (code, "was there already" in out) == (0, True)


TINY = ("--size", 64, "--n-train", 1, "--n-good", 0, "--n-defect", 0)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs Linux's /proc, where nobody can write")
def test_only_the_folder_itself_has_to_be_writable(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "draw", "granite", "--out", "/proc/self/cwd", *TINY)
    assert (code, "written: /proc/self/cwd" in out) == (0, True), err
    assert (tmp_path / CARD).is_file()


def test_a_folder_that_cannot_be_made_is_one_line(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    code, out, err = run(monkeypatch, capsys, "draw", "granite", "--out", tmp_path / "file" / "new", *TINY)
    assert (code, out) == (2, "")
    assert "cannot write (Not a directory); free space or choose another folder" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("granit",), "granit: no such family; did you mean granite?"),
        (("all", "granit"), "granit: no such family; did you mean granite?"),
        (("granite", "--sweep", "8x8"), "--sweep: draws one kind of defect; name it, such as --kind pit"),
        (("granite", "--size", "40"), "the size is 40 x 40"),
        (("granite", "--min-area-px", "0"), "--min-area-px"),
    ],
)
def test_a_bad_wish_is_one_line(monkeypatch, capsys, tmp_path, arguments, words):
    code, out, err = run(monkeypatch, capsys, "draw", *arguments, "--out", tmp_path / "new")
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()
