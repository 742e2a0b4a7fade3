"""Learn and find: demo, fit, predict."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.cli.fit_place import FitPlace, require_place
from tinydefects.cli.options import (
    GENERAL,
    MACHINE,
    MOST_GB,
    Allowed,
    CategoryId,
    Device,
    Json,
    Option,
    Out,
    Root,
    Seed,
    TeacherWeights,
    bounded,
    load,
    numbers,
    print_result,
    say,
    say_remarks,
    show_progress,
)
from tinydefects.cli.settings_options import options_of
from tinydefects.detector.settings import DetectorSettings, Precision, require_pair
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.data.sample import Sample
    from tinydefects.detector.detector import Detector
    from tinydefects.export.exported import ExportedDetector


MOST_AT_ONCE = 65_536  # images or tiles


class Split(StrEnum):
    """Which images of a category."""

    test = "test"
    train = "train"
    validation = "validation"
    test_private = "test_private"
    test_private_mixed = "test_private_mixed"


GivenPrecision = Annotated[
    Precision | None,
    typer.Option(help="Of matrix products; left out, as the model was fitted.", rich_help_panel=MACHINE),
]
Compiled = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Compile the teacher: minutes for the first images, quicker after; needs a C++ compiler.",
        rich_help_panel=MACHINE,
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
    from tinydefects.cli.demo import DemoSettings, run_demo

    with show_progress() as progress:
        results = run_demo(out, DemoSettings(seed=seed), device=device, progress=progress)
    report_path = out / "report.html"
    print_result(
        [numbers(result.evaluation) for result in results], as_json, *[str(result.evaluation) for result in results]
    )
    say(f"\nreport: {report_path}")
    if open_report:
        typer.launch(str(report_path))


@options_of(DetectorSettings)
def fit(
    category_id: CategoryId,
    settings: DetectorSettings,
    out: Out = Path("model"),
    root: Root = Path("data"),
    option: Option = None,
    device: Device = None,
    compiled: Compiled = False,
    teacher_weights: TeacherWeights = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep teacher features here; left out, in OUT until the model is saved.", rich_help_panel=MACHINE
        ),
    ] = None,
    cache_limit_gb: Annotated[
        float,
        typer.Option(
            callback=bounded(0, MOST_GB),
            help="Refuse to write more teacher features than this.",
            rich_help_panel=MACHINE,
        ),
    ] = 20.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show images and cache size, then stop.", rich_help_panel=GENERAL)
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn what good parts look like, from the category's defect-free training images."""
    from tinydefects.data.image_bits import with_image_bits
    from tinydefects.detector.detector import Detector

    require_pair(settings.blocks)
    if not dry_run:
        require_place(out)
    category = load(category_id, root, option, training_only=True)
    bits = settings.image_bits if "image_bits" in settings.model_fields_set else _found_bits(category.train)
    train = with_image_bits(category.train, bits)
    detector = Detector(
        settings,
        image_bits=bits,
        teacher_weights=teacher_weights,
        device=device,
        compiled=compiled,
        cache_dir=cache_dir,
        cache_limit_gb=cache_limit_gb,
    )
    cost = detector.expected_cost([sample.image_path for sample in train])
    if dry_run:
        return print_result(asdict(cost) | {"image_bits": bits}, as_json, str(cost))
    say(str(cost))
    detector.require_affordable(cost)
    _fit_into(out, detector, train)
    if detector.validation_losses:
        say(told_of_the_end(detector))
    print_result({"model": str(out), "n_images": len(train)}, as_json, f"fitted on {len(train)} images: {out}")


def _fit_into(out: Path, detector: "Detector", train: "Sequence[Sample]") -> None:
    """Fit and save; what is learnt stays in the folder until it is saved."""
    from tinydefects.data.sample import require_readable

    with FitPlace(detector, out) as place:
        with show_progress() as progress:
            require_readable(train, progress)
            detector.fit(train, progress=place.watch(progress, len(train)))
        place.save()


def _found_bits(samples: "Sequence[Sample]") -> int:
    """How many bits these photographs fill, said if there is something to say."""
    from tinydefects.data.image_bits import find_image_bits

    with show_progress() as progress:
        found = find_image_bits(samples, progress=lambda done, total: progress("depth of images", done, total))
    if found.n_deep:
        say(str(found))
    return found.bits


def told_of_the_end(detector: "Detector") -> str:
    """When training with held-out images ended, and which students it kept."""
    ran, most, kept = len(detector.losses), detector.settings.epochs, detector.kept_epoch
    ended = f"stopped after epoch {ran} of {most}" if ran < most else f"did not stop before epoch {most}, the last"
    lowest = f"the loss of the held-out images was lowest ({min(detector.validation_losses):.4g})"
    return f"students: {ended}; those of epoch {kept} are kept, where {lowest}"


def _samples_of(address: str, root: Path, options: Sequence[str] | None, split: Split) -> "tuple[str, list[Sample]]":
    """Address and images of a category; no mask is needed to predict."""
    if split in {Split.test_private, Split.test_private_mixed}:
        from tinydefects.submission.layout import object_names, private_category

        (name,) = object_names([address])
        category = private_category(name, split.value, root)
        say_remarks(category)
        return category.id, list(category.test)
    category = load(address, root, options, allow=[Allowed.unmarked])
    of_split = {Split.test: category.test, Split.train: category.train, Split.validation: category.validation}
    samples = list(of_split[split])
    if not samples:
        raise TinyDefectsError(
            f"{category.id}: has no {split.value} images; name photographs or a folder of them, or another --split"
        )
    return category.id, samples


def _images_of(
    words: "list[str]", root: Path, options: Sequence[str] | None, split: Split, out: Path
) -> "tuple[str, list[Sample]]":
    """The name that maps are kept under and the images that the words mean: photographs, or one category."""
    from tinydefects.datasets.photographs import address_among, exists, find_photographs, require_own_folder

    address = address_among(words, root)
    if address is not None:
        name, samples = _samples_of(address, root, options, split)
        if exists(address):
            say(f"{address}: a folder here, and a category below --root {root}: its {len(samples)} images are meant")
        require_own_folder(out, name, samples)
        return name, samples
    if options or split is not Split.test:
        raise TinyDefectsError(f"{words[0]}: --split and --option are for the address of a category; leave them out")
    found = find_photographs(words)
    for line in found.remarks:
        say(line)
    require_own_folder(out, found.name, found.samples, [found.folder])
    return found.name, found.samples


def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit' or 'tinydefects export'.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTOGRAPHS|DATASET/CATEGORY",
            help="Files, folders or patterns such as 'in/*.png'; or one category, for its test images.",
        ),
    ],
    root: Root = Path("data"),
    option: Option = None,
    split: Annotated[Split, typer.Option(help="Which images of the category; the private ones are MVTec AD 2's.")] = (
        Split.test
    ),
    out: Out = Path("maps"),
    teacher_weights: TeacherWeights = None,
    device: Device = None,
    precision: GivenPrecision = None,
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
    """Write an anomaly map (32-bit float TIFF, full size), an overlay and a score for every image.

    Maps that are there are kept if photograph and detector are still the same. A bad photograph stops no other: it is
    listed in OUT/problems.csv, and the exit code is 2.
    """
    from tinydefects.detector.predict_folder import predict_to_disk

    name, samples = _images_of(images, root, option, split, out)
    detector = _load_model(model, teacher_weights, device, precision, batch_size, compiled)
    with show_progress() as progress:
        made = predict_to_disk(detector, name, samples, out, progress=progress, batch_size=batch_size)
    for remark in made.remarks:
        say(remark)
    print_result(dict(made.scores), as_json, f"{made}: {out}")
    made.require_whole(out)


def _load_model(
    model: Path,
    teacher_weights: Path | None,
    device: str | None,
    precision: Precision | None,
    batch_size: int,
    compiled: bool,
) -> "Detector | ExportedDetector":
    """A fitted detector, or an exported one, which needs no torch."""
    from tinydefects.export.manifest import is_export

    if not is_export(model):
        from tinydefects.detector.detector import Detector

        return Detector.load(
            model,
            teacher_weights=teacher_weights,
            device=device,
            precision=precision,
            compiled=compiled,
        )
    from tinydefects.export.exported import ExportedDetector

    if teacher_weights or precision or device not in {None, "cpu"} or batch_size > 1 or compiled:
        raise TinyDefectsError(
            f"{model}: an exported model has its weights and its precision inside and runs on the CPU, one image at a "
            "time: leave out --teacher-weights, --precision, --device, --compile and --batch-size"
        )
    return ExportedDetector.load(model)
