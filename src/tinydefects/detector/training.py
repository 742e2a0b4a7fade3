"""What stands behind `Detector.fit`: its cost, the cache that the teacher fills, and the epochs of the students on it.

With held-out images training stops when their loss no longer falls. Those are whole images: all tiles and shifts of one
photograph stay on one side.
"""

import contextlib
import copy
import itertools
import math
import operator
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tinydefects.data.images import Images
from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.map_files import pixels_sha256
from tinydefects.decisions.drift import picture_statistics
from tinydefects.detector.features import FeatureCache, FeatureFormat, expected_bytes, n_kept
from tinydefects.detector.learnt import LearntPhotograph
from tinydefects.detector.passes import PassPlan
from tinydefects.detector.patch_grid import Size, image_size
from tinydefects.detector.settings import IMAGES_PER_BATCH, DetectorSettings, Precision, Preset
from tinydefects.detector.students import Batch, StudentPair, mean_loss, train_students
from tinydefects.detector.teacher import Teacher
from tinydefects.errors import TrainingError
from tinydefects.progress import Report

PATIENCE = 3  # epochs, unless told otherwise
PASSES_LOOKED_AT = 32  # to learn what good parts score, evenly spread
SMALLEST_GAIN = 0.01  # share by which the best held-out loss must fall within that many epochs


@dataclass(frozen=True, slots=True, kw_only=True)
class FitCost:
    """What a fit will take: passes and patches of the teacher, each once, and the bytes of their features on disk.

    `n_kept` of the patches are learnt from: all, unless a `patch_fraction` is given.
    """

    n_images: int
    n_passes: int
    n_patches: int
    n_kept: int
    cache_bytes: int

    def __str__(self) -> str:
        passes = "" if self.n_passes == self.n_images else f" {self.n_passes} passes,"
        kept = "" if self.n_kept == self.n_patches else f" {self.n_kept} of them kept,"
        room = f"{self.cache_bytes / 1e9:.3g} GB of teacher features"
        return f"{self.n_images} images,{passes} {self.n_patches} patches,{kept} {room}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch that is over.

    Attributes:
        loss: its mean training loss.
        validation_loss: that of held-out images; None without.
        n_epochs: how many there will be at most, as far as can be told from the steps of those that are over.
        is_last: whether it ends all.
    """

    loss: float
    validation_loss: float | None
    n_epochs: int
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledCache:
    """What the cache holds of each image.

    Attributes:
        plans: its passes, in the order of their features.
        photographs: what it is, and where its features lie.
        n_found: of so many images all features were there before.
    """

    plans: list[PassPlan]
    photographs: list[LearntPhotograph]
    n_found: int

    @property
    def names(self) -> list[tuple[str, str | None]]:
        """What each image is called, and the part it shows; None is a part of its own."""
        return [(one.id, one.part) for one in self.photographs]

    @property
    def digests(self) -> list[str]:
        """sha256 of the pixels of each."""
        return [one.pixels_sha256 for one in self.photographs]

    @property
    def n_passes(self) -> list[int]:
        """Of each image."""
        return [len(plan.grids) for plan in self.plans]


def fit_cost(plans: Sequence[PassPlan], settings: DetectorSettings, *, dim: int) -> FitCost:
    """What fitting to images with these passes takes, with a teacher of `dim` channels."""
    grids = [grid for plan in plans for grid in plan.grids]
    share = settings.patch_fraction
    return FitCost(
        n_images=len(plans),
        n_passes=len(grids),
        n_patches=sum(math.prod(grid.shape) for grid in grids),
        n_kept=sum(n_kept(grid, share) for grid in grids),
        cache_bytes=expected_bytes(
            grids, dim=dim, feature_format=_feature_format(settings.preset), patch_fraction=share
        ),
    )


def require_affordable(cost: FitCost, *, limit_gb: float) -> None:
    """Raise a TrainingError that says what to change if the features cannot all lie within the cache's limit."""
    if cost.cache_bytes > limit_gb * 1e9:
        raise TrainingError(
            f"the features of {cost.n_images} images need {cost.cache_bytes / 1e9:.3g} GB, the limit is "
            f"{limit_gb:.3g} GB: raise cache_limit_gb (--cache-limit-gb) or lower the resolution"
        )


@contextlib.contextmanager
def open_cache(
    folder: Path | None, teacher: Teacher, settings: DetectorSettings, *, limit_gb: float
) -> Iterator[FeatureCache]:
    """The cache in that folder, or in a temporary one that is gone after the block."""
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
        yield FeatureCache(
            folder,
            teacher,
            feature_format=_feature_format(settings.preset),
            limit_bytes=int(limit_gb * 1e9),
            patch_fraction=settings.patch_fraction,
        )


def fill_cache(
    cache: FeatureCache,
    images: Images,
    plan_of: Callable[[Size], PassPlan],
    report: Report,
    *,
    learnt: Sequence[LearntPhotograph] = (),
    pictures: bool = False,
) -> FilledCache:
    """Show every image to the teacher, unless its features are there already; with `pictures`, note what it is like.

    Those of photographs that were `learnt` before come first and have to be there; an image that is one of them, or
    comes twice, is then left out.

    Raises:
        TrainingError: no images, no room for their features, or those that have to be there are not.
    """
    plans, photographs = [plan_of((one.height, one.width)) for one in learnt], list(learnt)
    for one, plan in zip(learnt, plans, strict=True):
        cache.take(one.features, plan.grids)
    if images.in_memory:  # a disk that is too small shows before the first pass
        views = (view for image in images for view in plan_of(image_size(image)).views(image))
        cache.require_space(grid for pixels, grid in views if not cache.holds(pixels, grid))
    total, n_found = operator.length_hint(images) or None, 0
    known, taken = {one.pixels_sha256 for one in learnt}, {one.id for one in learnt}
    for place, image in enumerate(images):
        digest = pixels_sha256(image)
        if not learnt or digest not in known:
            plan = plan_of(image_size(image))
            found = [cache.add(pixels, grid) for pixels, grid in plan.views(image)]
            n_found += all(found)
            plans.append(plan)
            name, part = images.name_of(place)
            own = _free_name(name, taken) if learnt else name
            height, width = image_size(image)
            photographs.append(
                LearntPhotograph(
                    id=own,
                    part=part,
                    height=height,
                    width=width,
                    pixels_sha256=digest,
                    picture=picture_statistics(image) if pictures else None,
                    features=tuple(cache.names[-len(plan.grids) :]),
                )
            )
            known.add(digest)
            taken.add(own)
        report("teacher", place + 1, total)
    if not plans:
        raise TrainingError("there are no training images: give defect-free ones, a handful at least")
    return FilledCache(plans=plans, photographs=photographs, n_found=n_found)


def _free_name(name: str, taken: Container[str]) -> str:
    """The name, else `name (2)`, `name (3)`, …, whichever is the first that is not taken."""
    own, number = name, 2
    while own in taken:
        own, number = f"{name} ({number})", number + 1
    return own


def split_passes(
    n_passes: Sequence[int], fraction: float | None, *, seed: int, without: Container[int] = ()
) -> tuple[list[int], list[int]]:
    """Places in the cache of the passes to learn from and of those held out, given how many each image took.

    Whole images are held out, this share of them, one at least and never all, chosen by the seed; None is none. Images
    `without` are neither learnt from nor held out.

    Raises:
        TrainingError: there is one image only.
    """
    images = [image for image in range(len(n_passes)) if image not in without]
    chosen = set() if fraction is None else _some_images(len(images), fraction, seed)
    held_out = {images[place] for place in chosen}
    others = set(range(len(n_passes))) - set(images)
    learnt, _ = places_of(n_passes, held_out | others)
    return learnt, places_of(n_passes, held_out)[1]


def places_of(n_passes: Sequence[int], held_out_images: Container[int]) -> tuple[list[int], list[int]]:
    """Places in the cache of the passes of all other images, and of those of the images that are held out."""
    learnt, held_out = list[int](), list[int]()
    for image, (count, end) in enumerate(zip(n_passes, itertools.accumulate(n_passes), strict=True)):
        (held_out if image in held_out_images else learnt).extend(range(end - count, end))
    return learnt, held_out


def train_epochs(
    students: StudentPair,
    cache: FeatureCache,
    n_passes: Sequence[int],
    settings: DetectorSettings,
    *,
    without: Container[int] = (),
) -> Iterator[Epoch]:
    """Train in place on the passes that are not held out, and say of every epoch how it went.

    Images `without` stay unknown to the students.

    Raises:
        TrainingError: nothing can be held out, or a loss is not finite; the students then are those of an earlier one.
    """
    learnt, held_out = split_passes(n_passes, settings.validation_fraction, seed=settings.seed, without=without)
    # float16 would lose the gradients of patches: each is divided by the number of patches in the step.
    precision: Precision = "float32" if settings.precision == "float16" else settings.precision
    losses = train_students(
        students,
        _mixed_epochs(cache, learnt, settings),
        learning_rate=settings.learning_rate,
        precision=precision,
        steps=settings.steps,
    )
    epochs = _epochs(losses, settings)
    if not held_out:
        yield from epochs
        return

    def validation_loss() -> float:
        return mean_loss(students, cache.batches(held_out, images=IMAGES_PER_BATCH), precision=precision)

    yield from until_stalled(students, epochs, validation_loss, patience=settings.patience or PATIENCE)


def _epochs(losses: Iterable[Sequence[float]], settings: DetectorSettings) -> Iterator[Epoch]:
    """What the losses of the steps of every epoch say of it."""
    n_steps = 0
    for number, own in enumerate(losses, start=1):
        n_steps += len(own)
        n_epochs = settings.epochs or math.ceil((settings.steps or 0) * number / n_steps)
        is_last = n_steps == settings.steps or number == settings.epochs
        yield Epoch(
            loss=math.fsum(own) / len(own),
            validation_loss=None,
            n_epochs=number if is_last else max(n_epochs, number + 1),
            is_last=is_last,
        )


def good_level(
    students: StudentPair,
    cache: FeatureCache,
    n_passes: Sequence[int],
    settings: DetectorSettings,
    *,
    without: Container[int] = (),
) -> float:
    """What the highest patch score of a good image usually is, in [0, 4]: the median over some of the passes.

    Of held-out images where there are some, else of those learnt from, whose scores are a little lower than others'.
    """
    learnt, held_out = split_passes(n_passes, settings.validation_fraction, seed=settings.seed, without=without)
    places = held_out or learnt
    some = places[:: math.ceil(len(places) / PASSES_LOOKED_AT)]
    highest = [
        students.disagreement(earlier, later, precision=settings.precision).max()
        for earlier, later in cache.batches(some, images=1)
    ]
    return float(torch.stack(highest).median())


def until_stalled(
    students: StudentPair,
    epochs: Iterable[Epoch],
    validation_loss: Callable[[], float],
    *,
    patience: int,
) -> Iterator[Epoch]:
    """Go on with a training that tells of every epoch, to the last or until the held-out loss has stalled.

    When the last epoch is told, the students are back at the one with the lowest held-out loss.

    Raises:
        TrainingError: the held-out loss is not finite; the students are those of the lowest one so far.
    """
    found, best = list[float](), copy.deepcopy(students.state_dict())
    for number, epoch in enumerate(epochs, start=1):
        found.append(validation_loss())
        if not math.isfinite(found[-1]):
            students.load_state_dict(best)
            raise TrainingError(
                f"epoch {number}: the loss of the held-out images is {found[-1]:.4g} and training cannot go on: "
                "lower learning_rate and fit again"
            )
        if found[-1] < min(found[:-1], default=math.inf):
            best = copy.deepcopy(students.state_dict())
        is_last = epoch.is_last or has_stalled(found, patience)
        if is_last:
            students.load_state_dict(best)
        yield replace(epoch, validation_loss=found[-1], is_last=is_last)
        if is_last:
            return


def has_stalled(losses: Sequence[float], patience: int) -> bool:
    """Whether the lowest loss has fallen by less than 1 % within the last `patience` epochs."""
    before = losses[:-patience]
    return bool(before) and min(losses) > (1 - SMALLEST_GAIN) * min(before)


def _some_images(n_images: int, fraction: float, seed: int) -> set[int]:
    if n_images == 1:
        raise TrainingError(
            "there is one training image and none to hold out: give two or more, "
            "or leave out validation_fraction (--validation-fraction)"
        )
    count = min(max(1, round(fraction * n_images)), n_images - 1)
    return set(torch.randperm(n_images, generator=torch.Generator().manual_seed(seed))[:count].tolist())


def _mixed_epochs(cache: FeatureCache, places: Sequence[int], settings: DetectorSettings) -> Iterator[Iterator[Batch]]:
    """The batches of every epoch, from these places of the cache in an order that the seed decides.

    Where steps are counted, epochs go on for as long as they are asked for.
    """
    shuffle = torch.Generator().manual_seed(settings.seed)
    for _ in itertools.count() if settings.epochs is None else range(settings.epochs):
        order = [places[index] for index in torch.randperm(len(places), generator=shuffle).tolist()]
        if settings.patches_per_batch is None:
            yield cache.batches(order, images=IMAGES_PER_BATCH)
        else:
            yield cache.patch_batches(order, patches=settings.patches_per_batch, shuffle=shuffle)


def _feature_format(preset: Preset) -> FeatureFormat:
    return "float32" if preset == "published" else "float16"
