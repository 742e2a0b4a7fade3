"""How time and peak memory grow with resolution, with the number of training images and with the batch.

    python benchmarks/growth.py                             # about 5 minutes; draws docs/pictures/cost_growth.png
    python benchmarks/growth.py --kinds resolution --values 518,1036

Every point is a fresh process: its memory is the process's peak, Python and libraries included. The exponent is the
slope between the last two points in a plot of logarithms: 2 means that twice as much costs four times as much. A
resolution is the long side of what the teacher sees of a 1000 x 1500 px image; images are fitted for two epochs.
"""

import argparse
import io
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import torch
from matplotlib.figure import Figure

from timing import photograph, random_teacher, time_interleaved, write_times
from tinydefects.data.pixels import write_whole
from tinydefects.detector.detector import Detector

POINTS = {"resolution": (518, 742, 1036, 1484, 2072), "images": (8, 16, 32, 64), "batch": (1, 2, 4, 8)}
SMALL_PX = 280  # resolution at which images and batches are counted
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "cost_growth.png"


def main() -> None:
    """Measure every point in a process of its own, write and draw them."""
    asked = options().parse_args()
    if asked.point:
        kind, value = asked.point
        print(json.dumps(measure(kind, int(value), asked)))
        return
    rows: list[dict[str, object]] = []
    for kind in asked.kinds.split(","):
        for value in map(int, asked.values.split(",")) if asked.values else POINTS[kind]:
            rows.append({"kind": kind, "value": value, **measure_apart(kind, value, asked)})
            print(rows[-1], flush=True)
    exponents = {kind: exponent([row for row in rows if row["kind"] == kind]) for kind in asked.kinds.split(",")}
    settings = {"teacher": asked.teacher, "rounds": asked.rounds, "device": asked.device}
    print(write_times("growth", settings, {"exponents": exponents, "rows": rows}, asked.out))
    draw(rows, exponents, asked.picture)


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(POINTS))
    parser.add_argument("--values", default="", help="points of one kind; left out, those of POINTS")
    parser.add_argument("--teacher", default="vit_small_patch14_dinov2", help="a ViT of timm")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken, after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--point", nargs=2, metavar=("KIND", "VALUE"), help=argparse.SUPPRESS)
    return parser


def measure_apart(kind: str, value: int, asked: argparse.Namespace) -> dict[str, float]:
    """One point in a process of its own."""
    given = ["--teacher", asked.teacher, "--rounds", str(asked.rounds), "--device", asked.device]
    command = [sys.executable, __file__, "--point", kind, str(value), *given]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(finished.stdout))


def measure(kind: str, value: int, asked: argparse.Namespace) -> dict[str, float]:
    """Seconds of what grows, median of the rounds, and the peak memory of this process in MB."""
    teacher = random_teacher(asked.teacher, asked.device)
    image = photograph((1000, 1500))
    if kind == "images":  # once: a second fit would find nothing new to do
        detector = Detector(teacher=teacher, resolution=SMALL_PX, epochs=2)
        start = time.perf_counter()
        detector.fit(photograph((1000, 1500), seed) for seed in range(value))
        seconds = time.perf_counter() - start
    else:
        resolution = value if kind == "resolution" else SMALL_PX
        detector = Detector(teacher=teacher, resolution=resolution, epochs=1)
        pixels = detector.grid(image.shape[:2]).to_patches(image, teacher.mean, teacher.std)
        several = pixels.expand(value if kind == "batch" else 1, -1, -1, -1).contiguous()
        run = {kind: lambda: detector.teacher.features(several)}
        seconds = time_interleaved(run, rounds=asked.rounds, device=asked.device)[kind].median_ms / 1e3
    return {"seconds": seconds, "peak_mb": peak_mb(asked.device)}


def peak_mb(device: str) -> float:
    """Of the device where it has memory of its own, else of this process (Linux)."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 1e6
    # Not getrusage: its peak starts with that of the process that started this one.
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1e3


def exponent(rows: list[dict[str, object]]) -> dict[str, float]:
    """Of time and memory between the last two points."""
    if len(rows) < 2:
        return {}
    before, after = ({key: float(str(row[key])) for key in ("value", "seconds", "peak_mb")} for row in rows[-2:])
    step = math.log(after["value"] / before["value"])
    return {key: math.log(after[key] / before[key]) / step for key in ("seconds", "peak_mb")}


def draw(rows: list[dict[str, object]], exponents: dict[str, dict[str, float]], path: Path) -> None:
    """One column a kind: seconds above, logarithmic, so that a slope is an exponent; memory below, from nothing."""
    figure = Figure(figsize=(3.2 * len(exponents), 4.6), dpi=100, layout="constrained")
    panels = figure.subplots(2, len(exponents), squeeze=False)
    for column, (kind, slopes) in enumerate(exponents.items()):
        points = [row for row in rows if row["kind"] == kind]
        for axes, key, label in zip(panels[:, column], ("seconds", "peak_mb"), ("seconds", "peak, MB"), strict=True):
            measured = [float(str(row[key])) for row in points]
            axes.semilogx([row["value"] for row in points], measured, "o-", color="#b3261e")
            if key == "seconds":
                axes.set_yscale("log")
                axes.set_yticks(measured, [f"{value:.2g}" for value in measured])
            else:
                axes.set_ylim(0, 1.15 * max(measured))
            axes.set_title(f"exponent {slopes.get(key, math.nan):.2f}", fontsize=9)
            axes.set_xlabel({"resolution": "resolution, px", "images": "training images"}.get(kind, kind))
            axes.set_ylabel(label)
            axes.set_xticks([int(str(row["value"])) for row in points], [str(row["value"]) for row in points])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_whole(path, lambda file: file.write(buffer.getvalue()))
    print(path)


if __name__ == "__main__":
    main()
