"""One job, from its category to its result: learn under guard, choose thresholds on normals, score the test split."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import nan, prod
from pathlib import Path
from typing import Any

from tinydefects.benchmark.cost import measure_cost
from tinydefects.benchmark.data_digests import digest_data, keep_digests
from tinydefects.benchmark.leakage import guarded, seal_for_fit, seal_for_predict
from tinydefects.benchmark.run_folder import SECONDS, SPLIT, Finished
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.data.images import category_with_image_bits, find_image_bits
from tinydefects.data.map_files import Origin, read_photograph
from tinydefects.data.mask_checks import allowing
from tinydefects.data.pairing import MapsError
from tinydefects.data.pixels import read_size
from tinydefects.data.predictions import write_prediction
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.datasets.catalog import load_category
from tinydefects.detector.devices import limited_threads, require_device, seed_all, waiting_for
from tinydefects.detector.teacher import Teacher, best_device, load_teacher
from tinydefects.errors import TeacherError, TinyDefectsError
from tinydefects.methods.catalog import MethodKind, parse_method
from tinydefects.methods.imported_maps import maps_sha256
from tinydefects.methods.method import INPUT, Method, MethodInputs, StageClock
from tinydefects.methods.patches import PatchSource
from tinydefects.metrics.detectability import thresholds_of_normals
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import Evaluation
from tinydefects.results.protocol import NO_RESOLUTION, CostSheet, EvaluationProtocol, Job, RunRecord
from tinydefects.results.result import Result, describe_run

LOOKED_UP = "maps:"  # a method that was run elsewhere costs nothing here
MAPS = "maps_sha256"  # of its maps, among the settings of a run
IMAGE_BITS = "image_bits"  # in the record
UNMARKED = "unmarked"  # among what is allowed: defective images without a mask
_one_job = threading.Lock()  # threads, seeds and the guard hold for a whole process


def load_for(settings: RunSettings, address: str, options: Mapping[str, Any]) -> Category:
    """A category below the root of the run, with what is allowed of it."""
    unmarked = UNMARKED in settings.allowed
    return allowing(load_category(address, root=settings.root, allow_unmarked=unmarked, **options), settings.allowed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What several jobs have in common: the teacher's features of one category at one resolution."""

    protocol: EvaluationProtocol
    category: str
    resolution: int

    @property
    def name(self) -> str:
        return f"{self.category} {self.resolution} teacher features"


def share_of(job: Job) -> Share | None:
    """The features that a job shares with others; None where it sees no teacher, or in a way of its own."""
    if job.resolution == NO_RESOLUTION:
        return None
    kind, options = parse_method(job.method)
    if not kind.shares_features or not options.keys().isdisjoint(INPUT):
        return None
    return Share(protocol=job.protocol, category=job.category, resolution=job.resolution)


def students_of(job: Job) -> tuple[object, ...] | None:
    """Equal for jobs that use the same trained students; None where a job has none."""
    kind, options = parse_method(job.method)
    return (job.category, job.resolution, job.seed, kind.students, *sorted(options.items())) if kind.students else None


def jobs_spared_training(jobs: Sequence[Job]) -> frozenset[str]:
    """Names of the jobs that use students which an earlier one trains; better done after it than beside it."""
    trained, spared = set[tuple[object, ...]](), set[str]()
    for job in jobs:
        students = students_of(job)
        if students is not None:
            spared |= {job.name} if students in trained else set()
            trained.add(students)
    return frozenset(spared)


def of_these_maps(found: Mapping[str, Finished], categories: Mapping[str, Category]) -> dict[str, Finished]:
    """The finished jobs, by name, without those that scored other maps than lie in their folder now.

    Raises:
        TinyDefectsError: a folder of maps is gone or cannot be read.
    """

    def fits(one: Finished) -> bool:
        if not one.job.method.startswith(LOOKED_UP):
            return True
        _, options = parse_method(one.job.method)
        return one.settings.get(MAPS) == maps_sha256(options, categories[one.job.category])

    return {name: one for name, one in found.items() if fits(one)}


@dataclass(slots=True)
class Examinee:
    """A method behind the guard: it never sees a label, a mask or, while it learns, a test image."""

    method: Method
    category: Category
    name: str
    seconds: float = field(default=0.0, init=False)

    def fit(self) -> None:
        """Learn from the training samples."""
        with guarded(seal_for_fit(self.category, self.name)):
            self.method.fit([_bare(sample) for sample in self.category.train])

    def predictions(self, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Prediction]]:
        """Each sample with what the method says of it, one at a time; `seconds` grows by the method's own."""
        seal = seal_for_predict(self.category, self.name)
        for sample in samples:
            start = time.perf_counter()
            with guarded(seal):
                (prediction,) = self.method.predict([replace(_bare(sample), label="unknown")])
            self.seconds += time.perf_counter() - start
            yield sample, prediction

    def cost(self, measure: Callable[[Method, Sequence[Sample]], CostSheet]) -> CostSheet:
        """Measured on training images."""
        with guarded(seal_for_fit(self.category, self.name)):
            return measure(self.method, [_bare(sample) for sample in self.category.train])


def run_job(job: Job, settings: RunSettings) -> Result:
    """The result of one job; again the same, but for its times, on this machine with equal packages and threads.

    Elsewhere its last digits differ, and what is trained a little more: see "What is equal" in docs/conventions.md.

    Raises:
        LeakError: the method opened what it must not see.
        TinyDefectsError: no such category or method, or another teacher than the protocol's; a method may raise more.
    """
    start = time.perf_counter()
    with _one_job, limited_threads(settings.threads):
        seed_all(job.seed)
        category = load_for(settings, job.category, job.options)
        data = digest_data(category)  # before anything is read: what changes meanwhile no longer fits it
        keep_digests(data, settings.out, job.category)
        category, bits = _read_alike(category)
        kind, options = parse_method(job.method)
        looked_up = {MAPS: maps_sha256(options, category)} if job.method.startswith(LOOKED_UP) else {}
        inputs = method_inputs(job, settings, options)
        with guarded(seal_for_fit(category, job.method)):
            examinee = Examinee(kind.make(inputs), category, job.method)
        examinee.fit()
        fit_seconds = time.perf_counter() - start
        cost = _cost(examinee, kind, inputs, job, settings)
        evaluation = _score(examinee, job, settings)
    own = {name: str(value) for name, value in examinee.method.settings.items()}
    record = RunRecord(
        method=job.method,
        resolution=job.resolution,
        seed=job.seed,
        protocol=job.protocol.fingerprint,
        job=job.fingerprint,
        settings={**own, **looked_up, SPLIT: data.split, IMAGE_BITS: str(bits)},
        n_train=len(category.train),
        fit_seconds=fit_seconds,
        predict_seconds=examinee.seconds,
        cost=cost,
    )
    facts = {**_to_repeat(job, settings, record), SECONDS: f"{time.perf_counter() - start:.2f}"}
    return Result(evaluation=evaluation, provenance=describe_run(facts), run=record)


def prepare_features(share: Share, settings: RunSettings) -> None:
    """Compute and keep the teacher's features of every image of a category that are not there yet.

    Raises:
        TinyDefectsError: an image cannot be read, or the features do not fit.
    """
    with _one_job, limited_threads(settings.threads):
        job = Job(protocol=share.protocol, category=share.category, method="", resolution=share.resolution, seed=0)
        category, _ = _read_alike(load_for(settings, job.category, job.options))
        source = PatchSource(method_inputs(job, settings, {}))
        source.training(category.train)
        for sample in (*category.validation, *category.test):
            source.keep(sample)


def method_inputs(job: Job, settings: RunSettings, options: dict[str, str]) -> MethodInputs:
    """What a method is built from.

    Raises:
        TinyDefectsError: this machine has no such device.
    """
    clock = StageClock()
    clock.synchronise = waiting_for(require_device(settings.device) or best_device())
    return MethodInputs(
        teacher=partial(shared_teacher, job.protocol, settings),
        resolution=job.resolution,
        seed=job.seed,
        features_folder=settings.features,
        features_limit_gb=settings.features_limit_gb,
        category=job.category,
        device=settings.device,
        clock=clock,
        options=options,
    )


def shared_teacher(protocol: EvaluationProtocol, settings: RunSettings) -> Teacher:
    """The protocol's teacher, loaded once a process.

    Raises:
        TeacherError: it has other weights here than those the protocol was made with.
    """
    teacher = _load_once(protocol.teacher, settings.teacher_weights, settings.device)
    if protocol.teacher_fingerprint and teacher.fingerprint != protocol.teacher_fingerprint:
        raise TeacherError(
            f"{protocol.teacher}: its weights here are {teacher.fingerprint[:12]}, the protocol's are "
            f"{protocol.teacher_fingerprint[:12]}; give every machine the same file (--teacher-weights FILE)"
        )
    return teacher


@lru_cache(maxsize=1)
def _load_once(name: str, weights: Path | None, device: str | None) -> Teacher:
    return load_teacher(name, weights=weights, device=device)


def _read_alike(category: Category) -> tuple[Category, int]:
    """Photographs of 16 bits are read alike for every method: the bits that the category's training images fill."""
    bits = find_image_bits(category.train).bits
    return category_with_image_bits(category, bits), bits


def _bare(sample: Sample) -> Sample:
    return replace(sample, mask_paths=())


def _kept(
    pairs: Iterator[tuple[Sample, Prediction]], job: Job, settings: RunSettings
) -> Iterator[tuple[Sample, Prediction]]:
    """The same pairs, their maps written on the way where that is asked for."""
    for sample, prediction in pairs:
        if settings.keep_maps:
            folder = (settings.out / job.path).with_suffix("")
            _, photograph = read_photograph(sample)
            made_by = {"method": job.method, "resolution": job.resolution, "seed": job.seed, "job": job.fingerprint}
            origin = Origin(photograph=photograph, made_by=made_by)
            write_prediction(folder, job.category, sample, prediction, origin=origin)
        yield sample, prediction


def _score(examinee: Examinee, job: Job, settings: RunSettings) -> Evaluation:
    """The test split under the protocol; each map is scored, written where that is asked for, and forgotten."""
    protocol = job.protocol
    threshold, image_threshold = _thresholds(examinee, protocol.threshold_rate)
    evaluation = protocol.evaluation.changed(
        threshold=threshold,
        image_threshold=image_threshold,
        n_crops=protocol.evaluation.n_crops if job.is_first_seed else 0,
    )
    pairs = _kept(examinee.predictions(examinee.category.test), job, settings)
    return evaluate(pairs, evaluation, category=job.category)


def _thresholds(examinee: Examinee, rate: float) -> tuple[float, float]:
    """Decision thresholds for pixels and images from validation normals; nan where there are none."""
    normals = [sample for sample in examinee.category.validation if sample.label == "good"]
    if not normals:
        return nan, nan
    n_pixels = sum(prod(read_size(sample.image_path)) for sample in normals)
    predictions = (prediction for _, prediction in examinee.predictions(normals))
    try:
        return thresholds_of_normals(predictions, n_pixels, rate)
    except MapsError:  # maps made elsewhere, of test images alone
        return nan, nan


def _cost(
    examinee: Examinee, kind: MethodKind, inputs: MethodInputs, job: Job, settings: RunSettings
) -> CostSheet | None:
    if settings.cost == "off" or not job.is_first_seed or job.method.startswith(LOOKED_UP):
        return None
    weights = inputs.teacher().model.parameters() if kind.uses_teacher else ()
    return examinee.cost(
        partial(
            measure_cost,
            clock=inputs.clock,
            device=settings.device or best_device(),
            threads=settings.threads,
            teacher_bytes=sum(one.numel() * one.element_size() for one in weights),
            n_beside=settings.n_beside,
            mode=settings.cost,
        )
    )


def _to_repeat(job: Job, settings: RunSettings, record: RunRecord) -> dict[str, object]:
    """Everything but the code: the job, its protocol, the method's settings, the circumstances."""
    return {
        "command": "benchmark",
        "method": job.method,
        "resolution": job.resolution,
        "seed": job.seed,
        **job.protocol.decisive(),
        "dataset_options": " ".join(f"{name}={value}" for name, value in job.options.items()),
        **({"allowed": " ".join(settings.allowed)} if settings.allowed else {}),
        "threads": settings.threads,
        "device": settings.device or best_device(),
        "n_beside": settings.n_beside,
        **{f"method.{name}": value for name, value in record.settings.items()},
    }


def describe_failure(error: BaseException) -> str:
    """One line that says why a job has no result."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, TinyDefectsError) else f"{type(error).__name__}: {text}"
