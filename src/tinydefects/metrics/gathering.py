"""One pass over samples and predictions: what evaluate() keeps of every image, and nothing more.

The scores of defect pixels stay in memory, those of normal pixels go to disk (`spool.py`). Each image counts at its own
resolution. A defective image whose mask is empty or missing counts as a defective image: its pixels cannot be called
normal. Defects worth looking at, the smallest and those that score lowest, are cropped from their images meanwhile.
"""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import Defect, centred_span, find_defects, require_few
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import DatasetError, ResolutionMismatchError, ScoreError
from tinydefects.metrics.defect_signals import contrast_to_noise, own_peaks
from tinydefects.metrics.ranking import Ranking, Tally, choose_thresholds, count_at_least
from tinydefects.metrics.records import Crop, DefectRecord
from tinydefects.metrics.saturated import SaturatedScores
from tinydefects.metrics.spool import ScoreSpool

SMALLEST_CROP_PX, LARGEST_CROP_PX, MARGIN_PX = 64, 160, 24


class CropKeeper:
    """At most `n_crops` crops: half of the smallest defects, the other half of those with the lowest peaks.

    Peaks are compared within one category, where all maps come from one detector. Of equals, the earlier stays.
    """

    def __init__(self, n_crops: int) -> None:
        self._smallest = _Lowest(n_crops // 2)
        self._faintest = _Lowest(n_crops - n_crops // 2)

    def wants(self, defect: DefectRecord) -> bool:
        """Whether this defect would be kept: only then is its image worth reading."""
        return self._smallest.admits(defect.area_px) or self._faintest.admits(defect.peak)

    def keep(self, number: int, crop: Crop) -> None:
        """Keep the crop of defect `number` wherever it belongs, and drop what it displaces."""
        self._smallest.push(crop.defect.area_px, number, crop)
        self._faintest.push(crop.defect.peak, number, crop)

    def crops(self, defects: Sequence[DefectRecord]) -> tuple[Crop, ...]:
        """The kept ones by ascending area, each with what is known by now of its defect, `defects[number]`."""
        kept = self._smallest.crops() | self._faintest.crops()
        numbers = sorted(kept, key=lambda number: (defects[number].area_px, number))
        return tuple(replace(kept[number], defect=defects[number]) for number in numbers)


def crop_around(
    defect: DefectRecord, image: NDArray[np.uint8], mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32]
) -> Crop:
    """A square of 64 to 160 pixels around the centre of the defect's box, inside the image.

    The map is clipped to the range of half precision.
    """
    top, left, height, width = defect.box_px
    side = min(max(max(height, width) + 2 * MARGIN_PX, SMALLEST_CROP_PX), LARGEST_CROP_PX)
    rows = centred_span(top + height // 2, side, mask.shape[0])
    window = (rows, centred_span(left + width // 2, side, mask.shape[1]))
    highest = np.finfo(np.float16).max
    return Crop(
        defect=defect,
        image=image[window].copy(),
        mask=mask[window].copy(),
        anomaly_map=np.clip(anomaly_map[window], -highest, highest).astype(np.float16),
    )


class _Lowest:
    """The crops with the lowest keys, in a heap whose top is the next to go."""

    def __init__(self, n_kept: int) -> None:
        self._n_kept = n_kept
        self._heap: list[tuple[float, int, Crop]] = []

    def admits(self, key: float) -> bool:
        return len(self._heap) < self._n_kept or (self._n_kept > 0 and key < -self._heap[0][0])

    def push(self, key: float, number: int, crop: Crop) -> None:
        if not self.admits(key):
            return
        heapq.heappush(self._heap, (-key, -number, crop))
        if len(self._heap) > self._n_kept:
            heapq.heappop(self._heap)

    def crops(self) -> dict[int, Crop]:
        return {-number: crop for _, number, crop in self._heap}


@dataclass(slots=True, kw_only=True)
class Gathered:
    """What the stream leaves behind: lists about images run in parallel, so do those about defects."""

    normal_scores: ScoreSpool
    crops: CropKeeper
    with_contrast: bool = False
    samples: list[Sample] = field(default_factory=list)
    image_scores: list[float] = field(default_factory=list)
    defect_scores: list[NDArray[np.float32]] = field(default_factory=list)  # ascending within each defect
    records: list[DefectRecord] = field(default_factory=list)
    image_of_defect: list[int] = field(default_factory=list)
    image_px: list[int] = field(default_factory=list)
    saturated: SaturatedScores = field(default_factory=SaturatedScores)
    n_unmarked: int = 0
    lowest: float = np.inf
    highest: float = -np.inf

    @property
    def is_good(self) -> NDArray[np.bool_]:
        """(I,) label of each image."""
        return np.array([sample.label == "good" for sample in self.samples], dtype=bool)

    @property
    def areas_px(self) -> NDArray[np.int64]:
        """(D,) area of each defect."""
        return np.array([record.area_px for record in self.records], dtype=np.int64)

    def pooled_defect_scores(self) -> NDArray[np.float32]:
        """(M,) the scores of all defects one after the other; `defect_scores` become views of it."""
        pooled = np.concatenate([np.empty(0, np.float32), *self.defect_scores])
        self.defect_scores = np.split(pooled, np.cumsum(self.areas_px)[:-1]) if self.records else []
        return pooled

    def tally(self, ranking: Ranking, decision_threshold: float) -> Tally:
        """The table of counts; reads the normal scores once more."""
        thresholds = choose_thresholds(ranking, decision_threshold)
        n_normal = self.normal_scores.sizes
        reached = self.normal_scores.count_below(thresholds)
        np.subtract(n_normal[:, None], reached, out=reached)
        found = np.empty((len(self.defect_scores), thresholds.size), dtype=np.int32)
        for number, scores in enumerate(self.defect_scores):
            found[number] = count_at_least(scores, thresholds)
        return Tally(
            thresholds=thresholds,
            normal_at_least=reached.astype(np.int32),
            n_normal=n_normal,
            highest_normal=np.array([self._highest_normal(run) for run in range(n_normal.size)], dtype=np.float32),
            defect_at_least=found,
            area_px=self.areas_px,
            peak=np.array([scores[-1] for scores in self.defect_scores], dtype=np.float32),
            own_peak=np.array([record.own_peak for record in self.records], dtype=np.float32),
            median=np.array([scores[scores.size // 2] for scores in self.defect_scores], dtype=np.float32),
            image_of_defect=np.array(self.image_of_defect, dtype=np.int64),
            defect_type=np.array([record.defect_type for record in self.records], dtype=np.str_),
            is_good=self.is_good,
            image_score=np.array(self.image_scores),
            sample_id=np.array([sample.id for sample in self.samples], dtype=np.str_),
            group=np.array([sample.group or sample.id for sample in self.samples], dtype=np.str_),
            is_view=np.array([sample.is_view for sample in self.samples], dtype=np.bool_),
            outlined_at_least=self.saturated.at_least(thresholds),
            saturation_px=np.array(self.saturated.saturation_px, dtype=np.float64),
            image_of_outlined=np.array(self.saturated.image, dtype=np.int64),
        )

    def _highest_normal(self, run: int) -> float:
        highest, _ = self.normal_scores.tops(run)
        return float(highest[0]) if highest.size else float("nan")


def gather(
    pairs: Iterable[tuple[Sample, Prediction]],
    normal_scores: ScoreSpool,
    n_crops: int,
    *,
    with_contrast: bool = False,
) -> Gathered:
    """Take in every image once, in order; the contrast of defects costs reading the photographs that show them.

    Raises:
        ResolutionMismatchError, DatasetError, ScoreError: as `evaluate` says.
    """
    gathered = Gathered(normal_scores=normal_scores, crops=CropKeeper(n_crops), with_contrast=with_contrast)
    for sample, prediction in pairs:
        _gather_image(gathered, sample, prediction)
    if not gathered.samples:
        raise DatasetError("nothing to evaluate: there is no pair of sample and prediction; check the test split")
    return gathered


def _gather_image(gathered: Gathered, sample: Sample, prediction: Prediction) -> None:
    """Take in one image: its pixels into the two pools, its defects one by one."""
    anomaly_map, mask = checked_pair(sample, prediction)
    gathered.lowest = min(gathered.lowest, float(anomaly_map.min()))
    gathered.highest = max(gathered.highest, float(anomaly_map.max()))
    marked = bool(mask.any())
    gathered.samples.append(sample)
    gathered.image_scores.append(float(prediction.score))
    if sample.label == "good":
        gathered.normal_scores.add(anomaly_map)
        return
    gathered.normal_scores.add(anomaly_map[~mask] if marked else np.empty(0, np.float32))
    gathered.n_unmarked += not marked
    image: NDArray[np.uint8] | None = None
    outlined = sample.saturated_defects() if marked else None
    gathered.saturated.add(outlined or [], anomaly_map, sample.id, len(gathered.samples) - 1)
    defects = find_defects(mask, next(iter(sample.mask_paths), sample.id)) if marked else []
    require_few(len(gathered.records) + len(defects), "this evaluation")
    for defect, own_peak in zip(defects, own_peaks(anomaly_map, mask, defects), strict=True):
        record = _gather_defect(gathered, sample, defect, anomaly_map, own_peak)
        if gathered.with_contrast:
            image = sample.image() if image is None else image
            gathered.records[-1] = replace(record, contrast=contrast_to_noise(image, mask, defect))
        if gathered.crops.wants(record):
            image = sample.image() if image is None else image
            gathered.crops.keep(len(gathered.records) - 1, crop_around(record, image, mask, anomaly_map))


def checked_pair(sample: Sample, prediction: Prediction) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The (H, W) map and mask of one sample, if they can be scored.

    Raises:
        ResolutionMismatchError, DatasetError, ScoreError: they cannot, as `evaluate` says.
    """
    if sample.label == "unknown":
        raise DatasetError(f"{sample.id}: labelled unknown; evaluate only samples labelled good or defect")
    mask, given = sample.mask(), prediction.anomaly_map
    if given.shape != mask.shape:
        raise ResolutionMismatchError(
            f"{sample.id}: the anomaly map is {given.shape} but the image and its mask are {mask.shape}; "
            "scores count at the image's own (height, width): resample the map to it (bilinear, centre-aligned), "
            "never the mask"
        )
    with np.errstate(over="ignore"):
        anomaly_map = given.astype(np.float32, copy=False)
    if anomaly_map is not given and not np.isfinite(anomaly_map).all():
        raise ScoreError(f"{sample.id}: the anomaly map ({given.dtype}) overflows float32; scale the scores down")
    if sample.label == "good" and mask.any():
        raise DatasetError(f"{sample.id}: labelled good but its mask marks a defect; mend the label or the mask")
    return anomaly_map, mask


def _gather_defect(
    gathered: Gathered, sample: Sample, defect: Defect, anomaly_map: NDArray[np.float32], own_peak: float
) -> DefectRecord:
    scores = np.sort(anomaly_map[defect.box][defect.pixels])
    rows, columns = defect.box
    record = DefectRecord(
        sample_id=sample.id,
        defect_type=sample.defect_type,
        box_px=(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start),
        area_px=defect.area_px,
        diameter_px=defect.diameter_px,
        peak=float(scores[-1]),
        first_touched_fpr=float("nan"),  # known once every normal pixel is counted
        half_covered_fpr=float("nan"),
        aupro=(),
        own_peak=own_peak,
    )
    gathered.defect_scores.append(scores)
    gathered.records.append(record)
    gathered.image_of_defect.append(len(gathered.samples) - 1)
    gathered.image_px.append(anomaly_map.size)
    return record
