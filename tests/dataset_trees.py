"""Draws small dataset folders with real image files for the tests of the loaders."""

import json
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


def draw_loco(part: Path, *, size: tuple[int, int] = (4, 6)) -> Path:
    """A category of MVTec LOCO: one image with two defects, of one 3 pixels are all, of the other nearly half."""
    for name in ("train/good/0", "validation/good/0", "test/good/0", "test/logical_anomalies/0"):
        draw(part / f"{name}.png", size=size)
    for number, (value, width) in enumerate([(255, 5), (254, 6)]):
        pixels = np.zeros(size, dtype=np.uint8)
        pixels[number, :width] = value
        path = part / f"ground_truth/logical_anomalies/0/{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    entries = [
        {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 3, "relative_saturation": False},
        {"defect_name": "broken", "pixel_value": 254, "saturation_threshold": 0.45, "relative_saturation": True},
        {"defect_name": "huge", "pixel_value": 253, "saturation_threshold": 900, "relative_saturation": False},
    ]
    (part / "defects_config.json").write_text(json.dumps(entries))
    return part
