"""Files that a method may not open while it learns or predicts: test images and masks.

An audit hook of the interpreter sees every file that Python code opens, in any thread and through any library, under
whatever name: files are told apart by device and number, so links lead to the same one. It cannot see files that
compiled code opens by itself (`cv2.imread`), nor what another process opens.
"""

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinydefects.data.sample import Category
from tinydefects.errors import TinyDefectsError

FileNumber = tuple[int, int]  # device and number on it


class LeakError(TinyDefectsError, PermissionError):
    """A method opened a file that it must not see; its numbers would be worth nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """What may not be opened, by whom, and during which of its tasks ("fit", "predict")."""

    files: Mapping[FileNumber, Path]
    method: str
    task: str


_active: Seal | None = None
_opened: list[Path] = []
_is_watching = False
_guards = threading.Lock()  # one process, one seal: threads of libraries carry no context that would tell two apart


def seal_for_fit(category: Category, method: str) -> Seal:
    """Every test image and every mask."""
    test_images = (sample.image_path for sample in category.test)
    return Seal(files=_numbered([*test_images, *_truth(category)]), method=method, task="fit")


def seal_for_predict(category: Category, method: str) -> Seal:
    """Every mask."""
    return Seal(files=_numbered(_truth(category)), method=method, task="predict")


@contextmanager
def guarded(seal: Seal) -> Iterator[None]:
    """While the block runs, opening a sealed file raises, and the block fails even if it swallows that.

    Raises:
        LeakError: a sealed file was opened; names the method and the file.
    """
    global _active
    with _guards:
        _start_watching()
        _active = seal
        try:
            yield
        finally:
            _active = None
            if _opened:
                first = _opened[0]
                _opened.clear()
                raise _leak(seal, first)


def _start_watching() -> None:
    global _is_watching
    if not _is_watching:
        sys.addaudithook(_watch)  # stays for the life of the process, and returns at once where nothing is sealed
        _is_watching = True


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    seal = _active
    if seal is None or event != "open" or isinstance(arguments[0], int):  # a descriptor was opened under its name
        return
    number = _file_number(arguments[0])
    path = seal.files.get(number)
    if path is not None and _file_number(path) == number:  # a deleted file's number may be another's by now
        _opened.append(path)
        raise _leak(seal, path)


def _leak(seal: Seal, path: Path) -> LeakError:
    sealed = "test images and masks" if seal.task == "fit" else "masks"
    return LeakError(
        f"{seal.method}: opened {path} during {seal.task}, where {sealed} are out of reach; "
        f"use nothing but the samples that {seal.task} is given"
    )


def _file_number(path: str | bytes | Path) -> FileNumber:
    try:
        found = os.stat(path)  # noqa: PTH116 - called for every file that is opened, bytes among the names
    except (OSError, ValueError):  # not there, or about to be made
        return (-1, -1)
    return found.st_dev, found.st_ino


def _numbered(paths: Iterable[Path]) -> dict[FileNumber, Path]:
    numbered = {_file_number(path): path for path in paths}
    numbered.pop((-1, -1), None)
    return numbered


def _truth(category: Category) -> list[Path]:
    samples = (*category.train, *category.validation, *category.test)
    return list(dict.fromkeys(path for sample in samples for path in sample.truth_files()))
