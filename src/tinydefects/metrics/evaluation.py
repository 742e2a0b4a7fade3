"""evaluate(): every number of one category from one pass over samples and predictions, one map in memory at a time.

`gathering.py` takes the stream in, `groups.py` scores groups of defects, this file puts all numbers together.
Nothing is binned: they are exact and tie-aware. A decision threshold is to be exceeded: defective means
score > threshold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.curves import auroc, average_precision, best_f1, f1, fpr_at_tpr
from tinydefects.metrics.detectability import DEFAULT_RULE, checked_rate, measure_detectability
from tinydefects.metrics.gathering import Gathered, gather
from tinydefects.metrics.groups import (
    CURVE_RULES,
    CurveRule,
    GroupScorer,
    bin_groups,
    own_aupros,
    size_and_type_groups,
)
from tinydefects.metrics.pimo import image_aupimos
from tinydefects.metrics.ranking import rank, rank_spooled
from tinydefects.metrics.records import DefectRecord
from tinydefects.metrics.scores import FPR_LIMITS, Evaluation
from tinydefects.metrics.size import SizeBins, quartile_areas, rho
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.metrics.tally import Tally, lowest_above
from tinydefects.metrics.uncertainty import N_RESAMPLES, intervals
from tinydefects.sample import Prediction, Sample


def evaluate(
    pairs: Iterable[tuple[Sample, Prediction]],
    *,
    category: str = "",
    fpr_limits: Sequence[float] = FPR_LIMITS,
    curve: CurveRule = "exact",
    bins: SizeBins | Sequence[SizeBins] = (),
    pixel_pitch_mm: float = float("nan"),
    threshold: float = float("nan"),
    image_threshold: float = float("nan"),
    detection_rule: str = DEFAULT_RULE,
    false_alarm_rate: float | None = None,
    n_exhibits: int = 48,
    contrast: bool = False,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score predictions against the masks of their samples, at the images' own resolution.

    Maps and `threshold` are compared as float32, image scores as they are. `fpr_limits` are in (0, 1]; `curve` rules
    AUPRO and rho, the rest is always exact.
    `threshold` and `image_threshold` are decisions taken without these images; F1 at them is nan when they are not
    given. `detection_rule` and its `false_alarm_rate` decide which defects are detected (`detectability.py`). Every
    number gets a 95 % interval from `n_resamples` draws of the images, 0 for none, made with `seed`. `contrast`
    measures how much each defect stands out in its photograph, which is read for it. Undefined numbers (no defect, no
    normal pixel, no good image) are nan beside their counts.

    Raises:
        ResolutionMismatchError: a map and its mask differ in size; nothing is resized here.
        DatasetError: no pairs, a sample labelled `unknown` or good with a marked mask, an unreadable mask.
        ScoreError: a map that overflows float32.
        TinyDefectsError: a setting that makes no sense, or a full temporary folder.
    """
    if curve not in CURVE_RULES:
        raise TinyDefectsError(f"curve rule {curve!r} is unknown; choose one of {', '.join(CURVE_RULES)}")
    if not fpr_limits or not all(0 < limit <= 1 for limit in fpr_limits):
        raise TinyDefectsError(f"fpr_limits are {tuple(fpr_limits)}; give false-positive rates in (0, 1], such as 0.05")
    checked_rate(detection_rule, false_alarm_rate)
    every_bins, limits = (bins,) if isinstance(bins, SizeBins) else tuple(bins), tuple(dict.fromkeys(fpr_limits))
    nothing = np.empty(0, dtype=np.int64)
    bin_groups(every_bins, nothing, nothing, pixel_pitch_mm)  # sizes in mm without a pitch: say so before all the work
    with ScoreSpool() as normal_scores:
        gathered = gather(pairs, normal_scores, n_exhibits, with_contrast=contrast)
        ranking = rank_spooled(gathered.pooled_defect_scores(), normal_scores)
        tally = gathered.tally(ranking, threshold)
        aupimos = image_aupimos(ranking, normal_scores, tally)
    scorer = GroupScorer(
        ranking=ranking,
        tally=tally,
        fpr_limits=limits,
        curve_rule=curve,
        own_aupros=own_aupros(ranking, tally.area_px, limits),
    )
    evaluation = _conclude(gathered, scorer, category)
    evaluation = _with_decisions(evaluation, tally, threshold, image_threshold)
    evaluation = _with_aupimo(evaluation, tally, aupimos)
    images_px = np.array(gathered.image_px, dtype=np.int64)
    binned = bin_groups(every_bins, tally.area_px, images_px, pixel_pitch_mm)
    highest_good = tally.highest_normal[tally.is_good]
    evaluation = replace(
        evaluation,
        tally=tally,
        bins=every_bins,
        by_bin=tuple(scorer.group(group) for group in binned.values()),
        pixel_pitch_mm=pixel_pitch_mm,
        detectability=measure_detectability(
            evaluation.defects, highest_good, rule=detection_rule, rate=false_alarm_rate
        ),
    )
    return replace(evaluation, intervals=intervals(evaluation, n_resamples=n_resamples, seed=seed))


def _conclude(gathered: Gathered, scorer: GroupScorer, category: str) -> Evaluation:
    """All numbers that need no setting."""
    ranking, tally = scorer.ranking, scorer.tally
    images = rank(tally.image_score[~tally.is_good], [tally.image_score[tally.is_good]])
    types = sorted({sample.defect_type for sample in gathered.samples if sample.label != "good"})
    groups = [scorer.group(group) for group in size_and_type_groups(tally.area_px, tally.defect_type, types).values()]
    cumulative, disjoint, by_type = (
        tuple(group for group in groups if group.kind == kind) for kind in ("cumulative", "disjoint", "type")
    )
    records = _complete_records(gathered, scorer)
    return Evaluation(
        category=category,
        curve_rule=scorer.curve_rule,
        fpr_limits=scorer.fpr_limits,
        n_images=images.n_defect + images.n_normal,
        n_good_images=images.n_normal,
        n_unmarked_images=gathered.n_unmarked,
        n_normal_pixels=ranking.n_normal,
        n_defect_pixels=ranking.n_defect,
        overall=groups[0],
        cumulative=cumulative,
        disjoint=disjoint,
        by_type=by_type,
        quartile_areas_px=quartile_areas(tally.area_px),
        rho=tuple(rho(aupros) for aupros in zip(*(group.aupro for group in cumulative), strict=True)),
        pixel_auroc=auroc(ranking),
        pixel_average_precision=average_precision(ranking),
        pixel_best_f1=best_f1(ranking),
        image_auroc=auroc(images),
        image_average_precision=average_precision(images),
        image_best_f1=best_f1(images),
        image_fpr_at_95_tpr=fpr_at_tpr(images, percent=95),
        score_range=(gathered.lowest, gathered.highest),
        defects=records,
        exhibits=gathered.exhibits.exhibits(records),
    )


def _complete_records(gathered: Gathered, scorer: GroupScorer) -> tuple[DefectRecord, ...]:
    touched = scorer.ranking.fpr_at(scorer.tally.peak).tolist()
    covered = scorer.ranking.fpr_at(scorer.tally.median).tolist()
    own = np.full(scorer.tally.own_peak.size, np.nan)
    has_own = ~np.isnan(scorer.tally.own_peak)
    own[has_own] = scorer.ranking.fpr_at(scorer.tally.own_peak[has_own])
    columns = (touched, covered, own.tolist(), scorer.own_aupros.tolist())
    return tuple(
        replace(record, first_touched_fpr=first, half_covered_fpr=half, own_touched_fpr=alone, aupro=tuple(aupro))
        for record, first, half, alone, aupro in zip(gathered.records, *columns, strict=True)
    )


def _with_decisions(evaluation: Evaluation, tally: Tally, threshold: float, image_threshold: float) -> Evaluation:
    """F1 of pixels and of images at decision thresholds, where these are given."""
    if not np.isnan(threshold):
        place = int(np.flatnonzero(tally.thresholds == lowest_above(threshold))[0])
        pixel_f1 = f1(
            n_found=int(tally.defect_at_least[:, place].sum()),
            n_false=int(tally.normal_at_least[:, place].sum()),
            n_defect=evaluation.n_defect_pixels,
            n_normal=evaluation.n_normal_pixels,
        )
        evaluation = replace(evaluation, threshold=float(np.float32(threshold)), pixel_f1=pixel_f1)
    if not np.isnan(image_threshold):
        called = tally.image_score > image_threshold
        image_f1 = f1(
            n_found=int(np.count_nonzero(called & ~tally.is_good)),
            n_false=int(np.count_nonzero(called & tally.is_good)),
            n_defect=evaluation.n_images - evaluation.n_good_images,
            n_normal=evaluation.n_good_images,
        )
        evaluation = replace(evaluation, image_threshold=image_threshold, image_f1=image_f1)
    return evaluation


def _with_aupimo(evaluation: Evaluation, tally: Tally, aupimos: NDArray[np.float64]) -> Evaluation:
    known = ~np.isnan(aupimos)
    by_image = dict(zip(tally.sample_id[known].tolist(), aupimos[known].tolist(), strict=True))
    return replace(evaluation, aupimo_by_image=by_image, aupimo=float(aupimos[known].mean()) if known.any() else np.nan)
