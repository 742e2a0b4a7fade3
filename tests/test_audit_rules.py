"""Each rule of the audit against a case worked by hand or a slow reference; the exact one against evaluate()."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from audit_scene import noisy_scene, store
from tinydefects.audit.curve_rules import area_up_to_last_sample
from tinydefects.audit.rescoring import METRICS, audit_pairs
from tinydefects.audit.rules import EXACT, Rule, clamped, resized, standard_rules, stretched
from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import DatasetError, ResolutionMismatchError
from tinydefects.metrics.curves import Curve
from tinydefects.metrics.evaluation import evaluate

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "tinydefects"
RULES = {rule.name: rule for rule in standard_rules(input_px=24)}
LIMITS = (0.3, 0.1, 0.05, 0.01)
CURVE_RULES = ("points_99", "thresholds_200", "last_sample", "bins_50")


@pytest.fixture
def noisy_pairs(tmp_path):
    return noisy_scene(tmp_path)


@pytest.fixture
def perfect_pairs(tmp_path):
    """Blocks of 16 x 16 px on 64 px images, and maps that are the masks."""
    pairs = []
    for number in range(4):
        mask = np.zeros((64, 64), dtype=bool)
        mask[16 * number : 16 * number + 16, 16:32] = number < 3
        pairs.append((store(tmp_path, str(number), mask), Prediction(mask.astype(np.float32), float(mask.any()))))
    return pairs


def figures_under(pairs, *names: str) -> list[dict[str, float]]:
    found = audit_pairs(pairs, [RULES[name] for name in names])
    return [found[name] for name in names]


def slow_pro(pairs, thresholds, *, found_at: bool) -> list[tuple[float, float]]:
    """FPR and PRO at each threshold, one region and one comparison after the other."""
    points = []
    for threshold in thresholds:
        overlaps, n_false, n_normal = [], 0, 0
        for sample, prediction in pairs:
            above = prediction.anomaly_map >= threshold if found_at else prediction.anomaly_map > threshold
            labels, n_regions = ndimage.label(sample.mask(), np.ones((3, 3)))
            overlaps += [above[labels == number].mean() for number in range(1, n_regions + 1)]
            n_false, n_normal = n_false + above[labels == 0].sum(), n_normal + (labels == 0).sum()
        points.append((float(n_false / n_normal), float(np.mean(overlaps))))
    return sorted(points)


def slow_area(points: list[tuple[float, float]], limit: float) -> float:
    """Area up to the limit over the limit, by a fine grid of straight interpolation."""
    fpr, pro = np.array([(0.0, 0.0), *points, (1.0, 1.0)]).T
    grid = np.unique(np.concatenate([np.linspace(0, limit, 20001), fpr[fpr <= limit]]))
    return float(np.trapezoid(np.interp(grid, fpr, pro), grid) / limit)


def score_range(pairs) -> tuple[np.float32, np.float32]:
    scores = np.concatenate([prediction.anomaly_map.ravel() for _, prediction in pairs])
    return scores.min(), scores.max()


def test_the_exact_rule_is_evaluate(noisy_pairs):
    (found,) = figures_under(noisy_pairs, EXACT)
    expected = evaluate(noisy_pairs, fpr_limits=LIMITS)
    assert tuple(found) == METRICS
    assert tuple(found[f"aupro@{limit:g}"] for limit in LIMITS) == pytest.approx(expected.overall.aupro, abs=1e-12)
    assert found["aupro_Q1@0.05"] == pytest.approx(expected.cumulative[0].aupro[2], abs=1e-12)
    assert found["rho@0.3"] == pytest.approx(expected.rho[0], abs=1e-12)
    assert found["pixel_auroc"] == pytest.approx(expected.pixel_auroc, abs=1e-12)
    assert found["pixel_average_precision"] == pytest.approx(expected.pixel_average_precision, abs=1e-12)
    assert found["image_auroc"] == pytest.approx(expected.image_auroc, abs=1e-12)
    assert found["n_defects"] == expected.overall.n_defects == 18


def test_the_99_point_rule_is_the_published_curve_of_evaluate(noisy_pairs):
    (found,) = figures_under(noisy_pairs, "points_99")
    expected = evaluate(noisy_pairs, fpr_limits=LIMITS, curve="published_99")
    assert tuple(found[f"aupro@{limit:g}"] for limit in LIMITS) == pytest.approx(expected.overall.aupro, abs=1e-12)
    assert found["rho@0.3"] == pytest.approx(expected.rho[0], abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_200_linear_thresholds_are_joined_by_straight_lines(noisy_pairs, limit):
    (found,) = figures_under(noisy_pairs, "thresholds_200")
    low, high = score_range(noisy_pairs)
    points = slow_pro(noisy_pairs, np.linspace(low, high, 200, endpoint=False, dtype=np.float32), found_at=False)
    assert found[f"aupro@{limit:g}"] == pytest.approx(slow_area(points, limit), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_the_last_sample_below_the_limit_becomes_the_divisor(noisy_pairs, limit):
    (found,) = figures_under(noisy_pairs, "last_sample")
    low, high = score_range(noisy_pairs)
    points = slow_pro(noisy_pairs, np.linspace(low, high, 200, endpoint=False, dtype=np.float32), found_at=False)
    fpr, pro = np.array([point for point in points if point[0] < limit]).T
    assert found[f"aupro@{limit:g}"] == pytest.approx(np.trapezoid(pro, fpr / fpr.max()), abs=1e-9)


def test_dividing_by_the_last_sample_leaves_out_what_lies_beyond_it():
    """PRO rises along a straight line to 1: 0.25 of area at FPR 0.5 if the limit is used, 0.4 / 2 at sample 0.4."""
    line = Curve(fpr=np.array([0.0, 0.4, 1.0]), recall=np.array([0.0, 0.4, 1.0]))
    assert line.area(fpr_limit=0.5) == pytest.approx(0.25)
    assert area_up_to_last_sample(line, 0.5) == pytest.approx(0.2)
    assert math.isnan(area_up_to_last_sample(line, 0.4))  # a sample on the limit is not below it, and one is no area


def test_the_last_sample_of_a_dense_curve_is_the_limit():
    fpr = np.arange(100_001) / 100_000
    curve = Curve(fpr=fpr, recall=np.sqrt(fpr))
    assert area_up_to_last_sample(curve, 0.3) == pytest.approx(curve.area(fpr_limit=0.3), abs=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("limit", LIMITS)
def test_50_bins_join_their_edges(noisy_pairs, limit):
    (found,) = figures_under(noisy_pairs, "bins_50")
    low, high = score_range(noisy_pairs)
    points = slow_pro(noisy_pairs, np.linspace(low, high, 51, dtype=np.float32), found_at=True)
    assert found[f"aupro@{limit:g}"] == pytest.approx(slow_area(points, limit), abs=1e-4)


def test_50_bins_give_the_pixel_numbers_of_scores_rounded_down(noisy_pairs):
    (found,) = figures_under(noisy_pairs, "bins_50")
    low, high = score_range(noisy_pairs)
    edges = np.linspace(low, high, 51, dtype=np.float32)
    rounded = [(s, Prediction(np.digitize(p.anomaly_map, edges).astype(np.float32), p.score)) for s, p in noisy_pairs]
    expected = evaluate(rounded)
    assert found["pixel_auroc"] == pytest.approx(expected.pixel_auroc, abs=1e-9)
    scores = np.concatenate([p.anomaly_map.ravel() for _, p in rounded])
    truth = np.concatenate([s.mask().ravel() for s, _ in rounded])
    recall, precision = zip(
        *(
            ((truth & (scores >= level)).sum() / truth.sum(), truth[scores >= level].mean())
            for level in range(51, 0, -1)
        ),
        strict=True,
    )
    assert found["pixel_average_precision"] == pytest.approx(np.trapezoid(precision, recall), abs=1e-9)


def test_a_single_tied_score_is_chance_under_bins_and_nothing_under_99_points(tmp_path):
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:8, 5:8] = True
    flat = Prediction(np.full((20, 20), 0.5, dtype=np.float32), 0.5)
    bins, points = figures_under([(store(tmp_path, "0", mask), flat)], "bins_50", "points_99")
    assert bins["aupro@0.3"] == pytest.approx(0.15)
    assert points["aupro@0.3"] == 0.0


def test_rules_about_the_curve_change_nothing_else(noisy_pairs):
    exact, *others = figures_under(noisy_pairs, EXACT, *CURVE_RULES)
    for found in others[:3]:
        for name in ("pixel_auroc", "pixel_average_precision", "image_auroc", "n_defects"):
            assert found[name] == exact[name]


def test_steeper_scores_of_the_same_order_move_linear_thresholds_and_nothing_exact(noisy_pairs):
    steep = [(sample, Prediction(p.anomaly_map**8, p.score**8)) for sample, p in noisy_pairs]
    names = (EXACT, "points_99", "thresholds_200", "bins_50")
    before, after = figures_under(noisy_pairs, *names), figures_under(steep, *names)
    assert after[0] == pytest.approx(before[0], abs=1e-6)
    assert after[1] == pytest.approx(before[1], abs=1e-6)
    assert abs(after[2]["aupro@0.1"] - before[2]["aupro@0.1"]) > 0.05
    assert abs(after[3]["aupro@0.1"] - before[3]["aupro@0.1"]) > 0.05


def test_pixels_that_touch_at_a_corner_are_two_regions_under_4_connectivity(noisy_pairs):
    exact, four = figures_under(noisy_pairs, EXACT, "connectivity_4")
    assert (exact["n_defects"], four["n_defects"]) == (18, 24)
    assert four["pixel_auroc"] == exact["pixel_auroc"]


def test_clamping_ties_all_that_leaves_the_unit_interval():
    prediction = Prediction(np.array([[-0.5, 0.25, 1.5, 3.0]], dtype=np.float32), 3.0)
    after, _ = clamped(prediction, np.zeros((1, 4), dtype=bool))
    assert after.anomaly_map.tolist() == [[0.0, 0.25, 1.0, 1.0]]
    assert after.score == 1.0


def test_clamping_maps_within_the_unit_interval_changes_nothing(perfect_pairs):
    exact, clamp = figures_under(perfect_pairs, EXACT, "clamp")
    assert clamp == exact


def test_stretching_makes_a_faint_good_image_as_hot_as_a_defect(tmp_path):
    """Good and defective image peak at 0.1 and 0.9: told apart before, both 1 after. A flat map becomes 0."""
    mask = np.zeros((8, 8), dtype=bool)
    mask[2, 2] = True
    good = np.zeros((8, 8), dtype=np.float32)
    good[5, 5] = 0.1
    pairs = [
        (store(tmp_path, "bad", mask), Prediction(mask * np.float32(0.9), 0.9)),
        (store(tmp_path, "good", np.zeros_like(mask)), Prediction(good, 0.1)),
    ]
    exact, stretch = figures_under(pairs, EXACT, "stretch")
    assert (exact["pixel_auroc"], stretch["pixel_auroc"]) == (1.0, pytest.approx(1 - 0.5 / 127))
    assert stretch["image_auroc"] == exact["image_auroc"] == 1.0
    flat, _ = stretched(Prediction(np.full((2, 2), 7, dtype=np.float32), 7.0), np.zeros((2, 2), dtype=bool))
    assert flat.anomaly_map.tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("mask_filter", "n_pixels"),
    [
        ("nearest", 0),  # the pixel lies between the sampled ones
        ("bilinear_any", 4),  # its trace falls on four pixels
        ("bilinear_half", 0),  # and is faint on all of them
    ],
)
def test_a_pixel_between_the_samples_vanishes_or_grows_when_its_mask_shrinks(mask_filter, n_pixels):
    mask = np.zeros((40, 40), dtype=bool)
    mask[11, 11] = True
    _, after = resized(10, mask_filter)(Prediction(np.zeros((40, 40), dtype=np.float32), 0.0), mask)
    assert after.shape == (10, 10)
    assert np.count_nonzero(after) == n_pixels


def test_a_mask_that_vanished_leaves_normal_pixels_and_a_defective_image(tmp_path):
    mask = np.zeros((96, 96), dtype=bool)
    mask[0, 0] = True  # never the centre of a 4 x 4 cell
    pairs = [
        (store(tmp_path, "bad", mask), Prediction(mask.astype(np.float32), 1.0)),
        (store(tmp_path, "good", np.zeros_like(mask)), Prediction(np.zeros((96, 96), dtype=np.float32), 0.0)),
    ]
    exact, shrunk = figures_under(pairs, EXACT, "24_px_nearest")
    assert (exact["n_defects"], shrunk["n_defects"]) == (1, 0)
    assert exact["aupro@0.05"] == 1.0
    assert math.isnan(shrunk["aupro@0.05"])
    assert math.isnan(shrunk["pixel_auroc"])
    assert shrunk["image_auroc"] == 1.0


def test_normal_pixels_of_a_vanished_mask_are_counted(tmp_path):
    """Its hot map is a false alarm under the shrunk mask: the other image's defect no longer ranks first."""
    tiny, block = np.zeros((96, 96), dtype=bool), np.zeros((96, 96), dtype=bool)
    tiny[0, 0] = True
    block[40:60, 40:60] = True
    hot = np.zeros((96, 96), dtype=np.float32)
    hot[:8, :8] = 2.0
    pairs = [
        (store(tmp_path, "tiny", tiny), Prediction(hot, 2.0)),
        (store(tmp_path, "block", block), Prediction(block.astype(np.float32), 1.0)),
    ]
    (shrunk,) = figures_under(pairs, "24_px_nearest")
    assert shrunk["n_defects"] == 1
    assert shrunk["pixel_auroc"] < 1.0


def test_masks_that_keep_their_size_are_left_alone_by_every_filter():
    mask = np.random.default_rng(0).random((32, 32)) < 0.2
    anomaly_map = np.random.default_rng(1).random((32, 32)).astype(np.float32)
    for mask_filter in ("nearest", "bilinear_any", "bilinear_half"):
        after, kept = resized(32, mask_filter)(Prediction(anomaly_map, 0.5), mask)
        assert np.array_equal(kept, mask)
        assert np.array_equal(after.anomaly_map, anomaly_map)


def test_most_rules_change_nothing_on_perfect_maps_of_large_defects(perfect_pairs):
    """Even then 99 points and 50 bins stay perfect; a mask grown by its own blur does not."""
    found = audit_pairs(perfect_pairs, list(RULES.values()))
    for name in ("points_99", "thresholds_200", "bins_50", "connectivity_4", "clamp", "stretch"):
        assert found[name]["aupro@0.05"] == pytest.approx(found[EXACT]["aupro@0.05"]) == 1.0
    assert math.isnan(found["last_sample"]["aupro@0.05"])  # every one of its samples is at FPR 0
    assert {values["image_auroc"] for values in found.values()} == {1.0}


def test_every_rule_names_who_uses_it_and_names_are_unique():
    rules = standard_rules()
    assert len({rule.name for rule in rules}) == len(rules) == 20
    assert all(rule.does and rule.used_by for rule in rules)
    assert rules[0].name == EXACT
    assert len(standard_rules(input_px=256)) == 17  # both sizes are one


def test_a_map_of_another_size_is_refused_before_any_rule_resizes_it(tmp_path):
    sample = store(tmp_path, "0", np.eye(8, dtype=bool))
    with pytest.raises(ResolutionMismatchError, match=r"\(4, 4\).*\(8, 8\)"):
        audit_pairs([(sample, Prediction(np.zeros((4, 4), dtype=np.float32), 0.0))], standard_rules())


def test_a_good_sample_whose_mask_marks_a_defect_is_refused(tmp_path):
    sample = replace(store(tmp_path, "0", np.eye(8, dtype=bool)), label="good")
    with pytest.raises(DatasetError, match="labelled good but"):
        audit_pairs([(sample, Prediction(np.zeros((8, 8), dtype=np.float32), 0.0))], standard_rules())


def test_nothing_to_audit_is_an_error():
    with pytest.raises(DatasetError, match="nothing to audit"):
        audit_pairs([], standard_rules())


def test_a_defective_image_that_marks_nothing_counts_for_image_figures_only(tmp_path, noisy_pairs):
    unmarked = Sample(
        id="test/pit/unmarked",
        image_path=noisy_pairs[0][0].image_path,
        label="defect",
        mask_paths=(tmp_path / "empty.png",),
    )
    write_png(tmp_path / "empty.png", np.zeros((32, 32), dtype=bool))
    more = [*noisy_pairs, (unmarked, Prediction(np.full((32, 32), 0.5, dtype=np.float32), 0.0))]
    before, after = figures_under(noisy_pairs, EXACT)[0], figures_under(more, EXACT)[0]
    assert after["pixel_auroc"] == before["pixel_auroc"]
    assert after["image_auroc"] < before["image_auroc"]


def test_a_mask_that_is_scored_changes_its_size_in_one_file_which_only_the_audit_uses():
    """The exception to convention 3; `inspection.py` counts what shrinking loses, the other two resize no mask."""
    resizing, importing = set(), set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        named = any(word in text for word in ("resize", "zoom", "tinydefects.audit.rules"))  # few: parsing takes long
        for node in ast.walk(ast.parse(text)) if named else ():
            if isinstance(node, ast.Attribute) and node.attr in {"resize", "zoom"}:
                resizing.add(path.relative_to(PACKAGE).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "tinydefects.audit.rules":
                importing.add(path.relative_to(PACKAGE).as_posix())
    of_images = {"detector/patch_grid.py", "detector/passes.py", "export/torch_graph.py", "data/map_files.py"}
    assert resizing - of_images - {"planner/inspection.py"} == {"audit/rules.py"}
    assert importing == {f"audit/{name}.py" for name in ("audit", "rescoring", "showing")}


def test_a_rule_of_ones_own_is_audited_like_the_others(noisy_pairs):
    mine = Rule(
        name="mine",
        does="the map turned over",
        used_by="nobody",
        view=lambda p, m: (Prediction(-p.anomaly_map, p.score), m),
    )
    found = audit_pairs(noisy_pairs, [RULES[EXACT], mine])
    assert found["mine"]["pixel_auroc"] == pytest.approx(1 - found[EXACT]["pixel_auroc"])
