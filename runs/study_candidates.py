"""Scores of images and kinds of maps that the second round of docs/study.md tries, made of patch scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special, stats
from torch import Tensor

from tinydefects.data.sample import Sample
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.methods.local_contrast import local_contrast

Map = NDArray[np.float32]
TAIL = 0.01  # of good patches; above it a Pareto tail is fitted
STRUCTURE_SHARE = 0.01
# Which sizes of input a kind of map needs besides that of the first round.
MAPS: dict[str, tuple[float, ...]] = {
    "as it is": (),
    "contrast: sum": (),
    "contrast: sum with a third": (),
    "contrast: product": (),
    "contrast: maximum": (),
    "guided: 0.03": (),
    "guided: 0.1": (),
    "guided: ratio": (),
    "guided: ratio 0.01": (),
    "guided: ratio 0.1": (),
    "guided: ratio of two patches": (),
    "size 0.75 alone": (0.75,),
    "size 1.5 alone": (1.5,),
    "sizes 1 and 0.75: mean": (0.75,),
    "sizes 1 and 1.5: mean": (1.5,),
    "sizes 1 and 1.5: maximum": (1.5,),
}


@dataclass(frozen=True)
class Picture:
    """One image (H, W, 3), its grid and its patch scores (h, w)."""

    image: NDArray[np.uint8]
    grid: PatchGrid
    patches: Map

    @property
    def anomaly_map(self) -> Map:
        """(H, W), not blurred."""
        return self.grid.to_image(self.patches)


class Good:
    """What patch scores (h, w) of good images are like that were not learnt from."""

    def __init__(self, images: Sequence[Map]) -> None:
        self._pooled = np.sort(np.concatenate([one.reshape(-1) for one in images]).astype(np.float64))
        described = np.array([_structure(one) for one in images])
        self._mean, self._spread = described.mean(axis=0), described.std(axis=0)

    @cached_property
    def _tail(self) -> tuple[float, float, float]:
        begins = float(np.quantile(self._pooled, 1 - TAIL))
        shape, _, scale = stats.genpareto.fit(self._pooled[self._pooled > begins] - begins, floc=0)
        return begins, max(0.0, shape), scale  # a tail that ends would call all beyond equal

    def share_above(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of good patches, what share is higher."""
        begins, shape, scale = self._tail
        counted = 1 - np.searchsorted(self._pooled, scores) / len(self._pooled)
        beyond = TAIL * stats.genpareto.sf(scores - begins, shape, scale=scale)
        return np.where(scores > begins, beyond, np.maximum(counted, TAIL))

    def standardised(self, patches: Map) -> NDArray[np.float64]:
        """The structure of an image, and its highest patch, in units of what good images show."""
        found: NDArray[np.float64] = (np.array(_structure(patches)) - self._mean) / self._spread
        return found


def _structure(patches: Map) -> tuple[float, float, float, float]:
    variation = sum(float(np.abs(np.diff(patches, axis=axis)).mean()) for axis in (0, 1))
    return float(patches.std()), _mean_highest(patches, patches.size * STRUCTURE_SHARE), variation, float(patches.max())


def _mean_highest(values: Map, count: float) -> float:
    kept = max(1, round(count))
    return float(np.partition(values, -kept, axis=None)[-kept:].mean(dtype=np.float64))


def image_scores(picture: Picture, good: Good | None) -> dict[str, float]:
    """Every candidate for one image; without good ones those from its map alone."""
    drawn = picture.anomaly_map
    patch_px = picture.grid.patch_px
    area, size = patch_px**2, drawn.size
    softer = {share: ndimage.gaussian_filter(drawn, share * patch_px) for share in (0.5, 1.0)}
    return {
        "0.1 %, as it is": _mean_highest(drawn, size * 0.001),
        "0.3 %": _mean_highest(drawn, size * 0.003),
        "1 %": _mean_highest(drawn, size * 0.01),
        "highest pixel": float(drawn.max()),
        **{f"{count} patch{'es' * (count > 1)}": _mean_highest(drawn, count * area) for count in (1, 3, 10, 30)},
        "0.1 %, 10 patches at least": _mean_highest(drawn, max(size * 0.001, 10 * area)),
        "smoothed by half a patch, 0.1 %": _mean_highest(softer[0.5], size * 0.001),
        "smoothed by half a patch, highest pixel": float(softer[0.5].max()),
        "smoothed by a patch, 0.1 %": _mean_highest(softer[1.0], size * 0.001),
        "smoothed by a patch, highest pixel": float(softer[1.0].max()),
        "0.1 %, by the map's own spread": float((_mean_highest(drawn, size * 0.001) - drawn.mean()) / drawn.std()),
    } | (_against_good(picture.patches, good) if good else {})


def _against_good(patches: Map, good: Good) -> dict[str, float]:
    n_patches = patches.size
    above = np.sort(good.share_above(patches.reshape(-1).astype(np.float64)))
    rank = np.arange(1, max(1, n_patches // 100) + 1)
    chance = special.betainc(rank, n_patches - rank + 1, above[: len(rank)])
    *structure, highest = good.standardised(patches)
    unlike = float(np.sqrt(np.mean(np.square(structure))))
    return {
        "tail: the highest patch": float(-np.log(-np.expm1(n_patches * np.log1p(-above[0])))),
        "tail: mean of 10": float(-np.log(above[:10]).mean()),
        "tail: Berk-Jones": -math.log(max(float(chance.min()), 1e-300)),
        "structure alone": unlike,
        "structure and highest patch": unlike + float(highest),
    }


def maps_of(
    name: str, pictures: Sequence[Sequence[Picture]], seen: Sequence[Sequence[Tensor]], learn: Sequence[Sample]
) -> list[Map]:
    """Maps of all images: `pictures` and the scores of those learnt from, `seen`, are one list a size of input."""
    kind, _, how = name.partition(": ")
    if kind == "contrast":
        contrast = np.concatenate([local_contrast(sample.image())[::3, ::3].reshape(-1) for sample in learn])
        return [_with_contrast(one, how, contrast, seen[0]) for one in pictures[0]]
    if kind == "guided":
        return [_guided(one, how) for one in pictures[0]]
    if kind.endswith("alone"):
        return [one.anomaly_map for one in pictures[1]]
    if len(pictures) == 1:
        return [one.anomaly_map for one in pictures[0]]
    usual = [(float(np.mean(flat)), float(np.std(flat))) for flat in (_flat(one) for one in seen)]
    both = zip(*pictures, strict=True)
    standardised = (
        [(one.anomaly_map - mean) / spread for one, (mean, spread) in zip(sizes, usual, strict=True)] for sizes in both
    )
    return [np.max(maps, axis=0) if how == "maximum" else np.mean(maps, axis=0) for maps in standardised]


def _flat(images: Sequence[Tensor]) -> Map:
    return np.concatenate([one.numpy().reshape(-1) for one in images])


def _with_contrast(picture: Picture, how: str, contrast: Map, seen: Sequence[Tensor]) -> Map:
    drawn = picture.anomaly_map / np.quantile(_flat(seen), 0.99)
    beside = local_contrast(picture.image) / np.quantile(contrast, 0.99)
    if how == "maximum":
        return np.asarray(np.maximum(drawn, beside))
    if how == "product":
        return np.asarray(drawn * (1 + beside))
    return np.asarray(drawn + beside * (1 / 3 if how.endswith("third") else 1))


def _guided(picture: Picture, how: str) -> Map:
    """A linear model of the map by the gray picture in every window of a patch, averaged over windows."""
    gray, drawn = picture.image.mean(axis=2, dtype=np.float64) / 255, picture.anomaly_map.astype(np.float64)
    side = max(3, round(picture.grid.patch_px * (2 if how == "ratio of two patches" else 1)))

    def box(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(ndimage.uniform_filter(values, side))

    mean_gray, mean_map = box(gray), box(drawn)
    ridge = {"0.1": 0.1, "ratio 0.1": 0.1, "ratio 0.01": 0.01}.get(how, 0.03) ** 2
    slope = (box(gray * drawn) - mean_gray * mean_map) / (box(gray * gray) - mean_gray**2 + ridge)
    guided = box(slope) * gray + box(mean_map - slope * mean_gray)
    if how.startswith("ratio"):
        guided = drawn * np.maximum(guided, 0) / np.maximum(box(mean_map), 1e-9)
    return np.asarray(guided, dtype=np.float32)
