import shutil

import pytest

from dataset_trees import draw, draw_all
from tinydefects.data.mask_checks import check_masks
from tinydefects.datasets.catalog import list_categories, load_category, load_training
from tinydefects.errors import DatasetError, ImageReadError, ResolutionMismatchError

FOLDS = ["fold1", "fold2", "fold3"]


def ids(samples):
    return [sample.id for sample in samples]


@pytest.fixture
def surfaces(tmp_path):
    """Six commutators of two surfaces, the first of each with a defect; the mask of a good one is all zero."""
    for number in range(1, 7):
        item = tmp_path / "KolektorSDD" / f"kos{number:02d}"
        draw_all(item, "Part0.jpg Part1.jpg Part1_label.bmp")
        draw(item / "Part0_label.bmp", spot=(2, 3))
    return tmp_path


@pytest.fixture
def painted(tmp_path):
    root = tmp_path / "KolektorSDD2"
    draw_all(root / "train", "10000.png 10000_GT.png 10001.png 10001_GT.png 10002.png")
    draw(root / "train" / "10002_GT.png", spot=(0, 1))
    draw_all(root / "test", "20000.png 20000_GT.png 20001.png")
    draw(root / "test" / "20001_GT.png", spot=(3, 5))
    (root / "split_weakly_0.pyb").write_bytes(b"not to be unpickled")
    return tmp_path


def test_masks_alone_tell_good_from_defective(painted):
    category = load_category("kolektor_sdd2/all", root=painted)
    assert ids(category.train) == ["train/good/10000", "train/good/10001"]
    assert ids(category.test) == ["test/good/20000", "test/defect/20001"]
    assert category.test[1].mask()[3, 5]
    assert category.test[0].mask_paths == ()
    assert list_categories("kolektor_sdd2", painted) == ["kolektor_sdd2/all"]


def test_defective_training_images_are_left_out_and_counted(painted):
    (painted / "KolektorSDD2" / "train" / "notes").mkdir()
    draw(painted / "KolektorSDD2/train/notes/other.png")
    remarks = load_category("kolektor_sdd2/all", root=painted).remarks
    assert remarks[0] == "1 defective image of the training part not learnt from"
    assert remarks[1].startswith("4 images; left out: 1 image in train/notes/")
    assert "10002" not in " ".join(remarks)


def test_an_image_without_mask_is_neither_good_nor_defective_whatever_is_allowed(painted):
    (painted / "KolektorSDD2/test/20000_GT.png").unlink()
    for allow_unmarked in (False, True):
        with pytest.raises(DatasetError, match=r"20000\.png: no mask, tried .*20000_GT\.\*, and nothing else tells"):
            load_category("kolektor_sdd2/all", root=painted, allow_unmarked=allow_unmarked)
    assert ids(load_training("kolektor_sdd2/all", root=painted).train) == ["train/good/10000", "train/good/10001"]


def test_a_mask_that_cannot_be_read_is_named(painted):
    (painted / "KolektorSDD2/train/10001_GT.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageReadError, match=r"10001_GT\.png"):
        load_category("kolektor_sdd2/all", root=painted)


def test_a_mask_of_another_size_is_refused_before_anything_is_scored(painted):
    draw(painted / "KolektorSDD2/test/20001_GT.png", size=(4, 7), spot=(3, 5))
    with pytest.raises(ResolutionMismatchError, match=r"20001_GT\.png: the mask is \(4, 7\)"):
        check_masks(load_category("kolektor_sdd2/all", root=painted))


def test_a_training_part_that_is_defective_throughout_is_refused(painted):
    for stem in ("10000", "10001"):
        draw(painted / f"KolektorSDD2/train/{stem}_GT.png", spot=(0, 0))
    with pytest.raises(DatasetError, match=r"KolektorSDD2: no good image to learn from"):
        load_category("kolektor_sdd2/all", root=painted)


def test_each_fold_keeps_a_commutator_on_one_side_and_all_together_test_each_once(surfaces):
    tested = []
    for fold in FOLDS:
        category = load_category(f"kolektor_sdd/{fold}", root=surfaces)
        assert category.id == f"kolektor_sdd/{fold}"
        groups = {sample.group for sample in category.train}, {sample.group for sample in category.test}
        assert not groups[0] & groups[1]
        assert [len(group) for group in groups] == [4, 2]
        assert ids(category.train) == sorted(f"train/good/{group}/Part1" for group in groups[0])
        assert category.remarks == ("4 defective images of the training part not learnt from",)
        tested += ids(category.test)
    assert sorted(tested) == sorted(
        f"test/{kind}/kos{number:02d}/Part{part}"
        for number in range(1, 7)
        for part, kind in enumerate(["defect", "good"])
    )
    assert list_categories("kolektor_sdd", surfaces) == [f"kolektor_sdd/{fold}" for fold in FOLDS]


def test_another_seed_draws_other_folds(surfaces):
    drawn = {tuple(ids(load_category("kolektor_sdd/fold1", root=surfaces, seed=seed).test)) for seed in range(6)}
    assert len(drawn) > 1


def test_the_mask_of_a_surface_is_its_own_and_never_the_photograph(surfaces):
    (surfaces / "KolektorSDD/kos03/Part1_label.bmp").unlink()
    with pytest.raises(DatasetError, match=r"kos03.Part1\.jpg: no mask, tried .*Part1_label\.\*"):
        load_category("kolektor_sdd/fold1", root=surfaces)


@pytest.mark.parametrize("root", ["KolektorSDD", "KolektorSDD2"])
def test_the_root_may_be_the_folder_itself(surfaces, painted, root):
    name = {"KolektorSDD": "kolektor_sdd/fold1", "KolektorSDD2": "kolektor_sdd2/all"}[root]
    assert load_category(name, root=painted / root).id == name


def test_what_is_not_there_is_said_with_what_it_should_hold(tmp_path):
    (tmp_path / "kolektor_sdd2" / "train").mkdir(parents=True)
    (tmp_path / "kolektor_sdd2" / "test").mkdir()
    with pytest.raises(
        DatasetError, match=r"kolektor_sdd2: not found, tried .*train/ and test/ of NAME.png and NAME_GT"
    ):
        load_category("kolektor_sdd2/all", root=tmp_path)
    with pytest.raises(DatasetError, match=r"kolektor_sdd: not found, tried .*, with kos01/, kos02/, … in it"):
        load_category("kolektor_sdd/fold1", root=tmp_path)
    assert list_categories("kolektor_sdd2", tmp_path) == list_categories("kolektor_sdd", tmp_path) == []


@pytest.mark.parametrize("address", ["kolektor_sdd/fold4", "kolektor_sdd2/train"])
def test_there_is_no_other_category(surfaces, address):
    with pytest.raises(DatasetError, match=f"{address}: no such"):
        load_category(address, root=surfaces)


def test_masks_that_all_mark_nothing_do_not_make_every_surface_good(painted, surfaces):
    draw(painted / "KolektorSDD2/test/20001_GT.png")
    with pytest.raises(DatasetError, match=r"KolektorSDD2: no defective image among those to test on"):
        load_category("kolektor_sdd2/all", root=painted)
    for item in (surfaces / "KolektorSDD").iterdir():
        draw(item / "Part0_label.bmp")
    with pytest.raises(DatasetError, match=r"KolektorSDD: no defective image among those to test on"):
        load_category("kolektor_sdd/fold1", root=surfaces)


def test_the_copies_in_the_published_archive_are_left_out_and_said_if_they_are_none_other(painted):
    train = painted / "KolektorSDD2/train"
    shutil.copy(train / "10002.png", train / "10002 (copy).png")
    shutil.copy(train / "10002_GT.png", train / "10002_GT (copy).png")
    category = load_category("kolektor_sdd2/all", root=painted)
    assert ids(category.train) == ["train/good/10000", "train/good/10001"]
    assert "4 images; left out: 2 images in train/" in category.remarks[1]
    draw(train / "10002 (copy).png", spot=(0, 3))
    with pytest.raises(DatasetError, match=r"10002 \(copy\)\.png: no mask, tried"):
        load_category("kolektor_sdd2/all", root=painted)
