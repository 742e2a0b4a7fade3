"""Muon: momentum whose matrices are made orthogonal before each step, so that all directions learn at one pace.

For small transformers it needs far fewer steps than AdamW (Jordan 2024, kellerjordan.github.io/posts/muon).
"""

from collections import defaultdict

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the odd polynomial that pushes singular values towards 1


def orthogonalised(matrix: Tensor, iterations: int = 5) -> Tensor:
    """The nearest matrix with singular values of about 1, by Newton-Schulz iteration; (..., rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """For inner weight matrices only; updates are scaled so that ``lr`` means what it means for AdamW."""

    def __init__(self, parameters: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.05) -> None:
        super().__init__([{"params": parameters}], {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    direction = self._direction(parameter, group["momentum"])
                    by_shape[direction.shape[1:]].append((parameter, direction))
            for alike in by_shape.values():  # many small matrices cost a device as much time as one stack of them
                stacked = orthogonalised(torch.cat([direction for _, direction in alike]))
                updates = torch.split(stacked, [len(direction) for _, direction in alike])
                for (parameter, _), update in zip(alike, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    scale = 0.2 * max(update.shape[-2:]) ** 0.5
                    parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * scale)

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        """The gradient with momentum as matrices (1 or 3, rows, columns): query, key and value lie stacked."""
        assert parameter.grad is not None
        state, gradient = self.state[parameter], parameter.grad
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        look_ahead = gradient.lerp(state["momentum"], momentum)
        rows, columns = parameter.shape[0], parameter[0].numel()
        parts = rows // columns if rows % columns == 0 and rows > 2 * columns else 1
        return look_ahead.reshape(parts, rows // parts, columns)
