"""Time and peak memory of `Detector.predict` on large images, in tiles at native size.

    python benchmarks/tiling.py                    # up to 12,000 x 8,000 px: about six minutes on two cores
    python benchmarks/tiling.py --megapixels 1.5,6

The built-in teacher, tiles of 256 px that share 32. Every size is a fresh process: its memory is the process's peak,
Python and torch included. Image and map take seven bytes a pixel; a row says what came on top of these and of what the
process had held before there was an image. The image is noise, as what is found in it changes neither time nor memory;
for the same reason the students learn from one tile. `results/benchmarks/tiling.json` keeps all.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tinydefects.detector.detector import Detector
from tinydefects.results.result import describe_run

SEED, TILE, OVERLAP = 0, 256, 32
SIZES = {1.5: (1000, 1500), 6.0: (2000, 3000), 24.0: (4000, 6000), 96.0: (8000, 12000)}
OUT = Path(__file__).resolve().parents[1] / "results" / "benchmarks" / "tiling.json"


def predict_one(size: tuple[int, int]) -> dict[str, float]:
    """Learn from one tile, look at one image of that size."""
    random = np.random.default_rng(SEED)
    detector = Detector(teacher="builtin", tile=TILE, overlap=OVERLAP, epochs=1, seed=SEED, device="cpu")
    detector.fit([random.integers(90, 130, (TILE, TILE, 3), dtype=np.uint8)])
    detector.predict(random.integers(90, 130, (TILE, TILE, 3), dtype=np.uint8))  # warm-up
    before = peak_bytes()
    image = random.integers(90, 130, (*size, 3), dtype=np.uint8)
    start = time.perf_counter()
    prediction = detector.predict(image)
    seconds = time.perf_counter() - start
    plan = detector.passes(size)
    return {
        "seconds": seconds,
        "passes": plan.pass_shapes.total(),
        "patch_scores": plan.shape[0] * plan.shape[1],
        "before_mb": before / 1e6,
        "peak_mb": peak_bytes() / 1e6,
        "image_and_map_mb": (image.nbytes + prediction.anomaly_map.nbytes) / 1e6,
    }


def peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(megapixels: float) -> dict[str, float]:
    """One row, in a process of its own."""
    command = [sys.executable, __file__, "--row", str(megapixels)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(finished.stdout)
    on_top = row["peak_mb"] - row["before_mb"] - row["image_and_map_mb"]
    return {"height": SIZES[megapixels][0], "width": SIZES[megapixels][1], **row, "on_top_mb": on_top}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", default="1.5,6,24,96", help=f"of {', '.join(map(str, SIZES))}")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--row", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        print(json.dumps(predict_one(SIZES[asked.row])))
        return
    rows = []
    for megapixels in map(float, asked.megapixels.split(",")):
        rows.append(measure(megapixels))
        print(rows[-1], flush=True)
    settings = {"command": "benchmarks/tiling.py", "seed": SEED, "teacher": "builtin", "tile": TILE, "overlap": OVERLAP}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text(json.dumps({"provenance": asdict(describe_run(settings)), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
