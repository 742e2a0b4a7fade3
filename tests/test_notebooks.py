"""The notebooks run from a folder of their own, with smaller parts than printed, and show what they promise."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALLER = {  # what a notebook says, what is enough here, how many pictures and tables it shows
    "score_my_maps": ("256, 12, 24", "96, 6, 8", 3, 1),
    "compare_two_methods": ("256, 16, 16, 24", "96, 5, 4, 6", 1, 1),
    "smallest_defect": ("256, 20, 20, 60", "96, 5, 4, 12", 1, 1),
}


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_there_are_three():
    assert {path.stem for path in NOTEBOOKS} == SMALLER.keys()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_what_a_run_showed(path):
    nbformat.validate(json.loads(path.read_text()))
    assert [cell for cell in cells(path, "code") if cell.outputs or cell.execution_count] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path):
    links = [link for cell in cells(path, "markdown") for link in re.findall(r"\]\(([^)#]+)", cell.source)]
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows(path, tmp_path, monkeypatch):
    printed, enough, n_pictures, n_tables = SMALLER[path.stem]
    book = nbformat.read(path, as_version=4)
    assert sum(f"= {printed}" in cell.source for cell in book.cells) == 1
    for cell in book.cells:
        cell.source = cell.source.replace(f"= {printed}", f"= {enough}")
    kernel = tmp_path / "kernels" / "this"  # whichever Python is the usual one, this one runs it
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "this", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("TINYDEFECTS_OFFLINE", "1")
    NotebookClient(book, timeout=600, kernel_name="this", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in book.cells for output in cell.get("outputs", []) if "data" in output]
    assert sum("image/png" in data for data in shown) == n_pictures
    assert sum("<table>" in data.get("text/html", "") for data in shown) == n_tables
