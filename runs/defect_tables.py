"""The tables of how far regions reach and of what becomes of tiny defects; `runs/tables.py` puts them there."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"
OTHERS = {
    "tiles_A": "magnetic tiles, half A",
    "tiles_B": "magnetic tiles, half B",
    "boards": "printed circuit boards",
}
PURPOSES = {"choose": "chosen on", "report": "looked at once"}


def stored(name: str) -> tuple[dict[str, Any], str]:
    """A result, and the line under its table."""
    content = json.loads((RESULTS / name).read_text())
    facts = content["provenance"]
    settings = ", ".join(f"{key} {value}" for key, value in facts["settings"].items() if key != "command")
    made = f"{facts['created'][:10]}, commit {facts['commit']}, {settings}, {facts['machine']}"
    return content, f"\n<sub>{made}. Source: `results/{name}`.</sub>"


def table(header: list[str], rows: list[list[str]]) -> str:
    """In Markdown, with an empty line behind it."""
    first, *others = ("| " + " | ".join(line) + " |\n" for line in [header, *rows])
    return "".join([first, "|---" * len(header) + "|\n", *others])


def region_extent_table() -> str:
    """One row a rule and group of scenes: SegF1, hits, and how regions lie on the outlines of defects."""
    content, source_line = stored("region_extent.json")
    rows = content["rows"]
    header = ["scenes", "regions reach down to", "SegF1", "defects hit", "of the smallest quarter"]
    header += ["area of a region to its defect's", "overlap (IoU)", "good photographs with a region"]
    lines = []
    for purpose, told in PURPOSES.items():
        drawn = [row for row in rows if row["purpose"] == purpose and row["scene"] not in OTHERS]
        groups = {f"{len(drawn)} drawn families": drawn}
        groups |= {OTHERS[row["scene"]]: [row] for row in rows if row["purpose"] == purpose and row["scene"] in OTHERS}
        for name, members in groups.items():
            for rule in members[0]["rules"]:
                found = [row["rules"][rule] for row in members]
                cells = [
                    f"{mean(one['seg_f1'] for one in found):.3f}",
                    f"{sum(one['n_hit'] for one in found)} of {sum(one['n_defects'] for one in found)}",
                    str(sum(one["n_hit_of_smallest_quarter"] for one in found)),
                    f"{mean(one['median_area_ratio'] for one in found):.1f}",
                    f"{mean(one['mean_iou'] for one in found):.3f}",
                    f"{sum(one['n_good_with_regions'] for one in found)} of {sum(one['n_good'] for one in found)}",
                ]
                lines.append([f"{name}, {told}", rule, *cells])
    return table(header, lines) + source_line


def octaves(edges: list[int]) -> list[str]:
    """`2 to 4 px`."""
    return [f"{'below' if not low else f'{low} to'} {high} px" for low, high in pairwise(edges)]


def small_defects_table() -> str:
    """One row an input: share of defects found by octaves of diameter."""
    content, source_line = stored("small_defects.json")
    rows = content["rows"]
    counts = [
        f"{name} ({count})" for name, count in zip(octaves(content["edges_px"]), rows[0]["n_defects"], strict=True)
    ]
    cells = []
    for row in rows:
        shares = (f"{100 * found / n:.0f} %" for found, n in zip(row["n_found"], row["n_defects"], strict=True))
        cells.append([row["input"], f"{row['patches']:,}", f"{row['n_alarming']} of {row['n_good']}", *shares])
    return table(["seen at", "patches a photograph", "good ones that alarm", *counts], cells) + source_line


def small_defects_cover_table() -> str:
    """One row an input: AUPRO@5 % of the defects of each octave."""
    content, source_line = stored("small_defects.json")
    header = ["AUPRO@5 %, seen at", *octaves(content["edges_px"])]
    rows = [[row["input"], *(f"{value:.3f}" for value in row["aupro_05"])] for row in content["rows"]]
    return table(header, rows) + source_line


def small_defects_score_table() -> str:
    """One row an input: image AUROC by the rule that makes one score of a map."""
    content, source_line = stored("small_defects.json")
    header = ["image AUROC, seen at", *content["rows"][0]["image_auroc"]]
    rows = [[row["input"], *(f"{value:.3f}" for value in row["image_auroc"].values())] for row in content["rows"]]
    return table(header, rows) + source_line


DEFECT_TABLES: dict[str, Callable[[], str]] = {
    "region_extent": region_extent_table,
    "small_defects": small_defects_table,
    "small_defects_cover": small_defects_cover_table,
    "small_defects_scores": small_defects_score_table,
}
