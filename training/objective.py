"""What the teacher is taught: odd marks, telling surfaces apart, local statistics, evenly spread features."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS = 16  # coverage cells in a patch
KIND_WEIGHTS = (0.3, 1.0, 1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Drawn crops as tensors: image (B, 3, S, S) normalised, the truth per patch with N = (S/8)^2."""

    image: Tensor
    coverage: Tensor  # (B, N, 16)
    kind: Tensor  # (B, N)
    surface: Tensor  # (B, N), -1 where mixed
    material: Tensor  # (B, N)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """How much each part of the objective counts."""

    odd: float = 1.0
    early_odd: float = 0.4
    kind: float = 0.2
    surface: float = 0.15
    statistics: float = 0.5
    spread: float = 1.0
    apart: float = 0.5
    odd_spread: float = 0.3


class Heads(nn.Module):
    """Linear read-outs on the features of both blocks; thrown away after training."""

    def __init__(self, channels: int, n_kinds: int, n_statistics: int = 33) -> None:
        super().__init__()
        self.odd = nn.Linear(channels, CELLS)
        self.early_odd = nn.Linear(channels, CELLS)
        self.kind = nn.Linear(channels, n_kinds)
        self.surface = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, 64))
        self.statistics = nn.Linear(channels, n_statistics)
        self.scale = nn.BatchNorm1d(n_statistics, affine=False)
        for layer in (self.odd, self.early_odd):
            nn.init.constant_(layer.bias, -3.0)


def objective(
    earlier: Tensor, later: Tensor, heads: Heads, batch: Batch, weights: Weights
) -> tuple[Tensor, dict[str, float]]:
    """The weighted loss of two feature maps (B, N, C), both after the final norm, and its parts by name."""
    targets = heads.scale(local_statistics(batch.image).flatten(0, 1))
    parts = {
        "odd": coverage_loss(heads.odd(later), batch.coverage),
        "early_odd": coverage_loss(heads.early_odd(earlier), batch.coverage),
        "kind": F.cross_entropy(heads.kind(later).flatten(0, 1), batch.kind.flatten(), later.new_tensor(KIND_WEIGHTS)),
        "surface": surface_loss(heads.surface(later), batch),
        "statistics": F.smooth_l1_loss(heads.statistics(earlier).flatten(0, 1), targets),
        "spread": mean_cosine(earlier) + mean_cosine(later),
        "apart": odd_cosine(earlier, batch.coverage) + odd_cosine(later, batch.coverage),
        "odd_spread": odd_mean_cosine(earlier, batch.coverage) + odd_mean_cosine(later, batch.coverage),
    }
    total = sum((getattr(weights, name) * part for name, part in parts.items()), later.new_zeros(()))
    return total, {name: float(part.detach()) for name, part in parts.items()}


def coverage_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy, odd cells counted three times, plus 1 - soft Dice over the whole batch."""
    entropy = F.binary_cross_entropy_with_logits(logits, coverage, pos_weight=logits.new_tensor(3.0))
    probability = logits.sigmoid()
    overlap = (2 * (probability * coverage).sum() + 1) / ((probability**2).sum() + (coverage**2).sum() + 1)
    return 3 * entropy + 0.5 * (1 - overlap)


def surface_loss(projected: Tensor, batch: Batch, per_crop: int = 24, temperature: float = 0.1) -> Tensor:
    """Supervised contrast: patches of one surface in one crop belong together, odd patches to nothing.

    The same material in another crop is neither friend nor foe.
    """
    b, n, _ = projected.shape
    picked = torch.rand(b, n, device=projected.device).topk(per_crop).indices
    vectors = torch.gather(projected, 1, picked[..., None].expand(-1, -1, projected.shape[-1]))
    features = F.normalize(vectors, dim=-1).flatten(0, 1)
    surface, material = (torch.gather(ids, 1, picked).flatten() for ids in (batch.surface, batch.material))
    odd = torch.gather(batch.coverage.amax(-1), 1, picked).flatten() > 0.2
    crop = torch.arange(b, device=projected.device).repeat_interleave(per_crop)
    usable = (surface >= 0) & ~odd
    same_crop, itself = crop[:, None] == crop[None], torch.eye(len(crop), dtype=torch.bool, device=crop.device)
    friends = same_crop & (surface[:, None] == surface[None]) & usable[:, None] & usable[None] & ~itself
    ignored = itself | (~same_crop & (material[:, None] == material[None])) | (same_crop & (surface < 0)[None])
    log_share = (features @ features.T / temperature).masked_fill(ignored, -1e4).log_softmax(-1)
    anchors = friends.any(-1)
    return -((log_share * friends).sum(-1)[anchors] / friends.sum(-1)[anchors]).mean()


def mean_cosine(features: Tensor) -> Tensor:
    """The mean cosine of random patch pairs: squared length of the mean unit vector, 0 when features spread evenly."""
    return F.normalize(features.flatten(0, 1), dim=-1).mean(0).square().sum()


def odd_mean_cosine(features: Tensor, coverage: Tensor) -> Tensor:
    """The mean cosine of random pairs of odd patches: kept small, not all marks look alike."""
    odd = F.normalize(features[coverage.amax(-1) > 0.5], dim=-1)
    return (odd.sum(0) / max(1, len(odd))).square().sum()


def odd_cosine(features: Tensor, coverage: Tensor) -> Tensor:
    """The mean positive cosine between odd and normal patches of a crop.

    Kept small, students that learnt on normal patches fail on odd ones.
    """
    units, strongest = F.normalize(features, dim=-1), coverage.amax(-1)
    pairs = (strongest > 0.5)[:, :, None] & (strongest < 0.02)[:, None]
    cosines = (units @ units.mT).clamp_min(0)
    return (cosines * pairs).sum() / pairs.sum().clamp_min(1)


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
