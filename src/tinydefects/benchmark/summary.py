"""A whole benchmark as one small strict JSON file: what tables and claims are made from, without pictures and tallies.

Its leaderboards are those of `board.py`. Numbers keep six decimals; undefined is null.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tinydefects.benchmark.board import Board, boards
from tinydefects.benchmark.run_folder import Failure, StoredResult, read_failures, read_numbers, read_protocol
from tinydefects.data.json_files import first_fault, nan_to_null, null_to_nan, read_json
from tinydefects.data.pixels import write_whole
from tinydefects.errors import ResultError
from tinydefects.metrics.records import PART_AUROC, Interval
from tinydefects.metrics.scores import FPR_LIMITS, metrics_of
from tinydefects.metrics.statistics.comparison import N_RESAMPLES
from tinydefects.metrics.statistics.leaderboard import Leaderboard
from tinydefects.results.old_results import in_our_words
from tinydefects.results.protocol import CostSheet, EvaluationProtocol
from tinydefects.results.result import Provenance

FORMAT = 5  # 4 had no boards at own sizes, 3 exhibits for crops, 2 peers for methods, 1 standings of entrants for rows
DECIMALS = 6
OUR_FAMILY = "fbft"  # with its ablations a board of its own, so that parts are tested against the whole
SIZES = ("", "_Q1", "_Q2", "_Q3", "_only_Q2", "_only_Q3", "_only_Q4")  # Q1 alone is the cumulative one, Q4 is all
METRICS = (
    *(f"aupro{size}@{limit:g}" for limit in FPR_LIMITS for size in SIZES),
    *(f"{stem}@{limit:g}" for stem in ("rho", "spro") for limit in FPR_LIMITS),
    *("image_auroc", PART_AUROC, "pixel_auroc", "pixel_average_precision", "aupimo", "a50_px", "a90_px", "a90_95_px"),
)
RANKED = (
    *("aupro_Q1@0.05", "aupro_Q2@0.05", "aupro_Q3@0.05", "aupro@0.05", "rho@0.05"),
    *("aupro_Q1@0.3", "aupro_Q2@0.3", "aupro_Q3@0.3", "aupro@0.3", "rho@0.3"),
    *("aupro_Q1@0.01", "aupro@0.01", "aupro_Q1@0.1", "aupro@0.1"),
    *("image_auroc", "pixel_average_precision", "a90_px"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One result: which job, how many images and defects, every metric of `METRICS` with its interval, time and cost.

    `detected` of `n_defects` defects are found at the protocol's false-alarm rate.
    """

    category: str
    method: str
    resolution: int
    seed: int
    n_train: int
    n_images: int
    n_good_images: int
    n_defects: int
    detected: int
    fit_seconds: float
    predict_seconds: float
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    cost: CostSheet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedBoard:
    """The leaderboard of one dataset at one resolution of the teacher's input, or each method at its own size.

    `family` is empty where all methods take part, else what their names begin with: a method beside its ablations.
    """

    dataset: str
    resolution: int
    family: str = ""
    at_own_sizes: bool = False
    leaderboard: Leaderboard


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything a table needs.

    Attributes:
        protocol: under which all rows were made.
        fingerprint: of it.
        provenance: of the newest result, with every commit and machine that took part and the settings all share.
        boards: by dataset and resolution, that at own sizes with resolution 0; missing where no category has results
            of all methods.
        rows: by category, resolution, method and seed.
        failed: jobs without a result, with the reason.
    """

    protocol: EvaluationProtocol
    fingerprint: str
    provenance: Provenance
    boards: tuple[RankedBoard, ...]
    rows: tuple[Row, ...]
    failed: tuple[Failure, ...] = ()

    def board(self, dataset: str, resolution: int, family: str = "", *, at_own_sizes: bool = False) -> Leaderboard:
        """The leaderboard of a dataset at a resolution, of all methods or of one family; 0 for that at own sizes.

        Raises:
            ResultError: there is none.
        """
        for one in self.boards:
            if (one.dataset, one.resolution, one.family) == (dataset, resolution, family) and (
                one.at_own_sizes == at_own_sizes
            ):
                return one.leaderboard
        known = ", ".join(f"{one.dataset} {'own' if one.at_own_sizes else one.resolution}" for one in self.boards)
        raise ResultError(f"no leaderboard of {dataset} at {resolution} px; the summary holds {known or 'none'}")


class _SummaryFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    protocol: EvaluationProtocol
    fingerprint: str
    provenance: Provenance
    boards: tuple[RankedBoard, ...]
    rows: tuple[Row, ...]
    failed: tuple[Failure, ...] = ()


def summarise(folder: Path, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Summary:
    """Read the results of one benchmark and compute its leaderboards, `n_resamples` draws with `seed` behind each.

    Raises:
        ResultError: no results of a benchmark there, one that cannot be read, or results of several protocols.
    """
    protocol = read_protocol(folder)
    if protocol is None:
        raise ResultError(
            f"{folder}: no benchmark was run here; make one with 'tinydefects benchmark … --out {folder}'"
        )
    finished = read_numbers(folder)
    finished.sort(key=lambda one: (one.evaluation.category, one.run.resolution, one.run.method, one.run.seed))
    if finished[0].run.protocol != protocol.fingerprint:
        raise ResultError(f"{finished[0].path}: made under another protocol; move it out of this folder")
    return Summary(
        protocol=protocol,
        fingerprint=protocol.fingerprint,
        provenance=_common_provenance([one.provenance for one in finished]),
        boards=tuple(_boards(finished, n_resamples, seed)),
        rows=tuple(_row(one) for one in finished),
        failed=tuple(replace(failure, traceback="") for failure in read_failures(folder)),
    )


def write_summary(summary: Summary, path: Path) -> Path:
    """Write strict JSON, one row a line."""
    content = _rounded(nan_to_null({"format": FORMAT, **asdict(summary)}))
    for row in content["rows"]:
        if row["cost"] is None:
            del row["cost"]  # null would be read back as nan
    lines = [f'"{name}": {_lines(value)}' for name, value in content.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    write_whole(path, lambda file: file.write(text.encode()))
    return path


def read_summary(path: Path) -> Summary:
    """Read what `write_summary` wrote.

    Raises:
        ResultError: the file is missing, truncated, changed (the message names the field), or of another format.
    """
    try:
        content = read_json(path, ResultError, kind="summary", way_out="summarise the results again")
        if int(content["format"]) > FORMAT:
            raise ResultError(f"{path}: written by a newer version of tinydefects; update this one to read it")
        parsed = _SummaryFile.model_validate(null_to_nan(_in_these_words(content)))
    except ResultError:
        raise
    except ValidationError as error:
        raise ResultError(f"{path}: {first_fault(error)}; summarise the results again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ResultError(f"{path}: not a readable summary ({reason}); summarise the results again") from error
    return Summary(**{name: getattr(parsed, name) for name in Summary.__dataclass_fields__})


def _common_provenance(every: Sequence[Provenance]) -> Provenance:
    newest = max(every, key=lambda one: one.created)
    shared = set.intersection(*(set(one.settings.items()) for one in every))
    return replace(
        newest,
        commit=", ".join(sorted({one.commit for one in every})),
        machine="; ".join(sorted({one.machine for one in every})),
        instructions="; ".join(sorted({one.instructions for one in every} - {""})),
        settings={name: value for name, value in newest.settings.items() if (name, value) in shared},
    )


def _boards(finished: Sequence[StoredResult], n_resamples: int, seed: int) -> Iterable[RankedBoard]:
    """Those of all methods and of one family; see `board.py`."""
    found = [("", board) for board in boards(finished)]
    found += [(OUR_FAMILY, board) for board in boards(finished, OUR_FAMILY) if len(board.methods) > 1]
    for family, board in sorted(found, key=_place):
        ranked = board.rank(RANKED, n_resamples=n_resamples, seed=seed)
        yield RankedBoard(
            dataset=board.dataset,
            resolution=board.resolution,
            family=family,
            at_own_sizes=board.at_own_sizes,
            leaderboard=ranked,
        )


def _place(one: tuple[str, Board[StoredResult]]) -> tuple[str, bool, int, str]:
    family, board = one
    return board.dataset, board.at_own_sizes, -board.resolution, family


def _row(one: StoredResult) -> Row:
    evaluation, run = one.evaluation, one.run
    values = metrics_of(evaluation)
    return Row(
        category=evaluation.category,
        method=run.method,
        resolution=run.resolution,
        seed=run.seed,
        n_train=run.n_train,
        n_images=evaluation.n_images,
        n_good_images=evaluation.n_good_images,
        n_defects=evaluation.overall.n_defects,
        detected=sum(evaluation.detectability.hits),
        fit_seconds=run.fit_seconds,
        predict_seconds=run.predict_seconds,
        metrics={name: values[name] for name in METRICS if name in values},
        intervals={name: evaluation.intervals[name] for name in METRICS if name in evaluation.intervals},
        cost=run.cost,
    )


def _in_these_words(content: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The content of a file of any format in the words of today's."""
    if content["format"] == 1:
        for board in content["boards"]:
            rows = board["leaderboard"].pop("standings")
            board["leaderboard"]["rows"] = [{"method": row.pop("entrant"), **row} for row in rows]
    return in_our_words(content) if content["format"] < 4 else content


def _rounded(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return round(value, DECIMALS)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def _lines(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """JSON; a list one element a line."""
    if not isinstance(value, list) or not value:
        return _compact(value)
    return "[\n" + ",\n".join(_compact(one) for one in value) + "\n]"


def _compact(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
