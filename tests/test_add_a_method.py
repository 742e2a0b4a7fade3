"""The guide to adding a method keeps its promise: its code runs, and is as short as it says."""

import re
from pathlib import Path

import pytest

from tinydefects.methods.catalog import METHODS
from tinydefects.results.result import find_results, read_result

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "add_a_method.md"
FEW = "--cost off --option synthetic.n_train=3 --option synthetic.n_good=3 --option synthetic.n_defect=4 "


@pytest.fixture
def no_new_methods():
    before = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(before)


@pytest.mark.slow
@pytest.mark.usefixtures("no_new_methods")
def test_its_code_adds_a_method_and_compares_it(tmp_path, monkeypatch):
    """As printed, but on ten images of 64 px."""
    method, comparison = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    code = [line for line in method.splitlines() if line.strip() and not re.match(r"(from|import) ", line)]
    assert len(code) <= 20
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(method, names)
    assert "--resolutions 384" in comparison
    assert "size=384" in comparison
    small = comparison.replace("--resolutions 384", "--resolutions 64").replace("size=384", "size=64 " + FEW)
    exec(small, names)
    results = {result.run.method: result for result in map(read_result, find_results(tmp_path / "results"))}
    assert set(results) == {"far_from_mean", "subspace"}
    assert results["far_from_mean"].run.settings["block"] == "later"
    assert results["far_from_mean"].evaluation.n_images == 7


def test_every_file_it_names_is_there():
    methods = GUIDE.parents[1] / "src" / "tinydefects" / "methods"
    named = set(re.findall(r"`([a-z_/]+\.py)`", GUIDE.read_text()))
    assert len(named) >= 5
    for name in named:
        assert any((folder / name).exists() for folder in (methods, methods.parent, GUIDE.parents[1])), name
