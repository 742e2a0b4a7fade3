"""What the page gives away: tables as CSV, LaTeX and Markdown with the numbers shown, figures as SVG and PNG."""

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from chromium import needs_chromium, open_chromium, watched_pages
from report_factory import make_realistic_evaluation, write_benchmark
from tinydefects.report.page import write_report

pytestmark = needs_chromium
HOSTILE = "weak:a=<b>&\"'|_%$#{x}~^\\,"
SKILLS = {("strong", 64): 3.0, (HOSTILE, 64): 0.5, ("plain", 0): 0.3}


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    many = write_benchmark(folder / "results", SKILLS, n_defective=16)
    return {
        "many": write_report(many, folder / "many.html", n_resamples=50),
        "one": write_report([make_realistic_evaluation(n_defects=30, n_crops=2)], folder / "one.html"),
    }


@pytest.fixture
def open_page(browser, reports):
    """Opens a report; at the end nothing may have been asked of the network or said on the console."""
    with watched_pages(browser) as open_address:
        yield lambda name, **options: open_address(reports[name].as_uri(), reports[name].as_uri(), **options)


def download(page, name):
    with page.expect_download() as waiting:
        page.get_by_role("button", name=name, exact=True).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def shown(page, table):
    """The numbers of a table as a reader sees them, row by row, without intervals and marks."""
    return page.locator(table).first.evaluate(
        """table => [...table.tBodies].flatMap(body => [...body.rows]).filter(row => !row.classList.contains("group"))
          .map(row => [...row.cells].filter(cell => !cell.hidden).map(cell => {
            const copy = cell.cloneNode(true);
            copy.querySelectorAll(".interval, .close, .few").forEach(part => part.remove());
            return copy.textContent.trim();
          }))"""
    )


def intervals(page, table):
    return page.locator(f"{table} >> nth=0 >> tbody td:not([hidden]) .interval").all_inner_texts()


TEX_NAMES = {"less": "<", "greater": ">", "bar": "|", "asciitilde": "~", "asciicircum": "^", "quotedbl": '"'}


def untex(text):
    for name, sign in {**TEX_NAMES, "quotesingle": "'"}.items():
        text = text.replace(f"\\text{name}{{}}", sign)
    text = text.replace(r"\textbackslash{}", "\0")
    return re.sub(r"\\([&%$#_{}])", r"\1", text).replace("\0", "\\")


def test_the_csv_of_the_leaderboard_holds_the_numbers_shown(open_page):
    page = open_page("many")
    name, content = download(page, "CSV of Leaderboard")
    assert name == "leaderboard.csv"
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
    table = shown(page, "table.ranks")
    assert [row["method"] for row in rows] == [cells[0] for cells in table]
    assert f"{HOSTILE} 64" in {row["method"] for row in rows}
    for row, cells in zip(rows, table, strict=True):
        assert [row[name] for name in ("Q1", "Q2", "Q3", "Q4", "ρ")] == cells[1:6]
    low, high = rows[0]["Q1 95 % low"], rows[0]["Q1 95 % high"]
    assert f"{low}–{high}" == intervals(page, "table.ranks")[0]


def test_the_csv_follows_limit_and_order_of_the_page(open_page):
    page = open_page("many")
    before = download(page, "CSV of Leaderboard")[1]
    page.get_by_role("group", name="False-positive limit", exact=True).get_by_role("button", name="30").click()
    page.get_by_role("region", name="Leaderboard").get_by_role("button", name="method").click()
    after = download(page, "CSV of Leaderboard")[1]
    assert after != before
    rows = list(csv.DictReader(io.StringIO(after.decode("utf-8"))))
    assert [row["Q1"] for row in rows] == [cells[1] for cells in shown(page, "table.ranks")]
    assert [row["method"] for row in rows] == sorted(row["method"] for row in rows)


def test_the_latex_of_the_leaderboard_holds_the_numbers_shown(open_page):
    page = open_page("many")
    name, content = download(page, "LaTeX of Leaderboard")
    assert name == "leaderboard.tex"
    text = content.decode("utf-8")
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert re.search(r"\\begin\{tabular\}\{lr+\}", text)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    rows = [re.split(r"(?<!\\)&", line.removesuffix(r"\\")) for line in body]
    for cells, seen in zip(rows, shown(page, "table.ranks"), strict=True):
        assert untex(cells[0].strip()) == seen[0]
        assert [re.search(r"\d\.\d{3}", cell)[0] for cell in cells[1:6]] == seen[1:6]
    assert r"\textbf{" in rows[0][1]
    low, high = re.search(r"\[([\d.]+), ([\d.]+)\]", rows[0][1]).groups()
    assert f"{low}–{high}" == intervals(page, "table.ranks")[0]


def test_the_markdown_of_the_leaderboard_holds_the_numbers_shown(open_page):
    page = open_page("many")
    name, content = download(page, "Markdown of Leaderboard")
    assert name == "leaderboard.md"
    head, ruler, *body = content.decode("utf-8").splitlines()
    n_columns = len(re.split(r"(?<!\\)\|", head))
    assert set(ruler) <= set("|-: ")
    for line, seen in zip(body, shown(page, "table.ranks"), strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        assert len(cells) == n_columns
        assert re.sub(r"\\(.)", r"\1", cells[1]) == seen[0]
        assert [re.search(r"\d\.\d{3}", cell)[0] for cell in cells[2:7]] == seen[1:6]


def test_groups_of_rows_become_a_column(open_page):
    page = open_page("one")
    rows = list(csv.reader(io.StringIO(download(page, "CSV of Scores by defect size")[1].decode("utf-8"))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[0][:4] == ["group", "defects", "n", "area (px)"]
    table = shown(page, "[aria-label='Scores by defect size'] table")
    plain = [[re.sub(r"^(\d+),(\d+)$", r"\1\2", cell) for cell in row] for row in table]
    assert [row[1:] for row in rows[1:]] == plain
    assert rows[1][0] == "Cumulative, as published"
    assert rows[-1][0] == "Disjoint"


@pytest.mark.parametrize("name", ["one", "many"])
def test_every_table_and_figure_can_be_taken(open_page, name):
    page = open_page(name)
    n_tables, n_figures = page.locator("main table").count(), page.locator(".plot").count()
    for kind, n in (
        ("CSV", n_tables),
        ("LaTeX", n_tables),
        ("Markdown", n_tables),
        ("SVG", n_figures),
        ("PNG", n_figures),
    ):
        assert page.locator(f".downloads button:text-is('{kind}')").count() == n > 0


@pytest.mark.parametrize(("scheme", "paper"), [("light", (250, 250, 248)), ("dark", (18, 20, 23))])
def test_a_figure_stands_alone_in_the_colours_of_the_page(open_page, scheme, paper):
    page = open_page("one", color_scheme=scheme)
    label = page.locator(".plot").first.get_attribute("aria-label")
    svg = download(page, f"SVG of {label}")[1].decode("utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in svg
    name, content = download(page, f"PNG of {label}")
    assert name.endswith(".png")
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    assert min(picture.size) > 600
    assert picture.getpixel((2, 2)) == paper
    assert len(picture.getcolors(1 << 24)) > 50  # something is drawn on it
