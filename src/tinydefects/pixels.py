"""Pixels on disk: images, masks and anomaly maps, read at full size and written whole or not at all.

Pillow cuts 16-bit RGB to 8 bits and saturates 16-bit gray without a word, so depth is looked up before it decodes.
EXIF orientation is applied to images and masks alike. Nothing here ever changes a size.
"""

import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tinydefects.errors import ImageReadError, MissingExtraError, TinyDefectsError
from tinydefects.opening import (
    HEADER_BYTES,
    PILLOW_LIMIT,
    PNG_DEPTH_AT,
    file_kind,
    naming,
    open_image,
    reason_of,
    require_bounded,
)

MaskRule = Literal["nonzero", "above_127"]
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FAITHFUL_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I", "F"})
PIXELS_AT_ONCE = 1 << 22  # of a large image that changes its type
ORIENTATION_TAG = 0x0112
PNG_16_BIT_COLOUR_TYPES = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}


def read_image(path: Path, bits: int = 16) -> NDArray[np.uint8]:
    """Any photograph as (H, W, 3) uint8: gray is repeated, alpha dropped.

    Values of 16-bit files are multiplied by 255 / (2**bits - 1) and rounded: `bits` says how many of the 16 they fill.

    Raises:
        ImageReadError: the file is missing, truncated, in no known format, larger than `LARGEST_IMAGE_PX`, or holds
            values that take more than `bits`.
        MissingExtraError: 16-bit colour PNG or LZW-compressed 16-bit TIFF without the extra `codecs`.
    """
    pixels = _photograph(path)
    if pixels.dtype == np.uint16:
        _require_bits(path, pixels, bits)
        pixels = _to_8_bits(pixels, bits)
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else np.ascontiguousarray(pixels)


def count_values(path: Path) -> NDArray[np.int64]:
    """(65536,) how often each value is stored in a photograph, over all its colours; alpha does not count.

    Raises:
        ImageReadError, MissingExtraError: as `read_image`.
    """
    pixels, counts = _photograph(path), np.zeros(2**16, dtype=np.int64)
    for rows in _rows_at_once(pixels.shape):
        counts += np.bincount(pixels[rows].reshape(-1), minlength=2**16)
    return counts


def is_deep(path: Path) -> bool:
    """Whether a photograph has more than 8 bits a channel, from its header alone.

    Raises:
        ImageReadError: the file is missing or damaged.
    """
    with naming(path):
        kind, header = file_kind(path)
        if kind == "tiff":
            with tifffile.TiffFile(path) as file:
                dtype = file.pages.first.dtype
                return dtype is not None and dtype.itemsize > 1
        return kind == "png" and len(header) > PNG_DEPTH_AT and header[PNG_DEPTH_AT] == 16


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright image, from its header alone.

    Raises:
        ImageReadError: the file is missing, damaged, in no known format or larger than `LARGEST_IMAGE_PX`.
    """
    with naming(path), open_image(path) as image:
        turned = _orientation(image, path) in {5, 6, 7, 8}
        return (image.width, image.height) if turned else (image.height, image.width)


def read_mask(path: Path, rule: MaskRule = "nonzero") -> NDArray[np.bool_]:
    """A ground-truth mask as (H, W) bool at its own size; a pixel of several channels counts if any of them does."""
    pixels = _decode(path)
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(axis=2) if pixels.shape[2] != 2 else pixels[..., 0]
    return np.asarray(pixels.astype(np.int64) > (127 if rule == "above_127" and pixels.dtype != np.bool_ else 0))


def write_map(path: Path, anomaly_map: NDArray[np.float32], *, description: str = "") -> None:
    """A 32-bit float TIFF, zlib without predictor (readable by Pillow, OpenCV and tifffile alike)."""
    scores = anomaly_map.astype(np.float32, copy=False)
    write_whole(
        path,
        lambda file: tifffile.imwrite(file, scores, compression="zlib", description=description, metadata=None),
    )


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]) -> None:
    """A lossless PNG of (H, W) or (H, W, 3) pixels; bool becomes 0 and 255.

    Compression level 1: a tenth larger than the default and several times quicker on photographs.
    """
    stored = pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == np.bool_ else pixels
    write_whole(path, lambda file: Image.fromarray(stored).save(file, format="PNG", compress_level=1))


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a temporary neighbour, then rename it: a killed process leaves no half-written file.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                write(file)
                file.close()
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        reason = f"cannot write ({reason_of(error)})"
        raise TinyDefectsError(f"{path}: {reason}; free space or choose another folder") from error


def _decode(path: Path) -> NDArray[np.generic]:
    """The stored pixels, (H, W) or (H, W, C), bool, uint8 or uint16, EXIF orientation applied."""
    with naming(path):
        kind, _ = file_kind(path)
        decode_deep = {"tiff": _decode_deep_tiff, "png": _decode_deep_png}.get(kind)
        deep = None if decode_deep is None else decode_deep(path)
        return _decode_with_pillow(path) if deep is None else deep


def _photograph(path: Path) -> NDArray[Any]:
    """The stored pixels without alpha: gray (H, W), or the first three channels (H, W, 3)."""
    pixels: NDArray[Any] = _decode(path)
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise ImageReadError(f"{path}: pixels are {pixels.dtype}; save the image with 8 or 16 bits a channel")
    return pixels


def _require_bits(path: Path, pixels: NDArray[np.generic], bits: int) -> None:
    highest, largest = 2**bits - 1, int(pixels.max()) if bits < 16 else 0
    if largest > highest:
        raise ImageReadError(
            f"{path}: its values reach {largest:,}, beyond the {bits} bits (at most {highest:,}) that were found "
            "on the training photographs or given; fit again with photographs like this one, or with --image-bits "
            f"{largest.bit_length()}"
        )


def _to_8_bits(pixels: NDArray[np.generic], bits: int) -> NDArray[np.uint8]:
    """Values (H, W, …) up to 2**bits - 1 by a table, a few rows at a time: indices take eight bytes each."""
    table, scaled = _table_to_8_bits(bits), np.empty(pixels.shape, dtype=np.uint8)
    for rows in _rows_at_once(pixels.shape):
        scaled[rows] = table[pixels[rows]]
    return scaled


@lru_cache(maxsize=4)
def _table_to_8_bits(bits: int) -> NDArray[np.uint8]:
    table: NDArray[np.uint8] = np.rint(np.arange(2**bits) * (255 / (2**bits - 1))).astype(np.uint8)
    return table


def _rows_at_once(shape: tuple[int, ...]) -> Iterator[slice]:
    step = max(1, PIXELS_AT_ONCE // max(1, shape[1]))
    return (slice(top, min(top + step, shape[0])) for top in range(0, shape[0], step))


def _decode_with_pillow(path: Path) -> NDArray[np.generic]:
    # As an open file: a raw TIFF of that path Pillow 13 maps at its stored width, and scrambles it when it is turned.
    with path.open("rb") as file, open_image(file) as image:
        orientation, pixels = _orientation(image, path), _pixels_of(image)
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() < 2**16:
        pixels = pixels.astype(np.uint16)
    return _upright(pixels, orientation)


def _pixels_of(image: Image.Image) -> NDArray[np.generic]:
    """The pixels of an opened image, a few rows at a time: on its way to NumPy, Pillow copies what it converts."""
    mode = image.mode
    if mode not in FAITHFUL_MODES:  # palette, CMYK, YCbCr, …
        mode = "RGBA" if image.has_transparency_data else "RGB"
    with PILLOW_LIMIT.lifted():  # a TIFF is measured once more
        image.load()
    whole: NDArray[np.generic] | None = None
    for rows in _rows_at_once((image.height, image.width)):
        part = image if rows == slice(0, image.height) else image.crop((0, rows.start, image.width, rows.stop))
        pixels = np.asarray(part if part.mode == mode else part.convert(mode))
        if whole is None:
            whole = np.empty((image.height, *pixels.shape[1:]), dtype=pixels.dtype.newbyteorder("="))
        whole[rows] = pixels
    if whole is None:
        raise ValueError("it holds no pixel")
    return whole


def _decode_deep_tiff(path: Path) -> NDArray[np.generic] | None:
    """16-bit TIFF through tifffile; None for what Pillow reads faithfully."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.dtype != np.uint16:
            return None
        require_bounded(path, (page.imagelength, page.imagewidth))
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                raise MissingExtraError(f"{path}: this compression of 16-bit TIFF", "codecs") from error
            raise
        orientation = page.tags.get(ORIENTATION_TAG)
        channels_first = page.axes == "SYX"
    pixels = np.moveaxis(pixels, 0, -1) if channels_first else pixels
    return _upright(pixels, 1 if orientation is None else int(orientation.value))


def _decode_deep_png(path: Path) -> NDArray[np.generic] | None:
    """16-bit PNG with colour or alpha through imagecodecs; None for what Pillow reads faithfully."""
    kind, header = file_kind(path)
    if kind != "png" or len(header) < HEADER_BYTES:
        return None
    width, height, depth, colour_type = struct.unpack(">IIBB", header[16:])
    if depth != 16 or colour_type not in PNG_16_BIT_COLOUR_TYPES:
        return None
    require_bounded(path, (height, width))
    try:
        import imagecodecs
    except ImportError as error:
        raise MissingExtraError(f"{path}: 16-bit {PNG_16_BIT_COLOUR_TYPES[colour_type]} PNG", "codecs") from error
    pixels: NDArray[np.generic] = imagecodecs.png_decode(path.read_bytes())
    return _upright(pixels, _png_orientation(path))


def _orientation(image: Image.Image, path: Path) -> int:
    """What is still to be undone after Pillow: it turns a TIFF by itself and reports its upright size."""
    if image.format == "TIFF":
        return 1
    return _png_orientation(path) if image.format == "PNG" else int(image.getexif().get(ORIENTATION_TAG, 1))


def _png_orientation(path: Path) -> int:
    """From the chunks alone: the eXIf chunk may come last, and Pillow decodes every pixel to get there."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"eXIf":
                exif = Image.Exif()
                exif.load(file.read(length))
                return int(exif.get(ORIENTATION_TAG, 1))
            file.seek(length + 4, os.SEEK_CUR)
    return 1


def _upright(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """EXIF orientations 1 to 8 (JEITA CP-3451, tag 0x0112) undone."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels
