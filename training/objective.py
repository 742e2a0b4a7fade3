"""What the teacher is taught: odd marks, local statistics, evenly spread features, and to serve those who read it.

To serve them: the crops of a product are an inspection task in small. One half of them is what a method learns from,
the other half what it scores, and both halves change roles. Methods with a closed form learn within the step (nearest
neighbours, a Gaussian, linear students that predict one block from the other), so the loss of their scores teaches the
teacher which features make odd patches stand out for each of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 16  # coverage cells in a patch
KIND_WEIGHTS = (0.3, 1.0, 1.0, 1.0, 1.0)
METHODS = ("neighbours", "gaussian", "students")
NORMAL, ODD = 0.02, 0.3  # a patch is normal below, odd above this coverage of its fullest cell
SHRINKAGE = 0.05  # of covariances towards the unit matrix of their mean variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Drawn crops as tensors, the views of a product one after another: the truth per patch with N = (S/8)^2."""

    image: Tensor  # (B, 3, S, S), normalised
    coverage: Tensor  # (B, N, 16) in [0, 1]
    kind: Tensor  # (B, N)
    views: int  # of each product


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each part of the objective counts."""

    odd: float = 1.0
    early_odd: float = 0.4
    kind: float = 0.2
    statistics: float = 0.5
    spread: float = 1.0
    odd_spread: float = 0.3
    neighbours: float = 1.0
    gaussian: float = 0.5
    students: float = 1.0


class Heads(nn.Module):
    """Linear read-outs on the features of both blocks; thrown away after training."""

    def __init__(self, channels: int, n_kinds: int, n_statistics: int = 33) -> None:
        super().__init__()
        self.odd = nn.Linear(channels, CELLS)
        self.early_odd = nn.Linear(channels, CELLS)
        self.kind = nn.Linear(channels, n_kinds)
        self.statistics = nn.Linear(channels, n_statistics)
        self.scale = nn.BatchNorm1d(n_statistics, affine=False)
        self.slope = nn.Parameter(torch.ones(len(METHODS)))  # from a method's standardised score to odds
        self.threshold = nn.Parameter(torch.full((len(METHODS),), 3.0))
        for layer in (self.odd, self.early_odd):
            nn.init.constant_(layer.bias, -3.0)


def objective(
    earlier: Tensor, later: Tensor, heads: Heads, batch: Batch, weights: Weights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted loss of two feature maps (B, N, C), both after the final norm, and its parts by name."""
    targets = heads.scale(local_statistics(batch.image).flatten(0, 1))
    parts = {
        "odd": coverage_loss(heads.odd(later), batch.coverage),
        "early_odd": coverage_loss(heads.early_odd(earlier), batch.coverage),
        "kind": F.cross_entropy(heads.kind(later).flatten(0, 1), batch.kind.flatten(), later.new_tensor(KIND_WEIGHTS)),
        "statistics": F.smooth_l1_loss(heads.statistics(earlier).flatten(0, 1), targets),
        "spread": mean_cosine(earlier) + mean_cosine(later),
        "odd_spread": odd_mean_cosine(earlier, batch.coverage) + odd_mean_cosine(later, batch.coverage),
    }
    parts |= task_losses(earlier, later, heads, batch)
    total = sum((getattr(weights, name) * part for name, part in parts.items()), later.new_zeros(()))
    return total, {name: part.detach() for name, part in parts.items()}


def coverage_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy, odd cells counted three times, plus 1 - soft Dice over the whole batch."""
    entropy = F.binary_cross_entropy_with_logits(logits, coverage, pos_weight=logits.new_tensor(3.0))
    probability = logits.sigmoid()
    overlap = (2 * (probability * coverage).sum() + 1) / ((probability**2).sum() + (coverage**2).sum() + 1)
    return 3 * entropy + 0.5 * (1 - overlap)


def task_losses(earlier: Tensor, later: Tensor, heads: Heads, batch: Batch) -> dict[str, Tensor]:
    """How badly each method tells odd patches from normal ones, learnt on one half of a product's crops."""
    strongest = batch.coverage.amax(-1)
    blocks = [folds(F.normalize(block.float(), dim=-1), batch.views) for block in (earlier, later)]
    truth_learnt, truth_scored = folds(strongest[..., None], batch.views)
    usable = (truth_learnt[..., 0] < NORMAL).float()  # (P, M) patches that a method may learn from
    scores: dict[str, list[Tensor]] = {
        "neighbours": [neighbour_distance(learnt, scored, usable) for learnt, scored in blocks],
        "gaussian": [],
        "students": [],
    }
    fits = [Fit(learnt, usable) for learnt, _ in blocks]
    for fit, (_, scored) in zip(fits, blocks, strict=True):
        scores["gaussian"].append(fit.mahalanobis(scored))
    for (source, source_scored), (target, target_scored), fit in zip(blocks, blocks[::-1], fits, strict=True):
        scores["students"].append(student_error(fit, source, target, usable, source_scored, target_scored))
    odd = truth_scored[..., 0]
    losses = {
        name: [odds_loss(score, odd, heads.slope[i], heads.threshold[i]) for score in scores[name]]
        for i, name in enumerate(METHODS)
    }
    return {name: torch.stack(both).mean() for name, both in losses.items()}


def folds(patches: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """(P * V, N, C) to what is learnt from and what is scored, both (2 P, V / 2 * N, C): halves take both roles."""
    _, n, c = patches.shape
    halves = patches.reshape(-1, 2, views // 2 * n, c)
    return halves.flatten(0, 1), halves.flip(1).flatten(0, 1)


def neighbour_distance(learnt: Tensor, scored: Tensor, usable: Tensor, temperature: float = 0.03) -> Tensor:
    """(P, M, C) to (P, M): cosine distance to the nearest usable patch, its minimum made a little soft."""
    cosine = scored @ learnt.mT + (usable[:, None] - 1) * 10
    return 1 - temperature * torch.logsumexp(cosine / temperature, -1)


class Fit:
    """Mean (P, 1, C) and inverse covariance (P, C, C) of usable patches; the covariance is shrunk."""

    def __init__(self, learnt: Tensor, usable: Tensor) -> None:
        weight = (usable / usable.sum(-1, keepdim=True).clamp_min(1))[..., None]
        self.weight = weight
        self.mean = (weight * learnt).sum(1, keepdim=True)
        centred = learnt - self.mean
        covariance = (centred * weight).mT @ centred
        unit = torch.eye(learnt.shape[-1], device=learnt.device)
        level = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + 1e-5
        self.inverse = torch.linalg.inv_ex((1 - SHRINKAGE) * covariance + SHRINKAGE * level * unit).inverse

    def mahalanobis(self, scored: Tensor) -> Tensor:
        centred = scored - self.mean
        squared: Tensor = ((centred @ self.inverse) * centred).sum(-1)
        return squared.clamp_min(1e-6).sqrt()


def student_error(
    fit: Fit, source: Tensor, target: Tensor, usable: Tensor, source_scored: Tensor, target_scored: Tensor
) -> Tensor:
    """(P, M): distance of unit vectors between a scored target and what a ridge regression on the source predicts."""
    mean = (fit.weight * target).sum(1, keepdim=True)
    cross = ((source - fit.mean) * fit.weight).mT @ (target - mean)
    predicted = mean + (source_scored - fit.mean) @ (fit.inverse @ cross)
    return ((F.normalize(predicted, dim=-1) - target_scored) ** 2).sum(-1).clamp_min(1e-6).sqrt()


def odds_loss(score: Tensor, truth: Tensor, slope: Tensor, threshold: Tensor) -> Tensor:
    """Cross-entropy of scores (P, M), standardised by the normal patches of each product, against odd or normal.

    Patches that are neither do not count, nor do products without normal patches.
    """
    normal, odd = (truth < NORMAL).float(), (truth > ODD).float()
    count = normal.sum(-1, keepdim=True).clamp_min(1)
    mean = (score * normal).sum(-1, keepdim=True) / count
    deviation = ((((score - mean) ** 2) * normal).sum(-1, keepdim=True) / count + 1e-6).sqrt()
    logits = slope * ((score - mean) / deviation - threshold)
    losses = F.binary_cross_entropy_with_logits(logits, odd, reduction="none")
    weight = (normal + 3 * odd) * (count > score.shape[-1] / 8)
    return (losses * weight).sum() / weight.sum().clamp_min(1)


def mean_cosine(features: Tensor) -> Tensor:
    """The mean cosine of random patch pairs: squared length of the mean unit vector, 0 when features spread evenly."""
    return F.normalize(features.flatten(0, 1), dim=-1).mean(0).square().sum()


def odd_mean_cosine(features: Tensor, coverage: Tensor) -> Tensor:
    """The mean cosine of random pairs of odd patches: kept small, not all marks look alike."""
    odd = (coverage.amax(-1, keepdim=True) > 0.5).float()
    mean = (F.normalize(features, dim=-1) * odd).sum((0, 1)) / odd.sum().clamp_min(1)
    return mean.square().sum()


@torch.no_grad()
def local_statistics(image: Tensor) -> Tensor:
    """(B, 3, S, S) to (B, N, 33): cell tones, contrast, edge strength, edge direction at two scales, per patch."""
    gray = image.mean(1, keepdim=True)
    tone = F.avg_pool2d(gray, 8)
    spread = (F.avg_pool2d(gray**2, 8) - tone**2).clamp_min(0).sqrt()
    padded = F.pad(gray, (8,) * 4, "reflect")
    wide = (F.avg_pool2d(padded**2, 24, 8) - F.avg_pool2d(padded, 24, 8) ** 2).clamp_min(0).sqrt()
    cells = F.pixel_unshuffle(F.avg_pool2d(gray, 2), 4) - tone
    parts = [tone, (spread + 0.01).log(), (wide + 0.01).log(), cells / (spread + 0.3 * wide + 0.02)]
    parts += [*edge_statistics(gray, 1), *edge_statistics(F.avg_pool2d(gray, 2), 2)]
    return torch.cat(parts, 1).flatten(2).transpose(1, 2)


def edge_statistics(gray: Tensor, scale: int) -> list[Tensor]:
    """Per patch: log gradient energy (1), its direction as a double angle (2), shares of four directions (4)."""
    padded = F.pad(gray, (1, 1, 1, 1), "reflect")
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    energy, angle = dx**2 + dy**2, torch.atan2(dy, dx)
    side = 8 // scale
    total = F.avg_pool2d(energy, side) + 1e-4
    double = torch.cat([energy * (2 * angle).cos(), energy * (2 * angle).sin()], 1)
    bins = torch.cat([energy.sqrt() * (angle - k * torch.pi / 4).cos().abs() ** 8 for k in range(4)], 1)
    return [total.log(), F.avg_pool2d(double, side) / total, F.avg_pool2d(bins, side) / total.sqrt()]
