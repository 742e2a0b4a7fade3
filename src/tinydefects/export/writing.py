"""From a fitted detector to an exported folder: the plan, the conversion, and the comparison before the folder counts.

A folder is written only if its maps are those of the detector. The comparison is made on images of noise that are not
square: on smooth images a wrong resize stays unseen, and on square ones swapped sides do. The graph comes from
`torch_graph.py` as an ONNX file; from there it goes to OpenVINO's format, and to int8 by NNCF.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.walk import EXPORT_FILE
from tinydefects.decisions.calibration import CALIBRATION_FILE, write_calibration
from tinydefects.detector.detector import Detector
from tinydefects.detector.model_file import replace_folder
from tinydefects.detector.patch_grid import Size, image_size
from tinydefects.errors import ExportError, MissingExtraError
from tinydefects.export.exported import ExportedDetector, import_openvino, open_session
from tinydefects.export.manifest import (
    FLOAT32_PARTS,
    MODEL_FILES,
    OWN_FILES,
    Calibration,
    EqualityCheck,
    ExportManifest,
    Interface,
    Precision,
    Target,
    sha256,
)
from tinydefects.export.torch_graph import build_graph, save_onnx
from tinydefects.privacy import without_reporting

PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
}
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2, "int8": 0.3}
WHOLE_PATH_TOLERANCE = 1e-3  # at least: the resize inside the model rounds 1 pixel in 10,000 to the other gray level
BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
CALIBRATION_IMAGES = 64
RECORDED_PACKAGES = ("tinydefects", "torch", "timm", "numpy", "pillow", "onnx", "onnxruntime", "openvino", "nncf")
Batches = Sequence[NDArray[np.uint8]]  # inputs of the model, (1, H, W, 3) each


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """What would be written.

    Attributes:
        image_size: (height, width) of all images; None is any.
        weights_mb: size of the weights, about that of the folder.
        tolerance: how far maps and scores may be from the detector's, as a share of their highest value.
        noise_sizes: of the images on which that is tried.
    """

    target: Target
    precision: Precision
    image_size: Size | None
    weights_mb: float
    tolerance: float
    noise_sizes: tuple[Size, ...]

    @property
    def keeps_thresholds(self) -> bool:
        """Whether its scores are near enough to the detector's for the thresholds of that to hold."""
        return self.precision == "fp32"

    def outcome(self, check: EqualityCheck) -> str:
        """One line about what was written and how it compares."""
        return (
            f"{self.target} {self.precision}; on noise, maps differ by {check.map_difference:.2g} of their highest "
            f"value and image scores by {check.score_difference:.2g}; {check.tolerance:g} is allowed"
        )

    def __str__(self) -> str:
        size = "images of any size" if self.image_size is None else "images of {} x {} px".format(*self.image_size)
        files = ", ".join((*MODEL_FILES[self.target], EXPORT_FILE))
        noise = " and ".join(f"{height} x {width} px" for height, width in self.noise_sizes)
        return (
            f"{files}: {self.target} {self.precision} for {size}, about {self.weights_mb:.0f} MB; "
            f"refused if a map on noise of {noise} differs by more than {self.tolerance:g} of its highest value"
        )


def plan_export(detector: Detector, *, target: Target, precision: Precision, image_size: Size | None) -> ExportPlan:
    """What exporting this detector would write.

    Raises:
        ExportError: the target does not offer the precision, or the detector cannot be had for one image size.
    """
    if precision not in PRECISIONS[target]:
        raise ExportError(f"{target} models are {', '.join(PRECISIONS[target])}, not {precision}: choose one of them")
    if (target, precision) == ("openvino", "bf16") and image_size is not None:
        raise ExportError("OpenVINO would round the pixels to bf16 while it resizes them: leave out --image-size")
    tolerance = TOLERANCES[precision]
    if image_size is not None:
        _require_one_pass(detector, image_size)
        tolerance = max(tolerance, WHOLE_PATH_TOLERANCE)
    networks = (detector.teacher.model, detector.students)
    n_weights = sum(weights.numel() for network in networks for weights in network.parameters())
    return ExportPlan(
        target=target,
        precision=precision,
        image_size=image_size,
        weights_mb=n_weights * BYTES_PER_WEIGHT[precision] / 1e6,
        tolerance=tolerance,
        noise_sizes=(image_size,) if image_size else _noise_sizes(detector),
    )


def _require_one_pass(detector: Detector, size: Size) -> None:
    if not detector.settings.is_one_pass:
        raise ExportError(
            "tiles and shifts are several passes, a model for one image size is one: leave out --image-size"
        )
    if detector.settings.preset == "published" and size[0] * size[1] < 1000:
        raise ExportError(f"images of {size} px have no image score in the preset published: 1000 px are the least")


def _noise_sizes(detector: Detector) -> tuple[Size, ...]:
    """Upright and lying, larger than what the teacher sees, so that the resize has something to do."""
    resolution, tile = detector.settings.resolution, detector.settings.tile
    seen = (tile or 32 * detector.teacher.patch_size) if resolution == "native" else resolution
    long, short = round(1.3 * seen), round(0.8 * seen)
    return (short, long), (long, short)


def write_export(
    detector: Detector,
    folder: Path,
    plan: ExportPlan,
    *,
    calibration: Sequence[NDArray[np.uint8]] = (),
    category: str = "",
) -> ExportManifest:
    """Write the folder, whole or not at all, after comparing its maps with the detector's.

    Args:
        detector: fitted, on any device.
        folder: new, or one that held an export before.
        plan: from `plan_export`.
        calibration: defect-free training images for int8.
        category: where those come from, for the record.

    Raises:
        ExportError: the maps differ by more than the plan's tolerance, or int8 has no calibration images.
        ModelFileError: the folder holds other files, or cannot be written.
        MissingExtraError: a package that writes or runs the model is not installed.
    """
    if (plan.precision == "int8") != bool(calibration):
        raise ExportError(
            "int8 and only int8 needs defect-free training images: --precision int8 --calibrate DATASET/CATEGORY"
        )
    written: list[ExportManifest] = []

    def write(new: Path) -> None:
        _write_model(detector, new, plan, calibration)
        manifest = _describe(
            detector, new, plan, Calibration(category=category, n_images=len(calibration)) if calibration else None
        )
        (new / EXPORT_FILE).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        if plan.keeps_thresholds and detector.calibration is not None:
            write_calibration(new / CALIBRATION_FILE, detector.calibration)
        written.append(manifest)

    replace_folder(folder, write, own_files=OWN_FILES | {CALIBRATION_FILE})
    return written[0]


def calibration_choice(n_train: int) -> list[int]:
    """Which training images int8 is calibrated with: `CALIBRATION_IMAGES` at most, evenly spread."""
    return [int(number) for number in np.linspace(0, n_train - 1, min(n_train, CALIBRATION_IMAGES)).round()]


def _write_model(detector: Detector, folder: Path, plan: ExportPlan, calibration: Sequence[NDArray[np.uint8]]) -> None:
    # int8 and OpenVINO's bf16 come later, from the float32 graph; its own fp16 would also halve the resize matrices.
    graph = build_graph(detector, plan.precision, plan.image_size)
    with scratch_folder(folder.parent) as traced:
        source = traced / "traced.onnx"
        save_onnx(graph, source, plan.image_size)
        convert(source, folder, plan.target, plan.precision, _batches(detector, plan, calibration))


def _batches(detector: Detector, plan: ExportPlan, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """What the model is fed for these images."""
    if plan.image_size is None:
        views = (view for image in images for view in detector.passes(image_size(image)).views(image))
        return [grid.to_pixels(pixels)[None] for pixels, grid in views]
    for image in images:
        if image_size(image) != plan.image_size:
            raise ExportError(
                f"a calibration image is {image_size(image)}, the model is for {plan.image_size}: omit --image-size"
            )
    return [image[None] for image in images]


def _describe(detector: Detector, folder: Path, plan: ExportPlan, calibration: Calibration | None) -> ExportManifest:
    teacher = detector.teacher
    interface = Interface(
        image_size=plan.image_size,
        patch_size=teacher.patch_size,
        settings=detector.settings,
        mean=teacher.mean,
        std=teacher.std,
        good_level=detector.good_level,
    )
    exported = ExportedDetector(interface, open_session(folder, plan.target, plan.precision))
    return ExportManifest(
        format=2,
        target=plan.target,
        precision=plan.precision,
        detector=detector.fingerprint,
        interface=interface,
        calibration=calibration,
        check=_compare(detector, exported, plan),
        files={path.name: sha256(path) for path in sorted(folder.iterdir())},
        learnt=tuple(sorted(detector.learnt)),
        versions=_versions(),
    )


def _compare(detector: Detector, exported: ExportedDetector, plan: ExportPlan) -> EqualityCheck:
    """The largest differences over all noise images.

    Raises:
        ExportError: one is beyond the tolerance.
    """
    random = np.random.default_rng(0)
    differences = []
    for height, width in plan.noise_sizes:
        noise = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected, found = detector.predict(noise), exported.predict(noise)
        largest = np.abs(found.anomaly_map - expected.anomaly_map).max() / expected.anomaly_map.max()
        differences.append((float(largest), abs(found.score - expected.score) / expected.score))
    map_difference, score_difference = (max(column) for column in zip(*differences, strict=True))
    if not max(map_difference, score_difference) <= plan.tolerance:
        raise ExportError(
            f"{plan.target} {plan.precision}: maps differ by {map_difference:.2g} and image scores by "
            f"{score_difference:.2g} of the detector's on noise, {plan.tolerance:g} is allowed; nothing was written: "
            "choose another --precision or --to"
        )
    return EqualityCheck(
        image_sizes=plan.noise_sizes,
        map_difference=map_difference,
        score_difference=score_difference,
        tolerance=plan.tolerance,
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def convert(source: Path, folder: Path, target: Target, precision: Precision, calibration: Batches) -> None:
    """Write the traced ONNX file as the model of an `onnx` or `openvino` folder.

    Numbers are as wide as in the traced file; OpenVINO would halve them unless told not to.

    Raises:
        MissingExtraError: the packages for it are not installed.
    """
    path = folder / MODEL_FILES[target][0]
    if target == "openvino":
        openvino = import_openvino()
        model = openvino.Core().read_model(source)
        if precision == "int8":
            model = quantise(model, model.input(0).any_name, calibration)
        openvino.save_model(model, path, compress_to_fp16=False)
    elif precision == "int8":
        import onnx

        model = onnx.load(source)
        onnx.save(quantise(model, model.graph.input[0].name, calibration), path)
    else:
        for part in source.parent.glob(f"{source.name}*"):  # weights above 2 GB lie in a file of their own
            part.rename(folder / part.name.replace(source.name, path.name))


def quantise(model: Any, name: str, calibration: Batches) -> Any:  # noqa: ANN401
    """The model with int8 products; ranges come from the calibration inputs, given to the input of that name.

    Post-training quantisation with the settings NNCF has for transformers, smooth quantisation included.

    Raises:
        MissingExtraError: nncf is not installed.
        ExportError: NNCF cannot do it.
    """
    try:
        with _silence():
            import nncf

            return nncf.quantize(
                model,
                nncf.Dataset([{name: batch} for batch in calibration]),
                model_type=nncf.ModelType.TRANSFORMER,
                preset=nncf.QuantizationPreset.MIXED,
                subset_size=len(calibration),
                ignored_scope=nncf.IgnoredScope(patterns=[f"{part}[.].*" for part in FLOAT32_PARTS], validate=False),
            )
    except ModuleNotFoundError as error:
        raise MissingExtraError("int8", "export") from error
    except Exception as error:  # NNCF raises as it comes on graphs it was not made for
        raise ExportError(f"NNCF cannot quantise this detector ({error}); choose another --precision") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """NNCF reports nothing to its maker, prints nothing, and leaves Python's logging as it was."""
    logger_class = logging.getLoggerClass()
    with (
        without_reporting(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.setLoggerClass(logger_class)
