"""Predictions on disk, in MVTec's layout: `<folder>/<category>/<sample id>.tiff`, one 32-bit float map an image; or
`.png`, of 16 bits.

The image score travels inside the file's description, with the photograph the map was made of and its maker
(`data/map_files.py`). Maps of other methods carry none; their score is then computed from the map by one named rule.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.json_files import read_as, write_json
from tinydefects.data.map_files import (
    Origin,
    describe_map,
    origin_in,
    read_header,
    read_map,
    resample_bilinear,
    write_map_png,
)
from tinydefects.data.pairing import MapProblem, MapsError, PairedMap, Pairing, score_in
from tinydefects.data.pixels import write_map
from tinydefects.data.sample import Prediction, Sample, mean_of_highest
from tinydefects.data.walk import MAKER_FILE
from tinydefects.errors import ImageReadError, ScoreError, TinyDefectsError

ImageScoreRule = Literal["stored", "max", "top_0.1_percent"]
MapFormat = Literal["tiff", "png16"]
SUFFIXES: Mapping[MapFormat, str] = {"tiff": ".tiff", "png16": ".png"}


def map_path(folder: Path, category_id: str, sample: Sample, form: MapFormat = "tiff") -> Path:
    """Where the map of a sample is written: `mvtec_ad/screw` and `test/crack/000` give `screw/test/crack/000.tiff`."""
    return folder / category_id.split("/")[-1] / f"{sample.id}{SUFFIXES[form]}"


def write_prediction(
    folder: Path,
    category_id: str,
    sample: Sample,
    prediction: Prediction,
    *,
    origin: Origin | None = None,
    form: MapFormat = "tiff",
) -> Path:
    """Write the map at full size with its score and what it was made of; whole or not at all.

    A map of the other format that an earlier call wrote there is removed.

    Raises:
        SettingsError: its values do not fit into 16 bits, see `write_map_png`.
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    path = map_path(folder, category_id, sample, form)
    write = write_map if form == "tiff" else write_map_png
    write(path, prediction.anomaly_map, description=describe_map(prediction.score, origin))
    for other in own_maps(folder, category_id, sample):
        if other != path:
            other.unlink()
    return path


def own_maps(folder: Path, category_id: str, sample: Sample) -> list[Path]:
    """Files that `write_prediction` wrote for a sample: a TIFF whatever it says, a PNG if it is no picture."""
    paths = [map_path(folder, category_id, sample, form) for form in SUFFIXES]
    return [path for path in paths if path.is_file() and (path.suffix == ".tiff" or is_own_map(path))]


def is_own_map(path: Path) -> bool:
    """Whether a file says of which photograph it is a map."""
    if path.suffix not in SUFFIXES.values():
        return False
    try:
        return origin_in(read_header(path).description) is not None
    except TinyDefectsError:
        return False


def read_prediction(path: Path, rule: ImageScoreRule = "stored") -> Prediction:
    """The map in a file and its image score: the stored one if there is one, else the mean of the highest 0.1 %.

    Raises:
        ImageReadError: the file cannot be read.
        ScoreError: it holds nan or infinity.
    """
    anomaly_map = read_map(path)
    try:
        return Prediction(anomaly_map, image_score(anomaly_map, rule, score_in(read_header(path).description)))
    except ScoreError as error:
        raise ScoreError(f"{path}: {error}") from error


def image_score(anomaly_map: NDArray[np.float32], rule: ImageScoreRule, stored: float | None = None) -> float:
    """One score for an (H, W) map: `stored` if that is the rule and it came with one, else one of the map's own."""
    if rule == "stored" and stored is not None:
        return stored
    return float(anomaly_map.max()) if rule == "max" else mean_of_highest(anomaly_map)


def read_paired(pairing: Pairing, rule: ImageScoreRule = "stored") -> Iterator[tuple[Sample, Prediction]]:
    """The samples of a pairing with their maps, one in memory at a time.

    A map of another size than its image is brought to it, bilinear and centre-aligned; an image score taken from the
    map is that of the resampled one. From the first broken map on nothing more is yielded, but all are looked at.

    Raises:
        MapsError: at the end, if maps hold nan or infinity or cannot be decoded; `problems` has all of them.
    """
    problems: list[MapProblem] = []
    for pair in pairing.pairs:
        try:
            prediction = _read_pair(pair, pairing.key, rule)
        except ScoreError:
            problems.append(MapProblem(kind="not finite", name=pair.sample.id, detail=str(pair.path)))
        except ImageReadError as error:
            problems.append(MapProblem(kind="unreadable", name=pair.sample.id, detail=str(error)))
        else:
            if not problems:
                yield pair.sample, prediction
    if problems:
        raise MapsError(pairing.source, problems)


def _read_pair(pair: PairedMap, key: str | None, rule: ImageScoreRule) -> Prediction:
    anomaly_map = read_map(pair.path, key)
    if anomaly_map.shape != pair.image_size:
        anomaly_map = resample_bilinear(anomaly_map, pair.image_size)
    return Prediction(anomaly_map, image_score(anomaly_map, rule, pair.stored_score))


def write_maker(folder: Path, made_by: Mapping[str, object]) -> None:
    """Note beside the maps of a folder who makes them from now on; what each was made by stands in its own text."""
    write_json(folder / MAKER_FILE, made_by)


def maker_of(pairing: Pairing) -> Mapping[str, object]:
    """Who made these maps, as they say themselves, or as it stands beside them; empty for maps of unknown origin."""
    return pairing.made_by or read_maker(pairing.source)


def read_maker(folder: Path) -> dict[str, object]:
    """What `write_maker` wrote for this folder or the one above it; empty for maps of unknown origin."""
    return _read_maker_file(folder / MAKER_FILE) or _read_maker_file(folder.parent / MAKER_FILE)


def _read_maker_file(path: Path) -> dict[str, object]:
    if not (path.exists() or path.is_symlink()):
        return {}
    return read_as(dict[str, object], path, ImageReadError, kind="record of who made maps", way_out="delete it")
