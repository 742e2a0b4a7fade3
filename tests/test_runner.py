import json
import os
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import replace
from math import isnan

import pytest

from benchmark_scene import CATEGORY, PROTOCOL, add_stand_in, jobs_for, settings_in
from tinydefects.benchmark import job as job_run
from tinydefects.benchmark.job import Share, prepare_features, run_job, share_of
from tinydefects.benchmark.processes import InThisProcess, IsolatedProcesses
from tinydefects.benchmark.run_folder import find_finished, read_failures
from tinydefects.benchmark.runner import run
from tinydefects.datasets.catalog import load_category
from tinydefects.errors import ResultError, TeacherError, TinyDefectsError
from tinydefects.results.result import numbers_of, read_result


def run_here(jobs, settings, executor=None, n_at_once=1):
    return list(run(jobs, settings, executor or InThisProcess(), n_at_once=lambda: n_at_once))


def fail(samples):
    raise ValueError("no idea\nwhat to do")


@pytest.mark.slow
def test_a_result_says_which_job_it_answers_and_all_that_is_needed_to_repeat_it(tmp_path):
    (job,) = jobs_for("subspace")
    result = run_job(job, settings_in(tmp_path))
    assert (result.run.job, result.run.protocol) == (job.fingerprint, job.protocol.fingerprint)
    assert (result.run.n_train, result.evaluation.n_images) == (4, 10)
    facts = result.provenance.settings
    assert facts["dataset_options"] == "size=96 n_train=4 n_good=4 n_defect=6 seed=0"
    assert (facts["teacher"], facts["resolution"], facts["seed"], facts["threads"]) == ("builtin", "96", "0", "1")
    assert len(facts["method.split"]) == 64


@pytest.mark.slow
def test_the_same_job_gives_the_same_numbers_twice_and_another_seed_others(tmp_path):
    first, again, other = (
        run_job(replace(jobs_for("fbft:epochs=1")[0], seed=seed), settings_in(tmp_path / folder))
        for seed, folder in ((0, "a"), (0, "b"), (1, "a"))
    )
    assert repr(numbers_of(first.evaluation)) == repr(numbers_of(again.evaluation))  # nan is equal to nan here
    assert first.evaluation.score_range != other.evaluation.score_range


@pytest.mark.slow
def test_a_method_learns_without_masks_and_predicts_without_labels(tmp_path, monkeypatch):
    seen = {"fit": [], "predict": []}
    name = add_stand_in(monkeypatch, on_fit=seen["fit"].extend, on_predict=seen["predict"].extend)
    run_job(jobs_for(name)[0], settings_in(tmp_path))
    assert [len(seen["fit"]), len(seen["predict"])] == [4, 10]
    assert not any(sample.mask_paths for sample in (*seen["fit"], *seen["predict"]))
    assert {sample.label for sample in seen["predict"]} == {"unknown"}


@pytest.mark.slow
def test_thresholds_come_from_validation_normals_and_are_undefined_without_them(tmp_path, monkeypatch):
    name = add_stand_in(monkeypatch)
    job = jobs_for(name)[0]
    without = run_job(job, settings_in(tmp_path)).evaluation
    assert isnan(without.threshold)
    assert isnan(without.pixel_f1)

    def with_validation(address, **options):
        category = load_category(address, **options)
        return replace(category, validation=category.train[:2])

    monkeypatch.setattr(job_run, "load_category", with_validation)
    found = run_job(job, settings_in(tmp_path)).evaluation
    images = [
        sample.image() for sample in with_validation(job.category, root=tmp_path / "data", **job.options).validation
    ]
    scores = sorted((score for image in images for score in image.mean(axis=2).ravel()), reverse=True)
    assert found.threshold == pytest.approx(scores[int(0.01 * 2 * 96 * 96)])
    assert 0 <= found.pixel_f1 <= 1


@pytest.mark.parametrize("task", ["fit", "predict"])
def test_a_method_that_looks_at_what_is_sealed_fails_its_job(tmp_path, monkeypatch, task):
    (job,) = jobs_for(add_stand_in(monkeypatch, "honest"))
    category = load_category(job.category, root=tmp_path / "data", **job.options)
    defective = next(sample for sample in category.test if sample.label == "defect")
    peek = {"fit": lambda samples: defective.image(), "predict": lambda samples: defective.mask()}[task]
    (outcome,) = run_here(jobs_for(add_stand_in(monkeypatch, "peeking", **{f"on_{task}": peek})), settings_in(tmp_path))
    path = defective.image_path if task == "fit" else defective.mask_paths[0]
    assert outcome.reason.startswith(f"peeking: opened {path} during {task}")


def test_another_teacher_than_the_protocols_is_refused(tmp_path):
    protocol = replace(PROTOCOL, teacher_fingerprint="0" * 64)
    with pytest.raises(TeacherError, match="its weights here are"):
        run_job(jobs_for("subspace", protocol=protocol)[0], settings_in(tmp_path))


@pytest.mark.slow
def test_maps_are_kept_when_asked_for(tmp_path, monkeypatch):
    (job,) = jobs_for(add_stand_in(monkeypatch))
    settings = settings_in(tmp_path, keep_maps=True)
    run_job(job, settings)
    assert len(list((settings.out / job.path).with_suffix("").rglob("*.tiff"))) == 10


@pytest.mark.slow
def test_a_job_that_fails_leaves_its_reason_and_the_others_go_on(tmp_path, monkeypatch):
    bad, good = add_stand_in(monkeypatch, "bad", on_fit=fail), add_stand_in(monkeypatch, "good")
    settings = settings_in(tmp_path)
    outcomes = run_here(jobs_for(bad, good), settings)
    assert [outcome.reason for outcome in outcomes] == ["ValueError: no idea what to do", ""]
    (failure,) = read_failures(settings.out)
    assert (failure.method, failure.reason) == ("bad", "ValueError: no idea what to do")
    assert "in fail" in failure.traceback


@pytest.mark.slow
def test_a_failed_job_is_forgotten_once_it_succeeds(tmp_path, monkeypatch):
    settings = settings_in(tmp_path)
    run_here(jobs_for(add_stand_in(monkeypatch, on_fit=fail)), settings)
    jobs = jobs_for(add_stand_in(monkeypatch))
    assert find_finished(jobs, settings.out) == {}
    run_here(jobs, settings)
    assert read_failures(settings.out) == []
    assert list(find_finished(jobs, settings.out)) == [jobs[0].name]


@pytest.mark.slow
def test_only_a_result_of_this_very_job_that_can_be_read_back_counts_as_finished(tmp_path, monkeypatch):
    settings, name = settings_in(tmp_path), add_stand_in(monkeypatch)
    jobs = jobs_for(name)
    run_here(jobs, settings)
    assert find_finished(jobs, settings.out)
    assert not find_finished(jobs_for(name, protocol=replace(PROTOCOL, threshold_rate=0.5)), settings.out)
    pictures = (settings.out / jobs[0].path).with_suffix(".npz")
    pictures.write_bytes(pictures.read_bytes()[:-1])
    assert not find_finished(jobs, settings.out)


def test_a_damaged_record_of_a_failure_is_named(tmp_path):
    path = tmp_path / "seed_0.failed.json"
    path.write_text("{")
    with pytest.raises(ResultError, match=r"seed_0\.failed\.json"):
        read_failures(tmp_path)


class Recorder(Executor):
    """Answers nothing by itself: the test decides which of the submitted tasks end, and how."""

    def __init__(self, answer):
        self.submitted = []
        self._answer = answer

    def submit(self, function, task, settings):
        self.submitted.append(task.name)
        future = Future()
        error = self._answer(task, self.submitted.count(task.name))
        if error:
            future.set_exception(error)
        else:
            future.set_result(InThisProcess().submit(function, task, settings).result())
        return future


@pytest.mark.slow
def test_shared_features_are_computed_once_before_the_jobs_that_use_them(tmp_path):
    recorder = Recorder(lambda task, nth: None)
    jobs = jobs_for("subspace", "local_contrast", "gaussian", "fbft_published:epochs=1")
    run_here(jobs, settings_in(tmp_path), recorder)
    names = [name.partition(" ")[2] for name in recorder.submitted]
    assert names[:3] == ["– local_contrast seed 0", "96 fbft_published:epochs=1 seed 0", "96 teacher features"]
    assert names[3:] == ["96 subspace seed 0", "96 gaussian seed 0"]


def test_a_method_that_sees_the_images_in_its_own_way_waits_for_no_shared_features(tmp_path):
    for peer in ("subspace:tile=48", "subspace:stride=4", "fbft:precision=bfloat16", "fbft:blocks=1-4"):
        assert share_of(jobs_for(peer)[0]) is None
    shared = {share_of(jobs_for(peer)[0]).name for peer in ("subspace", "fbft:epochs=3", "patchcore")}
    assert shared == {f"{CATEGORY} 96 teacher features"}


@pytest.mark.slow
def test_ablations_wait_until_the_students_they_share_are_likely_there(tmp_path):
    recorder = Recorder(lambda task, nth: RuntimeError("not today") if task.name.endswith("seed 0") else None)
    jobs = jobs_for("fbft:epochs=1", "fbft_sum:epochs=1", "fbft_sum:epochs=2", "subspace")
    run_here(jobs, settings_in(tmp_path), recorder)
    methods = [name.split()[2] for name in recorder.submitted[1:]]
    assert methods == ["fbft:epochs=1", "fbft_sum:epochs=2", "subspace", "fbft_sum:epochs=1"]


@pytest.mark.slow
def test_a_job_alone_with_its_features_computes_them_itself(tmp_path):
    recorder = Recorder(lambda task, nth: None)
    run_here(jobs_for("subspace"), settings_in(tmp_path), recorder)
    assert len(recorder.submitted) == 1


@pytest.mark.slow
def test_prepared_features_are_all_that_a_method_needs(tmp_path):
    (job,) = jobs_for("subspace")
    settings = settings_in(tmp_path)
    prepare_features(Share(protocol=job.protocol, category=job.category, resolution=96), settings)
    before = set(settings.features.rglob("*.npy"))
    run_job(job, settings)
    assert len(before) == 14
    assert set(settings.features.rglob("*.npy")) == before


@pytest.mark.slow
def test_where_features_cannot_be_computed_the_jobs_that_need_them_say_so(tmp_path):
    outcomes = run_here(
        jobs_for("subspace", "gaussian", "local_contrast"), settings_in(tmp_path, features_limit_gb=1e-6)
    )
    reasons = {outcome.task.name.partition(" ")[2]: outcome.reason for outcome in outcomes}
    assert reasons["– local_contrast seed 0"] == ""
    for name in ("96 subspace seed 0", "96 gaussian seed 0"):
        assert "teacher features: " in reasons[name]
        assert "the features need" in reasons[name]


@pytest.mark.slow
def test_a_job_whose_worker_dies_twice_is_done_at_the_third_try(tmp_path, monkeypatch):
    name = add_stand_in(monkeypatch)
    recorder = Recorder(lambda task, nth: BrokenExecutor("killed") if nth < 3 else None)
    (outcome,) = run_here(jobs_for(name), settings_in(tmp_path), recorder)
    assert (len(recorder.submitted), outcome.reason) == (3, "")


@pytest.mark.slow
def test_a_job_whose_worker_dies_three_times_is_given_up_and_the_others_go_on(tmp_path, monkeypatch):
    deadly, good = add_stand_in(monkeypatch, "deadly"), add_stand_in(monkeypatch, "good")
    recorder = Recorder(lambda task, nth: BrokenExecutor("killed") if task.method == "deadly" else None)
    settings = settings_in(tmp_path)
    outcomes = {outcome.task.method: outcome.reason for outcome in run_here(jobs_for(deadly, good), settings, recorder)}
    assert outcomes["good"] == ""
    assert "its worker died 3 times" in outcomes["deadly"]
    assert json.loads(next(settings.out.rglob("*.failed.json")).read_text())["reason"] == outcomes["deadly"]


def test_a_run_ends_when_all_workers_have_gone_and_what_is_finished_stays(tmp_path, monkeypatch):
    jobs = jobs_for(add_stand_in(monkeypatch, "first"), add_stand_in(monkeypatch, "second"))
    settings = settings_in(tmp_path)
    answers = iter([1])

    def n_places():
        try:
            return next(answers)
        except StopIteration:
            raise TinyDefectsError("no worker is there") from None

    outcomes = run(jobs, settings, InThisProcess(), n_at_once=n_places)
    assert next(outcomes).reason == ""
    with pytest.raises(TinyDefectsError, match="no worker is there"):
        next(outcomes)
    assert list(find_finished(jobs, settings.out)) == [jobs[0].name]
    assert read_failures(settings.out) == []


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_with_it_and_is_replaced():
    with IsolatedProcesses() as processes:
        dying, living = processes.submit(os._exit, 1), processes.submit(time.sleep, 0.5)
        with pytest.raises(BrokenExecutor):
            dying.result()
        assert living.result() is None
        assert processes.submit(os.getpid).result() != os.getpid()


def test_a_process_is_used_again_for_the_next_task():
    with IsolatedProcesses() as processes:
        assert processes.submit(os.getpid).result() == processes.submit(os.getpid).result()


def test_an_exception_ends_the_processes_at_once():
    def stop_while_one_sleeps():
        with IsolatedProcesses() as processes:
            processes.submit(time.sleep, 60)
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stop_while_one_sleeps()
    assert time.monotonic() - start < 30


@pytest.mark.slow
def test_a_cost_sheet_comes_with_the_first_seed_alone(tmp_path, monkeypatch):
    protocol = replace(PROTOCOL, seeds=(0, 1))
    name = add_stand_in(monkeypatch, uses_seed=True)
    settings = settings_in(tmp_path, cost="quick", workers=2)
    jobs = jobs_for(name, protocol=protocol)
    run_here(jobs, settings)
    first, second = (read_result(settings.out / job.path) for job in jobs)
    assert (first.run.cost.n_beside, first.run.cost.threads, first.run.cost.teacher_bytes) == (1, 1, 0)
    assert second.run.cost is None
    assert first.evaluation.crops
    assert not second.evaluation.crops
