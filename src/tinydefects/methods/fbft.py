"""FBFT through the real Detector, and its ablations: one student alone, the sum instead of the product.

The students are kept beside the teacher's features, so that a method and its ablations train once.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from tinydefects.data.sample import Prediction, Sample
from tinydefects.detector.detector import Detector
from tinydefects.detector.settings import Preset
from tinydefects.detector.students import Combine
from tinydefects.errors import ModelFileError
from tinydefects.methods.method import MethodInputs, read_settings
from tinydefects.methods.patches import Features, PatchSource

STUDENTS_FOLDER = "students"  # beside the features
STORED_LAYOUT = 1  # part of every folder's name; raised when equal settings would no longer give equal students
PUBLISHED_SEED = 115  # of the published code: the benchmark's seed n is 115 + n there


class FbftMethod:
    """Forward-backward feature transfer (arXiv 2407.04092) in one of its presets, or with one part changed."""

    def __init__(self, inputs: MethodInputs, *, preset: Preset = "default", combine: Combine = "product") -> None:
        settings = read_settings(
            inputs.options,
            resolution=inputs.resolution,
            seed=inputs.seed + (PUBLISHED_SEED if preset == "published" else 0),
            preset=preset,
        )
        self._combine = combine
        self._folder = inputs.features_folder / STUDENTS_FOLDER
        self._source = PatchSource(inputs, settings=settings)
        self._untrained = self._detector = Detector(
            settings,
            teacher=self._source.teacher,
            cache_dir=inputs.features_folder,
            cache_limit_gb=inputs.features_limit_gb,
        )

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
            self._detector = self._untrained.fit((sample.image() for sample in samples), progress=False)
            _save(self._detector, folder)

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        return self._source.predictions(samples, self._score)

    def patch_scores(self, earlier: Tensor, later: Tensor) -> Tensor:
        """Scores (B, h, w) of the teacher's features (B, h, w, C) of both blocks; higher is more anomalous."""
        return self._detector.patch_scores(earlier, later, combine=self._combine)

    def _score(self, blocks: list[Tensor]) -> Features:
        clock, device = self._source.clock, self._source.teacher.device
        with clock("transfer"):
            earlier, later = (block.to(device) for block in blocks)
        with clock("method"):
            scores = self.patch_scores(earlier, later).float()
        with clock("transfer"):
            return scores.cpu().numpy()

    def _digest(self, samples: Sequence[Sample]) -> str:
        """Of all that the students depend on: settings, teacher and the training pixels in their order."""
        settings, teacher = self._untrained.settings.model_dump_json(), self._source.teacher
        digest = hashlib.sha256(f"{STORED_LAYOUT} {settings} {teacher.fingerprint} {teacher.device}".encode())
        for sample in samples:
            image = sample.image()
            digest.update(f"{image.shape}".encode())
            digest.update(image.data)
        return digest.hexdigest()


def _save(detector: Detector, folder: Path) -> None:
    try:
        detector.save(folder)
    except ModelFileError:
        if not (folder / "detector.json").is_file():  # else another worker has just saved the same students
            raise
