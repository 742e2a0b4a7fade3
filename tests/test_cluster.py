import gc
import importlib.util
import json
import os
import signal
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from tinydefects.benchmark import cluster
from tinydefects.benchmark.cluster import Alike, ClusterError, open_cluster
from tinydefects.errors import TinyDefectsError

pytestmark = pytest.mark.slow

if importlib.util.find_spec("distributed") is None:
    pytest.skip("needs the extra 'cluster'", allow_module_level=True)

WAIT_SECONDS = 120  # on a crowded machine a worker takes long to start; nothing waits for as long elsewhere


def double(number):
    return 2 * number


def about_the_process(seconds=0.0):
    start = time.monotonic()
    time.sleep(seconds)
    return os.getpid(), os.environ["OMP_NUM_THREADS"], start, time.monotonic()


def die_the_first_time(marker):
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def complain():
    raise TinyDefectsError("the seventh image is upside down")


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    with open_cluster("local", n_workers=2, threads_per_worker=3, resources={"GPU": 1}, out=folder) as executor:
        yield executor, folder


@contextmanager
def somebodys_cluster(threads_per_worker):
    """A scheduler with one worker that declares no resources, both in this process."""
    options = {"processes": False, "protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    from distributed import LocalCluster

    gc.collect()  # as the package does, see the test of clients that failed
    with LocalCluster(n_workers=1, threads_per_worker=threads_per_worker, **options) as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere():
    with somebodys_cluster(threads_per_worker=2) as running:
        yield running


def refusal(address, **settings):
    """Why an executor does not open."""
    with pytest.raises(ClusterError) as refused, open_cluster(address, **settings):
        pass
    return str(refused.value)


def test_a_worker_runs_one_job_at_a_time_with_the_threads_it_was_given(two_workers):
    executor, _ = two_workers
    ran = [future.result() for future in [executor.submit(about_the_process, seconds=0.05) for _ in range(6)]]
    assert {threads for _, threads, _, _ in ran} == {"3"}
    assert os.getpid() not in {process for process, *_ in ran}
    for process in {process for process, *_ in ran}:
        times = sorted((start, end) for one, _, start, end in ran if one == process)
        assert all(end <= start for (_, end), (start, _) in pairwise(times))


def test_a_job_whose_worker_is_killed_is_run_by_another(two_workers, tmp_path):
    executor, _ = two_workers
    killed, others = executor.submit(die_the_first_time, str(tmp_path / "died")), [executor.submit(double, 4)]
    assert killed.result(timeout=WAIT_SECONDS) == "alive"
    assert [other.result(timeout=WAIT_SECONDS) for other in others] == [8]


def test_a_job_that_kills_every_worker_fails_alone(two_workers):
    executor, _ = two_workers
    while executor.n_places() < 2:  # dask blames a death on every job that was sent to the only worker
        time.sleep(0.05)
    deadly, other = executor.submit(die), executor.submit(double, 4)
    with pytest.raises(ClusterError, match="every worker that tried this job died"):
        deadly.result(timeout=WAIT_SECONDS)
    assert other.result(timeout=WAIT_SECONDS) == 8
    assert executor.n_places() >= 1  # a new worker is started for a dead one


def test_the_error_of_a_job_arrives_as_it_was_raised(two_workers):
    with pytest.raises(TinyDefectsError, match=r"^the seventh image is upside down$"):
        two_workers[0].submit(complain).result(timeout=WAIT_SECONDS)


def test_equal_jobs_are_run_as_often_as_they_are_sent(two_workers):
    first, second = (two_workers[0].submit(about_the_process).result(timeout=WAIT_SECONDS) for _ in range(2))
    assert first[2] < second[2]


def test_nothing_listens_to_other_machines_and_nothing_is_left_lying_about(two_workers):
    _, folder = two_workers
    import psutil

    here = psutil.Process()
    listening = [
        connection.laddr.ip
        for process in (here, *here.children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
    assert [path.name.startswith(".shared-") for path in folder.iterdir()] == [True]


def test_a_cluster_that_does_not_open_leaves_nothing_lying_about(tmp_path, elsewhere, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(elsewhere.scheduler_address, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_job_that_no_worker_can_run_is_refused_before_it_waits(elsewhere):
    reason = refusal(elsewhere.scheduler_address, resources={"GPU": 1}, patience_seconds=0.5)
    assert "none of 1 workers declares GPU=1, so a job would wait for ever" in reason
    assert "start them with --resources 'GPU=1'" in reason


def test_a_worker_that_would_run_two_jobs_in_one_process_is_refused(elsewhere):
    assert "2 jobs at once in one process; start it with --nthreads 1" in refusal(elsewhere.scheduler_address)


def test_a_client_that_failed_is_gone_before_the_next_one_begins(monkeypatch):
    """Deleted while dask starts a loop, it would wait for the lock that the start holds, and that for it."""
    from distributed import Client

    def unfinished():
        return [one for one in gc.get_objects() if type(one) is Client and one.status != "running"]

    left, start = [], Client.start

    def watched(client, **options):
        left.append([one for one in unfinished() if one is not client])
        return start(client, **options)

    monkeypatch.setattr(Client, "start", watched)
    gc.disable()
    try:
        for _ in range(2):
            refusal("tcp://127.0.0.1:1", patience_seconds=0.3)
    finally:
        gc.enable()
    assert left == [[], []]


def test_an_address_nobody_answers_at_is_one_line(tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text("{}")
    for address in ("tcp://127.0.0.1:9", str(file), "locl"):
        reason = refusal(address, patience_seconds=0.5)
        assert reason.startswith(f"--cluster {address}: no scheduler answers; give 'local', an address such as ")
        assert "\n" not in reason


def test_a_scheduler_file_is_an_address_and_closing_leaves_its_cluster_alone(tmp_path):
    file = tmp_path / "scheduler.json"
    with somebodys_cluster(threads_per_worker=1) as running:
        file.write_text(json.dumps(running.scheduler.identity()))
        for number in (3, 4):
            with open_cluster(str(file)) as executor:
                assert executor.submit(double, number).result(timeout=WAIT_SECONDS) == 2 * number


def test_waiting_ends_when_the_last_worker_has_gone():
    with somebodys_cluster(1) as running, open_cluster(running.scheduler_address, patience_seconds=0.5) as executor:
        assert executor.submit(double, 1).result(timeout=WAIT_SECONDS) == 2
        assert executor.n_places() == 1
        running.scale(0)
        while running.scheduler.workers:
            time.sleep(0.05)
        with pytest.raises(ClusterError, match="none of 0 workers takes jobs; start some with 'dask worker'"):
            executor.n_places()


def test_a_lost_scheduler_ends_the_wait():
    with somebodys_cluster(1) as running, open_cluster(running.scheduler_address, patience_seconds=0.5) as executor:
        running.close()
        with pytest.raises(ClusterError, match="the scheduler was lost; run again to go on"):
            executor.n_places()


def test_workers_with_other_code_are_named_before_the_first_job(monkeypatch):
    answers = iter([{"tinydefects": "code of last year"}, {"tinydefects": "code of today"}])
    monkeypatch.setattr(cluster, "own_versions", lambda: next(answers))
    with somebodys_cluster(threads_per_worker=1) as running:
        reason = refusal(running.scheduler_address)
    assert reason.startswith("worker on ")
    assert "has tinydefects code of today, this machine code of last year; make them equal" in reason


def test_a_worker_that_joins_later_is_asked_as_well():
    with pytest.raises(ClusterError, match=r"has numpy \S+, this machine 1\.0; make them equal"):
        Alike(versions={"numpy": "1.0"}).call(double, 1)
    assert Alike(versions=cluster.own_versions()).call(double, 1) == 2


def test_workers_must_see_the_same_folders(tmp_path):
    wanted = Alike(versions={}, root=(tmp_path, frozenset({"mvtec_ad"})))
    assert "share the dataset folder" in wanted.refusal()
    (tmp_path / "mvtec_ad").mkdir()
    wanted = Alike(versions={}, root=(tmp_path, frozenset({"mvtec_ad"})), out=(tmp_path, ".shared-1"))
    assert "share the output folder" in wanted.refusal()
    (tmp_path / ".shared-2").touch()
    assert Alike(versions={}, out=(tmp_path, ".shared-2")).refusal() == ""
