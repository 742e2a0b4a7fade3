"""How long the teacher takes for one pass on this machine, students included."""

import statistics
import time

import torch

from tinydefects.students import StudentPair
from tinydefects.teacher import Teacher


def time_pass(teacher: Teacher, patches_a_side: int, *, repeats: int = 3) -> float:
    """Milliseconds that a square of so many patches a side takes, median of `repeats` after one pass to warm up."""
    side = patches_a_side * teacher.patch_size
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    students = StudentPair(teacher.dim).to(teacher.device)
    spent = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        students.disagreement(*teacher.features(image)).cpu()
        spent.append(1000 * (time.perf_counter() - start))
    return statistics.median(spent[1:])
