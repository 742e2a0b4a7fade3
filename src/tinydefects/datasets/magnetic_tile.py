"""Magnetic tiles: 952 photographs without and 392 with a defect, split here because they come without a split.

Source: Huang, Qiu and Yuan, "Surface defect saliency of magnetic tile", The Visual Computer 36 (2020).
Masks are anti-aliased (1 to 254 at the edges), so a pixel is defective above 127. Four masks of the type `uneven` are
empty: these images stay labelled defective but hold no region, and nobody has said which of their pixels are normal.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tinydefects.data.sample import Category, Sample
from tinydefects.datasets.folder import Layout, image_files, mask_paths, shuffled, suggest
from tinydefects.errors import DatasetError

MAGNETIC_TILE = Layout(
    dataset="magnetic_tile",
    folder_names=("magnetic_tile", "Magnetic-tile-defect-datasets.", "Magnetic-tile-defect-datasets-master", "mtd"),
    marks=(("Imgs",),),
)
DEFECT_TYPES = ("blowhole", "break", "crack", "fray", "uneven")
CATEGORIES: dict[str, tuple[str, ...]] = {
    "all": DEFECT_TYPES,
    "tiny": ("blowhole", "break", "crack"),
    **{kind: (kind,) for kind in DEFECT_TYPES},
}
PHOTOGRAPHS = frozenset({".jpg", ".jpeg"})
MASKS = frozenset({".png"})
NAME = re.compile(r"exp(?P<exposure>\d+)_num_(?P<number>\d+)")
EXPOSURE_DROP = 3
NUMBER_JUMP = 1000


def find_tiles(root: Path) -> list[str]:
    """The names of the categories, if the tiles lie under `root`."""
    return list(CATEGORIES) if "MT_Free" in MAGNETIC_TILE.categories(root) else []


def load_magnetic_tile(
    name: str,
    *,
    root: Path,
    n_train: int = 330,
    n_good: int | None = None,
    seed: int = 0,
    allow_unmarked: bool = False,
    training_only: bool = False,
) -> Category:
    """Train on defect-free tiles; test on the other defect-free photographs and the defects of category `name`.

    `name` is `all`, one defect type, or `tiny` (blowholes, breaks and cracks). The split depends on `seed` and
    `n_train` alone, so all categories share it. It keeps each tile on one side, and every tile that shows a defect
    under any exposure on the test side. At most `n_train` photographs are trained on: as many whole tiles as fit. At
    most `n_good` defect-free ones are tested on, chosen in the same way; None is all that are left.

    Raises:
        DatasetError: no such category, the folder is not under `root`, or `n_train` or `n_good` are not to be had.
    """
    if name not in CATEGORIES:
        raise DatasetError(f"magnetic_tile/{name}: no such category; {suggest(name, CATEGORIES)}")
    folder = MAGNETIC_TILE.find("MT_Free", root).parent
    free = _photographs(folder, "free")
    defects = {kind: _photographs(folder, kind) for kind in DEFECT_TYPES}
    tiles = group_by_tile([*free, *(stem for stems in defects.values() for stem in stems)])
    spoiled = {tiles[stem] for stems in defects.values() for stem in stems}
    train_tiles = _choose_tiles([tile for stem in free if (tile := tiles[stem]) not in spoiled], seed, n_train=n_train)
    samples = [
        Sample(id=f"good/{stem}", image_path=path, label="good", group=tiles[stem]) for stem, path in free.items()
    ]
    train = [replace(sample, id=f"train/{sample.id}") for sample in samples if sample.group in train_tiles]
    left = [tiles[stem] for stem in free if tiles[stem] not in train_tiles]
    test_tiles = set(left) if n_good is None else _choose_tiles(left, seed, n_good=n_good)
    test = [replace(sample, id=f"test/{sample.id}") for sample in samples if sample.group in test_tiles]
    for kind in () if training_only else CATEGORIES[name]:
        test += _defects(kind, defects[kind], tiles, allow_unmarked)
    return Category(id=f"magnetic_tile/{name}", train=train, test=test)


def group_by_tile(stems: list[str]) -> dict[str, str]:
    """The physical tile of each photograph, named after its lowest number: `tile_461`.

    This is inferred from the names `exp<exposure>_num_<number>`, nothing documents it: numbers rise with time, and
    nearly all runs of them hold six photographs of rising exposure, 1 to 6, of one tile. So a new tile starts where
    the exposure drops by 3 or more or the number jumps by more than 1000. Tiles photographed in turns stay together
    in one group; that is coarser than the truth, and never puts one tile on both sides of a split.

    Raises:
        DatasetError: a name is not of this form.
    """
    shots = sorted((*_number_and_exposure(stem), stem) for stem in stems)
    tiles: dict[str, str] = {}
    tile = ""
    previous_number, previous_exposure = 0, 0
    for number, exposure, stem in shots:
        if not tile or previous_exposure - exposure >= EXPOSURE_DROP or number - previous_number > NUMBER_JUMP:
            tile = f"tile_{number}"
        tiles[stem] = tile
        previous_number, previous_exposure = number, exposure
    return tiles


def _photographs(folder: Path, kind: str) -> dict[str, Path]:
    images = folder / f"MT_{kind.capitalize()}" / "Imgs"
    found = image_files(images, PHOTOGRAPHS)
    if not found:
        raise DatasetError(f"{images}: no photograph here, expected exp<exposure>_num_<number>.jpg; unpack it again")
    return found


def _defects(
    kind: str, photographs: Mapping[str, Path], tiles: Mapping[str, str], allow_unmarked: bool
) -> list[Sample]:
    folder = next(iter(photographs.values())).parent
    masks = image_files(folder, MASKS)
    return [
        Sample(
            id=f"test/{kind}/{stem}",
            image_path=path,
            label="defect",
            mask_paths=mask_paths(path, masks, folder, allow_unmarked=allow_unmarked),
            mask_rule="above_127",
            group=tiles[stem],
        )
        for stem, path in photographs.items()
    ]


def _choose_tiles(tile_of_each_photograph: list[str], seed: int, **wanted: int) -> set[str]:
    """Whole tiles in seeded order, each taken if it still fits into the wanted number of photographs."""
    ((option, n_wanted),) = wanted.items()
    available = len(tile_of_each_photograph)
    if not 0 < n_wanted < available:
        raise DatasetError(f"{option}={n_wanted}: {available} photographs are free of defects; choose from 1 to fewer")
    sizes = {tile: tile_of_each_photograph.count(tile) for tile in dict.fromkeys(tile_of_each_photograph)}
    chosen: set[str] = set()
    room = n_wanted
    for tile in shuffled(sizes, seed):
        if sizes[tile] <= room:
            chosen.add(tile)
            room -= sizes[tile]
    if not chosen:
        raise DatasetError(
            f"{option}={n_wanted}: no tile has so few photographs; choose at least {min(sizes.values())}"
        )
    return chosen


def _number_and_exposure(stem: str) -> tuple[int, int]:
    match = NAME.fullmatch(stem)
    if match is None:
        raise DatasetError(f"{stem}: expected a name like exp3_num_45042, which tells tiles apart; restore the name")
    return int(match["number"]), int(match["exposure"])
