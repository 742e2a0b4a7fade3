"""How small and how faint, measured: python runs/detectability_surface.py DATA [FAMILY ...]

Draws pits of 8 diameters x 8 contrasts on each family (brushed_metal and granite) into DATA, runs four methods on them
with the built-in teacher, and writes results/detectability_surface.json and docs/pictures/detectability_surface.png, of
the first family; then `python runs/tables.py` writes the table of docs/detectability.md. Three to ten minutes a family
on two processor cores; it goes on where it was stopped.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from tinydefects.benchmark.benchmark import run_benchmark
from tinydefects.data.json_files import write_json
from tinydefects.datasets.synthetic.dataset import read_manifest
from tinydefects.datasets.synthetic.draw_settings import DrawSettings
from tinydefects.datasets.synthetic.drawing import plan_drawing, write
from tinydefects.metrics.pod_surface import PodSurface
from tinydefects.report.surface_figure import draw_surfaces, panels_inches
from tinydefects.results.result import find_results, read_result

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "results" / "detectability_surface.json"
PICTURE = ROOT / "docs" / "pictures" / "detectability_surface.png"
METHODS = ("fbft", "patchcore:neighbourhood=1", "gaussian", "local_contrast")
FAMILIES = ("brushed_metal", "granite")
SIDE = 384
DRAWN = {
    "size": SIDE,
    "n_train": 16,
    "n_good": 40,
    "kinds": ["pit"],
    "sweep": "8x8",
    "diameters": "2,32",
    "contrasts": "3,96",
    "repeats": 3,
    "per_image": 3,
}
SEEN_AT = (2.0, 4.0, 8.0, 16.0)  # contrasts of the table
COLOURS = {"ink": "#1f2328", "muted": "#59636e", "line": "#d1d9e0", "surface": "#ffffff", "found": "#2f6f4f"}
PLAIN: dict[Any, object] = {"font.size": 10.5, "axes.spines.top": False, "axes.spines.right": False}


def measure(family: str, data: Path) -> list[dict[str, object]]:
    """One row a method: every defect's size, contrasts and fate, and the sizes found at some contrasts."""
    out = data / family
    write(plan_drawing([family], DrawSettings.model_validate({"out": out, **DRAWN})), lambda *_: None)
    done = run_benchmark(
        progress=True,
        methods=",".join(METHODS),
        categories=f"mvtec_ad/{family}",
        root=out,
        out=data / "results" / family,
        features=data / "features",
        teacher="builtin",
        resolutions=(SIDE,),
        seeds=(0,),
        cost="off",
    )
    if done.failed:
        raise SystemExit("\n".join(f"{name}: {reason}" for name, reason in done.failed.items()))
    planted = planted_levels(out / family)
    results = {one.run.method: one for one in map(read_result, find_results(done.folder)) if one.run}
    return [{"family": family, "method": name, **row(results[name], planted)} for name in METHODS]


def planted_levels(folder: Path) -> dict[tuple[str, tuple[int, int]], float]:
    """The mean change of each defect in gray levels as it was drawn, by sample and top left corner of its box."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return {(image.id, one.box[:2]): one.contrast for image in manifest.images for one in image.defects}


def row(result: Any, planted: dict[tuple[str, tuple[int, int]], float]) -> dict[str, object]:  # noqa: ANN401 - a Result
    """What is kept of a result."""
    found, defects = result.evaluation.detectability, result.evaluation.defects
    kept = {
        "diameter_px": [round(one.diameter_px, 3) for one in defects],
        "contrast": [round(one.contrast, 3) for one in defects],
        "planted_levels": [planted[one.sample_id, one.box_px[:2]] for one in defects],
        "hit": [int(hit) for hit in found.hits],
    }
    surface = surface_of(kept)
    return {
        "rule": found.rule,
        "rate": found.rate,
        "n_alarming_images": found.n_alarming_images,
        "n_good_images": found.n_good_images,
        "fit": asdict(surface.fit),
        "sizes": [{"contrast": contrast, **asdict(surface.sizes_at(contrast))} for contrast in SEEN_AT],
        "provenance": asdict(result.provenance),
        **kept,
    }


def surface_of(kept: dict[str, Any]) -> PodSurface:
    """The surface of a stored row."""
    return PodSurface(np.array(kept["diameter_px"]), np.array(kept["contrast"]), np.array(kept["hit"], dtype=bool))


def draw_picture(rows: list[dict[str, Any]]) -> None:
    """A panel a method, of the first family; the table holds all."""
    panels = {one["method"]: surface_of(one) for one in rows if one["family"] == rows[0]["family"]}
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=panels_inches(len(panels)), dpi=110, facecolor=COLOURS["surface"])
        draw_surfaces(figure, panels, COLOURS)
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(PICTURE)


def main(data: Path, families: tuple[str, ...]) -> None:
    """Measure, keep, draw."""
    rows = [one for family in families for one in measure(family, data)]
    write_json(RESULT, {"drawn": DRAWN, "rows": rows})
    draw_picture(json.loads(RESULT.read_text())["rows"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("usage: python runs/detectability_surface.py DATA [FAMILY ...]")
    main(Path(sys.argv[1]), tuple(sys.argv[2:]) or FAMILIES)
