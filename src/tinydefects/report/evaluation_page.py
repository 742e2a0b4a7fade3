"""Evaluations to one HTML file that needs nothing else: no server, no network, no second file.

Tables, three figures and a gallery of the smallest found and the missed defects, for one category or many.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.benchmark.board import headline_limit
from tinydefects.benchmark.stored import shared_facts
from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError
from tinydefects.metrics import detectability as detection
from tinydefects.metrics.detectability import Detectability, glow_in_words, measure_detectability
from tinydefects.metrics.records import DefectRecord, GroupScores
from tinydefects.metrics.scores import FEW_DEFECTS, Evaluation
from tinydefects.metrics.size import short
from tinydefects.report.crops import Crop, colour_scale, make_crop
from tinydefects.report.detection import DiameterBin, bin_by_diameter, detection_figure
from tinydefects.report.evaluation_figures import pro_figure, size_figure
from tinydefects.results.result import read_result, telling_parts

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

DETECTION_RULES = {
    "own_peak_at_image_fpr": "its own peak exceeds the lowest threshold at which at most this share of the good images "
    "hold any pixel above it. Its own peak is its highest pixel from which no way leads, without going down, to a "
    "higher pixel of another defect: a neighbour’s glow finds nothing",
    "own_peak_at_pixel_fpr": "its own peak is flagged while at most this share of all normal pixels is. Its own peak "
    "is its highest pixel from which no way leads, without going down, to a higher pixel of another defect",
    "peak_at_image_fpr": "its highest pixel exceeds the lowest threshold at which at most this share of the good "
    "images hold any pixel above it",
    "peak_at_pixel_fpr": "its highest pixel is flagged while at most this share of all normal pixels is",
    "half_at_pixel_fpr": "half of its pixels are flagged while at most this share of all normal pixels is",
}
CURVE_RULES = {
    "exact": "every distinct score is a threshold, ties together",
    "published_99": "the 99-point rule that published tables were computed with",
    "normal_thresholds": "what the 99-point rule tends to with ever more points",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One category as the page shows it; `key` is its anchor and makes the ids inside it unique."""

    key: str
    evaluation: Evaluation
    detectability: Detectability
    headline: str
    found: tuple[DefectRecord, ...]
    missed: tuple[DefectRecord, ...]
    bins: tuple[DiameterBin, ...]
    pro_svg: str
    detection_svg: str
    size_svg: str
    crops: tuple[Crop, ...]

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
    def rule_and_rate(self) -> str:
        """What must be equal for two categories to count as found alike."""
        return f"{self.detectability.rule} {self.detectability.rate}"

    @property
    def found_boxes(self) -> frozenset[tuple[str, tuple[int, int, int, int]]]:
        """Image and box of every defect that is found; an exhibit knows its defect by them."""
        return frozenset((defect.sample_id, defect.box_px) for defect in self.found)

    @property
    def glow(self) -> str:
        """How many defects only a neighbour's glow lifts above the threshold, as a sentence; empty for none."""
        n_defects = self.detectability.n_by_glow
        return f"{n_defects} {glow_in_words(n_defects)}." if n_defects else ""

    def n_found_in(self, group: GroupScores) -> int:
        """How many defects of a group are found."""
        return sum(self.detectability.hits[member] for member in group.members)


def write_report(
    evaluations: Sequence[Evaluation],
    path: Path | str,
    *,
    title: str = "tinydefects",
    provenance: Mapping[str, str] | None = None,
) -> Path:
    """Write the report and return its path. Found is what `Evaluation.detectability` says, at its rate.

    Args:
        evaluations: one per category; two or more add an overview before the first.
        path: the HTML file, replaced whole.
        title: heading and browser title.
        provenance: what made the numbers (commit, machine, seed, …), shown as given.

    Raises:
        TinyDefectsError: nothing to report, or a path that cannot be written.
    """
    target = Path(path)
    if not evaluations:
        raise TinyDefectsError(f"{target}: no evaluation to report; evaluate at least one category first")
    sections = [_section(evaluation, number) for number, evaluation in enumerate(evaluations)]
    page = read_template("report.html.jinja").render(
        title=title,
        sections=sections,
        means=_means(sections),
        provenance=dict(provenance or {}),
        detection_rules=DETECTION_RULES,
        rate=rate_in_words(*(section.detectability for section in sections)),
        colour_scale=colour_scale(),
        curve_rules=CURVE_RULES,
        few_defects=FEW_DEFECTS,
    )
    write_whole(target, lambda file: file.write(page.encode("utf-8")))
    return target


def write_evaluations_report(paths: Sequence[Path], target: Path) -> Path:
    """Read the result files and write their page; provenance that differs between them is told as such.

    Raises:
        ResultError: one cannot be read.
        TinyDefectsError: the target cannot be written.
    """
    read = [read_result(path) for path in paths]
    times = Counter(one.evaluation.category for one in read)
    names = telling_parts(paths) if len(paths) > 1 else [""]
    evaluations = [
        replace(one.evaluation, category=f"{one.evaluation.category} ({name})")
        if times[one.evaluation.category] > 1
        else one.evaluation
        for one, name in zip(read, names, strict=True)
    ]
    return write_report(evaluations, target, provenance=shared_facts(one.provenance for one in read))


def rate_in_words(detectability: Detectability, *more: Detectability) -> str:
    """What alarmed falsely and what may: `0 of 8 good images alarming (5 % allowed)`; see `detectability.py`."""
    return detection.rate_in_words(detectability, *more).replace(" %", "\N{NO-BREAK SPACE}%")


def headline(evaluation: Evaluation, detectability: Detectability) -> str:
    """What the numbers say in one sentence that stays true: bounds are rounded up, and every claim has its count."""
    defects = evaluation.defects
    if not defects and evaluation.n_unmarked_images:
        which = (
            "The only defective image is not"
            if evaluation.n_unmarked_images == 1
            else (f"None of {evaluation.n_unmarked_images} defective images is")
        )
        return f"{which} outlined; image AUROC {evaluation.image_auroc:.3f}."
    if not defects:
        return f"No defect in {evaluation.n_images} images: there is nothing to find."
    rate = f"at {rate_in_words(detectability)}"
    missed = [defect.diameter_px for defect, hit in zip(defects, detectability.hits, strict=True) if not hit]
    diameters = [defect.diameter_px for defect in defects]
    if len(defects) == 1:
        return f"The only defect, {diameters[0]:.1f} px across, is {'missed' if missed else 'found'} {rate}."
    if not missed:
        return f"All {len(defects)} defects found {rate}; the smallest is {min(diameters):.1f} px across."
    if len(missed) == len(defects):
        return f"None of {len(defects)} defects found {rate}; the largest is {max(diameters):.1f} px across."
    start = f"{len(defects) - len(missed)} of {len(defects)} defects found {rate}"
    bound = math.ceil(10 * max(missed)) / 10
    larger = sum(diameter > bound for diameter in diameters)
    if not larger:
        return f"{start}; the largest missed is {max(missed):.1f} px across."
    every = "the only one" if larger == 1 else f"all {larger}"
    return f"{start}, among them {every} above {bound:.1f} px in diameter."


def format_rate(rate: float) -> str:
    """A share as percent with two significant digits, no exponent and a space that never breaks: `0.034 %`."""
    return f"{np.format_float_positional(100 * rate, precision=2, fractional=False, trim='-')}\N{NO-BREAK SPACE}%"


def format_score(value: float, digits: int = 3) -> "str | Markup":
    """A fixed number of decimals, so that columns align; nan as a dash that explains itself."""
    from markupsafe import Markup

    if math.isnan(value):
        return Markup('<abbr class="undefined" title="undefined: nothing was measured here">–</abbr>')
    return f"{value:.{digits}f}"


def _section(evaluation: Evaluation, number: int) -> Section:
    key, defects = f"category-{number}", evaluation.defects
    detectability = evaluation.detectability
    if len(detectability.hits) != len(defects):  # no good image to count alarms in, or a result that has no such field
        has_own = any(not math.isnan(defect.own_peak) for defect in defects)
        rule = "own_peak_at_pixel_fpr" if has_own else "peak_at_pixel_fpr"
        detectability = measure_detectability(defects, np.empty(0, np.float32), rule=rule)
    hits = detectability.hits
    exhibits = sorted(evaluation.exhibits, key=lambda exhibit: exhibit.defect.diameter_px)
    return Section(
        key=key,
        evaluation=evaluation,
        detectability=detectability,
        headline=headline(evaluation, detectability),
        found=tuple(defect for defect, hit in zip(defects, hits, strict=True) if hit),
        missed=tuple(defect for defect, hit in zip(defects, hits, strict=True) if not hit),
        bins=tuple(bin_by_diameter(defects, hits)),
        pro_svg=pro_figure(evaluation, f"{key}-pro"),
        detection_svg=detection_figure(evaluation, detectability, f"{key}-detection"),
        size_svg=size_figure(evaluation, f"{key}-size"),
        crops=tuple(make_crop(exhibit, evaluation.score_range) for exhibit in exhibits),
    )


def _means(sections: Sequence[Section]) -> list[float]:
    """Mean over categories of AUPRO Q1, AUPRO all, rho and image AUROC; nan as soon as one category has none."""
    rows = []
    for section in sections:
        at, evaluation = section.headline_limit, section.evaluation
        aupro = (section.smallest_quartile.aupro[at], evaluation.overall.aupro[at])
        rows.append((*aupro, evaluation.rho[at], evaluation.image_auroc))
    return [float(mean) for mean in np.mean(rows, axis=0)]


def read_template(name: str) -> "Template":
    """A page of the package, with the filters that all pages share; everything put into it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tinydefects.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=format_score, rate=format_rate, short=short)
    return environment.get_template(name)
