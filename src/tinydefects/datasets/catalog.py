"""Every dataset by name: a category is addressed by one string, `dataset/category` (`mvtec_ad/screw`)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tinydefects.datasets.btad import BTAD, load_btad
from tinydefects.datasets.folder import list_folder, load_named_folder, suggest
from tinydefects.datasets.magnetic_tile import CATEGORIES, MAGNETIC_TILE, load_magnetic_tile
from tinydefects.datasets.mvtec import MVTEC_AD, MVTEC_AD2, MVTEC_LOCO, load_mvtec_ad, load_mvtec_ad2, load_mvtec_loco
from tinydefects.datasets.synthetic.dataset import SYNTHETIC_FAMILIES, load_synthetic
from tinydefects.datasets.visa import VISA, load_visa
from tinydefects.errors import DatasetError
from tinydefects.masks import MaskRule, checked_rule
from tinydefects.sample import Category

LOADERS: dict[str, Callable[..., Category]] = {
    "mvtec_ad": load_mvtec_ad,
    "mvtec_ad2": load_mvtec_ad2,
    "mvtec_loco": load_mvtec_loco,
    "visa": load_visa,
    "btad": load_btad,
    "magnetic_tile": load_magnetic_tile,
    "folder": load_named_folder,
    "synthetic": load_synthetic,
}
LAYOUTS = {layout.dataset: layout for layout in (MVTEC_AD, MVTEC_AD2, MVTEC_LOCO, VISA, BTAD)}
LICENCES = {
    "mvtec_ad": "CC BY-NC-SA 4.0: no commercial use",
    "mvtec_ad2": "CC BY-NC-SA 4.0: no commercial use",
    "mvtec_loco": "CC BY-NC-SA 4.0: no commercial use",
    "visa": "CC BY 4.0",
    "btad": "CC BY-SA",
    "magnetic_tile": "unknown: no licence file; its readme welcomes use and asks to be cited",
    "folder": "yours",
    "synthetic": "drawn by tinydefects: no restriction",
}


def load_category(address: str, *, root: Path | str = "data", **options: object) -> Category:
    """The samples of one category, for example `load_category("mvtec_ad/screw")`; no pixel is read yet.

    Args:
        address: `dataset/category`.
        root: the folder that holds the dataset's folder (`data` with `data/mvtec_ad/screw`), or the dataset's folder
            itself. The folder's name may differ in case and punctuation, or be the one its archive unpacks to.
        options: what the loader of this dataset takes besides, such as `split="test_private"` of `mvtec_ad2`, and
            `mask_rule`, what masks mean instead of the dataset's own rule; see `masks.py`.

    Raises:
        DatasetError: no such dataset or category (the message names the near one and what exists), or it is incomplete.
    """
    dataset, separator, name = address.partition("/")
    _check(dataset)
    if not separator or not name:
        raise DatasetError(f"{address!r}: a category is written dataset/category, for example mvtec_ad/screw")
    rule = options.pop("mask_rule", None)
    category = LOADERS[dataset](name, root=Path(root), **options)
    return category if rule is None else _with_mask_rule(category, checked_rule(str(rule)))


def list_categories(dataset: str, root: Path | str = "data") -> list[str]:
    """The full addresses (`mvtec_ad/bottle`, …) of the categories of a dataset that lie under `root`; maybe none.

    Raises:
        DatasetError: no such dataset.
    """
    _check(dataset)
    if dataset == "synthetic":
        names = list(SYNTHETIC_FAMILIES)
    elif dataset == "folder":
        names = [child.name for child in list_folder(Path(root)) if child.is_dir()]
    elif dataset == "magnetic_tile":
        names = list(CATEGORIES) if "MT_Free" in MAGNETIC_TILE.categories(Path(root)) else []
    else:
        names = list(LAYOUTS[dataset].categories(Path(root)))
    return [f"{dataset}/{name}" for name in names]


def _with_mask_rule(category: Category, rule: MaskRule) -> Category:
    return replace(category, test=[replace(sample, mask_rule=rule) for sample in category.test])


def _check(dataset: str) -> None:
    if dataset not in LOADERS:
        raise DatasetError(f"{dataset}: no such dataset; {suggest(dataset, LOADERS)}")
