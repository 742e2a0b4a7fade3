"""Learn and find: demo, inspect, fit, predict."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.commands.options import (
    CategoryId,
    Device,
    Json,
    Option,
    Out,
    Root,
    Seed,
    TeacherWeights,
    load,
    numbers,
    print_result,
    say,
    show_progress,
)
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.sample import Sample


class Split(StrEnum):
    """Which images of a category."""

    test = "test"
    validation = "validation"
    test_private = "test_private"
    test_private_mixed = "test_private_mixed"


class Preset(StrEnum):
    """Settings of the method."""

    default = "default"
    published = "published"


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


def inspect(
    category_id: Annotated[
        str | None, typer.Argument(metavar="[DATASET/CATEGORY]", help="Left out: plan for a defect size alone.")
    ] = None,
    root: Root = Path("data"),
    option: Option = None,
    patch_size: Annotated[int, typer.Option(min=1, help="Patch size of the teacher in pixels.")] = 14,
    pixel_pitch: Annotated[float, typer.Option(help="Millimetres a pixel, to see sizes in mm.")] = float("nan"),
    defect_px: Annotated[
        float | None, typer.Option(help="Diameter to keep, in pixels; left out, the 5 % quantile of the category.")
    ] = None,
    defect_mm: Annotated[float | None, typer.Option(help="The same in mm; needs --pixel-pitch.")] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Pixels of an image, when no category is given.")
    ] = None,
    max_input: Annotated[int, typer.Option(help="Longest side in pixels that the teacher takes in one pass.")] = 1036,
    plot: Annotated[Path | None, typer.Option(help="Draw it: .svg, .png or .pdf.")] = None,
    as_json: Json = False,
) -> None:
    """Say what could be seen at all: defect sizes, what each input resolution leaves of them, and what to do."""
    from tinydefects.planner.inspection import inspect_defects, inspect_disc
    from tinydefects.planner.plot import write_plot
    from tinydefects.planner.text import describe_inspection

    diameter = _diameter_px(defect_px, defect_mm, pixel_pitch)
    if category_id is None:
        if diameter is None or image_size is None:
            raise TinyDefectsError(
                "inspect: name DATASET/CATEGORY, or give --image-size HxW with --defect-px, or with --defect-mm and "
                "--pixel-pitch"
            )
        title = f"discs of {diameter:.3g} px"
        inspection = inspect_disc(
            diameter, _size(image_size), patch_size=patch_size, pixel_pitch_mm=pixel_pitch, max_input=max_input
        )
    else:
        category, title = load(category_id, root, option), category_id
        with show_progress() as progress:
            inspection = inspect_defects(
                progress.track(category.test, "read masks", len(category.test)),
                patch_size=patch_size,
                pixel_pitch_mm=pixel_pitch,
                defect_px=diameter,
                max_input=max_input,
            )
    print_result(asdict(inspection), as_json, describe_inspection(title, inspection))
    if plot is not None:
        say(f"plot: {write_plot(title, inspection, plot)}")


def _diameter_px(defect_px: float | None, defect_mm: float | None, pixel_pitch: float) -> float | None:
    if defect_mm is None:
        return defect_px
    if defect_px is not None:
        raise TinyDefectsError("--defect-px and --defect-mm are two names for one size: give one of them")
    if not pixel_pitch > 0:
        raise TinyDefectsError(f"--defect-mm {defect_mm:g} needs --pixel-pitch, the millimetres of one pixel")
    return defect_mm / pixel_pitch


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise TinyDefectsError(f"--image-size {text}: write height x width in pixels, for example 1024x4096")
    return int(height), int(width)


def fit(
    category_id: CategoryId,
    root: Root = Path("data"),
    option: Option = None,
    out: Out = Path("model"),
    teacher: Annotated[str, typer.Option(help="Any timm ViT, or 'builtin'.")] = "vit_base_patch14_reg4_dinov2",
    teacher_weights: TeacherWeights = None,
    resolution: Annotated[int, typer.Option(min=16, help="Long side of the teacher's input in pixels.")] = 1036,
    epochs: Annotated[int, typer.Option(min=1)] = 50,
    preset: Annotated[
        Preset, typer.Option(help="'published' repeats the paper's code, quirks included.")
    ] = Preset.default,
    cache_dir: Annotated[Path | None, typer.Option(help="Keep teacher features here between runs.")] = None,
    cache_limit_gb: Annotated[float, typer.Option(help="Refuse to write more teacher features than this.")] = 20.0,
    seed: Seed = 0,
    device: Device = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show images and cache size, then stop.")] = False,
    as_json: Json = False,
) -> None:
    """Learn what good parts look like, from the category's defect-free training images."""
    from tinydefects.detector import Detector

    category = load(category_id, root, option)
    detector = Detector(
        teacher=teacher,
        teacher_weights=teacher_weights,
        resolution=resolution,
        epochs=epochs,
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
            (sample.image() for sample in category.train),
            progress=lambda stage, done, total: progress(stage, done, total or cost.n_images),
        )
    detector.save(out)
    print_result(
        {"model": str(out), "n_images": len(category.train)}, as_json, f"fitted on {len(category.train)} images: {out}"
    )


def _samples_of(category_id: str, root: Path, options: Sequence[str] | None, split: Split) -> "list[Sample]":
    if split in {Split.test_private, Split.test_private_mixed}:
        from tinydefects.benchmark.submission_layout import object_names, private_category

        (name,) = object_names([category_id])
        return list(private_category(name, split.value, root).test)
    category = load(category_id, root, options)
    samples = list(category.test if split is Split.test else category.validation)
    if not samples:
        raise TinyDefectsError(f"{category_id}: has no {split.value} images; leave out --split")
    return samples


def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit'.")],
    images: Annotated[str, typer.Argument(metavar="FOLDER|DATASET/CATEGORY", help="Photographs, or a test split.")],
    root: Root = Path("data"),
    option: Option = None,
    split: Annotated[Split, typer.Option(help="Which images of the category; the private ones are MVTec AD 2's.")] = (
        Split.test
    ),
    out: Out = Path("maps"),
    teacher_weights: TeacherWeights = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write an anomaly map (32-bit float TIFF, full size), an overlay and a score for every image."""
    from tinydefects.batch import find_images, predict_to_disk
    from tinydefects.detector import Detector

    folder = Path(images)
    samples = find_images(folder) if folder.is_dir() else _samples_of(images, root, option, split)
    name = folder.resolve().name if folder.is_dir() else images
    detector = Detector.load(model, teacher_weights=teacher_weights, device=device)
    with show_progress() as progress:
        scores = predict_to_disk(detector, name, samples, out, progress=progress)
    table = {sample.id: score for sample, score in zip(samples, scores, strict=True)}
    print_result(table, as_json, f"{len(table)} maps, overlays and scores.csv: {out}")
