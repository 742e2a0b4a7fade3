"""What a benchmark result says besides its numbers: which job it answers, and what the method costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
        teacher_bytes, peer_bytes: weights of the shared teacher (0 where none is used), and what the method itself
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
    peer_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The job a result answers.

    Attributes:
        peer: as on the command line, options and all; `settings` is all its numbers depend on.
        protocol, job: fingerprints, see `protocol.py`.
        n_train: images it learnt from.
        fit_seconds, predict_seconds: wall time of the whole job's parts, teacher features looked up where they were
            known already; for honest speed see `cost`.
    """

    peer: str
    resolution: int
    seed: int
    protocol: str
    job: str
    settings: Mapping[str, str] = field(default_factory=dict)
    n_train: int
    fit_seconds: float
    predict_seconds: float
    cost: CostSheet | None = None
