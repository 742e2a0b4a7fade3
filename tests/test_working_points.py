"""Numbers at a chosen threshold or recall: F1 of pixels and images, SegF1, the false-positive rate at 95 %, bins."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reference import slow_metrics
from test_pimo import FakeSample
from tinydefects.data.sample import Prediction
from tinydefects.detector.networks import load_timm
from tinydefects.errors import ScoreError, TinyDefectsError
from tinydefects.metrics import evaluation as evaluation_module
from tinydefects.metrics.curves import fpr_at_tpr
from tinydefects.metrics.groups import SizeBins
from tinydefects.metrics.ranking import lowest_above, rank

evaluate = partial(evaluation_module.evaluate, n_resamples=0)
SCORES = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]), min_size=1, max_size=45)


def category(seed, decimals=1):
    """Eight images of other sizes and few distinct scores: three good, one full mask, one of a single pixel."""
    random = np.random.default_rng(seed)
    for number in range(8):
        mask = random.random(random.integers(2, 9, size=2)) < [0, 0, 0, 0.2, 0.3, 0.1, 1, 0][number]
        mask.flat[0] |= number > 2
        scores = np.round(random.normal(size=mask.shape) + mask, decimals).astype(np.float32)
        label = "defect" if number > 2 else "good"
        yield FakeSample(number, mask, label), Prediction(scores, float(scores.max()))


def pooled(seed, decimals=1):
    images = [(sample.mask(), said) for sample, said in category(seed, decimals)]
    truth = np.concatenate([mask.ravel() for mask, _ in images])
    scores = np.concatenate([said.anomaly_map.ravel() for _, said in images])
    return truth, scores, np.array([mask.any() for mask, _ in images]), np.array([said.score for _, said in images])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [-9.0, 0.0, 0.3, 1.0, 99.0])
def test_f1_at_a_threshold_counts_every_pixel_and_image_that_exceeds_it(seed, threshold):
    evaluation = evaluate(category(seed), threshold=threshold, image_threshold=threshold)
    truth, scores, image_truth, image_scores = pooled(seed)
    assert evaluation.pixel_f1 == pytest.approx(slow_metrics.f1(truth, scores > np.float32(threshold)))
    assert evaluation.seg_f1 == evaluation.pixel_f1
    assert evaluation.image_f1 == pytest.approx(slow_metrics.f1(image_truth, image_scores > threshold))
    assert (evaluation.threshold, evaluation.image_threshold) == (float(np.float32(threshold)), threshold)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [0, 6])
def test_torchmetrics_agrees_on_pixels_and_images(seed, decimals):
    load_timm()  # torchmetrics imports torchvision, which this repairs where it does not fit torch
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision, binary_f1_score

    evaluation = evaluate(category(seed, decimals), threshold=0.4, image_threshold=1.2)
    truth, scores, image_truth, image_scores = pooled(seed, decimals)
    lowest, span = scores.min(), scores.max() - scores.min()
    shares = torch.from_numpy((scores.astype(np.float64) - lowest) / span)  # it takes others for logits
    pixels = torch.from_numpy(truth.astype(np.int64))
    assert evaluation.pixel_auroc == pytest.approx(float(binary_auroc(shares, pixels)), abs=1e-6)
    assert evaluation.pixel_average_precision == pytest.approx(
        float(binary_average_precision(shares, pixels)), abs=1e-6
    )
    called = torch.from_numpy((scores > 0.4).astype(np.int64))
    assert evaluation.pixel_f1 == pytest.approx(float(binary_f1_score(called, pixels)), abs=1e-6)
    images, said = (
        torch.from_numpy(image_truth.astype(np.int64)),
        torch.from_numpy((image_scores > 1.2).astype(np.int64)),
    )
    assert evaluation.image_f1 == pytest.approx(float(binary_f1_score(said, images)), abs=1e-6)


def test_without_a_threshold_or_without_good_images_f1_is_nan():
    evaluation = evaluate(category(0))
    assert np.isnan([evaluation.pixel_f1, evaluation.image_f1, evaluation.threshold]).all()
    only_defects = [pair for pair in category(0) if pair[0].label == "defect"]
    assert math.isnan(evaluate(only_defects, image_threshold=0.0).image_f1)


@pytest.mark.slow
@given(defective=SCORES, good=SCORES)
def test_the_rate_at_95_percent_recall_is_that_of_trying_every_threshold(defective, good):
    ranking = rank(np.array(defective), [np.array(good)])
    assert fpr_at_tpr(ranking, percent=95) == slow_metrics.fpr_at_95_tpr(defective, good)


def test_nineteen_of_twenty_are_95_percent():
    ranking = rank(np.array([9.0] * 19 + [0.0]), [np.array([5.0, -1.0])])
    assert fpr_at_tpr(ranking, percent=95) == 0.0
    assert math.isnan(fpr_at_tpr(rank(np.array([9.0]), [np.empty(0)]), percent=95))


@pytest.mark.parametrize("threshold", [0.0, -0.0, 0.1, 1 / 3, 1e-50, -1e-50, 7.0, 2.0**24 + 1])
def test_reaching_the_lowest_score_above_a_threshold_is_exceeding_it(threshold):
    lowest, compared = lowest_above(threshold), np.float32(threshold)
    assert lowest > compared
    assert np.nextafter(lowest, np.float32(-np.inf)) <= compared


def test_a_bin_holds_its_lower_edge_and_not_its_upper_in_every_unit():
    areas, images = np.array([1, 4, 9, 100]), np.array([1000, 1000, 1000, 1000])

    def numbers(unit, edges, pitch=math.nan):
        return [
            np.flatnonzero(bin_).tolist() for bin_ in SizeBins(unit=unit, edges=edges).members(areas, images, pitch)
        ]

    assert numbers("area_px", (4, 100)) == [[0], [1, 2], [3]]
    assert numbers("diameter_px", (2, 5)) == [[0], [1, 2], [3]]  # 1.1, 2.3, 3.4, 11.3 px
    assert numbers("area_mm2", (0.04, 1.0), pitch=0.1) == [[0], [1, 2], [3]]
    assert numbers("image_share", (0.004, 0.1)) == [[0], [1, 2], [3]]


@pytest.mark.parametrize("seed", range(3))
def test_bins_score_their_own_defects_against_all_normal_pixels(seed):
    bins = [SizeBins(unit="area_px", edges=(2, 4)), SizeBins(unit="area_mm2", edges=(0.03,))]
    evaluation = evaluate(category(seed), bins=bins, pixel_pitch_mm=0.1)
    assert [group.name for group in evaluation.by_bin] == [
        "<2 px²",
        "2 to 4 px²",
        ">=4 px²",
        "<0.03 mm²",
        ">=0.03 mm²",
    ]
    for group, (low, high) in zip(evaluation.by_bin, [(0, 2), (2, 4), (4, 999), (0, 3), (3, 999)], strict=True):
        own = [defect.aupro for defect in evaluation.defects if low <= defect.area_px < high]
        assert group.n_defects == len(own)
        if own:
            assert group.aupro == pytest.approx(np.mean(own, axis=0), abs=1e-12)
        else:
            assert np.isnan(group.aupro).all()


def test_bins_that_make_no_sense_are_refused():
    with pytest.raises(TinyDefectsError, match=r"'inch' is unknown.*diameter_px"):
        SizeBins(unit="inch", edges=(1,))
    for edges in [(), (0, 1), (2, 1), (1, math.inf), (math.nan,)]:
        with pytest.raises(TinyDefectsError, match="ascending positive"):
            SizeBins(unit="area_px", edges=edges)
    with pytest.raises(TinyDefectsError, match="need a pixel pitch"):
        evaluate(category(0), bins=SizeBins(unit="area_mm2", edges=(1,)))


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_maps_that_are_not_finite_are_refused(broken):
    scores = np.zeros((2, 2), np.float32)
    scores[1, 0] = broken
    with pytest.raises(ScoreError, match="nan or infinity"):
        Prediction(scores, 0.0)


def test_limits_down_to_a_hundred_thousandth_are_exact():
    # Of 200,000 normal pixels one is above the defect, a rate of 5e-6: at 1e-5 half of the area is left.
    scores, mask = np.zeros(200_001, np.float32), np.zeros(200_001, bool)
    scores[:2], mask[1] = (9, 5), True
    pair = (FakeSample(0, mask[None]), Prediction(scores[None], 9.0))
    assert evaluate([pair], fpr_limits=[1e-5], n_crops=0).overall.aupro == pytest.approx((0.5,))
