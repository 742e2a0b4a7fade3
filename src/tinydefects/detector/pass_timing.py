"""How long one pass of the teacher takes on this machine."""

import statistics
import time

import torch

from tinydefects.detector.students import StudentPair
from tinydefects.detector.teacher import Teacher


def time_pass(teacher: Teacher, patches: tuple[int, int], *, with_students: bool = False, repeats: int = 3) -> float:
    """Seconds for (h, w) patches of noise, median of `repeats` after one pass to warm up; students are untrained."""
    size = [number * teacher.patch_size for number in patches]
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    students = StudentPair(teacher.dim).to(teacher.device) if with_students else None
    spent = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        blocks = teacher.features(image)
        (students.disagreement(*blocks) if students else blocks[-1]).cpu()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])
