"""What a comparable method is, and what a job hands to one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tinydefects.data.sample import Prediction, Sample
from tinydefects.detector.teacher import Teacher
from tinydefects.methods.stages import StageClock


class Method(Protocol):
    """A method under test."""

    @property
    def settings(self) -> Mapping[str, object]:
        """All that its numbers depend on, for the record."""

    @property
    def size_bytes(self) -> int:
        """What it keeps to predict, without the teacher: students, bank, covariance, …"""

    def fit(self, samples: Sequence[Sample]) -> None:
        """Learn from defect-free samples; their masks and all test images are out of reach."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        """One prediction a sample, at each image's own size; several samples are one batch where that helps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInputs:
    """What a job hands to the method it builds.

    Attributes:
        teacher: loads the shared teacher; methods that need none never call it.
        resolution: long side of the teacher's input in pixels.
        features_folder: where teacher features, and students trained on them, are kept between methods and runs.
        features_limit_gb: bound on that folder, 1 GB = 1e9 bytes.
        category: address, for methods that look up stored maps.
        device: None is the best one present.
        clock: times the stages of a prediction, see `stages.py`.
        options: what stood behind the method's name, `coreset=0.01`.
    """

    teacher: Callable[[], Teacher]
    resolution: int
    seed: int
    features_folder: Path
    features_limit_gb: float = 20.0
    category: str = ""
    device: str | None = None
    clock: StageClock = field(default_factory=StageClock)
    options: Mapping[str, str] = field(default_factory=dict)
