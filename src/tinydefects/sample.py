"""The nouns: one photograph and its truth (Sample), a dataset category, and what a detector says (Prediction)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.errors import DatasetError, ResolutionMismatchError, ScoreError
from tinydefects.pixels import MaskRule, read_image, read_mask, read_size

Label = Literal["good", "defect", "unknown"]
PIXELS_AT_ONCE = 1 << 24  # of a map that is sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One photograph: where it lies, whether it is good, and where its ground truth is.

    `id` is its place in the category, `split/type/stem` (`test/crack/000`); its anomaly map is stored under the
    same name, which is MVTec's layout. `group` names what must not be split: one part seen under several lightings.
    """

    id: str
    image_path: Path
    label: Label
    mask_paths: tuple[Path, ...] = ()
    mask_rule: MaskRule = "nonzero"
    group: str | None = None

    @property
    def defect_type(self) -> str:
        """The second part of the id: `good`, `crack`, …"""
        return self.id.split("/")[-2]

    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 at the camera's own resolution."""
        return read_image(self.image_path)

    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool at the image's own size, the union of all mask files; all False for a good sample.

        Raises:
            DatasetError: the label is not `good` and there is no mask to read.
            ResolutionMismatchError: a mask file has another size than the image.
        """
        if self.label == "good" and not self.mask_paths:
            return np.zeros(read_size(self.image_path), dtype=bool)
        if not self.mask_paths:
            raise DatasetError(f"{self.image_path}: labelled {self.label} but has no mask; score only labelled images")
        masks = [read_mask(path, self.mask_rule) for path in self.mask_paths]
        size = read_size(self.image_path)
        for path, mask in zip(self.mask_paths, masks, strict=True):
            if mask.shape != size:
                raise ResolutionMismatchError(
                    f"{path}: the mask is {mask.shape} but its image {self.image_path} is {size}; "
                    "masks are never resized, export the mask at the image's size"
                )
        return np.asarray(np.logical_or.reduce(masks))


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One kind of object or texture, addressed everywhere by `dataset/category` (`mvtec_ad/screw`).

    Raises:
        DatasetError: a name is not UTF-8, which no result could hold.
    """

    id: str
    train: Sequence[Sample]
    test: Sequence[Sample]
    validation: Sequence[Sample] = ()

    def __post_init__(self) -> None:
        for sample in (*self.train, *self.test, *self.validation):
            if not _is_text(f"{self.id} {sample.id}"):
                raise DatasetError(f"{sample.image_path}: the name is not UTF-8, as those in results are; rename it")


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What a detector says of one image: (H, W) float32 anomaly map at the image's own size and one score.

    Higher is more anomalous, for both.

    Raises:
        ScoreError: the map is not two-dimensional or holds nan or infinity, or the score does.
    """

    anomaly_map: NDArray[np.float32]
    score: float

    def __post_init__(self) -> None:
        if self.anomaly_map.ndim != 2 or not self.anomaly_map.size:
            raise ScoreError(f"an anomaly map is (H, W), this one is {self.anomaly_map.shape}")
        extremes = [self.anomaly_map.min(), self.anomaly_map.max(), self.score]  # nan if any pixel is
        if not np.isfinite(extremes).all():
            raise ScoreError("the anomaly map or its score holds nan or infinity; only finite scores can be ranked")


def _is_text(name: str) -> bool:
    """Whether a name has no bytes that are no UTF-8; Python keeps those as lone surrogates."""
    return name.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in name)


def mean_of_highest(anomaly_map: NDArray[np.float32], share: float = 0.001) -> float:
    """The published image score: the mean of the highest 0.1 % of an (H, W) map, of one pixel at least."""
    count, flat = max(1, int(anomaly_map.size * share)), anomaly_map.reshape(-1)
    highest = flat[:0]
    for start in range(0, flat.size, PIXELS_AT_ONCE):  # sorting copies what it sorts: of a large map part after part
        part = flat[start : start + PIXELS_AT_ONCE]
        part = np.concatenate([highest, part]) if highest.size else part
        highest = np.partition(part, max(0, part.size - count))[-count:].copy()
    return float(highest.mean(dtype=np.float64))
