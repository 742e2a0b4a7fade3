"""Masks and maps in memory as samples and predictions: checked one image at a time, faults named by position.

What a mask marks is not guessed from a whole set here: an array holds 0 and 1 or 0 and 255, or it is refused.
"""

import itertools
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tinydefects.data.sample import Label, Prediction, Sample, mean_of_highest
from tinydefects.errors import DatasetError, MaskError, ResolutionMismatchError, ScoreError

_END = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySample(Sample):
    """A sample without files: its mask lies in memory, compressed, so that a stream of many images stays small.

    `size` is its (height, width); `packed_mask` is empty where no pixel is marked.
    """

    size: tuple[int, int]
    packed_mask: bytes = b""

    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, all False where nothing is marked."""
        if not self.packed_mask:
            return np.zeros(self.size, dtype=bool)
        bits = np.frombuffer(zlib.decompress(self.packed_mask), dtype=np.uint8)
        return np.unpackbits(bits, count=math.prod(self.size)).view(np.bool_).reshape(self.size)

    def image(self) -> NDArray[np.uint8]:
        """There is none.

        Raises:
            DatasetError: always.
        """
        raise DatasetError(
            f"{self.id}: arrays come without photographs, which crops and contrasts need; leave these out, or evaluate "
            "samples of files"
        )


def array_pairs(
    masks: Iterable[ArrayLike | None],
    maps: Iterable[ArrayLike],
    *,
    scores: Iterable[float] | None = None,
    labels: Iterable[int] | None = None,
    ids: Iterable[str] | None = None,
    groups: Iterable[str] | None = None,
    n_before: int = 0,
) -> Iterator[tuple[ArraySample, Prediction]]:
    """What `evaluate` takes, made of arrays as they come; one map is held at a time. See `evaluate_arrays`.

    Images without `ids` are numbered, after `n_before` others.

    Raises:
        MaskError, ScoreError, ResolutionMismatchError, DatasetError: as `evaluate_arrays` says.
    """
    given = {"masks": masks, "maps": maps, "scores": scores, "labels": labels, "ids": ids, "groups": groups}
    seen: set[str] = set()
    for position, row in enumerate(_rows({name: values for name, values in given.items() if values is not None})):
        mask, anomaly_map = _checked(row["masks"], row["maps"], position)
        score = _score(row["scores"], position) if "scores" in row else mean_of_highest(anomaly_map)
        marked = mask is not None and bool(mask.any())
        label = _label(row["labels"], position) if "labels" in row else ("defect" if marked else "good")
        name = str(row.get("ids", f"arrays/{label}/{n_before + position}"))
        if name in seen:
            raise DatasetError(f"ids[{position}]: {name} came before; give each image an id of its own")
        seen.add(name)
        sample = ArraySample(
            id=name,
            image_path=Path(name),
            label=label,
            group=str(row["groups"]) if "groups" in row else None,
            size=(anomaly_map.shape[0], anomaly_map.shape[1]),
            packed_mask=zlib.compress(np.packbits(mask).tobytes(), 1) if mask is not None and marked else b"",
        )
        yield sample, Prediction(anomaly_map, score)


def _rows(columns: dict[str, Iterable[Any]]) -> Iterator[dict[str, Any]]:
    """One value of each column at a time.

    Raises:
        DatasetError: the columns are not of one length.
    """
    iterators = {name: iter(values) for name, values in columns.items()}
    for position in itertools.count():
        row = {name: next(values, _END) for name, values in iterators.items()}
        ended = [name for name, value in row.items() if value is _END]
        if len(ended) == len(row):
            return
        if ended:
            longer = next(name for name in row if name not in ended)
            raise DatasetError(
                f"{ended[0]} ends after {position} images but {longer} goes on; give one of each for every image"
            )
        yield row


def _checked(mask: Any, anomaly_map: Any, position: int) -> tuple[NDArray[np.bool_] | None, NDArray[np.float32]]:  # noqa: ANN401
    """The (H, W) mask, None where none came, and the (H, W) map of one image."""
    marked = None if mask is None else _mask(_plane(mask, f"masks[{position}]", MaskError), f"masks[{position}]")
    scores = _map(_plane(anomaly_map, f"maps[{position}]", ScoreError), f"maps[{position}]")
    if marked is not None and marked.shape != scores.shape:
        raise ResolutionMismatchError(
            f"maps[{position}]: the map is {scores.shape} but its mask is {marked.shape}, as (height, width); resample "
            "the map to the mask (bilinear, centre-aligned), never the mask"
        )
    return marked, scores


def _plane(value: Any, name: str, refused: type[MaskError] | type[ScoreError]) -> NDArray[Any]:  # noqa: ANN401
    """(H, W) of an array that is (H, W) or (1, H, W)."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise refused(
            f"{name}: cannot be read as an array ({reason}); give NumPy arrays, or tensors as tensor.detach().cpu()"
        ) from error
    plane = array[0] if array.ndim == 3 and array.shape[0] == 1 else array
    if plane.ndim != 2 or not plane.size:
        raise refused(
            f"{name}: an image is (H, W) or (1, H, W), this one is {array.shape}; give a list of images, or one "
            "stacked array (N, H, W)"
        )
    return plane


def _mask(plane: NDArray[Any], name: str) -> NDArray[np.bool_]:
    """What is marked, of a mask that holds 0 and 1 or 0 and 255 only."""
    if plane.dtype == np.bool_:
        return plane
    if plane.dtype.kind not in "iuf":
        raise MaskError(f"{name}: a mask holds bool or numbers, this one {plane.dtype}; masks come first, then maps")
    marked: NDArray[np.bool_] = plane != 0
    values = np.unique(plane[marked]).tolist()
    if values not in ([], [1], [255]):
        few = ", ".join(f"{value:g}" for value in values[:3]) + (", …" if len(values) > 3 else "")
        raise MaskError(
            f"{name}: a mask holds 0 and 1 or 0 and 255, this one {few} beside 0; mark defects yourself, as in "
            "mask > 0 (masks come first, then maps)"
        )
    return marked


def _map(plane: NDArray[Any], name: str) -> NDArray[np.float32]:
    """The map as float32."""
    if plane.dtype.kind not in "iuf":
        raise ScoreError(f"{name}: a map holds floats or integers, this one {plane.dtype}; masks come first, then maps")
    with np.errstate(over="ignore"):
        scores = plane.astype(np.float32, copy=False)
    if not np.isfinite([scores.min(), scores.max()]).all():  # nan if any pixel is
        if np.isfinite(plane).all():
            raise ScoreError(f"{name}: the map ({plane.dtype}) overflows float32; scale the scores down")
        raise ScoreError(f"{name}: the map holds nan or infinity; only finite scores can be ranked")
    return scores


def _score(value: Any, position: int) -> float:  # noqa: ANN401
    try:
        score = float(value)
    except (TypeError, ValueError, RuntimeError):
        score = math.nan
    if not math.isfinite(score):
        raise ScoreError(f"scores[{position}]: an image score is one finite number, this one is {value!r}")
    return score


def _label(value: Any, position: int) -> Label:  # noqa: ANN401
    if value not in (0, 1):
        raise DatasetError(f"labels[{position}]: a label is 0 (good) or 1 (defective), this one is {value!r}")
    return "defect" if value else "good"
