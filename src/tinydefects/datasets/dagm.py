"""DAGM 2007: ten drawn textures, each with one kind of defect, surrounded by ellipses instead of outlined.

Source: Wieler and Hahn, "Weakly supervised learning for industrial optical inspection", DAGM symposium 2007; no licence
file, its page calls the data publicly available. Layout as several public loaders read the unpacked archives:
`Class1/{Train,Test}/0576.PNG`, `Label/Labels.txt` in both, and `Label/0576_label.PNG` for the defective images alone.

Every size measured on these labels is that of an ellipse, and most pixels inside one are normal. The older form of the
archives, with `Class1_def/`, is not read.
"""

from dataclasses import replace
from pathlib import Path

from tinydefects.data.json_files import read_bytes
from tinydefects.data.sample import Category, Sample
from tinydefects.data.walk import counted, nfc
from tinydefects.datasets.folder import Layout, accounted, image_files, require_defects
from tinydefects.errors import DatasetError

DAGM = Layout(dataset="dagm", folder_names=("dagm", "dagm_2007", "dagm_kaggleupload"), marks=(("Train", "Test"),))
SPLITS = ("Train", "Test")
LIST = "Labels.txt"
ELLIPSES = "labels are ellipses about the defects, not outlines: sizes are those of ellipses, pixel metrics say little"


def load_dagm(name: str, *, root: Path, allow_unmarked: bool = False, training_only: bool = False) -> Category:
    """Learn from the good images of `Train`, test on all of `Test`; the defective ones of `Train` are left out.

    An image is defective if `Labels.txt` says so; its label must be there, and no other image may have one.

    Raises:
        DatasetError: the class is not under `root`, is incomplete, lacks its list, or list and labels differ.
    """
    folder = DAGM.find(name, root, training_only=training_only)
    learnt = _samples(folder, "Train", allow_unmarked=True)  # of the defective ones none is used
    train = [sample for sample in learnt if sample.label == "good"]
    if not train:
        raise DatasetError(f"{folder / 'Train'}: no good image here; unpack {name} again")
    spoiled = [sample for sample in learnt if sample.label == "defect"]
    test = [] if training_only else _samples(folder, "Test", allow_unmarked=allow_unmarked)
    if not training_only:
        require_defects(test, folder / "Test" / "Label" / LIST)
    aside = [folder / "Test"] if training_only else []
    category = accounted(
        Category(id=f"dagm/{name}", train=train, test=test),
        folder,
        skip=[*aside, *(folder / split / "Label" / LIST for split in SPLITS)],
        known=[path for sample in spoiled for path in (sample.image_path, *sample.mask_paths)],
    )
    told = [f"{counted('defective image', len(spoiled))} of Train not learnt from"] if spoiled else []
    told += [] if training_only else [ELLIPSES]
    return replace(category, remarks=(*category.remarks, *told))


def _samples(folder: Path, split: str, *, allow_unmarked: bool) -> list[Sample]:
    images = image_files(folder / split, deep=False)
    place = folder / split / "Label"
    labels = image_files(place) if place.is_dir() else {}
    labelled = {stem for stem in images if f"{stem}_label" in labels}
    if not (place / LIST).is_file():
        raise DatasetError(
            f"{place / LIST}: not there, and nothing else says which images are good; unpack {folder.name} again"
        )
    listed = _read_list(place / LIST)
    if listed.keys() != images.keys():
        stem = min(listed.keys() ^ images.keys())
        told = "lists" if stem in listed else "does not list"
        raise DatasetError(f"{place / LIST}: {told} {stem}, unlike {folder / split}; unpack it again")
    samples = []
    for stem, path in images.items():
        is_labelled, is_defective = stem in labelled, listed[stem]
        if is_labelled and not is_defective:
            raise DatasetError(
                f"{labels[f'{stem}_label']}: a label of an image that {LIST} calls good; unpack it again"
            )
        if is_defective and not is_labelled and not allow_unmarked:
            raise DatasetError(
                f"{path}: no mask for this defective image, tried {place / stem}_label.*; add it, or let "
                "--allow unmarked count such images for image metrics only"
            )
        samples.append(
            Sample(
                id=f"{split.lower()}/{'defect' if is_defective else 'good'}/{stem}",
                image_path=path,
                label="defect" if is_defective else "good",
                mask_paths=(labels[f"{stem}_label"],) if is_labelled else (),
                mask_rule="nonzero",
            )
        )
    return samples


def _read_list(path: Path) -> dict[str, bool]:
    """Whether each image is defective, by stem: lines of number, 0 or 1, name, …, below one with the class's number."""
    try:
        lines = read_bytes(path).decode().splitlines()
    except ValueError as error:
        raise DatasetError(f"{path}: not a readable list ({error}); unpack it again") from error
    listed = {}
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if len(cells) < 2:
            continue
        if len(cells) < 3 or cells[1] not in {"0", "1"}:
            raise DatasetError(f"{path}: line {number} is {line[:40]!r}, not number, 0 or 1, name; unpack it again")
        stem = nfc(Path(cells[2]).stem)
        if stem in listed:
            raise DatasetError(f"{path}: line {number} lists {stem} again; unpack it again")
        listed[stem] = cells[1] == "1"
    return listed
