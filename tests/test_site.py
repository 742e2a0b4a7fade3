"""The documentation site builds without a complaint, opens from the disk, and loads nothing from elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinydefects
from chromium import background, needs_chromium, open_chromium, watched_pages

if not all(map(importlib.util.find_spec, ("material", "mkdocstrings"))):
    pytest.skip("mkdocs-material and mkdocstrings are not both installed", allow_module_level=True)

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
LOADED = re.compile(  # by a page, or by a style sheet
    r"""<(?:script|img|source|iframe|link)\b[^>]*?\b(?:src|srcset|href)=["']?((?:https?:)?//[^"' >]+)"""
    r"""|url\(\s*["']?((?:https?:)?//[^)]*)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    finished = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture
def open_page(site):
    with open_chromium() as browser, watched_pages(browser) as opened:
        yield lambda page, **options: opened((site / page).as_uri(), site.as_uri(), **options)


def test_every_page_of_the_docs_is_in_the_menu(site):
    pages = {path.name for path in site.glob("*.html")} - {"404.html"}
    assert {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")} == pages - {"commands.html", "api.html"}
    menu = set(re.findall(r'href="([a-z_]+\.html)"', (site / "index.html").read_text()))
    assert pages == menu | {"index.html"}


def test_no_file_of_it_is_loaded_from_elsewhere(site):
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert len(files) > 20
    assert [(path.name, found[0]) for path in files for found in LOADED.finditer(path.read_text())] == []


def test_it_names_every_command_and_every_public_name(site):
    commands, api = ((site / page).read_text() for page in ("commands.html", "api.html"))
    assert 'id="tinydefects-evaluate"' in commands
    assert "--false-alarm-rate" in commands
    for name in tinydefects.__all__:
        assert f'id="tinydefects.{name}"' in api, name


@pytest.mark.parametrize("page", ["index.html", "find_defects.html", "api.html", "results.html"])
@pytest.mark.parametrize("width", [390, 1280])
@needs_chromium[0]
@needs_chromium[1]
def test_pages_open_from_the_disk_at_any_width(open_page, page, width):
    opened = open_page(page, width=width)
    assert opened.locator("h1").count() == 1
    assert opened.evaluate("document.documentElement.scrollWidth") <= width


@needs_chromium[0]
@needs_chromium[1]
def test_search_works_from_the_disk_and_dark_is_dark(open_page):
    opened = open_page("index.html", color_scheme="dark")
    red, green, blue = map(int, re.findall(r"\d+", background(opened))[:3])
    assert max(red, green, blue) < 60
    opened.locator(".md-search__input").fill("palette")
    opened.locator(".md-search-result__link", has_text="mask").first.wait_for()
