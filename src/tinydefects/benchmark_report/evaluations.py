"""Several stored evaluations on one page: told apart by their files where a category comes twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinydefects.benchmark.result import read_result, telling_parts
from tinydefects.benchmark.stored import shared_facts
from tinydefects.report import write_report


def write_evaluations_report(paths: Sequence[Path], target: Path) -> Path:
    """Read the result files and write their page; provenance that differs between them is told as such.

    Raises:
        ResultError: one cannot be read.
        TinyDefectsError: the target cannot be written.
    """
    read = [read_result(path) for path in paths]
    times = Counter(one.evaluation.category for one in read)
    names = telling_parts(paths) if len(paths) > 1 else [""]
    evaluations = [
        replace(one.evaluation, category=f"{one.evaluation.category} ({name})")
        if times[one.evaluation.category] > 1
        else one.evaluation
        for one, name in zip(read, names, strict=True)
    ]
    return write_report(evaluations, target, provenance=shared_facts(one.provenance for one in read))
