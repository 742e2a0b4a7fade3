"""Files for a paper: tables whose numbers, intervals and marks are the leaderboard's, figures of a column's width."""

import csv
import json
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmark_scene import PROTOCOL
from command_line import run
from random_category import random_pairs, random_samples
from tinydefects.benchmark.board import boards
from tinydefects.benchmark.run_folder import read_benchmark, write_protocol
from tinydefects.data.sample import Sample
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.statistics.leaderboard import BEST, NOT_TOLD
from tinydefects.report.leaderboard import rank_board
from tinydefects.report.paper import in_latex, write_paper
from tinydefects.results.protocol import CostSheet, Job, RunRecord, Spread
from tinydefects.results.published import read_published
from tinydefects.results.result import Result, describe_run, write_result

pytestmark = pytest.mark.slow

PUBLISHED = Path(__file__).resolve().parents[1] / "results/published.json"
ASKED = replace(
    PROTOCOL, categories=("cloth/plain_weave",), options={}, resolutions=(64,), teacher_fingerprint="ab" * 32
)
METHODS = {"strong_one:k=1": 6.0, "equal&good": 5.5, "weak": 0.2}


def cost_sheet(milliseconds):
    spread = Spread(median_ms=milliseconds, low_ms=milliseconds, high_ms=milliseconds, n=10)
    return CostSheet(
        image_size=(40, 60),
        device="cpu",
        threads=1,
        n_warmup=3,
        stages={"decode": spread},
        end_to_end=spread,
        peak_memory_bytes=10**8,
        teacher_bytes=10**7,
        method_bytes=123,
    )


class OutlinedSample(Sample):
    """One whose defects are half found once half of their pixels are: MVTec LOCO says such things."""

    def saturated_defects(self):
        return [(self.mask(), max(1, int(self.mask().sum()) // 2))] if self.label == "defect" else []


def as_parts(samples):
    """Two images each are views of one part, as in Real-IAD."""
    return [replace(sample, group=f"part {number // 2}", is_view=True) for number, sample in enumerate(samples)]


def as_outlined(samples):
    return [OutlinedSample(**asdict(sample)) for sample in samples]


def write_results(folder, asked, methods, known=list):
    """A result of each method on 24 images, all of one job's seed; `known` adds what the dataset says of them."""
    samples = known(random_samples(folder / "images", n_good=12, n_defective=12))
    write_protocol(asked, folder)
    for number, (method, contrast) in enumerate(methods.items()):
        job = Job(protocol=asked, category=asked.categories[0], method=method, resolution=64, seed=0)
        record = RunRecord(
            method=method,
            resolution=64,
            seed=0,
            protocol=asked.fingerprint,
            job=job.fingerprint,
            n_train=7,
            fit_seconds=1.5,
            predict_seconds=0.25,
            cost=cost_sheet(1234.5) if number < 2 else None,
        )
        pairs = random_pairs(samples, seed=number, contrast=contrast)
        evaluation = evaluate(pairs, asked.evaluation.changed(n_resamples=0, contrast=False), category=job.category)
        write_result(Result(evaluation=evaluation, provenance=describe_run({}), run=record), folder / job.path)
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("my results"), ASKED, METHODS)


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    out = tmp_path_factory.mktemp("for the paper")
    write_paper(results, out, published=read_published(PUBLISHED).numbers, n_resamples=200)
    return out


@pytest.fixture(scope="module")
def ranked(results):
    (board,) = boards(read_benchmark(results))
    return rank_board(board, n_resamples=200)


def test_the_markdown_table_says_what_the_leaderboard_says(written, ranked):
    head, _, *rows = (written / "board_cloth_64.md").read_text().splitlines()[:5]
    assert head.split("|")[1:-1][0].strip() == "method"
    assert [row.split("|")[1].strip().replace("\\", "") for row in rows] == [one.name for one in ranked.methods]
    verdicts = []
    for metric, column in (("aupro_Q1@0.05", 2), ("aupro_Q4@0.05", 5), ("rho@0.05", 6), ("image_auroc", 7)):
        for line in ranked.leaderboard.of(metric):
            place = [one.name for one in ranked.methods].index(line.method)
            cell = rows[place].split("|")[column].strip()
            verdicts.append(line.verdict)
            value = f"**{line.value:.3f}**" if line.verdict == BEST else f"{line.value:.3f}"
            mark = " =" if line.verdict == NOT_TOLD else ""
            assert cell == f"{value}{mark} ({line.interval.low:.3f} – {line.interval.high:.3f})"
    assert {BEST, NOT_TOLD, "lower"} <= set(verdicts)  # all three marks were looked at


def test_the_latex_table_holds_the_same_and_every_row_has_all_cells(written, ranked):
    text = (written / "board_cloth_64.tex").read_text()
    assert "\\usepackage{booktabs}" in text
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    n_columns = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])
    n_signs = [len(re.findall(r"(?<!\\)&", line)) for line in lines]
    assert n_signs == [n_columns - 4, *[n_columns - 1] * (1 + 2 * len(METHODS))]  # the first heads four at once
    assert "1234 \\\\" in text
    assert len(lines) == 2 + 2 * len(METHODS)
    assert text.count("{") == text.count("}")
    assert r"strong\_one:k=1" in text
    assert r"equal\&good" in text
    best = next(one for one in ranked.leaderboard.of("aupro_Q1@0.05") if one.verdict == BEST)
    assert f"\\textbf{{{best.value:.3f}}}" in text
    assert f"\\scriptsize {best.interval.low:.3f} -- {best.interval.high:.3f}" in text
    assert any("$^{=}$" in line for line in lines)


def test_the_csv_holds_every_metric_with_its_interval_and_verdict(written, ranked):
    rows = list(csv.DictReader((written / "boards.csv").read_text().splitlines()))
    assert len(rows) == len(ranked.leaderboard.rows)
    for row, known in zip(rows, ranked.leaderboard.rows, strict=True):
        assert (row["method"], row["metric"], row["verdict"]) == (known.method, known.metric, known.verdict)
        assert float(row["value"]) == pytest.approx(known.value, rel=1e-5)
        assert float(row["interval_low"]) == pytest.approx(known.interval.low, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("known", "heads"),
    [
        (as_parts, {"part_auroc": "part AUROC"}),
        (as_outlined, {"spro@0.05": "sPRO@5 %"}),
        (
            lambda samples: as_outlined(as_parts(samples)),
            {"part_auroc": "part AUROC", "spro@0.05": "sPRO@5 %"},
        ),
        (list, {}),
    ],
)
def test_what_only_some_datasets_have_stands_in_every_table_of_theirs(tmp_path, known, heads):
    """Parts of several views, and defects with saturations: where a board has them, and nowhere else."""
    folder = write_results(tmp_path / "results", ASKED, METHODS, known)
    write_paper(folder, tmp_path / "out", n_resamples=100)
    (board,) = boards(read_benchmark(folder))
    table = board.rank([], n_resamples=100)
    assert {*board.own_metrics} == {*heads}
    head, _, *rows = (tmp_path / "out/board_cloth_64.md").read_text().splitlines()
    assert [one.strip() for one in head.split("|")[7:-2]] == ["image AUROC", *heads.values()]
    latex = (tmp_path / "out/board_cloth_64.tex").read_text()
    *_, last = next(line for line in latex.splitlines() if line.startswith("method &")).split(" & image AUROC")
    assert last == "".join(f" & {in_latex(one)}" for one in heads.values()) + r" & ms \\"
    in_csv = {row["metric"]: row for row in csv.DictReader((tmp_path / "out/boards.csv").read_text().splitlines())}
    words = (tmp_path / "out/methods.md").read_text()
    for place, (metric, title) in enumerate(heads.items(), start=8):
        best = next(line for line in table.of(metric) if line.verdict == BEST)
        row = next(row for row in rows if row.split("|")[1].strip().replace("\\", "") == best.method)
        assert row.split("|")[place].startswith(f" **{best.value:.3f}**")
        assert f"\\textbf{{{best.value:.3f}}}" in latex
        assert metric in in_csv
        assert f"{title} is" in words
        assert f"{title} is" in rows[-1]
    for absent in {"part AUROC", "sPRO"} - {title.partition("@")[0] for title in heads.values()}:
        assert absent not in latex + words + "".join(rows)


def test_costs_have_a_table_of_their_own(written):
    head, _, first, *_ = (written / "costs_cloth_64.md").read_text().splitlines()
    cells = [cell.strip() for cell in head.split("|")[1:-1]]
    assert cells[:3] == ["method", "decode ms", "rest ms"]
    assert cells[-3:] == ["peak MB", "teacher MB", "own MB"]
    assert [cell.strip() for cell in first.split("|")[-4:-1]] == ["100", "10", "0.000123"]
    body = (written / "costs_cloth_64.tex").read_text()
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == 1 + 2  # one was not timed
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(cells) - 1}
    assert "costs_cloth_64.tex" in (written / "example.tex").read_text()


def test_figures_are_a_column_wide_pdf_and_svg_with_letters_as_letters(written, results, tmp_path):
    svgs, pdfs = (sorted(written.glob(f"figure_cloth_64_*.{form}")) for form in ("svg", "pdf"))
    assert [path.stem for path in svgs] == [path.stem for path in pdfs]
    assert len(svgs) == 2
    for path in svgs:
        assert float(re.search(r'<svg[^>]* width="([\d.]+)pt"', path.read_text())[1]) == pytest.approx(
            3.35 * 72, abs=0.1
        )
        assert "strong_one" in path.read_text()
    for path in pdfs:
        content = path.read_bytes()
        width = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", content)[1])
        assert width == pytest.approx(3.35 * 72, abs=0.1)
        assert b"/Type3" not in content
    write_paper(results, tmp_path, n_resamples=200)
    for path in (*svgs, *pdfs):
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert not list(tmp_path.glob("published*"))


def test_the_protocol_in_words_says_what_was_held_equal(written):
    text = (written / "methods.md").read_text()
    for part in (
        "3 methods were run by tinydefects",
        ASKED.fingerprint,
        "1 category holds 24 test images",
        "builtin (fingerprint abababababababab), whose input has a long side of 64 pixels",
        "seeds (0)",
        "200 draws",
        "cpu, 1 thread",
    ):
        assert part in text
    assert "\\cite{tinydefects}" in (written / "methods.tex").read_text()
    keys = re.findall(r"^@\w+\{(\w+),", (written / "references.bib").read_text(), re.MULTILINE)
    assert keys == ["tinydefects"]  # the paper of FBFT is cited where it was run


def test_quoted_numbers_stand_in_a_table_of_their_own(written):
    quoted = (written / "published.md").read_text()
    assert "not measured here" in quoted
    assert quoted.count("\n| ") == 1 + len(read_published(PUBLISHED).numbers)
    for path in written.glob("board*"):
        assert "EfficientAD" not in path.read_text()
    numbers = read_published(PUBLISHED).numbers
    notes = (written / "published_notes.tex").read_text()
    for dataset in ("mvtec_ad", "visa"):
        text = (written / f"published_{dataset}.tex").read_text()
        rows = [line for line in text.splitlines() if len(re.findall(r"(?<!\\)&", line)) == 4]
        assert len(rows) == 1 + sum(one.dataset == dataset for one in numbers)
        assert all(f"({row.split('&')[-1].strip(' ')[:-3].strip()})~" in notes for row in rows[1:])


def test_the_example_names_every_table_and_figure(written):
    text = (written / "example.tex").read_text()
    named = set(re.findall(r"\\(?:input|fitted|shown)\{([^}#]*)\}", text))
    assert named == {path.name for path in written.iterdir() if path.suffix in {".tex", ".pdf"}} - {"example.tex"}


def test_signs_that_latex_takes_for_its_own_are_written_out():
    assert in_latex("50 % of a_b & {c} #1 ~ ^ \\") == (
        r"50~\% of a\_b \& \{c\} \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert in_latex("5\N{NO-BREAK SPACE}%") == r"5~\%"
    assert in_latex("a--b---c\nd [e]*") == "a-{}-b-{}-{}-c d {[}e{]}{*}"
    assert in_latex("u\N{COMBINING DIAERESIS} ± 中") == r"ü $\pm$ {[}U+4E2D{]}"


LETTERS = " ".join(map(chr, range(33, 0x180)))
ODD = ("fbft_v0.1", "[50 %]*_#1&~^\\{}$a$--b", "_ρ±–é<x>:k=1")
TEX = ("pdflatex", "bibtex")


@pytest.mark.skipif(not all(map(shutil.which, TEX)), reason="needs pdflatex and bibtex")
@pytest.mark.parametrize("columns", ["[twocolumn]", ""])
def test_latex_takes_the_example_whatever_the_names(tmp_path, columns):
    """In one and in two columns: no error, nothing undefined, no box that is too wide."""
    asked = replace(ASKED, categories=("folder/50 %_a&b$ é中",))
    skills = dict(zip(ODD, (6.0, 5.0, 0.2), strict=True))
    folder = write_results(
        tmp_path / "odd results", asked, skills, lambda samples: as_outlined(as_parts(samples))
    )  # with every column there is
    (first, *others) = read_published(PUBLISHED).numbers
    strange = first.model_copy(update={"rule": LETTERS, "method": "[x] *"})
    out = tmp_path / "out"
    write_paper(folder, out, published=[strange, *others], n_resamples=100)
    example = (out / "example.tex").read_text()
    assert "[twocolumn]" in example
    (out / "example.tex").write_text(example.replace("[twocolumn]", columns))
    latex = ("pdflatex", "-interaction=nonstopmode", "-halt-on-error", "example")
    for command in (latex, ("bibtex", "example"), latex, latex):
        done = subprocess.run(command, cwd=out, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-2000:]
    assert (out / "references.bib").read_text().count("\n@") == 1
    log = (out / "example.log").read_text(errors="replace")
    assert not re.findall(r"^.*(?:Overfull|undefined|too large|Missing character).*$", log, re.MULTILINE)
    assert "warning" not in (out / "example.blg").read_text().replace("warning$", "").lower()
    assert "part AUROC & sPRO@5" in (out / next(out.glob("board_*.tex"))).read_text()
    for name in ODD:
        assert any(in_latex(name) in path.read_text() for path in out.glob("board_*.tex"))


def test_a_fault_in_the_name_of_a_method_does_not_reach_the_figures(tmp_path):
    """Two dollars would be a formula to the library that draws, and this one has no end."""
    asked = replace(ASKED, categories=("folder/a",))
    folder = write_results(tmp_path, asked, {"a": 6.0, "maps:$x_{$": 5.0})
    write_paper(folder, tmp_path / "out", n_resamples=100)
    assert "maps:$x_{$" in (tmp_path / "out/figure_folder_64_sizes.svg").read_text()


def test_the_command_lists_what_it_wrote_and_refuses_what_is_no_benchmark(results, tmp_path, monkeypatch, capsys):
    code, out, err = run(
        monkeypatch, capsys, "paper", results, "--out", tmp_path / "paper", "--resamples", 100, "--json"
    )
    assert code == 0, err
    assert {Path(path) for path in json.loads(out)["written"]} == set((tmp_path / "paper").iterdir())
    (tmp_path / "empty").mkdir()
    for given, told in (
        (tmp_path / "empty", "no benchmark was run here"),
        (tmp_path / "nowhere", "no benchmark was run"),
    ):
        code, _, err = run(monkeypatch, capsys, "paper", given, "--out", tmp_path / "other")
        assert (code, told in err) == (2, True)
        assert not (tmp_path / "other").exists()
    code, _, err = run(
        monkeypatch, capsys, "paper", results, "--out", tmp_path / "other", "--published", tmp_path / "no.json"
    )
    assert code == 2
    assert "no.json: not a readable file of published numbers" in err
