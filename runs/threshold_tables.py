"""The tables of docs/thresholds.md, from results/threshold_guarantees.json; `runs/tables.py` puts them there."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinydefects.decisions.guarantees import parts_needed

STORED = Path(__file__).resolve().parents[1] / "results" / "threshold_guarantees.json"
RATES = (0.1, 0.05, 0.02, 0.01, 0.001)


def percent(share: float) -> str:
    """`4.9 %`, rounded to a tenth of a percent."""
    return f"{100 * share:.1f} %"


def measured(rows: str) -> tuple[list[dict[str, Any]], str]:
    """One part of the result, and the line under its table."""
    content = json.loads(STORED.read_text())
    facts = content["provenance"]
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items() if name != "command")
    made = f"{facts['created'][:10]}, commit {facts['commit']}, {settings}, {facts['machine']}"
    return content[rows], f"\n<sub>{made}. Source: `results/threshold_guarantees.json`.</sub>"


def parts_table() -> str:
    """How many good parts each rate needs."""
    lines = ["| false alarms | on average | 95 % confidence | 99 % confidence |", "|---|---|---|---|"]
    for rate in RATES:
        needed = (parts_needed(rate, confidence) for confidence in (0.0, 0.95, 0.99))
        lines.append("| " + " | ".join([f"{100 * rate:g} %", *(f"{count:,}" for count in needed)]) + " |")
    return "\n".join(lines)


def both(rows: list[dict[str, Any]], promise: str, figure: str) -> str:
    """A figure under both distributions of scores, or a dash where the good parts are too few."""
    found = [row[promise] for row in rows]
    return "–" if found[0] is None else " · ".join(percent(one[figure]) for one in found)


def kept_table() -> str:
    """One row a number of good parts and a rate: what the line then really does."""
    rows, source_line = measured("kept")
    lines = [
        "| good parts | asked for | on average: mean rate | lines above it | 95 % confidence: mean rate "
        "| lines above it |",
        "|---|---|---|---|---|---|",
    ]
    for n_parts, rate in dict.fromkeys((row["n_parts"], row["rate"]) for row in rows):
        same = [row for row in rows if (row["n_parts"], row["rate"]) == (n_parts, rate)]
        cells = [
            both(same, promise, figure)
            for promise in ("average", "confidence")
            for figure in ("mean_rate", "share_beyond")
        ]
        lines.append("| " + " | ".join([f"{n_parts:,}", f"{100 * rate:g} %", *cells]) + " |")
    return "\n".join([*lines, source_line])


def broken_table() -> str:
    """One row a way to break the assumption."""
    rows, source_line = measured("broken")
    lines = [
        f"| what differs, {100 * rows[0]['rate']:g} % asked for | on average: mean rate | defects found "
        "| 95 % confidence: mean rate | lines above it | defects found |",
        "|---|---|---|---|---|---|",
    ]
    for case in dict.fromkeys(row["broken"] for row in rows):
        same = [row for row in rows if row["broken"] == case]
        cells = [both(same, "average", figure) for figure in ("mean_rate", "defects_found")]
        cells += [both(same, "confidence", figure) for figure in ("mean_rate", "share_beyond", "defects_found")]
        lines.append("| " + " | ".join([case, *cells]) + " |")
    return "\n".join([*lines, source_line])


def regions_table() -> str:
    """One row a number of good parts and a wish: false regions of a good photograph."""
    rows, source_line = measured("regions")
    lines = [
        "| good parts | false regions asked for | counted up to 1: found | after a drift | up to 10: found "
        "| after a drift |",
        "|---|---|---|---|---|---|",
    ]
    for n_parts, rate in dict.fromkeys((row["n_parts"], row["rate"]) for row in rows):
        cells = []
        for cap in (1, 10):
            same = [row for row in rows if (row["n_parts"], row["rate"], row["most_counted"]) == (n_parts, rate, cap)]
            for when in ("found", "after_drift"):
                found = [row[when] for row in same]
                means = [f"{one['mean_rate']:.3f}" for one in found if one is not None]
                cells.append(" · ".join(means) or "–")
        lines.append("| " + " | ".join([f"{n_parts:,}", f"{rate:g}", *cells]) + " |")
    return "\n".join([*lines, source_line])


THRESHOLD_TABLES: dict[str, Callable[[], str]] = {
    "threshold_parts": parts_table,
    "threshold_kept": kept_table,
    "threshold_broken": broken_table,
    "threshold_regions": regions_table,
}
