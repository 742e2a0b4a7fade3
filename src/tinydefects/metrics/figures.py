"""Every figure of an evaluation under one name: what intervals, comparisons and tables are keyed by.

`aupro@0.3` is over all defects, `aupro_Q1@0.3` over a cumulative quartile, `aupro_only_Q1@0.3` over a disjoint one and
`aupro_<name>@0.3` over a defect type or a bin of sizes; `image_auroc_…` follows the same pattern. A type whose name
could be taken for another group's has `type:` before it, `aupro_type:Q1@0.3`. Whoever types a name may write the key of
any group instead (`aupro_type:crack@0.3`, `aupro_diameter_px:2-5@0.3`), the limit as any number or in percent
(`aupro_Q1@5%`), or leave it out for all limits.
"""

from collections.abc import Iterable, Mapping
from typing import NoReturn

from tinydefects.errors import ResultError
from tinydefects.metrics.records import GroupScores
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.size import short

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
    groups = groups_of(evaluation)
    for group in groups:
        for limit, aupro in zip(evaluation.fpr_limits, group.aupro, strict=True):
            values[f"aupro{group.suffix}@{short(limit)}"] = aupro
    values |= {f"rho@{short(limit)}": rho for limit, rho in zip(evaluation.fpr_limits, evaluation.rho, strict=True)}
    values |= {name: getattr(evaluation, name) for name in WHOLE}
    values |= {name: getattr(evaluation.detectability.fit, name) for name in SIZES}
    return values | {f"image_auroc{group.suffix}": group.image_auroc for group in groups if group.suffix}


def groups_of(evaluation: Evaluation) -> tuple[GroupScores, ...]:
    """All groups of defects in the order of a report; each has a key of its own and its members."""
    sized = (evaluation.overall, *evaluation.cumulative, *evaluation.disjoint)
    return (*sized, *evaluation.by_type, *evaluation.by_bin)


def choose_figures(evaluations: Iterable[Evaluation], text: str) -> list[str]:
    """The figures named in a text between commas, by the names that `figures` gives them; all of them for `all`.

    A name may hold commas itself, as those of defect types can.

    Raises:
        ResultError: a name that no evaluation has a figure for.
    """
    written: dict[str, list[str]] = {}
    for evaluation in evaluations:
        for name, names in _ways_to_write(evaluation).items():
            known = written.setdefault(name, [])
            known += [one for one in names if one not in known]
    if text.strip() == "all":
        return list(dict.fromkeys(name for names in written.values() for name in names))
    chosen: list[str] = []
    parts = text.split(",")
    while parts:
        ends = (n for n in range(len(parts), 0, -1) if _names(",".join(parts[:n]).strip(), written))
        n_taken = next(ends, 1)
        name = ",".join(parts[:n_taken]).strip()
        if name:
            chosen += _names(name, written) or _refuse(name, written)
        parts = parts[n_taken:]
    return list(dict.fromkeys(chosen))


def _names(name: str, written: Mapping[str, list[str]]) -> list[str]:
    """The figures that a name as typed stands for: as it is if that is known, else its limit written in one way."""
    return written.get(name) or written.get(_normal(name)) or []


def _refuse(name: str, written: Mapping[str, list[str]]) -> NoReturn:
    known = dict.fromkeys(one for names in written.values() for one in names)
    raise ResultError(f"no result has the figure {name!r}; choose from {', '.join(known)}")


def _ways_to_write(evaluation: Evaluation) -> dict[str, list[str]]:
    """Every accepted way to write a figure, to its name; one without a limit stands for those of all limits."""
    names = list(figures(evaluation))
    written = {name: [name] for name in names}
    stems: dict[str, str] = {"rho": "rho"}
    for group in groups_of(evaluation):
        stems |= {f"{kind}_{group.key}": f"{kind}{group.suffix}" for kind in ("aupro", "image_auroc")}
        stems[f"aupro{group.suffix}"] = f"aupro{group.suffix}"
    for stem, of_figure in stems.items():
        if of_figure in names:
            written.setdefault(stem, [of_figure])
            continue
        limited = {short(limit): f"{of_figure}@{short(limit)}" for limit in evaluation.fpr_limits}
        written.setdefault(stem, list(limited.values()))
        for limit, name in limited.items():
            written.setdefault(f"{stem}@{limit}", [name])
    return written


def _normal(name: str) -> str:
    """The name with its limit written in one way: `aupro@0.05` for `aupro@5e-2` and `aupro@5%`."""
    stem, sign, limit = name.rpartition("@")
    try:
        share = float(limit.rstrip("% ")) / (100 if limit.endswith("%") else 1)
    except ValueError:
        return name
    return f"{stem}@{short(share)}" if sign else name
