"""Passes of the teacher in batches: inputs of one shape go together, be they tiles of one image or several images.

Inputs wait with those of their own shape until there are `batch_size` of them. What waits is inputs, not images: fewer
than `SHAPES_AT_ONCE * batch_size`, of fewer images than that. At either bound the shape that has waited longest goes in
a smaller batch.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tinydefects.data.read_ahead import until_failure
from tinydefects.detector.passes import Mosaic
from tinydefects.errors import TinyDefectsError

Pixels = NDArray[np.uint8]
Scores = NDArray[np.float32]
SHAPES_AT_ONCE = 4  # as many as the shifted passes of one image have


@dataclass(slots=True, eq=False)
class _Image:
    """An image that is begun: how many of its passes were drawn so far, and how many the teacher has seen."""

    mosaic: Mosaic
    n_drawn: int = 0
    n_scored: int = 0
    all_drawn: bool = False

    @property
    def is_finished(self) -> bool:
        return self.all_drawn and self.n_scored == self.n_drawn


@dataclass(frozen=True, slots=True, eq=False)
class _Pass:
    """An input (H, W, 3) that waits: the pass of that number of its image."""

    image: _Image
    number: int
    pixels: Pixels


def score_in_batches(
    images: Iterable[tuple[Mosaic, Iterable[Pixels]]], score: Callable[[Pixels], Scores], *, batch_size: int
) -> Iterator[Mosaic]:
    """The mosaic of every image, in the order they came, once the scores of all its passes were added.

    At `batch_size` 1 each pass is scored and each image returned before the next one is drawn.

    Args:
        images: an empty mosaic of each image and the input (H, W, 3) of each pass; both are drawn one by one.
        score: inputs (B, H, W, 3) to patch scores (B, h, w).
        batch_size: the most inputs that are scored at once.

    Raises:
        TinyDefectsError: a batch does not fit into the memory of the GPU. What `images` raises is raised here, after
            all images before it.
    """
    failures: list[Exception] = []
    limit = SHAPES_AT_ONCE * batch_size
    begun: deque[_Image] = deque()
    waiting: dict[tuple[int, ...], list[_Pass]] = {}  # the shape that has waited longest comes first

    def finished() -> Iterator[Mosaic]:
        while begun and begun[0].is_finished:
            yield begun.popleft().mosaic

    for mosaic, inputs in until_failure(images, failures):
        begun.append(image := _Image(mosaic))
        for pixels in inputs:
            waiting.setdefault(pixels.shape, []).append(_Pass(image, image.n_drawn, pixels))
            image.n_drawn += 1
            if len(waiting[pixels.shape]) == batch_size:
                _score_passes(waiting.pop(pixels.shape), score)
                yield from finished()
            while len(begun) >= limit or sum(map(len, waiting.values())) >= limit:
                _score_passes(waiting.pop(next(iter(waiting))), score)
                yield from finished()
        image.all_drawn = True
        yield from finished()
    while waiting:
        _score_passes(waiting.pop(next(iter(waiting))), score)
        yield from finished()
    if failures:
        raise failures[0]


def _score_passes(passes: Sequence[_Pass], score: Callable[[Pixels], Scores]) -> None:
    try:
        scored = score(np.stack([one.pixels for one in passes]))
    except torch.OutOfMemoryError as error:
        height, width = passes[0].pixels.shape[:2]
        advice = "lower batch_size (--batch-size)" if len(passes) > 1 else "fit at a lower resolution or in tiles"
        raise TinyDefectsError(
            f"the GPU's memory does not hold the teacher with {len(passes)} x {height} x {width} px at once: {advice}"
        ) from error
    for one, scores in zip(passes, scored, strict=True):
        one.image.mosaic.add(one.number, scores)  # kept apart, small arrays would pin the memory of large ones
        one.image.n_scored += 1
