"""A model whose map is how far a pixel is from mid-gray, calibrated and quick: for tests of maps and thresholds.

Run as a program it serves that model: `python contrast_model.py FOLDER`, in which its thresholds are kept.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tinydefects.data.map_files import pixels_sha256
from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibrating import GoodPhotograph, calibrate
from tinydefects.decisions.calibration import CALIBRATION_FILE, CalibrationSettings, write_calibration
from tinydefects.detector.settings import DetectorSettings
from tinydefects.serve.calibrated import Calibrated
from tinydefects.serve.service_settings import ServeSettings

N_GOOD = 40
SIZE = (90, 120)
GRAY = 128


class Contrast:
    """Map: distance from mid-gray of the mean colour, 1 for the furthest; score: its highest value."""

    settings = DetectorSettings()
    fingerprint = "contrast"
    colour_scale = (0.2, 0.6)

    def __init__(self, learnt=()):
        self.learnt = frozenset(learnt)

    def predict(self, image):
        distance = np.abs(image.astype(np.float32).mean(axis=2) - GRAY) / GRAY
        return Prediction(distance.astype(np.float32), float(distance.max()))


def pixels(seed, *spots, size=SIZE, noise=10):
    """A gray photograph (H, W, 3) with noise, and spots (row, column, side, value) on it."""
    shade = np.random.default_rng(seed).integers(-noise, noise + 1, size)
    image = np.repeat((GRAY + shade)[..., None], 3, axis=2).astype(np.uint8)
    for row, column, side, value in spots:
        image[row : row + side, column : column + side] = value
    return image


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG")
    return file.getvalue()


def good_spot(seed):
    """A faint spot, so that good parts have scores of their own."""
    return 20, 30, 3, GRAY + 20 + seed % 20


def calibrated(folder, *, n_good=N_GOOD, learnt=(), **wishes):
    """The model with the thresholds of good parts, which are written into the folder."""
    detector, settings = Contrast(learnt), CalibrationSettings(**{"false_alarms": 0.1, **wishes})
    good = [pixels(seed, good_spot(seed)) for seed in range(n_good)]
    calibration = calibrate(
        [
            GoodPhotograph(id=str(seed), prediction=detector.predict(image), pixels_sha256=pixels_sha256(image))
            for seed, image in enumerate(good)
        ],
        settings,
        fingerprint=detector.fingerprint,
        obtained="held out",
    )
    write_calibration(folder / CALIBRATION_FILE, calibration)
    return Calibrated(detector, calibration, folder=folder)


def main():
    from tinydefects.serve.running import run_service

    folder, key = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None
    for name in ("parts", "other"):
        (folder / name).mkdir(exist_ok=True)
    models = {
        "parts": calibrated(folder / "parts", pixel_pitch_mm=0.05),
        "other": calibrated(folder / "other", n_good=5),
    }
    settings = ServeSettings(port=0, scratch=folder, allow_recalibration=key is not None, most_photographs=4)
    served = run_service(
        lambda: models, settings, key, ready=lambda address: print(address, file=sys.stderr, flush=True)
    )
    print(served, flush=True)


if __name__ == "__main__":
    main()
