"""Time and peak memory of evaluate() at 20, 200 and 2,000 images of 1500 x 1000, beside scikit-learn.

    python benchmarks/scoring.py            # all rows; needs 12 GB of disk for 2,000 images (four bytes a pixel)
    python benchmarks/scoring.py --images 20,200

Half of the images are defective; discs of 1 to 60 px radius cover 1 % of their pixels, in another row 5 %. Maps are
made while they are scored (making them is timed apart and taken off) and are not read from disk; scikit-learn gets the
same pixels. Every run is a fresh process: its memory is the process's peak, Python and libraries included. Up to 200
images ours is run three times, scikit-learn up to 20: seconds are the median, lowest and highest beside it. The 95 %
intervals (1,000 draws) are timed apart. `results/benchmarks/scoring.json` keeps all.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.sample import Label, Prediction, Sample
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.groups import SizeBins, SizeUnit
from tinydefects.metrics.statistics.uncertainty import intervals
from tinydefects.results.result import describe_run

SIZE = (1000, 1500)
N_PIXELS = SIZE[0] * SIZE[1]
SEED = 0
N_MASKS = 16
OUT = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "scoring.json"


class DrawnSample(Sample):
    """A sample whose mask is drawn instead of read."""

    def mask(self) -> NDArray[np.bool_]:
        number, share = int(self.image_path.stem), float(self.image_path.parent.name)
        return draw_mask(number // 2 % N_MASKS, share) if self.label == "defect" else np.zeros(SIZE, dtype=bool)

    def image(self) -> NDArray[np.uint8]:
        return np.full((*SIZE, 3), 128, dtype=np.uint8)


@cache
def draw_mask(number: int, share: float) -> NDArray[np.bool_]:
    """Discs of log-uniform radius from 1 to 60 px until they cover the share."""
    random = np.random.default_rng((SEED, number))
    mask = np.zeros(SIZE, dtype=bool)
    while mask.mean() < share:
        radius = round(60 ** random.random())
        down, right = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        top, left = random.integers(0, SIZE[0] - 2 * radius), random.integers(0, SIZE[1] - 2 * radius)
        mask[top : top + 2 * radius + 1, left : left + 2 * radius + 1] |= (down**2 + right**2 <= radius**2)[
            : SIZE[0] - top, : SIZE[1] - left
        ]
    return mask


@cache
def noise() -> NDArray[np.float32]:
    return np.random.default_rng(SEED).standard_normal(4 * N_PIXELS, dtype=np.float32)


def pairs(n_images: int, share: float, spent: list[float]) -> Iterator[tuple[Sample, Prediction]]:
    """Noise, raised by 2 inside defects; scaled by a little more in each image, so that hardly any scores tie."""
    for number in range(n_images):
        start = time.perf_counter()
        kind: Label = "defect" if number % 2 else "good"
        path = Path(str(share), f"{number}.png")
        sample = DrawnSample(id=f"test/{kind}/{number:04d}", image_path=path, label=kind)
        offset = 7919 * number % (3 * N_PIXELS)
        scores = noise()[offset : offset + N_PIXELS].reshape(SIZE) * np.float32(1 + 1e-5 * number)
        if kind == "defect":
            scores[sample.mask()] += np.float32(2)
        prediction = Prediction(scores, float(scores.max()))
        spent.append(time.perf_counter() - start)
        yield sample, prediction


def score_ours(n_images: int, share: float) -> dict[str, float]:
    spent: list[float] = []
    noise()
    start = time.perf_counter()
    evaluation = evaluate(
        pairs(n_images, share, spent),
        fpr_limits=(0.3, 0.1, 0.05, 0.01, 1e-3, 1e-4, 1e-5),
        bins=[SizeBins(unit=unit, edges=edges) for unit, edges in BINS],
        pixel_pitch_mm=0.05,
        threshold=3.0,
        image_threshold=5.0,
        n_resamples=0,
    )
    seconds = time.perf_counter() - start - sum(spent)
    start = time.perf_counter()
    n_intervals = len(intervals(evaluation, n_resamples=1000, seed=SEED))
    return {
        "seconds": seconds,
        "interval_seconds": time.perf_counter() - start,
        "n_intervals": n_intervals,
        "making_seconds": sum(spent),
        "defects": len(evaluation.defects),
        "pixel_auroc": evaluation.pixel_auroc,
        "pixel_average_precision": evaluation.pixel_average_precision,
    }


BINS: tuple[tuple[SizeUnit, tuple[float, ...]], ...] = (
    ("area_px", (10, 100, 1000)),
    ("diameter_px", (5, 10, 50)),
    ("area_mm2", (0.1, 1.0)),
    ("image_share", (1e-5, 1e-4, 1e-3)),
)


def score_sklearn(n_images: int, share: float) -> dict[str, float]:
    """Two numbers of ours, from all pixels in memory at once."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, truth = np.empty(n_images * N_PIXELS, np.float32), np.zeros(n_images * N_PIXELS, bool)
    start = time.perf_counter()
    for number, (sample, prediction) in enumerate(pairs(n_images, share, [])):
        part = slice(number * N_PIXELS, (number + 1) * N_PIXELS)
        scores[part], truth[part] = prediction.anomaly_map.ravel(), sample.mask().ravel()
    making = time.perf_counter() - start
    auroc, precision = float(roc_auc_score(truth, scores)), float(average_precision_score(truth, scores))
    seconds = time.perf_counter() - start - making
    return {
        "seconds": seconds,
        "making_seconds": making,
        "pixel_auroc": auroc,
        "pixel_average_precision": precision,
    }


TOOLS = {"tinydefects": score_ours, "scikit-learn": score_sklearn}
REPEATED_UP_TO = {"tinydefects": 200, "scikit-learn": 20}


def measure(tool: str, n_images: int, share: float) -> dict[str, object]:
    """One row: the run of median time, with the times of all."""
    row: dict[str, object] = {"tool": tool, "images": n_images, "defect_share": share}
    runs = []
    for _ in range(3 if n_images <= REPEATED_UP_TO[tool] else 1):
        command = [sys.executable, __file__, "--row", tool, str(n_images), str(share)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        if finished.returncode:
            return {**row, "skipped": f"stopped with code {finished.returncode}: {finished.stderr.strip()[-200:]}"}
        runs.append(json.loads(finished.stdout))
    runs.sort(key=lambda run: float(run["seconds"]))
    return {**row, **runs[len(runs) // 2], "all_seconds": [run["seconds"] for run in runs]}


def shortage(tool: str, n_images: int, rows: list[dict[str, object]]) -> str:
    """Why a row cannot be measured here, or nothing."""
    if tool == "scikit-learn" and any(row["tool"] == tool and row["images"] == n_images for row in rows):
        return "as many pixels as in the row above, in the same time"
    if tool == "tinydefects":
        needed, free = 4.4 * n_images * N_PIXELS, float(shutil.disk_usage(tempfile.gettempdir()).free)
        where = f"disk in {tempfile.gettempdir()} (TMPDIR chooses another folder)"
    else:
        smaller = [row for row in rows if row["tool"] == tool and "peak_mb" in row]
        needed = max(
            (float(str(row["peak_mb"])) * 1e6 * n_images / int(str(row["images"])) for row in smaller), default=0
        )
        free, where = free_memory(), "memory"
    return f"needs {needed / 1e9:.0f} GB of {where}, {free / 1e9:.0f} GB are free" if needed > free else ""


def free_memory() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * float(next(line.split()[1] for line in lines if line.startswith("MemAvailable")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="20,200,2000", help="numbers of images, smallest first")
    parser.add_argument("--shares", default="0.01,0.05", help="defect pixels in defective images")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--row", nargs=3, metavar=("TOOL", "IMAGES", "SHARE"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        tool, n_images, share = asked.row
        row = TOOLS[tool](int(n_images), float(share))
        print(json.dumps({**row, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))
        return
    rows: list[dict[str, object]] = []
    for n_images in map(int, asked.images.split(",")):
        for share in map(float, asked.shares.split(",")):
            for tool in TOOLS:
                reason = shortage(tool, n_images, rows)
                skipped = {"tool": tool, "images": n_images, "defect_share": share, "skipped": reason}
                rows.append(skipped if reason else measure(tool, n_images, share))
                print(rows[-1], flush=True)
    provenance = describe_run({"command": "benchmarks/scoring.py", "seed": SEED, "image": "1500 x 1000"})
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"provenance": asdict(provenance), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
