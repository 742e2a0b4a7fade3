"""labelme: a JSON beside each photograph, its shapes polygons, rectangles, circles, masks; others have no area."""

import base64
import io
import posixpath
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from tinydefects.data.json_files import read_as
from tinydefects.data.opening import naming, open_image
from tinydefects.data.pixels import pixels_of
from tinydefects.data.walk import walk
from tinydefects.datasets.importing.annotations import Annotated, Annotations, Bitmap, Outline, box, ellipse, polygon
from tinydefects.errors import DatasetError

N_POINTS = {"rectangle": 2, "circle": 2, "mask": 2}


class _Shape(BaseModel):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    mask: str | None = None


class _File(BaseModel):
    shapes: list[_Shape]
    imagePath: str  # noqa: N815 - labelme's own names
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815


def read_labelme(source: Path) -> Annotations:
    """The outlines in labelme's files: a folder of them, with those below it, or a single one.

    Raises:
        DatasetError: there is none, one cannot be read, or a shape makes no sense.
    """
    folder = source if source.is_dir() else source.parent
    files = [source] if source.is_file() else [path for _, path in walk(source, {".json"}).files]
    if not files:
        raise DatasetError(f"{source}: no .json below; name the folder of labelme's files")
    return Annotations(folder=folder, photographs=[_photograph(path, folder) for path in files], lists_all=False)


def _photograph(path: Path, folder: Path) -> Annotated:
    said = read_as(
        _File, path, DatasetError, kind="labelme file", way_out="save it again in labelme, or move it elsewhere"
    )
    below = path.parent.relative_to(folder).as_posix()
    size = None if said.imageHeight is None or said.imageWidth is None else (said.imageHeight, said.imageWidth)
    outlines = tuple(
        _outline(shape, f"{path}: shape {number} ({shape.label})", path)
        for number, shape in enumerate(said.shapes, start=1)
    )
    name = posixpath.normpath(posixpath.join(below, said.imagePath.replace("\\", "/")))
    return Annotated(name=name, size=size, outlines=outlines, where=str(path))


def _outline(shape: _Shape, where: str, path: Path) -> Outline:
    kind, points = shape.shape_type, shape.points
    if len(points) != N_POINTS.get(kind, len(points)):
        raise DatasetError(f"{where}: a {kind} of {len(points)} points, expected {N_POINTS[kind]}; draw it again")
    if kind in {"polygon", "oriented_rectangle"}:
        corners = polygon([value for point in points for value in point], where)
        return Outline(defect_class=shape.label, kind="polygon", where=where, polygons=(corners,))
    if kind == "rectangle":
        (left, top), (right, bottom) = np.min(points, axis=0), np.max(points, axis=0)
        corners = box(left, top, right, bottom)
        return Outline(defect_class=shape.label, kind="box", where=where, polygons=(corners,))
    if kind == "circle":
        (x, y), on_edge = points
        radius = float(np.hypot(on_edge[0] - x, on_edge[1] - y))
        corners = ellipse(x, y, radius, radius)
        return Outline(defect_class=shape.label, kind="ellipse", where=where, polygons=(corners,))
    if kind == "mask":
        return Outline(defect_class=shape.label, kind="mask", where=where, bitmap=_bitmap(shape, where, path))
    return Outline(defect_class=shape.label, kind=kind, where=where)


def _bitmap(shape: _Shape, where: str, path: Path) -> Bitmap:
    """The PNG of a shape of its own; its two points are the first and the last of its pixels."""
    (left, top), (right, bottom) = (tuple(round(value) for value in point) for point in shape.points)
    size = (bottom - top + 1, right - left + 1)
    try:
        content = base64.b64decode(shape.mask or "", validate=True)
    except ValueError as error:
        raise DatasetError(f"{where}: its mask is no base64 ({error}); save it again in labelme") from error
    return Bitmap(corner=(top, left), size=size, decode=partial(_decode, content, size, where, path))


def _decode(content: bytes, size: tuple[int, int], where: str, path: Path) -> NDArray[np.bool_]:
    file = io.BytesIO(content)
    file.name = str(path)  # in errors
    with naming(path), open_image(file) as image:
        pixels = pixels_of(image)
    if pixels.shape != size:
        raise DatasetError(f"{where}: its mask is {pixels.shape} and its points say {size}; save it again in labelme")
    return np.asarray(pixels != 0)
