"""One category, several methods, every rule: what other work's ways of scoring do to the numbers and to the ranking."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from scipy import stats

from tinydefects.audit.rescoring import audit_pairs
from tinydefects.audit.rules import EXACT, standard_rules
from tinydefects.data.json_files import read_as, write_json
from tinydefects.data.pairing import pair_maps
from tinydefects.data.predictions import ImageScoreRule, maker_of, read_paired
from tinydefects.data.sample import Category
from tinydefects.data.walk import real_path
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.results.result import Provenance, describe_run

FORMAT = 1
T = TypeVar("T")
Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]


class Track(Protocol):
    """Passes things on and shows how many have passed; `Progress.track` is one."""

    def __call__(self, things: Iterable[T], stage: str, total: int) -> Iterable[T]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleNote:
    """What a reader must know of a rule: its name, how it differs from the exact one, where it is found."""

    name: str
    does: str
    used_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Every metric of every method under every rule; the first rule is the exact one.

    Attributes:
        methods: named after the folders of their maps.
        values: by method, rule and metric (`audit.rescoring.METRICS`); nan where undefined.
    """

    category: str
    n_images: int
    rules: tuple[RuleNote, ...]
    methods: tuple[str, ...]
    values: Mapping[str, Mapping[str, Mapping[str, Number]]]
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How a rule orders the methods, against the exact rule.

    Attributes:
        n_methods: methods with a number under both; the others are left out.
        tau: Kendall's tau-b: 1 is the same order, -1 the reverse; nan below two methods or where all are equal.
        swaps: pairs whose order is turned round, the one that is ahead under the exact rule first; ties are no swap.
    """

    n_methods: int
    tau: float
    swaps: tuple[tuple[str, str], ...]


class _AuditFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int
    audit: Audit


def audit_maps(
    folders: Sequence[Path],
    category: Category,
    *,
    track: Track,
    input_px: int = 224,
    image_score: ImageScoreRule = "stored",
    settings: Mapping[str, object] | None = None,
) -> Audit:
    """Read the maps of each method once and score them under every rule; `input_px` is the networks' input side.

    Raises:
        TinyDefectsError: two folders have the same name, or maps and test images do not fit.
    """
    rules = standard_rules(input_px)
    values, makers = {}, dict[str, object]()
    for method, folder in _named(folders).items():
        pairing = pair_maps(folder, category, stored_scores=image_score == "stored")
        pairing.require_sound()
        pairs = track(read_paired(pairing, image_score), method, len(category.test))
        values[method] = audit_pairs(pairs, rules)
        makers |= {f"{method}.{key}": made for key, made in maker_of(pairing).items()}
    return Audit(
        category=category.id,
        n_images=len(category.test),
        rules=tuple(RuleNote(name=rule.name, does=rule.does, used_by=rule.used_by) for rule in rules),
        methods=tuple(values),
        values=values,
        provenance=describe_run(
            {"command": "audit", "input_px": input_px, "image_score": image_score, **(settings or {}), **makers}
        ),
    )


def agreement(audit: Audit, rule: str, metric: str) -> Agreement:
    """The order of the methods by one metric under one rule, against their order under the exact rule."""
    pairs = {
        method: (audit.values[method][EXACT][metric], audit.values[method][rule][metric]) for method in audit.methods
    }
    known = {method: pair for method, pair in pairs.items() if all(value == value for value in pair)}
    before, after = [pair[0] for pair in known.values()], [pair[1] for pair in known.values()]
    constant = len(set(before)) < 2 or len(set(after)) < 2  # no order to compare, and scipy warns
    tau = float("nan") if constant else float(stats.kendalltau(before, after).statistic)
    swaps = []
    for (one, (one_before, one_after)), (other, (other_before, other_after)) in combinations(known.items(), 2):
        if (one_before - other_before) * (one_after - other_after) < 0:
            swaps.append((one, other) if one_before > other_before else (other, one))
    return Agreement(n_methods=len(known), tau=tau, swaps=tuple(swaps))


def write_audit(audit: Audit, path: Path) -> Path:
    """Write `path` (.json), whole or not at all; undefined numbers are null."""
    if not path.name:
        raise TinyDefectsError(f"{path}: names no file; give one, such as audit.json")
    write_json(path.with_suffix(".json"), {"format": FORMAT, "audit": asdict(audit)})
    return path.with_suffix(".json")


def read_audit(path: Path) -> Audit:
    """Read what `write_audit` wrote.

    Raises:
        ResultError: the file is missing, truncated, or no audit.
    """
    again = f"run 'tinydefects audit … --out {path}'"
    return read_as(_AuditFile, path, ResultError, kind="audit", way_out=again).audit


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for folder in folders:
        name = real_path(folder).name
        if name in named:
            raise TinyDefectsError(
                f"{folder} and {named[name]}: both are called {name}, and methods are named after the folders of their "
                "maps; rename one"
            )
        named[name] = folder
    return named
