"""Score maps: evaluate."""

from enum import StrEnum
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.commands.options import (
    MOST_DRAWS,
    MOST_SEED,
    Allow,
    CategoryId,
    CurveRule,
    ImageScore,
    Json,
    Option,
    Root,
    bounded,
    check_masks_of,
    load,
    numbers,
    print_result,
    say,
    show_progress,
)
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.metrics.size import SizeBins

MAPS, SIZES, DECISIONS, FILES = "The maps", "Figures and size groups", "Decisions", "What is written"
NAN = float("nan")
FINITE = bounded(-3.4e38, 3.4e38)  # scores are float32
MOST_EXHIBITS = 100_000


class Resampling(StrEnum):
    """What happens to a map of another size than its image."""

    none = "none"
    bilinear = "bilinear"


class DetectionRule(StrEnum):
    """Which defects are detected."""

    own_peak_at_image_fpr = "own_peak_at_image_fpr"
    own_peak_at_pixel_fpr = "own_peak_at_pixel_fpr"
    peak_at_image_fpr = "peak_at_image_fpr"
    peak_at_pixel_fpr = "peak_at_pixel_fpr"
    half_at_pixel_fpr = "half_at_pixel_fpr"


class NormalSource(StrEnum):
    """Good images from which a threshold may be taken."""

    validation = "validation"
    train = "train"


def evaluate(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps (MVTec's layout) or a manifest of them.")],
    category_id: CategoryId,
    root: Root = Path("data"),
    option: Option = None,
    allow: Allow = None,
    key: Annotated[
        str | None, typer.Option(help="Array of .npz maps; else 'anomaly_map' or the only one.", rich_help_panel=MAPS)
    ] = None,
    resample: Annotated[
        Resampling,
        typer.Option(
            help="Bring maps of another size to their image's (never the mask); recorded in the result. "
            "Shrinking averages, and so lowers the peaks of tiny spots.",
            rich_help_panel=MAPS,
        ),
    ] = Resampling.none,
    image_score: Annotated[
        ImageScore,
        typer.Option(help="Score of an image: 'stored' with the map, else a rule on the map.", rich_help_panel=MAPS),
    ] = ImageScore.stored,
    limits: Annotated[
        str, typer.Option(help="False-positive rates up to which AUPRO is taken.", rich_help_panel=SIZES)
    ] = "0.3,0.1,0.05,0.01",
    bins: Annotated[
        list[str] | None,
        typer.Option(
            metavar="UNIT:EDGES",
            help="Groups of defects between fixed sizes, e.g. diameter_px:2,5,10; also area_px, area_mm2, image_share. "
            "Repeatable.",
            rich_help_panel=SIZES,
        ),
    ] = None,
    pixel_pitch: Annotated[
        float,
        typer.Option(
            callback=bounded(0, 1e9, without_least=True),
            help="Millimetres a pixel, for sizes in mm.",
            show_default=False,
            rich_help_panel=SIZES,
        ),
    ] = NAN,
    curve: Annotated[
        CurveRule,
        typer.Option(help="'published_99' is the 99-point curve of published tables.", rich_help_panel=SIZES),
    ] = CurveRule.exact,
    contrast: Annotated[
        bool,
        typer.Option("--contrast", help="Measure each defect's contrast; reads its image.", rich_help_panel=SIZES),
    ] = False,
    detection_rule: Annotated[
        DetectionRule, typer.Option(help="What counts as a detected defect.", rich_help_panel=DECISIONS)
    ] = DetectionRule.own_peak_at_image_fpr,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            callback=bounded(0, 1, without_most=True),
            help="Share of good images (or of normal pixels) that rule lets alarm; 0.05 (0.01) when left out.",
            rich_help_panel=DECISIONS,
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            callback=FINITE,
            help="Pixels above it are called defective: F1 at it, SegF1.",
            show_default=False,
            rich_help_panel=DECISIONS,
        ),
    ] = NAN,
    image_threshold: Annotated[
        float,
        typer.Option(
            callback=FINITE,
            help="Images that score above it are called defective.",
            show_default=False,
            rich_help_panel=DECISIONS,
        ),
    ] = NAN,
    threshold_from: Annotated[
        NormalSource | None,
        typer.Option(
            help="Take thresholds that are not given from maps of these good images instead.",
            rich_help_panel=DECISIONS,
        ),
    ] = None,
    threshold_rate: Annotated[
        float,
        typer.Option(
            callback=bounded(0, 1, without_most=True),
            help="The share of those images' pixels (and of those images) allowed above it.",
            rich_help_panel=DECISIONS,
        ),
    ] = 0.001,
    resamples: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_DRAWS,
            help="Draws of the images behind the 95 % intervals; 0 for none.",
            rich_help_panel=SIZES,
        ),
    ] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=MOST_SEED, help="Seed of those draws.", rich_help_panel=SIZES)] = 0,
    out: Annotated[Path, typer.Option(help="Folder of results.", rich_help_panel=FILES)] = Path("results"),
    exhibits: Annotated[
        int,
        typer.Option(
            min=0,
            max=MOST_EXHIBITS,
            help="Defects cut out for the report; 0 keeps the data's pixels out of the result.",
            rich_help_panel=FILES,
        ),
    ] = 48,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Only check the maps; say what scoring would read and spool.", rich_help_panel=FILES
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Score anybody's anomaly maps at the images' own resolution, by defect size.

    Maps are TIFF, npy, npz or 16-bit PNG, in MAPS/CATEGORY/test/TYPE/STEM.tiff,
    or listed in a manifest: CSV, JSON, JSON lines or Parquet with columns id (or
    path), map, maybe score. All are checked by name and size before the first is
    scored; whatever is wrong goes to OUT/DATASET/CATEGORY.problems.csv. Beside
    the result lies a table of all defects: .defects.csv.

    tinydefects evaluate maps mvtec_ad/screw --limits 0.3,0.05,1e-5
    tinydefects evaluate maps.jsonl visa/pcb1 --resample bilinear --dry-run
    tinydefects evaluate maps mvtec_ad2/can --threshold-from validation
    tinydefects evaluate maps folder/parts --bins diameter_px:2,5,10 --contrast
    """
    from tinydefects.benchmark.map_scoring import MapReader
    from tinydefects.benchmark.result import TABLE_SUFFIX, Result, describe_run, write_result
    from tinydefects.image_bits import MOST, bits_to_show, category_with_image_bits
    from tinydefects.maps.description import describe_cost, map_settings, scoring_cost, warnings_about
    from tinydefects.metrics.evaluation import evaluate as evaluate_pairs
    from tinydefects.pixels import require_writable
    from tinydefects.predictions import maker_of, read_maker

    fpr_limits, size_bins = parse_rates("--limits", limits), [parse_bins(text, pixel_pitch) for text in bins or ()]
    category = load(category_id, root, option, allow=allow)
    bits = bits_to_show(category, read_maker(maps)) if exhibits or contrast else MOST
    category = category_with_image_bits(category, bits)
    base = out / category.id
    with show_progress() as progress:
        reader = MapReader(
            source=maps,
            key=key,
            resample=resample.value,
            image_score=image_score.value,
            problems_path=base.with_name(f"{base.name}.problems.csv"),
            progress=progress,
        )
        pairing = reader.check(category)
        for remark in (*licence_of(category.id), *warnings_about(pairing)):
            say(remark)
        pairing = pairing.with_samples(check_masks_of(category, allow, progress).test)
        if dry_run:
            cost = scoring_cost(pairing)
            return print_result(cost, as_json, describe_cost(cost))
        require_writable(base.parent)
        if threshold_from is not None:
            of_pixels, of_images = reader.thresholds(category, threshold_from.value, threshold_rate, pairing)
            threshold = of_pixels if isnan(threshold) else threshold
            image_threshold = of_images if isnan(image_threshold) else image_threshold
        evaluation = evaluate_pairs(
            reader.pairs(pairing),
            category=category.id,
            fpr_limits=fpr_limits,
            curve=curve.value,
            bins=size_bins,
            pixel_pitch_mm=pixel_pitch,
            threshold=threshold,
            image_threshold=image_threshold,
            detection_rule=detection_rule.value,
            false_alarm_rate=false_alarm_rate,
            n_exhibits=exhibits,
            contrast=contrast,
            n_resamples=resamples,
            seed=seed,
        )
    settings = {
        "command": "evaluate",
        "curve": curve.value,
        "image_score": image_score.value,
        **map_settings(pairing),
    }
    if bits != MOST:
        settings["image_bits"] = str(bits)
    if option:
        settings["dataset_options"] = " ".join(option)
    if allow:
        settings["allowed"] = " ".join(allow)
    if threshold_from is not None:
        settings["threshold_from"] = f"{threshold_from.value}, exceeded by at most {threshold_rate:g}"
    result = Result(evaluation=evaluation, provenance=describe_run({**settings, **maker_of(pairing)}))
    path = write_result(result, base.with_name(f"{base.name}.json"), with_table=True)
    print_result(numbers(evaluation), as_json, str(evaluation), f"\nwritten: {path}, {path.with_suffix(TABLE_SUFFIX)}")


def parse_numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise TinyDefectsError(f"{option} {text!r}: write numbers between commas, such as 0.3,0.05") from error
    if not all(isfinite(number) for number in numbers):
        raise TinyDefectsError(f"{option} {text!r}: write finite numbers between commas, such as 0.3,0.05")
    return numbers


def parse_rates(option: str, text: str) -> tuple[float, ...]:
    """Shares above 0, up to 1, between commas."""
    rates = parse_numbers(option, text)
    if not all(0 < rate <= 1 for rate in rates):
        raise TinyDefectsError(f"{option} {text!r}: write rates in (0, 1] between commas, such as 0.3,0.05")
    return rates


def parse_bins(text: str, pixel_pitch: float) -> "SizeBins":
    """`diameter_px:2,5,10`."""
    from tinydefects.metrics.size import SizeBins

    unit, separator, edges = text.partition(":")
    if not separator:
        raise TinyDefectsError(f"--bins {text}: write UNIT:EDGES, such as diameter_px:2,5,10")
    bins = SizeBins(unit=unit, edges=parse_numbers("--bins", edges))  # type: ignore[arg-type]  # it checks the unit
    if bins.unit == "area_mm2" and isnan(pixel_pitch):
        raise TinyDefectsError(f"--bins {text}: sizes in mm need --pixel-pitch, the millimetres a pixel")
    return bins


def licence_of(category_id: str) -> list[str]:
    """One line for a published dataset, which binds whoever uses it; none for images of one's own and drawn ones."""
    from tinydefects.datasets.catalog import LICENCES

    dataset = category_id.split("/")[0]
    return [] if dataset in {"folder", "synthetic"} else [f"licence of {dataset}: {LICENCES[dataset]}"]
