"""ExportedDetector: an exported folder as a detector, run by ONNX Runtime or OpenVINO; torch is not imported.

Neither runtime reports anything to its maker or writes to the user's home, see `privacy`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.images import Channels, GivenImage, ImageLike, Images, require_channels
from tinydefects.data.sample import Prediction
from tinydefects.data.walk import EXPORT_FILE
from tinydefects.detector.deciding import Deciding, read_scored, stored_calibration
from tinydefects.detector.model_file import read_detector
from tinydefects.detector.patch_grid import PatchGrid, Size, image_size
from tinydefects.detector.settings import DetectorSettings, colour_scale, image_score
from tinydefects.detector.settings import Precision as DetectorPrecision
from tinydefects.errors import MissingExtraError, ModelFileError, ResolutionMismatchError, TinyDefectsError
from tinydefects.export.manifest import MODEL_FILES, Interface, Precision, Session, Target, is_export, read_manifest
from tinydefects.privacy import silence_reports, without_reporting

if TYPE_CHECKING:
    from tinydefects.detector.detector import Detector

OPENVINO_HINTS: dict[Precision, str] = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


class ExportedDetector(Deciding):
    """A model, and what belongs around it; `load` makes one from an exported folder.

    Attributes:
        interface: what the model is fed and answers.
        fingerprint: sha256 over the folder's manifest, which holds those of all files; `source` is named in errors.
    """

    def __init__(
        self, interface: Interface, session: Session, *, fingerprint: str = "", source: object = EXPORT_FILE
    ) -> None:
        self.interface = interface
        self.fingerprint = fingerprint
        self._session = session
        self._source = source

    @classmethod
    def load(cls, folder: str | Path, *, threads: int | None = None, calibrated: bool = True) -> Self:
        """The model of a folder that `tinydefects export` wrote, on the CPU; `threads` None is the runtime's choice.

        `calibrated=False` does not look at its thresholds, damaged ones perhaps.

        Raises:
            ModelFileError: a file is missing, damaged, or its runtime does not take it.
            MissingExtraError: its runtime is not installed.
            ResultError: its thresholds cannot be read, or belong to another detector.
        """
        folder = Path(folder)
        manifest = read_manifest(folder)
        session = open_session(folder, manifest.target, manifest.precision, threads=threads)
        fingerprint = hashlib.sha256((folder / EXPORT_FILE).read_bytes()).hexdigest()
        exported = cls(manifest.interface, session, fingerprint=fingerprint, source=folder / EXPORT_FILE)
        exported.learnt = frozenset(manifest.learnt)
        if calibrated:
            exported.calibration = stored_calibration(folder, exported, manifest.detector)
        return exported

    @property
    def settings(self) -> DetectorSettings:
        """Of the detector that was exported."""
        return self.interface.settings

    @property
    def colour_scale(self) -> tuple[float, float]:
        """As that of the detector that was exported."""
        return colour_scale(self.interface.good_level)

    def grid(self, size: Size) -> PatchGrid:
        """How an image of (H, W) pixels is divided into patches."""
        return self.settings.grid(size, patch=self.interface.patch_size)

    def predict(self, image: ImageLike, *, channels: Channels = "rgb") -> Prediction:
        """The (H, W) anomaly map of an image at its own size and its score; takes what `Detector.predict` takes.

        `channels` is **"bgr" for arrays that OpenCV read**.

        Raises:
            ImageReadError: it is no image, see `data.images.as_image`.
            ScoreError: in the preset `published`, it has fewer than 1,000 pixels.
            ResolutionMismatchError: the model was exported for another image size, or the image is one patch wide.
        """
        require_channels(channels)
        return self._predict(GivenImage(image, self.settings.image_bits, channels))

    def predict_many(
        self, images: Iterable[ImageLike], *, channels: Channels = "rgb", batch_size: int = 1
    ) -> Iterator[Prediction]:
        """The prediction of every image, in order, one after the other.

        Raises:
            ImageReadError: they are a single image.
            TinyDefectsError: `batch_size` is not 1.
        """
        if batch_size != 1:
            raise TinyDefectsError(
                f"batch_size {batch_size}: an exported model takes one image or tile at a time; leave it out "
                "(--batch-size) or use the detector itself"
            )
        return map(self._predict, Images(images, bits=self.settings.image_bits, channels=channels).given())

    def _predict(self, given: GivenImage) -> Prediction:
        image = read_scored(given, self.settings.preset)
        size = image_size(image)
        if self.interface.image_size is None:
            return self._predict_any_size(image)
        if size != self.interface.image_size:
            raise ResolutionMismatchError(
                f"the image is {size}, this model was exported for {self.interface.image_size}: "
                "export again with this --image-size, or without it for any size"
            )
        anomaly_map, score = self._run(image[None], (1, *size), (1,))
        return Prediction(anomaly_map[0], float(score[0]))

    def _predict_any_size(self, image: NDArray[np.uint8]) -> Prediction:
        plan = self.settings.passes(image_size(image), patch=self.interface.patch_size)
        if min(min(shape) for shape in plan.pass_shapes) < 2:
            raise ResolutionMismatchError(
                f"the image is {plan.grid.image_size}: one patch in a direction; an exported model needs two, "
                "use the detector itself"
            )
        views = plan.views(image)
        scores = (self._run(grid.to_pixels(pixels)[None], (1, *grid.shape))[0][0] for pixels, grid in views)
        anomaly_map = plan.grid.to_image(plan.merge(scores), stride=plan.stride)
        return Prediction(anomaly_map, image_score(anomaly_map, preset=self.settings.preset))

    def _run(self, batch: NDArray[np.uint8], *shapes: tuple[int, ...]) -> tuple[NDArray[np.float32], ...]:
        """What the model answers, which must be arrays of these shapes."""
        try:
            outputs = self._session(batch)
        except Exception as error:  # runtimes raise as they come
            reason = " ".join(str(error).split())[:300]
            raise ModelFileError(
                f"{self._source}: the model cannot run ({reason}); export the detector again"
            ) from error
        found = tuple(output.shape for output in outputs)
        if found != shapes:
            raise ModelFileError(
                f"{self._source}: says that the model answers {shapes}, it answers {found}; export the detector again"
            )
        return outputs


def open_session(folder: Path, target: Target, precision: Precision, *, threads: int | None = None) -> Session:
    """The model of a folder, on the CPU: a (1, H, W, 3) uint8 batch of one image to its outputs, all float32.

    Args:
        folder: where the model's files are.
        target: what it was exported to.
        precision: of its arithmetic.
        threads: None is the runtime's own choice.

    Raises:
        MissingExtraError: its runtime is not installed.
        ModelFileError: the runtime does not take the file.
    """
    path = folder / MODEL_FILES[target][0]
    open_with = {"onnx": _open_onnx, "openvino": _open_openvino}[target]
    try:
        return open_with(path, precision, threads)
    except MissingExtraError:
        raise
    except Exception as error:  # runtimes raise as they come on files they cannot run
        reason = " ".join(str(error).split())[:300]
        raise ModelFileError(f"{path}: {target} cannot run it ({reason}); export the detector again") from error


def import_openvino() -> Any:  # noqa: ANN401
    """The openvino module, silent.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        with without_reporting():
            import openvino
    except ModuleNotFoundError as error:
        raise MissingExtraError("a detector exported to OpenVINO", "runtime") from error
    return openvino


def _open_onnx(path: Path, precision: Precision, threads: int | None) -> Session:
    silence_reports()
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError("a detector exported to ONNX", "runtime") from error
    onnxruntime.disable_telemetry_events()  # in case it was imported before, by somebody else
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about the optimiser's own choices
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: tuple(np.asarray(output, np.float32) for output in session.run(None, {name: batch}))


def _open_openvino(path: Path, precision: Precision, threads: int | None) -> Session:
    openvino = import_openvino()
    with path.open("rb") as file:
        if file.read(5) != b"<?xml":  # OpenVINO reads other formats under this name, too, with files of their own
            raise ValueError("not in OpenVINO's own format")
    settings = {"INFERENCE_PRECISION_HINT": OPENVINO_HINTS[precision], "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    model = openvino.Core().compile_model(path, "CPU", settings)
    return lambda batch: tuple(np.array(output, np.float32) for output in model(batch).values())


def load_model(
    folder: Path,
    *,
    teacher_weights: Path | None = None,
    device: str | None = None,
    precision: DetectorPrecision | None = None,
    compiled: bool = False,
    batch_size: int = 1,
    calibrated: bool = True,
    loaded: "Sequence[Detector | ExportedDetector]" = (),
) -> "Detector | ExportedDetector":
    """A fitted detector, or an exported one, which needs no torch and takes nothing of the rest but `calibrated`.

    Its teacher is that of one of those `loaded` before, where it is the same: two models then hold it once.

    Raises:
        TinyDefectsError: an exported one is told what only a fitted one takes; or as their own `load`.
    """
    if not is_export(folder):
        from tinydefects.detector.detector import Detector

        wanted = read_detector(folder)[0].teacher.fingerprint if loaded else ""
        known = (one.teacher for one in loaded if isinstance(one, Detector))
        return Detector.load(
            folder,
            teacher=next((one for one in known if one.fingerprint == wanted), None),
            teacher_weights=teacher_weights,
            device=device,
            precision=precision,
            compiled=compiled,
            calibrated=calibrated,
        )
    if teacher_weights or precision or compiled or batch_size > 1 or device not in {None, "cpu"}:
        raise TinyDefectsError(
            f"{folder}: an exported model has its weights and its precision inside and runs on the CPU, one image at a "
            "time: leave out --teacher-weights, --precision, --device, --compile and --batch-size"
        )
    return ExportedDetector.load(folder, calibrated=calibrated)
