import pytest

from dataset_trees import draw, draw_all
from tinydefects.data.mask_checks import check_masks
from tinydefects.datasets.catalog import load_category, load_training
from tinydefects.errors import DatasetError, ResolutionMismatchError


@pytest.fixture
def mpdd(tmp_path):
    part = tmp_path / "MPDD" / "bracket_black"
    draw_all(part / "train" / "good", "000.png 001.png")
    draw_all(part / "test" / "good", "000.png")
    draw_all(part / "test" / "hole", "000.png 001.png")
    draw_all(part / "test" / "scratches", "000.png")
    draw_all(part / "ground_truth" / "hole", "000_mask.png 001_mask.png", spot=(1, 2))
    draw_all(part / "ground_truth" / "scratches", "000_mask.png", spot=(3, 5))
    return tmp_path


def test_mpdd_is_read_in_the_layout_of_mvtec(mpdd):
    category = load_category("mpdd/bracket_black", root=mpdd)
    assert (category.id, category.remarks) == ("mpdd/bracket_black", ())
    assert [sample.id for sample in category.train] == ["train/good/000", "train/good/001"]
    assert [sample.id for sample in category.test] == [
        *("test/good/000", "test/hole/000", "test/hole/001", "test/scratches/000"),
    ]
    assert [int(sample.mask().sum()) for sample in category.test] == [0, 1, 1, 1]
    assert category.test[-1].mask()[3, 5]


def test_mpdd_without_a_mask_is_refused_unless_it_is_meant(mpdd):
    (mpdd / "MPDD/bracket_black/ground_truth/hole/001_mask.png").unlink()
    with pytest.raises(DatasetError, match=r"hole.001\.png: no mask for this defective image, tried 001\.\*"):
        load_category("mpdd/bracket_black", root=mpdd)
    allowed = load_category("mpdd/bracket_black", root=mpdd, allow_unmarked=True)
    assert allowed.remarks == ("1 of 3 defective images without outline (test/hole/001): image metrics only",)


def test_mpdd_with_a_mask_of_another_size_is_refused_before_anything_is_scored(mpdd):
    draw(mpdd / "MPDD/bracket_black/ground_truth/hole/000_mask.png", size=(6, 4), spot=(1, 2))
    with pytest.raises(ResolutionMismatchError, match=r"000_mask\.png: the mask is \(6, 4\) but its image .*\(4, 6\)"):
        check_masks(load_category("mpdd/bracket_black", root=mpdd))


def test_mpdd_is_learnt_from_without_its_tests_and_missed_by_name(mpdd, tmp_path):
    assert len(load_training("mpdd/bracket_black", root=mpdd).train) == 2
    with pytest.raises(DatasetError, match=r"mpdd/tubes: no such category, tried .*there are bracket_black"):
        load_category("mpdd/tubes", root=mpdd)
    with pytest.raises(DatasetError, match=r"mpdd/tubes: not found, tried .*`root` is the folder that holds mpdd/"):
        load_category("mpdd/tubes", root=tmp_path / "nowhere")
