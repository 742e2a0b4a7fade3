"""Masks and maps in memory score what samples of files score, what scikit-learn says and what slow references say."""

import doctest
import re
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

import tinydefects.metrics
from random_category import random_pairs, random_samples
from reference import slow_metrics
from tinydefects.errors import DatasetError, MaskError, ResolutionMismatchError, ScoreError, TinyDefectsError
from tinydefects.metrics import aupimo, aupro, auroc, average_precision, evaluate_arrays, functional, pod
from tinydefects.metrics.arrays import array_pairs
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.groups import SizeBins
from tinydefects.metrics.scores import metrics_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "arrays.md"


def random_arrays(seed=0, *, decimals=6, n_good=3, n_defective=4):
    """Masks, the good ones all False, and float32 maps of two sizes; few decimals make ties."""
    random = np.random.default_rng(seed)
    masks, maps = [], []
    for number in range(n_good + n_defective):
        mask = np.zeros((9, 14) if number % 2 else (11, 10), dtype=bool)
        if number >= n_good:
            mask[1 : 2 + number % 3, 2:4] = True
            mask[6, 5 : 6 + number % 4] = True
        masks.append(mask)
        maps.append((random.normal(size=mask.shape) + mask).round(decimals).astype(np.float32))
    return masks, maps


def pooled(masks, maps):
    return np.concatenate([mask.ravel() for mask in masks]), np.concatenate([scores.ravel() for scores in maps])


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Samples with predictions, and the same as keyword arguments of `evaluate_arrays`."""
    samples = random_samples(tmp_path_factory.mktemp("category"), n_good=12, n_defective=12, n_scenes=5)
    pairs = list(random_pairs(samples))
    arrays = {
        "masks": [sample.mask() for sample in samples],
        "maps": [prediction.anomaly_map for _, prediction in pairs],
        "scores": [prediction.score for _, prediction in pairs],
        "ids": [sample.id for sample in samples],
        "groups": [sample.group for sample in samples],
    }
    return pairs, arrays


def test_every_number_and_interval_is_that_of_samples_on_disk(on_disk):
    pairs, arrays = on_disk
    settings = {"bins": SizeBins(unit="area_px", edges=(4.0, 16.0)), "threshold": 0.5, "n_resamples": 200, "seed": 3}
    expected, found = evaluate(pairs, n_crops=0, **settings), evaluate_arrays(**arrays, **settings)
    assert metrics_of(found) == pytest.approx(metrics_of(expected), abs=0, nan_ok=True)
    assert len(metrics_of(found)) > 60
    assert found.intervals.keys() == expected.intervals.keys()
    for name, interval in expected.intervals.items():
        ours = found.intervals[name]
        assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=0, nan_ok=True), name
    assert str(found) == str(expected)
    assert found.aupimo_by_image == expected.aupimo_by_image
    assert [record.sample_id for record in found.defects] == [record.sample_id for record in expected.defects]


def test_the_single_numbers_are_those_of_the_evaluation(on_disk):
    pairs, arrays = on_disk
    evaluation = evaluate(pairs, fpr_limits=(0.07, 0.05), n_crops=0, n_resamples=0)
    both, scores = (arrays["masks"], arrays["maps"]), arrays["scores"]
    assert aupro(*both, fpr_limit=0.07) == pytest.approx(evaluation.overall.aupro[0], abs=1e-12)
    assert aupro(*both) == pytest.approx(evaluation.overall.aupro[1], abs=1e-12)
    assert auroc(*both) == evaluation.pixel_auroc
    assert auroc(*both, level="image", scores=scores) == evaluation.image_auroc
    assert average_precision(*both) == evaluation.pixel_average_precision
    assert average_precision(*both, level="image", scores=scores) == evaluation.image_average_precision
    assert aupimo(*both) == evaluation.aupimo
    assert repr(pod(*both).fit) == repr(evaluation.detectability.fit)  # nan differs from nan
    assert pod(*both).hits == evaluation.detectability.hits


def test_the_rule_of_detection_and_its_rate_are_passed_on(on_disk):
    pairs, arrays = on_disk
    found = pod(arrays["masks"], arrays["maps"], detection_rule="half_at_pixel_fpr", false_alarm_rate=0.02)
    rule = {"detection_rule": "half_at_pixel_fpr", "false_alarm_rate": 0.02}
    assert found.hits == evaluate(pairs, n_crops=0, n_resamples=0, **rule).detectability.hits
    assert (found.rule, found.rate) == ("half_at_pixel_fpr", 0.02)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [0, 6])
def test_scikit_learn_agrees_on_pixels_and_images(seed, decimals):
    masks, maps = random_arrays(seed, decimals=decimals)
    truth, scores = pooled(masks, maps)
    assert auroc(masks, maps) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(masks, maps) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    defective, highest = [mask.any() for mask in masks], [scores.max() for scores in maps]  # of 126 pixels one is 0.1 %
    assert auroc(masks, maps, level="image") == pytest.approx(roc_auc_score(defective, highest), abs=1e-12)
    given = np.random.default_rng(seed).normal(size=len(masks))
    found = average_precision(masks, maps, level="image", scores=given)
    assert found == pytest.approx(average_precision_score(defective, given), abs=1e-12)


@pytest.mark.parametrize("decimals", [0, 6])
@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3, 1.0])
def test_aupro_agrees_with_trying_every_threshold(decimals, limit):
    masks, maps = random_arrays(decimals=decimals)
    assert aupro(masks, maps, fpr_limit=limit) == pytest.approx(slow_metrics.aupro(maps, masks, limit), abs=1e-9)


def test_aupimo_agrees_with_trying_every_threshold():
    random = np.random.default_rng(0)
    good = [random.gamma(0.2, size=size).round(1) for size in ((200, 250), (150, 150))]
    highest = max(one.max() for one in good)
    mask = np.zeros((5, 6), dtype=bool)
    mask[1, 1:4] = True
    scores = random.uniform(0.6 * highest, highest, size=mask.shape).round(1)
    slow = slow_metrics.aupimo(scores[mask], good, (1e-5, 1e-4))
    assert 0.1 < slow < 0.9
    assert aupimo([mask, None, None], [scores, *good]) == pytest.approx(slow, abs=1e-6)  # maps count as float32


def test_a_constant_map_scores_what_chance_scores():
    masks, maps = random_arrays()
    flat = [np.ones_like(scores) for scores in maps]
    assert aupro(masks, flat, fpr_limit=0.3) == pytest.approx(0.15)
    assert auroc(masks, flat) == auroc(masks, flat, level="image") == 0.5
    assert average_precision(masks, flat) == pytest.approx(pooled(masks, maps)[0].mean())


def turned_twice(arrays):
    return [array.T.copy().T for array in arrays]


WAYS = {
    "a leading axis of one": (lambda masks: [mask[None] for mask in masks], lambda maps: [one[None] for one in maps]),
    "masks of 0 and 255": (lambda masks: [mask * np.uint8(255) for mask in masks], list),
    "masks of floats": (lambda masks: [mask.astype(np.float64) for mask in masks], list),
    "no mask where nothing is marked": (lambda masks: [mask if mask.any() else None for mask in masks], list),
    "double precision": (list, lambda maps: [one.astype(np.float64) for one in maps]),
    "generators": (iter, iter),
    "nested lists": (lambda masks: [mask.tolist() for mask in masks], lambda maps: [one.tolist() for one in maps]),
    "tensors": (lambda masks: map(torch.from_numpy, masks), lambda maps: map(torch.from_numpy, maps)),
    "views that are not contiguous": (
        lambda masks: [m[::-1][::-1] for m in masks],
        lambda maps: [m.T.copy().T for m in maps],
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_form_of_the_arrays_does_not_matter(way):
    masks, maps = random_arrays()
    of_masks, of_maps = WAYS[way]
    expected, found = (
        evaluate_arrays(masks, maps, n_resamples=0),
        evaluate_arrays(of_masks(masks), of_maps(maps), n_resamples=0),
    )
    assert metrics_of(found) == pytest.approx(metrics_of(expected), abs=0, nan_ok=True)


@pytest.mark.parametrize("stack", [np.stack, lambda arrays: np.stack(arrays)[:, None]])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_images_of_one_size_may_be_stacked(stack, kind):
    masks, maps = (arrays[::2] for arrays in random_arrays(n_good=6, n_defective=6))
    assert aupro(kind(stack(masks)), kind(stack(maps))) == aupro(masks, maps)


@pytest.mark.parametrize("kind", [np.float16, np.uint8, np.int64])
def test_half_precision_and_integers_are_ranked_as_they_are(kind):
    masks, maps = random_arrays()
    coarse = [(20 * scores + 100).astype(kind) for scores in maps]
    truth, scores = pooled(masks, coarse)
    assert auroc(masks, coarse) == pytest.approx(roc_auc_score(truth, scores.astype(np.float64)), abs=1e-12)


def test_the_arrays_are_left_as_they_were():
    masks, maps = random_arrays()
    before = [array.copy() for array in (*masks, *maps)]
    evaluate_arrays(masks, maps, n_resamples=10)
    for array, copy in zip((*masks, *maps), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_of_generators_one_image_is_held_at_a_time():
    alive, most = weakref.WeakSet(), []

    class Watched(np.ndarray):
        def __hash__(self):
            return id(self)

    def watched(arrays):
        for array in arrays:
            ours = array.copy().view(Watched)
            alive.add(ours)
            most.append(len(alive))
            yield ours

    masks, maps = random_arrays(n_good=20, n_defective=20)
    assert aupro(watched(masks), watched(maps)) == aupro(masks, maps)
    assert len(most) == 80
    assert max(most) <= 4  # one mask and one map, and those that come next


SQUARE, MARKED = np.zeros((4, 5)), np.eye(4, 5, dtype=bool)
LEARNT = torch.zeros(4, 5, requires_grad=True)
REFUSED = {
    "sizes that differ": (
        [MARKED, MARKED],
        [SQUARE, SQUARE.T],
        ResolutionMismatchError,
        r"maps\[1\]: .*\(5, 4\).*\(4, 5\)",
    ),
    "nan": ([MARKED, None], [SQUARE, np.where(MARKED, np.nan, 0)], ScoreError, r"maps\[1\]: .*nan or infinity"),
    "infinity": ([MARKED], [np.where(MARKED, np.inf, 0)], ScoreError, r"maps\[0\]: .*nan or infinity"),
    "overflow": ([MARKED], [SQUARE + 1e300], ScoreError, r"maps\[0\]: the map \(float64\) overflows float32"),
    "gray masks": ([None, MARKED * 37], [SQUARE, SQUARE], MaskError, r"masks\[1\]: .* 37 beside 0; .*mask > 0"),
    "1 beside 255": ([np.diag([1, 255])], [np.eye(2)], MaskError, r"masks\[0\]: .* 1, 255 beside 0"),
    "soft masks": ([MARKED * 0.5], [SQUARE], MaskError, r"masks\[0\]: .* 0\.5 beside 0"),
    "nan in a mask": ([np.where(MARKED, np.nan, 0)], [SQUARE], MaskError, r"masks\[0\]: .* nan beside 0"),
    "maps first": ([SQUARE + 0.1, SQUARE], [MARKED, MARKED], MaskError, r"masks come first, then maps"),
    "maps of bool": ([MARKED], [MARKED], ScoreError, r"maps\[0\]: .*bool; masks come first"),
    "colours": ([MARKED], [np.zeros((3, 4, 5))], ScoreError, r"maps\[0\]: .*\(H, W\) or \(1, H, W\).*\(3, 4, 5\)"),
    "one image alone": (MARKED, SQUARE, MaskError, r"masks\[0\]: .* this one is \(5,\); give a list"),
    "no pixel": ([None], [np.zeros((0, 5))], ScoreError, r"maps\[0\]: .*\(0, 5\)"),
    "ragged lists": ([None], [[[1.0, 2.0], [3.0]]], ScoreError, r"maps\[0\]: cannot be read as an array"),
    "words": ([None], [[["high"]]], ScoreError, r"maps\[0\]: a map holds floats or integers"),
    "gradients": (
        [None],
        [torch.zeros(4, 5, requires_grad=True)],
        ScoreError,
        r"maps\[0\]: .*tensor\.detach\(\)\.cpu\(\)",
    ),
    "fewer maps": ([MARKED, None], [SQUARE], DatasetError, r"maps ends after 1 images but masks goes on"),
    "fewer masks": ([MARKED], [SQUARE, SQUARE], DatasetError, r"masks ends after 1 images but maps goes on"),
    "nothing": ([], [], DatasetError, r"nothing to evaluate"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scored_is_refused_in_one_line_with_its_position(case):
    masks, maps, kind, line = REFUSED[case]
    for function in (aupro, auroc, average_precision, aupimo, pod, evaluate_arrays):
        with pytest.raises(kind, match=line) as refused:
            function(masks, maps)
        assert "\n" not in str(refused.value)
        assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"scores": [0.1, np.nan]}, r"scores\[1\]: .* finite number, this one is nan"),
        ({"scores": [[0.1, 0.2], 0.3]}, r"scores\[0\]: .* finite number"),
        ({"scores": [0.1]}, "scores ends after 1 images but masks goes on"),
        ({"labels": [2, 0]}, r"labels\[0\]: .*0 \(good\) or 1 \(defective\), this one is 2"),
        ({"labels": ["good", 0]}, r"labels\[0\]: .*'good'"),
        ({"labels": [0, 0]}, "labelled good but its mask marks a defect"),
        ({"ids": ["test/a/0", "test/a/0"]}, r"ids\[1\]: test/a/0 came before"),
        ({"contrast": True}, "arrays come without photographs"),
        ({"n_crops": 4}, "arrays come without photographs"),
        ({"fpr_limits": (5,)}, "fpr_limits"),
    ],
)
def test_what_does_not_fit_the_images_is_refused_in_one_line(given, line):
    with pytest.raises(TinyDefectsError, match=line) as refused:
        evaluate_arrays([MARKED, None], [SQUARE, SQUARE], **given)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("function", [auroc, average_precision])
def test_the_level_is_of_pixels_or_of_images_and_scores_are_of_images(function):
    with pytest.raises(TinyDefectsError, match="level is 'region'; choose 'pixel' or 'image'"):
        function([MARKED], [SQUARE], level="region")
    with pytest.raises(TinyDefectsError, match="scores are of images; pass level='image'"):
        function([MARKED], [SQUARE], scores=[1.0])


def test_a_defective_image_that_nobody_outlined_counts_for_image_numbers_alone():
    masks, maps = random_arrays()
    labels = [int(mask.any()) for mask in masks]
    more = evaluate_arrays([*masks, None], [*maps, maps[0] + 9], labels=[*labels, 1], n_resamples=0)
    evaluation = evaluate_arrays(masks, maps, n_resamples=0)
    assert (more.n_unmarked_images, more.n_images) == (1, evaluation.n_images + 1)
    assert (more.pixel_auroc, more.overall.aupro) == (evaluation.pixel_auroc, evaluation.overall.aupro)
    assert more.image_auroc > evaluation.image_auroc


def test_what_is_undefined_is_nan():
    _, maps = random_arrays()
    for nothing_marked in ([None] * len(maps), [np.zeros_like(scores) for scores in maps]):
        for function in (aupro, auroc, average_precision, aupimo):
            assert np.isnan(function(nothing_marked, maps))
        assert np.isnan(auroc(nothing_marked, maps, level="image"))
        assert np.isnan(pod(nothing_marked, maps).fit.a90_px)
    assert np.isnan(aupro([np.ones((2, 3))], [np.ones((2, 3))]))


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**32))
def test_a_packed_mask_comes_back_as_it_was(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) > 0.7
    ((sample, _),) = array_pairs([mask], [np.zeros((height, width))])
    np.testing.assert_array_equal(sample.mask(), mask)
    assert sample.mask().dtype == np.bool_


def test_importing_loads_neither_torch_nor_the_engine_and_scoring_never_torch():
    program = (
        "import sys, tinydefects, tinydefects.metrics; early = {'torch', 'numpy', 'scipy'} & set(sys.modules); "
        "from tinydefects.metrics import *; aupro([[[1, 0]]], [[[1.0, 0.0]]]); "
        "sys.exit(str(early) if early else 'torch' if 'torch' in sys.modules else 0)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_names_are_listed_and_others_are_refused():
    assert dir(tinydefects.metrics) == tinydefects.metrics.__all__
    with pytest.raises(AttributeError, match="no attribute 'dice'"):
        tinydefects.metrics.dice  # noqa: B018


def test_the_examples_in_docstrings_hold():
    failed, tried = doctest.testmod(functional)
    assert (failed, tried > 0) == (0, True)


def test_the_page_names_all_and_its_python_runs(capsys):
    text = PAGE.read_text()
    assert re.findall(r"^\| `(\w+)\(", text, re.MULTILINE) == [
        *("aupro", "auroc", "average_precision", "aupimo", "pod", "evaluate_arrays")
    ]
    assert sorted(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE)) == tinydefects.metrics.__all__
    names: dict[str, object] = {}
    exec(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], names)
    numbers = capsys.readouterr().out.splitlines()
    assert float(numbers[0]) == pytest.approx(names["evaluation"].overall.aupro[1], abs=1e-12)
    assert float(numbers[2]) == pytest.approx(2 * 3 / np.pi**0.5)  # the square of 3 pixels


def test_a_type_keeps_its_images_without_an_outline_in_sub_folders():
    masks, maps = random_arrays()
    masks.append(np.zeros_like(masks[0]))
    maps.append(np.full_like(maps[0], -5.0))  # a crack that nobody outlined, scored lowest of all
    labels = [0] * 3 + [1] * 5
    flat, nested = (
        evaluate_arrays(masks, maps, labels=labels, ids=[name.format(n) for n, name in enumerate(names)], n_resamples=0)
        for names in (["test/good/{}"] * 3 + [crack] * 5 for crack in ("test/crack/{}", "test/crack/lot1/{}"))
    )
    assert [group.name for group in nested.by_type] == ["crack"]
    assert nested.by_type[0].image_auroc == flat.by_type[0].image_auroc == flat.image_auroc
