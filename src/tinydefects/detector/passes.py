"""What the teacher sees of one image: all of it at once, or tiles and shifts whose patch scores make one dense grid.

Every pass is a window of the image at the size that its `PatchGrid` gives it, placed so that patches of neighbouring
tiles coincide. Scores are blended where tiles overlap, before they become pixels: enlarging a grid of scores is linear,
so nothing is lost, and the memory needed beside image and map is one window and one number a patch.

The passes of several images go in batches of inputs of one shape, be they tiles of one image or several images. Inputs
wait with those of their own shape until there are `batch_size` of them. What waits is inputs, not images: fewer than
`SHAPES_AT_ONCE * batch_size`, of fewer images than that. At either bound the shape that has waited longest goes in a
smaller batch.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.read_ahead import until_failure
from tinydefects.detector.patch_grid import PatchGrid, Size, whole_patches
from tinydefects.errors import TinyDefectsError

OVERLAP_SHARE = 1 / 8  # of a tile, unless told otherwise
Pixels = NDArray[np.uint8]
Scores = NDArray[np.float32]
SHAPES_AT_ONCE = 4  # as many as the shifted passes of one image have


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """The patches of one pass along one axis: place `first` of the score grid and every `step`-th one after it.

    `weights` (n,) in (0, 1] fall towards the ends of a tile; 1 where there is nothing to blend.
    """

    first: int
    step: int
    weights: NDArray[np.float32]

    @property
    def places(self) -> slice:
        """Of the score grid."""
        return slice(self.first, self.first + self.step * len(self.weights), self.step)

    def pixels(self, stride: int) -> slice:
        """Of the resized image; the last patch may reach beyond it."""
        return slice(self.first * stride, (self.first + self.step * len(self.weights)) * stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """How one image is shown to the teacher, and how the scores of all passes become one grid.

    Attributes:
        grid: of the whole image; windows are cut from the image at its `resized_size`.
        stride: pixels from one score to the next, there; it divides the patch.
        tile: patches along each side of a tile; None shows the whole image.
        overlap: patches that neighbouring tiles share, at least.
    """

    grid: PatchGrid
    stride: int
    tile: int | None
    overlap: int

    @property
    def shape(self) -> Size:
        """Scores (rows, columns) of the image, all passes together."""
        return self.grid.score_shape(self.stride)

    @property
    def pass_shapes(self) -> Counter[Size]:
        """How many passes there are of each shape, in patches."""
        rows, columns = (Counter(len(span.weights) for span in self._spans(side)) for side in self.grid.shape)
        return Counter({(h, w): rows[h] * columns[w] for h, w in product(rows, columns)})

    @property
    def windows(self) -> list[tuple[Span, Span]]:
        """Rows and columns of every pass, from the top left."""
        rows, columns = (self._spans(n_patches) for n_patches in self.grid.shape)
        return list(product(rows, columns))

    @property
    def grids(self) -> list[PatchGrid]:
        """Of every pass for itself: its `shape` says how many patches the teacher gets."""
        if self._is_one_pass:
            return [self.grid]
        return [self._grid_of(rows, columns) for rows, columns in self.windows]

    def views(self, image: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], PatchGrid]]:
        """What each pass sees of an (H, W, 3) image: pixels, and the grid that makes patches of them.

        Raises:
            ResolutionMismatchError: the plan is for another size.
        """
        if self._is_one_pass:
            yield image, self.grid
            return
        resized = self.grid.resize(image)
        for (rows, columns), grid in zip(self.windows, self.grids, strict=True):
            yield resized[rows.pixels(self.stride), columns.pixels(self.stride)], grid

    def merge(self, scores: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The patch scores (h, w) of every pass, in the order of `views`, as one grid of `shape`."""
        mosaic = Mosaic(self)
        for number, part in zip(range(len(self.windows)), scores, strict=True):
            mosaic.add(number, part)
        return mosaic.scores

    @property
    def _is_one_pass(self) -> bool:
        return self.shape == self.grid.shape and (self.tile is None or max(self.grid.shape) <= self.tile)

    def _spans(self, n_patches: int) -> list[Span]:
        steps = self.grid.patch // self.stride
        length = n_patches if self.tile is None else min(self.tile, n_patches)
        overlap = 0 if length == n_patches else self.overlap
        places = np.arange(steps * (length - 1) + 1)
        from_end = np.minimum(places, places[::-1]) + 1
        weights = np.minimum(1.0, from_end / (steps * overlap + 1)).astype(np.float32)
        starts = _tile_starts(n_patches, length, overlap)
        shifts = range(min(steps, len(places)))
        return [Span(steps * start + shift, steps, weights[shift::steps]) for start in starts for shift in shifts]

    def _grid_of(self, rows: Span, columns: Span) -> PatchGrid:
        spans = zip((rows, columns), self.grid.resized_size, strict=True)
        height, width = (len(range(*span.pixels(self.stride).indices(side))) for span, side in spans)
        return PatchGrid.native((height, width), patch=self.grid.patch)


class Mosaic:
    """Patch scores of one image, put together while its passes arrive in any order."""

    def __init__(self, plan: PassPlan) -> None:
        self.plan = plan
        self._windows = plan.windows
        self._total, self._weight = np.zeros(plan.shape, np.float32), np.zeros(plan.shape, np.float32)

    def add(self, number: int, part: NDArray[np.float32]) -> None:
        """The scores (h, w) of the pass of that number, in the order of `PassPlan.views`, from 0."""
        rows, columns = self._windows[number]
        weights = np.outer(rows.weights, columns.weights)
        self._total[rows.places, columns.places] += weights * part
        self._weight[rows.places, columns.places] += weights

    @property
    def scores(self) -> NDArray[np.float32]:
        """One grid of the plan's `shape`, blended where tiles overlap, once every pass was added."""
        return self._total / self._weight


def plan_passes(
    grid: PatchGrid, *, tile: int | None = None, overlap: int | None = None, stride: int | None = None
) -> PassPlan:
    """The passes over an image of that grid; tile, overlap and stride in pixels of the image as the grid resizes it.

    A tile is rounded to whole patches and an overlap up to them, one at least; None is no tiles, an eighth of a tile
    and a stride of one patch.

    Raises:
        TinyDefectsError: the stride does not divide the patch, or the overlap is no smaller than the tile.
    """
    patch = grid.patch
    stride = patch if stride is None else stride
    if patch % stride:
        choices = ", ".join(str(step) for step in range(patch, 0, -1) if patch % step == 0)
        raise TinyDefectsError(f"a stride of {stride} px does not divide the patch of {patch} px: choose {choices}")
    if tile is None:
        return PassPlan(grid=grid, stride=stride, tile=None, overlap=0)
    tile_patches = whole_patches(tile, patch) // patch
    wanted = tile * OVERLAP_SHARE if overlap is None else overlap
    overlap_patches = max(1, math.ceil(wanted / patch))
    if overlap_patches >= tile_patches:
        raise TinyDefectsError(
            f"tiles of {tile_patches * patch} px cannot overlap by {overlap_patches * patch} px in whole patches: "
            f"give a tile of {(overlap_patches + 1) * patch} px or more, or a smaller overlap"
        )
    return PassPlan(grid=grid, stride=stride, tile=tile_patches, overlap=overlap_patches)


def _tile_starts(n_patches: int, tile: int, overlap: int) -> list[int]:
    """First patch of every tile: evenly spread from end to end, neighbours sharing `overlap` patches at least."""
    if n_patches == tile:
        return [0]
    count = math.ceil((n_patches - overlap) / (tile - overlap))
    return [number * (n_patches - tile) // (count - 1) for number in range(count)]


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
    import torch  # who scores has it; an exported model, which plans passes too, may run without

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
