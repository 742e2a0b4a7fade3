"""Fair times: every variant once a round, after a round to warm up, with the device waited for; and files of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tinydefects.data.json_files import json_text
from tinydefects.data.pixels import write_whole
from tinydefects.detector.devices import waiting_for
from tinydefects.detector.networks import load_timm
from tinydefects.detector.teacher import Teacher, default_blocks, freeze_teacher
from tinydefects.results.result import describe_run

RESULTS = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Milliseconds: the median of all rounds, the lowest, the highest, and each."""

    median_ms: float
    lowest_ms: float
    highest_ms: float
    all_ms: tuple[float, ...]


def time_interleaved(variants: Mapping[str, Callable[[], object]], *, rounds: int, device: str) -> dict[str, Timing]:
    """Run all variants one after the other, `rounds` times: a slow minute of the machine slows all of them."""
    wait = waiting_for(device)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            if number:  # the first round warms up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: _timing(each) for name, each in times.items()}


def _timing(each: list[float]) -> Timing:
    return Timing(median_ms=statistics.median(each), lowest_ms=min(each), highest_ms=max(each), all_ms=tuple(each))


def ratio(slow: Timing, quick: Timing) -> float:
    """How many times as long the slow one takes: the median over rounds."""
    return statistics.median(one / other for one, other in zip(slow.all_ms, quick.all_ms, strict=True))


def random_teacher(name: str, device: str) -> Teacher:
    """A ViT of timm with random weights, the same each time: as quick as the trained one, and no download."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = load_timm().create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    return freeze_teacher(name, model, blocks=default_blocks(len(model.blocks)), device=device)


def photograph(size: tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """An (H, W, 3) image of soft shapes and noise, which a PNG file holds in about as many bytes as a photograph."""
    random = np.random.default_rng(seed)
    down, right = np.ogrid[: size[0], : size[1]]
    shapes = 128 + 60 * np.sin(down / 37 + seed)[..., None] * np.cos(right / 53)[..., None] * np.array([1, 0.8, 0.6])
    image: NDArray[np.uint8] = np.clip(shapes + random.normal(0, 6, (*size, 3)), 0, 255).astype(np.uint8)
    return image


def write_times(name: str, settings: Mapping[str, object], content: Mapping[str, object], out: Path | None) -> Path:
    """Write `results/benchmarks/<name>.json`, or another file, with commit, machine, versions, threads and GPU."""
    measured_on: dict[str, object] = {"threads": torch.get_num_threads()}
    if str(settings.get("device")).startswith("cuda"):
        measured_on["gpu"] = torch.cuda.get_device_name()
    provenance = describe_run({"command": f"benchmarks/{name}.py", **settings, **measured_on})
    text = json_text({"provenance": asdict(provenance), **content})
    path = out or RESULTS / f"{name}.json"
    write_whole(path, lambda file: file.write(text.encode() + b"\n"))
    return path
