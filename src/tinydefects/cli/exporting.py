"""Hand a detector to other runtimes: export."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.cli.options import Json, Option, Root, TeacherWeights, load, parse_size, print_result, say
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Target(StrEnum):
    """What runs the exported model."""

    onnx = "onnx"
    openvino = "openvino"


class Precision(StrEnum):
    """How wide the model's numbers are."""

    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"
    int8 = "int8"


def export(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit'.")],
    to: Annotated[Target, typer.Option(help="What will run it.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("exported"),
    precision: Annotated[Precision, typer.Option(help="Of the model's numbers.")] = Precision.fp32,
    image_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="All images are this large: resize and map go into the model.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(metavar="DATASET/CATEGORY", help="int8: take ranges from its training images.")
    ] = None,
    root: Root = Path("data"),
    option: Option = None,
    teacher_weights: TeacherWeights = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, then stop.")] = False,
    as_json: Json = False,
) -> None:
    """Write a detector for ONNX Runtime or OpenVINO, unless its maps differ from the detector's own.

    Compared are maps and image scores on images of noise. `predict` takes the folder in place of a model.
    """
    from tinydefects.detector.detector import Detector
    from tinydefects.export.plan import plan_export
    from tinydefects.export.writing import write_export

    size = None if image_size is None else parse_size(image_size)
    detector = Detector.load(model, teacher_weights=teacher_weights, device="cpu", precision="highest")
    plan = plan_export(detector, target=to.value, precision=precision.value, image_size=size)
    if dry_run:
        return print_result(asdict(plan), as_json, f"{out}: {plan}")
    bits = detector.settings.image_bits
    category, calibration = _training_images(calibrate, root, option, bits) if calibrate else ("", [])
    manifest = write_export(detector, out, plan, calibration=calibration, category=category)
    say(f"predict with it: tinydefects predict {out} IMAGES")
    print_result(manifest.model_dump(mode="json"), as_json, f"{out}: {plan.outcome(manifest.check)}")


def _training_images(
    category_id: str, root: Path, options: Sequence[str] | None, image_bits: int
) -> "tuple[str, list[NDArray[np.uint8]]]":
    """Address and a choice of the training images; nothing else of the category is looked at."""
    from tinydefects.data.image_bits import with_image_bits
    from tinydefects.export.writing import calibration_choice

    category = load(category_id, root, options, training_only=True)
    train = with_image_bits(category.train, image_bits)
    if not train:
        raise TinyDefectsError(f"{category_id}: has no training images; int8 is calibrated with nothing else")
    return category.id, [train[number].image() for number in calibration_choice(len(train))]
