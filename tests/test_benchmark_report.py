"""The page of a benchmark: who is compared, what it claims, what its pictures show."""

import base64
import csv
import html
import io
import json
import math
import re
import runpy
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from command_line import run
from random_category import random_pairs, random_samples
from report_factory import make_cost, write_benchmark, write_job
from tinydefects.benchmark.board import MethodAt, boards
from tinydefects.benchmark.run_folder import (
    divide_results,
    read_benchmark,
    read_numbers,
    shared_facts,
    write_failure,
    write_protocol,
)
from tinydefects.benchmark.summary import RANKED, summarise
from tinydefects.benchmark.text import SHOWN, describe_leaderboard
from tinydefects.benchmark.verify import Request, verify
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.methods.method import STAGES
from tinydefects.metrics.evaluation import EvaluationSettings, evaluate
from tinydefects.metrics.records import Interval
from tinydefects.metrics.statistics.leaderboard import LeaderboardRow
from tinydefects.progress import Progress
from tinydefects.report.boards import undominated
from tinydefects.report.crops import RAREST, CropStore, NormalShares, colour_shares, encode_crops
from tinydefects.report.figures import mean_pro_curve, pod_figure, size_figure
from tinydefects.report.gallery import Gallery, defect_crops, pictured_results
from tinydefects.report.leaderboard import cost_rows, cost_texts, csv_link, metric_names, rank_board
from tinydefects.report.page import write_report
from tinydefects.report.paper import write_paper
from tinydefects.report.theme import looks, short_name, spread_out
from tinydefects.results.protocol import EvaluationProtocol, Job
from tinydefects.results.result import Result, describe_run, read_result, write_result

pytestmark = pytest.mark.slow

RUNS = Path(__file__).resolve().parents[1] / "runs"
HOSTILE = "weak:option=<b>\"&'</script>"
TWILL = "cloth/<i>twill&'"
STRONG, WEAK = MethodAt(name="strong", resolution=64), MethodAt(name=HOSTILE, resolution=64)
COARSE, PLAIN = MethodAt(name="strong", resolution=32), MethodAt(name="plain", resolution=0)
SKILLS = {("strong", 64): 3.0, (HOSTILE, 64): 0.5, ("strong", 32): 1.5, ("plain", 0): 0.3}


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._inside = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in {"script", "style"}:
            self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_benchmark(tmp_path_factory.mktemp("benchmark") / "results", SKILLS, categories=("cloth/plain", TWILL))


@pytest.fixture(scope="module")
def stored(folder):
    return read_benchmark(folder)


@pytest.fixture(scope="module")
def ranked(stored):
    return rank_board(boards(stored)[0], n_resamples=200)


@pytest.fixture(scope="module")
def page(folder):
    return write_report(folder, folder.with_name("report.html"), n_resamples=100).read_text(encoding="utf-8")


def without(stored, *absent):
    return [one for one in stored if (one.method, one.evaluation.category) not in absent]


def test_methods_of_a_benchmark_are_told_from_single_results(folder, tmp_path):
    found, others = divide_results(folder)
    assert (len(found), others) == (len(list(folder.rglob("seed_*.json"))), [])
    assert divide_results(folder / "cloth" / "plain" / "32")[0] == []
    one, other = folder.rglob("seed_0.json"), tmp_path / "alone"
    result = read_result(next(one))
    write_job(
        Job(protocol=EvaluationProtocol(categories=()), category="a/b", method="p", resolution=1, seed=0),
        result.evaluation,
        other,
    )
    assert divide_results(other) == ([], list(other.rglob("*.json")))
    with pytest.raises(ResultError, match="no results here"):
        divide_results(tmp_path / "nothing")


def test_results_of_two_protocols_are_refused(folder, stored, tmp_path):
    other = EvaluationProtocol(categories=("cloth/plain",), evaluation=EvaluationSettings(false_alarm_rate=0.2))
    for protocol, seed in ((other, 0), (replace(other, evaluation=EvaluationSettings(false_alarm_rate=0.1)), 1)):
        job = Job(protocol=protocol, category="cloth/plain", method="p", resolution=1, seed=seed)
        write_job(job, stored[0].evaluation, tmp_path)
    with pytest.raises(ResultError, match=r"seed_0\.json and .*seed_1\.json answer different protocols"):
        read_benchmark(tmp_path)


@pytest.mark.parametrize("name", ["page", "PAGE.HTML", "v1.2"])
def test_a_page_is_replaced_whatever_its_name(stored, tmp_path, name):
    page = tmp_path / name
    write_report([stored[0].evaluation], page, title="first")
    write_report([stored[0].evaluation], page, title="second")
    assert "<title>second</title>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("methods", [["strong", "weak"], ["strong"]])
def test_copies_of_a_result_are_refused_and_not_taken_for_seeds(stored, tmp_path, methods):
    """Of one method or several: the copy would weigh as much as a seed of its own."""
    protocol = EvaluationProtocol(categories=("cloth/plain",))
    for method in methods:
        job = Job(protocol=protocol, category="cloth/plain", method=method, resolution=64, seed=0)
        evaluation = next(one.evaluation for one in stored if one.evaluation.category == job.category)
        write_job(job, evaluation, tmp_path / "my run")
    shutil.copytree(tmp_path / "my run/cloth", tmp_path / "copies/cloth")
    with pytest.raises(ResultError) as caught:
        write_report(tmp_path, tmp_path / "report.html", n_resamples=20)
    places = [tmp_path / run / "cloth/plain/64/strong/seed_0.json" for run in ("copies", "my run")]
    assert str(caught.value).startswith(
        f"{places[0]} and {places[1]}: both are of one job (strong at 64 px, seed 0, cloth/plain)"
    )
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(ResultError, match="both are of one job"):
        read_benchmark(tmp_path)
    with pytest.raises(ResultError, match="both are of one job"):
        read_numbers(tmp_path)


def test_a_folder_where_every_job_failed_says_why_the_first_did(tmp_path):
    protocol = EvaluationProtocol(categories=("cloth/plain",))
    write_protocol(protocol, tmp_path / "my run")
    for method in ("a", "b"):
        job = Job(protocol=protocol, category="cloth/plain", method=method, resolution=64, seed=0)
        write_failure(job, "out of memory", "", tmp_path / "my run")
    asked = (
        lambda folder: write_report(folder, tmp_path / "r.html"),
        lambda folder: write_paper(folder, tmp_path / "paper"),
        lambda folder: verify(folder, Request(), Progress(quiet=True)),
        summarise,
    )
    for ask in asked:
        with pytest.raises(ResultError) as caught:
            ask(tmp_path / "my run")
        assert str(caught.value) == (
            f"{tmp_path / 'my run'}: no results; failed jobs: 2, the first a on cloth/plain (out of memory); mend "
            "that and run 'tinydefects benchmark' again"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["my run"]


def test_a_file_that_is_no_result_is_named(tmp_path):
    summary = tmp_path / "summary.json"
    summary.write_text('{"format": 5, "boards": []}')
    with pytest.raises(ResultError, match=r"summary\.json: holds no evaluation; give a result, or the folder"):
        write_report(summary, tmp_path / "r.html")
    with pytest.raises(ResultError, match=r"summary\.json: is a file; give the folder that 'tinydefects benchmark"):
        write_paper(summary, tmp_path / "paper")
    (told,) = verify(summary, Request(), Progress(quiet=True)).wrong
    assert "summary.json: holds no evaluation" in told


def test_what_is_there_already_is_not_written_over(folder, tmp_path, monkeypatch):
    """Known before anything is drawn: the numbers of a large benchmark take minutes."""
    monkeypatch.setattr("tinydefects.report.page.rank_board", None)
    monkeypatch.setattr("tinydefects.report.paper.rank_board", None)
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    with pytest.raises(TinyDefectsError, match=r"mine\.json: is there already, and only pages"):
        write_report(folder, mine)
    with pytest.raises(TinyDefectsError, match=r"is a folder; name the page in it, such as .*report\.html"):
        write_report(folder, tmp_path)
    with pytest.raises(TinyDefectsError, match=r"mine\.json: cannot write"):
        write_paper(folder, mine)
    with pytest.raises(TinyDefectsError, match=r"mine\.json: cannot write"):
        write_report(folder, mine / "report.html")
    assert (mine.read_text(), list(tmp_path.iterdir())) == ("{}", [mine])
    (tmp_path / "references.bib").write_text("@book{mine}")
    with pytest.raises(TinyDefectsError, match=r"references\.bib: is there already, and no example\.tex of an"):
        write_paper(folder, tmp_path)
    assert (tmp_path / "references.bib").read_text() == "@book{mine}"


def test_a_method_that_lacks_a_category_takes_it_from_the_ranking(stored):
    board, coarse = boards(without(stored, (WEAK, TWILL)))
    assert (board.missing, coarse.missing) == ({WEAK: (TWILL,)}, {})
    ranked = rank_board(board, n_resamples=20)
    assert (ranked.leaderboard.categories, ranked.leaderboard.left_out) == (("cloth/plain",), (TWILL,))
    assert set(ranked.methods) == {STRONG, WEAK, PLAIN}
    assert set(coarse.methods) == {COARSE, PLAIN}


def test_a_method_that_would_leave_too_little_is_not_ranked(stored):
    thirds = [
        one
        for name in ("a", "b", "c")
        for one in (_renamed(one, f"cloth/{name}") for one in stored)
        if one.run.seed == 0
    ]
    plenty = [one for one in thirds if one.method != WEAK or one.evaluation.category == "cloth/a"]
    board = boards(plenty)[0]
    assert board.unranked == (WEAK,)
    assert WEAK not in board.methods
    assert board.missing == {}


def _renamed(one, category):
    return replace(one, evaluation=replace(one.evaluation, category=category))


def test_the_summary_and_the_page_rank_alike(folder, stored):
    """Every number of a row agrees, p values within two of the resamples that they count."""
    summary = summarise(folder, n_resamples=200)
    shared = set(metric_names((0.3, 0.1, 0.05, 0.01))) & set(RANKED)
    assert len(shared) > 5
    for board in boards(stored):
        page = rank_board(board, n_resamples=200).leaderboard
        there = summary.board(board.dataset, board.resolution)
        for figure in shared:
            for one, other in zip(page.of(figure), there.of(figure), strict=True):
                assert one.method == other.method
                assert (one.verdict, one.n_seeds) == (other.verdict, other.n_seeds)
                numbers = [(each.value, each.interval.low, each.interval.high) for each in (one, other)]
                np.testing.assert_allclose(*numbers, atol=1e-9)
                np.testing.assert_allclose(one.corrected_p, other.corrected_p, atol=2 / 201)


def rows_of_page(page):
    """By board, by method in the order shown: value and mark of each quartile at 5 %, ms."""
    found = []
    for table in re.findall(r'<table class="sortable ranks">.*?</table>', page, flags=re.DOTALL):
        rows = {}
        for row in re.findall(r"<tr data-row=.*?</tr>", table, flags=re.DOTALL):
            cells = re.findall(r'data-limit="0\.05" class="(number[^"]*)" data-value="([^"]*)">(<abbr)?', row)[:4]
            marks = ["best" if "best" in kind else "=" if close else "" for kind, _, close in cells]
            label = re.search(r"</i>([^<]*)</th>", row)[1]
            rows[html.unescape(label)] = [
                (round(float(value), 3), mark) for (_, value, _), mark in zip(cells, marks, strict=True)
            ]
        found.append(rows)
    return found


def rows_of_command(text):
    rows = {}
    for line in text.splitlines()[2:]:
        numbers = re.findall(r" (\d\.\d{4})( =)?", line)
        name = re.split(r" +\d\.\d{4}", line)[0]
        if numbers:  # and no remark
            rows[name] = [(float(number), mark.strip()) for number, mark in numbers[:4]]
    return rows


def rows_of_docs(table):
    rows = {}
    for line in table.splitlines()[2:]:
        if line.startswith("|"):
            name, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
            numbers = [re.match(r"(\*\*)?([\d.]+)(?:\*\*)?( =)?", cell) for cell in cells[:4]]
            rows[name] = [(float(one[2]), "best" if one[1] else (one[3] or "").strip()) for one in numbers]
    return rows


def test_page_command_and_docs_show_the_same_order_numbers_and_marks(folder, stored, tmp_path):
    page = write_report(folder, tmp_path / "report.html").read_text(encoding="utf-8")
    in_docs = runpy.run_path(str(RUNS / "benchmark_tables.py"))["leaderboard_table"]("cloth", summarise(folder))
    tables = in_docs.split("| AUPRO, ")[1:]
    shown, found = rows_of_page(page), boards(stored)
    assert len(shown) == len(found) == len(tables) == 2
    for rows, board, table in zip(shown, found, tables, strict=True):
        named = {name.removesuffix(f" {board.resolution}"): cells for name, cells in rows.items()}
        command = rows_of_command(describe_leaderboard(board, board.rank([*SHOWN])))
        docs = rows_of_docs(table)
        assert list(named) == list(command) == list(docs)
        assert len(named) > 1
        for name, cells in named.items():
            assert cells == docs[name]
            for (value, mark), (other, other_mark) in zip(cells, command[name], strict=True):
                assert value == pytest.approx(other, abs=0.0011)  # both are rounded, one twice
                assert mark.replace("best", "") == other_mark
    found_shares = [int(share) for share in re.findall(r"\| (\d+) % \|$", tables[0], flags=re.MULTILINE)]
    assert f"Most defects found</dt><dd>{max(found_shares)} %</dd>" in page


def test_no_ranking_mixes_datasets_or_resolutions(stored):
    mixed = [*stored, *(_renamed(one, "metal/brushed") for one in stored)]
    cloth, _, metal, _ = found = boards(mixed)
    assert [board.name for board in found] == [
        "cloth at 64 px",
        "cloth at 32 px",
        "metal at 64 px",
        "metal at 32 px",
    ]
    assert {category for of in cloth.results.values() for category in of} == {"cloth/plain", TWILL}
    assert {category for of in metal.results.values() for category in of} == {"metal/brushed"}


def test_facts_that_differ_are_counted_and_not_chosen_from(stored):
    first, other = stored[0].provenance, replace(stored[0].provenance, commit="zzz", created="2000-01-01")
    facts = shared_facts([first, other])
    assert facts["commit"].startswith("2 different ones")
    assert facts["created"] == f"2000-01-01 to {first.created}"
    assert facts["teacher"] == "builtin"


def _row(method, value, verdict):
    return LeaderboardRow(
        method=method,
        metric="aupro_Q1@0.05",
        value=value,
        interval=Interval(low=value, high=value),
        seed_spread=math.nan,
        n_seeds=1,
        by_category={},
        difference_to_best=0.0,
        corrected_p=0.5,
        verdict=verdict,
    )


@pytest.mark.parametrize(
    ("others", "end"),
    [
        (["lower", "not distinguishable from the best"], "0.800; 1 of 2 others cannot be told from it."),
        (["lower", "lower"], "0.800; all 2 others are measurably lower."),
        (["lower"], "0.800; the other is measurably lower."),
        (["not distinguishable from the best"] * 2, "0.800; none of 2 others can be told from it."),
        (["not distinguishable from the best"], "0.800; the other cannot be told from it."),
        (["undefined"], "0.800."),
    ],
)
def test_the_headline_says_how_many_may_be_as_good(ranked, others, end):
    rows = [_row("fbft", 0.8, "best"), *(_row("other", 0.5, verdict) for verdict in others)]
    headline = replace(ranked, leaderboard=replace(ranked.leaderboard, rows=tuple(rows))).headline()
    assert headline == f"On the smallest quarter of the defects fbft scores highest: AUPRO@5\N{NO-BREAK SPACE}% {end}"


def test_the_headline_of_nothing_claims_nothing(ranked):
    rows = (_row("fbft 64", math.nan, "undefined"),)
    headline = replace(ranked, leaderboard=replace(ranked.leaderboard, rows=rows)).headline()
    assert headline.startswith("No method has a number")


def test_the_table_shows_what_the_leaderboard_says(page, ranked):
    rows = re.findall(r"<tr data-row=.*?</tr>", page, flags=re.DOTALL)[: len(ranked.methods)]
    assert len(rows) == 3
    for row, method in zip(rows, ranked.methods, strict=True):
        (cell,) = re.findall(r'data-limit="0\.05" class="number[^"]*" data-value="([^"]*)"', row)[:1]
        (found,) = [one for one in ranked.leaderboard.of("aupro_Q1@0.05") if one.method == method.name]
        assert float(cell) == found.value
    assert 'class="number best"' in rows[0]
    assert ranked.methods[0] == STRONG


def test_intervals_are_placed_within_those_of_their_column(ranked):
    cells = ranked.cells("aupro_Q1@0.3").values()
    assert min(cell.low_share for cell in cells) == 0
    assert max(max(cell.high_share, cell.share) for cell in cells) == pytest.approx(1)
    assert all(0 <= cell.share <= 1 for cell in cells)


def test_the_download_holds_every_row(ranked):
    rows = list(csv.DictReader(io.StringIO(unquote(csv_link([ranked]).partition(",")[2]))))
    assert len(rows) == len(ranked.leaderboard.rows)
    by_key = {(row["method"], row["metric"]): row for row in rows}
    for one in ranked.leaderboard.rows:
        row = by_key[one.method, one.metric]
        assert float(row["value"]) == pytest.approx(one.value, rel=1e-5)
        assert (row["verdict"], row["board"]) == (one.verdict, "cloth at 64 px")
    assert {row["method"] for row in rows} == {"strong", HOSTILE, "plain"}


def without_costs(stored, is_meant):
    return [
        replace(one, run=replace(one.run, cost=None)) if is_meant(one.method, one.evaluation.category) else one
        for one in stored
    ]


def test_costs_are_means_over_the_categories_that_most_methods_were_timed_in(stored, ranked):
    rows = cost_rows(ranked)
    assert [row.method for row in rows] == [STRONG, WEAK, PLAIN]  # 5, 10, 20 ms
    assert (rows[0].end_to_end, rows[0].best_batch_ms, rows[0].rest) == pytest.approx((5, 5 / 3, 5 / 3))
    assert list(rows[0].stages) == ["teacher", "method"]
    lacking_one = without_costs(stored, lambda method, category: (method, category) == (WEAK, TWILL))
    ranked = rank_board(boards(lacking_one)[0], n_resamples=20)
    assert TWILL in ranked.leaderboard.categories
    assert {len(sheets) for sheets in ranked.costs.values()} == {1}
    assert {row.method for row in cost_rows(ranked)} == {STRONG, WEAK, PLAIN}


def test_times_by_stage_memory_and_size_are_in_every_form_of_the_board(page, ranked, stored):
    rows = csv.DictReader(io.StringIO(unquote(csv_link([ranked]).partition(",")[2])))
    row = next(row for row in rows if row["method"] == "strong")
    stages = {name: row[f"{name}_ms"] for name in STAGES}
    assert stages == {"decode": "", "resize": "", "transfer": "", "teacher": "1.667", "method": "1.667", "map": ""}
    assert [row[name] for name in ("rest_ms", "best_batch_ms_per_image", "peak_memory_mb", "teacher_mb", "own_mb")] == [
        *("1.667", "1.667", "100", "20", "1.235")
    ]
    heads, texts = cost_texts(ranked)
    assert heads[:4] == ["method", "teacher ms", "method ms", "rest ms"]
    assert texts[0] == ["strong", "1.67", "1.67", "1.67", "5", "1.67", "100", "20", "1.23"]
    lines = describe_leaderboard(boards(stored)[0], ranked.board.rank([*SHOWN], n_resamples=20)).splitlines()
    assert re.findall(r"\S+", lines[1])[-2:] == ["ms", "MB"]
    assert re.findall(r"\S+", lines[2])[-2:] == ["5", "21.2"]
    shown = re.search(r'<table class="sortable ranks">.*?</table>', page, flags=re.DOTALL)[0]
    assert 'data-value="21234567">21</td>' in shown
    assert 'title="to the device and back, normalising included">transfer</button>' in page


def test_a_time_just_below_a_second_is_written_out(stored):
    slow = [replace(one, run=replace(one.run, cost=make_cost(999.7))) for one in stored]
    board = boards(slow)[0]
    lines = describe_leaderboard(board, board.rank([*SHOWN], n_resamples=20)).splitlines()
    assert re.findall(r"\S+", lines[2])[-2:] == ["1000", "21.2"]


def test_who_was_never_timed_has_no_row(stored):
    ranked = rank_board(boards(without_costs(stored, lambda method, _: method == WEAK))[0], n_resamples=20)
    assert WEAK not in ranked.milliseconds
    assert {row.method for row in cost_rows(ranked)} == {STRONG, PLAIN}


def test_steps_join_those_that_none_beats_in_time_and_accuracy():
    points = {
        "slow good": (30, 0.9),
        "fast": (10, 0.5),
        "slow bad": (40, 0.4),
        "equal time": (10, 0.4),
        "as good": (35, 0.9),
    }
    assert undominated(points) == ["fast", "slow good"]


def test_names_are_moved_apart_as_little_as_possible():
    assert spread_out([0.2, 0.8], 0.1).tolist() == [0.2, 0.8]
    assert spread_out([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])
    assert spread_out([1.0, 0.99, 0.0], 0.1) == pytest.approx([1.0, 0.9, 0.0])
    assert np.diff(spread_out([0.1] * 30, 0.2)) == pytest.approx(1 / 29)
    assert spread_out([], 0.1).size == 0


def test_a_method_keeps_its_colour_at_every_resolution():
    drawn_as = looks([STRONG, WEAK, COARSE, PLAIN])
    assert drawn_as[STRONG].colour == drawn_as[COARSE].colour != drawn_as[WEAK].colour
    assert drawn_as[STRONG].dashes != drawn_as[COARSE].dashes
    assert [look.number for look in drawn_as.values()] == [0, 1, 2, 3]


def test_long_names_keep_their_resolution():
    assert short_name(MethodAt(name="x" * 60, resolution=384)).endswith("x 384")
    names = [short_name(MethodAt(name=f"patchcore:coreset=0.01:neighbourhood={n}", resolution=384)) for n in (1, 3)]
    assert len(set(names)) == 2
    assert all(len(name) <= 28 for name in names)
    assert short_name(PLAIN) == "plain"


def test_the_mean_curve_is_the_mean_at_every_rate(stored):
    two = [one for one in stored if one.method == STRONG and one.run.seed == 0]
    fpr, pro = mean_pro_curve(two, (0.3, 0.05))
    curves = [one.evaluation.overall.curve for one in two]
    at = [float(np.mean([np.interp(rate, curve.fpr, curve.pro) for curve in curves])) for rate in (0.05, 0.3)]
    assert [float(pro[fpr == rate][0]) for rate in (0.05, 0.3)] == pytest.approx(at)


def test_every_line_of_a_figure_carries_its_method(ranked):
    svg = size_figure(ranked, 0.05, looks(ranked.methods), "key")
    assert set(re.findall(r'data-method="(\d+)"', svg)) == {"0", "1", "2"}
    assert "#0102" not in svg
    assert "<b>" not in svg


def test_hits_that_allow_no_fit_draw_no_curve(stored):
    few = [replace(one, evaluation=replace(one.evaluation, defects=())) for one in stored[:1]]
    few = [
        replace(one, evaluation=replace(one.evaluation, detectability=type(one.evaluation.detectability)()))
        for one in few
    ]
    assert "data-method" not in pod_figure({STRONG: few}, looks([STRONG]), "key", "none")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    samples = random_samples(tmp_path_factory.mktemp("samples"))
    pairs = list(random_pairs(samples))
    normal = np.sort(np.concatenate([one.anomaly_map[~sample.mask()] for sample, one in pairs]))
    return evaluate(iter(pairs), n_resamples=0), normal


def test_shares_are_those_of_the_normal_pixels(evaluation):
    measured, normal = evaluation
    shares = NormalShares(measured.tally, measured.score_range[0])
    scores = np.quantile(normal, np.linspace(0.001, 0.999, 500))
    exact = 1 - np.searchsorted(normal, scores) / normal.size
    assert shares.of(scores) == pytest.approx(exact, rel=0.08)
    assert np.all(np.diff(shares.of(scores)) <= 0)


def test_a_score_above_all_normal_ones_has_no_share_and_the_lowest_has_all(evaluation):
    measured, normal = evaluation
    shares = NormalShares(measured.tally, measured.score_range[0])
    low, high = measured.score_range
    assert shares.of(np.array([low - 1, low, normal[-1], high + 1])) == pytest.approx([1, 1, 1 / normal.size, 0])


def test_rarer_scores_are_brighter_up_to_the_end_of_the_scale():
    colours = colour_shares(np.array([[1.0, 0.1, 0.01, RAREST, RAREST / 10, 0.0]])).astype(int).sum(axis=-1)[0]
    assert np.all(np.diff(colours[:4]) > 0)
    assert colours[3] == colours[4] == colours[5]


def test_an_encoded_crop_gives_back_every_pixel():
    random = np.random.default_rng(0)
    panels = [random.integers(0, 256, (7, 5, 3), dtype=np.uint8) for _ in range(3)]
    shown = np.asarray(Image.open(io.BytesIO(encode_crops(panels))).convert("RGB"))
    assert np.array_equal(shown, np.concatenate(panels, axis=1))


def test_few_crops_lie_in_the_page_and_many_beside_it(tmp_path, monkeypatch):
    store = CropStore(tmp_path / "a page?.html")
    name = store.add(b"abc")
    assert store.address(name) == "data:image/webp;base64,YWJj"
    monkeypatch.setattr("tinydefects.report.crops.LARGEST_EMBEDDED_BYTES", 4)
    other = store.add(b"defg")
    assert store.address(name) == f"a%20page%3F_files/{name}"
    assert (tmp_path / "a page?_files" / other).read_bytes() == b"defg"


def test_only_crops_of_earlier_pages_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tinydefects.report.crops.LARGEST_EMBEDDED_BYTES", 0)
    page, kept = tmp_path / "report.html", tmp_path / "report_files" / "notes.txt"
    first, second = CropStore(page), CropStore(page)
    old = first.add(b"old")
    kept.write_text("mine")
    new = second.add(b"new")
    second.remove_old()
    assert {path.name for path in kept.parent.iterdir()} == {new, "notes.txt"}
    assert old != new
    kept.unlink()
    CropStore(page).remove_old()
    assert not kept.parent.exists()


@pytest.fixture(scope="module")
def gallery(stored, tmp_path_factory):
    methods = [STRONG, WEAK, COARSE, PLAIN]
    store = CropStore(tmp_path_factory.mktemp("page") / "a.html")
    made = Gallery(pictured_results(stored, methods), store, best=0)
    text = made.as_json([(method.label, method.name) for method in methods])
    content = json.loads(text)
    rows = [dict(zip(content["fields"], row, strict=True)) for row in content["defects"]]
    return text, content["methods"], rows


def test_every_defect_is_in_the_gallery_smallest_first(gallery, stored):
    _, names, rows = gallery
    assert names == ["strong 64", f"{HOSTILE} 64", "strong 32", "plain"]
    assert len(rows) == sum(len(one.evaluation.defects) for one in stored if one.method == STRONG and one.run.seed == 0)
    assert [row["diameter"] for row in rows] == sorted(row["diameter"] for row in rows)
    assert len({row["key"] for row in rows}) == len(rows)


def test_the_gallery_says_found_where_the_evaluation_does(gallery, stored):
    _, names, rows = gallery
    by_place = {(row["category"], row["sample"], row["row"], row["column"]): row for row in rows}
    for one in stored:
        if one.run.seed == 0:
            for defect, hit in zip(one.evaluation.defects, one.evaluation.detectability.hits, strict=True):
                row = by_place[one.evaluation.category, defect.sample_id, *defect.box_px[:2]]
                looks_of = {number: found for number, found, *_ in row["looks"]}
                assert looks_of[names.index(one.method.label)] is hit


def test_the_pictures_of_a_defect_are_the_photograph_and_the_ranked_maps(gallery, stored):
    _, names, rows = gallery
    one = next(one for one in stored if one.method == WEAK and one.run.seed == 0)
    crop = read_result(one.path).evaluation.crops[0]
    row = next(
        r
        for r in rows
        if (r["category"], r["sample"], r["row"])
        == (one.evaluation.category, crop.defect.sample_id, crop.defect.box_px[0])
    )
    crops = np.asarray(Image.open(io.BytesIO(base64.b64decode(row["crops"].partition(",")[2]))).convert("RGB"))
    height, width = row["height"], row["width"]
    assert crops.shape == (height, width * 5, 3)
    assert np.all(crops[:, :width] == 90)  # the photographs of random samples are plain gray
    place = row["pictured"].index(names.index(WEAK.label)) + 1
    shares = NormalShares(one.evaluation.tally, one.evaluation.score_range[0]).of(crop.anomaly_map)
    whole = colour_shares(shares)
    shown = crops[:, place * width : (place + 1) * width]
    windows = np.lib.stride_tricks.sliding_window_view(whole, shown.shape)
    assert (windows == shown).all(axis=(-1, -2, -3)).any()


def test_a_method_without_a_crop_has_no_map_but_a_verdict(stored, tmp_path):
    methods, by_skill = [STRONG, PLAIN], {("strong", 64): 3.0, ("plain", 0): 0.3}
    folder = write_benchmark(tmp_path / "results", by_skill, categories=("cloth/plain",), n_crops=4)
    found = list(defect_crops(pictured_results(read_benchmark(folder), methods)))
    assert any(len(one.pictured) < 2 for one in found)
    assert all(set(one.verdicts) == {0, 1} for one in found)


def test_names_cannot_leave_their_place(page, gallery):
    assert "option=<b>" not in page
    assert "<i>twill" not in page
    assert "<" not in gallery[0]
    parsed = Tags(page)
    assert HOSTILE in parsed.text
    identifiers = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_the_page_asks_for_nothing_outside(page):
    parsed = Tags(page)
    addresses = [
        value for _, attributes in parsed.tags for name, value in attributes.items() if name in {"src", "href"}
    ]
    assert all(address.startswith(("#", "data:")) for address in addresses)
    assert "url(http" not in page
    assert all(
        name not in {"link", "iframe", "object"} or attributes.get("href") == "data:,"
        for name, attributes in parsed.tags
    )


def test_failures_and_gaps_are_said_with_their_reasons(folder, page, tmp_path):
    assert "Not everything is here" not in page
    copied = tmp_path / "results"
    for path in folder.rglob("*"):
        if path.is_file() and not (TWILL.split("/")[1] in str(path) and "plain" in path.parent.name):
            target = copied / path.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    protocol = EvaluationProtocol(categories=())
    write_failure(
        Job(protocol=protocol, category=TWILL, method="plain", resolution=0, seed=0), "out of <memory>", "", copied
    )
    text = Tags(write_report(copied, tmp_path / "r.html", n_resamples=20).read_text(encoding="utf-8")).text
    assert f"Failed: plain on {TWILL}, seed 0: out of <memory>" in text
    assert f"plain has no result on {TWILL}." in text
    assert "Left out of the ranking" in text


def test_evaluations_beside_a_benchmark_have_a_part_on_the_same_page(stored, tmp_path):
    results = write_benchmark(tmp_path / "results", {("strong", 64): 3.0, ("plain", 0): 0.3}, categories=("cloth/a",))
    other = replace(stored[0].evaluation, category="metal/brushed")
    write_result(Result(evaluation=other, provenance=describe_run({})), results / "mine" / "brushed.json")
    page = write_report(results, tmp_path / "r.html", n_resamples=20).read_text(encoding="utf-8")
    assert page.index('id="leaderboard"') < page.index(">metal/brushed</h2>") < page.index('id="gallery"')
    assert [path.name for path in tmp_path.glob("*.html")] == ["r.html"]


def test_the_page_opens_with_what_the_best_method_finds_and_misses(page, stored):
    opening = page[page.index('<ul class="telling"') : page.index('<dl class="facts">')]
    shown = re.findall(r'<b class="(found|missed)">[^<]*</b> <b>([\d.]+)&nbsp;px', opening)
    best = [one for one in stored if one.method == STRONG and one.run.seed == 0]
    by_verdict = {"found": [], "missed": []}
    for one in best:
        for defect, hit in zip(one.evaluation.defects, one.evaluation.detectability.hits, strict=True):
            by_verdict["found" if hit else "missed"].append(defect.diameter_px)
    assert by_verdict["missed"]
    assert shown[:2] == [
        ("missed", f"{max(by_verdict['missed']):.1f}"),
        ("found", f"{min(by_verdict['found']):.1f}"),
    ]


def test_the_command_sets_methods_side_by_side(folder, monkeypatch, capsys, tmp_path):
    seen = []
    monkeypatch.setattr("tinydefects.report.page.write_report", lambda *given: seen.append(given))
    code, _, _ = run(monkeypatch, capsys, "report", folder, "--out", tmp_path / "a.html")
    assert (code, seen) == (0, [(folder, tmp_path / "a.html")])


def test_the_command_refuses_a_folder_without_results(monkeypatch, capsys, tmp_path):
    code, _, error = run(monkeypatch, capsys, "report", tmp_path, "--out", tmp_path / "a.html")
    assert code == 2
    assert len(error.strip().splitlines()) == 1
