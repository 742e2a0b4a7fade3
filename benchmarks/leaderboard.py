"""How often a leaderboard tells apart what is equal, and what it takes: python benchmarks/leaderboard.py [EXPERIMENTS]

Draws whole benchmarks from a made-up factory (`coverage.py`): methods that are equally good, on several small
categories with several seeds, all on the same images. A training run may come out better or worse as a whole, by
`luck`: the same on all its images, other for every method, category and seed. Counted are boards with any false
verdict, and boards where a method that is better is told from all others. At last the time and memory of one large
board. About fifteen minutes on one core. Writes results/benchmarks/leaderboard.json.
"""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coverage import LIMITS, Factory, Scenes, draw_scenes, plan_of, tally_of
from tinydefects.data.pixels import write_whole
from tinydefects.metrics.groups import QUARTILES, quartile_areas
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.records import GroupScores, PlottedCurve
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.leaderboard import leaderboard
from tinydefects.metrics.statistics.resampling import Resampler
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/leaderboard.json"
FIGURES = ("aupro_Q1@0.05", "aupro@0.05", "rho@0.05", "aupro@0.3", "image_auroc")
FACTORY = Factory(name="16 good, 24 defective images", n_good=16, n_defective=24)
N_RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Who takes part: `better` is how much further defects stand out for the first method, in standard deviations."""

    name: str
    n_methods: int = 6
    n_categories: int = 4
    n_seeds: int = 3
    luck: float = 0.0
    better: float = 0.0


CONTESTS = (
    Contest(name="equal"),
    Contest(name="equal, one category", n_categories=1),
    Contest(name="equal, one seed", n_seeds=1),
    Contest(name="equal, training by luck", luck=0.3),
    Contest(name="equal, training by luck, one category", luck=0.3, n_categories=1),
    Contest(name="first better", better=0.3),
    Contest(name="first better, training by luck", better=0.3, luck=0.3),
)


def evaluation_of(tally: Tally) -> Evaluation:
    """What the tally alone says, in the shape that a leaderboard takes; the rest is nan."""
    plan = plan_of(tally)
    values = {
        name: float(one[0]) for name, one in Resampler(tally, plan).under(np.ones((1, tally.n_normal.size))).items()
    }
    groups = [_group(name, values, plan.members[name]) for name in ("", *(f"_{name}" for name in QUARTILES))]
    nan = float("nan")
    return Evaluation(
        category="",
        curve_rule="exact",
        fpr_limits=LIMITS,
        n_images=tally.is_good.size,
        n_good_images=int(tally.is_good.sum()),
        n_normal_pixels=int(tally.n_normal.sum()),
        n_defect_pixels=int(tally.area_px.sum()),
        overall=groups[0],
        cumulative=tuple(groups[1:]),
        disjoint=tuple(replace(group, key=f"disjoint:{group.name}", aupro=(nan, nan)) for group in groups[1:]),
        by_type=(),
        quartile_areas_px=quartile_areas(tally.area_px),
        rho=tuple(values[f"rho@{limit:g}"] for limit in LIMITS),
        pixel_auroc=values["pixel_auroc"],
        pixel_average_precision=values["pixel_average_precision"],
        pixel_best_f1=values["pixel_best_f1"],
        image_auroc=values["image_auroc"],
        image_average_precision=values["image_average_precision"],
        image_best_f1=values["image_best_f1"],
        score_range=(0.0, 1.0),
        defects=(),
        crops=(),
        tally=tally,
    )


def _group(suffix: str, values: dict[str, float], members: NDArray[np.bool_]) -> GroupScores:
    name = suffix.removeprefix("_")
    return GroupScores(
        key=f"cumulative:{name}" if name else "all",
        members=tuple(np.flatnonzero(members).tolist()),
        name=name or "all",
        n_defects=1,
        n_images=1,
        area_px=(1.0, 1.0),
        aupro=tuple(values[f"aupro{suffix}@{limit:g}"] for limit in LIMITS),
        image_auroc=values[f"image_auroc{suffix}"],
        curve=PlottedCurve(fpr=(), pro=()),
    )


def draw_board(contest: Contest, seed: int, factory: Factory = FACTORY) -> dict[str, dict[str, list[Evaluation]]]:
    """Evaluations by method and category, one a seed."""
    random = np.random.default_rng([seed, 7])
    scenes = {f"made-up/{number}": draw_scenes(factory, random) for number in range(contest.n_categories)}
    return {
        f"method {number}": {
            category: [_trained(scene, contest, random, is_first=number == 0) for _ in range(contest.n_seeds)]
            for category, scene in scenes.items()
        }
        for number in range(contest.n_methods)
    }


def _trained(scenes: Scenes, contest: Contest, random: np.random.Generator, *, is_first: bool) -> Evaluation:
    gain = contest.luck * random.standard_normal() + (contest.better if is_first else 0.0)
    return evaluation_of(tally_of(scenes, gain, random))


def verdicts(contest: Contest, seed: int) -> dict[str, list[str]]:
    """By figure, the verdicts of all but the best."""
    board = leaderboard(draw_board(contest, seed), metrics=FIGURES, n_resamples=N_RESAMPLES, seed=seed)
    return {figure: [one.verdict for one in board.of(figure)[1:]] for figure in FIGURES}


def large_board() -> dict[str, float]:
    """20 methods, 20 categories, 3 seeds, 2,000 draws, eight figures."""
    contest = Contest(name="large", n_methods=20, n_categories=20)
    drawn = draw_board(contest, 0)
    figures = (*FIGURES, "aupro_Q2@0.05", "aupro_Q3@0.05", "a90_px")
    start = time.process_time()
    leaderboard(drawn, metrics=figures, n_resamples=2000)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"seconds": time.process_time() - start, "peak_mb": peak_mb}


def main(n_experiments: int) -> None:
    """Print and write one row a contest."""
    rows = {}
    for contest in CONTESTS:
        found = [verdicts(contest, 100 + number) for number in range(n_experiments)]
        anyone = {f: 100 * float(np.mean(["lower" in one[f] for one in found])) for f in FIGURES}
        everyone = {f: 100 * float(np.mean([set(one[f]) == {"lower"} for one in found])) for f in FIGURES}
        rows[contest.name] = {"contest": asdict(contest), "any_lower_percent": anyone, "all_lower_percent": everyone}
        print(contest.name, anyone, everyone, sep="\n  ", flush=True)
    large = large_board()
    print(large)
    settings = {"experiments": n_experiments, "n_resamples": N_RESAMPLES, "factory": FACTORY.name}
    content = {"contests": rows, "large": large, "provenance": asdict(describe_run(settings))}
    write_whole(RESULT, lambda file: file.write(json.dumps(content, indent=1, allow_nan=False).encode()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
