"""The README keeps its promises: its Python runs, its order is the promised one, it carries no loose numbers."""

import functools
import re
import runpy
from pathlib import Path

import pytest

from tinydefects.datasets.catalog import LOADERS
from tinydefects.datasets.synthetic.dataset import load_synthetic

README = Path(__file__).resolve().parents[1] / "README.md"
LINES = README.read_text().splitlines()


def first_line_with(pattern: str) -> int:
    return next(number for number, line in enumerate(LINES, start=1) if re.search(pattern, line))


@pytest.mark.parametrize(
    ("what", "pattern", "latest_line"),
    [
        ("picture", r"<img |!\[", 5),
        ("commands", r"^make demo", 15),
        ("table", r"^\|", 25),
        ("python", r"^```python", 45),
    ],
)
def test_the_good_part_comes_early(what, pattern, latest_line):
    assert first_line_with(pattern) <= latest_line, what


def test_it_is_at_most_180_lines():
    assert len(LINES) <= 180


def test_every_linked_file_exists():
    targets = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"#:]+)(?:#[^)\"]*)?[)\"]", README.read_text())
    missing = [target for target in targets if not (README.parent / target).exists()]
    assert targets
    assert missing == []


def test_its_tables_are_those_of_the_result_files():
    with_tables = runpy.run_path(str(README.parent / "runs" / "tables.py"))["with_tables"]
    assert "| fbft |" in README.read_text()
    for document in (README, *(README.parent / "docs").glob("*.md")):
        assert with_tables(document.read_text()) == document.read_text(), document.name


def test_its_python_runs(tmp_path, monkeypatch):
    """As printed, but on ten images of 64 px instead of a hundred of 512, and two epochs."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    assert "resolution=512" in code
    few = {"size": 64, "n_train": 4, "n_good": 2, "n_defect": 4}
    monkeypatch.setitem(LOADERS, "synthetic", functools.partial(load_synthetic, **few))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace("resolution=512", "resolution=64, epochs=2"), names)
    assert names["evaluation"].n_images == 6
    assert "brushed_metal" in (tmp_path / "metal.html").read_text()
    assert sorted(path.name for path in (tmp_path / "metal").iterdir()) == ["detector.json", "model.safetensors"]
