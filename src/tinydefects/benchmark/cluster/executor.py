"""The executor that keeps the queue of a benchmark while a scheduler of dask.distributed keeps the workers."""

import threading
import time
from asyncio import CancelledError
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from tinydefects.benchmark.cluster.admission import Admission, ClusterError, refusal_of

if TYPE_CHECKING:
    from distributed import Client

WATCH_SECONDS, ANSWER_SECONDS = 1.0, 10.0
P = ParamSpec("P")
T = TypeVar("T")
Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workforce:
    """A scheduler, and what a job needs of its workers."""

    client: "Client"
    address: str
    resources: Mapping[str, float]
    patience_seconds: float

    @property
    def need(self) -> str:
        """`GPU=1`, or nothing."""
        return " ".join(f"{name}={amount:g}" for name, amount in self.resources.items())

    def workers(self) -> dict[str, dict[str, Any]]:
        """What the scheduler knows of each worker, by address."""
        client: Any = self.client  # these calls are untyped in dask
        known: dict[str, dict[str, dict[str, Any]]] = client.sync(
            client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS
        )
        return known["workers"]

    def jobs_at_once(self, worker: Mapping[str, Any]) -> int:
        """How many of our jobs dask would run in this process at the same time."""
        declared = worker.get("resources") or {}
        places = [int(declared.get(name, 0) // amount) for name, amount in self.resources.items()]
        return 0 if worker.get("status") != "running" else min([int(worker["nthreads"]), *places])

    def await_worker(self) -> None:
        """Wait until a worker can run a job; refuse workers that would run several in one process."""
        end = time.monotonic() + self.patience_seconds
        workers = self.workers()
        while not any(self.jobs_at_once(worker) for worker in workers.values()):
            if time.monotonic() > end:
                raise ClusterError(self.nobody(workers))
            time.sleep(0.1)
            workers = self.workers()
        crowded = next((name for name, worker in workers.items() if self.jobs_at_once(worker) > 1), None)
        if crowded:
            raise ClusterError(
                f"{crowded}: this worker would run {self.jobs_at_once(workers[crowded])} jobs at once in one process; "
                "start it with --nthreads 1, and one worker for each job"
            )

    def nobody(self, workers: Mapping[str, Any]) -> str:
        """Why no job can run."""
        if not workers:
            return f"{self.address}: no worker has been there for {self.patience_seconds:g} s; start dask workers"
        if self.resources:
            return (
                f"{self.address}: none of {len(workers)} workers declares {self.need}, so a job would wait for ever; "
                f"start them with --resources '{self.need}' or ask for none"
            )
        return f"{self.address}: none of {len(workers)} workers takes jobs; look at their memory and their logs"


class ClusterExecutor(Executor):
    """Sends a job when a worker is free for it: dask blames a worker's death on all jobs that were sent there.

    A thread looks after the queue, and fails what is left when there is nobody to run it.
    """

    def __init__(self, workforce: Workforce, admission: Admission, retries: int) -> None:
        self._workforce = workforce
        self._admission = admission
        self._inner = workforce.client.get_executor(  # type: ignore[no-untyped-call]
            pure=False, retries=retries, resources=dict(workforce.resources)
        )
        self._queue: deque[tuple[Future[Any], Call]] = deque()
        self._running: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `function(*args, **kwargs)`; function, arguments and result must be picklable."""
        future: Future[T] = Future()
        with self._lock:
            self._queue.append((future, (function, args, kwargs)))
        self._wake.set()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread; `cancel_futures` gives up what has not finished."""
        if wait and not cancel_futures:
            with self._lock:
                left = [*self._running, *(future for future, _ in self._queue)]
            wait_for(left)
        self._closed = True
        self._wake.set()
        self._thread.join()
        for future, _ in self._queue:
            future.cancel()
        if self._workforce.client.status == "running":
            self._inner.shutdown(wait=False)

    def _serve(self) -> None:
        last_seen = time.monotonic()
        while not self._closed:
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
            workers = self._known_workers()
            if self._workforce.client.status == "closed":
                self._abandon(self._scheduler_lost())
            n_places = sum(min(1, self._workforce.jobs_at_once(worker)) for worker in (workers or {}).values())
            if n_places:
                last_seen = time.monotonic()
                self._send(n_places)
            elif time.monotonic() - last_seen > self._workforce.patience_seconds:
                self._abandon(
                    self._scheduler_lost() if workers is None else ClusterError(self._workforce.nobody(workers))
                )

    def _send(self, n_places: int) -> None:
        """Fill the free places from the queue."""
        while True:
            with self._lock:
                if not self._queue or len(self._running) >= n_places:
                    return
                future, call = self._queue.popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                self._running.add(future)
            inner: Future[Any] = Future()
            try:
                inner = self._inner.submit(_call_admitted, self._admission, call)
            except Exception as error:  # it cannot be pickled, or the client has just closed
                inner.set_exception(error)
            inner.add_done_callback(partial(self._settle, future))

    def _settle(self, future: Future[Any], inner: Future[Any]) -> None:
        """Hand an outcome on, unless the job was abandoned."""
        with self._lock:
            if future not in self._running:
                return
            self._running.remove(future)
        self._wake.set()
        error = None if inner.cancelled() else inner.exception()
        if inner.cancelled() or (error and self._workforce.client.status != "running"):
            future.set_exception(self._scheduler_lost())
        elif error:
            future.set_exception(_explained(error))
        else:
            future.set_result(inner.result())

    def _abandon(self, error: ClusterError) -> None:
        with self._lock:
            queued = [future for future, _ in self._queue if future.set_running_or_notify_cancel()]
            abandoned = [*self._running, *queued]
            self._running.clear()
            self._queue.clear()
        for future in abandoned:
            future.set_exception(error)

    def _known_workers(self) -> dict[str, dict[str, Any]] | None:
        """The workers, or None where the scheduler does not answer."""
        try:
            return self._workforce.workers()
        except (Exception, CancelledError):  # what a client raises that is just closing depends on how far it is
            return None

    def _scheduler_lost(self) -> ClusterError:
        return ClusterError(f"{self._workforce.address}: the scheduler was lost; run again to go on")


def _explained(error: BaseException) -> BaseException:
    """The error of a job, or one line where dask gave up because every worker that tried it died."""
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    return ClusterError("every worker that tried this job died, often for lack of memory; run fewer at once")


def _call_admitted(admission: Admission, call: Call) -> object:
    """In the worker: the function's answer, if this process may work on it."""
    refusal = refusal_of(admission)
    if refusal:
        raise ClusterError(refusal)
    function, args, kwargs = call
    return function(*args, **kwargs)
