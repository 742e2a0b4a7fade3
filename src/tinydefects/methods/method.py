"""What a comparable method is, what a job hands to one: its inputs, its options from text, a clock of its stages.

Options are what stands behind a method's name, `patchcore:coreset=0.01`; they are checked before anything runs.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from tinydefects.data.json_files import parse_json
from tinydefects.data.sample import Prediction, Sample
from tinydefects.datasets.folder import suggest
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.detector.teacher import Teacher

STAGES = ("decode", "resize", "transfer", "teacher", "method", "map")
Options = TypeVar("Options")
INPUT = ("tile", "overlap", "stride", "precision", "blocks")  # settings of how the teacher sees an image
LEARNING = (
    "steps",
    "epochs",
    "learning_rate",
    "patches_per_batch",
    "patch_fraction",
    "validation_fraction",
    "patience",
)


class StageClock:
    """Adds up the seconds of each stage while it runs; while it does not, it costs next to nothing.

    A running clock also tells shared parts to compute what they would otherwise look up: a feature that was read from
    disk says nothing about the teacher's speed.
    """

    def __init__(self) -> None:
        self.running = False
        self.synchronise: Callable[[], None] = lambda: None  # waits for the device, where there is one
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count what happens inside to a stage of `STAGES`."""
        if not self.running:
            yield
            return
        start = time.perf_counter()
        yield
        self.synchronise()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds of each stage since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds


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
        clock: times the stages of a prediction, see `StageClock`.
        options: what stood behind the method's name, `coreset=0.01`.
    """

    teacher: "Callable[[], Teacher]"
    resolution: int
    seed: int
    features_folder: Path
    features_limit_gb: float = 20.0
    category: str = ""
    device: str | None = None
    clock: StageClock = field(default_factory=StageClock)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoOptions:
    """Of a method that has nothing to set."""


def read_options(kind: type[Options], texts: Mapping[str, str], *, beside: Sequence[str] = ()) -> Options:
    """A frozen dataclass from text by name; what is not named keeps its default, and names `beside` it are let be.

    Raises:
        TinyDefectsError: an option that the method does not have, or a value of another kind or out of its range.
    """
    own = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    known = [*own, *beside]
    for name in texts:
        if name not in known:
            raise TinyDefectsError(f"{name}: no such option; {suggest(name, known) if known else 'there are none'}")
    try:
        return TypeAdapter(kind).validate_strings({name: text for name, text in texts.items() if name in own})
    except ValidationError as error:
        raise TinyDefectsError(_complaint(error, texts)) from error


def read_settings(texts: Mapping[str, str], **told: object) -> DetectorSettings:
    """The settings of a detector among the options of a method, and those that the job tells.

    Raises:
        TinyDefectsError: a value of another kind or out of its range, or two that exclude each other.
    """
    given = {name: _parsed(text) for name, text in texts.items() if name in (*INPUT, *LEARNING)}
    try:
        return DetectorSettings.model_validate(given | told)
    except ValidationError as error:
        raise TinyDefectsError(_complaint(error, texts)) from error


def _parsed(text: str) -> object:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _complaint(error: ValidationError, texts: Mapping[str, str]) -> str:
    fault = error.errors(include_url=False)[0]
    if not fault["loc"]:
        return fault["msg"]
    name = ".".join(str(part) for part in fault["loc"])
    given = f" (got {texts[name]!r})" if name in texts else ""
    return f"option {name}: {fault['msg']}{given}"
