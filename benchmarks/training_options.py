"""What the options of training and precision cost in quality: drawn parts, the built-in teacher, 384 px.

    python benchmarks/training_options.py                    # three families; about 6 minutes
    python benchmarks/training_options.py --families leather --size 192

Seconds are those of the students alone, on the processor. `at prediction` fits in float32 and predicts in 16 bits.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from timing import write_times
from tinydefects.datasets.catalog import load_category
from tinydefects.detector import Detector
from tinydefects.metrics.evaluation import evaluate
from tinydefects.sample import Category, Prediction
from tinydefects.teacher import Teacher, load_teacher

FAMILIES = "machined_part,brushed_metal,circuit_board"
FPR_LIMITS = (0.3, 0.05)
VARIANTS: tuple[tuple[str, int, dict[str, object]], ...] = (
    ("4 images a step", 50, {}),
    ("4 images a step", 20, {}),
    ("2048 patches a step", 10, {"patches_per_batch": 2048}),
    ("2048 patches a step", 20, {"patches_per_batch": 2048}),
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


def measure(category: Category, teacher: Teacher, folder: Path) -> list[dict[str, object]]:
    """One row a variant, then one a precision at prediction."""
    images, rows = [sample.image() for sample in category.train], []
    resolution = max(images[0].shape)
    for name, epochs, settings in VARIANTS:
        detector = Detector(teacher=teacher, resolution=resolution, epochs=epochs, cache_dir=folder / "c", **settings)  # type: ignore[arg-type]
        starts: list[float] = []
        detector.fit(images, progress=lambda stage, *_, starts=starts: starts.append(time.process_time()))
        seconds = starts[-1] - starts[len(images) - 1]
        found = {"epochs": epochs, "seconds": seconds, "loss": detector.losses[-1]}
        rows.append({"family": category.id, "name": name, **found, **quality(detector, category)})
        if not settings and epochs == VARIANTS[0][1]:
            detector.save(folder / "model")
    for precision in ("float16", "bfloat16"):
        rough = Detector.load(folder / "model", teacher=teacher, precision=precision)  # type: ignore[arg-type]
        rows.append({"family": category.id, "name": f"{precision} at prediction", **quality(rough, category)})
    before: Sequence[float] = rows[0]["image_scores"]  # type: ignore[assignment]
    for row in rows:
        after: Sequence[float] = row.pop("image_scores")  # type: ignore[assignment]
        row["largest_score_difference"] = max(abs(one - other) for one, other in zip(before, after, strict=True))
    return rows


def quality(detector: Detector, category: Category) -> dict[str, object]:
    """AUPRO at both limits, image AUROC and the image scores."""
    predictions: list[Prediction] = [detector.predict(sample.image()) for sample in category.test]
    evaluation = evaluate(zip(category.test, predictions, strict=True), fpr_limits=FPR_LIMITS, n_resamples=0)
    figures = {"aupro": evaluation.overall.aupro, "image_auroc": evaluation.image_auroc}
    return {**figures, "image_scores": [prediction.score for prediction in predictions]}


if __name__ == "__main__":
    main()
