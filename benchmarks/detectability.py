"""How often a90/95 lies above the true a90: python benchmarks/detectability.py [EXPERIMENTS]

Draws defects whose true probability of detection is known (logistic in the log of the diameter), fits each set, and
counts the bounds that hold. A nan (beyond the range, or no fit) promises nothing and so counts as holding; its share is
shown.
Writes results/benchmarks/detectability.json.
"""

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.special import expit

from tinydefects.data.pixels import write_whole
from tinydefects.metrics.hit_miss import LOG_ODDS_90, fit_sizes
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/detectability.json"
INTERCEPT, SLOPE = -3.0, 2.0
SEED = 0


def experiment(random: np.random.Generator, n_defects: int) -> float:
    """The a90/95 of one set of defects, diameters log-normal around 5 px."""
    diameters = np.exp(random.normal(1.6, 0.8, n_defects))
    hits = random.random(n_defects) < expit(INTERCEPT + SLOPE * np.log(diameters))
    return fit_sizes(diameters, hits).a90_95_px


def main(n_experiments: int) -> None:
    """Print and write one row a size of set."""
    true_a90_px = math.exp((LOG_ODDS_90 - INTERCEPT) / SLOPE)
    rows = []
    for n_defects in (30, 60, 120, 400):
        random = np.random.default_rng(SEED)
        bounds = np.array([experiment(random, n_defects) for _ in range(n_experiments)])
        undefined = np.isnan(bounds)
        holds = float(np.mean(undefined | (bounds >= true_a90_px)))
        median = float(np.nanmedian(bounds))
        rows.append({"n_defects": n_defects, "holds": holds, "undefined": float(undefined.mean()), "median_px": median})
        shares = f"a90/95 holds in {100 * holds:.1f} %, undefined in {100 * undefined.mean():.1f} %"
        print(f"{n_defects:>4} defects: {shares}, median {median:.1f} px where a90 is {true_a90_px:.1f} px")
    settings = {"intercept": INTERCEPT, "slope": SLOPE, "experiments": n_experiments, "seed": SEED}
    content = {"true_a90_px": true_a90_px, "rows": rows, "provenance": asdict(describe_run(settings))}
    write_whole(RESULT, lambda file: file.write(json.dumps(content, indent=1).encode()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
