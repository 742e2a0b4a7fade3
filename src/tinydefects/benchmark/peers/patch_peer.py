"""A method that scores the patches of a frozen teacher: all but its own scorer is shared, so only that is compared."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinydefects.benchmark.peers.patch_source import PatchFeatures, PatchSource
from tinydefects.sample import Prediction, Sample, mean_of_highest

Features = NDArray[np.float32]


class PatchScorer(Protocol):
    """What a method learns from patches and how it scores them."""

    @property
    def settings(self) -> Mapping[str, object]:
        """All that its scores depend on."""

    @property
    def size_bytes(self) -> int:
        """What it keeps to score."""

    def learn(self, images: Sequence[tuple[Features, Features]]) -> None:
        """From features (h, w, C) of the earlier and the later block of each training image."""

    def patch_scores(self, earlier: Features, later: Features) -> NDArray[np.float32]:
        """Features (B, h, w, C) of both blocks to scores (B, h, w); higher is more anomalous."""


class PatchPeer:
    """A scorer between the shared teacher and the shared way back to pixels; the image score is FBFT's."""

    def __init__(self, scorer: PatchScorer, source: PatchSource) -> None:
        self._scorer = scorer
        self._source = source

    @property
    def settings(self) -> Mapping[str, object]:
        return self._scorer.settings

    @property
    def size_bytes(self) -> int:
        return self._scorer.size_bytes

    def fit(self, samples: Sequence[Sample]) -> None:
        images = self._source.training(samples)
        self._scorer.learn([(one.earlier[0].numpy(), one.later[0].numpy()) for one in images])

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return [one for features in self._source.to_score(samples) for one in self._score(features)]

    def _score(self, features: PatchFeatures) -> list[Prediction]:
        clock = self._source.clock
        with clock("transfer"):
            earlier, later = features.earlier.cpu().numpy(), features.later.cpu().numpy()
        with clock("peer"):
            patch_scores = self._scorer.patch_scores(earlier, later)
        with clock("map"):
            maps = [features.grid.to_image(scores) for scores in patch_scores]
            return [Prediction(anomaly_map, mean_of_highest(anomaly_map)) for anomaly_map in maps]
