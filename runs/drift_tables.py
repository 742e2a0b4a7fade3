"""The tables of what `runs/drift.py` came to; run by runs/tables.py."""

import json
import math
from pathlib import Path
from typing import Any

SOURCE = "results/drift.json"


def measured() -> dict[str, Any]:
    """The file of results."""
    found: dict[str, Any] = json.loads((Path(__file__).resolve().parents[1] / SOURCE).read_text())
    return found


def false_alarms_table() -> str:
    """One row a size of the calibration: alarms without a drift beside their bounds."""
    result = measured()
    lengths = result["run_lengths"]
    header = ["good photographs at calibration"]
    header += [f"alarms in 1,000 at run length {length:,} (bound {1_000 / length:g})" for length in lengths]
    header += [f"with ranks among the calibration's alone, at {length:,}" for length in lengths]
    header += [f"ever an alarm (bound {result['ever']:.0%})"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in result["rows"]:
        cells = [f"{value:.3f}" for value in (*row["alarms_per_1000"], *row["alarms_per_1000_fixed"])]
        lines.append("| " + " | ".join([str(row["n_calibration"]), *cells, f"{row['share_ever']:.1%}"]) + " |")
    about = result["quiet"]
    return "\n".join(lines) + note(
        result, f"{about['n_repetitions']:,} repetitions of {about['n_photographs']:,} photographs without a drift"
    )


def delays_table() -> str:
    """One row a size of the calibration and run length: photographs until a drift is found."""
    result = measured()
    shifts = [entry["shift"] for entry in result["rows"][0]["drift"]]
    header = ["good photographs at calibration", "run length", *(f"shift of {shift:g} sd" for shift in shifts)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in result["rows"]:
        for place, length in enumerate(result["run_lengths"]):
            cells = [delay(entry["median_delay"][place], entry["share_found"][place]) for entry in row["drift"]]
            lines.append("| " + " | ".join([str(row["n_calibration"]), f"{length:,}", *cells]) + " |")
    about = result["drifting"]
    n_after = about["n_photographs"] - about["n_before"]
    return "\n".join(lines) + note(
        result,
        f"Median number of photographs from the beginning of the drift to the alarm (share found within {n_after:,}); "
        f"{about['n_repetitions']:,} repetitions, the drift begins after {about['n_before']} photographs",
    )


def delay(median: float | None, share: float) -> str:
    """`28 (100 %)`; a dash where most are not found."""
    told = "–" if median is None or math.isinf(median) else f"{median:.0f}"
    return f"{told} ({100 * share:.0f} %)"


def note(result: dict[str, Any], about: str) -> str:
    """The line under a table."""
    facts = result["provenance"]
    made = f"{facts['created'][:10]}, commit {facts['commit']}, seed {facts['settings']['seed']}, {facts['machine']}"
    return f"\n\n<sub>{about}; {made}. Source: `{SOURCE}`.</sub>"


DRIFT_TABLES = {"drift_false_alarms": false_alarms_table, "drift_delays": delays_table}
