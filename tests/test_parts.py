"""Parts of several views, scored as a whole: the AUROC of the highest scores, restated slowly; Real-IAD says which."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from random_category import random_samples
from tinydefects.benchmark.board import boards
from tinydefects.benchmark.run_folder import read_benchmark
from tinydefects.benchmark.summary import summarise
from tinydefects.benchmark.text import SHOWN, describe_leaderboard
from tinydefects.data.sample import Prediction
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.resampling import Resampler
from tinydefects.metrics.statistics.uncertainty import draw_weights, n_trials, plan_of
from tinydefects.report.page import write_report
from tinydefects.results.recount import differences, interval_differences
from tinydefects.results.result import Result, describe_run, read_result, write_result

N_VIEWS = 3


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Eight good parts of three views, and six defective ones, of which the last view shows nothing."""
    images = random_samples(tmp_path_factory.mktemp("views"), n_good=30, n_defective=12)
    good, bad = images[:30], images[30:]
    parts = [good[3 * number : 3 * number + 3] for number in range(8)]
    parts += [[*bad[2 * number : 2 * number + 2], good[24 + number]] for number in range(6)]
    return [replace(view, group=f"part {number}", is_view=True) for number, views in enumerate(parts) for view in views]


def scored(samples, *, seed=0, levels=12):
    """Maps of noise, image scores of few levels, so that many are tied."""
    random = np.random.default_rng(seed)
    for sample in samples:
        score = float(random.integers(levels)) + 4.0 * (sample.label == "defect")
        yield sample, Prediction(random.standard_normal(sample.mask().shape).astype(np.float32), score)


def slow_auroc(pairs, n_times=lambda part: 1):
    """Every defective part against every good one: 1 where it scores higher, a half where both score the same."""
    scores, labels = defaultdict(list), defaultdict(list)
    for sample, prediction in pairs:
        scores[sample.group].append(prediction.score)
        labels[sample.group].append(sample.label)
    good = [part for part in scores if "defect" not in labels[part]]
    won = [
        (
            n_times(bad) * n_times(one),
            (max(scores[bad]) > max(scores[one])) + (max(scores[bad]) == max(scores[one])) / 2,
        )
        for bad in scores
        if bad not in good
        for one in good
    ]
    return sum(n * half for n, half in won) / sum(n for n, _ in won)


@pytest.mark.parametrize("seed", range(5))
def test_a_part_scores_as_its_highest_view_and_is_defective_if_one_view_is(samples, seed):
    pairs = list(scored(samples, seed=seed))
    evaluation = evaluate(pairs, n_resamples=0)
    assert (evaluation.n_images, evaluation.n_parts, evaluation.n_good_parts) == (42, 14, 8)
    assert evaluation.part_auroc == pytest.approx(slow_auroc(pairs), abs=1e-12)
    assert evaluation.part_auroc != pytest.approx(evaluation.image_auroc, abs=1e-3)
    assert metrics_of(evaluation)["part_auroc"] == evaluation.part_auroc


def test_under_weights_a_part_counts_as_often_as_it_is_drawn(samples):
    pairs = list(scored(samples))
    evaluation = evaluate(pairs, n_resamples=0)
    weights = draw_weights(evaluation.tally, 6, seed=1)
    drawn = Resampler(evaluation.tally, plan_of(evaluation)).under(weights, ["part_auroc"])
    assert list(drawn) == ["part_auroc"]
    groups = evaluation.tally.group.tolist()
    for row, value in zip(weights, drawn["part_auroc"], strict=True):
        n_times = dict(zip(groups, row.tolist(), strict=True))
        assert value == pytest.approx(slow_auroc(pairs, n_times.__getitem__), abs=1e-12)


def test_the_interval_holds_the_value_and_counts_parts_rather_than_views(samples):
    evaluation = evaluate(scored(samples), n_resamples=200)
    interval = evaluation.intervals["part_auroc"]
    assert interval.low < evaluation.part_auroc < interval.high
    assert n_trials(["part_auroc"], evaluation.tally, plan_of(evaluation)) == {"part_auroc": 6}
    perfect = evaluate(
        ((sample, replace_score(one, float(sample.label == "defect"))) for sample, one in scored(samples)),
        n_resamples=50,
    )
    assert (perfect.part_auroc, perfect.intervals["part_auroc"].high) == (1.0, 1.0)
    assert perfect.intervals["part_auroc"].low == pytest.approx(0.025 ** (1 / 6), abs=1e-9)  # Clopper and Pearson


def replace_score(prediction, score):
    return Prediction(prediction.anomaly_map, score)


def test_groups_that_are_no_parts_are_scored_image_by_image_alone(samples):
    scenes = [replace(sample, is_view=False) for sample in samples]
    evaluation = evaluate(scored(scenes), n_resamples=20)
    assert (evaluation.n_parts, math.isnan(evaluation.part_auroc)) == (0, True)
    assert "part_auroc" not in metrics_of(evaluation) | evaluation.intervals
    assert "part" not in str(evaluation)


def test_good_parts_alone_have_no_auroc_but_a_count(samples):
    evaluation = evaluate(scored(samples[:24]), n_resamples=20)
    assert (evaluation.n_parts, evaluation.n_good_parts, math.isnan(evaluation.part_auroc)) == (8, 8, True)


def test_it_is_stored_and_follows_from_the_tally(samples, tmp_path):
    evaluation = evaluate(scored(samples), n_resamples=20)
    stored = read_result(
        write_result(Result(evaluation=evaluation, provenance=describe_run({})), tmp_path / "parts.json")
    ).evaluation
    assert (stored.part_auroc, stored.n_parts, stored.n_good_parts) == (evaluation.part_auroc, 14, 8)
    assert differences(stored) == []
    assert interval_differences(stored, n_resamples=20, seed=0) == []
    assert [one.place for one in differences(replace(stored, part_auroc=0.99))] == ["part_auroc"]
    assert [one.place for one in differences(replace(stored, n_good_parts=9))] == ["n_good_parts"]


def test_it_is_printed_with_what_was_counted(samples):
    evaluation = evaluate(scored(samples), n_resamples=0)
    expected = f"part AUROC (sample-level) {evaluation.part_auroc:.4f}: 8 good and 6 defective parts"
    assert expected in str(evaluation)
    assert "part AUROC (sample-level)" in evaluation._repr_html_()


@pytest.fixture(scope="module")
def folder(samples, tmp_path_factory):
    """A benchmark of two methods on parts."""
    from benchmark_scene import PROTOCOL
    from report_factory import write_job
    from tinydefects.benchmark.run_folder import write_protocol
    from tinydefects.results.protocol import Job

    out = tmp_path_factory.mktemp("benchmark")
    protocol = replace(PROTOCOL, categories=("real_iad/toy",), options={}, resolutions=(64,))
    write_protocol(protocol, out)
    for number, method in enumerate(("one", "other")):
        job = Job(protocol=protocol, category="real_iad/toy", method=method, resolution=64, seed=0)
        evaluation = evaluate(scored(samples, seed=number), n_resamples=0, n_crops=0, category=job.category)
        write_job(job, evaluation, out)
    return out


def test_a_board_of_parts_ranks_them_as_well(folder, samples):
    (board,) = boards(read_benchmark(folder))
    found = board.rank([*SHOWN], n_resamples=20)
    values = {row.method: row.value for row in found.of("part_auroc")}
    expected = [slow_auroc(list(scored(samples, seed=number))) for number in (0, 1)]
    assert [values["one"], values["other"]] == pytest.approx(expected, abs=1e-9)
    text = describe_leaderboard(board, found)
    assert "part AUROC" in text
    assert f"{values['one']:.4f}" in next(line for line in text.splitlines() if line.startswith("one"))
    rows = summarise(folder, n_resamples=20).rows
    assert {row.method: row.metrics["part_auroc"] for row in rows} == pytest.approx(values)


@pytest.mark.slow
def test_the_page_shows_parts_on_boards_and_of_single_results(folder, tmp_path):
    page = write_report(folder, tmp_path / "r.html", n_resamples=20).read_text(encoding="utf-8")
    (board,) = boards(read_benchmark(folder))
    value = board.rank([*SHOWN], n_resamples=20).of("part_auroc")[0].value
    assert ">part AUROC</button>" in page
    assert "part AUROC is the AUROC of whole parts, each scored by the highest image score of its views." in page
    assert f'data-value="{value}"' in page
    alone = write_report(folder / "real_iad/toy/64/one", tmp_path / "alone.html").read_text(encoding="utf-8")
    assert "parts, n = 14" in alone
