"""Every synthetic family with defects of at least 25 px, built-in teacher: python runs/synthetic.py [DATA]

Draws into DATA (default: data), writes results/synthetic/<family>.json, then `python runs/tables.py` prints them. Ten
minutes on two processor cores; a family whose result of these settings is there is left out.
"""

import sys
from pathlib import Path
from typing import Any

from tinydefects.datasets.catalog import list_categories, load_category
from tinydefects.detector.detector import Detector
from tinydefects.metrics.evaluation import evaluate
from tinydefects.results.result import Result, describe_run, read_result, write_result

RESULTS = Path(__file__).resolve().parents[1] / "results" / "synthetic"
DRAWN = {"size": 384, "n_train": 16, "n_good": 16, "n_defect": 21, "min_area_px": 25, "seed": 0}
LEARNT: dict[str, Any] = {"teacher": "builtin", "resolution": 384, "seed": 0}


def run(address: str, data: Path) -> Result:
    """Draw, learn, find and score one family."""
    category = load_category(address, root=data, **DRAWN)
    detector = Detector(**LEARNT).fit(sample.image() for sample in category.train)
    pairs = ((sample, detector.predict(sample.image())) for sample in category.test)
    evaluation = evaluate(pairs, category=address, n_crops=0)
    return Result(evaluation=evaluation, provenance=describe_run({**DRAWN, **LEARNT}))


def is_made(path: Path) -> bool:
    """Whether the result is there, and of these settings."""
    return path.exists() and read_result(path).provenance.settings == {
        name: str(value) for name, value in {**DRAWN, **LEARNT}.items()
    }


def main(data: Path) -> None:
    """Run what has no result yet."""
    for address in list_categories("synthetic"):
        path = RESULTS / f"{address.split('/')[1]}.json"
        if not is_made(path):
            result = run(address, data)
            write_result(result, path)
            print(result.evaluation, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
