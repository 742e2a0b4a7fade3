"""MPDD, metal parts photographed while they are painted: six categories in MVTec's layout.

Source: Jezek et al., "Deep learning-based defect detection of metal parts", ICUMT 2021; CC BY-NC-SA. Layout and names
of the categories as several public loaders read the unpacked archive.
"""

from dataclasses import replace
from pathlib import Path

from tinydefects.data.sample import Category
from tinydefects.datasets.folder import Layout, load_layout

MPDD = Layout(dataset="mpdd", folder_names=("mpdd",), marks=(("train/good", "test"),))


def load_mpdd(name: str, *, root: Path, allow_unmarked: bool = False, training_only: bool = False) -> Category:
    """`train/good`, `test/<type>` and `ground_truth/<type>/NNN_mask.png`.

    Raises:
        DatasetError: the category is not under `root`, or is incomplete.
    """
    folder = MPDD.find(name, root, training_only=training_only)
    category = load_layout(folder, allow_unmarked=allow_unmarked, training_only=training_only)
    return replace(category, id=f"mpdd/{name}")
