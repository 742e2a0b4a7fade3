"""What a benchmark says beforehand of its jobs: a factor for every method, and measured where something is finished."""

from dataclasses import replace
from statistics import median

import pytest

from tinydefects import run_benchmark
from tinydefects.benchmark.estimate import EFFORTS, PROCESS_BYTES
from tinydefects.methods.catalog import METHODS
from tinydefects.results.result import read_result, write_result

FEW = ("n_train=3", "n_good=3", "n_defect=4", "size=64")


def test_every_method_on_the_teacher_has_an_effort_of_its_own():
    assert {name for name, kind in METHODS.items() if kind.uses_teacher} == set(EFFORTS)


@pytest.mark.slow
def test_retrieval_costs_for_each_training_image_and_steps_whatever_their_number(tmp_path):
    """All of one timing of the teacher."""
    plan = run_benchmark(
        dry_run=True,
        cost="off",
        methods="gaussian,rad,noise_discriminator",
        categories="synthetic/brushed_metal",
        teacher="builtin",
        root=tmp_path / "data",
        option=("n_train=12", *FEW[1:]),
        resolutions=(64,),
    ).plan
    plain, rad, discriminator = (estimate.seconds / plan.teacher_seconds[64] for estimate in plan.estimates)
    of_gaussian, of_rad = EFFORTS["gaussian"], EFFORTS["rad"]
    else_more = 12 * (of_rad.learning - of_gaussian.learning) + 7 * (of_rad.scoring - of_gaussian.scoring)
    assert rad - plain == pytest.approx(7 * 12 * of_rad.against + else_more, rel=1e-6)  # scored times learnt from
    assert (EFFORTS["noise_discriminator"].learning, EFFORTS["noise_discriminator"].scoring) == (0.1, 0.1)
    assert discriminator - plain == pytest.approx(EFFORTS["noise_discriminator"].once, rel=1e-6)


@pytest.mark.slow
def test_room_and_memory_are_those_of_finished_jobs_as_soon_as_there_are_some(tmp_path):
    where = {"root": tmp_path / "data", "out": tmp_path / "out", "option": FEW, "resolutions": (64,)}
    asked = {"suite": "tiny", "methods": "gaussian,local_contrast", **where}
    before = run_benchmark(dry_run=True, **asked).plan
    assert (before.n_stored, before.n_weighed) == (0, 0)
    assert before.memory_bytes > PROCESS_BYTES
    run_benchmark(cost="quick", **asked)
    results = sorted((tmp_path / "out/synthetic").rglob("seed_0.json"))
    held = [read_result(path).run.cost.peak_memory_bytes for path in results]
    more = asked | {"categories": "synthetic/brushed_metal,synthetic/woven_fabric"}
    after = run_benchmark(dry_run=True, cost="quick", **more).plan
    sizes = [sum(file.stat().st_size for file in path.parent.glob("seed_0.*")) for path in results]
    assert (len(results), len(after.left)) == (2, 2)
    assert (after.n_stored, after.n_weighed) == (2, 2)
    assert after.result_bytes == 2 * round(median(sizes))
    assert after.memory_bytes == pytest.approx(max(held), rel=0.01)  # and what training features differ by
    for path in results:  # the memory of a GPU says nothing of a worker's
        result = read_result(path)
        write_result(replace(result, run=replace(result.run, cost=replace(result.run.cost, device="cuda"))), path)
    assert run_benchmark(dry_run=True, cost="quick", **more).plan.memory_bytes == before.memory_bytes
