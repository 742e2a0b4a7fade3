"""Time to train the students to one loss: the published pipeline, which runs its teacher in every epoch, and ours.

    python benchmarks/training.py                                      # ViT-S/14, 64 images at 518 px; about 6 minutes
    python benchmarks/training.py --resolution 1036 --images 16 --out results/benchmarks/training_1036.json

Images are square, so that all see the same patches in the same order from the same initial weights. The published
pipeline is timed over a few images and its time extrapolated, image by image; its losses are those of the same steps on
features that were kept, which tests/test_speed_paths.py shows to be equal. Reading files is not timed. Ours has arrived
once the mean loss of an epoch is within 1 % of the published pipeline's last.
"""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from published_pipeline import IMAGES_PER_BATCH, PublishedPipeline
from timing import photograph, random_teacher, write_times
from tinydefects.detector.detector import Detector
from tinydefects.detector.devices import waiting_for
from tinydefects.detector.teacher import Teacher

SEED, LEARNING_RATE = 115, 1e-4
ARRIVED = 1.01  # times the loss to be reached
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, bfloat16": {"precision": "bfloat16"},
    "ours, 2048 patches a step": {"patches_per_batch": 2048},
    "ours, 2048 patches a step, bfloat16": {"patches_per_batch": 2048, "precision": "bfloat16"},
}


def main() -> None:
    """Measure what is asked for and write it."""
    asked = options().parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    teacher = random_teacher(asked.teacher, asked.device)
    images = [photograph((asked.side, asked.side), seed) for seed in range(asked.images)]
    settings = {name: getattr(asked, name) for name in ("teacher", "resolution", "images", "epochs", "device")}
    published = measure_published(teacher, images, asked)
    rows = [published]
    print({key: value for key, value in published.items() if key != "losses"}, flush=True)
    for name in asked.variants.split(";") if asked.variants else OURS:
        rows.append(measure_ours(name, teacher, images, published, asked))
        print({key: value for key, value in rows[-1].items() if key != "losses"}, flush=True)
        # after every row: a machine that is taken away keeps what it has measured
        print(write_times("training", settings, {"rows": rows}, asked.out), flush=True)


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="vit_small_patch14_dinov2", help="a ViT of timm")
    parser.add_argument("--resolution", type=int, default=518, help="side of the teacher's input in pixels")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=1000, help="of the square images in pixels")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--timed-images", type=int, default=8, help="over which the published pipeline is timed")
    parser.add_argument("--variants", default="", help=f"of {', '.join(map(repr, OURS))}, separated by semicolons")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is its own choice")
    parser.add_argument("--out", type=Path)
    return parser


def measure_published(
    teacher: Teacher, images: Sequence[NDArray[np.uint8]], asked: argparse.Namespace
) -> dict[str, Any]:
    """Seconds of all epochs, extrapolated from a part of one, and the mean loss of every epoch."""
    wait = waiting_for(asked.device)
    timed = PublishedPipeline(teacher, asked.resolution)
    timed.train_epochs(images[:IMAGES_PER_BATCH], 1)
    wait()
    start = time.perf_counter()
    timed.train_epochs(images[: asked.timed_images], 1)
    wait()
    seconds = (time.perf_counter() - start) / min(asked.timed_images, len(images))
    pipeline = PublishedPipeline(teacher, asked.resolution, seed=SEED, learning_rate=LEARNING_RATE)
    kept = keep_features(pipeline, images)
    return {
        "name": "published",
        "seconds_per_image_and_epoch": seconds,
        "timed_images": min(asked.timed_images, len(images)),
        "seconds_extrapolated": seconds * len(images) * asked.epochs,
        "losses": [math.fsum(each) / len(each) for each in train_on_kept(pipeline, kept, asked.epochs)],
    }


def keep_features(pipeline: PublishedPipeline, images: Sequence[NDArray[np.uint8]]) -> list[torch.Tensor]:
    """Features (2, N, C) of each image, as the pipeline computes them anew in every epoch."""
    inputs = (pipeline.input_of(image)[None] for image in images)
    return [torch.cat(pipeline.features(batch)) for batch in inputs]


def train_on_kept(pipeline: PublishedPipeline, kept: Sequence[torch.Tensor], n: int) -> list[list[float]]:
    """`PublishedPipeline.train_epochs` without the teacher: the loss of every step of every epoch."""
    losses = []
    for _ in range(n):
        order = torch.randperm(len(kept), generator=pipeline.shuffle).tolist()
        batches = [order[start : start + IMAGES_PER_BATCH] for start in range(0, len(order), IMAGES_PER_BATCH)]
        losses.append([pipeline.step(*torch.stack([kept[index] for index in batch], dim=1)) for batch in batches])
    return losses


def measure_ours(
    name: str,
    teacher: Teacher,
    images: Sequence[NDArray[np.uint8]],
    published: dict[str, Any],
    asked: argparse.Namespace,
) -> dict[str, Any]:
    """Seconds until the published pipeline's last loss, the one pass of the teacher included."""
    settings = OURS[name]
    epochs = asked.epochs if "patches_per_batch" not in settings else math.ceil(asked.epochs / 2)
    wait, ends = waiting_for(asked.device), []

    def note(stage: str, done: int, total: int | None) -> None:
        wait()
        ends.append((stage, time.perf_counter() - start))

    detector = Detector(
        teacher=teacher,
        resolution=asked.resolution,
        epochs=epochs,
        seed=SEED,
        learning_rate=LEARNING_RATE,
        **settings,
    )
    start = time.perf_counter()
    detector.fit(list(images), progress=note)
    after_epochs = [seconds for stage, seconds in ends if stage == "students"]
    goal = ARRIVED * published["losses"][-1]
    arrived = next((number for number, loss in enumerate(detector.losses) if loss <= goal), None)
    seconds = math.nan if arrived is None else after_epochs[arrived]
    return {
        "name": name,
        "teacher_seconds": [seconds for stage, seconds in ends if stage == "teacher"][-1],
        "seconds_all_epochs": after_epochs[-1],
        "epochs_to_loss": None if arrived is None else arrived + 1,
        "seconds_to_loss": seconds,
        "times_quicker_than_published": published["seconds_extrapolated"] / seconds,
        "losses": detector.losses,
    }


if __name__ == "__main__":
    main()
