"""One anomaly map in one file: TIFF, npy, npz or gray PNG, of floats or integers, read as float32; and what it is of.

Headers are read apart from pixels, so that a thousand maps are checked in a second before the first is scored.

The text stored with a map says of which photograph it was made and by whom; it answers for no other. A photograph is
known by the sha256 of its file, and where that differs (saved again without loss) by that of its pixels. A file that
nobody has touched since is not even read: size, inode and both times of change tell.
"""

import hashlib
import json
import os
import time
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tinydefects.data.json_files import parse_json
from tinydefects.data.opening import LARGEST_IMAGE_PX, open_image
from tinydefects.data.pixels import write_whole
from tinydefects.data.sample import Sample
from tinydefects.errors import ImageReadError, MissingExtraError, SettingsError, TinyDefectsError

MAP_SUFFIXES = (".tiff", ".tif", ".npy", ".npz", ".png")
NAMED_ARRAY = "anomaly_map"  # the array of an .npz that is meant when it holds several
PNG_TYPES = {"1": "bool", "L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32"}
PNG_STEP = 2.0**-14  # of a map: 65,535 steps reach 4, the highest value of a detector's map
HIGHEST_IN_PNG = 4.0
STEP_TEXT, DESCRIPTION_TEXT = "tinydefects map step", "Description"  # names of texts in a PNG
T = TypeVar("T")
_Header: TypeAlias = tuple[tuple[int, ...], str | np.dtype[Any], str]  # shape, type, description
BYTES_AT_ONCE = 1 << 20
SETTLED_SECONDS = 2.0  # a file that changed later than this may change again without a new time of change


@dataclass(frozen=True, slots=True, kw_only=True)
class MapHeader:
    """What a file says of its map: (H, W), the type of its numbers, and the text stored with it (TIFF, PNG)."""

    size: tuple[int, int]
    dtype: str
    description: str = ""


def read_header(path: Path, key: str | None = None) -> MapHeader:
    """Size and type of a map without its pixels; `key` names the array of an `.npz`.

    Raises:
        ImageReadError: the file is missing, truncated, unreadable or holds something else than one map.
        MissingExtraError: a compression that needs the extra `codecs`.
    """
    shape, dtype, description = _tried(path, lambda: _HEADERS[path.suffix.lower()](path, key))
    size = tuple(shape) if len(shape) == 2 else tuple(length for length in shape if length != 1)
    if len(size) != 2 or 0 in size or np.dtype(dtype).kind not in "fiu":
        raise ImageReadError(
            f"{path}: this file holds {dtype} of shape {tuple(shape)}, an anomaly map is (height, width) numbers; "
            "write one map a file"
        )
    if size[0] * size[1] > LARGEST_IMAGE_PX:
        raise ImageReadError(f"{path}: says it is {size[0]} x {size[1]} pixels, too many to be true; write it again")
    return MapHeader(size=(size[0], size[1]), dtype=str(np.dtype(dtype).newbyteorder("=")), description=description)


def read_map(path: Path, key: str | None = None) -> NDArray[np.float32]:
    """An anomaly map as (H, W) float32; axes of length one around it are dropped.

    Nothing is scaled but a PNG that says by what, see `write_map_png`.

    Numbers beyond float32 become infinite, and are refused where a `Prediction` is made of them.

    Raises:
        ImageReadError, MissingExtraError: as `read_header`.
    """
    header = read_header(path, key)
    scores = _tried(path, lambda: _PIXELS[path.suffix.lower()](path, key))
    with np.errstate(over="ignore"):
        return np.asarray(scores.reshape(header.size).astype(np.float32, copy=False))


def resample_bilinear(anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The map at another (H, W): bilinear, centre-aligned (corners are not pinned), in float32.

    Enlarging interpolates between the four neighbours and repeats the border. Shrinking is Pillow's: the triangle is
    widened by the ratio, so every pixel of the larger map counts (antialiasing), which lowers the peaks of tiny spots.
    """
    resampled = Image.fromarray(np.ascontiguousarray(anomaly_map)).resize(
        (size[1], size[0]), Image.Resampling.BILINEAR, reducing_gap=None
    )
    return np.array(resampled)


def _tried(path: Path, read: Callable[[], T]) -> T:
    """What `read` gives, any failure of a decoder as one error that names the file."""
    if not path.is_file():
        raise ImageReadError(f"{path}: not a readable anomaly map (no such file); write it again")
    try:
        return read()
    except TinyDefectsError:
        raise
    except Exception as error:  # decoders raise whatever they like on damaged files
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        if "imagecodecs" in reason:
            raise MissingExtraError(f"{path}: this compression", "codecs") from error
        if isinstance(error, KeyError) and path.suffix.lower() not in _HEADERS:
            reason = f"expected {', '.join(MAP_SUFFIXES)}"
        raise ImageReadError(f"{path}: not a readable anomaly map ({reason}); write it again") from error


def _tiff_header(path: Path, key: str | None) -> _Header:
    with tifffile.TiffFile(path) as file:
        page, series = file.pages.first, file.series[0]
        ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > path.stat().st_size:
            raise ValueError("it is truncated")
        return series.shape, series.dtype, page.description


def _npy_header(path: Path, key: str | None) -> _Header:
    with path.open("rb") as file:
        shape, dtype = _array_header(file)
        if file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object)) > path.stat().st_size:
            raise ValueError("it is truncated")
        return shape, dtype, ""


def _npz_header(path: Path, key: str | None) -> _Header:
    with zipfile.ZipFile(path) as archive, archive.open(f"{_array_name(archive, path, key)}.npy") as file:
        return *_array_header(file), ""


def _png_header(path: Path, key: str | None) -> _Header:
    with open_image(path) as image:
        if image.mode not in PNG_TYPES:
            raise ValueError(f"a colour picture ({image.mode}), not a map")
        return (image.height, image.width), PNG_TYPES[image.mode], str(image.info.get(DESCRIPTION_TEXT, ""))


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _array_name(archive: zipfile.ZipFile, path: Path, key: str | None) -> str:
    """The array asked for, else the one named `NAMED_ARRAY`, else the only one."""
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    wanted = key or (names[0] if len(names) == 1 else NAMED_ARRAY)
    if wanted not in names:
        raise ImageReadError(f"{path}: holds no array {wanted!r} but {', '.join(names)}; name the right one (--key)")
    return wanted


def _npz_pixels(path: Path, key: str | None) -> NDArray[np.generic]:
    with zipfile.ZipFile(path) as archive, closing(np.load(path, allow_pickle=False)) as arrays:
        return np.asarray(arrays[_array_name(archive, path, key)])


def _png_pixels(path: Path, key: str | None) -> NDArray[np.generic]:
    with open_image(path) as image:
        step, stored = image.info.get(STEP_TEXT), np.asarray(image)
        return stored if step is None else stored * np.float32(step)


def write_map_png(path: Path, anomaly_map: NDArray[np.float32], *, description: str = "") -> None:
    """A map with values in [0, 4] as 16-bit gray PNG, in steps of `PNG_STEP`: a tenth of a TIFF's bytes.

    Raises:
        SettingsError: it has other values.
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    steps, texts = _in_steps(anomaly_map), PngInfo()
    texts.add_text(STEP_TEXT, repr(PNG_STEP))
    texts.add_text(DESCRIPTION_TEXT, description)
    write_whole(path, lambda file: Image.fromarray(steps).save(file, format="PNG", compress_level=3, pnginfo=texts))


def as_in_png(anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map that `read_map` gives after `write_map_png`: at most half a step off, a whole one at 4.

    Raises:
        SettingsError: as `write_map_png`.
    """
    return _in_steps(anomaly_map) * np.float32(PNG_STEP)


def _in_steps(anomaly_map: NDArray[np.float32]) -> NDArray[np.uint16]:
    lowest, highest = float(anomaly_map.min()), float(anomaly_map.max())
    if lowest < 0 or highest > HIGHEST_IN_PNG:
        raise SettingsError(
            f"a map with values from {lowest:.4g} to {highest:.4g}: 16-bit PNG holds 0 to {HIGHEST_IN_PNG:g}; write "
            "tiff (--maps tiff)"
        )
    steps: NDArray[np.uint16] = np.minimum(np.rint(anomaly_map / np.float32(PNG_STEP)), 65_535).astype(np.uint16)
    return steps


_HEADERS: dict[str, Callable[[Path, str | None], _Header]] = {
    ".tiff": _tiff_header,
    ".tif": _tiff_header,
    ".npy": _npy_header,
    ".npz": _npz_header,
    ".png": _png_header,
}
_PIXELS: dict[str, Callable[[Path, str | None], NDArray[np.generic]]] = {
    ".tiff": lambda path, _: tifffile.imread(path),
    ".tif": lambda path, _: tifffile.imread(path),
    ".npy": lambda path, _: np.load(path, allow_pickle=False),
    ".npz": _npz_pixels,
    ".png": _png_pixels,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Photograph:
    """Which photograph: sha256 of its file and of its pixels; `stamp` is that of a file at rest, else empty."""

    file_sha256: str
    pixels_sha256: str
    stamp: str = ""

    def is_of(self, sample: Sample) -> bool:
        """Whether the photograph of this sample has these very pixels now.

        Raises:
            ImageReadError: it cannot be read.
        """
        if self.stamp and self.stamp == _stamp(sample.image_path):
            return True
        return self.file_sha256 == file_sha256(sample.image_path) or self.pixels_sha256 == pixels_sha256(sample.image())


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The photograph of a map, and its maker: a detector's fingerprint and its settings, or a method by name."""

    photograph: Photograph
    made_by: Mapping[str, object]


def read_photograph(sample: Sample) -> tuple[NDArray[np.uint8], Photograph]:
    """The (H, W, 3) pixels of a sample and what they are known by, both of one and the same file.

    Raises:
        ImageReadError: it cannot be read, or was written to meanwhile.
        MissingExtraError: as `read_image`.
    """
    path = sample.image_path
    before = _state(path)
    digest, image = file_sha256(path), sample.image()
    if _state(path) != before:
        raise ImageReadError(f"{path}: was written to while it was read; run again once it is whole")
    return image, Photograph(file_sha256=digest, pixels_sha256=pixels_sha256(image), stamp=_stamp(path))


def describe_sample(sample: Sample) -> str:
    """One line of all that a sample says, and of the bytes of its photograph and its truth, but not of where they lie.

    Raises:
        ImageReadError: a file cannot be read.
    """
    facts = (sample.id, sample.label, sample.group, sample.mask_rule, sorted(sample.allowed))
    digests = [file_sha256(path) for path in (sample.image_path, *sample.truth_files())]
    return f"{facts} {digests}\n"


def file_sha256(path: Path) -> str:
    """Of a file's bytes.

    Raises:
        ImageReadError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while part := file.read(BYTES_AT_ONCE):
                digest.update(part)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def pixels_sha256(image: NDArray[np.uint8]) -> str:
    """Of an image's shape and its pixels."""
    digest = hashlib.sha256(f"{image.shape}".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def describe_map(score: float, origin: Origin | None) -> str:
    """The text stored with a map, JSON: its image score, and what it was made of where that is known."""
    return json.dumps({"score": score, **(asdict(origin) if origin else {})})


def origin_in(description: str) -> Origin | None:
    """What `describe_map` wrote; None for maps of other programs, which do not say."""
    try:
        stored = parse_json(description)
        known = {name: str(text) for name, text in stored["photograph"].items()}
        return Origin(photograph=Photograph(**known), made_by=dict(stored["made_by"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _state(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)


def _stamp(path: Path) -> str:
    """The state of a file at rest; empty for one that has just changed, or where the system keeps no time of change."""
    state = _state(path)
    at_rest = time.time() - max(state[2:]) / 1e9 > SETTLED_SECONDS
    return " ".join(map(str, state)) if at_rest and os.name == "posix" else ""


def _unreadable(path: Path, error: OSError) -> ImageReadError:
    return ImageReadError(f"{path}: cannot be read ({error.strerror}); check the path and its rights")
