"""Pixels on disk: images, masks and anomaly maps, read at full size and written whole or not at all.

Pillow cuts 16-bit RGB to 8 bits and saturates 16-bit gray without a word, so depth is looked up before it decodes.
EXIF orientation is applied to images and masks alike. Nothing here ever changes a size.
"""

import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tinydefects.data.leftovers import present, scratch_file, sweep_once
from tinydefects.data.opening import (
    HEADER_BYTES,
    PILLOW_LIMIT,
    PNG_DEPTH_AT,
    file_kind,
    naming,
    open_image,
    orientation_of,
    png_orientation,
    reason_of,
    require_bounded,
    tiff_orientation,
    upright,
)
from tinydefects.errors import ImageReadError, MissingExtraError, TinyDefectsError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FAITHFUL_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I", "F"})
PIXELS_AT_ONCE = 1 << 22  # of a large image that changes its type
PNG_16_BIT_COLOUR_TYPES = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}
MOST_CHANNELS = 4  # RGB and alpha
LOSSY_FORMATS = frozenset({"JPEG", "MPO"})
LOSSY_TIFF_COMPRESSIONS = frozenset(
    {6, 7, 33003, 33004, 33005, 34712, 34892, 50001}
)  # JPEG, JPEG 2000, lossy DNG, WebP


def read_image(path: Path, bits: int = 16) -> NDArray[np.uint8]:
    """Any photograph as (H, W, 3) uint8: gray is repeated, alpha dropped.

    Values of 16-bit files are multiplied by 255 / (2**bits - 1) and rounded: `bits` says how many of the 16 they fill.

    Raises:
        ImageReadError: the file is missing, truncated, in no known format, larger than `LARGEST_IMAGE_PX`, or holds
            values that take more than `bits`.
        MissingExtraError: 16-bit colour PNG or LZW-compressed 16-bit TIFF without the extra `codecs`.
    """
    return as_colours(_photograph(path), bits, name=path)


def as_colours(pixels: NDArray[Any], bits: int, *, name: object) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) uint8 or uint16 as (H, W, 3) uint8, by the rule of `read_image`; errors name `name`."""
    if pixels.dtype == np.uint16:
        _require_bits(name, pixels, bits)
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
    with naming(path):
        try:
            with open_image(path) as image:
                turned = orientation_of(image, path) in {5, 6, 7, 8}
                return (image.width, image.height) if turned else (image.height, image.width)
        except UnidentifiedImageError:
            size = _tiff_size(path)
            if size is None:
                raise
            return size


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

    The file has the rights that the user's umask gives. What killed processes have left in the folder is swept. What
    stands there and is no file (/dev/null, /dev/stdout, a named pipe) is written to, never replaced.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            return _pass_on(path, write)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep_once(path.parent)
        with scratch_file(path.parent) as (file, temporary):
            write(file)
            file.flush()
            if os.name == "nt":
                file.close()  # an open file cannot be renamed there; elsewhere it stays locked until it is in its place
            temporary.replace(path)
    except OSError as error:
        raise TinyDefectsError(cannot_write(path, error)) from error


def _pass_on(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    whole = io.BytesIO()  # what is no file cannot be gone back in
    write(whole)
    with path.open("wb") as file:
        file.write(whole.getvalue())


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, before anything slow begins; nothing stays there.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    try:
        with present(folder), scratch_file(folder) as (file, _):
            file.write(b"tried")
            file.flush()
    except OSError as error:
        raise TinyDefectsError(cannot_write(folder, error)) from error


def cannot_write(path: Path, error: OSError) -> str:
    """One line for people: what stands in the way of writing there, and what to do."""
    reason = error.strerror or f"is the disk full? {reason_of(error)}"  # NumPy gives no number of the error
    return f"{path}: cannot write ({reason}); free space or choose another folder"


def _decode(path: Path) -> NDArray[np.generic]:
    """The stored pixels, (H, W) or (H, W, C), bool, uint8 or uint16, EXIF orientation applied."""
    with naming(path):
        kind, _ = file_kind(path)
        decode_deep = {"tiff": _decode_deep_tiff, "png": _decode_deep_png}.get(kind)
        deep = None if decode_deep is None else decode_deep(path)
        return _decode_with_pillow(path) if deep is None else deep


def _photograph(path: Path) -> NDArray[Any]:
    """The stored pixels without alpha: gray (H, W), or the first three channels (H, W, 3)."""
    return without_alpha(_decode(path), name=path)


def without_alpha(pixels: NDArray[Any], *, name: object) -> NDArray[Any]:
    """Gray (H, W) or the first three channels (H, W, 3) of stored pixels, uint8 or uint16; bool is 0 and 255.

    Raises:
        ImageReadError: they are of another type.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise ImageReadError(f"{name}: pixels are {pixels.dtype}; save the image with 8 or 16 bits a channel")
    return pixels


def _require_bits(name: object, pixels: NDArray[np.generic], bits: int) -> None:
    highest, largest = 2**bits - 1, int(pixels.max()) if bits < 16 else 0
    if largest > highest:
        raise ImageReadError(
            f"{name}: its values reach {largest:,}, beyond the {bits} bits (at most {highest:,}) that were found "
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
        orientation, pixels = orientation_of(image, path), pixels_of(image)
    return upright(pixels, orientation)


def pixels_of(image: Image.Image) -> NDArray[np.generic]:
    """The pixels of an opened image as they are stored, (H, W) or (H, W, C); those of a palette as colours.

    A few rows at a time: on its way to NumPy, Pillow copies what it converts.
    """
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
    if whole.dtype == np.int32 and whole.min() >= 0 and whole.max() < 2**16:
        whole = whole.astype(np.uint16)
    return whole


def _decode_deep_tiff(path: Path) -> NDArray[np.generic] | None:
    """16-bit TIFF through tifffile; None for what Pillow reads faithfully."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.dtype != np.uint16:
            return None
        if page.samplesperpixel > MOST_CHANNELS or page.imagedepth > 1:
            raise ImageReadError(
                f"{path}: holds {page.samplesperpixel} channels in {page.imagedepth} layer(s); a photograph is gray or "
                "RGB, with alpha at most: export it as one"
            )
        return _pixels_of_page(page, path)


def _tiff_size(path: Path) -> tuple[int, int] | None:
    """(H, W) of an upright TIFF of 64-bit numbers and the like, which Pillow does not know; None of other files."""
    if file_kind(path)[0] != "tiff":
        return None
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        turned = tiff_orientation(page) in {5, 6, 7, 8}
        return (page.imagewidth, page.imagelength) if turned else (page.imagelength, page.imagewidth)


def _pixels_of_page(page: tifffile.TiffPage, path: Path) -> NDArray[np.generic]:
    """The pixels of a TIFF page by tifffile, upright."""
    require_bounded(path, (page.imagelength, page.imagewidth))
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise MissingExtraError(f"{path}: this compression of a deep TIFF", "codecs") from error
        raise
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    return upright(pixels, tiff_orientation(page))


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
    return upright(pixels, png_orientation(path))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredPixels:
    """What a file holds, upright, before anybody decides what it means.

    Attributes:
        pixels: (H, W) or (H, W, C) of the stored type; of an image with a palette its indices.
        palette: (n, 3) uint8, the colours of such indices; None for all others.
        is_lossy: whether values may differ from those that were written, as in JPEG.
        n_pages: pages of a TIFF, frames of an animation; `pixels` are the first.
    """

    pixels: NDArray[np.generic]
    palette: NDArray[np.uint8] | None = None
    is_lossy: bool = False
    n_pages: int = 1


def read_stored(path: Path) -> StoredPixels:
    """The values in a file as they are, of whatever type: nothing is scaled, palettes are not resolved.

    Raises:
        ImageReadError, MissingExtraError: as `read_image`.
    """
    with naming(path):
        kind, _ = file_kind(path)
        if kind == "tiff":
            return _stored_in_tiff(path)
        deep = _decode_deep_png(path) if kind == "png" else None
        return StoredPixels(pixels=deep) if deep is not None else _stored_by_pillow(path)


def is_lossy(path: Path) -> bool:
    """Whether a file's values may differ from those that were written, from its header alone."""
    with naming(path):
        if file_kind(path)[0] == "tiff":
            with tifffile.TiffFile(path) as file:
                return int(file.pages.first.compression) in LOSSY_TIFF_COMPRESSIONS
        with open_image(path) as image:
            return _is_lossy(image, path)


def _stored_by_pillow(path: Path) -> StoredPixels:
    with open_image(path) as image:
        lossy, n_pages = _is_lossy(image, path), getattr(image, "n_frames", 1)
        if image.mode != "P":
            pixels, palette = _decode_with_pillow(path), None
        else:
            colours = image.getpalette("RGB") or []
            palette = np.array(colours, dtype=np.uint8).reshape(-1, 3)
            pixels = upright(np.asarray(image), orientation_of(image, path))
    return StoredPixels(pixels=pixels, palette=palette, is_lossy=lossy, n_pages=n_pages)


def _stored_in_tiff(path: Path) -> StoredPixels:
    """Through tifffile where Pillow would cut, wrap or refuse values; pages that are smaller views are not counted."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        n_pages = sum(not other.aspage().is_reduced for other in file.pages) if len(file.pages) > 1 else 1
        lossy = int(page.compression) in LOSSY_TIFF_COMPRESSIONS
        is_plain = page.dtype in {np.dtype(bool), np.dtype(np.uint8)}
        if is_plain or (page.dtype == np.float32 and page.samplesperpixel == 1):
            stored = _stored_by_pillow(path)
            return StoredPixels(pixels=stored.pixels, palette=stored.palette, is_lossy=lossy, n_pages=n_pages)
        return StoredPixels(pixels=_pixels_of_page(page, path), is_lossy=lossy, n_pages=n_pages)


def _is_lossy(image: Image.Image, path: Path) -> bool:
    if image.format == "WEBP":
        with path.open("rb") as file:
            return b"VP8L" not in file.read(1 << 12)  # the chunk of lossless pixels
    return image.format in LOSSY_FORMATS
