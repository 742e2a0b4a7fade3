"""Detector: forward-backward feature transfer (FBFT, arXiv 2407.04092), from defect-free images to anomaly maps.

Three presets. `published` does everything as the published code does, oddities included. `default` differs where that
code loses pixels or precision: each image keeps its proportions and maps back exactly. Its students learn for fewer
steps, and its maps are not blurred, which hides small defects (docs/study.md). `v0.1` is what `default` was before
those two: fifty epochs, and a blur that does not darken the border. Tiles, shifts and native size are for both.
"""

import itertools
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tinydefects.data.images import Channels, GivenImage, ImageLike, Images, require_channels
from tinydefects.data.pixels import read_size
from tinydefects.data.read_ahead import THREADS, read_ahead
from tinydefects.data.sample import Prediction
from tinydefects.data.walk import counted
from tinydefects.decisions.calibrating import calibrate
from tinydefects.decisions.calibration import CalibrationSettings
from tinydefects.detector.cross_fit import deal, score_unseen
from tinydefects.detector.deciding import Deciding, learnt_of, read_scored, stored_calibration
from tinydefects.detector.devices import CPU, require_device
from tinydefects.detector.features import FeatureCache
from tinydefects.detector.learnt import FEATURES_FOLDER, Learnt, LearntPhotograph, Unseen
from tinydefects.detector.model_file import (
    describe_fit,
    fingerprint_of,
    read_detector,
    restore_students,
    write_detector,
)
from tinydefects.detector.passes import Mosaic, PassPlan, score_in_batches
from tinydefects.detector.patch_grid import PatchGrid, Size, image_size
from tinydefects.detector.settings import DetectorSettings, Precision, colour_scale, image_score, require_pair
from tinydefects.detector.students import Combine, StudentPair
from tinydefects.detector.teacher import Teacher, load_teacher, read_architecture
from tinydefects.detector.training import (
    FitCost,
    fill_cache,
    fit_cost,
    good_level,
    open_cache,
    require_affordable,
    train_epochs,
)
from tinydefects.errors import NotFittedError, TinyDefectsError, TrainingError
from tinydefects.progress import Report, reporting


class Detector(Deciding):
    """Learns what defect-free images look like, then says of every pixel how far it is from that.

    Args:
        settings: what it is told, see `DetectorSettings`; None is the defaults.
        teacher: in place of the one in the settings; a loaded `Teacher` brings its own blocks and device.
        teacher_weights: a file instead of the hub.
        device: None is cuda, mps or cpu, the first there is.
        compiled: whether torch compiles the teacher, see `Teacher.compiled`; not saved with the detector.
        cache_dir: where teacher features are kept between fits; None is a temporary folder.
        cache_limit_gb: bound on that folder, 1 GB = 1e9 bytes.
        changes: any of the settings by name, in place of those in `settings`: `Detector(resolution=1036)`.

    Raises:
        TinyDefectsError: a setting is impossible.
    """

    def __init__(
        self,
        settings: DetectorSettings | None = None,
        *,
        teacher: str | Teacher | None = None,
        teacher_weights: Path | None = None,
        device: str | None = None,
        compiled: bool = False,
        cache_dir: Path | None = None,
        cache_limit_gb: float = 20.0,
        **changes: object,
    ) -> None:
        if teacher is not None:
            changes["teacher"] = teacher.name if isinstance(teacher, Teacher) else teacher
        self.settings = (settings or DetectorSettings()).with_changes(**changes)
        require_pair(self.settings.blocks)
        self.teacher_weights = teacher_weights
        self.device = require_device(device)
        self.compiled = compiled
        self.cache_dir = cache_dir
        self.cache_limit_gb = cache_limit_gb
        self.losses: list[float] = []  # mean training loss of every finished epoch
        self.validation_losses: list[float] = []  # of the held-out images after each of them
        self.good_level: float | None = None  # what the highest patch score of a good image usually is
        self.n_images = 0
        self.learnt: frozenset[str] = frozenset()  # digests of the photographs it has learnt from, see `deciding`
        self.photographs: list[LearntPhotograph] = []  # given to the last fit
        self.unseen: Unseen | None = None  # how it took thresholds
        self.n_resumed = 0  # of these photographs, those whose features an earlier fit had left in the cache
        given = teacher if isinstance(teacher, Teacher) else None
        self._teacher = given and self._prepared(given)
        self._students: StudentPair | None = None

    def __repr__(self) -> str:
        """One line: what it is, and what it was fitted to; nothing is loaded for it."""
        settings = self.settings
        told = [f"teacher={settings.teacher!r}", f"resolution={settings.resolution!r}"]
        told += [f"{name}={getattr(settings, name)}" for name in ("tile", "stride") if getattr(settings, name)]
        if settings.preset != "default":
            told.append(f"preset={settings.preset!r}")
        state = "not fitted"
        if self._students is not None:
            state = f"fitted on {counted('image', self.n_images)}, {counted('epoch', len(self.losses))}"
        return f"Detector({', '.join(told)}): {state}"

    @property
    def teacher(self) -> Teacher:
        """The teacher, loaded when it is first asked for."""
        if self._teacher is None:
            loaded = load_teacher(
                self.settings.teacher, weights=self.teacher_weights, blocks=self.settings.blocks, device=self.device
            )
            self._teacher = self._prepared(loaded)
        return self._teacher

    def _prepared(self, teacher: Teacher) -> Teacher:
        require_pair(teacher.blocks)
        return replace(teacher, precision=self.settings.precision, compiled=self.compiled)

    @property
    def students(self) -> StudentPair:
        """The fitted students.

        Raises:
            NotFittedError: there are none yet.
        """
        return self._fitted_students()

    def fit(
        self,
        images: Iterable[ImageLike],
        *,
        channels: Channels = "rgb",
        calibration: CalibrationSettings | None = None,
        unseen: Unseen = "held out",
        learnt: Sequence[LearntPhotograph] = (),
        progress: Report | bool | None = None,
    ) -> Self:
        """Learn from defect-free images: one teacher pass fills the cache, the students train on it.

        Args:
            images: several, in any form that `predict` takes: `category.train`, paths, `folder.glob("*.png")`.
                Files are read a few ahead, and refused together before the first one if their features are too large.
            channels: **"bgr" for arrays that OpenCV read**, see `predict`.
            calibration: what is wished of thresholds, which then are taken from these images, too; None takes none.
            unseen: how images become unknown to the students that score them, see `cross_fit`: `held out` learns
                from four fifths of the images, `folds` from all and trains five pairs of students more.
            learnt: photographs of an earlier fit, whose features lie in `cache_dir`: learnt from as if they came first.
            progress: None is a bar on standard error in a terminal or a notebook, False nothing; or a function that is
                called with the stage (`teacher`: images; `students`, `students of folds`: epochs), how many are done,
                and the total, None where it is not known.

        Raises:
            ImageReadError: one is no image, see `predict`; or all of them are a single image or a category.
            TrainingError: no images, none to hold out, no room for the features, only a share of the patches kept
                where thresholds are wished for, or a loss that is not finite; in the last case the detector keeps the
                students of the last finished epoch.
        """
        if calibration and self.settings.patch_fraction is not None:
            raise TrainingError(
                "thresholds need every patch, and patch_fraction (--patch-fraction) keeps a share: leave one of them "
                "out (--thresholds none); calibrate later with photographs that the detector does not know"
            )
        given = Images(images, bits=self.settings.image_bits, channels=channels, split="train")
        given.require_good()
        self._students, self.losses, self.validation_losses, self.good_level = None, [], [], None
        self.calibration = None
        if given.files:
            self.require_affordable(self.expected_cost(given.files))
        with (
            reporting(progress) as report,
            open_cache(self.cache_dir, self.teacher, self.settings, limit_gb=self.cache_limit_gb) as cache,
        ):
            filled = fill_cache(cache, given, self.passes, report, learnt=learnt, pictures=calibration is not None)
            self.photographs, self.unseen = filled.photographs, unseen if calibration else None
            folds, without = None, frozenset[int]()
            if calibration:
                folds = deal(filled.names, filled.digests, unseen=unseen, seed=self.settings.seed)
                without = folds.never_learnt
            self.n_images, self.n_resumed = len(filled.plans) - len(without), filled.n_found
            self.learnt = learnt_of(filled.digests, without)
            self._train(cache, filled.n_passes, report, without)
            if calibration and folds:
                scored = score_unseen(
                    folds, cache, filled, self.students, self.settings, predict=self.prediction, report=report
                )
                self.calibration = calibrate(scored, calibration, fingerprint=self.fingerprint, obtained=unseen)
        return self

    def predict(self, image: ImageLike, *, channels: Channels = "rgb", batch_size: int = 1) -> Prediction:
        """The (H, W) anomaly map of an image at its own size, values in [0, 4], and its score.

        Args:
            image: a path; an image of Pillow's; a NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8,
                uint16, or floats in [0, 1]; a tensor (C, H, W); or a `Sample`. All forms of one picture give one map,
                see `data.images.as_image`. 16-bit values are scaled by the setting `image_bits`.
            channels: the order of colours in arrays and tensors. **Give "bgr" for what OpenCV read** (`cv2.imread`):
                else red and blue are exchanged, which raises no error and spoils the map.
            batch_size: so many tiles are shown to the teacher at once, see `predict_many`.

        Raises:
            ImageReadError: it is no image, or has 16-bit values beyond `image_bits`.
            NotFittedError, ScoreError, TinyDefectsError: as `predict_many`.
        """
        require_channels(channels)
        given = GivenImage(image, self.settings.image_bits, channels)
        (prediction,) = self._predict_each([given], batch_size)
        return prediction

    def predict_many(
        self, images: Iterable[ImageLike], *, channels: Channels = "rgb", batch_size: int = 1
    ) -> Iterator[Prediction]:
        """The prediction of every image, in order; the teacher sees `batch_size` images or tiles of one size at once.

        Meant for GPUs: a CPU gains nothing. Sizes and forms may be mixed, see `predict`. Images are drawn as they are
        needed, one ahead, a few for a GPU, and let go once the teacher's inputs are made of them: at most
        `4 * batch_size` inputs wait for others of their size, from at most so many images. Above 1, maps may differ in
        their last digits from those of 1.

        Raises:
            ImageReadError: one is no image, after the predictions of those before it; or all are a single one.
            NotFittedError: there are no students yet.
            ScoreError: in the preset `published`, an image has fewer than 1,000 pixels.
            TinyDefectsError: `batch_size` is below 1, or a batch does not fit into the memory of the GPU.
        """
        given = Images(images, bits=self.settings.image_bits, channels=channels)
        return self._predict_each(given.given(), batch_size)

    def _predict_each(self, images: Iterable[GivenImage], batch_size: int) -> Iterator[Prediction]:
        self._fitted_students()
        if batch_size < 1:
            raise TinyDefectsError(f"batch_size {batch_size}: give 1 or more")
        # The next image, a few for a GPU, is read and resized while the teacher works; torch, whose threads would be in
        # the way, is not part of it.
        inputs = read_ahead(self._inputs, images, threads=1 if self.teacher.device == CPU else THREADS)
        scored = score_in_batches(inputs, self._scores, batch_size=batch_size)
        return (self.prediction(mosaic.plan.grid, mosaic.scores) for mosaic in scored)

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
        """What fitting to these files will take, from their headers and the teacher's architecture alone.

        Raises:
            ImageReadError: a file is no image.
            TeacherError: no such teacher.
        """
        if self._teacher is None:
            patch, dim = read_architecture(self.settings.teacher, weights=self.teacher_weights)
        else:
            patch, dim = self.teacher.patch_size, self.teacher.dim
        plans = [self.settings.passes(read_size(path), patch=patch) for path in image_paths]
        return fit_cost(plans, self.settings, dim=dim)

    def require_affordable(self, cost: FitCost) -> None:
        """Refuse a fit whose features cannot all lie within the cache's limit, before the first image is read.

        Raises:
            TrainingError: they cannot; the message says what to change.
        """
        require_affordable(cost, limit_gb=self.cache_limit_gb)

    @property
    def kept_epoch(self) -> int:
        """From 1, the epoch whose students were kept: that of the lowest held-out loss, without one the last."""
        losses = self.validation_losses
        return losses.index(min(losses)) + 1 if losses else len(self.losses)

    @property
    def colour_scale(self) -> tuple[float, float]:
        """Between which values of a map an overlay goes from the photograph to red; good parts stay below."""
        return colour_scale(self.good_level)

    @property
    def fingerprint(self) -> str:
        """sha256 over all that the maps depend on: preset, resolution, tiles and shifts, teacher and students."""
        return fingerprint_of(self.settings, self.teacher, self._fitted_students())

    def save(self, folder: str | Path) -> None:
        """Write the students and all settings; the teacher's weights stay where they are.

        With a `cache_dir` of FOLDER/features, what was learnt is recorded beside them.

        Raises:
            NotFittedError: there is nothing to save yet.
            ModelFileError: the folder holds other files, or cannot be written.
        """
        students = self._fitted_students()
        saved = describe_fit(
            self.settings,
            self.teacher,
            n_images=self.n_images,
            losses=self.losses,
            validation_losses=self.validation_losses,
            good_level=self.good_level,
            learnt=self.learnt,
        )
        weights = {key: value.cpu() for key, value in students.state_dict().items()}
        learnt, features = None, Path(folder).absolute() / FEATURES_FOLDER
        if self.photographs and self.cache_dir and self.cache_dir.absolute() == features:
            learnt = Learnt(fingerprint=self.fingerprint, unseen=self.unseen, photographs=tuple(self.photographs))
        write_detector(Path(folder), saved, weights, self.calibration, learnt)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        teacher: Teacher | None = None,
        teacher_weights: Path | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        compiled: bool = False,
        calibrated: bool = True,
    ) -> Self:
        """A saved detector, ready to predict; a `teacher` that is already loaded can be shared.

        `precision` other than None replaces the one it was fitted with; thresholds that belong to another are then
        left out, with a line that says so. `calibrated=False` does not look at its thresholds, damaged ones perhaps.

        Raises:
            ModelFileError: the files are incomplete, or belong to a teacher with other weights.
            ResultError: its thresholds cannot be read, or belong to another detector.
            TeacherError: the teacher cannot be loaded.
        """
        saved, weights = read_detector(Path(folder))
        settings = saved.settings.with_changes(blocks=saved.teacher.blocks)
        detector = cls(
            settings if precision is None else settings.with_changes(precision=precision),
            teacher=teacher,
            teacher_weights=teacher_weights,
            device=device,
            compiled=compiled,
        )
        detector._students = restore_students(saved, weights, detector.teacher, folder=folder)
        detector.losses, detector.validation_losses = list(saved.losses), list(saved.validation_losses)
        detector.n_images, detector.good_level = saved.n_images, saved.good_level
        detector.learnt = frozenset(saved.learnt)
        if calibrated:
            other = precision is not None and precision != settings.precision
            reason = f"it is for {settings.precision}, not for {precision}" if other else ""
            detector.calibration = stored_calibration(Path(folder), detector, otherwise=reason)
        return detector

    def _inputs(self, given: GivenImage) -> tuple[Mosaic, Iterator[NDArray[np.uint8]]]:
        """The input of every pass; the first one, for which the image is read and resized, at once."""
        image = read_scored(given, self.settings.preset)
        plan = self.passes(image_size(image))
        inputs = (grid.to_pixels(pixels) for pixels, grid in plan.views(image))
        return Mosaic(plan), itertools.chain([next(inputs)], inputs)

    def _scores(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.patch_scores(*self.teacher.features(self.teacher.normalise(batch))).float().cpu().numpy()

    def _fitted_students(self) -> StudentPair:
        if self._students is None:
            raise NotFittedError("this detector knows nothing yet: fit it to defect-free images or load a saved one")
        return self._students

    def _train(self, cache: FeatureCache, n_passes: Sequence[int], report: Report, without: Container[int]) -> None:
        students = StudentPair(self.teacher.dim, seed=self.settings.seed).to(self.teacher.device)
        for epoch in train_epochs(students, cache, n_passes, self.settings, without=without):
            self._students = students
            self.losses.append(epoch.loss)
            if epoch.validation_loss is not None:
                self.validation_losses.append(epoch.validation_loss)
            done = len(self.losses)
            report("students", done, done if epoch.is_last else epoch.n_epochs)
        self.good_level = good_level(students, cache, n_passes, self.settings, without=without)
