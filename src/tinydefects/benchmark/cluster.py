"""Jobs on many processes or machines through dask.distributed, and never an endless wait.

Dask keeps a task for ever that no worker can run, starts as many in one process as it has threads, and blames the death
of a worker on every task that was sent there. So workers are first asked for the same code and folders, those that
would run several jobs at once are refused, and whoever submits keeps to `Cluster.n_places` jobs at a time.
"""

import gc
import hashlib
import logging
import os
import secrets
import socket
import tempfile
import time
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tinydefects.benchmark.run_settings import LOCAL
from tinydefects.data.leftovers import scratch_folder
from tinydefects.data.walk import real_path
from tinydefects.detector.devices import THREAD_VARIABLES
from tinydefects.errors import MissingExtraError, TinyDefectsError

if TYPE_CHECKING:
    from distributed import Client

PACKAGES_ALIKE = ("tinydefects", "numpy", "scipy", "pillow", "torch", "timm", "dask", "distributed", "cloudpickle")
N_RETRIES = 2  # of a job whose worker is lost
DASK_SETTINGS = {
    "distributed.diagnostics.nvml": False,
    "distributed.comm.timeouts.connect": 10,
    "distributed.scheduler.allowed-failures": N_RETRIES,
}
P = ParamSpec("P")
T = TypeVar("T")


class ClusterError(TinyDefectsError, ConnectionError):
    """A cluster that cannot be reached, cannot run a job, or whose workers differ from this process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """What a worker must have as its sender has it: versions by name, the folders in `root`, a file in `out`."""

    versions: Mapping[str, str]
    root: tuple[Path, frozenset[str]] | None = None
    out: tuple[Path, str] | None = None

    def refusal(self) -> str:
        """Why this process must not work on the jobs; empty when it may."""
        here = f"worker on {socket.gethostname()}"
        for name, wanted in self.versions.items():
            if (found := own_versions()[name]) != wanted:
                return f"{here}: has {name} {found or '(none)'}, this machine {wanted or 'none'}; make them equal"
        if self.root and not self.root[1] <= _folders_in(self.root[0]):
            return f"{here}: sees another {self.root[0]}; share the dataset folder under the same path"
        if self.out and not (self.out[0] / self.out[1]).is_file():
            return f"{here}: does not see {self.out[0]} as this machine does; share the output folder"
        if self.out and not os.access(self.out[0], os.W_OK):
            return f"{here}: cannot write to {self.out[0]}; mend the rights of the shared output folder"
        return ""

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In the worker: what the function answers, if this process may work on it."""
        if refusal := self.refusal():
            raise ClusterError(refusal)
        return function(*args, **kwargs)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cluster(Executor):
    """Dask's workers as an executor; a job takes `resources` of one, and goes to another where that one is lost."""

    client: "Client"
    address: str
    alike: Alike
    resources: Mapping[str, float]
    patience_seconds: float

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The future of `function(*args, **kwargs)`; function, arguments and result must be picklable."""
        client: Any = self.client  # dask types nothing
        how = {"pure": False, "retries": N_RETRIES, "resources": dict(self.resources)}
        future: Future[T] = Future()
        client.submit(self.alike.call, function, *args, **kwargs, **how).add_done_callback(
            partial(self._settle, future)
        )
        return future

    def n_places(self) -> int:
        """How many workers can run a job, one each; waits for the first, for `patience_seconds`.

        Raises:
            ClusterError: nobody came, or the scheduler is lost.
        """
        end = time.monotonic() + self.patience_seconds
        while True:
            workers = self.workers()
            if n_places := sum(n_jobs > 0 for n_jobs in workers.values()):
                return n_places
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        need = " ".join(f"{name}={amount:g}" for name, amount in self.resources.items())
        declares = (
            f"declares {need}, so a job would wait for ever; start them with --resources '{need}' or ask for none"
        )
        why = declares if need else "takes jobs; start some with 'dask worker', or look at their memory and logs"
        raise ClusterError(f"{self.address}: none of {len(workers)} workers {why}")

    def workers(self) -> dict[str, int]:
        """By address, how many jobs dask would run in one worker at the same time.

        Raises:
            ClusterError: the scheduler is lost.
        """
        client: Any = self.client
        try:
            known = client.sync(client.scheduler.identity, n_workers=-1, callback_timeout=10)["workers"]
        except (Exception, CancelledError) as error:  # what a client raises that is closing depends on how far it is
            raise self._lost() from error
        places = {}
        for address, worker in known.items():
            declared = worker.get("resources") or {}
            shares = [int(declared.get(name, 0) // amount) for name, amount in self.resources.items()]
            places[address] = 0 if worker.get("status") != "running" else min([worker["nthreads"], *shares])
        return places

    def require_fit_workers(self) -> None:
        """Wait for a worker and ask every one that is there.

        Raises:
            ClusterError: as `n_places`; a worker would run several jobs at once, or is not alike.
        """
        self.n_places()
        for address, n_jobs in self.workers().items():
            if n_jobs > 1:
                raise ClusterError(
                    f"{address}: this worker would run {n_jobs} jobs at once in one process; start it with "
                    "--nthreads 1, and one worker for each job"
                )
        try:
            answers: Mapping[str, str] = self.client.run(self.alike.refusal)
        except Exception as error:  # another version of this package or of dask fails in ways of its own
            reason = f"{type(error).__name__}: {error}"
            raise ClusterError(f"a worker cannot run this package ({reason}); install the same on all") from error
        if refusal := next(filter(None, answers.values()), ""):
            raise ClusterError(refusal)

    def _settle(self, future: Future[T], inner: Any) -> None:  # noqa: ANN401 - dask's future
        """Whatever becomes of a job, its future is told: a run waits for nothing else."""
        from distributed import KilledWorker

        error: BaseException
        try:
            return future.set_result(inner.result())
        except KilledWorker:
            error = ClusterError("every worker that tried this job died, often for lack of memory")
        except (Exception, CancelledError) as raised:
            error = raised if inner.status == "error" and self.client.status == "running" else self._lost()
        future.set_exception(error)

    def _lost(self) -> ClusterError:
        return ClusterError(f"{self.address}: the scheduler was lost; run again to go on")


@contextmanager
def open_cluster(
    address: str,
    *,
    n_workers: int = 1,
    threads_per_worker: int = 1,
    resources: Mapping[str, float] | None = None,
    root: Path | None = None,
    out: Path | None = None,
    patience_seconds: float = 60.0,
) -> Iterator[Cluster]:
    """Workers that run one job at a time, all with this code and, where they are given, these folders.

    `address` is `local` for `n_workers` processes that no other machine can reach, whose libraries use
    `threads_per_worker`; or where a scheduler listens, such as tcp://host:8786, or the file it was told to write: then
    its workers are as they were started. Only those that declare `resources`, what a job takes, are given any.

    Raises:
        MissingExtraError: dask.distributed is not installed.
        ClusterError: no scheduler, no fitting worker, workers with other versions or other folders.
    """
    try:
        import dask
        from distributed.utils import silence_logging_cmgr
    except ImportError as error:
        raise MissingExtraError("--cluster", "cluster") from error
    wanted, token = dict(resources or {}), f".shared-{secrets.token_hex(8)}"
    root, out = (real_path(path) if path else None for path in (root, out))
    with dask.config.set(DASK_SETTINGS), silence_logging_cmgr(logging.CRITICAL), ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="distributed")
        client = stack.enter_context(_connected(address, n_workers, threads_per_worker, wanted, patience_seconds))
        alike = Alike(
            versions=own_versions(),
            root=(root, _folders_in(root)) if root and root.is_dir() else None,
            out=(out, token) if out else None,
        )
        cluster = Cluster(
            client=client, address=address, alike=alike, resources=wanted, patience_seconds=patience_seconds
        )
        if out:  # a file of a random name: only a shared folder shows it
            out.mkdir(parents=True, exist_ok=True)
            (out / token).touch()
            stack.callback((out / token).unlink, missing_ok=True)
        cluster.require_fit_workers()
        yield cluster


@contextmanager
def _connected(
    address: str, n_workers: int, n_threads: int, resources: Mapping[str, float], patience_seconds: float
) -> Iterator["Client"]:
    """A client of the scheduler there, or of one on this machine that is reachable from it alone."""
    from distributed import Client, LocalCluster

    gc.collect()  # a client that could not connect locks up dask for good when it is deleted while the next one begins
    where: dict[str, Any] = {"scheduler_file" if Path(address).is_file() else "address": address}
    with ExitStack() as stack:
        if address == LOCAL:
            local = LocalCluster(  # type: ignore[no-untyped-call]
                n_workers=n_workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                local_directory=str(stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))),
                memory_limit=0,  # dask would pause a worker that grows, and wait
                resources=dict(resources),
                env=dict.fromkeys(THREAD_VARIABLES, n_threads),
                silence_logs=logging.CRITICAL,
            )
            where = {"address": stack.enter_context(local).scheduler_address}
        try:
            client: Client = Client(  # type: ignore[no-untyped-call]
                **where, timeout=min(10.0, patience_seconds), set_as_default=False
            )
        except Exception as error:  # a file or a server that is something else fails in ways of its own
            raise ClusterError(
                f"--cluster {address}: no scheduler answers; give 'local', an address such as tcp://host:8786 where "
                "'dask scheduler' runs, or the file it wrote"
            ) from error
        yield stack.enter_context(client)


@cache
def own_versions() -> dict[str, str]:
    """What must be equal where jobs of one benchmark run: Python, packages, and every file of this package."""
    package, code = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    found = {"Python": python_version(), "the code of tinydefects": code.hexdigest()[:12]}
    for name in PACKAGES_ALIKE:
        try:
            found[name] = metadata.version(name).partition("+")[0]  # torch 2.10+cpu, +cu128
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def _folders_in(folder: Path) -> frozenset[str]:
    inside = folder.iterdir() if folder.is_dir() else ()
    return frozenset(path.name for path in inside if path.is_dir() and not path.name.startswith("."))
