"""How often 95 % intervals hold the true figure: python benchmarks/coverage.py [EXPERIMENTS]

Draws whole test sets from a made-up factory whose true figures are known from a test set many times as large: images
that differ in level, defects whose areas spread over three decades and which are the easier the larger. Two methods
see the same images. Each experiment asks whether the intervals of the first method and of the difference between both
hold the truth, and whether two methods that are equally good are told apart. Scenes under several lightings are counted
once with their groups and once as if every image stood alone. A few minutes on two cores.
Writes results/benchmarks/coverage.json.
"""

import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.pixels import write_whole
from tinydefects.metrics.groups import QUARTILES, cumulative_quartiles
from tinydefects.metrics.ranking import Tally, count_at_least
from tinydefects.metrics.records import Interval
from tinydefects.metrics.statistics.comparison import (
    distances,
    movements,
    single_p_values,
    stepdown_p_values,
    symmetric_interval,
)
from tinydefects.metrics.statistics.resampling import Plan, Resampler
from tinydefects.metrics.statistics.uncertainty import draw_weights, leave_out_weights, tally_intervals
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/coverage.json"
LIMITS = (0.3, 0.05)
FIGURES = (
    *(f"{name}@{limit:g}" for name in ("aupro", "aupro_Q1", "rho") for limit in LIMITS),
    *("pixel_auroc", "pixel_average_precision", "image_auroc", "image_average_precision", "a50_px", "a90_px"),
)
NORMAL_PIXELS, N_THRESHOLDS, N_RESAMPLES = 1500, 250, 500
TRUTH_IMAGES, TRUTH_PARTS = 1500, 24  # of each kind, in each part


@dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """What a test set is drawn from: scenes of each kind, lightings a scene, and how well the second method sees."""

    name: str
    n_good: int
    n_defective: int
    lightings: int = 1
    grouped: bool = True
    second_gain: float = 0.4


FACTORIES = (
    Factory(name="100 good, 100 defective images", n_good=100, n_defective=100),
    Factory(name="30 good, 30 defective images", n_good=30, n_defective=30),
    Factory(name="25 + 25 scenes x 4 lightings, grouped", n_good=25, n_defective=25, lightings=4),
    Factory(name="25 + 25 scenes x 4 lightings, as if alone", n_good=25, n_defective=25, lightings=4, grouped=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenes:
    """Levels of I images, and of D defects the image, the area and how far they stand out for a method of gain 0."""

    scene: NDArray[np.int64]
    is_good: NDArray[np.bool_]
    level: NDArray[np.float64]
    image_of_defect: NDArray[np.int64]
    area_px: NDArray[np.int64]
    contrast: NDArray[np.float64]


def draw_scenes(factory: Factory, random: np.random.Generator) -> Scenes:
    """Lightings change the level a little; the defects of a scene stay the same but for some of their contrast."""
    n_scenes, lightings = factory.n_good + factory.n_defective, factory.lightings
    scene = np.repeat(np.arange(n_scenes), lightings)
    level = random.normal(0, 0.3, n_scenes)[scene] + (lightings > 1) * random.normal(0, 0.1, scene.size)
    n_defects = np.where(np.arange(n_scenes) < factory.n_good, 0, 1 + random.poisson(0.7, n_scenes))
    scene_of_mark = np.repeat(np.arange(n_scenes), n_defects)
    octaves = random.normal(2.2, 0.9, scene_of_mark.size)
    contrast = 0.3 + 0.7 * octaves + random.standard_normal(octaves.size)
    mark = np.repeat(np.arange(octaves.size), lightings)
    image = scene_of_mark[mark] * lightings + np.tile(np.arange(lightings), octaves.size)
    return Scenes(
        scene=scene,
        is_good=scene < factory.n_good,
        level=level,
        image_of_defect=image,
        area_px=np.maximum(1, np.pi / 4 * 4 ** octaves[mark]).astype(np.int64),
        contrast=contrast[mark] + (lightings > 1) * random.normal(0, 0.3, mark.size),
    )


def tally_of(scenes: Scenes, gain: float, random: np.random.Generator) -> Tally:
    """What a method with this gain makes of the scenes, with noise of its own."""
    n_images = scenes.level.size
    drawn = scenes.level[:, None] + random.standard_normal((n_images, NORMAL_PIXELS))
    normal = np.sort(drawn.astype(np.float32), axis=1)
    own = 0.4 * random.standard_normal(scenes.contrast.size)
    middle = gain + scenes.contrast + own + scenes.level[scenes.image_of_defect]
    defects = [
        np.sort((centre + random.standard_normal(area)).astype(np.float32))
        for centre, area in zip(middle, scenes.area_px, strict=True)
    ]
    peak = np.array([scores[-1] for scores in defects])
    image_score = normal[:, -1].astype(np.float64)
    np.maximum.at(image_score, scenes.image_of_defect, peak)
    thresholds = _thresholds(normal, peak)
    return Tally(
        thresholds=thresholds,
        normal_at_least=np.stack([count_at_least(scores, thresholds) for scores in normal]),
        n_normal=np.full(n_images, NORMAL_PIXELS),
        highest_normal=normal[:, -1],
        defect_at_least=np.stack([count_at_least(scores, thresholds) for scores in defects]),
        area_px=scenes.area_px,
        peak=peak,
        own_peak=peak,
        median=np.array([scores[scores.size // 2] for scores in defects]),
        image_of_defect=scenes.image_of_defect,
        defect_type=np.full(len(defects), "mark"),
        is_good=scenes.is_good,
        image_score=image_score,
        sample_id=np.arange(n_images).astype(str),
        group=scenes.scene.astype(str),
    )


def _thresholds(normal: NDArray[np.float32], peak: NDArray[np.float32]) -> NDArray[np.float32]:
    pooled = np.sort(normal, axis=None)[::-1]
    rates = np.concatenate([np.geomspace(1 / pooled.size, 1, N_THRESHOLDS), np.linspace(0, 1, N_THRESHOLDS // 3)])
    places = np.clip(np.ceil(rates * pooled.size).astype(int) - 1, 0, None)
    return np.unique(np.concatenate([pooled[places], np.sort(peak)[-20:]]))[::-1]


def plan_of(tally: Tally) -> Plan:
    """All defects and the quartiles of their areas."""
    quartiles = zip(QUARTILES, cumulative_quartiles(tally.area_px), strict=True)
    everything = {"": np.ones(tally.area_px.size, dtype=bool)}
    return Plan(fpr_limits=LIMITS, members={**everything, **{f"_{name}": part for name, part in quartiles}})


def large_set(factory: Factory, seed: int) -> list[dict[str, float]]:
    """Figures of both methods on one very large test set, the same for both."""
    random = np.random.default_rng(seed)
    n_scenes = TRUTH_IMAGES // factory.lightings
    scenes = draw_scenes(replace(factory, n_good=n_scenes, n_defective=n_scenes), random)
    tallies = [tally_of(scenes, gain, random) for gain in (0.0, factory.second_gain)]
    found = [Resampler(tally, plan_of(tally)).under(np.ones((1, tally.n_normal.size))) for tally in tallies]
    return [{name: float(figures[name][0]) for name in FIGURES} for figures in found]


def experiment(
    factory: Factory, truth: Mapping[str, float], second: Mapping[str, float], seed: int
) -> dict[str, float]:
    """1 where an interval holds, 0 where it does not, nan where there is none; by figure, and by its difference."""
    random = np.random.default_rng(seed)
    scenes = draw_scenes(factory, random)
    tallies = [tally_of(scenes, gain, random) for gain in (0.0, factory.second_gain, 0.0)]
    if not factory.grouped:
        tallies = [replace(tally, group=tally.sample_id) for tally in tallies]
    plan = plan_of(tallies[0])
    own = tally_intervals(tallies[0], plan, N_RESAMPLES, seed)
    weights = draw_weights(tallies[0], N_RESAMPLES, seed)
    moved = [movements(tally, plan, weights) for tally in tallies]
    left_out = [movements(tally, plan, leave_out_weights(tallies[0])) for tally in tallies]

    def apart(name: str, other: int) -> NDArray[np.float64]:
        return distances(moved[0][name] - moved[other][name], left_out[0][name] - left_out[other][name])

    full = [Resampler(tally, plan).under(np.ones((1, scenes.level.size))) for tally in tallies]
    held = {name: _holds(own[name][1], truth[name]) for name in FIGURES}
    for name in FIGURES:
        difference = float(full[0][name][0] - full[1][name][0])
        interval = symmetric_interval(difference, apart(name, 1))
        held[f"difference of {name}"] = _holds(interval, truth[name] - second[name])
    equal = np.array([full[0][name][0] - full[2][name][0] for name in FIGURES])
    chance = np.stack([apart(name, 2) for name in FIGURES], axis=1)
    held["no verdict on one figure of equals"] = float(np.nanmean(single_p_values(equal, chance) > 0.05))
    held["no verdict on any figure of equals"] = float(not (stepdown_p_values(equal, chance) <= 0.05).any())
    return held


def _holds(interval: Interval, truth: float) -> float:
    return np.nan if np.isnan(interval.low) else float(interval.low <= truth <= interval.high)


def main(n_experiments: int) -> None:
    """Print and write one table a factory."""
    rows = {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for factory in FACTORIES:
            parts = list(pool.map(partial(large_set, factory), range(TRUTH_PARTS)))
            truth, second = (
                {name: float(np.mean([part[n][name] for part in parts])) for name in FIGURES} for n in (0, 1)
            )
            held = list(pool.map(partial(experiment, factory, truth, second), range(100, 100 + n_experiments)))
            percent = {name: 100 * float(np.nanmean([one[name] for one in held])) for name in held[0]}
            undefined = {name: 100 * float(np.mean(np.isnan([one[name] for one in held]))) for name in held[0]}
            rows[factory.name] = {"truth": truth, "coverage_percent": percent, "undefined_percent": undefined}
            print(factory.name, *(f"  {name:<40}{value:6.1f} %" for name, value in percent.items()), sep="\n")
    settings = {"experiments": n_experiments, "n_resamples": N_RESAMPLES, "normal_pixels": NORMAL_PIXELS}
    content = {"factories": rows, "provenance": asdict(describe_run(settings))}
    write_whole(RESULT, lambda file: file.write(json.dumps(content, indent=1, allow_nan=False).encode()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
