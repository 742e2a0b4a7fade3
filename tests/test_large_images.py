"""Line scans of hundreds of megapixels: read whatever Pillow's limit says, bounded by ours, few in memory at once."""

import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from command_line import run
from tinydefects.data import opening, pixels, read_ahead
from tinydefects.data.map_files import read_map
from tinydefects.data.masks import read_mask
from tinydefects.data.pixels import read_image, read_size, read_stored, write_png
from tinydefects.data.read_ahead import memory_bytes
from tinydefects.data.sample import Prediction, Sample
from tinydefects.detector.outputs import overlay
from tinydefects.errors import ImageReadError

COLOURS = np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)


def header_of(path: Path, height: int, width: int) -> Path:
    """A gray PNG that ends before its pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    path.write_bytes(opening.PNG_SIGNATURE + chunk + struct.pack(">I", 0) + b"IDAT")
    return path


@pytest.fixture
def tiny_limit_of_pillow(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".jpg"])
@pytest.mark.filterwarnings("error")
def test_the_limit_of_pillow_does_not_hold_for_our_images(tmp_path, tiny_limit_of_pillow, suffix):
    Image.fromarray(COLOURS).save(tmp_path / f"a{suffix}")
    assert read_image(tmp_path / f"a{suffix}").shape == COLOURS.shape
    assert read_size(tmp_path / f"a{suffix}") == COLOURS.shape[:2]
    write_png(tmp_path / "mask.png", COLOURS[..., 0] > 99)
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), COLOURS[..., 0] > 99)
    write_png(tmp_path / "map.png", COLOURS[..., 0].astype(np.uint16))
    np.testing.assert_array_equal(read_map(tmp_path / "map.png"), COLOURS[..., 0])
    assert Image.MAX_IMAGE_PIXELS == 100


def test_it_still_holds_for_others_after_many_threads_have_read(tmp_path, tiny_limit_of_pillow):
    write_png(tmp_path / "a.png", COLOURS)
    with ThreadPoolExecutor(8) as pool:
        for image in pool.map(read_image, [tmp_path / "a.png"] * 64):
            np.testing.assert_array_equal(image, COLOURS)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_image, read_stored, read_size])
@pytest.mark.parametrize("name", ["a.png", "deep.png", "gray.tif", "deep.tif", "a.jpg"])
def test_what_is_larger_than_our_limit_is_refused_from_its_header(tmp_path, monkeypatch, read, name):
    path, deep = tmp_path / name, COLOURS.astype(np.uint16)
    if name == "deep.png":
        path.write_bytes(imagecodecs.png_encode(deep))
    elif name == "deep.tif":
        tifffile.imwrite(path, deep, photometric="rgb")
    else:
        Image.fromarray(COLOURS).save(path)
    monkeypatch.setattr(opening, "LARGEST_IMAGE_PX", 40 * 30)
    read(path)
    monkeypatch.setattr(opening, "LARGEST_IMAGE_PX", 40 * 30 - 1)
    expected = rf"{name}: says it is 40 x 30 pixels, more than the 1,199 that are read; cut it into parts"
    with pytest.raises(ImageReadError, match=expected):
        read(path)


def test_a_fit_to_a_line_scan_is_planned_from_its_header(tmp_path, monkeypatch, capsys):
    for split in ("train/good", "test/good", "test/pit"):
        header_of(tmp_path / f"parts/{split}/0.png", 12_500, 16_000)
    header_of(tmp_path / "parts/ground_truth/pit/0.png", 12_500, 16_000)
    arguments = ("--root", tmp_path, "--teacher", "builtin", "--tile", 448, "--dry-run")
    code, out, err = run(monkeypatch, capsys, "fit", "folder/parts", *arguments)
    # Tiles of 56 patches that share 7: ceil((1563 - 7) / 49) = 32 rows, ceil((2000 - 7) / 49) = 41 columns
    assert (code, out) == (0, f"1 images, 1312 passes, {1312 * 56**2} patches, 3.16 GB of teacher features\n"), err


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I"])
def test_a_few_rows_at_a_time_give_the_same_pixels_as_all_at_once(tmp_path, monkeypatch, mode):
    gray = COLOURS[..., 0]
    image = Image.fromarray(gray.astype({"I;16": np.uint16, "I": np.int32}[mode])) if mode in {"I;16", "I"} else None
    path = tmp_path / ("a.tif" if mode in {"CMYK", "I"} else "a.png")
    (image or Image.fromarray(COLOURS).convert(mode)).save(path)
    whole = read_image(path)
    monkeypatch.setattr(pixels, "PIXELS_AT_ONCE", 7 * 30)
    np.testing.assert_array_equal(read_image(path), whole)
    assert whole.flags.writeable


class Heavy:
    """An argument that says how much memory it takes."""

    def __init__(self, number: int, taken: int) -> None:
        self.number, self.taken = number, taken

    def memory_bytes(self) -> int:
        return self.taken


@pytest.mark.parametrize(("taken", "most"), [(0, 5), (read_ahead.BYTES_AHEAD // 3, 4), (read_ahead.BYTES_AHEAD + 1, 1)])
def test_what_is_read_ahead_is_bounded_by_memory_too(taken, most):
    lock, begun, seen = threading.Lock(), [], []

    def work(heavy: Heavy) -> int:
        with lock:
            begun.append(heavy.number)
        return heavy.number

    for number in read_ahead.read_ahead(work, (Heavy(number, taken) for number in range(12)), threads=4):
        seen.append(number)
        assert len(begun) - number <= most
    assert seen == list(range(12))


def test_memory_is_that_of_arrays_and_of_photographs_yet_to_be_read(tmp_path):
    write_png(tmp_path / "a.png", COLOURS)
    sample = Sample(id="images/a", image_path=tmp_path / "a.png", label="unknown")
    prediction = Prediction(np.zeros((40, 30), dtype=np.float32), 0.0)
    assert memory_bytes(COLOURS) == 40 * 30 * 3
    assert memory_bytes((sample, prediction)) == 40 * 30 * (7 + 4)
    assert memory_bytes(Sample(id="images/b", image_path=tmp_path / "none.png", label="unknown")) == 0
    assert memory_bytes("a word") == 0


def test_an_overlay_is_drawn_into_the_image_itself():
    image, scores = COLOURS.copy(), np.zeros((40, 30), dtype=np.float32)
    scores[3, 4] = 1.0
    tinted = overlay(image, scores, (0.0, 1.0))
    assert tinted is image
    expected = COLOURS.astype(float)
    expected[3, 4] = 0.3 * expected[3, 4] + 0.7 * np.array([255, 40, 0])
    np.testing.assert_allclose(tinted, expected, atol=0.51)
