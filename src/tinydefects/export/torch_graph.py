"""The detector as one graph without Python: teacher up to its later block, students, and for one image size all else.

Three operations that runtimes answer differently are written as products with small matrices: the resize of the image,
the resize of the position embedding (both bicubic with antialiasing, which OpenVINO leaves out without a word) and the
way from patch scores to the map.
"""

import contextlib
import copy
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from tinydefects.data.sample import n_scored
from tinydefects.detector.detector import Detector
from tinydefects.detector.patch_grid import PatchGrid, Size
from tinydefects.detector.students import disagreement
from tinydefects.errors import MissingExtraError
from tinydefects.export.manifest import FLOAT32_PARTS, Precision


class PatchGraph(nn.Module):
    """Pixels (1, h * patch, w * patch, 3) uint8 to patch scores (1, h, w) float32; products in `width`."""

    mean: Tensor
    std: Tensor

    def __init__(self, detector: Detector, width: torch.dtype) -> None:
        super().__init__()
        teacher = detector.teacher
        self.vit: Any = copy.deepcopy(teacher.model).to("cpu", width)
        self.students = copy.deepcopy(detector.students).requires_grad_(False).to("cpu", width)
        self.blocks, self.patch, self.dim, self.width = list(teacher.blocks), teacher.patch_size, teacher.dim, width
        self.register_buffer("mean", torch.tensor(teacher.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(teacher.std).view(3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        rows, columns = pixels.shape[1] // self.patch, pixels.shape[2] // self.patch
        batch = (pixels.float().permute(0, 3, 1, 2) / 255.0 - self.mean) / self.std
        features = self.vit.forward_intermediates(
            batch.to(self.width),
            indices=self.blocks,
            norm=True,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        earlier, later = (block.reshape(1, rows, columns, self.dim) for block in features)
        expected = self.students(earlier, later)
        return disagreement(earlier.float(), later.float(), *(block.float() for block in expected))


class Resize(nn.Module):
    """An image (1, H, W, 3) uint8 to pixels (1, h * patch, w * patch, 3) in [0, 255], as `PatchGrid.to_pixels`.

    Pillow rounds to 8 bits after each of its two passes, columns first; so does this.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: PatchGrid) -> None:
        super().__init__()
        rows, columns = (torch.from_numpy(matrix.T.copy()) for matrix in grid.pixel_matrices())
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, image: Tensor) -> Tensor:
        channels = image.float().permute(0, 3, 1, 2)
        narrow = _to_8_bits(channels @ self.columns).transpose(2, 3)
        return _to_8_bits(narrow @ self.rows).permute(0, 3, 2, 1)


def _to_8_bits(values: Tensor) -> Tensor:
    """Rounded as Pillow does, halves upwards, and cut to [0, 255]."""
    return (values + 0.5).floor().clamp(0, 255)


class Draw(nn.Module):
    """Patch scores (1, h, w) to the map (1, H, W) and the image score (1,), as `PatchGrid.to_image`."""

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: PatchGrid) -> None:
        super().__init__()
        rows, columns = (torch.from_numpy(matrix.T.copy()) for matrix in grid.map_matrices(grid.patch))
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)
        self.n_scored = max(1, n_scored(grid.image_size[0] * grid.image_size[1]))

    def forward(self, patch_scores: Tensor) -> tuple[Tensor, Tensor]:
        anomaly_map = (patch_scores.transpose(1, 2) @ self.rows).transpose(1, 2) @ self.columns
        highest = anomaly_map.flatten(1).topk(self.n_scored, dim=1).values
        return anomaly_map, highest.mean(dim=1)


class WholePath(nn.Module):
    """An image (1, H, W, 3) uint8 to its map and score; for one image size."""

    def __init__(self, scorer: PatchGraph, grid: PatchGrid) -> None:
        super().__init__()
        self.scorer = scorer
        self.resize = Resize(grid)
        self.draw = Draw(grid)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        drawn: tuple[Tensor, Tensor] = self.draw(self.scorer(self.resize(image)))
        return drawn


def build_graph(detector: Detector, precision: Precision, image_size: Size | None) -> nn.Module:
    """Pixels of any size to patch scores, or for one `image_size` the image to map and score; in evaluation mode.

    Products are float16 for fp16 and float32 for all others.
    """
    scorer = PatchGraph(detector, torch.float16 if precision == "fp16" else torch.float32)
    graph = scorer if image_size is None else WholePath(scorer, detector.grid(image_size))
    return graph.eval()


def save_onnx(graph: nn.Module, path: Path, image_size: Size | None) -> None:
    """Write the graph as ONNX; nodes of the resize and of the drawing bear their part's name in front of their own.

    Raises:
        MissingExtraError: onnxscript is not installed.
    """
    if importlib.util.find_spec("onnxscript") is None:
        raise MissingExtraError("export to ONNX or OpenVINO", "export")
    with _traceable(graph):
        example, shapes = _example(graph, image_size)
        program: Any = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["pixels"] if image_size is None else ["image"],
            output_names=["patch_scores"] if image_size is None else ["anomaly_map", "score"],
            verbose=False,
        )
        for node in program.model.graph:
            part = _part_of(node.metadata_props.get("pkg.torch.onnx.name_scopes", ""))
            node.name = f"{part}.{node.name}" if part else node.name
        program.save(path)


def _example(graph: nn.Module, image_size: Size | None) -> tuple[Tensor, dict[str, dict[int, Any]] | None]:
    """An input to trace with, and which of its sides may change: by whole patches, two at least."""
    if image_size is not None:
        return torch.zeros((1, *image_size, 3), dtype=torch.uint8), None
    patch: Any = graph.patch
    rows, columns = (patch * torch.export.Dim(name, min=2, max=4096) for name in ("rows", "columns"))
    return torch.zeros((1, 5 * patch, 7 * patch, 3), dtype=torch.uint8), {"pixels": {1: rows, 2: columns}}


@contextlib.contextmanager
def _traceable(graph: nn.Module) -> Iterator[None]:
    """While the block runs, the ViT resizes its position embedding by products, and tracing is silent."""
    scorer: Any = getattr(graph, "scorer", graph)
    source = sys.modules[type(scorer.vit).__module__]
    with contextlib.ExitStack() as block:
        block.enter_context(torch.no_grad())
        block.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # torch and onnxscript warn about each other
        if hasattr(source, "resample_abs_pos_embed"):
            block.enter_context(mock.patch.object(source, "resample_abs_pos_embed", resample_positions))
        yield


def resample_positions(
    embedding: Tensor, new_size: Sequence[int], old_size: Sequence[int], num_prefix_tokens: int = 1
) -> Tensor:
    """Timm's `resample_abs_pos_embed` as two products: (1, n, C) for `old_size` patches to those of `new_size`."""
    prefix, grid = embedding[:, :num_prefix_tokens], embedding[:, num_prefix_tokens:]
    rows, columns = (_bicubic(old, new) for old, new in zip(old_size, new_size, strict=True))
    channels = embedding.shape[-1]
    grid = grid.float().reshape(1, old_size[0], old_size[1] * channels)
    tall = (rows @ grid).reshape(-1, old_size[1], channels)
    resampled = (columns.expand(tall.shape[0], -1, -1) @ tall).reshape(1, -1, channels)
    return torch.cat([prefix, resampled.to(embedding.dtype)], dim=1)


def _bicubic(old: int, new: int) -> Tensor:
    """Weights (1, new, old) of antialiased bicubic interpolation, as `F.interpolate(antialias=True)` has them."""
    step = old / new
    position = (torch.arange(new, dtype=torch.float32)[:, None] + 0.5) * step
    distance = (torch.arange(old, dtype=torch.float32)[None] + 0.5 - position) / torch.sym_max(step, 1.0)
    weights = _cubic(distance.abs())
    return (weights / weights.sum(dim=1, keepdim=True))[None]


def _cubic(distance: Tensor) -> Tensor:
    """Keys' kernel of parameter -0.5 for distances >= 0; zero from 2 on."""
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    return torch.where(distance < 1.0, near, torch.where(distance < 2.0, far, torch.zeros_like(distance)))


def _part_of(scopes: str) -> str:
    return next((part for part in FLOAT32_PARTS if f"'{part}'" in scopes), "")
