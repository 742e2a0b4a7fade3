from dataclasses import replace

import numpy as np
import pytest

from random_category import random_pairs, random_samples
from tinydefects.errors import ResultError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.scores import metrics_of
from tinydefects.metrics.statistics.comparison import compare
from tinydefects.metrics.statistics.leaderboard import leaderboard
from tinydefects.metrics.statistics.uncertainty import intervals

pytestmark = pytest.mark.slow  # many resamples

SKILLS = {"strong": 3.0, "weak": 0.6, "other": 0.6}  # how far defects stand out
ASKED = ("aupro@0.3", "aupro_Q1@0.05", "rho@0.3", "image_auroc", "image_fpr_at_95_tpr")


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory):
    """Three methods, two categories of other sizes, three seeds."""
    found = {}
    sizes = {"a/cloth": 14, "b/metal": 22}
    for number, (category, n_images) in enumerate(sizes.items()):
        folder = tmp_path_factory.mktemp(category.replace("/", "_"))
        samples = random_samples(folder, seed=number, n_good=n_images, n_defective=n_images)
        for place, (method, contrast) in enumerate(SKILLS.items()):
            pairs = [random_pairs(samples, seed=10 * place + seed, contrast=contrast) for seed in range(3)]
            found.setdefault(method, {})[category] = [evaluate(some, n_resamples=0) for some in pairs]
    return found


def row(board, method, figure):
    (found,) = [one for one in board.of(figure) if one.method == method]
    return found


def test_a_value_is_the_mean_over_categories_of_the_mean_over_seeds(evaluations):
    one = row(leaderboard(evaluations, metrics=ASKED, n_resamples=50), "weak", "aupro@0.3")
    by_seed = [[metrics_of(e)["aupro@0.3"] for e in seeds] for seeds in evaluations["weak"].values()]
    assert one.value == pytest.approx(np.mean(by_seed))
    assert one.by_category["b/metal"] == pytest.approx(np.mean(by_seed[1]))
    assert one.n_seeds == 3
    assert one.seed_spread == pytest.approx(np.std(np.mean(by_seed, axis=0), ddof=1))


def test_comparing_two_and_ranking_them_are_one_test(evaluations):
    """The same draws and the same correction: p values within two of the resamples that they count."""
    for figure in ("aupro@0.3", "image_auroc"):
        for a, b in (("strong", "weak"), ("weak", "other")):
            alone = {name: evaluations[name]["a/cloth"][0] for name in (a, b)}
            by_category = {name: {one.category: [one]} for name, one in alone.items()}
            last = leaderboard(by_category, metrics=[figure], n_resamples=300).of(figure)[1]
            (pair,) = compare(alone, names=[figure], n_resamples=300)
            assert last.corrected_p == pytest.approx(pair.corrected_p, abs=2 / 301)
            assert abs(last.difference_to_best) == pytest.approx(abs(pair.difference), abs=1e-12)


def test_the_better_one_is_best_and_chance_is_not_told_apart(evaluations):
    board = leaderboard(evaluations, metrics=ASKED, n_resamples=400)
    assert [one.verdict for one in board.of("aupro@0.3")] == ["best", "lower", "lower"]
    assert board.of("aupro@0.3")[0].method == "strong"
    assert np.isnan(board.of("aupro@0.3")[0].corrected_p)
    without = {name: evaluations[name] for name in ("weak", "other")}
    chance = leaderboard(without, metrics=ASKED, n_resamples=400)
    assert {one.verdict for one in chance.rows} == {"best", "not distinguishable from the best"}


def test_the_fewest_false_alarms_are_best(evaluations):
    board = leaderboard(evaluations, metrics=ASKED, n_resamples=200)
    first, *others = board.of("image_fpr_at_95_tpr")
    assert first.method == "strong"
    assert all(one.difference_to_best > 0 for one in others)


def test_it_agrees_with_a_slow_reference(evaluations):
    """Every category and draw by itself, on images that are really drawn again; one seed, so that none are drawn."""
    figure, n_resamples = "aupro@0.3", 400
    weak = {category: seeds[:1] for category, seeds in evaluations["weak"].items()}
    (one,) = leaderboard({"weak": weak}, metrics=[figure], n_resamples=n_resamples).rows
    random = np.random.default_rng(5)
    drawn = []
    for _ in range(n_resamples):
        tallies = [seeds[0].tally for seeds in weak.values()]
        drawn.append(np.mean([slow_aupro(tally, drawn_images(tally.is_good, random), 0.3) for tally in tallies]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert one.interval.high - one.interval.low == pytest.approx(high - low, rel=0.25)
    assert one.interval.low == pytest.approx(low, abs=0.25 * (high - low))


def drawn_images(is_good, random):
    """How often each image is drawn: n - 1 from n good and n - 1 from n defective ones, scaled to n."""
    weights = np.zeros(is_good.size)
    for kind in (True, False):
        members = np.flatnonzero(is_good == kind)
        for image in random.choice(members, members.size - 1):
            weights[image] += members.size / (members.size - 1)
    return weights


def slow_aupro(tally, weights, limit):
    """Area under mean recall of the drawn defects against the drawn images' false-positive rate, by trapezoids."""
    rate = np.concatenate([[0], weights @ tally.normal_at_least / (weights @ tally.n_normal), [1]])
    drawn = weights[tally.image_of_defect]
    recall = drawn @ (tally.defect_at_least / tally.area_px[:, None]) / drawn.sum()
    recall = np.concatenate([[0], recall, [1]])
    grid = np.linspace(0, limit, 4001)
    return np.trapezoid(np.interp(grid, rate, recall), grid) / limit


def test_one_category_and_one_seed_give_a_comparison_and_the_usual_interval(evaluations, monkeypatch):
    for module in ("leaderboard", "comparison"):  # the draws that `intervals` makes
        monkeypatch.setattr(f"tinydefects.metrics.statistics.{module}.seed_of", lambda category, seed: seed)
    single = {name: by_category["b/metal"][0] for name, by_category in evaluations.items()}
    for figure in ("aupro@0.3", "aupro_Q1@0.05", "image_auroc"):
        chosen = {name: {"b/metal": [evaluation]} for name, evaluation in single.items()}
        board = leaderboard(chosen, metrics=[figure], n_resamples=300)
        best = board.of(figure)[0]
        for one in compare(single, names=[figure], n_resamples=300):
            if best.method in (one.a, one.b):
                other = row(board, one.b if one.a == best.method else one.a, figure)
                assert other.corrected_p == pytest.approx(one.corrected_p)
                assert abs(other.difference_to_best) == pytest.approx(abs(one.difference))
                assert (other.verdict == "lower") == one.verdict.endswith("higher")
        own = intervals(single[best.method], n_resamples=300)[figure]
        assert (best.interval.low, best.interval.high) == pytest.approx((own.low, own.high), abs=0.002)


def test_luck_in_training_widens_the_interval(evaluations):
    (same,) = evaluations["weak"]["b/metal"][:1]
    lucky = [replace(same, image_auroc=value) for value in (0.1, 0.5, 0.6)]
    steady, shaken = (
        leaderboard({"weak": {"b/metal": seeds}}, metrics=["image_auroc"], n_resamples=2000).rows[0]
        for seeds in ([same] * 3, lucky)
    )
    assert shaken.value == pytest.approx(0.4)
    assert shaken.seed_spread == pytest.approx(np.std([0.1, 0.5, 0.6], ddof=1))
    assert steady.seed_spread == 0
    student = 4.303  # 97.5 % quantile
    low, high = (
        shaken.value - student * shaken.seed_spread / 3**0.5,
        shaken.value + student * shaken.seed_spread / 3**0.5,
    )
    assert shaken.interval.low == pytest.approx(max(0, low), abs=0.1)
    assert shaken.interval.high == pytest.approx(min(1, high), abs=0.3)
    assert shaken.interval.high - shaken.interval.low > 2 * (steady.interval.high - steady.interval.low)


def test_a_difference_that_another_training_run_would_turn_round_is_none(evaluations):
    same = evaluations["weak"]["b/metal"][0]
    higher = [replace(same, image_auroc=value) for value in (0.75, 0.76, 0.74)]
    lower = [replace(same, image_auroc=value) for value in (0.7, 0.71, 0.69)]
    told = leaderboard({"a": {"b/metal": higher}, "b": {"b/metal": lower}}, metrics=["image_auroc"], n_resamples=500)
    assert told.rows[1].verdict == "lower"  # 0.05 with every seed, and on every draw of images
    shuffled = [replace(same, image_auroc=value) for value in (0.95, 0.4, 0.75)]
    chance = leaderboard(
        {"a": {"b/metal": higher}, "b": {"b/metal": shuffled}}, metrics=["image_auroc"], n_resamples=500
    )
    assert chance.rows[1].verdict == "not distinguishable from the best"


def test_many_categories_narrow_the_interval_of_their_mean(evaluations):
    one = {"weak": {"b/metal": evaluations["weak"]["b/metal"][:1]}}
    four = {"weak": {f"b/metal{n}": evaluations["weak"]["b/metal"][:1] for n in range(4)}}
    widths = []
    for chosen in (one, four):
        interval = leaderboard(chosen, metrics=["aupro@0.3"], n_resamples=2000).rows[0].interval
        widths.append(interval.high - interval.low)
    assert widths[1] == pytest.approx(widths[0] / 2, rel=0.1)


def test_only_categories_that_every_method_has_count(evaluations):
    fewer = {**evaluations, "other": {"b/metal": evaluations["other"]["b/metal"]}}
    board = leaderboard(fewer, metrics=["aupro@0.3"], n_resamples=100)
    assert (board.categories, board.left_out) == (("b/metal",), ("a/cloth",))
    alone = leaderboard({"strong": {"b/metal": evaluations["strong"]["b/metal"]}}, metrics=["aupro@0.3"])
    assert row(board, "strong", "aupro@0.3").value == alone.rows[0].value
    with pytest.raises(ResultError, match="no category has results of all methods; none has the fewest"):
        leaderboard({**evaluations, "none": {}}, metrics=["aupro@0.3"])


def test_a_value_missing_in_one_category_is_undefined_unless_nobody_has_it(evaluations):
    """Whoever fails where others have a number does not get the mean of the easy categories."""
    failing = evaluations["weak"]["a/cloth"][0]
    lost = replace(failing, image_auroc=float("nan"))
    board = leaderboard(
        {**evaluations, "weak": {**evaluations["weak"], "a/cloth": [lost] * 3}},
        metrics=["image_auroc", "image_f1"],
        n_resamples=100,
    )
    last = board.of("image_auroc")[-1]
    assert (last.method, last.verdict) == ("weak", "undefined")
    assert np.isnan([last.value, last.interval.low, last.corrected_p, last.difference_to_best]).all()
    assert last.by_category["b/metal"] > 0
    assert {one.verdict for one in board.of("image_f1")} == {"undefined"}
    nowhere = {
        name: {**by_category, "a/cloth": [replace(one, image_auroc=float("nan")) for one in by_category["a/cloth"]]}
        for name, by_category in evaluations.items()
    }
    for one in leaderboard(nowhere, metrics=["image_auroc"], n_resamples=100).rows:
        assert list(one.by_category) == ["b/metal"]
        assert one.value == one.by_category["b/metal"]


def test_the_same_method_twice_is_never_told_apart(evaluations):
    board = leaderboard({"one": evaluations["weak"], "same": evaluations["weak"]}, metrics=list(ASKED), n_resamples=200)
    for one in board.rows:
        if one.verdict != "best":
            assert (one.difference_to_best, one.corrected_p) == (0, 1)
            assert one.verdict == "not distinguishable from the best"


def test_equal_methods_stand_in_the_order_of_their_names(evaluations):
    same = evaluations["weak"]
    for names in (("b", "a", "c"), ("c", "b", "a")):
        board = leaderboard(dict.fromkeys(names, same), metrics=["aupro@0.3"], n_resamples=20)
        assert [one.method for one in board.rows] == ["a", "b", "c"]


def test_the_order_of_methods_images_and_other_categories_changes_no_number(evaluations):
    board = leaderboard(evaluations, metrics=["aupro@0.3"], n_resamples=200)
    turned = leaderboard(dict(reversed(evaluations.items())), metrics=["aupro@0.3"], n_resamples=200)
    assert [one.method for one in turned.rows] == [one.method for one in board.rows]
    assert [one.corrected_p for one in turned.rows[1:]] == [one.corrected_p for one in board.rows[1:]]
    assert [one.interval for one in turned.rows] == [one.interval for one in board.rows]


def test_methods_of_other_images_an_old_result_and_an_unknown_figure_are_refused(evaluations):
    swapped = {
        **evaluations,
        "weak": dict(zip(("a/cloth", "b/metal"), [*evaluations["weak"].values()][::-1], strict=True)),
    }
    with pytest.raises(ResultError, match=r"strong on a/cloth and weak hold different images"):
        leaderboard(swapped, metrics=["aupro@0.3"])
    bare = [replace(one, tally=None) for one in evaluations["weak"]["a/cloth"]]
    with pytest.raises(ResultError, match="weak on a/cloth: keeps no tally"):
        leaderboard({**evaluations, "weak": {**evaluations["weak"], "a/cloth": bare}}, metrics=["aupro@0.3"])
    with pytest.raises(ResultError, match=r"'aupro@0\.7'; choose from a50_px"):
        leaderboard(evaluations, metrics=["aupro@0.7"])
    with pytest.raises(ResultError, match="one method at least"):
        leaderboard({}, metrics=["aupro@0.3"])


def test_a_lone_defective_image_leaves_values_without_interval_or_verdict(tmp_path):
    samples = random_samples(tmp_path, n_good=5, n_defective=1)
    chosen = {
        name: {"a/b": [evaluate(random_pairs(samples, contrast=contrast), n_resamples=0)]}
        for name, contrast in (("strong", 3.0), ("weak", 0.1))
    }
    best, other = leaderboard(chosen, metrics=["aupro@0.3"], n_resamples=50).rows
    assert np.isnan([best.interval.low, other.corrected_p]).all()
    assert (best.verdict, other.verdict) == ("best", "undefined")
    assert other.value < best.value
