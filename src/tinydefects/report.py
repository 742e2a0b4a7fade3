"""Evaluations to one HTML file that needs nothing else: no server, no network, no second file.

Tables, two figures and a gallery of the smallest found and the missed defects, for one category or many.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.scores import FEW_DEFECTS, DefectRecord, Evaluation, GroupScores
from tinydefects.pixels import write_whole
from tinydefects.report_crops import Crop, colour_scale, make_crop
from tinydefects.report_plots import (
    LOWEST_DOT_FPR,
    DiameterBin,
    bin_by_diameter,
    detection_figure,
    is_found,
    pro_figure,
)

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

FOUND_FPR = 0.01
HEADLINE_LIMIT = 0.05
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
    headline: str
    found: tuple[DefectRecord, ...]
    missed: tuple[DefectRecord, ...]
    bins: tuple[DiameterBin, ...]
    pro_svg: str
    detection_svg: str
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
        return limits.index(HEADLINE_LIMIT) if HEADLINE_LIMIT in limits else 0

    @property
    def smallest_quartile(self) -> GroupScores:
        return self.evaluation.cumulative[0]

    def n_found_of_type(self, defect_type: str) -> int:
        return sum(defect.defect_type == defect_type for defect in self.found)


def write_report(
    evaluations: Sequence[Evaluation],
    path: Path | str,
    *,
    title: str = "tinydefects",
    provenance: Mapping[str, str] | None = None,
    found_fpr: float = FOUND_FPR,
) -> Path:
    """Write the report and return its path.

    Args:
        evaluations: one per category; two or more add an overview before the first.
        path: the HTML file, replaced whole.
        title: heading and browser title.
        provenance: what made the numbers (commit, machine, seed, …), shown as given.
        found_fpr: a defect counts as found when its first pixel is flagged while at most this share of all normal
            pixels is, in (0, 1].

    Raises:
        TinyDefectsError: nothing to report, a `found_fpr` outside (0, 1], or a path that cannot be written.
    """
    target = Path(path)
    if not evaluations:
        raise TinyDefectsError(f"{target}: no evaluation to report; evaluate at least one category first")
    if not 0 < found_fpr <= 1:
        raise TinyDefectsError(f"{target}: found_fpr is {found_fpr}, a share in (0, 1]; write 0.01 for one percent")
    sections = [_section(evaluation, number, found_fpr) for number, evaluation in enumerate(evaluations)]
    page = _template().render(
        title=title,
        sections=sections,
        means=_means(sections),
        provenance=dict(provenance or {}),
        found_fpr=found_fpr,
        colour_scale=colour_scale(),
        curve_rules=CURVE_RULES,
        few_defects=FEW_DEFECTS,
        lowest_dot_fpr=LOWEST_DOT_FPR,
    )
    write_whole(target, lambda file: file.write(page.encode("utf-8")))
    return target


def headline(evaluation: Evaluation, found_fpr: float) -> str:
    """What the numbers say in one sentence that stays true: bounds are rounded up, and every claim has its count."""
    defects = evaluation.defects
    if not defects:
        return f"No defect in {evaluation.n_images} images: there is nothing to find."
    rate = f"at {format_rate(found_fpr)} false-positive pixels"
    missed = [defect.diameter_px for defect in defects if not is_found(defect, found_fpr)]
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


def _section(evaluation: Evaluation, number: int, found_fpr: float) -> Section:
    key = f"category-{number}"
    exhibits = sorted(evaluation.exhibits, key=lambda exhibit: exhibit.defect.diameter_px)
    return Section(
        key=key,
        evaluation=evaluation,
        headline=headline(evaluation, found_fpr),
        found=tuple(defect for defect in evaluation.defects if is_found(defect, found_fpr)),
        missed=tuple(defect for defect in evaluation.defects if not is_found(defect, found_fpr)),
        bins=tuple(bin_by_diameter(evaluation.defects, found_fpr)),
        pro_svg=pro_figure(evaluation, f"{key}-pro"),
        detection_svg=detection_figure(evaluation, found_fpr, f"{key}-detection"),
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


def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tinydefects"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=format_score, rate=format_rate)
    environment.tests["found"] = is_found
    return environment.get_template("report.html.jinja")
