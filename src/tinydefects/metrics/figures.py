"""Every figure of an evaluation under one name: what intervals, comparisons and tables are keyed by.

`aupro@0.3` is over all defects, `aupro_Q1@0.3` over a cumulative quartile, `aupro_only_Q1@0.3` over a disjoint one and
`aupro_<name>@0.3` over a defect type or a bin of sizes; `image_auroc_…` follows the same pattern.
"""

from tinydefects.metrics.records import GroupScores
from tinydefects.metrics.scores import Evaluation

WHOLE = (
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_best_f1",
    "pixel_f1",
    "seg_f1",
    "aupimo",
    "image_auroc",
    "image_average_precision",
    "image_best_f1",
    "image_f1",
    "image_fpr_at_95_tpr",
)
SIZES = ("a50_px", "a90_px", "a90_95_px")


def figures(evaluation: Evaluation) -> dict[str, float]:
    """Name to value, in the order of a report; nan where nothing was measured."""
    values: dict[str, float] = {}
    groups = named_groups(evaluation).items()
    for suffix, group in groups:
        for limit, aupro in zip(evaluation.fpr_limits, group.aupro, strict=True):
            values[f"aupro{suffix}@{limit:g}"] = aupro
    values |= {f"rho@{limit:g}": rho for limit, rho in zip(evaluation.fpr_limits, evaluation.rho, strict=True)}
    values |= {name: getattr(evaluation, name) for name in WHOLE}
    values |= {name: getattr(evaluation.detectability.fit, name) for name in SIZES}
    return values | {f"image_auroc{suffix}": group.image_auroc for suffix, group in groups if suffix}


def named_groups(evaluation: Evaluation) -> dict[str, GroupScores]:
    """The groups of defects by the suffix of their figures' names; the empty suffix is all defects."""
    return {
        "": evaluation.overall,
        **{f"_{group.name}": group for group in evaluation.cumulative},
        **{f"_only_{group.name}": group for group in evaluation.disjoint},
        **{f"_{group.name}": group for group in (*evaluation.by_type, *evaluation.by_bin)},
    }
