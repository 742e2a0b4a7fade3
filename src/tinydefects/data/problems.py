"""Everything that can be wrong between maps and images, each thing by name, and how it is told in one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinydefects.errors import TinyDefectsError

ProblemKind = Literal[
    "missing",
    "duplicate",
    "unreadable",
    "other photograph",
    "other maker",
    "wrong size",
    "wrong mask",
    "not finite",
    "without score",
    "extra",
]
WAYS_OUT: dict[ProblemKind, str] = {
    "missing": "give one map for each test image",
    "duplicate": "keep one map for each image",
    "unreadable": "write those files again",
    "other photograph": "predict again, which makes maps of changed photographs anew, or bring the photographs back",
    "other maker": "predict again with one detector, which makes maps of others anew, or score each in its own folder",
    "wrong size": "upsample those maps (bilinear, centre-aligned) or let --resample bilinear do it; never the mask",
    "wrong mask": "export those masks at the size of their image",
    "not finite": "only finite float32 scores can be ranked",
    "without score": "choose --image-score max or top_0.1_percent",
    "extra": "maps of no test image are left out",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MapProblem:
    """One thing that is wrong; `name` is the sample's id, or the file (the row) of a map that belongs to none."""

    kind: ProblemKind
    name: str
    detail: str = ""


class MapsError(TinyDefectsError, ValueError):
    """Maps that cannot be scored; the message counts the problems and names the first, `problems` holds them all."""

    def __init__(self, source: Path, problems: Sequence[MapProblem], listed_in: Path | None = None) -> None:
        super().__init__(describe_problems(source, problems) + (f"; all of them: {listed_in}" if listed_in else ""))
        self.source = source
        self.problems = tuple(problems)


def describe_problems(source: Path, problems: Sequence[MapProblem], n_named: int = 3) -> str:
    """One line: how many of each kind, the first of them by name, the ways out."""
    found, ways_out = [], []
    for kind, way_out in WAYS_OUT.items():
        alike = [problem for problem in problems if problem.kind == kind]
        if not alike:
            continue
        names = [problem.name for problem in alike[:n_named]]
        if alike[0].detail:
            names[0] += f": {alike[0].detail}"
        more = f", and {len(alike) - n_named} more" if len(alike) > n_named else ""
        found.append(f"{len(alike)} {kind} ({', '.join(names)}{more})")
        ways_out.append(way_out)
    return f"{source}: maps and images do not fit: {', '.join(found)}; {'; '.join(ways_out)}"
