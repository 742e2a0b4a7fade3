"""Check a folder or archive for MVTec AD 2's evaluation server, ours or anybody's, before it is uploaded."""

import math
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.pixels import read_size
from tinydefects.errors import DatasetError, ResultError
from tinydefects.submission.layout import (
    ARCHIVE_SUFFIX,
    LIGHTING_OF_SPLIT,
    MARKS,
    N_PRIVATE_IMAGES,
    SCORES,
    SUFFIX_IN,
    expected_stems,
    private_category,
)
from tinydefects.submission.scale import Float16Census

if TYPE_CHECKING:
    from tinydefects.progress import Report

Size = tuple[int, int]
NAMED = 3


@dataclass(slots=True, kw_only=True)
class SubmissionCheck:
    """What was found.

    Attributes:
        n_maps: score maps that were read; n_marks: thresholded images.
        faults: reasons to be refused, or to be scored on something else than was meant.
        warnings: what the server takes, but costs or hides something.
    """

    n_maps: int = 0
    n_marks: int = 0
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = [f"fault: {text}" for text in self.faults] + [f"warning: {text}" for text in self.warnings]
        verdict = f"{len(self.faults)} faults, {len(self.warnings)} warnings"
        return "\n".join([*told, f"{self.n_maps:,} maps, {self.n_marks:,} thresholded images: {verdict}"])


def check_submission(
    path: Path,
    *,
    root: Path,
    objects: Sequence[str] = tuple(N_PRIVATE_IMAGES),
    report: "Report" = lambda stage, done, total: None,
) -> SubmissionCheck:
    """Check names, counts, types and content of a submission; one map in memory at a time.

    An archive is unpacked to a temporary folder first. Sizes are compared with the images where the dataset lies under
    `root`, and thresholded images with their maps: one threshold an object must explain all of them.

    Raises:
        ResultError: there is no such folder or archive, or it cannot be unpacked.
    """
    check = SubmissionCheck()
    with _unpacked(path, check) as folder:
        with_marks = (folder / MARKS).is_dir()
        if not with_marks:
            check.warnings.append(f"no {MARKS}: what needs a threshold (SegF1, ClassF1) is not scored")
        _compare_names(folder, {SCORES, MARKS} if with_marks else {SCORES}, check)
        kinds = [kind for kind in (SCORES, MARKS) if (folder / kind).is_dir()]
        for kind in kinds:
            _compare_names(folder / kind, set(objects), check)
        sizes = {name: _image_sizes(root, name) for name in objects}
        if unknown := [name for name, known in sizes.items() if not known]:
            names = ", ".join(unknown)
            check.warnings.append(f"sizes not compared with the images: --root {root} does not hold all of {names}")
        for done, name in enumerate(objects, start=1):
            _ObjectCheck(folder, name, sizes[name], check).run(kinds)
            report("check", done, len(objects))
    return check


class _ObjectCheck:
    """Everything about one object, over both of its splits."""

    def __init__(self, folder: Path, name: str, sizes: dict[str, Size], check: SubmissionCheck) -> None:
        self.folder, self.name, self.sizes, self.check = folder, name, sizes, check
        self.census = Float16Census()
        self.n_maps = 0
        self.lowest_marked, self.highest_unmarked = math.inf, -math.inf

    def run(self, kinds: list[str]) -> None:
        for kind in kinds:
            if (self.folder / kind / self.name).is_dir():
                _compare_names(self.folder / kind / self.name, set(LIGHTING_OF_SPLIT), self.check)
        for split in LIGHTING_OF_SPLIT:
            stems = expected_stems(self.name, split)
            for kind in kinds:
                place = self.folder / kind / self.name / split
                if place.is_dir():
                    _compare_names(place, {stem + SUFFIX_IN[kind] for stem in stems}, self.check)
            for stem in stems:
                self._check_pair(f"{self.name}/{split}/{stem}")
        self._check_threshold()

    def _check_pair(self, name: str) -> None:
        scores, marks = self._read_scores(name), self._read_marks(name)
        if scores is not None and marks is not None:
            if scores.shape != marks.shape:
                self.check.faults.append(f"{name}: the map is {scores.shape}, the thresholded image {marks.shape}")
                return
            self.lowest_marked = min(self.lowest_marked, float(scores[marks].min(initial=math.inf)))
            self.highest_unmarked = max(self.highest_unmarked, float(scores[~marks].max(initial=-math.inf)))

    def _read_scores(self, name: str) -> NDArray[np.float32] | None:
        path = self.folder / SCORES / f"{name}{SUFFIX_IN[SCORES]}"
        stored = _tried(path, tifffile.imread, self.check)
        if stored is None:
            return None
        self.check.n_maps += 1
        if stored.dtype != np.float16 or stored.ndim != 2:
            self.check.faults.append(f"{path}: is {stored.dtype} {stored.shape}; a map is (height, width) float16")
            return None
        if not np.isfinite(stored).all():
            self.check.faults.append(f"{path}: holds nan or infinity; scores are finite")
            return None
        rounded = stored.astype(np.float16)
        scores = rounded.astype(np.float32)
        size = self.sizes.get(name)
        if size is not None and stored.shape != size:
            self.check.warnings.append(f"{path}: is {stored.shape}, its image {size}; nobody says how it is resized")
        self.n_maps += 1
        self.census.add(scores, rounded)
        return scores

    def _read_marks(self, name: str) -> NDArray[np.bool_] | None:
        path = self.folder / MARKS / f"{name}{SUFFIX_IN[MARKS]}"
        stored = _tried(path, lambda file: np.asarray(Image.open(file)), self.check)
        if stored is None:
            return None
        self.check.n_marks += 1
        if stored.dtype != np.uint8 or stored.ndim != 2 or not np.isin(stored, (0, 255)).all():
            self.check.faults.append(
                f"{path}: is {stored.dtype} {stored.shape}; a thresholded image is (height, width) of 0 and 255 alone"
            )
            return None
        return np.asarray(stored == 255)

    def _check_threshold(self) -> None:
        if self.highest_unmarked >= self.lowest_marked:
            self.check.warnings.append(
                f"{self.name}: no single threshold explains its thresholded images: a score of "
                f"{self.lowest_marked:.6g} is marked, one of {self.highest_unmarked:.6g} is not"
            )
        if self.n_maps:
            loss = self.census.loss(min(self.highest_unmarked, self.lowest_marked))
            if text := loss.warning():
                self.check.warnings.append(f"{self.name}: {text}")


@contextmanager
def _unpacked(path: Path, check: SubmissionCheck) -> Iterator[Path]:
    """The submission as a folder: itself, or what is in the archive."""
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise ResultError(f"{path}: no such folder or archive; write one with 'tinydefects submit'")
    name = path.name.removesuffix(ARCHIVE_SUFFIX)
    if name == path.name:
        check.faults.append(f"{path.name}: the name of the archive does not end in {ARCHIVE_SUFFIX}")
    with scratch_folder(Path(tempfile.gettempdir())) as temporary:
        try:
            with tarfile.open(path, mode="r:gz") as archive:
                archive.extractall(temporary, filter="data")
        except (tarfile.TarError, EOFError, ValueError) as error:
            raise ResultError(f"{path}: cannot be unpacked ({error}); write it again") from error
        tops = sorted(temporary.iterdir())
        if [top.name for top in tops] != [name]:
            names = ", ".join(top.name for top in tops[:NAMED]) or "nothing"
            check.faults.append(f"{path.name}: holds {names}; it should hold one folder called {name}")
        yield next((top for top in tops if top.is_dir()), temporary)


def _compare_names(folder: Path, expected: set[str], check: SubmissionCheck) -> None:
    """Hidden files count as extra, as they do for the server."""
    found = {child.name for child in folder.iterdir()}
    for names, what in ((sorted(expected - found), "missing"), (sorted(found - expected), "extra")):
        if names:
            more = f", and {len(names) - NAMED} more" if len(names) > NAMED else ""
            check.faults.append(f"{folder}: {len(names)} {what} ({', '.join(names[:NAMED])}{more})")


def _image_sizes(root: Path, name: str) -> dict[str, Size]:
    """(H, W) of the private images by `<object>/<split>/<stem>`; empty where the dataset is not at hand."""
    try:
        categories = [private_category(name, split, root) for split in LIGHTING_OF_SPLIT]
    except DatasetError:
        return {}
    samples = [sample for category in categories for sample in category.test]
    return {f"{name}/{sample.id}": read_size(sample.image_path) for sample in samples}


def _tried(
    path: Path, read: Callable[[Path], NDArray[np.generic]], check: SubmissionCheck
) -> NDArray[np.generic] | None:
    """What `read` gives; None for a file that is missing (told elsewhere) or unreadable."""
    if not path.is_file():
        return None
    try:
        return read(path)
    except Exception as error:  # decoders raise whatever they like on damaged files
        check.faults.append(f"{path}: cannot be read ({error})")
        return None
