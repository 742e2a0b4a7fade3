"""Cameras of 10, 12 and 14 bits in files of 16: found on the training photographs, saved, the same for all others."""

import dataclasses
import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.benchmark.job import run_job
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.data.images import bits_to_show, find_image_bits, with_image_bits
from tinydefects.data.pixels import count_values, is_deep, read_image
from tinydefects.data.sample import Category, Sample
from tinydefects.detector.detector import Detector
from tinydefects.detector.predict_folder import predict_to_disk
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import ImageReadError, TinyDefectsError
from tinydefects.metrics.evaluation import EvaluationSettings
from tinydefects.results.protocol import EvaluationProtocol, Job

RAMP = np.linspace(0, 1, 64 * 64).reshape(64, 64)


def deep(highest: int) -> np.ndarray:
    """A gray ramp from 0 to this value."""
    return np.rint(RAMP * highest).astype(np.uint16)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def sample(path: Path) -> Sample:
    return Sample(id=f"train/good/{path.stem}", image_path=path, label="good")


def folder_of(folder: Path, *values: np.ndarray) -> list[Sample]:
    return [sample(save(folder / f"{number}.png", value)) for number, value in enumerate(values)]


@pytest.mark.parametrize("bits", [8, 9, 10, 11, 12, 14, 15, 16])
def test_the_highest_value_of_so_many_bits_is_white(tmp_path, bits):
    image = read_image(save(tmp_path / "a.png", deep(2**bits - 1)), bits)
    assert (image.min(), image.max()) == (0, 255)
    np.testing.assert_array_equal(image[..., 0], np.rint(deep(2**bits - 1) / (2**bits - 1) * 255))


def test_without_a_word_all_16_bits_count_and_are_divided_by_257(tmp_path):
    values = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "a.png", values))[..., 0], (values.astype(int) + 128) // 257
    )


def test_a_value_beyond_the_bits_is_refused_and_never_cut(tmp_path):
    path = save(tmp_path / "a.png", deep(4096))
    with pytest.raises(
        ImageReadError, match=r"a\.png: its values reach 4,096, beyond the 12 bits \(at most 4,095\)"
    ) as told:
        read_image(path, 12)
    assert "--image-bits 13" in str(told.value)
    assert read_image(path, 13).max() == 128  # 4096 of 8191


def write_variants(folder: Path, values: np.ndarray) -> list[Path]:
    """The same gray values (H, W) in every kind of file of 16 bits a channel."""
    colour, alpha = np.repeat(values[..., None], 3, axis=2), np.full((*values.shape, 1), 65_535, dtype=np.uint16)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(folder / "gray.png")
    Image.fromarray(values.astype(np.int32)).save(folder / "i.tif")
    Image.fromarray(values).save(folder / "a_tiff_called.png", format="TIFF")
    (folder / "colour.png").write_bytes(imagecodecs.png_encode(colour))
    (folder / "a_png_called.tif").write_bytes(imagecodecs.png_encode(colour))
    (folder / "gray_alpha.png").write_bytes(imagecodecs.png_encode(np.concatenate([colour[..., :1], alpha], axis=2)))
    (folder / "colour_alpha.png").write_bytes(imagecodecs.png_encode(np.concatenate([colour, alpha], axis=2)))
    tifffile.imwrite(folder / "little.tif", values, byteorder="<")
    tifffile.imwrite(folder / "big.tif", values, byteorder=">")
    tifffile.imwrite(folder / "big_tiff.tif", values, bigtiff=True)
    tifffile.imwrite(folder / "colour.tif", colour, photometric="rgb", compression="zlib")
    tifffile.imwrite(folder / "planes.tif", np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(folder / "alpha.tif", np.concatenate([colour, alpha], axis=2), photometric="rgb", extrasamples=[2])
    tifffile.imwrite(folder / "u32.tif", values.astype(np.uint32))
    tifffile.imwrite(folder / "i16.tif", values.astype(np.int16))
    return sorted(folder.iterdir())


def test_every_kind_of_file_of_16_bits_is_read_alike(tmp_path):
    values, expected = deep(4095), np.rint(RAMP * 4095).astype(int)
    for path in write_variants(tmp_path / "files", values):
        assert is_deep(path), path.name
        counts = count_values(path)  # of an opaque alpha, 65,535, nothing
        assert (counts.nonzero()[0][-1], counts.sum() % values.size) == (4095, 0), path.name
        image = read_image(path, 12)
        np.testing.assert_array_equal(image, np.rint(expected / 4095 * 255)[..., None].repeat(3, 2), path.name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif"])
def test_files_of_8_bits_are_not_deep_and_no_number_of_bits_changes_them(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", deep(255).astype(np.uint8))
    assert not is_deep(path)
    np.testing.assert_array_equal(read_image(path, 12), read_image(path))


@pytest.mark.parametrize(
    ("highest", "bits"),
    [
        (0, 8),
        (255, 8),
        (256, 10),
        (1023, 10),
        (1024, 12),
        (4095, 12),
        (4096, 14),
        (16_383, 14),
        (16_384, 16),
        (65_520, 16),
    ],
)
def test_the_fewest_usual_bits_that_hold_the_largest_value_of_all_are_taken(tmp_path, highest, bits):
    found = find_image_bits(folder_of(tmp_path, deep(highest // 2), deep(highest), deep(0)))
    assert (found.bits, found.n_images, found.n_deep, found.largest) == (bits, 3, 3, highest)


def test_8_bit_files_are_looked_at_no_further_than_their_headers(tmp_path, monkeypatch):
    samples = folder_of(tmp_path, *[deep(200).astype(np.uint8)] * 3)
    monkeypatch.setattr("tinydefects.data.images.count_values", lambda path: pytest.fail("decoded"))
    assert (found := find_image_bits(samples)).bits == 8
    assert found.n_deep == 0
    assert find_image_bits([]).bits == 16


def test_photographs_of_both_kinds_are_named(tmp_path):
    found = find_image_bits(folder_of(tmp_path, deep(1000), deep(200).astype(np.uint8)))
    assert str(found) == (
        "1 of 2 training photographs have 16 bits a channel; their largest value is 1,000, so the values of every "
        "photograph are read as 10 bits (0 to 1,023); the other 1 have 8: all are brought to one range; "
        "--image-bits sets another number"
    )


def test_a_few_values_far_beyond_the_others_are_pointed_out(tmp_path):
    dead = np.full((200, 200), 3000, dtype=np.uint16)
    dead[0, :3] = 65_535
    found = find_image_bits(folder_of(tmp_path, dead, deep(4095)))
    assert (found.bits, found.few_beyond) == (16, (12, 3))
    assert "; only 3 values lie beyond 12 bits: if they are dead pixels or marks, mend them first;" in str(found)
    assert find_image_bits(folder_of(tmp_path, deep(4095))).few_beyond is None


def test_crops_of_an_evaluation_follow_the_maker_of_the_maps_and_else_the_training_photographs(tmp_path):
    train, shallow = folder_of(tmp_path / "a", deep(4095)), folder_of(tmp_path / "b", deep(9).astype(np.uint8))
    test = folder_of(tmp_path / "c", deep(1000))
    category = Category(id="folder/a", train=train, test=test)
    assert bits_to_show(category, {"detector": "x", "image_bits": 10}) == 10
    assert bits_to_show(category, {"detector": "of an older version"}) == 16
    assert bits_to_show(category, {}) == 12
    assert bits_to_show(dataclasses.replace(category, train=()), {}) == 10
    assert bits_to_show(dataclasses.replace(category, test=shallow), {}) == 16


def test_the_bits_are_saved_and_part_of_the_fingerprint_unless_all_16_count(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    detectors = [Detector(teacher=counting_teacher(), epochs=1, image_bits=bits).fit([image]) for bits in (12, 16)]
    assert detectors[0].fingerprint != detectors[1].fingerprint
    assert detectors[1].fingerprint == Detector(teacher=counting_teacher(), epochs=1).fit([image]).fingerprint
    detectors[0].save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", teacher=counting_teacher())
    assert (loaded.settings.image_bits, loaded.fingerprint) == (12, detectors[0].fingerprint)
    for wrong in (7, 17):
        with pytest.raises(TinyDefectsError, match="image_bits"):
            Detector(teacher=counting_teacher(), image_bits=wrong)


def test_a_file_written_before_there_was_such_a_setting_means_all_16(tmp_path):
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    Detector(teacher=counting_teacher(), epochs=1).fit([image]).save(tmp_path / "model")
    description = tmp_path / "model" / "detector.json"
    stored = json.loads(description.read_text())
    del stored["settings"]["image_bits"]
    description.write_text(json.dumps(stored))
    assert Detector.load(tmp_path / "model", teacher=counting_teacher()).settings.image_bits == 16
    assert DetectorSettings().image_bits == 16


def test_predictions_read_the_photographs_as_the_detector_was_fitted(tmp_path):
    light, same_in_8_bits = deep(4095), np.rint(RAMP * 255).astype(np.uint8)
    detector = Detector(teacher=counting_teacher(), resolution=64, epochs=1, image_bits=12)
    detector.fit([np.repeat(same_in_8_bits[..., None], 3, axis=2)])
    deep_samples, shallow = folder_of(tmp_path / "deep", light), folder_of(tmp_path / "shallow", same_in_8_bits)
    for name, samples in (("deep", deep_samples), ("shallow", shallow)):
        predict_to_disk(detector, "x", samples, tmp_path / f"maps_{name}", progress=lambda *_: None)
    one, two = (next((tmp_path / f"maps_{name}").rglob("*.tiff")) for name in ("deep", "shallow"))
    np.testing.assert_array_equal(tifffile.imread(one), tifffile.imread(two))


def scan_12_bits(root: Path) -> Path:
    """A folder of ramps that end near 3,000 of 4,095, and one of them with a black square that is marked."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[40:50, 20:30] = True
    for number in range(3):
        save(root / f"parts/train/good/{number}.png", deep(3000 + number))
        save(root / f"parts/test/good/{number}.png", deep(2900))
    save(root / "parts/test/pit/0.png", np.where(mask, np.uint16(0), deep(2900)))
    save(root / "parts/ground_truth/pit/0.png", mask.astype(np.uint8) * 255)
    return root


@pytest.mark.slow
def test_fit_says_what_it_found_and_saves_it_and_predict_uses_it(tmp_path, monkeypatch, capsys):
    root = scan_12_bits(tmp_path / "data with spaces")
    arguments = ("fit", "folder/parts", "--root", root, "--teacher", "builtin", "--resolution", 32, "--epochs", 1)
    code, out, err = run(monkeypatch, capsys, *arguments, "--dry-run", "--json")
    assert (code, json.loads(out)["image_bits"]) == (0, 12)
    said = "3 of 3 training photographs have 16 bits a channel; their largest value is 3,002"
    assert sum(said in line for line in err.splitlines()) == 1
    code, _, err = run(monkeypatch, capsys, *arguments, "--out", tmp_path / "model")
    assert (code, said in err) == (0, True)
    assert json.loads((tmp_path / "model/detector.json").read_text())["settings"]["image_bits"] == 12
    code, _, err = run(monkeypatch, capsys, *arguments, "--dry-run", "--image-bits", 14)
    assert (code, "bits" in err) == (0, False)
    save(tmp_path / "new/bright.png", deep(5000))
    code, _, err = run(monkeypatch, capsys, "predict", tmp_path / "model", tmp_path / "new", "--out", tmp_path / "maps")
    assert code == 2
    assert "bright.png: its values reach 5,000, beyond the 12 bits (at most 4,095)" in err


def test_a_benchmark_reads_alike_for_every_method_and_records_it(tmp_path):
    root = scan_12_bits(tmp_path / "data")
    protocol = EvaluationProtocol(
        categories=("folder/parts",), teacher="builtin", evaluation=EvaluationSettings(n_resamples=0)
    )
    job = Job(protocol=protocol, category="folder/parts", method="local_contrast", resolution=0, seed=0)
    result = run_job(job, RunSettings(root=root, out=tmp_path / "out", cost="off", device="cpu"))
    assert result.run.settings["image_bits"] == "12"
    (crop,) = result.evaluation.crops
    assert crop.image.max() > 100  # 2,900 of 4,095 and not of 65,535


def test_samples_keep_all_else(tmp_path):
    (one,) = folder_of(tmp_path, deep(1000))
    (changed,) = with_image_bits([one], 10)
    assert dataclasses.replace(changed, image_bits=16) == one
    assert (one.image().max(), changed.image().max()) == (4, 249)  # 1000 of 65,535 and of 1,023
