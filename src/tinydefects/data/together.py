"""Files that belong together, replaced together: a model and its description, a result and its pictures.

New files are written into a folder of their own beside the old ones. One rename of that folder, to `.NAME.ready`, makes
them count; then they move to their places one by one, the description last. A run that is killed in between has left a
finished set in `.NAME.ready`, and whoever reads or writes the files next moves the rest of it: call `settle` first.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from tinydefects.data.leftovers import present, scratch_folder, sweep_once

READY = ".ready"
REMOVED = ".removed"  # an empty file `x.removed` in a set says that x is no longer part of it


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
    """Move a set that counts already to its places; another process may be doing the same."""
    ready = folder / f".{name}{READY}"
    if not ready.is_dir():
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
