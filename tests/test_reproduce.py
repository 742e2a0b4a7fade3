"""A job run again from its result alone gives its numbers; other images, a changed number, another job are told."""

import json
import shutil

import pytest

from benchmark_scene import CATEGORY, PROTOCOL, SCENE, jobs_for, settings_in
from command_line import run
from tinydefects.benchmark.processes import InThisProcess
from tinydefects.benchmark.run_folder import read_protocol, write_protocol
from tinydefects.benchmark.runner import run as run_jobs
from tinydefects.data.pixels import write_png
from tinydefects.datasets.catalog import load_category
from tinydefects.results.protocol import Job

pytestmark = pytest.mark.slow

PLACE = f"{CATEGORY}/0/local_contrast/seed_0.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made here")
    settings = settings_in(folder)
    write_protocol(PROTOCOL, settings.out)
    outcomes = list(run_jobs(jobs_for("local_contrast"), settings, InThisProcess(), n_at_once=lambda: 1))
    assert [one.reason for one in outcomes] == [""]
    return folder


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "a copy")


@pytest.fixture
def reproduce(monkeypatch, capsys):
    def run_it(folder, *options):
        return run(monkeypatch, capsys, "reproduce", folder / "out" / PLACE, "--root", folder / "data", *options)

    return run_it


def test_the_same_job_gives_the_same_numbers_and_writes_nothing(made, reproduce):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    code, out, err = reproduce(made, "--tolerance", 0)
    assert code == 0, err
    assert out.startswith(f"{CATEGORY} – local_contrast seed 0: all ")
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_a_number_that_does_not_come_out_again_is_told_unless_it_is_within_the_tolerance(copy, reproduce):
    path = copy / "out" / PLACE
    content = json.loads(path.read_text())
    content["evaluation"]["image_auroc"] -= 0.01
    path.write_text(json.dumps(content))
    code, out, _ = reproduce(copy, "--json")
    assert code == 2
    assert json.loads(out)["beyond"] == ["image_auroc"]
    code, out, _ = reproduce(copy)
    first, last = out.splitlines()
    assert first == f"image_auroc: {content['evaluation']['image_auroc']:.6f} stored, 1.000000 now"
    assert "1 of" in last
    assert reproduce(copy, "--tolerance", 0.02)[0] == 0


def test_other_images_are_told(copy, reproduce):
    sample = load_category(CATEGORY, root=copy / "data", **SCENE).train[0]
    write_png(sample.image_path, 255 - sample.image())
    code, out, _ = reproduce(copy)
    assert code == 2
    assert out.splitlines()[0].endswith("the images or masks here are not those of the result")


def test_what_names_no_job_is_one_line(copy, reproduce):
    path = copy / "out" / PLACE
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "run": {**content["run"], "seed": 5}}))
    code, _, err = reproduce(copy)
    assert (code, "answers another job than" in err) == (2, True)
    del content["run"]
    path.write_text(json.dumps(content))
    code, _, err = reproduce(copy)
    assert (code, "no benchmark made it" in err) == (2, True)
    (copy / "out/protocol.json").unlink()
    code, _, err = reproduce(copy)
    assert code == 2


@pytest.mark.parametrize(
    ("name", "value"), [("threads", "many"), ("threads", "-1"), ("threads", "1e9"), ("allowed", "everything")]
)
def test_a_record_that_no_run_can_follow_is_one_line(copy, reproduce, name, value):
    path = copy / "out" / PLACE
    content = json.loads(path.read_text())
    content["provenance"]["settings"][name] = value
    path.write_text(json.dumps(content))
    code, _, err = reproduce(copy)
    told = err.splitlines()[-1]
    assert (code, f"{path}: cannot be run again as it says it was made: field '{name}" in told) == (2, True), err


@pytest.mark.parametrize(
    ("change", "told"),
    [({"seeds": []}, "names no seed"), ({"options": {"synthetic": {**SCENE, "root": "/"}}}, "the option 'root'")],
)
def test_a_protocol_that_no_run_can_follow_is_one_line(copy, reproduce, change, told):
    path = copy / "out/protocol.json"
    content = json.loads(path.read_text())
    content["protocol"] |= change
    path.write_text(json.dumps(content))
    protocol = read_protocol(copy / "out")
    job = Job(protocol=protocol, category=CATEGORY, method="local_contrast", resolution=0, seed=0)
    result = json.loads((copy / "out" / PLACE).read_text())
    result["run"]["job"] = job.fingerprint
    (copy / "out" / PLACE).write_text(json.dumps(result))
    code, _, err = reproduce(copy)
    assert (code, told in err.splitlines()[-1]) == (2, True), err
