"""The tables of how small and how faint in docs/detectability.md; `runs/tables.py` puts them there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"
MEASURED, COVERAGE = RESULTS / "detectability_surface.json", RESULTS / "benchmarks" / "detectability_surface.json"


def pixels(value: float | None) -> str:
    """One decimal, or a dash where no size is known."""
    return "–" if value is None else f"{value:.1f}"


def measured_table() -> str:
    """One row a method: a50 / a90 / a90/95 at some contrasts."""
    content = json.loads(MEASURED.read_text())
    rows = content["rows"]
    contrasts = [one["contrast"] for one in rows[0]["sizes"]]
    heads = " | ".join(f"contrast {contrast:g}" for contrast in contrasts)
    lines = [f"| method | found | {heads} |", "|" + "---|" * (2 + len(contrasts))]
    for name, row in zip(names_of(rows), rows, strict=True):
        sizes = [" / ".join(pixels(one[size]) for size in ("a50_px", "a90_px", "a90_95_px")) for one in row["sizes"]]
        lines.append("| " + " | ".join([name, f"{sum(row['hit'])} of {len(row['hit'])}", *sizes]) + " |")
    return "\n".join([*lines, measured_source(rows)])


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    """What tells one row from all others: the method, and the family where there are several."""
    several = len({row["family"] for row in rows}) > 1
    return [f"{row['family']}, {row['method']}" if several else row["method"] for row in rows]


def measured_source(rows: list[dict[str, Any]]) -> str:
    """The line under it: the rule, the false alarms, and where the numbers come from."""
    first, facts = rows[0], rows[0]["provenance"]
    pairs = list(zip(names_of(rows), rows, strict=True))
    alarms = ", ".join(f"{row['n_alarming_images']} of {row['n_good_images']} ({name})" for name, row in pairs)
    commits = ", ".join(dict.fromkeys(row["provenance"]["commit"] for row in rows))
    by_remark: dict[str, list[str]] = {}
    for name, row in pairs:
        for remark in row["fit"]["remarks"]:
            by_remark.setdefault(remark, []).append(name)
    told = [f"{'all' if len(who) == len(rows) else ', '.join(who)}: {remark}" for remark, who in by_remark.items()]
    said = f"{'; '.join(told)}. " if told else ""
    return (
        f"\n<sub>a50 / a90 / a90/95 in px; good images alarming, {100 * first['rate']:g} % allowed: {alarms}. {said}"
        f"{facts['created'][:10]}, commit {commits}, seed 0, {facts['machine']}. "
        "Source: `results/detectability_surface.json`.</sub>"
    )


def coverage_table() -> str:
    """One row a number of defects, one column a contrast: how often a90/95 lay above the true a90."""
    content = json.loads(COVERAGE.read_text())
    rows, facts = content["rows"], content["provenance"]
    contrasts = list(dict.fromkeys(row["contrast"] for row in rows))
    lines = [
        "| defects | " + " | ".join(f"at contrast {contrast:g}" for contrast in contrasts) + " |",
        "|" + "---|" * (1 + len(contrasts)),
    ]
    for n_defects in dict.fromkeys(row["n_defects"] for row in rows):
        cells = [
            f"{100 * row['holds']:.1f} % ({100 * row['undefined']:.0f} % undefined)"
            for row in rows
            if row["n_defects"] == n_defects
        ]
        lines.append("| " + " | ".join([str(n_defects), *cells]) + " |")
    made = f"{facts['created'][:10]}, commit {facts['commit']}, {facts['settings']['experiments']} sets each"
    return "\n".join([*lines, f"\n<sub>{made}. Source: `results/benchmarks/detectability_surface.json`.</sub>"])


SURFACE_TABLES: dict[str, Callable[[], str]] = {
    "detectability_surface": measured_table,
    "surface_coverage": coverage_table,
}
