"""Answer requests: serve."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.cli.options import say
from tinydefects.cli.settings_options import Compiled, GivenDevice, GivenPrecision, GivenWeights, options_of
from tinydefects.data.walk import real_path
from tinydefects.detector.outputs import PixelPitch
from tinydefects.errors import MissingExtraError, TinyDefectsError
from tinydefects.serve.service_settings import ServeSettings

if TYPE_CHECKING:
    from tinydefects.detector.detector import Detector
    from tinydefects.export.exported import ExportedDetector
    from tinydefects.serve.work import Decides

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PACKAGES = {"fastapi", "starlette", "uvicorn", "prometheus_client", "python_multipart"}
GAVE_UP = 143


class ServeOptions(ServeSettings):
    """What `tinydefects serve` takes besides: what computes."""

    teacher_weights: GivenWeights = None
    device: GivenDevice = None
    precision: GivenPrecision = None
    compiled: Compiled = False
    pixel_pitch_mm: PixelPitch = None


@options_of(ServeOptions)
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]MODEL...",
            help="Folders written by 'tinydefects fit' or 'tinydefects export'; a folder's name is the model's.",
        ),
    ],
    settings: ServeOptions,
) -> None:
    """Answer requests over HTTP, and serve a page to look at photographs with. Nothing leaves the machine.

    Stops on SIGTERM or Ctrl-C once the requests at hand are answered.
    """
    try:
        from tinydefects.serve.gate import key_remark, read_key
        from tinydefects.serve.running import run_service
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise MissingExtraError("serve", "serve") from error

    key, remark = read_key(settings, os.environ), key_remark(settings)
    if remark:
        say(remark)
    places = _places_of(models)

    def ready(address: str) -> None:
        say(f"{address}: serving {', '.join(places)}" + ("" if key else "; whoever is on this machine may ask"))

    served = run_service(lambda: _load_models(places, settings), settings, key, ready=ready)
    print(served, flush=True)
    if served.is_stuck:
        sys.stderr.flush()
        os._exit(GAVE_UP)


def _places_of(models: Sequence[str]) -> dict[str, Path]:
    """Folders by the names that models are served under: `MODEL` or `NAME=MODEL`.

    Raises:
        TinyDefectsError: a name has other than plain letters, or stands there twice.
    """
    places: dict[str, Path] = {}
    for word in models:
        before, _, after = word.partition("=")
        is_named = after and NAME.fullmatch(before) and not Path(word).exists()
        name, path = (before, Path(after)) if is_named else (real_path(Path(word)).name, Path(word))
        if not NAME.fullmatch(name):
            raise TinyDefectsError(f"{word}: a model's name has letters, digits, '.', '_' and '-'; give NAME={word}")
        if name in places:
            raise TinyDefectsError(f"{name}: two models of that name; give one of them another: other={word}")
        places[name] = path
    return places


def _load_models(places: Mapping[str, Path], settings: ServeOptions) -> "dict[str, Decides]":
    """The models by name.

    Raises:
        NotFittedError: one has no thresholds.
    """
    from tinydefects.detector.deciding import require_calibration
    from tinydefects.export.exported import load_model
    from tinydefects.serve.calibrated import Calibrated

    told = settings.model_dump(include={"teacher_weights", "device", "precision", "compiled"})
    loaded: dict[str, Decides] = {}
    detectors: list[Detector | ExportedDetector] = []  # the next one can share a teacher with them
    for name, path in places.items():
        detectors.append(detector := load_model(path, **told, loaded=detectors))
        calibration = require_calibration(detector.calibration, path)
        loaded[name] = Calibrated(detector, calibration, folder=path, pixel_pitch_mm=settings.pixel_pitch_mm)
    return loaded
