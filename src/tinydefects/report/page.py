"""The page: results of one method or many as one HTML file that needs no server and no network.

Pictures of defects are inside it while they are few; many lie in a folder beside it, which must travel with it. What
only several methods have, a leaderboard and curves side by side, is there where a benchmark left several; every other
evaluation has a part of its own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tinydefects.benchmark.board import NOT_TOLD_MARK, boards, headline_limit, method_of, three_digits
from tinydefects.benchmark.run_folder import (
    StoredResult,
    divide_results,
    read_benchmark,
    read_failures,
    refuse_copies,
    shared_facts,
)
from tinydefects.data.pixels import require_writable, write_whole
from tinydefects.decisions.outcome import Outcome
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.method import STAGES
from tinydefects.metrics.groups import QUARTILES, short
from tinydefects.metrics.scores import Evaluation
from tinydefects.metrics.showing import FEW_DEFECTS
from tinydefects.metrics.statistics.comparison import N_RESAMPLES
from tinydefects.report.boards import make_view, most_found, shared_rate
from tinydefects.report.crops import RAREST, CropStore, colour_shares, data_uri, encode_crops
from tinydefects.report.gallery import Gallery, Pictured, pictured_results
from tinydefects.report.leaderboard import csv_link, rank_board
from tinydefects.report.sections import make_section, means_of, with_hits
from tinydefects.report.theme import looks
from tinydefects.report.words import CURVE_RULES, DETECTION_RULES, STAGE_WORDS, format_rate, format_score, rate_in_words
from tinydefects.results.result import Provenance, Result, read_result, telling_parts

if TYPE_CHECKING:
    from jinja2 import Template

UNNAMED = "anomaly map"  # whose map it is, where a result names no method


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Single:
    """An evaluation that is compared with no other; `name` is its part of the page, `method` whose maps it scored."""

    name: str
    method: str
    evaluation: Evaluation
    provenance: Provenance | None
    outcome: Outcome | None = None


def write_report(
    results: Path | str | Sequence[Evaluation | Result],
    path: Path | str,
    *,
    title: str = "tinydefects",
    n_resamples: int = N_RESAMPLES,
) -> Path:
    """Write the page and return its path. Found is what `Evaluation.detectability` says, at its rate.

    Args:
        results: evaluations, or results with their provenance, one a category; or a folder of result files, or one
            file. Results of two or more methods of a benchmark are set side by side, all others stand for themselves.
        path: the HTML file, replaced whole; pictures lie in `<name>_files` beside it unless they are few.
        title: heading and browser title.
        n_resamples: draws of the images behind intervals and verdicts of a benchmark.

    Raises:
        ResultError: no results, one that cannot be read, two of one job, or a benchmark of different protocols.
        TinyDefectsError: nothing to report, or a path that cannot be written.
    """
    target = Path(path)
    require_page_place(target)
    stored: list[StoredResult] = []
    if isinstance(results, Path | str):
        of_benchmark, others = divide_results(Path(results))
        stored = read_benchmark(Path(results)) if of_benchmark else []
        singles = _read_singles(others)
    else:
        singles = _name_singles([(one, "") for one in results])
    if not stored and not singles:
        raise TinyDefectsError(f"{target}: no evaluation to report; evaluate at least one category first")
    store = CropStore(target)
    content = _content(stored, singles, store, n_resamples)
    failures = read_failures(Path(results)) if stored and isinstance(results, Path | str) else []
    page = _read_template().render(title=title, failures=failures, **content)
    write_whole(target, lambda file: file.write(page.encode("utf-8")))
    store.remove_old()
    return target


def require_page_place(target: Path) -> None:
    """Refuse to write over what is read, and over a folder, before anything slow begins.

    Raises:
        TinyDefectsError: a folder lies there, a file that is no page, or nothing can be written there.
    """
    if target.is_dir():
        raise TinyDefectsError(f"{target}: is a folder; name the page in it, such as {target / 'report.html'}")
    if target.is_file() and not _is_page(target):  # a result, perhaps
        raise TinyDefectsError(f"{target}: is there already, and only pages (.html) are replaced; choose another name")
    if target.is_file() or not target.exists():  # not /dev/stdout
        require_writable(target.parent)


def _is_page(path: Path) -> bool:
    """By its name, or else by how it begins: pages may be written under any name."""
    if path.suffix.lower() in {".html", ".htm"}:
        return True
    try:
        with path.open("rb") as file:
            return file.read(100).lstrip().startswith(b"<!DOCTYPE html>")
    except OSError:
        return False


def _read_singles(paths: Sequence[Path]) -> list[Single]:
    names = telling_parts(paths) if len(paths) > 1 else [""] * len(paths)
    results = [read_result(path) for path in paths]
    refuse_copies((path, one.evaluation.category, one.run) for path, one in zip(paths, results, strict=True) if one.run)
    return _name_singles(list(zip(results, names, strict=True)))


def _name_singles(results: Sequence[tuple[Evaluation | Result, str]]) -> list[Single]:
    """Several results of one category are told apart by what is given beside them, or else by numbers."""
    given = [(one if isinstance(one, Result) else None, name) for one, name in results]
    evaluations = [with_hits(one.evaluation if isinstance(one, Result) else one) for one, _ in results]
    times = Counter(one.category for one in evaluations)
    seen: Counter[str] = Counter()
    singles = []
    for evaluation, (result, given_name) in zip(evaluations, given, strict=True):
        category = evaluation.category or "category"
        seen[category] += 1
        own = (given_name or str(seen[category])) if times[evaluation.category] > 1 else ""
        method = own or (method_of(result.run).label if result and result.run else UNNAMED)
        singles.append(
            Single(
                name=f"{category} ({own})" if own else category,
                method=method,
                evaluation=replace(evaluation, category=category),
                provenance=result.provenance if result else None,
                outcome=result.outcome if result else None,
            )
        )
    return singles


def _content(
    stored: Sequence[StoredResult], singles: Sequence[Single], store: CropStore, n_resamples: int
) -> dict[str, object]:
    """Everything that the template names, but for the title and what failed."""
    ranked = [rank_board(board, n_resamples=n_resamples) for board in boards(stored)]
    in_order = list(dict.fromkeys(method for one in ranked for method in one.methods))
    methods = [*in_order, *sorted({one.method for one in stored} - set(in_order))]
    drawn_as = looks(methods)
    names = [(method.label, method.name) for method in methods]
    names += [(one, one) for one in dict.fromkeys(one.method for one in singles)]
    shown = [*pictured_results(stored, methods), *_pictured_singles(singles, len(methods))]
    gallery = Gallery(shown, store, best=0 if ranked else _best(shown))
    sections = [make_section(one.evaluation, one.name, number, one.outcome) for number, one in enumerate(singles)]
    every = [*(one.evaluation for one in stored), *(one.evaluation for one in singles)]
    limits = every[0].fpr_limits
    rates = [shared_rate(stored)] if stored else []
    rates += [rate_in_words(*(one.detectability for one in sections))] if sections else []
    known = [one.provenance for one in singles if one.provenance is not None]
    return {
        "methods": methods,
        "looks": drawn_as,
        "views": [make_view(one, drawn_as, f"board-{number}", ranked) for number, one in enumerate(ranked)],
        "sizes": _sizes_in_words(stored),
        "sections": sections,
        "means": means_of(sections) if sections else [],
        "limits": limits,
        "headline_limit": headline_limit(limits),
        "quartiles": QUARTILES,
        "stages": STAGES,
        "stage_words": STAGE_WORDS,
        "not_told_mark": NOT_TOLD_MARK,
        "stored": stored,
        "evaluations": {one.evaluation.category: one.evaluation for one in stored},
        "facts": shared_facts([*(one.provenance for one in stored), *known]),
        "most": most_found(ranked[0]) if ranked else None,
        "rates": rates,
        "found_rules": sorted({(one.detectability.rule, one.detectability.rate) for one in every}),
        "detection_rules": DETECTION_RULES,
        "curve_rules": CURVE_RULES,
        "used_curve_rules": sorted({one.curve_rule for one in every}),
        "few_defects": FEW_DEFECTS,
        "gallery": gallery.as_json(names) if gallery.n_defects else "",
        "names": [label for label, _ in names],
        "telling": gallery.telling,
        "colour_scale": data_uri(encode_crops([colour_shares(np.geomspace(1, RAREST, 256)[None])]), "webp"),
        "csv_link": csv_link(ranked),
    }


def _sizes_in_words(stored: Sequence[StoredResult]) -> str:
    """`at 384 and 256 px, and each at its own size`; empty where no method sees a teacher's input."""
    common = sorted({one.run.resolution for one in stored if one.sizes.is_common} - {0}, reverse=True)
    at_own = any(one.sizes.is_own for one in stored)
    parts = [f"at {' and '.join(map(str, common))} px"] if common else []
    return ", ".join([*parts, *([f"{'and ' if parts else ''}each at its own size"] if at_own else [])])


def _pictured_singles(singles: Sequence[Single], n_before: int) -> list[Pictured]:
    order = list(dict.fromkeys(one.method for one in singles))
    return [
        Pictured(
            method=n_before + order.index(one.method),
            evaluation=one.evaluation,
            crops=partial(getattr, one.evaluation, "crops"),
        )
        for one in singles
    ]


def _best(shown: Sequence[Pictured]) -> int:
    """The method that finds the largest share of its defects."""
    hits: dict[int, list[bool]] = {}
    for one in shown:
        hits.setdefault(one.method, []).extend(one.evaluation.detectability.hits)
    return max(hits, key=lambda method: sum(hits[method]) / max(1, len(hits[method])))


def _read_template() -> "Template":
    """The page, with its filters; everything put into it is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tinydefects.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(score=format_score, rate=format_rate, short=short, three_digits=three_digits)
    return environment.get_template("report.html.jinja")
