"""One evaluation that stands for itself, as the page shows it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinydefects.benchmark.board import headline_limit
from tinydefects.metrics.detectability import Detectability, glow_in_words, measure_detectability
from tinydefects.metrics.records import DefectRecord, GroupScores
from tinydefects.metrics.scores import Evaluation
from tinydefects.report.detection import DiameterBin, bin_by_diameter, detection_figure
from tinydefects.report.figures import diameter_figure, quartile_figure
from tinydefects.report.words import headline, rate_in_words


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


def make_section(evaluation: Evaluation, name: str, number: int) -> Section:
    """Sentences and pictures of an evaluation `with_hits`, the `number`-th of the page."""
    key, defects, hits = f"category-{number}", evaluation.defects, evaluation.detectability.hits
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
    )


def means_of(sections: Sequence[Section]) -> list[float]:
    """Mean over categories of AUPRO Q1, AUPRO all, rho and image AUROC; nan as soon as one category has none."""
    rows = []
    for section in sections:
        at, evaluation = section.headline_limit, section.evaluation
        aupro = (section.smallest_quartile.aupro[at], evaluation.overall.aupro[at])
        rows.append((*aupro, evaluation.rho[at], evaluation.image_auroc))
    return [float(mean) for mean in np.mean(rows, axis=0)]
