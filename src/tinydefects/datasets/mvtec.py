"""MVTec AD, MVTec AD 2 and MVTec LOCO AD: three datasets of one house, three layouts.

Sources: Bergmann et al., IJCV 129 (2021); Heckler-Kram et al., arXiv 2503.21622; Bergmann et al., IJCV 130 (2022).
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from tinydefects.datasets.folder import (
    Layout,
    defect_samples,
    good_samples,
    image_files,
    list_folder,
    load_folder,
    suggest,
)
from tinydefects.errors import DatasetError
from tinydefects.sample import Category, Sample

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


def load_mvtec_ad(name: str, *, root: Path) -> Category:
    """`train/good`, `test/<type>` and `ground_truth/<type>/NNN_mask.png`.

    Raises:
        DatasetError: the category is not under `root`, or is incomplete.
    """
    folder = MVTEC_AD.find(name, root)
    category = load_folder(folder, good="train/good", test_good="test/good", defect="test", mask="ground_truth")
    return replace(category, id=f"mvtec_ad/{name}")


def load_mvtec_ad2(
    name: str, *, root: Path, split: Literal["test_public", "test_private", "test_private_mixed"] = "test_public"
) -> Category:
    """The stem says scene and lighting (`003_overexposed`); the lightings of one scene share a `group`.

    The private splits come without truth: their samples are labelled `unknown` and keep the flat id
    `test_private/NNN_regular` under which the benchmark's server expects their maps.

    Raises:
        DatasetError: the split or category does not exist under `root`, or is incomplete.
    """
    if split not in AD2_SPLITS:
        raise DatasetError(f"mvtec_ad2/{name}: no split {split!r}; {suggest(split, AD2_SPLITS)}")
    folder = MVTEC_AD2.find(name, root)
    if split == "test_public":
        test = good_samples(folder / split / "good", f"{split}/good")
        test += defect_samples(folder / split / "bad", folder / split / "ground_truth" / "bad", f"{split}/bad")
    else:
        test = [replace(sample, label="unknown") for sample in good_samples(folder / split, split)]
    return Category(
        id=f"mvtec_ad2/{name}",
        train=_grouped_by_scene(good_samples(folder / "train" / "good", "train/good")),
        validation=_grouped_by_scene(good_samples(folder / "validation" / "good", "validation/good")),
        test=_grouped_by_scene(test),
    )


def load_mvtec_loco(name: str, *, root: Path) -> Category:
    """Several masks for one image, `ground_truth/<type>/<stem>/*.png`; their union is the truth.

    Mask values tell kinds of defect apart (`defects_config.json`); here every value above zero is a defect.

    Raises:
        DatasetError: the category is not under `root`, or is incomplete.
    """
    folder = MVTEC_LOCO.find(name, root)
    test = good_samples(folder / "test" / "good", "test/good")
    for kind in (child for child in list_folder(folder / "test") if child.is_dir() and child.name != "good"):
        test += _loco_defects(kind, folder / "ground_truth" / kind.name)
    return Category(
        id=f"mvtec_loco/{name}",
        train=good_samples(folder / "train" / "good", "train/good"),
        validation=good_samples(folder / "validation" / "good", "validation/good"),
        test=test,
    )


def _grouped_by_scene(samples: list[Sample]) -> list[Sample]:
    """`test_public/bad/003_shift_1` belongs to `test_public/bad/003`: scenes are numbered anew in each folder."""
    return [replace(sample, group=_scene(sample.id)) for sample in samples]


def _scene(sample_id: str) -> str:
    folder, _, stem = sample_id.rpartition("/")
    return f"{folder}/{stem.partition('_')[0]}"


def _loco_defects(kind: Path, mask_folder: Path) -> list[Sample]:
    samples = []
    for stem, path in image_files(kind).items():
        masks = tuple(image_files(mask_folder / stem).values()) if (mask_folder / stem).is_dir() else ()
        if not masks:
            raise DatasetError(f"{path}: no mask for this defective image, tried {mask_folder / stem}/*.png; add it")
        samples.append(
            Sample(
                id=f"test/{kind.name}/{stem}", image_path=path, label="defect", mask_paths=masks, mask_rule="nonzero"
            )
        )
    return samples
