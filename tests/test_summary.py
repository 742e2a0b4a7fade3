import json
from dataclasses import replace

import numpy as np
import pytest

from random_category import random_pairs, random_samples
from tinydefects.benchmark.run_folder import write_failure, write_protocol
from tinydefects.benchmark.summary import METRICS, read_summary, summarise, write_summary
from tinydefects.errors import ResultError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.leaderboard import leaderboard
from tinydefects.results.protocol import CostSheet, EvaluationProtocol, Job, RunRecord, Spread
from tinydefects.results.result import Result, describe_run, write_result

pytestmark = pytest.mark.slow

CATEGORIES = ("cloth/plain", "cloth/twill", "metal/brushed")
PROTOCOL = EvaluationProtocol(categories=CATEGORIES, resolutions=(64, 32), seeds=(0, 1), teacher="builtin")
JOBS = {("strong", 64): 2.5, ("weak", 64): 0.5, ("strong", 32): 1.5, ("weak", 32): 0.4, ("plain", 0): 0.3}


def cost_sheet(milliseconds):
    spread = Spread(median_ms=milliseconds, low_ms=milliseconds, high_ms=milliseconds, n=10)
    return CostSheet(
        image_size=(40, 60),
        device="cpu",
        threads=1,
        n_warmup=3,
        stages={"decode": spread},
        end_to_end=spread,
        by_batch={1: spread, 2: spread},
        peak_memory_bytes=10**8,
        teacher_bytes=10**7,
        method_bytes=123,
    )


def write_job(folder, job, evaluation, *, protocol=PROTOCOL, cost=None):
    record = RunRecord(
        method=job.method,
        resolution=job.resolution,
        seed=job.seed,
        protocol=protocol.fingerprint,
        job=job.fingerprint,
        n_train=7,
        fit_seconds=1.5,
        predict_seconds=0.25,
        cost=cost,
    )
    provenance = describe_run({"threads": 1, "method": job.method})
    return write_result(Result(evaluation=evaluation, provenance=provenance, run=record), folder / job.path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder of 24 results and 3 failed jobs, and what was written there, by job."""
    folder = tmp_path_factory.mktemp("results")
    write_protocol(PROTOCOL, folder)
    found = {}
    for number, category in enumerate(CATEGORIES):
        samples = random_samples(tmp_path_factory.mktemp("images"), seed=number)
        for (peer, resolution), contrast in JOBS.items():
            for seed in PROTOCOL.seeds if resolution else (0,):
                job = Job(protocol=PROTOCOL, category=category, method=peer, resolution=resolution, seed=seed)
                if (category, peer, resolution) == ("cloth/twill", "weak", 64):
                    write_failure(job, f"out of luck with seed {seed}", "Traceback …", folder)
                    continue
                pairs = random_pairs(samples, seed=10 * seed + resolution, contrast=contrast)
                evaluation = evaluate(pairs, category=category, n_resamples=20)
                write_job(folder, job, evaluation, cost=cost_sheet(12.5) if seed == 0 else None)
                found[category, peer, resolution, seed] = evaluation
    return folder, found


@pytest.fixture(scope="module")
def summary(written):
    return summarise(written[0], n_resamples=50)


def test_every_result_is_one_row_with_its_numbers(written, summary):
    rows = {(row.category, row.method, row.resolution, row.seed): row for row in summary.rows}
    assert rows.keys() == written[1].keys()
    for job, row in rows.items():
        known = metrics_of(written[1][job])
        of_others = {name for name in METRICS if name == "part_auroc" or name.startswith("spro")}  # of other datasets
        assert set(row.metrics) == set(METRICS) - of_others
        np.testing.assert_equal({name: known[name] for name in row.metrics}, dict(row.metrics))
        assert row.intervals["aupro@0.3"] == written[1][job].intervals["aupro@0.3"]
        assert row.n_defects == written[1][job].overall.n_defects
    one = rows["cloth/plain", "strong", 64, 0]
    assert (one.n_train, one.fit_seconds, one.predict_seconds) == (7, 1.5, 0.25)
    assert one.cost == cost_sheet(12.5)
    assert rows["cloth/plain", "strong", 64, 1].cost is None


def test_each_dataset_and_resolution_has_its_leaderboard_and_teacherless_methods_stand_in_all(written, summary):
    assert [(board.dataset, board.resolution) for board in summary.boards] == [
        ("cloth", 64),
        ("cloth", 32),
        ("metal", 64),
        ("metal", 32),
    ]
    board = summary.board("cloth", 32)
    assert {one.method for one in board.rows} == {"strong", "weak", "plain"}
    by_method = {
        peer: {
            category: [written[1][category, peer, resolution, seed] for seed in seeds]
            for category in ("cloth/plain", "cloth/twill")
        }
        for peer, resolution, seeds in (("plain", 0, (0,)), ("strong", 32, (0, 1)), ("weak", 32, (0, 1)))
    }
    own = leaderboard(by_method, metrics=["rho@0.05"], n_resamples=50).rows
    assert [one.value for one in board.of("rho@0.05")] == [one.value for one in own]
    assert [one.interval for one in board.of("rho@0.05")] == [one.interval for one in own]
    with pytest.raises(ResultError, match="no leaderboard of cloth at 16 px; the summary holds cloth 64, cloth 32"):
        summary.board("cloth", 16)


def test_a_method_and_its_ablations_have_a_board_of_their_own(written, tmp_path):
    write_protocol(PROTOCOL, tmp_path)
    for peer in ("fbft", "fbft_sum", "subspace"):
        job = Job(protocol=PROTOCOL, category="cloth/plain", method=peer, resolution=64, seed=0)
        write_job(tmp_path, job, written[1]["cloth/plain", "weak", 64, 0])
    found = summarise(tmp_path, n_resamples=20)
    assert [(board.family, len(board.leaderboard.of("rho@0.05"))) for board in found.boards] == [("", 3), ("fbft", 2)]
    assert {one.method for one in found.board("cloth", 64, "fbft").rows} == {"fbft", "fbft_sum"}


def test_failed_jobs_are_told_and_their_category_is_left_out(summary):
    assert [(one.method, one.category, one.seed, one.reason) for one in summary.failed] == [
        ("weak", "cloth/twill", seed, f"out of luck with seed {seed}") for seed in (0, 1)
    ]
    assert summary.board("cloth", 64).left_out == ("cloth/twill",)
    assert all(not one.traceback for one in summary.failed)


def test_provenance_is_what_all_results_share(summary):
    assert summary.provenance.settings == {"threads": "1"}
    assert summary.fingerprint == PROTOCOL.fingerprint


def test_it_comes_back_as_it_went_but_for_the_seventh_decimal(summary, tmp_path):
    again = read_summary(write_summary(summary, tmp_path / "deep/summary.json"))
    assert again.protocol == summary.protocol
    assert again.provenance == summary.provenance
    assert again.failed == summary.failed
    assert [(one.dataset, one.resolution) for one in again.boards] == [
        (b.dataset, b.resolution) for b in summary.boards
    ]
    for one, other in zip(again.boards[0].leaderboard.rows, summary.boards[0].leaderboard.rows, strict=True):
        assert (one.method, one.metric, one.verdict) == (other.method, other.metric, other.verdict)
        np.testing.assert_allclose(one.value, other.value, atol=1e-6)
        np.testing.assert_allclose(one.corrected_p, other.corrected_p, atol=1e-6)
    for row, other in zip(again.rows, summary.rows, strict=True):
        assert row.cost == other.cost
        np.testing.assert_allclose([*row.metrics.values()], [*other.metrics.values()], atol=1e-6)


def test_a_file_of_the_first_format_is_read_with_its_own_words(summary, tmp_path):
    path = write_summary(summary, tmp_path / "summary.json")
    content = json.loads(path.read_text())
    for board in content["boards"]:
        rows = board["leaderboard"].pop("rows")
        board["leaderboard"]["standings"] = [
            {"entrant": row.pop("method"), "figure": row.pop("metric"), **row} for row in rows
        ]
    content["rows"] = [{"peer": row.pop("method"), "figures": row.pop("metrics"), **row} for row in content["rows"]]
    content["failed"] = [{"peer": one.pop("method"), **one} for one in content["failed"]]
    evaluation = content["protocol"]["evaluation"]
    evaluation["n_exhibits"] = evaluation.pop("n_crops")
    (tmp_path / "old.json").write_text(json.dumps({**content, "format": 1}))
    old, new = read_summary(tmp_path / "old.json"), read_summary(path)
    assert repr(old) == repr(new)


def test_it_is_small_strict_json_without_pictures_or_tallies(summary, tmp_path):
    path = write_summary(summary, tmp_path / "summary.json")
    text = path.read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not strict JSON"))
    assert '"a90_px":null' in text
    rows = [line for line in text.splitlines() if line.startswith('{"category":')]
    assert len(rows) == len(summary.rows)
    assert max(map(len, rows)) < 4500  # 600 of them stay below 3 MB
    assert not any(word in rows[0] for word in ("crop", "tally", "curve", "sample_id"))


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"n_train":7', '"n_train":"many"', r"field 'rows\.0\.n_train'"),
        ('"verdict":"best"', '"verdict":3', r"field 'boards\.0\.leaderboard\.rows\.0\.verdict'"),
        ('"fingerprint"', '"footprint"', r"field 'fingerprint'"),
        ('"format": 5', '"format": 9', "newer version"),
        ('"rows": [', '"rows": [[', "not a readable summary"),
    ],
)
def test_a_damaged_file_is_refused_with_the_field_named(summary, tmp_path, before, after, complaint):
    path = write_summary(summary, tmp_path / "summary.json")
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ResultError, match=rf"summary\.json: .*{complaint}|summary\.json: {complaint}"):
        read_summary(path)
    with pytest.raises(ResultError, match=r"nowhere\.json: not a readable summary"):
        read_summary(tmp_path / "nowhere.json")


def test_a_folder_without_a_benchmark_a_stray_result_and_another_protocol_are_refused(written, tmp_path):
    with pytest.raises(ResultError, match="no benchmark was run here"):
        summarise(tmp_path)
    job = Job(protocol=PROTOCOL, category="cloth/plain", method="strong", resolution=64, seed=0)
    evaluation = written[1]["cloth/plain", "strong", 64, 0]
    write_protocol(PROTOCOL, tmp_path)
    with pytest.raises(ResultError, match="no results here"):
        summarise(tmp_path)
    path = write_job(tmp_path, job, evaluation, protocol=replace(PROTOCOL, threshold_rate=0.5))
    with pytest.raises(ResultError, match=r"seed_0\.json: made under another protocol"):
        summarise(tmp_path)
    write_result(Result(evaluation=evaluation, provenance=describe_run({})), path)
    with pytest.raises(ResultError, match="no results of a benchmark here"):
        summarise(tmp_path)
