"""The floors of the house: which file may import which, read from the source with ast."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "tinydefects"
FLOOR_OF = {
    "errors": "vocabulary",
    "json_files": "vocabulary",
    "privacy": "vocabulary",
    "opening": "vocabulary",
    "leftovers": "vocabulary",
    "together": "vocabulary",
    "pixels": "vocabulary",
    "masks": "vocabulary",
    "mask_checks": "vocabulary",
    "sample": "vocabulary",
    "tables": "vocabulary",
    "maps": "vocabulary",
    "predictions": "vocabulary",
    "defects": "vocabulary",
    "read_ahead": "vocabulary",
    "image_bits": "vocabulary",
    "walk": "vocabulary",
    "photographs": "delivery",
    "datasets": "datasets",
    "metrics": "metrics",
    "timm_guard": "model",
    "device_memory": "model",
    "devices": "model",
    "builtin_vit": "model",
    "patch_grid": "model",
    "passes": "model",
    "pass_batches": "model",
    "pass_timing": "model",
    "precision": "model",
    "compute": "model",
    "teacher": "model",
    "coreset": "model",
    "students": "model",
    "feature_cache": "model",
    "fitting": "model",
    "detector": "model",
    "detector_file": "model",
    "detector_settings": "model",
    "detector_state": "model",
    "benchmark": "benchmark",
    "planner": "delivery",
    "report": "delivery",
    "benchmark_report": "delivery",
    "audit_plot": "delivery",
    "report_crops": "delivery",
    "report_plots": "delivery",
    "report_detection": "delivery",
    "batch": "delivery",
    "export": "delivery",
    "demo": "delivery",
    "progress": "command",
    "commands": "command",
    "cli": "command",
    "__main__": "command",
}
MAY_IMPORT = {
    "vocabulary": {"vocabulary"},
    "datasets": {"vocabulary", "datasets"},
    "metrics": {"vocabulary", "metrics"},
    "model": {"vocabulary", "model"},
    "benchmark": {"vocabulary", "datasets", "metrics", "model", "benchmark"},
    "delivery": {"vocabulary", "datasets", "metrics", "model", "benchmark", "delivery"},
    "command": {"vocabulary", "datasets", "metrics", "model", "benchmark", "delivery", "command"},
}
ONLY_IN = {
    "PIL": {
        "opening",
        "pixels",
        "maps",
        "patch_grid",
        "metrics",
        "planner",
        "benchmark",
        "benchmark_report",
    },  # reads, resizes
    "tifffile": {"opening", "pixels", "maps", "benchmark"},
    "imagecodecs": {"pixels"},
    "pyarrow": {"tables"},
    "timm": {"teacher", "timm_guard", "builtin_vit"},
    "torchvision": {"timm_guard"},
    "typer": {"cli", "commands"},
    "rich": {"progress"},
    "torchmetrics": {"metrics"},
    "faiss": {"benchmark"},
    "anomalib": {"benchmark"},
    "dask": {"benchmark"},
    "distributed": {"benchmark"},
    "jinja2": {"report", "benchmark_report"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "openvino": {"export"},
    "nncf": {"export"},
    "matplotlib": {"benchmark_report", "report_plots", "report_detection", "report_crops", "audit_plot", "planner"},
}
TORCH_FLOORS = {"model"}
TORCH_ROOMS = {
    "benchmark/peers",  # methods that pass the teacher's tensors on
    "metrics/torch_metric.py",  # imported by nothing else
    "export/torch_graph.py",  # what is exported; the rest of the room runs without torch
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Every imported module, those inside functions included, those for type checkers included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_its_floor_and_those_below(path):
    room = room_of(path)
    assert room in FLOOR_OF, f"{room}: give it a floor in FLOOR_OF"
    for name in imports_of(path):
        assert name != "tinydefects", f"{path.name} imports from the package root"
        if name.startswith("tinydefects."):
            imported = FLOOR_OF[name.split(".")[1]]
            assert imported in MAY_IMPORT[FLOOR_OF[room]], f"{room} ({FLOOR_OF[room]}) imports {name} ({imported})"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_live_in_one_room(path):
    room = room_of(path)
    for name in imports_of(path):
        top = name.split(".")[0]
        assert room in ONLY_IN.get(top, {room}), f"{room} imports {top}"
        if top == "torch":
            places = {str(place.relative_to(PACKAGE)) for place in (path, path.parent)}
            assert FLOOR_OF[room] in TORCH_FLOORS or places & TORCH_ROOMS, f"{room} imports torch"


def test_no_file_is_longer_than_400_lines():
    too_long = {path.name: n for path in modules() if (n := len(path.read_text().splitlines())) > 400}
    assert too_long == {}


def test_scoring_and_help_never_import_torch():
    program = (
        "import sys, tinydefects, tinydefects.cli, tinydefects.metrics.evaluation, tinydefects.report, "
        "tinydefects.datasets.catalog; from tinydefects import evaluate, load_category; "
        "heavy = {'torch', 'timm', 'matplotlib'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
