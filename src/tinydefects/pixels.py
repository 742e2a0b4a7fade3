"""Pixels on disk: images, masks and anomaly maps, read at full size and written whole or not at all.

Pillow cuts 16-bit RGB to 8 bits and saturates 16-bit gray without a word, so depth is looked up before it decodes.
EXIF orientation is applied to images and masks alike. Nothing here ever changes a size.
"""

import io
import os
import struct
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tinydefects.errors import ImageReadError, MissingExtraError, TinyDefectsError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
FAITHFUL_MODES = frozenset({"1", "L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I", "F"})
ORIENTATION_TAG = 0x0112
TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
PNG_16_BIT_COLOUR_TYPES = {2: "RGB", 4: "gray with alpha", 6: "RGBA"}
LOSSY_FORMATS = frozenset({"JPEG", "MPO"})
LOSSY_TIFF_COMPRESSIONS = frozenset(
    {6, 7, 33003, 33004, 33005, 34712, 34892, 50001}
)  # JPEG, JPEG 2000, lossy DNG, WebP


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
        page = _tiff_page(path) if isinstance(error, UnidentifiedImageError) else None
        if page is not None:
            turned = _tiff_orientation(page) in {5, 6, 7, 8}
            return (page.imagewidth, page.imagelength) if turned else (page.imagelength, page.imagewidth)
        raise ImageReadError(f"{path}: not a readable image ({_reason(error)}); copy or export it again") from error


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
        reason = f"cannot write ({_reason(error)})"
        raise TinyDefectsError(f"{path}: {reason}; free space or choose another folder") from error


def _decode(path: Path) -> NDArray[np.generic]:
    """The stored pixels, (H, W) or (H, W, C), bool, uint8 or uint16, EXIF orientation applied."""
    if not path.is_file():
        raise ImageReadError(f"{path}: no such file; check the dataset root and the spelling")
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
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


def _decode_with_pillow(path: Path, *, writable: bool = True) -> NDArray[np.generic]:
    # Opened from bytes: Pillow 13 maps a raw TIFF from disk at its stored width and so scrambles it when it is turned.
    source = io.BytesIO(path.read_bytes()) if path.suffix.lower() in TIFF_SUFFIXES else path
    with _open(source) as image:
        orientation = _orientation(image, path)
        if image.mode not in FAITHFUL_MODES:  # palette, CMYK, YCbCr, …
            faithful = image.convert("RGBA" if image.has_transparency_data else "RGB")
        else:
            faithful = image
        pixels = np.asarray(faithful)
    if pixels.dtype == np.int32 and pixels.min() >= 0 and pixels.max() < 2**16:
        pixels = pixels.astype(np.uint16)
    return _upright(pixels.astype(pixels.dtype.newbyteorder("="), copy=writable), orientation)


def _decode_deep_tiff(path: Path) -> NDArray[np.generic] | None:
    """16-bit TIFF through tifffile; None for what Pillow reads faithfully."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        return _pixels_of(page, path) if page.dtype == np.uint16 else None


def _tiff_page(path: Path) -> tifffile.TiffPage | None:
    """The header of the first page of a TIFF, of types that Pillow does not know, too; None of what is no TIFF."""
    try:
        with tifffile.TiffFile(path) as file:
            return file.pages.first
    except Exception:  # decoders raise whatever they like on damaged files
        return None


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ORIENTATION_TAG)
    return 1 if tag is None else int(tag.value)


def _pixels_of(page: tifffile.TiffPage, path: Path) -> NDArray[np.generic]:
    """The pixels of a TIFF page by tifffile, upright."""
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" in str(error):
            raise MissingExtraError(f"{path}: this compression of a deep TIFF", "codecs") from error
        raise
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    return _upright(pixels, _tiff_orientation(page))


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
    if not path.is_file():
        raise ImageReadError(f"{path}: no such file; check the dataset root and the spelling")
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            return _stored_in_tiff(path)
        deep = _decode_deep_png(path) if path.suffix.lower() == ".png" else None
        return StoredPixels(pixels=deep) if deep is not None else _stored_by_pillow(path)
    except TinyDefectsError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageReadError(f"{path}: not a readable image ({_reason(error)}); copy or export it again") from error


def read_orientation(path: Path) -> int:
    """EXIF orientation of a file, 1 to 8; 1, upright, where it says none.

    Raises:
        ImageReadError: the file is missing or in no known format.
    """
    page = _tiff_page(path) if path.suffix.lower() in TIFF_SUFFIXES else None
    try:
        if page is not None:
            found = _tiff_orientation(page)
        else:
            with _open(path) as image:
                found = _orientation(image, path)
    except TinyDefectsError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageReadError(f"{path}: not a readable image ({_reason(error)}); copy or export it again") from error
    return found if 1 <= found <= 8 else 1


def is_lossy(path: Path) -> bool:
    """Whether the values in a readable file may differ from those that were written, from its header alone."""
    page = _tiff_page(path) if path.suffix.lower() in TIFF_SUFFIXES else None
    if page is not None:
        return int(page.compression) in LOSSY_TIFF_COMPRESSIONS
    with _open(path) as image:
        if image.format != "WEBP":
            return image.format in LOSSY_FORMATS
    with path.open("rb") as file:
        return b"VP8L" not in file.read(1 << 12)  # the chunk of lossless pixels


def _stored_by_pillow(path: Path) -> StoredPixels:
    with _open(path) as image:
        n_pages = getattr(image, "n_frames", 1)
        if image.mode != "P":
            pixels, palette = _decode_with_pillow(path, writable=False), None
        else:
            colours = image.getpalette("RGB") or []
            palette = np.array(colours, dtype=np.uint8).reshape(-1, 3)
            pixels = _upright(np.asarray(image), _orientation(image, path))
    return StoredPixels(pixels=pixels, palette=palette, is_lossy=is_lossy(path), n_pages=n_pages)


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
        return StoredPixels(pixels=_pixels_of(page, path), is_lossy=lossy, n_pages=n_pages)
