"""What a fitted method takes to look at one image: stage by stage, end to end, at several batch sizes.

Measured on training images, so that no test image is opened for it, each read from its file again at every pass (the
system keeps it in memory by then). All timed images have one size, the most frequent one. The device has finished its
work whenever a clock is read; stages and end to end come from the same passes.
"""

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import cycle, islice, pairwise
from typing import Literal

import numpy as np

from tinydefects.data.pixels import read_size
from tinydefects.data.sample import Sample
from tinydefects.detector.devices import DeviceMemory, memory_of
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.method import STAGES, Method, StageClock
from tinydefects.results.protocol import CostSheet, Spread

CostMode = Literal["quick", "mvtec"]
IMAGES: Mapping[str, tuple[int, int]] = {"quick": (3, 10), "mvtec": (1000, 1000)}  # to warm up, to time
BATCH_SIZES = (1, 2, 4, 8, 16)
FEWEST_PASSES = 3
END_TO_END = "end to end"


def measure_cost(
    method: Method,
    samples: Sequence[Sample],
    *,
    clock: StageClock,
    device: str,
    threads: int,
    teacher_bytes: int,
    n_beside: int = 0,
    mode: CostMode = "quick",
) -> CostSheet:
    """Time a fitted method on training samples; the clock is the one it was built with.

    Batches grow until an image no longer gets cheaper or the next one might not fit into memory. `mvtec` warms up with
    1,000 images and times 1,000, as MVTec's runtime protocol does; `quick` takes 3 and 10. The peak of memory is that
    of batch 1.

    Args:
        method: fitted.
        samples: training samples, without masks.
        clock: what the method counts its stages with, its `synchronise` set to the device; left stopped.
        device: where the method works, as torch calls it.
        threads: that the host may use, for the record.
        teacher_bytes: weights of the shared teacher, 0 where the method uses none.
        n_beside: jobs that run on the machine beside this one.
        mode: see above.

    Raises:
        TinyDefectsError: no sample, or an unknown mode.
    """
    if mode not in IMAGES:
        raise TinyDefectsError(f"cost is measured {' or '.join(IMAGES)}, not {mode!r}; choose one of them")
    if not samples:
        raise TinyDefectsError("no training image to time a method on; give a category that has some")
    size, timed = _of_one_size(samples)
    clock.running = True
    try:
        stages, by_batch, peak_bytes = _measure(method, timed, clock, memory_of(device), mode)
    finally:
        clock.running = False
    return CostSheet(
        image_size=size,
        device=device,
        threads=threads,
        n_beside=n_beside,
        n_warmup=IMAGES[mode][0],
        stages=stages,
        end_to_end=by_batch[1],
        by_batch=by_batch,
        best_batch=min(by_batch, key=lambda batch: by_batch[batch].median_ms),
        peak_memory_bytes=peak_bytes,
        teacher_bytes=teacher_bytes,
        method_bytes=method.size_bytes,
    )


def _of_one_size(samples: Sequence[Sample]) -> tuple[tuple[int, int], list[Sample]]:
    sizes = [read_size(sample.image_path) for sample in samples]
    (size, _), *_ = Counter(sizes).most_common(1)
    return size, [sample for sample, own in zip(samples, sizes, strict=True) if own == size]


def _measure(
    method: Method, samples: Sequence[Sample], clock: StageClock, memory: DeviceMemory, mode: str
) -> tuple[dict[str, Spread], dict[int, Spread], int]:
    """Stages at batch 1, end to end for each image by batch size, and the peak of memory at batch 1."""
    memory.reset_peak()
    before = memory.peak_bytes()
    passes = _passes(method, samples, 1, clock, mode)
    peak_bytes = memory.peak_bytes()
    stages = {name: _spread([one.get(name, 0.0) for one in passes]) for name in STAGES if name in passes[0]}
    by_batch = {1: _spread([one[END_TO_END] for one in passes])}
    for smaller, batch in pairwise(BATCH_SIZES):
        if batch * (peak_bytes - before) > memory.free_bytes():
            break
        passes = _passes(method, samples, batch, clock, mode)
        by_batch[batch] = _spread([one[END_TO_END] / batch for one in passes])
        if by_batch[batch].median_ms >= by_batch[smaller].median_ms:
            break
    return stages, by_batch, peak_bytes


def _passes(
    method: Method, samples: Sequence[Sample], batch: int, clock: StageClock, mode: str
) -> list[dict[str, float]]:
    """Seconds by stage and end to end, one entry for each timed pass over a batch."""
    n_warmup, n_timed = (math.ceil(n_images / batch) for n_images in IMAGES[mode])
    endless = cycle(samples)
    found = []
    for number in range(n_warmup + max(FEWEST_PASSES, n_timed)):
        shown = list(islice(endless, batch))
        clock.take()
        start = time.perf_counter()
        method.predict(shown)
        clock.synchronise()
        seconds = time.perf_counter() - start
        if number >= n_warmup:
            found.append({**clock.take(), END_TO_END: seconds})
    return found


def _spread(seconds: Sequence[float]) -> Spread:
    low, median, high = (1000 * np.quantile(seconds, (0.25, 0.5, 0.75))).tolist()
    return Spread(median_ms=median, low_ms=low, high_ms=high, n=len(seconds))
