"""BTAD, the beanTech anomaly detection dataset: three products, images and masks in mixed formats.

Source: Mishra et al., "VT-ADL", ISIE 2021. Folders say `ok` and `ko`; ids say `good` and `ko`, as everywhere here.
"""

from dataclasses import replace
from pathlib import Path

from tinydefects.data.sample import Category
from tinydefects.datasets.folder import Layout, load_layout

BTAD = Layout(
    dataset="btad", folder_names=("btad", "BTech_Dataset_transformed", "btech"), marks=(("train/ok", "test/ok"),)
)


def load_btad(name: str, *, root: Path, allow_unmarked: bool = False, training_only: bool = False) -> Category:
    """Products `01`, `02`, `03`; masks in `ground_truth/ko` under the image's stem, whatever their format.

    Raises:
        DatasetError: the product is not under `root`, or is incomplete.
    """
    folder = BTAD.find(name, root, training_only=training_only)
    category = load_layout(
        folder, good="ok", mask_rule="nonzero", allow_unmarked=allow_unmarked, training_only=training_only
    )
    return replace(category, id=f"btad/{name}")
