"""What lies in somebody's folder: one walk for datasets, photographs, maps and masks; no image is opened.

Hidden and system files, folders named like images (`lot.tif`), the program's own output and files of no known format
are left out and counted. Linked folders are followed, each real folder once. Names are compared in NFC: macOS hands out
`é` as two characters where a manifest or a mask has one.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.errors import DatasetError

SYSTEM_NAMES = {
    *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", ".ds_store"),
    *("__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "recycler", "system volume information"),
    *("lost+found", "network trash folder", "temporary items", "__pycache__"),
}
DOCUMENT = re.compile(r"(read.?me|licen[cs]e)(\.\w*)?", re.IGNORECASE)  # lies in most archives; no picture is missed
# What the program writes: files that mark a folder of maps, a model, an export, and single files by their names.
MAKER_FILE = "made_by.json"  # beside maps: which detector wrote there last, and its settings
EXPORT_FILE = "export.json"
OWN_MARKS = ({MAKER_FILE}, {"detector.json", "model.safetensors"}, {EXPORT_FILE})
OWN_FILE = re.compile(r"[0-9a-f]{64}\.npy|[0-9a-f]{20}\.webp|.*\.tally\.npz")  # features, crops of a report, tallies
PROTOCOL_FILE = "protocol.json"  # if it says so
UNKNOWN_FORMAT = "file(s) of no known format"
UNNAMED = ("hidden", "system", "image")  # kinds that are only counted


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was passed over: a kind, such as `hidden file(s)`, and a name for each thing."""

    things: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.things)

    def __add__(self, other: "LeftOut") -> "LeftOut":
        return LeftOut(self.things + other.things)

    def __str__(self) -> str:
        """`left out: 1 hidden file, 2 files of no known format (.heic)`; nothing where nothing was."""
        counts = Counter(kind for kind, _ in self.things)
        told = [counted(kind, n) + self._named(kind) for kind, n in counts.items()]
        return f"left out: {', '.join(told)}" if told else ""

    def _named(self, kind: str) -> str:
        names = [name for own, name in self.things if own == kind]
        if kind == UNKNOWN_FORMAT:
            names = [PurePosixPath(name).suffix.lower() or PurePosixPath(name).name for name in names]
        elif kind.startswith(UNNAMED):
            return ""
        names = list(dict.fromkeys(names))
        return f" ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """The files of the wanted kinds below a folder by their NFC path below it (`cam1/000.png`), and what was left out.

    They are sorted by that path. Two files may share it, composed and decomposed.
    """

    folder: Path
    files: tuple[tuple[str, Path], ...]
    left_out: LeftOut


def counted(noun: str, n: int) -> str:
    """`1 image`, `2 images`; a noun that does not end in its own plural carries `(s)` where the s goes."""
    noun = noun if "(s)" in noun else f"{noun}(s)"
    return f"{n} {noun.replace('(s)', '' if n == 1 else 's', 1)}"


def nfc(name: str) -> str:
    """A name as it is compared.

    Raises:
        DatasetError: it is not UTF-8, so that no table or map could bear it.
    """
    if not is_utf8(name):
        raise DatasetError(f"{os.fsencode(name)!r}: this name is not UTF-8; rename the file or folder")
    return unicodedata.normalize("NFC", name)


def is_utf8(name: str) -> bool:
    """Whether a name can be written into a table; Linux allows any bytes."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def walk(
    folder: Path,
    suffixes: Collection[str],
    *,
    deep: bool = True,
    skip: Collection[Path] = (),
    with_own: bool = False,
) -> Walk:
    """Every file below `folder` whose name ends in one of `suffixes`, in any case.

    Args:
        folder: where to start; it may itself be hidden, linked or the program's own.
        suffixes: in lower case, with the dot.
        deep: whether to look into sub-folders; if not, these are not counted either.
        skip: folders below it that are neither entered nor counted.
        with_own: whether the program's own output is wanted, too.

    Raises:
        DatasetError: there is no such folder, or one may not be read.
    """
    files: list[tuple[str, Path]] = []
    left: list[tuple[str, str]] = []
    seen = {_identity(place) for place in (folder.absolute(), *real_path(folder).parents)}
    waiting, linked = [("", folder)], list[tuple[str, Path]]()
    while waiting or linked:
        place, here = waiting.pop() if waiting else linked.pop(0)  # links last: a real folder goes by its own name
        if place and _identity(here) in seen:
            left.append(("folder(s) linked again", place))
            continue
        seen.add(_identity(here))
        entries = _list(here)
        if place and not with_own and is_own_output(here, {entry.name for entry in entries}):
            left.append(("folder(s) of own output", place))
            continue
        for entry in entries:
            name, path = f"{place}/{entry.name}".lstrip("/"), here / entry.name
            kind = _kind(entry, suffixes, with_own=with_own)
            if kind in {"file", "folder"} and not is_utf8(entry.name):
                kind, name = f"{kind}(s) whose name is not UTF-8", ascii(name)
            if path in skip or ("folder" in kind and not deep):
                continue
            if kind == "folder":
                (linked if entry.is_symlink() else waiting).append((nfc(name), path))
            elif kind == "file":
                files.append((nfc(name), path))
            elif kind:
                left.append((kind, name))
    return Walk(folder=folder, files=tuple(sorted(files)), left_out=LeftOut(tuple(sorted(left))))


def real_path(path: Path) -> Path:
    """Where a path leads, links followed; one that leads in a circle stays as it is."""
    return Path(os.path.realpath(path))


def sub_folders(folder: Path) -> dict[str, Path]:
    """The folders directly in `folder` by NFC name, sorted; hidden ones, the system's and the program's own left out.

    Raises:
        DatasetError: there is no such folder, or it may not be read.
    """
    found = [one for one in _list(folder) if _kind(one, (), with_own=False) == "folder" and is_utf8(one.name)]
    return dict(sorted((nfc(entry.name), folder / entry.name) for entry in found))


def by_stem(files: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The files of a walk by their path without suffix.

    Raises:
        DatasetError: two share it.
    """
    found: dict[str, Path] = {}
    for name, path in files:
        stem = PurePosixPath(name).with_suffix("").as_posix()
        if stem in found:
            raise DatasetError(f"{path}: {found[stem].name} has the same stem; stems must differ, rename one")
        found[stem] = path
    return found


def is_folder(path: Path) -> bool:
    """Whether a folder is there, as far as one may see."""
    try:
        return path.is_dir()
    except OSError:
        return False


def is_own_output(folder: Path, names: Collection[str]) -> bool:
    """Whether a folder that holds these names was written by this program."""
    if any(mark <= set(names) for mark in OWN_MARKS) or any(map(OWN_FILE.fullmatch, names)):
        return True
    try:
        return PROTOCOL_FILE in names and b'"fingerprint"' in (folder / PROTOCOL_FILE).read_bytes()[:4096]
    except OSError:
        return False


def on_disk(path: Path) -> Path:
    """The path as it lies on disk where the name given is composed otherwise; the same where nothing is there."""
    if path.exists() or path == path.parent:
        return path
    parent = on_disk(path.parent)
    try:
        wanted = nfc(path.name)
        return next((near for near in sorted(parent.iterdir()) if nfc(near.name) == wanted), path)
    except (OSError, DatasetError):
        return path


def _kind(entry: "os.DirEntry[str]", suffixes: Collection[str], *, with_own: bool) -> str:
    """`folder`, `file`, the kind of what is left out, or nothing for what nobody misses."""
    try:
        is_folder, is_file = entry.is_dir(), entry.is_file()
    except OSError as error:
        if not entry.is_symlink():
            raise _unreadable(Path(entry.path), error) from error
        is_folder = is_file = False  # a link in a circle
    noun = "folder(s)" if is_folder else "file(s)"
    if entry.name.lower() in SYSTEM_NAMES:
        return f"system {noun}"
    if entry.name.startswith("."):
        return f"hidden {noun}"
    suffix = PurePosixPath(entry.name).suffix.lower()
    if is_folder:
        return "folder(s) named like an image" if suffix in IMAGE_SUFFIXES else "folder"
    if not is_file:
        return "broken link(s)" if entry.is_symlink() else "special file(s)"
    if not with_own and OWN_FILE.fullmatch(entry.name):
        return "file(s) of own output"
    if suffix in suffixes:
        return "file"
    return "" if DOCUMENT.fullmatch(entry.name) else UNKNOWN_FORMAT


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return status.st_dev, status.st_ino


def _list(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: Path, error: OSError) -> DatasetError:
    reason = error.strerror or type(error).__name__
    todo = "give yourself the right to read it" if isinstance(error, PermissionError) else "check the path and --root"
    return DatasetError(f"{path}: cannot list this folder ({reason}); {todo}")
