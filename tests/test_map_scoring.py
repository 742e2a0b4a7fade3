"""From maps on disk to an evaluation, with everything that can be wrong on the way."""

import numpy as np
import pytest
from PIL import Image

from dataset_trees import draw
from tinydefects.data.pairing import MapsError
from tinydefects.data.sample import Category, Sample
from tinydefects.data.tables import read_rows
from tinydefects.errors import DatasetError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.results.evaluate_maps import MapReader, describe_cost, map_settings, scoring_cost, warnings_about

SIZE = (12, 16)
BOX = (slice(4, 6), slice(5, 8))
NAMES = ("test/good/000", "test/pit/000", "train/good/000", "train/good/001")


@pytest.fixture
def category(tmp_path):
    """One good and one defective test image (six bright pixels on gray), two training images."""
    samples = []
    for name in NAMES:
        pixels = np.full(SIZE, 100, dtype=np.uint8)
        masks = ()
        if "pit" in name:
            pixels[BOX] = 130
            mask = np.zeros(SIZE, dtype=np.uint8)
            mask[BOX] = 255
            masks = (draw(tmp_path / "mask.png"),)
            Image.fromarray(mask).save(masks[0])
        path = draw(tmp_path / "data" / f"{name}.png")
        Image.fromarray(pixels).save(path)
        samples.append(Sample(id=name, image_path=path, label="defect" if masks else "good", mask_paths=masks))
    return Category(id="folder/parts", train=samples[2:], test=samples[:2])


@pytest.fixture
def reader(tmp_path):
    """Maps that rise from 0 to 191 along the image, as npy."""
    for name in NAMES:
        path = tmp_path / f"maps/parts/{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.arange(192, dtype=np.float32).reshape(SIZE))
    return MapReader(source=tmp_path / "maps", problems_path=tmp_path / "results/parts.problems.csv")


def problems(reader):
    return [(row["kind"], row["name"]) for row in read_rows(reader.problems_path)]


def test_sound_maps_leave_no_list_of_problems_and_take_away_an_older_one(reader, category):
    reader.problems_path.parent.mkdir()
    reader.problems_path.write_text("kind,name,detail\nmissing,a,b\n")
    pairing = reader.check(category)
    evaluation = evaluate(reader.pairs(pairing), n_resamples=0)
    assert (evaluation.n_images, evaluation.n_normal_pixels) == (2, 2 * 192 - 6)
    assert not reader.problems_path.exists()


def test_problems_of_headers_are_listed_on_disk_and_the_error_says_where(reader, category):
    (reader.source / "parts/test/pit/000.npy").unlink()
    (reader.source / "parts/test/good/001.npy").write_bytes(b"")
    with pytest.raises(MapsError, match=r"1 missing \(test/pit/000.*all of them: .*parts\.problems\.csv"):
        reader.check(category)
    assert problems(reader) == [
        ("missing", "test/pit/000"),
        ("extra", str(reader.source / "parts/test/good/001.npy")),
    ]


def test_problems_of_pixels_are_listed_together_with_strangers(reader, category):
    np.save(reader.source / "parts/test/good/000.npy", np.full(SIZE, np.inf))
    np.save(reader.source / "parts/test/pit/000.npy", np.full(SIZE, np.nan))
    (reader.source / "parts/test/good/001.npy").write_bytes(b"")
    pairing = reader.check(category)
    with pytest.raises(MapsError, match=r"2 not finite .*all of them: .*parts\.problems\.csv"):
        evaluate(reader.pairs(pairing))
    assert [kind for kind, _ in problems(reader)] == ["not finite", "not finite", "extra"]


def test_an_image_that_is_damaged_is_a_problem_of_its_own(reader, category):
    category.test[0].image_path.write_bytes(b"half a file")
    with pytest.raises(MapsError, match=r"1 unreadable \(test/good/000: .*000\.png: not a readable image"):
        reader.check(category)


def test_thresholds_come_from_good_images_that_are_not_tested(reader, category):
    np.save(reader.source / "parts/test/good/000.npy", np.full(SIZE, 1e6))  # must not matter
    tested = reader.check(category)
    pixel, image = reader.thresholds(category, "train", 0.01, tested)  # 3 of 384 pixels may exceed it: 191 and 191
    assert (pixel, image) == (190.0, 191.0)
    with pytest.raises(DatasetError, match="no validation images"):
        reader.thresholds(category, "validation", 0.01, tested)


def test_a_defective_image_sets_no_threshold(reader, category):
    mixed = Category(id=category.id, train=category.test, test=category.test)
    with pytest.raises(DatasetError, match="test/pit/000: not labelled good"):
        reader.thresholds(mixed, "train", 0.01, reader.check(category))


def test_the_cost_is_four_bytes_a_pixel_and_counts_what_is_resampled(reader, category):
    np.save(reader.source / "parts/test/pit/000.npy", np.zeros((3, 4), dtype=np.float16))
    resampling = MapReader(source=reader.source, problems_path=reader.problems_path, resample="bilinear")
    pairing = resampling.check(category)
    cost = scoring_cost(pairing)
    assert (cost["n_images"], cost["n_pixels"], cost["n_resampled"], cost["temporary_bytes"]) == (2, 384, 1, 1536)
    assert "2 images" in describe_cost(cost)
    assert map_settings(pairing) == {
        "maps": "1 .npy float16, 1 .npy float32",
        "resample": "bilinear, centre-aligned (Pillow): 1 of 2 maps, 1 from 3 x 4 to 12 x 16",
    }


def test_maps_of_8_bits_are_scored_with_a_warning_and_strangers_are_told(reader, category):
    for name in NAMES[:2]:
        (reader.source / f"parts/{name}.npy").unlink()
        Image.fromarray(np.arange(192, dtype=np.uint8).reshape(SIZE)).save(reader.source / f"parts/{name}.png")
    np.save(reader.source / "parts/test/pit/999.npy", np.zeros(SIZE))
    strangers, shallow = warnings_about(reader.check(category))
    assert "1 extra" in strangers
    assert shallow.startswith("2 maps have 8 bits: 256 levels")


def test_contrast_is_measured_only_when_asked(reader, category):
    pairing = reader.check(category)
    (plain,) = evaluate(reader.pairs(pairing), n_resamples=0).defects
    (measured,) = evaluate(reader.pairs(pairing), n_resamples=0, contrast=True).defects
    assert np.isnan(plain.contrast)
    assert measured.contrast == 30.0


def test_contrast_does_not_read_the_photographs_of_good_images(reader, category, monkeypatch):
    read = []
    monkeypatch.setattr(Sample, "image", lambda sample: read.append(sample.id) or np.zeros((*SIZE, 3), np.uint8))
    evaluate(reader.pairs(reader.check(category)), n_resamples=0, n_crops=0, contrast=True)
    assert read == ["test/pit/000"]
    evaluate(reader.pairs(reader.check(category)), n_resamples=0, n_crops=0)
    assert read == ["test/pit/000"]
