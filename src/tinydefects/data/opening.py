"""Opening an image file: what it is by its content, of any size up to ours, and one error that names it.

Pillow's own limit of size is lifted for as long as it reads an image of ours; ours stands in `LARGEST_IMAGE_PX`.
"""

import math
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tinydefects.errors import ImageReadError, TinyDefectsError

LARGEST_IMAGE_PX = 2**30  # 3 GiB as colours: beyond any camera, but not beyond a damaged header
HEADER_BYTES, PNG_DEPTH_AT = 26, 24  # of a PNG
ORIENTATION_TAG = 0x0112
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class PillowLimit:
    """A global of Pillow's; of threads that lift it at once the first one remembers and the last one restores it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._known: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """For as long as the block runs, images of any size are read."""
        with self._lock:
            if not self._n_inside:
                self._known, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._n_inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_inside -= 1
                if not self._n_inside:
                    Image.MAX_IMAGE_PIXELS = self._known


PILLOW_LIMIT = PillowLimit()


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """An image of which the header is read, by Pillow; of any size up to `LARGEST_IMAGE_PX`.

    Raises:
        ImageReadError: it is larger, or there is no such file. Other faults are raised as Pillow does.
    """
    if isinstance(source, Path):
        require_file(source)
    with PILLOW_LIMIT.lifted():
        image = Image.open(source)
    try:
        require_bounded(source if isinstance(source, Path) else Path(source.name), image.size[::-1])
    except ImageReadError:
        image.close()
        raise
    return image


def require_bounded(path: Path, size: tuple[int, ...]) -> None:
    """Refuse an image (H, W, …) that is too large, before memory is spent on it.

    Raises:
        ImageReadError: it has more pixels than `LARGEST_IMAGE_PX`.
    """
    if math.prod(size[:2]) > LARGEST_IMAGE_PX:
        raise ImageReadError(
            f"{path}: says it is {size[0]:,} x {size[1]:,} pixels, more than the {LARGEST_IMAGE_PX:,} that are read; "
            "cut it into parts, or export it again if it is smaller"
        )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Whatever a decoder raises as one error that names the file."""
    require_file(path)
    try:
        yield
    except (TinyDefectsError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        raise ImageReadError(f"{path}: not a readable image ({reason_of(error)}); copy or export it again") from error


def require_file(path: Path) -> None:
    """Raise an ImageReadError unless there is such a file."""
    if not path.is_file():
        raise ImageReadError(f"{path}: no such file; check the dataset root and the spelling")


def file_kind(path: Path) -> tuple[str, bytes]:
    """`png`, `tiff` or nothing, by the content whatever the name, and the first bytes."""
    with path.open("rb") as file:
        header = file.read(HEADER_BYTES)
    if header.startswith(PNG_SIGNATURE) and header[12:16] == b"IHDR":
        return "png", header
    return ("tiff" if header.startswith(TIFF_SIGNATURES) else ""), header


def reason_of(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, UnidentifiedImageError):  # its own words name the file once more, or an object in memory
        return "no known image format"
    return (str(error).splitlines() or [type(error).__name__])[0] or type(error).__name__


def read_orientation(path: Path) -> int:
    """EXIF orientation of a file, 1 to 8; 1, upright, where it says none."""
    with naming(path):
        if file_kind(path)[0] == "tiff":
            with tifffile.TiffFile(path) as file:
                found = tiff_orientation(file.pages.first)
        else:
            with open_image(path) as image:
                found = orientation_of(image, path)
    return found if 1 <= found <= 8 else 1


def orientation_of(image: Image.Image, path: Path) -> int:
    """What is still to be undone after Pillow: it turns a TIFF by itself and reports its upright size."""
    if image.format == "TIFF":
        return 1
    return png_orientation(path) if image.format == "PNG" else int(image.getexif().get(ORIENTATION_TAG, 1))


def png_orientation(path: Path) -> int:
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


def tiff_orientation(page: tifffile.TiffPage) -> int:
    """EXIF orientation of a page, as it is stored; 1 where it says none."""
    orientation = page.tags.get(ORIENTATION_TAG)
    return 1 if orientation is None else int(orientation.value)


def upright(pixels: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """EXIF orientations 1 to 8 (JEITA CP-3451, tag 0x0112) undone."""
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.swapaxes(0, 1)
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    return pixels
