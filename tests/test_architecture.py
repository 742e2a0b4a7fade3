"""The floors of the house: which file may import which, read from the source with ast."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "tinydefects"
FLOORS = (  # a folder imports from itself and from those before it
    "errors",
    "limits",
    "privacy",
    "progress",
    "notebook",
    "data",
    "datasets",
    "metrics",
    "decisions",
    "detector",
    "results",
    "methods",
    "benchmark",
    "audit",
    "submission",
    "planner",
    "export",
    "report",
    "serve",
    "cli",
    "__main__",
)
ONLY_IN = {
    "PIL": {
        "notebook",
        "data",
        "metrics",
        "detector",
        "methods",
        "audit",
        "submission",
        "planner",
        "report",
    },  # reads, resizes
    "tifffile": {"data", "submission"},
    "imagecodecs": {"data"},
    "pyarrow": {"data"},
    "timm": {"detector"},
    "torchvision": {"detector"},
    "typer": {"cli"},
    "rich": {"progress"},
    "torchmetrics": {"metrics"},
    "faiss": {"methods"},
    "anomalib": {"methods"},
    "dask": {"benchmark"},
    "distributed": {"benchmark"},
    "jinja2": {"report"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "openvino": {"export"},
    "nncf": {"export"},
    "matplotlib": {"audit", "report", "planner"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "prometheus_client": {"serve"},
    "python_multipart": {"serve"},
}
TORCH_FOLDERS = {"detector", "methods"}
TORCH_FILES = {
    "metrics/torch_metric.py",  # imported by nothing else
    "export/torch_graph.py",  # what is exported; the rest of the folder runs without torch
}
MOST_FILES, MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_PARAMETERS = 18, 400, 60, 8
# What is larger still; whatever no longer is has to leave these lists.
LARGE_FOLDERS: set[str] = set()
LONG_FUNCTIONS: set[str] = set()
MANY_PARAMETERS = {
    "datasets/folder.py: load_folder",  # its keywords are the options of a user's own folder
    "datasets/synthetic/dataset.py: load_synthetic",  # the same
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def place_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    kept = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef
    return tuple(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kept))


def imports_of(path: Path) -> set[str]:
    """Every imported module, those inside functions included, those for type checkers included."""
    names = set()
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or ""))
    return names


def imports() -> list[tuple[Path, str]]:
    return [(path, name) for path in modules() for name in sorted(imports_of(path))]


def test_every_folder_has_a_floor():
    assert {folder_of(path) for path in modules()} - set(FLOORS) == set()


def test_a_folder_imports_only_from_those_before_it():
    def is_below(name: str, path: Path) -> bool:
        top, *rest = name.split(".")  # of a relative import the top is nothing
        before = FLOORS[: FLOORS.index(folder_of(path)) + 1]
        return rest[0] in before if top == "tinydefects" and rest else top not in {"", "tinydefects"}

    assert [f"{place_of(path)} imports {name}" for path, name in imports() if not is_below(name, path)] == []


def test_heavy_packages_live_in_one_folder():
    def is_home(name: str, path: Path) -> bool:
        top, folder = name.split(".")[0], folder_of(path)
        if top == "torch":
            return folder in TORCH_FOLDERS or place_of(path) in TORCH_FILES
        return folder in ONLY_IN.get(top, {folder})

    assert [f"{place_of(path)} imports {name}" for path, name in imports() if not is_home(name, path)] == []


def test_no_folder_has_more_than_18_files():
    names = [str(path.parent.relative_to(PACKAGE)) for path in modules() if path.name != "__init__.py"]
    assert {folder for folder in names if names.count(folder) > MOST_FILES} == LARGE_FOLDERS


def test_no_file_is_longer_than_400_lines():
    assert {path.name for path in modules() if len(path.read_text().splitlines()) > MOST_LINES} == set()


def test_no_function_is_longer_than_60_lines_or_has_more_than_8_parameters():
    too_long, too_many = set(), set()
    for path in modules():
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{place_of(path)}: {node.name}"
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                named = [one for one in (*given, node.args.vararg, node.args.kwarg) if one is not None]
                if node.end_lineno is not None and node.end_lineno - node.lineno >= MOST_LINES_OF_A_FUNCTION:
                    too_long.add(name)
                if len([one for one in named if one.arg not in {"self", "cls"}]) > MOST_PARAMETERS:
                    too_many.add(name)
    assert too_long == LONG_FUNCTIONS
    assert too_many == MANY_PARAMETERS


def test_links_are_followed_by_real_path_alone():
    # `Path.resolve` raises RuntimeError where links lead in a circle
    assert [str(path) for path in PACKAGE.rglob("*.py") if ".resolve()" in path.read_text()] == []


def test_scoring_and_help_never_import_torch():
    program = (
        "import sys, tinydefects, tinydefects.metrics.evaluation, "
        "tinydefects.report.page, tinydefects.datasets.catalog; "
        "from tinydefects import evaluate, load_category; "
        "from tinydefects.cli.app import COMMANDS, load_command; [load_command(name) for name in COMMANDS]; "
        "heavy = {'torch', 'timm', 'matplotlib'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_the_list_of_commands_is_shown_without_loading_one():
    program = (
        "import sys, tinydefects, tinydefects.cli.app; "
        "heavy = {'numpy', 'scipy', 'PIL', 'pydantic', 'yaml'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
