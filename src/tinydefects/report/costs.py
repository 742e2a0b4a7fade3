"""What each method takes to look at one image, as one row of a table: means over categories of measured medians."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinydefects.benchmark.board import MethodAt, milliseconds
from tinydefects.methods.stages import STAGES
from tinydefects.report.ranked_board import RankedBoard
from tinydefects.results.run_record import CostSheet


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRow:
    """Times in ms for one image at batch 1 unless said otherwise; the memory of the category that takes most.

    Attributes:
        stages: by name, those that the method has in every category.
        end_to_end: from file to map and score; `quartiles` its lower and upper quartile.
        best_batch_ms: at the batch size that is fastest in each category; `best_batches` are these sizes.
        n_beside: the most jobs that ran on the machine at the same time; above 0, times are upper bounds.
    """

    method: MethodAt
    stages: Mapping[str, float]
    end_to_end: float
    quartiles: tuple[float, float]
    best_batch_ms: float
    best_batches: tuple[int, ...]
    peak_memory_bytes: int
    teacher_bytes: int
    own_bytes: int
    place: str
    n_beside: int

    @property
    def rest(self) -> float:
        """What the stages leave of the whole."""
        return max(0.0, self.end_to_end - sum(self.stages.values()))


def cost_rows(ranked: RankedBoard) -> tuple[CostRow, ...]:
    """A row for each method that was measured in every timed category, the fastest first."""
    rows = [_row(method, ranked.costs[method]) for method in ranked.methods if method in ranked.costs]
    return tuple(sorted(rows, key=lambda row: row.end_to_end))


def _row(method: MethodAt, sheets: Sequence[CostSheet]) -> CostRow:
    stages = [stage for stage in STAGES if all(stage in sheet.stages for sheet in sheets)]
    best = [sheet.by_batch.get(sheet.best_batch, sheet.end_to_end).median_ms for sheet in sheets]
    return CostRow(
        method=method,
        stages={stage: _mean([sheet.stages[stage].median_ms for sheet in sheets]) for stage in stages},
        end_to_end=milliseconds(sheets),
        quartiles=(
            _mean([sheet.end_to_end.low_ms for sheet in sheets]),
            _mean([sheet.end_to_end.high_ms for sheet in sheets]),
        ),
        best_batch_ms=_mean(best),
        best_batches=tuple(sorted({sheet.best_batch for sheet in sheets})),
        peak_memory_bytes=max(sheet.peak_memory_bytes for sheet in sheets),
        teacher_bytes=max(sheet.teacher_bytes for sheet in sheets),
        own_bytes=max(sheet.peer_bytes for sheet in sheets),
        place="; ".join(sorted({_place(sheet) for sheet in sheets})),
        n_beside=max(sheet.n_beside for sheet in sheets),
    )


def _place(sheet: CostSheet) -> str:
    height, width = sheet.image_size
    threads = f", {sheet.threads} thread{'s' * (sheet.threads != 1)}"
    return f"{sheet.device}{threads}, images of {height} x {width} px"


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
