"""Many decisions on disk, as they come: tables, JSON lines, COCO, masks and labelme, for whoever goes on with them.

Tables, JSON lines and COCO appear together once all decisions are in; until then what lay there stays. Masks and
labelme files are one an image, each whole. Polygons run along the edges of pixels, pixel (row, column) covering x from
column to column + 1, so that their areas are exact; COCO and labelme know no holes, masks do.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.data.defects import EIGHT_CONNECTED
from tinydefects.data.json_files import write_json
from tinydefects.data.leftovers import replace_together
from tinydefects.data.pixels import cannot_write, write_png
from tinydefects.datasets.photographs import MASKS
from tinydefects.decisions.decision import Decision, region_record, told
from tinydefects.decisions.regions import Region, mask_of, outline
from tinydefects.errors import SettingsError, TinyDefectsError

DecisionFormat = Literal["csv", "jsonl", "coco", "masks", "labelme"]
FORMATS: tuple[DecisionFormat, ...] = get_args(DecisionFormat)
IMAGES_FILE, REGIONS_FILE, LINES_FILE, COCO_FILE = "decisions.csv", "regions.csv", "decisions.jsonl", "coco.json"
CATEGORY = "defect"
IMAGE_COLUMNS = ("verdict", "score", "p_value", "height", "width", "n_regions")
REGION_COLUMNS = (
    *("x", "y", "width", "height", "area_px", "diameter_px", "length_px", "area_mm2", "diameter_mm", "length_mm"),
    *("peak", "peak_row", "peak_column", "p_value"),
)
LABELME_VERSION = "5.5.0"  # whose form this is
RED = (255, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decided:
    """A decision and the photograph it is about: the id of its sample, and where it lies."""

    id: str
    image_path: Path
    decision: Decision


def write_decisions(
    decided: Iterable[Decided], folder: Path, formats: Sequence[DecisionFormat] = ("csv", "jsonl")
) -> int:
    """Write every decision in these formats below a folder as it comes; returns how many there were.

    `csv`: decisions.csv, one row an image, and regions.csv, one row a region. `jsonl`: decisions.jsonl, one object an
    image with its regions. `coco`: coco.json. `masks`: masks/ID.png, 0 and 255 at the photograph's size. `labelme`:
    labelme/ID.json, which labelme opens. Tables of an earlier call are replaced at the end, or stay if it fails.

    Raises:
        SettingsError: no such format.
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    for name in formats:
        if name not in FORMATS:
            raise SettingsError(f"{name!r} is no format of decisions; choose among {', '.join(FORMATS)}")
    count = 0

    def write(new: Path) -> None:
        nonlocal count
        with ExitStack() as stack:
            tables = [stack.enter_context(_TABLES[name](new, folder)) for name in _TABLES if name in formats]
            for one in decided:
                for table in tables:
                    table.add(one)
                if "masks" in formats:
                    mask = mask_of(one.decision.regions, one.decision.image_size)
                    write_png(folder / MASKS / f"{one.id}.png", mask)
                if "labelme" in formats:
                    path = folder / "labelme" / f"{one.id}.json"
                    write_json(path, labelme(one, path.parent))
                count += 1

    try:
        replace_together(folder, "decisions", write)
    except OSError as error:
        raise TinyDefectsError(cannot_write(folder, error)) from error
    return count


def labelme(decided: Decided, folder: Path) -> dict[str, object]:
    """The content of a labelme file that lies in this folder."""
    height, width = decided.decision.image_size
    shapes = [
        {
            "label": CATEGORY,
            "points": polygon(region).tolist(),
            "group_id": None,
            "description": told(region),
            "shape_type": "polygon",
            "flags": {},
        }
        for region in decided.decision.regions
    ]
    return {
        "version": LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": relative(decided.image_path, folder),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def polygon(region: Region) -> NDArray[np.int64]:
    """(n, 2) corners x, y in the image of the outer border of a region."""
    x, y, _, _ = region.x_y_width_height
    corners: NDArray[np.int64] = outline(region.pixels)[0] + np.array([x, y])
    return corners


def relative(path: Path, folder: Path) -> str:
    """The way from a folder to a file, with slashes; the whole path where none leads there (another drive)."""
    try:
        return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:
        return path.absolute().as_posix()


def draw_outlines(
    image: NDArray[np.uint8], decision: Decision, colour: tuple[int, int, int] = RED
) -> NDArray[np.uint8]:
    """A copy of the photograph (H, W, 3) with a line of one pixel around each region, which itself stays to be seen."""
    drawn = image.copy()
    for region in decision.regions:
        rows, columns = (
            slice(max(0, side.start - 1), min(length, side.stop + 1))
            for side, length in zip(region.box, image.shape[:2], strict=True)
        )
        inside = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        top, left = region.box[0].start - rows.start, region.box[1].start - columns.start
        inside[top : top + region.pixels.shape[0], left : left + region.pixels.shape[1]] = region.pixels
        drawn[rows, columns][ndimage.binary_dilation(inside, EIGHT_CONNECTED) & ~inside] = colour
    return drawn


class _Table(Protocol):
    """What decisions are added to, one after another."""

    def add(self, one: Decided) -> None: ...


class _Csv:
    """One row an image, and one row a region beside it."""

    def __init__(self, images: IO[str], regions: IO[str]) -> None:
        self._images, self._regions = (csv.writer(file, lineterminator="\n") for file in (images, regions))
        self._images.writerow(["image", *IMAGE_COLUMNS])
        self._regions.writerow(["image", "region", *REGION_COLUMNS])

    def add(self, one: Decided) -> None:
        record = one.decision.record()
        self._images.writerow([one.id, *(record[name] for name in IMAGE_COLUMNS)])
        for number, region in enumerate(one.decision.regions, start=1):
            cells = region_record(region)
            self._regions.writerow([one.id, number, *(cells[name] for name in REGION_COLUMNS)])


class _Lines:
    """One object an image."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, one: Decided) -> None:
        self._file.write(json.dumps({"image": one.id, **one.decision.record()}, allow_nan=False) + "\n")


class _Coco:
    """Images go to the file at once; annotations, which follow them there, into a file aside until all are in."""

    def __init__(self, file: IO[str], annotations: IO[str], folder: Path) -> None:
        self._file, self._annotations, self._folder = file, annotations, folder
        self._n_images = self._n_annotations = 0
        self._file.write('{"info": {"description": "decisions of tinydefects"}, "licenses": [],\n"categories": ')
        self._file.write(json.dumps([{"id": 1, "name": CATEGORY, "supercategory": ""}]) + ',\n"images": [')

    def add(self, one: Decided) -> None:
        height, width = one.decision.image_size
        self._n_images += 1
        name = relative(one.image_path, self._folder)
        image = {"id": self._n_images, "file_name": name, "height": height, "width": width}
        self._file.write(("\n" if self._n_images == 1 else ",\n") + json.dumps(image))
        for region in one.decision.regions:
            self._n_annotations += 1
            annotation = {
                "id": self._n_annotations,
                "image_id": self._n_images,
                "category_id": 1,
                "segmentation": [polygon(region).ravel().tolist()],
                "area": region.area_px,
                "bbox": list(region.x_y_width_height),
                "iscrowd": 0,
                "score": region.peak,
            }
            self._annotations.write(("\n" if self._n_annotations == 1 else ",\n") + json.dumps(annotation))

    def close(self) -> None:
        """Put the annotations behind the images."""
        self._file.write('],\n"annotations": [')
        self._annotations.seek(0)
        while part := self._annotations.read(io.DEFAULT_BUFFER_SIZE):
            self._file.write(part)
        self._file.write("]}\n")


@contextmanager
def _csv(new: Path, folder: Path) -> Iterator[_Csv]:
    with _text(new / IMAGES_FILE) as images, _text(new / REGIONS_FILE) as regions:
        yield _Csv(images, regions)


@contextmanager
def _lines(new: Path, folder: Path) -> Iterator[_Lines]:
    with _text(new / LINES_FILE) as file:
        yield _Lines(file)


@contextmanager
def _coco(new: Path, folder: Path) -> Iterator[_Coco]:
    aside = new / "annotations"
    with _text(new / COCO_FILE) as file, _text(aside) as annotations:
        coco = _Coco(file, annotations, folder)
        yield coco
        coco.close()
    aside.unlink()


def _text(path: Path) -> IO[str]:
    return path.open("w+", encoding="utf-8", errors="backslashreplace", newline="")


_TABLES: dict[str, Callable[[Path, Path], AbstractContextManager[_Table]]] = {
    "csv": _csv,
    "jsonl": _lines,
    "coco": _coco,
}
