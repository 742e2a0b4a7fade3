"""What is held fixed while methods are compared, as one frozen value, the jobs that follow from it, and their records.

A number is comparable with another when both carry the fingerprint of the same protocol. Which images a method may
learn from is part of it; test images are opened only to be scored. A record says which job a result answers, and what
the method costs.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import model_validator

from tinydefects.metrics.detectability import checked_rate
from tinydefects.metrics.evaluation import EvaluationSettings
from tinydefects.results.old_results import protocol_in_our_words

PROTOCOL_VERSION = 1  # raised when equal settings would no longer give equal numbers
OF_EACH_CATEGORY = EvaluationSettings(n_crops=400, contrast=True)
FOR_PICTURES = {"n_crops", "contrast"}  # they decide no number
NO_RESOLUTION = 0  # of a method that sees no teacher's input


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationProtocol:
    """Everything that decides a number besides the method.

    Attributes:
        categories: addresses, `dataset/category`.
        options: what the loader of a dataset takes besides, by dataset; they decide the splits, and so each job's
            fingerprint.
        resolutions: common to all methods, long side of the teacher's input in pixels; scores always count at the
            image's own size.
        own_sizes: by method, the long side that it was published with, where jobs run at that besides; a job whose own
            size is a common one is one job.
        seeds: of everything random in a method; a method without chance runs with the first only.
        teacher: name of the frozen ViT that all methods that need one share.
        teacher_fingerprint: sha256 of its weights.
        evaluation: how each category is scored; its pictures are those of the first seed.
        threshold_rate: share of pixels (and of images) of the validation normals that the decision threshold may flag;
            F1 is nan where a category has no validation images.
    """

    categories: tuple[str, ...]
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    resolutions: tuple[int, ...] = (1036,)
    own_sizes: Mapping[str, int] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    teacher: str = "vit_base_patch14_reg4_dinov2"
    teacher_fingerprint: str = ""
    evaluation: EvaluationSettings = OF_EACH_CATEGORY
    threshold_rate: float = 0.01

    @model_validator(mode="before")
    @classmethod
    def _gather_evaluation(cls, content: Any) -> Any:  # noqa: ANN401 - any JSON value
        """Files of 0.1.0 hold the settings of the evaluation among those of the protocol, in older words."""
        if not isinstance(content, dict):
            return content
        content = protocol_in_our_words(content)
        if "evaluation" in content:
            return content
        flat = {name: value for name, value in content.items() if name in EvaluationSettings.model_fields}
        own = {name: value for name, value in content.items() if name not in flat}
        return {**own, "evaluation": {**dict(OF_EACH_CATEGORY), **flat}}

    def decisive(self) -> dict[str, object]:
        """All that decides a number, by name: everything but pictures and what is merely enumerated.

        Categories with their options, sizes and seeds stand in each result; adding one leaves the results of the others
        valid. Settings of the evaluation that the first protocols did not know are there where they differ from
        their defaults, so that a protocol without them keeps its fingerprint.
        """
        evaluation = self.evaluation
        known: dict[str, object] = {
            "teacher": self.teacher,
            "teacher_fingerprint": self.teacher_fingerprint,
            "fpr_limits": evaluation.fpr_limits,
            "curve": evaluation.curve,
            "detection_rule": evaluation.detection_rule,
            "false_alarm_rate": checked_rate(evaluation.detection_rule, evaluation.false_alarm_rate),
            "threshold_rate": self.threshold_rate,
            "n_resamples": evaluation.n_resamples,
        }
        later = evaluation.model_dump(mode="json", exclude=FOR_PICTURES | known.keys(), exclude_defaults=True)
        return known | {f"evaluation.{name}": value for name, value in later.items()}

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over all that decides a number."""
        return _digest({"version": PROTOCOL_VERSION, **self.decisive()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One method on one category at one resolution with one seed: what a worker does and a result answers.

    `method` is written as on the command line, options and all: `patchcore:coreset=0.01`. A method that needs no
    teacher has resolution 0.
    """

    protocol: EvaluationProtocol
    category: str
    method: str
    resolution: int
    seed: int

    @property
    def name(self) -> str:
        """For people: `mvtec_ad/screw 1036 fbft seed 0`."""
        return f"{self.category} {shown_resolution(self.resolution)} {self.method} seed {self.seed}"

    @property
    def options(self) -> Mapping[str, object]:
        """What the loader of its category is given besides."""
        return self.protocol.options.get(self.category.partition("/")[0], {})

    @property
    def path(self) -> Path:
        """Where its result lies below the output folder: `<dataset>/<category>/<resolution>/<method>/seed_<n>.json`."""
        safe = "".join(sign if sign.isalnum() or sign in "-_.=" else "_" for sign in self.method)
        return Path(self.category) / str(self.resolution) / safe / f"seed_{self.seed}.json"

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits: a stored result with the same ones need not be computed again."""
        own = (self.category, self.options, self.method, self.resolution, self.seed)
        return _digest((self.protocol.fingerprint, *own))

    @property
    def sizes(self) -> "Sizes":
        """Whether its resolution is common to all methods, its method's own, or both."""
        return sizes_of(self.protocol, self.method, self.resolution)

    @property
    def is_first_seed(self) -> bool:
        """Pictures and cost are kept for the first seed alone."""
        return self.seed == self.protocol.seeds[0]


def list_jobs(
    protocol: EvaluationProtocol,
    methods: Sequence[str],
    *,
    seedless: Collection[str] = (),
    teacherless: Collection[str] = (),
) -> list[Job]:
    """Every job, those that share teacher features next to each other.

    `seedless` methods get the first seed only, `teacherless` ones run once, whatever the resolutions.
    """
    of_methods = [size for method, size in protocol.own_sizes.items() if method in methods]
    every = tuple(dict.fromkeys((*protocol.resolutions, *of_methods))) or (NO_RESOLUTION,)
    jobs = []
    for category, resolution, method, seed in product(protocol.categories, every, methods, protocol.seeds):
        if method in seedless and seed != protocol.seeds[0]:
            continue
        if method in teacherless and resolution != every[0]:
            continue
        if method not in teacherless and resolution not in (*protocol.resolutions, protocol.own_sizes.get(method)):
            continue
        own = NO_RESOLUTION if method in teacherless else resolution
        jobs.append(Job(protocol=protocol, category=category, method=method, resolution=own, seed=seed))
    return jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What a resolution is to a method under a protocol: common to all methods, its own, or both at once."""

    is_common: bool = True
    is_own: bool = False


def sizes_of(protocol: EvaluationProtocol, method: str, resolution: int) -> Sizes:
    """See `Sizes`; a resolution that the protocol does not know is nobody's own."""
    is_own = resolution != NO_RESOLUTION and protocol.own_sizes.get(method) == resolution
    return Sizes(is_common=not is_own or resolution in protocol.resolutions, is_own=is_own)


def shown_resolution(resolution: int) -> str:
    """The number, or a dash where there is none."""
    return str(resolution) if resolution != NO_RESOLUTION else "–"


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Milliseconds: median, quartiles and how often it was measured."""

    median_ms: float
    low_ms: float
    high_ms: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSheet:
    """What a fitted method takes to look at one image.

    Attributes:
        image_size: (H, W) of the timed images in pixels.
        device, threads: where it ran; threads of the host.
        n_beside: other jobs that ran on the machine at the time; times are upper bounds unless it is 0.
        n_warmup: passes before the first timed one.
        stages: by name in `methods.method.STAGES`, batch 1; a stage that the method does not have is missing.
        end_to_end: from file to map and score, batch 1.
        by_batch: end to end per image, by batch size.
        best_batch: the size with the lowest median.
        peak_memory_bytes: of the process during prediction (of the device where there is one).
        teacher_bytes, method_bytes: weights of the shared teacher (0 where none is used), and what the method itself
            keeps.
    """

    image_size: tuple[int, int]
    device: str
    threads: int
    n_beside: int = 0
    n_warmup: int
    stages: Mapping[str, Spread]
    end_to_end: Spread
    by_batch: Mapping[int, Spread] = field(default_factory=dict)
    best_batch: int = 1
    peak_memory_bytes: int
    teacher_bytes: int
    method_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The job a result answers.

    Attributes:
        method: as on the command line, options and all; `settings` is all its numbers depend on.
        protocol, job: fingerprints, see `EvaluationProtocol.fingerprint` and `Job.fingerprint`.
        n_train: images it learnt from.
        fit_seconds, predict_seconds: wall time of the whole job's parts, teacher features looked up where they were
            known already; for honest speed see `cost`.
    """

    method: str
    resolution: int
    seed: int
    protocol: str
    job: str
    settings: Mapping[str, str] = field(default_factory=dict)
    n_train: int
    fit_seconds: float
    predict_seconds: float
    cost: CostSheet | None = None

    @property
    def described(self) -> str:
        """`fbft at 384 px, seed 0`."""
        size = f" at {self.resolution} px" if self.resolution != NO_RESOLUTION else ""
        return f"{self.method}{size}, seed {self.seed}"
