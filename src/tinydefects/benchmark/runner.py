"""Jobs to results on any executor; what is finished is on disk, so that any end leaves only the rest to do.

Features of the teacher are computed once: the jobs of a category and resolution wait until one task has computed them
all. A job that fails, or whose worker dies, leaves a line of text and never stops the others.
"""

import time
import traceback
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from tinydefects.benchmark.job import (
    Share,
    describe_failure,
    jobs_spared_training,
    prepare_features,
    run_job,
    share_of,
)
from tinydefects.benchmark.run_folder import clear_failure, write_failure
from tinydefects.benchmark.run_settings import RunSettings
from tinydefects.errors import TinyDefectsError
from tinydefects.results.protocol import Job
from tinydefects.results.result import write_result

Task: TypeAlias = Job | Share
N_TRIES = 3  # of a job whose worker dies
WATCH_SECONDS = 1.0  # how often it is asked whether workers are there


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a task; an empty `reason` is success, and its result lies on disk."""

    task: Task
    reason: str = ""
    seconds: float = 0.0


def run(
    jobs: Sequence[Job],
    settings: RunSettings,
    executor: Executor,
    *,
    n_at_once: Callable[[], int],
    started: Callable[[Task], None] = lambda task: None,
) -> Iterator[Outcome]:
    """Run the jobs, `n_at_once()` at a time; one outcome for each job and each computation of shared features.

    How many is asked again and again: workers of a cluster come and go, and what it raises when all have gone ends the
    run. `started` is called with each task before it is submitted. The executor needs nothing but `submit`; workers
    read `settings.root` and write to `settings.out` and `settings.features`.
    """
    ready, waiting = _plan(jobs)
    running: dict[Future[Outcome], Task] = {}
    n_deaths: Counter[str] = Counter()
    while ready or running:
        n_free = n_at_once() - len(running)
        for _ in range(min(n_free, len(ready))):
            task = ready.popleft()
            started(task)
            running[executor.submit(perform, task, settings)] = task
        for future in wait(running, WATCH_SECONDS, return_when=FIRST_COMPLETED).done:
            task = running.pop(future)
            n_deaths[task.name] += isinstance(future.exception(), BrokenExecutor)
            if isinstance(future.exception(), BrokenExecutor) and n_deaths[task.name] < N_TRIES:
                ready.appendleft(task)
                continue
            outcome = _outcome(future, task, settings)
            yield outcome
            if isinstance(task, Share):
                dependants = waiting.pop(task.name)
                if outcome.reason:
                    yield from (_failed(job, f"{task.name}: {outcome.reason}", settings) for job in dependants)
                else:
                    ready.extendleft(reversed(dependants))


def perform(task: Task, settings: RunSettings) -> Outcome:
    """In the worker: do the task and leave its result, or why there is none, on disk."""
    start = time.perf_counter()
    try:
        if isinstance(task, Share):
            prepare_features(task, settings)
        else:
            result = run_job(task, settings)
            clear_failure(task, settings.out)
            write_result(result, settings.out / task.path)
    except Exception as error:  # a method raises whatever it likes
        reason = describe_failure(error)
        if isinstance(task, Job):
            write_failure(task, reason, traceback.format_exc(), settings.out)
        return Outcome(task=task, reason=reason, seconds=time.perf_counter() - start)
    return Outcome(task=task, seconds=time.perf_counter() - start)


def _plan(jobs: Sequence[Job]) -> tuple[deque[Task], dict[str, list[Job]]]:
    """What can start at once, and by name of a share the jobs that wait for it."""
    spared = jobs_spared_training(jobs)
    sharing: dict[str, list[Job]] = defaultdict(list)
    shares: dict[str, Share] = {}
    ready: deque[Task] = deque()
    for job in sorted(jobs, key=lambda job: job.name in spared):
        share = share_of(job)
        if share is None:
            ready.append(job)
        else:
            shares[share.name] = share
            sharing[share.name].append(job)
    for name, share in shares.items():
        alone = len(sharing[name]) == 1
        ready.append(sharing.pop(name)[0] if alone else share)
    return ready, sharing


def _outcome(future: Future[Outcome], task: Task, settings: RunSettings) -> Outcome:
    """What the worker says, or what is known where it cannot."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor):
        return _failed(
            task,
            f"its worker died {N_TRIES} times: killed, or out of memory; try a lower resolution, fewer --workers",
            settings,
        )
    return _failed(task, describe_failure(error), settings)


def _failed(task: Task, reason: str, settings: RunSettings) -> Outcome:
    """Recorded here, because no worker could."""
    if isinstance(task, Job):
        with suppress(TinyDefectsError):  # the disk may be full, and the reason is told anyway
            write_failure(task, reason, "", settings.out)
    return Outcome(task=task, reason=reason)
