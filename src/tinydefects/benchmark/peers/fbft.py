"""FBFT through the real Detector, and its ablations: one student alone, the sum instead of the product.

The students are kept beside the teacher's features, so that a method and its ablations train once.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tinydefects.benchmark.peers.patch_source import PatchFeatures, PatchSource
from tinydefects.benchmark.peers.peer import PeerInputs
from tinydefects.detector import Detector
from tinydefects.detector_settings import Preset
from tinydefects.errors import ModelFileError, TinyDefectsError
from tinydefects.sample import Prediction, Sample
from tinydefects.students import Combine
from tinydefects.teacher import Teacher, freeze_teacher

STUDENTS_FOLDER = "students"  # beside the features
STORED_LAYOUT = 1  # part of every folder's name; raised when equal settings would no longer give equal students
PUBLISHED_SEED = 115  # of the published code: the benchmark's seed n is 115 + n there


@dataclass(frozen=True, slots=True, kw_only=True)
class FbftOptions:
    """`blocks` is written earlier-later, `7-11`, from 0; empty is the teacher's own choice. The others: `Detector`."""

    epochs: Annotated[int, Field(gt=0)] = 50
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    blocks: Annotated[str, Field(pattern=r"^\d+-\d+$")] | None = None
    patch_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    patience: Annotated[int, Field(gt=0)] | None = None


class FbftPeer:
    """Forward-backward feature transfer (arXiv 2407.04092) in one of its presets, or with one part changed."""

    def __init__(
        self, inputs: PeerInputs, options: FbftOptions, *, preset: Preset = "default", combine: Combine = "product"
    ) -> None:
        teacher = inputs.teacher()
        if options.blocks is not None:
            teacher = with_blocks(teacher, options.blocks)
        self._combine = combine
        self._folder = inputs.features_folder / STUDENTS_FOLDER
        self._untrained = self._detector = Detector(
            teacher=teacher,
            resolution=inputs.resolution,
            epochs=options.epochs,
            seed=inputs.seed + (PUBLISHED_SEED if preset == "published" else 0),
            cache_dir=inputs.features_folder,
            cache_limit_gb=inputs.features_limit_gb,
            preset=preset,
            learning_rate=options.learning_rate,
            patch_fraction=options.patch_fraction,
            validation_fraction=options.validation_fraction,
            patience=options.patience,
        )
        # The detector's own teacher: a preset may ask for another precision.
        self._source = PatchSource(inputs, teacher=self._detector.teacher, preset=preset)

    @property
    def settings(self) -> Mapping[str, object]:
        own = self._untrained.settings.model_dump()
        return own | {"blocks": self._source.teacher.blocks, "combine": self._combine}

    @property
    def size_bytes(self) -> int:
        """Both students, four bytes a weight; an ablation that uses one of them keeps half as much."""
        dim = self._source.teacher.dim
        student_bytes = 3 * (dim * dim + dim) * 4
        return student_bytes * (1 if self._combine in ("forward", "backward") else 2)

    def fit(self, samples: Sequence[Sample]) -> None:
        folder = self._folder / self._digest(samples)
        try:
            self._detector = Detector.load(folder, teacher=self._source.teacher)
        except ModelFileError:  # not there yet, or damaged
            self._detector = self._untrained.fit(sample.image() for sample in samples)
            _save(self._detector, folder)

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return self._source.predictions(samples, self._score)

    def _score(self, features: PatchFeatures) -> list[Prediction]:
        clock, device = self._source.clock, self._source.teacher.device
        with clock("transfer"):
            earlier, later = features.earlier.to(device), features.later.to(device)
        with clock("peer"):
            patch_scores = self._detector.patch_scores(earlier, later, combine=self._combine)
        with clock("map"):
            return [self._detector.prediction(features.grid, scores) for scores in patch_scores]

    def _digest(self, samples: Sequence[Sample]) -> str:
        """Of all that the students depend on: settings, teacher and the training pixels in their order."""
        settings, teacher = self._untrained.settings.model_dump_json(), self._source.teacher
        digest = hashlib.sha256(f"{STORED_LAYOUT} {settings} {teacher.fingerprint} {teacher.device}".encode())
        for sample in samples:
            image = sample.image()
            digest.update(f"{image.shape}".encode())
            digest.update(image.data)
        return digest.hexdigest()


def with_blocks(teacher: Teacher, blocks: str) -> Teacher:
    """The same weights, read at other blocks: `7-11`, from 0.

    Raises:
        TinyDefectsError: the teacher has no such blocks.
    """
    earlier, later = (int(block) for block in blocks.split("-"))
    depth = len(teacher.model.blocks)  # type: ignore[arg-type]
    if not earlier < later < depth:
        raise TinyDefectsError(
            f"blocks={blocks}: {teacher.name} has blocks 0 to {depth - 1}; give an earlier and a later one"
        )
    return freeze_teacher(teacher.name, teacher.model, blocks=(earlier, later), device=teacher.device)


def _save(detector: Detector, folder: Path) -> None:
    try:
        detector.save(folder)
    except ModelFileError:
        if not (folder / "detector.json").is_file():  # else another worker has just saved the same students
            raise
