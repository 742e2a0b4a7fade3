"""Time of one image of 1000 x 1500 px, stage by stage, beside the published pipeline and what the machine can do.

    python benchmarks/inference.py                        # ViT-S/14 and ViT-B/14 at 518 and 1036 px; about 12 minutes
    python benchmarks/inference.py --teachers vit_small_patch14_dinov2 --resolutions 518
    python benchmarks/inference.py --device cuda --files 16 --out results/benchmarks/inference_cuda.json

All variants run once a round, one after the other. Weights are random, which changes no time. `ours, square` shows the
teacher the same square as the published pipeline: what is left then is arithmetic alone. `ours, folder` is what one of
several files takes when the next ones are decoded meanwhile, as `tinydefects predict` does. Teacher and students alone,
by images a pass: `gpu_passes.py`.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ceilings import count_tflop, measure_ceilings
from published_pipeline import PublishedPipeline
from timing import Timing, photograph, random_teacher, ratio, time_interleaved, write_times
from tinydefects.data.pixels import read_image, write_png
from tinydefects.data.read_ahead import read_ahead
from tinydefects.detector.detector import Detector
from tinydefects.detector.settings import image_score
from tinydefects.detector.teacher import Teacher

TEACHERS = "vit_small_patch14_dinov2,vit_base_patch14_reg4_dinov2"
STAGES = ("decode", "resize", "transfer", "teacher", "students", "map", "score")
FOLDER_PIXELS = 8 * 518**2  # of the teacher's input, unless told otherwise: 8 files at 518 px, 2 at 1036


def main() -> None:
    """Measure what is asked for and write it."""
    asked = options().parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    height, width = map(int, asked.size.split("x"))
    ceilings = measure_ceilings(asked.device, rounds=asked.rounds, side=asked.ceiling_side)
    print(ceilings, flush=True)
    settings = {"image": asked.size, "rounds": asked.rounds, "device": asked.device}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photograph.png"
        write_png(path, photograph((height, width)))
        Image.fromarray(read_image(path)).save(path.with_suffix(".jpg"), quality=95)
        for name in asked.teachers.split(","):
            teacher = random_teacher(name, asked.device)
            for resolution in map(int, asked.resolutions.split(",")):
                rows.append(measure(teacher, resolution, path, ceilings, asked))
                print(summary(rows[-1]), flush=True)
                # after every row: a machine that is taken away keeps what it has measured
                print(write_times("inference", settings, {"ceilings": ceilings, "rows": rows}, asked.out), flush=True)


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teachers", default=TEACHERS, help="ViTs of timm")
    parser.add_argument("--resolutions", default="518,1036", help="long side of the teacher's input in pixels")
    parser.add_argument("--size", default="1000x1500", help="of the image, height x width")
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken, after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--files", type=int, default=0, help="in the folder; 0 is as few as a processor needs")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 is its own choice")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="needs a C++ compiler")
    parser.add_argument("--ceiling-side", type=int, default=2048, help="of the square matrices whose product is timed")
    parser.add_argument("--out", type=Path)
    return parser


def measure(
    teacher: Teacher, resolution: int, path: Path, ceilings: dict[str, float], asked: argparse.Namespace
) -> dict[str, object]:
    """One row: a teacher at one resolution."""
    torch.compiler.reset()  # torch compiles a function for eight sizes at most, then runs it as it is
    image = read_image(path)
    ours = fitted(teacher, resolution, image)
    square = fitted(teacher, resolution, image, preset="published", precision="float32")
    half = fitted(teacher, resolution, image, precision="bfloat16")
    compiled = fitted(teacher, resolution, image, compiled=asked.compile)
    files = [path] * (asked.files or max(2, round(FOLDER_PIXELS / resolution**2)))
    published = PublishedPipeline(teacher, resolution)
    stages = stages_of(ours, path)
    times = time_interleaved(
        {
            "published": lambda: published.predict(read_image(path)),
            "ours, square": lambda: square.predict(read_image(path)),
            "ours": lambda: ours.predict(read_image(path)),
            **({"ours, compiled": lambda: compiled.predict(read_image(path))} if asked.compile else {}),
            "ours, bfloat16": lambda: half.predict(read_image(path)),
            "ours, folder": lambda: list(ours.predict_many(read_ahead(read_image, files))),
            "ours, bfloat16, folder": lambda: list(half.predict_many(read_ahead(read_image, files))),
            "decode JPEG": lambda: read_image(path.with_suffix(".jpg")),
            **stages,
        },
        rounds=asked.rounds,
        device=asked.device,
    )
    times |= {name: each_of(timing, len(files)) for name, timing in times.items() if name.endswith("folder")}
    shape = ours.grid(image.shape[:2]).shape
    tflop = count_tflop(teacher, shape)
    total = tflop["teacher"] + tflop["students"]
    whole = {name: times[name] for name in times if name.startswith(("published", "ours"))}
    return {
        "teacher": teacher.name,
        "resolution": resolution,
        "patches": shape,
        "tflop": tflop,
        "floor_ms": {name: 1e3 * total / ceilings[f"{name}_tflops"] for name in ("highest", "float32", "bfloat16")},
        "times": {name: asdict(timing) for name, timing in times.items()},
        "times_quicker_than_published": {name: ratio(times["published"], timing) for name, timing in whole.items()},
        "share_outside_teacher": 1 - times["teacher"].median_ms / sum(times[name].median_ms for name in STAGES),
        "share_outside_teacher_in_a_folder": 1 - times["teacher"].median_ms / times["ours, folder"].median_ms,
        "largest_map_difference": difference(published, square, image),
        "largest_map_difference_without_tf32": without_tf32(partial(difference, published, square, image)),
    }


def each_of(timing: Timing, n: int) -> Timing:
    """The time of one of `n` images that were timed together."""
    times = {name: value / n for name, value in asdict(timing).items() if name != "all_ms"}
    return Timing(**times, all_ms=tuple(spent / n for spent in timing.all_ms))


def fitted(teacher: Teacher, resolution: int, image: NDArray[np.uint8], **settings: Any) -> Detector:  # noqa: ANN401
    """A detector that has seen one image once: its numbers mean nothing, its time is that of any other."""
    return Detector(teacher=teacher, resolution=resolution, epochs=1, seed=115, **settings).fit([image])


def stages_of(detector: Detector, path: Path) -> dict[str, Callable[[], object]]:
    """Every step of `Detector.predict` on the file, each with the result of the one before it at hand."""
    image, teacher = read_image(path), detector.teacher
    grid = detector.grid(image.shape[:2])
    pixels = grid.to_pixels(image)[None]
    there = teacher.normalise(pixels)
    features = teacher.features(there)
    patch_scores = detector.patch_scores(*features)
    anomaly_map = grid.to_image(patch_scores[0])
    steps: tuple[Callable[[], object], ...] = (
        partial(read_image, path),
        partial(grid.to_pixels, image),
        partial(teacher.normalise, pixels),
        partial(teacher.features, there),
        partial(detector.patch_scores, *features),
        partial(grid.to_image, patch_scores[0]),
        partial(image_score, anomaly_map),
    )
    return dict(zip(STAGES, steps, strict=True))


def difference(published: PublishedPipeline, square: Detector, image: NDArray[np.uint8]) -> float:
    """Largest difference between both maps of one image, with the same students: arithmetic alone."""
    published.students.load_state_dict(square.students.state_dict())
    return float(np.abs(published.predict(image)[0] - square.predict(image).anomaly_map).max())


def without_tf32(measure: Callable[[], float]) -> float:
    """The same with convolutions of a GPU in float32, which torch rounds to 10 bits unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return measure()
    finally:
        torch.backends.cudnn.allow_tf32 = before


def summary(row: dict[str, Any]) -> str:
    """One line for whoever waits."""
    times: dict[str, dict[str, float]] = row["times"]
    each = ", ".join(f"{name} {timing['median_ms']:.0f}" for name, timing in times.items())
    return f"{row['teacher']} at {row['resolution']}: {each} ms; {row['times_quicker_than_published']}"


if __name__ == "__main__":
    main()
