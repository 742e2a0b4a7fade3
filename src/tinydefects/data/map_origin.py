"""What a map was made of: its photograph and who made it, in the text stored with the map; it answers for no other.

A photograph is known by the sha256 of its file, and where that differs (saved again without loss) by that of its
pixels. A file that nobody has touched since is not even read: size, inode and both times of change tell.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.json_files import parse_json
from tinydefects.data.sample import Sample
from tinydefects.errors import ImageReadError

BYTES_AT_ONCE = 1 << 20
SETTLED_SECONDS = 2.0  # a file that changed later than this may change again without a new time of change


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
    """One line of all that a sample says, and of the bytes of its photograph and its masks, but not of where they lie.

    Raises:
        ImageReadError: a file cannot be read.
    """
    facts = (sample.id, sample.label, sample.group, sample.mask_rule, sorted(sample.allowed))
    digests = [file_sha256(path) for path in (sample.image_path, *sample.mask_paths)]
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
