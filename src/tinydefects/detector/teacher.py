"""The teacher: a frozen ViT that describes every patch of an image, once in each of the blocks that are read.

Three sources of weights: the built-in teacher, a file, or the hub (downloaded once, then read from its cache). All
three are matched key by key, so a file for another architecture never loads in part, and read as numbers alone: no
pickle in them is run. Which file of the hub it is follows from the name in timm, never from the name itself.
"""

import hashlib
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import getproxies

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tinydefects.detector.devices import devices_here, require_device
from tinydefects.detector.networks import BLOCK_PAIR, build_builtin_vit, load_timm
from tinydefects.detector.patch_grid import IMAGENET_MEAN, IMAGENET_STD, normalise
from tinydefects.detector.precision import arithmetic
from tinydefects.detector.settings import BUILTIN, PLAIN_NAMES, Precision, is_plain_name
from tinydefects.errors import TeacherError
from tinydefects.privacy import OFFLINE, announce, is_offline

THREE_WAYS_OUT = (
    "connect once to the hub (without --offline), give a weights file (teacher_weights, --teacher-weights FILE) "
    "or take the built-in teacher (--teacher builtin)"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Teacher:
    """A frozen ViT and the blocks that are read from it.

    Attributes:
        name: `builtin` or a timm model name.
        patch_size: pixels; inputs are multiples of it in both directions.
        dim: channels C of the features.
        blocks: one or more, ascending, counted from 0.
        mean: of R, G, B in [0, 1], subtracted from the input; `std`: what it is then divided by.
        fingerprint: sha256 over name, blocks, normalisation and every weight.
        device: where it runs.
        precision: of its products, see `precision.arithmetic`; its features are float32 in any case.
        compiled: whether torch compiles it, anew for the first sizes it sees: half a minute each, a little quicker
            afterwards, equal but for the last digits.
    """

    name: str
    model: nn.Module
    patch_size: int
    dim: int
    blocks: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    device: str
    precision: Precision = "float32"
    compiled: bool = False

    def normalise(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Images (B, H, W, 3) at the teacher's size as its input (B, 3, H, W), on its device."""
        return normalise(pixels, self.mean, self.std, device=self.device)

    @torch.inference_mode()
    def features(self, batch: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W) to the patch tokens (B, h, w, C) of each block, in one pass up to the last.

        All carry the final norm of the ViT; class and register tokens are left out.

        Raises:
            TeacherError: H or W is not a multiple of the patch size.
        """
        height, width = batch.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise TeacherError(
                f"{self.name} reads multiples of {self.patch_size} px, this input is {height} x {width}; "
                "PatchGrid.to_patches() makes inputs that fit"
            )
        shape = (len(batch), height // self.patch_size, width // self.patch_size, self.dim)
        with arithmetic(self.precision, self.device):
            blocks = self._read_blocks(batch.to(self.device, non_blocking=True))
        return [block.float().reshape(shape) for block in blocks]

    def with_blocks(self, blocks: Sequence[int]) -> "Teacher":
        """The same weights, read at other blocks.

        Raises:
            TeacherError: it has no such blocks, or they are not ascending.
        """
        if tuple(blocks) == self.blocks:
            return self
        other = freeze_teacher(self.name, self.model, blocks=blocks, device=self.device)
        return replace(other, precision=self.precision, compiled=self.compiled)

    def _read_blocks(self, batch: Tensor) -> Sequence[Tensor]:
        read: Any = self.model.forward_intermediates
        options = {"norm": True, "stop_early": True, "output_fmt": "NLC", "intermediates_only": True}
        if not self.compiled:
            return list(read(batch, indices=list(self.blocks), **options))
        try:
            compiled: Any = torch.compile(read)
            return list(compiled(batch, indices=list(self.blocks), **options))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise TeacherError(
                f"{self.name}: torch cannot compile it here ({_first_line(error)}); install a C++ compiler and "
                "keep blanks out of the paths of torch and of TMPDIR, or leave out compiled (--compile)"
            ) from error


def load_teacher(
    name: str, *, weights: Path | None = None, blocks: Sequence[int] | None = None, device: str | None = None
) -> Teacher:
    """The teacher of that name with its weights from `weights`, from the package (`builtin`) or from the hub.

    Args:
        name: `builtin` or any ViT of timm, written as timm does; no address, no path.
        weights: a .safetensors file, or a .pth in timm's or in the DINOv2 authors' key names.
        blocks: one or more, ascending, from 0; None is (7, 11) of 12 blocks and the same places at other depths.
        device: None is cuda, mps or cpu, whichever comes first.

    Raises:
        TeacherError: no such ViT, no weights to be had, weights that do not belong to it, or no such blocks.
        TinyDefectsError: no such device.
    """
    if not is_plain_name(name):
        raise TeacherError(f"{name}: {PLAIN_NAMES}; a weights file goes to teacher_weights (--teacher-weights FILE)")
    require_device(device)
    model = build_builtin_vit() if name == BUILTIN else _build_timm_vit(name)
    if name == BUILTIN and weights is None:
        with as_file(files("tinydefects") / "detector" / "weights" / "builtin.safetensors") as shipped:
            _load_weights(model, shipped, name)
    else:
        _load_weights(model, weights or _weights_from_hub(model, name), name)
    if blocks is None:
        blocks = BLOCK_PAIR if name == BUILTIN else default_blocks(_depth(model))
    return freeze_teacher(name, model, blocks=blocks, device=device)


def read_architecture(name: str, *, weights: Path | None = None) -> tuple[int, int]:
    """Patch size in pixels and channels C of the teacher of that name; no weights are read, none are looked for.

    Raises:
        TeacherError: no such ViT, or `weights` are named and are no file.
    """
    with torch.device("meta"):  # the shapes of a model without its numbers
        model: Any = build_builtin_vit() if name == BUILTIN else _build_timm_vit(name)
    if weights is not None:
        _require_file(weights, name)
    return int(model.patch_embed.feat_ratio()), int(model.embed_dim)


def freeze_teacher(name: str, model: Any, *, blocks: Sequence[int], device: str | None = None) -> Teacher:  # noqa: ANN401
    """A ViT in timm's form, weights and all, as a teacher: float32, in evaluation mode, without gradients.

    Raises:
        TeacherError: it has no such blocks, or they are not ascending.
    """
    blocks, depth = tuple(blocks), _depth(model)
    if not blocks or list(blocks) != sorted({*blocks} & {*range(depth)}):
        raise TeacherError(
            f"{name} has blocks 0 to {depth - 1}: give one or more of them in ascending order, not "
            f"{'-'.join(map(str, blocks)) or 'none'}"
        )
    device = device or best_device()
    model = model.float().eval().requires_grad_(False)
    config = getattr(model, "pretrained_cfg", None) or {}
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if name == BUILTIN else (config["mean"], config["std"])
    fingerprint = _fingerprint(model, f"{name.split('.')[0]} {blocks} {mean} {std}")
    return Teacher(
        name=name,
        model=model.to(device),
        patch_size=int(model.patch_embed.feat_ratio()),
        dim=int(model.embed_dim),
        blocks=blocks,
        mean=tuple(mean),
        std=tuple(std),
        fingerprint=fingerprint,
        device=device,
    )


def default_blocks(depth: int) -> tuple[int, int]:
    """Two thirds up and the last block, from 0: the published (7, 11) of 12 at any depth."""
    return max(0, round(depth * 8 / 12) - 1), depth - 1


def best_device() -> str:
    """Cuda, mps or cpu, the first there is."""
    present = devices_here()
    return next(device for device in ("cuda", "mps", "cpu") if device in present)


def _build_timm_vit(name: str) -> Any:  # noqa: ANN401
    """The architecture with random weights, able to read any multiple of its patch size."""
    try:
        model = load_timm().create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        is_vit = hasattr(model, "blocks") and hasattr(model, "num_prefix_tokens")
    except Exception as error:  # unknown name, or no ViT: timm raises as it comes
        raise TeacherError(
            f"{name}: timm cannot build it as a ViT ({_first_line(error)}); see timm.list_models('vit_*')"
        ) from error
    if not is_vit or isinstance(model.norm, nn.Identity):
        raise TeacherError(f"{name} is no plain ViT with a final norm over its patches; see timm.list_models('vit_*')")
    return model


def _depth(model: Any) -> int:  # noqa: ANN401
    return len(model.blocks)


def _weights_from_hub(model: Any, name: str) -> Path:  # noqa: ANN401
    """The file in the hub's local cache, downloaded if it is not there yet: said before, and never offline."""
    import huggingface_hub
    from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE

    repository, _, revision = (model.pretrained_cfg.get("hf_hub_id") or "").partition("@")
    if not repository:
        raise TeacherError(f"{name}: timm knows no pretrained weights of it; {THREE_WAYS_OUT}")
    file = "model.safetensors"
    cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision or None)
    if isinstance(cached, str):
        return Path(cached)
    if is_offline():
        raise TeacherError(
            f"{name}: its weights are not in {HF_HUB_CACHE}, and --offline ({OFFLINE}, HF_HUB_OFFLINE) forbids to "
            f"fetch them; {THREE_WAYS_OUT}"
        )
    host = urlparse(ENDPOINT).hostname
    size_mb = sum(value.numel() * value.element_size() for value in model.state_dict().values()) / 1e6
    announce(f"{name}: fetching its weights, about {size_mb:.0f} MB, from {host} ({repository}) into {HF_HUB_CACHE}")
    try:
        if not getproxies():  # the hub's client retries for a minute before it admits that there is no network
            socket.getaddrinfo(host, 443)
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision or None))
    except Exception as error:  # no network, no such file, full disk: the hub's client raises as it comes
        raise TeacherError(f"{name}: no pretrained weights ({_first_line(error)}); {THREE_WAYS_OUT}") from error


def _load_weights(model: Any, path: Path, name: str) -> None:  # noqa: ANN401
    """Fill the model from a file, all of it or not at all; a classification head in the file is passed over."""
    _require_file(path, name)
    load_timm()
    from timm.models import load_state_dict

    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        state = load_state_dict(str(path), use_ema=False, weights_only=True)
        state = state if convert is None or name == BUILTIN else convert(state, model)
        found = {key: tuple(value.shape) for key, value in state.items() if not key.startswith("head.")}
    except Exception as error:  # truncated, no checkpoint at all, or laid out as no ViT is
        if "weights_only" in str(error):
            raise TeacherError(
                f"{path}: not readable as weights of {name}, because it is a pickle of more than numbers, which could "
                "run code; convert it to .safetensors where you trust it"
            ) from error
        raise TeacherError(
            f"{path}: not readable as weights of {name} ({_first_line(error)}); copy it again"
        ) from error
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    if wrong:
        raise TeacherError(
            f"{path}: not the weights of {name}: {wrong[0]} is {found.get(wrong[0], 'missing')} instead of "
            f"{expected.get(wrong[0], 'absent')} ({len(wrong)} differ); name the teacher they are for"
        )
    model.load_state_dict({key: state[key].float() for key in expected})


def _require_file(path: Path, name: str) -> None:
    if not path.is_file():
        raise TeacherError(f"{path}: no such weights file for {name}; {THREE_WAYS_OUT}")


def _fingerprint(model: nn.Module, description: str) -> str:
    digest = hashlib.sha256(description.encode())
    for key, weights in sorted(model.state_dict().items()):
        digest.update(f"{key} {tuple(weights.shape)}".encode())
        digest.update(weights.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
