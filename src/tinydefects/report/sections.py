"""One evaluation that stands for itself, as the page shows it: its sentences, and detection against diameter.

The figure of detection has the probability of detection above, every defect as a dot below.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.benchmark.board import headline_limit
from tinydefects.decisions.outcome import Outcome
from tinydefects.decisions.outcome_text import promises, remarks, sizes_told
from tinydefects.metrics.detectability import Detectability, format_size, glow_in_words, measure_detectability, rate_of
from tinydefects.metrics.hit_miss import pod_curve
from tinydefects.metrics.records import DefectRecord, GroupScores
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.statistics.uncertainty import exact_interval
from tinydefects.report.figures import diameter_figure, quartile_figure
from tinydefects.report.surface_figure import surface_of, surface_svg
from tinydefects.report.theme import STAND_INS, label_diameters, themed_svg
from tinydefects.report.words import headline, rate_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_CURVE_POINTS = 120
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class DiameterBin:
    """Defects with `low_px` <= diameter < `high_px`, and the Clopper-Pearson interval of the share found."""

    low_px: float
    high_px: float
    n_found: int
    n_defects: int
    interval: tuple[float, float]


def bin_by_diameter(defects: Sequence[DefectRecord], hits: Sequence[bool]) -> list[DiameterBin]:
    """The defects in octaves of diameter (1 to 2 px, 2 to 4 px, …), smallest first; empty octaves are left out."""
    octaves: dict[int, list[bool]] = {}
    for defect, hit in zip(defects, hits, strict=True):
        octaves.setdefault(math.floor(math.log2(defect.diameter_px)), []).append(hit)
    bins = []
    for octave, found in sorted(octaves.items()):
        bins.append(
            DiameterBin(
                low_px=2.0**octave,
                high_px=2.0 ** (octave + 1),
                n_found=sum(found),
                n_defects=len(found),
                interval=exact_interval(sum(found), len(found)),
            )
        )
    return bins


def detection_figure(evaluation: Evaluation, detectability: Detectability, key: str) -> str:
    """POD with its band, a50, a90 and a90/95 over the shares found; below, the dots. `key` makes its ids unique."""
    defects = evaluation.defects
    bins = bin_by_diameter(defects, detectability.hits)

    def draw(figure: "Figure") -> None:
        figure.subplots_adjust(left=0.155)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.25, 1.0))
        _draw_shares(upper, bins)
        _draw_pod(upper, defects, detectability, evaluation.pixel_pitch_mm)
        _draw_defects(lower, defects, detectability, 1 / max(evaluation.n_normal_pixels, 10))
        label_diameters(lower, bins[0].low_px if bins else 1.0, bins[-1].high_px if bins else 2.0)
        figure.align_ylabels()

    return themed_svg(draw, key, f"Detection against defect diameter in {evaluation.category}")


def _draw_shares(axes: "Axes", bins: Sequence[DiameterBin]) -> None:
    for part in bins:
        low, high, share = part.low_px * 1.03, part.high_px / 1.03, part.n_found / part.n_defects
        middle = math.sqrt(low * high)
        axes.plot([low, high], [share, share], color=STAND_INS["muted"], linewidth=1.2, solid_capstyle="butt")
        axes.plot([middle, middle], part.interval, color=STAND_INS["muted"], linewidth=1.2, alpha=0.6)
        axes.text(middle, 1.05, f"{part.n_found}/{part.n_defects}", ha="center", va="bottom", color=STAND_INS["muted"])
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 0.9, 1], ["0", "50 %", "90 %", ""])
    axes.grid(axis="y")
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("detected")


def _draw_pod(
    axes: "Axes", defects: Sequence[DefectRecord], detectability: Detectability, pixel_pitch_mm: float
) -> None:
    """The fitted curve where there are defects, its band, and a marker at each size that is known."""
    diameters = np.array([defect.diameter_px for defect in defects])
    if diameters.size:
        at = np.geomspace(diameters.min(), diameters.max(), N_CURVE_POINTS)
        curve = pod_curve(diameters, np.array(detectability.hits), at)
        if curve:
            axes.fill_between(at, curve.low, curve.high, color=STAND_INS["found"], alpha=0.2, linewidth=0)
            axes.plot(at, curve.pod, color=STAND_INS["found"], linewidth=2.2)
    fit = detectability.fit
    sizes = (("a50", fit.a50_px, 0.5, "o"), ("a90", fit.a90_px, 0.9, "o"), ("a90/95", fit.a90_95_px, 0.9, "D"))
    for name, size, pod, marker in sizes:
        if math.isnan(size):
            continue
        axes.plot(
            size,
            pod,
            marker,
            color=STAND_INS["ink" if name != "a50" else "surface"],
            markeredgecolor=STAND_INS["ink"],
            markersize=6,
            label=f"{name}  {format_size(size, pixel_pitch_mm)}",
            zorder=4,
        )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", borderaxespad=0.2, handletextpad=0.3, labelspacing=0.3)


def _draw_defects(
    axes: "Axes", defects: Sequence[DefectRecord], detectability: Detectability, one_pixel: float
) -> None:
    """Each defect at the false-positive rate it is seen at, 0 for less than one pixel; a line parts hits and misses."""
    half = detectability.rule == "half_at_pixel_fpr"
    levels = np.nan_to_num(np.array([rate_of(defect, detectability.rule) for defect in defects]), nan=1.0)
    none = max(one_pixel, levels[levels > 0].min(initial=1.0)) / 4
    levels, hits = np.maximum(levels, none), np.array(detectability.hits, dtype=bool)
    diameters = np.array([defect.diameter_px for defect in defects])
    axes.set_yscale("log")
    axes.set_ylim(1.6, none)  # turned over: what stands out most is at the top
    for found, marker in ((True, "o"), (False, "X")):
        group = np.flatnonzero(hits == found)
        axes.scatter(
            diameters[group],
            levels[group],
            marker=marker,
            s=26,
            color=STAND_INS["found" if found else "missed"],
            edgecolors=STAND_INS["surface"],
            linewidths=0.6,
            clip_on=False,
            zorder=3,
        )
        if group.size:
            named = group[(np.argmin if found else np.argmax)(diameters[group])]
            there = (float(diameters[named]), float(levels[named]))
            _name_defect(axes, there, "smallest detected" if found else "largest missed", above=found)
    if 0 < np.count_nonzero(hits) < hits.size:
        border = math.sqrt(levels[hits].max() * levels[~hits].min())
        axes.axhline(border, color=STAND_INS["muted"], linewidth=1, linestyle=(0, (4, 3)))
    axes.minorticks_off()
    axes.grid(axis="y")
    _label_decades(axes, none)
    own = detectability.rule.startswith("own_")
    axes.set_ylabel("FPR at half" if half else "FPR at own peak" if own else "FPR at first pixel")


def _label_decades(axes: "Axes", none: float) -> None:
    """About five powers of ten from 1 down, and 0 at the place of what no normal pixel reaches."""
    step = max(1, round(-math.log10(none) / 5))
    powers = [power for power in range(0, math.floor(math.log10(none)), -step) if 10.0**power > 4 * none]
    labels = ["10" + str(power).translate(SUPERSCRIPTS) if power else "1" for power in powers]
    axes.set_yticks([*(10.0**power for power in powers), none], [*labels, "0"])


def _name_defect(axes: "Axes", there: tuple[float, float], name: str, *, above: bool) -> None:
    """`name` and diameter in the corner that is empty in practice, with a line to the defect's dot."""
    axes.annotate(
        f"{name}: {there[0]:.1f} px",
        there,
        xytext=(0.015, 0.97) if above else (0.985, 0.04),
        textcoords="axes fraction",
        ha="left" if above else "right",
        va="top" if above else "bottom",
        color=STAND_INS["ink"],
        arrowprops={"arrowstyle": "-", "color": STAND_INS["muted"], "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3},
        zorder=4,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One evaluation as the page shows it; `key` is its anchor and makes the ids inside it unique.

    `name` is that of its category, with the result's own where several are of one category.
    """

    key: str
    name: str
    evaluation: Evaluation
    headline: str
    found: tuple[DefectRecord, ...]
    missed: tuple[DefectRecord, ...]
    bins: tuple[DiameterBin, ...]
    pro_svg: str
    detection_svg: str
    size_svg: str
    surface_svg: str = ""
    surface_remarks: tuple[str, ...] = ()
    outcome: Outcome | None = None

    @property
    def promises(self) -> list[str]:
        """What came of each promise of the thresholds given, one line each; none where none were."""
        return [line for _, line in promises(self.outcome)] if self.outcome else []

    @property
    def outcome_sizes(self) -> list[tuple[str, ...]]:
        """Heading and rows of what the thresholds achieve by size."""
        return sizes_told(self.outcome) if self.outcome and self.outcome.n_defective_images else []

    @property
    def outcome_remarks(self) -> list[str]:
        """What is left to say of them."""
        return remarks(self.outcome) if self.outcome else []

    @property
    def detectability(self) -> Detectability:
        return self.evaluation.detectability

    @property
    def smallest_found(self) -> DefectRecord | None:
        return min(self.found, key=lambda defect: defect.diameter_px, default=None)

    @property
    def largest_missed(self) -> DefectRecord | None:
        return max(self.missed, key=lambda defect: defect.diameter_px, default=None)

    @property
    def headline_limit(self) -> int:
        """Place of the FPR limit that single numbers are quoted at, 5 % if the evaluation has it."""
        limits = self.evaluation.fpr_limits
        return limits.index(headline_limit(limits))

    @property
    def smallest_quartile(self) -> GroupScores:
        return self.evaluation.cumulative[0]

    @property
    def rate(self) -> str:
        """The false-alarm rate at which defects are called found, in words."""
        return rate_in_words(self.detectability)

    @property
    def glow(self) -> str:
        """How many defects only a neighbour's glow lifts above the threshold, as a sentence; empty for none."""
        n_defects = self.detectability.n_by_glow
        return f"{n_defects} {glow_in_words(n_defects)}." if n_defects else ""

    def n_found_in(self, group: GroupScores) -> int:
        """How many defects of a group are found."""
        return sum(self.detectability.hits[member] for member in group.members)


def with_hits(evaluation: Evaluation) -> Evaluation:
    """The evaluation, its defects found or missed by the rule about pixels where its own could not be applied."""
    if len(evaluation.detectability.hits) == len(evaluation.defects):
        return evaluation
    has_own = any(not math.isnan(defect.own_peak) for defect in evaluation.defects)
    rule = "own_peak_at_pixel_fpr" if has_own else "peak_at_pixel_fpr"
    found = measure_detectability(evaluation.defects, np.empty(0, np.float32), rule=rule)
    return replace(evaluation, detectability=found)


def make_section(evaluation: Evaluation, name: str, number: int, outcome: Outcome | None = None) -> Section:
    """Sentences and pictures of an evaluation `with_hits`, the `number`-th of the page."""
    key, defects, hits = f"category-{number}", evaluation.defects, evaluation.detectability.hits
    surface = surface_of([evaluation])
    return Section(
        key=key,
        name=name,
        evaluation=evaluation,
        headline=headline(evaluation),
        found=tuple(defect for defect, hit in zip(defects, hits, strict=True) if hit),
        missed=tuple(defect for defect, hit in zip(defects, hits, strict=True) if not hit),
        bins=tuple(bin_by_diameter(defects, hits)),
        pro_svg=quartile_figure(evaluation, f"{key}-pro"),
        detection_svg=detection_figure(evaluation, evaluation.detectability, f"{key}-detection"),
        size_svg=diameter_figure(evaluation, f"{key}-size"),
        surface_svg=surface_svg(
            {} if surface is None else {"": surface}, f"{key}-surface", f"Detection by size and contrast in {name}"
        ),
        surface_remarks=() if surface is None else surface.fit.remarks,
        outcome=outcome,
    )


def means_of(sections: Sequence[Section]) -> list[float]:
    """Mean over categories of AUPRO Q1, AUPRO all, rho and image AUROC; nan as soon as one category has none."""
    rows = []
    for section in sections:
        at, evaluation = section.headline_limit, section.evaluation
        aupro = (section.smallest_quartile.aupro[at], evaluation.overall.aupro[at])
        rows.append((*aupro, evaluation.rho[at], evaluation.image_auroc))
    return [float(mean) for mean in np.mean(rows, axis=0)]
