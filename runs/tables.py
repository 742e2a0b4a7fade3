"""Write the tables of README.md and docs/ from the result files: python runs/tables.py

Replaces what stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import runpy
from pathlib import Path

from tinydefects.audit.audit import Audit, agreement, read_audit
from tinydefects.metrics.records import GroupScores
from tinydefects.results.published import HEADS, published_rows, read_published
from tinydefects.results.result import Result, find_results, read_result

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def number(value: float) -> str:
    """Three decimals, or a dash where nothing was measured."""
    return "–" if value != value else f"{value:.3f}"


def source(results: list[Result], folder: str) -> str:
    """The line under a table: where its numbers come from."""
    facts = results[0].provenance
    seed = facts.settings.get("seed", "0")
    made = f"{facts.created[:10]}, commit {facts.commit}, seed {seed}, {facts.machine}"
    return f"\n<sub>Exact curve, each image at its own size; {made}. Source: `results/{folder}`.</sub>"


def demo_table() -> str:
    """What `make demo` came to."""
    return family_table("demo")


def synthetic_table() -> str:
    """What `runs/synthetic.py` came to."""
    return family_table("synthetic")


def family_table(folder: str) -> str:
    """One row a family: AUPRO@30 % and @5 % of the cumulative quartiles, rho, image AUROC."""
    results = [read_result(path) for path in find_results(ROOT / "results" / folder)]
    lines = [
        "| drawn parts | defects | area, px | AUPRO@30 % Q1 … Q4 | AUPRO@5 % Q1 … Q4 | ρ@30 % | image AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        one = result.evaluation
        low, high = one.overall.area_px
        cells = [
            one.category,
            str(one.overall.n_defects),
            f"{low:.0f} – {high:.0f}",
            " · ".join(number(group.aupro[0]) for group in one.cumulative),
            " · ".join(number(group.aupro[2]) for group in one.cumulative),
            number(one.rho[0]),
            number(one.image_auroc),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines.append("\nQ1 holds the smallest quarter of the defects, Q4 all of them.")
    return "\n".join(lines) + source(results, folder)


def magnetic_tile_table() -> str:
    """One row a defect type and size quartile."""
    folder = ROOT / "results" / "magnetic_tile"
    every = read_result(folder / "magnetic_tile" / "all.json")
    tiny = read_result(folder / "magnetic_tile" / "tiny.json")
    lines = [
        "| magnetic tiles | defects | area, px | AUPRO@30 % | @10 % | @5 % | @1 % | image AUROC |",
        "|---|---|---|---|---|---|---|---|",
        row("**blowholes, cracks, breaks**", tiny.evaluation.overall),
        *(row(f"– size quartile {n} of 4", group) for n, group in enumerate(tiny.evaluation.disjoint, start=1)),
        *(row(f"– {group.name}", group) for group in tiny.evaluation.by_type),
        row("**all five types**", every.evaluation.overall),
        *(row(f"– {group.name}", group) for group in every.evaluation.by_type if group.name in {"fray", "uneven"}),
    ]
    return "\n".join(lines) + "\n" + source([every, tiny], "magnetic_tile")


def by_type_and_size_table() -> str:
    """AUPRO@30 % of each type of magnetic tile defect in each size quartile of them all, with the number of defects."""
    result = read_result(ROOT / "results" / "magnetic_tile" / "magnetic_tile" / "all.json")
    evaluation = result.evaluation
    first, second, third = evaluation.quartile_areas_px
    edges = ((0.0, first), (first, second), (second, third), (third, float("inf")))
    header = " | ".join(f"quartile {n}: up to {high:.0f} px" for n, (_, high) in enumerate(edges[:3], start=1))
    lines = [f"| AUPRO@30 % (defects) | {header} | quartile 4: larger |", "|---|---|---|---|---|"]
    for group in evaluation.by_type:
        cells = []
        for low, high in edges:
            inside = [d for d in evaluation.defects if d.defect_type == group.name and low < d.area_px <= high]
            mean = sum(defect.aupro[0] for defect in inside) / len(inside) if inside else float("nan")
            cells.append(f"{number(mean)} ({len(inside)})")
        lines.append("| " + " | ".join([group.name, *cells]) + " |")
    return "\n".join(lines) + "\n" + source([result], "magnetic_tile")


def row(name: str, group: GroupScores) -> str:
    """A table row of one group of defects."""
    low, high = group.area_px
    cells = [str(group.n_defects), f"{low:.0f} – {high:.0f}", *(number(value) for value in group.aupro)]
    return "| " + " | ".join([name, *cells, number(group.image_auroc)]) + " |"


AUDIT_COLUMNS = {
    "aupro@0.3": "AUPRO@30 %",
    "aupro@0.05": "@5 %",
    "aupro@0.01": "@1 %",
    "aupro_Q1@0.05": "Q1 @5 %",
    "rho@0.3": "ρ@30 %",
    "pixel_auroc": "pixel AUROC",
    "pixel_average_precision": "pixel AP",
    "image_auroc": "image AUROC",
}


def audits() -> list[Audit]:
    """What `runs/audit.py` came to, one a category."""
    return [read_audit(path) for path in sorted((ROOT / "results" / "audit").glob("*.json"))]


def audit_rules_table() -> str:
    """One row a rule: what it does, who uses it."""
    rows = [f"| `{rule.name}` | {rule.does} | {rule.used_by} |" for rule in audits()[0].rules]
    return "\n".join(["| rule | what is done | where |", "|---|---|---|", *rows])


def audit_exact_table() -> str:
    """One row a category and method: the exact numbers."""
    lines = [audit_header("exact numbers"), "|" + "---|" * (len(AUDIT_COLUMNS) + 1)]
    for audit in audits():
        for method in audit.methods:
            exact = audit.values[method]["exact"]
            cells = [number(exact[figure]) for figure in AUDIT_COLUMNS]
            lines.append("| " + " | ".join([f"{audit.category}: {method}", *cells]) + " |")
    return "\n".join(lines) + "\n" + audit_source()


def audit_changes_table() -> str:
    """One row a rule: what it adds to each number, mean and range over methods and categories; regions left."""
    lines = [audit_header("rule") + " regions |", "|" + "---|" * (len(AUDIT_COLUMNS) + 2)]
    for rule in audits()[0].rules[1:]:
        cells = [moved(rule.name, figure) for figure in AUDIT_COLUMNS]
        kept, known = (sum(a.values[a.methods[0]][r]["n_defects"] for a in audits()) for r in (rule.name, "exact"))
        lines.append("| " + " | ".join([f"`{rule.name}`", *cells, f"{kept:.0f} of {known:.0f}"]) + " |")
    return "\n".join(lines) + "\n" + audit_source()


def audit_ranking_table() -> str:
    """One row a rule: mean tau over categories, pairs turned round, and those of them that were 0.01 apart."""
    lines = [audit_header("rule"), "|" + "---|" * (len(AUDIT_COLUMNS) + 1)]
    for rule in audits()[0].rules[1:]:
        cells = []
        for figure in AUDIT_COLUMNS:
            found = [(audit, agreement(audit, rule.name, figure)) for audit in audits()]
            taus = [one.tau for _, one in found if one.tau == one.tau]
            gaps = [gap(audit, swap, figure) for audit, one in found for swap in one.swaps]
            clear = sum(one >= 0.01 for one in gaps)
            cells.append(f"{sum(taus) / len(taus):.2f} · {len(gaps)} · {clear}" if gaps and taus else "=")
        lines.append("| " + " | ".join([f"`{rule.name}`", *cells]) + " |")
    return "\n".join(lines) + "\n" + audit_source()


def gap(audit: Audit, swap: tuple[str, str], figure: str) -> float:
    """How far the exact rule puts the first of two methods ahead of the second."""
    ahead, behind = (audit.values[method]["exact"][figure] for method in swap)
    return ahead - behind


def audit_rescaled_table() -> str:
    """One row a rule about thresholds: one detector's numbers as they are and with scores to the fourth power."""
    audit = read_audit(ROOT / "results" / "audit" / "rescaled" / "synthetic_brushed_metal.json")
    figures = ("aupro@0.3", "aupro@0.05", "aupro@0.01", "pixel_average_precision")
    lines = [f"| {audit.category}: {audit.methods[0]} | AUPRO@30 % | @5 % | @1 % | pixel AP |", "|---|---|---|---|---|"]
    for rule in ("exact", "points_99", "thresholds_200", "last_sample", "bins_50"):
        before, after = (audit.values[method][rule] for method in audit.methods)
        cells = [f"{number(before[figure])} → {number(after[figure])}" for figure in figures]
        lines.append("| " + " | ".join([f"`{rule}`", *cells]) + " |")
    return "\n".join(lines)


def audit_header(first: str) -> str:
    """The head of a table with one column a figure."""
    return "| " + " | ".join([first, *AUDIT_COLUMNS.values()]) + " |"


def moved(rule: str, figure: str) -> str:
    """Mean, lowest and highest difference to the exact number; an equals sign where nothing moves at all."""
    pairs = [(under[rule][figure], under["exact"][figure]) for audit in audits() for under in audit.values.values()]
    changes = [value - exact for value, exact in pairs if value == value and exact == exact]
    if not changes:
        return "–"
    if not any(changes):
        return "="
    undefined = f", {len(pairs) - len(changes)} undefined" if len(changes) < len(pairs) else ""
    if max(map(abs, changes)) < 0.005:
        return f"±{max(map(abs, changes)):.3f} at most{undefined}"
    mean = sum(changes) / len(changes)
    return f"{mean:+.3f} ({min(changes):+.2f} … {max(changes):+.2f}{undefined})".replace("-", "−")


def audit_source() -> str:
    """The line under a table of the audit."""
    facts = audits()[0].provenance
    n_images = sum(audit.n_images for audit in audits())
    made = f"{facts.created[:10]}, commit {facts.commit}, seed {facts.settings['seed']}, {facts.machine}"
    return f"\n<sub>{len(audits()[0].methods)} methods, {n_images} images; {made}. Source: `results/audit`.</sub>"


def mask_loss_table() -> str:
    """What `runs/mask_loss.py` came to: one row a kind of defect, the share gone from nearest and bilinear masks."""
    measured = json.loads((ROOT / "results" / "mask_loss.json").read_text())
    resolutions = [plan["resolution"] for plan in measured["rows"][0]["plans"] if plan["resolution"] is not None]
    header = ["gone, nearest · bilinear", "defects", *(f"{side} px" for side in resolutions)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for entry in measured["rows"]:
        losses = [(plan["nearest"]["share_gone"], plan["bilinear"]["share_gone"]) for plan in entry["plans"]]
        cells = [f"{100 * nearest:.0f} · {100 * bilinear:.0f} %" for nearest, bilinear in losses[: len(resolutions)]]
        lines.append("| " + " | ".join([entry["name"], str(entry["n_defects"]), *cells]) + " |")
    facts = measured["provenance"]
    made = f"{facts['created'][:10]}, commit {facts['commit']}, seed {facts['settings']['seed']}, {facts['machine']}"
    return "\n".join(lines) + f"\n\n<sub>Long side of the shrunk mask; {made}. Source: `results/mask_loss.json`.</sub>"


def published_table() -> str:
    """Numbers quoted from papers, which nobody measured here."""
    rows = [HEADS, ["---"] * len(HEADS), *published_rows(read_published(ROOT / "results" / "published.json").numbers)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "\n<sub>Quoted, not measured here. Source: `results/published.json`.</sub>"])


TABLES = {
    "published": published_table,
    "audit_rules": audit_rules_table,
    "audit_exact": audit_exact_table,
    "audit_changes": audit_changes_table,
    "audit_ranking": audit_ranking_table,
    "audit_rescaled": audit_rescaled_table,
    "mask_loss": mask_loss_table,
    "demo": demo_table,
    "synthetic": synthetic_table,
    "magnetic_tile": magnetic_tile_table,
    "magnetic_tile_by_type_and_size": by_type_and_size_table,
    **runpy.run_path(str(ROOT / "runs" / "benchmark_tables.py"))["BENCHMARK_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "speed_tables.py"))["SPEED_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "threshold_tables.py"))["THRESHOLD_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "drift_tables.py"))["DRIFT_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "study_tables.py"))["STUDY_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "defect_tables.py"))["DEFECT_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "recall.py"))["RECALL_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "size_effect.py"))["SIZE_TABLES"],
    **runpy.run_path(str(ROOT / "runs" / "surface_tables.py"))["SURFACE_TABLES"],
}


def main() -> None:
    """Rewrite every table in place."""
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))


def with_tables(text: str) -> str:
    """The text with every table made anew; one that nobody makes is an error."""
    return MARKED.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", text)


if __name__ == "__main__":
    main()
