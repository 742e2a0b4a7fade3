"""A result on disk: one evaluation and everything needed to repeat it, as strict JSON beside its crops and tally.

`<name>.json` holds the numbers (nan is null), `<name>.npz` the crops' pixels, and `<name>.tally.npz` the counts that
later comparisons resample. They are one set of files, see `together`: a kill leaves the earlier result or the new one.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from itertools import combinations, takewhile
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, with_config

from tinydefects.data.json_files import first_fault, json_text, nan_to_null, null_to_nan, read_file, read_json
from tinydefects.data.leftovers import replace_together, settle, settle_below
from tinydefects.data.pixels import cannot_write
from tinydefects.data.walk import walk
from tinydefects.decisions.outcome import Outcome
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.ranking import Tally
from tinydefects.metrics.scores import Evaluation
from tinydefects.results.attachments import pack_crops, pack_tally, unpack_crops, unpack_tally, write_defect_table
from tinydefects.results.old_results import add_keys, result_in_our_words, with_members
from tinydefects.results.protocol import RunRecord

# 1 had neither tally nor intervals, 2 no run record, 3 no keys of groups, 4 peers, 5 exhibits, 6 no digest of itself,
# 7 no parts; all are read.
FORMAT = 8
FIRST_WITH_DIGEST = 7
RECORDED_PACKAGES = ("tinydefects", "numpy", "scipy", "pillow", "tifffile", "torch", "timm")
with_config(ConfigDict(arbitrary_types_allowed=True))(Tally)  # stored and read on its own
CONTENT = "content_sha256"  # of all that a result file says besides
TALLY_SUFFIX = ".tally.npz"
TABLE_SUFFIX = ".defects.csv"
OLD_TABLE_SUFFIX = ".defects.parquet"  # beside results of 0.1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a number comes from: code, machine, versions, and the settings that made it (seed among them).

    `instructions` are those of the processor that the libraries use, on which last digits depend; results of 0.1.0 do
    not know them.
    """

    created: str
    commit: str
    machine: str
    instructions: str = ""
    versions: Mapping[str, str]
    settings: Mapping[str, str]

    def facts(self) -> dict[str, str]:
        """Everything in one flat table, for a reader."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        run = {"created": self.created, "commit": self.commit, "machine": self.machine}
        known = {"instructions": self.instructions} if self.instructions else {}
        return {**run, **known, "versions": versions, **self.settings}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One row of a benchmark: an evaluation, its provenance, and the job it answers where a benchmark made it.

    `outcome` is what the thresholds of a calibration achieve on the same images, where one was given.
    """

    evaluation: Evaluation
    provenance: Provenance
    run: RunRecord | None = None
    outcome: Outcome | None = None


class _ResultFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    crops_sha256: str
    tally_sha256: str = ""
    content_sha256: str = ""
    run: RunRecord | None = None
    outcome: Outcome | None = None
    provenance: Provenance
    evaluation: Evaluation


def describe_run(settings: Mapping[str, object]) -> Provenance:
    """The provenance of a result computed now, on this machine, with these settings."""
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=_commit(),
        machine=f"{platform.machine()} {platform.system()}, {_processor()}",
        instructions=_instructions(),
        versions={"python": platform.python_version(), **_versions()},
        settings={name: str(value) for name, value in settings.items()},
    )


def write_result(result: Result, path: Path, *, with_table: bool = False) -> Path:
    """Write `path` (.json) and beside it the crops (.npz) and the tally (.tally.npz) where there is one.

    `with_table` adds the table of all defects (.defects.csv). That of an earlier result goes in any case.
    Returns the path of the JSON.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written; an earlier result is as it was.
    """
    path, evaluation = path.with_suffix(".json"), result.evaluation

    def write(new: Path) -> None:
        packed, packed_tally = (
            pack_crops(evaluation.crops),
            pack_tally(evaluation.tally) if evaluation.tally else b"",
        )
        (new / path.with_suffix(".npz").name).write_bytes(packed)
        if packed_tally:
            (new / path.with_suffix(TALLY_SUFFIX).name).write_bytes(packed_tally)
        if with_table:
            write_defect_table(evaluation, new / path.with_suffix(TABLE_SUFFIX).name)
        (new / path.name).write_bytes(json_text(_content(result, packed, packed_tally)).encode())

    gone = [path.with_suffix(suffix).name for suffix in (TALLY_SUFFIX, TABLE_SUFFIX, OLD_TABLE_SUFFIX)]
    try:
        replace_together(path.parent, path.stem, write, gone=gone)
    except OSError as error:
        raise TinyDefectsError(cannot_write(path, error)) from error
    return path


def _content(result: Result, packed: bytes, packed_tally: bytes) -> dict[str, Any]:
    """What the JSON says, with the digests of the files beside it."""
    evaluation = asdict(replace(result.evaluation, crops=(), tally=None))
    del evaluation["tally"]
    evaluation["crops"] = [asdict(crop.defect) for crop in result.evaluation.crops]
    content = {
        "format": FORMAT,
        "crops_sha256": hashlib.sha256(packed).hexdigest(),
        "tally_sha256": hashlib.sha256(packed_tally).hexdigest() if packed_tally else "",
        "provenance": asdict(result.provenance),
        **({"run": _run_content(result.run)} if result.run else {}),
        **({"outcome": asdict(result.outcome)} if result.outcome else {}),
        "evaluation": evaluation,
    }
    return {CONTENT: _digest_of(content), **content}


def is_as_written(path: Path) -> bool | None:
    """Whether a result file says what it said when it was written; None for formats before 7, which have no digest.

    It shows damage and careless edits: whoever changes a number on purpose can write a new digest as well.

    Raises:
        ResultError: the file cannot be read.
    """
    content = read_json(path, ResultError, kind="result", way_out="evaluate again")
    if not isinstance(content, dict):
        return None
    known, form = content.pop(CONTENT, None), content.get("format")
    is_earlier = isinstance(form, int) and form < FIRST_WITH_DIGEST
    return None if known is None and is_earlier else bool(known == _digest_of(content))


def _digest_of(content: Mapping[str, Any]) -> str:
    """sha256 of values, whatever the order of the keys and the spaces between them."""
    text = json.dumps(nan_to_null(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_result(path: Path) -> Result:
    """Read what `write_result` wrote.

    Raises:
        ResultError: a file is missing, truncated, changed, or of another format.
    """
    settle(path.parent, path.stem)
    try:
        content = read_json(path, ResultError, kind="result", way_out="evaluate again")
        if isinstance(content, dict) and "evaluation" not in content:  # such as a summary, a protocol, a failed job
            raise ResultError(f"{path}: holds no evaluation; give a result, or the folder of results that it lies in")
        if int(content["format"]) > FORMAT:
            raise ResultError(f"{path}: written by a newer version of tinydefects; update this one to read it")
        if int(content["format"]) < 6:
            content = result_in_our_words(content)
        records = content["evaluation"].pop("crops")
        old = int(content["format"]) < 4
        if old:
            add_keys(content["evaluation"])
        parsed = _ResultFile.model_validate(
            null_to_nan({**content, "evaluation": {**content["evaluation"], "crops": []}})
        )
        crops = unpack_crops(_read_own(path, ".npz", parsed.crops_sha256), null_to_nan(records))
        tally = unpack_tally(_read_own(path, TALLY_SUFFIX, parsed.tally_sha256)) if parsed.tally_sha256 else None
    except ResultError:
        raise
    except ValidationError as error:
        raise ResultError(f"{path}: {first_fault(error)}; evaluate again with this version") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise ResultError(f"{path}: not a readable result ({type(error).__name__}: {error}); evaluate again") from error
    evaluation = replace(parsed.evaluation, crops=crops, tally=tally)
    evaluation = with_members(evaluation) if old else evaluation
    return Result(evaluation=evaluation, provenance=parsed.provenance, run=parsed.run, outcome=parsed.outcome)


def _read_own(path: Path, suffix: str, sha256: str) -> bytes:
    """The file beside a result, once its digest shows that it was written with it."""
    beside = path.with_suffix(suffix)
    try:
        content = read_file(beside)
    except (OSError, ValueError) as error:
        raise ResultError(f"{beside}: cannot be read beside {path.name} ({error}); evaluate again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ResultError(f"{beside}: does not belong to {path.name}; evaluate again")
    return content


def _run_content(run: RunRecord) -> dict[str, Any]:
    content = asdict(run)
    if run.cost is None:
        del content["cost"]  # null would be read back as nan
    return content


def numbers_of(evaluation: Evaluation) -> dict[str, object]:
    """The numbers of an evaluation without records, curves and pictures."""
    bare = asdict(replace(evaluation, crops=(), defects=(), tally=None))
    groups = [bare["overall"], *bare["cumulative"], *bare["disjoint"], *bare["by_type"], *bare["by_bin"]]
    for group in groups:
        del group["curve"], group["members"]
    return {name: value for name, value in bare.items() if name not in {"crops", "defects", "tally"}}


def find_results(folder: Path) -> list[Path]:
    """The result files below a folder, or the file itself.

    Raises:
        ResultError: there is none.
    """
    if folder.is_file():
        return [folder]
    settle_below(folder)
    found = walk(folder, {".json"}, with_own=True).files if folder.is_dir() else ()
    paths = [path for _, path in found if _is_result(path, folder)]
    if not paths:
        raise ResultError(f"{folder}: no results here; make some with 'tinydefects evaluate … --out {folder}'")
    return paths


def _is_result(path: Path, folder: Path) -> bool:
    """Whether crops lie beside it; what lies in hidden folders is not written to its end."""
    is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not is_hidden and path.with_suffix(".npz").exists()


def read_named_results(paths: Sequence[Path]) -> dict[str, Result]:
    """Results by the parts of their paths in which they differ: `ours` and `theirs` for ours/a.json and theirs/a.json.

    Raises:
        ResultError: one is given twice, is a folder of several, or cannot be read.
    """
    found = [find_results(path) for path in paths]
    several = next((path for path, files in zip(paths, found, strict=True) if len(files) > 1), None)
    if several is not None:
        raise ResultError(f"{several}: holds several results; name the file of one, such as {find_results(several)[0]}")
    files = [some[0] for some in found]
    if len({file.absolute() for file in files}) < len(files):
        raise ResultError(f"{paths[0]}: the same result twice; give results of different methods")
    return {name: read_result(file) for name, file in zip(telling_parts(files), files, strict=True)}


def same_jobs(results: Mapping[str, Result]) -> list[str]:
    """A line for each two of these results that are no two methods: a benchmark made them for one job."""
    runs = [(name, one.run) for name, one in results.items() if one.run is not None]
    return [
        f"{a} and {b} are results of one job ({first.described}): their difference says nothing about methods"
        for (a, first), (b, other) in combinations(runs, 2)
        if first.job == other.job
    ]


def telling_parts(files: Sequence[Path]) -> list[str]:
    """The parts of each path in which they all differ, or else the paths as they are."""
    parts = [file.absolute().with_suffix("").parts for file in files]
    n_first = _n_shared(parts)
    n_last = _n_shared([part[n_first:][::-1] for part in parts])
    names = ["/".join(part[n_first : len(part) - n_last]) or part[-1] for part in parts]
    return names if len(set(names)) == len(names) else [str(file) for file in files]


def _n_shared(parts: Sequence[Sequence[str]]) -> int:
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))


def _versions() -> dict[str, str]:
    found = {}
    for name in RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The commit of the checkout the package runs from, with `+changes` when files differ from it; else `release`."""
    tracked = _git("ls-files", Path(__file__).name)  # an installed copy may lie inside a stranger's repository
    if not tracked:
        return "release"
    return _git("rev-parse", "--short=12", "HEAD") + ("+changes" if _git("status", "--porcelain", "..") else "")


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _instructions() -> str:
    """The widest instructions in use, `numpy AVX512_SPR, torch AVX512`; torch only where something has loaded it."""
    found = np.show_config(mode="dicts")["SIMD Extensions"]
    used = [f"numpy {(found.get('found') or found.get('baseline') or ['unknown'])[-1]}"]
    torch = sys.modules.get("torch")
    if torch is not None:
        used.append(f"torch {torch.backends.cpu.get_cpu_capability()}")
    return ", ".join(used)


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.processor() or 'unknown processor'}"
