"""Learn and find: demo, fit, predict."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tinydefects.commands.options import (
    MOST_EPOCHS,
    MOST_GB,
    MOST_PIXELS,
    CategoryId,
    Device,
    Json,
    Option,
    Out,
    Root,
    Seed,
    TeacherWeights,
    bounded,
    is_whole_number,
    load,
    numbers,
    print_result,
    say,
    show_progress,
)
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.detector import Detector
    from tinydefects.export.exported import ExportedDetector
    from tinydefects.sample import Sample


SMALLEST_RESOLUTION_PX = 16
MOST_AT_ONCE = 65_536  # images or tiles
MOST_BATCH = 2**31 - 1  # patches


class Split(StrEnum):
    """Which images of a category."""

    test = "test"
    train = "train"
    validation = "validation"
    test_private = "test_private"
    test_private_mixed = "test_private_mixed"


class Preset(StrEnum):
    """Settings of the method."""

    default = "default"
    published = "published"


class ProductPrecision(StrEnum):
    """In which numbers matrix products are computed."""

    highest = "highest"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


Precision = Annotated[
    ProductPrecision | None,
    typer.Option(help="Of matrix products; left out, float32 by the quickest exact route, or as the model was fitted."),
]

Compiled = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the teacher: minutes for the first images, quicker after; needs a C++ compiler."
    ),
]


def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Draw parts with defects of known size, learn, find and score them; needs no download."""
    from tinydefects.demo import DemoSettings, run_demo

    with show_progress() as progress:
        results = run_demo(out, DemoSettings(seed=seed), device=device, progress=progress)
    report_path = out / "report.html"
    print_result(
        [numbers(result.evaluation) for result in results], as_json, *[str(result.evaluation) for result in results]
    )
    say(f"\nreport: {report_path}")
    if open_report:
        typer.launch(str(report_path))


def fit(
    category_id: CategoryId,
    root: Root = Path("data"),
    option: Option = None,
    out: Out = Path("model"),
    teacher: Annotated[str, typer.Option(help="Any timm ViT, or 'builtin'.")] = "vit_base_patch14_reg4_dinov2",
    teacher_weights: TeacherWeights = None,
    resolution: Annotated[
        str | None,
        typer.Option(metavar="PX|native", help="Long side for the teacher; left out, 1036, with --tile native."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option(min=1, max=MOST_PIXELS, help="Cut the image into tiles of this side in pixels.")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(min=0, max=MOST_PIXELS, help="Pixels that tiles share; left out, an eighth.")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_PIXELS, help="Pixels between patches; half a patch makes four shifted passes."),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=MOST_EPOCHS)] = 50,
    patches_per_batch: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_BATCH, help="Patches a training step, mixed across images; left out, all of 4 images."
        ),
    ] = None,
    patch_fraction: Annotated[
        float | None,
        typer.Option(
            callback=bounded(0, 1, without_least=True),
            help="Learn from this share of the patches, without near copies; shrinks the cache.",
        ),
    ] = None,
    validation_fraction: Annotated[
        float | None,
        typer.Option(
            callback=bounded(0, 1, without_least=True, without_most=True),
            help="Hold out this share of the images and stop when they no longer improve.",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_EPOCHS, help="Epochs without 1 % of improvement before that; left out, 3."),
    ] = None,
    precision: Precision = None,
    compiled: Compiled = False,
    preset: Annotated[
        Preset, typer.Option(help="'published' repeats the paper's code, quirks included.")
    ] = Preset.default,
    cache_dir: Annotated[Path | None, typer.Option(help="Keep teacher features here between runs.")] = None,
    cache_limit_gb: Annotated[
        float, typer.Option(callback=bounded(0, MOST_GB), help="Refuse to write more teacher features than this.")
    ] = 20.0,
    seed: Seed = 0,
    device: Device = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show images and cache size, then stop.")] = False,
    as_json: Json = False,
) -> None:
    """Learn what good parts look like, from the category's defect-free training images."""
    from tinydefects.detector import Detector
    from tinydefects.read_ahead import read_ahead

    category = load(category_id, root, option)
    detector = Detector(
        teacher=teacher,
        teacher_weights=teacher_weights,
        resolution=_resolution(resolution),
        tile=tile,
        overlap=overlap,
        stride=stride,
        epochs=epochs,
        patches_per_batch=patches_per_batch,
        patch_fraction=patch_fraction,
        validation_fraction=validation_fraction,
        patience=patience,
        precision=None if precision is None else precision.value,
        compiled=compiled,
        preset=preset.value,
        cache_dir=cache_dir,
        cache_limit_gb=cache_limit_gb,
        seed=seed,
        device=device,
    )
    cost = detector.expected_cost([sample.image_path for sample in category.train])
    if dry_run:
        return print_result(asdict(cost), as_json, str(cost))
    say(str(cost))
    detector.require_affordable(cost)
    with show_progress() as progress:
        detector.fit(
            read_ahead(lambda sample: sample.image(), category.train),
            progress=lambda stage, done, total: progress(stage, done, total or cost.n_images),
        )
    detector.save(out)
    if detector.validation_losses:
        say(told_of_the_end(detector))
    print_result(
        {"model": str(out), "n_images": len(category.train)}, as_json, f"fitted on {len(category.train)} images: {out}"
    )


def told_of_the_end(detector: "Detector") -> str:
    """When training with held-out images ended, and which students it kept."""
    ran, most, kept = len(detector.losses), detector.settings.epochs, detector.kept_epoch
    ended = f"stopped after epoch {ran} of {most}" if ran < most else f"did not stop before epoch {most}, the last"
    lowest = f"the loss of the held-out images was lowest ({min(detector.validation_losses):.4g})"
    return f"students: {ended}; those of epoch {kept} are kept, where {lowest}"


def _resolution(text: str | None) -> int | Literal["native"] | None:
    if text is None:
        return None
    if text == "native":
        return "native"
    if not is_whole_number(text, SMALLEST_RESOLUTION_PX, MOST_PIXELS):
        raise TinyDefectsError(
            f"--resolution {text}: give a number of pixels, {SMALLEST_RESOLUTION_PX} to {MOST_PIXELS}, or 'native'"
        )
    return int(text)


def _samples_of(category_id: str, root: Path, options: Sequence[str] | None, split: Split) -> "list[Sample]":
    if split in {Split.test_private, Split.test_private_mixed}:
        from tinydefects.benchmark.submission.layout import object_names, private_category

        (name,) = object_names([category_id])
        return list(private_category(name, split.value, root).test)
    category = load(category_id, root, options)
    of_split = {Split.test: category.test, Split.train: category.train, Split.validation: category.validation}
    samples = list(of_split[split])
    if not samples:
        raise TinyDefectsError(f"{category_id}: has no {split.value} images; leave out --split")
    return samples


def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit' or 'tinydefects export'.")],
    images: Annotated[str, typer.Argument(metavar="FOLDER|DATASET/CATEGORY", help="Photographs, or a test split.")],
    root: Root = Path("data"),
    option: Option = None,
    split: Annotated[Split, typer.Option(help="Which images of the category; the private ones are MVTec AD 2's.")] = (
        Split.test
    ),
    out: Out = Path("maps"),
    teacher_weights: TeacherWeights = None,
    device: Device = None,
    precision: Precision = None,
    compiled: Compiled = False,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_AT_ONCE,
            help="Images or tiles of one size the teacher sees at once; for GPUs: no gain on a CPU.",
        ),
    ] = 1,
    as_json: Json = False,
) -> None:
    """Write an anomaly map (32-bit float TIFF, full size), an overlay and a score for every image."""
    from tinydefects.batch import find_images, predict_to_disk

    folder = Path(images)
    samples = find_images(folder) if folder.is_dir() else _samples_of(images, root, option, split)
    name = folder.resolve().name if folder.is_dir() else images
    detector = _load_model(model, teacher_weights, device, precision, batch_size, compiled)
    with show_progress() as progress:
        scores = predict_to_disk(detector, name, samples, out, progress=progress, batch_size=batch_size)
    table = {sample.id: score for sample, score in zip(samples, scores, strict=True)}
    print_result(table, as_json, f"{len(table)} maps, overlays and scores.csv: {out}")


def _load_model(
    model: Path,
    teacher_weights: Path | None,
    device: str | None,
    precision: ProductPrecision | None,
    batch_size: int,
    compiled: bool,
) -> "Detector | ExportedDetector":
    """A fitted detector, or an exported one, which needs no torch."""
    from tinydefects.export.manifest import is_export

    if not is_export(model):
        from tinydefects.detector import Detector

        return Detector.load(
            model,
            teacher_weights=teacher_weights,
            device=device,
            precision=None if precision is None else precision.value,
            compiled=compiled,
        )
    from tinydefects.export.exported import ExportedDetector

    if teacher_weights or precision or device not in {None, "cpu"} or batch_size > 1 or compiled:
        raise TinyDefectsError(
            f"{model}: an exported model has its weights and its precision inside and runs on the CPU, one image at a "
            "time: leave out --teacher-weights, --precision, --device, --compile and --batch-size"
        )
    return ExportedDetector.load(model)
