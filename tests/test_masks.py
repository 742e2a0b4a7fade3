"""What a mask means: one truth, written in all the ways people write it, is the same pixels or one line of refusal."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from tinydefects.data.masks import read_mask
from tinydefects.data.opening import ORIENTATION_TAG
from tinydefects.errors import DatasetError, MaskError

TRUTH = np.zeros((64, 80), dtype=bool)
TRUTH[10:20, 30:44] = True
TRUTH[40:43, 8:12] = True
GRAY = TRUTH.astype(np.uint8) * np.uint8(255)
SOFT = np.asarray(Image.fromarray(GRAY).resize((40, 32), Image.Resampling.BILINEAR).resize((80, 64)))
NOISE = np.random.default_rng(0)
PHOTOGRAPH = np.clip(NOISE.normal(120, 20, TRUTH.shape), 0, 255).astype(np.uint8)


def colours(marked, rest):
    return np.where(TRUTH[..., None], np.uint8(marked), np.uint8(rest))


def values(marked, rest, dtype=np.uint8):
    return np.where(TRUTH, np.array(marked, dtype), np.array(rest, dtype))


def by_pillow(pixels, **options):
    return lambda path: Image.fromarray(pixels).save(path, **options)


def by_tifffile(pixels, **options):
    return lambda path: tifffile.imwrite(path, pixels, **options)


def by_imagecodecs(pixels):
    return lambda path: path.write_bytes(imagecodecs.png_encode(pixels))


def palette(*colours, indices=TRUTH, **options):
    def write(path):
        image = Image.fromarray(np.uint8(indices)).convert("L")
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([value for colour in colours for value in colour])
        image.save(path, **options)

    return write


def pages(*pictures, **options):
    first, *others = (Image.fromarray(picture) for picture in pictures)
    return lambda path: first.save(path, save_all=True, append_images=others, **options)


BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (128, 0, 0)
GRADED = np.where(TRUTH, np.arange(80) % 3 + 1, 0)  # three classes
SOFT_ALPHA = np.dstack([np.zeros_like(SOFT), SOFT])
READ = {
    "gray 0 and 255": ("png", by_pillow(GRAY)),
    "value 1": ("png", by_pillow(values(1, 0))),
    "value 37": ("png", by_pillow(values(37, 0))),
    "1 bit": ("png", by_pillow(TRUTH)),
    "16 bits, 255": ("png", by_pillow(values(255, 0, np.uint16))),
    "16 bits, 256, whose low byte is 0": ("png", by_pillow(values(256, 0, np.uint16))),
    "16 bits, 65535": ("png", by_pillow(values(65535, 0, np.uint16))),
    "16 bits in colour": ("png", by_imagecodecs(colours(WHITE, BLACK).astype(np.uint16) * 257)),
    "16 bits with alpha": ("png", by_imagecodecs(colours((0, 255), (0, 0)).astype(np.uint16) * 257)),
    "RGB": ("png", by_pillow(colours(WHITE, BLACK))),
    "a dark colour on black": ("png", by_pillow(colours((0, 0, 7), BLACK))),
    "RGBA, opaque": ("png", by_pillow(colours((*WHITE, 255), (*BLACK, 255)))),
    "RGBA, all transparent": ("png", by_pillow(colours((*WHITE, 0), (*BLACK, 0)))),
    "RGBA, black on transparent": ("png", by_pillow(colours((*BLACK, 255), (*BLACK, 0)))),
    "RGBA, white with alpha": ("png", by_pillow(colours((*WHITE, 255), (*WHITE, 0)))),
    "RGBA, red on transparent": ("png", by_pillow(colours((*RED, 255), (*BLACK, 0)))),
    "RGBA, black on transparent white": ("png", by_pillow(colours((*BLACK, 255), (*WHITE, 0)))),
    "RGBA, half transparent": ("png", by_pillow(colours((*RED, 128), (*BLACK, 0)))),
    "RGBA in WebP": ("webp", by_pillow(colours((*BLACK, 255), (*BLACK, 0)), lossless=True, exact=True)),
    "LA, black on transparent": ("png", by_pillow(colours((0, 255), (0, 0)))),
    "LA, opaque": ("png", by_pillow(colours((255, 255), (0, 255)))),
    "palette of VOC": ("png", palette(BLACK, RED)),
    "palette of VOC with two classes": ("png", palette(BLACK, RED, (0, 128, 0), indices=TRUTH * 2 - (GRADED == 1))),
    "palette, coloured background": ("png", palette((50, 50, 80), (250, 50, 83))),
    "palette, all black": ("png", palette(*[BLACK] * 256)),
    "palette, transparent zero": ("png", palette((250, 250, 250), (255, 0, 0), transparency=0)),
    "palette, white and black": ("png", palette(WHITE, BLACK)),
    "palette of grays": ("bmp", palette(*[(level,) * 3 for level in range(256)], indices=GRAY)),
    "palette in TIFF": ("tif", palette(BLACK, RED)),
    "JPEG, quality 95": ("jpg", by_pillow(GRAY, quality=95)),
    "JPEG, quality 75": ("jpg", by_pillow(GRAY, quality=75)),
    "JPEG, quality 50": ("jpg", by_pillow(GRAY, quality=50)),
    "JPEG, quality 30": ("jpg", by_pillow(GRAY, quality=30)),
    "JPEG in colour": ("jpeg", by_pillow(colours(WHITE, BLACK), quality=75)),
    "lossy WebP": ("webp", by_pillow(GRAY, quality=80)),
    "lossless WebP": ("webp", by_pillow(GRAY, lossless=True)),
    "JPEG in TIFF": ("tif", by_pillow(GRAY, compression="jpeg")),
    "TIFF": ("tif", by_pillow(GRAY)),
    "TIFF, 1 bit": ("tif", by_pillow(TRUTH)),
    "TIFF, 1 bit, as a fax": ("tif", by_pillow(TRUTH, compression="group4")),
    "TIFF, LZW": ("tif", by_pillow(GRAY, compression="tiff_lzw")),
    "TIFF in strips": ("tif", by_tifffile(GRAY, rowsperstrip=7)),
    "TIFF in tiles": ("tif", by_tifffile(GRAY, tile=(16, 16))),
    "TIFF, colour in planes": ("tif", by_tifffile(np.stack([GRAY] * 3), photometric="rgb", planarconfig="separate")),
    "TIFF, 16 bits": ("tif", by_tifffile(values(65535, 0, np.uint16))),
    "TIFF, 16 bits, big-endian": ("tif", by_tifffile(values(1, 0, np.uint16), byteorder=">")),
    "TIFF, 32-bit integers": ("tif", by_tifffile(values(70_000, 0, np.int32))),
    "TIFF, 64-bit integers": ("tif", by_tifffile(values(1, 0, np.int64))),
    "TIFF, floats 0 and 1": ("tif", by_tifffile(values(1, 0, np.float32))),
    "TIFF, floats 0 and 255": ("tiff", by_tifffile(values(255, 0, np.float32), compression="zlib")),
    "TIFF, doubles": ("tif", by_tifffile(values(1, 0, np.float64))),
    "TIFF, half floats": ("tif", by_tifffile(values(1, 0, np.float16))),
    "BMP": ("bmp", by_pillow(GRAY)),
    "BMP, 1 bit": ("bmp", by_pillow(TRUTH)),
    "BMP in colour": ("BMP", by_pillow(colours(WHITE, BLACK))),
}
REFUSED = {
    "soft edges": ("png", by_pillow(SOFT), "values .* where two are expected; .*above_half for soft edges, nonzero"),
    "soft alpha": ("png", by_pillow(SOFT_ALPHA), "where two are expected"),
    "soft edges in colour": ("png", by_pillow(np.dstack([SOFT, SOFT * 0, SOFT * 0])), "where two are expected"),
    "soft edges in a palette": (
        "png",
        palette(BLACK, (120,) * 3, WHITE, indices=np.digitize(SOFT, [64, 192])),
        "holds 3 values .0, 120, 255. where two are expected",
    ),
    "class numbers in gray": ("png", by_pillow(np.uint8(GRADED)), r"holds 4 values \(0, 1, 2, 3\)"),
    "class numbers in 16 bits": ("png", by_pillow(np.uint16(GRADED) * 300), r"holds 4 values \(0, 300, 600, 900\)"),
    "two values, none of them 0": ("png", by_pillow(values(250, 50)), r"\(50, 250\) where none is 0, .*=above_50"),
    "1 and 2": ("png", by_pillow(values(2, 1)), r"\(1, 2\) where none is 0, .*mask_rule=above_1 "),
    "indices, none of them 0": ("png", palette(BLACK, RED, WHITE, indices=TRUTH + 1), "none is 0"),
    "VOC's border of 255": (
        "png",
        palette(*[(level, 0, 0) for level in range(256)], indices=np.where(TRUTH, 1, 0) + (GRADED == 2) * 254),
        "in VOC's masks 255 means neither",
    ),
    "colours on white": ("png", by_pillow(colours((255, 0, 0), WHITE)), "a background that is not black"),
    "colours on a colour": ("png", by_pillow(colours((250, 50, 83), (50, 50, 80))), r"\(80, 250\) where none is 0"),
    "quantised white": ("png", palette(WHITE, BLACK, indices=~TRUTH), "mark most of the picture and its colours the"),
    "alpha against colour": (
        "png",
        by_pillow(np.dstack([*[np.roll(GRAY, 9)] * 3, GRAY])),
        r"mark different pixels \(152 and 152\)",
    ),
    "a cut-out photograph": ("png", by_pillow(np.dstack([*[PHOTOGRAPH] * 3, GRAY])), "alpha and colours both vary"),
    "a photograph": ("png", by_pillow(PHOTOGRAPH), "looks like a photograph, not a mask: .*--allow photograph-as-mask"),
    "a photograph as JPEG": ("jpg", by_pillow(PHOTOGRAPH), "looks like a photograph"),
    "a photograph in colour": ("png", by_pillow(np.dstack([PHOTOGRAPH] * 3)), "looks like a photograph"),
    "a photograph of 16 bits": ("tif", by_tifffile(PHOTOGRAPH.astype(np.uint16) * 16), "looks like a photograph"),
    "JPEG of value 1": ("jpg", by_pillow(values(1, 0)), "is lossy .JPEG. with .*none surely above half"),
    "JPEG of value 128": ("jpg", by_pillow(values(128, 0)), "none surely above half"),
    "JPEG, quality 10": ("jpg", by_pillow(GRAY, quality=10), "so that edges have moved; save the mask as PNG"),
    "JPEG of a colour": ("jpg", by_pillow(colours((255, 0, 0), BLACK), quality=75), "edges have moved"),
    "JPEG of soft edges": ("jpg", by_pillow(np.where(TRUTH, np.uint8(150), SOFT)), "edges have moved"),
    "pages": ("tif", pages(GRAY, GRAY * 0), "holds 2 pages or frames .*--allow multi-page"),
    "frames of WebP": ("webp", pages(GRAY, GRAY * 0, lossless=True), "holds 2 pages or frames"),
    "frames of PNG": ("png", pages(GRAY, GRAY * 0), "holds 2 pages or frames"),
    "five channels": (
        "tif",
        by_tifffile(np.dstack([GRAY.astype(np.uint16)] * 5), photometric="minisblack", planarconfig="contig"),
        "has 5 channels",
    ),
    "nan": ("tif", by_tifffile(values(np.nan, 0, np.float32)), "holds nan or infinity"),
    "infinity": ("tif", by_tifffile(values(np.inf, 0, np.float32)), "holds nan or infinity"),
    "negative": ("tif", by_tifffile(values(-1, 0, np.float32)), "holds values from -1 to 0"),
    "negative integers": ("tif", by_tifffile(values(-1, 0, np.int16)), "holds values from -1 to 0"),
    "negative bytes": ("tif", by_tifffile(values(-1, 0, np.int8)), "holds values from -1 to 0"),
    "2^31": ("tif", by_tifffile(values(2**31, 0, np.uint32)), r"to 2.14748e\+09; a mask holds 0 up to 2\^31 - 1"),
    "2^40": ("tif", by_tifffile(values(2**40, 0, np.float64)), "a mask holds 0 up to"),
    "one half": ("tif", by_tifffile(values(0.5, 0, np.float32)), "fractions between 0 and 1; .*above_half"),
    "complex": ("tif", by_tifffile(values(1, 0, np.complex64)), "its values are complex64"),
}


def written(folder: Path, case: tuple) -> Path:
    suffix, write, *_ = case
    path = folder / f"mask.{suffix}"
    write(path)
    return path


@pytest.mark.parametrize("name", READ)
def test_one_truth_written_in_many_ways_marks_the_same_pixels(tmp_path, name):
    np.testing.assert_array_equal(read_mask(written(tmp_path, READ[name])), TRUTH)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_in_one_line_that_names_the_file(tmp_path, name):
    path = written(tmp_path, REFUSED[name])
    with pytest.raises(MaskError, match=REFUSED[name][2]) as caught:
        read_mask(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


EMPTY = {
    "gray": by_pillow(GRAY * 0),
    "1 bit": by_pillow(TRUTH & False),
    "RGBA, opaque black": by_pillow(colours((*BLACK, 255), (*BLACK, 255))),
    "RGBA, a transparent sheet": by_pillow(colours((*BLACK, 0), (*BLACK, 0))),
    "RGBA, a transparent white sheet": by_pillow(colours((*WHITE, 0), (*WHITE, 0))),
    "LA, a transparent sheet": by_pillow(colours((255, 0), (255, 0))),
    "palette": palette((50, 50, 80), (250, 50, 83), indices=TRUTH * 0),
    "palette of white": palette(WHITE, BLACK, indices=TRUTH * 0),
}


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_marked_is_read_as_nothing_marked(tmp_path, name):
    EMPTY[name](tmp_path / "mask.png")
    assert not read_mask(tmp_path / "mask.png").any()


def test_an_empty_jpeg_and_a_full_one_are_what_they_are(tmp_path):
    by_pillow(GRAY * 0, quality=75)(tmp_path / "empty.jpg")
    by_pillow(GRAY * 0 + 255, quality=75)(tmp_path / "full.jpg")
    assert (read_mask(tmp_path / "empty.jpg").any(), read_mask(tmp_path / "full.jpg").all()) == (False, True)


STEPS = np.array([[0, 1, 127, 128, 255]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("rule", "marked"),
    [
        ("nonzero", [0, 1, 1, 1, 1]),
        ("zero", [1, 0, 0, 0, 0]),
        ("above_half", [0, 0, 0, 1, 1]),
        ("below_half", [1, 1, 1, 0, 0]),
        ("above_127", [0, 0, 0, 1, 1]),
        ("above_0", [0, 1, 1, 1, 1]),
        ("below_128", [1, 1, 1, 0, 0]),
    ],
)
def test_a_rule_that_is_given_decides(tmp_path, rule, marked):
    by_pillow(STEPS)(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", rule).tolist() == [[bool(one) for one in marked]]


@pytest.mark.parametrize(
    ("stored", "n_marked"),
    [
        (np.array([[0, 32_767, 32_768, 65_535]], np.uint16), 2),
        (np.array([[0, 127, 128, 255]], np.uint16), 2),  # 8 bits in 16
        (np.array([[0, 0.4, 0.6, 1]], np.float32), 2),
        (np.array([[0, 127, 128, 255]], np.float32), 2),
    ],
)
def test_half_is_that_of_the_smallest_scale_that_holds_the_values(tmp_path, stored, n_marked):
    tifffile.imwrite(tmp_path / "a.tif", stored)
    assert read_mask(tmp_path / "a.tif", "above_half").tolist() == [[False] * (4 - n_marked) + [True] * n_marked]


def test_half_of_an_unknown_scale_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 70_000, 140_000]], np.int32))
    with pytest.raises(MaskError, match="half of such a scale is a guess; give mask_rule=above_N"):
        read_mask(tmp_path / "a.tif", "above_half")


def test_a_palette_is_halved_by_its_shades_and_cut_by_its_indices(tmp_path):
    palette(BLACK, (100,) * 3, WHITE, indices=[[0, 1, 2]])(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", "above_half").tolist() == [[False, False, True]]
    assert read_mask(tmp_path / "a.png", "above_0").tolist() == [[False, True, True]]


@pytest.mark.parametrize("rule", ["nonzero", "zero"])
def test_zero_means_nothing_in_a_lossy_file(tmp_path, rule):
    by_pillow(GRAY, quality=75)(tmp_path / "a.jpg")
    with pytest.raises(MaskError, match="where zero does not stay zero; give --option mask_rule=above_half"):
        read_mask(tmp_path / "a.jpg", rule)


@pytest.mark.parametrize("rule", ["", "auto ", "above", "above_", "above_-1", "above_1.5", "half", "Nonzero"])
def test_a_rule_that_does_not_exist_is_named_with_those_that_do(tmp_path, rule):
    with pytest.raises(DatasetError, match=r"no such rule; choose auto, nonzero, zero, above_half, below_half, "):
        read_mask(tmp_path / "a.png", rule)


def test_what_is_allowed_on_purpose_is_read(tmp_path):
    pages(GRAY, GRAY * 0)(tmp_path / "pages.tif")
    np.testing.assert_array_equal(read_mask(tmp_path / "pages.tif", allowed={"multi-page"}), TRUTH)
    by_pillow(PHOTOGRAPH)(tmp_path / "photograph.png")
    marked = read_mask(tmp_path / "photograph.png", "above_127", allowed={"photograph-as-mask"})
    np.testing.assert_array_equal(marked, PHOTOGRAPH > 127)


def test_a_smaller_view_of_the_same_picture_is_no_second_page(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY)
        file.write(GRAY[::2, ::2], subfiletype=1)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), TRUTH)


@pytest.mark.parametrize("name", ["RGB", "palette of VOC"])
def test_a_turned_mask_is_set_upright_whatever_it_is_written_in(tmp_path, name):
    turned = Image.Exif()
    turned[ORIENTATION_TAG] = 3  # its first row is the bottom, its first column the right
    _, write = READ[name]
    write(tmp_path / "a.png")
    Image.open(tmp_path / "a.png").save(tmp_path / "b.png", exif=turned)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), TRUTH[::-1, ::-1])
