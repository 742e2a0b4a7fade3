"""The photographs that the words of a command line mean: files, folders and patterns, in any mixture."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from glob import glob, has_magic
from pathlib import Path

from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.predictions import is_own_map, map_path
from tinydefects.data.sample import Sample
from tinydefects.data.walk import (
    DOCUMENT,
    MAKER_FILE,
    UNKNOWN_FORMAT,
    LeftOut,
    by_stem,
    counted,
    is_folder,
    nfc,
    on_disk,
    real_path,
    sub_folders,
    walk,
)
from tinydefects.datasets.catalog import holds, parse_address
from tinydefects.errors import DatasetError

FORMATS = ", ".join(sorted(IMAGE_SUFFIXES))
PATH_START = re.compile(r"[/~]|\.{1,2}([/\\]|$)|[A-Za-z]:[/\\]")
OVERLAYS, MASKS = "overlays", "masks"  # beside the maps, in a folder of maps


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographs:
    """Unlabelled samples below one folder, whose name their maps are kept under, and what was left out there."""

    folder: Path
    samples: list[Sample]
    left_out: LeftOut

    @property
    def name(self) -> str:
        """The folder's own name, whatever way led there."""
        return nfc(real_path(self.folder).name) or "images"

    @property
    def remarks(self) -> list[str]:
        """How many there are and what was left out, and a warning where a dataset is taken for photographs."""
        left = f"; {self.left_out}" if self.left_out else ""
        lines = [f"{self.folder}: {counted('photograph', len(self.samples))}{left}"]
        if is_folder(self.folder / "train"):
            lines.append(
                f"{self.folder}: holds train/, so images to learn from, and masks if there are any, count as "
                "photographs; for test images alone write DATASET/CATEGORY with --root"
            )
        return lines


def find_images(folder: Path) -> list[Sample]:
    """Every image below a folder as an unlabelled Sample, in the order of their paths.

    Raises:
        DatasetError: the folder is missing or holds no image, or two images share a stem and so would share a map.
    """
    return photographs_in(folder).samples


def photographs_in(folder: Path) -> Photographs:
    """Every image below a folder.

    Raises:
        DatasetError: it is missing, holds no image or is one of maps, or two images share a stem and so a map.
    """
    if (folder / MAKER_FILE).is_file():
        raise DatasetError(f"{folder}: holds maps that 'predict' wrote; name a folder of photographs")
    found = walk(folder, IMAGE_SUFFIXES)
    return _samples(folder, found.files, found.left_out)


def find_photographs(words: Sequence[str]) -> Photographs:
    """The photographs that files, folders and patterns name, each once; of a folder all that lie below it.

    Their ids are their paths below the innermost folder that holds all of them, so that no two share a map.

    Raises:
        DatasetError: a word names nothing, or what `photographs_in` refuses.
    """
    if len(words) == 1 and words[0] and (folder := _real(words[0])).is_dir():
        return photographs_in(folder)
    files, holders, left_out = list[Path](), list[Path](), LeftOut()
    for path in _expanded(words):
        if path.is_dir() and (path / MAKER_FILE).is_file():
            left_out += LeftOut((("folder(s) of own output", str(path)),))
        elif path.is_dir():
            found = walk(path, IMAGE_SUFFIXES)
            files += [file for _, file in found.files]
            holders += [path] if found.files else []
            left_out += found.left_out
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            files.append(path)
            holders.append(path.parent)
        elif not DOCUMENT.fullmatch(path.name):
            left_out += LeftOut(((UNKNOWN_FORMAT, path.name),))
    folder = Path(os.path.commonpath([holder.absolute() for holder in holders])) if holders else Path(words[0])
    unique = {path.absolute(): path for path in files}
    named = [(nfc(os.path.relpath(path, folder)).replace(os.sep, "/"), path) for path in unique.values()]
    return _samples(folder, sorted(named), LeftOut(tuple(dict.fromkeys(left_out.things))))


def address_among(words: Sequence[str], root: Path) -> str | None:
    """The address of a category that a single word means; None where the words mean photographs.

    A category below `root` comes before a folder of the same name. What looks like a path is one, there or not.

    Raises:
        DatasetError: an address beside other words, or a word that is neither.
    """
    if len(words) > 1:
        address = next((word for word in words if holds(root, word) and not _real(word).exists()), None)
        if address is not None:
            raise DatasetError(f"{address}: the address of a category stands alone; name one, or photographs")
        return None
    (word,) = words
    if holds(root, word):
        return word
    is_image = Path(word).suffix.lower() in IMAGE_SUFFIXES
    if is_image or has_magic(word) or PATH_START.match(word) or exists(word):
        return None
    try:
        parse_address(word)
    except DatasetError as error:
        if "\\" in word:
            return None
        raise DatasetError(f"{word or 'an empty name'}: no such file or folder; as an address: {error}") from error
    return word


def exists(word: str) -> bool:
    """Whether a word names a file or a folder that is there."""
    return bool(word) and _real(word).exists()


def require_own_folder(out: Path, name: str, samples: Iterable[Sample], folders: Iterable[Path] = ()) -> None:
    """Refuse an output folder whose maps would lie among the photographs, where the next run would find them.

    A folder of its own below them is left out by every walk.

    Raises:
        DatasetError: it is no such folder.
    """
    out, samples = real_path(out), list(samples)
    places = {real_path(sample.image_path.parent) for sample in samples} | {real_path(folder) for folder in folders}
    targets = {map_path(out, name, sample).parent for sample in samples}
    for place in places - set(out.parents):
        if any(place == target or place in target.parents for target in targets):
            raise DatasetError(
                f"--out {out}: the maps would lie among the photographs of {place}; "
                "choose a folder of its own, such as --out maps"
            )


def _samples(folder: Path, files: Sequence[tuple[str, Path]], left_out: LeftOut) -> Photographs:
    own = _own_files([path for _, path in files])
    left_out += LeftOut(tuple(("file(s) of own output", name) for name, path in files if path in own))
    found = by_stem((name, path) for name, path in files if path not in own)
    if not found:
        left = f" ({left_out})" if left_out else ""
        raise DatasetError(f"{folder}: no images here{left}; name photographs or a folder of them ({FORMATS})")
    samples = [Sample(id=f"images/{name}", image_path=path, label="unknown") for name, path in found.items()]
    return Photographs(folder=folder, samples=samples, left_out=left_out)


def _expanded(words: Sequence[str]) -> Iterator[Path]:
    """Every file and folder that the words name, patterns resolved.

    Raises:
        DatasetError: a word names nothing.
    """
    for word in words:
        path = _real(word)
        if exists(word):
            yield path
        elif has_magic(word) and (matches := sorted(glob(str(path), recursive=True))):  # noqa: PTH207 - absolute, too
            yield from (Path(match) for match in matches)
        else:
            raise DatasetError(_nothing_there(word, path))


def _real(word: str) -> Path:
    """The path a word means: `~` resolved, composed as on disk, back-slashes turned where only that is there."""
    path = on_disk(Path(word).expanduser())
    turned = on_disk(Path(word.replace("\\", "/")).expanduser())
    return turned if turned.exists() and not path.exists() else path


def _nothing_there(word: str, path: Path) -> str:
    """What to say of a path that is not there."""
    if path.is_symlink():
        return f"{word}: a link to {path.readlink()}, which is not there; mend the link"
    missing = next((one for one in reversed(path.parents) if not one.exists()), None)
    if has_magic(word) and (missing is None or has_magic(missing.name)):
        return f"{word}: no file matches this pattern; check it, or name the folder"
    if missing is not None:
        return f"{word}: no such file, there is no folder {missing}; check the path"
    if not path.parent.is_dir():
        return f"{word}: {path.parent} is a file, no folder; check the path"
    images = [one.name for _, one in walk(path.parent, IMAGE_SUFFIXES, deep=False).files]
    there = {name.lower(): name for name in (*images, *sub_folders(path.parent))}
    near = [path.parent / there[name] for name in get_close_matches(path.name.lower(), there, n=1)]
    hint = f"did you mean {near[0]}?" if near else f"{path.parent} holds {counted('image', len(images))}"
    return f"{word}: no such file; {hint}"


def _own_files(paths: Iterable[Path]) -> set[Path]:
    """Those of the files that `predict` wrote: maps and overlays below a folder of maps, which each name leads to."""
    own, marked = set[Path](), dict[Path, list[Path]]()
    for path in paths:
        whole = path.absolute()
        if whole.parent not in marked:
            marked[whole.parent] = [folder for folder in whole.parents if (folder / MAKER_FILE).is_file()]
        for folder in marked[whole.parent]:
            name = whole.relative_to(folder)
            has_overlay = (folder / OVERLAYS / name).with_suffix(".png").is_file()
            is_map = (whole.suffix == ".tiff" and has_overlay) or is_own_map(whole)
            if is_map or name.parts[0] in {OVERLAYS, MASKS}:
                own.add(path)
    return own
