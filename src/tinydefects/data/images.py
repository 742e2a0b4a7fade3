"""Whatever a program holds as an image, as the (H, W, 3) uint8 that detectors look at: one rule for all forms.

A file, a picture of Pillow's and an array of the same photograph give the same pixels: 16-bit values are scaled by the
same `bits`, EXIF orientation is undone, gray is repeated, alpha dropped.

How many of its 16 bits a camera fills is found once on the training photographs, then the same for all others. Cameras
of 10, 12 or 14 bits write files of 16, whose values end far below 65,535. Scaled by the full range such a photograph is
nearly black; scaled by its own largest value every photograph would have another brightness. So the largest value of
all training photographs decides, and a later one beyond it is refused.
"""

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinydefects.data.opening import ORIENTATION_TAG, reason_of, upright
from tinydefects.data.pixels import as_colours, count_values, is_deep, pixels_of, read_image, without_alpha
from tinydefects.data.read_ahead import memory_bytes, read_ahead
from tinydefects.data.sample import Category, Sample, reading_bytes
from tinydefects.errors import ImageReadError, TinyDefectsError

BIT_CHOICES = (8, 10, 12, 14, 16)
ALL_BITS = BIT_CHOICES[-1]
FEW_VALUES = 1e-4  # of all values: rather dead pixels and marks than parts of the photograph


@runtime_checkable
class TensorLike(Protocol):
    """A tensor as torch has them, without torch."""

    def detach(self) -> "TensorLike": ...
    def cpu(self) -> "TensorLike": ...
    def float(self) -> "TensorLike": ...


Channels = Literal["rgb", "bgr"]
ImageLike: TypeAlias = str | os.PathLike[str] | Image.Image | NDArray[Any] | TensorLike | Sample
FORMS = (
    "give a path, an image of Pillow's, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16 or floats "
    "in [0, 1], a tensor (C, H, W), or a Sample"
)


def as_image(image: ImageLike, *, bits: int = ALL_BITS, channels: Channels = "rgb") -> NDArray[np.uint8]:
    """Any image as (H, W, 3) uint8, red first; an array that is so already is returned as it is.

    Args:
        image: the path of a file; an image of Pillow's in any mode, turned upright as its EXIF data say (of 16-bit
            colour PNG Pillow itself has kept 8 bits: give the path); a NumPy array, or what makes one of itself,
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, or floats in [0, 1]; a tensor (C, H, W) of the
            same on any device; a `Sample`. Gray is repeated, alpha dropped.
        bits: how many bits 16-bit values fill, see `read_image`.
        channels: the order of colours in arrays and tensors. **OpenCV reads "bgr"**, which no number gives away; all
            others are red first. Files, images of Pillow's and samples say their order themselves.

    Raises:
        ImageReadError: it is none of these, has values beyond `bits`, or its file cannot be read.
        MissingExtraError: as `read_image`.
        TinyDefectsError: there is no such order of channels.
    """
    require_channels(channels)
    if isinstance(image, Sample):
        return read_image(image.image_path, _bits_of(image, bits))
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), bits)
    if isinstance(image, Image.Image):
        return _of_pillow(image, bits)
    pixels = _array_of(image)
    if channels == "bgr" and pixels.ndim == 3 and pixels.shape[2] >= 3:
        pixels = pixels[..., 2::-1]
    named = f"an image of {' x '.join(map(str, pixels.shape[:2]))} pixels"
    return as_colours(without_alpha(pixels, name=named), bits, name=named)


def require_channels(channels: str) -> None:
    """Raise a TinyDefectsError if there is no such order."""
    if channels not in get_args(Channels):
        raise TinyDefectsError(f"channels {channels!r}: give 'rgb', or 'bgr' for arrays that OpenCV read")


def file_of(image: object) -> Path | None:
    """Where an image is still to be read from; None of one that is in memory."""
    if isinstance(image, Sample):
        return image.image_path
    return Path(image) if isinstance(image, str | os.PathLike) else None


@dataclass(frozen=True, slots=True, eq=False)
class GivenImage:
    """An image that is to be converted: one of several, at its place from 0, or a single one."""

    image: ImageLike
    bits: int
    channels: Channels
    place: int | None = None

    @property
    def name(self) -> str:
        """What messages call it: its file, or else its place."""
        place = "the image" if self.place is None else f"image {self.place} of those given, counted from 0"
        return str(file_of(self.image) or place)

    def read(self) -> NDArray[np.uint8]:
        """As `as_image`; an error names the file, or the place of one that has none."""
        try:
            return as_image(self.image, bits=self.bits, channels=self.channels)
        except ImageReadError as error:
            if self.place is None or file_of(self.image) is not None:
                raise
            raise ImageReadError(f"{self.name}: {error}") from error

    def memory_bytes(self) -> int:
        """What it takes, or will take once it is read."""
        path = file_of(self.image)
        return memory_bytes(self.image) if path is None else reading_bytes(path)


class Images:
    """Several images in any of the forms of `as_image`; those in files are read a few ahead.

    Attributes:
        files: where they lie, if they are all files; else empty.
        in_memory: whether they are at hand, in a list or tuple, and not in files: they can be gone through twice.

    Raises:
        ImageReadError: they are a single image or a category.
        TinyDefectsError: as `as_image`.
    """

    def __init__(
        self, images: Iterable[ImageLike], *, bits: int = ALL_BITS, channels: Channels = "rgb", split: str = "test"
    ) -> None:
        require_channels(channels)
        _require_several(images, split)
        self._bits, self._channels = bits, channels
        self._length = operator.length_hint(images)
        self._images = _listed(images)
        self._at_hand = self._images if isinstance(self._images, list | tuple) else ()
        paths = [path for path in map(file_of, self._at_hand) if path is not None]
        self.files = paths if len(paths) == len(self._at_hand) else []
        self.in_memory = bool(self._at_hand) and not paths

    def __length_hint__(self) -> int:
        """How many, where that is known; else 0."""
        return len(self._at_hand) or self._length

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """(H, W, 3) uint8 each."""
        given = self.given()
        return read_ahead(GivenImage.read, given) if self.files else map(GivenImage.read, given)

    def given(self) -> Iterator[GivenImage]:
        """One after the other, drawn as they are needed, before they are read."""
        for place, image in enumerate(self._images):
            yield GivenImage(image, self._bits, self._channels, place)

    def name_of(self, place: int) -> tuple[str, str | None]:
        """What to call the image at a place, from 0, and the part it shows where its sample says so."""
        image = self._at_hand[place] if self._at_hand else None
        if isinstance(image, Sample):
            return image.id, image.group
        path = file_of(image)
        return (f"image {place}" if path is None else str(path)), None

    def require_good(self) -> None:
        """Raise an ImageReadError if a sample says that it is defective: nobody learns from it unasked."""
        for image in self._at_hand:
            if isinstance(image, Sample) and image.label == "defect":
                raise ImageReadError(f"{image.image_path}: its sample is labelled defect; fit learns from good ones")


def _require_several(images: object, split: str) -> None:
    if isinstance(images, Category):
        raise ImageReadError(f"{images.id} is a category, not its images: give category.{split}")
    path = file_of(images)
    if path is not None and path.is_dir():
        raise ImageReadError(f"{path}: is a folder; give a list of the files in it")
    if path is not None or isinstance(images, Image.Image) or getattr(images, "ndim", 0) in {2, 3}:
        raise ImageReadError("this is a single image; several are expected: give a list, of one: [image]")
    if not isinstance(images, Iterable):
        raise ImageReadError(f"these are no images but of type {type(images).__name__}: give a list of images")


def _listed(images: Iterable[ImageLike]) -> Iterable[ImageLike]:
    """Paths and samples as a list, wherever they come from; anything else as it came, drawn as it is needed."""
    if isinstance(images, list | tuple):
        return images
    drawn = iter(images)
    first = list(islice(drawn, 1))
    if first and file_of(first[0]) is not None:
        return [*first, *drawn]
    return chain(first, drawn)


def _bits_of(sample: Sample, bits: int) -> int:
    if sample.image_bits not in {ALL_BITS, bits}:
        raise ImageReadError(
            f"{sample.image_path}: its sample says image_bits {sample.image_bits}, the detector {bits}; "
            f"give the detector the same: Detector(image_bits={sample.image_bits})"
        )
    return bits


def _of_pillow(image: Image.Image, bits: int) -> NDArray[np.uint8]:
    named = getattr(image, "filename", "") or f"an image of Pillow's, mode {image.mode}"
    try:
        pixels = upright(pixels_of(image), _orientation(image))
    except (TinyDefectsError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like
        raise ImageReadError(f"{named}: not readable ({reason_of(error)}); load or export it again") from error
    if pixels.dtype.kind == "f":
        pixels = _of_unit_range(pixels)
    return as_colours(without_alpha(pixels, name=named), bits, name=named)


def _orientation(image: Image.Image) -> int:
    """What is still to be undone once the pixels are loaded, by the rules that files are read by."""
    if image.format == "TIFF":
        return 1  # Pillow turns it
    exif = image.getexif()
    if image.format == "PNG":  # its eXIf chunk alone
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
    return int(exif.get(ORIENTATION_TAG, 1))


def _array_of(image: object) -> NDArray[Any]:
    """(H, W) or (H, W, C) uint8 or uint16 of an array or a tensor."""
    is_tensor = isinstance(image, TensorLike)
    if not (isinstance(image, TensorLike | np.ndarray) or hasattr(image, "__array__")):
        several = "; several images are for fit and predict_many" if isinstance(image, list | tuple) else ""
        raise ImageReadError(f"this is no image but of type {type(image).__name__}{several}; {FORMS}")
    pixels = _detached(image) if isinstance(image, TensorLike) else np.asarray(image)
    shape = pixels.shape
    if 0 in shape or not _is_shape(shape, is_tensor):
        raise ImageReadError(f"this {'tensor' if is_tensor else 'array'} is {shape}{_hint(shape, is_tensor)}; {FORMS}")
    if is_tensor:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.dtype == np.bool_:
        raise ImageReadError(f"this array of {shape} is bool, as masks are, and no image; {FORMS}")
    if pixels.dtype.kind == "f":
        return _of_unit_range(pixels)
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 2:
        raise ImageReadError(
            f"this array of {shape} is {pixels.dtype}, which says nothing of where white is: give uint8 or uint16, or "
            "floats in [0, 1]"
        )
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _detached(tensor: TensorLike) -> NDArray[Any]:
    there = tensor.detach().cpu()
    try:
        return np.asarray(there)
    except TypeError:  # bfloat16, which NumPy does not have
        return np.asarray(there.float())


def _is_shape(shape: tuple[int, ...], is_tensor: bool) -> bool:
    if len(shape) == 3:
        return shape[0 if is_tensor else 2] in {1, 3, 4}
    return len(shape) == 2 and not is_tensor


def _hint(shape: tuple[int, ...], is_tensor: bool) -> str:
    if len(shape) == 4:
        return ", several images: give them one by one"
    if len(shape) == 3 and shape[2 if is_tensor else 0] in {1, 3, 4}:
        turned = "permute(2, 0, 1)" if is_tensor else "transpose(1, 2, 0)"
        return f", channels {'last' if is_tensor else 'first'}: turn it with .{turned}"
    return ""


def _of_unit_range(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Floats in [0, 1] in steps of 1/255."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= 0 and high <= 1):
        raise ImageReadError(
            f"this array holds floats from {low:g} to {high:g}: only in [0, 1] is it clear where black and white are; "
            "undo a normalisation, or give uint8"
        )
    return np.rint(pixels * np.float32(255)).astype(np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBits:
    """What was found on photographs.

    Attributes:
        bits: that the values of 16-bit files fill, one of `BIT_CHOICES`; 8 if no file is one, 16 if there is no file.
        n_images: photographs that were looked at; `n_deep` of them have more than 8 bits a channel.
        largest: value of those, 0 without any.
        few_beyond: the fewest bits that nearly all values fit, and how many do not; None where there are no such few.
    """

    bits: int
    n_images: int
    n_deep: int
    largest: int
    few_beyond: tuple[int, int] | None = None

    def __str__(self) -> str:
        told = (
            f"{self.n_deep:,} of {self.n_images:,} training photographs have 16 bits a channel; their largest value "
            f"is {self.largest:,}, so the values of every photograph are read as {self.bits} bits "
            f"(0 to {2**self.bits - 1:,})"
        )
        if self.n_deep < self.n_images:
            told += f"; the other {self.n_images - self.n_deep:,} have 8: all are brought to one range"
        if self.few_beyond is not None:
            bits, count = self.few_beyond
            told += f"; only {count:,} values lie beyond {bits} bits: if they are dead pixels or marks, mend them first"
        return f"{told}; --image-bits sets another number"


def find_image_bits(
    samples: Sequence[Sample], *, progress: Callable[[int, int], object] = lambda done, total: None
) -> ImageBits:
    """Headers first, then every pixel of the photographs that have more than 8 bits.

    Raises:
        ImageReadError: one cannot be read.
        MissingExtraError: its compression needs the extra `codecs`.
    """
    deep = [sample for sample in samples if is_deep(sample.image_path)]
    counts = np.zeros(2**ALL_BITS, dtype=np.int64)
    for done, found in enumerate(read_ahead(lambda sample: count_values(sample.image_path), deep), start=1):
        counts += found
        progress(done, len(deep))
    beyond = {bits: int(counts[2**bits :].sum()) for bits in BIT_CHOICES}
    bits = next(bits for bits in BIT_CHOICES if not beyond[bits]) if samples else ALL_BITS
    few = next((choice for choice in BIT_CHOICES if 0 < beyond[choice] <= FEW_VALUES * counts.sum()), None)
    return ImageBits(
        bits=bits,
        n_images=len(samples),
        n_deep=len(deep),
        largest=int(np.flatnonzero(counts)[-1]) if deep else 0,
        few_beyond=None if few is None else (few, beyond[few]),
    )


def bits_to_show(category: Category, maker: Mapping[str, object]) -> int:
    """For crops and contrasts of test photographs: what the detector that made the maps took, or would have taken.

    `maker` is what `read_maker` knows of the maps. Photographs of 8 bits cost no more than their headers.

    Raises:
        ImageReadError, MissingExtraError: as `find_image_bits`.
    """
    known = maker.get("image_bits", ALL_BITS) if maker else None
    if isinstance(known, int):
        return known
    if not any(is_deep(sample.image_path) for sample in category.test):
        return ALL_BITS
    return find_image_bits(category.train or category.test).bits


def with_image_bits(samples: Sequence[Sample], bits: int) -> list[Sample]:
    """The same samples, their 16-bit values read as `bits`."""
    return [replace(sample, image_bits=bits) for sample in samples]


def category_with_image_bits(category: Category, bits: int) -> Category:
    """The same for all splits of a category."""
    return replace(
        category,
        train=with_image_bits(category.train, bits),
        test=with_image_bits(category.test, bits),
        validation=with_image_bits(category.validation, bits),
    )
