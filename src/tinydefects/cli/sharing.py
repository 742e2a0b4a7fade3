"""Results that travel: verify, merge."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import Json, print_result, say, show_progress
from tinydefects.cli.settings_options import GivenWeights, options_of
from tinydefects.limits import MOST_SEED


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
    """Check results: numbers against their tallies, fingerprints of protocol, data, weights; exit code 2 if any fails.

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


def merge(
    results: Annotated[list[Path], typer.Argument(help="Two or more folders that a benchmark has written.")],
    out: Annotated[Path, typer.Option(help="The new folder; it must not be there yet.")],
    as_json: Json = False,
) -> None:
    """Put the results of several people into one folder, unless they cannot be compared; that is said, line by line.

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
    lines = merged.refused or [f"{merged.n_results} results in {out}{again}"]
    print_result(asdict(merged), as_json, *lines)
    if merged.refused:
        say(f"{len(merged.refused)} refused; nothing was written")
        raise typer.Exit(2)
    say(f"report: tinydefects report {out}")
