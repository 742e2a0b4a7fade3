"""Score maps, question the numbers and show them: evaluate, audit, report, compare."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import (
    Allow,
    CategoryId,
    Json,
    Option,
    Out,
    check_masks_of,
    load,
    numbers,
    print_result,
    say,
    show_progress,
)
from tinydefects.cli.settings_options import DataFolder, options_of
from tinydefects.data.pairing import Pairing, Resample
from tinydefects.data.predictions import ImageScoreRule
from tinydefects.data.sample import Category
from tinydefects.limits import MOST_DRAWS, MOST_PIXELS, MOST_SEED
from tinydefects.metrics.evaluation import DECISIONS, FILES, EvaluationSettings
from tinydefects.progress import Report
from tinydefects.results.evaluate_maps import MapReader, NormalSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinydefects.data.sample import Prediction, Sample
    from tinydefects.decisions.outcome import Outcome
    from tinydefects.metrics.scores import Evaluation
    from tinydefects.results.evaluate_maps import GivenThresholds
    from tinydefects.results.result import Result

MAPS = "The maps"
ImageScore = Annotated[
    ImageScoreRule,
    Field(
        description="Score of an image: 'stored' with the map, else a rule on the map.",
        json_schema_extra={"panel": MAPS},
    ),
]


class EvaluateSettings(EvaluationSettings):
    """What `tinydefects evaluate` takes besides: where things lie, how maps are read, whence thresholds come."""

    root: DataFolder = Path("data")
    out: Path = Field(default=Path("results"), description="Folder of results.")
    key: str | None = Field(
        default=None,
        description="Array of .npz maps; else 'anomaly_map' or the only one.",
        json_schema_extra={"panel": MAPS},
    )
    resample: Resample = Field(
        default="none",
        description="Bring maps of another size to their image's (never the mask); recorded in the result. Shrinking "
        "averages, and so lowers the peaks of tiny spots.",
        json_schema_extra={"panel": MAPS},
    )
    image_score: ImageScore = "stored"
    threshold_from: NormalSource | None = Field(
        default=None,
        description="Take thresholds that are not given from maps of these good images instead.",
        json_schema_extra={"panel": DECISIONS},
    )
    threshold_rate: float = Field(
        default=0.001,
        ge=0,
        lt=1,
        description="The share of those images' pixels (and of those images) allowed above it.",
        json_schema_extra={"panel": DECISIONS},
    )
    calibration: Path | None = Field(
        default=None,
        description="Say what the thresholds of this model (or calibration.json) achieve: false alarms beside what was "
        "promised, recall, regions hit. For maps of that detector.",
        json_schema_extra={"panel": DECISIONS, "metavar": "MODEL"},
    )


@options_of(EvaluateSettings)
def evaluate(
    maps: Annotated[Path, typer.Argument(help="Folder of anomaly maps (MVTec's layout) or a manifest of them.")],
    category_id: CategoryId,
    settings: EvaluateSettings,
    option: Option = None,
    allow: Allow = None,
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
    tinydefects evaluate maps folder/parts --calibration model
    """
    from tinydefects.data.images import ALL_BITS, bits_to_show, category_with_image_bits
    from tinydefects.data.pixels import require_writable
    from tinydefects.data.predictions import read_maker
    from tinydefects.results.evaluate_maps import describe_cost, scoring_cost
    from tinydefects.results.result import Result, describe_run, write_result

    category = load(category_id, settings.root, option, allow=allow)
    bits = bits_to_show(category, read_maker(maps)) if settings.n_crops or settings.contrast else ALL_BITS
    category = category_with_image_bits(category, bits)
    base = settings.out / category.id
    thresholds = thresholds_at(settings.calibration)
    with show_progress() as progress:
        reader = reader_of(maps, settings, base.with_name(f"{base.name}.problems.csv"), progress)
        pairing = checked(reader, category, thresholds)
        pairing = pairing.with_samples(check_masks_of(category, allow, progress).test)
        if dry_run:
            cost = scoring_cost(pairing)
            return print_result(cost, as_json, describe_cost(cost))
        require_writable(base.parent)
        decided = with_thresholds(settings, reader, category, pairing)
        evaluation, outcome = scored(reader.pairs(pairing), decided, category.id, thresholds)
    told = {
        **({"image_bits": str(bits)} if bits != ALL_BITS else {}),
        **({"dataset_options": " ".join(option)} if option else {}),
        **({"allowed": " ".join(allow)} if allow else {}),
        **({"calibration": thresholds.sha256} if thresholds else {}),
    }
    made_by = describe_run(to_repeat(settings, pairing, told))
    result = Result(evaluation=evaluation, provenance=made_by, outcome=outcome)
    path = write_result(result, base.with_name(f"{base.name}.json"), with_table=True)
    print_result(shown_numbers(result), as_json, *shown_lines(result, path))


def shown_numbers(result: "Result") -> dict[str, object]:
    """For --json."""
    achieved = {"outcome": asdict(result.outcome)} if result.outcome is not None else {}
    return numbers(result.evaluation) | achieved


def shown_lines(result: "Result", path: Path) -> list[str]:
    """For people; where the result lies comes last."""
    from tinydefects.results.result import TABLE_SUFFIX

    achieved = [str(result.outcome)] if result.outcome is not None else []
    return [str(result.evaluation), *achieved, f"\nwritten: {path}, {path.with_suffix(TABLE_SUFFIX)}"]


def thresholds_at(path: Path | None) -> "GivenThresholds | None":
    """The thresholds of a model or an export, where they are asked for; maps of either are welcome."""
    from tinydefects.data.walk import EXPORT_FILE
    from tinydefects.export.manifest import is_export, read_manifest, sha256
    from tinydefects.results.evaluate_maps import GivenThresholds

    if path is None:
        return None
    exports = {sha256(path / EXPORT_FILE): read_manifest(path).detector} if path.is_dir() and is_export(path) else {}
    return GivenThresholds.read(path, exports)


def checked(reader: MapReader, category: Category, thresholds: "GivenThresholds | None") -> Pairing:
    """The maps, once they fit the images and the thresholds; what a reader should know of them is said."""
    from tinydefects.results.evaluate_maps import warnings_about

    pairing = reader.check(category)
    if thresholds is not None:
        thresholds.require_for(pairing, reader.image_score)
    for remark in (*licence_of(category.id), *warnings_about(pairing)):
        say(remark)
    return pairing


def scored(
    pairs: "Iterator[tuple[Sample, Prediction]]",
    settings: EvaluationSettings,
    category_id: str,
    thresholds: "GivenThresholds | None",
) -> "tuple[Evaluation, Outcome | None]":
    """The evaluation, and what given thresholds achieve, from one pass over the maps."""
    from tinydefects.decisions.outcome import OutcomeCounting
    from tinydefects.metrics.evaluation import evaluate as evaluate_pairs

    if thresholds is None:
        return evaluate_pairs(pairs, settings, category=category_id), None
    counting = OutcomeCounting(thresholds.calibration)
    evaluation = evaluate_pairs(counting.watch(pairs), settings, category=category_id)
    return evaluation, counting.outcome()


def reader_of(maps: Path, settings: EvaluateSettings, problems_path: Path, progress: Report) -> MapReader:
    """What reads the maps as the settings say."""
    return MapReader(
        source=maps,
        key=settings.key,
        resample=settings.resample,
        image_score=settings.image_score,
        problems_path=problems_path,
        progress=progress,
    )


def with_thresholds(
    settings: EvaluateSettings, reader: MapReader, category: Category, pairing: Pairing
) -> EvaluationSettings:
    """The settings with the thresholds that are not given taken from good images, where that is asked for."""
    if settings.threshold_from is None:
        return settings
    found = reader.thresholds(category, settings.threshold_from, settings.threshold_rate, pairing)
    given = (settings.threshold, settings.image_threshold)
    of_pixels, of_images = (own if own is not None else other for own, other in zip(given, found, strict=True))
    return settings.changed(threshold=of_pixels, image_threshold=of_images)


def to_repeat(settings: EvaluateSettings, pairing: Pairing, told: dict[str, str]) -> dict[str, object]:
    """What decided the numbers, for the record: how maps were read, who made them, the settings that were chosen."""
    from tinydefects.data.predictions import maker_of
    from tinydefects.results.evaluate_maps import map_settings

    source = settings.threshold_from
    return {
        "command": "evaluate",
        "curve": settings.curve,
        "image_score": settings.image_score,
        **map_settings(pairing),
        **told,
        **({"threshold_from": f"{source}, exceeded by at most {settings.threshold_rate:g}"} if source else {}),
        **settings.model_dump(mode="json", include=set(EvaluationSettings.model_fields), exclude_defaults=True),
        **maker_of(pairing),
    }


def licence_of(category_id: str) -> list[str]:
    """One line for a published dataset, which binds whoever uses it; none for images of one's own and drawn ones."""
    from tinydefects.datasets.catalog import LICENCES

    dataset = category_id.split("/")[0]
    return [] if dataset in {"folder", "synthetic"} else [f"licence of {dataset}: {LICENCES[dataset]}"]


class AuditSettings(BaseModel):
    """What `tinydefects audit` takes: where things lie, how maps are read, how far masks are shrunk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: DataFolder = Path("data")
    out: Path | None = Field(default=None, description="Write the numbers to this JSON file.")
    plot: Path | None = Field(default=None, description="Draw every rule and method to this file (.png, .svg).")
    input_px: int = Field(
        default=224, ge=1, le=MOST_PIXELS, description="Side of the networks' input, where masks are shrunk to it."
    )
    image_score: ImageScore = "stored"


@options_of(AuditSettings)
def audit(
    maps: Annotated[list[Path], typer.Argument(help="One folder of maps a method, named after it; two or more rank.")],
    category_id: CategoryId,
    settings: AuditSettings,
    option: Option = None,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Score maps under the rules other work has used: what each does to the numbers and to the ranking."""
    from tinydefects.audit.audit import audit_maps, write_audit
    from tinydefects.audit.showing import describe_audit
    from tinydefects.data.pixels import require_writable

    category = load(category_id, settings.root, option, allow=allow)
    told = {"dataset_options": " ".join(option)} if option else {}
    for path in filter(None, (settings.out, settings.plot)):
        require_writable(path.parent)
    with show_progress() as progress:
        category = check_masks_of(category, allow, progress)
        found = audit_maps(
            maps,
            category,
            track=progress.track,
            input_px=settings.input_px,
            image_score=settings.image_score,
            settings=told,
        )
    if not any(metrics["n_defects"] for by_rule in found.values.values() for metrics in by_rule.values()):
        say(f"{category.id}: no defective image is outlined; only the image metrics are defined")
    if settings.out is not None:
        say(f"audit: {write_audit(found, settings.out)}")
    if settings.plot is not None:
        from tinydefects.audit.showing import plot_audit

        say(f"picture: {plot_audit([found], settings.plot)}")
    print_result(asdict(found), as_json, describe_audit(found))


def report(
    results: Annotated[Path, typer.Argument(help="Folder of results, or one result file.")],
    out: Out = Path("report.html"),
) -> None:
    """Turn results into one HTML page: methods of a benchmark side by side, every other evaluation for itself.

    Many pictures of defects lie in OUT_files beside the page and must travel with it.
    """
    from tinydefects.report.page import write_report

    say(f"report: {write_report(results, out)}")


class CompareSettings(BaseModel):
    """What `tinydefects compare` is told: which metrics, how often and from where the images are drawn again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: str = Field(
        default="", description="Names of metrics, separated by commas, such as 'aupro_Q1@0.05'; 'all' for every one."
    )
    resamples: int = Field(default=2000, ge=100, le=MOST_DRAWS, description="How often the images are drawn again.")
    seed: int = Field(default=0, ge=0, le=MOST_SEED, description="Seed of everything random.")


@options_of(CompareSettings)
def compare(
    results: Annotated[list[Path], typer.Argument(help="Two or more result files of the same images, one a method.")],
    settings: CompareSettings,
    as_json: Json = False,
) -> None:
    """Compare methods on the same images: differences, their intervals, and which of them can be told from chance.

    tinydefects compare ours/screw.json theirs/screw.json --metrics aupro_Q1@0.05,image_auroc
    """
    from tinydefects.metrics.statistics.comparison import compare as compare_evaluations
    from tinydefects.metrics.statistics.comparison import describe, other_rules
    from tinydefects.results.result import read_named_results, same_jobs

    named = read_named_results(results)
    evaluations = {name: result.evaluation for name, result in named.items()}
    comparisons = compare_evaluations(
        evaluations,
        names=[settings.metrics] if settings.metrics.strip() else [],
        n_resamples=settings.resamples,
        seed=settings.seed,
    )
    for remark in (*same_jobs(named), other_rules(evaluations)):
        if remark:
            say(remark)
    print_result([asdict(one) for one in comparisons], as_json, describe(comparisons))
