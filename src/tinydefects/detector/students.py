"""The two students of FBFT (arXiv 2407.04092): each predicts the teacher's features of one block from the other's.

They learn on defect-free images only; where they disagree with the teacher, the image is unlike those. `time_pass` says
how long one pass of the teacher takes on this machine, alone or with students behind it.
"""

import copy
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinydefects.detector.precision import SIXTEEN_BITS, arithmetic
from tinydefects.detector.settings import Precision
from tinydefects.detector.teacher import Teacher
from tinydefects.errors import TrainingError

Combine = Literal["product", "sum", "forward", "backward"]
Batch = Sequence[Tensor]  # earlier, later: (N, C) patches of some images, any number of them
COSINE_EPS = 1e-6  # as published; matters for features of almost no length only


class Student(nn.Module):
    """A patch-wise MLP of three layers, in_dim to (in_dim + out_dim) // 2 twice and to out_dim; exact GELU between."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        hidden_dim = (in_dim + out_dim) // 2
        self.input = nn.Linear(in_dim, hidden_dim)
        self.projection = nn.Linear(hidden_dim, hidden_dim)
        self.output = nn.Linear(hidden_dim, out_dim)

    def forward(self, features: Tensor) -> Tensor:
        """(..., in_dim) to (..., out_dim)."""
        hidden = F.gelu(self.projection(F.gelu(self.input(features))))
        predicted: Tensor = self.output(hidden)
        return predicted


class StudentPair(nn.Module):
    """The forward student (earlier to later block) and the backward student, for features of `dim` channels.

    The same seed gives the same initial weights; 115 gives the published ones. The global generators are left alone.
    """

    def __init__(self, dim: int, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # the processor's; `torch.manual_seed` would seed every device
            self.to_earlier = Student(dim, dim)
            self.to_later = Student(dim, dim)

    def forward(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., C) of both blocks to what the students expect them to be: earlier, later."""
        return self.to_earlier(later), self.to_later(earlier)

    def expectations(self, earlier: Tensor, later: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
        """As the call, float32 in and out, the products in between as `precision.arithmetic` does them."""
        with arithmetic(precision, earlier.device.type):
            expected_earlier, expected_later = self(earlier, later)
        return expected_earlier.float(), expected_later.float()

    @torch.inference_mode()
    def disagreement(
        self, earlier: Tensor, later: Tensor, *, combine: Combine = "product", precision: Precision = "highest"
    ) -> Tensor:
        """Patch scores (..., h, w) in [0, 4] for features (..., h, w, C) of both blocks; higher is more anomalous."""
        return disagreement(earlier, later, *self.expectations(earlier, later, precision), combine=combine)


def disagreement(
    earlier: Tensor, later: Tensor, expected_earlier: Tensor, expected_later: Tensor, *, combine: Combine = "product"
) -> Tensor:
    """Distances between directions in both blocks, combined: four (..., C) to (...), in [0, 4].

    The method takes the `product`; the others are its ablations: the `sum`, the `forward` student's distance alone (in
    the later block, [0, 2]) or the `backward` one's.
    """
    if combine == "forward":
        return _unit_distance(expected_later, later)
    backward = _unit_distance(expected_earlier, earlier)
    if combine == "backward":
        return backward
    forward = _unit_distance(expected_later, later)
    return backward * forward if combine == "product" else backward + forward


def pair_loss(earlier: Tensor, later: Tensor, expected_earlier: Tensor, expected_later: Tensor) -> Tensor:
    """Sum over both blocks of 1 - mean cosine similarity: four (..., C) to a scalar in [0, 4]."""
    return (1.0 - _mean_cosine(expected_earlier, earlier)) + (1.0 - _mean_cosine(expected_later, later))


def train_students(
    students: StudentPair,
    epochs: Iterable[Iterable[Batch]],
    *,
    learning_rate: float,
    precision: Precision = "highest",
    steps: int | None = None,
) -> Iterator[list[float]]:
    """Train in place with Adam, one step a batch on the students' device, and yield the losses of every finished epoch.

    After so many `steps` all ends, within an epoch perhaps; None is when the epochs do.

    Raises:
        TrainingError: a loss is not finite; the students are put back to the end of the last finished epoch.
    """
    optimizer = torch.optim.Adam(students.parameters(), lr=learning_rate, fused=True)
    for epoch, batches in enumerate(epochs, start=1):
        last_good = copy.deepcopy(students.state_dict())
        # Losses stay on the device until the epoch is over: reading one makes the processor wait for the step.
        waiting = [_step(students, optimizer, batch, precision) for batch in islice(batches, steps)]
        losses: list[float] = torch.stack(waiting).tolist()
        step = next((number for number, loss in enumerate(losses, start=1) if not math.isfinite(loss)), len(losses))
        # A finite loss can hide an infinite gradient: the weights that are kept are looked at, too.
        if not math.isfinite(losses[step - 1]) or not _is_finite(students):
            students.load_state_dict(last_good)
            kept = f"the students of epoch {epoch - 1} are kept" if epoch > 1 else "no epoch was finished"
            raise TrainingError(
                f"epoch {epoch}, step {step}: the loss is {losses[step - 1]:.4g} and training cannot go on; {kept}: "
                f"lower learning_rate (now {learning_rate:g}) and fit again"
            )
        yield losses
        if steps is not None:
            steps -= len(losses)
            if not steps:
                return


@torch.inference_mode()
def mean_loss(students: StudentPair, batches: Iterable[Batch], *, precision: Precision = "highest") -> float:
    """The loss that a step on all these patches at once would see, in [0, 4]; the students stay as they are."""
    losses, n_patches = [], 0
    for earlier, later in batches:
        with _beside_students(precision, earlier):
            loss = pair_loss(earlier, later, *students.expectations(earlier, later, precision))
        losses.append(loss * len(earlier))  # stays on the device, as in training
        n_patches += len(earlier)
    return float(torch.stack(losses).sum()) / n_patches


def _step(students: StudentPair, optimizer: torch.optim.Optimizer, batch: Batch, precision: Precision) -> Tensor:
    earlier, later = batch
    with _beside_students(precision, earlier):
        loss = pair_loss(earlier, later, *students.expectations(earlier, later, precision))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach()


def _beside_students(precision: Precision, features: Tensor) -> AbstractContextManager[None]:
    """For the loss and its gradients: 16 bits are for the students' own products."""
    return arithmetic("highest" if precision in SIXTEEN_BITS else precision, features.device.type)


def _is_finite(students: StudentPair) -> bool:
    return all(bool(torch.isfinite(weights).all()) for weights in students.parameters())


def _unit_distance(expected: Tensor, actual: Tensor) -> Tensor:
    """Distance between directions: two (..., C) to (...), in [0, 2]."""
    difference: Tensor = F.normalize(expected, dim=-1) - F.normalize(actual, dim=-1)
    return difference.square().sum(dim=-1).sqrt()


def _mean_cosine(expected: Tensor, actual: Tensor) -> Tensor:
    """`F.cosine_similarity(expected, actual).mean()` without dividing C channels by what one number a patch is."""
    lengths = [torch.linalg.vector_norm(vectors, dim=-1).clamp_min(COSINE_EPS) for vectors in (expected, actual)]
    cosine: Tensor = (expected * actual).sum(dim=-1) / (lengths[0] * lengths[1])
    return cosine.mean()


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
