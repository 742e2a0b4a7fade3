"""What this machine can do at best: matrix products and copies a second, and the time below which no ViT can go."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from timing import time_interleaved
from tinydefects.detector.precision import SIXTEEN_BITS, arithmetic
from tinydefects.detector.settings import Precision
from tinydefects.detector.students import StudentPair
from tinydefects.detector.teacher import Teacher

COPIED = 64  # bytes for each number of a factor: 256 MB at a side of 2048
ON_A_GPU = 10  # products or copies in a row: waiting for a single one takes a share of its time


def measure_ceilings(device: str, *, rounds: int, side: int) -> dict[str, float]:
    """TFLOP/s of square products by kind of number and road, and GB/s of a copy (bytes read and written).

    The factors have `side` rows and columns, 2048 are 17 GFLOP, and lie there in the numbers that are multiplied.
    """
    factors = torch.randn(2, side, side, device=device)
    source = torch.zeros(COPIED * side**2 // 4, device=device)
    target = torch.empty_like(source)
    times_each = 1 if device == "cpu" else ON_A_GPU

    def several(once: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            for _ in range(times_each):
                once()

        return run

    def product(precision: Precision) -> Callable[[], object]:
        left, right = factors.to(SIXTEEN_BITS.get(precision, torch.float32))

        def run() -> None:
            with torch.inference_mode(), arithmetic(precision, device):
                left @ right

        return run

    bytes_left, bytes_right = (torch.ones(side, side, dtype=torch.int8, device=device) for _ in range(2))
    kinds: tuple[Precision, ...] = ("highest", "float32", "bfloat16")
    variants = {f"{name}_tflops": several(product(name)) for name in kinds}
    variants["int8_tflops"] = several(lambda: torch._int_mm(bytes_left, bytes_right.t()))
    variants["copy_gb_per_s"] = several(lambda: target.copy_(source))
    times = time_interleaved(variants, rounds=rounds, device=device)
    seconds = {name: timing.lowest_ms / 1e3 / times_each for name, timing in times.items()}
    copy = 2 * COPIED * side**2 / 1e9 / seconds.pop("copy_gb_per_s")
    return {name: 2 * side**3 / 1e12 / each for name, each in seconds.items()} | {"copy_gb_per_s": copy}


def count_tflop(teacher: Teacher, shape: tuple[int, int]) -> dict[str, float]:
    """TFLOP of one image of (h, w) patches, from the shapes of the weights: teacher, its attention, both students."""
    model: Any = teacher.model  # of timm, without types
    n_patches = shape[0] * shape[1]
    n_tokens = n_patches + int(model.num_prefix_tokens)
    n_blocks = teacher.blocks[1] + 1
    linear = sum(n_weights(block) for block in model.blocks[:n_blocks])
    patches = 2 * n_patches * 3 * teacher.patch_size**2 * teacher.dim
    attention = 4 * n_tokens**2 * teacher.dim * n_blocks
    students = n_weights(StudentPair(teacher.dim))
    return {
        "teacher": (2 * n_tokens * linear + attention + patches) / 1e12,
        "attention": attention / 1e12,
        "students": 2 * n_patches * students / 1e12,
    }


def n_weights(network: nn.Module) -> int:
    """Of all matrices that the network multiplies by."""
    return sum(part.weight.numel() for part in network.modules() if isinstance(part, nn.Linear))
