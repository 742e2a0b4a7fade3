"""Saturated per-region overlap (sPRO), the metric of MVTec LOCO: a defect counts as found once enough of it is.

Bergmann, Batzner, Fauser, Sattlegger and Steger, "Beyond Dents and Scratches", IJCV 130 (2022), section 4: of a defect
with area A and saturation s, a map that marks n of its pixels finds min(n / s, 1). A missing cable need not be marked
along its whole length. With s = A for every region this is PRO.
"""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinydefects.errors import DatasetError, MaskError, ResolutionMismatchError, ScoreError, SettingsError
from tinydefects.metrics.curves import exact_curve
from tinydefects.metrics.ranking import rank_spooled
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
                descending = np.sort(anomaly_map[mask])[::-1]
                scores.append(descending)
                weights.append(np.diff(np.minimum(np.arange(descending.size + 1) / saturation_px, 1.0)))
                is_normal &= ~mask
            normal_scores.add(anomaly_map[is_normal])
        weight = np.concatenate(weights) / max(1, len(weights) - 1)
        return exact_curve(rank_spooled(np.concatenate(scores), normal_scores), weight).area(fpr_limit=fpr_limit)


def _map(values: ArrayLike, place: int) -> NDArray[np.float32]:
    anomaly_map = np.asarray(values, dtype=np.float32)
    if anomaly_map.ndim != 2 or not np.isfinite(anomaly_map).all():
        raise ScoreError(f"maps[{place}]: is {anomaly_map.shape}, or holds nan or infinity; a map is (H, W) and finite")
    return anomaly_map


def _defect(defect: Defect, shape: tuple[Any, ...], place: int) -> tuple[NDArray[np.bool_], float]:
    mask, saturation_px = np.asarray(defect[0], dtype=bool), float(defect[1])
    if mask.shape != shape:
        raise ResolutionMismatchError(f"maps[{place}]: is {shape}, the mask of a defect {mask.shape}; resample the map")
    area = int(np.count_nonzero(mask))
    if not area or not saturation_px >= 1:
        raise MaskError(
            f"defects[{place}]: a defect of {area} pixels with saturation {saturation_px:g}; both are at least 1"
        )
    return mask, min(saturation_px, area)
