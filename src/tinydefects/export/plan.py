"""What an export would write, for which images, and how far its maps may be from the detector's."""

from dataclasses import dataclass

from tinydefects.data.walk import EXPORT_FILE
from tinydefects.detector.detector import Detector
from tinydefects.detector.patch_grid import Size
from tinydefects.errors import ExportError
from tinydefects.export.manifest import MODEL_FILES, EqualityCheck, Precision, Target

PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
}
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 3e-2, "int8": 0.3}
WHOLE_PATH_TOLERANCE = 1e-3  # at least: the resize inside the model rounds 1 pixel in 10,000 to the other gray level
BYTES_PER_WEIGHT: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}


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
