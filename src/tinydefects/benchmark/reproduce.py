"""A job run again, from its result and the protocol above it, and its numbers compared with those that are stored."""

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tinydefects.benchmark.data_digests import known_options
from tinydefects.benchmark.job import run_job
from tinydefects.benchmark.run_folder import SPLIT, home_of, read_protocol
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.data.json_files import first_fault
from tinydefects.errors import ResultError
from tinydefects.metrics.scores import metrics_of
from tinydefects.results.protocol import EvaluationProtocol, Job
from tinydefects.results.recount import as_far_as_known
from tinydefects.results.result import Result, read_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the job runs again: folder of the datasets, file of the teacher's weights, device; None is the default."""

    root: Path
    weights: Path | None = None
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What came out.

    Attributes:
        job: its name.
        metrics: by name what is stored, and what came out now; nan where undefined.
        other_images: whether the images or masks here are not those of the result.
        versions: by package those of the result and those here, where they differ.
    """

    job: str
    metrics: dict[str, tuple[float, float]]
    other_images: bool
    versions: dict[str, tuple[str, str]]

    def beyond(self, tolerance: float) -> dict[str, tuple[float, float]]:
        """The metrics that moved by more than a tolerance, relative above 1, or became undefined; the largest first."""

        def moved(pair: tuple[float, float]) -> float:
            stored, again = pair
            if math.isnan(stored) or math.isnan(again):
                return 0.0 if math.isnan(stored) and math.isnan(again) else math.inf
            return abs(stored - again) / max(1.0, abs(stored))

        ordered = sorted(self.metrics.items(), key=lambda one: -moved(one[1]))
        return {name: pair for name, pair in ordered if moved(pair) > tolerance}

    def lines(self, tolerance: float) -> list[str]:
        """For people."""
        told = [f"{self.job}: the images or masks here are not those of the result"] if self.other_images else []
        told += [
            f"note: {name} {there} made the result, here is {here}" for name, (there, here) in self.versions.items()
        ]
        beyond = self.beyond(tolerance)
        told += [f"{name}: {stored:.6f} stored, {again:.6f} now" for name, (stored, again) in beyond.items()]
        if beyond:
            return [*told, f"{self.job}: {len(beyond)} of {len(self.metrics)} metrics moved by more than {tolerance:g}"]
        return [*told, f"{self.job}: all {len(self.metrics)} metrics as stored, within {tolerance:g}"]


def reproduce(path: Path, machine: Machine) -> Reproduction:
    """Run the job of a result again and compare; nothing is written that stays.

    Raises:
        ResultError: no benchmark made the result, or the protocol above it is another.
        TinyDefectsError: the data, the weights or the method are not to be had here, or the job fails.
    """
    result = read_result(path)
    job = _job_of(path, result)
    assert result.run is not None
    settings = result.provenance.settings
    with tempfile.TemporaryDirectory() as folder:
        given: dict[str, object] = {
            "root": machine.root,
            "out": Path(folder),
            "teacher_weights": machine.weights,
            "device": machine.device,
            "threads": settings.get("threads", "1"),
            "allowed": tuple(settings.get("allowed", "").split()),
            "cost": "off",
        }
        try:
            run_settings = RunSettings.model_validate(given)
        except ValidationError as error:
            raise ResultError(f"{path}: cannot be run again as it says it was made: {first_fault(error)}") from error
        known_options(job.category, job.options)
        again = run_job(job, run_settings)
    assert again.run is not None
    stored = metrics_of(result.evaluation)
    now = metrics_of(as_far_as_known(again.evaluation, result.evaluation))
    there, here = result.provenance.versions, again.provenance.versions
    nothing = math.nan
    return Reproduction(
        job=job.name,
        metrics={name: (stored.get(name, nothing), now.get(name, nothing)) for name in dict.fromkeys((*stored, *now))},
        other_images=result.run.settings.get(SPLIT) != again.run.settings[SPLIT],
        versions={name: (there[name], here.get(name, "none")) for name in there if there[name] != here.get(name)},
    )


def _job_of(path: Path, result: Result) -> Job:
    """The job, once the protocol above the result is known to be its own."""
    run = result.run
    if run is None:
        raise ResultError(f"{path}: no benchmark made it, so that it names no job; evaluate its maps again")
    home = home_of(path)
    protocol: EvaluationProtocol | None = read_protocol(home) if home else None
    if protocol is None:
        raise ResultError(f"{path}: no protocol.json lies above it; keep results in the folder of their benchmark")
    if not protocol.seeds:
        raise ResultError(f"{home}/protocol.json: names no seed; ask for it again")
    category = result.evaluation.category
    job = Job(protocol=protocol, category=category, method=run.method, resolution=run.resolution, seed=run.seed)
    if run.job != job.fingerprint:
        raise ResultError(f"{path}: answers another job than {job.name} under {home}/protocol.json; verify the folder")
    return job
