"""The version stands in pyproject.toml; whatever else names it agrees."""

import re
import tomllib
from pathlib import Path

import tinydefects
from tinydefects.results.result import describe_run

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_package_knows_its_version():
    assert tinydefects.__version__ == VERSION


def test_a_result_records_it():
    assert describe_run({}).versions["tinydefects"] == VERSION


def test_the_citation_names_it():
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [VERSION]


def test_the_changelog_has_a_section_of_it():
    assert re.search(rf"^## {re.escape(VERSION)} ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_no_other_file_of_the_package_states_it():
    literal = re.compile(rf"^[^#\n\"]*=\s*[\"']{re.escape(VERSION)}[\"']", re.MULTILINE)
    assert [path.name for path in (ROOT / "src").rglob("*.py") if literal.search(path.read_text())] == []
