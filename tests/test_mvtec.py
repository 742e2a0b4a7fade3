import hashlib
import shutil

import pytest

from dataset_trees import draw, draw_all, draw_loco
from tinydefects.benchmark.data_digests import changed_files, digest_data, split_digest
from tinydefects.data.map_files import describe_sample
from tinydefects.data.mask_checks import check_masks
from tinydefects.datasets.mvtec import load_mvtec_ad, load_mvtec_ad2, load_mvtec_loco
from tinydefects.errors import DatasetError


def ids(samples):
    return [sample.id for sample in samples]


@pytest.fixture
def mvtec_ad(tmp_path):
    screw = tmp_path / "mvtec_ad" / "screw"
    draw_all(screw / "train" / "good", "000.png 001.png")
    draw_all(screw / "test" / "good", "000.png")
    draw_all(screw / "test" / "scratch_head", "000.png 001.png")
    draw_all(screw / "test" / "bent", "000.png")
    draw_all(screw / "ground_truth" / "scratch_head", "001_mask.png 000_mask.png", spot=(2, 3))
    draw_all(screw / "ground_truth" / "bent", "000_mask.png", spot=(2, 3))
    for name in ("license.txt", "readme.txt"):
        (screw / name).write_text("CC BY-NC-SA 4.0")
    return tmp_path


def test_mvtec_ad_has_the_ids_of_its_folders(mvtec_ad):
    category = load_mvtec_ad("screw", root=mvtec_ad)
    assert category.id == "mvtec_ad/screw"
    assert ids(category.train) == ["train/good/000", "train/good/001"]
    assert ids(category.test) == [
        "test/good/000",
        "test/bent/000",
        "test/scratch_head/000",
        "test/scratch_head/001",
    ]
    assert [sample.label for sample in category.test] == ["good", "defect", "defect", "defect"]
    assert category.test[3].mask_paths[0].name == "001_mask.png"


def test_mvtec_ad_masks_and_images_can_be_read(mvtec_ad):
    good, bent = load_mvtec_ad("screw", root=mvtec_ad).test[:2]
    assert (bent.mask().sum(), bent.mask()[2, 3], bent.image().shape) == (1, True, (4, 6, 3))
    assert not good.mask().any()


def test_mvtec_ad_without_a_mask_is_incomplete(mvtec_ad):
    (mvtec_ad / "mvtec_ad/screw/ground_truth/scratch_head/001_mask.png").unlink()
    with pytest.raises(
        DatasetError, match=r"scratch_head/001\.png: no mask .*001_mask.* in .*ground_truth/scratch_head"
    ):
        load_mvtec_ad("screw", root=mvtec_ad)


def test_mvtec_ad_without_the_masks_of_a_type_names_the_folder_of_that_type(mvtec_ad):
    (mvtec_ad / "mvtec_ad/screw/ground_truth/bent/000_mask.png").unlink()
    (mvtec_ad / "mvtec_ad/screw/ground_truth/bent").rmdir()
    with pytest.raises(DatasetError, match=r"bent/000\.png: no mask .* in .*ground_truth/bent;"):
        load_mvtec_ad("screw", root=mvtec_ad)


LIGHTINGS = ("regular", "overexposed", "underexposed", "shift_1", "shift_2", "shift_3")


@pytest.fixture(params=["can", "can/can"], ids=["flat", "unpacked into itself"])
def mvtec_ad2(tmp_path, request):
    can = tmp_path / "mvtec_ad_2" / request.param
    draw_all(can / "train" / "good", "000_regular.png 001_regular.png")
    draw_all(can / "validation" / "good", "000_regular.png")
    for lighting in LIGHTINGS:
        draw(can / "test_public" / "good" / f"000_{lighting}.png")
        draw(can / "test_public" / "bad" / f"000_{lighting}.png")
        draw(can / "test_public" / "ground_truth" / "bad" / f"000_{lighting}_mask.png", spot=(0, 0))
    draw_all(can / "test_private", "000_regular.png 001_regular.png")
    draw_all(can / "test_private_mixed", "000_mixed.png 001_mixed.png")
    return tmp_path


def test_mvtec_ad2_tests_on_its_public_split_and_keeps_validation_apart(mvtec_ad2):
    category = load_mvtec_ad2("can", root=mvtec_ad2)
    assert category.id == "mvtec_ad2/can"
    assert (len(category.train), ids(category.validation)) == (2, ["validation/good/000_regular"])
    assert ids(category.test)[:2] == ["test_public/good/000_overexposed", "test_public/good/000_regular"]
    assert [sample.defect_type for sample in category.test] == ["good"] * 6 + ["bad"] * 6
    assert category.test[6].mask_paths[0].name == "000_overexposed_mask.png"


def test_the_lightings_of_one_scene_are_one_group_and_a_good_scene_is_not_a_bad_one(mvtec_ad2):
    groups = [sample.group for sample in load_mvtec_ad2("can", root=mvtec_ad2).test]
    assert groups == ["test_public/good/000"] * 6 + ["test_public/bad/000"] * 6


@pytest.mark.parametrize(("split", "lighting"), [("test_private", "regular"), ("test_private_mixed", "mixed")])
def test_the_private_splits_of_mvtec_ad2_are_unknown_and_keep_their_flat_ids(mvtec_ad2, split, lighting):
    category = load_mvtec_ad2("can", root=mvtec_ad2, split=split)
    assert ids(category.test) == [f"{split}/000_{lighting}", f"{split}/001_{lighting}"]
    assert {sample.label for sample in category.test} == {"unknown"}
    with pytest.raises(DatasetError, match="labelled unknown"):
        category.test[0].mask()


def test_an_unknown_split_of_mvtec_ad2_is_answered_with_the_near_one(mvtec_ad2):
    with pytest.raises(DatasetError, match=r"no split 'test_privat'; did you mean test_private\?"):
        load_mvtec_ad2("can", root=mvtec_ad2, split="test_privat")


@pytest.fixture
def mvtec_loco(tmp_path):
    box = tmp_path / "mvtec_loco_anomaly_detection" / "breakfast_box"
    draw_all(box / "train" / "good", "000.png")
    draw_all(box / "validation" / "good", "000.png")
    draw_all(box / "test" / "good", "000.png")
    draw_all(box / "test" / "logical_anomalies", "000.png")
    draw_all(box / "test" / "structural_anomalies", "000.png")
    masks = box / "ground_truth"
    draw(masks / "logical_anomalies" / "000" / "000.png", spot=(0, 0), value=240)
    draw(masks / "logical_anomalies" / "000" / "001.png", spot=(3, 5), value=3)
    draw(masks / "structural_anomalies" / "000" / "000.png", spot=(1, 1))
    (box / "defects_config.json").write_text("[]")
    return tmp_path


def test_mvtec_loco_unites_the_masks_of_an_image(mvtec_loco):
    category = load_mvtec_loco("breakfast_box", root=mvtec_loco)
    assert ids(category.validation) == ["validation/good/000"]
    assert ids(category.test) == ["test/good/000", "test/logical_anomalies/000", "test/structural_anomalies/000"]
    logical = category.test[1]
    assert [path.name for path in logical.mask_paths] == ["000.png", "001.png"]
    assert [tuple(spot) for spot in zip(*logical.mask().nonzero(), strict=True)] == [(0, 0), (3, 5)]


def test_mvtec_loco_without_the_mask_folder_of_an_image_is_incomplete(mvtec_loco):
    folder = mvtec_loco / "mvtec_loco_anomaly_detection/breakfast_box/ground_truth/structural_anomalies/000"
    (folder / "000.png").unlink()
    expected = r"structural_anomalies/000\.png: no mask .*tried .*ground_truth/structural_anomalies/000/\*\.png"
    with pytest.raises(DatasetError, match=expected):
        load_mvtec_loco("breakfast_box", root=mvtec_loco)
    folder.rmdir()
    with pytest.raises(DatasetError, match=expected):
        load_mvtec_loco("breakfast_box", root=mvtec_loco)


def test_other_saturations_of_mvtec_loco_are_other_data(tmp_path):
    """They decide sPRO; no image and no mask changes with them."""
    part = draw_loco(tmp_path / "mvtec_loco" / "pushpins")
    shutil.copytree(part / "ground_truth/logical_anomalies/0", part / "ground_truth/logical_anomalies/1")
    draw(part / "test/logical_anomalies/1.png")
    stored = digest_data(load_mvtec_loco("pushpins", root=tmp_path))
    config = part / "defects_config.json"
    config.write_text(config.read_text().replace("0.45", "0.9"))
    now = load_mvtec_loco("pushpins", root=tmp_path)
    assert split_digest(now) != stored.split
    assert changed_files(now, stored) == [f"{config}: is not the file that the results were made with"]
    assert split_digest(check_masks(now).category) == split_digest(now)  # also where masks are remembered
    config.unlink()
    lines = changed_files(load_mvtec_loco("pushpins", root=tmp_path), stored)
    assert len(lines) == 2
    assert all("mask rule or saturations are not what the results were made with" in line for line in lines)


def test_what_has_no_saturations_keeps_the_digest_it_had(mvtec_ad, tmp_path):
    """Results of other datasets, and of copies of MVTec LOCO without the file, hold those of earlier versions."""
    part = draw_loco(tmp_path / "mvtec_loco" / "pushpins")
    (part / "defects_config.json").unlink()
    for sample in (*load_mvtec_ad("screw", root=mvtec_ad).test, *load_mvtec_loco("pushpins", root=tmp_path).test):
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (sample.image_path, *sample.mask_paths)]
        facts = (sample.id, sample.label, sample.group, sample.mask_rule, [])
        assert describe_sample(sample) == f"{facts} {digests}\n"


def test_tests_that_lost_their_defective_images_are_refused(mvtec_ad2, mvtec_loco):
    bad = next(mvtec_ad2.rglob("test_public/bad"))
    for path in bad.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"test_public.bad: no defective image among those to test on; unpack"):
        load_mvtec_ad2("can", root=mvtec_ad2)
    assert load_mvtec_ad2("can", root=mvtec_ad2, split="test_private").test
    for kind in ("logical_anomalies", "structural_anomalies"):
        (next(mvtec_loco.rglob("test")) / kind / "000.png").unlink()
    with pytest.raises(DatasetError, match=r"breakfast_box.test: no defective image among those to test on"):
        load_mvtec_loco("breakfast_box", root=mvtec_loco)
