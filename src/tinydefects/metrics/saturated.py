"""Saturated per-region overlap (sPRO), the metric of MVTec LOCO: a defect counts as found once enough of it is.

Bergmann, Batzner, Fauser, Sattlegger and Steger, "Beyond Dents and Scratches", IJCV 130 (2022), section 4: of a defect
with area A and saturation s, a map that marks n of its pixels finds min(n / s, 1). A missing cable need not be marked
along its whole length. With s = A for every region this is PRO.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinydefects.errors import DatasetError, MaskError, ResolutionMismatchError, ScoreError, SettingsError
from tinydefects.metrics.curves import exact_curve, level_areas
from tinydefects.metrics.ranking import count_at_least, rank_spooled
from tinydefects.metrics.spool import ScoreSpool

Defect = tuple[ArrayLike, float]  # its mask (H, W), of one region or several, and the pixels that count as all of it


def au_spro(defects: Iterable[Sequence[Defect]], maps: Iterable[ArrayLike], *, fpr_limit: float = 0.05) -> float:
    """AU-sPRO@fpr_limit in [0, 1]: 1 saturates every defect at once; a random map scores more than fpr_limit / 2.

    The area under the mean saturated overlap for false-positive rates in [0, `fpr_limit`], divided by `fpr_limit`. The
    curve is exact and tie-aware, as that of `aupro`. False positives are counted on the pixels of all images that no
    defect holds. nan without a defect or without such a pixel.

    Args:
        defects: for each image its defects, an empty list for a good one; `datasets.mvtec.read_loco_defects` reads
            those of MVTec LOCO. A defect is (mask, saturation_px): (H, W) bool, and a number of at least 1; one
            beyond the defect's area counts as that.
        maps: for each image (H, W) finite numbers, higher is more anomalous, compared as float32.
        fpr_limit: in (0, 1].

    Raises:
        SettingsError: `fpr_limit` is no such limit.
        DatasetError: one of the two ends before the other.
        MaskError, ScoreError, ResolutionMismatchError: a mask, saturation or map that cannot be scored.
    """
    if not 0 < fpr_limit <= 1:
        raise SettingsError(f"fpr_limit={fpr_limit}: a limit of the false-positive rate is above 0 and at most 1")
    scores, weights = [np.empty(0, dtype=np.float32)], [np.empty(0)]
    with ScoreSpool() as normal_scores:
        for place, (found, values) in enumerate(zip_longest(defects, maps)):
            if found is None or values is None:
                raise DatasetError(
                    f"image {place}: has {'no map' if values is None else 'no list of defects'}; give both"
                )
            anomaly_map = _map(values, place)
            is_normal = np.ones(anomaly_map.shape, dtype=bool)
            for defect in found:
                mask, saturation_px = _defect(defect, anomaly_map.shape, place)
                found_scores, found_weights = saturating(anomaly_map[mask], saturation_px)
                scores.append(found_scores)
                weights.append(found_weights)
                is_normal &= ~mask
            normal_scores.add(anomaly_map[is_normal])
        weight = np.concatenate(weights) / max(1, len(weights) - 1)
        return exact_curve(rank_spooled(np.concatenate(scores), normal_scores), weight).area(fpr_limit=fpr_limit)


def saturating(scores: NDArray[np.float32], saturation_px: float) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Of a defect's (A,) scores those that saturate it, descending, and what share of it each adds, in all 1.

    `saturation_px` is at least 1 and at most A; the lower scores add nothing.
    """
    descending = np.sort(scores)[::-1][: math.ceil(saturation_px)].copy()
    return descending, np.diff(np.minimum(np.arange(descending.size + 1) / saturation_px, 1.0))


@dataclass(slots=True)
class SaturatedScores:
    """What a stream of images leaves of their saturated defects: so many scores of each as saturate it, in memory.

    Attributes:
        image: number of the image of each defect; saturation_px: how many of its pixels count as all of it.
        scores, weights: of each defect, as `saturating` gives them.
    """

    image: list[int] = field(default_factory=list)
    saturation_px: list[float] = field(default_factory=list)
    scores: list[NDArray[np.float32]] = field(default_factory=list)
    weights: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, defects: Sequence[Defect], anomaly_map: NDArray[np.float32], sample_id: str, image: int) -> None:
        """Take in the defects of one image with its (H, W) map.

        Raises:
            MaskError, ResolutionMismatchError: a defect that cannot be scored.
        """
        for number, defect in enumerate(defects):
            mask, saturation_px = _defect(defect, anomaly_map.shape, f"{sample_id}, defect {number}")
            scores, weights = saturating(anomaly_map[mask], saturation_px)
            self.image.append(image)
            self.saturation_px.append(saturation_px)
            self.scores.append(scores)
            self.weights.append(weights)

    def at_least(self, thresholds: NDArray[np.float32]) -> NDArray[np.int32]:
        """(S, G) how many of the kept scores of each defect are at least each threshold."""
        counts = [count_at_least(scores[::-1], thresholds) for scores in self.scores]
        return np.array(counts, dtype=np.int32).reshape(len(counts), thresholds.size)

    def au_spro(self, normal_scores: ScoreSpool, fpr_limits: Sequence[float]) -> NDArray[np.float64]:
        """(S, L) AU-sPRO of each defect alone, whose mean over any of them is theirs; nan without a normal pixel."""
        if not self.scores:
            return np.empty((0, len(fpr_limits)))
        ranking = rank_spooled(np.concatenate(self.scores), normal_scores)
        shares = np.concatenate(self.weights)
        starts = np.cumsum([0, *(one.size for one in self.scores[:-1])])
        own = np.empty((starts.size, len(fpr_limits)))
        for column, limit in enumerate(fpr_limits):  # one number a score is in memory, whatever the number of limits
            found = level_areas(ranking, fpr_limit=limit)[ranking.level]
            found *= shares
            own[:, column] = np.add.reduceat(found, starts)
        return own


def _map(values: ArrayLike, place: int) -> NDArray[np.float32]:
    anomaly_map = np.asarray(values, dtype=np.float32)
    if anomaly_map.ndim != 2 or not np.isfinite(anomaly_map).all():
        raise ScoreError(f"maps[{place}]: is {anomaly_map.shape}, or holds nan or infinity; a map is (H, W) and finite")
    return anomaly_map


def _defect(defect: Defect, shape: tuple[Any, ...], place: int | str) -> tuple[NDArray[np.bool_], float]:
    mask, saturation_px = np.asarray(defect[0], dtype=bool), float(defect[1])
    named = (f"maps[{place}]", f"defects[{place}]") if isinstance(place, int) else (place, place)
    if mask.shape != shape:
        raise ResolutionMismatchError(f"{named[0]}: is {shape}, the mask of a defect {mask.shape}; resample the map")
    area = int(np.count_nonzero(mask))
    if not area or not saturation_px >= 1:
        raise MaskError(f"{named[1]}: a defect of {area} pixels with saturation {saturation_px:g}; both are at least 1")
    return mask, min(saturation_px, area)
