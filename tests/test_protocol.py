import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tinydefects.benchmark.job import share_of, students_of
from tinydefects.benchmark.run_folder import finished, joined, read_protocol, write_protocol
from tinydefects.benchmark.selection import jobs_of_shard
from tinydefects.errors import ResultError
from tinydefects.metrics.groups import SizeBins
from tinydefects.results.protocol import OF_EACH_CATEGORY, EvaluationProtocol, list_jobs

GOLDENS = Path(__file__).parent / "goldens"
PROTOCOL = EvaluationProtocol(
    categories=("visa/pcb1", "synthetic/brushed_metal"), resolutions=(384, 256), seeds=(3, 4), teacher="builtin"
)


def jobs_of(*peers, protocol=PROTOCOL, **kinds):
    return list_jobs(protocol, peers, **kinds)


def test_every_category_resolution_method_and_seed_is_one_job():
    assert len({job.fingerprint for job in jobs_of("fbft", "subspace")}) == 2 * 2 * 2 * 2


def test_without_chance_there_is_one_seed_and_without_teacher_one_resolution():
    found = jobs_of(
        "subspace", "local_contrast", seedless={"subspace", "local_contrast"}, teacherless={"local_contrast"}
    )
    assert {(job.method, job.resolution, job.seed) for job in found} == {
        ("subspace", 384, 3),
        ("subspace", 256, 3),
        ("local_contrast", 0, 3),
    }


def test_jobs_that_share_features_follow_each_other():
    shares = [(job.category, job.resolution) for job in jobs_of("fbft", "subspace")]
    assert sum(one != following for one, following in pairwise(shares)) == 3


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 7, 11, 24, 30])
def test_shards_are_disjoint_together_all_and_none_is_empty_while_there_are_jobs(total):
    jobs = jobs_of("fbft", "local_contrast", "subspace", seedless={"subspace"}, teacherless={"local_contrast"})
    shards = [[job.name for job in jobs_of_shard(jobs, number, total)] for number in range(1, total + 1)]
    assert sorted(name for shard in shards for name in shard) == sorted(job.name for job in jobs)
    assert all(shards) or total > len(jobs)


def test_jobs_that_share_features_stay_in_one_shard_while_there_are_enough_others():
    jobs = jobs_of("fbft", "local_contrast", "subspace", "fbft_sum", teacherless={"local_contrast"})
    for total in (2, 4):
        shards = [jobs_of_shard(jobs, number, total) for number in range(1, total + 1)]
        homes = [{share.name for job in shard if (share := share_of(job))} for shard in shards]
        assert sum(len(names) for names in homes) == len(set.union(*homes)) == 4


def test_students_that_two_methods_share_stay_in_one_shard():
    jobs = [job for job in jobs_of("fbft:tile=64", "fbft_sum:tile=64") if job.category == "visa/pcb1"]
    for number in range(1, 5):
        shard = jobs_of_shard(jobs, number, 4)
        assert len(shard) == 2
        assert len({students_of(job) for job in shard}) == 1


def test_a_job_has_a_file_of_its_own_and_a_name_for_people():
    job = jobs_of("patchcore:coreset=0.01")[0]
    assert str(job.path) == "visa/pcb1/384/patchcore_coreset=0.01/seed_3.json"
    assert job.name == "visa/pcb1 384 patchcore:coreset=0.01 seed 3"


def test_adding_categories_resolutions_seeds_or_pictures_leaves_fingerprints_as_they_are():
    more = replace(
        PROTOCOL,
        categories=("btad/01", *PROTOCOL.categories),
        resolutions=(1036, 384),
        seeds=(3, 4, 5),
        evaluation=PROTOCOL.evaluation.changed(n_crops=0),
    )
    assert more.fingerprint == PROTOCOL.fingerprint
    assert {job.fingerprint for job in jobs_of("fbft")} & {job.fingerprint for job in jobs_of("fbft", protocol=more)}


def test_whatever_decides_a_number_changes_the_fingerprint():
    changed = [
        replace(PROTOCOL, teacher_fingerprint="ab"),
        replace(PROTOCOL, threshold_rate=0.001),
        *(
            replace(PROTOCOL, evaluation=OF_EACH_CATEGORY.changed(**change))
            for change in (
                {"fpr_limits": (0.3,)},
                {"curve": "published_99"},
                {"detection_rule": "peak_at_image_fpr"},
                {"false_alarm_rate": 0.1},
                {"n_resamples": 10},
                {"bins": "area_px:10"},
                {"pixel_pitch_mm": 0.1},
                {"seed": 1},
            )
        ),
    ]
    assert len({PROTOCOL.fingerprint, *(one.fingerprint for one in changed)}) == 11


def test_a_rate_that_is_the_rules_own_is_the_same_protocol_said_or_unsaid():
    said = replace(PROTOCOL, evaluation=OF_EACH_CATEGORY.changed(false_alarm_rate=0.05))
    assert said.fingerprint == PROTOCOL.fingerprint


def test_a_protocol_comes_back_as_it_went(tmp_path):
    evaluation = OF_EACH_CATEGORY.changed(bins=SizeBins(unit="area_mm2", edges=(1, 2)), pixel_pitch_mm=0.1, seed=4)
    protocol = replace(PROTOCOL, options={"visa": {"n": [1, None]}}, evaluation=evaluation)
    write_protocol(protocol, tmp_path)
    assert read_protocol(tmp_path) == protocol


@pytest.mark.parametrize(
    ("name", "rule", "job_fingerprint"),
    [
        ("benchmark_of_0_1_0", "peak_at_image_fpr", "c3681baeb0c8bcc2"),
        ("benchmark_of_own_peaks", "own_peak_at_image_fpr", "6ea5bdab3e581f98"),
    ],
)
def test_protocols_with_flat_settings_keep_their_fingerprints_and_those_of_their_jobs(name, rule, job_fingerprint):
    protocol = read_protocol(GOLDENS / name)
    stored = json.loads((GOLDENS / name / "protocol.json").read_text())
    assert protocol.fingerprint == stored["fingerprint"]
    (job,) = list_jobs(protocol, ["local_contrast"], teacherless={"local_contrast"})
    assert job.fingerprint == job_fingerprint
    assert protocol.evaluation == OF_EACH_CATEGORY.changed(
        fpr_limits=(0.3, 0.05), detection_rule=rule, false_alarm_rate=0.05, n_resamples=20, n_crops=0
    )


def test_a_benchmark_of_0_1_0_goes_on_where_it_stopped():
    protocol = read_protocol(GOLDENS / "benchmark_of_0_1_0")
    (job,) = list_jobs(protocol, ["local_contrast"], teacherless={"local_contrast"})
    found = finished(job, GOLDENS / "benchmark_of_0_1_0")
    assert found is not None
    assert found.metrics["image_auroc"] == pytest.approx(1.0, abs=1e-12)


def test_options_of_a_dataset_change_the_jobs_on_it_and_no_others():
    larger = replace(PROTOCOL, options={"synthetic": {"size": 512}})
    before, after = jobs_of("fbft"), jobs_of("fbft", protocol=larger)
    differing = {one.category for one, other in zip(before, after, strict=True) if one.fingerprint != other.fingerprint}
    assert differing == {"synthetic/brushed_metal"}
    assert after[-1].options == {"size": 512}


def test_the_first_seed_is_that_of_the_protocol_and_not_the_number_0():
    assert [job.is_first_seed for job in jobs_of("fbft")[:2]] == [True, False]


def test_a_run_without_teacher_joins_the_folder_of_one_that_has_it(tmp_path):
    stored = replace(PROTOCOL, teacher_fingerprint="ab")
    write_protocol(stored, tmp_path)
    asked = replace(PROTOCOL, categories=("btad/01",), seeds=(4, 5), teacher="another")
    found = joined(asked, tmp_path)
    assert (found.teacher, found.fingerprint) == ("builtin", stored.fingerprint)
    assert (found.categories, found.seeds) == ((*PROTOCOL.categories, "btad/01"), (3, 4, 5))
    with pytest.raises(ResultError, match=r"another protocol \(teacher_fingerprint: ab there, cd here\)"):
        joined(replace(PROTOCOL, teacher_fingerprint="cd"), tmp_path)


def test_a_protocol_whose_numbers_differ_is_refused(tmp_path):
    write_protocol(PROTOCOL, tmp_path)
    path = tmp_path / "protocol.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 0}))
    with pytest.raises(ResultError, match=r"protocol\.json: protocol version 0, this is version 1, whose"):
        joined(PROTOCOL, tmp_path)
