"""Predictions on disk, in MVTec's layout: `<folder>/<category>/<sample id>.tiff`, one 32-bit float map an image.

The image score travels inside the TIFF's description. Maps of other methods carry none; theirs is then computed from
the map by one named rule.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import ImageReadError, ScoreError
from tinydefects.pixels import read_map, read_map_description, write_map, write_whole
from tinydefects.sample import Category, Prediction, Sample, mean_of_highest

ImageScoreRule = Literal["stored", "max", "top_0.1_percent"]
MAP_SUFFIXES = (".tiff", ".tif", ".npy")
MAKER_FILE = "made_by.json"  # beside the maps: which detector made them, and its settings


def map_path(folder: Path, category_id: str, sample: Sample) -> Path:
    """Where the map of a sample is written: `mvtec_ad/screw` and `test/crack/000` give `screw/test/crack/000.tiff`."""
    return folder / category_id.split("/")[-1] / f"{sample.id}.tiff"


def write_prediction(folder: Path, category_id: str, sample: Sample, prediction: Prediction) -> Path:
    """Write the map at full size, 32-bit float, with its score; whole or not at all."""
    path = map_path(folder, category_id, sample)
    write_map(path, prediction.anomaly_map, description=json.dumps({"score": prediction.score}))
    return path


def read_prediction(path: Path, rule: ImageScoreRule = "stored") -> Prediction:
    """The map in a file and its image score: the stored one if there is one, else the mean of the highest 0.1 %.

    Raises:
        ImageReadError: the file cannot be read.
        ScoreError: it holds nan or infinity.
    """
    anomaly_map = read_map(path)
    try:
        return Prediction(anomaly_map, image_score(anomaly_map, path, rule))
    except ScoreError as error:
        raise ScoreError(f"{path}: {error}") from error


def image_score(anomaly_map: NDArray[np.float32], path: Path, rule: ImageScoreRule) -> float:
    """One score for an (H, W) map by the named rule; see `read_prediction`."""
    if rule == "stored":
        try:
            return float(json.loads(read_map_description(path))["score"])
        except (ValueError, TypeError, KeyError):
            return image_score(anomaly_map, path, "top_0.1_percent")
    if rule == "max":
        return float(anomaly_map.max())
    return mean_of_highest(anomaly_map)


def read_pairs(
    folder: Path, category: Category, rule: ImageScoreRule = "stored"
) -> Iterator[tuple[Sample, Prediction]]:
    """The test samples of a category with their maps from disk, one in memory at a time.

    Raises:
        ImageReadError: before the first map is read, if any test sample has no map; names them.
    """
    paths = {sample.id: _find_map(folder, category.id, sample) for sample in category.test}
    missing = [sample_id for sample_id, path in paths.items() if path is None]
    if missing:
        expected = map_path(folder, category.id, category.test[0])
        raise ImageReadError(
            f"{folder}: no anomaly map for {len(missing)} of {len(paths)} test images ({_shorten(missing)}); "
            f"expected files like {expected} ({', '.join(MAP_SUFFIXES)}), one for each test image"
        )
    return ((sample, read_prediction(path, rule)) for sample in category.test if (path := paths[sample.id]))


def claim_folder(folder: Path, maker: dict[str, object]) -> None:
    """Write down who makes the maps of a folder; one folder holds the maps of one detector.

    Raises:
        ImageReadError: it holds those of another.
    """
    known = _read_maker_file(folder / MAKER_FILE)
    if known and known != maker:
        raise ImageReadError(f"{folder}: holds maps of another detector; choose another --out or delete the folder")
    write_whole(folder / MAKER_FILE, lambda file: file.write(json.dumps(maker, indent=1).encode()))


def read_maker(folder: Path) -> dict[str, object]:
    """What `claim_folder` wrote for this folder or the one above it; empty for maps of unknown origin."""
    return _read_maker_file(folder / MAKER_FILE) or _read_maker_file(folder.parent / MAKER_FILE)


def _read_maker_file(path: Path) -> dict[str, object]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def _find_map(folder: Path, category_id: str, sample: Sample) -> Path | None:
    """Maps may lie under the category's folder or directly under the given one."""
    nested = map_path(folder, category_id, sample)
    bases = (nested, folder / f"{sample.id}.tiff")
    candidates = (base.with_name(base.name.removesuffix(".tiff") + suffix) for base in bases for suffix in MAP_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def _shorten(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (f", and {len(names) - limit} more" if len(names) > limit else "")
