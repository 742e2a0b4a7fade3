"""How often a90/95 at a contrast lies above the true a90: python benchmarks/surface_coverage.py [EXPERIMENTS]

As detectability.py, with a true POD that is logistic in the logs of diameter and contrast. A nan (beyond the range, or
no fit) promises nothing and so counts as holding; its share is shown.
Writes results/benchmarks/detectability_surface.json.
"""

import math
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scipy.special import expit

from tinydefects.data.json_files import write_json
from tinydefects.metrics.hit_miss import LOG_ODDS_90
from tinydefects.metrics.pod_surface import PodSurface
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results/benchmarks/detectability_surface.json"
INTERCEPT, SIZE_SLOPE, CONTRAST_SLOPE = -5.0, 2.0, 1.5
CONTRASTS = (2.0, 4.0, 8.0)
SEED = 0


def experiment(random: np.random.Generator, n_defects: int) -> list[float]:
    """The a90/95 at each contrast of one set of defects: diameters around 5 px and contrasts around 4, log-normal."""
    diameters = np.exp(random.normal(1.6, 0.8, n_defects))
    contrasts = np.exp(random.normal(1.4, 0.8, n_defects))
    odds = INTERCEPT + SIZE_SLOPE * np.log(diameters) + CONTRAST_SLOPE * np.log(contrasts)
    surface = PodSurface(diameters, contrasts, random.random(n_defects) < expit(odds))
    return [surface.sizes_at(contrast).a90_95_px for contrast in CONTRASTS]


def main(n_experiments: int) -> None:
    """Print and write one row a size of set and contrast."""
    settings = {
        "intercept": INTERCEPT,
        "size_slope": SIZE_SLOPE,
        "contrast_slope": CONTRAST_SLOPE,
        "experiments": n_experiments,
        "seed": SEED,
    }
    provenance = describe_run(settings)  # before anything slow: of the files that run
    rows = []
    for n_defects in (60, 120, 240):
        random = np.random.default_rng(SEED)
        drawn = np.array([experiment(random, n_defects) for _ in range(n_experiments)])
        for contrast, bounds in zip(CONTRASTS, drawn.T, strict=True):
            true_a90_px = math.exp((LOG_ODDS_90 - INTERCEPT - CONTRAST_SLOPE * math.log(contrast)) / SIZE_SLOPE)
            undefined = np.isnan(bounds)
            row = {
                "n_defects": n_defects,
                "contrast": contrast,
                "true_a90_px": true_a90_px,
                "holds": float(np.mean(undefined | (bounds >= true_a90_px))),
                "undefined": float(undefined.mean()),
                "median_px": float(np.nanmedian(bounds)),
            }
            rows.append(row)
            print(", ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    write_json(RESULT, {"rows": rows, "provenance": asdict(provenance)})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
