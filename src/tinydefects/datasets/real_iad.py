"""Real-IAD: thirty kinds of parts, each part photographed from five sides, with splits in JSON.

Source: Wang et al., "Real-IAD", CVPR 2024; CC BY-NC-SA 4.0. Layout as several public loaders read the unpacked
archives: images in `realiad_<resolution>/<class>/OK/S0001/` and `…/NG/<type>/S0001/`, splits in
`realiad_jsons/realiad_jsons/<class>.json` (every view) and `realiad_jsons/realiad_jsons_sv/<class>.json` (one view).
Names of files differ between classes, so paths come from the JSON alone. Not read: the splits `fuiad`, whose training
holds defective images. That `S0001` is one part seen by all its views is read from the names; nothing documents it.

Masks of the smaller resolutions are gray at the edges, so a pixel is defective above 127. Defect types are two letters.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from tinydefects.data.json_files import read_as
from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.sample import Category, Sample
from tinydefects.data.walk import counted, is_folder, nfc, sub_folders, walk
from tinydefects.datasets.folder import Layout, accounted, require_defects, suggest
from tinydefects.errors import DatasetError

REAL_IAD = Layout(dataset="real_iad", folder_names=("real_iad",), marks=())
RESOLUTIONS = ("raw", "1024", "512", "256")  # the largest first
SPLITS = {"all": "realiad_jsons", "single": "realiad_jsons_sv"}
PART = re.compile(r"(?P<part>(OK|NG/\w+)/(?P<number>S\d+))/[^/]+")


class _Image(BaseModel):
    """A photograph: `anomaly_class` is the normal class or a type of defect, paths are relative to the class."""

    anomaly_class: str
    image_path: str
    mask_path: str | None = None


class _Meta(BaseModel):
    normal_class: str = "OK"


class _Split(BaseModel):
    meta: _Meta = _Meta()
    train: list[_Image]
    test: list[_Image]


def find_classes(root: Path) -> list[str]:
    """The classes that have a folder in one of the resolutions under `root`."""
    place = next((one for one in REAL_IAD.places(root) if _sizes_in(one)), None)
    return sorted({name for size in _sizes_in(place) for name in sub_folders(size)}) if place else []


def load_real_iad(
    name: str,
    *,
    root: Path,
    resolution: Literal["largest", "raw", "1024", "512", "256"] = "largest",
    views: Literal["all", "single"] = "all",
    allow_unmarked: bool = False,
    training_only: bool = False,
) -> Category:
    """The split of the paper; the views of one part share a `group`, `NG/AK/S0001`, and each part is scored whole, too.

    Args:
        name: the class.
        root: see `load_category`.
        resolution: which of the unpacked sizes; the largest that is there unless it is named.
        views: all five, or the one of the single-view split.
        allow_unmarked: whether a defective view may lack its mask.
        training_only: no mask and no test image is looked for.

    Raises:
        DatasetError: class or resolution are not under `root`, there is no such split, or it names what is not there.
    """
    folder, remarks = _class_folder(name, root, resolution)
    split_file = _split_file(name, folder.parent.parent, views)
    split = read_as(_Split, split_file, DatasetError, kind="split of Real-IAD", way_out="fetch realiad_jsons again")
    if not split.train or any(image.anomaly_class != split.meta.normal_class for image in split.train):
        raise DatasetError(f"{split_file}: its training holds a defective image, or none at all; take another split")
    listing = _Listing(
        split_file=split_file,
        folder=folder,
        normal=split.meta.normal_class,
        files=dict(walk(folder, IMAGE_SUFFIXES).files),
        allow_unmarked=allow_unmarked or training_only,
        are_views=views == "all",
    )
    train = listing.samples(split.train, "train")
    test = [] if training_only else listing.samples(split.test, "test")
    if not training_only:
        require_defects(test, split_file)
    both = {sample.image_path for sample in train} & {sample.image_path for sample in test}
    if both:
        raise DatasetError(f"{split_file}: lists {min(both)} for training and for test; fetch realiad_jsons again")
    shared = sorted({str(sample.group) for sample in train} & {str(sample.group) for sample in test})
    if shared:
        remarks.append(f"{counted('part', len(shared))} with views in training and in test, first {shared[0]}")
    category = Category(id=f"real_iad/{name}", train=train, test=test, remarks=tuple(remarks))
    return category if training_only or views == "single" else accounted(category, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """A split, and the files of its class by their path below `folder`: makes samples of the images it names."""

    split_file: Path
    folder: Path
    normal: str
    files: Mapping[str, Path]
    allow_unmarked: bool
    are_views: bool

    def samples(self, images: list[_Image], split: str) -> list[Sample]:
        """One for each image, in the order of their ids."""
        samples = {}
        for image in images:
            sample = self._sample(image, split)
            if sample.id in samples:
                raise DatasetError(f"{self.split_file}: lists {image.image_path} twice; fetch realiad_jsons again")
            samples[sample.id] = sample
        return [samples[name] for name in sorted(samples)]

    def _sample(self, image: _Image, split: str) -> Sample:
        match = PART.fullmatch(image.image_path)
        if match is None:
            raise DatasetError(
                f"{self.split_file}: names {image.image_path!r}, expected OK/S0001/NAME or NG/TYPE/S0001/NAME; "
                "fetch realiad_jsons again"
            )
        path, is_good = self._find(image.image_path), image.anomaly_class == self.normal
        if is_good and image.mask_path:
            raise DatasetError(
                f"{path}: has a mask and is called {self.normal} in {self.split_file}; fetch realiad_jsons again"
            )
        if not is_good and not image.mask_path and not self.allow_unmarked:
            raise DatasetError(
                f"{path}: no mask for this defective image in {self.split_file}; fetch realiad_jsons again, or let "
                "--allow unmarked count such images for image metrics only"
            )
        return Sample(
            id=f"{split}/{'good' if is_good else image.anomaly_class}/{match['number']}/{nfc(path.stem)}",
            image_path=path,
            label="good" if is_good else "defect",
            mask_paths=(self._find(image.mask_path),) if image.mask_path else (),
            mask_rule="above_127",
            group=match["part"],
            is_view=self.are_views,
        )

    def _find(self, name: str) -> Path:
        if nfc(name) not in self.files:
            raise DatasetError(f"{self.folder / name}: named by {self.split_file}, not there; unpack the class again")
        return self.files[nfc(name)]


def _sizes_in(place: Path) -> list[Path]:
    """The folders of resolutions in a folder, the largest first."""
    return [place / f"realiad_{size}" for size in RESOLUTIONS if is_folder(place / f"realiad_{size}")]


def _class_folder(name: str, root: Path, resolution: str) -> tuple[Path, list[str]]:
    """The folder of a class in the wanted resolution, and what was assumed."""
    place = REAL_IAD.find_whole(root, lambda one: bool(_sizes_in(one)), "realiad_1024/ and realiad_jsons/")
    folders = {size.name.removeprefix("realiad_"): size / name for size in _sizes_in(place) if is_folder(size / name)}
    if not folders:
        known = sorted({one for size in _sizes_in(place) for one in sub_folders(size)})
        raise DatasetError(f"real_iad/{name}: no such class in {place}; {suggest(name, known)}")
    if resolution == "largest":
        largest, *others = folders
        beside = f", there is {' and '.join(others)} as well" if others else ""
        return folders[largest], [f"resolution={largest} is taken{beside}"]
    if resolution not in folders:
        raise DatasetError(f"real_iad/{name}: no resolution={resolution} in {place}; {suggest(resolution, folders)}")
    return folders[resolution], []


def _split_file(name: str, place: Path, views: str) -> Path:
    if views not in SPLITS:
        raise DatasetError(f"real_iad/{name}: no views={views}; {suggest(views, SPLITS)}")
    tried = [place / "realiad_jsons" / SPLITS[views] / f"{name}.json", place / SPLITS[views] / f"{name}.json"]
    found = next((path for path in tried if path.is_file()), None)
    if found is None:
        raise DatasetError(f"{tried[0]}: no split here, nor at {tried[1]}; unpack realiad_jsons beside the images")
    return found
