"""Evaluations for the tests of the reports: made up, with plausible shapes, or measured on random maps."""

import math
from dataclasses import replace

import numpy as np

from random_category import random_pairs, random_samples
from tinydefects.benchmark.run_folder import write_protocol
from tinydefects.metrics.detectability import measure_detectability
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.records import Crop, DefectRecord, GroupScores, PlottedCurve
from tinydefects.metrics.scores import FPR_LIMITS, Evaluation
from tinydefects.results.protocol import CostSheet, EvaluationProtocol, Job, RunRecord, Spread
from tinydefects.results.result import Result, describe_run, write_result

FPR = tuple(np.concatenate(([0.0], np.geomspace(1e-6, 1, 120))).tolist())


def make_defect(area_px, fpr, *, defect_type="scratch", sample_id="test/scratch/000"):
    diameter = 2 * math.sqrt(area_px / math.pi)
    side = max(1, round(diameter))
    return DefectRecord(
        sample_id=sample_id,
        defect_type=defect_type,
        box_px=(412, 1030, side, side),
        area_px=area_px,
        diameter_px=diameter,
        peak=1.0 - math.log10(fpr + 1e-6),
        first_touched_fpr=fpr,
        half_covered_fpr=min(1.0, 3 * fpr),
        own_peak=1.0 - math.log10(fpr + 1e-6),
        own_touched_fpr=fpr,
        aupro=(1.0 - fpr,) * 4,
    )


def make_group(key, every, defects):
    """A curve that rises around the rates at which the defects are first touched."""
    name = key.partition(":")[2] or key
    members = tuple(number for number, defect in enumerate(every) if any(defect is one for one in defects))
    if not defects:
        nan = math.nan
        empty = PlottedCurve(fpr=(), pro=())
        return GroupScores(
            key=key,
            name=name,
            members=(),
            n_defects=0,
            n_images=0,
            area_px=(nan, nan),
            aupro=(nan,) * 4,
            image_auroc=nan,
            curve=empty,
        )
    fpr = np.array(FPR)
    touched = np.array([defect.first_touched_fpr for defect in defects])
    pro = (fpr[:, None] ** 0.7 / (fpr[:, None] ** 0.7 + (4 * touched + 1e-5) ** 0.7)).mean(axis=1)
    pro /= pro[-1]
    aupro = []
    for limit in FPR_LIMITS:
        grid = np.linspace(0, limit, 2000)
        aupro.append(float(np.trapezoid(np.interp(grid, fpr, pro), grid) / limit))
    areas = [defect.area_px for defect in defects]
    return GroupScores(
        key=key,
        name=name,
        members=members,
        n_defects=len(defects),
        n_images=len({defect.sample_id for defect in defects}),
        area_px=(min(areas), max(areas)),
        aupro=tuple(aupro),
        image_auroc=float(1 - touched.mean()),
        curve=PlottedCurve(fpr=FPR, pro=tuple(pro.tolist())),
    )


def make_evaluation(
    defects,
    *,
    category="mvtec_ad/screw",
    crops=(),
    curve_rule="exact",
    detection_rule="peak_at_pixel_fpr",
    false_alarm_rate=None,
    highest_good=(),
):
    """Found at 1 % false-positive pixels unless said otherwise: the rule that needs no scores."""
    defects = sorted(defects, key=lambda defect: defect.area_px)
    quarters = [round(len(defects) * quarter / 4) for quarter in range(5)]
    cumulative = [
        make_group(f"cumulative:Q{quarter}", defects, defects[: quarters[quarter]]) for quarter in range(1, 5)
    ]
    disjoint = [
        make_group(f"disjoint:Q{quarter}", defects, defects[quarters[quarter - 1] : quarters[quarter]])
        for quarter in range(1, 5)
    ]
    types = sorted({defect.defect_type for defect in defects})
    by_type = [
        make_group(f"type:{name}", defects, [defect for defect in defects if defect.defect_type == name])
        for name in types
    ]
    scores = np.array([group.aupro for group in cumulative])
    rho = scores.mean(axis=0) * np.minimum(scores[0], scores[3]) / np.maximum(scores[0], scores[3])
    areas = [defect.area_px for defect in defects] or [math.nan]
    first, second, third = (float(area) for area in np.quantile(areas, (0.25, 0.5, 0.75)))
    return Evaluation(
        category=category,
        curve_rule=curve_rule,
        fpr_limits=FPR_LIMITS,
        n_images=160,
        n_good_images=41,
        n_normal_pixels=167_000_000,
        n_defect_pixels=sum(defect.area_px for defect in defects),
        overall=replace(cumulative[3], key="all", name="all"),
        cumulative=tuple(cumulative),
        disjoint=tuple(disjoint),
        by_type=tuple(by_type),
        quartile_areas_px=(first, second, third),
        rho=tuple(rho.tolist()),
        pixel_auroc=0.981,
        pixel_average_precision=0.412,
        pixel_best_f1=0.447,
        image_auroc=0.957,
        image_average_precision=0.982,
        image_best_f1=0.941,
        score_range=(0.02, 7.0),
        defects=tuple(defects),
        detectability=measure_detectability(
            defects, np.array(highest_good, np.float32), rule=detection_rule, rate=false_alarm_rate
        ),
        crops=tuple(crops),
    )


def make_crop(defect, *, seed=0):
    """A brushed texture with an irregular mark of the defect's area, and a map that is hot where it was found."""
    random = np.random.default_rng(seed)
    side = min(max(defect.box_px[2] + 48, 64), 160)
    rows, columns = np.mgrid[:side, :side] - side / 2.0 + 0.5
    noise = _smooth(random.standard_normal((side, side)), 1.2)
    angle = random.uniform(0, math.pi)
    reach = np.hypot(
        1.8 * (rows * math.cos(angle) + columns * math.sin(angle)), columns * math.cos(angle) - rows * math.sin(angle)
    )
    rank = (reach + 1.2 * noise).argsort(axis=None)
    mask = np.zeros(side * side, dtype=bool)
    mask[rank[: defect.area_px]] = True
    mask = mask.reshape(side, side)
    grain = _smooth(random.standard_normal((side, side)), (0.6, 5.0))
    light = 128 + 14 * grain + 4 * random.standard_normal((side, side)) + 0.25 * columns
    light = np.where(mask, light - 52 * math.copysign(1, random.uniform(-0.6, 1)), light)
    image = np.clip(light[..., None] * np.array([1.02, 1.0, 0.95]), 0, 255).astype(np.uint8)
    blob = np.exp(-(rows**2 + columns**2) / (2 * (0.45 * defect.diameter_px + 5) ** 2))
    anomaly_map = 0.8 + 0.35 * _smooth(random.standard_normal((side, side)), 5) + defect.peak * blob
    return Crop(defect=defect, image=image, mask=mask, anomaly_map=np.clip(anomaly_map, 0, None).astype(np.float16))


def make_realistic_evaluation(category="mvtec_ad/screw", *, n_defects=119, n_crops=48, seed=7):
    """Small defects are harder, as everywhere; crops are the smallest and the missed ones."""
    random = np.random.default_rng(seed)
    types = ("manipulated_front", "scratch_head", "scratch_neck", "thread_side", "thread_top")
    defects = []
    for number in range(n_defects):
        diameter = float(np.exp(random.normal(2.5, 0.75)))
        hardness = -1.3 - 1.9 * math.log10(diameter / 4) + 0.9 * random.standard_normal()
        kind = types[int(random.integers(len(types)))]
        fpr = 0.0 if hardness < -4.6 else min(1.0, 10**hardness)
        area = max(1, round(math.pi * diameter**2 / 4))
        defects.append(make_defect(area, fpr, defect_type=kind, sample_id=f"test/{kind}/{number:03d}"))
    defects.sort(key=lambda defect: defect.area_px)
    shown = [*defects[: n_crops // 2], *sorted(defects[n_crops // 2 :], key=lambda defect: defect.peak)]
    crops = [make_crop(defect, seed=number) for number, defect in enumerate(shown[:n_crops])]
    return make_evaluation(defects, category=category, crops=crops)


def _smooth(values, sigma):
    from scipy.ndimage import gaussian_filter

    smoothed = gaussian_filter(values, sigma)
    return smoothed / smoothed.std()


def write_benchmark(folder, skills, *, categories=("cloth/plain", "cloth/twill"), seeds=(0, 1), n_crops=400, **images):
    """Results of real evaluations of random maps, as a benchmark leaves them; methods by (peer, resolution).

    `skills` says how far defects stand out in the maps of each method; those without a resolution get one seed.
    """
    protocol = EvaluationProtocol(categories=categories, resolutions=(64, 32), seeds=seeds, teacher="builtin")
    write_protocol(protocol, folder)
    for number, category in enumerate(categories):
        samples = random_samples(folder.with_name(f"{folder.name}_images_{number}"), seed=number, **images)
        for place, ((peer, resolution), skill) in enumerate(skills.items()):
            for seed in seeds if resolution else seeds[:1]:
                evaluation = evaluate(
                    random_pairs(samples, seed=100 * place + seed, contrast=skill),
                    category=category,
                    contrast=True,
                    n_crops=n_crops if seed == seeds[0] else 0,
                    n_resamples=0,
                )
                job = Job(protocol=protocol, category=category, method=peer, resolution=resolution, seed=seed)
                write_job(job, evaluation, folder, cost=make_cost(5.0 * (place + 1)) if seed == seeds[0] else None)
    return folder


def write_job(job, evaluation, folder, *, cost=None):
    run = RunRecord(
        method=job.method,
        resolution=job.resolution,
        seed=job.seed,
        protocol=job.protocol.fingerprint,
        job=job.fingerprint,
        n_train=7,
        fit_seconds=1.5,
        predict_seconds=0.25,
        cost=cost,
    )
    provenance = describe_run({"teacher": job.protocol.teacher, "seed": job.seed})
    return write_result(Result(evaluation=evaluation, provenance=provenance, run=run), folder / job.path)


def make_cost(milliseconds):
    """A third in the teacher, a third in the method, the rest in no stage."""
    third = Spread(median_ms=milliseconds / 3, low_ms=milliseconds / 4, high_ms=milliseconds / 2, n=10)
    whole = Spread(median_ms=milliseconds, low_ms=0.9 * milliseconds, high_ms=1.2 * milliseconds, n=10)
    return CostSheet(
        image_size=(40, 60),
        device="cpu",
        threads=1,
        n_warmup=3,
        stages={"teacher": third, "method": third},
        end_to_end=whole,
        by_batch={1: whole, 4: third},
        best_batch=4,
        peak_memory_bytes=10**8,
        teacher_bytes=2 * 10**7,
        method_bytes=1_234_567,
    )
