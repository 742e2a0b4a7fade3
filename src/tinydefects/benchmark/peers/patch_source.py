"""The teacher's features of any sample, computed once for all methods that build on the same teacher and resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinydefects.benchmark.peers.peer import PeerInputs
from tinydefects.feature_cache import FeatureCache, FeatureFormat
from tinydefects.patch_grid import PatchGrid, image_size
from tinydefects.sample import Sample
from tinydefects.teacher import stack_inputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchFeatures:
    """The teacher's features of B images of one size, (B, h, w, C) float32 of both blocks, and their geometry."""

    grid: PatchGrid
    earlier: Tensor
    later: Tensor


class PatchSource:
    """Looks features up, or computes and keeps them; while the clock runs, it computes them stage by stage.

    Training features are kept in 16 bit, as FBFT's students train on them; those to be scored in 32 bit, so that a map
    does not depend on whether its features were looked up.
    """

    def __init__(self, inputs: PeerInputs) -> None:
        self.teacher = inputs.teacher()
        self.clock = inputs.clock
        self.resolution = inputs.resolution
        self.folder = inputs.features_folder
        self.limit_gb = inputs.features_limit_gb

    def training(self, samples: Sequence[Sample]) -> list[PatchFeatures]:
        """Features to learn from, one image each."""
        return [self._stored(sample.image(), "float16") for sample in samples]

    def to_score(self, samples: Sequence[Sample]) -> list[PatchFeatures]:
        """Features to be scored: one image each; while the clock runs, those of equal size in one batch."""
        if not self.clock.running:
            return [self._stored(sample.image(), "float32") for sample in samples]
        with self.clock("decode"):
            images = [sample.image() for sample in samples]
        sizes = dict.fromkeys(image_size(image) for image in images)
        return [self._computed([image for image in images if image_size(image) == size]) for size in sizes]

    def _grid(self, image: NDArray[np.uint8]) -> PatchGrid:
        return PatchGrid.proportional(image_size(image), patch=self.teacher.patch_size, resolution=self.resolution)

    def _stored(self, image: NDArray[np.uint8], feature_format: FeatureFormat) -> PatchFeatures:
        limit_bytes = int(self.limit_gb * 1e9)
        cache = FeatureCache(self.folder, self.teacher, feature_format=feature_format, limit_bytes=limit_bytes)
        grid = self._grid(image)
        earlier, later = cache.read(image, grid)
        return PatchFeatures(grid=grid, earlier=earlier, later=later)

    def _computed(self, images: Sequence[NDArray[np.uint8]]) -> PatchFeatures:
        grid, teacher = self._grid(images[0]), self.teacher
        with self.clock("resize"):
            patches = stack_inputs([grid.to_patches(image, teacher.mean, teacher.std) for image in images])
        with self.clock("transfer"):
            patches = patches.to(teacher.device)
        with self.clock("teacher"):
            earlier, later = teacher.features(patches)
        return PatchFeatures(grid=grid, earlier=earlier, later=later)
