"""Teachers small enough for tests: a made-up one that counts its passes, and a real ViT of timm with seeded weights."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from tinydefects.detector.networks import load_timm
from tinydefects.detector.patch_grid import IMAGENET_MEAN, IMAGENET_STD
from tinydefects.detector.teacher import Teacher

TINY_VIT = "test_vit"  # of timm: 6 blocks, 64 channels, patches of 16 px, one class token, mean and std of 0.5


class CountingVit(nn.Module):
    """Mean colours of each patch, stretched to 12 channels by fixed random weights; `passes` counts the images."""

    def __init__(self, patch_size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.patch_size = patch_size
        self.passes = 0
        self.earlier = torch.randn(3, 12, generator=generator)
        self.later = torch.randn(12, 12, generator=generator)

    def forward_intermediates(self, batch: torch.Tensor, **_: object) -> tuple[torch.Tensor, torch.Tensor]:
        self.passes += len(batch)
        colours = F.avg_pool2d(batch, self.patch_size).flatten(2).transpose(1, 2)
        earlier = colours @ self.earlier + 0.5
        return earlier, torch.tanh(earlier @ self.later)


def counting_teacher(*, patch_size: int = 8, seed: int = 0) -> Teacher:
    return Teacher(
        name="counting",
        model=CountingVit(patch_size, seed),
        patch_size=patch_size,
        dim=12,
        blocks=(7, 11),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        fingerprint=f"{seed:064d}",
        device="cpu",
    )


def tiny_vit(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: nn.Module = load_timm().create_model(TINY_VIT, num_classes=0, dynamic_img_size=True)
        for weights in model.parameters():  # freshly made ViTs are close to the identity; these are not
            nn.init.normal_(weights, std=0.2)
    return model


def write_weights(model: nn.Module, path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return path
