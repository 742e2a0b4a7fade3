"""What a paper needs of a benchmark, as files: tables, figures, the protocol in words, and what to cite.

Tables are LaTeX (booktabs), Markdown and CSV. Bold is the best of a column; an equals sign marks what cannot be told
from it on these images (step-down maximum over all pairs); below a number stands its 95 % interval.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinydefects.benchmark.board import NOT_TOLD_MARK, MethodAt, boards, headline_limit, three_digits
from tinydefects.benchmark.run_folder import StoredResult, read_benchmark, read_protocol
from tinydefects.data.pixels import require_writable, write_whole
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.groups import QUARTILES
from tinydefects.metrics.statistics.comparison import N_RESAMPLES
from tinydefects.report.latex import (
    EXAMPLE,
    QUOTED,
    example_document,
    in_latex,
    published_latex,
    published_notes_latex,
    references,
)
from tinydefects.report.leaderboard import Cell, RankedBoard, cost_texts, csv_text, rank_board
from tinydefects.report.paper_figures import write_figures
from tinydefects.report.words import CURVE_RULES, format_rate
from tinydefects.results.protocol import EvaluationProtocol
from tinydefects.results.published import HEADS, PublishedNumber, published_rows

ALWAYS_WRITTEN = ("references.bib", "methods.tex", "methods.md", "boards.csv", "example.tex")
DASH = "–"
BY = "run by tinydefects"  # where the citation goes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """One column of a table: its heading in plain text, and the cells by method."""

    head: str
    cells: dict[MethodAt, Cell]


def write_paper(
    results: Path, out: Path, *, published: Sequence[PublishedNumber] = (), n_resamples: int = N_RESAMPLES
) -> list[Path]:
    """Write all files into a folder; those of an earlier call are replaced, others left alone.

    Args:
        results: folder of a benchmark.
        out: the folder to write.
        published: numbers quoted from papers, for a table of their own; none writes none.
        n_resamples: draws of the images behind intervals and verdicts.

    Raises:
        ResultError: no results of a benchmark, or of different protocols.
        TinyDefectsError: the folder cannot be written, or holds files of these names without the example of an
            earlier call.
    """
    if results.is_file():
        raise ResultError(f"{results}: is a file; give the folder that 'tinydefects benchmark --out' has written")
    protocol = read_protocol(results)
    if protocol is None:
        raise ResultError(
            f"{results}: no benchmark was run here; make one with 'tinydefects benchmark --out {results}'"
        )
    stored = read_benchmark(results)
    _require_own_folder(out)
    ranked = [rank_board(board, n_resamples=n_resamples) for board in boards(stored)]
    texts, captions, figures = {"boards.csv": csv_text(ranked)}, dict[str, str](), list[Path]()
    for one in ranked:
        size = "own" if one.board.at_own_sizes else one.board.resolution
        name = f"board_{one.board.dataset}" + (f"_{size}" if size else "")
        texts[f"{name}.tex"], texts[f"{name}.md"] = latex_table(one), markdown_table(one)
        captions[f"{name}.tex"] = " ".join(_notes(one))
        if one.costs:
            costs = name.replace("board", "costs", 1)
            texts[f"{costs}.tex"], texts[f"{costs}.md"] = cost_tables(one)
            captions[f"{costs}.tex"] = _cost_note(one)
        figures += write_figures(one, out, name.replace("board", "figure", 1))
    paragraph = methods_paragraph(protocol, ranked, stored, n_resamples)
    texts["methods.md"] = f"{paragraph}\n"
    texts["references.bib"], keys = references({one.run.method for one in stored})
    texts["methods.tex"] = in_latex(paragraph).replace(BY, f"{BY}~\\cite{{{keys}}}", 1) + "\n"
    if published:
        texts["published.md"], texts["published_notes.tex"] = (
            _published_markdown(published),
            published_notes_latex(published),
        )
        for dataset, table in published_latex(published).items():
            texts[f"published_{dataset}.tex"] = table
            captions[f"published_{dataset}.tex"] = f"{dataset}. {QUOTED}"
    example = example_document(captions, figures, has_published=bool(published))
    texts = {"example.tex": example, **texts}  # first, as the next call knows its folder by it
    for name, text in texts.items():
        write_whole(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return [*(out / name for name in texts), *figures]


def _require_own_folder(out: Path) -> None:
    """Refuse to replace an author's own files, before anything slow begins: an earlier call has left its example."""
    require_writable(out)
    example = out / "example.tex"
    is_ours = example.is_file() and example.read_bytes().startswith(EXAMPLE.splitlines()[0].encode())
    theirs = [out / name for name in ALWAYS_WRITTEN if (out / name).exists()]
    if theirs and not is_ours:
        raise TinyDefectsError(
            f"{theirs[0]}: is there already, and no {example.name} of an earlier call beside it says that 'paper' "
            "wrote it; move it, or choose another --out"
        )


def _columns(ranked: RankedBoard) -> list[_Column]:
    limit = headline_limit(ranked.limits)
    rate = format_rate(limit)
    quartiles = [
        _Column(head=f"AUPRO@{rate} {quartile}", cells=ranked.cells(f"aupro_{quartile}@{limit:g}"))
        for quartile in QUARTILES
    ]
    rho = _Column(head=f"ρ@{rate}", cells=ranked.cells(f"rho@{limit:g}"))
    others = {"image_auroc": "image AUROC", **ranked.board.own_metrics}
    return [*quartiles, rho, *(_Column(head=head, cells=ranked.cells(metric)) for metric, head in others.items())]


def latex_table(ranked: RankedBoard) -> str:
    """A `tabular` for booktabs, with what is to be said below it as a comment; two lines a method."""
    columns, times = _columns(ranked), ranked.milliseconds
    rate, n_sizes = in_latex(format_rate(headline_limit(ranked.limits))), len(QUARTILES)
    others = [in_latex(column.head) for column in columns[n_sizes:]] + (["ms"] if times else [])
    lines = [
        r"% \usepackage{booktabs}",
        *(f"% {' '.join(line.split())}" for line in _notes(ranked)),
        f"\\begin{{tabular}}{{l{'r' * (n_sizes + len(others))}}}",
        r"\toprule",
        f" & \\multicolumn{{{n_sizes}}}{{c}}{{AUPRO@{rate}}}{' & ' * len(others)} \\\\",
        f"\\cmidrule(lr){{2-{1 + n_sizes}}}",
        " & ".join(["method", *QUARTILES, *others]) + r" \\",
        r"\midrule",
    ]
    for method in ranked.methods:
        cells = [column.cells[method] for column in columns]
        time = [three_digits(times.get(method, math.nan))] if times else []
        lines.append(
            " & ".join([in_latex(_named(ranked, method)), *map(_latex_value, cells), *map(in_latex, time)]) + r" \\"
        )
        below = [f"\\scriptsize {in_latex(_interval(cell))}" if _interval(cell) else "" for cell in cells]
        lines.append(" & ".join(["", *below, *([""] if times else [])]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def markdown_table(ranked: RankedBoard) -> str:
    """The same as Markdown, intervals in brackets, with the notes below."""
    columns = _columns(ranked)
    times = ranked.milliseconds
    heads = ["method", *(column.head for column in columns), *(["ms"] if times else [])]
    rows = [heads, ["---", *(["---:"] * (len(heads) - 1))]]
    for method in ranked.methods:
        cells = [_markdown_value(column.cells[method]) for column in columns]
        rows.append(
            [
                _in_markdown(_named(ranked, method)),
                *cells,
                *([three_digits(times.get(method, math.nan))] if times else []),
            ]
        )
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{table}\n\n{' '.join(_notes(ranked))}\n"


def _named(ranked: RankedBoard, method: MethodAt) -> str:
    """With its size in pixels where each has its own."""
    return method.label if ranked.board.at_own_sizes else method.name


def cost_tables(ranked: RankedBoard) -> tuple[str, str]:
    """Times by stage, memory and size of the model, as LaTeX and Markdown, the fastest first."""
    heads, rows = cost_texts(ranked)
    told = _cost_note(ranked)
    latex = [" & ".join(map(in_latex, row)) + r" \\" for row in (heads, *rows)]
    begin = [r"% \usepackage{booktabs}", f"% {told}", f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
    lines = [*begin, latex[0], r"\midrule", *latex[1:], r"\bottomrule", r"\end{tabular}", ""]
    marked = [heads, ["---", *(["---:"] * (len(heads) - 1))], *([_in_markdown(row[0]), *row[1:]] for row in rows)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in marked)
    return "\n".join(lines), f"{table}\n\n{told}\n"


def _cost_note(ranked: RankedBoard) -> str:
    return (
        f"{ranked.board.name}: ms an image at batch size 1 by stage, means over categories of measured medians; rest "
        "is what the stages leave of the whole; peak memory is that of prediction; own is what a method keeps beside "
        "the teacher."
    )


def _notes(ranked: RankedBoard) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    categories, left_out = ranked.leaderboard.categories, ranked.leaderboard.left_out
    n_seeds = sorted({row.n_seeds for row in ranked.leaderboard.rows})
    seeds = f"{n_seeds[0]}" if len(n_seeds) == 1 else f"{n_seeds[0]} to {n_seeds[-1]}"
    notes = [
        f"{ranked.board.name}: means over {_counted(len(categories), 'category', 'categories')} "
        f"({', '.join(categories)}) of means over seeds ({seeds} a method).",
        "Q1 holds the smallest quarter of the defects of a category, Q2 and Q3 the smaller half and three quarters, "
        "Q4 all.",
        f"Bold: the best of a column; {NOT_TOLD_MARK}: cannot be told from it (all pairs of methods tested together, "
        "5 % a column); no mark: below it.",
        "In brackets or below: 95 % intervals over images and seeds; categories are fixed.",
    ]
    notes += ranked.own_words
    if ranked.milliseconds:
        notes.append("ms: one image from file to map, the mean over categories of measured medians.")
    if ranked.board.of_no_size:
        names = ", ".join(ranked.board.of_no_size)
        notes.append(f"Not at {ranked.board.resolution} px, as the teacher's input is not theirs: {names}.")
    if ranked.board.without_own:
        notes.append(f"No result at a published size: {', '.join(ranked.board.without_own)}.")
    if left_out:
        notes.append(f"Left out, because not every method has a result there: {', '.join(left_out)}.")
    if ranked.board.unranked:
        notes.append(f"Not ranked, too few categories: {', '.join(one.name for one in ranked.board.unranked)}.")
    return notes


def _value(cell: Cell) -> str:
    return DASH if math.isnan(cell.value) else f"{cell.value:.3f}"


def _interval(cell: Cell) -> str:
    low, high = cell.interval.low, cell.interval.high
    return "" if math.isnan(low) or math.isnan(high) else f"{low:.3f} – {high:.3f}"


def _latex_value(cell: Cell) -> str:
    value = in_latex(_value(cell))
    mark = f"$^{{{NOT_TOLD_MARK}}}$"
    if cell.may_be_best and not cell.is_best:
        return value + mark
    bold = f"\\textbf{{{value}}}" if cell.is_best else value
    return f"{bold}\\hphantom{{{mark}}}"


def _markdown_value(cell: Cell) -> str:
    value = f"**{_value(cell)}**" if cell.is_best else f"{_value(cell)}{f' {NOT_TOLD_MARK}' * cell.may_be_best}"
    return f"{value} ({_interval(cell)})" if _interval(cell) else value


def _in_markdown(text: str) -> str:
    return "".join(f"\\{sign}" if sign in r"\|*_`[]<>" else sign for sign in " ".join(text.split()))


def methods_paragraph(
    protocol: EvaluationProtocol, ranked: Sequence[RankedBoard], stored: Sequence[StoredResult], n_resamples: int
) -> str:
    """The protocol in words, for the section on experiments: what was held equal and how numbers were made."""
    once = {one.evaluation.category: one.evaluation for one in stored}
    n_images = sum(evaluation.n_images for evaluation in once.values())
    n_defects = sum(evaluation.overall.n_defects for evaluation in once.values())
    methods = {one.run.method for one in stored}
    resolutions = sorted({one.run.resolution for one in stored if one.sizes.is_common} - {0})
    own = sorted({one.method.label for one in stored if one.sizes.is_own})
    versions = sorted({one.provenance.versions.get("tinydefects", "unknown") for one in stored})
    limit, curve = format_rate(headline_limit(protocol.evaluation.fpr_limits)), CURVE_RULES[protocol.evaluation.curve]
    seeds = ", ".join(map(str, protocol.seeds))
    sentences = [
        f"{_counted(len(methods), 'method was', 'methods were')} {BY} {', '.join(versions)} under one "
        f"protocol (fingerprint {protocol.fingerprint}): the same images, the same scoring, and masks and test images "
        "out of reach while a method learns.",
        f"{_counted(len(once), 'category holds', 'categories hold')} {n_images} test images with {n_defects} defects, "
        "which are 8-connected regions of the masks.",
        *_teacher_words(protocol, resolutions, own),
        "Anomaly maps are scored at each image's own resolution against the untouched mask.",
        f"AUPRO@{limit} is the area under the per-region overlap for false-positive rates of pixels up to {limit}, "
        f"divided by {limit} (curve: {curve}); it is reported for all defects (Q4) and for the smallest quarter, half "
        "and three quarters of the defects of a category (Q1, Q2, Q3), whose areas are at most their 25, 50 and 75 % "
        "quantile.",
        "Robustness to size ρ is the mean of these four times the ratio of the smaller to the larger of Q1 and Q4.",
        *dict.fromkeys(sentence for one in ranked for sentence in one.own_words),
        f"Numbers are means over categories of means over seeds ({seeds}); intervals are 95 % bootstrap intervals "
        f"(BCa) over images and seeds with {n_resamples} draws, categories fixed.",
        "Within a column all pairs of methods are tested together on the same draws (step-down maximum), so that the "
        "chance of telling any two equal methods apart is 5 %.",
        *_time_words(ranked, stored),
    ]
    return " ".join(sentences)


def _counted(n: int, one: str, several: str) -> str:
    return f"{n} {one if n == 1 else several}"


def _teacher_words(protocol: EvaluationProtocol, resolutions: Sequence[int], own: Sequence[str]) -> list[str]:
    if not resolutions and not own:
        return []
    sides = " and ".join(f"{side}" for side in resolutions) + (" pixels" if resolutions else "")
    sides += f"{', and on boards of their own' if sides else ''} as published ({', '.join(own)} pixels)" if own else ""
    known = f" (fingerprint {protocol.teacher_fingerprint[:16]})" if protocol.teacher_fingerprint else ""
    return [
        f"Methods on patch features share one frozen network, {protocol.teacher}{known}, whose input has a long side "
        f"of {sides}."
    ]


def _time_words(ranked: Sequence[RankedBoard], stored: Iterable[StoredResult]) -> list[str]:
    sheets = [one.run.cost for one in stored if one.run.cost]
    if not sheets or not any(one.milliseconds for one in ranked):
        return []
    places = sorted({f"{sheet.device}, {sheet.threads} thread{'s' * (sheet.threads != 1)}" for sheet in sheets})
    machines = sorted({one.provenance.machine for one in stored})
    beside = max(sheet.n_beside for sheet in sheets)
    bound = f", with up to {beside} other jobs on the machine, so that they are upper bounds" if beside else ""
    return [
        "Times are from the file to the map at batch size 1, decoding, network and upsampling included "
        f"({'; '.join((*places, *machines))}){bound}."
    ]


def _published_markdown(published: Sequence[PublishedNumber]) -> str:
    """Quoted numbers, apart from all that was measured."""
    rows = [[_in_markdown(cell) for cell in row] for row in published_rows(published)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (list(HEADS), ["---"] * len(HEADS), *rows))
    return f"{table}\n\n{QUOTED}\n"
