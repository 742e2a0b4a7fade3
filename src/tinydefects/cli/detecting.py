"""Learn and find: demo, fit, predict."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from pydantic import Field

from tinydefects.cli.fit_place import FitPlace, require_place
from tinydefects.cli.options import (
    GENERAL,
    MACHINE,
    Allowed,
    CategoryId,
    Device,
    Json,
    Option,
    Out,
    Seed,
    load,
    numbers,
    print_result,
    say,
    say_remarks,
    show_progress,
)
from tinydefects.cli.settings_options import (
    Compiled,
    DataFolder,
    GivenDevice,
    GivenPrecision,
    GivenWeights,
    OutFolder,
    options_of,
    panel,
)
from tinydefects.detector.learnt import FEATURES_FOLDER
from tinydefects.detector.outputs import OutputSettings
from tinydefects.detector.settings import DetectorSettings, require_pair
from tinydefects.errors import TinyDefectsError
from tinydefects.limits import MOST_GB

if TYPE_CHECKING:
    from tinydefects.data.sample import Sample
    from tinydefects.detector.detector import Detector


MOST_AT_ONCE = 65_536  # images or tiles


class FitSettings(DetectorSettings):
    """What `tinydefects fit` takes besides: whence thresholds come, where things lie, what computes."""

    thresholds: Literal["held-out", "folds", "none"] = Field(
        default="held-out",
        description="From good parts that students have not seen: held-out learns from four fifths of them; folds "
        "learns from all, and trains five more students (six times the time); none leaves it to 'calibrate'.",
    )
    out: OutFolder = Path("model")
    keep_features: bool = Field(
        default=False, description="Keep teacher features in OUT/features, so that 'update' can learn on."
    )
    root: DataFolder = Path("data")
    device: GivenDevice = None
    compiled: Compiled = False
    teacher_weights: GivenWeights = None
    cache_dir: Path | None = Field(
        default=None,
        description="Keep teacher features here; left out, in OUT until the model is saved.",
        json_schema_extra=panel(MACHINE),
    )
    cache_limit_gb: float = Field(
        default=20.0,
        ge=0,
        le=MOST_GB,
        description="Refuse to write more teacher features than this.",
        json_schema_extra=panel(MACHINE),
    )

    def of_detector(self) -> DetectorSettings:
        """Those that a detector has; what was left out stays so."""
        own = set(DetectorSettings.model_fields)
        return DetectorSettings().with_changes(**self.model_dump(include=own, exclude_unset=True))


class PredictSettings(OutputSettings):
    """What `tinydefects predict` is told: what to write, where things lie, what computes."""

    root: DataFolder = Path("data")
    split: Literal["test", "train", "validation", "test_private", "test_private_mixed"] = Field(
        default="test", description="Which images of the category; the private ones are MVTec AD 2's."
    )
    out: OutFolder = Path("maps")
    teacher_weights: GivenWeights = None
    device: GivenDevice = None
    precision: GivenPrecision = None
    compiled: Compiled = False
    batch_size: int = Field(
        default=1,
        ge=1,
        le=MOST_AT_ONCE,
        description="Images or tiles of one size the teacher sees at once; for GPUs: no gain on a CPU.",
    )


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


@options_of(FitSettings)
def fit(
    category_id: CategoryId,
    settings: FitSettings,
    option: Option = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show images and cache size, then stop.", rich_help_panel=GENERAL)
    ] = False,
    as_json: Json = False,
) -> None:
    """Learn what good parts look like, from the category's defect-free training images."""
    from tinydefects.data.images import with_image_bits
    from tinydefects.detector.detector import Detector

    require_pair(settings.blocks)
    if settings.keep_features and settings.cache_dir is not None:
        raise TinyDefectsError("--keep-features puts features into OUT/features: leave out --cache-dir")
    if not dry_run:
        require_place(settings.out)
    category = load(category_id, settings.root, option, training_only=True)
    bits = settings.image_bits if "image_bits" in settings.model_fields_set else _found_bits(category.train)
    train = with_image_bits(category.train, bits)
    detector = Detector(
        settings.of_detector(),
        image_bits=bits,
        teacher_weights=settings.teacher_weights,
        device=settings.device,
        compiled=settings.compiled,
        cache_dir=settings.out / FEATURES_FOLDER if settings.keep_features else settings.cache_dir,
        cache_limit_gb=settings.cache_limit_gb,
    )
    thresholds = _thresholds_of(settings, train)
    cost = detector.expected_cost([sample.image_path for sample in train])
    if dry_run:
        return print_result(asdict(cost) | {"image_bits": bits}, as_json, str(cost))
    say(str(cost))
    detector.require_affordable(cost)
    _fit_into(settings.out, detector, train, thresholds)
    if detector.validation_losses:
        say(told_of_the_end(detector))
    if detector.calibration is not None:
        say(str(detector.calibration))
        say(f"for another share of false alarms: tinydefects calibrate {settings.out} --false-alarms 0.1")
    told = {"model": str(settings.out), "n_images": detector.n_images}
    print_result(told, as_json, f"fitted on {detector.n_images} images: {settings.out}")


def _thresholds_of(settings: FitSettings, train: "Sequence[Sample]") -> str:
    """How thresholds are taken; none, with a line that says so, where nobody asked and there can be none."""
    reason = ""
    if len({sample.group or sample.id for sample in train}) < 2:
        reason = "there is one good part"
    elif settings.patch_fraction is not None:
        reason = "--patch-fraction keeps a share of the patches"
    if reason and "thresholds" not in settings.model_fields_set:
        say(f"no thresholds, as {reason}: take them from other good parts with 'tinydefects calibrate'")
        return "none"
    return settings.thresholds


def _fit_into(out: Path, detector: "Detector", train: "Sequence[Sample]", thresholds: str) -> None:
    """Fit and save; what is learnt stays in the folder until it is saved."""
    from tinydefects.data.sample import require_readable
    from tinydefects.decisions.calibration import CalibrationSettings

    with FitPlace(detector, out) as place:
        with show_progress() as progress:
            require_readable(train, progress)
            detector.fit(
                train,
                calibration=None if thresholds == "none" else CalibrationSettings(),
                unseen="held out" if thresholds == "held-out" else "folds",
                progress=place.watch(progress, len(train)),
            )
        place.save()


def _found_bits(samples: "Sequence[Sample]") -> int:
    """How many bits these photographs fill, said if there is something to say."""
    from tinydefects.data.images import find_image_bits

    with show_progress() as progress:
        found = find_image_bits(samples, progress=lambda done, total: progress("depth of images", done, total))
    if found.n_deep:
        say(str(found))
    return found.bits


def told_of_the_end(detector: "Detector") -> str:
    """When training with held-out images ended, and which students it kept."""
    ran, most, kept = len(detector.losses), detector.settings.epochs, detector.kept_epoch
    ended = f"did not stop before epoch {most}, the last" if ran == most else f"stopped after epoch {ran} of {most}"
    if most is None:  # steps were counted
        ended = f"ended after epoch {ran}"
    lowest = f"the loss of the held-out images was lowest ({min(detector.validation_losses):.4g})"
    return f"students: {ended}; those of epoch {kept} are kept, where {lowest}"


def _samples_of(address: str, options: Sequence[str] | None, settings: PredictSettings) -> "tuple[str, list[Sample]]":
    """Address and images of a category; no mask is needed to predict."""
    if settings.split in {"test_private", "test_private_mixed"}:
        from tinydefects.submission.layout import object_names, private_category

        (name,) = object_names([address])
        category = private_category(name, settings.split, settings.root)
        say_remarks(category)
        return category.id, list(category.test)
    category = load(address, settings.root, options, allow=[Allowed.unmarked])
    of_split = {"test": category.test, "train": category.train, "validation": category.validation}
    samples = list(of_split[settings.split])
    if not samples:
        raise TinyDefectsError(
            f"{category.id}: has no {settings.split} images; name photographs or a folder of them, or another --split"
        )
    return category.id, samples


def _images_of(
    words: "list[str]", options: Sequence[str] | None, settings: PredictSettings
) -> "tuple[str, list[Sample]]":
    """The name that maps are kept under and the images that the words mean: photographs, or one category."""
    from tinydefects.datasets.photographs import address_among, exists, find_photographs, require_own_folder

    address = address_among(words, settings.root)
    if address is not None:
        name, samples = _samples_of(address, options, settings)
        if exists(address):
            meant = f"its {len(samples)} images are meant"
            say(f"{address}: a folder here, and a category below --root {settings.root}: {meant}")
        require_own_folder(settings.out, name, samples)
        return name, samples
    if options or settings.split != "test":
        raise TinyDefectsError(f"{words[0]}: --split and --option are for the address of a category; leave them out")
    found = find_photographs(words)
    for line in found.remarks:
        say(line)
    require_own_folder(settings.out, found.name, found.samples, [found.folder])
    return found.name, found.samples


@options_of(PredictSettings)
def predict(
    model: Annotated[Path, typer.Argument(help="Folder written by 'tinydefects fit' or 'tinydefects export'.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="PHOTOGRAPHS|DATASET/CATEGORY",
            help="Files, folders or patterns such as 'in/*.png'; or one category, for its test images.",
        ),
    ],
    settings: PredictSettings,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Write an anomaly map of full size, an overlay, a score and, with thresholds, a verdict for every image.

    Maps that are there are kept if photograph and detector are still the same. A bad photograph stops no other: it is
    listed in OUT/problems.csv, and the exit code is 2.
    """
    from tinydefects.detector.deciding import require_calibration
    from tinydefects.detector.predict_folder import predict_to_disk
    from tinydefects.export.exported import load_model

    name, samples = _images_of(images, option, settings)
    detector = load_model(
        model,
        teacher_weights=settings.teacher_weights,
        device=settings.device,
        precision=settings.precision,
        compiled=settings.compiled,
        batch_size=settings.batch_size,
    )
    if settings.needs_decisions:
        require_calibration(detector.calibration, model)
    with show_progress() as progress:
        made = predict_to_disk(
            detector,
            name,
            samples,
            settings.out,
            progress=progress,
            outputs=settings,
            batch_size=settings.batch_size,
        )
    if detector.calibration is None:
        say(f"scores without verdicts, as there are no thresholds: tinydefects calibrate {model} GOOD")
    for remark in made.remarks:
        say(remark)
    print_result(dict(made.scores), as_json, f"{made}: {settings.out}")
    made.require_whole(settings.out)
