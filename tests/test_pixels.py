import os
import struct
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tinydefects.data.masks import read_mask
from tinydefects.data.opening import ORIENTATION_TAG
from tinydefects.data.pixels import (
    read_image,
    read_size,
    write_map,
    write_png,
    write_whole,
)
from tinydefects.errors import ImageReadError, MissingExtraError, TinyDefectsError

GRAY = np.array([[0, 60, 120], [180, 240, 255]], dtype=np.uint8)
COLOUR = np.stack([GRAY, GRAY[::-1], GRAY[:, ::-1]], axis=-1)
DEEP_GRAY = np.array([[0, 257, 128], [129, 40_000, 65_535]], dtype=np.uint16)
DEEP_COLOUR = np.stack([DEEP_GRAY, DEEP_GRAY[::-1], DEEP_GRAY[:, ::-1]], axis=-1)
# Upright and as a camera stores it under each EXIF orientation; written out by hand from JEITA CP-3451, where the
# stored first row and first column lie at the sides named here.
UPRIGHT = np.array([[10, 20, 30], [40, 50, 60]], dtype=np.uint8)
STORED = {
    1: [[10, 20, 30], [40, 50, 60]],  # row 0 is the top, column 0 the left
    2: [[30, 20, 10], [60, 50, 40]],  # top, right
    3: [[60, 50, 40], [30, 20, 10]],  # bottom, right
    4: [[40, 50, 60], [10, 20, 30]],  # bottom, left
    5: [[10, 40], [20, 50], [30, 60]],  # left, top
    6: [[30, 60], [20, 50], [10, 40]],  # right, top
    7: [[60, 30], [50, 20], [40, 10]],  # right, bottom
    8: [[40, 10], [50, 20], [60, 30]],  # left, bottom
}


def rounded(deep: np.ndarray) -> list:
    return [[(int(value) + 128) // 257 for value in row] for row in deep]


def save(path: Path, stored: np.ndarray, **options: object) -> Path:
    Image.fromarray(stored).save(path, **options)
    return path


def save_turned(path: Path, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return save(path, np.array(STORED[orientation], dtype=np.uint8), exif=exif)


def repeated(gray: object) -> np.ndarray:
    return np.repeat(np.asarray(gray)[..., None], 3, axis=2)


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".BMP", ".tif", ".TIFF", ".webp"])
def test_8_bit_gray_is_repeated_in_three_channels_whatever_the_case_of_the_suffix(tmp_path, suffix):
    options = {"lossless": True} if suffix == ".webp" else {}
    np.testing.assert_array_equal(read_image(save(tmp_path / f"a{suffix}", GRAY, **options)), repeated(GRAY))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_rgb_is_read_as_it_is(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a{suffix}", COLOUR))
    np.testing.assert_array_equal(image, COLOUR)
    assert image.dtype == np.uint8


def test_an_upper_case_jpeg_is_read(tmp_path):
    image = read_image(save(tmp_path / "a.JPG", np.full((16, 24), 77, dtype=np.uint8)))
    assert (image.shape, np.unique(image).tolist()) == ((16, 24, 3), [77])


def test_alpha_is_dropped(tmp_path):
    alpha = np.full((2, 3, 1), 9, dtype=np.uint8)
    coloured = save(tmp_path / "rgba.png", np.concatenate([COLOUR, alpha], axis=2))
    gray = save(tmp_path / "la.png", np.concatenate([GRAY[..., None], alpha], axis=2))
    np.testing.assert_array_equal(read_image(coloured), COLOUR)
    np.testing.assert_array_equal(read_image(gray), repeated(GRAY))


@pytest.mark.parametrize("options", [{}, {"transparency": 0}, {"transparency": bytes([0, 128])}])
def test_a_palette_image_has_the_colours_of_its_palette(tmp_path, options):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8)).convert("P")
    image.putpalette([250, 0, 5, 10, 20, 30])
    image.save(tmp_path / "a.png", **options)
    expected = [[[250, 0, 5], [10, 20, 30]], [[10, 20, 30], [250, 0, 5]]]
    assert read_image(tmp_path / "a.png").tolist() == expected


def test_a_cmyk_jpeg_is_read_as_rgb(tmp_path):
    # A fifth of cyan ink leaves four fifths of red light; no ink leaves white.
    Image.new("CMYK", (16, 16), (51, 0, 0, 0)).save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[8, 8], [204, 255, 255], atol=3)


def test_1_bit_pixels_become_black_and_white(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[..., 0].tolist() == [[255, 0]]
    assert read_mask(tmp_path / "a.png").tolist() == [[True, False]]
    assert read_mask(tmp_path / "a.png", "above_127").tolist() == [[True, False]]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.TIFF"])
def test_16_bit_gray_is_scaled_and_not_saturated(tmp_path, name):
    assert read_image(save(tmp_path / name, DEEP_GRAY))[..., 0].tolist() == rounded(DEEP_GRAY)


@pytest.mark.parametrize("order", [">", "<"])
def test_16_bit_tiff_of_either_byte_order_is_the_same(tmp_path, order):
    tifffile.imwrite(tmp_path / "a.tif", DEEP_GRAY, byteorder=order)
    assert read_image(tmp_path / "a.tif")[..., 0].tolist() == rounded(DEEP_GRAY)


def test_16_bit_rgb_png_keeps_its_low_byte_until_it_is_rounded(tmp_path):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(DEEP_COLOUR))
    image = read_image(tmp_path / "a.png")
    # Cut to its high byte, 129 would be 0; divided by 257 and rounded it is 1.
    assert [image[..., channel].tolist() for channel in range(3)] == [rounded(DEEP_COLOUR[..., c]) for c in range(3)]


@pytest.mark.parametrize("channels", [2, 4])
def test_16_bit_png_with_alpha_is_read_without_it(tmp_path, channels):
    alpha = np.full((2, 3, 1), 7, dtype=np.uint16)
    colours = DEEP_GRAY[..., None] if channels == 2 else DEEP_COLOUR
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.concatenate([colours, alpha], axis=2)))
    assert read_image(tmp_path / "a.png")[..., 2].tolist() == rounded(colours[..., -1])


@pytest.mark.parametrize(("planar", "stored"), [("contig", DEEP_COLOUR), ("separate", np.moveaxis(DEEP_COLOUR, -1, 0))])
def test_16_bit_rgb_tiff_keeps_its_low_byte_until_it_is_rounded(tmp_path, planar, stored):
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    image = read_image(tmp_path / "a.tif")
    assert [image[..., channel].tolist() for channel in range(3)] == [rounded(DEEP_COLOUR[..., c]) for c in range(3)]


def test_16_bit_colour_png_without_its_decoder_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(DEEP_COLOUR))
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(MissingExtraError, match=r"16-bit RGB PNG needs the extra 'codecs': pip install"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_exif_orientation_is_undone_for_image_mask_and_size_alike(tmp_path, suffix, orientation):
    path = tmp_path / f"a{suffix}"
    if suffix == ".webp":
        exif = Image.Exif()
        exif[ORIENTATION_TAG] = orientation
        save(path, np.array(STORED[orientation], dtype=np.uint8), exif=exif, lossless=True)
    else:
        save_turned(path, orientation)
    np.testing.assert_array_equal(read_image(path)[..., 0], UPRIGHT)
    np.testing.assert_array_equal(read_mask(path, "nonzero"), UPRIGHT > 0)
    assert read_size(path) == (2, 3)


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_a_jpeg_is_undone(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    blocks = np.kron(np.array(STORED[orientation], dtype=np.uint8) * 4, np.ones((16, 16), dtype=np.uint8))
    path = save(tmp_path / "a.jpg", blocks, exif=exif, quality=100)
    image = read_image(path)
    np.testing.assert_allclose(image[8::16, 8::16, 0], UPRIGHT.astype(int) * 4, atol=3)
    assert read_size(path) == image.shape[:2] == (32, 48)


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_of_16_bit_files_is_undone(tmp_path, orientation):
    stored = np.array(STORED[orientation], dtype=np.uint16) * 257
    tag = [(ORIENTATION_TAG, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, extratags=tag)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], UPRIGHT)
    assert read_size(tmp_path / "a.tif") == (2, 3)
    write_late_exif(tmp_path / "a.png", imagecodecs.png_encode(repeated(stored)), orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], UPRIGHT)


@pytest.mark.parametrize("orientation", STORED)
def test_an_orientation_after_the_pixels_of_a_png_counts_too(tmp_path, orientation):
    stored = np.array(STORED[orientation], dtype=np.uint8)
    path = write_late_exif(tmp_path / "a.png", imagecodecs.png_encode(stored), orientation)
    np.testing.assert_array_equal(read_image(path)[..., 0], UPRIGHT)
    assert read_size(path) == (2, 3)


def write_late_exif(path: Path, png: bytes, orientation: int) -> Path:
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, ORIENTATION_TAG, 3, 1, orientation, 0, 0)
    chunk = struct.pack(">I", len(tiff)) + b"eXIf" + tiff + struct.pack(">I", zlib.crc32(b"eXIf" + tiff))
    end = png.rindex(b"IEND") - 4
    path.write_bytes(png[:end] + chunk + png[end:])
    return path


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_size_of_a_tiff_that_pillow_does_not_know_is_known(tmp_path, orientation):
    tag = [(ORIENTATION_TAG, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 3)), extratags=tag)
    assert read_size(tmp_path / "a.tif") == ((2, 3) if orientation == 1 else (3, 2))


def test_the_size_of_a_png_is_known_without_decoding_its_pixels(tmp_path):
    whole = imagecodecs.png_encode(np.random.default_rng(0).integers(0, 255, (64, 48), dtype=np.uint8))
    (tmp_path / "a.png").write_bytes(whole[:200])
    assert read_size(tmp_path / "a.png") == (64, 48)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("read", [read_image, read_mask])
def test_a_truncated_file_is_one_error_that_names_it(tmp_path, suffix, read):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageReadError, match=rf"a\{suffix}: not a readable image \(.*\); copy or export it again$"):
        read(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_truncated_16_bit_file_is_one_error_that_names_it(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 65_535, (64, 64, 3), dtype=np.uint16)
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(noise))
    else:
        tifffile.imwrite(path, noise, photometric="rgb")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageReadError, match=rf"a\{suffix}: not a readable image"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"a list of parts, not a picture\n" * 9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
def test_a_file_that_is_no_image_is_one_error_that_names_it(tmp_path, read, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(ImageReadError, match=rf"a\{suffix}: not a readable image") as caught:
        read(tmp_path / f"a{suffix}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "folder"])
def test_a_missing_file_says_so(tmp_path, read, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ImageReadError, match=f"{name}: no such file; check the dataset root"):
        read(tmp_path / name)


@pytest.mark.parametrize("read", [read_image, read_mask, read_size])
def test_a_huge_declared_size_is_refused_before_memory_is_spent(tmp_path, read):
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(ImageReadError, match=r"a\.png: says it is 100,000 x 100,000 pixels, more than the "):
        read(tmp_path / "a.png")


def test_a_float_image_is_refused_rather_than_rescaled_by_guess(tmp_path):
    Image.fromarray(np.ones((2, 3), dtype=np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ImageReadError, match=r"pixels are float32; save the image with 8 or 16 bits"):
        read_image(tmp_path / "a.tif")


def test_a_written_map_comes_back_bit_for_bit_and_pillow_reads_it_too(tmp_path):
    scores = np.random.default_rng(0).normal(size=(31, 17)).astype(np.float32)
    write_map(tmp_path / "deep" / "folder" / "a.tiff", scores)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "deep" / "folder" / "a.tiff"), scores)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "deep" / "folder" / "a.tiff")), scores)


@pytest.mark.parametrize("stored", [GRAY, COLOUR, DEEP_GRAY])
def test_a_written_png_comes_back_bit_for_bit(tmp_path, stored):
    write_png(tmp_path / "a.png", stored)
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "a.png").read_bytes()), stored)


def test_a_bool_mask_is_written_as_0_and_255_and_comes_back(tmp_path):
    mask = np.array([[True, False, True]])
    write_png(tmp_path / "a.png", mask)
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[255, 0, 255]]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)


def test_writing_replaces_the_old_file_and_leaves_no_other(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"old")
    write_whole(tmp_path / "a.txt", lambda file: file.write(b"new"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"new")]


def fill_the_disk(file):
    file.write(b"half")
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_old_file_and_no_half_of_the_new_one(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"old")
    with pytest.raises(TinyDefectsError, match=r"a\.txt: cannot write \(.*No space left.*\); free space or choose"):
        write_whole(tmp_path / "a.txt", fill_the_disk)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.txt", b"old")]


def test_an_interrupted_write_leaves_nothing_behind(tmp_path):
    def interrupt(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.txt", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(TinyDefectsError, match="Permission denied"):
        write_whole(tmp_path / "a.txt", lambda file: file.write(b"whole"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_one_line_error(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    # The superuser may write anywhere, so the refusal is played.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TinyDefectsError, match=r"a\.png: cannot write \(.*Permission denied.*\)") as caught:
        write_png(tmp_path / "a.png", GRAY)
    assert "\n" not in str(caught.value)


def test_a_file_in_the_place_of_a_folder_is_a_one_line_error(tmp_path):
    (tmp_path / "maps").write_bytes(b"")
    with pytest.raises(TinyDefectsError, match=r"a\.tiff: cannot write"):
        write_map(tmp_path / "maps" / "a.tiff", np.zeros((2, 3), dtype=np.float32))


@pytest.mark.parametrize("n_channels", [5, 3000])
def test_a_tiff_of_more_channels_than_a_photograph_has_is_refused_before_it_is_decoded(tmp_path, n_channels):
    path = tmp_path / "bands.tif"
    pixels = np.zeros((4, 6, n_channels), np.uint16)
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageReadError, match=f"holds {n_channels} channels"):
        read_image(path)
