"""Methods that score the patches of a frozen teacher: all but their own scorer is shared, so only that is compared.

The teacher's features of any sample are computed once for all that build on the same teacher, blocks and resolution.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinydefects.data.sample import Prediction, Sample
from tinydefects.detector.features import FeatureCache, FeatureFormat
from tinydefects.detector.passes import Mosaic, PassPlan
from tinydefects.detector.patch_grid import Size, image_size
from tinydefects.detector.settings import DetectorSettings, image_score, require_scored
from tinydefects.errors import TrainingError
from tinydefects.methods.method import INPUT, MethodInputs, read_settings

Features = NDArray[np.float32]
Score = Callable[[list[Tensor]], Features]  # features (B, h, w, C) of each block to scores (B, h, w)
Block = Literal["earlier", "later", "both"]  # of those that are read: the first, the last, or all side by side


class TrainingFeatures:
    """Of each training image a list of features (h, w, C) float32, one for each block, read from disk one by one.

    Can be gone through as often as a method likes; one image is in memory at a time. With tiles or shifts each pass
    of the teacher is an image here.
    """

    def __init__(self, read: Callable[[int], list[Features]], shapes: Sequence[Size]) -> None:
        """`read` gives the features of the image at a place from 0; `shapes` are its patches (h, w), image by image."""
        self._read = read
        self._shapes = tuple(shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def __iter__(self) -> Iterator[list[Features]]:
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place: int) -> list[Features]:
        return self._read(place)

    @property
    def n_patches(self) -> int:
        """Of all images together."""
        return sum(height * width for height, width in self._shapes)


class PatchSource:
    """Looks features up, or computes and keeps them; while the clock runs, it computes them stage by stage.

    Training features are kept in 16 bit, as FBFT's students train on them; those to be scored in 32 bit, so that a map
    does not depend on whether its features were looked up. In which passes the teacher sees an image, and how their
    scores become one map, is the detector's: `settings` says it, by default what stands behind the method's name.
    """

    def __init__(self, inputs: MethodInputs, *, settings: DetectorSettings | None = None) -> None:
        self.settings = settings or read_settings(inputs.options, resolution=inputs.resolution)
        teacher = inputs.teacher()
        if self.settings.blocks is not None:
            teacher = teacher.with_blocks(self.settings.blocks)
        self.teacher = replace(teacher, precision=self.settings.precision)
        self.clock = inputs.clock
        self._folder = inputs.features_folder
        self._limit_bytes = int(inputs.features_limit_gb * 1e9)
        self._scored = self._cache("float32")

    @property
    def named_settings(self) -> dict[str, object]:
        """Those of how the teacher sees an image that were named, for the record of a method."""
        return self.settings.model_dump(include=self.settings.model_fields_set & set(INPUT))

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
            for pixels, grid in self._plan(image).views(image):
                cache.add(pixels, grid)
                shapes.append(grid.shape)

        def read(place: int) -> list[Features]:
            (blocks,) = cache.batches([place], images=1)
            return [block.cpu().numpy().reshape(*shapes[place], -1) for block in blocks]

        return TrainingFeatures(read, shapes)

    def keep(self, sample: Sample) -> None:
        """Compute and keep the features to be scored of a sample, unless they are there."""
        image = sample.image()
        for pixels, grid in self._plan(image).views(image):
            self._scored.read(pixels, grid)

    def predictions(self, samples: Sequence[Sample], score: Score) -> list[Prediction]:
        """One prediction a sample, in their order; `score` makes patch scores (B, h, w) of features (B, h, w, C).

        Features are those of one pass over one image; while the clock runs, over all images of one size.

        Raises:
            ScoreError: in the preset `published`, an image has fewer than 1,000 pixels.
        """
        mosaics = self._computed(samples, score) if self.clock.running else self._looked_up(samples, score)
        return [self._prediction(mosaic) for mosaic in mosaics]

    def _looked_up(self, samples: Sequence[Sample], score: Score) -> Iterator[Mosaic]:
        for sample in samples:
            image = self._image(sample)
            mosaic = Mosaic(self._plan(image))
            for number, (pixels, grid) in enumerate(mosaic.plan.views(image)):
                mosaic.add(number, score(self._scored.read(pixels, grid))[0])
            yield mosaic

    def _computed(self, samples: Sequence[Sample], score: Score) -> list[Mosaic]:
        with self.clock("decode"):
            images = [self._image(sample) for sample in samples]
        mosaics = [Mosaic(self._plan(image)) for image in images]
        for size in dict.fromkeys(image_size(image) for image in images):
            places = [place for place, image in enumerate(images) if image_size(image) == size]
            views = [mosaics[place].plan.views(images[place]) for place in places]
            for number in range(len(mosaics[places[0]].plan.windows)):
                with self.clock("resize"):
                    pixels = np.stack([grid.to_pixels(seen) for seen, grid in map(next, views)])
                with self.clock("transfer"):
                    patches = self.teacher.normalise(pixels)
                with self.clock("teacher"):
                    blocks = self.teacher.features(patches)
                for place, scores in zip(places, score(blocks), strict=True):
                    mosaics[place].add(number, scores)
        return mosaics

    def _prediction(self, mosaic: Mosaic) -> Prediction:
        with self.clock("map"):
            anomaly_map = mosaic.plan.grid.to_image(mosaic.scores, stride=self.settings.stride)
            return Prediction(anomaly_map, image_score(anomaly_map, preset=self.settings.preset))

    def _image(self, sample: Sample) -> NDArray[np.uint8]:
        image = sample.image()
        require_scored(image_size(image), preset=self.settings.preset, name=str(sample.image_path))
        return image

    def _plan(self, image: NDArray[np.uint8]) -> PassPlan:
        return self.settings.passes(image_size(image), patch=self.teacher.patch_size)

    def _cache(self, feature_format: FeatureFormat) -> FeatureCache:
        return FeatureCache(self._folder, self.teacher, feature_format=feature_format, limit_bytes=self._limit_bytes)


class PatchScorer(Protocol):
    """What a method learns from patches and how it scores them."""

    @property
    def settings(self) -> Mapping[str, object]:
        """All that its scores depend on."""

    @property
    def size_bytes(self) -> int:
        """What it keeps to score."""

    def learn(self, images: TrainingFeatures) -> None:
        """From each training image's list of features (h, w, C), one for each block that is read."""

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        """Features (B, h, w, C) of each block to scores (B, h, w); higher is more anomalous."""


class PatchMethod:
    """A scorer between the shared teacher and the shared way back to pixels; the image score is FBFT's."""

    def __init__(self, scorer: PatchScorer, source: PatchSource) -> None:
        self._scorer = scorer
        self._source = source

    @property
    def settings(self) -> Mapping[str, object]:
        return {**self._scorer.settings, **self._source.named_settings}

    @property
    def size_bytes(self) -> int:
        return self._scorer.size_bytes

    def fit(self, samples: Sequence[Sample]) -> None:
        self._scorer.learn(self._source.training(samples))

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return self._source.predictions(samples, self._score)

    def _score(self, blocks: list[Tensor]) -> Features:
        clock = self._source.clock
        with clock("transfer"):
            arrays = [block.cpu().numpy() for block in blocks]
        with clock("method"):
            return self._scorer.patch_scores(arrays)


def chosen_block(blocks: Sequence[Features], block: Block) -> Features:
    """The features (..., C) of the first or the last block, or (..., N C) of all N side by side."""
    if block == "both":
        return np.concatenate(blocks, axis=-1)
    return blocks[0] if block == "earlier" else blocks[-1]


def unit_length(features: Features) -> Features:
    """(..., C) divided by its length, so that distances compare directions; a vector of no length stays as it is."""
    length: NDArray[np.float32] = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, np.float32(1)), dtype=np.float32)
