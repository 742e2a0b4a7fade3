"""Jobs on many processes or machines: an executor of dask.distributed that never waits in silence.

Dask keeps a task for ever that no worker can run, and starts as many tasks in one process as it has threads. Here a
worker runs one job at a time, has the same code and sees the same folders as whoever sends the job; what does not hold
is one line of text, before the first job and for workers that join later. A job whose worker is lost goes to another.
"""

import hashlib
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any, ParamSpec, TypeAlias, TypeVar

from tinydefects.errors import MissingExtraError, TinyDefectsError

if TYPE_CHECKING:
    from distributed import Client

LOCAL = "local"
PACKAGES_ALIKE = ("numpy", "scipy", "pillow", "torch", "timm", "dask", "distributed", "cloudpickle")
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
DASK_SETTINGS = {"distributed.diagnostics.nvml": False, "distributed.comm.timeouts.connect": 10}
WATCH_SECONDS, ANSWER_SECONDS = 1.0, 10.0
P = ParamSpec("P")
T = TypeVar("T")
Call: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ClusterError(TinyDefectsError, ConnectionError):
    """A cluster that cannot be reached, cannot run a job, or whose workers differ from this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What a process must have before it works on a job.

    Attributes:
        versions: of packages and of this package's own files, as pairs of name and version; "" is not installed.
        root: folder of the datasets, with the names of the folders in it; None where there is none.
        out: folder of the results, and the name of a file in it that only a shared folder shows.
    """

    versions: tuple[tuple[str, str], ...]
    root: tuple[Path, frozenset[str]] | None = None
    out: tuple[Path, str] | None = None


@contextmanager
def open_executor(
    address: str,
    *,
    n_workers: int = 1,
    threads_per_worker: int = 1,
    resources: Mapping[str, float] | None = None,
    retries: int = 2,
    root: Path | None = None,
    out: Path | None = None,
    patience_seconds: float = 60.0,
) -> Iterator[Executor]:
    """An executor whose jobs run one at a time in each worker process.

    `address` is `local` for `n_workers` processes that no other machine can reach, whose libraries use
    `threads_per_worker`; or where a scheduler listens, such as tcp://host:8786, or the file it was told to write:
    then its workers are as they were started. Only workers that declare `resources`, what a job takes, are given any:
    {"GPU": 1}. A job that raises or whose worker is lost is tried again `retries` times. Every worker must see the
    folders `root` and `out` as this process does, and be able to write to the second. `patience_seconds` is the wait
    for a worker that can run a job, at the start and whenever all are gone.

    Raises:
        MissingExtraError: dask.distributed is not installed.
        ClusterError: no scheduler, no fitting worker, workers with other versions or other folders; futures raise it
            for a job that was lost.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if address == LOCAL:
            address = stack.enter_context(_local_scheduler(n_workers, threads_per_worker, resources or {}, retries))
        client = stack.enter_context(_connected(address, min(10.0, patience_seconds)))
        place = _Place(
            client=client, address=address, resources=dict(resources or {}), patience_seconds=patience_seconds
        )
        place.await_worker()
        admission = stack.enter_context(_admission(root, out))
        _check_workers(client, admission)
        executor = ClusterExecutor(place, admission, retries)
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        yield executor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
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
        known: dict[str, dict[str, dict[str, Any]]] = self.client.sync(
            self.client.scheduler.identity, n_workers=-1, callback_timeout=ANSWER_SECONDS
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

    def __init__(self, place: _Place, admission: Admission, retries: int) -> None:
        self._place = place
        self._admission = admission
        self._inner = place.client.get_executor(  # type: ignore[no-untyped-call]
            pure=False, retries=retries, resources=dict(place.resources)
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
        if self._place.client.status == "running":
            self._inner.shutdown(wait=False)

    def _serve(self) -> None:
        last_seen = time.monotonic()
        while not self._closed:
            self._wake.wait(WATCH_SECONDS)
            self._wake.clear()
            workers = self._known_workers()
            if self._place.client.status == "closed":
                self._abandon(self._scheduler_lost())
            n_places = sum(min(1, self._place.jobs_at_once(worker)) for worker in (workers or {}).values())
            if n_places:
                last_seen = time.monotonic()
                self._send(n_places)
            elif time.monotonic() - last_seen > self._place.patience_seconds:
                self._abandon(self._scheduler_lost() if workers is None else ClusterError(self._place.nobody(workers)))

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
            inner = self._inner.submit(_call_admitted, self._admission, call)
            inner.add_done_callback(partial(self._settle, future))

    def _settle(self, future: Future[Any], inner: Future[Any]) -> None:
        """Hand an outcome on, unless the job was abandoned."""
        with self._lock:
            if future not in self._running:
                return
            self._running.remove(future)
        self._wake.set()
        if inner.cancelled():
            future.set_exception(self._scheduler_lost())
        elif (error := inner.exception()) is not None:
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
            return self._place.workers()
        except (OSError, RuntimeError, ValueError):  # what a closed client raises depends on how it closed
            return None

    def _scheduler_lost(self) -> ClusterError:
        return ClusterError(f"{self._place.address}: the scheduler was lost; run again to go on")


def _explained(error: BaseException) -> BaseException:
    """The error of a job, or one line where dask gave up because every worker that tried it died."""
    from distributed import KilledWorker

    if not isinstance(error, KilledWorker):
        return error
    return ClusterError("every worker that tried this job died, often for lack of memory; run fewer at once")


def _call_admitted(admission: Admission, call: Call) -> object:
    """In the worker: the function's answer, if this process may work on it."""
    refusal = _refusal(admission)
    if refusal:
        raise ClusterError(refusal)
    function, args, kwargs = call
    return function(*args, **kwargs)


@cache
def _refusal(admission: Admission) -> str:
    """Why this process must not work on the jobs of another; empty when it may."""
    here = f"worker on {socket.gethostname()}"
    for (name, wanted), (_, found) in zip(admission.versions, own_versions(), strict=True):
        if wanted != found:
            return f"{here}: has {name} {found or '(not installed)'}, this machine {wanted or 'none'}; make them equal"
    if admission.root and not admission.root[1] <= _folders_in(admission.root[0]):
        return f"{here}: sees another {admission.root[0]}; share the dataset folder under the same path"
    if admission.out and not (admission.out[0] / admission.out[1]).is_file():
        return f"{here}: does not see {admission.out[0]} as this machine does; share the output folder"
    if admission.out and not os.access(admission.out[0], os.W_OK):
        return f"{here}: cannot write to {admission.out[0]}; mend the rights of the shared output folder"
    return ""


@cache
def own_versions() -> tuple[tuple[str, str], ...]:
    """What must be equal where jobs of one benchmark run: Python, packages, and every file of this package."""
    code = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        code.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    own = f"{_version('tinydefects')}, code {code.hexdigest()[:12]}"
    packages = tuple((name, _version(name).partition("+")[0]) for name in PACKAGES_ALIKE)  # torch 2.10+cpu, +cu128
    return (("tinydefects", own), ("Python", python_version()), *packages)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _folders_in(folder: Path) -> frozenset[str]:
    inside = folder.iterdir() if folder.is_dir() else ()
    return frozenset(path.name for path in inside if path.is_dir() and not path.name.startswith("."))


@contextmanager
def _admission(root: Path | None, out: Path | None) -> Iterator[Admission]:
    """What workers must have; while it is open, a file with a random name lies in the output folder."""
    root, out = (path.resolve() if path else None for path in (root, out))
    token = f".shared-{secrets.token_hex(8)}"
    if out:
        out.mkdir(parents=True, exist_ok=True)
        (out / token).touch()
    try:
        yield Admission(
            versions=own_versions(),
            root=(root, _folders_in(root)) if root and root.is_dir() else None,
            out=(out, token) if out else None,
        )
    finally:
        if out:
            (out / token).unlink(missing_ok=True)


def _check_workers(client: "Client", admission: Admission) -> None:
    """Ask every worker that is there, so that a wrong one is known before the first job."""
    try:
        answers: dict[str, str] = client.run(_refusal, admission)
    except ModuleNotFoundError as error:
        raise ClusterError(f"a worker lacks the package {error.name}; install tinydefects on all of them") from error
    except Exception as error:  # another version of this package or of dask fails in ways of its own
        raise ClusterError(f"a worker cannot run this package ({type(error).__name__}: {error}); update it") from error
    refusal = next((answer for answer in answers.values() if answer), "")
    if refusal:
        raise ClusterError(refusal)


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask's settings and logs while an executor is open; what goes wrong is told by `ClusterError`."""
    try:
        import dask
        from distributed.utils import silence_logging_cmgr
    except ImportError as error:
        raise MissingExtraError("--cluster", "cluster") from error
    with dask.config.set(DASK_SETTINGS), silence_logging_cmgr(logging.CRITICAL), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="distributed")
        yield


@contextmanager
def _local_scheduler(n_workers: int, n_threads: int, resources: Mapping[str, float], retries: int) -> Iterator[str]:
    """The address of a scheduler on this machine, reachable from it alone; its files go to the temporary folder."""
    import dask
    from distributed import LocalCluster

    with (
        tempfile.TemporaryDirectory(prefix="tinydefects-cluster-", ignore_cleanup_errors=True) as scratch,
        dask.config.set({"distributed.scheduler.allowed-failures": retries}),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            local_directory=scratch,
            memory_limit=0,  # dask would pause a worker that grows, and wait
            resources=dict(resources),
            env=dict.fromkeys(THREAD_SETTINGS, n_threads),
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield str(cluster.scheduler_address)


@contextmanager
def _connected(address: str, timeout_seconds: float) -> Iterator["Client"]:
    from distributed import Client

    is_file = Path(address).is_file()
    if not is_file and ":" not in address:
        raise ClusterError(
            f"--cluster {address}: neither 'local' nor an address such as tcp://host:8786 nor the file of a scheduler"
        )
    where = {"scheduler_file": address} if is_file else {"address": address}
    try:
        client = Client(  # type: ignore[no-untyped-call]
            **where, timeout=timeout_seconds, set_as_default=False
        )
    except Exception as error:  # a file or a server that is something else fails in ways of its own
        raise ClusterError(f"{address}: no scheduler answers; start one with 'dask scheduler' or mend it") from error
    with client:
        yield client
