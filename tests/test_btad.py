import pytest

from dataset_trees import draw, draw_all
from tinydefects.datasets.btad import load_btad
from tinydefects.errors import DatasetError


@pytest.fixture
def btad(tmp_path):
    product = tmp_path / "BTech_Dataset_transformed" / "03"
    draw_all(product / "train" / "ok", "0000.bmp 0001.bmp")
    draw_all(product / "test" / "ok", "0000.bmp")
    draw_all(product / "test" / "ko", "0000.bmp 0001.png")
    draw_all(product / "ground_truth" / "ko", "0000.png 0001.bmp", spot=(3, 0))
    return tmp_path


def test_btad_pairs_images_and_masks_of_different_formats(btad):
    category = load_btad("03", root=btad)
    assert category.id == "btad/03"
    assert [sample.id for sample in category.train] == ["train/good/0000", "train/good/0001"]
    assert [sample.id for sample in category.test] == ["test/good/0000", "test/ko/0000", "test/ko/0001"]
    assert [path.name for sample in category.test for path in sample.mask_paths] == ["0000.png", "0001.bmp"]
    assert [bool(sample.mask()[3, 0]) for sample in category.test] == [False, True, True]


def test_btad_with_a_mask_in_two_formats_is_refused(btad):
    draw(btad / "BTech_Dataset_transformed/03/ground_truth/ko/0000.bmp")
    with pytest.raises(DatasetError, match=r"0000\.png: 0000\.bmp has the same stem"):
        load_btad("03", root=btad)
