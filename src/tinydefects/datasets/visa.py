"""VisA, raw as published or re-organised in the MVTec layout; both give the same ids and the same split.

Source: Zou et al., "SPot-the-Difference", ECCV 2022. Raw masks hold class ids 1, 2, … instead of 255, so a mask pixel
is defective when it is not zero.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tinydefects.data.sample import Category, Sample
from tinydefects.data.tables import read_rows
from tinydefects.data.walk import nfc
from tinydefects.datasets.folder import Layout, accounted, image_files, load_layout, mask_paths, require_defects
from tinydefects.errors import DatasetError

# The re-organising scripts in use write visa_pytorch/1cls/<class> or visa/visa_pytorch/<class>.
VISA = Layout(
    dataset="visa",
    folder_names=("visa", "VisA_20220922", "visa_pytorch"),
    marks=(("Data/Images",), ("train/good", "test/bad")),
    inner=("", "1cls", "visa_pytorch", "visa_pytorch/1cls", "VisA_pytorch", "VisA_pytorch/1cls"),
)
SPLIT_FILE = "split_csv/1cls.csv"
COLUMNS = {"object", "split", "label", "image", "mask"}


def load_visa(name: str, *, root: Path, allow_unmarked: bool = False, training_only: bool = False) -> Category:
    """The one-class split: raw with `split_csv/1cls.csv`, or `train/good`, `test/{good,bad}` and masks for `bad`.

    Raises:
        DatasetError: the class is not under `root`, is incomplete, or its split file is.
    """
    folder = VISA.find(name, root, training_only=training_only)
    if (folder / "Data" / "Images").is_dir():
        return _load_raw(name, folder, allow_unmarked, training_only)
    nested = (folder / "test" / "ground_truth").is_dir()
    mask = "test/ground_truth" if nested else "ground_truth"
    category = load_layout(
        folder, mask=mask, mask_rule="nonzero", allow_unmarked=allow_unmarked, training_only=training_only
    )
    return replace(category, id=f"visa/{name}")


def _load_raw(name: str, folder: Path, allow_unmarked: bool, training_only: bool) -> Category:
    normal = image_files(folder / "Data" / "Images" / "Normal")
    anomaly = {} if training_only else image_files(folder / "Data" / "Images" / "Anomaly")
    mask_folder = folder / "Data" / "Masks" / "Anomaly"
    masks = {} if training_only else image_files(mask_folder)
    samples: dict[str, list[Sample]] = {"train": [], "test": []}
    split_file, rows = _read_split(folder)
    for row in (row for row in rows if row["object"] == name):
        good = _is_good(row, split_file)
        if training_only and not good:
            continue
        stem = nfc(Path(row["image"]).stem)
        path = (normal if good else anomaly).get(stem)
        if path is None or row["split"] not in samples:
            raise DatasetError(f"{split_file}: {row['image']} ({row['split']}) is not in {folder}; unpack VisA again")
        samples[row["split"]].append(
            Sample(
                id=f"{row['split']}/{'good' if good else 'bad'}/{stem}",
                image_path=path,
                label="good" if good else "defect",
                mask_paths=() if good else mask_paths(path, masks, mask_folder, allow_unmarked=allow_unmarked),
                mask_rule="nonzero",
            )
        )
    if not samples["train"] or not (samples["test"] or training_only):
        raise DatasetError(f"{split_file}: lists no train or no test image of {name}; unpack VisA again")
    if not training_only:
        require_defects(samples["test"], split_file)
    by_id = {split: sorted(listed, key=lambda sample: sample.id) for split, listed in samples.items()}
    category = Category(id=f"visa/{name}", train=by_id["train"], test=by_id["test"])
    aside = [folder / "Data" / "Images" / "Anomaly", folder / "Data" / "Masks"] if training_only else []
    return accounted(category, folder, skip=aside)


def _is_good(row: Mapping[str, str], split_file: Path) -> bool:
    """What a row says of its image; nothing but the two labels of the one-class split is understood."""
    if row["label"] not in {"normal", "anomaly"}:
        raise DatasetError(
            f"{split_file}: {row['image']} has the label {row['label']!r}, not normal or anomaly; unpack VisA again"
        )
    if row["label"] == "anomaly" and row["split"] == "train":
        raise DatasetError(
            f"{split_file}: {row['image']} is a defective training image; take the one-class split of VisA"
        )
    return row["label"] == "normal"


def _read_split(folder: Path) -> tuple[Path, list[dict[str, str]]]:
    """The rows of the split file beside the class folder, or one above for a class unpacked twice."""
    places = [parent / SPLIT_FILE for parent in (folder.parent, folder.parent.parent)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DatasetError(f"{folder}: raw VisA needs its split file, tried {places[0]}; unpack VisA again")
    rows = [{name: str(value or "") for name, value in row.items()} for row in read_rows(path)]
    if not rows or COLUMNS - rows[0].keys():
        raise DatasetError(f"{path}: expected the columns {', '.join(sorted(COLUMNS))}; unpack VisA again")
    ((image, count),) = Counter(row["image"] for row in rows).most_common(1)
    if count > 1:
        raise DatasetError(f"{path}: lists {image} twice; unpack VisA again")
    return path, rows
