"""The teacher's features of any sample, computed once for all methods that build on the same teacher and resolution."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinydefects.benchmark.peers.peer import PeerInputs
from tinydefects.detector_settings import Preset
from tinydefects.errors import TrainingError
from tinydefects.feature_cache import FeatureCache, FeatureFormat
from tinydefects.patch_grid import PatchGrid, Size, image_size
from tinydefects.sample import Prediction, Sample
from tinydefects.teacher import Teacher

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchFeatures:
    """The teacher's features of B images of one size, (B, h, w, C) float32 of both blocks, and their geometry.

    `places` says which of the asked-for samples they are.
    """

    places: tuple[int, ...]
    grid: PatchGrid
    earlier: Tensor
    later: Tensor


class TrainingFeatures:
    """Features (h, w, C) float32 of the earlier and the later block of each training image, read from disk one by one.

    Can be gone through as often as a method likes; one image is in memory at a time.
    """

    def __init__(self, cache: FeatureCache, shapes: Sequence[Size]) -> None:
        self._cache = cache
        self._shapes = tuple(shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[tuple[Features, Features]]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> tuple[Features, Features]:
        ((earlier, later),) = self._cache.batches([place], images=1)
        shape = self._shapes[place]
        return earlier.numpy().reshape(*shape, -1), later.numpy().reshape(*shape, -1)

    @property
    def n_patches(self) -> int:
        """Of all images together."""
        return sum(height * width for height, width in self._shapes)


class PatchSource:
    """Looks features up, or computes and keeps them; while the clock runs, it computes them stage by stage.

    Training features are kept in 16 bit, as FBFT's students train on them; those to be scored in 32 bit, so that a map
    does not depend on whether its features were looked up. `preset` is FBFT's: `published` has its own geometry.
    """

    def __init__(self, inputs: PeerInputs, *, teacher: Teacher | None = None, preset: Preset = "default") -> None:
        self.teacher = teacher or inputs.teacher()
        self.clock = inputs.clock
        self._resolution = inputs.resolution
        self._folder = inputs.features_folder
        self._limit_bytes = int(inputs.features_limit_gb * 1e9)
        self._scored = self._cache("float32")
        self._divide = PatchGrid.published if preset == "published" else PatchGrid.proportional

    def training(self, samples: Sequence[Sample]) -> TrainingFeatures:
        """Features to learn from.

        Raises:
            TrainingError: no samples, or no room for the features.
        """
        if not samples:
            raise TrainingError("there are no training images: give defect-free ones, a handful at least")
        cache, shapes = self._cache("float16"), []
        for sample in samples:
            image = sample.image()
            grid = self._grid(image)
            cache.add(image, grid)
            shapes.append(grid.shape)
        return TrainingFeatures(cache, shapes)

    def predictions(
        self, samples: Sequence[Sample], score: Callable[[PatchFeatures], Sequence[Prediction]]
    ) -> list[Prediction]:
        """What `score` makes of the features of each group of images: one prediction a sample, in their order."""
        found: dict[int, Prediction] = {}
        for features in self.to_score(samples):
            found.update(zip(features.places, score(features), strict=True))
        return [found[place] for place in range(len(samples))]

    def to_score(self, samples: Sequence[Sample]) -> Iterator[PatchFeatures]:
        """Features to be scored: one image at a time; while the clock runs, those of equal size in one batch."""
        if self.clock.running:
            yield from self._computed(samples)
            return
        for place, sample in enumerate(samples):
            image = sample.image()
            grid = self._grid(image)
            earlier, later = self._scored.read(image, grid)
            yield PatchFeatures(places=(place,), grid=grid, earlier=earlier, later=later)

    def _computed(self, samples: Sequence[Sample]) -> Iterator[PatchFeatures]:
        with self.clock("decode"):
            images = [sample.image() for sample in samples]
        for size in dict.fromkeys(image_size(image) for image in images):
            places = tuple(place for place, image in enumerate(images) if image_size(image) == size)
            grid = self._grid(images[places[0]])
            with self.clock("resize"):
                pixels = np.stack([grid.to_pixels(images[place]) for place in places])
            with self.clock("transfer"):
                patches = self.teacher.normalise(pixels)
            with self.clock("teacher"):
                earlier, later = self.teacher.features(patches)
            yield PatchFeatures(places=places, grid=grid, earlier=earlier, later=later)

    def _grid(self, image: NDArray[np.uint8]) -> PatchGrid:
        return self._divide(image_size(image), patch=self.teacher.patch_size, resolution=self._resolution)

    def _cache(self, feature_format: FeatureFormat) -> FeatureCache:
        return FeatureCache(self._folder, self.teacher, feature_format=feature_format, limit_bytes=self._limit_bytes)
