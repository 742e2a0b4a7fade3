"""Tiny defects by input size, tiles, blocks and image score: python runs/small_defects.py [DATA]

Two drawn families with defects of 1 to 26 px, the built-in teacher, whose patches have 8 px. Every input learns and
looks at the same photographs. Draws into DATA (default: data), where each finished input is kept, so that the command
goes on where it was stopped. Writes results/small_defects.json and docs/pictures/small_defects.png; then
`python runs/tables.py` prints the tables. Ten minutes on two cores.
Shifts and enlarging are measured by `benchmarks/stride.py`.
"""

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tinydefects.data.json_files import write_json
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.detector import Detector
from tinydefects.metrics.evaluation import evaluate
from tinydefects.results.result import describe_run

ROOT = Path(__file__).resolve().parents[1]
RESULT, PICTURE = ROOT / "results" / "small_defects.json", ROOT / "docs" / "pictures" / "small_defects.png"
FAMILIES = ("machined_part", "woven_fabric")
SIDE = 320
COUNTS = {"n_train": 12, "n_good": 20, "n_defect": 36}
DRAWN = {"size": SIDE, "min_area_px": 1, "max_area_share": 0.005, "seed": 1, **COUNTS}
LEARNT: dict[str, Any] = {"teacher": "builtin", "seed": 0}
INPUTS: dict[str, dict[str, Any]] = {
    "a quarter of its size": {"resolution": SIDE // 4},
    "half its size": {"resolution": SIDE // 2},
    "its own size": {"resolution": "native"},
    "its own size, in tiles of 160 px": {"resolution": "native", "tile": 160},
    "its own size, blocks 2 and 4": {"resolution": "native", "blocks": (2, 4)},
    "its own size, blocks 1 and 3": {"resolution": "native", "blocks": (1, 3)},
}
DRAWN_INPUTS = ("a quarter of its size", "half its size", "its own size")
EDGES_PX = (0, 2, 4, 8, 16, 32)
SCORES = {"highest pixel": 0.0, "mean of the highest 0.1 %": 0.001, "of the highest 1 %": 0.01, "of all": 1.0}


def judge(category: Category, told: dict[str, Any]) -> dict[str, Any]:
    """Learn, look at every test photograph, and what was found of each defect."""
    detector = Detector(**LEARNT, **told).fit(category.train, progress=False)
    labels: list[bool] = []
    scores: dict[str, list[float]] = {name: [] for name in SCORES}

    def pairs() -> Iterator[tuple[Sample, Prediction]]:
        for sample in category.test:
            prediction = detector.predict(sample)
            labels.append(sample.label != "good")
            for name, share in SCORES.items():
                scores[name].append(score_of(prediction.anomaly_map, share))
            yield sample, prediction

    evaluation = evaluate(pairs(), category=category.id, fpr_limits=(0.05,), n_crops=0, n_resamples=0)
    return {
        "patches": sum(count * h * w for (h, w), count in detector.passes((SIDE, SIDE)).pass_shapes.items()),
        "diameters_px": [one.diameter_px for one in evaluation.defects],
        "aupro_05": [one.aupro[0] for one in evaluation.defects],
        "hits": list(evaluation.detectability.hits),
        "n_alarming": evaluation.detectability.n_alarming_images,
        "n_good": evaluation.detectability.n_good_images,
        "image_auroc": {name: right_order(np.array(labels), np.array(values)) for name, values in scores.items()},
    }


def score_of(anomaly_map: np.ndarray[Any, Any], share: float) -> float:
    """Mean of the highest share of a map, at least one pixel."""
    n_highest = max(1, int(share * anomaly_map.size))
    return float(np.sort(anomaly_map, axis=None)[-n_highest:].mean(dtype=np.float64))


def right_order(is_defective: np.ndarray[Any, Any], scores: np.ndarray[Any, Any]) -> float:
    """AUROC: the share of pairs of a defective and a good photograph in the right order, ties half."""
    defective, good = scores[is_defective, None], scores[~is_defective]
    return float(np.mean((defective > good) + 0.5 * (defective == good)))


def row_of(name: str, judged: list[dict[str, Any]]) -> dict[str, object]:
    """All families of one input: shares found by octaves of diameter."""
    diameters, hits, aupro = (
        np.array([value for one in judged for value in one[key]]) for key in ("diameters_px", "hits", "aupro_05")
    )
    octave = np.digitize(diameters, EDGES_PX[1:-1])
    places = [octave == place for place in range(len(EDGES_PX) - 1)]
    return {
        "input": name,
        "patches": judged[0]["patches"],
        "n_defects": [int(there.sum()) for there in places],
        "n_found": [int(hits[there].sum()) for there in places],
        "aupro_05": [float(aupro[there].mean()) if there.any() else math.nan for there in places],
        "n_alarming": sum(one["n_alarming"] for one in judged),
        "n_good": sum(one["n_good"] for one in judged),
        "image_auroc": {rule: float(np.mean([one["image_auroc"][rule] for one in judged])) for rule in SCORES},
    }


def draw(rows: list[dict[str, Any]]) -> None:
    """Share found against diameter, a line an input."""
    figure = Figure(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    centres = [np.sqrt(max(low, 1) * high) for low, high in pairwise(EDGES_PX)]
    for row in rows:
        if row["input"] in DRAWN_INPUTS:
            axes.plot(centres, np.divide(row["n_found"], row["n_defects"]), marker="o", label=row["input"])
    axes.set_xscale("log", base=2)
    axes.set_xticks(EDGES_PX[1:], [str(edge) for edge in EDGES_PX[1:]])
    axes.set_ylim(0, 1.03)
    axes.set_xlabel(f"defect diameter, px ({sum(rows[0]['n_defects'])} defects in photographs of {SIDE} px)")
    axes.set_ylabel("share found, 5 % of good images alarming")
    axes.legend(title="the teacher sees the photograph at", fontsize=8, title_fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(PICTURE)


def main(data: Path) -> None:
    """Judge what is missing, then write."""
    kept = data / "small_defects"
    kept.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (name, told) in enumerate(INPUTS.items()):
        judged = []
        for family in FAMILIES:
            path = kept / f"{family}_{number}.json"
            if not path.exists():
                category = load_category(f"synthetic/{family}", root=data, **DRAWN)
                write_json(path, judge(category, told))
            judged.append(json.loads(path.read_text()))
        rows.append(row_of(name, judged))
        print(rows[-1], flush=True)
    provenance = describe_run({"command": "runs/small_defects.py", **DRAWN, **LEARNT, "families": ", ".join(FAMILIES)})
    write_json(RESULT, {"provenance": asdict(provenance), "edges_px": EDGES_PX, "rows": rows})
    draw(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
