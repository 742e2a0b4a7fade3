"""Arrays in, numbers out: the metrics as functions of masks and maps in memory, by the engine behind `evaluate`.

All take the same two arguments, and each image counts at its own size:

    masks: one for each image, (H, W) or (1, H, W), bool or 0 and 1 or 0 and 255; None, or nothing marked, is a good
        image. Masks are the truth: nothing resizes them.
    maps: one for each image, of its mask's size; finite floats of any width or integers, higher is more anomalous.
        They are compared as float32: scores that differ by less are ties.

Both are lists, generators (then one map is held at a time) or one stacked array (N, H, W) or (N, 1, H, W). NumPy
arrays and whatever else becomes one, tensors on the CPU among them, are taken. Normal scores go to the temporary
folder, four bytes a pixel, as `evaluate` has them. What is undefined is nan. What cannot be scored raises an error that
names it by position, such as `maps[3]`: MaskError, ScoreError, ResolutionMismatchError or DatasetError, all of them
ValueError.
"""

from collections.abc import Iterable
from typing import Any, Literal

from numpy.typing import ArrayLike

from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.arrays import array_pairs
from tinydefects.metrics.detectability import DEFAULT_RULE, Detectability, DetectionRule
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import Evaluation

Masks = Iterable[ArrayLike | None]
Maps = Iterable[ArrayLike]
Level = Literal["pixel", "image"]


def aupro(masks: Masks, maps: Maps, *, fpr_limit: float = 0.05) -> float:
    """AUPRO@fpr_limit over all defects, in [0, 1]: 1 finds every defect at once, fpr_limit / 2 is chance.

    The area under the per-region-overlap curve (Bergmann et al. 2021) for false-positive rates in [0, `fpr_limit`],
    divided by `fpr_limit`, which is in (0, 1]. Defects are 8-connected regions; the curve is exact and tie-aware. nan
    without a defect or without a normal pixel. AUPRO by size, and at several limits, is in `evaluate_arrays`.

    >>> import numpy as np
    >>> mask = np.array([[1, 0, 0, 0, 0]])
    >>> aupro([mask, None], [np.array([[0.9, 0.2, 0.1, 0.1, 0.1]]), np.zeros((2, 3))], fpr_limit=0.3)
    1.0
    """
    return evaluate_arrays(masks, maps, fpr_limits=(fpr_limit,), n_resamples=0).overall.aupro[0]


def auroc(masks: Masks, maps: Maps, *, level: Level = "pixel", scores: Iterable[float] | None = None) -> float:
    """AUROC in [0, 1], 0.5 is chance: the share of pairs of a defective and a good one in the right order, ties half.

    At `level="pixel"` (`pixel_auroc` of an `Evaluation`) all pixels of all images are pooled; at `level="image"`
    (`image_auroc`) an image whose mask marks anything is defective, and is ranked by `scores`, one finite number for
    each image, or else by the mean of the highest 0.1 % of its map. nan when one of the two kinds is missing.

    Raises:
        TinyDefectsError: another level, or `scores` at the level of pixels; see above for what else.
    """
    return _at_level("auroc", level, masks, maps, scores)


def average_precision(
    masks: Masks, maps: Maps, *, level: Level = "pixel", scores: Iterable[float] | None = None
) -> float:
    """Average precision in [0, 1]: precision at each distinct score, weighted by the recall gained there.

    Step-wise as scikit-learn has it, nothing is interpolated; chance is the share of defective ones. `level`, `scores`,
    nan and errors as in `auroc`.
    """
    return _at_level("average_precision", level, masks, maps, scores)


def aupimo(masks: Masks, maps: Maps) -> float:
    """Mean AUPIMO of the defective images, in [0, 1] (Bertoldo et al. 2024, arXiv 2401.01984).

    Recall of an image's defect pixels over the logarithm of the good images' mean false-positive rate, from 1e-5 to
    1e-4, at all scores instead of a grid of them. A constant map scores (1e-4 - 1e-5) / ln 10. nan without good images
    or without a defect; each image's own is in `Evaluation.aupimo_by_image`.
    """
    return evaluate_arrays(masks, maps, n_resamples=0).aupimo


def pod(
    masks: Masks, maps: Maps, *, detection_rule: DetectionRule = DEFAULT_RULE, false_alarm_rate: float | None = None
) -> Detectability:
    """Probability of detection against defect diameter: hits and misses, and a50, a90, a90/95 in px (`.fit`).

    Whether a defect is detected is decided by `detection_rule` at a `false_alarm_rate` in [0, 1), the rule's own unless
    given: by default its own peak exceeds the lowest threshold that at most 5 % of the good images exceed anywhere. A
    logistic curve in the logarithm of the diameter is fitted (MIL-HDBK-1823A). Sizes are nan where `.fit.remarks` says
    why: without good images, with fewer than ten defects, or when all or none are detected.
    """
    evaluation = evaluate_arrays(
        masks, maps, detection_rule=detection_rule, false_alarm_rate=false_alarm_rate, n_resamples=0
    )
    return evaluation.detectability


def evaluate_arrays(
    masks: Masks,
    maps: Maps,
    *,
    scores: Iterable[float] | None = None,
    labels: Iterable[int] | None = None,
    ids: Iterable[str] | None = None,
    groups: Iterable[str] | None = None,
    **settings: Any,  # noqa: ANN401
) -> Evaluation:
    """Every number of one category at once, with intervals: `evaluate` for images in memory.

    Args:
        masks: as described at the head of this module.
        maps: as described there.
        scores: one finite image score for each image; else the mean of the highest 0.1 % of its map.
        labels: 0 for a good image, 1 for a defective one; else what marks a pixel is defective. Needed for defective
            images that nobody outlined: they count for the image numbers, their pixels nowhere.
        ids: `split/type/stem`, such as `test/crack/000`, each once; the second part is the defect type.
        groups: what belongs together when images are drawn for intervals: one part seen under several lightings.
        settings: what `evaluate` takes by name: `fpr_limits`, `bins`, `threshold`, `n_resamples`, … There are no
            crops of photographs and no contrasts.

    Raises:
        MaskError: a mask of another shape or with other values than described, or with too many regions.
        ScoreError: a map that is not (H, W), not numbers or not finite, or such a score.
        ResolutionMismatchError: a map and its mask differ in size.
        DatasetError: no image, one list longer than another, an id twice, a label that contradicts its mask.
        TinyDefectsError: as `evaluate`.
    """
    pairs = array_pairs(masks, maps, scores=scores, labels=labels, ids=ids, groups=groups)
    return evaluate(pairs, **{"n_crops": 0, **settings})


def _at_level(name: str, level: str, masks: Masks, maps: Maps, scores: Iterable[float] | None) -> float:
    if level not in ("pixel", "image"):
        raise TinyDefectsError(f"level is {level!r}; choose 'pixel' or 'image'")
    if level == "pixel" and scores is not None:
        raise TinyDefectsError("scores are of images; pass level='image' with them, or leave them out")
    return float(getattr(evaluate_arrays(masks, maps, scores=scores, n_resamples=0), f"{level}_{name}"))
