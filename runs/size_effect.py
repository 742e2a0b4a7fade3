"""What the size of a defect does to every method: python runs/size_effect.py [DATA]

With DATA, the folder in which `runs/benchmark.sh` has drawn its parts and that holds magnetic_tile/, the diameters of
all defects of results/benchmark/summary.json are read from their masks (families that are not there are drawn, seconds
each), and AUPRO against diameter in patches is written to results/size_effect.json. From this file, with or without
DATA, docs/pictures/size_{light,dark}.png are made anew, and by `python runs/tables.py` the lines below the picture in
README.md. Half a minute.
The summary holds AUPRO by quarters of the defects, so a point is a quarter: of every category, at one resolution.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tinydefects.benchmark.summary import Row, Summary, read_summary
from tinydefects.data.defects import find_defects
from tinydefects.data.json_files import read_as, write_json
from tinydefects.datasets.catalog import load_category
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.groups import disjoint_quartiles

ROOT = Path(__file__).resolve().parents[1]
SUMMARY, RESULT = ROOT / "results" / "benchmark" / "summary.json", ROOT / "results" / "size_effect.json"
PICTURES = ROOT / "docs" / "pictures"
PATCH_PX = 8  # of the built-in teacher
QUARTERS = ("aupro_Q1@0.05", "aupro_only_Q2@0.05", "aupro_only_Q3@0.05", "aupro_only_Q4@0.05")
OURS, ABLATIONS = "fbft", ("fbft_forward", "fbft_backward", "fbft_sum")
PANELS = {"synthetic": "drawn parts", "magnetic_tile": "photographs of magnetic tiles"}
THEMES = {
    "light": {"ink": "#1f2328", "muted": "#59636e", "line": "#d1d9e0", "page": "#ffffff", "accent": "#e8590c"},
    "dark": {"ink": "#f0f6fc", "muted": "#9198a1", "line": "#3d444d", "page": "#0d1117", "accent": "#ff7b29"},
}
LOOKS = (
    *(("#e8590c", "o"), ("#1c7ed6", "s"), ("#0ca678", "^"), ("#9775fa", "D"), ("#f06595", "v")),
    *(("#868e96", "P"), ("#b08d57", "X"), ("#22b8cf", "<"), ("#74b816", ">"), ("#c92a2a", "p")),
    *(("#4263eb", "h"), ("#ae3ec9", "d"), ("#f59f00", "*")),
)
N_DRAWS, Z = 4000, 1.96  # resamples; half a 95 % interval in standard errors
Floats = NDArray[np.float64]
Sizes = Mapping[str, tuple[Floats, Floats, NDArray[np.int64]]]  # by category, see `read_diameters`


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What one method makes of a quarter of the defects of every category of a dataset at one resolution.

    Attributes:
        quarter: 1 holds the smallest defects of each category.
        patches: geometric mean of the defects' diameters, in patches of the teacher.
        aupro: AUPRO@5 %, mean over seeds, then categories; `low` and `high` are its 95 % interval.
    """

    dataset: str
    method: str
    resolution: int
    quarter: int
    patches: float
    aupro: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """All points, and where they come from."""

    source: str
    commit: str
    created: str
    machine: str
    protocol: str
    teacher: str
    n_results: int
    n_seeds: int
    n_defects: Mapping[str, int]
    n_categories: Mapping[str, int]
    points: tuple[Point, ...]

    def of(self, dataset: str, method: str) -> list[Point]:
        """Smallest first, whatever the resolution."""
        own = [one for one in self.points if (one.dataset, one.method) == (dataset, method)]
        return sorted(own, key=lambda one: one.patches)

    @property
    def methods(self) -> list[str]:
        """Ours first, then by their mean on the first dataset."""
        first = self.points[0].dataset
        means = {name: np.mean([one.aupro for one in self.of(first, name)]) for name in {p.method for p in self.points}}
        return sorted(means, key=lambda name: (name != OURS, -means[name], name))


def read_diameters(summary: Summary, data: Path) -> Sizes:
    """Of each category: diameters (n,) in pixels, long sides (n,) of the images that hold them, areas (n,)."""
    found = {}
    for name in summary.protocol.categories:
        options = summary.protocol.options.get(name.split("/")[0], {})
        rows = []
        for sample in load_category(name, root=data, **options).test:
            if sample.label == "defect":
                mask = sample.mask()
                rows += [(one.diameter_px, max(mask.shape), one.area_px) for one in find_defects(mask)]
        expected = {row.n_defects for row in summary.rows if row.category == name}
        if expected != {len(rows)}:
            raise ResultError(f"{name}: {len(rows)} defects below {data}, {expected} in {SUMMARY}; give its very data")
        diameters, long_sides, areas = np.array(rows).T
        found[name] = (diameters, long_sides, areas.astype(np.int64))
    return found


def points_of(summary: Summary, sizes: Sizes, dataset: str) -> Iterable[Point]:
    """Every quarter, method and resolution of a dataset; methods without a resolution see the photograph's own."""
    categories = sorted(name for name in sizes if name.startswith(f"{dataset}/"))
    seeds: dict[tuple[str, int], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in summary.rows:
        if row.category in categories and row.method not in ABLATIONS:
            seeds[row.method, row.resolution][row.category].append(row)
    for (method, resolution), by_category in sorted(seeds.items()):
        if by_category.keys() != set(categories):
            raise ResultError(f"{SUMMARY}: {method} at {resolution} px lacks categories of {dataset}; run them")
        for place, metric in enumerate(QUARTERS):
            widths, values, spreads = [], [], []
            for category in categories:
                diameters, long_sides, areas = sizes[category]
                members = disjoint_quartiles(areas)[place]
                scale = resolution / long_sides[members] if resolution else 1.0
                widths.append(np.log(diameters[members] * scale / PATCH_PX).mean())
                rows = by_category[category]
                intervals = [row.intervals[metric] for row in rows]
                values.append(np.mean([row.metrics[metric] for row in rows]))
                spreads.append(np.mean([one.high - one.low for one in intervals]) / (2 * Z))
            low, high = interval_of_mean(np.array(values), np.array(spreads))
            yield Point(
                dataset=dataset,
                method=method,
                resolution=resolution,
                quarter=place + 1,
                patches=float(np.exp(np.mean(widths))),
                aupro=float(np.mean(values)),
                low=low,
                high=high,
            )


def interval_of_mean(values: Floats, spreads: Floats) -> tuple[float, float]:
    """95 % interval of the mean of (n,) categories in [0, 1]: categories are resampled, and images within each.

    `spreads` (n,) are standard errors over images; with one category nothing else is left to vary.
    """
    random = np.random.default_rng(0)
    chosen = random.integers(len(values), size=(N_DRAWS, len(values)))
    drawn = values[chosen] + spreads[chosen] * random.standard_normal(chosen.shape)
    low, high = np.quantile(np.clip(drawn, 0, 1).mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def measure(summary: Summary, data: Path) -> Effect:
    """From a summary and the masks of its defects to all points."""
    sizes = read_diameters(summary, data)
    facts = summary.provenance
    counts = {dataset: [len(sizes[name][0]) for name in sizes if name.startswith(f"{dataset}/")] for dataset in PANELS}
    return Effect(
        source=str(SUMMARY.relative_to(ROOT)),
        commit=facts.commit,
        created=facts.created,
        machine=facts.machine,
        protocol=summary.fingerprint,
        teacher=summary.protocol.teacher,
        n_results=len([row for row in summary.rows if row.method not in ABLATIONS]),
        n_seeds=len(summary.protocol.seeds),
        n_defects={dataset: sum(of) for dataset, of in counts.items()},
        n_categories={dataset: len(of) for dataset, of in counts.items()},
        points=tuple(point for dataset in PANELS for point in points_of(summary, sizes, dataset)),
    )


def draw(effect: Effect, theme: dict[str, str]) -> Figure:
    """A panel a dataset: a line a method, all resolutions on it, a bar the 95 % interval of a mean."""
    figure = Figure(figsize=(11, 4.1), dpi=130, facecolor=theme["page"], layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True, width_ratios=(1.5, 1))
    for axes, (dataset, told) in zip(panels, PANELS.items(), strict=True):
        for place, method in enumerate(effect.methods):
            draw_method(axes, effect.of(dataset, method), method, place, theme)
        axes.axhline(0.025, color=theme["muted"], linewidth=0.8, linestyle=(0, (1, 3)))
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 1)
        n_categories = effect.n_categories[dataset]
        of = f"{n_categories} families, " if n_categories > 1 else ""
        axes.set_title(f"{told} ({of}{effect.n_defects[dataset]} defects)", color=theme["ink"], fontsize=10)
        axes.set_xlabel(
            f"defect diameter, patches of the teacher ({PATCH_PX} px of its input)", color=theme["muted"], fontsize=9
        )
        axes.set_facecolor(theme["page"])
        axes.tick_params(colors=theme["muted"], labelsize=9)
        axes.grid(color=theme["line"], linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(theme["line"])
    panels[0].set_ylabel("AUPRO@5 % (dots: a blind guess)", color=theme["muted"], fontsize=9)
    names, labels = panels[0].get_legend_handles_labels()
    figure.legend(names, labels, loc="outside right center", frameon=False, fontsize=9, labelcolor=theme["ink"])
    return figure


def draw_method(axes: Axes, points: Sequence[Point], method: str, place: int, theme: dict[str, str]) -> None:
    """Its points from small to large; methods stand a little apart, so that bars do not hide each other."""
    colour, marker = LOOKS[place % len(LOOKS)]
    at = np.array([point.patches for point in points]) * 2 ** (0.018 * (place - 6))
    aupro = np.array([point.aupro for point in points])
    # the mean may lie outside of a percentile interval by a hair
    below = np.maximum(aupro - [point.low for point in points], 0)
    above = np.maximum([point.high for point in points] - aupro, 0)
    axes.errorbar(
        at,
        aupro,
        yerr=[below, above],
        label=method,
        color=theme["accent"] if method == OURS else colour,
        marker=marker,
        markersize=4.5 if method == OURS else 3.2,
        linewidth=2.2 if method == OURS else 1.1,
        elinewidth=0.7,
        zorder=3 if method == OURS else 2,
    )


def told(effect: Effect) -> str:
    """What one reads off the picture, where our own method loses too, and where the numbers come from."""
    lines = []
    for dataset, name in PANELS.items():
        ours, others = effect.of(dataset, OURS), [method for method in effect.methods if method != OURS]
        rivals = {point: best_other(effect, others, point) for point in ours}
        smallest, largest = ours[0], max(ours, key=lambda point: point.aupro)
        behind = {point: rival for point, rival in rivals.items() if rival.aupro > point.aupro}
        grown = f"`{OURS}` has {smallest.aupro:.2f} at {smallest.patches:.2f} patches"
        grown += f" and {largest.aupro:.2f} at {largest.patches:.1f}"
        if behind:
            point, rival = max(behind.items(), key=lambda pair: pair[1].aupro - pair[0].aupro)
            leads = f"it is behind another method at {len(behind)} of {len(ours)} sizes, most at {point.patches:.2f} "
            leads += f"patches, where `{rival.method}` has {rival.aupro:.2f} and it has {point.aupro:.2f}"
        else:
            gap = max(point.aupro - rival.aupro for point, rival in rivals.items())
            leads = f"it leads at each of {len(ours)} sizes, by {gap:.2f} at most"
        lines.append(f"{name[0].upper()}{name[1:]}: {grown}; {leads}.")
    made = f"{effect.n_results} results, {effect.n_seeds} seeds, {effect.created[:10]}, commit {effect.commit}"
    where = f"teacher {effect.teacher}, protocol {effect.protocol}; source: `results/size_effect.json`"
    return " ".join(lines) + f"\n\n<sub>{made}, {where}.</sub>"


def best_other(effect: Effect, methods: Sequence[str], point: Point) -> Point:
    """The best of these methods on the very quarter and resolution of a point of ours."""
    same = [
        one
        for method in methods
        for one in effect.of(point.dataset, method)
        if (one.resolution, one.quarter) == (point.resolution, point.quarter)
    ]
    return max(same, key=lambda one: one.aupro)


def read_effect(path: Path) -> Effect:
    """What `measure` came to.

    Raises:
        ResultError: it is not there or cannot be read.
    """
    return read_as(Effect, path, ResultError, kind="result of this script", way_out="give DATA to make it anew")


SIZE_TABLES = {"size_effect": lambda: told(read_effect(RESULT))}


def main() -> None:
    """Measure what is asked for, then draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    arguments = parser.parse_args()
    try:
        if arguments.data is not None:
            write_json(RESULT, asdict(measure(read_summary(SUMMARY), arguments.data)))
        effect = read_effect(RESULT)
    except TinyDefectsError as error:
        sys.stderr.write(f"size_effect: {error}\n")
        sys.exit(2)
    for name, theme in THEMES.items():
        draw(effect, theme).savefig(PICTURES / f"size_{name}.png")


if __name__ == "__main__":
    main()
