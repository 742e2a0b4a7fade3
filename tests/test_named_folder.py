"""Photographs of one's own: whose folders are recognised, what is said of it, and what training needs."""

import json
import unicodedata
from pathlib import Path

import pytest

from command_line import run
from dataset_trees import draw, draw_all
from tinydefects.data.sample import Category
from tinydefects.datasets.catalog import load_category, load_training
from tinydefects.errors import DatasetError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "bär") for form in ("NFC", "NFD"))
WHOLE = "train/good/0.png train/good/1.png test/good/2.png test/dark/3.png test/dark/4.png"
MASKS = "ground_truth/dark/3.png ground_truth/dark/4_mask.png"


def load(root: Path, names: str, **how: object) -> Category:
    draw_all(root / "parts", names)
    return load_category("folder/parts", root=root, **how)


def train(root: Path, names: str) -> Category:
    draw_all(root / "parts", names)
    return load_training("folder/parts", root=root)


def ids(samples) -> list[str]:
    return [sample.id for sample in samples]


def test_sub_folders_of_cameras_count_everywhere_and_masks_mirror_them(tmp_path):
    names = "train/good/0.png train/good/cam1/0.png test/dark/cam1/3.png test/dark/cam2/3.png "
    parts = load(tmp_path, names + "ground_truth/dark/cam1/3.png ground_truth/dark/cam2/3_mask.png")
    assert ids(parts.train) == ["train/good/0", "train/good/cam1/0"]
    assert ids(parts.test) == ["test/dark/cam1/3", "test/dark/cam2/3"]
    assert [sample.defect_type for sample in parts.test] == ["dark", "dark"]
    truth = tmp_path / "parts/ground_truth/dark"
    assert [sample.mask_paths for sample in parts.test] == [(truth / "cam1/3.png",), (truth / "cam2/3_mask.png",)]
    assert parts.remarks == ()


def test_a_folder_is_found_in_another_case_and_a_hidden_one_where_it_is_named(tmp_path):
    draw_all(tmp_path / "Parts", "good/0.png good/1.png")
    draw_all(tmp_path / ".kept", "good/2.png good/3.png")
    for name, ids_there in (("parts", {"0", "1"}), (".kept", {"2", "3"})):
        found = load_training(f"folder/{name}", root=tmp_path)
        assert {sample.image_path.stem for sample in found.train} == ids_there


def test_an_empty_training_folder_is_none(tmp_path):
    (tmp_path / "parts/train").mkdir(parents=True)
    assert len(train(tmp_path, "good/0.png good/1.png").train) == 2


def test_one_mask_is_not_shared_by_two_images(tmp_path):
    with pytest.raises(DatasetError, match=r"3\.png: one mask for two images, .*cam1/3\.png and .*cam2/3\.png"):
        load(tmp_path, "train/good/0.png test/dark/cam1/3.png test/dark/cam2/3.png ground_truth/dark/3.png")


def test_names_and_masks_meet_in_any_composition(tmp_path):
    image, mask = f"test/{DECOMPOSED}/{DECOMPOSED}.png", f"ground_truth/{COMPOSED}/{COMPOSED}_mask.png"
    parts = load(tmp_path, f"train/good/0.png {image} {mask}")
    assert ids(parts.test) == [f"test/{COMPOSED}/{COMPOSED}"]
    assert len(parts.test[0].mask_paths) == 1


@pytest.mark.parametrize(
    "beside",
    ["", "test/good/2.png", WHOLE, f"{WHOLE} ground_truth/dark/9.png", f"{WHOLE} ground_truth/dark/3.png"],
    ids=["nothing", "only good", "no masks", "masks named otherwise", "a mask missing"],
)
def test_training_needs_good_parts_alone(tmp_path, beside):
    category = train(tmp_path, f"train/good/0.png train/good/1.png {beside}")
    assert (ids(category.train), list(category.test)) == (["train/good/0", "train/good/1"], [])


def test_training_looks_at_no_test_folder_however_broken(tmp_path):
    draw_all(tmp_path / "parts", "train/good/0.png train/good/1.png")
    (tmp_path / "parts/test").symlink_to("nowhere")
    (tmp_path / "parts/ground_truth").write_text("no folder")
    assert len(train(tmp_path, "").train) == 2


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("mvtec_ad/screw", "mvtec_ad/screw/train/good/0.png"),
        ("mvtec_ad2/can", "mvtec_ad_2/can/train/good/0_regular.png"),
        ("mvtec_loco/box", "mvtec_loco/box/train/good/0.png"),
        ("visa/candle", "visa/candle/train/good/0.png"),
        ("btad/01", "btad/01/train/ok/0.png"),
        ("mvtec_ad/screw", "mvtec_ad/screw/train/good/0.png mvtec_ad/screw/test/dark/0.png"),
    ],
)
def test_training_of_a_published_category_needs_its_good_parts_alone(tmp_path, address, names):
    draw_all(tmp_path, names)
    assert len(load_training(address, root=tmp_path).train) == 1
    with pytest.raises(DatasetError):
        load_category(address, root=tmp_path)


def test_training_and_test_agree_on_which_good_images_are_kept_back(tmp_path):
    names = " ".join(f"good/{number}.png" for number in range(10))
    whole, alone = load(tmp_path, names), train(tmp_path, "")
    assert ids(alone.train) == ids(whole.train)
    assert (len(alone.train), len(whole.test)) == (8, 2)
    assert whole.remarks[0] == "2 of 10 good images kept for the test (--option held_back=0 keeps none)"


def test_of_a_folder_called_train_nothing_is_kept_back(tmp_path):
    parts = load(tmp_path, " ".join(f"train/good/{number}.png" for number in range(10)))
    assert (len(parts.train), len(parts.test)) == (10, 0)


def test_empty_folders_are_as_good_as_none(tmp_path):
    for folder in ("test/dark", "ground_truth/dark"):
        (tmp_path / "parts" / folder).mkdir(parents=True)
    parts = load(tmp_path, "train/good/0.png test/good/2.png")
    assert ids(parts.test) == ["test/good/2"]
    assert parts.remarks == ("no defective image: metrics of defects are undefined",)


@pytest.mark.parametrize("name", ["bad", "NG", "nok", "Not-OK", "anomaly", "defective", "ko", "faulty", "reject"])
def test_a_folder_of_defective_images_is_seen_by_any_usual_name(tmp_path, name):
    parts = load(tmp_path, f"good/0.png good/1.png {name}/3.png")
    assert [sample.label for sample in parts.test] == ["defect"]
    assert f"{name}/ is taken as defective" in parts.remarks
    assert f"{name}/ is taken as defective, not learnt from" in train(tmp_path, "").remarks


@pytest.mark.parametrize("name", ["good", "ok", "OK", "normal", "defect-free"])
def test_so_is_one_of_good_images(tmp_path, name):
    parts = train(tmp_path, f"train/{name}/0.png")
    assert ids(parts.train) == ["train/good/0"]
    assert (f"train/{name}/ is taken as good" in parts.remarks) == (name != "good")


def test_two_folders_of_defective_images_are_asked_about(tmp_path):
    with pytest.raises(DatasetError, match=r"holds bad/ and ng/; say which is meant with --option defect=bad"):
        load(tmp_path, "good/0.png bad/1.png ng/2.png")
    assert len(load(tmp_path, "", defect="ng").test) == 1


def test_images_directly_in_the_folder_are_good_ones_and_all_are_learnt_from(tmp_path):
    parts = train(tmp_path, " ".join(f"{number}.png" for number in range(12)))
    assert (len(parts.train), parts.remarks) == (12, ("all 12 images directly in parts/ are taken as good",))


def test_images_directly_in_train_are_good_ones(tmp_path):
    parts = train(tmp_path, "train/0.png train/cam/1.png")
    assert ids(parts.train) == ["train/good/0", "train/good/cam/1"]
    assert parts.remarks == ("no train/good/: all 2 images in train/ are taken as good",)


@pytest.mark.parametrize("names", ["cam1/0.png cam1/1.png cam2/0.png", "train/bad/0.png"])
def test_a_folder_without_good_images_is_told_what_to_do(tmp_path, names):
    with pytest.raises(DatasetError, match=r"no (train/)?good/.*; put photographs of good parts into train/good/"):
        train(tmp_path, names)


def test_whatever_else_lies_there_is_counted(tmp_path):
    names = f"{WHOLE} {MASKS} spare/8.png spare/9.png ground_truth/dark/7.png"
    (tmp_path / "parts/train/good").mkdir(parents=True)
    for stray in ("train/good/._0.png", "train/good/new.heic", "Thumbs.db", "notes.txt"):
        (tmp_path / "parts" / stray).write_bytes(b"")
    (told,) = load(tmp_path, names).remarks
    assert told == (
        "5 images; left out: 1 image in ground_truth/dark/, 2 images in spare/, 1 file of no known format (.heic), "
        "1 hidden file, 1 system file"
    )
    assert "2 images; left out: 2 images in spare/" in train(tmp_path, "").remarks[0]


def test_defects_without_outlines_count_for_image_figures_and_it_is_said_once(tmp_path):
    parts = load(tmp_path, WHOLE)
    assert [(sample.label, sample.mask_paths) for sample in parts.test[1:]] == [("defect", ())] * 2
    assert parts.remarks == ("no outlines: image metrics only",)


def test_a_missing_outline_is_refused_unless_it_is_allowed(tmp_path):
    with pytest.raises(DatasetError, match=r"test/dark/4\.png: no mask .*--allow unmarked"):
        load(tmp_path, f"{WHOLE} ground_truth/dark/3.png")
    parts = load(tmp_path, "", allow_unmarked=True)
    assert [len(sample.mask_paths) for sample in parts.test] == [0, 1, 0]
    assert parts.remarks == ("1 of 2 defective images without outline (test/dark/4): image metrics only",)


def test_masks_named_otherwise_are_a_missing_outline_not_none(tmp_path):
    with pytest.raises(DatasetError, match="no mask for this defective image"):
        load(tmp_path, f"{WHOLE} ground_truth/dark/other.png")


@pytest.mark.parametrize(
    ("address", "root", "told"),
    [
        ("folder/pars", "data", r"no folder data/pars; did you mean parts\?"),
        ("folder/parts", ".", r"not in \., but in data: write --root data"),
        ("folder/line/parts", "data", r"write folder/parts --root ROOT/line"),
        ("data/folder/parts", "data", r"write folder/parts --root data"),
        ("data/parts", "data", r"data: no such dataset; .*for the folder data/parts write folder/parts --root "),
        ("parts", "data", r"for the folder data/parts write folder/parts --root "),
        ("folder", "data", r"there are folder/mvtec_ad, folder/parts"),
        ("mvtec_ad/screw", ".", r"tried mvtec_ad/screw.*write --root data"),
        ("mvtec_ad/screw/test/dark", "data", r"write mvtec_ad/screw$"),
        ("mvtec_ad/screw", "data/mvtec_ad/screw/train", r"write --root .*data"),
        ("mvtec_ad/nut", "data", r"data/mvtec_ad/nut is incomplete, it should hold train/good/ and test/"),
    ],
)
def test_an_address_that_is_not_quite_right_is_answered_with_what_to_write(tmp_path, monkeypatch, address, root, told):
    monkeypatch.chdir(tmp_path)
    draw_all(Path("data"), "parts/good/0.png mvtec_ad/screw/train/good/0.png mvtec_ad/screw/test/good/1.png")
    Path("data/mvtec_ad/nut").mkdir()
    with pytest.raises(DatasetError, match=told):
        load_category(address, root=root)


@pytest.mark.parametrize("root", ["data", "data/mvtec_ad", "data/mvtec_ad/screw"])
def test_a_root_may_be_the_category_itself(tmp_path, root):
    draw_all(tmp_path / "data/mvtec_ad/screw", "train/good/0.png test/good/1.png test/dark/2.png")
    draw_all(tmp_path / "data/mvtec_ad/screw", "ground_truth/dark/2_mask.png")
    assert load_category("mvtec_ad/screw", root=tmp_path / root).id == "mvtec_ad/screw"


def test_a_folder_of_ones_own_may_be_the_root_itself(tmp_path):
    draw_all(tmp_path / "Parts", "good/0.png")
    assert load_category("folder/parts", root=tmp_path / "Parts").id == "folder/Parts"


def test_the_commands_say_what_was_left_out_and_keep_standard_output_clean(tmp_path, monkeypatch, capsys):
    draw_all(tmp_path / "parts", "spare/9.png train/good/0.png test/dark/1.png")
    draw(tmp_path / "parts/ground_truth/dark/1.png", spot=(1, 1))
    code, out, err = run(monkeypatch, capsys, "inspect", "FOLDER\\parts/", "--root", tmp_path, "--json")
    assert (code, json.loads(out)["n_defects"]) == (0, 1)
    assert err.splitlines()[0] == "folder/parts: 2 images; left out: 1 image in spare/"


def test_sizes_cannot_be_measured_where_nothing_is_outlined(tmp_path, monkeypatch, capsys):
    draw_all(tmp_path / "parts", "train/good/0.png test/dark/1.png")
    code, out, err = run(monkeypatch, capsys, "inspect", "folder/parts", "--root", tmp_path)
    assert (code, "folder/parts: no outlines: image metrics only" in err) == (0, True)
    assert "no defect is outlined in 1 defective images, so there is nothing to measure; give --defect-px" in out


MARKED = "train/good/0.png train/good/1.png test/good/2.png test/dark/3.png ground_truth/dark/3.png"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (f"{MARKED} test/ok/5.png", r"parts.test: holds good/ and ok/, both good; put their photographs into one"),
        (
            f"{MARKED} test/dim/3.png test/dim/mask/3.png ground_truth/dim/3.png ground_truth/dim/mask/3.png",
            r"dim.mask.3\.png: lies in a folder of masks among photographs; move",
        ),
        ("good/0.png good/1.png defect/3.png defect/masks/3.png", r"defect.masks.3\.png: lies in a folder of masks"),
        (f"{MARKED} train/good/gt/0.png", r"good.gt.0\.png: lies in a folder of masks among photographs"),
        (f"{MARKED} train/good/NG/9.png", r"good.NG.9\.png: lies in a folder of defective photographs among good ones"),
        ("good/0.png good/1.png good/bad/2.png", r"good.bad.2\.png: lies in a folder of defective photographs among"),
        ("good/0.png good/1.png defect/OK/3.png", r"OK.3\.png: lies in a folder of good photographs among defective"),
        ("good/0.png good/1.png defect/3.jpg defect/3_mask.png", r"3_mask\.png: looks like the mask of .*3\.jpg; move"),
        (f"{MARKED} train/good/1_GT.png", r"1_GT\.png: looks like the mask of .*1\.png; move masks"),
        (
            f"{MARKED} test/7.png test/defect/7.png ground_truth/7.png ground_truth/defect/7.png",
            r"folder/parts: two images are called test/defect/7, .*test.7\.png and .*defect.7\.png; rename one",
        ),
    ],
)
def test_photographs_that_would_be_taken_for_something_else_are_refused(tmp_path, names, told):
    with pytest.raises(DatasetError, match=told):
        load(tmp_path, names)


@pytest.mark.parametrize(
    "names",
    [
        f"{MARKED} train/good/masked_part/0.png",
        f"{MARKED} test/dark/normal/4.png ground_truth/dark/normal/4.png",  # a light, perhaps
        "good/0_mask.png good/1_mask.png good/_gt.png",  # whatever it means: there is no photograph beside it
        f"{MARKED} train/good/cam1/2.png train/good/cam2/2_label.png",
    ],
)
def test_names_that_only_resemble_those_are_taken(tmp_path, names):
    assert load(tmp_path, names).train
