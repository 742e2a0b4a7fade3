"""What `tinydefects inspect --recall` goes by: python runs/recall.py DATA

Reads the hits and misses of FBFT in results/synthetic, results/demo and results/magnetic_tile (`runs/synthetic.py`,
`make demo`, `runs/magnetic_tile.sh DATA`) and writes src/tinydefects/planner/recall.json: the share found against the
diameter in patches. DATA holds magnetic_tile/, for the sizes of its photographs. Seconds; then `python runs/tables.py`
prints the table.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from tinydefects.data.json_files import write_json
from tinydefects.data.pixels import read_size
from tinydefects.datasets.catalog import load_category
from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.statistics.uncertainty import exact_interval
from tinydefects.planner.recall import ALL, MeasuredRecall, RecallCurve, RecallPoint, measured_recall
from tinydefects.results.result import Result, find_results, read_result

ROOT = Path(__file__).resolve().parents[1]
RECALL = ROOT / "src" / "tinydefects" / "planner" / "recall.json"
SOURCES = ("results/synthetic", "results/demo", "results/magnetic_tile/magnetic_tile/all.json")
PATCH_PX = 8  # of the built-in teacher
OCTAVES = (0.25, 0.5, 1, 2, 4, 8)  # patches; what is between two is taken together
FEWEST_SURFACES = 5
N_DRAWS = 4000
Floats = NDArray[np.float64]


def hits_of(data: Path) -> tuple[dict[str, list[tuple[float, bool]]], list[Result], list[str]]:
    """By surface the diameter in patches and the fate of every defect; the results they come from, and their paths."""
    places = [ROOT / name for name in SOURCES]
    paths = [path for place in places for path in (find_results(place) if place.is_dir() else [place])]
    results = [read_result(path) for path in paths]
    tiles = load_category("magnetic_tile/all", root=data, allow_unmarked=True).test
    long_sides = {one.id: max(read_size(one.image_path)) for one in tiles if one.label == "defect"}
    hits: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for result in results:
        evaluation, settings = result.evaluation, result.provenance.settings
        for defect, hit in zip(evaluation.defects, evaluation.detectability.hits, strict=True):
            long_side = long_sides.get(defect.sample_id) or int(settings["size"])
            scale = int(settings.get("resolution", long_side)) / long_side
            hits[evaluation.category].append((defect.diameter_px * scale / PATCH_PX, hit))
    return hits, results, [str(path.relative_to(ROOT)) for path in paths]


def measure_recall(data: Path) -> MeasuredRecall:
    """What `inspect --recall` goes by: a curve of all surfaces, each with the same weight, then one of each."""
    hits, results, paths = hits_of(data)
    found = [one.evaluation.detectability for one in results]
    (rate,) = {one.rate for one in found}
    surfaces = [surface_curve(name, of) for name, of in sorted(hits.items())]
    return MeasuredRecall(
        method="fbft",
        teacher="builtin",
        patch_size=PATCH_PX,
        rules=tuple(sorted({one.rule for one in found})),
        false_alarm_rate=rate,
        n_alarming=sum(one.n_alarming_images for one in found),
        n_good=sum(one.n_good_images for one in found),
        sources=tuple(paths),
        commits=tuple(sorted({one.provenance.commit for one in results})),
        created=max(one.provenance.created for one in results),
        curves=(curve_of_all(hits), *surfaces),
    )


def by_octave(hits: Sequence[tuple[float, bool]]) -> dict[int, tuple[float, int, int]]:
    """Geometric mean of the widths, how many are found, and of how many; octaves without defects are left out."""
    octaves: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for width, hit in hits:
        octaves[int(np.digitize(width, OCTAVES))].append((width, hit))
    return {
        place: (float(np.exp(np.mean(np.log([width for width, _ in of])))), sum(hit for _, hit in of), len(of))
        for place, of in sorted(octaves.items())
    }


def surface_curve(name: str, hits: Sequence[tuple[float, bool]]) -> RecallCurve:
    """Shares with the exact intervals of hits and misses."""
    octaves = by_octave(hits).values()
    bounds = [exact_interval(n_found, n) for _, n_found, n in octaves]
    shares = np.array([(n_found / n, low, high) for (_, n_found, n), (low, high) in zip(octaves, bounds, strict=True)])
    return rising(name, [width for width, _, _ in octaves], shares, [n for _, _, n in octaves])


def curve_of_all(hits: Mapping[str, Sequence[tuple[float, bool]]]) -> RecallCurve:
    """The mean of all surfaces, and its interval: surfaces are resampled, and the defects of each.

    Octaves in which fewer than `FEWEST_SURFACES` have defects say more about these surfaces than about size; left out.
    """
    surfaces = [by_octave(of) for of in hits.values()]
    widths, shares, counts = [], [], []
    for octave in range(len(OCTAVES) + 1):
        members = [one[octave] for one in surfaces if octave in one]
        if len(members) < FEWEST_SURFACES:
            continue
        n_found, n = (np.array([one[place] for one in members]) for place in (1, 2))
        random = np.random.default_rng(octave)
        chosen = random.integers(len(members), size=(N_DRAWS, len(members)))
        drawn = random.binomial(n[chosen], (n_found / n)[chosen]) / n[chosen]
        shares.append([(n_found / n).mean(), *np.quantile(drawn.mean(axis=1), (0.025, 0.975))])
        widths.append(float(np.exp(np.mean(np.log([one[0] for one in members])))))
        counts.append(int(n.sum()))
    return rising(ALL, widths, np.array(shares), counts)


def rising(name: str, widths: Sequence[float], shares: Floats, counts: Sequence[int]) -> RecallCurve:
    """Shares (n, 3) with their bounds, each made to rise with the width: the nearest that does, by least squares."""
    fitted = np.stack([isotonic_regression(column, weights=np.array(counts)).x for column in shares.T], axis=1)
    points = tuple(
        RecallPoint(width_patches=width, recall=float(share), low=float(low), high=float(high), n_defects=count)
        for width, (share, low, high), count in zip(widths, fitted, counts, strict=True)
    )
    return RecallCurve(name=name, n_defects=sum(counts), points=points)


def table(measured: MeasuredRecall) -> str:
    """One row a curve, one column an octave: share found, number of defects, for all surfaces the interval."""
    edges = [f"{low:g} to {high:g}" for low, high in pairwise(OCTAVES)]
    names = [f"below {OCTAVES[0]:g}", *edges, f"above {OCTAVES[-1]:g}"]
    lines = ["| share found, patches across | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for curve in measured.curves:
        cells = ["–"] * len(names)
        for one in curve.points:
            bounds = f"{100 * one.low:.0f} to {100 * one.high:.0f} %, " if curve.name == ALL else ""
            cells[int(np.digitize(one.width_patches, OCTAVES))] = f"{100 * one.recall:.0f} % ({bounds}{one.n_defects})"
        lines.append(f"| {curve.name} | " + " | ".join(cells) + " |")
    made = (
        f"{measured.created[:10]}, commits {', '.join(measured.commits)}, {measured.method}, teacher {measured.teacher}"
    )
    alarms = (
        f"{measured.n_alarming} of {measured.n_good} good images alarm ({100 * measured.false_alarm_rate:g} % allowed)"
    )
    told = (
        "In brackets: the 95 % interval, surfaces and defects resampled, and how many defects; shares are made to rise"
    )
    return "\n".join(lines) + f"\n\n<sub>{told}. {alarms}; {made}. Source: `src/tinydefects/planner/recall.json`.</sub>"


RECALL_TABLES = {"recall": lambda: table(measured_recall())}


def main() -> None:
    """Measure, then write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    try:
        write_json(RECALL, asdict(measure_recall(parser.parse_args().data)))
    except TinyDefectsError as error:
        sys.stderr.write(f"recall: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
