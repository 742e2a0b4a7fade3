"""Good parts as students see them that did not learn from them, for thresholds; the teacher looks at nothing twice.

Parts are dealt into folds. `held out`: the detector never learns from those of the first fold, and they alone are
scored. `folds`: the detector learns from all, and each fold is scored by students of their own, who learn from the
others: five trainings more, on features that are there already. Features are stored in 16 bits by the default preset,
which moves these scores by less than a thousandth.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibrating import GoodPhotograph
from tinydefects.detector.features import FeatureCache
from tinydefects.detector.learnt import Unseen
from tinydefects.detector.passes import PassPlan
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.settings import DetectorSettings
from tinydefects.detector.students import StudentPair
from tinydefects.detector.training import FilledCache, places_of, train_epochs
from tinydefects.errors import TrainingError
from tinydefects.progress import Report

N_FOLDS = 5
Predict = Callable[[PatchGrid, NDArray[np.float32]], Prediction]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """Which images are held out together.

    Attributes:
        names: what each image is called, and the part it shows; None is a part of its own.
        digests: sha256 of their pixels.
        fold_of: the fold of each, from 0.
        unseen: whether every fold is scored, or the first alone.
    """

    names: Sequence[tuple[str, str | None]]
    digests: Sequence[str]
    fold_of: Sequence[int]
    unseen: Unseen

    @property
    def never_learnt(self) -> frozenset[int]:
        """Images that the detector itself must not learn from."""
        return self.images_of(0) if self.unseen == "held out" else frozenset()

    def images_of(self, fold: int) -> frozenset[int]:
        """The images of a fold."""
        return frozenset(image for image, own in enumerate(self.fold_of) if own == fold)


def deal(
    names: Sequence[tuple[str, str | None]],
    digests: Sequence[str],
    *,
    unseen: Unseen,
    seed: int,
    n_folds: int = N_FOLDS,
) -> Folds:
    """Folds of nearly equal size in an order that the seed decides; one part, or the same pixels twice, share a fold.

    So many at most, and no more than there are parts.

    Raises:
        TrainingError: there is one part only, or two images have one name.
    """
    n_images = len(names)
    twice = next((name for name, count in Counter(name for name, _ in names).items() if count > 1), None)
    if twice is not None:
        raise TrainingError(f"{twice}: is given twice; thresholds count every photograph once, give it once")
    whole = [name if part is None else f"part {part}" for name, part in names]
    shared = {text: n_images + place for place, text in enumerate(dict.fromkeys([*whole, *digests]))}
    links = [(image, shared[text]) for texts in (whole, digests) for image, text in enumerate(texts)]
    rows, columns = np.array(links).T
    graph = coo_array((np.ones(len(links)), (rows, columns)), shape=(n_images + len(shared),) * 2)
    _, group_of = connected_components(graph, directed=False)
    groups, sizes = np.unique(group_of[:n_images], return_counts=True)
    if len(groups) < 2:
        raise TrainingError(
            "the good photographs show one part, and none is left to hold out: give photographs of more parts, or fit "
            "without thresholds (--thresholds none)"
        )
    filled, fold_of_group = np.zeros(min(n_folds, len(groups)), dtype=int), dict[int, int]()
    for place in np.random.default_rng(seed).permutation(len(groups)):
        emptiest = int(filled.argmin())
        fold_of_group[int(groups[place])] = emptiest
        filled[emptiest] += sizes[place]
    fold_of = [fold_of_group[int(group)] for group in group_of[:n_images]]
    return Folds(names=names, digests=digests, fold_of=fold_of, unseen=unseen)


def score_unseen(
    folds: Folds,
    cache: FeatureCache,
    filled: FilledCache,
    students: StudentPair,
    settings: DetectorSettings,
    predict: Predict,
    report: Report,
) -> Iterator[GoodPhotograph]:
    """Every held-out image as students see it that did not learn from it.

    Args:
        folds: which images are held out together.
        cache: the features of every patch of all images.
        filled: in which passes they came.
        students: the detector's own.
        settings: of the detector.
        predict: map and score that follow from the scores of an image's patches.
        report: called with ("students of folds", epochs done, all of them).
    """
    held_out = [(folds.images_of(0), students)]
    for images, judges in held_out if folds.unseen == "held out" else judges_of(folds, cache, filled, settings, report):
        for image in sorted(images):
            plan, (name, part) = filled.plans[image], folds.names[image]
            _, places = places_of(filled.n_passes, {image})
            scores = plan.merge(_pass_scores(plan, places, cache, judges, settings))
            prediction = predict(plan.grid, scores)
            yield GoodPhotograph(
                id=name,
                part=part,
                prediction=prediction,
                pixels_sha256=folds.digests[image],
                picture=filled.photographs[image].picture,
                patch_px=plan.grid.patch_px,
            )


def judges_of(
    folds: Folds, cache: FeatureCache, filled: FilledCache, settings: DetectorSettings, report: Report
) -> Iterator[tuple[frozenset[int], StudentPair]]:
    """The images of every fold, and students who learnt from those of the others alone.

    Arguments as of `score_unseen`.
    """
    n_folds = max(folds.fold_of) + 1
    for fold in range(n_folds):
        images = folds.images_of(fold)
        judges = StudentPair(cache.teacher.dim, seed=settings.seed).to(cache.teacher.device)
        for number, epoch in enumerate(train_epochs(judges, cache, filled.n_passes, settings, without=images), start=1):
            done = epoch.n_epochs if epoch.is_last else number
            report("students of folds", fold * epoch.n_epochs + done, n_folds * epoch.n_epochs)
        yield images, judges


def _pass_scores(
    plan: PassPlan, places: Sequence[int], cache: FeatureCache, students: StudentPair, settings: DetectorSettings
) -> Iterator[NDArray[np.float32]]:
    for place, grid in zip(places, plan.grids, strict=True):
        ((earlier, later),) = cache.batches([place], images=1)
        scores = students.disagreement(earlier, later, precision=settings.precision)
        yield scores.reshape(grid.shape).float().cpu().numpy()
