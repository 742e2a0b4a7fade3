"""What is held fixed while methods are compared, as one frozen value, and the jobs that follow from it.

A number is comparable with another when both carry the fingerprint of the same protocol. Which images a method may
learn from is part of it; test images are opened only to be scored.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from tinydefects.metrics.detectability import DEFAULT_RATES, DEFAULT_RULE
from tinydefects.metrics.scores import FPR_LIMITS

PROTOCOL_VERSION = 1  # raised when equal settings would no longer give equal numbers
ENUMERATED = ("categories", "options", "resolutions", "seeds", "n_exhibits")
NO_RESOLUTION = 0  # of a method that sees no teacher's input


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationProtocol:
    """Everything that decides a number besides the method.

    Attributes:
        categories: addresses, `dataset/category`.
        options: what the loader of a dataset takes besides, by dataset; they decide the splits, and so each job's
            fingerprint.
        resolutions: long side of the teacher's input in pixels; scores always count at the image's own size.
        seeds: of everything random in a method; a method without chance runs with the first only.
        teacher: name of the frozen ViT that all methods that need one share.
        teacher_fingerprint: sha256 of its weights.
        fpr_limits, curve: limits of AUPRO, and how its curve is sampled.
        detection_rule, false_alarm_rate: when a defect counts as detected.
        threshold_rate: share of pixels (and of images) of the validation normals that the decision threshold may flag;
            F1 is nan where a category has no validation images.
        n_resamples: draws behind every interval.
        n_exhibits: defects cut out for pictures, of the first seed.
    """

    categories: tuple[str, ...]
    options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    resolutions: tuple[int, ...] = (1036,)
    seeds: tuple[int, ...] = (0,)
    teacher: str = "vit_base_patch14_reg4_dinov2"
    teacher_fingerprint: str = ""
    fpr_limits: tuple[float, ...] = FPR_LIMITS
    curve: str = "exact"
    detection_rule: str = DEFAULT_RULE
    false_alarm_rate: float = DEFAULT_RATES[DEFAULT_RULE]
    threshold_rate: float = 0.01
    n_resamples: int = 1000
    n_exhibits: int = 400

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits over all that decides a number: everything but what is merely enumerated.

        Categories with their options, resolutions and seeds stand in each result; adding one leaves the results of the
        others valid.
        """
        fixed = {name: value for name, value in asdict(self).items() if name not in ENUMERATED}
        return _digest({"version": PROTOCOL_VERSION, **fixed})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One method on one category at one resolution with one seed: what a worker does and a result answers.

    `peer` is written as on the command line, options and all: `patchcore:coreset=0.01`. A method that needs no teacher
    has resolution 0.
    """

    protocol: EvaluationProtocol
    category: str
    peer: str
    resolution: int
    seed: int

    @property
    def name(self) -> str:
        """For people: `mvtec_ad/screw 1036 fbft seed 0`."""
        return f"{self.category} {shown_resolution(self.resolution)} {self.peer} seed {self.seed}"

    @property
    def options(self) -> Mapping[str, object]:
        """What the loader of its category is given besides."""
        return self.protocol.options.get(self.category.partition("/")[0], {})

    @property
    def path(self) -> Path:
        """Where its result lies below the output folder: `<dataset>/<category>/<resolution>/<peer>/seed_<n>.json`."""
        safe = "".join(sign if sign.isalnum() or sign in "-_.=" else "_" for sign in self.peer)
        return Path(self.category) / str(self.resolution) / safe / f"seed_{self.seed}.json"

    @property
    def fingerprint(self) -> str:
        """Sixteen hex digits: a stored result with the same ones need not be computed again."""
        own = (self.category, self.options, self.peer, self.resolution, self.seed)
        return _digest((self.protocol.fingerprint, *own))

    @property
    def is_first_seed(self) -> bool:
        """Pictures and cost are kept for the first seed alone."""
        return self.seed == self.protocol.seeds[0]


def list_jobs(
    protocol: EvaluationProtocol,
    peers: Sequence[str],
    *,
    seedless: Collection[str] = (),
    teacherless: Collection[str] = (),
) -> list[Job]:
    """Every job, those that share teacher features next to each other.

    `seedless` peers get the first seed only, `teacherless` ones run once, whatever the resolutions.
    """
    jobs = []
    for category, resolution, peer, seed in product(protocol.categories, protocol.resolutions, peers, protocol.seeds):
        if peer in seedless and seed != protocol.seeds[0]:
            continue
        if peer in teacherless and resolution != protocol.resolutions[0]:
            continue
        own = NO_RESOLUTION if peer in teacherless else resolution
        jobs.append(Job(protocol=protocol, category=category, peer=peer, resolution=own, seed=seed))
    return jobs


def shown_resolution(resolution: int) -> str:
    """The number, or a dash where there is none."""
    return str(resolution) if resolution != NO_RESOLUTION else "–"


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
