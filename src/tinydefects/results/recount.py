"""An evaluation counted again from what is stored beside it: what must come out equal, and what must lie within bounds.

The tally holds the scores of images and the counts of pixels at about a thousand thresholds. From these, image scores,
groups, decisions, detections and intervals follow exactly. Where a defect's pixels stand between two thresholds is not
known, so numbers that depend on it (its false-positive rates, its AUPRO, the areas over all pixels) have a lower and an
upper bound, which no set of pixels with this tally can leave. A group's AUPRO is the mean of its defects' own.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.images import category_with_image_bits
from tinydefects.data.map_files import origin_in, read_header
from tinydefects.data.predictions import map_path, read_prediction
from tinydefects.data.sample import Category, Prediction, Sample, defect_type_of
from tinydefects.errors import ResultError
from tinydefects.metrics.curves import FPR_BOUNDS, auroc, average_precision, best_f1, fpr_at_tpr
from tinydefects.metrics.detectability import measure_detectability
from tinydefects.metrics.evaluation import EvaluationSettings, evaluate, with_decisions, with_parts
from tinydefects.metrics.groups import GroupScorer, bin_groups, quartile_areas, rho, size_and_type_groups
from tinydefects.metrics.ranking import Ranking, Tally, rank
from tinydefects.metrics.records import GroupScores
from tinydefects.metrics.scores import Evaluation, groups_of
from tinydefects.metrics.statistics.uncertainty import intervals
from tinydefects.results.result import Result

ROUNDING = 1e-9  # of sums in another order, on another machine
FITTED = 1e-4  # relative, of what an optimiser or a quantile of draws gives elsewhere
EXACT = "exact"
RANKED = ("pixel_auroc", "pixel_average_precision", "pixel_best_f1", "aupimo_by_image")
FROM_PIXELS = (
    "curve_rule",
    "fpr_limits",
    "category",
    "score_range",
    "bins",
    "pixel_pitch_mm",
    "crops",
    "tally",
    *RANKED,
)
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One number that is not what it must be: `place` is its field, `stored` what stands there, `due` what should."""

    place: str
    stored: object
    due: str

    def __str__(self) -> str:
        return f"{self.place} is {_shown(self.stored)}, {self.due}"


def differences(evaluation: Evaluation) -> list[Difference]:
    """Everything in an evaluation that its tally contradicts, intervals aside.

    Raises:
        ValueError: there is no tally, or it is not one of these defects.
    """
    tally = evaluation.tally
    if tally is None:
        raise ValueError("it has no tally")
    if len(evaluation.defects) != tally.area_px.size:
        raise ValueError(f"it lists {len(evaluation.defects)} defects, the tally holds {tally.area_px.size}")
    found = unequal(_bare(evaluation), _bare(_recounted(evaluation, tally)))
    told = [Difference(place=place, stored=one, due=f"the tally gives {_shown(due)}") for place, one, due in found]
    return [*_out_of_bounds(evaluation, tally), *told]  # a defect first, then the groups that its number moves


def interval_differences(evaluation: Evaluation, *, n_resamples: int, seed: int) -> list[Difference]:
    """The intervals that drawing the images again, with the same seed, does not give."""
    again = intervals(evaluation, n_resamples=n_resamples, seed=seed)
    found = unequal(evaluation.intervals, again, "intervals", tolerance=FITTED)
    return [Difference(place=place, stored=one, due=f"drawn again {_shown(due)}") for place, one, due in found]


def map_differences(result: Result, maps: Path, category: Category, asked: EvaluationSettings) -> list[Difference]:
    """The numbers of a benchmark's result that scoring its kept maps again, on these images and masks, does not give.

    Raises:
        ResultError: a map is not one of this job.
        TinyDefectsError: a map or mask that cannot be read or scored.
    """
    run, stored = result.run, result.evaluation
    assert run is not None
    category = category_with_image_bits(category, int(run.settings.get("image_bits", "16")))

    def read(sample: Sample) -> tuple[Sample, Prediction]:
        path = map_path(maps, category.id, sample)
        origin = origin_in(read_header(path).description)
        if origin is None or origin.made_by.get("job") != run.job:
            raise ResultError(f"{path}: is not a map of this job")
        return sample, read_prediction(path)

    asked = asked.changed(threshold=stored.threshold, image_threshold=stored.image_threshold, n_crops=0, n_resamples=0)
    again = as_far_as_known(evaluate(map(read, category.test), asked, category=category.id), stored)
    one, other = (asdict(replace(e, crops=(), tally=None, intervals={})) for e in (stored, again))
    found = unequal(one, other)
    return [Difference(place=place, stored=here, due=f"the maps give {_shown(due)}") for place, here, due in found]


def as_far_as_known(again: Evaluation, stored: Evaluation) -> Evaluation:
    """What counting again gave, without parts and saturated defects where the stored result is older than these.

    Results before format 8 have no row for them in their tally; they are not wrong for that.
    """
    if stored.tally is not None and stored.tally.is_view.size:
        return again
    return replace(again, n_parts=0, n_good_parts=0, part_auroc=math.nan, n_saturated=0, spro={})


def unequal(
    stored: object, due: object, place: str = "", *, tolerance: float = ROUNDING
) -> Iterator[tuple[str, object, object]]:
    """Where two values of one shape differ: (field, here, there); numbers beyond a tolerance, relative above 1.

    Fits of the probability of detection may differ by `FITTED`.
    """
    stored, due = (asdict(one) if is_dataclass(one) and not isinstance(one, type) else one for one in (stored, due))
    if isinstance(stored, Mapping) and isinstance(due, Mapping):
        for name in dict.fromkeys((*due, *stored)):
            where = f"{place}.{name}" if place else str(name)
            if name not in stored or name not in due:
                yield where, stored.get(name, "missing"), due.get(name, "nothing")
            else:
                wide = FITTED if name == "fit" else tolerance
                yield from unequal(stored[name], due[name], where, tolerance=wide)
    elif isinstance(stored, Sequence) and isinstance(due, Sequence) and not isinstance(stored, str):
        if len(stored) != len(due):
            yield f"the length of {place}", len(stored), len(due)
        for number, (one, other) in enumerate(zip(stored, due, strict=False)):
            yield from unequal(one, other, f"{place}[{number}]", tolerance=tolerance)
    elif not _alike(stored, due, tolerance):
        yield place, stored, due


def _alike(stored: object, due: object, tolerance: float) -> bool:
    if isinstance(stored, float) or isinstance(due, float):
        one, other = float(stored), float(due)  # type: ignore[arg-type]  # numbers both
        return (math.isnan(one) and math.isnan(other)) or abs(one - other) <= tolerance * max(1.0, abs(other))
    return stored == due


def _shown(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _bare(evaluation: Evaluation) -> dict[str, object]:
    """What is compared for equality, groups by their keys."""
    content = asdict(replace(evaluation, crops=(), tally=None, intervals={}))
    for name in (*FROM_PIXELS, "intervals"):
        del content[name]
    for name in ("cumulative", "disjoint", "by_type", "by_bin"):
        content[name] = {group["key"]: group for group in content[name]}
    return content


def _recounted(evaluation: Evaluation, tally: Tally) -> Evaluation:
    """The evaluation with all that follows exactly put in anew."""
    groups = _groups(evaluation, tally)
    kinds = {kind: tuple(g for g in groups if g.kind == kind) for kind in ("cumulative", "disjoint", "type")}
    n_all = 1 + sum(map(len, kinds.values()))
    images = rank(tally.image_score[~tally.is_good], [tally.image_score[tally.is_good]])
    defective = np.zeros(tally.is_good.size, dtype=bool)
    defective[tally.image_of_defect] = True
    names = tally.sample_id[tally.image_of_defect].tolist()
    aupimos = [*evaluation.aupimo_by_image.values()]
    counted = replace(
        evaluation,
        n_images=tally.is_good.size,
        n_good_images=int(np.count_nonzero(tally.is_good)),
        n_unmarked_images=int(np.count_nonzero(~tally.is_good & ~defective)),
        n_normal_pixels=int(tally.n_normal.sum()),
        n_defect_pixels=int(tally.area_px.sum()),
        overall=groups[0],
        cumulative=kinds["cumulative"],
        disjoint=kinds["disjoint"],
        by_type=kinds["type"],
        by_bin=tuple(groups[n_all:]),
        quartile_areas_px=quartile_areas(tally.area_px),
        rho=tuple(rho(aupros) for aupros in zip(*(group.aupro for group in kinds["cumulative"]), strict=True)),
        image_auroc=auroc(images),
        image_average_precision=average_precision(images),
        image_best_f1=best_f1(images),
        image_fpr_at_95_tpr=fpr_at_tpr(images, percent=95),
        n_saturated=tally.saturation_px.size,
        spro={name: _a_limit_each(evaluation, name) for name in tally.outlined_by_name()},
        aupimo=math.fsum(aupimos) / len(aupimos) if aupimos else math.nan,
        detectability=measure_detectability(
            evaluation.defects,
            tally.highest_normal[tally.is_good],
            rule=evaluation.detectability.rule,
            rate=evaluation.detectability.rate,
        ),
        defects=tuple(
            replace(
                record,
                sample_id=name,
                defect_type=str(tally.defect_type[number]),
                area_px=int(tally.area_px[number]),
                diameter_px=2 * math.sqrt(tally.area_px[number] / math.pi),
                peak=float(tally.peak[number]),
                own_peak=float(tally.own_peak[number]),
            )
            for number, (record, name) in enumerate(zip(evaluation.defects, names, strict=True))
        ),
    )
    decided = with_decisions(counted, tally, evaluation.threshold, evaluation.image_threshold)
    return with_parts(decided, tally)


def _a_limit_each(evaluation: Evaluation, name: str) -> tuple[float, ...]:
    """The stored AU-sPRO of this name, which only bounds can judge, as long as it must be."""
    n_limits = len(evaluation.fpr_limits)
    return (*evaluation.spro.get(name, ()), *[math.nan] * n_limits)[:n_limits]


def _groups(evaluation: Evaluation, tally: Tally) -> list[GroupScores]:
    """All groups in the order of a report, scored from their defects; AUPRO of other rules stays as it is stored."""
    ranking = _without_defects(int(tally.n_normal.sum()))
    limits = evaluation.fpr_limits
    own = np.array([record.aupro for record in evaluation.defects], dtype=np.float64).reshape(-1, len(limits))
    scorer = GroupScorer(ranking=ranking, tally=tally, fpr_limits=limits, curve_rule=EXACT, own_aupros=own)
    types = {defect_type_of(name) for name in tally.sample_id[~tally.is_good].tolist()}
    in_image = np.bincount(tally.image_of_defect, tally.area_px, tally.n_normal.size).astype(np.int64)
    images_px = (tally.n_normal + in_image)[tally.image_of_defect]
    groups = size_and_type_groups(tally.area_px, tally.defect_type, sorted(types))
    groups |= bin_groups(evaluation.bins, tally.area_px, images_px, evaluation.pixel_pitch_mm)
    scored = [scorer.group(group) for group in groups.values()]
    if evaluation.curve_rule == EXACT:
        return scored
    stored = {group.key: group for group in groups_of(evaluation)}
    return [
        replace(one, aupro=stored[one.key].aupro, curve=stored[one.key].curve) if one.key in stored else one
        for one in scored
    ]


def _without_defects(n_normal: int) -> Ranking:
    """All that scoring groups from a tally asks of a ranking: the number of normal pixels."""
    none = np.empty(0, dtype=np.int64)
    return Ranking(
        scores=np.empty(0, dtype=np.float32),
        level=none,
        hits=none,
        normal_above=none,
        normal_at_least=none,
        normal_above_next=none,
        n_normal=n_normal,
    )


def _out_of_bounds(evaluation: Evaluation, tally: Tally) -> Iterator[Difference]:
    """Numbers that depend on where pixels stand between two thresholds, and cannot be what is stored."""
    for place, stored, low, high in _bounds(evaluation, tally):
        if math.isnan(stored) and math.isnan(low):
            continue
        if not low - ROUNDING <= stored <= high + ROUNDING:
            yield Difference(place=place, stored=stored, due=f"the tally allows {_shown(low)} to {_shown(high)}")


def _bounds(evaluation: Evaluation, tally: Tally) -> Iterator[tuple[str, float, float, float]]:
    """(field, stored, lowest, highest) of each such number."""
    n_normal, areas = int(tally.n_normal.sum()), tally.area_px
    known = np.concatenate([tally.defect_at_least, areas[:, None]], axis=1).astype(np.float64)
    share = np.diff(known, prepend=0.0) / areas[:, None]  # (D, G + 1) of each defect between two thresholds
    with np.errstate(invalid="ignore", divide="ignore"):
        reached = np.append(tally.normal_at_least.sum(axis=0, dtype=np.int64), n_normal) / n_normal
    before = np.concatenate([[0.0], reached[:-1]])
    rates = {"first_touched_fpr": tally.peak, "half_covered_fpr": tally.median, "own_touched_fpr": tally.own_peak}
    for name, scores in rates.items():
        places = np.searchsorted(-tally.thresholds, -scores, side="left")
        for number, (record, place) in enumerate(zip(evaluation.defects, places.tolist(), strict=True)):
            if not math.isnan(scores[number]):
                yield f"defects[{number}].{name}", getattr(record, name), float(before[place]), float(reached[place])
    if evaluation.curve_rule == EXACT:
        for column, limit in enumerate(evaluation.fpr_limits):
            lows, highs = (share @ np.maximum(0, 1 - rate / limit) for rate in (reached, before))
            for number, record in enumerate(evaluation.defects):
                place = f"defects[{number}].aupro[{column}]"
                yield place, record.aupro[column], float(lows[number]), float(highs[number])
    outlined = tally.saturated_shares()
    for name, chosen in tally.outlined_by_name().items():
        own = outlined[chosen].mean(axis=0)
        stored = zip(evaluation.spro.get(name, ()), evaluation.fpr_limits, strict=False)
        for column, (value, limit) in enumerate(stored):
            low, high = (float(own @ np.maximum(0, 1 - rate / limit)) for rate in (reached, before))
            yield f"spro.{name}[{column}]", value, low, high
    yield from _pixel_bounds(evaluation, known, reached * n_normal, before * n_normal)
    yield from _aupimo_bounds(evaluation, tally, share * areas[:, None])
    seen = (*tally.peak.tolist(), *tally.highest_normal[~np.isnan(tally.highest_normal)].tolist())
    highest = max(seen, default=-math.inf)
    most = math.inf if evaluation.n_unmarked_images else highest  # pixels that nobody outlined are in no count
    yield "score_range[1]", evaluation.score_range[1], highest, most


def _pixel_bounds(
    evaluation: Evaluation, known: Array, reached: Array, before: Array
) -> Iterator[tuple[str, float, float, float]]:
    """Of the metrics over all pixels: a defect pixel between two thresholds comes first or last among its like."""
    found = known.sum(axis=0)  # (G + 1,)
    earlier = np.concatenate([[0.0], found[:-1]]) if found.size else found
    n_defect, n_normal = found[-1] if len(known) else 0.0, reached[-1]
    if not n_defect or not n_normal:
        for name in RANKED[:3]:
            yield name, getattr(evaluation, name), math.nan, math.nan
        return
    hits = found - earlier
    least = np.minimum(earlier + 1, found)
    with np.errstate(invalid="ignore"):
        low, high = least / (least + reached), found / (found + before)
        sure, best = (2 * found / (found + normal + n_defect) for normal in (reached, before))
    weight = hits / n_defect
    lowest, highest = (float(weight @ (1 - rate / n_normal)) for rate in (reached, before))
    yield "pixel_auroc", evaluation.pixel_auroc, lowest, highest
    lowest, highest = (float(np.where(weight > 0, weight * precision, 0).sum()) for precision in (low, high))
    yield "pixel_average_precision", evaluation.pixel_average_precision, lowest, highest
    yield "pixel_best_f1", evaluation.pixel_best_f1, float(np.nanmax(sure)), float(np.nanmax(best))


def _aupimo_bounds(evaluation: Evaluation, tally: Tally, hits: Array) -> Iterator[tuple[str, float, float, float]]:
    """Of each defective image; `hits` (D, G + 1) are pixels of each defect between two thresholds."""
    good = tally.is_good & (tally.n_normal > 0)
    expected = np.unique(tally.image_of_defect) if good.any() else np.empty(0, dtype=np.int64)
    rates = (tally.normal_at_least[good] / tally.n_normal[good, None]).mean(axis=0) if good.any() else np.empty(0)
    low, high = FPR_BOUNDS
    reached = np.clip(np.append(rates, 1.0), low, high)
    before = np.concatenate([[low], reached[:-1]])
    for image in expected.tolist():
        own = hits[tally.image_of_defect == image].sum(axis=0)
        lowest, highest = (
            float(own @ (np.log(high / rate) / math.log(high / low)) / own.sum()) for rate in (reached, before)
        )
        name = str(tally.sample_id[image])
        yield f"aupimo_by_image.{name}", evaluation.aupimo_by_image.get(name, math.inf), lowest, highest
