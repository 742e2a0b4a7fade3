"""Pixels on disk: images, masks and anomaly maps, read at full size and written whole or not at all.

Pillow cuts 16-bit RGB to 8 bits and saturates 16-bit gray without a word, so depth is looked up before it decodes.
EXIF orientation is applied to images and masks alike. Nothing here ever changes a size.
"""

import io
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tinydefects.errors import ImageReadError, MissingExtraError, TinyDefectsError
from tinydefects.leftovers import present, scratch_file, sweep_once

MaskRule = Literal["nonzero", "above_127"]
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FAITHFUL_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I", "F"})
ORIENTATION_TAG = 0x0112
PNG_16_BIT_COLOUR_TYPES = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}


def read_image(path: Path) -> NDArray[np.uint8]:
    """Any photograph as (H, W, 3) uint8: gray is repeated, alpha dropped, 16 bits divided by 257 and rounded.

    Raises:
        ImageReadError: the file is missing, truncated or in no known format.
        MissingExtraError: 16-bit colour PNG or LZW-compressed 16-bit TIFF without the extra `codecs`.
    """
    pixels = _decode(path)
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels.astype(np.float32) / np.float32(257)).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise ImageReadError(f"{path}: pixels are {pixels.dtype}; save the image with 8 or 16 bits a channel")
    if pixels.ndim == 2 or pixels.shape[2] < 3:
        gray = pixels if pixels.ndim == 2 else pixels[..., 0]
        return np.repeat(gray[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) of the upright image, from its header alone."""
    try:
        with _open(path) as image:
            turned = _orientation(image, path) in {5, 6, 7, 8}
            return (image.width, image.height) if turned else (image.height, image.width)
    except TinyDefectsError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageReadError(f"{path}: not a readable image ({_reason(error)}); copy or export it again") from error


def read_mask(path: Path, rule: MaskRule = "nonzero") -> NDArray[np.bool_]:
    """A ground-truth mask as (H, W) bool at its own size; a pixel of several channels counts if any of them does."""
    pixels = _decode(path)
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(axis=2) if pixels.shape[2] != 2 else pixels[..., 0]
    return np.asarray(pixels.astype(np.int64) > (127 if rule == "above_127" and pixels.dtype != np.bool_ else 0))


def write_map(path: Path, anomaly_map: NDArray[np.float32], *, description: str = "") -> None:
    """A 32-bit float TIFF, zlib without predictor (readable by Pillow, OpenCV and tifffile alike)."""
    scores = anomaly_map.astype(np.float32)
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
    reason = error.strerror or f"is the disk full? {_reason(error)}"  # NumPy gives no number of the error
    return f"{path}: cannot write ({reason}); free space or choose another folder"


def _decode(path: Path) -> NDArray[np.generic]:
    """The stored pixels, (H, W) or (H, W, C), bool, uint8 or uint16, EXIF orientation applied."""
    if not path.is_file():
        raise ImageReadError(f"{path}: no such file; check the dataset root and the spelling")
    try:
        if path.suffix.lower() in {".tif", ".tiff"}:
            deep = _decode_deep_tiff(path)
            if deep is not None:
                return deep
        if path.suffix.lower() == ".png":
            deep = _decode_deep_png(path)
            if deep is not None:
                return deep
        return _decode_with_pillow(path)
    except TinyDefectsError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageReadError(f"{path}: not a readable image ({_reason(error)}); copy or export it again") from error


def _open(source: Path | io.BytesIO) -> Image.Image:
    if isinstance(source, Path) and not source.is_file():
        raise ImageReadError(f"{source}: no such file; check the dataset root and the spelling")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # 12,000 x 8,000 is an everyday line scan
        return Image.open(source)


def _decode_with_pillow(path: Path) -> NDArray[np.generic]:
    # Opened from bytes: Pillow 13 maps a raw TIFF from disk at its stored width and so scrambles it when it is turned.
    source = io.BytesIO(path.read_bytes()) if path.suffix.lower() in {".tif", ".tiff"} else path
    with _open(source) as image:
        orientation = _orientation(image, path)
        if image.mode not in FAITHFUL_MODES:  # palette, CMYK, YCbCr, …
            faithful = image.convert("RGBA" if image.has_transparency_data else "RGB")
        else:
            faithful = image
        pixels = np.asarray(faithful)
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() < 2**16:
        pixels = pixels.astype(np.uint16)
    return _upright(pixels.astype(pixels.dtype.newbyteorder("=")), orientation)


def _decode_deep_tiff(path: Path) -> NDArray[np.generic] | None:
    """16-bit TIFF through tifffile; None for what Pillow reads faithfully."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.dtype != np.uint16:
            return None
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
    with path.open("rb") as file:
        header = file.read(26)
    if len(header) < 26 or header[12:16] != b"IHDR":
        return None
    depth, colour_type = struct.unpack("BB", header[24:26])
    if depth != 16 or colour_type not in PNG_16_BIT_COLOUR_TYPES:
        return None
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


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__
