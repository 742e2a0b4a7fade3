from collections import Counter
from pathlib import Path

import pytest

from dataset_trees import draw
from tinydefects.datasets.magnetic_tile import group_by_tile, load_magnetic_tile
from tinydefects.errors import DatasetError

DATASETS = Path(__file__).resolve().parents[2] / "shared" / "datasets"
real = pytest.mark.skipif(not (DATASETS / "magnetic_tile").is_dir(), reason="../shared/datasets is absent")


def draw_tile(root: Path, first: int, kinds: str, **mask: object) -> None:
    """Six exposures of one tile, numbered from `first` on in tens; `kinds` names the folder of each."""
    for exposure, kind in enumerate(kinds.split(), start=1):
        stem = f"exp{exposure}_num_{first + 10 * exposure}"
        draw(root / f"MT_{kind}" / "Imgs" / f"{stem}.jpg")
        draw(root / f"MT_{kind}" / "Imgs" / f"{stem}.png", **mask)


@pytest.fixture
def tiles(tmp_path):
    root = tmp_path / "magnetic_tile"
    for number in range(5):
        draw_tile(root, 1000 * number, "Free Free Free Free Free Free")
    draw_tile(root, 5000, "Free Free Crack Crack Crack Crack", spot=(1, 2), value=128)
    draw_tile(root, 6000, "Blowhole Break Fray Uneven Uneven Uneven", spot=(1, 2), value=127)
    return tmp_path


def test_a_tile_ends_where_the_exposure_drops_or_the_number_jumps():
    names = {
        "exp1_num_100": "tile_100",
        "exp3_num_120": "tile_100",
        "exp6_num_140": "tile_100",
        "exp4_num_150": "tile_100",  # a drop of 2 is a lighting out of turn
        "exp1_num_160": "tile_160",  # a drop of 3 is a new tile
        "exp2_num_1160": "tile_160",  # a jump of 1000 is a pause
        "exp3_num_2161": "tile_2161",  # a longer one is a new tile
    }
    assert group_by_tile(sorted(names, reverse=True)) == names


def test_a_name_that_does_not_tell_the_tile_is_refused():
    with pytest.raises(DatasetError, match="tile7: expected a name like exp3_num_45042"):
        group_by_tile(["exp1_num_100", "tile7"])


def test_no_tile_is_on_both_sides_and_a_spoiled_one_is_tested(tiles):
    category = load_magnetic_tile("all", root=tiles, n_train=20)
    assert len(category.train) == 18  # three whole tiles of six
    assert not {sample.group for sample in category.train} & {sample.group for sample in category.test}
    good = [sample for sample in category.test if sample.label == "good"]
    assert Counter(sample.group for sample in good)["tile_5010"] == 2
    assert len(good) == 2 * 6 + 2
    assert {sample.label for sample in category.train} == {"good"}


def test_ids_say_split_type_and_stem(tiles):
    category = load_magnetic_tile("all", root=tiles, n_train=20)
    assert all(sample.id == f"train/good/{sample.image_path.stem}" for sample in category.train)
    assert "test/good/exp1_num_5010" in [sample.id for sample in category.test]
    assert "test/crack/exp3_num_5030" in [sample.id for sample in category.test]


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("all", {"good", "blowhole", "break", "crack", "fray", "uneven"}),
        ("tiny", {"good", "blowhole", "break", "crack"}),
        ("crack", {"good", "crack"}),
        ("uneven", {"good", "uneven"}),
    ],
)
def test_all_categories_share_one_split_and_differ_in_their_defects_alone(tiles, name, types):
    category = load_magnetic_tile(name, root=tiles, n_train=20)
    everything = load_magnetic_tile("all", root=tiles, n_train=20)
    assert category.id == f"magnetic_tile/{name}"
    assert category.train == everything.train
    assert category.test == [sample for sample in everything.test if sample.defect_type in types]
    assert {sample.defect_type for sample in category.test} == types


def test_the_split_depends_on_the_seed(tiles):
    splits = {tuple(s.id for s in load_magnetic_tile("all", root=tiles, n_train=20, seed=n).train) for n in range(8)}
    assert len(splits) > 1


def test_fewer_good_tiles_can_be_tested_on_and_nothing_else_changes(tiles):
    everything = load_magnetic_tile("all", root=tiles, n_train=12)
    fewer = load_magnetic_tile("all", root=tiles, n_train=12, n_good=13)
    groups = Counter(sample.group for sample in fewer.test if sample.label == "good")
    assert groups.total() in {8, 12}  # whole tiles of 6 and one of 2
    assert groups.items() <= Counter(sample.group for sample in everything.test if sample.label == "good").items()
    assert fewer.train == everything.train
    assert [s for s in fewer.test if s.label == "defect"] == [s for s in everything.test if s.label == "defect"]
    with pytest.raises(DatasetError, match="n_good=20: 20 photographs"):
        load_magnetic_tile("all", root=tiles, n_train=12, n_good=20)


def test_a_mask_pixel_is_defective_above_127(tiles):
    test = {sample.defect_type: sample for sample in load_magnetic_tile("all", root=tiles, n_train=20).test}
    assert (test["crack"].mask().sum(), test["blowhole"].mask().sum()) == (1, 0)


@pytest.mark.parametrize("n_train", [-1, 0, 30, 31])
def test_a_training_size_that_leaves_one_side_empty_is_refused(tiles, n_train):
    with pytest.raises(DatasetError, match=f"n_train={n_train}: 30 photographs"):
        load_magnetic_tile("all", root=tiles, n_train=n_train)


def test_a_training_size_below_one_tile_is_refused(tiles):
    with pytest.raises(DatasetError, match=r"n_train=5: .*choose at least 6"):
        load_magnetic_tile("all", root=tiles, n_train=5)


def test_a_missing_mask_names_the_photograph(tiles):
    (tiles / "magnetic_tile/MT_Crack/Imgs/exp3_num_5030.png").unlink()
    with pytest.raises(DatasetError, match=r"exp3_num_5030\.jpg: no mask"):
        load_magnetic_tile("all", root=tiles, n_train=20)


def test_a_missing_or_empty_folder_is_named(tiles):
    with pytest.raises(DatasetError, match=r"magnetic_tile/.*not found, tried .*elsewhere"):
        load_magnetic_tile("all", root=tiles / "elsewhere")
    for path in [*(tiles / "magnetic_tile/MT_Fray/Imgs").iterdir()]:
        path.unlink()
    with pytest.raises(DatasetError, match=r"MT_Fray/Imgs: no photograph here"):
        load_magnetic_tile("all", root=tiles)


def test_a_misspelt_category_is_answered_with_the_near_one(tiles):
    with pytest.raises(DatasetError, match=r"magnetic_tile/creck: no such category; did you mean crack\?"):
        load_magnetic_tile("creck", root=tiles)


@real
@pytest.mark.parametrize("root", [DATASETS, DATASETS / "magnetic_tile"])
def test_the_real_tiles_are_all_there(root):
    category = load_magnetic_tile("all", root=root)
    types = Counter(sample.defect_type for sample in [*category.train, *category.test])
    assert types == {"good": 952, "blowhole": 115, "break": 85, "crack": 57, "fray": 32, "uneven": 103}
    assert len({sample.id for sample in [*category.train, *category.test]}) == 1344


@real
@pytest.mark.parametrize("seed", [0, 1])
def test_the_real_split_leaves_enough_on_both_sides_and_shares_no_tile(seed):
    category = load_magnetic_tile("all", root=DATASETS, seed=seed)
    assert len(category.train) >= 300
    assert sum(sample.label == "good" for sample in category.test) >= 100
    assert not {sample.group for sample in category.train} & {sample.group for sample in category.test}


@real
def test_nearly_all_real_tiles_have_six_photographs():
    category = load_magnetic_tile("all", root=DATASETS)
    sizes = Counter(Counter(sample.group for sample in [*category.train, *category.test]).values())
    # Counted from the file names; the evidence for the inferred rule.
    assert (sizes[6], sizes.total()) == (197, 224)


@pytest.mark.slow
@real
def test_four_real_masks_are_empty_and_their_tiles_stay_defective():
    uneven = [s for s in load_magnetic_tile("uneven", root=DATASETS).test if s.defect_type == "uneven"]
    empty = [sample.image_path.stem for sample in uneven if not sample.mask().any()]
    assert empty == ["exp3_num_45042", "exp4_num_124690", "exp4_num_352527", "exp4_num_45057"]
    assert {sample.label for sample in uneven} == {"defect"}


@real
def test_a_real_crack_is_read_at_its_own_size():
    crack = load_magnetic_tile("crack", root=DATASETS).test[-1]
    assert crack.image().shape[:2] == crack.mask().shape
    assert 0 < crack.mask().mean() < 0.1
