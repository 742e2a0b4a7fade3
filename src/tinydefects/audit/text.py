"""An audit as text: the rules, every number and how it moves under them, and what becomes of the ranking."""

from collections.abc import Iterable, Sequence

from tinydefects.audit.audit import Audit, agreement
from tinydefects.audit.rescoring import FIGURES, RANKED_FIGURES
from tinydefects.audit.rules import EXACT

COUNT = "n_defects"
SHORT_NAMES = {
    "pixel_auroc": "px AUROC",
    "pixel_average_precision": "px AP",
    "image_auroc": "im AUROC",
    COUNT: "defects",
}


def describe_audit(audit: Audit) -> str:
    """A table for each method, a table of rank correlations, and the pairs of methods that change places."""
    width = max(len(name) for name in (*audit.methods, *(rule.name for rule in audit.rules)))
    lines = [f"{audit.category}: {audit.n_images} images, {len(audit.methods)} methods, {len(audit.rules)} rules", ""]
    lines += [f"{rule.name:<{width}}  {rule.does} ({rule.used_by})" for rule in audit.rules]
    lines += ["", "below each exact row: the difference a rule makes; a dot is none"]
    for method in audit.methods:
        exact = audit.values[method][EXACT]
        lines += ["", _header(method, width, FIGURES)]
        lines.append(_row(EXACT, width, [_value(figure, exact[figure]) for figure in FIGURES]))
        for rule in audit.rules[1:]:
            under = audit.values[method][rule.name]
            lines.append(_row(rule.name, width, [_difference(name, exact[name], under[name]) for name in FIGURES]))
    return "\n".join([*lines, *(_ranking(audit, width) if len(audit.methods) > 1 else [])])


def _ranking(audit: Audit, width: int) -> list[str]:
    lines = ["", "order of the methods against the exact one: Kendall's tau, 1 is the same order"]
    lines.append(_header("", width, RANKED_FIGURES))
    swapped = []
    for rule in audit.rules[1:]:
        found = {figure: agreement(audit, rule.name, figure) for figure in RANKED_FIGURES}
        lines.append(_row(rule.name, width, [_value(figure, one.tau) for figure, one in found.items()]))
        for figure, one in found.items():
            turned = "; ".join(f"{ahead} falls behind {behind}" for ahead, behind in one.swaps)
            swapped += [f"{rule.name:<{width}}  {figure}: {turned}"] if turned else []
    return [*lines, "", *(swapped or ["no two methods change places"])]


def _header(name: str, width: int, figures: Iterable[str]) -> str:
    short = (figure.replace("aupro_", "").replace("aupro", "PRO") for figure in figures)
    return _row(name, width, [SHORT_NAMES.get(figure, figure) for figure in short])


def _row(name: str, width: int, cells: Sequence[str]) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)


def _value(figure: str, value: float) -> str:
    return f"{value:.0f}" if figure == COUNT else f"{value:.3f}"


def _difference(figure: str, exact: float, value: float) -> str:
    if value == exact or (value != value and exact != exact):
        return "."
    return f"{value - exact:+.0f}" if figure == COUNT else f"{value - exact:+.3f}"
