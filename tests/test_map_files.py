import zipfile

import numpy as np
import pytest
import tifffile
from PIL import Image

from tinydefects.data import map_files as files
from tinydefects.data.map_files import read_header, read_map, resample_bilinear
from tinydefects.data.pixels import write_map
from tinydefects.errors import ImageReadError, MissingExtraError

SUFFIXES = [".tif", ".TIFF", ".npy", ".NPY", ".npz"]


def write(path, scores):
    """Write an array as whatever the suffix says."""
    kind = path.suffix.lower()
    with path.open("wb") as file:
        if kind == ".npy":
            np.save(file, scores)
        elif kind == ".npz":
            np.savez_compressed(file, scores)
        elif kind == ".png":
            Image.fromarray(scores).save(file, format="PNG")
        else:
            tifffile.imwrite(file, scores)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["float16", "float32", "float64", ">f4", "int32"])
def test_floats_of_16_32_and_64_bits_and_integers_are_read_as_float32(tmp_path, suffix, kind):
    path = write(tmp_path / f"a{suffix}", np.array([[-2, 1, 3]], dtype=kind))
    anomaly_map = read_map(path)
    assert (anomaly_map.dtype, anomaly_map.tolist()) == (np.float32, [[-2.0, 1.0, 3.0]])
    assert read_header(path).size == (1, 3)
    assert np.dtype(read_header(path).dtype) == np.dtype(kind).newbyteorder("=")


@pytest.mark.parametrize("kind", ["uint16", "uint8"])
def test_a_gray_png_keeps_every_level(tmp_path, kind):
    levels = np.array([[0, 1, np.iinfo(kind).max]], dtype=kind)
    path = write(tmp_path / "a.png", levels)
    np.testing.assert_array_equal(read_map(path), levels.astype(np.float32))
    assert read_header(path) == files.MapHeader(size=(1, 3), dtype=kind)


def test_a_colour_png_is_a_picture_not_a_map(tmp_path):
    path = write(tmp_path / "a.png", np.zeros((2, 3, 3), dtype=np.uint8))
    with pytest.raises(ImageReadError, match=r"a\.png: not a readable anomaly map \(a colour picture \(RGB\)"):
        read_header(path)


def test_a_map_with_axes_of_length_one_around_it_is_still_a_map(tmp_path):
    path = write(tmp_path / "a.npy", np.zeros((1, 4, 6, 1), dtype=np.float32))
    assert read_map(path).shape == read_header(path).size == (4, 6)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    "stored",
    [np.zeros(6), np.zeros((2, 4, 6)), np.zeros((4, 6), dtype=complex), np.zeros((4, 6), dtype=bool), np.zeros((0, 6))],
    ids=["a line", "two maps", "complex", "a mask", "nothing"],
)
def test_what_is_no_map_is_refused_with_its_shape_and_kind(tmp_path, suffix, stored):
    path = write(tmp_path / f"a{suffix}", stored)
    for read in (read_header, read_map):
        with pytest.raises(ImageReadError, match=r"a\.np[yz]: this file holds \w+ of shape \(.*\), an anomaly map is"):
            read(path)


def test_a_pickle_is_not_opened_as_a_map(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ImageReadError, match=r"a\.npy: this file holds object"):
        read_map(tmp_path / "a.npy")


@pytest.mark.parametrize("read", [read_header, read_map])
@pytest.mark.parametrize("name", ["a.tiff", "a.npy", "a.npz", "a.png", "a.jpg"])
def test_a_damaged_or_missing_map_is_one_error_that_names_it(tmp_path, name, read):
    with pytest.raises(ImageReadError, match=rf"{name}: not a readable anomaly map \(no such file\)"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"half a file")
    with pytest.raises(ImageReadError, match=rf"{name}: not a readable anomaly map") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".tiff", ".npy", ".npz"])
def test_a_truncated_map_is_found_out_by_its_header_alone(tmp_path, suffix):
    path = write(tmp_path / f"a{suffix}", np.random.default_rng(0).random((90, 80)))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageReadError, match="not a readable anomaly map"):
        read_header(path)


def test_a_truncated_png_is_found_out_when_it_is_read(tmp_path):
    path = write(tmp_path / "a.png", np.random.default_rng(0).integers(0, 65_535, (90, 80), dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageReadError, match="not a readable anomaly map"):
        read_map(path)


def test_a_header_that_promises_the_moon_is_refused_before_memory_is_taken(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(4 * 10**12 + 128)  # a sparse file: it takes no room
    with pytest.raises(ImageReadError, match="1000000 x 1000000 pixels, too many"):
        read_map(tmp_path / "a.npy")


def test_an_archive_of_several_arrays_gives_the_one_called_anomaly_map_or_the_one_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", anomaly_map=np.full((2, 2), 1.0), other=np.full((2, 3), 2.0))
    assert read_map(tmp_path / "a.npz")[0, 0] == 1.0
    assert read_map(tmp_path / "a.npz", "other")[0, 0] == 2.0
    assert read_header(tmp_path / "a.npz", "other").size == (2, 3)
    with pytest.raises(ImageReadError, match=r"no array 'heat' but anomaly_map, other; name the right one \(--key\)"):
        read_header(tmp_path / "a.npz", "heat")
    np.savez(tmp_path / "b.npz", heat=np.zeros((2, 2)), other=np.zeros((2, 3)))
    with pytest.raises(ImageReadError, match="no array 'anomaly_map' but heat, other"):
        read_map(tmp_path / "b.npz")


def test_an_archive_that_is_no_numpy_archive_is_one_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ImageReadError, match=r"a\.npz: "):
        read_map(tmp_path / "a.npz")


def test_a_compression_that_needs_an_extra_names_it(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    path = write(tmp_path / "a.tiff", np.zeros((2, 2), dtype=np.float32))
    monkeypatch.setattr(tifffile, "imread", refuse)
    with pytest.raises(MissingExtraError, match="codecs"):
        read_map(path)


def test_numbers_beyond_float32_become_infinite_without_a_warning(tmp_path):
    assert np.isinf(read_map(write(tmp_path / "a.npy", np.array([[1e300, 0.0]]))))[0].tolist() == [True, False]


def test_the_description_of_a_map_travels_with_it(tmp_path):
    write_map(tmp_path / "a.tiff", np.zeros((2, 3), dtype=np.float32), description='{"score": 0.5}')
    write_map(tmp_path / "b.tiff", np.zeros((2, 3), dtype=np.float32))
    assert [read_header(tmp_path / name).description for name in ("a.tiff", "b.tiff")] == ['{"score": 0.5}', ""]


def slow_bilinear(scores, size):
    """Centre-aligned: output centre (i + 1/2) / scale - 1/2 between its neighbours, the border repeated."""
    (height, width), (new_height, new_width) = scores.shape, size
    out = np.empty(size)
    for i in range(new_height):
        for j in range(new_width):
            y, x = (i + 0.5) * height / new_height - 0.5, (j + 0.5) * width / new_width - 0.5
            top, left = int(np.floor(y)), int(np.floor(x))
            down, right = y - top, x - left
            rows = np.clip([top, top + 1], 0, height - 1)
            columns = np.clip([left, left + 1], 0, width - 1)
            corners = scores[np.ix_(rows, columns)]
            out[i, j] = np.array([1 - down, down]) @ corners @ np.array([1 - right, right])
    return out


@pytest.mark.parametrize("size", [(6, 8), (7, 11), (30, 5)])
def test_enlarging_is_centre_aligned_bilinear_interpolation(size):
    scores = np.random.default_rng(0).random((3, 4), dtype=np.float32) if size[1] > 5 else np.eye(5, dtype=np.float32)
    resampled = resample_bilinear(scores, size)
    assert resampled.dtype == np.float32
    np.testing.assert_allclose(resampled, slow_bilinear(scores, size), atol=1e-6)


def test_a_hot_pixel_peaks_at_its_own_centre_after_enlarging():
    scores = np.zeros((3, 3), dtype=np.float32)
    scores[1, 1] = 1.0
    enlarged = resample_bilinear(scores, (9, 9))
    assert np.unravel_index(enlarged.argmax(), (9, 9)) == (4, 4)
    np.testing.assert_allclose(enlarged, enlarged[::-1, ::-1], atol=1e-7)


def test_shrinking_averages_over_all_pixels():
    scores = np.zeros((40, 40), dtype=np.float32)
    scores[21, 21] = 1.0
    shrunken = resample_bilinear(scores, (10, 10))
    assert shrunken.sum() == pytest.approx(1 / 16, rel=0.02)  # nothing is skipped over
    assert 0 < shrunken.max() < 0.1
