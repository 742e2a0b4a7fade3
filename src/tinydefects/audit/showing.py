"""An audit as text and as a picture: every number and how it moves under the rules, and what becomes of the ranking.

The picture has a dot for each method under each rule, so that dots out of order are places changed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinydefects.audit.audit import Audit, agreement
from tinydefects.audit.rescoring import METRICS, RANKED_METRICS
from tinydefects.audit.rules import EXACT
from tinydefects.data.pixels import write_whole
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COUNT = "n_defects"
SHORT_NAMES = {
    "pixel_auroc": "px AUROC",
    "pixel_average_precision": "px AP",
    "image_auroc": "im AUROC",
    COUNT: "defects",
}
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
MARKERS = "osD^vPX"
DRAWN = ("aupro@0.3", "aupro_Q1@0.05")
TITLES = {"aupro@0.3": "AUPRO@30 %, all defects", "aupro_Q1@0.05": "AUPRO@5 %, smallest quarter"}
INK, MUTED, LINE = "#1f2328", "#59636e", "#d1d9e0"


def describe_audit(audit: Audit) -> str:
    """A table for each method, a table of rank correlations, and the pairs of methods that change places."""
    width = max(len(name) for name in (*audit.methods, *(rule.name for rule in audit.rules)))
    lines = [f"{audit.category}: {audit.n_images} images, {len(audit.methods)} methods, {len(audit.rules)} rules", ""]
    lines += [f"{rule.name:<{width}}  {rule.does} ({rule.used_by})" for rule in audit.rules]
    lines += ["", "below each exact row: the difference a rule makes; a dot is none"]
    for method in audit.methods:
        exact = audit.values[method][EXACT]
        lines += ["", _header(method, width, METRICS)]
        lines.append(_row(EXACT, width, [_value(metric, exact[metric]) for metric in METRICS]))
        for rule in audit.rules[1:]:
            under = audit.values[method][rule.name]
            lines.append(_row(rule.name, width, [_difference(name, exact[name], under[name]) for name in METRICS]))
    return "\n".join([*lines, *(_ranking(audit, width) if len(audit.methods) > 1 else [])])


def _ranking(audit: Audit, width: int) -> list[str]:
    lines = ["", "order of the methods against the exact one: Kendall's tau, 1 is the same order"]
    lines.append(_header("", width, RANKED_METRICS))
    swapped = []
    for rule in audit.rules[1:]:
        found = {metric: agreement(audit, rule.name, metric) for metric in RANKED_METRICS}
        lines.append(_row(rule.name, width, [_value(metric, one.tau) for metric, one in found.items()]))
        for metric, one in found.items():
            turned = "; ".join(f"{ahead} falls behind {behind}" for ahead, behind in one.swaps)
            swapped += [f"{rule.name:<{width}}  {metric}: {turned}"] if turned else []
    return [*lines, "", *(swapped or ["no two methods change places"])]


def _header(name: str, width: int, metrics: Iterable[str]) -> str:
    short = (metric.replace("aupro_", "").replace("aupro", "PRO") for metric in metrics)
    return _row(name, width, [SHORT_NAMES.get(metric, metric) for metric in short])


def _row(name: str, width: int, cells: Sequence[str]) -> str:
    return f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)


def _value(metric: str, value: float) -> str:
    return f"{value:.0f}" if metric == COUNT else f"{value:.3f}"


def _difference(metric: str, exact: float, value: float) -> str:
    if value == exact or (value != value and exact != exact):
        return "."
    return f"{value - exact:+.0f}" if metric == COUNT else f"{value - exact:+.3f}"


def plot_audit(audits: Sequence[Audit], path: Path, metrics: Sequence[str] = DRAWN) -> Path:
    """Draw a row of panels a category, one panel a metric; the suffix of `path` (.png, .svg, .pdf) is the format.

    Every panel lists the rules from the exact one down. A vertical line marks each method's exact number, and the right
    margin says Kendall's tau where the order of the methods is not the exact one.

    Raises:
        TinyDefectsError: more methods than can be told apart, or no such format.
    """
    from matplotlib.figure import Figure

    n_methods, n_rules = len(audits[0].methods), len(audits[0].rules)
    if n_methods > len(COLOURS):
        raise TinyDefectsError(f"{n_methods} methods: the picture tells {len(COLOURS)} apart; audit fewer at a time")
    figure = Figure(figsize=(5.2 * len(metrics) + 1.6, (0.25 * n_rules + 0.9) * len(audits) + 0.6), dpi=110)
    if path.suffix.removeprefix(".") not in figure.canvas.get_supported_filetypes():
        raise TinyDefectsError(f"{path}: no picture format; name it .png or .svg")
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(audits), len(metrics), sharey=True, squeeze=False)
    for row, audit in zip(panels, audits, strict=True):
        for axes, name in zip(row, metrics, strict=True):
            _draw(axes, audit, name)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=n_methods, frameon=False)
    write_whole(path, lambda file: figure.savefig(file, format=path.suffix.removeprefix(".")))
    return path


def _draw(axes: "Axes", audit: Audit, metric: str) -> None:
    rules = [rule.name for rule in audit.rules]
    for number, method in enumerate(audit.methods):
        values = [audit.values[method][rule][metric] for rule in rules]
        axes.axvline(values[0], color=COLOURS[number], linewidth=0.8, alpha=0.5, zorder=1)
        axes.plot(
            values,
            range(len(rules)),
            linestyle="none",
            marker=MARKERS[number],
            markersize=5.5,
            color=COLOURS[number],
            label=method,
            zorder=2,
        )
    for row, rule in enumerate(rules):
        found = agreement(audit, rule, metric)
        if not found.tau > 1 - 1e-9 and rule != EXACT and len(audit.methods) > 1:
            text = "τ –" if found.tau != found.tau else f"τ {found.tau:.2f}"
            axes.text(1.01, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=MUTED)
    axes.set_yticks(range(len(rules)), rules, fontsize=8)
    axes.set_ylim(len(rules) - 0.4, -0.6)
    axes.set_title(f"{audit.category}: {TITLES.get(metric, metric)}", fontsize=9, color=INK)
    axes.tick_params(colors=MUTED, length=0)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.spines[:].set_visible(False)
