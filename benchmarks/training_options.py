"""What the options of training and precision cost in quality: drawn parts, the built-in teacher, 384 px.

    python benchmarks/training_options.py                    # three families; about 9 minutes
    python benchmarks/training_options.py --families leather --size 192

Seconds are those of the students alone, on the processor; megabytes those of the features on disk. The loss is that of
the patches learnt from, in the epoch whose students are kept. `at prediction` fits in float32 and predicts in 16 bits.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timing import write_times
from tinydefects.data.sample import Category, Prediction
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.detector import Detector
from tinydefects.detector.features import FeatureCache
from tinydefects.detector.patch_grid import image_size
from tinydefects.detector.settings import Precision
from tinydefects.detector.teacher import Teacher, load_teacher
from tinydefects.metrics.evaluation import evaluate

FAMILIES = "machined_part,brushed_metal,circuit_board"
FPR_LIMITS = (0.3, 0.05)
Settings = dict[str, Any]  # of a detector, by name
MIXED: Settings = {"patches_per_batch": 2048}
HALF: Settings = {"patch_fraction": 0.5}
QUARTER: Settings = {"patch_fraction": 0.25}
UNTIL_STALLED: Settings = {"validation_fraction": 0.125, "patience": 3}
VARIANTS: tuple[tuple[str, int, Settings], ...] = (  # epochs, at most
    ("4 images a step", 50, {}),
    ("4 images a step", 20, {}),
    ("4 images a step, half of the patches", 50, HALF),
    ("4 images a step, a quarter of the patches", 50, QUARTER),
    ("4 images a step, until held-out images stall", 200, UNTIL_STALLED),
    ("2048 patches a step", 10, MIXED),
    ("2048 patches a step", 20, MIXED),
    ("2048 patches a step, half of the patches", 10, MIXED | HALF),
    ("2048 patches a step, half of the patches, as many steps as 10 whole epochs", 20, MIXED | HALF),
    ("2048 patches a step, a quarter of the patches", 10, MIXED | QUARTER),
    ("2048 patches a step, a quarter of the patches, as many steps as 10 whole epochs", 40, MIXED | QUARTER),
    ("2048 patches a step, until held-out images stall", 200, MIXED | UNTIL_STALLED),
    ("4 images a step, bfloat16", 50, {"precision": "bfloat16"}),
)


def main() -> None:
    """Measure what is asked for and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=FAMILIES)
    parser.add_argument("--size", type=int, default=384, help="side of the drawn images in pixels")
    parser.add_argument(
        "--images", type=int, default=16, help="to train on, as many good ones to test, 24 with defects"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    teacher, rows = load_teacher("builtin", device=asked.device), []
    with tempfile.TemporaryDirectory() as folder:
        for family in asked.families.split(","):
            counts = {"n_train": asked.images, "n_good": asked.images, "n_defect": 24}
            category = load_category(f"synthetic/{family}", root=folder, size=asked.size, **counts)
            for row in measure(category, teacher, Path(folder)):
                rows.append(row)
                print(row, flush=True)
    settings = {"size": asked.size, "images": asked.images, "seed": 0, "device": asked.device}
    print(write_times("training_options", settings, {"fpr_limits": FPR_LIMITS, "rows": rows}, asked.out))


def measure(category: Category, teacher: Teacher, folder: Path) -> list[dict[str, Any]]:
    """One row a variant, then one a precision at prediction."""
    images: list[NDArray[np.uint8]] = [sample.image() for sample in category.train]
    rows: list[dict[str, Any]] = []
    resolution = max(images[0].shape)
    for name, epochs, settings in VARIANTS:
        detector = Detector(teacher=teacher, resolution=resolution, epochs=epochs, cache_dir=folder / "c", **settings)
        starts: list[float] = []
        detector.fit(images, progress=lambda stage, *_, starts=starts: starts.append(time.process_time()))
        seconds = starts[-1] - starts[len(images) - 1]
        cost = detector.expected_cost(sample.image_path for sample in category.train)
        found: dict[str, float] = {
            "epochs": len(detector.losses),
            "most_epochs": epochs,
            "kept_epoch": detector.kept_epoch,
        }
        found |= {"seconds": seconds, "cache_mb": cost.cache_bytes / 1e6}
        found["loss"] = detector.losses[detector.kept_epoch - 1]
        rows.append({"family": category.id, "name": name, **found, **quality(detector, category, folder)})
        if not settings and epochs == VARIANTS[0][1]:
            detector.save(folder / "model")
    at_prediction: tuple[Precision, ...] = ("float16", "bfloat16")
    for precision in at_prediction:
        rough = Detector.load(folder / "model", teacher=teacher, precision=precision)
        rows.append({"family": category.id, "name": f"{precision} at prediction", **quality(rough, category, folder)})
    before: list[float] = rows[0]["image_scores"]
    for row in rows:
        after: list[float] = row.pop("image_scores")
        row["largest_score_difference"] = max(abs(one - other) for one, other in zip(before, after, strict=True))
    return rows


def quality(detector: Detector, category: Category, folder: Path) -> dict[str, object]:
    """AUPRO at both limits, of the smallest quarter of the defects, too, image AUROC and the image scores."""
    predictions = [predict(detector, sample.image(), folder) for sample in category.test]
    evaluation = evaluate(zip(category.test, predictions, strict=True), fpr_limits=FPR_LIMITS, n_resamples=0)
    figures = {"aupro": evaluation.overall.aupro, "aupro_q1": evaluation.disjoint[0].aupro}
    return {
        **figures,
        "image_auroc": evaluation.image_auroc,
        "image_scores": [prediction.score for prediction in predictions],
    }


def predict(detector: Detector, image: NDArray[np.uint8], folder: Path) -> Prediction:
    """As `detector.predict`, but the teacher sees the image once for all variants that compute in these numbers."""
    features = FeatureCache(folder / "test", detector.teacher, feature_format="float32", limit_bytes=10**11)
    grid = detector.grid(image_size(image))
    earlier, later = (block.to(detector.teacher.device) for block in features.read(image, grid))
    (patch_scores,) = detector.patch_scores(earlier, later)
    return detector.prediction(grid, patch_scores)


if __name__ == "__main__":
    main()
