import json
from pathlib import Path

import numpy as np
import pytest

from dataset_trees import draw
from tinydefects.data.mask_checks import check_masks
from tinydefects.data.sample import Prediction
from tinydefects.datasets.catalog import list_categories, load_category, load_training, parse_options
from tinydefects.errors import DatasetError, ResolutionMismatchError
from tinydefects.metrics.evaluation import evaluate

GOOD, WORN = "OK/S0001/toy_0001_OK_C{view}_20231020.jpg", "NG/AK/S0002/toy__0002_NG_AK_C{view}_20231020.jpg"
TRAINED = "OK/S0009/toy_0009_OK_C{view}_20231021.jpg"


def entry(path: str, kind: str = "OK", mask: str | None = None) -> dict[str, object]:
    return {"category": "toy", "anomaly_class": kind, "image_path": path, "mask_path": mask}


def write_split(path: Path, *, train: list[dict[str, object]], test: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"pre_transform": True, "normal_class": "OK", "prefix": "toy/"}
    path.write_text(json.dumps({"meta": meta, "train": train, "test": test}))


def draw_class(folder: Path) -> None:
    """Three parts of five views; of the worn one the last two views show nothing, as the split says."""
    for view in range(1, 6):
        for path in (GOOD, WORN, TRAINED):
            draw(folder / path.format(view=view))
        if view < 4:
            mask = draw(folder / WORN.format(view=view).replace(".jpg", ".png"), spot=(1, 2))
            assert mask.is_file()


@pytest.fixture
def real_iad(tmp_path):
    root = tmp_path / "Real-IAD"
    draw_class(root / "realiad_1024" / "toy")
    views = range(1, 6)
    write_split(
        root / "realiad_jsons/realiad_jsons/toy.json",
        train=[entry(TRAINED.format(view=view)) for view in views],
        test=[
            *(entry(GOOD.format(view=view)) for view in views),
            *(
                entry(WORN.format(view=view), "AK", WORN.format(view=view).replace(".jpg", ".png"))
                if view < 4
                else entry(WORN.format(view=view))
                for view in views
            ),
        ],
    )
    write_split(
        root / "realiad_jsons/realiad_jsons_sv/toy.json",
        train=[entry(TRAINED.format(view=1))],
        test=[
            entry(GOOD.format(view=1)),
            entry(WORN.format(view=1), "AK", WORN.format(view=1).replace(".jpg", ".png")),
        ],
    )
    return tmp_path


def split_of(root: Path) -> Path:
    return root / "Real-IAD/realiad_jsons/realiad_jsons/toy.json"


def change(path: Path, part: str, place: int, **fields: object) -> None:
    split = json.loads(path.read_text())
    split[part][place] |= fields
    path.write_text(json.dumps(split))


def test_the_five_views_of_a_part_are_one_group(real_iad):
    category = load_category("real_iad/toy", root=real_iad)
    assert category.id == "real_iad/toy"
    assert [sample.group for sample in category.train] == ["OK/S0009"] * 5
    by_part = {
        sample.group: [other for other in category.test if other.group == sample.group] for sample in category.test
    }
    assert {part: [sample.label for sample in views] for part, views in by_part.items()} == {
        "OK/S0001": ["good"] * 5,
        "NG/AK/S0002": ["defect"] * 3 + ["good"] * 2,
    }
    assert list_categories("real_iad", real_iad) == ["real_iad/toy"]


def test_a_part_is_scored_by_its_views_where_all_of_them_are_there(real_iad):
    category = load_category("real_iad/toy", root=real_iad)
    pairs = [(sample, gray(0.9 if "C5" in sample.id and "0002" in sample.id else 0.1)) for sample in category.test]
    evaluation = evaluate(pairs, n_resamples=0)
    assert (evaluation.n_parts, evaluation.n_good_parts, evaluation.part_auroc) == (2, 1, 1.0)
    assert evaluation.image_auroc < 0.5  # the view that tells shows no defect
    single = load_category("real_iad/toy", root=real_iad, **parse_options("real_iad", ["views=single"]))
    assert evaluate([(sample, gray(0.1)) for sample in single.test], n_resamples=0).n_parts == 0


def gray(score: float) -> Prediction:
    return Prediction(np.zeros((4, 6), dtype=np.float32), score)


def test_ids_say_split_type_part_and_file(real_iad):
    category = load_category("real_iad/toy", root=real_iad)
    assert category.train[0].id == "train/good/S0009/toy_0009_OK_C1_20231021"
    assert category.test[0].id == "test/AK/S0002/toy__0002_NG_AK_C1_20231020"
    assert category.test[0].defect_type == "AK"
    assert "test/good/S0002/toy__0002_NG_AK_C4_20231020" in [sample.id for sample in category.test]


def test_masks_are_read_above_127_and_only_of_defective_views(real_iad):
    category = load_category("real_iad/toy", root=real_iad)
    assert [len(sample.mask_paths) for sample in category.test] == [1] * 3 + [0] * 7
    assert category.test[0].mask()[1, 2]
    for value, is_marked in ((127, False), (128, True)):
        draw(category.test[0].mask_paths[0], spot=(1, 2), value=value)
        assert bool(category.test[0].mask()[1, 2]) is is_marked


def test_the_single_view_split_is_an_option(real_iad):
    category = load_category("real_iad/toy", root=real_iad, **parse_options("real_iad", ["views=single"]))
    assert (len(category.train), len(category.test)) == (1, 2)
    assert category.remarks == ("resolution=1024 is taken",)


def test_of_several_resolutions_the_largest_is_taken_and_said_or_the_named_one(real_iad):
    draw_class(real_iad / "Real-IAD/realiad_256/toy")
    largest = load_category("real_iad/toy", root=real_iad)
    assert largest.remarks == ("resolution=1024 is taken, there is 256 as well",)
    assert "realiad_1024" in str(largest.test[0].image_path)
    small = load_category("real_iad/toy", root=real_iad / "Real-IAD", resolution="256")
    assert "realiad_256" in str(small.test[0].image_path)
    assert [sample.id for sample in small.test] == [sample.id for sample in largest.test]
    with pytest.raises(DatasetError, match=r"real_iad/toy: no resolution=512 in .*there are 1024, 256"):
        load_category("real_iad/toy", root=real_iad, resolution="512")


def test_images_that_no_split_names_are_counted(real_iad):
    draw(real_iad / "Real-IAD/realiad_1024/toy/NG/BX/S0003/toy__0003_NG_BX_C1_1.jpg")
    assert load_category("real_iad/toy", root=real_iad).remarks[1] == "15 images; left out: 1 image in NG/BX/S0003/"


def test_an_image_or_mask_that_is_not_there_is_named_with_its_split(real_iad):
    folder = real_iad / "Real-IAD/realiad_1024/toy"
    (folder / WORN.format(view=2)).with_suffix(".png").unlink()
    with pytest.raises(DatasetError, match=r"NG_AK_C2_20231020\.png: named by .*toy\.json, not there; unpack"):
        load_category("real_iad/toy", root=real_iad)
    assert len(load_training("real_iad/toy", root=real_iad).train) == 5
    (folder / TRAINED.format(view=3)).unlink()
    with pytest.raises(DatasetError, match=r"OK_C3_20231021\.jpg: named by .*toy\.json, not there"):
        load_training("real_iad/toy", root=real_iad)


def test_a_defective_view_without_mask_is_refused_unless_it_is_meant(real_iad):
    change(split_of(real_iad), "test", 5, mask_path=None)
    with pytest.raises(DatasetError, match=r"NG_AK_C1_20231020\.jpg: no mask for this defective image in .*toy\.json"):
        load_category("real_iad/toy", root=real_iad)
    allowed = load_category("real_iad/toy", root=real_iad, allow_unmarked=True)
    assert "1 of 3 defective images without outline" in allowed.remarks[-1]


def test_a_mask_of_another_size_is_refused_before_anything_is_scored(real_iad):
    draw((real_iad / "Real-IAD/realiad_1024/toy" / WORN.format(view=1)).with_suffix(".png"), size=(9, 9), spot=(1, 2))
    with pytest.raises(ResolutionMismatchError, match=r"the mask is \(9, 9\)"):
        check_masks(load_category("real_iad/toy", root=real_iad))


@pytest.mark.parametrize(
    ("part", "fields", "complaint"),
    [
        ("train", {"anomaly_class": "AK"}, r"toy\.json: its training holds a defective image, or none at all"),
        (
            "test",
            {"image_path": "../toy/OK/S0001/x.jpg"},
            r"toy\.json: names '\.\./toy/OK/S0001/x\.jpg', expected OK/S0001",
        ),
        ("test", {"image_path": "OK/toy_0001.jpg"}, r"expected OK/S0001/NAME or NG/TYPE/S0001/NAME"),
        ("test", {"image_path": GOOD.format(view=2)}, r"toy\.json: lists OK/S0001/toy_0001_OK_C2_20231020\.jpg twice"),
        ("test", {"image_path": 5}, r"toy\.json: field 'test\.0\.image_path': Input should be a valid string"),
    ],
)
def test_a_split_that_is_none_is_refused(real_iad, part, fields, complaint):
    change(split_of(real_iad), part, 0, **fields)
    with pytest.raises(DatasetError, match=complaint):
        load_category("real_iad/toy", root=real_iad)


def test_a_part_on_both_sides_is_said(real_iad):
    split = json.loads(split_of(real_iad).read_text())
    split["test"].append(split["train"].pop())
    split_of(real_iad).write_text(json.dumps(split))
    remarks = load_category("real_iad/toy", root=real_iad).remarks
    assert "1 part with views in training and in test, first OK/S0009" in remarks


def test_an_image_on_both_sides_is_refused(real_iad):
    split = json.loads(split_of(real_iad).read_text())
    split["test"].append(split["train"][0])
    split_of(real_iad).write_text(json.dumps(split))
    with pytest.raises(DatasetError, match=r"toy\.json: lists .*S0009/.* for training and for test"):
        load_category("real_iad/toy", root=real_iad)


def test_a_missing_split_class_or_dataset_is_said_with_the_places_tried(real_iad, tmp_path):
    with pytest.raises(DatasetError, match=r"real_iad/tyo: no such class in .*did you mean toy"):
        load_category("real_iad/tyo", root=real_iad)
    split_of(real_iad).unlink()
    with pytest.raises(
        DatasetError, match=r"toy\.json: no split here, nor at .*; unpack realiad_jsons beside the images"
    ):
        load_category("real_iad/toy", root=real_iad)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"real_iad: not found, tried .*with realiad_1024/ and realiad_jsons/ in it"):
        load_category("real_iad/toy", root=tmp_path / "empty")


def test_a_split_that_calls_a_marked_view_good_is_refused(real_iad):
    change(split_of(real_iad), "test", 5, anomaly_class="OK")
    with pytest.raises(DatasetError, match=r"NG_AK_C1_20231020\.jpg: has a mask and is called OK in .*toy\.json"):
        load_category("real_iad/toy", root=real_iad)


def test_a_split_without_a_defective_view_is_refused(real_iad):
    for place in range(5, 8):
        change(split_of(real_iad), "test", place, anomaly_class="OK", mask_path=None)
    with pytest.raises(DatasetError, match=r"toy\.json: no defective image among those to test on"):
        load_category("real_iad/toy", root=real_iad)
