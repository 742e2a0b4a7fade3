"""MVTec AD, MVTec AD 2 and MVTec LOCO AD: three datasets of one house, three layouts.

Sources: Bergmann et al., IJCV 129 (2021); Heckler-Kram et al., arXiv 2503.21622; Bergmann et al., IJCV 130 (2022).
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

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
    suggest,
)
from tinydefects.errors import DatasetError

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

    Mask values tell kinds of defect apart (`defects_config.json`); here every value above zero is a defect.

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
    validation = good_samples(folder / "validation" / "good", "validation/good")
    return accounted(Category(id=f"mvtec_loco/{name}", train=train, validation=validation, test=test), folder)


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
