"""Each method at the common size and at the one it was published with: never mixed up, shown side by side."""

import csv
import io
import re
import shutil
from dataclasses import replace

import pytest

from benchmark_scene import CATEGORY
from report_factory import write_benchmark
from tinydefects import run_benchmark
from tinydefects.benchmark.board import MethodAt, beside, boards
from tinydefects.benchmark.merge import merge
from tinydefects.benchmark.run_folder import joined, read_benchmark, read_protocol, write_protocol
from tinydefects.benchmark.run_settings import BenchmarkSettings
from tinydefects.benchmark.summary import read_summary, summarise, write_summary
from tinydefects.benchmark.text import SHOWN, describe_leaderboards, describe_plan
from tinydefects.benchmark.verify import Request, verify
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.methods.catalog import METHODS, own_size
from tinydefects.progress import Progress
from tinydefects.report.leaderboard import csv_text, rank_board
from tinydefects.report.page import write_report
from tinydefects.report.paper import latex_table, markdown_table, write_paper
from tinydefects.results.protocol import EvaluationProtocol, Sizes, list_jobs

PROTOCOL = EvaluationProtocol(
    categories=("visa/pcb1",),
    resolutions=(384, 256),
    own_sizes={"fbft": 384, "patchcore": 224},
    seeds=(0, 1),
    teacher="builtin",
)
COMMON, OWN, BOTH = Sizes(), Sizes(is_common=False, is_own=True), Sizes(is_own=True)
SKILLS = {("strong", 64): 3.0, ("weak", 64): 0.5, ("strong", 32): 1.5, ("sizeless", 64): 1.0, ("plain", 0): 0.3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`strong` was published at 32 px, `weak` at the common size, `sizeless` at none."""
    made = write_benchmark(tmp_path_factory.mktemp("own") / "results", SKILLS, seeds=(0,), n_crops=0)
    own = {"strong": 32, "weak": 64}
    write_protocol(replace(read_protocol(made), resolutions=(64,), own_sizes=own), made)
    return made


@pytest.fixture(scope="module")
def found(folder):
    return [(board, board.rank([*SHOWN], n_resamples=20)) for board in boards(read_benchmark(folder))]


def test_a_job_at_a_methods_own_size_comes_once_and_no_other_method_runs_there():
    jobs = list_jobs(PROTOCOL, ["fbft", "patchcore", "gaussian", "none"], teacherless={"none"})
    of_first_seed = [(job.method, job.resolution, job.sizes) for job in jobs if job.seed == 0]
    assert sorted(of_first_seed, key=str) == sorted(
        [
            ("fbft", 384, BOTH),
            ("fbft", 256, COMMON),
            ("patchcore", 384, COMMON),
            ("patchcore", 256, COMMON),
            ("patchcore", 224, OWN),
            ("gaussian", 384, COMMON),
            ("gaussian", 256, COMMON),
            ("none", 0, COMMON),
        ],
        key=str,
    )
    assert len({job.path for job in jobs}) == len(jobs) == 16


def test_own_sizes_leave_every_fingerprint_as_it_is():
    without = replace(PROTOCOL, own_sizes={})
    assert without.fingerprint == PROTOCOL.fingerprint
    with_them = {job.name: job.fingerprint for job in list_jobs(PROTOCOL, ["fbft", "patchcore"])}
    for job in list_jobs(without, ["fbft", "patchcore"]):
        assert with_them[job.name] == job.fingerprint


def test_own_sizes_alone_are_a_benchmark_too():
    alone = replace(PROTOCOL, resolutions=(), seeds=(0,))
    jobs = list_jobs(alone, ["fbft", "patchcore", "none"], teacherless={"none"})
    assert {(job.method, job.resolution) for job in jobs} == {("fbft", 384), ("patchcore", 224), ("none", 0)}
    assert [job.resolution for job in list_jobs(replace(alone, own_sizes={}), ["none"], teacherless={"none"})] == [0]


def test_own_sizes_of_a_folder_join_and_another_one_of_the_same_method_is_refused(tmp_path):
    write_protocol(PROTOCOL, tmp_path)
    assert read_protocol(tmp_path) == PROTOCOL
    more = joined(replace(PROTOCOL, own_sizes={"rad": 448}), tmp_path)
    assert more.own_sizes == {"fbft": 384, "patchcore": 224, "rad": 448}
    assert joined(replace(PROTOCOL, own_sizes={}), tmp_path).own_sizes == PROTOCOL.own_sizes
    with pytest.raises(ResultError, match=r"own size of patchcore in px: 224 there, 256 here"):
        joined(replace(PROTOCOL, own_sizes={"patchcore": 256}), tmp_path)


@pytest.mark.parametrize(
    ("given", "parsed", "common"),
    [("384,own", (384, "own"), (384,)), ("own", ("own",), ()), (["own", 64, 96], (64, 96, "own"), (64, 96))],
)
def test_own_is_a_word_among_resolutions(given, parsed, common):
    settings = BenchmarkSettings(methods="fbft", categories="a/b", resolutions=given)
    assert (settings.resolutions, settings.common_resolutions) == (parsed, common)


def test_another_word_is_refused_with_those_that_are_known():
    with pytest.raises(TinyDefectsError, match=r"^--resolutions 384,best: .* between commas, 'own' among them$"):
        BenchmarkSettings(methods="fbft", categories="a/b", resolutions="384,best,own")


def test_every_method_on_the_teacher_says_the_size_it_was_published_with():
    sizes = {name: own_size(name) for name, kind in METHODS.items() if kind.uses_teacher}
    assert sizes == {
        **dict.fromkeys([name for name in sizes if name.startswith("fbft")], 1036),
        **{"patchcore": 224, "patchcore_hnsw": 224, "anomalydino": 448, "mh_patchcore": 224, "procon": 392},
        **{"rad": 448, "gaussian": 224, "subspace": 672, "noise_discriminator": 256},
    }
    assert all(kind.published_input.source for kind in METHODS.values() if kind.uses_teacher)
    assert (own_size("local_contrast"), own_size("maps:there"), own_size("anomalib:Padim")) == (0, 0, 0)
    assert (own_size("patchcore:tile=128"), own_size("patchcore:coreset=0.01")) == (0, 224)


def test_the_dry_look_tells_own_sizes_apart_and_says_who_has_none(tmp_path):
    planned = run_benchmark(
        dry_run=True,
        methods="gaussian,gaussian:tile=64,local_contrast",
        categories=CATEGORY,
        teacher="builtin",
        resolutions=(64, "own"),
        option=("n_train=3", "n_good=3", "n_defect=4", "size=64"),
        root=tmp_path / "data",
        out=tmp_path / "out",
    )
    assert planned.selection.protocol.own_sizes == {"gaussian": 224}
    rows = [line.split()[1:4] for line in describe_plan(planned.plan).splitlines()[1:]]
    assert ["own", "224", "gaussian"] in rows
    assert [row[:2] for row in rows if row[0] == "64"] == [["64", "gaussian"], ["64", "gaussian:tile=64"]]
    assert len(rows) == 4
    assert "no published size is known of gaussian:tile=64: not among the results at own sizes" in planned.remarks


def test_a_board_at_a_common_size_holds_no_result_at_an_own_one(found):
    assert [board.name for board, _ in found] == ["cloth at 64 px", "cloth, each method at its own size"]
    common, own = (board for board, _ in found)
    plain = MethodAt(name="plain", resolution=0)
    at_64 = {MethodAt(name=name, resolution=64) for name in ("strong", "weak", "sizeless")}
    assert set(common.methods) == {*at_64, plain}
    assert set(own.methods) == {MethodAt(name="strong", resolution=32), MethodAt(name="weak", resolution=64), plain}
    assert (common.without_own, own.without_own) == ((), ("sizeless",))
    assert (common.of_no_size, own.of_no_size) == (("plain",), ())


def test_results_without_their_protocol_stand_by_their_sizes(folder, tmp_path):
    for path in folder.rglob("seed_0*"):
        copied = tmp_path / path.relative_to(folder)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(path.read_bytes())
    assert [board.name for board in boards(read_benchmark(tmp_path))] == ["cloth at 64 px", "cloth at 32 px"]


def test_a_common_size_is_one_also_where_it_is_some_methods_own(folder, tmp_path):
    stored = read_benchmark(folder)
    both = [replace(one, sizes=BOTH if one.sizes.is_own else COMMON) for one in stored]
    names = [board.name for board in boards(both)]
    assert names == ["cloth at 64 px", "cloth at 32 px", "cloth, each method at its own size"]


def test_the_text_shows_both_sizes_in_one_row(found):
    _, (own, at_own) = found
    assert beside(found, own) is None
    rows = {line.split()[0]: line for line in describe_leaderboards(found).split("\n\n")[0].splitlines()[2:]}
    expected = {row.method: row.value for row in at_own.of("aupro_Q1@0.05")}
    numbers = re.findall(r"\d\.\d{4}|–| 32 ", rows["strong"])
    assert float(numbers[-2]) == pytest.approx(expected["strong"], abs=5e-5)
    assert numbers[-3] == " 32 "
    assert re.findall(r"–", rows["sizeless"]) == ["–"] * 3
    second = describe_leaderboards(found).split("\n\n")[1]
    assert re.search(r"^strong 32 ", second, flags=re.MULTILINE)
    assert "no result at a published size: sizeless" in second
    assert "not at 64 px, as the teacher's input is not theirs: plain" in describe_leaderboards(found)
    assert set(rows) == {"strong", "weak", "sizeless", "plain", "not"}


def test_means_over_other_categories_are_not_shown_beside(folder):
    lacking = [
        one
        for one in read_benchmark(folder)
        if (one.method.label, one.run.resolution) != ("strong 32", 32) or one.evaluation.category.endswith("plain")
    ]
    ranked = [(board, board.rank([*SHOWN], n_resamples=20)) for board in boards(lacking)]
    assert len(ranked) == 2
    assert beside(ranked, ranked[0][0]) is None
    assert "own px" not in describe_leaderboards(ranked)


@pytest.mark.slow
def test_the_page_and_its_table_show_both(folder, tmp_path):
    page = write_report(folder, tmp_path / "r.html", n_resamples=20).read_text(encoding="utf-8")
    first, second, *_ = re.findall(r'<table class="sortable ranks">.*?</table>', page, flags=re.DOTALL)
    assert ("own px" in first, "own px" in second) == (True, False)
    row = re.search(r"<tr data-row[^>]*><th[^>]*>(?:<i[^>]*></i>)?strong 64.*?</tr>", first, flags=re.DOTALL)[0]
    own = next(one for one in boards(read_benchmark(folder)) if one.at_own_sizes)
    value = rank_board(own, n_resamples=20).cells("aupro_Q1@0.05")[MethodAt(name="strong", resolution=32)].value
    assert 'data-value="32">32</td>' in row
    assert f'data-value="{value}"' in row
    assert "at 64 px, and each at its own size" in page
    assert "No result at a published size: sizeless." in page


@pytest.mark.slow
def test_tables_for_a_paper_name_each_size(folder, tmp_path):
    written = {path.name for path in write_paper(folder, tmp_path, n_resamples=20)}
    assert {"board_cloth_64.md", "board_cloth_own.md", "board_cloth_own.tex"} <= written
    own = (tmp_path / "board_cloth_own.md").read_text()
    assert ("| strong 32 |" in own, "| strong |" in own) == (True, False)
    assert "No result at a published size: sizeless." in own
    for kind in ("smallest", "sizes"):
        at_own, common = ((tmp_path / f"figure_cloth_{size}_{kind}.svg").read_text() for size in ("own", "64"))
        assert re.findall(r">(\w+, \d+ px)<", at_own) == ["strong, 32 px", "weak, 64 px"]
        assert (">plain<" in at_own, ">strong<" in common, " px<" in common) == (True, True, False)
    paragraph = (tmp_path / "methods.md").read_text()
    assert "a long side of 64 pixels, and on boards of their own as published (strong 32, weak 64 pixels)." in paragraph
    common, at_own = (rank_board(board, n_resamples=20) for board in boards(read_benchmark(folder)))
    assert "strong 32" in latex_table(at_own)
    assert "strong 32" not in latex_table(common) + markdown_table(common)
    rows = list(csv.DictReader(io.StringIO(csv_text([common, at_own]))))
    sizes = {(row["method"], row["resolution_px"], row["size"]) for row in rows}
    assert {one for one in sizes if one[0] == "strong"} == {("strong", "64", "common"), ("strong", "32", "own")}


def test_a_summary_keeps_both_boards_apart(folder, tmp_path):
    summary = summarise(folder, n_resamples=20)
    again = read_summary(write_summary(summary, tmp_path / "summary.json"))
    assert [(one.resolution, one.at_own_sizes) for one in again.boards] == [(64, False), (0, True)]
    assert again.protocol.own_sizes == {"strong": 32, "weak": 64}
    own = again.board("cloth", 0, at_own_sizes=True)
    assert {row.method for row in own.rows} == {"strong", "weak", "plain"}
    with pytest.raises(ResultError, match=r"no leaderboard of cloth at 0 px; the summary holds cloth 64, cloth own$"):
        again.board("cloth", 0)


def test_a_size_that_the_protocol_does_not_name_is_found(folder, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "moved")
    write_protocol(replace(read_protocol(moved), own_sizes={}), moved)  # which no fingerprint shows
    wrong = verify(moved, Request(n_sampled=0), Progress(quiet=True)).wrong
    at_32 = [line for line in wrong if "is at 32 px, which protocol.json names neither for all methods nor for" in line]
    assert len(at_32) == 2
    assert all("/32/strong/" in line and line.endswith("strong") for line in at_32)


def test_methods_without_a_category_in_common_leave_the_first_on_the_board(folder):
    by_label = {one.method.label: one for one in read_benchmark(folder)}
    apart = [
        replace(one, sizes=COMMON, evaluation=replace(one.evaluation, category=f"cloth/{label[0]}"))
        for label, one in by_label.items()
        if label in {"strong 64", "weak 64", "plain"}
    ]
    (board,) = boards(apart)
    assert [one.name for one in board.methods] == ["plain"]
    assert {one.name for one in board.unranked} == {"strong", "weak"}
    text = describe_leaderboards([(board, board.rank([*SHOWN], n_resamples=20))])
    assert "not ranked, too few categories have a result: weak" in text
    assert rank_board(board, n_resamples=20).methods == board.methods


def test_verified_and_merged_results_keep_their_own_sizes(folder, tmp_path):
    checked = verify(folder, Request(n_sampled=0), Progress(quiet=True))
    assert [one for one in checked.wrong if "job" in one or "place" in one] == []
    assert checked.checked["job and protocol that the result answers"] == 10
    other = write_benchmark(tmp_path / "other", {("strong", 64): 1.0}, categories=("metal/plain",), seeds=(0,))
    write_protocol(replace(read_protocol(other), resolutions=(64,), own_sizes={"strong": 64}), other)
    refused = merge([folder, other], tmp_path / "merged", Progress(quiet=True)).refused
    assert any("own size of strong in px: 32 there, 64 here" in line for line in refused)
