"""KolektorSDD and KolektorSDD2: plastic and painted surfaces, in two layouts of one house.

Sources: Tabernik et al., "Segmentation-based deep-learning approach for surface-defect detection", Journal of
Intelligent Manufacturing 31 (2020); Božič et al., "Mixed supervision for surface-defect detection", Computers in
Industry 129 (2021); both CC BY-NC-SA. Layouts as several public loaders read the unpacked archives:
`kos01/Part0.jpg` with `Part0_label.bmp`, and `{train,test}/10000.png` with `10000_GT.png`.

Every image has a mask, all zero for a good one, and nothing else tells good from defective: so masks are read when a
category is loaded, and a missing one is an error whatever is allowed.
"""

import filecmp
import re
from collections.abc import Mapping
from pathlib import Path

from tinydefects.data.masks import read_mask
from tinydefects.data.pixels import IMAGE_SUFFIXES
from tinydefects.data.read_ahead import read_ahead
from tinydefects.data.sample import Category, Sample
from tinydefects.data.walk import counted, is_folder, sub_folders, walk
from tinydefects.datasets.folder import Layout, accounted, image_files, require_defects, shuffled, suggest
from tinydefects.errors import DatasetError

KOLEKTOR_SDD = Layout(dataset="kolektor_sdd", folder_names=("kolektor_sdd", "ksdd"), marks=())
KOLEKTOR_SDD2 = Layout(dataset="kolektor_sdd2", folder_names=("kolektor_sdd2", "ksdd2"), marks=())
ITEM = re.compile(r"kos\d+")
FOLDS = ("fold1", "fold2", "fold3")
RULE = "nonzero"
COPY = " (copy)"
THREADS = 2
Pair = tuple[Path, Path]  # an image and its mask


def find_sdd(root: Path) -> tuple[str, ...]:
    """The folds of KolektorSDD, if it lies under `root`."""
    return FOLDS if any(map(_items, KOLEKTOR_SDD.places(root))) else ()


def find_sdd2(root: Path) -> tuple[str, ...]:
    """The one category of KolektorSDD2, if it lies under `root`."""
    return ("all",) if any(map(_holds_splits, KOLEKTOR_SDD2.places(root))) else ()


def load_kolektor_sdd(name: str, *, root: Path, seed: int = 0, training_only: bool = False) -> Category:
    """One of three folds: a third of the commutators is tested on, the good surfaces of the others are learnt from.

    All surfaces of a commutator are on one side, and are a `group`. Three folds test on every one of them once. They
    are drawn by `seed`: the folds of the paper come as pickles, which may hold any program and are not read.

    Raises:
        DatasetError: no such fold, the folder is not under `root`, or an image lacks its mask.
        MaskError, ImageReadError: a mask that cannot be read as such.
    """
    if name not in FOLDS:
        raise DatasetError(f"kolektor_sdd/{name}: no such fold; {suggest(name, FOLDS)}")
    folder = KOLEKTOR_SDD.find_whole(root, lambda place: bool(_items(place)), "kos01/, kos02/, …")
    items = _items(folder)
    tested = set(shuffled(items, seed)[FOLDS.index(name) :: len(FOLDS)])
    learnt = _pairs_of({item: items[item] for item in items if item not in tested}, "_label")
    test = {} if training_only else _pairs_of({item: items[item] for item in items if item in tested}, "_label")
    aside = [items[item] for item in tested] if training_only else []
    return _category(f"kolektor_sdd/{name}", folder, learnt, test, aside)


def load_kolektor_sdd2(name: str, *, root: Path, training_only: bool = False) -> Category:
    """The one category `all`: the good images of `train/` to learn from, all of `test/` to test on.

    Raises:
        DatasetError: no such category, the folder is not under `root`, or an image lacks its mask.
        MaskError, ImageReadError: a mask that cannot be read as such.
    """
    if name != "all":
        raise DatasetError(f"kolektor_sdd2/{name}: no such category; there is all")
    folder = KOLEKTOR_SDD2.find_whole(root, _holds_splits, "train/ and test/ of NAME.png and NAME_GT.png")
    learnt = _pairs(folder / "train", "_GT")
    test = {} if training_only else _pairs(folder / "test", "_GT")
    return _category("kolektor_sdd2/all", folder, learnt, test, [folder / "test"] if training_only else [])


def _items(place: Path) -> dict[str, Path]:
    return {name: folder for name, folder in sub_folders(place).items() if ITEM.fullmatch(name)}


def _holds_splits(place: Path) -> bool:
    """Whether a folder is this dataset: others have such folders, too, but no such masks in them."""
    splits = [place / "train", place / "test"]
    return all(map(is_folder, splits)) and any(
        path.stem.endswith("_GT") for split in splits for _, path in walk(split, IMAGE_SUFFIXES, deep=False).files
    )


def _pairs_of(items: Mapping[str, Path], ending: str) -> dict[str, Pair]:
    """The images of all items by `kos01/Part0`."""
    return {f"{item}/{stem}": pair for item, folder in items.items() for stem, pair in _pairs(folder, ending).items()}


def _pairs(folder: Path, ending: str) -> dict[str, Pair]:
    files = _without_copies(image_files(folder, deep=False))
    images = {stem: path for stem, path in files.items() if not stem.endswith(ending)}
    if not images:
        raise DatasetError(f"{folder}: no image here; unpack the dataset again")
    for stem, path in images.items():
        if stem + ending not in files:
            raise DatasetError(
                f"{path}: no mask, tried {folder / stem}{ending}.*, and nothing else tells whether this image is good; "
                "add it, or unpack the dataset again"
            )
    return {stem: (path, files[stem + ending]) for stem, path in images.items()}


def _without_copies(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files but for copies of others: the archive of KolektorSDD2 holds `10301 (copy).png` and that of its mask."""
    originals = {stem: files.get(stem.removesuffix(COPY)) for stem in files if stem.endswith(COPY)}
    copies = {stem for stem, own in originals.items() if own and filecmp.cmp(own, files[stem], shallow=False)}
    return {stem: path for stem, path in files.items() if stem not in copies}


def _category(
    name: str, folder: Path, learnt: Mapping[str, Pair], tested: Mapping[str, Pair], aside: list[Path]
) -> Category:
    """The category of what is learnt from and tested on, but for the defective images among the former."""
    first = _samples(learnt, "train")
    train = [sample for sample in first if sample.label == "good"]
    if not train:
        raise DatasetError(f"{folder}: no good image to learn from; unpack the dataset again")
    test = _samples(tested, "test")
    if tested:
        require_defects(test, folder)
    n_spoiled = len(first) - len(train)
    told = f"{counted('defective image', n_spoiled)} of the training part not learnt from"
    category = Category(id=name, train=train, test=test, remarks=(told,) if n_spoiled else ())
    known = [path for pair in (*learnt.values(), *tested.values()) for path in pair]
    return accounted(category, folder, skip=aside, known=known)


def _samples(pairs: Mapping[str, Pair], split: str) -> list[Sample]:
    marked = read_ahead(_marks, [mask for _, mask in pairs.values()], threads=THREADS)
    return [
        Sample(
            id=f"{split}/{'defect' if is_marked else 'good'}/{name}",
            image_path=path,
            label="defect" if is_marked else "good",
            mask_paths=(mask,) if is_marked else (),
            mask_rule=RULE,
            group=name.rpartition("/")[0] or None,
        )
        for (name, (path, mask)), is_marked in zip(pairs.items(), marked, strict=True)
    ]


def _marks(mask: Path) -> bool:
    return bool(read_mask(mask, RULE).any())
