"""A detector with its thresholds as a service asks it: decisions, maps, and good parts added to the thresholds.

Adding keeps all that was there: the file of the thresholds is copied to MODEL/history before it is replaced, and
whoever adds says which thresholds they have seen, so that nobody overwrites another's without knowing.
"""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.map_files import pixels_sha256
from tinydefects.data.pixels import write_whole
from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate
from tinydefects.decisions.calibration import (
    CALIBRATION_FILE,
    Calibration,
    GoodImage,
    read_calibration,
    write_calibration,
)
from tinydefects.decisions.drift import picture_statistics
from tinydefects.detector.deciding import DIGEST_DIGITS
from tinydefects.detector.learnt import HISTORY_FOLDER
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import TinyDefectsError
from tinydefects.serve.work import Image, Made


class MakesMaps(Protocol):
    """A detector, or an exported one."""

    learnt: frozenset[str]

    @property
    def settings(self) -> DetectorSettings: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def colour_scale(self) -> tuple[float, float]: ...
    def predict(self, image: Image) -> Prediction: ...


class ThresholdsChangedError(TinyDefectsError):
    """The thresholds are no longer those that the good parts were to be added to."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A calibration and its revision: a digest of all that is in it."""

    calibration: Calibration
    revision: str

    @classmethod
    def of(cls, calibration: Calibration) -> "Thresholds":
        """With the revision computed."""
        return cls(calibration, hashlib.sha256(calibration.model_dump_json().encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The map of a photograph, (H, W) float32, and the revision of the thresholds that it was decided by."""

    anomaly_map: NDArray[np.float32]
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What came of good parts that were added: the names left out, as they were there, and the file of the history.

    `kept` is empty where nothing was new, and so nothing was written.
    """

    n_added: int
    left_out: tuple[str, ...]
    kept: str = ""


class Calibrated:
    """A model with thresholds.

    Args:
        detector: makes the maps.
        calibration: where its thresholds come from.
        folder: the model's own, in which added good parts are written; None, none can be added.
        pixel_pitch_mm: for sizes in mm; None is that of the calibration.

    Attributes:
        thresholds: those in force, exchanged as a whole.
    """

    def __init__(
        self,
        detector: MakesMaps,
        calibration: Calibration,
        *,
        folder: Path | None = None,
        pixel_pitch_mm: float | None = None,
    ) -> None:
        self.thresholds = Thresholds.of(calibration)
        self.detector = detector
        self._folder, self._given_pitch_mm = folder, pixel_pitch_mm
        self._changing = threading.Lock()

    @property
    def settings(self) -> DetectorSettings:
        """Of the detector."""
        return self.detector.settings

    @property
    def fingerprint(self) -> str:
        """Of the detector."""
        return self.detector.fingerprint

    @property
    def pixel_pitch_mm(self) -> float | None:
        """Millimetres a pixel, where they are known."""
        return self._given_pitch_mm or self.thresholds.calibration.settings.pixel_pitch_mm

    def decide(self, image: Image) -> Mapping[str, Any]:
        """The decision of a photograph (H, W, 3) as a record."""
        return self.inspect(image).decision

    def inspect(self, image: Image) -> Made:
        """The decision of a photograph, and what it was `Seen` as."""
        thresholds, prediction = self.thresholds, self.detector.predict(image)
        decision = thresholds.calibration.decide(prediction, self._given_pitch_mm).record()
        return Made(decision=decision, more=Seen(anomaly_map=prediction.anomaly_map, revision=thresholds.revision))

    def look_at_good(self, image: Image) -> Made:
        """The decision of a photograph of a good part, and its record for `add`: None if the detector has learnt it."""
        digest, calibration = pixels_sha256(image), self.thresholds.calibration
        prediction = self.detector.predict(image)
        decision = calibration.decide(prediction, self._given_pitch_mm).record()
        if digest[:DIGEST_DIGITS] in self.detector.learnt:
            return Made(decision=decision)
        one = GoodPhotograph(id="new", prediction=prediction, pixels_sha256=digest, picture=picture_statistics(image))
        (record,) = calibrate(
            [one],
            calibration.settings,
            fingerprint=self.fingerprint,
            obtained="fresh",
            extent=calibration.extent,
        ).images
        return Made(decision=decision, more=record)

    def add(self, named: Sequence[tuple[str, GoodImage]], revision: str) -> Added:
        """Add records of good parts, each a part of its own; the thresholds follow at once, in memory and on disk.

        Args:
            named: what each photograph is called, and its record.
            revision: of the thresholds that they are added to.

        Raises:
            ThresholdsChangedError: others are in force by now, or the file is no longer the one that was read.
            TinyDefectsError: the model's folder is not known, or cannot be written.
        """
        if self._folder is None:
            raise TinyDefectsError("the model lies in no folder that thresholds could be written to")
        path = self._folder / CALIBRATION_FILE
        with self._changing:
            before = self.thresholds
            if revision != before.revision:
                raise ThresholdsChangedError("good parts have been added meanwhile; look at the thresholds again")
            if not path.is_file() or Thresholds.of(read_calibration(path)).revision != before.revision:
                raise ThresholdsChangedError(
                    f"{CALIBRATION_FILE} has changed since the service read it; start the service again"
                )
            number = _next_number(path.parent / HISTORY_FOLDER)
            after, added = _with_good(before.calibration, named, number)
            if not added.n_added:
                return added
            kept, content = path.parent / HISTORY_FOLDER / f"calibration-{number:04d}.json", path.read_bytes()
            write_whole(kept, lambda file: file.write(content))
            write_calibration(path, after)
            self.thresholds = Thresholds.of(after)
        return Added(n_added=added.n_added, left_out=added.left_out, kept=f"{HISTORY_FOLDER}/{kept.name}")


def _with_good(
    calibration: Calibration, named: Sequence[tuple[str, GoodImage]], number: int
) -> tuple[Calibration, Added]:
    """The calibration with these as well; what `obtained` promises of all is at least what it says of the old ones."""
    known, new, left_out = {one.pixels_sha256 for one in calibration.images}, [], []
    for place, (name, record) in enumerate(named):
        if record.pixels_sha256 in known:
            left_out.append(name)
            continue
        known.add(record.pixels_sha256)
        own = f"added {number:04d}/{place} {name}"
        new.append(record.model_copy(update={"id": own, "part": own}))
    content = {name: getattr(calibration, name) for name in Calibration.model_fields}
    content["images"] = (*calibration.images, *new)
    return Calibration.model_validate(content), Added(n_added=len(new), left_out=tuple(left_out))


def _next_number(history: Path) -> int:
    """One more than the highest of the calibrations that are kept there."""
    found = [path.stem.removeprefix("calibration-") for path in history.glob("calibration-*.json")]
    return max((int(number) for number in found if number.isdecimal()), default=0) + 1
