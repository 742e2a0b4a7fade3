from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from typer.testing import CliRunner

from random_category import random_pairs, random_samples
from report_factory import write_job
from tinydefects.cli.app import app
from tinydefects.errors import ResultError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.comparison import compare, describe, single_p_values, stepdown_p_values
from tinydefects.results.protocol import EvaluationProtocol, Job
from tinydefects.results.result import Result, describe_run, read_named_results, write_result


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return random_samples(tmp_path_factory.mktemp("category"), n_good=20, n_defective=20)


@pytest.fixture(scope="module")
def evaluations(samples):
    """`strong` sees what `weak` hardly sees; `other` is as weak as `weak` with other noise."""
    settings = {"strong": (0, 3.0), "weak": (1, 0.6), "other": (2, 0.6)}
    return {
        name: evaluate(random_pairs(samples, seed=seed, contrast=contrast), n_resamples=0)
        for name, (seed, contrast) in settings.items()
    }


def by_figure(comparisons):
    return {one.metric: one for one in comparisons}


def test_a_large_difference_is_told_and_chance_is_not(evaluations):
    told = by_figure(compare({"strong": evaluations["strong"], "weak": evaluations["weak"]}, n_resamples=300))
    assert told["aupro@0.3"].verdict == "strong higher"
    chance = compare({"weak": evaluations["weak"], "other": evaluations["other"]}, n_resamples=300)
    assert {one.verdict for one in chance} <= {"not distinguishable", "undefined"}


def test_a_method_against_itself_is_never_distinguishable(evaluations):
    for one in compare({"a": evaluations["weak"], "b": evaluations["weak"]}, names=["all"], n_resamples=300):
        if one.verdict != "undefined":
            assert (one.difference, one.p_value, one.corrected_p) == (0, 1, 1), one.metric
            assert one.verdict == "not distinguishable"


def test_swapping_the_methods_flips_the_sign_and_nothing_else(evaluations):
    """Within 1e-9: processors may add the same draws up in another order."""
    forth = compare({"a": evaluations["strong"], "b": evaluations["weak"]}, n_resamples=300)
    back = by_figure(compare({"b": evaluations["weak"], "a": evaluations["strong"]}, n_resamples=300))
    for one in forth:
        other = back[one.metric]
        np.testing.assert_allclose(one.difference, -other.difference, atol=1e-9)
        np.testing.assert_allclose(one.interval.low, -other.interval.high, atol=1e-9)
        np.testing.assert_allclose(one.corrected_p, other.corrected_p, atol=2 / 301)  # two resamples at the border
        assert one.verdict == other.verdict


def test_the_order_of_the_images_does_not_matter(samples, evaluations):
    shuffled = evaluate(reversed(list(random_pairs(samples, seed=1, contrast=0.6))), n_resamples=0)
    straight = compare({"a": evaluations["strong"], "b": evaluations["weak"]}, n_resamples=300)
    for one, other in zip(straight, compare({"a": evaluations["strong"], "b": shuffled}, n_resamples=300), strict=True):
        assert other.metric == one.metric
        np.testing.assert_allclose([other.p_value, other.interval.low], [one.p_value, one.interval.low], rtol=1e-6)


def test_pairing_narrows_the_difference_of_two_methods_that_share_their_hard_images(samples):
    pairs = list(random_pairs(samples, contrast=1.0))
    tinted = [(sample, replace_map(prediction, 0.1)) for sample, prediction in pairs]
    a, b = evaluate(pairs, n_resamples=300), evaluate(tinted, n_resamples=300)
    paired = by_figure(compare({"a": a, "b": b}, n_resamples=300))["aupro@0.3"].interval
    apart = [one.intervals["aupro@0.3"].high - one.intervals["aupro@0.3"].low for one in (a, b)]
    assert paired.high - paired.low < 0.5 * max(apart)


def replace_map(prediction, noise):
    random = np.random.default_rng(7)
    shaken = prediction.anomaly_map + noise * random.standard_normal(prediction.anomaly_map.shape)
    return type(prediction)(shaken.astype(np.float32), prediction.score)


def test_every_pair_of_methods_is_compared_and_values_are_the_exact_ones(evaluations):
    comparisons = compare(evaluations, names=["pixel_auroc"], n_resamples=200)
    assert [(one.a, one.b) for one in comparisons] == [("strong", "weak"), ("strong", "other"), ("weak", "other")]
    assert comparisons[0].value_b == metrics_of(evaluations["weak"])["pixel_auroc"]
    assert comparisons[0].interval.low < comparisons[0].difference < comparisons[0].interval.high


def test_the_interval_leaves_out_zero_exactly_when_the_p_value_is_below_one_in_twenty(evaluations):
    for one in compare(evaluations, names=["all"], n_resamples=500):
        if one.verdict != "undefined" and abs(one.p_value - 0.05) > 0.01:
            assert (one.p_value < 0.05) == (not one.interval.low <= 0 <= one.interval.high), one.metric


def test_corrected_p_values_are_never_below_single_ones_and_keep_their_order():
    random = np.random.default_rng(0)
    differences = random.standard_normal(30) * 2
    apart = np.abs(random.standard_normal((2000, 30)))
    single, corrected = single_p_values(differences, apart), stepdown_p_values(differences, apart)
    assert (corrected >= single - 1e-3).all()
    order = np.argsort(-np.abs(differences) / np.sqrt((apart**2).mean(axis=0)))
    assert all(low <= high for low, high in pairwise(corrected[order]))


def test_corrected_p_values_of_independent_figures_are_those_of_sidak():
    random = np.random.default_rng(1)
    apart = np.abs(random.standard_normal((40_000, 20)))
    differences = np.zeros(20)
    differences[3] = 3.0
    single, corrected = single_p_values(differences, apart)[3], stepdown_p_values(differences, apart)[3]
    assert corrected == pytest.approx(1 - (1 - single) ** 20, rel=0.1)


def test_twenty_copies_of_one_figure_cost_no_more_than_one():
    apart = np.abs(np.random.default_rng(2).standard_normal((5000, 1))).repeat(20, axis=1)
    differences = np.full(20, 2.5)
    np.testing.assert_allclose(stepdown_p_values(differences, apart), single_p_values(differences, apart))


def test_pure_noise_yields_a_false_verdict_in_about_one_family_of_twenty():
    random = np.random.default_rng(3)
    false = sum(
        (stepdown_p_values(random.standard_normal(10), np.abs(random.standard_normal((500, 10)))) <= 0.05).any()
        for _ in range(400)
    )
    assert 8 <= false <= 34  # 400 families at 5 %: 20 expected, three standard deviations are 13


def test_two_perfect_methods_may_differ_by_what_so_many_images_cannot_show(samples):
    perfect = {
        name: evaluate(random_pairs(samples, seed=n, contrast=500), n_resamples=0) for n, name in enumerate("ab")
    }
    one = by_figure(compare(perfect, names=["image_auroc"], n_resamples=100))["image_auroc"]
    reach = 1 - 0.025 ** (1 / 20)
    assert (one.interval.low, one.interval.high) == pytest.approx((-reach, reach), abs=1e-9)
    assert (one.verdict, one.corrected_p) == ("not distinguishable", 1)


def test_a_single_image_decides_nothing(tmp_path):
    kinds = ["scratch"] * 7 + ["rare"]
    some = [
        replace(sample, id=f"test/{kinds[number - 8]}/{number:03d}") if number >= 8 else sample
        for number, sample in enumerate(random_samples(tmp_path))
    ]
    both = {"a": random_pairs(some, contrast=500), "b": random_pairs(some, contrast=0.1)}
    evaluations = {name: evaluate(pairs, n_resamples=0) for name, pairs in both.items()}
    found = by_figure(compare(evaluations, names=["aupro_rare@0.3", "aupro_scratch@0.3"], n_resamples=200))
    assert found["aupro_rare@0.3"].value_a - found["aupro_rare@0.3"].value_b > 0.5
    assert np.isnan(found["aupro_rare@0.3"].corrected_p)
    assert found["aupro_rare@0.3"].verdict == "not distinguishable"
    assert found["aupro_scratch@0.3"].verdict == "a higher"


@pytest.mark.slow
def test_sizes_found_by_different_rules_are_not_compared(samples):
    evaluations = {
        rule: evaluate(random_pairs(samples), detection_rule=rule, n_resamples=0)
        for rule in ("own_peak_at_image_fpr", "peak_at_image_fpr")
    }
    assert "a90_px" not in by_figure(compare(evaluations, n_resamples=100))
    with pytest.raises(ResultError, match=r"a50 and a90 are not compared.*own_peak_at_image_fpr at 0\.05"):
        compare(evaluations, names=["a90_px"], n_resamples=100)


def test_other_images_are_refused_by_name(tmp_path, evaluations):
    fewer = random_samples(tmp_path, n_good=20, n_defective=19)
    with pytest.raises(ResultError, match=r"strong and short hold different images.*test/scratch/039"):
        compare({"strong": evaluations["strong"], "short": evaluate(random_pairs(fewer), n_resamples=0)})


@pytest.mark.slow
def test_other_masks_groups_or_labels_of_the_same_images_are_refused_by_name(evaluations):
    strong = evaluations["strong"]
    regrouped = replace(
        strong.tally, group=np.where(strong.tally.sample_id == "test/good/004", "x", strong.tally.group)
    )
    with pytest.raises(ResultError, match=r"disagree on .* of 1 images \(test/good/004\)"):
        compare({"a": strong, "b": replace(strong, tally=regrouped)})
    grown = replace(strong.tally, area_px=strong.tally.area_px + (strong.tally.image_of_defect == 25))
    with pytest.raises(ResultError, match=r"disagree on .*test/scratch/025"):
        compare({"a": strong, "b": replace(strong, tally=grown)})


def test_one_result_an_old_result_and_an_unknown_figure_are_refused(evaluations):
    weak = evaluations["weak"]
    with pytest.raises(ResultError, match="two results"):
        compare({"weak": weak})
    with pytest.raises(ResultError, match="old: keeps no tally"):
        compare({"weak": weak, "old": replace(weak, tally=None)})
    with pytest.raises(ResultError, match=r"'aupro@0\.7'; choose from aupro@0\.3"):
        compare(evaluations, names=["aupro@0.7"])


def test_a_figure_that_is_undefined_is_called_so(evaluations):
    one = compare({"a": evaluations["strong"], "b": evaluations["weak"]}, names=["seg_f1"], n_resamples=100)[0]
    assert one.verdict == "undefined"
    assert np.isnan([one.difference, one.p_value, one.corrected_p, one.interval.low]).all()
    assert "undefined" in describe([one])


@pytest.fixture
def stored(tmp_path, evaluations):
    paths = {}
    for name, evaluation in evaluations.items():
        result = Result(evaluation=evaluation, provenance=describe_run({}))
        paths[name] = write_result(result, tmp_path / name / "texture/cloth.json")
    return paths


def test_stored_results_compare_as_the_evaluations_did_and_go_by_what_tells_them_apart(stored, evaluations):
    again = {name: result.evaluation for name, result in read_named_results(list(stored.values())).items()}
    assert list(again) == ["strong", "weak", "other"]
    assert str(compare(again, n_resamples=200)) == str(compare(evaluations, n_resamples=200))


@pytest.mark.slow
def test_the_command_prints_verdicts_or_json(stored):
    paths = [str(stored["strong"]), str(stored["weak"])]
    printed = CliRunner().invoke(app, ["compare", *paths, "--resamples", "200"])
    assert printed.exit_code == 0, printed.output
    assert "A = strong, B = weak" in printed.output
    assert "strong higher" in printed.output
    chosen = CliRunner().invoke(app, ["compare", *paths, "--metrics", "image_auroc", "--json", "--resamples", "200"])
    assert chosen.stdout.count('"metric"') == 1
    assert '"corrected_p"' in chosen.stdout


def test_the_same_result_twice_and_a_folder_of_several_are_refused(stored, tmp_path):
    with pytest.raises(ResultError, match="the same result twice"):
        read_named_results([stored["weak"], stored["weak"]])
    with pytest.raises(ResultError, match="holds several results"):
        read_named_results([tmp_path, stored["weak"]])


@pytest.mark.slow
def test_a_copy_of_a_result_is_told_for_what_it_is(evaluations, tmp_path):
    """Its difference of 0 says nothing about methods; another seed of the method may be compared without a word."""
    protocol = EvaluationProtocol(categories=("cloth/plain",))
    paths = []
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        job = Job(protocol=protocol, category="cloth/plain", method="m", resolution=64, seed=seed)
        paths.append(str(write_job(job, evaluations["weak"], tmp_path / name)))
    copied = CliRunner().invoke(app, ["compare", *paths[:2], "--metrics", "image_auroc", "--resamples", "100"])
    assert copied.exit_code == 0, copied.output
    told = "a and b are results of one job (m at 64 px, seed 0): their difference says nothing about methods"
    assert told in copied.stderr
    seeds = CliRunner().invoke(app, ["compare", *paths[1:], "--metrics", "image_auroc", "--resamples", "100"])
    assert (seeds.exit_code, "of one job" in seeds.stderr) == (0, False)
