"""Photographs to maps on disk: what is kept, what is made again, and what a bad photograph stops."""

import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tinydefects.data.map_files import origin_in, read_header, read_map
from tinydefects.data.pixels import read_image, write_map
from tinydefects.data.predictions import read_maker, read_prediction
from tinydefects.data.sample import Prediction
from tinydefects.data.tables import read_rows
from tinydefects.datasets.photographs import find_images
from tinydefects.detector import predict_folder as batch
from tinydefects.detector.predict_folder import predict_to_disk
from tinydefects.errors import ImageReadError, ResolutionMismatchError, TinyDefectsError

SIZE = (6, 8)
TOO_WIDE = 13
BLACK = 0


class GrayDetector:
    """Scores by gray value, in batches; takes no image of 13 columns, and the maps of black ones hold nan."""

    def __init__(self, fingerprint="one", **settings):
        self.fingerprint = fingerprint
        self.settings = SimpleNamespace(image_bits=16, model_dump=lambda mode: settings)
        self.colour_scale = (10.0, 200.0)
        self.calibration = None
        self.seen = 0

    def predict_many(self, images, *, batch_size=1):
        images = iter(images)
        while some := [image for _, image in zip(range(batch_size), images, strict=False)]:
            made = [self.predict(image) for image in some]
            yield from made

    def predict(self, image):
        if image.shape[1] == TOO_WIDE:
            raise ResolutionMismatchError(f"the image is {image.shape[:2]}, this model takes others")
        self.seen += 1
        gray = image.mean(axis=2, dtype=np.float32)
        return Prediction(np.where(gray == BLACK, np.float32("nan"), gray), float(gray.max()))


def save(path, value, size=SIZE, **options):
    """A photograph whose highest gray value, and so its score, is `value`."""
    pixels = np.linspace(1, 9, size[0] * size[1]).reshape(size).astype(np.uint8)
    pixels[2, 3] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def photographs(tmp_path):
    for name, value in (("a", 100), ("b", 110), ("c", 120)):
        save(tmp_path / f"in/{name}.png", value)
    return tmp_path / "in"


@pytest.fixture
def predict(tmp_path, photographs):
    def run(detector=None, out="out", batch_size=1, progress=lambda *step: None):
        samples = find_images(photographs)
        detector = detector or GrayDetector()
        made = predict_to_disk(detector, "parts", samples, tmp_path / out, progress=progress, batch_size=batch_size)
        return made, detector.seen

    return run


def map_of(folder, name):
    return folder / f"out/parts/images/{name}.tiff"


def overlay_of(folder, name):
    return folder / f"out/overlays/parts/images/{name}.png"


def scores_on_disk(folder):
    return {row["image"]: float(row["score"]) for row in read_rows(folder / "out/scores.csv")}


def test_every_photograph_has_a_map_a_score_and_an_overlay_and_nothing_is_a_problem(predict, tmp_path):
    told = []
    made, seen = predict(progress=lambda *step: told.append(step))
    assert made.scores == scores_on_disk(tmp_path) == {"images/a": 100.0, "images/b": 110.0, "images/c": 120.0}
    assert (str(made), made.problems, made.remarks, seen) == ("3 maps, overlays and scores.csv", (), [], 3)
    assert not (tmp_path / "out/problems.csv").exists()
    assert read_image(overlay_of(tmp_path, "c")).shape == (*SIZE, 3)
    assert told == [("predict", done, 3) for done in (1, 2, 3)]


def test_what_fits_is_kept_and_only_the_rest_is_predicted(predict, tmp_path):
    predict()
    map_of(tmp_path, "b").unlink()
    made, seen = predict()
    assert (made.scores["images/b"], made.remarks, seen) == (110.0, [], 1)


@pytest.mark.parametrize("size", [SIZE, (20, 5)])
def test_a_photograph_under_an_old_name_gets_its_own_map(predict, photographs, tmp_path, size):
    predict()
    save(photographs / "b.png", 200, size)
    made, seen = predict()
    assert made.scores == scores_on_disk(tmp_path) == {"images/a": 100.0, "images/b": 200.0, "images/c": 120.0}
    assert (made.remarks, seen) == (["3 maps, 1 of them made again: the photograph has changed"], 1)
    assert read_map(map_of(tmp_path, "b")).shape == read_image(overlay_of(tmp_path, "b")).shape[:2] == size


def test_neither_size_nor_date_of_a_file_says_that_it_is_the_same(predict, photographs):
    paths = [save(photographs / f"{name}.bmp", value) for name, value in (("d", 130), ("e", 140))]
    long_ago = (10**9, 10**9)
    for path in paths:
        os.utime(path, long_ago)
    predict()
    shutil.copy(paths[1], paths[0])
    os.utime(paths[0], long_ago)
    made, seen = predict()
    assert (made.scores["images/d"], seen) == (140.0, 1)


def test_a_photograph_saved_again_without_loss_is_the_same_photograph(predict, photographs):
    predict()
    before = (photographs / "b.png").read_bytes()
    save(photographs / "b.png", 110, compress_level=0)
    assert (photographs / "b.png").read_bytes() != before
    made, seen = predict()
    assert (made.remarks, seen) == ([], 0)


@pytest.mark.parametrize("other", [GrayDetector("two"), GrayDetector(precision="highest")])
def test_maps_of_another_detector_or_of_other_settings_are_made_again(predict, tmp_path, other):
    predict()
    made, seen = predict(other)
    assert (made.remarks, seen) == (
        ["3 maps, 3 of them made again: by another detector or with other settings"],
        3,
    )
    made_by = {"detector": other.fingerprint, **other.settings.model_dump("json")}
    assert read_maker(tmp_path / "out") == made_by
    assert origin_in(read_header(map_of(tmp_path, "a")).description).made_by == made_by


def test_maps_that_say_nothing_or_are_damaged_are_made_again(predict, tmp_path):
    predict()
    write_map(map_of(tmp_path, "a"), np.full(SIZE, 7, np.float32), description=json.dumps({"score": 7.0}))
    map_of(tmp_path, "b").write_bytes(map_of(tmp_path, "b").read_bytes()[:-9])
    made, seen = predict()
    assert (list(made.scores.values()), seen) == ([100.0, 110.0, 120.0], 2)
    assert made.remarks == [
        "3 maps, 2 of them made again: they do not say of which photograph they are (1), not readable (1)"
    ]


def test_maps_of_photographs_that_are_gone_are_counted_and_left(predict, photographs, tmp_path):
    predict()
    (photographs / "b.png").unlink()
    made, _ = predict()
    assert made.remarks == [
        "1 map of other photographs (gone, or not asked for this time) beside them: left as they are"
    ]
    assert list(scores_on_disk(tmp_path)) == ["images/a", "images/c"]
    assert map_of(tmp_path, "b").exists()


def break_in_every_way(photographs):
    (photographs / "d.png").write_text("no picture")
    (photographs / "e.png").write_bytes(b"")
    save(photographs / "f.png", 150, (4, TOO_WIDE))
    Image.fromarray(np.full(SIZE, BLACK, np.uint8)).save(photographs / "g.png")
    save(photographs / "h.jpg", 160, (64, 64), quality=100)
    (photographs / "h.jpg").write_bytes((photographs / "h.jpg").read_bytes()[:-200])
    save(photographs / "j.png", 170)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_a_bad_photograph_stops_no_other_and_is_listed_with_its_reason(predict, photographs, tmp_path, batch_size):
    break_in_every_way(photographs)
    made, _ = predict(batch_size=batch_size)
    assert (
        made.scores
        == scores_on_disk(tmp_path)
        == dict(zip((f"images/{name}" for name in "abcj"), (100.0, 110.0, 120.0, 170.0), strict=True))
    )
    rows = read_rows(tmp_path / "out/problems.csv")
    assert [(row["kind"], row["name"]) for row in rows] == [
        ("unreadable", "images/d"),
        ("unreadable", "images/e"),
        ("wrong size", "images/f"),
        ("not finite", "images/g"),
        ("unreadable", "images/h"),
    ]
    assert all(str(photographs / f"{name}.") in row["detail"] for name, row in zip("defgh", rows, strict=True))
    assert {path.stem for path in (tmp_path / "out").rglob("*.tiff")} == set("abcj")
    with pytest.raises(ImageReadError, match=r"4 of 9 photographs; 5 problems, listed in .*problems\.csv: .*d\.png: "):
        made.require_whole(tmp_path / "out")


def test_a_mended_photograph_is_predicted_and_the_list_of_problems_goes(predict, photographs, tmp_path):
    (photographs / "b.png").write_bytes(b"")
    predict()
    save(photographs / "b.png", 110)
    made, seen = predict()
    assert (list(made.scores.values()), made.remarks, seen) == ([100.0, 110.0, 120.0], [], 1)
    assert not (tmp_path / "out/problems.csv").exists()


def test_nothing_of_an_earlier_photograph_stays_under_the_name_of_a_bad_one(predict, photographs, tmp_path):
    predict()
    (photographs / "b.png").write_bytes(b"")
    made, seen = predict()
    assert (list(made.scores), len(made.problems), seen) == (["images/a", "images/c"], 1, 0)
    assert not map_of(tmp_path, "b").exists()
    assert not overlay_of(tmp_path, "b").exists()


def test_without_any_good_photograph_there_are_no_scores(predict, photographs, tmp_path):
    predict()
    for name in "abc":
        (photographs / f"{name}.png").write_bytes(b"")
    made, _ = predict()
    assert (str(made), made.scores, len(made.problems)) == ("no map", {}, 3)
    assert not (tmp_path / "out/scores.csv").exists()


def test_the_picture_of_a_photograph_does_not_change_with_its_neighbours(predict, photographs, tmp_path):
    predict()
    alone = overlay_of(tmp_path, "a").read_bytes()
    shutil.rmtree(tmp_path / "out")
    save(photographs / "b.png", 255)
    predict()
    assert overlay_of(tmp_path, "a").read_bytes() == alone


def test_below_the_scale_of_the_detector_a_picture_is_the_photograph_itself(predict, photographs, tmp_path):
    detector = GrayDetector()
    detector.colour_scale = (100.0, 250.0)
    save(photographs / "b.png", 200)
    predict(detector)
    assert np.array_equal(read_image(overlay_of(tmp_path, "a")), read_image(photographs / "a.png"))
    assert not np.array_equal(read_image(overlay_of(tmp_path, "b")), read_image(photographs / "b.png"))


def test_map_and_overlay_are_of_the_same_pixels_which_are_read_once(predict, photographs, monkeypatch):
    read = []
    monkeypatch.setattr(
        "tinydefects.data.sample.read_image", lambda path, bits: read.append(path) or read_image(path, bits)
    )
    predict()
    assert sorted(read) == sorted(photographs.iterdir())


def test_an_overlay_that_is_missing_is_drawn_of_the_map_that_is_there(predict, tmp_path):
    predict()
    drawn = overlay_of(tmp_path, "b").read_bytes()
    overlay_of(tmp_path, "b").unlink()
    made, seen = predict()
    assert (made.remarks, seen) == ([], 0)
    assert overlay_of(tmp_path, "b").read_bytes() == drawn


def test_a_photograph_that_is_still_being_written_is_a_problem(predict, photographs, monkeypatch):
    def read_slowly(path, bits):
        if path.name == "b.png":
            save(path, 99)
        return read_image(path, bits)

    monkeypatch.setattr("tinydefects.data.sample.read_image", read_slowly)
    made, _ = predict()
    (problem,) = made.problems
    assert "b.png: was written to while it was read" in problem.detail


def test_a_folder_that_cannot_be_written_ends_the_run_at_once(predict, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/parts").write_text("in the way")
    detector = GrayDetector()
    with pytest.raises(TinyDefectsError, match="cannot write"):
        predict(detector)
    assert not (tmp_path / "out/problems.csv").exists()


def test_lack_of_memory_is_no_fault_of_a_photograph(predict, monkeypatch):
    def exhaust(path, bits):
        raise ImageReadError(f"{path}: not a readable image") from MemoryError()

    monkeypatch.setattr("tinydefects.data.sample.read_image", exhaust)
    with pytest.raises(MemoryError):
        predict()


def test_an_interrupted_run_leaves_no_scores_of_an_earlier_one_and_goes_on(predict, photographs, tmp_path, monkeypatch):
    predict()
    for name, value in zip("abc", (200, 210, 220), strict=True):
        save(photographs / f"{name}.png", value)

    def interrupt(folder, category_id, sample, prediction, **options):
        if sample.id == "images/b":
            raise KeyboardInterrupt
        return write(folder, category_id, sample, prediction, **options)

    write = batch.write_prediction
    with monkeypatch.context() as patched:
        patched.setattr(batch, "write_prediction", interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict()
    assert not (tmp_path / "out/scores.csv").exists()
    assert read_prediction(map_of(tmp_path, "a")).score == 200.0
    assert overlay_of(tmp_path, "a").exists()
    assert not overlay_of(tmp_path, "b").exists()  # which showed an earlier photograph
    made, seen = predict()
    assert (list(made.scores.values()), list(scores_on_disk(tmp_path).values())) == ([200.0, 210.0, 220.0],) * 2
    assert seen <= 2
