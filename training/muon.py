"""Muon: momentum whose matrices are made orthogonal before each step, so that all directions learn at one pace.

For small transformers it needs far fewer steps than AdamW (Jordan 2024, kellerjordan.github.io/posts/muon).
"""

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
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, float]) -> None:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        look_ahead = gradient.lerp(state["momentum"], group["momentum"])
        rows, columns = parameter.shape[0], parameter[0].numel()
        parts = rows // columns if rows % columns == 0 and rows > 2 * columns else 1  # query, key and value lie stacked
        update = orthogonalised(look_ahead.reshape(parts, rows // parts, columns)).reshape(parameter.shape)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-group["lr"] * 0.2 * max(rows // parts, columns) ** 0.5)
