"""Jobs on many processes or machines: an executor of dask.distributed that never waits in silence.

Dask keeps a task for ever that no worker can run, and starts as many tasks in one process as it has threads. Here a
worker runs one job at a time, has the same code and sees the same folders as whoever sends the job; what does not hold
is one line of text, before the first job and for workers that join later. A job whose worker is lost goes to another.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tinydefects.benchmark.cluster.admission import Admission, ClusterError, open_admission, own_versions, refusal_of
from tinydefects.benchmark.cluster.executor import ClusterExecutor, Workforce
from tinydefects.benchmark.run_settings import LOCAL
from tinydefects.data.leftovers import scratch_folder
from tinydefects.detector.compute import THREAD_VARIABLES
from tinydefects.errors import MissingExtraError

if TYPE_CHECKING:
    from distributed import Client

DASK_SETTINGS = {"distributed.diagnostics.nvml": False, "distributed.comm.timeouts.connect": 10}


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
        is_local = address == LOCAL
        if is_local:
            address = stack.enter_context(_local_scheduler(n_workers, threads_per_worker, resources or {}, retries))
        client = stack.enter_context(_connected(address, min(10.0, patience_seconds)))
        workforce = Workforce(
            client=client, address=address, resources=dict(resources or {}), patience_seconds=patience_seconds
        )
        workforce.await_worker()
        admission = stack.enter_context(open_admission(() if is_local else own_versions(), root, out))
        _check_workers(client, admission)
        executor = ClusterExecutor(workforce, admission, retries)
        stack.callback(executor.shutdown, wait=False, cancel_futures=True)
        yield executor


def _check_workers(client: "Client", admission: Admission) -> None:
    """Ask every worker that is there, so that a wrong one is known before the first job."""
    try:
        answers: dict[str, str] = client.run(refusal_of, admission)
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
        scratch_folder(Path(tempfile.gettempdir())) as scratch,
        dask.config.set({"distributed.scheduler.allowed-failures": retries}),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            local_directory=str(scratch),
            memory_limit=0,  # dask would pause a worker that grows, and wait
            resources=dict(resources),
            env=dict.fromkeys(THREAD_VARIABLES, n_threads),
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
