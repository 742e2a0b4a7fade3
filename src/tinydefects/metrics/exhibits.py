"""Defects worth looking at: the smallest and those that score lowest, cut out of their images while they stream by."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.defects import centred_span
from tinydefects.metrics.records import DefectRecord, Exhibit

SMALLEST_CUT_PX, LARGEST_CUT_PX, MARGIN_PX = 64, 160, 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cut:
    """The surroundings of one defect: image (h, w, 3), mask (h, w), anomaly map (h, w) in half precision."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float16]


class ExhibitKeeper:
    """At most `n_exhibits` cuts: half the smallest defects, the other half those with the lowest peaks.

    Peaks are compared within one category, where all maps come from one detector. Of equals, the earlier stays.
    """

    def __init__(self, n_exhibits: int) -> None:
        self._smallest = _Lowest(n_exhibits // 2)
        self._faintest = _Lowest(n_exhibits - n_exhibits // 2)

    def wants(self, area_px: int, peak: float) -> bool:
        """Whether this defect would be kept: only then is its image worth reading."""
        return self._smallest.admits(area_px) or self._faintest.admits(peak)

    def keep(self, number: int, area_px: int, peak: float, cut: Cut) -> None:
        """Keep the cut of defect `number` wherever it belongs, and drop what it displaces."""
        self._smallest.push(area_px, number, cut)
        self._faintest.push(peak, number, cut)

    def exhibits(self, defects: Sequence[DefectRecord]) -> tuple[Exhibit, ...]:
        """The kept cuts with their records, `defects[number]`, by ascending area."""
        cuts = self._smallest.cuts() | self._faintest.cuts()
        numbers = sorted(cuts, key=lambda number: (defects[number].area_px, number))
        return tuple(
            Exhibit(
                defect=defects[number],
                image=cuts[number].image,
                mask=cuts[number].mask,
                anomaly_map=cuts[number].anomaly_map,
            )
            for number in numbers
        )


def cut_out(
    box_px: tuple[int, int, int, int],
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    anomaly_map: NDArray[np.float32],
) -> Cut:
    """A square of 64 to 160 pixels around the centre of the box (top, left, height, width), inside the image.

    The map is clipped to the range of half precision.
    """
    top, left, height, width = box_px
    side = min(max(max(height, width) + 2 * MARGIN_PX, SMALLEST_CUT_PX), LARGEST_CUT_PX)
    rows = centred_span(top + height // 2, side, mask.shape[0])
    window = (rows, centred_span(left + width // 2, side, mask.shape[1]))
    highest = np.finfo(np.float16).max
    return Cut(
        image=image[window].copy(),
        mask=mask[window].copy(),
        anomaly_map=np.clip(anomaly_map[window], -highest, highest).astype(np.float16),
    )


class _Lowest:
    """The cuts with the lowest keys, in a heap whose top is the next to go."""

    def __init__(self, n_kept: int) -> None:
        self._n_kept = n_kept
        self._heap: list[tuple[float, int, Cut]] = []

    def admits(self, key: float) -> bool:
        return len(self._heap) < self._n_kept or (self._n_kept > 0 and key < -self._heap[0][0])

    def push(self, key: float, number: int, cut: Cut) -> None:
        if not self.admits(key):
            return
        heapq.heappush(self._heap, (-key, -number, cut))
        if len(self._heap) > self._n_kept:
            heapq.heappop(self._heap)

    def cuts(self) -> dict[int, Cut]:
        return {-number: cut for _, number, cut in self._heap}
