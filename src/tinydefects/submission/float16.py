"""Scores in 16 bits: how they get there, and what is lost on the way."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map16 = NDArray[np.float16]
N_VALUES = 2**16
ENOUGH_LEVELS = 256  # distinct scores above the threshold below which ties are worth a warning
HARMLESS_SHARE = 0.001  # of all pixels may become 0 without a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """`(score - offset) * factor`: never turns an order around, and chosen from validation images alone."""

    offset: float = 0.0
    factor: float = 1.0

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """Brings [low, high] to [0, 1], where float16 has 15,361 values; scores far outside still fit."""
        return cls(offset=low, factor=1 / (high - low)) if high > low else cls(offset=low)

    def apply(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scores on this scale, still float32."""
        return (scores - np.float32(self.offset)) * np.float32(self.factor)

    def to_float16(self, scores: NDArray[np.float32]) -> Map16:
        """The scores on this scale, rounded to float16; infinite beyond 65504."""
        with np.errstate(over="ignore"):
            return self.apply(scores).astype(np.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Float16Loss:
    """What rounding did to the scores of one object.

    Attributes:
        n_pixels: scores that were rounded.
        n_underflow: scores that are zero now and were not.
        n_distinct: distinct scores that remain, of all pixels.
        n_above: pixels above the threshold; n_distinct_above: distinct scores among them.
        n_sampled: evenly spaced pixels whose scores were compared before and after.
        n_distinct_sampled: distinct scores among those before rounding, and after.
    """

    n_pixels: int
    n_underflow: int
    n_distinct: int
    n_above: int
    n_distinct_above: int
    n_sampled: int
    n_distinct_sampled: tuple[int, int]

    def warning(self) -> str:
        """What to say of it; empty when the loss is harmless."""
        if self.n_underflow > self.n_pixels * HARMLESS_SHARE:
            return f"{self.n_underflow:,} of {self.n_pixels:,} scores are too small for float16 and become 0"
        if self.n_distinct_above < min(ENOUGH_LEVELS, self.n_above / 2):
            return f"{self.n_above:,} pixels above the threshold share {self.n_distinct_above} distinct scores"
        return ""


class Float16Census:
    """Counts, map by map, how often each of the 65,536 values of float16 occurs."""

    SAMPLES_PER_MAP = 4096

    def __init__(self) -> None:
        self._counts = np.zeros(N_VALUES, dtype=np.int64)
        self._n_underflow = 0
        self._before: list[NDArray[np.float32]] = []
        self._after: list[Map16] = []

    def add(self, scaled: NDArray[np.float32], rounded: Map16) -> None:
        """Take in one map before and after rounding."""
        self._counts += np.bincount(rounded.view(np.uint16).ravel(), minlength=N_VALUES)
        self._n_underflow += int(np.count_nonzero((rounded == 0) & (scaled != 0)))
        step = max(1, rounded.size // self.SAMPLES_PER_MAP)
        self._before.append(scaled.ravel()[::step].copy())  # a view would keep the whole map in memory
        self._after.append(rounded.ravel()[::step].copy())

    def loss(self, threshold: float) -> Float16Loss:
        """What was lost so far; `threshold` is on the scale of the rounded scores."""
        with np.errstate(invalid="ignore"):  # some of the 65,536 are nan
            values = np.arange(N_VALUES, dtype=np.uint16).view(np.float16).astype(np.float32)
        above = values > threshold
        before, after = np.concatenate(self._before), np.concatenate(self._after)
        return Float16Loss(
            n_pixels=int(self._counts.sum()),
            n_underflow=self._n_underflow,
            n_distinct=int(np.count_nonzero(self._counts)),
            n_above=int(self._counts[above].sum()),
            n_distinct_above=int(np.count_nonzero(self._counts[above])),
            n_sampled=before.size,
            n_distinct_sampled=(np.unique(before).size, np.unique(after).size),
        )
