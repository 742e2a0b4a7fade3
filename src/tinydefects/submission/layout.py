"""What MVTec AD 2's evaluation server takes, and which maps go into it.

The layout is that of the benchmark's own checking program, which is authoritative where descriptions differ:

    <name>/anomaly_images/<object>/{test_private,test_private_mixed}/NNN_{regular,mixed}.tiff         (H, W) float16
    <name>/anomaly_images_thresholded/<object>/{test_private,test_private_mixed}/NNN_….png            (H, W) 0 or 255

all of it as `<name>.tar.gz`. The thresholded folder may be left out as a whole; nothing else may, or be added.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinydefects.data.pairing import Pairing, pair_maps, require_one_maker
from tinydefects.data.sample import Category
from tinydefects.datasets.catalog import load_category, parse_address
from tinydefects.datasets.folder import suggest
from tinydefects.errors import DatasetError

N_PRIVATE_IMAGES = {
    "can": 321,
    "fabric": 314,
    "fruit_jelly": 255,
    "rice": 277,
    "sheet_metal": 142,
    "vial": 276,
    "wallplugs": 232,
    "walnuts": 228,
}  # in each of the two private splits
LIGHTING_OF_SPLIT = {"test_private": "regular", "test_private_mixed": "mixed"}
SCORES, MARKS = "anomaly_images", "anomaly_images_thresholded"
SUFFIX_IN = {SCORES: ".tiff", MARKS: ".png"}
ARCHIVE_SUFFIX = ".tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMaps:
    """The maps of one object, paired with their images by headers alone: no pixel has been read.

    Attributes:
        private: the pairs of each private split, in the server's order.
        validation: the pairs of the object's validation images, all defect-free; None where they are not needed.
    """

    name: str
    private: Mapping[str, Pairing]
    validation: Pairing | None


def expected_stems(object_name: str, split: str) -> list[str]:
    """`000_regular`, `001_regular`, …: the images of a private split, in order."""
    return [f"{number:03d}_{LIGHTING_OF_SPLIT[split]}" for number in range(N_PRIVATE_IMAGES[object_name])]


def object_names(categories: Sequence[str]) -> list[str]:
    """The objects that `mvtec_ad2/can`, … name, in the dataset's order; all eight for `mvtec_ad2` or nothing.

    Raises:
        DatasetError: an address that is none of them.
    """
    known = {f"mvtec_ad2/{name}": name for name in N_PRIVATE_IMAGES}
    if not categories or "mvtec_ad2" in categories:
        return list(N_PRIVATE_IMAGES)
    categories = ["/".join(parse_address(address)).lower() for address in categories]
    for address in categories:
        if address not in known:
            raise DatasetError(f"{address}: the server takes the objects of mvtec_ad2; {suggest(address, known)}")
    return [name for address, name in known.items() if address in categories]


def private_category(name: str, split: str, root: Path) -> Category:
    """An object whose test images are those of a private split.

    Raises:
        DatasetError: the dataset is not under `root`, or does not hold exactly the images of the split.
    """
    category = load_category(f"mvtec_ad2/{name}", root=root, split=split)
    found, expected = {sample.image_path.stem for sample in category.test}, set(expected_stems(name, split))
    if found != expected:
        odd = sorted(found ^ expected)[0]
        raise DatasetError(
            f"{category.test[0].image_path.parent}: holds {len(found)} images, the benchmark has {len(expected)} "
            f"({odd} is {'missing' if odd in expected else 'one too many'}); unpack the dataset again"
        )
    return category


def find_maps(maps: Path, root: Path, objects: Sequence[str], *, with_validation: bool) -> list[ObjectMaps]:
    """Pair the maps of every object with its private images, and with its validation images if these are needed.

    Maps lie in `maps/<object>/<split>/<stem>.<suffix>`, or in `maps/<object>/<object>/…` as `predict` writes them where
    every object has a detector of its own; those of validation images in `validation/good/` instead of `<split>/`.

    Raises:
        DatasetError: the dataset under `root` lacks images.
        MapsError: maps are missing, have another size than their image or cannot be read; the message names them.
    """
    return [_find_object(maps, root, name, with_validation) for name in objects]


def describe_maps(found: Sequence[ObjectMaps]) -> str:
    """What a submission of these maps will hold, before anything is computed."""
    lines = [f"{'object':14}{'split':20}{'images':>7}{'validation':>12}   files"]
    pairs = [pair for one in found for pairing in one.private.values() for pair in pairing.pairs]
    for one in found:
        n_validation = 0 if one.validation is None else len(one.validation.pairs)
        for split, pairing in one.private.items():
            stems = expected_stems(one.name, split)
            files = f"{SCORES}/{one.name}/{split}/{stems[0]}.tiff … {stems[-1]}.tiff, and {MARKS}/… .png"
            lines.append(f"{one.name:14}{split:20}{len(pairing.pairs):>7}{n_validation:>12}   {files}")
    gigabytes = sum(math.prod(pair.image_size) for pair in pairs) * 2 / 1e9
    return "\n".join([*lines, f"{2 * len(pairs):,} files, {gigabytes:.3g} GB of scores before compression"])


def _find_object(maps: Path, root: Path, name: str, with_validation: bool) -> ObjectMaps:
    folder = maps / name if (maps / name).is_dir() else maps
    private = {}
    for split in LIGHTING_OF_SPLIT:
        category = private_category(name, split, root)
        private[split] = pair_maps(folder, category, stored_scores=False)
        private[split].require_sound()
    validation = None
    if with_validation:
        validation = pair_maps(folder, category, samples=category.validation, stored_scores=False)
        validation.require_sound()
    pairings = [*private.values(), *([validation] if validation else [])]
    require_one_maker(folder, [pair for pairing in pairings for pair in pairing.pairs])
    return ObjectMaps(name=name, private=private, validation=validation)
