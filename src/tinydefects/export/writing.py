"""From a fitted detector to an exported folder, written only if its maps are those of the detector.

The comparison is made on images of noise that are not square: on smooth images a wrong resize stays unseen, and on
square ones swapped sides do.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.walk import EXPORT_FILE
from tinydefects.detector.detector import Detector
from tinydefects.detector.model_file import replace_folder
from tinydefects.detector.patch_grid import image_size
from tinydefects.errors import ExportError
from tinydefects.export.conversion import convert
from tinydefects.export.exported import ExportedDetector
from tinydefects.export.manifest import (
    OWN_FILES,
    Calibration,
    EqualityCheck,
    ExportManifest,
    Interface,
    sha256,
)
from tinydefects.export.plan import ExportPlan
from tinydefects.export.sessions import open_session
from tinydefects.export.torch_graph import build_graph, save_onnx

CALIBRATION_IMAGES = 64
RECORDED_PACKAGES = ("tinydefects", "torch", "timm", "numpy", "pillow", "onnx", "onnxruntime", "openvino", "nncf")


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
        written.append(manifest)

    replace_folder(folder, write, own_files=OWN_FILES)
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
        format=1,
        target=plan.target,
        precision=plan.precision,
        detector=detector.fingerprint,
        interface=interface,
        calibration=calibration,
        check=_compare(detector, exported, plan),
        files={path.name: sha256(path) for path in sorted(folder.iterdir())},
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
