"""Learn and find: demo, inspect, fit, predict."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tinydefects.commands.options import (
    CategoryId,
    Device,
    Json,
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
    category_id: CategoryId,
    root: Root = Path("data"),
    patch_size: Annotated[int, typer.Option(help="Patch size of the teacher in pixels.")] = 14,
    pixel_pitch: Annotated[float, typer.Option(help="Millimetres a pixel, to see sizes in mm.")] = float("nan"),
    as_json: Json = False,
) -> None:
    """Say what could be seen at all: defect sizes in pixels and patches at each input resolution."""
    from tinydefects.planner import describe_inspection, inspect_defects

    category = load(category_id, root)
    with show_progress() as progress:
        samples = progress.track(category.test, "read masks", len(category.test))
        inspection = inspect_defects(samples, patch_size=patch_size, pixel_pitch_mm=pixel_pitch)
    print_result(asdict(inspection), as_json, describe_inspection(category_id, inspection))


def fit(
    category_id: CategoryId,
    root: Root = Path("data"),
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

    category = load(category_id, root)
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
    with show_progress() as progress:
        detector.fit(
            (sample.image() for sample in category.train),
            progress=lambda stage, done, total: progress(stage, done, total or cost.n_images),
        )
    detector.save(out)
    print_result(
        {"model": str(out), "n_images": len(category.train)}, as_json, f"fitted on {len(category.train)} images: {out}"
    )


def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit'.")],
    images: Annotated[str, typer.Argument(metavar="FOLDER|DATASET/CATEGORY", help="Photographs, or a test split.")],
    root: Root = Path("data"),
    out: Out = Path("maps"),
    teacher_weights: TeacherWeights = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Write an anomaly map (32-bit float TIFF, full size), an overlay and a score for every image."""
    from tinydefects.batch import find_images, predict_to_disk
    from tinydefects.detector import Detector

    folder = Path(images)
    samples = find_images(folder) if folder.is_dir() else list(load(images, root).test)
    name = folder.resolve().name if folder.is_dir() else images
    detector = Detector.load(model, teacher_weights=teacher_weights, device=device)
    with show_progress() as progress:
        scores = predict_to_disk(detector, name, samples, out, progress=progress)
    table = {sample.id: score for sample, score in zip(samples, scores, strict=True)}
    print_result(table, as_json, f"{len(table)} maps, overlays and scores.csv: {out}")
