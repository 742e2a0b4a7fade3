"""The two students of FBFT (arXiv 2407.04092): each predicts the teacher's features of one block from the other's.

They learn on defect-free images only; where they disagree with the teacher, the image is unlike those.
"""

import copy
import math
from collections.abc import Iterable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinydefects.errors import TrainingError

Combine = Literal["product", "sum", "forward", "backward"]
Batch = tuple[Tensor, Tensor]  # earlier, later: (N, C) patches of some images, any number of them
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

    The same seed gives the same initial weights; 115 gives the published ones. The global generator is left alone.
    """

    def __init__(self, dim: int, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.to_earlier = Student(dim, dim)
            self.to_later = Student(dim, dim)

    def forward(self, earlier: Tensor, later: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., C) of both blocks to what the students expect them to be: earlier, later."""
        return self.to_earlier(later), self.to_later(earlier)

    @torch.inference_mode()
    def disagreement(self, earlier: Tensor, later: Tensor, *, combine: Combine = "product") -> Tensor:
        """Patch scores (B, h, w) in [0, 4] for features (B, h, w, C) of both blocks; higher is more anomalous."""
        return disagreement(earlier, later, *self(earlier, later), combine=combine)


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
    backward = 1.0 - F.cosine_similarity(expected_earlier, earlier, dim=-1, eps=COSINE_EPS).mean()
    forward = 1.0 - F.cosine_similarity(expected_later, later, dim=-1, eps=COSINE_EPS).mean()
    return forward + backward


def train_students(
    students: StudentPair, epochs: Iterable[Iterable[Batch]], *, learning_rate: float
) -> Iterator[list[float]]:
    """Train in place with Adam, one step a batch, and yield the losses of every finished epoch.

    Raises:
        TrainingError: a loss is not finite; the students are put back to the end of the last finished epoch.
    """
    device = next(students.parameters()).device
    optimizer = torch.optim.Adam(students.parameters(), lr=learning_rate)
    for epoch, batches in enumerate(epochs, start=1):
        last_good = copy.deepcopy(students.state_dict())
        losses: list[float] = []
        for earlier, later in batches:
            losses.append(_step(students, optimizer, earlier.to(device), later.to(device)))
            if not math.isfinite(losses[-1]):
                break
        # A finite loss can hide an infinite gradient: the weights that are kept are looked at, too.
        if not math.isfinite(sum(losses)) or not _is_finite(students):
            students.load_state_dict(last_good)
            raise TrainingError(
                f"epoch {epoch}, step {len(losses)}: the loss is {losses[-1]:.4g} and training cannot go on; the "
                f"students of epoch {epoch - 1} are kept: lower learning_rate (now {learning_rate:g}) and fit again"
            )
        yield losses


def _step(students: StudentPair, optimizer: torch.optim.Optimizer, earlier: Tensor, later: Tensor) -> float:
    loss = pair_loss(earlier, later, *students(earlier, later))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _is_finite(students: StudentPair) -> bool:
    return all(bool(torch.isfinite(weights).all()) for weights in students.parameters())


def _unit_distance(expected: Tensor, actual: Tensor) -> Tensor:
    """Distance between directions: two (..., C) to (...), in [0, 2]."""
    difference: Tensor = F.normalize(expected, dim=-1) - F.normalize(actual, dim=-1)
    return difference.square().sum(dim=-1).sqrt()
