import csv
from pathlib import Path

import pytest

from dataset_trees import draw, draw_all
from tinydefects.datasets.visa import load_visa
from tinydefects.errors import DatasetError

REAL_SPLIT = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "visa" / "1cls.csv"
ROWS = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0836.JPG,
candle,train,normal,candle/Data/Images/Normal/0001.JPG,
candle,test,normal,candle/Data/Images/Normal/0000.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png
candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png
pcb1,train,normal,pcb1/Data/Images/Normal/0000.JPG,
"""
TRAIN = ["train/good/0001", "train/good/0836"]
TEST = ["test/bad/000", "test/bad/001", "test/good/0000"]


@pytest.fixture
def raw(tmp_path):
    data = tmp_path / "visa" / "candle" / "Data"
    draw_all(data / "Images" / "Normal", "0000.JPG 0001.JPG 0836.JPG")
    draw_all(data / "Images" / "Anomaly", "000.JPG 001.JPG")
    draw_all(data / "Masks" / "Anomaly", "000.png 001.png", spot=(1, 5), value=3)
    (tmp_path / "visa" / "candle" / "image_anno.csv").write_text("image,label,mask\n")
    (tmp_path / "visa" / "split_csv").mkdir()
    (tmp_path / "visa" / "split_csv" / "1cls.csv").write_text(ROWS)
    return tmp_path


def draw_reorganised(folder: Path, masks: str) -> None:
    draw_all(folder / "train" / "good", "0001.JPG 0836.JPG")
    draw_all(folder / "test" / "good", "0000.JPG")
    draw_all(folder / "test" / "bad", "000.JPG 001.JPG")
    draw_all(folder / masks / "bad", "000.png 001.png", spot=(1, 5))


def test_raw_visa_follows_its_split_file(raw):
    category = load_visa("candle", root=raw)
    assert category.id == "visa/candle"
    assert [sample.id for sample in category.train] == TRAIN
    assert [sample.id for sample in category.test] == TEST
    assert [sample.label for sample in category.test] == ["defect", "defect", "good"]


def test_class_ids_of_raw_visa_masks_are_defects(raw):
    defect = load_visa("candle", root=raw).test[0]
    assert (defect.mask().sum(), defect.mask()[1, 5]) == (1, True)


@pytest.mark.parametrize(
    ("place", "masks"),
    [
        ("visa_pytorch/1cls/candle", "ground_truth"),
        ("VisA_pytorch/1cls/candle", "ground_truth"),
        ("visa/visa_pytorch/candle", "ground_truth"),
        ("visa/visa_pytorch/1cls/candle", "ground_truth"),
        ("visa/candle", "ground_truth"),
        ("candle", "ground_truth"),
        ("visa/candle", "test/ground_truth"),
    ],
)
def test_every_reorganised_form_gives_the_samples_of_the_raw_one(tmp_path, place, masks):
    draw_reorganised(tmp_path / place, masks)
    category = load_visa("candle", root=tmp_path)
    assert [sample.id for sample in category.train] == TRAIN
    assert sorted(sample.id for sample in category.test) == TEST
    assert sorted(int(sample.mask().sum()) for sample in category.test) == [0, 1, 1]


def test_raw_visa_wins_over_a_reorganised_copy_inside_it(raw):
    draw_reorganised(raw / "visa" / "visa_pytorch" / "candle", "ground_truth")
    assert "Data" in load_visa("candle", root=raw).train[0].image_path.parts


def test_raw_visa_without_its_split_file_says_where_it_was_looked_for(raw):
    (raw / "visa/split_csv/1cls.csv").unlink()
    with pytest.raises(DatasetError, match=r"candle: raw VisA needs its split file, tried .*visa/split_csv/1cls\.csv"):
        load_visa("candle", root=raw)


def test_a_split_file_of_other_columns_is_refused(raw):
    (raw / "visa/split_csv/1cls.csv").write_text("image,label,mask\na,b,c\n")
    with pytest.raises(DatasetError, match=r"1cls\.csv: expected the columns image, label, mask, object, split"):
        load_visa("candle", root=raw)


def test_an_image_of_the_split_file_that_is_not_on_disk_is_named(raw):
    (raw / "visa/candle/Data/Images/Normal/0836.JPG").unlink()
    with pytest.raises(DatasetError, match=r"1cls\.csv: candle/Data/Images/Normal/0836\.JPG \(train\) is not in"):
        load_visa("candle", root=raw)


def test_a_raw_defect_without_mask_is_named(raw):
    (raw / "visa/candle/Data/Masks/Anomaly/001.png").unlink()
    with pytest.raises(DatasetError, match=r"Anomaly/001\.JPG: no mask for this defective image"):
        load_visa("candle", root=raw)


def test_a_class_the_split_file_does_not_list_is_refused(raw):
    draw(raw / "visa/fryum/Data/Images/Normal/0000.JPG")
    draw(raw / "visa/fryum/Data/Images/Anomaly/000.JPG")
    draw(raw / "visa/fryum/Data/Masks/Anomaly/000.png")
    with pytest.raises(DatasetError, match=r"lists no train or no test image of fryum"):
        load_visa("fryum", root=raw)


@pytest.mark.slow
@pytest.mark.skipif(not REAL_SPLIT.is_file(), reason="../shared/datasets is absent")
def test_the_real_split_file_gives_the_published_counts(tmp_path):
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text(REAL_SPLIT.read_text())
    with REAL_SPLIT.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["object"] == "pcb3":
                for path in filter(None, (row["image"], row["mask"])):
                    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                    (tmp_path / path).touch()
    category = load_visa("pcb3", root=tmp_path)
    labels = [sample.label for sample in category.test]
    assert (len(category.train), labels.count("good"), labels.count("defect")) == (905, 101, 100)
    assert all(sample.mask_paths[0].stem == sample.image_path.stem for sample in category.test if sample.mask_paths)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("test,anomaly", "test,defect"), r"Anomaly/000\.JPG has the label 'defect', not normal or anomaly"),
        (("test,normal", "test,"), r"Normal/0000\.JPG has the label '', not normal or anomaly"),
        (
            ("test,anomaly", "train,anomaly"),
            r"Anomaly/000\.JPG is a defective training image; take the one-class split",
        ),
        (("Anomaly/001.JPG", "Anomaly/000.JPG"), r"lists candle/Data/Images/Anomaly/000\.JPG twice"),
    ],
)
def test_a_label_or_split_that_would_be_a_guess_is_refused(raw, change, complaint):
    (raw / "visa/split_csv/1cls.csv").write_text(ROWS.replace(*change))
    with pytest.raises(DatasetError, match=complaint):
        load_visa("candle", root=raw)


def test_a_split_without_a_defective_image_is_refused(raw):
    rows = [row for row in ROWS.splitlines() if "anomaly" not in row]
    (raw / "visa/split_csv/1cls.csv").write_text("\n".join(rows))
    with pytest.raises(DatasetError, match=r"1cls\.csv: no defective image among those to test on; unpack it again"):
        load_visa("candle", root=raw)
