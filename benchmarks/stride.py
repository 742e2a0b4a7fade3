"""What shifts by half a patch cost and gain on tiny defects, beside an image enlarged twice, which costs no less.

    python benchmarks/stride.py [DATA]      # draws into DATA (default: data); about ten minutes on two cores

The built-in teacher (patches of 8 px) on drawn parts of 256 px with defects of 1 to 327 px area. Learning and judging
use the same passes. Gains over one pass are paired over the same images. `results/benchmarks/stride.json` keeps all.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.sample import Category, Prediction
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.detector import Detector
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.comparison import compare
from tinydefects.results.result import describe_run

FAMILIES = ("machined_part", "brushed_metal")
SIDE = 256
COUNTS = {"n_train": 12, "n_good": 14, "n_defect": 30}
DRAWN = {"size": SIDE, "min_area_px": 1, "max_area_share": 0.005, "seed": 0, **COUNTS}
LEARNT: dict[str, Any] = {"teacher": "builtin", "epochs": 30, "seed": 0}
INPUTS: dict[str, dict[str, Any]] = {
    "one pass": {"resolution": "native"},
    "--stride 4": {"resolution": "native", "stride": 4},
    "enlarged twice": {"resolution": 2 * SIDE},
}
LIMITS = (0.3, 0.05)
FIGURES = ("aupro_Q1@0.05", "aupro@0.05", "aupro_Q1@0.3", "image_auroc")
OUT = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "stride.json"


def judge(category: Category, settings: dict[str, Any]) -> tuple[Evaluation, dict[str, float]]:
    """Learn, look at every test image, score; with what it took."""
    detector = Detector(**LEARNT, **settings)
    start = time.perf_counter()
    detector.fit([sample.image() for sample in category.train])
    fitted = time.perf_counter()
    spent: list[float] = []

    def predict(image: NDArray[np.uint8]) -> Prediction:
        begun = time.perf_counter()
        prediction = detector.predict(image)
        spent.append(1000 * (time.perf_counter() - begun))
        return prediction

    pairs = ((sample, predict(sample.image())) for sample in category.test)
    evaluation = evaluate(pairs, category=category.id, fpr_limits=LIMITS, n_crops=0)
    shapes = detector.passes((SIDE, SIDE)).pass_shapes
    cost = {
        "passes": shapes.total(),
        "patches": sum(count * shape[0] * shape[1] for shape, count in shapes.items()),
        "fit_seconds": fitted - start,
        "ms_an_image": statistics.median(spent),
    }
    return evaluation, cost


def measure(family: str, data: Path) -> list[dict[str, object]]:
    """One row an input."""
    category = load_category(f"synthetic/{family}", root=data, **DRAWN)
    judged = {name: judge(category, settings) for name, settings in INPUTS.items()}
    evaluations = {name: evaluation for name, (evaluation, _) in judged.items()}
    (plain, *_) = INPUTS
    found = {(one.a, one.b, one.metric): one for one in compare(evaluations, names=FIGURES)}
    rows = []
    for name, (evaluation, cost) in judged.items():
        smallest = evaluation.cumulative[0]
        figures = dict(zip(("aupro_Q1@0.3", "aupro_Q1@0.05"), smallest.aupro, strict=True))
        figures |= dict(zip(("aupro@0.3", "aupro@0.05"), evaluation.overall.aupro, strict=True))
        row = {"family": family, "input": name, **cost, **figures, "image_auroc": evaluation.image_auroc}
        row |= {"n_defects": evaluation.overall.n_defects, "n_smallest": smallest.n_defects}
        row["smallest_px"] = smallest.area_px
        # compare() has the first named as `a`: one pass minus the other
        row["against_one_pass"] = {
            figure: {
                "gain": -one.difference,
                "low": -one.interval.high,
                "high": -one.interval.low,
                "corrected_p": one.corrected_p,
            }
            for figure in FIGURES
            if (one := found.get((plain, name, figure)))
        }
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=Path("data"))
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    rows = [row for family in asked.families.split(",") for row in measure(family, asked.data)]
    provenance = describe_run({"command": "benchmarks/stride.py", **DRAWN, **LEARNT})
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"provenance": asdict(provenance), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
