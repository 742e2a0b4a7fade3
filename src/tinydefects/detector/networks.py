"""The networks that a teacher can be: those of timm, behind one door, and the architecture of the built-in one.

The built-in teacher is a small ViT of 8 px patches that knows no positions. Without position embedding and class token
a patch is judged by what else the image shows, never by where it lies, so the model runs at any height and width that
are multiples of 8. Weights: ``weights/builtin.safetensors``; how they came about: ``training/`` and
``docs/teacher_card.md``. Input: RGB in [0, 1] minus ImageNet mean, divided by ImageNet std.
"""

import sys
from itertools import pairwise
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor, nn

from tinydefects.privacy import silence_reports

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_keep_alive: list[object] = []  # torch forgets the declared operators when their library object dies
PATCH_SIZE = 8
EMBED_DIM = 192
DEPTH = 6
BLOCK_PAIR = (3, 5)  # earlier and later block (0-based) whose features the two students translate into each other


def load_timm() -> ModuleType:
    """The timm module, importable also beside a torchvision built for another torch."""
    silence_reports()  # it brings the client of the hub
    _repair_torchvision()
    import timm

    return timm


def _repair_torchvision() -> None:
    """Import torchvision; where its operators are missing, declare the two it asks for and import it again."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()
        import torchvision  # noqa: F401


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)
    _keep_alive.append(library)


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every position: (B, C, H, W) to (B, C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NeighbourBlock(nn.Module):
    """Residual 5x5 depthwise convolution and MLP: the only place where a patch learns which patches lie beside it."""

    def __init__(self, channels: int, kernel: int = 5, expansion: int = 2) -> None:
        super().__init__()
        self.pad = kernel // 2
        self.depthwise = nn.Conv2d(channels, channels, kernel, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, channels * expansion)
        self.reduce = nn.Linear(channels * expansion, channels)

    def forward(self, grid: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, h, w)."""
        padded = F.pad(grid, (self.pad,) * 4, mode="replicate")
        mixed = self.norm(self.depthwise(padded).permute(0, 2, 3, 1))
        change: Tensor = self.reduce(F.gelu(self.expand(mixed)))
        return grid + change.permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Patch embedding by overlapping convolutions: (B, 3, H, W) to (B, H/8, W/8, C).

    Three 4x4 convolutions of stride 2 see 22 px around the exact centre of each patch. The image is mirrored by the
    missing 7 px once, at the input, so that no zeros and hence no border artefacts enter.
    """

    def __init__(self, img_size: int = 128, in_chans: int = 3, embed_dim: int = EMBED_DIM, **_: object) -> None:
        super().__init__()
        widths = (in_chans, embed_dim // 4, embed_dim // 2, embed_dim)
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, kernel_size=4, stride=2), ChannelNorm(wide), nn.GELU()]
        self.convolutions = nn.Sequential(*layers[:-1])
        self.neighbours = nn.Sequential(NeighbourBlock(embed_dim), NeighbourBlock(embed_dim))
        self.grid_size = (img_size // PATCH_SIZE, img_size // PATCH_SIZE)  # timm asks; nothing depends on it
        self.num_patches = self.grid_size[0] * self.grid_size[1]

    def forward(self, image: Tensor) -> Tensor:
        grid: Tensor = self.neighbours(self.convolutions(F.pad(image, (7, 7, 7, 7), mode="reflect")))
        return grid.permute(0, 2, 3, 1).contiguous()

    def dynamic_feat_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Patches (h, w) of an image of (H, W) pixels."""
        return image_size[0] // PATCH_SIZE, image_size[1] // PATCH_SIZE

    def feat_ratio(self) -> int:
        return PATCH_SIZE


def build_builtin_vit() -> nn.Module:
    """The built-in teacher with random weights, a timm VisionTransformer of 2.5 M parameters."""
    load_timm()
    from timm.models.vision_transformer import VisionTransformer

    model: nn.Module = VisionTransformer(
        img_size=128,
        patch_size=PATCH_SIZE,
        embed_dim=EMBED_DIM,
        depth=DEPTH,
        num_heads=3,
        mlp_ratio=2,
        num_classes=0,
        global_pool="",
        class_token=False,
        pos_embed="none",
        dynamic_img_size=True,
        embed_layer=ConvStem,
    )
    return model
