"""Files that come and go whole: temporary ones that end with their run, and sets that are replaced together.

Temporary files and folders are locked as long as their run lives: the system gives the lock back however a run ends,
and the next run sweeps what is unlocked. Where no locks can be had, or another machine made the thing and its locks may
not be seen, nothing is swept that is younger than a week.

Files that belong together (a model and its description, a result and its pictures) are written into a folder of their
own beside the old ones. One rename of that folder, to `.NAME.ready`, makes them count; then they move to their places
one by one, the description last. A run that is killed in between has left a finished set in `.NAME.ready`, and whoever
reads or writes the files next moves the rest of it: call `settle` first.
"""

import contextlib
import functools
import hashlib
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = ".tinydefects-"
THIS_MACHINE = f"{PREFIX}{hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]}-"
LOCK_FILE = "lock"
FILES = "files"
YOUNG_SECONDS = 1.0  # what was made just now may not be locked yet
OLD_SECONDS = 7 * 24 * 3600.0
READY = ".ready"
REMOVED = ".removed"  # an empty file `x.removed` in a set says that x is no longer part of it


@contextlib.contextmanager
def scratch_file(folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A new locked file in a folder, open for writing, with the rights of the user's umask; gone after the block."""
    path = folder / new_name()
    with path.open("x+b") as file:
        try:
            lock(file)
            yield file, path
        finally:
            if os.name == "nt":
                file.close()  # an open file cannot be removed there
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder, alone in a locked one below `parent`; gone after the block with all that lies there.

    What dead runs have left below `parent` is swept first.
    """
    sweep_once(parent)
    outer = parent / new_name()
    outer.mkdir(mode=0o700)
    try:
        with (outer / LOCK_FILE).open("wb") as file:
            lock(file)
            (outer / FILES).mkdir()
            yield outer / FILES
    finally:
        shutil.rmtree(outer, ignore_errors=True)


@contextlib.contextmanager
def present(folder: Path) -> Iterator[None]:
    """The folder is there in the block; it and its parents, if they had to be made, go again if they end up empty."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # not empty: something was written
                place.rmdir()


def lock(file: IO[bytes], *, shared: bool = False) -> bool | None:
    """Whether the lock of an open file is now this run's, or (`shared`) also this run's; None: no locks here."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some file systems have none
        return None
    return True


def sweep(folder: Path) -> None:
    """Remove what runs that died have left in this folder, if they were this user's, and log one line about it."""
    count, size = 0, 0
    with contextlib.suppress(OSError):  # it cannot be looked into: then nothing can be swept
        for path in [Path(entry.path) for entry in os.scandir(folder) if entry.name.startswith(PREFIX)]:
            with contextlib.suppress(OSError):
                if _is_left_over(path):
                    size += size_of(path)
                    remove(path)
                    count += 1
    if count:
        things = "one temporary thing" if count == 1 else f"{count} temporary things"
        tell(f"swept from {folder}: {things} of runs that were killed ({size / 1e6:.1f} MB)")


@functools.cache
def sweep_once(folder: Path) -> None:
    """`sweep`, the first time that this process writes into a folder."""
    sweep(folder)


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files)


def tell(line: str) -> None:
    """One line to whoever follows the log of this package; on standard error where nobody has set that up."""
    logging.getLogger("tinydefects").warning("%s", line)


def new_name() -> str:
    """A name by which a thing is known as temporary; unless it is locked, another run may sweep it."""
    return f"{THIS_MACHINE}{secrets.token_hex(6)}"


def _is_left_over(path: Path) -> bool:
    status = path.lstat()
    age = time.time() - status.st_mtime
    if age < YOUNG_SECONDS or status.st_uid != getattr(os, "getuid", lambda: status.st_uid)():
        return False
    lock_file = path / LOCK_FILE if path.is_dir() else path
    is_free = None
    if lock_file.is_file():  # without it, a folder is being made or removed
        with lock_file.open("ab") as file:
            is_free = lock(file)
    return bool(is_free and path.name.startswith(THIS_MACHINE)) or (is_free is not False and age > OLD_SECONDS)


def replace_together(folder: Path, name: str, write: Callable[[Path], object], *, gone: Iterable[str] = ()) -> None:
    """Let `write` fill a new folder; then its files, all or none, replace those of the same names in `folder`.

    `gone` are names that may lie there from earlier and must not stay unless they are written again. `name` is that of
    the set: sets of other names in the same folder are left alone. The files are on the disk, not only in memory,
    before they count, so that they survive a power cut.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was there is as it was.
    """
    with present(folder):
        with scratch_folder(folder) as new:
            write(new)
            finish(folder, name)
            written = {path.name for path in new.iterdir()}
            for old in set(gone) - written:
                if (folder / old).exists():
                    (new / f"{old}{REMOVED}").touch()
            _flush(new)
            new.rename(folder / f".{name}{READY}")  # from here on the new files count
        finish(folder, name)


def settle(folder: Path, name: str) -> None:
    """Before files are read: move what a killed run has finished but not moved, and sweep what it has left.

    Where this user may not write there, the files are read as they lie.
    """
    with contextlib.suppress(OSError):
        finish(folder, name)
    if folder.is_dir() and os.access(folder, os.W_OK):
        sweep_once(folder)


def settle_below(folder: Path) -> None:
    """`finish` every set in a folder and the folders in it, as far as this user may."""
    for ready in list(folder.rglob(f".*{READY}")):
        with contextlib.suppress(OSError):
            finish(ready.parent, ready.name.removesuffix(READY).removeprefix("."))


def finish(folder: Path, name: str) -> None:
    """Move a set that counts already to its places; another process may be doing the same.

    A link is no set of ours: in somebody's results it could lead to any folder, whose files would be moved.
    """
    ready = folder / f".{name}{READY}"
    if ready.is_symlink() or not ready.is_dir():
        return
    for path in sorted(ready.iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
        with contextlib.suppress(FileNotFoundError):  # moved by another process just now
            _put(path, folder)
    with contextlib.suppress(FileNotFoundError):
        ready.rmdir()


def _put(path: Path, folder: Path) -> None:
    if path.suffix == REMOVED:
        (folder / path.name.removesuffix(REMOVED)).unlink(missing_ok=True)
        path.unlink()
    else:
        path.replace(folder / path.name)


def _flush(folder: Path) -> None:
    """Have the system write the files to the disk."""
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
