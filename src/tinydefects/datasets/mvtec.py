"""MVTec AD, MVTec AD 2 and MVTec LOCO AD: three datasets of one house, three layouts.

Sources: Bergmann et al., IJCV 129 (2021); Heckler-Kram et al., arXiv 2503.21622; Bergmann et al., IJCV 130 (2022).
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from tinydefects.data.json_files import read_as
from tinydefects.data.pixels import read_size, read_stored
from tinydefects.data.sample import Category, Sample
from tinydefects.data.walk import sub_folders
from tinydefects.datasets.folder import (
    Layout,
    accounted,
    beside_training,
    defect_samples,
    good_samples,
    image_files,
    load_layout,
    require_defects,
    suggest,
)
from tinydefects.errors import DatasetError, MaskError, ResolutionMismatchError

MVTEC_AD = Layout(
    dataset="mvtec_ad",
    folder_names=("mvtec_ad", "mvtec_anomaly_detection", "mvtec"),
    marks=(("train/good", "test"),),
)
MVTEC_AD2 = Layout(
    dataset="mvtec_ad2",
    folder_names=("mvtec_ad_2",),
    marks=(("train/good", "test_public"), ("train/good", "test_private"), ("train/good", "test_private_mixed")),
)
MVTEC_LOCO = Layout(
    dataset="mvtec_loco",
    folder_names=("mvtec_loco", "mvtec_loco_anomaly_detection", "mvtec_loco_ad", "mvtec_ad_loco"),
    marks=(("train/good", "validation/good", "test"),),
)
LOCO_CONFIG = "defects_config.json"
AD2_SPLITS = ("test_public", "test_private", "test_private_mixed")


def load_mvtec_ad(name: str, *, root: Path, allow_unmarked: bool = False, training_only: bool = False) -> Category:
    """`train/good`, `test/<type>` and `ground_truth/<type>/NNN_mask.png`.

    Raises:
        DatasetError: the category is not under `root`, or is incomplete.
    """
    folder = MVTEC_AD.find(name, root, training_only=training_only)
    category = load_layout(folder, allow_unmarked=allow_unmarked, training_only=training_only)
    return replace(category, id=f"mvtec_ad/{name}")


def load_mvtec_ad2(
    name: str,
    *,
    root: Path,
    split: Literal["test_public", "test_private", "test_private_mixed"] = "test_public",
    allow_unmarked: bool = False,
    training_only: bool = False,
) -> Category:
    """The stem says scene and lighting (`003_overexposed`); the lightings of one scene share a `group`.

    The private splits come without truth: their samples are labelled `unknown` and keep the flat id
    `test_private/NNN_regular` under which the benchmark's server expects their maps.

    Raises:
        DatasetError: the split or category does not exist under `root`, or is incomplete.
    """
    if split not in AD2_SPLITS:
        raise DatasetError(f"mvtec_ad2/{name}: no split {split!r}; {suggest(split, AD2_SPLITS)}")
    folder = MVTEC_AD2.find(name, root, training_only=training_only)
    train = _grouped_by_scene(good_samples(folder / "train" / "good", "train/good"))
    if training_only:
        return accounted(Category(id=f"mvtec_ad2/{name}", train=train, test=()), folder, skip=beside_training(folder))
    if split == "test_public":
        test = good_samples(folder / split / "good", f"{split}/good")
        masks = folder / split / "ground_truth" / "bad"
        test += defect_samples(folder / split / "bad", masks, f"{split}/bad", allow_unmarked=allow_unmarked)
        require_defects(test, folder / split / "bad")
    else:
        test = [replace(sample, label="unknown") for sample in good_samples(folder / split, split)]
    category = Category(
        id=f"mvtec_ad2/{name}",
        train=train,
        validation=_grouped_by_scene(good_samples(folder / "validation" / "good", "validation/good")),
        test=_grouped_by_scene(test),
    )
    return accounted(category, folder, skip=[folder / other for other in AD2_SPLITS if other != split])


def load_mvtec_loco(name: str, *, root: Path, allow_unmarked: bool = False, training_only: bool = False) -> Category:
    """Several masks for one image, `ground_truth/<type>/<stem>/*.png`; their union is the truth.

    Mask values tell kinds of defect apart, whose saturations `defects_config.json` holds: each mask file is a defect
    for sPRO. Without that file sPRO is left out, and said; for all else every value above zero is a defect.

    Raises:
        DatasetError: the category is not under `root`, or is incomplete.
    """
    folder = MVTEC_LOCO.find(name, root, training_only=training_only)
    train = good_samples(folder / "train" / "good", "train/good")
    if training_only:
        return accounted(Category(id=f"mvtec_loco/{name}", train=train, test=()), folder, skip=beside_training(folder))
    test = good_samples(folder / "test" / "good", "test/good")
    for kind in (child for own, child in sub_folders(folder / "test").items() if own != "good"):
        test += _loco_defects(kind, folder / "ground_truth" / kind.name, allow_unmarked)
    require_defects(test, folder / "test")
    validation = good_samples(folder / "validation" / "good", "validation/good")
    remarks: tuple[str, ...] = ()
    if (folder / LOCO_CONFIG).is_file():
        _read_saturations(folder / LOCO_CONFIG)  # what is wrong with it shows before anything is learnt
        test = [LocoSample(**{one.name: getattr(sample, one.name) for one in fields(sample)}) for sample in test]
    else:
        remarks = (f"no {LOCO_CONFIG}, so that sPRO is left out",)
    category = Category(id=f"mvtec_loco/{name}", train=train, validation=validation, test=test, remarks=remarks)
    return accounted(category, folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocoSample(Sample):
    """A photograph whose mask files are defects of their own, with saturations."""

    def saturated_defects(self) -> list[tuple[NDArray[np.bool_], int]]:
        """See `read_loco_defects`."""
        return read_loco_defects(self)

    def truth_files(self) -> tuple[Path, ...]:
        """The masks, and where there are any, the saturations of their category."""
        return (*self.mask_paths, _saturations_of(self)) if self.mask_paths else ()


class _Saturation(BaseModel):
    """An entry of `defects_config.json`: how many pixels, or which share, of a defect drawn with this value are all."""

    pixel_value: int
    saturation_threshold: float = Field(gt=0)
    relative_saturation: bool


def read_loco_defects(sample: Sample) -> list[tuple[NDArray[np.bool_], int]]:
    """The defects of an image of MVTec LOCO, one for each mask file, as (mask, saturation) for `metrics.saturated`.

    The mask is (H, W) bool. The saturation is in pixels, at least 1 and at most the defect's area: the number in the
    category's `defects_config.json`, or its share of the area, rounded down.

    Raises:
        DatasetError: there is no such file, it is none, or it says two things of one value.
        MaskError: a mask holds no value but 0, several, or one that the file does not know.
        ResolutionMismatchError: a mask has another size than the image.
    """
    config = _saturations_of(sample)
    known, size = _read_saturations(config), read_size(sample.image_path)
    defects = []
    for path in sample.mask_paths:
        pixels = read_stored(path).pixels
        if pixels.shape != size:
            raise ResolutionMismatchError(
                f"{path}: the mask is {pixels.shape} but its image is {size}; unpack it again"
            )
        values = [int(value) for value in np.unique(pixels) if value]
        if len(values) != 1:
            raise MaskError(f"{path}: holds {values or 'nothing'} beside 0, expected one value; unpack it again")
        if values[0] not in known:
            raise MaskError(f"{path}: holds {values[0]}, which {config} does not know; unpack MVTec LOCO again")
        entry, area = known[values[0]], int(np.count_nonzero(pixels))
        wanted = entry.saturation_threshold * (area if entry.relative_saturation else 1)
        defects.append((pixels != 0, min(max(1, int(wanted)), area)))
    return defects


def _saturations_of(sample: Sample) -> Path:
    """The file beside `test/`, as many folders up as the id of the sample has parts."""
    return sample.image_path.parents[sample.id.count("/")] / LOCO_CONFIG


def _read_saturations(config: Path) -> dict[int, _Saturation]:
    """By the value of masks."""
    entries = read_as(
        list[_Saturation], config, DatasetError, kind="list of saturations", way_out="unpack MVTec LOCO again"
    )
    known: dict[int, _Saturation] = {}
    for entry in entries:
        if known.setdefault(entry.pixel_value, entry) != entry:
            raise DatasetError(f"{config}: gives {entry.pixel_value} two saturations; unpack MVTec LOCO again")
    return known


def _grouped_by_scene(samples: list[Sample]) -> list[Sample]:
    """`test_public/bad/003_shift_1` belongs to `test_public/bad/003`: scenes are numbered anew in each folder."""
    return [replace(sample, group=_scene(sample.id)) for sample in samples]


def _scene(sample_id: str) -> str:
    folder, _, stem = sample_id.rpartition("/")
    return f"{folder}/{stem.partition('_')[0]}"


def _loco_defects(kind: Path, mask_folder: Path, allow_unmarked: bool) -> list[Sample]:
    samples = []
    for stem, path in image_files(kind).items():
        masks = tuple(image_files(mask_folder / stem).values()) if (mask_folder / stem).is_dir() else ()
        if not masks and not allow_unmarked:
            raise DatasetError(
                f"{path}: no mask for this defective image, tried {mask_folder / stem}/*.png; add it, or let "
                "--allow unmarked count such images for image metrics only"
            )
        samples.append(
            Sample(
                id=f"test/{kind.name}/{stem}", image_path=path, label="defect", mask_paths=masks, mask_rule="nonzero"
            )
        )
    return samples
