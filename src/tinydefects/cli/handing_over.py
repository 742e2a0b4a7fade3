"""Hand over: maps to a dataset's evaluation server (submit), a detector to other runtimes (export)."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import Json, Option, load, parse_size, print_result, say, show_progress
from tinydefects.cli.settings_options import DataFolder, GivenWeights, options_of
from tinydefects.errors import ResultError, TinyDefectsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SubmitSettings(BaseModel):
    """What `tinydefects submit` is told: where things lie, and how an object's threshold is found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: DataFolder = Path("data")
    out: Path = Field(default=Path("submission.tar.gz"), description="The archive to write.")
    threshold_from: Literal["validation", "validation_3_std"] = Field(
        default="validation", description="Quantile of the validation pixels, or their mean + 3 standard deviations."
    )
    alpha: float = Field(
        default=0.001, ge=0, lt=1, description="Share of the validation pixels that may exceed the threshold."
    )
    threshold: float | None = Field(
        default=None, ge=-3.4e38, le=3.4e38, description="A number instead, on the scale of the maps."
    )
    rescale: bool = Field(default=False, description="Bring validation scores to [0, 1], where float16 is fine enough.")


@options_of(SubmitSettings)
def submit(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps; with --check, the submission itself.")],
    settings: SubmitSettings,
    objects: Annotated[
        list[str] | None, typer.Argument(metavar="[mvtec_ad2/OBJECT]...", help="Left out: all eight.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Check a folder or archive that exists.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be written, then stop.")] = False,
    as_json: Json = False,
) -> None:
    """Write or check the archive for the evaluation server of MVTec AD 2: float16 maps and thresholded images.

    The maps come from anywhere, or for each object from 'predict MODEL mvtec_ad2/OBJECT --split SPLIT --out
    MAPS/OBJECT' with the splits validation, test_private and test_private_mixed.
    """
    from tinydefects.data.pixels import require_writable
    from tinydefects.submission.check import check_submission
    from tinydefects.submission.layout import describe_maps, find_maps, object_names
    from tinydefects.submission.writing import describe_submission, prepare, write_submission

    names = object_names(objects or [])
    if check:
        with show_progress() as progress:
            found = check_submission(maps, root=settings.root, objects=names, report=progress)
        print_result(asdict(found), as_json, str(found))
        if found.faults:
            raise ResultError(
                f"{maps}: {len(found.faults)} faults, first: {found.faults[0]}; mend them and check again"
            )
        return
    planned = find_maps(maps, settings.root, names, with_validation=settings.threshold is None or settings.rescale)
    if dry_run:
        return print_result([one.name for one in planned], as_json, describe_maps(planned))
    require_writable(settings.out.parent)
    with show_progress() as progress:
        prepared = prepare(
            planned,
            threshold=settings.threshold,
            rule=settings.threshold_from,
            alpha=settings.alpha,
            rescale=settings.rescale,
            report=progress,
        )
        written = write_submission(prepared, settings.out, report=progress)
    print_result([asdict(one) for one in written], as_json, describe_submission(written))
    say(f"archive: {settings.out}")


class ExportSettings(BaseModel):
    """What `tinydefects export` is told: for which runtime, how wide its numbers are, for images of which size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: Literal["onnx", "openvino"] = Field(description="What will run it.")
    out: Path = Field(default=Path("exported"), description="Folder to write.")
    precision: Literal["fp32", "fp16", "bf16", "int8"] = Field(default="fp32", description="Of the model's numbers.")
    image_size: str | None = Field(
        default=None,
        description="All images are this large: resize and map go into the model.",
        json_schema_extra={"metavar": "HxW"},
    )
    calibrate: str | None = Field(
        default=None,
        description="int8: take ranges from its training images.",
        json_schema_extra={"metavar": "DATASET/CATEGORY"},
    )
    root: DataFolder = Path("data")
    teacher_weights: GivenWeights = None


@options_of(ExportSettings)
def export(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit'.")],
    settings: ExportSettings,
    option: Option = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, then stop.")] = False,
    as_json: Json = False,
) -> None:
    """Write a detector for ONNX Runtime or OpenVINO, unless its maps differ from the detector's own.

    Compared are maps and image scores on images of noise. `predict` takes the folder in place of a model.
    """
    from tinydefects.detector.detector import Detector
    from tinydefects.export.writing import plan_export, write_export

    size = None if settings.image_size is None else parse_size(settings.image_size)
    detector = Detector.load(model, teacher_weights=settings.teacher_weights, device="cpu", precision="highest")
    plan = plan_export(detector, target=settings.to, precision=settings.precision, image_size=size)
    if dry_run:
        return print_result(asdict(plan), as_json, f"{settings.out}: {plan}")
    bits = detector.settings.image_bits
    category, calibration = (
        _training_images(settings.calibrate, settings.root, option, bits) if settings.calibrate else ("", [])
    )
    manifest = write_export(detector, settings.out, plan, calibration=calibration, category=category)
    if detector.calibration is not None and not plan.keeps_thresholds:
        say(
            f"thresholds are left out, as scores of {plan.precision} differ: take them anew with photographs that the "
            f"detector does not know: tinydefects calibrate {settings.out} GOOD"
        )
    say(f"predict with it: tinydefects predict {settings.out} IMAGES")
    print_result(manifest.model_dump(mode="json"), as_json, f"{settings.out}: {plan.outcome(manifest.check)}")


def _training_images(
    category_id: str, root: Path, options: Sequence[str] | None, image_bits: int
) -> "tuple[str, list[NDArray[np.uint8]]]":
    """Address and a choice of the training images; nothing else of the category is looked at."""
    from tinydefects.data.images import with_image_bits
    from tinydefects.export.writing import calibration_choice

    category = load(category_id, root, options, training_only=True)
    train = with_image_bits(category.train, image_bits)
    if not train:
        raise TinyDefectsError(f"{category_id}: has no training images; int8 is calibrated with nothing else")
    return category.id, [train[number].image() for number in calibration_choice(len(train))]
