"""Images as bare arrays of scores, their tally by counting pixels, and their figures from repeated pixels."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from tinydefects.metrics.curves import best_f1, exact_curve
from tinydefects.metrics.groups import QUARTILES, cumulative_quartiles, disjoint_quartiles, rho
from tinydefects.metrics.ranking import Tally, rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Scores of the normal pixels and of each defect's pixels; defective images hold at least one defect."""

    normal: np.ndarray
    defects: tuple[np.ndarray, ...] = ()
    group: str = ""

    @property
    def score(self):
        return float(np.concatenate([self.normal, *self.defects]).max())


def random_images(seed, *, n_good=12, n_defective=12, n_normal=3000, n_groups=None):
    """Images with levels of their own, defects of 1 to about 400 pixels that stand out more the larger they are."""
    random = np.random.default_rng(seed)
    images = []
    for number in range(n_good + n_defective):
        level = 0.3 * random.standard_normal()
        normal = (level + random.standard_normal(n_normal)).astype(np.float32)
        areas = np.exp(random.uniform(0, 6, 1 + random.poisson(1.0))).astype(int) if number >= n_good else []
        defects = [
            (level + 0.5 * np.log(area) + random.standard_normal() + random.standard_normal(area)).astype(np.float32)
            for area in areas
        ]
        group = f"scene {number % n_groups}" if n_groups else f"image {number}"
        images.append(Image(normal=normal, defects=tuple(defects), group=group))
    return images


def tally_of(images, n_thresholds=1000):
    pooled = np.sort(np.concatenate([image.normal for image in images]))[::-1]
    rates = np.concatenate([np.geomspace(1 / pooled.size, 1, n_thresholds), np.linspace(0, 1, n_thresholds // 4)])
    places = np.unique(np.clip(np.ceil(rates * pooled.size).astype(int) - 1, 0, None))
    highest = np.sort(np.concatenate([scores for image in images for scores in image.defects]))[-200:]
    thresholds = np.unique(np.concatenate([pooled[places], highest]))[::-1]
    defects = [(number, np.sort(scores)) for number, image in enumerate(images) for scores in image.defects]
    return Tally(
        thresholds=thresholds,
        normal_at_least=np.array([[np.sum(image.normal >= t) for t in thresholds] for image in images]),
        n_normal=np.array([image.normal.size for image in images]),
        highest_normal=np.array([image.normal.max() for image in images]),
        defect_at_least=np.array([[np.sum(scores >= t) for t in thresholds] for _, scores in defects]),
        area_px=np.array([scores.size for _, scores in defects]),
        peak=np.array([scores[-1] for _, scores in defects]),
        own_peak=np.array([scores[-1] for _, scores in defects]),
        median=np.array([scores[scores.size // 2] for _, scores in defects]),
        image_of_defect=np.array([number for number, _ in defects]),
        defect_type=np.array([("pit", "scratch")[place % 2] for place in range(len(defects))]),
        is_good=np.array([not image.defects for image in images]),
        image_score=np.array([image.score for image in images]),
        sample_id=np.array([f"test/{number}" for number in range(len(images))]),
        group=np.array([image.group for image in images]),
    )


def members_of(tally):
    """The groups of defects that every evaluation has, by the suffix of their figures' names."""
    members = {"": np.ones(tally.area_px.size, dtype=bool)}
    members |= {f"_{name}": part for name, part in zip(QUARTILES, cumulative_quartiles(tally.area_px), strict=True)}
    members |= {f"_only_{name}": part for name, part in zip(QUARTILES, disjoint_quartiles(tally.area_px), strict=True)}
    return members | {f"_{name}": tally.defect_type == name for name in ("pit", "scratch")}


def repeated_figures(images, times, members, fpr_limits, image_threshold):
    """All figures with image i taken `times[i]` times, from all pixels."""
    normal = np.concatenate([np.tile(image.normal, n) for image, n in zip(images, times, strict=True)])
    owner = np.array([number for number, image in enumerate(images) for _ in image.defects])
    regions = [scores for image in images for scores in image.defects]
    figures = {}
    for name, chosen in members.items():
        each = times[owner] * chosen
        drawn = [region for region, n in zip(regions, each, strict=True) for _ in range(n)]
        ranking = rank(np.concatenate(drawn), [normal])
        weights = np.concatenate([np.full(region.size, 1 / region.size / len(drawn)) for region in drawn])
        curve = exact_curve(ranking, weights)
        figures |= {f"aupro{name}@{limit:g}": curve.area(fpr_limit=limit) for limit in fpr_limits}
        holders = np.isin(np.arange(len(images)), owner[chosen])
        figures[f"image_auroc{name}"] = _image_auroc(images, times, holders)
        if name == "":
            truth = np.repeat([1, 0], [ranking.n_defect, normal.size])
            scores = np.concatenate([*drawn, normal])
            figures["pixel_auroc"] = roc_auc_score(truth, scores)
            figures["pixel_average_precision"] = average_precision_score(truth, scores)
            figures["pixel_best_f1"] = best_f1(ranking)
    for limit in fpr_limits:
        figures[f"rho@{limit:g}"] = rho([figures[f"aupro_{name}@{limit:g}"] for name in QUARTILES])
    return figures | _image_figures(images, times, image_threshold)


def _image_auroc(images, times, holders):
    good = [image.score for image, n in zip(images, times, strict=True) for _ in range(n) if not image.defects]
    held = [image.score for image, n, holds in zip(images, times, holders, strict=True) if holds for _ in range(n)]
    return roc_auc_score(np.repeat([1, 0], [len(held), len(good)]), held + good)


def _image_figures(images, times, threshold):
    scores = np.repeat([image.score for image in images], times)
    truth = np.repeat([bool(image.defects) for image in images], times)
    best, lowest_rate = 0.0, 1.0
    for level in scores:
        called = scores >= level
        best = max(best, _f1(called, truth))
        if np.mean(called[truth]) >= 0.95:
            lowest_rate = min(lowest_rate, float(np.mean(called[~truth])))
    return {
        "image_average_precision": average_precision_score(truth, scores),
        "image_best_f1": best,
        "image_f1": _f1(scores > threshold, truth),
        "image_fpr_at_95_tpr": lowest_rate,
    }


def _f1(called, truth):
    return 2 * np.sum(called & truth) / (np.sum(called) + np.sum(truth))
