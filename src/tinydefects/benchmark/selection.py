"""What is to be compared: from the words of a command line to a protocol and its jobs, checked before any work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import accumulate
from pathlib import Path

from tinydefects.benchmark.job import load_for, share_of, shared_teacher, students_of
from tinydefects.benchmark.run_folder import joined
from tinydefects.benchmark.run_settings import RunSettings, parse_shard, parse_words
from tinydefects.data.sample import Category
from tinydefects.datasets.catalog import find_address, list_categories, option_kinds, parse_address, parse_options
from tinydefects.datasets.folder import suggest
from tinydefects.detector.settings import BUILTIN
from tinydefects.errors import DatasetError, TinyDefectsError
from tinydefects.methods.catalog import METHODS, parse_method
from tinydefects.results.protocol import NO_RESOLUTION, EvaluationProtocol, Job, list_jobs

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The jobs of this run, and the protocol of the folder they go to, which may know more.

    `n_asked` is how many jobs all shards have together.
    """

    protocol: EvaluationProtocol
    jobs: tuple[Job, ...]
    n_asked: int


def select(asked: EvaluationProtocol, methods: Sequence[str], settings: RunSettings) -> Selection:
    """The jobs of these methods; the teacher is loaded for its fingerprint where one of them needs it.

    Raises:
        TinyDefectsError: no such teacher, or the output folder holds results of another protocol.
    """
    kinds = {method: parse_method(method)[0] for method in methods}
    is_at_hand = asked.teacher == BUILTIN or settings.teacher_weights is not None
    if is_at_hand or any(kind.uses_teacher for kind in kinds.values()):  # the first so that others can be added later
        asked = replace(asked, teacher_fingerprint=shared_teacher(asked, settings).fingerprint)
    protocol = joined(asked, settings.out)
    jobs = list_jobs(
        protocol,
        methods,
        seedless=[method for method, kind in kinds.items() if not kind.uses_seed],
        teacherless=[method for method, kind in kinds.items() if not kind.uses_teacher],
    )
    chosen = tuple(job for job in jobs if _is_asked(job, asked, seedless=not kinds[job.method].uses_seed))
    _require_own_places(chosen)
    own = jobs_of_shard(chosen, *parse_shard(settings.shard))
    return Selection(protocol=protocol, jobs=own, n_asked=len(chosen))


def jobs_of_shard(jobs: Sequence[Job], number: int, total: int) -> tuple[Job, ...]:
    """Part `number` (the first is 1) of `total` that are disjoint, together all, and of one size but for what follows.

    Jobs that share features or students stand side by side, and a cut moves to the nearest place between two such
    groups if one lies less than half a part away: then no two parts compute the same, and none is empty where there
    are as many jobs as parts.
    """
    groups: dict[object, list[Job]] = {}
    for job in jobs:
        share = share_of(job)
        groups.setdefault(share.name if share else students_of(job) or job.name, []).append(job)
    ordered = [job for group in groups.values() for job in group]
    edges = [0, *accumulate(len(group) for group in groups.values())]

    def cut(part: int) -> int:
        even = part * len(jobs)  # all in parts of a job, so that nothing is rounded
        nearest = min(edges, key=lambda edge: abs(edge * total - even))
        return nearest if 2 * abs(nearest * total - even) < len(jobs) else (2 * even + total) // (2 * total)

    return tuple(ordered[cut(number - 1) : cut(number)])


def load_all(selection: Selection, settings: RunSettings) -> dict[str, Category]:
    """The categories of all jobs by address; drawn ones are drawn here, once, before workers ask for them."""
    options = {job.category: job.options for job in selection.jobs}
    return {name: load_for(settings, name, own) for name, own in options.items()}


def parse_methods(text: str) -> tuple[str, ...]:
    """Methods between commas, each once; `all` is every method that needs no word of its own behind its name.

    Raises:
        TinyDefectsError: no such method, or an option it does not have.
    """
    named: list[str] = []
    for word in parse_words("--methods", text):
        named += [name for name, kind in METHODS.items() if not kind.argument] if word == ALL else [word]
    for method in named:
        parse_method(method)
    return tuple(dict.fromkeys(named))


def find_categories(text: str, root: Path) -> tuple[str, ...]:
    """Addresses between commas, `mvtec_ad/*` among them, each once.

    Raises:
        DatasetError: no such dataset, or nothing there of that name; the message names the near one.
    """
    found: list[str] = []
    for pattern in parse_words("--categories", text):
        if "/" not in pattern.replace("\\", "/"):
            raise DatasetError(f"--categories {pattern}: write dataset/category or dataset/*, such as mvtec_ad/screw")
        dataset, name = parse_address(pattern)
        there = list_categories(dataset, root)
        pattern = f"{dataset}/{name}" if any(sign in name for sign in "*?[") else find_address(pattern, root)
        matching = [address for address in there if fnmatchcase(address, pattern)]
        if not matching and there:
            raise DatasetError(f"{pattern}: no such category below {root}; {suggest(pattern, there)}")
        if not matching and any(sign in name for sign in "*?["):
            raise DatasetError(f"{pattern}: no category of {dataset} lies below {root}; check --root")
        found += matching or [pattern]  # its loader says where it looked
    return tuple(dict.fromkeys(found))


def dataset_options(texts: Sequence[str], categories: Sequence[str]) -> dict[str, dict[str, object]]:
    """Options of the loaders by dataset, from `synthetic.size=384` for one and `seed=0` for all that know it.

    Raises:
        DatasetError: no such dataset, or an option that none of the datasets has.
    """
    datasets = list(dict.fromkeys(category.partition("/")[0] for category in categories))
    for_each: dict[str, list[str]] = {dataset: [] for dataset in datasets}
    for text in texts:
        name, _, _ = text.partition("=")
        dataset, separator, _ = name.partition(".")
        if separator:
            for_each.setdefault(dataset, []).append(text.partition(".")[2])
            continue
        knowing = [own for own in datasets if name in option_kinds(own)]
        for own in knowing:
            for_each[own].append(text)
        if not knowing:
            known = sorted({kind for own in datasets for kind in option_kinds(own)})
            raise DatasetError(f"--option {text}: none of {', '.join(datasets)} has it; {suggest(name, known)}")
    parsed = {dataset: parse_options(dataset, own) for dataset, own in for_each.items()}
    return {dataset: options for dataset, options in parsed.items() if options and dataset in datasets}


def _is_asked(job: Job, asked: EvaluationProtocol, *, seedless: bool) -> bool:
    return (
        job.category in asked.categories
        and job.resolution in (*asked.resolutions, NO_RESOLUTION, asked.own_sizes.get(job.method))
        and (seedless or job.seed in asked.seeds)
    )


def _require_own_places(jobs: Sequence[Job]) -> None:
    places: Mapping[Path, Job] = {job.path: job for job in jobs}
    for job in jobs:
        if places[job.path] != job:
            raise TinyDefectsError(
                f"{job.method} and {places[job.path].method} would share the file {job.path}; run one in another --out"
            )
