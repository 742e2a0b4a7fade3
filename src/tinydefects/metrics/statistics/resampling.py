"""The metrics of an evaluation under weights of its images, from the tally alone: what a bootstrap repeats.

A weight says how often an image was drawn. Scores are known only to lie between two neighbouring thresholds of the
tally, so a tie between the two is assumed; against exact pixels this errs by less than 0.001 (pinned by a test).
Groups of defects keep the members they have in the full sample, also where weights would move a quartile.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.metrics.detectability import DEFAULT_RATES, DEFAULT_RULE, resample_sizes
from tinydefects.metrics.groups import QUARTILES, short
from tinydefects.metrics.hit_miss import NEAR
from tinydefects.metrics.ranking import Tally

Array = NDArray[np.float64]
BLOCK_BYTES, FEWEST_ROWS = 8 * 2**20, 16  # of weightings computed together: what a processor's cache holds
PIMO_RANGE = (-5.0, -4.0)  # log10 of the false-positive rates that AUPIMO integrates over


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Which metrics to compute.

    Attributes:
        fpr_limits: limits of AUPRO.
        members: name of a group of defects, as it stands in the metrics' names, to (D,) bool.
        images: by the same names (I,) bool, the images that count for a group; those that hold its defects where
            nothing is said.
        threshold: pixels that score above it are called defective; nan when none was given.
        image_threshold: the same for images.
        detection: rule and false-alarm rate of `detectability.py`, for a50 and a90.
    """

    fpr_limits: tuple[float, ...]
    members: Mapping[str, NDArray[np.bool_]]
    images: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    threshold: float = float("nan")
    image_threshold: float = float("nan")
    detection: tuple[str, float] = (DEFAULT_RULE, DEFAULT_RATES[DEFAULT_RULE])


class Resampler:
    """Computes all metrics of one tally for any number of weightings."""

    def __init__(self, tally: Tally, plan: Plan) -> None:
        self._tally, self._plan = tally, plan
        self._normal = _with_all(tally.normal_at_least, tally.n_normal)
        self._n_normal = tally.n_normal.astype(np.float64)
        self._found = _with_all(tally.defect_at_least, tally.area_px)
        self._share = np.diff(self._found, prepend=0.0) / tally.area_px[:, None]
        self._image_of_defect = tally.image_of_defect
        self._is_good = tally.is_good
        self._found_in_image = np.zeros((tally.n_normal.size, self._normal.shape[1]))
        np.add.at(self._found_in_image, tally.image_of_defect, self._found)
        self._members = (
            np.array([*plan.members.values()]).astype(np.float64).reshape(len(plan.members), len(self._share))
        )
        self._holds = self._members_by_image()
        self._image_levels = _ImageLevels(tally.image_score, tally.is_good)
        self._parts = tally.parts()
        self._outlined = tally.outlined_by_name()
        self._outlined_share = tally.saturated_shares()
        self._part_levels = _ImageLevels(self._parts.score, self._parts.is_good)
        self._threshold_place = int(np.searchsorted(-tally.thresholds, -plan.threshold, side="left")) - 1

    def under(self, weights: Array, names: Collection[str] = ()) -> dict[str, Array]:
        """Every metric, (B,), under weights (B, I) >= 0; nan where a weighting leaves nothing to measure.

        With `names`, metrics of other kinds are left out: what nobody asks for need not be computed.
        """
        blocks = [self._block(weights[rows], names) for rows in self._blocks(len(weights))]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def _blocks(self, n_rows: int) -> Iterator[slice]:
        n_numbers = 12 * self._normal.shape[1] + 6 * len(self._share) + 8 * len(self._normal)
        step = max(FEWEST_ROWS, BLOCK_BYTES // (8 * n_numbers))
        return (slice(start, start + step) for start in range(0, n_rows, step))

    def _members_by_image(self) -> Array:
        """(I, n groups): 1 where an image holds a defect of the group."""
        holds = np.zeros((len(self._normal), len(self._members)))
        np.maximum.at(holds, self._image_of_defect, self._members.T)
        for number, name in enumerate(self._plan.members):
            if name in self._plan.images:
                holds[:, number] = self._plan.images[name]
        return holds

    def _block(self, weights: Array, names: Collection[str]) -> dict[str, Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            normal = weights @ self._normal
            n_normal = weights @ self._n_normal
            rate = np.concatenate([np.zeros((len(weights), 1)), normal / n_normal[:, None]], axis=1)
            kinds: dict[tuple[str, ...], Callable[[], dict[str, Array]]] = {
                ("aupro", "rho"): lambda: self._aupro(weights, rate),
                ("pixel", "seg"): lambda: self._pixels(weights, normal, rate),
                ("aupimo",): lambda: {"aupimo": self._aupimo(weights)},
                ("image",): lambda: self._images(weights),
                ("part",): lambda: self._of_parts(weights),
                ("spro",): lambda: self._spro(weights, rate),
                ("a50", "a90"): lambda: self._sizes(weights),
            }
            asked = (kind for kind in kinds if not names or any(name.startswith(kind) for name in names))
            return {name: values for kind in asked for name, values in kinds[kind]().items()}

    def _aupro(self, weights: Array, rate: Array) -> dict[str, Array]:
        by_defect = weights[:, self._image_of_defect]
        n_drawn = by_defect @ self._members.T
        metrics: dict[str, Array] = {}
        for limit in self._plan.fpr_limits:
            aupro = found_area(rate, limit) @ self._share.T
            by_group = (by_defect * aupro) @ self._members.T / n_drawn
            scores = dict(zip(self._plan.members, by_group.T, strict=True))
            metrics |= {f"aupro{name}@{short(limit)}": values for name, values in scores.items()}
            metrics[f"rho@{short(limit)}"] = _rho(np.stack([scores[f"_{name}"] for name in QUARTILES]))
        return metrics

    def _pixels(self, weights: Array, normal: Array, rate: Array) -> dict[str, Array]:
        found = weights @ self._found_in_image
        n_defect = found[:, -1]
        hits = np.diff(found, prepend=0.0)
        first = found - hits + np.minimum(hits, 1)  # from the first hit between two thresholds to the last
        before = np.concatenate([np.zeros((len(normal), 1)), normal[:, :-1]], axis=1)
        precision = (first / (first + before) + found / (found + normal)) / 2
        f1 = 2 * found / (found + normal + n_defect[:, None])
        at_threshold = self._f1_at_threshold(f1)
        return {
            "pixel_auroc": _mean(1 - (rate[:, 1:] + rate[:, :-1]) / 2, hits),
            "pixel_average_precision": np.where(normal[:, -1] > 0, _mean(precision, hits), np.nan),
            "pixel_best_f1": np.where((n_defect > 0) & (normal[:, -1] > 0), f1.max(axis=1), np.nan),
            "pixel_f1": at_threshold,
            "seg_f1": at_threshold,
        }

    def _f1_at_threshold(self, f1: Array) -> Array:
        if np.isnan(self._plan.threshold):
            return np.full(len(f1), np.nan)
        return f1[:, self._threshold_place] if self._threshold_place >= 0 else np.zeros(len(f1))

    def _aupimo(self, weights: Array) -> Array:
        """Mean over images with marked defects of their recall, over log FPR of the mean good image."""
        marked = self._found_in_image[:, -1] > 0
        recall = self._found_in_image[marked] / self._found_in_image[marked, -1:]
        good = self._is_good & (self._n_normal > 0)
        rate = weights[:, good] @ (self._normal[good] / self._n_normal[good, None])
        rate /= weights[:, good].sum(axis=1, keepdims=True)
        low, high = PIMO_RANGE
        place = np.clip(np.log10(rate), low, high)
        place = np.concatenate([np.full((len(place), 1), low), place], axis=1)
        drawn = weights[:, marked]
        at = drawn @ recall / drawn.sum(axis=1, keepdims=True)
        at = np.concatenate([np.zeros((len(at), 1)), at], axis=1)
        return np.asarray(np.trapezoid(at, place, axis=1) / (high - low))

    def _sizes(self, weights: Array) -> dict[str, Array]:
        rule, rate = self._plan.detection
        if not self._is_good.any() or not len(self._share):
            return dict.fromkeys(("a50_px", "a90_px"), np.full(len(weights), np.nan))
        diameters = 2 * np.sqrt(np.array([self._tally.area_px.min(), self._tally.area_px.max()]) / np.pi)
        sizes = np.stack(resample_sizes(self._tally, weights, rule=rule, rate=rate))
        a50, a90 = np.clip(sizes, diameters[0] / NEAR, diameters[1] * NEAR)  # further out, the fit names no size either
        return {"a50_px": a50, "a90_px": a90}

    def _images(self, weights: Array) -> dict[str, Array]:
        levels = self._image_levels
        beaten = levels.share_beaten(weights)
        defective = weights * ~self._is_good
        metrics = {"image_auroc": _mean(beaten, defective)}
        in_group = (defective * beaten) @ self._holds / (defective @ self._holds)
        metrics |= {f"image_auroc{name}": in_group[:, n] for n, name in enumerate(self._plan.members) if name}
        return metrics | levels.metrics(weights, self._plan.image_threshold)

    def _spro(self, weights: Array, rate: Array) -> dict[str, Array]:
        by_defect = weights[:, self._tally.image_of_outlined]
        metrics: dict[str, Array] = {}
        for limit in self._plan.fpr_limits if self._outlined else ():
            area = found_area(rate, limit) @ self._outlined_share.T
            for name, chosen in self._outlined.items():
                drawn = by_defect[:, chosen]
                metrics[f"{name}@{short(limit)}"] = (drawn * area[:, chosen]).sum(axis=1) / drawn.sum(axis=1)
        return metrics

    def _of_parts(self, weights: Array) -> dict[str, Array]:
        """A part is drawn as often as any of its views: they are one group."""
        if not self._parts.score.size:
            return {}
        drawn = weights[:, self._parts.first_view]
        return {"part_auroc": _mean(self._part_levels.share_beaten(drawn), drawn * ~self._parts.is_good)}


class _ImageLevels:
    """Images, or parts, in order of their (I,) score, equal scores together: K levels, the highest first."""

    def __init__(self, score: Array, is_good: NDArray[np.bool_]) -> None:
        self.scores, level = np.unique(-score, return_inverse=True)
        self._order = np.argsort(level, kind="stable")
        self._starts = np.searchsorted(level[self._order], np.arange(self.scores.size))
        self._level = level
        self._is_good = is_good

    def _at_least(self, weights: Array) -> tuple[Array, Array]:
        """Weighted number of good and of defective images that reach each level, (B, K) each."""
        sums = [
            np.add.reduceat((weights * kind)[:, self._order], self._starts, axis=1).cumsum(axis=1)
            for kind in (self._is_good, ~self._is_good)
        ]
        return sums[0], sums[1]

    def share_beaten(self, weights: Array) -> Array:
        """(B, I) share of good images that score below each image, ties counted half."""
        good, _ = self._at_least(weights)
        above_or_half = (good + np.concatenate([np.zeros((len(good), 1)), good[:, :-1]], axis=1)) / 2
        return np.asarray(1 - above_or_half[:, self._level] / good[:, -1:])

    def metrics(self, weights: Array, threshold: float) -> dict[str, Array]:
        good, defective = self._at_least(weights)
        n_good, n_defective = good[:, -1:], defective[:, -1:]
        hits = np.diff(defective, prepend=0.0)
        f1 = 2 * defective / (defective + good + n_defective)
        both = (n_good[:, 0] > 0) & (n_defective[:, 0] > 0)
        place = int(np.searchsorted(self.scores, -threshold, side="left")) - 1
        at_threshold = f1[:, place] if place >= 0 else np.zeros(len(f1))
        reached = np.where(defective >= 0.95 * n_defective, good / n_good, np.inf)
        return {
            "image_average_precision": np.where(both, _mean(defective / (defective + good), hits), np.nan),
            "image_best_f1": np.where(both, f1.max(axis=1), np.nan),
            "image_f1": np.full(len(f1), np.nan) if np.isnan(threshold) else at_threshold,
            "image_fpr_at_95_tpr": np.where(both, reached.min(axis=1), np.nan),
        }


def found_area(rate: Array, limit: float) -> Array:
    """AUPRO@limit of a pixel that is found between each two neighbours of the rising rates (B, G + 1): (B, G).

    It is the mean of max(0, 1 - f / limit) for f between the two; one pair at most lies on both sides of the limit.
    """
    clipped = np.minimum(rate, limit) / (2 * limit)
    area = 1 - clipped[:, 1:] - clipped[:, :-1]
    row, last = np.arange(len(rate)), np.count_nonzero(rate <= limit, axis=1) - 1
    row, last = row[last < area.shape[1]], last[last < area.shape[1]]
    area[row, last] *= (limit - rate[row, last]) / (rate[row, last + 1] - rate[row, last])
    return np.asarray(area)


def _with_all(at_least: NDArray[np.integer[Any]], total: NDArray[np.integer[Any]]) -> Array:
    """(n, G) counts and a last column for the threshold below every score."""
    return np.concatenate([at_least, total[:, None]], axis=1).astype(np.float64)


def _mean(values: Array, weights: Array) -> Array:
    """Weighted mean along the rows, (B,); values of weight 0 may be nan."""
    return np.asarray(np.where(weights > 0, values * weights, 0.0).sum(axis=1) / weights.sum(axis=1))


def _rho(quartiles: Array) -> Array:
    """`size.rho` for (4, B) values."""
    low, high = np.minimum(quartiles[0], quartiles[3]), np.maximum(quartiles[0], quartiles[3])
    return np.where(high == 0, 0.0, quartiles.mean(axis=0) * low / high)
