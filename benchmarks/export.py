"""Time of one image through every exported model, beside torch and the published pipeline; and what int8 costs.

    python benchmarks/export.py --resolutions 518                 # about 6 minutes on two quiet cores
    python benchmarks/export.py --resolutions 518,1036            # about 20 minutes
    python benchmarks/export.py accuracy                          # AUPRO by size; about 5 minutes

All variants run once a round, one after the other, on an image of 1000 x 1500 px that is in memory; from there to map
and score. The preset is `published`, so that every one of them sees the same square and all that differs is who
computes. Weights are random, which changes no time. The detectors of `accuracy` are those of the built-in teacher on
drawn parts. `results/benchmarks/export.json` and `export_accuracy.json` keep all.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from published_pipeline import PublishedPipeline
from timing import photograph, random_teacher, ratio, time_interleaved, write_times
from tinydefects.data.sample import Prediction, Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.detector import Detector
from tinydefects.export.exported import ExportedDetector
from tinydefects.export.manifest import Precision, Target
from tinydefects.export.writing import plan_export, write_export
from tinydefects.metrics.evaluation import evaluate

EXPORTS: tuple[tuple[Target, Precision], ...] = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
BARS = {"openvino fp32": 2.2, "openvino bf16": 3.5, "openvino int8": 5.0}  # times as quick as the published pipeline
N_CALIBRATION = 8
DRAWN = {"size": 384, "n_train": 16, "n_good": 16, "n_defect": 24}
LEARNT: dict[str, Any] = {"teacher": "builtin", "resolution": 384, "epochs": 30, "seed": 0}


def main() -> None:
    """Measure what is asked for and write it."""
    asked = options().parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if asked.what == "accuracy":
        rows = measure_accuracy(asked.root)
        print(write_times("export_accuracy", {**DRAWN, **LEARNT}, {"rows": rows}, asked.out))
        return
    teacher = random_teacher(asked.teacher, "cpu")
    height, width = map(int, asked.size.split("x"))
    rows = []
    for resolution in map(int, asked.resolutions.split(",")):
        images = [photograph((height, width), seed) for seed in range(N_CALIBRATION)]
        same_square: dict[str, Any] = {"resolution": resolution, "preset": "published", "precision": "float32"}
        detector = Detector(teacher=teacher, epochs=1, seed=115, **same_square).fit(images[:1])
        rows += measure_times(detector, images, asked)
    settings = {"teacher": asked.teacher, "image": asked.size, "rounds": asked.rounds}
    print(write_times("export", settings, {"bars": BARS, "rows": rows}, asked.out))


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("times", "accuracy"), default="times")
    parser.add_argument("--teacher", default="vit_small_patch14_dinov2", help="a ViT of timm")
    parser.add_argument("--resolutions", default="518", help="side of the teacher's input in pixels")
    parser.add_argument("--size", default="1000x1500", help="of the image, height x width")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken, after one to warm up")
    parser.add_argument("--threads", type=int, default=0, help="of torch and both runtimes; 0 is torch's own choice")
    parser.add_argument("--root", type=Path, default=Path("data"), help="where parts are drawn for `accuracy`")
    parser.add_argument("--out", type=Path)
    return parser


def measure_times(
    detector: Detector, images: Sequence[NDArray[np.uint8]], asked: argparse.Namespace
) -> list[dict[str, object]]:
    """One row a way to compute, all at one resolution."""
    image, resolution = images[0], int(detector.settings.resolution)
    published = PublishedPipeline(detector.teacher, resolution)
    published.students.load_state_dict(detector.students.state_dict())
    variants: dict[str, Callable[[NDArray[np.uint8]], Prediction]] = {
        "published": lambda image: Prediction(*published.predict(image)),
        "torch": detector.predict,
    }
    with tempfile.TemporaryDirectory() as folder:
        exported = export_all(detector, images, Path(folder))
        variants |= {name: one.predict for name, one in exported.items()}
        calls = {name: (lambda predict=predict: predict(image)) for name, predict in variants.items()}
        times = time_interleaved(calls, rounds=asked.rounds, device="cpu")
        expected = variants["published"](image).anomaly_map
        maps = {name: predict(image).anomaly_map for name, predict in variants.items()}
    rows = []
    for name, timing in times.items():
        row: dict[str, object] = {"variant": name, "resolution": resolution, **asdict(timing)}
        row["times_quicker_than_published"] = ratio(times["published"], timing)
        row["map_difference"] = float(np.abs(maps[name] - expected).max() / expected.max())
        rows.append(row)
        print(row, flush=True)
    return rows


def export_all(detector: Detector, images: Sequence[NDArray[np.uint8]], folder: Path) -> dict[str, ExportedDetector]:
    """Every export, calibrated with these images where it is int8, on torch's number of threads."""
    exported = {}
    for target, precision in EXPORTS:
        name = f"{target} {precision}"
        plan = plan_export(detector, target=target, precision=precision, image_size=None)
        calibration = images if precision == "int8" else ()
        write_export(detector, folder / name, plan, calibration=calibration, category="training images")
        exported[name] = ExportedDetector.load(folder / name, threads=torch.get_num_threads())
        print(f"exported: {name}", flush=True)
    return exported


def measure_accuracy(root: Path) -> list[dict[str, object]]:
    """One row a way to compute: AUPRO at 5 % FPR overall and by quartile of size, smallest first."""
    category = load_category("synthetic/machined_part", root=root, **DRAWN)
    train = [sample.image() for sample in category.train]
    detector = Detector(**LEARNT, device="cpu").fit(train)
    with tempfile.TemporaryDirectory() as folder:
        exported = export_all(detector, train, Path(folder))
        variants: dict[str, Detector | ExportedDetector] = {"torch": detector, **exported}
        return [judge(name, one, category.test) for name, one in variants.items()]


def judge(name: str, detector: Detector | ExportedDetector, test: Sequence[Sample]) -> dict[str, object]:
    """One row."""
    pairs = ((sample, detector.predict(sample.image())) for sample in test)
    evaluation = evaluate(pairs, category="synthetic/machined_part", fpr_limits=(0.05,), n_resamples=0, n_crops=0)
    row = {
        "variant": name,
        "aupro": evaluation.overall.aupro[0],
        "aupro_by_quartile": [quartile.aupro[0] for quartile in evaluation.disjoint],
        "n_defects": evaluation.overall.n_defects,
        "image_auroc": evaluation.image_auroc,
    }
    print(row, flush=True)
    return row


if __name__ == "__main__":
    main()
