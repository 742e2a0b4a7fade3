"""How often intervals hold where figures sit at 0 or 1: python benchmarks/edge_coverage.py [EXPERIMENTS]

Draws small test sets from the factory of `coverage.py` for methods that see nearly everything, so that often nothing
goes wrong in a whole set. There the bootstrap knows no spread; what opens its interval is `uncertainty.opened`. Counted
is how often the true figure lies inside, with that and without it, and how often the bootstrap alone shuts at the edge.
Two minutes on two cores. Writes results/benchmarks/edge_coverage.json.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np

from coverage import Factory, draw_scenes, plan_of, tally_of
from tinydefects.data.pixels import write_whole
from tinydefects.metrics.statistics.resampling import Resampler
from tinydefects.metrics.statistics.uncertainty import EDGE, n_trials, opened, tally_intervals
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/edge_coverage.json"
SIZES, GAINS = (3, 6, 12), (1.0, 3.0, 5.0)
FIGURES = (
    *("image_auroc", "image_average_precision", "image_best_f1", "image_fpr_at_95_tpr"),
    *("aupro@0.3", "aupro_Q1@0.3", "rho@0.3", "pixel_auroc"),
)
N_RESAMPLES, TRUTH_IMAGES, TRUTH_PARTS = 200, 400, 6


def truth_of(gain: float) -> dict[str, float]:
    """Figures on test sets that are large."""
    found = []
    for seed in range(TRUTH_PARTS):
        random = np.random.default_rng(seed)
        tally = tally_of(draw_scenes(factory(TRUTH_IMAGES), random), gain, random)
        values = Resampler(tally, plan_of(tally)).under(np.ones((1, tally.n_normal.size)), FIGURES)
        found.append([float(values[name][0]) for name in FIGURES])
    return dict(zip(FIGURES, np.mean(found, axis=0).tolist(), strict=True))


def factory(n_images: int) -> Factory:
    """As many good images as defective ones."""
    return Factory(name=f"{n_images} good, {n_images} defective images", n_good=n_images, n_defective=n_images)


def experiment(n_images: int, gain: float, truth: dict[str, float], seed: int) -> dict[str, tuple[float, float, float]]:
    """By figure: does the interval hold, does the bootstrap's alone, is that one shut at an edge."""
    random = np.random.default_rng([seed, n_images])
    tally = tally_of(draw_scenes(factory(n_images), random), gain, random)
    plan = plan_of(tally)
    drawn = tally_intervals(tally, plan, N_RESAMPLES, seed)
    trials = n_trials(FIGURES, tally, plan)
    held = {}
    for name in FIGURES:
        alone = drawn[name][1]
        own = opened(alone, trials[name])
        held[name] = (
            float(own.low <= truth[name] <= own.high) if own.low == own.low else np.nan,
            float(alone.low <= truth[name] <= alone.high),
            float(alone.low >= 1 - EDGE or alone.high < EDGE),
        )
    return held


def main(n_experiments: int) -> None:
    """Print and write one table a gain and size."""
    rows = {}
    for gain in GAINS:
        truth = truth_of(gain)
        for n_images in SIZES:
            every = [experiment(n_images, gain, truth, seed) for seed in range(n_experiments)]
            shares = {name: 100 * np.nanmean([one[name] for one in every], axis=0) for name in FIGURES}
            key = f"gain {gain:g}, {n_images} good, {n_images} defective images"
            rows[key] = {
                name: dict(zip(("truth", "opened", "bootstrap", "shut"), (truth[name], *share.tolist()), strict=True))
                for name, share in shares.items()
            }
            told = (
                f"  {name:<26} {truth[name]:.4f}" + "".join(f"{one:8.1f}" for one in shares[name]) for name in FIGURES
            )
            print(
                key, "  figure, truth; % of sets: held, held by the bootstrap alone, shut at an edge", *told, sep="\n"
            )
    settings = {"experiments": n_experiments, "n_resamples": N_RESAMPLES}
    content = {"sets": rows, "provenance": asdict(describe_run(settings))}
    write_whole(RESULT, lambda file: file.write(json.dumps(content, indent=1, allow_nan=False).encode()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
