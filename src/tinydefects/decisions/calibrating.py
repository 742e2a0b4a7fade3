"""calibrate(): from maps of good photographs to the record that thresholds follow from, one map in memory at a time.

How far regions reach has to be known before the first map is forgotten. Best it is given: that of photographs that the
detector has learnt from depends on none of those counted here. Otherwise the level is the median, over the first
photographs, of each map's own quantile, and what pixels usually are is the median of the maps' medians. Those are held
until it is known: at most `FIRST_IMAGES`, and fewer where maps are large. They count as well, so that the level depends
a little on what is counted; peaks, which decide, do not move with it, only which pixels join and so which regions are
large enough.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from statistics import median

import numpy as np

from tinydefects.data.sample import PIXELS_AT_ONCE, Prediction
from tinydefects.decisions.calibration import (
    MOST_KEPT,
    Calibration,
    CalibrationSettings,
    GoodImage,
    Obtained,
)
from tinydefects.decisions.drift import PictureStatistics
from tinydefects.decisions.regions import Extent, Map, label_regions
from tinydefects.errors import DatasetError
from tinydefects.metrics.detectability import with_highest
from tinydefects.progress import Report

FIRST_IMAGES = 20
FIRST_PIXELS = 100_000_000  # of the maps that are held until the level is known: 400 MB
DEFAULTS = CalibrationSettings()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GoodPhotograph:
    """One good photograph with its map and score, on its way into a calibration.

    `part` is what it shows, where several photographs show one; None is a part of its own. `pixels_sha256` is that of
    `data.map_files.Photograph`; with it, a photograph that comes twice is noticed. `picture` is what it is like.
    `patch_px` is what a patch of the detector measures in its pixels, see `regions.Extent`; 0 is not known.
    """

    id: str
    prediction: Prediction
    part: str | None = None
    pixels_sha256: str = ""
    picture: PictureStatistics | None = None
    patch_px: float = 0.0


def calibrate(
    photographs: Iterable[GoodPhotograph],
    settings: CalibrationSettings = DEFAULTS,
    *,
    fingerprint: str,
    obtained: Obtained,
    extent: Extent | None = None,
    progress: Report = lambda stage, done, total: None,
) -> Calibration:
    """Record good photographs. Those with the pixels of an earlier one are left out, and listed.

    Args:
        photographs: in a stream; each map is forgotten once its regions are known.
        settings: wishes; all but `extent_quantile` can be changed later.
        fingerprint: of the detector that made the maps.
        obtained: how the detector came not to know these photographs, see `Calibration`.
        extent: how far regions reach, where it is known; else see above.
        progress: called with ("calibrate", done, None).

    Raises:
        DatasetError: there is no photograph, or two have one id.
    """
    duplicates: list[str] = []
    stream = _each_once(photographs, duplicates)
    if extent is None:
        first = _first(stream)
        extent = _extent_of(first, settings.extent_quantile) if first else None
        stream = chain(_emptied(first), stream)
    images = []
    for one in stream:
        assert extent is not None
        images.append(_recorded(one, extent))
        progress("calibrate", len(images), None)
    if extent is None or not images:
        raise DatasetError("there is no good photograph to calibrate with; give some that the detector does not know")
    return Calibration(
        fingerprint=fingerprint,
        obtained=obtained,
        settings=settings,
        extent=extent,
        duplicates=tuple(duplicates),
        images=tuple(images),
    )


def level_of(anomaly_map: Map, quantile: float) -> float:
    """The lowest value of a map that at most a share 1 - quantile of its pixels exceed."""
    n_kept = math.floor((1 - quantile) * anomaly_map.size * (1 + 1e-12)) + 1
    flat, highest = anomaly_map.reshape(-1), np.empty(0, dtype=np.float32)
    for start in range(0, flat.size, PIXELS_AT_ONCE):
        highest = with_highest(highest, flat[start : start + PIXELS_AT_ONCE], n_kept)
    return float(highest.min())


def _extent_of(first: Collection[GoodPhotograph], quantile: float) -> Extent:
    maps = [one.prediction.anomaly_map for one in first]
    return Extent(
        level=float(np.float32(median(level_of(one, quantile) for one in maps))),
        quantile=quantile,
        n_images=len(maps),
        good=float(median(_usual(one) for one in maps)),
        patch_px=round(median(one.patch_px for one in first)),
    )


def _usual(anomaly_map: Map) -> float:
    """The median of a map, of evenly spread pixels where it is large."""
    flat = anomaly_map.reshape(-1)
    return float(np.median(flat[:: -(-flat.size // PIXELS_AT_ONCE)]))


def _each_once(photographs: Iterable[GoodPhotograph], duplicates: list[str]) -> Iterator[GoodPhotograph]:
    ids: set[str] = set()
    pixels: set[str] = set()
    for one in photographs:
        if one.id in ids:
            raise DatasetError(f"{one.id}: two good photographs have this id; name each differently")
        ids.add(one.id)
        if one.pixels_sha256 and one.pixels_sha256 in pixels:
            duplicates.append(one.id)
            continue
        pixels.add(one.pixels_sha256)
        yield one


def _first(stream: Iterator[GoodPhotograph]) -> deque[GoodPhotograph]:
    first: deque[GoodPhotograph] = deque()
    n_pixels = 0
    while len(first) < FIRST_IMAGES and n_pixels < FIRST_PIXELS:
        one = next(stream, None)
        if one is None:
            break
        first.append(one)
        n_pixels += one.prediction.anomaly_map.size
    return first


def _emptied(first: deque[GoodPhotograph]) -> Iterator[GoodPhotograph]:
    while first:
        yield first.popleft()


def _recorded(one: GoodPhotograph, extent: Extent) -> GoodImage:
    found = label_regions(one.prediction.anomaly_map, extent)
    return GoodImage(
        id=one.id,
        part=one.id if one.part is None else one.part,
        score=one.prediction.score,
        pixels_sha256=one.pixels_sha256,
        n_regions=found.peaks.size,
        peaks=tuple(found.peaks[:MOST_KEPT].tolist()),
        areas_px=tuple(found.areas_px[:MOST_KEPT].tolist()),
        picture=one.picture,
    )
