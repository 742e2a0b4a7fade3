"""How a benchmark goes on: one bar for all jobs, one line for each that has ended, and the time that is left."""

import time

from tinydefects.benchmark.estimate import Plan
from tinydefects.benchmark.runner import Outcome, Task
from tinydefects.benchmark.text import shown_time
from tinydefects.progress import Progress
from tinydefects.results.protocol import Job

BAR = "seconds of work (estimate)"
N_NAMED = 3  # running jobs that a line names


class JobDisplay:
    """A bar over the estimated seconds of work, and a line for each finished job."""

    def __init__(self, progress: Progress, plan: Plan, n_workers: int) -> None:
        self.failed: dict[str, str] = {}  # reasons by name of the job
        self._progress = progress
        self._seconds = {estimate.job.name: estimate.seconds for estimate in plan.left} | dict(plan.shares)
        self._n_workers = n_workers
        self._left = dict(self._seconds)
        self._n_jobs = len(plan.left)
        self._running: dict[str, None] = {}
        self._n_ended = 0
        self._start = time.monotonic()

    def start(self, task: Task) -> None:
        """A task is about to begin."""
        self._running[task.name] = None

    def finish(self, outcome: Outcome) -> None:
        """A task has ended, well or not."""
        name = outcome.task.name
        self._running.pop(name, None)
        self._left.pop(name, None)
        if isinstance(outcome.task, Job):
            self._n_ended += 1
            self.failed |= {name: outcome.reason} if outcome.reason else {}
        state = f"FAILED: {outcome.reason}" if outcome.reason else shown_time(outcome.seconds)
        running = ", ".join(list(self._running)[:N_NAMED]) + (" …" if len(self._running) > N_NAMED else "")
        line = f"{self._n_ended} of {self._n_jobs}  {name}: {state}; {self._time_left()} left"
        self._progress.say(line + (f"; running: {running}" if running else ""))
        total = sum(self._seconds.values())
        self._progress(BAR, round(total - sum(self._left.values())), max(1, round(total)))

    def _time_left(self) -> str:
        """From the speed so far, weighted by what each task was estimated to take."""
        left, total = sum(self._left.values()), sum(self._seconds.values())
        elapsed = time.monotonic() - self._start
        return shown_time(elapsed * left / (total - left) if total > left else left / self._n_workers)
