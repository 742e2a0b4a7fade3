"""A method that scores the patches of a frozen teacher: all but its own scorer is shared, so only that is compared."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinydefects.data.sample import Prediction, Sample
from tinydefects.methods.patch_source import Features, PatchSource, TrainingFeatures

Block = Literal["earlier", "later", "both"]


class PatchScorer(Protocol):
    """What a method learns from patches and how it scores them."""

    @property
    def settings(self) -> Mapping[str, object]:
        """All that its scores depend on."""

    @property
    def size_bytes(self) -> int:
        """What it keeps to score."""

    def learn(self, images: TrainingFeatures) -> None:
        """From features (h, w, C) of the earlier and the later block of each training image."""

    def patch_scores(self, earlier: Features, later: Features) -> Features:
        """Features (B, h, w, C) of both blocks to scores (B, h, w); higher is more anomalous."""


class PatchPeer:
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

    def _score(self, earlier: Tensor, later: Tensor) -> Features:
        clock = self._source.clock
        with clock("transfer"):
            earlier_array, later_array = earlier.cpu().numpy(), later.cpu().numpy()
        with clock("peer"):
            return self._scorer.patch_scores(earlier_array, later_array)


def chosen_block(earlier: Features, later: Features, block: Block) -> Features:
    """The features (..., C) of the named block, or (..., 2 C) of both side by side."""
    if block == "both":
        return np.concatenate([earlier, later], axis=-1)
    return earlier if block == "earlier" else later


def unit_length(features: Features) -> Features:
    """(..., C) divided by its length, so that distances compare directions; a vector of no length stays as it is."""
    length: NDArray[np.float32] = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.where(length > 0, length, np.float32(1)), dtype=np.float32)
