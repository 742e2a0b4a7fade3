"""From a map to a decision, alike for detectors and exported ones: thresholds from good parts they do not know."""

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.images import Channels, GivenImage, ImageLike, Images, require_channels
from tinydefects.data.leftovers import tell
from tinydefects.data.map_files import pixels_sha256
from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate
from tinydefects.decisions.calibration import (
    CALIBRATION_FILE,
    Calibration,
    CalibrationSettings,
    read_calibration,
)
from tinydefects.decisions.decision import Decision
from tinydefects.decisions.drift import picture_statistics
from tinydefects.detector.patch_grid import PatchGrid, Size, image_size
from tinydefects.detector.settings import DetectorSettings, Preset, require_scored
from tinydefects.errors import DatasetError, NotFittedError
from tinydefects.progress import Report, reporting

DIGEST_DIGITS = 16  # of sha256, by which a photograph that was learnt from is known again


class Maps(Protocol):
    """What makes maps and carries thresholds."""

    calibration: Calibration | None
    learnt: frozenset[str]

    @property
    def settings(self) -> DetectorSettings: ...
    @property
    def fingerprint(self) -> str: ...
    def grid(self, size: Size) -> PatchGrid: ...
    def predict(self, image: NDArray[np.uint8]) -> Prediction: ...


class Deciding:
    """`calibrate` and `decide` of a detector.

    Attributes:
        calibration: the good parts that thresholds follow from; None where there are none yet.
        learnt: digests of the photographs that it has learnt from, see `learnt_of`; none where they are not known.
    """

    calibration: Calibration | None = None
    learnt: frozenset[str] = frozenset()

    def calibrate(
        self: Maps,
        images: Iterable[ImageLike],
        settings: CalibrationSettings | None = None,
        *,
        channels: Channels = "rgb",
        progress: Report | bool | None = None,
    ) -> Calibration:
        """Take thresholds from good photographs that the detector has not learnt from; `save` keeps them.

        Args:
            images: as `predict` takes them. A `Sample` with a `group` says which photographs show one part.
            settings: what is wished for, see `CalibrationSettings`.
            channels: **"bgr" for arrays that OpenCV read**.
            progress: as for `fit`; the stage is `calibrate`.

        Raises:
            ImageReadError: one is no image.
            DatasetError: there is none, two have one name, or the detector has learnt from one of them.
        """
        given = Images(images, bits=self.settings.image_bits, channels=channels)
        given.require_good()
        with reporting(progress) as report:
            self.calibration = calibrate(
                _scored(self, given),
                settings or CalibrationSettings(),
                fingerprint=self.fingerprint,
                obtained="fresh",
                progress=report,
            )
        return self.calibration

    def decide(
        self: Maps, image: ImageLike, *, channels: Channels = "rgb", pixel_pitch_mm: float | None = None
    ) -> Decision:
        """Good, defect or unsure, and the regions that stand out.

        Args:
            image: as `predict` takes it.
            channels: **"bgr" for arrays that OpenCV read**.
            pixel_pitch_mm: millimetres a pixel, for sizes in mm; None is that of the calibration.

        Raises:
            NotFittedError: there are no thresholds yet.
            ImageReadError: it is no image.
        """
        thresholds = require_calibration(self.calibration)
        require_channels(channels)
        pixels = GivenImage(image, self.settings.image_bits, channels).read()
        return thresholds.decide(self.predict(pixels), pixel_pitch_mm)


def read_scored(given: GivenImage, preset: Preset) -> NDArray[np.uint8]:
    """The pixels (H, W, 3) of an image that the preset has a score for.

    Raises:
        ImageReadError: it is no image.
        ScoreError: the preset has none, see `require_scored`; the message names the file, or the place of the image.
    """
    image = given.read()
    require_scored(image_size(image), preset=preset, name=given.name)
    return image


def require_calibration(calibration: Calibration | None, source: object = "this detector") -> Calibration:
    """The calibration, where there is one.

    Raises:
        NotFittedError: there is none.
    """
    if calibration is None:
        model = source if isinstance(source, Path) else "MODEL"
        raise NotFittedError(
            f"{source}: has no thresholds yet; calibrate it with good photographs that it has not learnt from: "
            f"tinydefects calibrate {model} GOOD, in Python Detector.calibrate"
        )
    return calibration


def calibration_in(folder: Path) -> Calibration | None:
    """The calibration beside a model, whosever it is; None where there is none.

    Raises:
        ResultError: it cannot be read.
    """
    path = folder / CALIBRATION_FILE
    there = path.exists() or path.is_symlink()  # one that leads nowhere is no calibration left out
    return read_calibration(path) if there else None


def stored_calibration(folder: Path, detector: Maps, *others: str, otherwise: str = "") -> Calibration | None:
    """The calibration beside a model, which must be that of this detector or one of the other fingerprints.

    None where there is none. `otherwise` is a reason why it may be another's: then it is left out, with a line that
    gives the reason.

    Raises:
        ResultError: it cannot be read, or belongs to another detector.
    """
    calibration = calibration_in(folder)
    if calibration is None or calibration.fingerprint in {detector.fingerprint, *others}:
        return calibration
    path = folder / CALIBRATION_FILE
    if not otherwise:
        calibration.require_made_by(detector.fingerprint, path)
    tell(f"{path}: left out, as {otherwise}")
    return None


def _scored(detector: Maps, given: Images) -> Iterator[GoodPhotograph]:
    for place, image in enumerate(given):
        (name, part), digest = given.name_of(place), pixels_sha256(image)
        if digest[:DIGEST_DIGITS] in detector.learnt:
            raise DatasetError(
                f"{name}: the detector has learnt from this photograph, so it scores lower than a new one would, and "
                "thresholds would promise too much: give good photographs that were not in the training folder"
            )
        yield GoodPhotograph(
            id=name,
            part=part,
            prediction=detector.predict(image),
            pixels_sha256=digest,
            picture=picture_statistics(image),
            patch_px=detector.grid(image_size(image)).patch_px,
        )


def learnt_of(digests: Sequence[str], without: Container[int]) -> frozenset[str]:
    """By what a detector knows again, pixel by pixel, the images that it has learnt from: all but those `without`."""
    return frozenset(digest[:DIGEST_DIGITS] for place, digest in enumerate(digests) if place not in without)
