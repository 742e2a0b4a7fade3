"""Decisions on disk in every format, whole or not at all."""

import csv
import json

import numpy as np
import pytest

from good_parts import calibration_of
from tinydefects.data.pixels import read_stored
from tinydefects.data.sample import Prediction
from tinydefects.decisions.decision_files import FORMATS, Decided, draw_outlines, write_decisions
from tinydefects.errors import SettingsError, TinyDefectsError

TABLES = ["coco.json", "decisions.csv", "decisions.jsonl", "regions.csv"]


def decide(anomaly_map, pixel_pitch_mm=None):
    calibration = calibration_of(range(-98, -58), region_threshold=1.5)
    calibration = calibration.model_copy(update={"extent": calibration.extent.model_copy(update={"level": 0.5})})
    return calibration.decide(Prediction(anomaly_map, float(anomaly_map.max())), pixel_pitch_mm)


@pytest.fixture
def decided(tmp_path):
    """Three photographs: an L of three pixels and a single one, nothing, and a ring with a hole."""
    maps = np.zeros((3, 6, 8), dtype=np.float32)
    maps[0, 1:3, 2], maps[0, 2, 3], maps[0, 5, 7] = 2.0, 3.0, 2.5
    maps[2, 1:4, 1:4], maps[2, 2, 2] = 4.0, 0.0
    names = ["test/a b/000", "test/good/000", "test/hole/000"]
    photographs = tmp_path / "some photographs"
    return [
        Decided(id=name, image_path=photographs / f"{name}.png", decision=decide(one, 0.5))
        for name, one in zip(names, maps, strict=True)
    ]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_have_a_row_an_image_and_a_row_a_region(tmp_path, decided):
    assert write_decisions(iter(decided), tmp_path / "out", ["csv"]) == 3
    images, regions = (rows_of(tmp_path / "out" / name) for name in ("decisions.csv", "regions.csv"))
    assert [(row["image"], row["n_regions"]) for row in images] == [
        ("test/a b/000", "2"),
        ("test/good/000", "0"),
        ("test/hole/000", "1"),
    ]
    assert (images[0]["verdict"], float(images[0]["score"]), images[0]["height"]) == ("unsure", 3.0, "6")
    assert float(images[0]["p_value"]) == pytest.approx(1 / 41, abs=1e-12)
    assert [(row["image"], row["region"], row["area_px"]) for row in regions] == [
        ("test/a b/000", "1", "3"),
        ("test/a b/000", "2", "1"),
        ("test/hole/000", "1", "8"),
    ]
    assert [regions[0][name] for name in ("x", "y", "width", "height", "peak_row", "peak_column")] == list("212223")
    assert float(regions[0]["area_mm2"]) == pytest.approx(0.75, abs=1e-12)


def test_what_is_not_known_is_an_empty_cell(tmp_path):
    one = Decided(id="a", image_path=tmp_path / "a.png", decision=decide(np.full((2, 2), 5, dtype=np.float32)))
    write_decisions([one], tmp_path / "out", ["csv"])
    (row,) = rows_of(tmp_path / "out" / "regions.csv")
    assert row["length_mm"] == row["area_mm2"] == ""


def test_json_lines_hold_an_object_an_image(tmp_path, decided):
    write_decisions(decided, tmp_path / "out", ["jsonl"])
    lines = [json.loads(line) for line in (tmp_path / "out/decisions.jsonl").read_text().splitlines()]
    assert lines == [json.loads(json.dumps({"image": one.id, **one.decision.record()})) for one in decided]
    assert [region["peak"] for region in lines[0]["regions"]] == [3.0, 2.5]


def test_coco_has_its_fields_and_exact_polygons(tmp_path, decided):
    write_decisions(decided, tmp_path / "out", ["coco"])
    content = json.loads((tmp_path / "out/coco.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "defect", "supercategory": ""}]
    assert content["images"][0] == {
        "id": 1,
        "file_name": "../some photographs/test/a b/000.png",
        "height": 6,
        "width": 8,
    }
    first = content["annotations"][0]
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[2, 1, 3, 1, 3, 2, 4, 2, 4, 3, 2, 3]],
        "area": 3,
        "bbox": [2, 1, 2, 2],
        "iscrowd": 0,
        "score": 3.0,
    }
    assert [(one["id"], one["image_id"]) for one in content["annotations"]] == [(1, 1), (2, 1), (3, 3)]


def test_coco_of_no_decision_is_whole(tmp_path):
    assert write_decisions([], tmp_path / "out", FORMATS) == 0
    content = json.loads((tmp_path / "out/coco.json").read_text())
    assert (content["images"], content["annotations"]) == ([], [])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == TABLES


def test_masks_are_0_and_255_at_the_size_of_the_photograph(tmp_path, decided):
    write_decisions(decided, tmp_path / "out", ["masks"])
    pixels = read_stored(tmp_path / "out/masks/test/hole/000.png").pixels
    assert pixels.shape == (6, 8)
    assert np.unique(pixels).tolist() == [0, 255]
    assert (np.count_nonzero(pixels), pixels[2, 2]) == (8, 0)  # the hole stays one
    assert not read_stored(tmp_path / "out/masks/test/good/000.png").pixels.any()


def test_labelme_finds_photograph_and_polygons(tmp_path, decided):
    write_decisions(decided, tmp_path / "out", ["labelme"])
    path = tmp_path / "out/labelme/test/a b/000.json"
    content = json.loads(path.read_text())
    assert (path.parent / content["imagePath"]).resolve() == decided[0].image_path
    assert (content["imageHeight"], content["imageWidth"], content["imageData"]) == (6, 8, None)
    shape = content["shapes"][1]
    assert (shape["label"], shape["shape_type"]) == ("defect", "polygon")
    assert shape["points"] == [[7, 5], [8, 5], [8, 6], [7, 6]]
    assert shape["description"].startswith("1.1 px (0.564 mm) at row 5, column 7")
    assert json.loads((tmp_path / "out/labelme/test/good/000.json").read_text())["shapes"] == []


def test_a_run_that_breaks_off_leaves_the_earlier_tables(tmp_path, decided):
    out = tmp_path / "out"
    write_decisions(decided, out, FORMATS)
    before = {name: (out / name).read_bytes() for name in TABLES}

    def breaking():
        yield decided[1]
        raise TinyDefectsError("b.png: cut off")

    with pytest.raises(TinyDefectsError, match="cut off"):
        write_decisions(breaking(), out, FORMATS)
    assert {name: (out / name).read_bytes() for name in TABLES} == before
    assert sorted(path.name for path in out.iterdir()) == [*TABLES[:3], "labelme", "masks", "regions.csv"]


def test_a_run_that_breaks_off_first_leaves_no_table(tmp_path, decided):
    def breaking():
        yield decided[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_decisions(breaking(), tmp_path / "out", ["csv", "jsonl", "coco"])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_and_an_unknown_format_are_one_line(tmp_path, decided):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(TinyDefectsError, match="cannot write"):
        write_decisions(decided, tmp_path / "out")
    with pytest.raises(SettingsError, match="'yolo' is no format of decisions; choose among csv, jsonl, coco"):
        write_decisions(decided, tmp_path / "elsewhere", ["yolo"])


def test_an_outline_is_one_pixel_wide_and_leaves_the_region_to_be_seen(decided):
    image = np.full((6, 8, 3), 90, dtype=np.uint8)
    drawn = draw_outlines(image, decided[0].decision)
    red = (drawn == (255, 0, 0)).all(axis=2)
    expected = np.zeros((6, 8), dtype=bool)
    expected[0:4, 1:5] = True
    expected[0, 4] = False  # next to no pixel of the L
    expected[1:3, 2] = expected[2, 3] = False
    expected[4:, 6:] = True
    expected[5, 7] = False
    np.testing.assert_array_equal(red, expected)
    assert (drawn[~red] == 90).all()
    assert (image == 90).all()
