"""Detector: forward-backward feature transfer (FBFT, arXiv 2407.04092), from defect-free images to anomaly maps.

Two presets. `published` does everything as the published code does, oddities included. `default` differs where that
code loses pixels or precision: each image keeps its proportions and maps back exactly, the blur does not darken the
border, and the image score takes at least one pixel. Tiles, shifts and native size are the default preset's, too.
"""

import contextlib
import hashlib
import math
import operator
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from tinydefects.detector_file import (
    DetectorSettings,
    Precision,
    Preset,
    SavedDetector,
    SavedTeacher,
    first_fault,
    image_score,
    read_detector,
    refuse_contradictions,
    write_detector,
)
from tinydefects.errors import ModelFileError, NotFittedError, TinyDefectsError, TrainingError
from tinydefects.feature_cache import FeatureCache, FeatureFormat, expected_bytes
from tinydefects.passes import PassPlan
from tinydefects.patch_grid import PatchGrid, Size, image_size, whole_patches
from tinydefects.pixels import read_size
from tinydefects.precision import SIXTEEN_BITS
from tinydefects.sample import Prediction
from tinydefects.students import Batch, Combine, StudentPair, train_students
from tinydefects.teacher import Teacher, load_teacher

Progress = Callable[[str, int, int | None], None]  # stage ("teacher", "students"), done, total where it is known
LEARNING_RATES = {"published": 1e-4, "default": 1e-3}  # the published code's; the paper's, better in fewer epochs
DEFAULT_RESOLUTION = 1036
IMAGES_PER_BATCH = 4
PRECISIONS: dict[Preset, Precision] = {"published": "highest", "default": "float32"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FitCost:
    """What a fit will take: passes and patches of the teacher, each once, and the bytes of their features on disk."""

    n_images: int
    n_passes: int
    n_patches: int
    cache_bytes: int

    def __str__(self) -> str:
        passes = "" if self.n_passes == self.n_images else f" {self.n_passes} passes,"
        room = f"{self.cache_bytes / 1e9:.3g} GB of teacher features"
        return f"{self.n_images} images,{passes} {self.n_patches} patches, {room}"


class Detector:
    """Learns what defect-free images look like, then says of every pixel how far it is from that.

    Args:
        teacher: `builtin`, any ViT of timm, or a loaded `Teacher` (which brings its own blocks and device).
        teacher_weights: a file instead of the hub.
        resolution: long side, in pixels, to which an image is scaled for the teacher, rounded to whole patches;
            `native` scales nothing; None is 1036, and `native` with tiles.
        epochs: passes of the students over the training images.
        seed: of the students' initial weights and the order of images.
        device: None is cuda, mps or cpu, the first there is.
        cache_dir: where teacher features are kept between fits; None is a temporary folder.
        cache_limit_gb: bound on that folder, 1 GB = 1e9 bytes.
        preset: see the module.
        blocks: earlier and later block of the teacher, from 0; None is the teacher's own choice.
        learning_rate: of Adam; None is 1e-3, in the preset `published` 1e-4.
        precision: of all matrix products, see `precision.arithmetic`; None is `float32`, in the preset `published`
            `highest`. With `float16` the students still learn in float32. The cache keeps 16-bit features apart.
        patches_per_batch: patches in one step of the students, mixed across images; None is all patches of four
            images. The loss depends on the number of steps: lower `epochs` with it.
        tile: side of the squares into which the scaled image is cut, in its pixels; one pass of the teacher each.
        overlap: pixels that neighbouring tiles share, at least; None is an eighth of a tile.
        stride: pixels from one patch to the next, a divisor of the patch size; half of it is four shifted passes.

    Raises:
        TinyDefectsError: a setting is impossible.
    """

    def __init__(
        self,
        *,
        teacher: str | Teacher = "vit_base_patch14_reg4_dinov2",
        teacher_weights: Path | None = None,
        resolution: int | Literal["native"] | None = None,
        epochs: int = 50,
        seed: int = 0,
        device: str | None = None,
        cache_dir: Path | None = None,
        cache_limit_gb: float = 20.0,
        preset: Preset = "default",
        blocks: tuple[int, int] | None = None,
        learning_rate: float | None = None,
        precision: Precision | None = None,
        patches_per_batch: int | None = None,
        tile: int | None = None,
        overlap: int | None = None,
        stride: int | None = None,
    ) -> None:
        if resolution is None:
            resolution = DEFAULT_RESOLUTION if tile is None else "native"
        try:
            self.settings = DetectorSettings(
                teacher=teacher.name if isinstance(teacher, Teacher) else teacher,
                blocks=blocks,
                resolution=resolution,
                epochs=epochs,
                seed=seed,
                preset=preset,
                learning_rate=LEARNING_RATES.get(preset, 1e-3) if learning_rate is None else learning_rate,
                precision=precision or PRECISIONS.get(preset, "float32"),
                patches_per_batch=patches_per_batch,
                tile=tile,
                overlap=overlap,
                stride=stride,
            )
        except ValidationError as error:
            raise TinyDefectsError(f"Detector: {first_fault(error)}") from error
        refuse_contradictions(self.settings)
        self.teacher_weights = teacher_weights
        self.device = device
        self.cache_dir = cache_dir
        self.cache_limit_gb = cache_limit_gb
        self.losses: list[float] = []  # mean training loss of every finished epoch
        self.n_images = 0
        given = teacher if isinstance(teacher, Teacher) else None
        self._teacher = given and replace(given, precision=self.settings.precision)
        self._students: StudentPair | None = None

    @property
    def teacher(self) -> Teacher:
        """The teacher, loaded when it is first asked for."""
        if self._teacher is None:
            loaded = load_teacher(
                self.settings.teacher, weights=self.teacher_weights, blocks=self.settings.blocks, device=self.device
            )
            self._teacher = replace(loaded, precision=self.settings.precision)
        return self._teacher

    @property
    def students(self) -> StudentPair:
        """The fitted students.

        Raises:
            NotFittedError: there are none yet.
        """
        return self._fitted_students()

    def fit(self, images: Iterable[NDArray[np.uint8]], *, progress: Progress | None = None) -> Self:
        """Learn from defect-free (H, W, 3) uint8 images: one teacher pass fills the cache, the students train on it.

        Raises:
            TrainingError: no images, no room for the features, or a loss that is not finite; in the last case the
                detector keeps the students of the last finished epoch.
        """
        self._students, self.losses = None, []
        report = progress or (lambda stage, done, total: None)
        with self._open_cache() as cache:
            self.n_images = self._fill(cache, images, report)
            self._train(cache, report)
        return self

    def predict(self, image: NDArray[np.uint8]) -> Prediction:
        """The (H, W) anomaly map of an (H, W, 3) uint8 image at its own size, values in [0, 4], and its score."""
        self._fitted_students()
        plan = self.passes(image_size(image))
        patch_scores = plan.merge(self._view_scores(pixels, grid) for pixels, grid in plan.views(image))
        return self.prediction(plan.grid, patch_scores)

    def patch_scores(self, earlier: Tensor, later: Tensor, *, combine: Combine = "product") -> Tensor:
        """Scores (B, h, w) in [0, 4] of the teacher's features (B, h, w, C) of both blocks; higher is more anomalous.

        `combine` other than `product` is an ablation of the method, see `students.disagreement`.
        """
        students, precision = self._fitted_students(), self.settings.precision
        return students.disagreement(earlier, later, combine=combine, precision=precision)

    def prediction(self, grid: PatchGrid, patch_scores: Tensor | NDArray[np.float32]) -> Prediction:
        """The map and the image score that follow from patch scores of one image: (h, w), or denser with a stride."""
        anomaly_map = grid.to_image(patch_scores, stride=self.settings.stride)
        return Prediction(anomaly_map, image_score(anomaly_map, preset=self.settings.preset))

    def grid(self, size: Size) -> PatchGrid:
        """How an image of (H, W) pixels is divided into patches."""
        return self.settings.grid(size, patch=self.teacher.patch_size)

    def passes(self, size: Size) -> PassPlan:
        """In which passes the teacher sees an image of (H, W) pixels: one, or tiles and shifts."""
        return self.settings.passes(size, patch=self.teacher.patch_size)

    def expected_cost(self, image_paths: Iterable[Path]) -> FitCost:
        """What fitting to these files will take, from their headers alone.

        Raises:
            ImageReadError: a file is no image.
        """
        plans = [self.passes(read_size(path)) for path in image_paths]
        grids = [grid for plan in plans for grid in plan.grids]
        return FitCost(
            n_images=len(plans),
            n_passes=len(grids),
            n_patches=sum(math.prod(grid.shape) for grid in grids),
            cache_bytes=expected_bytes(grids, dim=self.teacher.dim, feature_format=self._feature_format),
        )

    def require_affordable(self, cost: FitCost) -> None:
        """Refuse a fit whose features cannot all lie within the cache's limit, before the first image is read.

        Raises:
            TrainingError: they cannot; the message says what to change.
        """
        if cost.cache_bytes > self.cache_limit_gb * 1e9:
            raise TrainingError(
                f"the features of {cost.n_images} images need {cost.cache_bytes / 1e9:.3g} GB, the limit is "
                f"{self.cache_limit_gb:.3g} GB: raise cache_limit_gb (--cache-limit-gb) or lower the resolution"
            )

    @property
    def fingerprint(self) -> str:
        """sha256 over all that the maps depend on: preset, resolution, tiles and shifts, teacher and students."""
        settings = self.settings
        digest = hashlib.sha256(f"{settings.preset} {settings.resolution} {self.teacher.fingerprint}".encode())
        if not settings.is_one_pass:
            digest.update(f"tile {settings.tile} overlap {settings.overlap} stride {settings.stride}".encode())
        if settings.precision in SIXTEEN_BITS:
            digest.update(settings.precision.encode())
        for weights in self._fitted_students().state_dict().values():
            digest.update(weights.cpu().contiguous().numpy())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the students and all settings; the teacher's weights stay where they are.

        Raises:
            NotFittedError: there is nothing to save yet.
            ModelFileError: the folder holds other files, or cannot be written.
        """
        students, teacher = self._fitted_students(), self.teacher
        saved = SavedDetector(
            format=1,
            settings=self.settings,
            teacher=SavedTeacher(
                name=teacher.name,
                fingerprint=teacher.fingerprint,
                patch_size=teacher.patch_size,
                dim=teacher.dim,
                blocks=teacher.blocks,
            ),
            resolution_px=self._resolution_px,
            n_images=self.n_images,
            losses=tuple(self.losses),
            device=teacher.device,
            versions={package: version(package) for package in ("tinydefects", "torch", "timm", "numpy", "pillow")},
        )
        write_detector(Path(folder), saved, {key: value.cpu() for key, value in students.state_dict().items()})

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        teacher: Teacher | None = None,
        teacher_weights: Path | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> Self:
        """A saved detector, ready to predict; a `teacher` that is already loaded can be shared.

        `precision` other than None replaces the one it was fitted with.

        Raises:
            ModelFileError: the files are incomplete, or belong to a teacher with other weights.
            TeacherError: the teacher cannot be loaded.
        """
        saved, weights = read_detector(Path(folder))
        stored = saved.settings.model_dump(exclude_unset=True) | {
            "teacher": teacher or saved.teacher.name,
            "blocks": saved.teacher.blocks,
        }
        if precision is not None:
            stored["precision"] = precision
        detector = cls(**stored, teacher_weights=teacher_weights, device=device)
        if detector.teacher.fingerprint != saved.teacher.fingerprint:
            raise ModelFileError(
                f"{folder}: trained with {saved.teacher.name} of fingerprint {saved.teacher.fingerprint[:12]}, this is "
                f"{detector.teacher.fingerprint[:12]}: give the weights file it was trained with, or fit again"
            )
        students = StudentPair(saved.teacher.dim)
        try:
            students.load_state_dict(weights)
        except RuntimeError as error:
            raise ModelFileError(f"{folder}: the students do not fit {saved.teacher.name}; save it again") from error
        detector._students = students.to(detector.teacher.device)
        detector.losses, detector.n_images = list(saved.losses), saved.n_images
        return detector

    @property
    def _resolution_px(self) -> int | None:
        resolution = self.settings.resolution
        return None if resolution == "native" else whole_patches(resolution, self.teacher.patch_size)

    def _view_scores(self, pixels: NDArray[np.uint8], grid: PatchGrid) -> NDArray[np.float32]:
        patches = grid.to_patches(pixels, self.teacher.mean, self.teacher.std)
        patch_scores = self.patch_scores(*self.teacher.features(patches[None]))
        return patch_scores[0].float().cpu().numpy()

    @property
    def _feature_format(self) -> FeatureFormat:
        return "float32" if self.settings.preset == "published" else "float16"

    def _fitted_students(self) -> StudentPair:
        if self._students is None:
            raise NotFittedError("this detector knows nothing yet: fit it to defect-free images or load a saved one")
        return self._students

    @contextlib.contextmanager
    def _open_cache(self) -> Iterator[FeatureCache]:
        with contextlib.ExitStack() as stack:
            folder = self.cache_dir
            if folder is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tinydefects-")))
            limit_bytes = int(self.cache_limit_gb * 1e9)
            yield FeatureCache(folder, self.teacher, feature_format=self._feature_format, limit_bytes=limit_bytes)

    def _fill(self, cache: FeatureCache, images: Iterable[NDArray[np.uint8]], report: Progress) -> int:
        if isinstance(images, (list, tuple)):  # all at hand: a disk that is too small shows before the first pass
            views = (view for image in images for view in self.passes(image_size(image)).views(image))
            cache.require_space(grid for pixels, grid in views if not cache.holds(pixels, grid))
        total, n_images = operator.length_hint(images) or None, 0
        for n_images, image in enumerate(images, start=1):
            for pixels, grid in self.passes(image_size(image)).views(image):
                cache.add(pixels, grid)
            report("teacher", n_images, total)
        if not n_images:
            raise TrainingError("there are no training images: give defect-free ones, a handful at least")
        return n_images

    def _train(self, cache: FeatureCache, report: Progress) -> None:
        settings = self.settings
        students = StudentPair(self.teacher.dim, seed=settings.seed).to(self.teacher.device)
        # float16 would lose the gradients of patches: each is divided by the number of patches in the step.
        precision: Precision = "float32" if settings.precision == "float16" else settings.precision
        epochs = self._epochs(cache)
        for losses in train_students(students, epochs, learning_rate=settings.learning_rate, precision=precision):
            self._students = students
            self.losses.append(math.fsum(losses) / len(losses))
            report("students", len(self.losses), settings.epochs)

    def _epochs(self, cache: FeatureCache) -> Iterator[Iterator[Batch]]:
        shuffle = torch.Generator().manual_seed(self.settings.seed)
        for _ in range(self.settings.epochs):
            order = torch.randperm(len(cache), generator=shuffle).tolist()
            if self.settings.patches_per_batch is None:
                yield cache.batches(order, images=IMAGES_PER_BATCH)
            else:
                yield cache.patch_batches(order, patches=self.settings.patches_per_batch, shuffle=shuffle)
