"""Results that travel: verify, reproduce, merge, paper."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import Json, print_result, say, show_progress
from tinydefects.cli.settings_options import DataFolder, GivenDevice, GivenWeights, options_of
from tinydefects.data.walk import counted
from tinydefects.limits import MOST_DRAWS, MOST_SEED


class VerifySettings(BaseModel):
    """What `tinydefects verify` looks at besides the results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path | None = Field(
        default=None, description="Folder that holds the datasets: compare images and masks, and score kept maps again."
    )
    teacher_weights: GivenWeights = None
    sample: int = Field(
        default=5,
        ge=0,
        le=1_000_000,
        description="Results whose intervals are drawn again, and whose kept maps are scored again.",
    )
    seed: int = Field(default=0, ge=0, le=MOST_SEED, description="Decides which results these are.")


@options_of(VerifySettings)
def verify(
    results: Annotated[Path, typer.Argument(help="Folder of results, or one result file.")],
    settings: VerifySettings,
    as_json: Json = False,
) -> None:
    """Check results: numbers against tallies, fingerprints of protocol, data, weights; exit code 2 if any fails.

    Every number is counted again from the stored tally, or must lie within the
    bounds that the tally leaves. One line for each thing that is wrong, naming its
    file, then what holds and what could not be checked.

    tinydefects verify results --root data
    """
    from tinydefects.benchmark.verify import Request
    from tinydefects.benchmark.verify import verify as verify_results

    request = Request(
        root=settings.root, weights=settings.teacher_weights, n_sampled=settings.sample, seed=settings.seed
    )
    with show_progress() as progress:
        found = verify_results(results, request, progress)
    print_result(found.numbers(), as_json, *found.lines())
    if found.wrong:
        raise typer.Exit(2)


class ReproduceSettings(BaseModel):
    """Where `tinydefects reproduce` runs the job again, and how far a number may move."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: DataFolder = Path("data")
    teacher_weights: GivenWeights = None
    device: GivenDevice = None
    tolerance: float = Field(
        default=1e-6, ge=0, le=1, description="How far a metric may move; sizes in pixels relative to themselves."
    )


@options_of(ReproduceSettings)
def reproduce(
    result: Annotated[Path, typer.Argument(help="One result file of a benchmark, in its folder.")],
    settings: ReproduceSettings,
    as_json: Json = False,
) -> None:
    """Run the very job of a result again, and compare: exit code 2 if a metric moves beyond the tolerance.

    With equal packages, device and threads the numbers are equal; elsewhere those of
    trained methods move a little, see docs/conventions.md. Nothing is written.

    tinydefects reproduce results/mvtec_ad/screw/1036/fbft/seed_0.json --root data
    """
    from tinydefects.benchmark.reproduce import Machine
    from tinydefects.benchmark.reproduce import reproduce as run_again

    machine = Machine(root=settings.root, weights=settings.teacher_weights, device=settings.device)
    found = run_again(result, machine)
    beyond = found.beyond(settings.tolerance)
    told = {"job": found.job, "metrics": found.metrics, "beyond": list(beyond), "other_images": found.other_images}
    print_result({**told, "versions": found.versions}, as_json, *found.lines(settings.tolerance))
    if beyond or found.other_images:
        raise typer.Exit(2)


def merge(
    results: Annotated[list[Path], typer.Argument(help="Two or more folders that a benchmark has written.")],
    out: Annotated[Path, typer.Option(help="The new folder; it must not be there yet.")],
    as_json: Json = False,
) -> None:
    """Put results of several people into one folder, unless they cannot be compared; that is said, line by line.

    Refused are another protocol, other images or masks, the same job with other
    numbers, and whatever 'tinydefects verify' finds wrong. With any refusal nothing
    is written, and the exit code is 2. Maps are not copied.

    tinydefects merge ours theirs --out board
    """
    from dataclasses import asdict

    from tinydefects.benchmark.merge import merge as merge_folders

    with show_progress() as progress:
        merged = merge_folders(results, out, progress)
    for remark in merged.remarks:
        say(remark)
    again = f", {merged.twice} of them in two folders with equal numbers" if merged.twice else ""
    lines = merged.refused or [f"{counted('result', merged.n_results)} in {out}{again}"]
    print_result(asdict(merged), as_json, *lines)
    if merged.refused:
        say(f"{len(merged.refused)} refused; nothing was written")
        raise typer.Exit(2)
    say(f"report: tinydefects report {out}")


class PaperSettings(BaseModel):
    """What `tinydefects paper` is told besides the results."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(default=Path("paper"), description="Folder to write.")
    published: Path | None = Field(
        default=None,
        description="Numbers quoted from papers, for a table of their own; results/published.json is the project's.",
    )
    resamples: int = Field(
        default=2000, ge=100, le=MOST_DRAWS, description="Draws of the images behind intervals and verdicts."
    )


@options_of(PaperSettings)
def paper(
    results: Annotated[Path, typer.Argument(help="Folder that a benchmark has written, or a merged one.")],
    settings: PaperSettings,
    as_json: Json = False,
) -> None:
    """Write what a paper needs: every board as LaTeX, Markdown and CSV, figures, the protocol in words, BibTeX.

    Numbers come with 95 % intervals and marks of what cannot be told from the best.
    Figures are PDF and SVG, a column wide. example.tex shows all of it.

    tinydefects paper results --out paper --published results/published.json
    """
    from tinydefects.report.paper import write_paper
    from tinydefects.results.published import read_published

    quoted = read_published(settings.published).numbers if settings.published is not None else ()
    written = write_paper(results, settings.out, published=quoted, n_resamples=settings.resamples)
    print_result({"written": [str(path) for path in written]}, as_json, *map(str, written))
