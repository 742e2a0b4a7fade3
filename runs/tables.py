"""Write the tables of README.md and docs/ from the result files: python runs/tables.py

Replaces what stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import json
import re
import runpy
from functools import partial
from pathlib import Path
from typing import Any

from tinydefects.benchmark.audit import Audit, agreement, read_audit
from tinydefects.benchmark.result import Result, find_results, read_result
from tinydefects.metrics.records import GroupScores

ROOT = Path(__file__).resolve().parents[1]
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


def benchmark(name: str) -> tuple[dict[str, Any], str]:
    """A benchmark's result file, and the line under its table."""
    measured = json.loads((ROOT / "results" / "benchmarks" / f"{name}.json").read_text())
    facts = measured["provenance"]
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items() if name != "command")
    made = f"{facts['created'][:10]}, commit {facts['commit']}, {settings}, {facts['machine']}"
    return measured, f"\n<sub>{made}. Source: `results/benchmarks/{name}.json`.</sub>"


def scoring_table() -> str:
    """What `benchmarks/scoring.py` came to: one row a set, ours beside scikit-learn."""
    measured, source_line = benchmark("scoring")
    lines = [
        "| images of 1500x1000 px, defect pixels in one half | defects | all figures, s | 1,000 draws, s | peak, MB "
        "| scikit-learn: two figures, s | peak, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    ours, theirs = (
        [row for row in measured["rows"] if row["tool"] == tool] for tool in ("tinydefects", "scikit-learn")
    )
    for one, other in zip(ours, theirs, strict=True):
        name = f"{one['images']:,}, {100 * one['defect_share']:.0f} %"
        cells = [f"{one['defects']:,}", spread(one), f"{one['interval_seconds']:.1f}", f"{one['peak_mb']:,.0f}"]
        beside = (
            ["–", other["skipped"].split(",")[0]] if "skipped" in other else [spread(other), f"{other['peak_mb']:,.0f}"]
        )
        lines.append("| " + " | ".join([name, *cells, *beside]) + " |")
    return "\n".join([*lines, source_line])


def spread(row: dict[str, Any]) -> str:
    """Median seconds, lowest and highest where there are several."""
    seconds = row["all_seconds"]
    within = f" ({min(seconds):.1f} – {max(seconds):.1f})" if len(seconds) > 1 else ""
    return f"{row['seconds']:.1f}{within}"


def coverage_table() -> str:
    """What `benchmarks/coverage.py` came to: one row a figure, one column a factory."""
    measured, source_line = benchmark("coverage")
    factories = measured["factories"]
    names = next(iter(factories.values()))["coverage_percent"]
    lines = ["| held the truth, % | " + " | ".join(factories) + " |", "|" + "---|" * (len(factories) + 1)]
    for name in names:
        cells = [f"{factory['coverage_percent'][name]:.1f}" for factory in factories.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, source_line])


def tiling_table() -> str:
    """What `benchmarks/tiling.py` came to: one row an image size."""
    measured, source_line = benchmark("tiling")
    lines = [
        "| image | passes | s | peak, MB | before, MB | image and map, MB | on top, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in measured["rows"]:
        memory = (one[name] for name in ("peak_mb", "before_mb", "image_and_map_mb", "on_top_mb"))
        cells = [f"{one['width']:,} x {one['height']:,} px", f"{one['passes']:,}", f"{one['seconds']:.1f}"]
        lines.append("| " + " | ".join([*cells, *(f"{size:,.0f}" for size in memory)]) + " |")
    return "\n".join([*lines, source_line])


def export_table() -> str:
    """What `benchmarks/export.py` came to: one row a way to compute, at each resolution."""
    measured, source_line = benchmark("export")
    lines = [
        "| computed by | at, px | ms (lowest – highest) | times as quick | map moved by |",
        "|---|---|---|---|---|",
    ]
    for one in measured["rows"]:
        spread_ms = f"{one['median_ms']:,.0f} ({one['lowest_ms']:,.0f} – {one['highest_ms']:,.0f})"
        quicker, bar = one["times_quicker_than_published"], measured["bars"].get(one["variant"])
        aim = f" (aim {bar})" if bar else ""
        cells = [
            one["variant"],
            str(one["resolution"]),
            spread_ms,
            f"{quicker:.2f}{aim}",
            f"{one['map_difference']:.1g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, source_line])


def export_accuracy_table() -> str:
    """What `benchmarks/export.py accuracy` came to: AUPRO by disjoint size quartile, one row a way to compute."""
    measured, source_line = benchmark("export_accuracy")
    head = ["AUPRO@5 %", "all", "Q1 (smallest)", "Q2", "Q3", "Q4", "image AUROC"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for one in measured["rows"]:
        figures = [one["aupro"], *one["aupro_by_quartile"], one["image_auroc"]]
        lines.append("| " + " | ".join([one["variant"], *(f"{figure:.4f}" for figure in figures)]) + " |")
    return "\n".join([*lines, source_line])


def stride_table() -> str:
    """What `benchmarks/stride.py` came to: one row a family and input."""
    measured, source_line = benchmark("stride")
    columns = [
        "drawn parts",
        "input",
        "passes (patches)",
        "ms an image",
        "AUPRO@5 % Q1",
        "gain",
        "AUPRO@5 % all",
        "gain",
    ]
    columns += ["image AUROC"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for one in measured["rows"]:
        gains = [gain(one["against_one_pass"].get(figure)) for figure in ("aupro_Q1@0.05", "aupro@0.05")]
        cells = [one["family"], one["input"], f"{one['passes']} ({one['patches']:,})", f"{one['ms_an_image']:,.0f}"]
        cells += [
            number(one["aupro_Q1@0.05"]),
            gains[0],
            number(one["aupro@0.05"]),
            gains[1],
            number(one["image_auroc"]),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, source_line])


def gain(against: dict[str, float] | None) -> str:
    """A paired difference with its interval."""
    return "–" if against is None else f"{against['gain']:+.3f} [{against['low']:+.3f}, {against['high']:+.3f}]"


WHOLE_IMAGE = {
    "published": "published, ms",
    "ours, square": "ours, same square",
    "ours": "ours, own proportions",
    "ours, bfloat16": "ours, bfloat16",
}


def inference_table() -> str:
    """What `benchmarks/inference.py` came to: one row a teacher and resolution, from file to map and score."""
    measured, source_line = benchmark("inference")
    header = ["teacher, px", *WHOLE_IMAGE.values(), "floor, float32", "outside the teacher", "map moved by"]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in measured["rows"]:
        cells = []
        for name in WHOLE_IMAGE:
            time, quicker = row["times"][name], row["times_quicker_than_published"][name]
            factor = "" if name == "published" else f" · {quicker:.2f}x"
            cells.append(f"{time['median_ms']:,.0f} ({time['lowest_ms']:,.0f} – {time['highest_ms']:,.0f}){factor}")
        cells += [f"{row['floor_ms']['float32']:,.0f}", f"{100 * row['share_outside_teacher']:.1f} %"]
        cells.append(f"{row['largest_map_difference']:.0e}")
        lines.append("| " + " | ".join([f"{row['teacher']}, {row['resolution']}", *cells]) + " |")
    limits = measured["ceilings"]
    kinds = ", ".join(
        f"{kind} {1e3 * limits[f'{kind}_tflops']:,.0f}" for kind in ("highest", "float32", "bfloat16", "int8")
    )
    return "\n".join(
        [
            *lines,
            f"\nCeilings, GFLOP/s of square products: {kinds}; copies {limits['copy_gb_per_s']:.0f} GB/s.",
            source_line,
        ]
    )


def stages_table() -> str:
    """The stages of `benchmarks/inference.py`: medians in ms."""
    measured, source_line = benchmark("inference")
    stages = [name for name in measured["rows"][0]["times"] if name not in WHOLE_IMAGE]
    lines = ["| ms | " + " | ".join(stages) + " |", "|" + "---|" * (len(stages) + 1)]
    for row in measured["rows"]:
        cells = [f"{row['times'][name]['median_ms']:,.1f}" for name in stages]
        lines.append("| " + " | ".join([f"{row['teacher']}, {row['resolution']}", *cells]) + " |")
    return "\n".join([*lines, source_line])


def training_table() -> str:
    """What `benchmarks/training.py` came to: one row a way to train, to the published pipeline's last loss."""
    parts = []
    for name in ("training", "training_1036"):
        measured, source_line = benchmark(name)
        lines = ["| | teacher, s | epochs | until the same loss, s | |", "|---|---|---|---|---|"]
        published, *others = measured["rows"]
        epochs, seconds = len(published["losses"]), published["seconds_extrapolated"]
        lines.append(
            f"| published (from {published['timed_images']} images) | in every epoch | {epochs} | {seconds:,.0f} | 1x |"
        )
        for row in others:
            cells = [row["name"], f"{row['teacher_seconds']:,.0f}", *trained(row)]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join([*lines, source_line]))
    return "\n\n".join(parts)


def trained(row: dict[str, Any]) -> list[str]:
    """Epochs, seconds and speed of one way to train, or that it did not arrive."""
    if row["epochs_to_loss"] is None:
        return [f"not in {len(row['losses'])}", "–", "–"]
    return [str(row["epochs_to_loss"]), f"{row['seconds_to_loss']:,.0f}", f"{row['times_quicker_than_published']:.1f}x"]


def training_options_table() -> str:
    """What `benchmarks/training_options.py` came to: one row a family and variant."""
    measured, source_line = benchmark("training_options")
    limits = " | ".join(f"AUPRO@{100 * limit:.0f} %" for limit in measured["fpr_limits"])
    lines = [f"| | epochs | s | loss | {limits} | image AUROC | an image score moved by |", "|" + "---|" * 8]
    for row in measured["rows"]:
        fit = [str(row["epochs"]), f"{row['seconds']:.1f}", f"{row['loss']:.4f}"] if "loss" in row else ["", "", ""]
        figures = [f"{value:.4f}" for value in (*row["aupro"], row["image_auroc"])]
        moved_by = f"{row['largest_score_difference']:.4f}" if row["largest_score_difference"] else ""
        name = f"{row['family'].split('/')[-1]}: {row['name']}"
        lines.append("| " + " | ".join([name, *fit, *figures, moved_by]) + " |")
    return "\n".join([*lines, source_line])


def growth_table() -> str:
    """What `benchmarks/growth.py` came to: one row a point."""
    measured, source_line = benchmark("growth")
    lines = ["| | seconds | peak, MB |", "|---|---|---|"]
    lines += [
        f"| {row['kind']} {row['value']} | {row['seconds']:.2f} | {row['peak_mb']:,.0f} |" for row in measured["rows"]
    ]
    return "\n".join([*lines, source_line])


def scaling_measured_table() -> str:
    """What `benchmarks/scaling.py` measured."""
    measured, source_line = benchmark("scaling")
    found = measured["measured"]
    processes, dask = found["executors"]
    parts, image = found["parts"], found["image"]
    gathering = " and ".join(f"{seconds:.2f}" for seconds in parts["gather_and_write_seconds"])
    rows = [
        (f"a job that does nothing, `{name}`", f"{row['ms_per_job']:.1f} ms ({row['wall_ms_per_job']:.0f} ms wall)")
        for name, row in (("--workers", processes), ("--cluster local", dask))
    ]
    rows += [
        (
            f"{parts['images']} images, {parts['megapixels']:.0f} megapixels, one pass",
            f"{parts['one_pass_seconds']:.2f} s",
        ),
        ("the same in two parts: gather and write each", f"{gathering} s"),
        ("read and merge them", f"{parts['read_and_merge_seconds']:.2f} s"),
        ("numbers of both ways", "the same" if parts["same_numbers"] else "NOT the same"),
        ("size of the parts", f"{parts['bytes_per_pixel']:.2f} bytes a pixel"),
        ("decode 1036 x 1036 px, PNG, JPEG", f"{image['decode_png_ms']:.1f} ms, {image['decode_jpg_ms']:.1f} ms"),
        ("draw a map from 74 x 74 patches", f"{image['draw_map_ms']:.1f} ms"),
        ("write it as TIFF", f"{image['write_map_ms']:.0f} ms, {image['map_bytes'] / 1e6:.1f} MB"),
    ]
    lines = ["| measured | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([*lines, source_line])


def scaling_plan_table(name: str) -> str:
    """A plan of `benchmarks/scaling.py`: quantity, arithmetic, value."""
    measured, _ = benchmark("scaling")
    rows = [f"| {row['quantity']} | {row['arithmetic']} | {row['value']} |" for row in measured["plans"][name]]
    return "\n".join(["| what | arithmetic | comes to |", "|---|---|---|", *rows])


TABLES = {
    "scaling_measured": scaling_measured_table,
    "scaling_benchmark": partial(scaling_plan_table, "benchmark"),
    "scaling_day": partial(scaling_plan_table, "day"),
    "inference": inference_table,
    "stages": stages_table,
    "training": training_table,
    "training_options": training_options_table,
    "growth": growth_table,
    "tiling": tiling_table,
    "stride": stride_table,
    "export": export_table,
    "export_accuracy": export_accuracy_table,
    "scoring": scoring_table,
    "coverage": coverage_table,
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
}


def main() -> None:
    """Rewrite every table in place."""
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text()))


def with_tables(text: str) -> str:
    """The text with every table made anew."""
    for name, make in TABLES.items():
        marks = re.compile(rf"(<!-- table: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if marks.search(text):
            table = make()
            text = marks.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)
    return text


if __name__ == "__main__":
    main()
