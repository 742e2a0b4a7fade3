"""Draws small dataset folders with real image files for the tests of the loaders."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw(path: Path, *, size: tuple[int, int] = (4, 6), spot: tuple[int, int] | None = None, value: int = 255) -> Path:
    """A black gray image of `size` (height, width) in the format of its suffix, with one bright pixel at `spot`."""
    pixels = np.zeros(size, dtype=np.uint8)
    if spot is not None:
        pixels[spot] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def draw_all(folder: Path, names: str, **options: object) -> None:
    """`draw` for each of the names in one string, separated by blanks."""
    for name in names.split():
        draw(folder / name, **options)
