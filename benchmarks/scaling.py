"""What a large benchmark and a million images a day would take: pieces measured here, the rest arithmetic.

    python benchmarks/scaling.py

Measured: what an executor adds to a job; what an image of 1036 x 1036 px takes to decode, its map to draw
and to write, and their sizes. Seconds are those of the processor, in this process, unless they are called wall seconds:
other work on the machine then hardly matters. The plans multiply them with `ASSUMED`, which nobody measured here.
"""

import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from scoring import OUT, SEED, SIZE
from tinydefects.benchmark.cluster import open_cluster
from tinydefects.benchmark.processes import IsolatedProcesses
from tinydefects.data.pixels import read_image, write_map
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.results.protocol import EvaluationProtocol, Job
from tinydefects.results.result import describe_run

T = TypeVar("T")
SIDE, PATCH = 1036, 14
N_JOBS, N_WORKERS, N_SCORED, N_REPEATS = 200, 2, 20, 5
# Not measured here. FLOP are counted for ViT-B/14 with 5,476 patches: its products and attention, two students, and for
# nearest neighbours PatchCore (10,000 patches of 1,536 numbers) and AnomalyDINO (16 images of 768 numbers a patch).
ASSUMED: dict[str, float] = {
    "categories": 160,
    "methods": 10,
    "seeds": 5,
    "train_images": 250,
    "test_images": 120,
    "epochs": 50,
    "teacher_tflop": 2.03,
    "students_tflop": 0.039,
    "students_training_tflop": 0.116,
    "presets_trained": 2,
    "neighbours_tflop": 0.905,
    "gpu_tflop_per_s": 100,
    "processor_tflop_per_s": 0.2,
    "network_gb_per_s": 1.25,
    "training_features_mb": 16.8,
    "scoring_features_mb": 33.6,
    "images_per_day": 1e6,
    "seconds_to_look_at_an_alarm": 20,
}


def answer(job: Job) -> str:
    """The least a job can do."""
    return job.category


def executor_row(name: str, opened: AbstractContextManager[Executor]) -> dict[str, object]:
    """Wall seconds until the first answer, and milliseconds a job once all workers are there."""
    protocol = EvaluationProtocol(categories=("any/one",))
    job = Job(protocol=protocol, category="any/one", method="fbft", resolution=SIDE, seed=0)
    start = time.perf_counter()
    with opened as executor:
        executor.submit(answer, job).result()
        first = time.perf_counter() - start
        answer_all(executor, job)
        wall, spent = time.perf_counter(), time.process_time()
        for _ in range(N_JOBS // N_WORKERS):
            answer_all(executor, job)
        wall, spent = time.perf_counter() - wall, time.process_time() - spent
    return {
        "executor": name,
        "jobs": N_JOBS,
        "first_answer_wall_seconds": first,
        "wall_ms_per_job": 1e3 * wall / N_JOBS,
        "ms_per_job": 1e3 * spent / N_JOBS,
    }


def answer_all(executor: Executor, job: Job) -> None:
    """As many jobs at a time as there are workers, as the runner sends them."""
    for future in [executor.submit(answer, job) for _ in range(N_WORKERS)]:
        future.result()


def image_row() -> dict[str, object]:
    """Decoding a drawn photograph, drawing a map from patch scores, and writing it; milliseconds and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        category = load_category("synthetic/brushed_metal", root=folder, size=SIDE, n_train=1, n_good=0, n_defect=1)
        image = category.train[0].image()
        paths = {suffix: Path(folder, f"one.{suffix}") for suffix in ("png", "jpg")}
        Image.fromarray(image).save(paths["png"])
        Image.fromarray(image).save(paths["jpg"], quality=95)
        grid = PatchGrid.proportional((SIDE, SIDE), patch=PATCH, resolution=SIDE)
        scores = np.random.default_rng(SEED).lognormal(size=(SIDE // PATCH, SIDE // PATCH)).astype(np.float32)
        anomaly_map = grid.to_image(scores)
        target = Path(folder, "map.tiff")
        buffer = io.BytesIO()
        np.save(buffer, scores)
        return {
            **{f"decode_{suffix}_ms": median_ms(partial(read_image, path)) for suffix, path in paths.items()},
            **{f"{suffix}_bytes": path.stat().st_size for suffix, path in paths.items()},
            "draw_map_ms": median_ms(lambda: grid.to_image(scores)),
            "write_map_ms": median_ms(lambda: write_map(target, anomaly_map)),
            "map_bytes": target.stat().st_size,
            "patch_scores_bytes": len(buffer.getvalue()),
        }


def result_bytes() -> float:
    """Mean bytes of a result with its tally, without pictures, of those in `results/`."""
    folder = OUT.parents[1]
    found = [path for path in folder.rglob("*.json") if path.with_suffix(".tally.npz").exists()]
    return statistics.mean(path.stat().st_size + path.with_suffix(".tally.npz").stat().st_size for path in found)


def scoring_seconds_per_megapixel() -> float:
    """From `scoring.json`, 200 images, intervals included."""
    rows = json.loads((OUT.parent / "scoring.json").read_text())["rows"]
    seconds: list[float] = [
        (row["seconds"] + row["interval_seconds"]) / (row["images"] * SIZE[0] * SIZE[1] / 1e6)
        for row in rows
        if row["tool"] == "tinydefects" and row["images"] == 200
    ]
    return max(seconds)


def benchmark_plan(measured: dict[str, Any]) -> list[dict[str, str]]:
    """Every category, method and seed at 1036 x 1036 px: each quantity, where it comes from, and its value."""
    a = ASSUMED
    jobs = a["categories"] * a["methods"] * a["seeds"]
    images = a["train_images"] + a["test_images"]
    features_gb = (a["train_images"] * a["training_features_mb"] + a["test_images"] * a["scoring_features_mb"]) / 1e3
    teacher_tflop = a["categories"] * images * a["teacher_tflop"]
    fits = a["categories"] * a["seeds"] * a["presets_trained"]
    fit_tflop = a["train_images"] * a["epochs"] * a["students_training_tflop"]
    scored_mpx = a["test_images"] * SIDE * SIDE / 1e6
    scoring = scored_mpx * measured["scoring_seconds_per_megapixel"]
    searched, core = a["categories"] * a["seeds"] * a["test_images"], a["processor_tflop_per_s"] / 2
    gpu, network = a["gpu_tflop_per_s"], a["network_gb_per_s"]
    dask_ms = measured["executors"][1]["ms_per_job"]
    rows = [
        ("jobs", f"{a['categories']:g} categories x {a['peers']:g} methods x {a['seeds']:g} seeds", f"{jobs:,.0f}"),
        (
            "teacher, once an image",
            f"{a['categories'] * images:,.0f} images x {a['teacher_tflop']:g} TFLOP at {gpu:g} TFLOP/s",
            f"{teacher_tflop / gpu / 3600:.1f} GPU hours",
        ),
        (
            "the same on two cores",
            f"at {a['processor_tflop_per_s']:g} TFLOP/s",
            f"{teacher_tflop / a['processor_tflop_per_s'] / 3600:,.0f} h",
        ),
        (
            "training of students",
            f"{fits:,.0f} fits x {a['train_images']:g} images x {a['epochs']:g} epochs x "
            f"{a['students_training_tflop']:g} TFLOP",
            f"{fits * fit_tflop / gpu / 3600:.1f} GPU hours",
        ),
        (
            "**exact nearest neighbours**",
            f"{searched:,.0f} images x {a['neighbours_tflop']:g} TFLOP at {core:g} TFLOP/s a core",
            f"{searched * a['neighbours_tflop'] / core / 3600:.0f} core hours",
        ),
        (
            "figures and intervals",
            f"{jobs:,.0f} jobs x {scored_mpx:.0f} megapixels x {measured['scoring_seconds_per_megapixel']:.3f} s",
            f"{jobs * scoring / 3600:.1f} core hours",
        ),
        (
            "the executor",
            f"{jobs:,.0f} jobs x {dask_ms:.1f} ms of the scheduler's processor",
            f"{jobs * dask_ms / 6e4:.1f} min",
        ),
        (
            "features on disk",
            f"{a['train_images']:g} images x {a['training_features_mb']:g} MB + {a['test_images']:g} x "
            f"{a['scoring_features_mb']:g} MB, each category",
            f"{a['categories'] * features_gb / 1e3:.2f} TB",
        ),
        ("**features read by jobs**", f"{jobs:,.0f} jobs x {features_gb:.1f} GB", f"{jobs * features_gb / 1e3:.0f} TB"),
        (
            "**from one store, over one link**",
            f"at {network:g} GB/s (10 Gbit/s)",
            f"{jobs * features_gb / network / 3600:.1f} h",
        ),
        (
            "results without pictures",
            f"{jobs:,.0f} jobs x {measured['result_bytes'] / 1e6:.2f} MB",
            f"{jobs * measured['result_bytes'] / 1e9:.1f} GB",
        ),
        (
            "features a fit reads 50 times",
            f"{a['train_images']:g} images x {a['training_features_mb']:g} MB",
            f"{a['train_images'] * a['training_features_mb'] / 1e3:.1f} GB of file cache",
        ),
    ]
    return [dict(zip(("quantity", "arithmetic", "value"), row, strict=True)) for row in rows]


def day_plan(measured: dict[str, Any]) -> list[dict[str, str]]:
    """A million images a day, one camera size: the same columns."""
    a, image = ASSUMED, measured["image"]
    n = a["images_per_day"]
    rate = n / 86400
    tflop = a["teacher_tflop"] + a["students_tflop"]
    map_ms = image["draw_map_ms"] + image["write_map_ms"]
    rows = [
        ("images", f"{n:,.0f} a day, evenly", f"{rate:.1f} a second"),
        (
            "teacher and students",
            f"{rate:.1f} x {tflop:.2f} TFLOP at {a['gpu_tflop_per_s']:g} TFLOP/s",
            f"{100 * rate * tflop / a['gpu_tflop_per_s']:.0f} % of a GPU",
        ),
        (
            "the same on processors",
            f"at {a['processor_tflop_per_s']:g} TFLOP/s for two cores",
            f"{rate * tflop / a['processor_tflop_per_s']:.0f} such machines",
        ),
        (
            "decoding PNG",
            f"{rate:.1f} x {image['decode_png_ms']:.1f} ms",
            f"{rate * image['decode_png_ms'] / 1e3:.2f} cores",
        ),
        (
            "decoding JPEG",
            f"{rate:.1f} x {image['decode_jpg_ms']:.1f} ms",
            f"{rate * image['decode_jpg_ms'] / 1e3:.2f} cores",
        ),
        ("drawing maps, writing them", f"{rate:.1f} x {map_ms:.1f} ms", f"{rate * map_ms / 1e3:.2f} cores"),
        (
            "every map as TIFF",
            f"{n:,.0f} x {image['map_bytes'] / 1e6:.2f} MB",
            f"{n * image['map_bytes'] / 1e12:.1f} TB a day",
        ),
        (
            "patch scores instead",
            f"{n:,.0f} x {image['patch_scores_bytes'] / 1e3:.0f} kB; the map follows from them",
            f"{n * image['patch_scores_bytes'] / 1e9:.0f} GB a day",
        ),
        *(alarm_row(share) for share in (1e-2, 1e-3, 1e-4)),
    ]
    return [dict(zip(("quantity", "arithmetic", "value"), row, strict=True)) for row in rows]


def alarm_row(share: float) -> tuple[str, str, str]:
    """What a false-alarm rate means, and the good images without one alarm that bound it at 95 % (3 / share)."""
    alarms = ASSUMED["images_per_day"] * share
    hours = alarms * ASSUMED["seconds_to_look_at_an_alarm"] / 3600
    return (
        f"alarms at {100 * share:g} % of good images",
        f"{alarms:,.0f} a day x {ASSUMED['seconds_to_look_at_an_alarm']:g} s; {3 / share:,.0f} good images to show it",
        f"{hours:.1f} h of looking",
    )


def timed(run: Callable[[], T]) -> tuple[T, float]:
    """The value, and the seconds of the processor."""
    start = time.process_time()
    value = run()
    return value, time.process_time() - start


def median_ms(run: Callable[[], object]) -> float:
    run()
    return 1e3 * statistics.median(timed(run)[1] for _ in range(N_REPEATS))


def main() -> None:
    executors: dict[str, AbstractContextManager[Executor]] = {
        "processes": IsolatedProcesses(),
        "dask": open_cluster("local", n_workers=N_WORKERS),
    }
    measured = {
        "executors": [executor_row(name, opened) for name, opened in executors.items()],
        "image": image_row(),
        "result_bytes": result_bytes(),
        "scoring_seconds_per_megapixel": scoring_seconds_per_megapixel(),
    }
    plans = {"benchmark": benchmark_plan(measured), "day": day_plan(measured)}
    load = f"{os.getloadavg()[0]:.0f} processes on {os.cpu_count()} cores"
    provenance = describe_run({"command": "benchmarks/scaling.py", "seed": SEED, "load": load})
    content = {"provenance": asdict(provenance), "measured": measured, "assumed": ASSUMED, "plans": plans}
    (OUT.parent / "scaling.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
