"""evaluate(): every number of one category from one pass over samples and predictions, one map in memory at a time.

`gathering.py` takes the stream in, `groups.py` scores groups of defects, this file puts all numbers together.
Nothing is binned: they are exact and tie-aware. A decision threshold is to be exceeded: defective means
score > threshold.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import isnan
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from tinydefects.data.json_files import first_fault
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import SettingsError
from tinydefects.limits import MOST_DRAWS, MOST_SEED
from tinydefects.metrics.curves import auroc, average_precision, best_f1, f1, fpr_at_tpr, image_aupimos
from tinydefects.metrics.detectability import DEFAULT_RULE, DetectionRule, measure_detectability
from tinydefects.metrics.gathering import Gathered, gather
from tinydefects.metrics.groups import (
    CurveRule,
    GroupScorer,
    SizeBins,
    bin_groups,
    own_aupros,
    parse_bins,
    quartile_areas,
    rho,
    size_and_type_groups,
)
from tinydefects.metrics.ranking import Tally, lowest_above, rank, rank_spooled
from tinydefects.metrics.records import DefectRecord
from tinydefects.metrics.scores import FPR_LIMITS, Evaluation
from tinydefects.metrics.spool import ScoreSpool
from tinydefects.metrics.statistics.uncertainty import N_RESAMPLES, intervals

NUMBERS, DECISIONS, FILES = "Numbers and size groups", "Decisions", "What is written"  # headings of the command's help
HIGHEST = float(np.finfo(np.float32).max)  # of the scores of pixels
Rate = Annotated[float, Field(gt=0, le=1)]


class EvaluationSettings(BaseModel):
    """How predictions are scored: the argument of `evaluate`, options of the command, and part of a protocol.

    What is not given is None; nan is taken as None. `fpr_limits` and `bins` may be text as on the command line.

    Raises:
        ValidationError: pydantic's, a ValueError; a value out of bounds. `changed` and `evaluate` make one line of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fpr_limits: tuple[Rate, ...] = Field(
        default=FPR_LIMITS,
        min_length=1,
        description="False-positive rates in (0, 1] up to which AUPRO is taken, between commas.",
        json_schema_extra={"flag": "--limits", "metavar": "RATES", "as_text": True},
    )
    bins: tuple[SizeBins, ...] = Field(
        default=(),
        description="Groups of defects between fixed sizes, e.g. diameter_px:2,5,10; also area_px, area_mm2, "
        "image_share. Repeatable.",
        json_schema_extra={"metavar": "UNIT:EDGES"},
    )
    pixel_pitch_mm: Annotated[float, Field(gt=0, le=1e9)] | None = Field(
        default=None, description="Millimetres a pixel, for sizes in mm.", json_schema_extra={"flag": "--pixel-pitch"}
    )
    curve: CurveRule = Field(
        default="exact",
        description="Curve under AUPRO and rho; 'published_99' is the 99-point curve of published tables.",
        json_schema_extra={"panel": NUMBERS},
    )
    contrast: bool = Field(
        default=False,
        description="Measure how much each defect stands out in its photograph, which is read for it.",
        json_schema_extra={"panel": NUMBERS},
    )
    n_resamples: int = Field(
        default=N_RESAMPLES,
        ge=0,
        le=MOST_DRAWS,
        description="Draws of the images behind the 95 % intervals; 0 for none.",
        json_schema_extra={"flag": "--resamples", "panel": NUMBERS},
    )
    seed: int = Field(
        default=0, ge=0, le=MOST_SEED, description="Seed of those draws.", json_schema_extra={"panel": NUMBERS}
    )
    detection_rule: DetectionRule = Field(
        default=DEFAULT_RULE, description="What counts as a detected defect.", json_schema_extra={"panel": DECISIONS}
    )
    false_alarm_rate: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="Share of good images (or of normal pixels) that rule lets alarm; 0.05 (0.01) when left out.",
        json_schema_extra={"panel": DECISIONS},
    )
    threshold: Annotated[float, Field(ge=-HIGHEST, le=HIGHEST)] | None = Field(
        default=None,
        description="Pixels above it are called defective: F1 at it, SegF1. Chosen without the test images.",
        json_schema_extra={"panel": DECISIONS},
    )
    image_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = Field(
        default=None,
        description="Images that score above it are called defective. Chosen without the test images.",
        json_schema_extra={"panel": DECISIONS},
    )
    n_crops: int = Field(
        default=48,
        ge=0,
        le=100_000,
        description="Crops of defects for the report; 0 keeps the data's pixels out of the result.",
        json_schema_extra={"flag": "--crops", "panel": FILES},
    )

    @field_validator("fpr_limits", mode="before")
    @classmethod
    def _split_limits(cls, given: Any) -> Any:  # noqa: ANN401 - whatever came
        """`0.3,0.05`, one or several such texts, or numbers."""
        limits = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
        return [part for limit in limits for part in (limit.split(",") if isinstance(limit, str) else [limit])]

    @field_validator("fpr_limits", mode="after")
    @classmethod
    def _each_once(cls, limits: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(dict.fromkeys(limits))

    @field_validator("bins", mode="before")
    @classmethod
    def _parse_bins(cls, given: Any) -> Any:  # noqa: ANN401 - whatever came
        """One set of bins or several, each as text or as it is."""
        every = given if isinstance(given, Iterable) and not isinstance(given, str | Mapping) else [given]
        return [parse_bins(one) if isinstance(one, str) else one for one in every]

    @field_validator("pixel_pitch_mm", "false_alarm_rate", "threshold", "image_threshold", mode="before")
    @classmethod
    def _nan_is_not_given(cls, given: Any) -> Any:  # noqa: ANN401 - whatever came
        return None if isinstance(given, float | np.floating) and isnan(given) else given

    @model_validator(mode="after")
    def _require_pitch(self) -> Self:
        if self.pixel_pitch_mm is None and any(bins.unit == "area_mm2" for bins in self.bins):
            raise ValueError("bins in mm² need a pixel pitch in mm: give --pixel-pitch (pixel_pitch_mm), 0.05 or so")
        return self

    def changed(self, **changes: Any) -> Self:  # noqa: ANN401 - values of the fields
        """The same settings but for these.

        Raises:
            SettingsError: one of them does not exist or is out of bounds.
        """
        try:
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            raise SettingsError(f"settings of the evaluation: {first_fault(error)}") from error


def evaluate(
    pairs: Iterable[tuple[Sample, Prediction]],
    settings: EvaluationSettings | None = None,
    *,
    category: str = "",
    **changes: Any,  # noqa: ANN401 - values of the settings' fields
) -> Evaluation:
    """Score predictions against the masks of their samples, at the images' own resolution.

    `settings` are the defaults where they are not given; `changes` are single ones beside them, such as
    `n_resamples=0`. `curve` rules AUPRO and rho, the rest is always exact. `threshold` (compared as float32) and
    `image_threshold` are decisions taken without these images; F1 at them is nan when they are not given.
    `detection_rule` and its `false_alarm_rate` decide which defects are detected (`detectability.py`). Undefined
    numbers (no defect, no normal pixel, no good image) are nan beside their counts.

    Raises:
        ResolutionMismatchError: a map and its mask differ in size; nothing is resized here.
        DatasetError: no pairs, a sample labelled `unknown` or good with a marked mask, an unreadable mask.
        ScoreError: a map that overflows float32.
        SettingsError: a setting that does not exist or is out of bounds.
        TinyDefectsError: a full temporary folder.
    """
    asked = (settings or EvaluationSettings()).changed(**changes)
    threshold, image_threshold, pixel_pitch_mm = (
        np.nan if value is None else value for value in (asked.threshold, asked.image_threshold, asked.pixel_pitch_mm)
    )
    with ScoreSpool() as normal_scores:
        gathered = gather(pairs, normal_scores, asked.n_crops, with_contrast=asked.contrast)
        ranking = rank_spooled(gathered.pooled_defect_scores(), normal_scores)
        tally = gathered.tally(ranking, threshold)
        aupimos = image_aupimos(ranking, normal_scores, tally)
        saturated = gathered.saturated.au_spro(normal_scores, asked.fpr_limits)
    scorer = GroupScorer(
        ranking=ranking,
        tally=tally,
        fpr_limits=asked.fpr_limits,
        curve_rule=asked.curve,
        own_aupros=own_aupros(ranking, tally.area_px, asked.fpr_limits),
    )
    evaluation = _conclude(gathered, scorer, category)
    evaluation = with_parts(with_decisions(evaluation, tally, threshold, image_threshold), tally)
    evaluation = _with_aupimo(evaluation, tally, aupimos)
    evaluation = _with_spro(evaluation, tally, saturated)
    images_px = np.array(gathered.image_px, dtype=np.int64)
    binned = bin_groups(asked.bins, tally.area_px, images_px, pixel_pitch_mm)
    highest_good = tally.highest_normal[tally.is_good]
    evaluation = replace(
        evaluation,
        tally=tally,
        bins=asked.bins,
        by_bin=tuple(scorer.group(group) for group in binned.values()),
        pixel_pitch_mm=pixel_pitch_mm,
        detectability=measure_detectability(
            evaluation.defects, highest_good, rule=asked.detection_rule, rate=asked.false_alarm_rate
        ),
    )
    return replace(evaluation, intervals=intervals(evaluation, n_resamples=asked.n_resamples, seed=asked.seed))


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
        crops=gathered.crops.crops(records),
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


def with_decisions(evaluation: Evaluation, tally: Tally, threshold: float, image_threshold: float) -> Evaluation:
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


def with_parts(evaluation: Evaluation, tally: Tally) -> Evaluation:
    """The AUROC of parts scored as a whole, where images are views of such."""
    parts = tally.parts()
    if not parts.score.size:
        return replace(evaluation, n_parts=0, n_good_parts=0, part_auroc=np.nan)
    return replace(
        evaluation,
        n_parts=parts.score.size,
        n_good_parts=int(np.count_nonzero(parts.is_good)),
        part_auroc=auroc(rank(parts.score[~parts.is_good], [parts.score[parts.is_good]])),
    )


def _with_spro(evaluation: Evaluation, tally: Tally, own: NDArray[np.float64]) -> Evaluation:
    """AU-sPRO of all outlined defects and of those of each type, from the (S, L) AU-sPRO of each."""
    members = tally.outlined_by_name()
    spro = {name: tuple(own[chosen].mean(axis=0).tolist()) for name, chosen in members.items()}
    return replace(evaluation, n_saturated=len(own), spro=spro)


def _with_aupimo(evaluation: Evaluation, tally: Tally, aupimos: NDArray[np.float64]) -> Evaluation:
    known = ~np.isnan(aupimos)
    by_image = dict(zip(tally.sample_id[known].tolist(), aupimos[known].tolist(), strict=True))
    return replace(evaluation, aupimo_by_image=by_image, aupimo=float(aupimos[known].mean()) if known.any() else np.nan)
