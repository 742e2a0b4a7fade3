"""Every form of a picture is the same picture: files, images of Pillow's, arrays, tensors and samples."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from test_detector import fitted, textures
from tiny_teachers import counting_teacher
from tinydefects.data.images import Images, as_image
from tinydefects.data.pixels import read_image, write_png
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.detector.detector import Detector
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import ImageReadError, TinyDefectsError, TrainingError
from tinydefects.export.exported import ExportedDetector
from tinydefects.export.manifest import Interface

SIZE = (48, 64)
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def detector():
    return fitted(epochs=2)


def picture(seed=0):
    """(H, W, 3) uint8 whose colours differ, so that no exchange of theirs goes unseen."""
    (pixels,) = textures(SIZE, seed=seed)
    pixels[10:20, 30:40] = (250, 20, 90)
    return pixels


def forms_of(pixels, folder):
    """The same picture in all forms."""
    height, width, _ = pixels.shape
    alpha = np.random.default_rng(1).integers(0, 255, (height, width, 1), dtype=np.uint8)
    with_alpha = np.concatenate([pixels, alpha], axis=2)
    path = folder / "picture.png"
    write_png(path, pixels)
    Image.fromarray(with_alpha).save(folder / "alpha.tiff")
    tensor = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    return {
        "path": path,
        "text": str(path),
        "sample": Sample(id="test/good/0", image_path=path, label="good"),
        "pillow, still to be read": Image.open(io.BytesIO(path.read_bytes())),
        "pillow": Image.fromarray(pixels),
        "pillow with alpha": Image.fromarray(with_alpha),
        "file with alpha": folder / "alpha.tiff",
        "(H, W, 3)": pixels,
        "(H, W, 3), not contiguous": np.asfortranarray(pixels),
        "(H, W, 4)": with_alpha,
        "16 bits": pixels.astype(np.uint16) * 257,
        "16 bits, big end first": (pixels.astype(np.uint16) * 257).astype(">u2"),
        "floats": pixels / 255,
        "floats of 32 bits": pixels.astype(np.float32) / np.float32(255),
        "tensor": tensor,
        "tensor of floats": (tensor / 255).requires_grad_(),
        "tensor with alpha": torch.from_numpy(with_alpha.transpose(2, 0, 1).copy()),
        "makes an array of itself": ArrayMaker(pixels),
    }


class ArrayMaker:
    def __init__(self, pixels):
        self.pixels = pixels

    def __array__(self, dtype=None, copy=None):
        return self.pixels


def test_every_form_of_a_picture_gives_the_same_map(detector, tmp_path):
    pixels = picture()
    expected = detector.predict(pixels)
    forms = forms_of(pixels, tmp_path)
    for (name, form), many in zip(forms.items(), detector.predict_many(forms.values(), batch_size=3), strict=True):
        found = detector.predict(form)
        assert np.array_equal(found.anomaly_map, expected.anomaly_map), name
        assert found.score == expected.score, name
        assert np.allclose(many.anomaly_map, expected.anomaly_map, rtol=1e-4, atol=1e-5), name


def test_every_form_of_a_picture_teaches_the_same(tmp_path):
    pixels = [picture(seed) for seed in range(2)]
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    forms = [forms_of(one, tmp_path / str(place)) for place, one in enumerate(pixels)]
    settings = {"teacher": counting_teacher(), "resolution": 64, "epochs": 1}
    expected = Detector(**settings).fit(pixels).fingerprint
    for name in forms[0]:
        assert Detector(**settings).fit([one[name] for one in forms]).fingerprint == expected, name
    assert Detector(**settings).fit([forms[0]["path"], pixels[1]]).fingerprint == expected
    in_files = (path for path in [tmp_path / "0/picture.png", tmp_path / "1/picture.png"])
    assert Detector(**settings).fit(in_files).fingerprint == expected
    assert Detector(**settings).fit(np.stack(pixels)).fingerprint == expected


@pytest.mark.parametrize("shape", ["(H, W)", "(H, W, 1)", "tensor (1, H, W)", "pillow"])
def test_gray_is_repeated(shape):
    gray = picture()[..., 0]
    form = {
        "(H, W)": gray,
        "(H, W, 1)": gray[..., None],
        "tensor (1, H, W)": torch.from_numpy(gray.copy())[None],
        "pillow": Image.fromarray(gray),
    }[shape]
    assert np.array_equal(as_image(form), np.stack([gray] * 3, axis=2))


@pytest.mark.parametrize("form", ["(H, W, 3)", "(H, W, 4)", "tensor", "floats", "16 bits"])
def test_bgr_is_red_first_after_that(tmp_path, form):
    pixels = picture()
    exchanged = forms_of(pixels[..., ::-1], tmp_path)[form]
    assert np.array_equal(as_image(exchanged, channels="bgr"), pixels)
    assert not np.array_equal(as_image(exchanged), pixels)


@pytest.mark.parametrize("form", ["path", "sample", "pillow", "pillow with alpha"])
def test_files_and_images_of_pillow_know_their_order_of_colours(tmp_path, form):
    pixels = picture()
    assert np.array_equal(as_image(forms_of(pixels, tmp_path)[form], channels="bgr"), pixels)


def test_gray_has_no_order_of_colours():
    gray = picture()[..., 0]
    assert np.array_equal(as_image(gray, channels="bgr"), as_image(gray))


def test_an_unknown_order_of_colours_is_refused_wherever_it_is_given(detector):
    for call in (detector.predict, detector.fit, detector.predict_many):
        with pytest.raises(TinyDefectsError, match="channels 'brg': give 'rgb', or 'bgr' for arrays that OpenCV read"):
            call([picture()], channels="brg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_an_image_of_pillow_is_turned_as_its_file_is(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"turned.{suffix}"
    Image.fromarray(picture()).save(path, exif=exif)
    expected = read_image(path)
    assert expected.shape[:2] == (SIZE if orientation < 5 else SIZE[::-1])
    with Image.open(path) as image:
        assert np.array_equal(as_image(image), expected)
        assert np.array_equal(as_image(image), expected)  # and a second time, once it is loaded
        assert np.array_equal(as_image(image.copy()), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_an_image_of_pillow_in_any_mode_is_what_its_file_is(tmp_path, mode):
    deep = Image.fromarray(picture()[..., 0].astype(np.uint16) * 200)
    image = deep if mode == "I;16" else Image.fromarray(picture()).convert(mode)
    path = tmp_path / "image.tiff"
    image.save(path)
    assert np.array_equal(as_image(image, bits=16), read_image(path, 16))


def test_an_image_of_pillow_keeps_its_colours_in_modes_that_no_file_has():
    pixels = picture()
    hue = Image.fromarray(pixels).convert("HSV")
    assert np.abs(as_image(hue).astype(int) - pixels).max() <= 8  # a hue has 256 values


def test_16_bit_values_fill_as_many_bits_as_the_detector_was_told(tmp_path):
    deep = picture().astype(np.uint16) * 16  # 12 bits
    Image.fromarray(deep[..., 0]).save(tmp_path / "deep.png")
    detector = Detector(teacher=counting_teacher(), resolution=64, epochs=1, image_bits=12).fit([deep])
    expected = np.rint(deep[..., 0] * (255 / 4095)).astype(np.uint8)
    forms = [
        deep[..., 0],
        tmp_path / "deep.png",
        Image.open(io.BytesIO((tmp_path / "deep.png").read_bytes())),
        torch.from_numpy(deep[..., 0].copy())[None],
        Sample(id="test/good/0", image_path=tmp_path / "deep.png", label="good"),
        Sample(id="test/good/0", image_path=tmp_path / "deep.png", label="good", image_bits=12),
    ]
    (wanted,) = detector.predict_many([expected])
    for found in detector.predict_many(forms):
        assert np.array_equal(found.anomaly_map, wanted.anomaly_map)
    with pytest.raises(ImageReadError, match=r"an image of 48 x 64 pixels: its values reach 4,096, beyond the 12 bits"):
        detector.predict(np.full(SIZE, 4096, np.uint16))
    other = Sample(id="test/good/0", image_path=tmp_path / "deep.png", label="good", image_bits=14)
    with pytest.raises(ImageReadError, match=r"deep\.png: its sample says image_bits 14, the detector 12"):
        detector.predict(other)


def small(dtype, value):
    return np.full((6, 7, 3), value, dtype)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (small(bool, True), r"is bool, as masks are"),
        (small(np.int64, 3), r"is int64, which says nothing of where white is"),
        (small(np.float32, 200), r"floats from 200 to 200: only in \[0, 1\] is it clear where black and white are"),
        (small(np.float64, -0.1), r"floats from -0\.1 to -0\.1: .* undo a normalisation"),
        (small(np.float32, np.nan), r"floats from nan to nan"),
        (torch.full((3, 6, 7), -2.0), r"floats from -2 to -2"),
        (np.zeros((3, 6, 7), np.uint8), r"\(3, 6, 7\), channels first: turn it with \.transpose\(1, 2, 0\)"),
        (torch.zeros((6, 7, 3)), r"\(6, 7, 3\), channels last: turn it with \.permute\(2, 0, 1\)"),
        (torch.zeros((6, 7)), r"this tensor is \(6, 7\); give"),
        (np.zeros((2, 6, 7, 3), np.uint8), "several images: give them one by one"),
        (np.zeros((6, 7, 2), np.uint8), r"this array is \(6, 7, 2\); give a path"),
        (np.zeros((0, 7, 3), np.uint8), r"this array is \(0, 7, 3\)"),
        (b"bytes", "no image but of type bytes; give a path"),
        ([small(np.uint8, 1)], "of type list; several images are for fit and predict_many"),
        (None, "of type NoneType"),
        ("nowhere.png", r"nowhere\.png: no such file"),
        (Path(__file__), r"test_images\.py: not a readable image"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line_that_says_why(detector, image, expected):
    with pytest.raises(ImageReadError, match=expected) as caught:
        detector.predict(image)
    assert "\n" not in str(caught.value)


def test_of_several_images_the_bad_one_is_named_after_those_before_it(detector, tmp_path):
    made = detector.predict_many([picture(), small(bool, True), picture()])
    assert next(made).anomaly_map.shape == SIZE
    with pytest.raises(ImageReadError, match="image 1 of those given, counted from 0: this array of"):
        next(made)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageReadError, match=r"^\S*text\.png: not a readable image"):
        list(detector.predict_many([tmp_path / "text.png"]))


def test_a_truncated_image_of_pillow_is_one_line(tmp_path, detector):
    Image.fromarray(picture()).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-300])
    with Image.open(tmp_path / "cut.jpg") as image, pytest.raises(ImageReadError, match=r"cut\.jpg: not readable"):
        detector.predict(image)


@pytest.mark.parametrize("form", ["path", "text", "pillow", "(H, W, 3)", "tensor"])
def test_a_single_image_is_not_taken_for_several(detector, tmp_path, form):
    image = forms_of(picture(), tmp_path)[form]
    for call in (detector.predict_many, Detector(teacher=counting_teacher()).fit):
        with pytest.raises(ImageReadError, match=r"a single image; several are expected: give a list, of one: \[image"):
            call(image)


def test_a_category_and_a_folder_are_refused_with_what_to_give_instead(detector, tmp_path):
    category = Category(id="parts/screw", train=[], test=[])
    with pytest.raises(ImageReadError, match=r"parts/screw is a category, not its images: give category\.train"):
        detector.fit(category)
    with pytest.raises(ImageReadError, match=r"give category\.test"):
        detector.predict_many(category)
    with pytest.raises(ImageReadError, match="is a folder; give a list of the files in it"):
        detector.fit(tmp_path)
    with pytest.raises(ImageReadError, match="these are no images but of type int"):
        detector.fit(3)


def test_what_is_refused_before_a_fit_leaves_the_detector_as_it_was(tmp_path):
    detector = fitted(epochs=1)
    before = detector.fingerprint
    bad = Sample(id="test/crack/0", image_path=tmp_path / "0.png", label="defect")
    with pytest.raises(ImageReadError, match=r"0\.png: its sample is labelled defect; fit learns from good ones"):
        detector.fit([bad])
    assert detector.fingerprint == before


def test_files_are_read_ahead_and_their_number_is_known(tmp_path):
    for place in range(3):
        write_png(tmp_path / f"{place}.png", picture(place))
    told = []
    teacher = counting_teacher()
    detector = Detector(teacher=teacher, resolution=64, epochs=1)
    detector.fit(tmp_path.glob("*.png"), progress=lambda *step: told.append(step))
    assert told == [("teacher", done, 3) for done in (1, 2, 3)] + [("students", 1, 1)]
    assert teacher.model.passes == 3


def test_files_are_refused_before_the_first_is_read_if_their_features_do_not_fit(tmp_path):
    for place in range(2):
        write_png(tmp_path / f"{place}.png", picture(place))
    teacher = counting_teacher()
    with pytest.raises(TrainingError, match="the features of 2 images need"):
        Detector(teacher=teacher, resolution=64, cache_limit_gb=1e-7).fit(sorted(tmp_path.iterdir()))
    assert teacher.model.passes == 0


def test_an_exported_detector_takes_the_same_forms(tmp_path):
    interface = Interface(
        image_size=SIZE,
        patch_size=8,
        settings=DetectorSettings(teacher="builtin", image_bits=12),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        good_level=None,
    )
    red = ExportedDetector(interface, lambda batch: (batch[..., 0].astype(np.float32), np.ones(1, np.float32)))
    pixels = picture()
    forms = {name: form for name, form in forms_of(pixels, tmp_path).items() if "16 bits" not in name}
    for (name, form), many in zip(forms.items(), red.predict_many(forms.values()), strict=True):
        assert np.array_equal(red.predict(form).anomaly_map, pixels[..., 0]), name
        assert np.array_equal(many.anomaly_map, pixels[..., 0]), name
    assert red.predict(np.full(SIZE, 4095, np.uint16)).anomaly_map.max() == 255  # 12 bits
    assert np.array_equal(red.predict(pixels, channels="bgr").anomaly_map, pixels[..., 2])
    with pytest.raises(ImageReadError, match="a single image"):
        red.predict_many(pixels)


def test_images_of_a_generator_are_drawn_one_by_one():
    drawn = []
    images = Images(drawn.append(place) or picture(place) for place in range(3))
    for number, _ in enumerate(images, start=1):
        assert len(drawn) == number


def test_an_image_that_is_right_already_is_not_copied():
    pixels = picture()
    assert as_image(pixels) is pixels or np.shares_memory(as_image(pixels), pixels)


def test_a_detector_says_what_it_is_in_one_line():
    detector = Detector(teacher="builtin", resolution=512)
    assert repr(detector) == "Detector(teacher='builtin', resolution=512): not fitted"
    tiles = Detector(teacher="builtin", tile=512, stride=4)
    assert repr(tiles) == "Detector(teacher='builtin', resolution='native', tile=512, stride=4): not fitted"
    assert repr(fitted(epochs=1)).endswith("resolution=64): fitted on 4 images, 1 epoch")
    assert repr(Detector(preset="published", teacher="builtin")).endswith("preset='published'): not fitted")


def test_a_sample_of_a_prediction_is_at_its_own_size(detector, tmp_path):
    prediction = detector.predict(forms_of(picture(), tmp_path)["sample"])
    assert isinstance(prediction, Prediction)
    assert prediction.anomaly_map.shape == SIZE
