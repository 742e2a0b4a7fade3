from dataclasses import replace
from itertools import pairwise

from tinydefects.benchmark.protocol import EvaluationProtocol, list_jobs

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
    assert {(job.peer, job.resolution, job.seed) for job in found} == {
        ("subspace", 384, 3),
        ("subspace", 256, 3),
        ("local_contrast", 0, 3),
    }


def test_jobs_that_share_features_follow_each_other():
    shares = [(job.category, job.resolution) for job in jobs_of("fbft", "subspace")]
    assert sum(one != following for one, following in pairwise(shares)) == 3


def test_a_job_has_a_file_of_its_own_and_a_name_for_people():
    job = jobs_of("patchcore:coreset=0.01")[0]
    assert str(job.path) == "visa/pcb1/384/patchcore_coreset=0.01/seed_3.json"
    assert job.name == "visa/pcb1 384 patchcore:coreset=0.01 seed 3"


def test_adding_categories_resolutions_seeds_or_pictures_leaves_fingerprints_as_they_are():
    more = replace(
        PROTOCOL, categories=("btad/01", *PROTOCOL.categories), resolutions=(1036, 384), seeds=(3, 4, 5), n_exhibits=0
    )
    assert more.fingerprint == PROTOCOL.fingerprint
    assert {job.fingerprint for job in jobs_of("fbft")} & {job.fingerprint for job in jobs_of("fbft", protocol=more)}


def test_whatever_decides_a_number_changes_the_fingerprint():
    changed = [
        replace(PROTOCOL, teacher_fingerprint="ab"),
        replace(PROTOCOL, fpr_limits=(0.3,)),
        replace(PROTOCOL, false_alarm_rate=0.1),
        replace(PROTOCOL, threshold_rate=0.001),
        replace(PROTOCOL, n_resamples=10),
    ]
    assert len({PROTOCOL.fingerprint, *(one.fingerprint for one in changed)}) == 6


def test_options_of_a_dataset_change_the_jobs_on_it_and_no_others():
    larger = replace(PROTOCOL, options={"synthetic": {"size": 512}})
    before, after = jobs_of("fbft"), jobs_of("fbft", protocol=larger)
    differing = {one.category for one, other in zip(before, after, strict=True) if one.fingerprint != other.fingerprint}
    assert differing == {"synthetic/brushed_metal"}
    assert after[-1].options == {"size": 512}


def test_the_first_seed_is_that_of_the_protocol_and_not_the_number_0():
    assert [job.is_first_seed for job in jobs_of("fbft")[:2]] == [True, False]
