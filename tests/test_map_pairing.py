import json
import unicodedata

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from dataset_trees import draw
from tinydefects.data import map_files
from tinydefects.data.map_files import Origin, origin_in, pixels_sha256, read_photograph
from tinydefects.data.pairing import MapProblem, MapsError, describe_problems, pair_maps, require_one_maker, score_in
from tinydefects.data.pixels import write_map
from tinydefects.data.predictions import write_prediction
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.errors import ImageReadError, TableError
from tinydefects.results.evaluate_maps import warnings_about

SIZE = (4, 6)


@pytest.fixture
def category(tmp_path):
    """mvtec_ad/screw with the test images good/000, crack/000 and crack/001, and train/good/000."""
    root = tmp_path / "data/screw"
    samples = []
    for name in ("test/good/000", "test/crack/000", "test/crack/001", "train/good/000"):
        mask = [draw(root / f"ground_truth/{name}.png", size=SIZE, spot=(1, 1))] if "crack" in name else []
        image = draw(root / f"{name}.png", size=SIZE)
        samples.append(Sample(id=name, image_path=image, label="defect" if mask else "good", mask_paths=tuple(mask)))
    return Category(id="mvtec_ad/screw", train=samples[3:], test=samples[:3])


def save(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # by name, np.save would add a suffix
        np.save(file, np.zeros(size, dtype=np.float32))
    return path


@pytest.fixture
def maps(tmp_path, category):
    for sample in category.test:
        save(tmp_path / f"maps/screw/{sample.id}.npy")
    return tmp_path / "maps"


def found(pairing):
    return [(problem.kind, problem.name) for problem in pairing.problems]


def test_sound_maps_pair_by_name_in_the_order_of_the_samples(maps, category):
    pairing = pair_maps(maps, category)
    pairing.require_sound()
    assert [pair.sample for pair in pairing.pairs] == list(category.test)
    assert [pair.path for pair in pairing.pairs] == [maps / f"screw/{sample.id}.npy" for sample in category.test]
    assert pairing.problems == pairing.resampled == ()


def test_every_kind_of_problem_is_found_before_a_pixel_is_read(maps, category):
    (maps / "screw/test/good/000.npy").write_bytes(b"half a file")
    save(maps / "screw/test/crack/000.npy", (2, 3))
    (maps / "screw/test/crack/001.npy").unlink()
    save(maps / "screw/test/crack/002.npy")
    assert found(pair_maps(maps, category)) == [
        ("unreadable", "test/good/000"),
        ("wrong size", "test/crack/000"),
        ("missing", "test/crack/001"),
        ("extra", str(maps / "screw/test/crack/002.npy")),
    ]


def test_maps_of_training_images_and_hidden_files_are_no_strangers(maps, category):
    save(maps / "screw/train/good/000.npy")
    save(maps / "screw/test/crack/._000.npy")
    assert pair_maps(maps, category).problems == ()


def test_maps_of_no_image_are_told_but_do_not_stop_the_scoring(maps, category):
    save(maps / "screw/test/dent/000.npy")
    pairing = pair_maps(maps, category)
    assert [problem.kind for problem in pairing.problems] == ["extra"]
    assert pairing.require_sound() is None


@pytest.mark.parametrize("second", ["screw/test/crack/000.tiff", "test/crack/000.npy"])
def test_two_maps_of_one_image_are_refused_rather_than_chosen_from(maps, category, second):
    save(maps / second)
    assert found(pair_maps(maps, category)) == [("duplicate", "test/crack/000")]


def test_a_png_beside_a_map_of_floats_is_a_picture_of_it(maps, category):
    draw(maps / "screw/test/crack/000.png", size=SIZE)
    assert pair_maps(maps, category).problems == ()


def test_a_mask_of_another_size_is_found_before_scoring(maps, category):
    draw(category.test[1].mask_paths[0], size=(2, 3))
    (problem,) = pair_maps(maps, category, resample="bilinear").problems
    assert (problem.kind, problem.name) == ("wrong mask", "test/crack/000")
    assert "is (2, 3), the image (4, 6)" in problem.detail


def test_resampling_welcomes_other_sizes_and_says_which(maps, category):
    save(maps / "screw/test/crack/000.npy", (2, 3))
    pairing = pair_maps(maps, category, resample="bilinear")
    assert pairing.problems == ()
    assert [(pair.sample.id, pair.header.size, pair.image_size) for pair in pairing.resampled] == [
        ("test/crack/000", (2, 3), SIZE)
    ]


def test_stored_image_scores_must_be_there_for_all_or_for_none(maps, category):
    (maps / "screw/test/crack/000.npy").unlink()
    write_map(maps / "screw/test/crack/000.tiff", np.zeros(SIZE, dtype=np.float32), description='{"score": 2.5}')
    pairing = pair_maps(maps, category)
    assert found(pairing) == [("without score", "test/good/000"), ("without score", "test/crack/001")]
    assert [pair.stored_score for pair in pairing.pairs] == [None, 2.5, None]
    assert pair_maps(maps, category, stored_scores=False).problems == ()


@pytest.mark.parametrize(
    ("description", "score"), [('{"score": 0.5}', 0.5), ("", None), ("tensor", None), ("[1]", None), ("{}", None)]
)
def test_only_a_score_in_json_is_a_stored_score(description, score):
    assert score_in(description) == score


DETECTOR = {"detector": "a", "seed": 3}


def save_own_maps(folder, samples, made_by=DETECTOR):
    for sample in samples:
        image, photograph = read_photograph(sample)
        made = Prediction(np.zeros(image.shape[:2], np.float32), 0.5)
        origin = Origin(photograph=photograph, made_by=made_by)
        write_prediction(folder, "mvtec_ad/screw", sample, made, origin=origin)


def test_maps_that_know_their_photograph_are_paired_and_say_who_made_them(tmp_path, category):
    save_own_maps(tmp_path / "own", category.test)
    pairing = pair_maps(tmp_path / "own", category)
    assert (pairing.problems, pairing.made_by) == ((), DETECTOR)


@pytest.mark.parametrize("size", [SIZE, (8, 3)])
def test_a_map_of_another_photograph_is_found_before_scoring(tmp_path, category, size):
    save_own_maps(tmp_path / "own", category.test)
    draw(category.test[0].image_path, size=size, spot=(0, 0))
    (problem,) = pair_maps(tmp_path / "own", category, resample="bilinear").problems
    assert (problem.kind, problem.name) == ("other photograph", "test/good/000")
    assert f"000.tiff was not made of {category.test[0].image_path}" in problem.detail
    assert "predict again" in describe_problems(tmp_path, [problem])


def test_a_photograph_saved_again_without_loss_is_still_the_one_of_its_map(tmp_path, category):
    save_own_maps(tmp_path / "own", category.test)
    path = category.test[0].image_path
    before = path.read_bytes()
    Image.open(path).save(path, compress_level=0)
    assert path.read_bytes() != before
    assert pair_maps(tmp_path / "own", category).problems == ()


def test_an_untouched_photograph_at_rest_is_not_read_again(tmp_path, category, monkeypatch):
    monkeypatch.setattr(map_files, "SETTLED_SECONDS", -1.0)
    save_own_maps(tmp_path / "own", category.test)
    monkeypatch.setattr(map_files, "file_sha256", lambda path: pytest.fail(f"{path} was read"))
    assert pair_maps(tmp_path / "own", category).problems == ()
    monkeypatch.setattr(map_files, "file_sha256", lambda path: "another")
    draw(category.test[0].image_path, size=SIZE, spot=(0, 0))
    assert found(pair_maps(tmp_path / "own", category)) == [("other photograph", "test/good/000")]


def test_the_same_pixels_in_another_shape_are_another_photograph():
    pixels = np.arange(36, dtype=np.uint8)
    assert pixels_sha256(pixels.reshape(2, 6, 3)) == pixels_sha256(pixels.reshape(2, 6, 3).copy())
    assert pixels_sha256(pixels.reshape(2, 6, 3)) != pixels_sha256(pixels.reshape(3, 4, 3))


def test_a_file_that_has_only_just_changed_is_read_again_all_the_same(category):
    _, photograph = read_photograph(category.test[0])
    assert photograph.stamp == ""


def test_maps_of_two_makers_are_not_scored_together(tmp_path, category):
    save_own_maps(tmp_path / "own", category.test)
    save_own_maps(tmp_path / "own", category.test[1:2], made_by={"detector": "b", "seed": 3})
    assert found(pair_maps(tmp_path / "own", category)) == [("other maker", "test/crack/000")]
    write_prediction(tmp_path / "own", category.id, category.test[1], Prediction(np.zeros(SIZE, np.float32), 0.5))
    assert found(pair_maps(tmp_path / "own", category)) == [("other maker", "test/crack/000")]


def test_thresholds_and_tested_maps_come_from_one_maker(tmp_path, category):
    save_own_maps(tmp_path / "own", category.test)
    save_own_maps(tmp_path / "own", category.train, made_by={"detector": "b", "seed": 3})
    tested = pair_maps(tmp_path / "own", category)
    trained = pair_maps(tmp_path / "own", category, samples=category.train)
    with pytest.raises(MapsError, match=r"1 other maker \(train/good/000"):
        require_one_maker(tmp_path / "own", [*tested.pairs, *trained.pairs])


@pytest.mark.parametrize(
    "description",
    ["", "text", "[1]", "[" * 100_000, '{"score": 1}', '{"photograph": 3, "made_by": {}}', '{"photograph": {"a": 1}}'],
    ids=lambda description: description[:20],
)
def test_only_what_is_whole_is_an_origin(description):
    assert origin_in(description) is None


def names(category, how):
    full = {sample.id: str(sample.image_path.absolute()) for sample in category.test}
    return {
        "id": list(full),
        "category and id": [f"mvtec_ad/screw/{sample_id}" for sample_id in full],
        "path": list(full.values()),
        "end of the path": ["/".join(path.split("/")[-3:]) for path in full.values()],
        "path on another machine": [f"C:\\data\\screw\\{sample_id.replace('/', chr(92))}.png" for sample_id in full],
    }[how]


@pytest.mark.parametrize("how", ["id", "category and id", "path", "end of the path", "path on another machine"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_a_manifest_names_images_by_id_or_by_path(maps, category, how, suffix):
    rows = [
        {"path" if "path" in how else "id": name, "map": f"screw/{sample.id}.npy", "score": number}
        for number, (name, sample) in enumerate(zip(names(category, how), category.test, strict=True))
    ]
    manifest = maps / f"manifest{suffix}"
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), manifest)
    elif suffix == ".csv":
        manifest.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]))
    else:
        manifest.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    pairing = pair_maps(manifest, category)
    assert pairing.problems == ()
    assert [pair.stored_score for pair in pairing.pairs] == [0.0, 1.0, 2.0]
    assert [pair.path for pair in pairing.pairs] == [maps / f"screw/{sample.id}.npy" for sample in category.test]


def write_manifest(folder, *rows):
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_a_manifest_is_held_to_the_same_rules_as_a_folder(maps, category):
    manifest = write_manifest(
        maps,
        {"id": "test/crack/000", "map": "screw/test/crack/000.npy"},
        {"id": "test/crack/000", "map": "screw/test/crack/000.npy"},
        {"id": "test/crack/001", "map": "nowhere.npy"},
        {"id": "bottle/test/crack/000", "map": "screw/test/crack/000.npy"},
    )
    assert found(pair_maps(manifest, category)) == [
        ("missing", "test/good/000"),
        ("duplicate", "test/crack/000"),
        ("unreadable", "test/crack/001"),
        ("extra", "row 4: bottle/test/crack/000"),
    ]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"id": "000", "map": "a.npy"}, r"row 1 names 000, which fits 3 images .*test/good/000, test/crack/000"),
        ({"map": "a.npy"}, r"row 1 has map; it needs text in id \(or path\) and in map"),
        ({"id": "test/crack/000"}, "row 1 has id; it needs"),
        ({"id": "test/crack/000", "map": None}, "row 1 has id, map; it needs"),
        ({"id": "test/crack/000", "map": "a.npy", "score": "high"}, "row 1 has the score 'high'; give a finite number"),
        ({"id": "test/crack/000", "map": "a.npy", "score": float("nan")}, "row 1 has the score nan"),
        ({"id": "test/crack/000", "map": "a\0.npy"}, "row 1 has a zero byte"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named(maps, category, row, complaint):
    with pytest.raises(TableError, match=complaint):
        pair_maps(write_manifest(maps, row), category)


def test_an_empty_manifest_and_a_missing_folder_are_errors(maps, category):
    with pytest.raises(TableError, match="holds no row"):
        pair_maps(write_manifest(maps), category)
    with pytest.raises(ImageReadError, match="nowhere: no such folder of maps, nor a manifest"):
        pair_maps(maps / "nowhere", category)


def test_problems_are_told_in_one_line_by_kind_with_the_first_names(tmp_path):
    problems = [MapProblem(kind="missing", name=str(number), detail=f"expected {number}.npy") for number in range(5)]
    line = describe_problems(tmp_path, [*problems, MapProblem(kind="not finite", name="x", detail="x.npy")])
    assert "5 missing (0: expected 0.npy, 1, 2, and 2 more), 1 not finite (x: x.npy); " in line
    assert "give one map for each test image" in line
    assert "\n" not in line


def test_names_of_maps_meet_in_any_composition_and_below_sub_folders(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "b\u00e4r") for form in ("NFC", "NFD"))
    image = draw(tmp_path / f"data/screw/test/good/cam1/{decomposed}.png", size=SIZE)
    sample = Sample(id=f"test/good/cam1/{composed}", image_path=image, label="good")
    category = Category(id="mvtec_ad/screw", train=[], test=[sample])
    path = save(tmp_path / f"maps/screw/test/good/cam1/{decomposed}.npy")
    assert [pair.path for pair in pair_maps(tmp_path / "maps", category).pairs] == [path]
    for name in (f"test/good/cam1/{composed}", f"cam1/{decomposed}.png"):
        manifest = tmp_path / "maps.csv"
        manifest.write_text(f"id,map\n{name},maps/screw/test/good/cam1/{composed}.npy\n")
        pairing = pair_maps(manifest, category)
        assert ([pair.path for pair in pairing.pairs], pairing.problems) == ([path], ())


def test_what_is_no_map_in_a_folder_of_maps_is_counted(maps, category):
    (maps / "made_by.json").write_text("{}")
    for name in ("screw/test/good/._000.npy", "screw/test/good/Thumbs.db", "screw/test/good/notes.txt"):
        (maps / name).write_bytes(b"")
    pairing = pair_maps(maps, category)
    pairing.require_sound()
    told = "left out: 1 file of no known format (.txt), 1 hidden file, 1 system file"
    assert str(pairing.left_out) == told
    assert warnings_about(pairing) == [f"{maps}: 3 maps; {told}"]
