"""evaluate(): every number of one category from a stream of samples and predictions, one map in memory at a time.

Each image counts at its own resolution; sizes may differ. The scores of defect pixels stay in memory, those of normal
pixels go to a temporary file of four bytes a pixel and are read back once. Nothing is binned: all numbers are exact.
A defective image whose mask is empty counts as a defective image and nothing else: its pixels cannot be called normal.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.defects import Defect, find_defects
from tinydefects.errors import DatasetError, ResolutionMismatchError, ScoreError, TinyDefectsError
from tinydefects.metrics.curves import Curve, auroc, average_precision, best_f1, exact_curve, level_areas
from tinydefects.metrics.exhibits import ExhibitKeeper, cut_out
from tinydefects.metrics.published import normal_threshold_curve, published_curve
from tinydefects.metrics.ranking import Ranking, ScoreSpool, rank
from tinydefects.metrics.scores import FPR_LIMITS, DefectRecord, Evaluation, GroupScores, PlottedCurve
from tinydefects.metrics.size import QUARTILES, cumulative_quartiles, disjoint_quartiles, quartile_areas, rho
from tinydefects.sample import Prediction, Sample

CurveRule = Literal["exact", "published_99", "normal_thresholds"]
CURVE_RULES: dict[str, Callable[[Ranking, NDArray[np.float64]], Curve]] = {
    "exact": exact_curve,
    "published_99": published_curve,
    "normal_thresholds": normal_threshold_curve,
}


def evaluate(
    pairs: Iterable[tuple[Sample, Prediction]],
    *,
    category: str = "",
    fpr_limits: Sequence[float] = FPR_LIMITS,
    curve: CurveRule = "exact",
    n_exhibits: int = 48,
) -> Evaluation:
    """Score predictions against the masks of their samples, at the images' own resolution.

    Maps are compared as float32. `fpr_limits` are in (0, 1]; `curve` rules AUPRO and rho, the rest is always exact.
    Undefined numbers (no defect, no normal pixel, no good image) are nan beside their counts.

    Raises:
        ResolutionMismatchError: a map and its mask differ in size; nothing is resized here.
        DatasetError: no pairs, a sample labelled `unknown` or good with a marked mask, an unreadable mask.
        ScoreError: a map that overflows float32.
    """
    if curve not in CURVE_RULES:
        raise TinyDefectsError(f"curve rule {curve!r} is unknown; choose one of {', '.join(CURVE_RULES)}")
    if not fpr_limits or not all(0 < limit <= 1 for limit in fpr_limits):
        raise TinyDefectsError(f"fpr_limits are {tuple(fpr_limits)}; give false-positive rates in (0, 1], such as 0.05")
    with ScoreSpool() as normal_scores:
        gathered = _Gathered(normal_scores=normal_scores, exhibits=ExhibitKeeper(n_exhibits))
        for sample, prediction in pairs:
            _gather(gathered, sample, prediction)
        if not gathered.good_scores and not gathered.defective_scores:
            raise DatasetError("nothing to evaluate: there is no pair of sample and prediction; check the test split")
        defect_scores = np.concatenate([np.empty(0, np.float32), *gathered.defect_scores])
        gathered.defect_scores.clear()
        ranking = rank(defect_scores, normal_scores.chunks())
    return _conclude(gathered, ranking, category, tuple(fpr_limits), curve)


@dataclass(slots=True, kw_only=True)
class _Gathered:
    """What the stream leaves behind; the lists about defects run in parallel."""

    normal_scores: ScoreSpool
    exhibits: ExhibitKeeper
    good_scores: list[float] = field(default_factory=list)
    defective_scores: list[float] = field(default_factory=list)
    types: set[str] = field(default_factory=set)
    defect_scores: list[NDArray[np.float32]] = field(default_factory=list)
    records: list[DefectRecord] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    image_numbers: list[int] = field(default_factory=list)
    n_unmarked: int = 0
    lowest: float = np.inf
    highest: float = -np.inf


def _gather(gathered: _Gathered, sample: Sample, prediction: Prediction) -> None:
    """Take in one image: its pixels into the two pools, its defects one by one."""
    if sample.label == "unknown":
        raise DatasetError(f"{sample.id}: labelled unknown; evaluate only samples labelled good or defect")
    mask = sample.mask()
    anomaly_map = _checked_map(sample, prediction, mask)
    gathered.lowest = min(gathered.lowest, float(anomaly_map.min()))
    gathered.highest = max(gathered.highest, float(anomaly_map.max()))
    marked = bool(mask.any())
    if sample.label == "good":
        if marked:
            raise DatasetError(f"{sample.id}: labelled good but its mask marks a defect; mend the label or the mask")
        gathered.good_scores.append(float(prediction.score))
        gathered.normal_scores.add(anomaly_map)
        return
    gathered.defective_scores.append(float(prediction.score))
    gathered.types.add(sample.defect_type)
    if not marked:
        gathered.n_unmarked += 1
        return
    gathered.normal_scores.add(anomaly_map[~mask])
    image: NDArray[np.uint8] | None = None
    for defect in find_defects(mask):
        record = _gather_defect(gathered, sample, defect, anomaly_map)
        if gathered.exhibits.wants(record.area_px, record.peak):
            image = sample.image() if image is None else image
            cut = cut_out(record.box_px, image, mask, anomaly_map)
            gathered.exhibits.keep(len(gathered.records) - 1, record.area_px, record.peak, cut)


def _checked_map(sample: Sample, prediction: Prediction, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    given = prediction.anomaly_map
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
    return anomaly_map


def _gather_defect(
    gathered: _Gathered, sample: Sample, defect: Defect, anomaly_map: NDArray[np.float32]
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
    )
    gathered.defect_scores.append(scores)
    gathered.records.append(record)
    gathered.medians.append(float(scores[scores.size // 2]))  # the ceil(n/2)-th highest of n
    gathered.image_numbers.append(len(gathered.defective_scores) - 1)
    return record


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scorer:
    """Scores any group of defects; arrays about defects are (n,), images are numbered as in `defective_scores`."""

    ranking: Ranking
    areas_px: NDArray[np.int64]
    image_numbers: NDArray[np.int64]
    good_scores: NDArray[np.float64]
    defective_scores: NDArray[np.float64]
    fpr_limits: tuple[float, ...]
    curve_rule: str

    def group(self, name: str, members: NDArray[np.bool_]) -> GroupScores:
        """Scores of the defects chosen by `members`, (n,) bool, against all normal pixels and all good images."""
        n_defects = int(np.count_nonzero(members))
        areas_px = self.areas_px[members]
        images = np.unique(self.image_numbers[members])
        curve = self._pro_curve(members) if n_defects else Curve(fpr=np.empty(0), recall=np.empty(0))
        return GroupScores(
            name=name,
            n_defects=n_defects,
            n_images=images.size,
            area_px=(float(areas_px.min()), float(areas_px.max())) if n_defects else (float("nan"), float("nan")),
            aupro=tuple(curve.area(fpr_limit=limit) for limit in self.fpr_limits),
            image_auroc=auroc(rank(self.defective_scores[images], [self.good_scores])),
            curve=curve.thinned() if curve.fpr.size else PlottedCurve(fpr=(), pro=()),
        )

    def _pro_curve(self, members: NDArray[np.bool_]) -> Curve:
        weights = np.repeat(members / (self.areas_px * np.count_nonzero(members)), self.areas_px)
        return CURVE_RULES[self.curve_rule](self.ranking, weights)


def _conclude(
    gathered: _Gathered, ranking: Ranking, category: str, fpr_limits: tuple[float, ...], curve_rule: str
) -> Evaluation:
    areas_px = np.array([record.area_px for record in gathered.records], dtype=np.int64)
    types = np.array([record.defect_type for record in gathered.records], dtype=object)
    scorer = _Scorer(
        ranking=ranking,
        areas_px=areas_px,
        image_numbers=np.array(gathered.image_numbers, dtype=np.int64),
        good_scores=np.array(gathered.good_scores),
        defective_scores=np.array(gathered.defective_scores),
        fpr_limits=fpr_limits,
        curve_rule=curve_rule,
    )
    images = rank(scorer.defective_scores, [scorer.good_scores])
    overall = scorer.group("all", np.ones(areas_px.size, dtype=bool))
    smaller = [scorer.group(*named) for named in zip(QUARTILES[:3], cumulative_quartiles(areas_px)[:3], strict=True)]
    cumulative = (*smaller, replace(overall, name=QUARTILES[3]))
    disjoint = [scorer.group(*named) for named in zip(QUARTILES, disjoint_quartiles(areas_px), strict=True)]
    records = _complete_records(gathered, ranking, fpr_limits)
    return Evaluation(
        category=category,
        curve_rule=curve_rule,
        fpr_limits=fpr_limits,
        n_images=images.n_defect + images.n_normal,
        n_good_images=images.n_normal,
        n_unmarked_images=gathered.n_unmarked,
        n_normal_pixels=ranking.n_normal,
        n_defect_pixels=ranking.n_defect,
        overall=overall,
        cumulative=cumulative,
        disjoint=tuple(disjoint),
        by_type=tuple(scorer.group(name, types == name) for name in sorted(gathered.types)),
        quartile_areas_px=quartile_areas(areas_px),
        rho=tuple(rho(aupros) for aupros in zip(*(group.aupro for group in cumulative), strict=True)),
        pixel_auroc=auroc(ranking),
        pixel_average_precision=average_precision(ranking),
        pixel_best_f1=best_f1(ranking),
        image_auroc=auroc(images),
        image_average_precision=average_precision(images),
        image_best_f1=best_f1(images),
        score_range=(gathered.lowest, gathered.highest),
        defects=records,
        exhibits=gathered.exhibits.exhibits(records),
    )


def _complete_records(gathered: _Gathered, ranking: Ranking, fpr_limits: tuple[float, ...]) -> tuple[DefectRecord, ...]:
    if not gathered.records:
        return ()
    peaks = np.array([record.peak for record in gathered.records], dtype=np.float32)
    touched = ranking.fpr_at(peaks).tolist()
    covered = ranking.fpr_at(np.array(gathered.medians, dtype=np.float32)).tolist()
    areas_px = np.array([record.area_px for record in gathered.records])
    first_pixels = np.cumsum(areas_px) - areas_px
    found = [level_areas(ranking, fpr_limit=limit)[ranking.level] for limit in fpr_limits]
    aupros = np.stack([np.add.reduceat(pixels, first_pixels) / areas_px for pixels in found], axis=1).tolist()
    return tuple(
        replace(record, first_touched_fpr=first, half_covered_fpr=half, aupro=tuple(aupro))
        for record, first, half, aupro in zip(gathered.records, touched, covered, aupros, strict=True)
    )
