"""The tinydefects command: one short function per subcommand, everything heavy imported inside it."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.errors import MissingExtraError, TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.metrics.scores import Evaluation
    from tinydefects.progress import Progress
    from tinydefects.sample import Category

DETECTOR_PACKAGES = {"torch", "torchvision", "timm", "safetensors"}

app = typer.Typer(
    name="tinydefects",
    help="Find defects a few pixels wide, and measure honestly how small one can go.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Preset(StrEnum):
    """Settings of the method."""

    default = "default"
    published = "published"


class CurveRule(StrEnum):
    """How the PRO curve is sampled."""

    exact = "exact"
    normal_thresholds = "normal_thresholds"
    published_99 = "published_99"


class ImageScore(StrEnum):
    """Where the image score comes from."""

    stored = "stored"
    max = "max"
    top = "top_0.1_percent"


CategoryId = Annotated[str, typer.Argument(metavar="DATASET/CATEGORY", help="e.g. mvtec_ad/screw, magnetic_tile/all")]
Root = Annotated[Path, typer.Option(help="Folder that holds the dataset.")]
Out = Annotated[Path, typer.Option(help="Where to write.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; the best one present when left out.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON to standard output.")]
TeacherWeights = Annotated[
    Path | None, typer.Option(help="Teacher weights on disk: .safetensors, or the authors' .pth.")
]


@app.command()
def demo(
    out: Out = Path("demo"),
    seed: Seed = 0,
    device: Device = None,
    as_json: Json = False,
    open_report: Annotated[bool, typer.Option("--open", help="Open the report in the browser.")] = False,
) -> None:
    """Draw parts with defects of known size, learn, find and score them; needs no download."""
    from tinydefects.demo import DemoSettings, run_demo

    with _progress() as progress:
        results = run_demo(out, DemoSettings(seed=seed), device=device, progress=progress)
    report_path = out / "report.html"
    _print(
        [_numbers(result.evaluation) for result in results], as_json, *[str(result.evaluation) for result in results]
    )
    _say(f"\nreport: {report_path}")
    if open_report:
        typer.launch(str(report_path))


@app.command()
def inspect(
    category_id: CategoryId,
    root: Root = Path("data"),
    patch_size: Annotated[int, typer.Option(help="Patch size of the teacher in pixels.")] = 14,
    pixel_pitch: Annotated[float, typer.Option(help="Millimetres a pixel, to see sizes in mm.")] = float("nan"),
    as_json: Json = False,
) -> None:
    """Say what could be seen at all: defect sizes in pixels and patches at each input resolution."""
    from tinydefects.planner import describe_inspection, inspect_defects

    category = _load(category_id, root)
    with _progress() as progress:
        samples = progress.track(category.test, "read masks", len(category.test))
        inspection = inspect_defects(samples, patch_size=patch_size, pixel_pitch_mm=pixel_pitch)
    _print(asdict(inspection), as_json, describe_inspection(category_id, inspection))


@app.command()
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

    category = _load(category_id, root)
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
        return _print(asdict(cost), as_json, str(cost))
    _say(str(cost))
    with _progress() as progress:
        detector.fit(
            (sample.image() for sample in category.train),
            progress=lambda stage, done, total: progress(stage, done, total or cost.n_images),
        )
    detector.save(out)
    _print(
        {"model": str(out), "n_images": len(category.train)}, as_json, f"fitted on {len(category.train)} images: {out}"
    )


@app.command()
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
    samples = find_images(folder) if folder.is_dir() else list(_load(images, root).test)
    name = folder.resolve().name if folder.is_dir() else images
    detector = Detector.load(model, teacher_weights=teacher_weights, device=device)
    with _progress() as progress:
        scores = predict_to_disk(detector, name, samples, out, progress=progress)
    table = {sample.id: score for sample, score in zip(samples, scores, strict=True)}
    _print(table, as_json, f"{len(table)} maps, overlays and scores.csv: {out}")


@app.command()
def evaluate(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps, ours or anybody's, in MVTec's layout.")],
    category_id: CategoryId,
    root: Root = Path("data"),
    out: Out = Path("results"),
    curve: Annotated[
        CurveRule, typer.Option(help="'published_99' is the 99-point curve of published tables.")
    ] = CurveRule.exact,
    image_score: Annotated[ImageScore, typer.Option(help="How an image is scored.")] = ImageScore.stored,
    exhibits: Annotated[
        int, typer.Option(min=0, help="Defects cut out for the report; 0 keeps the data's pixels out of the result.")
    ] = 48,
    as_json: Json = False,
) -> None:
    """Score maps at the images' own resolution, by defect size."""
    from tinydefects.benchmark.protocol import Result, describe_run, write_result
    from tinydefects.metrics.evaluation import evaluate as evaluate_pairs
    from tinydefects.predictions import read_maker, read_pairs

    category = _load(category_id, root)
    with _progress() as progress:
        pairs = progress.track(read_pairs(maps, category, image_score.value), "score", len(category.test))
        evaluation = evaluate_pairs(pairs, category=category.id, curve=curve.value, n_exhibits=exhibits)
    rules = {"command": "evaluate", "curve": curve.value, "image_score": image_score.value}
    provenance = describe_run({**rules, **read_maker(maps)})
    path = write_result(Result(evaluation=evaluation, provenance=provenance), out / f"{category.id}.json")
    _print(_numbers(evaluation), as_json, str(evaluation), f"\nresult: {path}")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="Folder of results, or one result file.")],
    out: Out = Path("report.html"),
) -> None:
    """Turn results into one self-contained HTML file."""
    from tinydefects.benchmark.protocol import find_results, read_result
    from tinydefects.report import write_report

    read = [read_result(path) for path in find_results(results)]
    write_report([one.evaluation for one in read], out, provenance=read[0].provenance.facts())
    _say(f"report: {out}")


def main() -> None:
    """Run the command; an error a user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except TinyDefectsError as error:
        message = " ".join(str(error).split())
    except ModuleNotFoundError as error:
        if error.name not in DETECTOR_PACKAGES:
            raise
        message = str(MissingExtraError("this command", "detector"))
    except OSError as error:
        message = (
            f"{error.filename or 'system'}: {error.strerror or error}; check the path, its rights and the free space"
        )
    except MemoryError:
        message = "out of memory; lower --resolution or close other programs"
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run the same command again to go on\n")
        sys.exit(130)
    else:
        return
    sys.stderr.write(f"tinydefects: {message}\n")
    sys.exit(2)


def _load(category_id: str, root: Path) -> "Category":
    from tinydefects.datasets.catalog import load_category

    return load_category(category_id, root=root)


@contextmanager
def _progress() -> Iterator["Progress"]:
    from tinydefects.progress import Progress

    with Progress() as progress:
        yield progress


def _numbers(evaluation: "Evaluation") -> dict[str, object]:
    """The numbers of an evaluation without records and pictures, for --json."""
    from tinydefects.benchmark.protocol import numbers_of

    return numbers_of(evaluation)


def _print(value: object, as_json: bool, *lines: str) -> None:
    from tinydefects.benchmark.protocol import nan_to_null

    if as_json:
        print(json.dumps(nan_to_null(value), indent=1, allow_nan=False))
    else:
        print(*lines, sep="\n")


def _say(line: str) -> None:
    """A remark for people, kept off standard output so that --json stays parseable."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
