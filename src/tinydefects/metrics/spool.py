"""Normal scores on disk: one ascending run per image, read back in buckets of bounded size or counted at thresholds.

A category has billions of normal pixels. Each image's are sorted when it arrives and never all in memory again: this is
the first half of an external merge sort, and `rank_spooled` the second.

NumPy sorts float32 several times as quickly where it has vector instructions for it. Elsewhere two passes over 16 bits
each, which it sorts in linear time everywhere, are twice as quick as its comparisons.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import TinyDefectsError

VECTOR_SORTS = {"AVX2", "X86_V3", "AVX512_SKX", "X86_V4", "ASIMD", "SVE"}  # NumPy's names; X86_V3, X86_V4 from 2.4 on
BLOCK = 2**21  # the passes take 20 bytes a score: 40 MiB at once
BUCKET_SCORES = (2**18, 2**24)  # from what a processor's cache holds to 64 MiB of float32, as the runs are few or many:
PIECE_SCORES = 2**13  # a run's 32 KiB in each bucket, so that a disk reads more than it seeks
FENCE_STRIDE = 2**10  # every 1,024th score of a run stays in memory


def ascending(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) the scores of any shape in ascending order; no nan."""
    if HAS_VECTOR_SORT:
        return np.sort(scores, axis=None)
    flat = scores.ravel()
    blocks = [ascending_by_digits(flat[start : start + BLOCK]) for start in range(0, flat.size, BLOCK)]
    if len(blocks) == 1:
        return blocks[0]
    merged = np.concatenate([np.empty(0, dtype=np.float32), *blocks])
    merged.sort(kind="stable")  # merges runs that are ascending already
    return merged


def ascending_by_digits(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) scores in ascending order, by their lower 16 bits and then by their upper ones.

    Read as an integer, a float32 is in order once the bits of negative numbers are flipped, and the sign of others.
    """
    sign = np.uint32(2**31)
    bits = scores.view(np.uint32)
    digits = bits ^ np.where(bits >= sign, ~np.uint32(0), sign)
    digits = digits[np.argsort(digits.astype(np.uint16), kind="stable")]
    digits = digits[np.argsort((digits >> np.uint32(16)).astype(np.uint16), kind="stable")]
    return (digits ^ np.where(digits >= sign, sign, ~np.uint32(0))).view(np.float32)


def _has_vector_sort() -> bool:
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return not VECTOR_SORTS.isdisjoint([*extensions.get("baseline", ()), *extensions.get("found", ())])


HAS_VECTOR_SORT = _has_vector_sort()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bucket:
    """The normal scores strictly between two bounds, and where they stand among all of them.

    Attributes:
        low, high: the bounds, themselves normal scores or infinite.
        n_upto_low: how many normal scores are at most `low`.
        n_below_high, n_upto_high: how many are below `high` and at most `high`.
        starts, stops: (R,) the bucket's part of each run.
    """

    low: float
    high: float
    n_upto_low: int
    n_below_high: int
    n_upto_high: int
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


class ScoreSpool:
    """Normal scores as float32 in an unnamed file of the system's temporary folder, one ascending run per `add`.

    Four bytes a score; the file has no name, so it is gone even after a kill. `TMPDIR` chooses another folder.
    """

    def __init__(self) -> None:
        self._file: FileIO = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by __exit__
        self._sizes: list[int] = []
        self._fences: list[NDArray[np.float32]] = []
        self._tops: list[NDArray[np.float32]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(R,) how many scores each run holds."""
        return np.array(self._sizes, dtype=np.int64)

    def tops(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Some of the highest scores of a run, descending, and their ranks: 1, 2, 4, 8, … and the lowest of all."""
        return self._tops[number], _ranks(self._sizes[number])

    def add(self, scores: NDArray[np.float32]) -> None:
        """Append the normal scores of one image, of any shape, as the next run.

        Raises:
            TinyDefectsError: the temporary folder is full.
        """
        run = ascending(np.asarray(scores, dtype=np.float32))
        write_all(self._file, run.view(np.uint8).data, "the normal pixels' scores", room="four bytes a pixel")
        self._sizes.append(run.size)
        self._note(run)

    def runs(self) -> Iterator[NDArray[np.float32]]:
        """The runs in order of arrival, ascending, mapped from disk while they are looked at."""
        offset = 0
        for size in self._sizes:
            yield self._mapped(offset, size)
            offset += 4 * size

    def count_below(self, scores: NDArray[np.float32], *, or_tied: bool = False) -> NDArray[np.int64]:
        """(R, G) how many scores of each run are below (or tied with) each of (G,) given ones."""
        counts = np.empty((len(self._sizes), scores.size), dtype=np.int64)
        for number, run in enumerate(self.runs()):
            counts[number] = np.searchsorted(run, scores, side="right" if or_tied else "left")
        return counts

    def buckets(self) -> Iterator[Bucket]:
        """All scores cut at some of them, ascending; a bucket holds at most `BUCKET_SCORES[1]` and a stride per run.

        Its bounds belong to no bucket: they are counted, never loaded, so that any number of ties stays within that.
        """
        bounds = self._bounds()
        below, upto = self.count_below(bounds), self.count_below(bounds, or_tied=True)
        none, every = np.zeros((len(self._sizes), 1), dtype=np.int64), self.sizes[:, None]
        starts, stops = np.hstack([none, upto]), np.hstack([below, every])
        n_upto, n_below = np.hstack([upto, every]).sum(axis=0), stops.sum(axis=0)
        edges = [-np.inf, *bounds.tolist(), np.inf]
        for number in range(bounds.size + 1):
            yield Bucket(
                low=edges[number],
                high=edges[number + 1],
                n_upto_low=int(starts[:, number].sum()),
                n_below_high=int(n_below[number]),
                n_upto_high=int(n_upto[number]),
                starts=starts[:, number],
                stops=stops[:, number],
            )

    def read(self, bucket: Bucket) -> list[NDArray[np.float32]]:
        """The scores of a bucket: an ascending piece of each run that has any there."""
        lengths = bucket.stops - bucket.starts
        scores = np.empty(int(lengths.sum()), dtype=np.float32)
        pieces = np.split(scores, np.cumsum(lengths)[:-1])
        offsets = 4 * (np.cumsum(self.sizes) - self.sizes + bucket.starts)
        for run in np.flatnonzero(lengths).tolist():
            self._file.seek(int(offsets[run]))
            self._file.readinto(pieces[run].data)
        return [piece for piece in pieces if piece.size]

    def _note(self, run: NDArray[np.float32]) -> None:
        """Keep in memory what is asked of a run most often."""
        self._fences.append(np.array(run[::FENCE_STRIDE]))
        self._tops.append(np.array(run[run.size - _ranks(run.size)]))

    def _bounds(self) -> NDArray[np.float32]:
        fences = np.sort(np.concatenate([np.empty(0, np.float32), *self._fences]))
        smallest, largest = BUCKET_SCORES
        bucket_scores = min(max(PIECE_SCORES * len(self._sizes), smallest), largest)
        step = max(1, bucket_scores // FENCE_STRIDE)
        return np.unique(fences[step::step])

    def _mapped(self, offset: int, size: int) -> NDArray[np.float32]:
        if not size:
            return np.empty(0, dtype=np.float32)
        return np.memmap(self._file, dtype=np.float32, mode="r", offset=offset, shape=(size,))


def _ranks(size: int) -> NDArray[np.int64]:
    """1, 2, 4, 8, … below `size`, and `size` itself; empty for 0."""
    return np.append(2 ** np.arange(max(0, size - 1).bit_length()), size)[: None if size else 0]


def write_all(file: FileIO, content: memoryview, held: str, *, room: str) -> None:
    """Append to an unbuffered temporary file; `held` says what it holds, `room` how much of it there must be.

    Raises:
        TinyDefectsError: the temporary folder is full.
    """
    try:
        while content:  # one call may write a part
            content = content[file.write(content) :]
    except OSError as error:
        raise TinyDefectsError(
            f"{tempfile.gettempdir()}: cannot hold {held} ({error.strerror}); "
            f"free space or set TMPDIR to a folder with {room}"
        ) from error
