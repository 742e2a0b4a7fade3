"""The folder loader, the pairing rule and the catalog; the datasets themselves have files of their own."""

from time import process_time

import pytest

from dataset_trees import draw, draw_all
from tinydefects.datasets.catalog import LICENCES, LOADERS, find_address, list_categories, load_category
from tinydefects.datasets.folder import Layout, find_mask, image_files, load_folder, shuffled
from tinydefects.errors import DatasetError

PARTS = Layout(dataset="parts", folder_names=("parts_ad", "Parts (2024)"), marks=(("good", "bad"),), inner=("", "deep"))


def ids(samples):
    return [sample.id for sample in samples]


@pytest.fixture
def parts(tmp_path):
    root = tmp_path / "parts"
    draw_all(root / "good", "a.png b.JPG c.bmp d.TIF e.jpeg")
    draw_all(root / "defect", "x.JPG y.png")
    draw_all(root / "mask", "y_mask.png x.bmp", spot=(1, 2))
    return root


def test_every_image_format_is_found_by_stem_and_everything_else_is_ignored(parts):
    (parts / "good" / "license.txt").write_text("free")
    (parts / "good" / ".DS_Store").write_bytes(b"")
    (parts / "good" / "._a.png").write_bytes(b"")
    (parts / "good" / "thumbnails").mkdir()
    assert list(image_files(parts / "good")) == ["a", "b", "c", "d", "e"]


def test_two_images_of_one_stem_are_refused(tmp_path):
    draw_all(tmp_path, "a.jpg a.PNG")
    with pytest.raises(DatasetError, match=r"a\.jpg: a\.PNG has the same stem; stems must differ"):
        image_files(tmp_path)


def test_masks_meet_images_by_stem_and_not_by_order(parts):
    masks = {sample.id: sample.mask_paths[0].name for sample in load_folder(parts).test if sample.label == "defect"}
    assert masks == {"test/defect/x": "x.bmp", "test/defect/y": "y_mask.png"}


@pytest.mark.parametrize("name", ["7.bmp", "7_mask.PNG", "7_GT.png", "7_gt.tif", "7_label.bmp"])
def test_a_mask_has_the_stem_of_its_image_alone_or_with_a_known_ending(tmp_path, name):
    masks = image_files(draw(tmp_path / "mask" / name).parent)
    assert find_mask(tmp_path / "7.jpg", masks, tmp_path / "mask").name == name


@pytest.mark.parametrize("name", ["07.png", "7_mask_2.png", "17.png", "7-mask.png"])
def test_a_similar_name_is_no_mask_and_the_error_names_image_and_paths(tmp_path, name):
    masks = image_files(draw(tmp_path / "mask" / name).parent)
    with pytest.raises(DatasetError, match=r"7\.jpg: no mask .*tried 7\.\*, 7_mask\.\*, 7_GT.* in .*mask; add it"):
        find_mask(tmp_path / "7.jpg", masks, tmp_path / "mask")


def test_two_masks_for_one_image_are_refused(parts):
    draw(parts / "mask" / "x_GT.png")
    with pytest.raises(DatasetError, match=r"x\.JPG: two masks for one image, x\.bmp and x_GT\.png in .*mask"):
        load_folder(parts)


def test_two_mask_files_of_one_stem_are_refused(parts):
    draw(parts / "mask" / "x.png")
    with pytest.raises(DatasetError, match=r"x\.png: x\.bmp has the same stem"):
        load_folder(parts)


def test_a_defect_without_mask_is_an_error_even_without_a_mask_folder(parts):
    for path in [*(parts / "mask").iterdir()]:
        path.unlink()
    (parts / "mask").rmdir()
    with pytest.raises(DatasetError, match=r"x\.JPG: no mask for this defective image"):
        load_folder(parts)


def test_a_folder_becomes_a_category_named_after_it(parts):
    category = load_folder(str(parts))
    assert category.id == "folder/parts"
    assert len(category.train) == 4  # a fifth of five good images is kept for the test
    assert ids(category.test)[1:] == ["test/defect/x", "test/defect/y"]
    assert {sample.image_path.stem for sample in [*category.train, category.test[0]]} == set("abcde")


def test_images_held_back_depend_on_the_seed_alone(parts):
    first = load_folder(parts, held_back=0.4, seed=1)
    assert ids(load_folder(parts, held_back=0.4, seed=1).train) == ids(first.train)
    assert any(ids(load_folder(parts, held_back=0.4, seed=seed).train) != ids(first.train) for seed in range(2, 6))
    assert ids(first.test)[0].startswith("test/good/")


@pytest.mark.parametrize(("share", "n_train"), [(0.0, 5), (0.5, 3), (0.99, 1)])
def test_something_is_always_left_to_learn_from(parts, share, n_train):
    assert len(load_folder(parts, held_back=share).train) == n_train


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(parts, share):
    with pytest.raises(DatasetError, match=f"held_back={share}"):
        load_folder(parts, held_back=share)


def test_a_separate_folder_of_good_test_images_leaves_training_whole(parts):
    draw_all(parts / "held", "z.png")
    category = load_folder(parts, test_good="held")
    assert (len(category.train), ids(category.test)[0]) == (5, "test/good/z")


def test_defect_types_are_sub_folders_with_masks_in_the_same_or_in_one_folder(tmp_path):
    draw_all(tmp_path / "good", "a.png b.png")
    draw_all(tmp_path / "defect" / "dent", "0.png")
    draw_all(tmp_path / "defect" / "crack", "1.png")
    draw_all(tmp_path / "typed" / "dent", "0.png")
    draw_all(tmp_path / "typed" / "crack", "1.png")
    draw_all(tmp_path / "together", "0.png 1.png")
    for mask in ("typed", "together"):
        defects = [sample for sample in load_folder(tmp_path, mask=mask).test if sample.label == "defect"]
        assert ids(defects) == ["test/crack/1", "test/dent/0"]
        assert [sample.mask_paths[0].name for sample in defects] == ["1.png", "0.png"]


def test_without_defects_there_is_a_test_of_good_images(parts):
    assert ids(load_folder(parts, defect=None).test) == [ids(load_folder(parts).test)[0]]


def test_without_masks_no_pixel_of_a_defective_image_is_marked(parts):
    defect = load_folder(parts, mask=None).test[-1]
    assert (defect.label, defect.mask_paths) == ("defect", ())
    assert not defect.mask().any()


def test_the_mask_rule_is_carried_by_every_defect(parts):
    assert {sample.mask_rule for sample in load_folder(parts, mask_rule="above_127").test[1:]} == {"above_127"}


@pytest.mark.parametrize("missing", [{"good": "god"}, {"defect": "defcet"}, {"test_good": "nothing"}])
def test_a_folder_that_is_not_there_is_named(parts, missing):
    (name,) = missing.values()
    with pytest.raises(DatasetError, match=f"{name}: cannot list this folder .No such file or directory."):
        load_folder(parts, **missing)


@pytest.mark.parametrize("empty", ["good", "defect"])
def test_a_folder_without_images_is_named(parts, empty):
    for path in [*(parts / empty).iterdir()]:
        path.unlink()
    with pytest.raises(DatasetError, match=rf"{empty}: no (defective )?image here"):
        load_folder(parts)


@pytest.mark.parametrize("place", ["parts_ad", "PARTS-AD", "Parts (2024)", ".", "parts_ad/deep", "deep"])
def test_a_dataset_is_found_under_its_names_or_as_root_itself(tmp_path, place):
    for folder in ("good", "bad"):
        (tmp_path / place / "screw" / folder).mkdir(parents=True)
    (tmp_path / "other" / "nut" / "good").mkdir(parents=True)
    assert PARTS.find("screw", tmp_path) == tmp_path / place / "screw"
    assert list(PARTS.categories(tmp_path)) == ["screw"]


def test_a_category_unpacked_into_a_folder_of_its_own_name_is_found(tmp_path):
    for folder in ("good", "bad"):
        (tmp_path / "screw" / "screw" / folder).mkdir(parents=True)
    assert PARTS.find("screw", tmp_path) == tmp_path / "screw" / "screw"


def test_a_missing_dataset_names_every_path_tried(tmp_path):
    with pytest.raises(DatasetError) as caught:
        PARTS.find("screw", tmp_path / "data")
    for part in ("parts/screw: not found", "data/parts_ad/screw", "data/screw", "`root` is the folder that holds"):
        assert part in str(caught.value)


def test_the_seeded_order_is_the_same_on_every_machine():
    # printf 0:a | sha256sum begins with 9d, 0:b with e0, 0:c with be.
    assert shuffled(["a", "b", "c"], 0) == shuffled(["c", "b", "a"], 0) == ["a", "c", "b"]
    assert sorted(shuffled("abc", 3)) == ["a", "b", "c"]
    assert len({tuple(shuffled("abcdef", seed)) for seed in range(20)}) > 15


@pytest.fixture
def screws(tmp_path):
    for name in ("screw", "hazelnut"):
        draw_all(tmp_path / "mvtec_ad" / name / "train" / "good", "000.png")
        draw_all(tmp_path / "mvtec_ad" / name / "test" / "good", "000.png")
    return tmp_path


def test_a_category_is_loaded_by_its_address(screws):
    draw(screws / "mvtec_ad/screw/test/bent/000.png")
    draw(screws / "mvtec_ad/screw/ground_truth/bent/000_mask.png")
    assert load_category("mvtec_ad/screw", root=screws).id == "mvtec_ad/screw"
    assert load_category("mvtec_ad/screw", root=str(screws / "mvtec_ad")).id == "mvtec_ad/screw"


def test_addresses_are_listed_in_full_for_patterns(screws):
    assert list_categories("mvtec_ad", screws) == ["mvtec_ad/hazelnut", "mvtec_ad/screw"]
    assert list_categories("visa", screws) == list_categories("mvtec_ad", screws / "absent") == []
    assert list_categories("magnetic_tile", screws) == []
    assert list_categories("synthetic", screws)


def test_a_misspelt_category_is_answered_with_the_near_one_and_the_others(screws):
    with pytest.raises(DatasetError, match=r"mvtec_ad/scerw: .*did you mean screw\? there are hazelnut, screw"):
        load_category("mvtec_ad/scerw", root=screws)


@pytest.mark.parametrize("call", [lambda: load_category("mvtec/screw"), lambda: list_categories("mvtec")])
def test_a_misspelt_dataset_is_answered_with_the_near_one_and_the_others(call):
    with pytest.raises(
        DatasetError, match=r"mvtec: no such dataset; did you mean mvtec_\w+\? there are mvtec_ad, .*visa"
    ):
        call()


@pytest.mark.parametrize("address", ["mvtec_ad", "mvtec_ad/"])
def test_an_address_without_category_says_how_to_write_one(address):
    with pytest.raises(DatasetError, match="a category is written dataset/category"):
        load_category(address)


@pytest.mark.parametrize(
    "address",
    [
        "mvtec_ad/..",
        "mvtec_ad/../mvtec_ad/screw",
        "folder/..",
        "../mvtec_ad/screw",
        "/mvtec_ad/screw",
        "~/screw",
        "C:\\screw",
    ],
)
def test_an_address_cannot_leave_the_dataset(screws, address):
    with pytest.raises(DatasetError, match="a category is written dataset/category, not a path"):
        load_category(address, root=screws)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "mvtec_ad/screw/",
            "mvtec_ad//screw",
            "./mvtec_ad/screw",
            "mvtec_ad/./screw",
            "mvtec_ad\\screw",
            "MVTEC_AD/Screw",
        ),
        *(".\\MVTec-AD\\SCREW\\", "Mvtec_AD/screw"),
    ],
)
def test_an_address_is_understood_however_it_is_typed(screws, address):
    assert find_address(address, screws) == "mvtec_ad/screw"


def test_every_dataset_states_its_licence():
    assert LICENCES.keys() == LOADERS.keys()


@pytest.mark.slow
def test_ten_thousand_samples_are_loaded_quickly_from_their_names_alone(tmp_path):
    # All files are empty, so whoever opened one as an image would fail.
    for name, count in {"good": 9_000, "defect": 1_000, "mask": 1_000}.items():
        (tmp_path / name).mkdir()
        for number in range(count):
            (tmp_path / name / f"{number:05d}.png").touch()
    start = process_time()
    category = load_folder(tmp_path)
    assert process_time() - start < 3  # 0.2 s measured
    assert len(category.train) + len(category.test) == 10_000


def test_a_folder_is_addressed_like_any_category_in_both_layouts(tmp_path):
    draw_all(tmp_path / "parts/good", "a.png b.png c.png d.png e.png")
    parts = load_category("folder/parts", root=tmp_path)
    assert (len(parts.train), len(parts.test)) == (4, 1)
    draw_all(tmp_path / "screws", "train/good/a.png test/good/b.png test/bent/c.png ground_truth/bent/c_mask.png")
    screws = load_category("folder/screws", root=tmp_path)
    assert ids(screws.test) == ["test/good/b", "test/bent/c"]
    assert screws.id == "folder/screws"
    assert list_categories("folder", tmp_path) == ["folder/parts", "folder/screws"]
