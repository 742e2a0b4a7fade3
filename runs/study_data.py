"""Splits the real images into the half that choices are made on and the blind half, as folder datasets of links.

    python runs/study_data.py DATA OUT      DATA holds magnetic_tile/ and deeppcb/

A half is a matter of names alone: A where the last byte of sha256(name) is even, B otherwise. The name of a tile is
that of its group, so that no physical tile is in both halves; the name of a board is that of its file. Tiles:
blowholes, breaks and cracks; up to 150 free ones of whole groups to learn from, never of a group with a defective tile,
and up to 80 other free ones to test on. The rules are those of docs/study.md.
"""

import argparse
import hashlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tinydefects.datasets.magnetic_tile import group_by_tile
from tinydefects.errors import DatasetError

TINY_TYPES = ("Blowhole", "Break", "Crack")
N_LEARN, N_FREE_TESTED = 150, 80
MASK_LEVEL = 127  # masks of the tiles are anti-aliased


def half_of(name: str) -> str:
    """`A` or `B`."""
    return "AB"[hashlib.sha256(name.encode()).digest()[-1] % 2]


def split_tiles(data: Path, out: Path) -> None:
    """`tiles_A` and `tiles_B` below `out`."""
    folders = {kind: data / "magnetic_tile" / f"MT_{kind}" / "Imgs" for kind in ("Free", *TINY_TYPES)}
    tiles = {path.stem: (kind, path) for kind, folder in folders.items() for path in sorted(folder.glob("*.jpg"))}
    require(tiles, data / "magnetic_tile")
    groups = group_by_tile(list(tiles))
    for half in "AB":
        category = out / f"tiles_{half}"
        mine = {stem: tile for stem, tile in tiles.items() if half_of(groups[stem]) == half}
        defective = [stem for stem, (kind, _) in mine.items() if kind != "Free"]
        learnt, tested = deal_free([stem for stem in mine if stem not in set(defective)], defective, groups)
        for split, stems in (("train", learnt), ("test", tested)):
            for stem in stems:
                link(mine[stem][1], category / split / "good" / f"{stem}.jpg")
        for stem in defective:
            kind, path = mine[stem]
            link(path, category / "test" / kind.lower() / path.name)
            mask = np.asarray(Image.open(path.with_suffix(".png")).convert("L")) > MASK_LEVEL
            target = category / "ground_truth" / kind.lower() / f"{stem}_mask.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(target)
        print(f"{category}: {len(learnt)} to learn from, {len(tested)} free and {len(defective)} defective to test")


def deal_free(free: Sequence[str], defective: Sequence[str], groups: dict[str, str]) -> tuple[list[str], list[str]]:
    """The free tiles of one half to learn from, and those to test on."""
    rng = random.Random(0)
    clean = sorted({groups[stem] for stem in free} - {groups[stem] for stem in defective})
    rng.shuffle(clean)
    learnt: list[str] = []
    for group in clean:
        if len(learnt) < N_LEARN:
            learnt += [stem for stem in free if groups[stem] == group]
    others = [stem for stem in free if stem not in set(learnt)]
    rng.shuffle(others)
    return learnt, others[:N_FREE_TESTED]


def split_boards(data: Path, out: Path) -> None:
    """`boards_A` and `boards_B` below `out`."""
    root = data / "deeppcb"
    pictures = [path for path in sorted(root.rglob("*")) if path.suffix in (".png", ".jpg")]
    require(pictures, root)
    for path in pictures:
        name = path.stem.removesuffix("_mask")
        link(path, out / f"boards_{half_of(name)}" / path.relative_to(root))
    for half in "AB":
        counts = {split: len(list((out / f"boards_{half}" / split).rglob("*.*"))) for split in ("train", "test")}
        print(f"{out / f'boards_{half}'}: {counts['train']} to learn from, {counts['test']} to test")


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source.resolve())


def require(found: object, folder: Path) -> None:
    if not found:
        raise DatasetError(f"{folder}: no images; give the folder that holds magnetic_tile/ and deeppcb/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        split_tiles(arguments.data, arguments.out)
        split_boards(arguments.data, arguments.out)
    except DatasetError as error:
        sys.stderr.write(f"study_data: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
