"""CVAT for images 1.1: one XML with polygons, boxes, ellipses and masks; lines, points and skeletons have no area."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from xml.etree import ElementTree

from tinydefects.data.json_files import read_bytes
from tinydefects.datasets.importing.annotations import Annotated, Annotations, Outline, box, ellipse, polygon, runs_of
from tinydefects.errors import DatasetError

WAY_OUT = "export the task as 'CVAT for images 1.1'"
NO_SHAPES = {"tag", "attribute"}  # about the whole photograph


def read_cvat(source: Path) -> Annotations:
    """The outlines in CVAT's XML; the photographs lie in `images/` beside it, or directly beside it.

    Raises:
        DatasetError: it cannot be read, is of another kind (video), or a shape makes no sense.
    """
    root = _parsed(source)
    if root.tag != "annotations" or root.find("track") is not None:
        kind = "holds tracks of a video" if root.tag == "annotations" else f"begins with <{root.tag}>"
        raise DatasetError(f"{source}: {kind}; {WAY_OUT}")
    images = root.findall("image")
    if not images:
        raise DatasetError(f"{source}: holds no image; {WAY_OUT}")
    n_tags = len(root.findall("image/tag"))
    beside = source.parent / "images"
    return Annotations(
        folder=beside if beside.is_dir() else source.parent,
        photographs=[_photograph(image, source) for image in images],
        lists_all=True,
        remarks=(f"{n_tags} tags of whole photographs are not looked at",) if n_tags else (),
    )


def _parsed(source: Path) -> ElementTree.Element:
    try:
        content = read_bytes(source)
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise ValueError("it declares entities, as CVAT's files never do")
        return ElementTree.fromstring(content)
    except OSError as error:
        raise DatasetError(f"{source}: not readable ({error.strerror or error}); {WAY_OUT}") from error
    except (ValueError, LookupError, ElementTree.ParseError) as error:  # LookupError: a name of no encoding
        raise DatasetError(f"{source}: not readable as XML ({error}); {WAY_OUT}") from error


def _photograph(image: ElementTree.Element, source: Path) -> Annotated:
    where = f"{source}: image {image.get('name')}"
    height, width = _whole(_numbers(image, ("height", "width"), where), where)
    shapes = [child for child in image if child.tag not in NO_SHAPES]
    outlines = tuple(
        _outline(shape, f"{where}, {shape.tag} {number}")  #
        for number, shape in enumerate(shapes, start=1)
    )
    return Annotated(name=_text(image, "name", where), size=(height, width), outlines=outlines, where=where)


def _outline(shape: ElementTree.Element, where: str) -> Outline:
    defect_class = _text(shape, "label", where)
    degrees = _numbers(shape, ("rotation",), where)[0] if "rotation" in shape.attrib else 0.0
    if shape.tag == "polygon":
        values = _split(_text(shape, "points", where).replace(";", ","), where)
        return Outline(defect_class=defect_class, kind="polygon", where=where, polygons=(polygon(values, where),))
    if shape.tag == "box":
        corners = box(*_numbers(shape, ("xtl", "ytl", "xbr", "ybr"), where), degrees=degrees)
        kind = "turned box" if degrees else "box"
        return Outline(defect_class=defect_class, kind=kind, where=where, polygons=(corners,))
    if shape.tag == "ellipse":
        corners = ellipse(*_numbers(shape, ("cx", "cy", "rx", "ry"), where), degrees=degrees)
        return Outline(defect_class=defect_class, kind="ellipse", where=where, polygons=(corners,))
    if shape.tag == "mask":
        left, top, width, height = _whole(_numbers(shape, ("left", "top", "width", "height"), where), where)
        counts = _whole(_split(_text(shape, "rle", where), where), where)
        bitmap = runs_of(counts, (height, width), where, corner=(top, left), by_columns=False)
        return Outline(defect_class=defect_class, kind="mask", where=where, bitmap=bitmap)
    return Outline(defect_class=defect_class, kind=shape.tag, where=where)


def _text(element: ElementTree.Element, name: str, where: str) -> str:
    value = element.get(name)
    if not value:
        raise DatasetError(f"{where}: has no {name}; {WAY_OUT}")
    return value


def _numbers(element: ElementTree.Element, names: Sequence[str], where: str) -> list[float]:
    return _split(",".join(_text(element, name, where) for name in names), where)


def _split(text: str, where: str) -> list[float]:
    try:
        values = [float(value) for value in text.split(",")]
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; {WAY_OUT}") from error
    if not all(map(isfinite, values)):
        raise DatasetError(f"{where}: holds nan or inf where a number is due; {WAY_OUT}")
    return values


def _whole(values: Sequence[float], where: str) -> list[int]:
    broken = next((value for value in values if value != int(value)), None)
    if broken is not None:
        raise DatasetError(f"{where}: {broken:g} pixels, where a whole number is due; {WAY_OUT}")
    return [int(value) for value in values]
