"""A benchmark on two workers, in a file of its own: what workers import to run the other tests stays small."""

import importlib.util
import json

import pytest

from benchmark_scene import CATEGORY, SCENE, jobs_for, settings_in
from tinydefects.benchmark.cluster import open_cluster
from tinydefects.benchmark.processes import InThisProcess
from tinydefects.benchmark.runner import run
from tinydefects.datasets.catalog import load_category
from tinydefects.results.result import read_result

pytestmark = pytest.mark.slow

if importlib.util.find_spec("distributed") is None:
    pytest.skip("needs the extra 'cluster'", allow_module_level=True)


def process_that_listens_at(address):
    import psutil  # comes with distributed

    port = int(address.rpartition(":")[2])
    children = psutil.Process().children(recursive=True)
    return next(
        child for child in children if port in [one.laddr.port for one in child.net_connections("inet") if one.laddr]
    )


def bytes_of_the_evaluation(path):
    content = json.loads(path.read_text())
    return json.dumps([content["evaluation"], content["tally_sha256"], content["crops_sha256"]])


def test_two_workers_give_the_bytes_of_a_serial_run_even_when_one_is_killed(tmp_path):
    jobs = jobs_for("fbft:epochs=1", "subspace", "local_contrast")
    alone, together = (
        settings_in(tmp_path / "alone"),
        settings_in(tmp_path / "together", root=tmp_path / "alone/data"),
    )
    load_category(CATEGORY, root=alone.root, **SCENE)  # drawn once, as the command does
    assert not [outcome.reason for outcome in run(jobs, alone, InThisProcess(), n_at_once=lambda: 1) if outcome.reason]
    n_done = 0
    with open_cluster("local", n_workers=2, root=together.root, out=together.out) as executor:
        for outcome in run(jobs, together, executor, n_at_once=executor.n_places):
            assert outcome.reason == ""
            if n_done == 0:
                process_that_listens_at(next(iter(executor.workers()))).kill()
            n_done += 1
    assert n_done >= len(jobs)
    for job in jobs:
        assert read_result(together.out / job.path).run.job == job.fingerprint
        assert bytes_of_the_evaluation(alone.out / job.path) == bytes_of_the_evaluation(together.out / job.path)
