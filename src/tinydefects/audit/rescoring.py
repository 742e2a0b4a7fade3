"""Every number of a category under each rule of the audit, from one pass over its samples and predictions."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tinydefects.audit.curve_rules import SeenPixels
from tinydefects.audit.rules import Connectivity, Mask, NormalPixels, Rule
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import DatasetError
from tinydefects.metrics.curves import auroc, pixel_weights
from tinydefects.metrics.gathering import checked_pair
from tinydefects.metrics.groups import cumulative_quartiles, rho
from tinydefects.metrics.ranking import rank, rank_spooled
from tinydefects.metrics.scores import FPR_LIMITS
from tinydefects.metrics.spool import ScoreSpool

METRICS = (
    *(f"aupro@{limit:g}" for limit in FPR_LIMITS),
    "aupro_Q1@0.05",
    "rho@0.3",
    "pixel_auroc",
    "pixel_average_precision",
    "image_auroc",
    "n_defects",
)
RANKED_METRICS = METRICS[:-1]  # the number of defects is the same for every method


def audit_pairs(pairs: Iterable[tuple[Sample, Prediction]], rules: Sequence[Rule]) -> dict[str, dict[str, float]]:
    """Every metric of `METRICS` under every rule, from one pass: rule name to metric name to value, nan if undefined.

    A defective image that marks no pixel at full size counts for the image metrics only, under every rule; one whose
    mask vanishes when it shrinks is all normal pixels, as it was where that was done. The normal pixels go to disk
    once for each different view.

    Raises:
        ResolutionMismatchError, DatasetError, ScoreError: as `evaluate`, before any rule is applied.
    """
    looks = dict.fromkeys((rule.view, rule.connectivity, rule.normal_pixels) for rule in rules)
    with ExitStack() as stack:
        gathered = {look: _Gathered(normal_scores=stack.enter_context(ScoreSpool())) for look in looks}
        for sample, prediction in pairs:
            anomaly_map, mask = checked_pair(sample, prediction)
            at_full_size = Prediction(anomaly_map, prediction.score)
            is_marked = bool(mask.any())
            for (view, connectivity, normal_pixels), one in gathered.items():
                seen_so = view(at_full_size, mask)
                one.add(sample, *seen_so, is_marked=is_marked, connectivity=connectivity, normal_pixels=normal_pixels)
        if not any(one.good_scores or one.defective_scores for one in gathered.values()):
            raise DatasetError("nothing to audit: there is no pair of sample and prediction; check the test split")
        seen = {look: one.seen() for look, one in gathered.items()}
        return {rule.name: _figures(rule, seen[rule.view, rule.connectivity, rule.normal_pixels]) for rule in rules}


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """What one view of the stream leaves behind."""

    normal_scores: ScoreSpool
    defect_scores: list[NDArray[np.float32]] = field(default_factory=list)
    areas_px: list[NDArray[np.int64]] = field(default_factory=list)
    good_scores: list[float] = field(default_factory=list)
    defective_scores: list[float] = field(default_factory=list)
    low: float = np.inf
    high: float = -np.inf

    def add(
        self,
        sample: Sample,
        prediction: Prediction,
        mask: Mask,
        *,
        is_marked: bool,
        connectivity: Connectivity,
        normal_pixels: NormalPixels,
    ) -> None:
        scores = prediction.anomaly_map
        self.low, self.high = min(self.low, float(scores.min())), max(self.high, float(scores.max()))
        is_good = sample.label == "good"
        (self.good_scores if is_good else self.defective_scores).append(prediction.score)
        if not is_good and not is_marked:
            return
        if normal_pixels == "all" or (normal_pixels == "of_good") == is_good:
            self.normal_scores.add(scores[~mask])
        labels, _ = ndimage.label(mask, structure=ndimage.generate_binary_structure(2, connectivity // 4))
        regions = labels[mask]
        self.defect_scores.append(scores[mask][np.argsort(regions, kind="stable")])
        self.areas_px.append(np.bincount(regions)[1:])

    def seen(self) -> SeenPixels:
        defect_scores = np.concatenate([np.empty(0, np.float32), *self.defect_scores])
        return SeenPixels(
            ranking=rank_spooled(defect_scores, self.normal_scores),
            defect_scores=defect_scores,
            areas_px=np.concatenate([np.empty(0, np.int64), *self.areas_px]),
            normal_scores=self.normal_scores,
            score_range=(self.low, self.high),
            images=rank(np.array(self.defective_scores), [np.array(self.good_scores)]),
        )


def _figures(rule: Rule, seen: SeenPixels) -> dict[str, float]:
    """The values of `METRICS`, in that order."""
    weights = [pixel_weights(seen.areas_px, members) for members in cumulative_quartiles(seen.areas_px)]
    curves = [] if rule.curves_up_to else rule.curves(seen, weights)

    def area(quartile: int, limit: float) -> float:
        if rule.curves_up_to:
            (curve,) = rule.curves_up_to(seen, weights[quartile : quartile + 1], limit)
            return rule.area(curve, limit)
        return rule.area(curves[quartile], limit)

    values = [
        *(area(len(weights) - 1, limit) for limit in FPR_LIMITS),
        area(0, 0.05),
        rho([area(quartile, 0.3) for quartile in range(len(weights))]),
        *rule.pixels(seen),
        auroc(seen.images),
        float(seen.areas_px.size),
    ]
    return dict(zip(METRICS, values, strict=True))
