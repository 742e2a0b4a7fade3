"""COCO: one JSON of `images`, `categories` and `annotations`, their `segmentation` polygons or runs (plain or packed).

Tools: COCO Annotator, Label Studio, Roboflow, CVAT, FiftyOne. A region of a crowd (`iscrowd`) counts like any other.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from tinydefects.data.json_files import read_as
from tinydefects.datasets.importing.annotations import Annotated, Annotations, Outline, box, polygon, runs_of
from tinydefects.errors import DatasetError

Id = int | str
T = TypeVar("T")


class _Runs(BaseModel):
    size: tuple[int, int]
    counts: str | list[int]


class _Image(BaseModel):
    id: Id
    file_name: str
    width: int
    height: int


class _Category(BaseModel):
    id: Id
    name: str


class _Annotation(BaseModel):
    id: Id | None = None
    image_id: Id
    category_id: Id
    segmentation: list[list[float]] | _Runs | None = None
    bbox: tuple[float, float, float, float] | None = None
    iscrowd: int = 0


class _File(BaseModel):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation]


def read_coco(source: Path) -> Annotations:
    """The outlines in a COCO file; the photographs lie beside it.

    Raises:
        DatasetError: it cannot be read, an id stands twice or is not there, or an outline makes no sense.
    """
    said = read_as(_File, source, DatasetError, kind="COCO file", way_out="export it as COCO instances")
    images = _by_id(((image.id, image) for image in said.images), source, "images")
    classes = _by_id(((one.id, one.name) for one in said.categories), source, "categories")
    outlines: dict[Id, list[Outline]] = {image_id: [] for image_id in images}
    for number, one in enumerate(said.annotations):
        where = f"{source}: annotation {number if one.id is None else one.id}"
        if one.image_id not in images:
            raise DatasetError(f"{where}: image_id {one.image_id} is not among the images; export it again")
        if one.category_id not in classes:
            raise DatasetError(f"{where}: category_id {one.category_id} is not among the categories; export it again")
        outlines[one.image_id].append(_outline(one, classes[one.category_id], images[one.image_id], where))
    n_crowds = sum(one.iscrowd != 0 for one in said.annotations)
    return Annotations(
        folder=source.parent,
        photographs=[
            Annotated(
                name=image.file_name,
                size=(image.height, image.width),
                outlines=tuple(outlines[image_id]),
                where=f"{source}: image {image.file_name}",
            )
            for image_id, image in images.items()
        ],
        lists_all=True,
        remarks=(f"{n_crowds} outlines are of crowds (iscrowd) and count like others",) if n_crowds else (),
    )


def unpack(text: str) -> list[int]:
    """The lengths of runs in COCO's packed text: five bits a sign, lowest first, from the fourth on as differences.

    Raises:
        ValueError: it is no such text.
    """
    counts: list[int] = []
    value = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64:
            raise ValueError(f"holds {sign!r}")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:  # goes on
            continue
        if bits & 0x10:  # negative
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("ends within a number")
    return counts


def _outline(one: _Annotation, defect_class: str, image: _Image, where: str) -> Outline:
    if isinstance(one.segmentation, _Runs):
        if one.segmentation.size != (image.height, image.width):
            raise DatasetError(
                f"{where}: its runs are of {one.segmentation.size}, the image is {(image.height, image.width)}; "
                "export it again"
            )
        counts = one.segmentation.counts
        try:
            counts = unpack(counts) if isinstance(counts, str) else counts
        except ValueError as error:
            raise DatasetError(f"{where}: its packed runs cannot be read ({error}); export it again") from error
        bitmap = runs_of(counts, one.segmentation.size, where, by_columns=True)
        return Outline(defect_class=defect_class, kind="mask", where=where, bitmap=bitmap)
    if one.segmentation:
        polygons = tuple(polygon(values, where) for values in one.segmentation)
        return Outline(defect_class=defect_class, kind="polygon", where=where, polygons=polygons)
    if one.bbox is None:
        raise DatasetError(f"{where}: has neither segmentation nor bbox; outline it or remove it")
    left, top, width, height = one.bbox
    corners = box(left, top, left + width, top + height)
    return Outline(defect_class=defect_class, kind="box", where=where, polygons=(corners,))


def _by_id(pairs: Iterable[tuple[Id, T]], source: Path, what: str) -> dict[Id, T]:
    found: dict[Id, T] = {}
    for own, value in pairs:
        if own in found:
            raise DatasetError(f"{source}: id {own} stands twice among the {what}; export it again")
        found[own] = value
    return found
