"""Where defect scores stand among normal scores: exact counts, with normal scores in any number of chunks.

Every curve and every area of this package follows from these counts, so nothing is binned and nothing is sampled.
A category has up to billions of normal pixels: they wait in a temporary file, are read once, never all in memory.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import TinyDefectsError

CHUNK_SCORES = 2**24  # 64 MiB of float32: large enough that a pass over millions of levels is made few times


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """Defect scores against normal scores: K levels, one for each distinct defect score, the highest first.

    Attributes:
        scores: (K,) the distinct defect scores, descending; -0.0 and 0.0 are one score.
        level: (M,) the level of each defect score, in the order they were given.
        normal_above: (K,) normal scores strictly above each level.
        normal_at_least: (K,) normal scores above or tied with each level.
        normal_above_next: (K,) normal scores above the lowest normal score that reaches the level, hence
            `normal_above` where the level is tied; only the rules of `published.py` look at it.
        n_normal: how many normal scores there are.
    """

    scores: NDArray[np.floating[Any]]
    level: NDArray[np.int64]
    normal_above: NDArray[np.int64]
    normal_at_least: NDArray[np.int64]
    normal_above_next: NDArray[np.int64]
    n_normal: int

    @property
    def n_defect(self) -> int:
        """M, how many defect scores there are."""
        return int(self.level.size)

    def fpr_at(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Share of normal scores that reach each of these defect scores, in [0, 1]; nan without normal scores."""
        if not self.n_normal:
            return np.full(scores.shape, np.nan)
        levels = np.searchsorted(-self.scores, -scores)
        return self.normal_at_least[levels] / self.n_normal


def rank(defect_scores: NDArray[np.floating[Any]], normal_chunks: Iterable[NDArray[np.floating[Any]]]) -> Ranking:
    """Count, for every distinct defect score, the normal scores above it and those tied with it.

    `defect_scores` is (M,); the chunks are one-dimensional, of any size and in any order. Time is
    O(N log N) in normal scores for sorting and O(K log N) a chunk for counting; memory is O(M) and one chunk.
    """
    ascending, place = np.unique(defect_scores, return_inverse=True)
    n_below = np.zeros(ascending.size, dtype=np.int64)
    n_next = np.zeros(ascending.size, dtype=np.int64)
    next_normal = np.full(ascending.size, np.inf, dtype=ascending.dtype)
    n_normal = 0
    for chunk in normal_chunks:
        ordered = np.empty(chunk.size + 1, dtype=chunk.dtype)
        ordered[:-1] = chunk
        ordered[:-1].sort()
        ordered[-1] = np.inf  # so that every level is reached by something
        first = np.searchsorted(ordered, ascending, side="left")
        reached = ordered[first]
        n_reached = np.searchsorted(ordered, reached, side="right") - first
        n_next[reached < next_normal] = 0
        n_next += np.where(reached <= next_normal, n_reached, 0)
        np.minimum(next_normal, reached, out=next_normal)
        n_below += first
        n_normal += chunk.size
    at_least = n_normal - n_below
    above_next = np.where(np.isinf(next_normal), 0, at_least - n_next)
    return Ranking(
        scores=ascending[::-1],
        level=ascending.size - 1 - place,
        normal_above=np.where(next_normal == ascending, above_next, at_least)[::-1],
        normal_at_least=at_least[::-1],
        normal_above_next=above_next[::-1],
        n_normal=n_normal,
    )


class ScoreSpool:
    """Normal scores on their way to `rank`, as float32 in an unnamed file of the system's temporary folder.

    Four bytes a score; the file has no name, so it is gone even after a kill. `TMPDIR` chooses another folder.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, scores: NDArray[np.float32]) -> None:
        """Append scores of any shape.

        Raises:
            TinyDefectsError: the temporary folder is full.
        """
        try:
            self._file.write(np.ascontiguousarray(scores, dtype=np.float32).data)
        except OSError as error:
            raise TinyDefectsError(
                f"{tempfile.gettempdir()}: cannot hold the normal pixels' scores ({error.strerror}); "
                "free space or set TMPDIR to a folder with four bytes a pixel"
            ) from error
        self.size += scores.size

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """All scores in order of arrival, at most `CHUNK_SCORES` at a time."""
        self._file.seek(0)
        while stored := self._file.read(4 * CHUNK_SCORES):
            yield np.frombuffer(stored, dtype=np.float32)
