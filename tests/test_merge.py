"""Two folders of one protocol become one board, or nothing is written and every reason is a line."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from benchmark_scene import PROTOCOL
from command_line import run
from random_category import random_pairs, random_samples
from tinydefects.benchmark.run_folder import read_failures, read_protocol, write_failure, write_protocol
from tinydefects.benchmark.summary import summarise
from tinydefects.benchmark.verify import Request, verify
from tinydefects.metrics.evaluation import evaluate
from tinydefects.progress import Progress
from tinydefects.results.protocol import Job, RunRecord
from tinydefects.results.result import Result, describe_run, find_results, read_result, write_result

pytestmark = pytest.mark.slow

OURS = replace(PROTOCOL, categories=("cloth/plain",), options={}, resolutions=(64,), seeds=(0, 1))
THEIRS = replace(PROTOCOL, categories=("cloth/plain", "cloth/twill"), options={}, resolutions=(64,))


def write_job(folder, job, pairs, *, split="a" * 64):
    """A result as a benchmark leaves it."""
    evaluation = evaluate(pairs, job.protocol.evaluation.changed(n_crops=2, contrast=False), category=job.category)
    record = RunRecord(
        method=job.method,
        resolution=job.resolution,
        seed=job.seed,
        protocol=job.protocol.fingerprint,
        job=job.fingerprint,
        settings={"split": split} if split else {},
        n_train=7,
        fit_seconds=1.5,
        predict_seconds=0.25,
    )
    settings = {"command": "benchmark", **job.protocol.decisive()}
    return write_result(Result(evaluation=evaluation, provenance=describe_run(settings), run=record), folder / job.path)


def job_of(protocol, method, category="cloth/plain", seed=0):
    return Job(protocol=protocol, category=category, method=method, resolution=64, seed=seed)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Ours holds a method with two seeds, theirs another in two categories; one job of ours is in both."""
    folder = tmp_path_factory.mktemp("folders")
    samples = random_samples(tmp_path_factory.mktemp("images"))
    ours, theirs = folder / "ours", folder / "their results"
    for where, protocol in ((ours, OURS), (theirs, THEIRS)):
        write_protocol(protocol, where)
        write_job(where, job_of(protocol, "shared"), random_pairs(samples, seed=9))
    for seed in (0, 1):
        write_job(ours, job_of(OURS, "strong", seed=seed), random_pairs(samples, seed=seed, contrast=3))
    for number, category in enumerate(THEIRS.categories):
        write_job(theirs, job_of(THEIRS, "weak", category), random_pairs(samples, seed=5 + number, contrast=0.5))
    write_failure(job_of(THEIRS, "strong"), "out of luck", "", theirs)
    write_failure(job_of(THEIRS, "third"), "out of memory", "", theirs)
    return ours, theirs


@pytest.fixture
def copies(folders, tmp_path):
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in folders]


@pytest.fixture
def merge(monkeypatch, capsys, tmp_path):
    def run_it(*given, out=tmp_path / "board"):
        return run(monkeypatch, capsys, "merge", *given, "--out", out)

    return run_it


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(merge, tmp_path, *folders):
    """The lines of a refusal, after which nothing new may lie anywhere."""
    before = contents(tmp_path)
    code, out, _ = merge(*folders)
    assert code == 2
    assert contents(tmp_path) == before
    return out.splitlines()


def test_two_folders_become_one_that_other_commands_read(merge, folders, tmp_path):
    before = [contents(folder) for folder in folders]
    code, out, err = merge(*folders)
    assert code == 0, err
    assert out == f"5 results in {tmp_path / 'board'}, 1 of them in two folders with equal numbers\n"
    assert [contents(folder) for folder in folders] == before
    protocol = read_protocol(tmp_path / "board")
    assert protocol.fingerprint == OURS.fingerprint == THEIRS.fingerprint
    assert (protocol.categories, protocol.resolutions, protocol.seeds) == (THEIRS.categories, (64,), (0, 1))
    summary = summarise(tmp_path / "board", n_resamples=20)
    assert {row.method for row in summary.board("cloth", 64).of("aupro@0.3")} == {"strong", "weak", "shared"}
    (failed,) = read_failures(tmp_path / "board")  # nobody has a result of it
    assert failed.method == "third"
    assert verify(tmp_path / "board", Request(), Progress(quiet=True)).wrong == []


def test_the_order_of_the_folders_does_not_matter_for_the_numbers(merge, folders, tmp_path):
    for name, given in (("one", folders), ("other", folders[::-1])):
        assert merge(*given, out=tmp_path / name)[0] == 0
    one, other = (
        {path.relative_to(tmp_path / name) for path in find_results(tmp_path / name)} for name in ("one", "other")
    )
    assert one == other


def test_another_protocol_is_refused_with_what_differs(merge, copies, tmp_path):
    protocol = replace(THEIRS, threshold_rate=0.5)
    shutil.rmtree(copies[1])
    write_protocol(protocol, copies[1])
    samples = random_samples(tmp_path)
    write_job(copies[1], job_of(protocol, "weak"), random_pairs(samples))
    (line,) = refused(merge, tmp_path, *copies)
    assert line.startswith(f"{copies[1]}: follows another protocol than {copies[0]} ")
    assert "threshold_rate: 0.01 there, 0.5 here" in line


def test_other_images_are_refused(merge, copies, tmp_path):
    path = copies[1] / job_of(THEIRS, "weak").path
    result = read_result(path)
    write_result(replace(result, run=replace(result.run, settings={"split": "b" * 64})), path)
    lines = refused(merge, tmp_path, *copies)
    assert any(line.startswith(f"{path}: is of other images or masks of cloth/plain than ") for line in lines)


def test_a_result_that_does_not_say_which_images_it_is_of_is_refused(merge, copies, tmp_path):
    path = copies[0] / job_of(OURS, "strong").path
    result = read_result(path)
    write_result(replace(result, run=replace(result.run, settings={})), path)
    lines = refused(merge, tmp_path, *copies)
    assert f"{path}: does not say which images and masks it is of; have it made again with this version" in lines


def test_the_same_job_with_other_numbers_is_refused(merge, copies, tmp_path):
    samples = random_samples(tmp_path)
    job = job_of(THEIRS, "shared")
    write_job(copies[1], job, random_pairs(samples, seed=10))
    (line,) = refused(merge, tmp_path, *copies)
    assert line.startswith(f"{copies[1] / job.path}: the same job as {copies[0] / job.path} with other numbers (")


@pytest.mark.parametrize("older", [0, 1])
def test_a_result_from_before_parts_were_scored_is_refused_by_what_it_lacks(merge, copies, tmp_path, older):
    """Whichever of the two folders holds it; a number that differs beside that is told first."""
    views = [
        replace(sample, group=f"part {number // 2}", is_view=True)
        for number, sample in enumerate(random_samples(tmp_path / "views"))
    ]
    paths = [
        write_job(folder, job_of(protocol, "shared"), random_pairs(views, seed=9))
        for folder, protocol in zip(copies, (OURS, THEIRS), strict=True)
    ]
    result = read_result(paths[older])
    known = result.evaluation
    aged = replace(
        known,
        n_parts=0,
        n_good_parts=0,
        part_auroc=math.nan,
        tally=replace(known.tally, is_view=np.empty(0, dtype=bool)),
        intervals={name: one for name, one in known.intervals.items() if name != "part_auroc"},
    )
    assert (known.n_parts, "part_auroc" in known.intervals) == (8, True)
    write_result(replace(result, evaluation=aged), paths[older])
    (line,) = refused(merge, tmp_path, *copies)
    told = f"{paths[older]}: lacks part AUROC, which the version that made it did not know; {paths[1 - older]} is the"
    assert line.startswith(told)
    assert line.endswith("run the older one again, or take it out of its folder")
    other = replace(aged, intervals={name: replace(one, low=0.0) for name, one in aged.intervals.items()})
    write_result(replace(result, evaluation=other), paths[older])
    (line,) = refused(merge, tmp_path, *copies)
    assert "the same job as" in line
    assert "with other numbers" in line


def test_a_folder_that_does_not_hold_in_itself_is_refused(merge, copies, tmp_path):
    path = copies[1] / job_of(THEIRS, "weak").path
    content = json.loads(path.read_text())
    content["evaluation"]["image_auroc"] = 0.999
    path.write_text(json.dumps(content))
    lines = refused(merge, tmp_path, *copies)
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert any("image_auroc is 0.999, the tally gives" in line for line in lines)


@pytest.mark.parametrize("made", [lambda place: place.mkdir(), lambda place: place.write_text("mine")])
def test_nothing_is_overwritten(merge, copies, tmp_path, made):
    made(tmp_path / "board")
    before = contents(tmp_path)
    code, _, err = merge(*copies)
    assert code == 2
    assert "is there already, and a merge overwrites nothing" in err
    assert contents(tmp_path) == before


def test_what_cannot_be_a_run_folder_is_one_line(merge, copies, tmp_path):
    (copies[1] / "protocol.json").unlink()
    (tmp_path / "empty").mkdir()
    for given, told in (
        ([copies[0]], "give two folders"),
        ([copies[0], copies[0]], "give two folders"),
        (copies, "holds no protocol"),
        ([copies[0], tmp_path / "empty"], "holds no protocol"),
        ([copies[0], tmp_path / "nowhere"], "no such folder"),
    ):
        code, _, err = merge(*given)
        assert (code, told in err.splitlines()[-1]) == (2, True), err
        assert not (tmp_path / "board").exists()


def test_a_disk_that_cannot_be_written_leaves_nothing(merge, copies, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, err = merge(*copies, out=tmp_path / "file/board")
    assert code == 2
    assert str(tmp_path / "file/board") in err


def test_a_link_among_what_somebody_sends_is_refused(merge, copies, tmp_path):
    """Its content would be copied from this machine into a board that is passed on."""
    (tmp_path / "secret.txt").write_text("mine")
    table = (copies[1] / job_of(THEIRS, "weak").path).with_suffix(".defects.csv")
    table.symlink_to(tmp_path / "secret.txt")
    lines = refused(merge, tmp_path, *copies)
    assert f"{table}: is a link; a merge takes files alone, so put the file here or remove the link" in lines
    table.unlink()
    (copies[1] / "cloth/twill").rename(tmp_path / "elsewhere")
    (copies[1] / "cloth/twill").symlink_to(tmp_path / "elsewhere")
    assert refused(merge, tmp_path, *copies)[-1].startswith(f"{copies[1] / 'cloth/twill'}: is a link")


def test_a_folder_that_is_itself_a_link_is_taken(merge, copies, tmp_path):
    (tmp_path / "link").symlink_to(copies[1])
    assert merge(copies[0], tmp_path / "link")[0] == 0


def test_a_table_of_defects_is_written_anew(merge, copies, tmp_path):
    path = copies[1] / job_of(THEIRS, "weak").path
    write_result(read_result(path), path, with_table=True)
    table = path.with_suffix(".defects.csv")
    assert merge(*copies)[0] == 0
    assert (tmp_path / "board" / table.relative_to(copies[1])).read_bytes() == table.read_bytes()
    table.write_text(table.read_text() + "and more\n")
    assert f"{table}: is not the table of {path.name}; remove it" in refused_at(merge, tmp_path / "other", *copies)


def refused_at(merge, out, *folders):
    code, told, _ = merge(*folders, out=out)
    assert (code, out.exists()) == (2, False)
    return told.splitlines()


def test_one_name_for_two_methods_is_refused_whatever_the_categories(merge, copies, tmp_path):
    """A default that changed from version to version: the mean over categories would be of no method."""
    for number, (folder, blur) in enumerate(zip(copies, ("none", "5"), strict=True)):
        protocol = read_protocol(folder)
        category = "cloth/plain" if number == 0 else "cloth/twill"
        path = folder / job_of(protocol, "blurred", category).path
        write_job(folder, job_of(protocol, "blurred", category), random_pairs(random_samples(tmp_path)))
        result = read_result(path)
        settings = {**result.run.settings, "blur": blur, "n_vectors": str(number)}
        versions = {**result.provenance.versions, "tinydefects": f"0.{number + 1}.0"}
        made = replace(result.provenance, versions=versions)
        write_result(replace(result, provenance=made, run=replace(result.run, settings=settings)), path)
    (line,) = refused(merge, tmp_path, *copies)
    assert "blurred was made with blur 5, in " in line
    assert "with blur none: two methods under one name" in line


def test_a_failed_job_whose_category_leads_elsewhere_is_left_out(merge, copies, tmp_path):
    (failure,) = copies[1].rglob("third/*.failed.json")
    content = json.loads(failure.read_text())
    failure.write_text(json.dumps({**content, "category": "../../deep/their results/cloth/plain"}))
    (tmp_path / "deep/deeper").mkdir(parents=True)
    (tmp_path / "their results").rename(tmp_path / "deep/their results")
    code, _, err = merge(copies[0], tmp_path / "deep/their results", out=tmp_path / "deep/deeper/board")
    assert code == 0, err
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"their results", "deeper"}
    assert {path.name for path in (tmp_path / "deep/deeper").iterdir()} == {"board"}
    assert read_failures(tmp_path / "deep/deeper/board") == []


@pytest.mark.parametrize("within", ["source in source", "board in source", "source in board"])
def test_folders_within_each_other_are_refused(merge, copies, tmp_path, within):
    """What lies below a folder belongs to it: results would be counted twice, then and ever after."""
    if within == "source in source":
        copies[1] = copies[1].rename(copies[0] / "theirs")
    out = {"board in source": copies[0] / "board", "source in board": tmp_path}.get(within, tmp_path / "board")
    before = contents(tmp_path)
    code, _, err = merge(*copies, out=out)
    assert (code, "lies in another of the folders" in err.splitlines()[-1]) == (2, True), err
    assert contents(tmp_path) == before


def test_two_methods_that_share_a_place_are_not_taken_for_one(merge, copies, tmp_path):
    """`a:b` and `a_b` are written alike in a path; with equal numbers one of them would be dropped."""
    for folder, protocol, method in zip(copies, (OURS, THEIRS), ("a:b", "a_b"), strict=True):
        write_job(folder, job_of(protocol, method), random_pairs(random_samples(tmp_path / "images"), seed=9))
    (line,) = refused(merge, tmp_path, *copies)
    assert line.endswith("would lie in the same place")
