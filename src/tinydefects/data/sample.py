"""The nouns: one photograph and its truth (Sample), a dataset category, and what a detector says (Prediction)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.masks import MaskRule, read_mask, require_own_picture
from tinydefects.data.pixels import read_image, read_size
from tinydefects.data.read_ahead import read_ahead
from tinydefects.errors import (
    DatasetError,
    ImageReadError,
    MissingExtraError,
    ResolutionMismatchError,
    ScoreError,
    TinyDefectsError,
)
from tinydefects.notebook import map_picture

if TYPE_CHECKING:
    from tinydefects.progress import Report

Label = Literal["good", "defect", "unknown"]
READING_BYTES = 7  # a pixel: while Pillow decodes, it holds colours in four; the array takes three
SCORED_SHARE = 0.001  # of the pixels of a map, its highest, are an image score
PIXELS_AT_ONCE = 1 << 24  # of a map that is sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One photograph: where it lies, whether it is good, and where its ground truth is.

    `id` is its place in the category, `split/type/stem` (`test/crack/000`); its anomaly map is stored under the
    same name, which is MVTec's layout. `group` names what must not be split: one part seen under several lightings.
    `is_view` says that the images of a group are views of one part, which is defective if any of them is, and is scored
    as a whole: by the highest of their scores.
    `mask_rule` says what masks mean, and `allowed` which doubts about them are no mistake; see `masks.py`.
    `image_bits` is how many bits the values of a 16-bit file fill, see `images.find_image_bits`.
    """

    id: str
    image_path: Path
    label: Label
    mask_paths: tuple[Path, ...] = ()
    mask_rule: MaskRule = "auto"
    group: str | None = None
    is_view: bool = False
    allowed: frozenset[str] = frozenset()
    image_bits: int = 16

    @property
    def defect_type(self) -> str:
        """`good`, `crack`, …"""
        return defect_type_of(self.id)

    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 at the camera's own resolution; 16-bit values are scaled as `image_bits` says.

        Raises:
            ImageReadError, MissingExtraError: as `read_image`.
        """
        return read_image(self.image_path, self.image_bits)

    def memory_bytes(self) -> int:
        """What reading the photograph takes, see `reading_bytes`."""
        return reading_bytes(self.image_path)

    def saturated_defects(self) -> "list[tuple[NDArray[np.bool_], int]] | None":
        """Each defect with how many of its pixels count as all of it; None where the dataset says nothing of that.

        Such defects are those that somebody outlined one by one: their masks (H, W) may overlap and be in pieces.
        """
        return None

    def truth_files(self) -> tuple[Path, ...]:
        """Every file whose content decides what the truth is: the masks, and what else the dataset says of them."""
        return self.mask_paths

    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool at the image's own size, the union of all mask files; all False where there is none.

        A defective image without a mask is one that nobody outlined: loaders let it pass only on purpose.

        Raises:
            DatasetError: the label is `unknown` and there is no mask to read.
            MaskError: a mask does not say which pixels are marked.
            ResolutionMismatchError: a mask file has another size than the image.
        """
        if not self.mask_paths and self.label != "unknown":
            return np.zeros(read_size(self.image_path), dtype=bool)
        if not self.mask_paths:
            raise DatasetError(f"{self.image_path}: labelled {self.label} but has no mask; score only labelled images")
        size = read_size(self.image_path)
        for path in self.mask_paths:
            require_own_picture(self.image_path, path, size, self.allowed)
        masks = [read_mask(path, self.mask_rule, self.allowed) for path in self.mask_paths]
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

    `remarks` are lines about what its folder left open: what was left out, assumed or missing.

    Raises:
        DatasetError: a name is not UTF-8, which no result could hold, or two images of a part share their id.
    """

    id: str
    train: Sequence[Sample]
    test: Sequence[Sample]
    validation: Sequence[Sample] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for sample in (*self.train, *self.test, *self.validation):
            if not _is_text(f"{self.id} {sample.id}"):
                raise DatasetError(f"{sample.image_path}: the name is not UTF-8, as those in results are; rename it")
        for part in (self.train, self.test, self.validation):
            named: dict[str, Path] = {}
            for sample in part:
                if named.setdefault(sample.id, sample.image_path) is not sample.image_path:
                    raise DatasetError(
                        f"{self.id}: two images are called {sample.id}, {named[sample.id]} and {sample.image_path}; "
                        "rename one"
                    )


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

    def _repr_html_(self) -> str:
        """For notebooks: the map as a small picture beside its score."""
        (height, width), low, high = self.anomaly_map.shape, self.anomaly_map.min(), self.anomaly_map.max()
        told = f"score {self.score:.4g}; map of {height} x {width} px, {low:.4g} (dark) to {high:.4g} (bright)"
        return f"<figure>{map_picture(self.anomaly_map, told=told)}<figcaption>{told}</figcaption></figure>"

    def memory_bytes(self) -> int:
        """What the map takes."""
        return self.anomaly_map.nbytes


def reading_bytes(path: Path) -> int:
    """What reading a photograph takes, from its header; 0 where it cannot be read, which is told later."""
    try:
        height, width = read_size(path)
    except ImageReadError:
        return 0
    return READING_BYTES * height * width


def require_readable(samples: Sequence[Sample], progress: "Report") -> None:
    """Decode every photograph once, before hours of work on them; `progress` is called with ("read", done, total).

    Raises:
        ImageReadError: some cannot be read; names the first with its reason, and counts them all.
    """
    problems: list[tuple[Sample, TinyDefectsError]] = []
    for done, (sample, problem) in enumerate(zip(samples, read_ahead(_unreadable, samples), strict=True), start=1):
        if problem is not None:
            problems.append((sample, problem))
        progress("read", done, len(samples))
    if problems:
        names = ", ".join(str(sample.image_path) for sample, _ in problems[1:4])
        others = f" ({names}{', …' if len(problems) > 4 else ''})" if names else ""
        raise ImageReadError(
            f"{problems[0][1]}; in all {len(problems)} of {len(samples)} images cannot be read{others}, and none is "
            "left out unasked: mend or remove them, then run the same command again"
        )


def _unreadable(sample: Sample) -> TinyDefectsError | None:
    try:
        sample.image()
    except (ImageReadError, MissingExtraError) as error:
        return error
    return None


def defect_type_of(sample_id: str) -> str:
    """The second part of an id, whatever sub-folders follow; of two parts (`test_private/000`) the first."""
    parts = sample_id.split("/")
    return parts[1] if len(parts) > 2 else parts[0]


def _is_text(name: str) -> bool:
    """Whether a name has no bytes that are no UTF-8; Python keeps those as lone surrogates."""
    return name.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in name)


def n_scored(n_pixels: int) -> int:
    """How many pixels of a map of `n_pixels` the published image score is the mean of; 0 for fewer than 1,000."""
    return int(n_pixels * SCORED_SHARE)


def mean_of_highest(anomaly_map: NDArray[np.float32]) -> float:
    """The image score: the mean of the highest 0.1 % of an (H, W) map, as published, but of one pixel at least."""
    count, flat = max(1, n_scored(anomaly_map.size)), anomaly_map.reshape(-1)
    highest = flat[:0]
    for start in range(0, flat.size, PIXELS_AT_ONCE):  # sorting copies what it sorts: of a large map part after part
        part = flat[start : start + PIXELS_AT_ONCE]
        part = np.concatenate([highest, part]) if highest.size else part
        highest = np.partition(part, max(0, part.size - count))[-count:].copy()
    return float(highest.mean(dtype=np.float64))
