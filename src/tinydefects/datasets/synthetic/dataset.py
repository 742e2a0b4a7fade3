"""The synthetic dataset: photographs of textures and parts with planted defects of exactly known size, no download.

It is drawn once to `<root>/synthetic/<family>-<fingerprint>/` in MVTec's layout, image by image from (seed, family,
index) alone, so that order and number do not matter. `manifest.json` is written last: without it a folder counts
as half drawn and is drawn again.
"""

import hashlib
import math
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from tinydefects.data.json_files import read_as, write_json
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Category, Sample
from tinydefects.datasets.folder import suggest
from tinydefects.datasets.synthetic.defects import (
    CLEARANCE_PX,
    CONTRAST_RANGES,
    DEFECT_KINDS,
    MINIMUM_CONTRAST,
    Planted,
    least_change,
    plant,
)
from tinydefects.datasets.synthetic.surfaces import PAINTERS, Scene, draw_scene
from tinydefects.errors import DatasetError
from tinydefects.limits import MOST_SEED

SYNTHETIC_FAMILIES: tuple[str, ...] = tuple(PAINTERS)
FORMAT_VERSION = 1  # raised with every change of what is drawn, so that old folders are left alone
SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 64, 4096
LARGEST_AREA_SHARE = 0.10
MOST_IMAGES = 100_000  # of one kind
SWEEP_CLEARANCE = 1 / 8  # of the longer side, between defects of a sweep: how far glow is followed when maps are scored
FEWER = "use fewer on an image (--per-image), smaller --diameters, or a larger --size"
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
Series = Literal["train", "good", "defect"]
Areas = Literal["log-uniform", "uniform"]
Progress = Callable[[int, int], None]


class Sweep(BaseModel):
    """A grid of sizes and contrasts: `repeats` defects of each pair, `per_image` of them well apart on a photograph.

    `diameters_px` are those of discs of the same area; `contrasts` are mean changes in gray levels of 255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    diameters_px: tuple[float, ...]
    contrasts: tuple[float, ...]
    repeats: int
    per_image: int

    @property
    def n_defects(self) -> int:
        """All of them."""
        return len(self.diameters_px) * len(self.contrasts) * self.repeats

    @property
    def n_images(self) -> int:
        """How many photographs they take."""
        return -(-self.n_defects // self.per_image)

    def cell(self, number: int) -> tuple[int, float]:
        """Area in pixels and contrast of one of `n_defects`, counted cell by cell, then again for each repeat."""
        row, column = divmod(number % (len(self.diameters_px) * len(self.contrasts)), len(self.contrasts))
        return disc_area_px(self.diameters_px[row]), self.contrasts[column]


def disc_area_px(diameter_px: float) -> int:
    """The area of a disc in whole pixels, one at least."""
    return max(1, round(math.pi * diameter_px**2 / 4))


class Settings(BaseModel):
    """Everything that decides the bytes of a synthetic category."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    family: str
    seed: int
    height: int
    width: int
    n_train: int
    n_good: int
    n_defect: int
    min_area_px: int
    max_area_share: float
    format_version: int = FORMAT_VERSION
    kinds: tuple[str, ...] = DEFECT_KINDS
    areas: Areas = "log-uniform"
    sweep: Sweep | None = None

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Fields that came later are left out at their defaults: what was drawn before keeps its name and its bytes."""
        told: dict[str, object] = handler(self)
        later = {"kinds": DEFECT_KINDS, "areas": "log-uniform", "sweep": None}
        return {name: value for name, value in told.items() if name not in later or getattr(self, name) != later[name]}

    @property
    def fingerprint(self) -> str:
        """Ten hexadecimal digits that change with any setting."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:10]

    @property
    def max_area_px(self) -> int:
        """The largest defect, in pixels."""
        return math.floor(self.max_area_share * self.height * self.width)


class DrawnDefect(BaseModel):
    """One planted defect: exact area, box (top, left, bottom, right; end excluded), mean change in gray levels."""

    kind: str
    area_px: int
    box: tuple[int, int, int, int]
    contrast: float


class ImageRecord(BaseModel):
    """One drawn image, by its sample id, and its defects."""

    id: str
    defects: tuple[DrawnDefect, ...] = ()


class Manifest(BaseModel):
    """What a finished folder holds, and the rules its defects keep (gray levels are of 255, largest channel)."""

    settings: Settings
    minimum_contrast: int = MINIMUM_CONTRAST
    contrast_ranges: dict[str, tuple[float, float]] = CONTRAST_RANGES
    clearance_px: int = CLEARANCE_PX
    images: tuple[ImageRecord, ...]


def load_synthetic(
    name: str,
    *,
    root: Path,
    seed: int = 0,
    size: tuple[int, int] | int = 512,
    n_train: int = 40,
    n_good: int = 20,
    n_defect: int = 40,
    min_area_px: int = 1,
    max_area_share: float = LARGEST_AREA_SHARE,
    progress: Progress | None = None,
) -> Category:
    """A synthetic category, drawn on the first call and read from disk afterwards.

    `size` is (height, width) or the side of a square, 64 to 4096 pixels. Each defective image holds one to three
    defects of one kind, with areas log-uniform between `min_area_px` and `max_area_share` of the image (the second
    and third only where they find room). `progress` is called with (images drawn, images to draw).

    Raises:
        DatasetError: an unknown family, or a setting out of its range.
        TinyDefectsError: the folder cannot be written.
    """
    settings = _settings(
        name,
        size,
        seed=seed,
        n_train=n_train,
        n_good=n_good,
        n_defect=n_defect,
        min_area_px=min_area_px,
        max_area_share=max_area_share,
    )
    check_settings(settings)
    folder = Path(root) / "synthetic" / f"{name}-{settings.fingerprint}"
    if not _is_whole(folder, settings):
        _draw(folder, settings, progress)
    return _category(folder, settings)


def draw_clean(settings: Settings, series: Series, index: int) -> Scene:
    """The photograph of this series and index without any defect, as it was before planting."""
    number = {"train": 1, "good": 2, "defect": 3}[series]
    size = (settings.height, settings.width)
    return draw_scene(settings.family, _generator(settings, 0), _generator(settings, number, index), size)


def draw_defective(settings: Settings, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], list[Planted]]:
    """The defective image of this index: pixels (H, W, C), its mask (H, W), and what was planted.

    Raises:
        DatasetError: the first defect finds no room on the part; of a sweep, any.
    """
    rng = _generator(settings, 4, index)
    kind, _ = _kind_and_number(settings, index)
    scene = draw_clean(settings, "defect", index)
    if settings.sweep is not None:
        cells = cells_of(settings)[index]
        areas_px, must_fit = [area_px for area_px, _ in cells], len(cells)
        clearance_px = round(max(scene.part.shape) * SWEEP_CLEARANCE)
        image, mask, planted = plant(rng, scene, kind, areas_px, [one for _, one in cells], clearance_px=clearance_px)
    else:
        start = _generator(settings, 5).random() + index * GOLDEN_RATIO  # spreads the sizes evenly over any few images
        places = [start, *(rng.random() for _ in range(rng.choice(3, p=[0.5, 0.3, 0.2])))]
        areas_px, must_fit = [_area_px(settings, place % 1.0) for place in places], 1
        image, mask, planted = plant(rng, scene, kind, areas_px)
    if [one.area_px for one in planted[:must_fit]] != areas_px[:must_fit]:
        too_large = FEWER if settings.sweep else "use a smaller max_area_share"
        pairs = zip_longest(areas_px, (one.area_px for one in planted))
        area_px = next(wanted for wanted, found in pairs if wanted != found)
        raise DatasetError(
            f"synthetic/{settings.family}: a {kind} of {area_px} pixels finds no room in image {index}; {too_large}"
        )
    return image, mask, planted


@lru_cache(maxsize=len(PAINTERS))
def cells_of(settings: Settings) -> list[list[tuple[int, float]]]:
    """Areas and contrasts on each photograph of a sweep, the largest first, as these find room least easily."""
    assert settings.sweep is not None
    sweep, step = settings.sweep, settings.sweep.per_image
    cells = [sweep.cell(int(number)) for number in _generator(settings, 6).permutation(sweep.n_defects)]
    return [sorted(cells[start : start + step], reverse=True) for start in range(0, len(cells), step)]


def _area_px(settings: Settings, place: float) -> int:
    """`place` in [0, 1) between the smallest and the largest area, on the scale that the settings say."""
    smallest, largest = settings.min_area_px, settings.max_area_px
    if settings.areas == "uniform":
        return min(largest, round(smallest + place * (largest - smallest)))
    return min(largest, max(smallest, round(smallest * math.pow(largest / smallest, place))))


def _generator(settings: Settings, *stream: int) -> np.random.Generator:
    family = zlib.crc32(settings.family.encode())
    return np.random.default_rng(np.random.SeedSequence([settings.seed, family, *stream]))


def _kind_and_number(settings: Settings, index: int) -> tuple[str, int]:
    """Defective images take the kinds in turn."""
    number, kind = divmod(index, len(settings.kinds))
    return settings.kinds[kind], number


def sample_ids(settings: Settings) -> list[str]:
    """Sample ids of the whole category: train, good, then defective by index."""
    defective = (_kind_and_number(settings, index) for index in range(settings.n_defect))
    return [
        *(f"train/good/{index:03d}" for index in range(settings.n_train)),
        *(f"test/good/{index:03d}" for index in range(settings.n_good)),
        *(f"test/{kind}/{number:03d}" for kind, number in defective),
    ]


def image_path(folder: Path, sample_id: str) -> Path:
    """Where an image of a drawn category lies."""
    return folder / f"{sample_id}.png"


def mask_paths(folder: Path, sample_id: str) -> tuple[Path, ...]:
    """Where its mask lies; none for a good image."""
    _, kind, stem = sample_id.split("/")
    return () if kind == "good" else (folder / "ground_truth" / kind / f"{stem}_mask.png",)


def _draw(folder: Path, settings: Settings, progress: Progress | None) -> None:
    """Every image and mask, then the manifest."""
    ids = sample_ids(settings)
    records = []
    for place, sample_id in enumerate(ids):
        records.append(draw_one(folder, settings, sample_id, place))
        if progress is not None:
            progress(place + 1, len(ids))
    write_manifest(folder, settings, records)


def write_manifest(folder: Path, settings: Settings, records: Sequence[ImageRecord]) -> None:
    """The manifest of a folder of which every image and mask is there.

    Raises:
        TinyDefectsError: the folder cannot be written.
    """
    manifest = Manifest(settings=settings, images=tuple(records))
    if settings.sweep is not None:
        swept, kept = settings.sweep.contrasts, round(max(settings.height, settings.width) * SWEEP_CLEARANCE)
        manifest = Manifest(
            settings=settings,
            minimum_contrast=least_change(min(swept)),
            contrast_ranges={settings.kinds[0]: (min(swept), max(swept))},
            clearance_px=kept,
            images=tuple(records),
        )
    write_json(folder / "manifest.json", manifest)


def draw_one(folder: Path, settings: Settings, sample_id: str, place: int) -> ImageRecord:
    """The image at this place of `sample_ids`, on disk.

    Raises:
        DatasetError: its defects find no room.
        TinyDefectsError: the folder cannot be written.
    """
    index = place - settings.n_train - settings.n_good
    planted: list[Planted] = []
    if index >= 0:
        image, mask, planted = draw_defective(settings, index)
        write_png(mask_paths(folder, sample_id)[0], mask)
    elif place < settings.n_train:
        image = draw_clean(settings, "train", place).image
    else:
        image = draw_clean(settings, "good", place - settings.n_train).image
    write_png(image_path(folder, sample_id), image[..., 0] if image.shape[2] == 1 else image)
    return ImageRecord(id=sample_id, defects=tuple(_record(defect) for defect in planted))


def _record(defect: Planted) -> DrawnDefect:
    rows, columns = defect.box
    box = (rows.start, columns.start, rows.stop, columns.stop)
    return DrawnDefect(kind=defect.kind, area_px=defect.area_px, box=box, contrast=defect.contrast)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a drawn folder; None where there is none, or none that can be read."""
    try:
        return read_as(Manifest, folder / "manifest.json", DatasetError, kind="manifest", way_out="it is drawn again")
    except DatasetError:
        return None


def _is_whole(folder: Path, settings: Settings) -> bool:
    """Whether the folder was drawn to its end with these settings and still has every file."""
    manifest = read_manifest(folder)
    if manifest is None or manifest.settings != settings:
        return False
    ids = [image.id for image in manifest.images]
    files = (path for i in ids for path in (image_path(folder, i), *mask_paths(folder, i)))
    return ids == sample_ids(settings) and all(path.is_file() for path in files)


def _category(folder: Path, settings: Settings) -> Category:
    samples = [
        Sample(
            id=sample_id,
            image_path=image_path(folder, sample_id),
            label="good" if sample_id.split("/")[1] == "good" else "defect",
            mask_paths=mask_paths(folder, sample_id),
        )
        for sample_id in sample_ids(settings)
    ]
    n_train = settings.n_train
    return Category(id=f"synthetic/{settings.family}", train=samples[:n_train], test=samples[n_train:])


def _settings(name: str, size: tuple[int, int] | int, **numbers: float) -> Settings:
    try:
        height, width = size if isinstance(size, tuple) else (size, size)
        return Settings.model_validate({"family": name, "height": height, "width": width, **numbers})
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{first['loc'][0]} is {first['input']!r}; {first['msg'].lower()}"
    except ValueError:
        reason = f"size is {size!r}; use one side in pixels, or (height, width)"
    raise DatasetError(f"synthetic/{name}: {reason}")


def check_settings(settings: Settings) -> None:
    """Refuse what cannot be drawn, in one line that says what can.

    Raises:
        DatasetError: see above.
    """
    if settings.family not in PAINTERS:
        raise DatasetError(f"synthetic/{settings.family}: no such family; {suggest(settings.family, PAINTERS)}")
    sides, limits = (settings.height, settings.width), f"each side is {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} pixels"
    complaints = {
        f"the size is {sides[0]} x {sides[1]}; {limits}": min(sides) < SMALLEST_SIDE_PX or max(sides) > LARGEST_SIDE_PX,
        f"the seed is {settings.seed}; use 0 to {MOST_SEED}": not 0 <= settings.seed <= MOST_SEED,
        f"n_train, n_good and n_defect are {settings.n_train}, {settings.n_good} and {settings.n_defect}; "
        f"use 0 to {MOST_IMAGES:,} each": not all(
            0 <= number <= MOST_IMAGES for number in (settings.n_train, settings.n_good, settings.n_defect)
        ),
        f"max_area_share is {settings.max_area_share}; use a share above 0 and at most {LARGEST_AREA_SHARE}": not (
            0 < settings.max_area_share <= LARGEST_AREA_SHARE
        ),
    }
    for complaint, holds in complaints.items():
        if holds:
            raise DatasetError(f"synthetic/{settings.family}: {complaint}")
    if not 1 <= settings.min_area_px <= settings.max_area_px:
        raise DatasetError(
            f"synthetic/{settings.family}: min_area_px is {settings.min_area_px}; use 1 to {settings.max_area_px}, "
            f"which is {settings.max_area_share:g} of {settings.height} x {settings.width} pixels"
        )
