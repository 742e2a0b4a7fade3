"""The README keeps its promises: its Python runs, its order is the promised one, it carries no loose numbers."""

import re
from pathlib import Path

import pytest

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
