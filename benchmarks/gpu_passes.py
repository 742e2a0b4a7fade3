"""Teacher and students alone on a GPU: milliseconds an image by images a pass and road, and where the time goes.

    python benchmarks/gpu_passes.py --device cuda --ceiling-side 8192 --out results/benchmarks/gpu_passes.json
    python benchmarks/gpu_passes.py --teachers test_vit --resolutions 64 --size 64x96 --ceiling-side 64 --batches 1,2

Products are bfloat16. Inputs lie on the device, normalised; `with_transfer_ms_per_image` is from bytes in the
processor's memory to scores there. Roads: `as it comes` is what `Detector.predict` does, `recorded` the same as a CUDA
graph (`replay.py`), `cuDNN` takes that library's attention, `compiled` compiles the blocks of the teacher. Weights are
random, which changes no time. Parts are written as soon as they are measured; what fails stands there with its reason.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from ceilings import count_tflop, measure_ceilings
from inference import TEACHERS, fitted
from replay import Replay
from timing import photograph, random_teacher, time_interleaved, write_times
from tinydefects.detector.detector import Detector
from tinydefects.detector.devices import waiting_for
from tinydefects.detector.teacher import Teacher

MOST_KERNELS = 15  # of a profile, those that take longest
ATTENTION = {"flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """A way to run a pass."""

    recorded: bool = False
    cudnn: bool = False
    compiled: bool = False


ROADS = {
    "as it comes": Road(),
    "recorded": Road(recorded=True),
    "recorded, cuDNN": Road(recorded=True, cudnn=True),
    "compiled, recorded": Road(compiled=True, recorded=True),
    "compiled, recorded, cuDNN": Road(compiled=True, recorded=True, cudnn=True),
}


class Measured:
    """What is known so far, written anew with every part of it."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.content: dict[str, Any] = {"rows": [], "profiles": [], "attention": [], "seconds": {}, "failures": {}}
        self.asked = asked

    def take(self, part: str, measure: Callable[[], object]) -> Any:  # noqa: ANN401
        """The result of a part, None if it fails; how long it took, or why it failed, is kept and all is written."""
        start, result = time.perf_counter(), None
        try:
            result = measure()
        except Exception as error:  # what torch cannot compile or record, say; the parts after it are measured
            reason = (str(error).strip().splitlines() or [""])[0]
            self.content["failures"][part] = f"{type(error).__name__}: {reason}"
        self.content["seconds"][part] = round(time.perf_counter() - start, 1)
        print(f"{part}: {self.content['seconds'][part]} s {self.content['failures'].get(part, '')}", flush=True)
        return result

    def write(self) -> None:
        """The file, with what is there by now."""
        names = ("size", "rounds", "device", "batches", "ceiling_side")
        settings = {name: getattr(self.asked, name) for name in names}
        write_times("gpu_passes", settings, self.content, self.asked.out)


def main() -> None:
    """Measure what is asked for: the first teacher and resolution on all roads, the others, the first from inside."""
    asked = options().parse_args()
    measured = Measured(asked)
    ceilings = partial(measure_ceilings, asked.device, rounds=min(3, asked.rounds), side=asked.ceiling_side)
    measured.content["ceilings"] = measured.take("ceilings", ceilings)
    height, width = map(int, asked.size.split("x"))
    image, batches = photograph((height, width)), list(map(int, asked.batches.split(",")))
    cases = [(name, int(pixels)) for name in asked.teachers.split(",") for pixels in asked.resolutions.split(",")]
    plain = [road for road in ROADS if not ROADS[road].compiled and (asked.cudnn or not ROADS[road].cudnn)]
    first, ends, teacher = None, batches[:1], None
    for name, resolution in cases:
        teacher = teacher if teacher and teacher.name == name else random_teacher(name, asked.device)
        detector = fitted(teacher, resolution, image, precision="bfloat16")
        if first:
            measure_roads(measured, detector, image, batches, ["as it comes", "recorded"])
            continue
        first = detector
        measure_roads(measured, detector, image, batches, plain)
        best = best_of(measured.content["rows"])
        ends = sorted({1, best["images"]}) if best else ends
        if asked.compile:
            measure_roads(measured, detector, image, ends, [f"compiled, {best['road'] if best else 'recorded'}"])
    for batch in ends:  # last: what watches a GPU may slow it down afterwards
        if first:
            look_closer(measured, first, image, batch)


def options() -> argparse.ArgumentParser:
    """What can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    swapped = ",".join(reversed(TEACHERS.split(",")))
    parser.add_argument("--teachers", default=swapped, help="ViTs of timm; profiles and compiling are of the first")
    parser.add_argument("--resolutions", default="1036,518", help="long side of the teacher's input in pixels")
    parser.add_argument("--size", default="1000x1500", help="of the image, height x width")
    parser.add_argument("--batches", default="1,2,4,8,16", help="images a pass")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median is taken, after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--cudnn", action=argparse.BooleanOptionalAction, default=False, help="its attention, too")
    parser.add_argument("--ceiling-side", type=int, default=2048, help="of the square matrices whose product is timed")
    parser.add_argument("--out", type=Path)
    return parser


def measure_roads(
    measured: Measured, detector: Detector, image: NDArray[np.uint8], batches: Sequence[int], roads: Sequence[str]
) -> None:
    """Rows of one teacher and resolution: every batch on every road, written batch by batch."""
    ceiling = measured.content["ceilings"]["bfloat16_tflops"]
    for batch in batches:
        for road in roads:
            row = measured.take(
                f"{detector.teacher.name} at {detector.settings.resolution}, {batch} a pass, {road}",
                partial(measure_road, detector, image, batch, ROADS[road], ceiling, measured.asked),
            )
            if row:
                measured.content["rows"].append({"road": road, **row})
                print(f"  {row['ms_per_image']:.2f} ms an image, {row['share_of_ceiling']:.0%} of bfloat16", flush=True)
        measured.write()


def measure_road(
    detector: Detector,
    image: NDArray[np.uint8],
    batch: int,
    road: Road,
    ceiling: float,
    asked: argparse.Namespace,
) -> dict[str, object]:
    """Milliseconds an image of a batch on one road, the share of the ceiling in TFLOP/s, and how far scores move."""
    teacher, grid = detector.teacher, detector.grid(image.shape[:2])
    pixels = grid.to_pixels(image)
    several = np.stack([np.roll(pixels, 7 * number, axis=1) for number in range(batch)])
    with taken(road, teacher):
        scores = Replay(detector_pass(detector)) if road.recorded else detector_pass(detector)
        there, other = (teacher.normalise(given) for given in (several, several[..., ::-1]))
        with torch.inference_mode():
            scores(there)  # recorded here; the other input shows that replays look at what they are given
            moved = float((scores(other).clone() - detector_pass(detector)(other)).abs().max())
            timed: dict[str, Callable[[], object]] = {
                "there": lambda: scores(there),
                "with transfer": lambda: scores(teacher.normalise(several)).cpu(),
            }
            times = time_interleaved(timed, rounds=asked.rounds, device=asked.device)
        if isinstance(scores, Replay):
            scores.forget()
    tflop = count_tflop(teacher, grid.shape)
    total, ms = tflop["teacher"] + tflop["students"], times["there"].median_ms / batch
    floor = 1e3 * total / ceiling
    return {
        "teacher": teacher.name,
        "resolution": detector.settings.resolution,
        "patches": grid.shape,
        "images": batch,
        "ms_per_image": ms,
        "with_transfer_ms_per_image": times["with transfer"].median_ms / batch,
        "all_ms": times["there"].all_ms,
        "tflop_an_image": total,
        "floor_ms": floor,
        "share_of_ceiling": floor / ms,
        "largest_score_difference": moved,
    }


def detector_pass(detector: Detector) -> Callable[[Tensor], Tensor]:
    """From normalised images (B, 3, H, W) to patch scores (B, h, w)."""
    return lambda there: detector.patch_scores(*detector.teacher.features(there))


@contextmanager
def taken(road: Road, teacher: Teacher) -> Iterator[None]:
    """Inside, the teacher goes that road; its blocks are alike, so one of them is compiled for all."""
    blocks: Any = teacher.model.blocks
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION) if road.cudnn else nullcontext():
        if road.compiled:
            torch.compiler.reset()
            for block in blocks:
                block.compile(dynamic=False)
        try:
            yield
        finally:
            for block in blocks:
                block._compiled_call_impl = None


def best_of(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The recorded row of the highest share of the ceiling; None if there is none."""
    recorded = [row for row in rows if ROADS[row["road"]].recorded]
    return max(recorded, key=lambda row: row["share_of_ceiling"], default=None)


def look_closer(measured: Measured, detector: Detector, image: NDArray[np.uint8], batch: int) -> None:
    """Where the time of a pass goes, how often it waits for the device, and what attention takes by library."""
    pixels = np.stack([detector.grid(image.shape[:2]).to_pixels(image)] * batch)
    there, asked = detector.teacher.normalise(pixels), measured.asked
    run = detector_pass(detector)
    for road, function in (("as it comes", run), ("recorded", Replay(run))):
        found = measured.take(f"profile, {batch} a pass, {road}", partial(profile_of, function, there, asked.device))
        if found:
            measured.content["profiles"].append({"images": batch, "road": road, **found})
        measured.write()
    measured.content.setdefault("waits", {})[str(batch)] = measured.take(
        f"waits, {batch} a pass", lambda: count_waits(lambda: run(detector.teacher.normalise(pixels)), asked.device)
    )
    model: Any = detector.teacher.model  # of timm, without types
    heads = model.blocks[0].attn.num_heads
    n_tokens = there.shape[-2] * there.shape[-1] // detector.teacher.patch_size**2
    shape = (batch, n_tokens + int(model.num_prefix_tokens), heads, detector.teacher.dim // heads)
    for library, backend in ATTENTION.items():
        if library == "math" and asked.device != "cpu":
            continue  # holds every pair of patches in memory
        ms = measured.take(f"attention, {batch} a pass, {library}", partial(attention_ms, shape, backend, asked))
        if ms is not None:
            tflops = 4 * shape[0] * shape[1] ** 2 * detector.teacher.dim / 1e9 / ms
            found = {"images": batch, "library": library, "ms_a_block": ms, "tflops": tflops}
            measured.content["attention"].append(found)
        measured.write()


def attention_ms(shape: tuple[int, int, int, int], backend: SDPBackend, asked: argparse.Namespace) -> float:
    """Median milliseconds of one attention over (images, tokens, heads, channels), laid out as the blocks do."""
    n_images, n_tokens, heads, channels = shape
    mixed = torch.randn(n_images, n_tokens, 3, heads, channels, device=asked.device, dtype=torch.bfloat16)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)
    with torch.inference_mode(), sdpa_kernel(backend):
        run = {"attention": lambda: F.scaled_dot_product_attention(query, key, value)}
        return time_interleaved(run, rounds=asked.rounds, device=asked.device)["attention"].median_ms


def count_waits(run: Callable[[], object], device: str) -> list[str]:
    """What makes the processor wait for the GPU between bytes and scores: one line each; on a processor nothing."""
    if not device.startswith("cuda"):
        return []
    run()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [f"{Path(one.filename).name}:{one.lineno}: {str(one.message).splitlines()[0]}" for one in caught]


def profile_of(function: Callable[[Tensor], Tensor], there: Tensor, device: str) -> dict[str, object]:
    """What one pass consists of, after some to warm up."""
    wait, is_gpu = waiting_for(device), device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_gpu else [])]
    with torch.inference_mode():
        for _ in range(3):
            function(there)
        wait()
        with profile(activities=activities) as seen:
            function(there)
            wait()
    kind = "CUDA" if is_gpu else "CPU"
    work = [one for one in seen.events() or [] if one.device_type.name == kind and not one.cpu_children]
    return summarise([(one.name, one.time_range.start, one.time_range.end) for one in work])


def summarise(work: Sequence[tuple[str, float, float]]) -> dict[str, object]:
    """Of pieces of work (name, start, end) in microseconds: when any ran, the gaps, and those that took longest."""
    busy, last = 0.0, -np.inf
    for _, start, end in sorted(work, key=lambda one: one[1:]):
        busy += max(0.0, end - max(start, last))
        last = max(last, end)
    span = max(end for *_, end in work) - min(start for _, start, _ in work) if work else 0.0
    totals: dict[str, list[float]] = {}
    for name, start, end in work:
        totals.setdefault(name, []).append((end - start) / 1e3)
    longest = sorted(totals.items(), key=lambda one: -sum(one[1]))[:MOST_KERNELS]
    kernels = [{"name": name[:120], "count": len(each), "ms": sum(each)} for name, each in longest]
    return {"n": len(work), "span_ms": span / 1e3, "busy_ms": busy / 1e3, "gaps_ms": (span - busy) / 1e3} | {
        "longest": kernels
    }


if __name__ == "__main__":
    main()
