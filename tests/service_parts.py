"""What the tests of the service share: a quick model, photographs as bytes, the service as an application."""

import io
import threading

import numpy as np
from PIL import Image

from tinydefects.detector.settings import DetectorSettings
from tinydefects.serve.addresses import application
from tinydefects.serve.service import Service
from tinydefects.serve.service_settings import ServeSettings

BASE = "http://localhost"
KEY = "0123456789abcdef"
BYTES = {"Content-Type": "application/octet-stream"}


class Mean:
    """Its score is the mean value of a photograph."""

    settings = DetectorSettings()

    def __init__(self, fingerprint="mean"):
        self.fingerprint = fingerprint

    def decide(self, image):
        return {"verdict": "pass", "score": float(image.mean())}


class Slow(Mean):
    """Decides when it is let; `begun` says that it is about to."""

    def __init__(self):
        super().__init__("slow")
        self.begun, self.let = threading.Event(), threading.Event()
        self.n_decided = 0

    def decide(self, image):
        self.begun.set()
        if not self.let.wait(30):
            raise RuntimeError("was never let")
        self.n_decided += 1
        return super().decide(image)


def photograph(value=7, size=(8, 10), kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(file, format=kind)
    return file.getvalue()


def make(tmp_path, models=None, key=None, **settings):
    """The service, and the application in front of it."""
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    service = Service(models or {"mean": Mean()}, ServeSettings(**settings), scratch=scratch)
    return service, application(service, key)


def left_in(tmp_path):
    return [path for path in (tmp_path / "scratch").rglob("*") if path.is_file()]
