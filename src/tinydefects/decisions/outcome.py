"""What thresholds achieve on test images: false alarms beside what was promised, recall, and regions by defect size.

The thresholds are those of a calibration and of nothing else; test images are counted, and choose nothing. Parts are
counted, as promises are made of parts: photographs of one part are one, with the highest of their scores, and with the
mean of their regions. Shares have the exact 95 % interval of Clopper and Pearson (1934).

A defect is hit when a region that is shown overlaps it and its own peak (`metrics/defect_signals.py`) exceeds the level
that regions reach: one that lies in a neighbour's glow alone is missed, as in `metrics/detectability.py`. SegF1 is that
of MVTec AD 2 (arXiv 2503.21622), the F1 of all test pixels pooled, a pixel called defective when a region holds it.
Defective photographs without an outline count as photographs; their pixels are left out.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import find_defects
from tinydefects.data.sample import Prediction, Sample
from tinydefects.decisions.calibration import Calibration, Obtained
from tinydefects.decisions.guarantees import Threshold, affordable_rate
from tinydefects.decisions.regions import Extent, Map, label_regions
from tinydefects.errors import DatasetError
from tinydefects.metrics.curves import f1
from tinydefects.metrics.defect_signals import own_peaks
from tinydefects.metrics.gathering import checked_pair
from tinydefects.metrics.groups import QUARTILES, disjoint_quartiles
from tinydefects.metrics.hit_miss import SizeFit, fit_sizes
from tinydefects.metrics.records import Interval
from tinydefects.metrics.statistics.uncertainty import UNDEFINED, bca_interval, exact_interval
from tinydefects.notebook import paragraphs

N_DRAWS, SEED = 1000, 0
Pair = tuple[Sample, Prediction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`count` of n, with its exact 95 % interval; nan without any."""

    count: float
    n: int
    low: float
    high: float

    @classmethod
    def of(cls, count: float, n: int, most: int = 1) -> Self:
        """Of n, each counted as 0 to `most`: the interval takes each for nothing or all, and so is wide beyond 1."""
        if not n:
            return cls(count=0, n=0, low=math.nan, high=math.nan)
        low, high = exact_interval(min(count / most, n), n)  # sums of shares are rounded
        return cls(count=count, n=n, low=most * low, high=most * high)

    @property
    def value(self) -> float:
        """`count` a piece; nan without any."""
        return self.count / self.n if self.n else math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One promise beside what came.

    Attributes:
        threshold: alarms lie above it; nan where there is none, so that nothing alarms.
        promised: the rate that good parts stay below; nan where nothing is promised.
        confidence: of the promise, 0 for that on average.
        found: the good parts of the test that alarm.
    """

    threshold: float
    promised: float
    confidence: float
    found: Share

    @property
    def stands(self) -> str:
        """Where the promise lies: `inside` the interval, `below` it (more alarms than promised) or `above` (fewer).

        Empty where nothing is promised or nothing was counted.
        """
        if math.isnan(self.promised) or not self.found.n:
            return ""
        if self.promised < self.found.low:
            return "below"
        return "above" if self.promised > self.found.high else "inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeOutcome:
    """What became of some defects and of the parts that show them.

    Attributes:
        name: `all`, or a quartile of area without overlap, `Q1` the smallest defects.
        area_px: smallest and largest area, (nan, nan) without any.
        not_good, called_defect: parts that show one of these defects, by their verdict; `all` counts those without
            an outline as well. A part counts in each quartile that it shows a defect of.
        hit: defects that a region overlaps.
    """

    name: str
    area_px: tuple[float, float]
    not_good: Share
    called_defect: Share
    hit: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the thresholds of a calibration achieve on test images. `str()` gives it in lines for people.

    Attributes:
        n_calibrated, obtained: good parts that the thresholds come from, and how, see `Calibration`.
        n_good_images, n_defective_images: test photographs; parts are counted below.
        n_unmarked_images: defective photographs without an outline.
        not_good: good parts above the threshold up to which a part is good.
        called_defect: good parts above the one from which on it is a defect.
        regions: regions that good parts show, in the mean, each photograph counted up to `most_counted`.
        most_counted: with 1, `regions` counts photographs that show any.
        false_regions: regions a good photograph, all counted, and its interval over parts drawn again (BCa).
        extent, min_area_px: from which level and area on there are regions; `regions.threshold` is that of their peaks.
        by_size: all defects, then their quartiles, smallest first.
        hits: one for each defect, in the order of `Evaluation.defects`; `n_by_glow` overlap a region by a neighbour's
            glow alone.
        fit: probability of being hit against diameter.
        seg_f1: see above; nan where no defect is outlined.
    """

    n_calibrated: int
    obtained: Obtained
    n_good_images: int
    n_defective_images: int
    n_unmarked_images: int
    not_good: Kept
    called_defect: Kept
    regions: Kept
    most_counted: int
    false_regions: float
    false_regions_interval: Interval
    extent: float
    min_area_px: int
    by_size: tuple[SizeOutcome, ...]
    hits: tuple[bool, ...]
    n_by_glow: int
    fit: SizeFit
    seg_f1: float

    def __str__(self) -> str:
        from tinydefects.decisions.outcome_text import describe  # it reads the class

        return "\n".join(describe(self))

    def _repr_html_(self) -> str:
        """For notebooks: the same lines."""
        return paragraphs(str(self).splitlines())


def measure_outcome(pairs: Iterable[Pair], calibration: Calibration) -> Outcome:
    """What the thresholds achieve on these samples; one map in memory at a time.

    Whether the maps are of the detector that was calibrated is for the caller to know.

    Raises:
        DatasetError: no pairs, a sample labelled `unknown` or good with a marked mask, an unreadable mask.
        ResolutionMismatchError, ScoreError: as `metrics.evaluation.evaluate`.
    """
    counting = OutcomeCounting(calibration)
    for _ in counting.watch(pairs):
        pass
    return counting.outcome()


@dataclass(slots=True)
class _Part:
    """Photographs of one part: its highest score, regions of each photograph, numbers of its defects."""

    score: float = -math.inf
    n_regions: list[int] = field(default_factory=list)
    defects: set[int] = field(default_factory=set)


class OutcomeCounting:
    """Counts on the way what passes to somebody else, so that maps are read once."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._good: dict[str, _Part] = {}
        self._defective: dict[str, _Part] = {}
        self._areas_px: list[int] = []
        self._hits: list[bool] = []
        self._n_by_glow = self._n_unmarked = self._n_good_images = self._n_defective_images = 0
        self._n_found = self._n_false = self._n_defect = self._n_normal = 0

    def watch(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The same pairs, each counted before it is given on; errors as `measure_outcome` says."""
        for sample, prediction in pairs:
            self._count(sample, prediction)
            yield sample, prediction

    def _count(self, sample: Sample, prediction: Prediction) -> None:
        anomaly_map, mask = checked_pair(sample, prediction)
        settings = self._calibration.settings
        shown, n_regions = region_mask(
            anomaly_map,
            extent=self._calibration.extent,
            seed=self._calibration.seed,
            min_area_px=settings.smallest_px,
        )
        is_good = sample.label == "good"
        part = (self._good if is_good else self._defective).setdefault(sample.group or sample.id, _Part())
        part.score = max(part.score, float(prediction.score))
        part.n_regions.append(n_regions)
        self._n_good_images += is_good
        self._n_defective_images += not is_good
        if not is_good and not mask.any():
            self._n_unmarked += 1
            return
        n_shown, n_marked = int(np.count_nonzero(shown)), int(np.count_nonzero(mask))
        n_both = int(np.count_nonzero(shown & mask)) if n_shown and n_marked else 0
        self._n_found += n_both
        self._n_false += n_shown - n_both
        self._n_defect += n_marked
        self._n_normal += mask.size - n_marked
        if n_marked:
            self._count_defects(sample, part, anomaly_map, mask, shown)

    def _count_defects(
        self, sample: Sample, part: _Part, anomaly_map: Map, mask: NDArray[np.bool_], shown: NDArray[np.bool_]
    ) -> None:
        defects = find_defects(mask, next(iter(sample.mask_paths), sample.id))
        reached = np.float32(self._calibration.extent.level)
        for defect, own_peak in zip(defects, own_peaks(anomaly_map, mask, defects), strict=True):
            overlaps = bool((shown[defect.box] & defect.pixels).any())
            is_hit = overlaps and bool(own_peak > reached)  # nan, no peak of its own, is no hit
            part.defects.add(len(self._hits))
            self._areas_px.append(defect.area_px)
            self._hits.append(is_hit)
            self._n_by_glow += overlaps and not is_hit

    def outcome(self) -> Outcome:
        """What was counted.

        Raises:
            DatasetError: nothing was.
        """
        if not self._good and not self._defective:
            raise DatasetError("nothing to count: there is no pair of sample and prediction; check the test split")
        calibration, good = self._calibration, list(self._good.values())
        settings, most = calibration.settings, calibration.settings.most_counted
        capped = [float(np.minimum(part.n_regions, most).mean()) for part in good]
        every = np.array([float(np.mean(part.n_regions)) for part in good])
        above_good, above_defect = calibration.good_up_to, calibration.defect_above
        hits, areas_px = np.array(self._hits, dtype=bool), np.array(self._areas_px, dtype=np.int64)
        return Outcome(
            n_calibrated=calibration.scores.size,
            obtained=calibration.obtained,
            n_good_images=self._n_good_images,
            n_defective_images=self._n_defective_images,
            n_unmarked_images=self._n_unmarked,
            not_good=_kept(
                above_good, calibration.average_threshold, settings.image_threshold, _above(good, above_good)
            ),
            called_defect=_kept(
                above_defect, calibration.certain_threshold, settings.image_threshold, _above(good, above_defect)
            ),
            regions=_kept(
                calibration.seed,
                calibration.region_threshold,
                settings.region_threshold,
                Share.of(math.fsum(capped), len(good), most),
                most,
            ),
            most_counted=most,
            false_regions=float(every.mean()) if good else math.nan,
            false_regions_interval=mean_interval(every),
            extent=calibration.extent.level,
            min_area_px=settings.smallest_px,
            by_size=tuple(self._by_size(areas_px, hits)),
            hits=tuple(self._hits),
            n_by_glow=self._n_by_glow,
            fit=fit_sizes(2 * np.sqrt(areas_px / np.pi), hits) if hits.size else SizeFit(),
            seg_f1=f1(n_found=self._n_found, n_false=self._n_false, n_defect=self._n_defect, n_normal=self._n_normal),
        )

    def _by_size(self, areas_px: NDArray[np.int64], hits: NDArray[np.bool_]) -> Iterator[SizeOutcome]:
        parts = list(self._defective.values())
        quartiles = disjoint_quartiles(areas_px) if areas_px.size else []
        groups = [("all", np.ones(areas_px.size, dtype=bool)), *zip(QUARTILES, quartiles, strict=False)]
        for name, members in groups:
            numbers = set(np.flatnonzero(members).tolist())
            showing = [part for part in parts if name == "all" or part.defects & numbers]
            inside = areas_px[members]
            yield SizeOutcome(
                name=name,
                area_px=(float(inside.min()), float(inside.max())) if inside.size else (math.nan, math.nan),
                not_good=_above(showing, self._calibration.good_up_to),
                called_defect=_above(showing, self._calibration.defect_above),
                hit=Share.of(int(np.count_nonzero(hits[members])), inside.size),
            )


def region_mask(anomaly_map: Map, *, extent: Extent, seed: float, min_area_px: int) -> tuple[NDArray[np.bool_], int]:
    """(H, W) bool, True in the regions that `regions.find_regions` counts, and how many they are."""
    if not anomaly_map.max() > np.float32(max(seed, extent.level)):
        return np.zeros(anomaly_map.shape, dtype=bool), 0
    found = label_regions(anomaly_map, extent)
    kept = (found.peaks > np.float32(seed)) & (found.areas_px >= min_area_px)
    is_shown = np.zeros(found.peaks.size + 1, dtype=bool)
    is_shown[found.numbers[kept]] = True
    return is_shown[found.labels], int(np.count_nonzero(kept))


def mean_interval(values: NDArray[np.float64]) -> Interval:
    """A 95 % interval (BCa) of the mean of (n,) counts; (nan, nan) where they are fewer than 2 or all the same.

    Where nothing was counted, as far as 0 of n reaches when each counts once at most.
    """
    n = values.size
    if n > 1 and not values.any():
        return Interval(low=0.0, high=exact_interval(0, n)[1])
    if n < 2 or values.min() == values.max():
        return UNDEFINED
    drawn = np.random.default_rng(SEED).multinomial(n - 1, np.full(n, 1 / n), size=N_DRAWS) @ values / (n - 1)
    return bca_interval(drawn, float(values.mean()), (values.sum() - values) / (n - 1))


def _above(parts: list[_Part], threshold: float) -> Share:
    return Share.of(sum(part.score > threshold for part in parts), len(parts))


def _kept(threshold: float, follows: Threshold, by_hand: float | None, found: Share, most: int = 1) -> Kept:
    """Beside what came, the promise of the threshold in use.

    None is made by hand. Where the parts are too few, the highest of n takes its place, which they exceed with a
    chance of 1 in n + 1; where nothing does, nothing can alarm.
    """
    rate = follows.rate
    if by_hand is not None or math.isinf(threshold):
        rate = math.nan
    elif follows.value is None:
        rate = most * affordable_rate(follows.n_parts)
    return Kept(
        threshold=threshold if math.isfinite(threshold) else math.nan,
        promised=rate,
        confidence=follows.confidence,
        found=found,
    )
