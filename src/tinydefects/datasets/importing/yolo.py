"""YOLO: a .txt for each photograph, a line an outline: class number, then x and y as shares of width and height.

Tools: Ultralytics, Roboflow, CVAT, Label Studio. A line of four numbers is a box (middle, width, height). A photograph
without a file, or with an empty one, is background: that is YOLO's own convention.
"""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import yaml

from tinydefects.data.json_files import read_bytes
from tinydefects.data.walk import walk
from tinydefects.datasets.importing.annotations import Annotated, Annotations, Outline, box, polygon
from tinydefects.errors import DatasetError

CLASS_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
NO_LABELS = ("readme", "licen", "classes", "train", "val", "valid", "test", "notes")  # texts that lie about
IMAGES, LABELS = "images", "labels"


def read_yolo(source: Path) -> Annotations:
    """The outlines below the folder of a `data.yaml` (or `classes.txt`), or below the folder that holds it.

    A file of labels has the path of its photograph with `labels` for `images`, or lies beside it. The splits that the
    YAML names are not looked at: what a method may learn from here are good photographs only.

    Raises:
        DatasetError: no names of classes, no file of labels, or a line that cannot be read.
    """
    folder = source if source.is_dir() else source.parent
    names = _class_names(source)
    files = walk(folder, {".txt"}).files
    labels = [(name, path) for name, path in files if LABELS in PurePosixPath(name).parts[:-1]]
    if not labels:
        labels = [(name, path) for name, path in files if not path.name.lower().startswith(NO_LABELS)]
    if not labels:
        raise DatasetError(f"{folder}: no .txt of labels below; name the folder that holds labels/")
    beside = folder / IMAGES
    return Annotations(
        folder=beside if beside.is_dir() else folder,
        photographs=[
            Annotated(name=_photograph_of(name), size=None, outlines=_outlines(path, names), where=str(path))
            for name, path in labels
        ],
        lists_all=False,
        by_stem=True,
        unannotated="good",
    )


def _photograph_of(label: str) -> str:
    """`labels/train/000.txt` and `train/000.txt` to `train/000`, `train/labels/000.txt` to `train/images/000`."""
    parts = list(PurePosixPath(label).with_suffix("").parts)
    if parts[0] == LABELS and len(parts) > 1:
        return "/".join(parts[1:])
    last = max((place for place, part in enumerate(parts[:-1]) if part == LABELS), default=None)
    return "/".join([*parts[:last], IMAGES, *parts[last + 1 :]] if last is not None else parts)


def _class_names(source: Path) -> Mapping[int, str]:
    """The classes by their number, from the file that is named or the first of `CLASS_FILES` in the folder."""
    way_out = f"name a file of class names: {', '.join(CLASS_FILES)}"
    tried = [source] if source.is_file() else [source / name for name in CLASS_FILES]
    path = next((one for one in tried if one.is_file()), None)
    if path is None:
        raise DatasetError(f"{source}: says nowhere what the classes are called; {way_out}")
    try:
        content = read_bytes(path).decode()
        if path.suffix not in {".yaml", ".yml"}:
            said: object = content.splitlines()
        else:
            document = yaml.load(content, Loader=yaml.BaseLoader)  # all is text: a class may be called 'no'
            said = document.get("names") if isinstance(document, dict) else None
    except OSError as error:
        raise DatasetError(f"{path}: not readable ({error.strerror or error}); {way_out}") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable ({' '.join(str(error).split())}); {way_out}") from error
    pairs = enumerate(said) if isinstance(said, list) else said.items() if isinstance(said, dict) else ()
    names = {
        int(number): name.strip()
        for number, name in pairs
        if len(str(number)) < 10 and str(number).isdecimal() and isinstance(name, str) and name.strip()
    }
    if not names:
        raise DatasetError(f"{path}: holds no 'names' of classes; {way_out}")
    return names


def _outlines(path: Path, names: Mapping[int, str]) -> tuple[Outline, ...]:
    try:
        lines = read_bytes(path).decode().splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as text ({error}); export it again") from error
    return tuple(
        _outline(line.split(), names, f"{path}: line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )


def _outline(words: list[str], names: Mapping[int, str], where: str) -> Outline:
    try:
        number, values = int(words[0]), [float(word) for word in words[1:]]
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; expected a class number and then x y x y … in [0, 1]") from error
    if number not in names:
        raise DatasetError(f"{where}: class {number}, and the names are those of {_listed(names)}; mend either")
    if len(values) == 4 and np.isfinite(values).all():
        x, y, width, height = values
        corners = box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        corners = polygon(values, where)
    kind = "box" if len(values) == 4 else "polygon"
    return Outline(defect_class=names[number], kind=kind, where=where, polygons=(corners,), are_shares=True)


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(f"{number} ({name})" for number, name in names.items())
