"""The tables of docs/study.md, run by runs/tables.py; and their file: python runs/study_tables.py OUT

OUT is what `runs/study.py`, `runs/study_blind.sh` and `runs/study_second.py` wrote; results/study.json takes the mean
of every candidate over seeds on the data to choose on, and of the blind part every method and seed, and the differences
that `compare` finds. A round that OUT has nothing of stays in the file as it was.
"""

import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinydefects.data.json_files import write_json
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.comparison import compare
from tinydefects.results.result import describe_run, find_results, read_result

SOURCE = "results/study.json"
FILE = Path(__file__).resolve().parents[1] / SOURCE
METRICS = {"aupro@0.3": "AUPRO@30", "aupro@0.05": "@5", "aupro_Q1@0.05": "Q1@5", "image_auroc": "image AUROC"}
LINES = {"aupro_30": "AUPRO@30", "aupro_5": "@5", "aupro_Q1_5": "Q1@5", "image_auroc": "image AUROC"}
AGAINST = (("fbft", "fbft_v0.1"), ("fbft", "gaussian"))
CHOOSING = ("tiles_A", "boards_A", "circuit_board", "leather", "granite")
WORST = ("aupro_30", "image_auroc")
AS_IT_IS, SCORES = "as it is", "scores of "
Rows = list[dict[str, Any]]


def collect(out: Path) -> None:
    """Write the file."""
    content = measured() if FILE.is_file() else {}
    if first := by_candidate(out):
        choosing = [
            key | {"seeds": sorted(seeds)} | {name: mean(one[name] for one in seeds.values()) for name in LINES}
            for key, seeds in first
        ]
        blind, differences = blind_part(out / "blind")
        provenance = asdict(describe_run({"seeds": "0, 1, 2"}))
        content |= {"provenance": provenance, "choosing": choosing, "blind": blind, "differences": differences}
    if second := by_candidate(out / "second"):
        rows = [
            key | {name: value for name, value in line.items() if name != "seconds"}  # the load of the machine decides
            for key, seeds in second
            for line in seeds.values()
        ]
        content["second"] = {"provenance": asdict(describe_run({"seeds": "0, 1, 2"})), "rows": rows}
    write_json(FILE, content)


def by_candidate(out: Path) -> list[tuple[dict[str, Any], dict[int, dict[str, Any]]]]:
    """Teacher, category and candidate, and their lines by seed; a line that came twice counts once."""
    found: dict[tuple[str, str, str], dict[int, dict[str, Any]]] = {}
    for path in sorted(out.glob("*/*.jsonl")):
        for one in read_lines(path):
            found.setdefault((path.parent.name, path.stem, one["candidate"]), {})[one["seed"]] = one
    return [(dict(zip(("teacher", "category", "candidate"), key, strict=True)), seeds) for key, seeds in found.items()]


def read_lines(path: Path) -> Rows:
    """What `runs/study.py` wrote of one category.

    Raises:
        ResultError: a killed run has left a line cut off.
    """
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ResultError(f"{path}: a line is cut off; delete it and run again") from error


def blind_part(folder: Path) -> tuple[Rows, Rows]:
    """One row a teacher, category, method and seed; one a pair of methods, metric and seed."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    rows: Rows = []
    for path in find_results(folder):
        run, dataset, category, _, method, seed = path.relative_to(folder).parts
        teacher = "shipped" if run.endswith("_shipped") else "six_minutes"
        evaluation = read_result(path).evaluation
        values = metrics_of(evaluation)
        name = method.partition("_neighbourhood")[0]
        key = {"teacher": teacher, "category": f"{dataset}/{category}", "method": name, "seed": seed[5:-5]}
        rows.append(key | {metric: values[metric] for metric in METRICS})
        found.setdefault((teacher, key["category"], key["seed"]), {})[name] = evaluation
    differences: Rows = []
    for (teacher, category, seed), evaluations in found.items():
        first = found[teacher, category, "0"]
        # A method without chance has the first seed alone.
        pairs = [{name: evaluations.get(name, first.get(name)) for name in pair} for pair in AGAINST]
        shipped = found.get(("shipped", category, seed), {}).get("fbft")
        if teacher != "shipped":
            pairs.append({f"fbft on {teacher}": evaluations.get("fbft"), "fbft on shipped": shipped})
        for pair in pairs:
            if all(pair.values()):
                differences += told_of(pair, {"teacher": teacher, "category": category, "seed": seed})
    return rows, differences


def told_of(pair: dict[str, Any], key: dict[str, str]) -> Rows:
    """One row a metric."""
    return [
        key
        | {"a": told.a, "b": told.b, "metric": told.metric, "difference": told.difference}
        | {"corrected_p": told.corrected_p, "low": told.interval.low, "high": told.interval.high}
        for told in compare(pair, names=tuple(METRICS))
    ]


def choosing_table() -> str:
    """One row a candidate: the deciding metric in every category, and the mean of all metrics."""
    rows = [row for row in measured()["choosing"] if row["teacher"] == "six_minutes"]
    header = ["candidate", *(f"Q1@5 {category}" for category in CHOOSING), *(f"mean {name}" for name in LINES.values())]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for candidate in dict.fromkeys(row["candidate"] for row in rows):
        own = {row["category"]: row for row in rows if row["candidate"] == candidate}
        if any(category not in own for category in CHOOSING):
            continue
        cells = [f"{own[category]['aupro_Q1_5']:.3f}" for category in CHOOSING]
        cells += [f"{mean(own[category][name] for category in CHOOSING):.3f}" for name in LINES]
        n_seeds = min(len(row["seeds"]) for row in own.values())
        lines.append("| " + " | ".join([candidate + ("" if n_seeds > 1 else " (one seed)"), *cells]) + " |")
    return "\n".join(lines) + note()


def teachers_table() -> str:
    """One row a teacher and method on the data to choose on."""
    rows = measured()["choosing"]
    header = ["teacher", "candidate", *(f"{category}" for category in CHOOSING)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for teacher in dict.fromkeys(row["teacher"] for row in rows):
        for candidate in ("plain:200:product", "gaussian"):
            own = {row["category"]: row for row in rows if (row["teacher"], row["candidate"]) == (teacher, candidate)}
            cells = [shown(own[name]) if name in own else "–" for name in CHOOSING]
            lines.append("| " + " | ".join([teacher, candidate, *cells]) + " |")
    return "\n".join(lines) + "\n\nAUPRO@30 / AUPRO@5 of the smallest quarter / image AUROC, maps blurred." + note()


def shown(row: dict[str, Any]) -> str:
    return f"{row['aupro_30']:.3f} / {row['aupro_Q1_5']:.3f} / {row['image_auroc']:.3f}"


def blind_table() -> str:
    """One row a category and method, means over seeds."""
    rows = measured()["blind"]
    header = ["category", "teacher", "method", *METRICS.values()]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for category, teacher, method in dict.fromkeys((row["category"], row["teacher"], row["method"]) for row in rows):
        own = [row for row in rows if (row["category"], row["teacher"], row["method"]) == (category, teacher, method)]
        cells = [f"{mean(row[metric] for row in own):.3f}" for metric in METRICS]
        lines.append("| " + " | ".join([category, teacher, method, *cells]) + " |")
    return "\n".join(lines) + note()


def differences_table() -> str:
    """One row a category, pair and metric: the mean difference, and the widest interval of the seeds."""
    rows = measured()["differences"]
    header = ["category", "teacher", "", *METRICS.values()]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for key in dict.fromkeys((row["category"], row["teacher"], row["a"], row["b"]) for row in rows):
        cells = []
        for metric in METRICS:
            own = [row for row in rows if key_of(row) == key and row["metric"] == metric]
            told = sum(row["corrected_p"] <= 0.05 for row in own)
            low, high = min(row["low"] for row in own), max(row["high"] for row in own)
            value = mean(row["difference"] for row in own)
            cells.append(f"{value:+.3f} ({low:+.3f}, {high:+.3f}), told apart {told} of {len(own)}")
        lines.append("| " + " | ".join([key[0], key[1], f"{key[2]} - {key[3]}", *cells]) + " |")
    return "\n".join(lines) + note()


def second_scores_table() -> str:
    """One row a score of an image: the mean over categories by method and teacher, and the worst change of any."""
    rows = [row for row in measured()["second"]["rows"] if row["candidate"].startswith(SCORES)]
    rules = [name for name in rows[0] if name not in ("teacher", "category", "candidate", "seed")]
    groups = list(dict.fromkeys((row["candidate"], row["teacher"]) for row in rows))
    heads = [f"{method.removeprefix(SCORES)}, {teacher}: mean (worst change)" for method, teacher in groups]
    lines = ["| " + " | ".join(["score of an image", *heads, "mean of all"]) + " |", "|" + "---|" * (len(heads) + 2)]
    for rule in rules:
        cells, means = [], []
        for group in groups:
            own = [row for row in rows if (row["candidate"], row["teacher"]) == group and rule in row]
            of = {name: [row for row in own if row["category"] == name] for name in CHOOSING}
            value = {name: mean(row[rule] for row in found) for name, found in of.items() if found}
            change = {name: value[name] - mean(row[rules[0]] for row in of[name]) for name in value}
            worst = min(change, key=lambda name: change[name])
            means.append(mean(value.values()))
            cells.append(f"{means[-1]:.3f} ({change[worst]:+.3f} {worst})")
        lines.append("| " + " | ".join([rule, *cells, f"{mean(means):.3f}"]) + " |")
    return "\n".join(lines) + note(measured()["second"])


def second_maps_table() -> str:
    """One row a kind of map and teacher: the deciding metric by category; changes are on the same seeds."""
    rows = [row for row in measured()["second"]["rows"] if not row["candidate"].startswith(SCORES)]
    by_key = {(row["teacher"], row["candidate"], row["category"], row["seed"]): row for row in rows}
    header = ["map", "teacher", *CHOOSING, "change of the mean", *(f"worst change of {LINES[name]}" for name in WORST)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for teacher, candidate in dict.fromkeys((row["teacher"], row["candidate"]) for row in rows):
        as_it_is = AS_IT_IS + ("" if not candidate.endswith(")") else f" ({candidate.rpartition('(')[2]}")
        cells, changes = [], {metric: list[float]() for metric in ("aupro_Q1_5", *WORST)}
        for name in CHOOSING:
            own = {seed: row for (*key, seed), row in by_key.items() if key == [teacher, candidate, name]}
            cells.append(f"{mean(row['aupro_Q1_5'] for row in own.values()):.3f} ({len(own)})" if own else "–")
            for metric in changes if own else ():
                before = (by_key[teacher, as_it_is, name, seed][metric] for seed in own)
                changes[metric].append(mean(row[metric] for row in own.values()) - mean(before))
        cells.append(f"{mean(changes['aupro_Q1_5']):+.3f}")
        cells += [f"{min(changes[metric]):+.3f}" for metric in WORST]
        lines.append("| " + " | ".join([candidate, teacher, *cells]) + " |")
    return "\n".join(lines) + "\n\nIn brackets the number of seeds." + note(measured()["second"])


def key_of(row: dict[str, Any]) -> tuple[str, str, str, str]:
    return row["category"], row["teacher"], row["a"], row["b"]


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def measured() -> dict[str, Any]:
    """The file of results."""
    found: dict[str, Any] = json.loads(FILE.read_text())
    return found


def note(content: dict[str, Any] | None = None) -> str:
    """The line under a table, of the first round if no other is given."""
    facts = (content or measured())["provenance"]
    made = f"{facts['created'][:10]}, commit {facts['commit']}, seeds {facts['settings']['seeds']}, {facts['machine']}"
    return f"\n\n<sub>{made}. Source: `{SOURCE}`.</sub>"


STUDY_TABLES = {
    "study_choosing": choosing_table,
    "study_teachers": teachers_table,
    "study_blind": blind_table,
    "study_differences": differences_table,
    "study_second_scores": second_scores_table,
    "study_second_maps": second_maps_table,
}

if __name__ == "__main__":
    try:
        collect(Path(sys.argv[1]))
    except TinyDefectsError as error:
        sys.stderr.write(f"study_tables: {error}\n")
        sys.exit(2)
