"""What jobs will take before the first one runs: seconds, disk, memory; measured where anything is known.

How much a category is for a teacher (images, patches, bytes of features) is exact, from the images' headers. A method's
seconds come from its finished results, scaled by patches; before there are any, from one timed pass of the teacher on
this machine and a rough factor of the method. The room that results take and the memory of a worker are those of
finished jobs, too, as soon as there are some.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median

from tinydefects.benchmark.job import Share, jobs_spared_training, share_of, shared_teacher
from tinydefects.benchmark.run_folder import Finished
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.data.pixels import read_size
from tinydefects.data.sample import Category
from tinydefects.detector.devices import limited_threads
from tinydefects.detector.features import FeatureFormat, expected_bytes
from tinydefects.detector.patch_grid import PatchGrid, Size
from tinydefects.detector.settings import EPOCHS, DetectorSettings
from tinydefects.detector.students import time_pass
from tinydefects.detector.teacher import Teacher
from tinydefects.errors import TrainingError
from tinydefects.methods.catalog import METHODS, parse_method
from tinydefects.methods.method import INPUT, LEARNING, read_settings
from tinydefects.results.protocol import NO_RESOLUTION, Job
from tinydefects.results.result import read_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One category as a teacher sees it; patches and bytes are 0 where none looks.

    Attributes:
        n_train, n_test: images to learn from and to score.
        n_passes: of the teacher over the images to learn from.
        megapixels: of all images that are scored, validation images among them.
        n_train_patches, n_patches: of the images to learn from, and of all.
        training_bytes, feature_bytes: features to learn from in 16 bit (in the preset `published` in 32), and with
            them those to score in 32 bit.
    """

    n_train: int
    n_test: int
    megapixels: float
    n_passes: int = 0
    n_train_patches: int = 0
    n_patches: int = 0
    training_bytes: int = 0
    feature_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CategorySizes:
    """(H, W) of the images of a category, read once for all jobs."""

    train: Sequence[Size]
    validation: Sequence[Size]
    test: Sequence[Size]

    def workload(self, teacher: Teacher | None, settings: DetectorSettings | None) -> Workload:
        """What the category is for this teacher, seen as the settings say: in one pass an image, tiles or shifts."""
        scored = [*self.validation, *self.test]
        n_train, n_test, megapixels = len(self.train), len(self.test), sum(map(prod, scored)) / 1e6
        if teacher is None or settings is None:
            return Workload(n_train=n_train, n_test=n_test, megapixels=megapixels)
        train, rest = (
            [grid for size in part for grid in settings.passes(size, patch=teacher.patch_size).grids]
            for part in (self.train, scored)
        )
        learnt_format: FeatureFormat = "float32" if settings.preset == "published" else "float16"
        n_blocks = len(settings.blocks or teacher.blocks)
        training_bytes = expected_bytes(train, n_blocks=n_blocks, dim=teacher.dim, feature_format=learnt_format)
        rest_bytes = expected_bytes(rest, n_blocks=n_blocks, dim=teacher.dim, feature_format="float32")
        return Workload(
            n_train=n_train,
            n_test=n_test,
            megapixels=megapixels,
            n_passes=len(train),
            n_train_patches=sum(prod(grid.shape) for grid in train),
            n_patches=sum(prod(grid.shape) for grid in (*train, *rest)),
            training_bytes=training_bytes,
            feature_bytes=training_bytes + rest_bytes,
        )


def sizes_of(category: Category) -> CategorySizes:
    """From the headers of its images.

    Raises:
        ImageReadError: a file is no image.
    """
    train, validation, test = (
        [read_size(sample.image_path) for sample in split]
        for split in (category.train, category.validation, category.test)
    )
    return CategorySizes(train=train, validation=validation, test=test)


def shared_grid(teacher: Teacher, size: Size, resolution: int) -> PatchGrid:
    """The geometry of shared features."""
    return PatchGrid.proportional(size, patch=teacher.patch_size, resolution=resolution)


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of a method in passes of the teacher, roughly.

    Attributes:
        learning: over an image it learns from.
        scoring: over an image it scores.
        once: whatever the number of images.
        against: over an image it scores, for each image it has learnt from, `MOST_RETRIEVED` at most.
    """

    learning: float
    scoring: float
    once: float = 0.0
    against: float = 0.0


FBFT = Effort(5.0, 0.1)  # of EPOCHS; all with the built-in teacher at 384 px, by `benchmarks/efforts.py` and job times
EFFORTS: Mapping[str, Effort] = {
    **{name: FBFT for name, kind in METHODS.items() if kind.students},
    "fbft_v0.1": FBFT,
    "fbft_published": Effort(8.0, 1.1),  # with a pass of its own
    "patchcore": Effort(1.0, 0.8),
    "patchcore_hnsw": Effort(0.7, 0.3),
    "anomalydino": Effort(0.1, 1.1),
    "gaussian": Effort(0.1, 0.1),
    "subspace": Effort(0.1, 0.1),
    "procon": Effort(1.0, 0.5),
    "mh_patchcore": Effort(0.2, 0.15),
    "rad": Effort(0.05, 0.05, against=0.03),
    "noise_discriminator": Effort(0.1, 0.1, once=90.0),
}
MOST_RETRIEVED = 150  # of RAD, unless told otherwise
ANY_METHOD = Effort(0.3, 0.3)
TIMED_IMAGES = {"off": 0, "quick": 40, "mvtec": 6000}  # of a cost sheet, about, all batch sizes together
SECONDS_PER_MEGAPIXEL = 0.2  # of a method without teacher, and of scoring
RESULT_BYTES, CROPS_BYTES = 200_000, 1_500_000  # of one result, and of its crops where it has some
PROCESS_BYTES = 700_000_000  # libraries, and buffers of an image
MOST_WEIGHED = 10  # results that are read again for the memory they took

Loads = Mapping[tuple[str, DetectorSettings | None], Workload]  # by category and how the teacher sees it
Rates = Mapping[tuple[str, bool], float]  # seconds a patch, by method and whether it was the first seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One job: what it has to do and about how long it takes; `measured` says from results rather than guessed."""

    job: Job
    n_train: int
    n_test: int
    is_done: bool
    seconds: float
    measured: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All jobs, and what those that are not done will take together.

    Attributes:
        shares: seconds of the teacher's passes by name of the share, for those that are left.
        teacher_seconds: of one pass over one image, by resolution, timed here; empty where no job needs the teacher.
        feature_bytes: teacher features of everything that is left.
        result_bytes: results that are left.
        memory_bytes: of one worker at most, about.
        n_stored, n_weighed: finished jobs from which the room of results and the memory are known; 0: guessed.
    """

    estimates: tuple[Estimate, ...]
    shares: Mapping[str, float]
    teacher_seconds: Mapping[int, float]
    feature_bytes: int
    result_bytes: int
    memory_bytes: int
    n_stored: int = 0
    n_weighed: int = 0

    @property
    def left(self) -> list[Estimate]:
        """Jobs that are not done."""
        return [estimate for estimate in self.estimates if not estimate.is_done]

    @property
    def seconds(self) -> float:
        """Of all that is left, for one worker."""
        return sum(estimate.seconds for estimate in self.left) + sum(self.shares.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What estimates are made from: workloads, the teacher's seconds a patch and an image, rates of methods.

    `spared` names jobs that find what they learn already learnt; `n_timed` is how many images a cost sheet takes.
    """

    loads: Loads
    per_patch: Mapping[int, float]
    per_image: Mapping[int, float]
    rates: Rates
    spared: Collection[str]
    n_timed: int

    def load(self, task: Job | Share) -> Workload:
        return self.loads[task.category, seen_by(task)]

    def estimate(self, job: Job, *, is_done: bool) -> Estimate:
        load = self.load(job)
        rate = self.rates.get((job.method, job.is_first_seed), self.rates.get((job.method, not job.is_first_seed)))
        seconds = 0.0
        if not is_done:
            seconds = self._guess(job) if rate is None else rate * _work(load)
        return Estimate(
            job=job,
            n_train=load.n_train,
            n_test=load.n_test,
            is_done=is_done,
            seconds=seconds,
            measured=rate is not None,
        )

    def _guess(self, job: Job) -> float:
        load = self.load(job)
        scoring = load.megapixels * SECONDS_PER_MEGAPIXEL
        if job.resolution == NO_RESOLUTION:
            return 2 * scoring
        name = job.method.partition(":")[0]
        effort = EFFORTS.get(name, ANY_METHOD)
        learning = 0.0 if job.name in self.spared else effort.learning * _share_of_epochs(job, load)
        scoring_effort = effort.scoring + effort.against * min(load.n_train, MOST_RETRIEVED)
        patches = learning * load.n_train_patches + scoring_effort * (load.n_patches - load.n_train_patches)
        if share_of(job) is None and METHODS[name].shares_features:  # not this time: a pass of its own over each image
            patches += load.n_patches
        timing = self.n_timed * (1 + scoring_effort) if job.is_first_seed else 0.0
        return (
            scoring + (timing + effort.once) * self.per_image[job.resolution] + patches * self.per_patch[job.resolution]
        )


def plan_jobs(
    jobs: Sequence[Job], categories: Mapping[str, Category], results: Mapping[str, Finished], settings: RunSettings
) -> Plan:
    """What the jobs take; `results` are those that are finished, by the job's name."""
    left = [job for job in jobs if job.name not in results]
    needing = [job for job in left if job.resolution != NO_RESOLUTION]
    teacher = shared_teacher(needing[0].protocol, settings) if needing else None
    shares = {share.name: share for job in needing if (share := share_of(job))}
    sizes = {name: sizes_of(category) for name, category in categories.items()}
    seen = {(job.category, seen_by(job)) for job in jobs} | {(one.category, seen_by(one)) for one in shares.values()}
    loads = {(name, how): sizes[name].workload(teacher, how) for name, how in seen}
    timed = {job.resolution: sizes[job.category].train[0] for job in reversed(needing)}
    shapes = {side: shared_grid(teacher, size, side).shape for side, size in timed.items() if teacher}
    with limited_threads(settings.threads) if shapes else nullcontext():
        per_image = {side: time_pass(teacher, shape, repeats=1) for side, shape in shapes.items() if teacher}
    per_patch = {side: seconds / prod(shapes[side]) for side, seconds in per_image.items()}
    known = _Known(
        loads=loads,
        per_patch=per_patch,
        per_image=per_image,
        rates=_rates(jobs, loads, results),
        spared=jobs_spared_training(jobs),
        n_timed=TIMED_IMAGES[settings.cost],
    )
    own = {(job.category, seen_by(job)): known.load(job) for job in needing if share_of(job) is None}
    done = [job for job in jobs if job.name in results]
    room = _result_bytes(done, settings.out)
    peaks = _peaks(done, known, settings.out)
    return Plan(
        estimates=tuple(known.estimate(job, is_done=job.name in results) for job in jobs),
        shares={name: known.load(one).n_patches * per_patch[one.resolution] for name, one in shares.items()},
        teacher_seconds=per_image,
        feature_bytes=sum(known.load(one).feature_bytes for one in shares.values())
        + sum(load.feature_bytes for load in own.values()),
        result_bytes=sum(room[job.is_first_seed] for job in left),
        memory_bytes=_memory(teacher, [known.load(job) for job in left], peaks),
        n_stored=len(done),
        n_weighed=len(peaks),
    )


def seen_by(task: Job | Share) -> DetectorSettings | None:
    """How the teacher sees the images of a task; None where it does not."""
    if task.resolution == NO_RESOLUTION:
        return None
    if isinstance(task, Share):
        return DetectorSettings(resolution=task.resolution)
    kind, options = parse_method(task.method)
    named = {name: text for name, text in options.items() if name in INPUT}
    return read_settings(named, resolution=task.resolution, preset=kind.preset)


def require_space(plan: Plan, settings: RunSettings) -> None:
    """Refuse before the first job what cannot fit.

    Raises:
        TrainingError: the features exceed their limit, or features and results the free space.
    """
    remedy = "lower --resolutions or run fewer --categories"
    if plan.feature_bytes > settings.features_limit_gb * 1e9:
        raise TrainingError(
            f"{settings.features}: the teacher's features need {plan.feature_bytes / 1e9:.3g} GB, the limit is "
            f"{settings.features_limit_gb:g} GB: raise --features-limit-gb, {remedy}"
        )
    there = next(folder for folder in (settings.features, *settings.features.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    needed = max(0, plan.feature_bytes - _held_bytes(settings.features)) + plan.result_bytes
    if needed > free:
        raise TrainingError(
            f"{settings.features}: features and results need {needed / 1e9:.3g} GB more, the disk has "
            f"{free / 1e9:.3g} GB free: free space, choose another --features, {remedy}"
        )


def _share_of_epochs(job: Job, load: Workload) -> float:
    """How much students learn, of what 50 epochs are."""
    kind, options = parse_method(job.method)
    if "epochs" not in kind.settings or not load.n_train_patches:
        return 1.0
    named = {name: text for name, text in options.items() if name in LEARNING}
    settings = read_settings(named, preset=kind.preset)
    return settings.expected_epochs(n_passes=load.n_passes, n_patches=load.n_train_patches) / EPOCHS


def _rates(jobs: Sequence[Job], loads: Loads, results: Mapping[str, Finished]) -> Rates:
    """From what is finished; seconds a megapixel where no teacher looks."""
    found: dict[tuple[str, bool], list[float]] = {}
    for job in jobs:
        if job.name in results:
            rate = results[job.name].seconds / _work(loads[job.category, seen_by(job)])
            found.setdefault((job.method, job.is_first_seed), []).append(rate)
    return {key: median(rates) for key, rates in found.items()}


def _work(load: Workload) -> float:
    return load.n_patches or load.megapixels


def _result_bytes(done: Sequence[Job], out: Path) -> Mapping[bool, int]:
    """Of one result with all its files, by whether it is of the first seed; median of those that are there."""
    found: dict[bool, list[int]] = {}
    for job in done:
        path = out / job.path
        files = [*path.parent.glob(f"{path.stem}.*"), *path.with_suffix("").rglob("*")]  # the latter are kept maps
        size = sum(file.stat().st_size for file in files if file.is_file())
        found.setdefault(job.is_first_seed, []).append(size)
    guess = {True: RESULT_BYTES + CROPS_BYTES, False: RESULT_BYTES}
    return guess | {is_first: round(median(sizes)) for is_first, sizes in found.items()}


def _peaks(done: Sequence[Job], known: "_Known", out: Path) -> list[tuple[int, int]]:
    """What workers without a GPU held at most, and the training features of those jobs, in bytes; of the largest."""
    weighed = sorted((job for job in done if job.is_first_seed), key=lambda job: -known.load(job).training_bytes)
    costs = [(read_result(out / job.path).run, known.load(job).training_bytes) for job in weighed[:MOST_WEIGHED]]
    return [
        (run.cost.peak_memory_bytes, training)
        for run, training in costs
        if run is not None and run.cost is not None and not run.cost.device.startswith("cuda")
    ]


def _memory(teacher: Teacher | None, loads: Sequence[Workload], peaks: Sequence[tuple[int, int]]) -> int:
    """Libraries, the teacher, and the training features of the largest category in 32 bit.

    Where jobs are finished: what the largest of them held, and twice what the training features grow by.
    """
    largest = max((load.training_bytes for load in loads), default=0)
    if peaks:
        return max(peak + 2 * max(0, largest - training) for peak, training in peaks)
    weights = 0 if teacher is None else sum(one.numel() * one.element_size() for one in teacher.model.parameters())
    return PROCESS_BYTES + weights + 2 * largest


def _held_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.npy")) if folder.is_dir() else 0
