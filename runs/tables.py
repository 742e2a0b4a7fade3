"""Write the tables of README.md and docs/ from the result files: python runs/tables.py

Replaces what stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

from tinydefects.benchmark.protocol import Result, find_results, read_result
from tinydefects.metrics.scores import GroupScores

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


TABLES = {
    "demo": demo_table,
    "synthetic": synthetic_table,
    "magnetic_tile": magnetic_tile_table,
    "magnetic_tile_by_type_and_size": by_type_and_size_table,
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
