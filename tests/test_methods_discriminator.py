"""What the discriminator of noised patches computes and learns, against its layers and losses written out."""

import math

import numpy as np
import pytest
import torch

from method_samples import Images
from tinydefects.methods.discriminator import DiscriminatorOptions, DiscriminatorScorer, separation_loss

pytestmark = pytest.mark.slow  # heads are trained

TRAIN = Images((12, 15), (13, 17), (16, 16))
BATCH = [np.stack(pair) for pair in zip(*Images((5, 4), (5, 4), seed=1), strict=True)]  # 2 x (2, 5, 4, 6)


def learnt(*, seed: int = 0, images: Images = TRAIN, **options: object) -> DiscriminatorScorer:
    small = {"steps": 20, "patches": 32, "hidden": 8} | options
    scorer = DiscriminatorScorer(DiscriminatorOptions(**small), seed=seed, device="cpu")
    scorer.learn(images)
    return scorer


def output_by_hand(scorer: DiscriminatorScorer, patch: np.ndarray) -> float:
    """Of the described patch (C,), one number after another."""
    weights = {name: value.double().numpy() for name, value in scorer._network[1].state_dict().items()}
    normal = [(float(one) - m) / s for one, m, s in zip(patch, scorer._mean, scorer._spread, strict=True)]
    adapted = [sum(w * one for w, one in zip(row, normal, strict=True)) for row in scorer._network[0].weight.tolist()]
    output = 0.0
    for unit, row in enumerate(weights["0.weight"]):
        value = sum(w * one for w, one in zip(row, adapted, strict=True)) + weights["0.bias"][unit]
        value = (value - weights["1.running_mean"][unit]) / math.sqrt(weights["1.running_var"][unit] + 1e-5)
        value = value * weights["1.weight"][unit] + weights["1.bias"][unit]
        output += weights["3.weight"][0][unit] * max(value, 0.0)
    return output


def test_the_score_is_the_output_of_the_head_for_the_adapted_standardised_patch():
    scorer = learnt(neighbourhood=1)
    normal = TRAIN.patches("both").astype(float)
    np.testing.assert_allclose(scorer._mean, normal.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(scorer._spread, normal.std(axis=0), rtol=1e-4)
    scores = scorer.patch_scores(BATCH)
    assert scores.shape == (2, 5, 4)
    for image, row, column in np.ndindex(2, 5, 4):
        patch = np.concatenate([block[image, row, column] for block in BATCH])
        assert scores[image, row, column] == pytest.approx(output_by_hand(scorer, patch), rel=1e-3, abs=1e-4)


def test_the_loss_is_truncated_l1_and_focal_loss_of_both_kinds():
    normal, noised = [-2.0, -0.4, 0.3], [3.0, 0.2, -1.0]
    losses = []
    for output, target in [(one, 0) for one in normal] + [(one, 1) for one in noised]:
        probability = 1 / (1 + math.exp(-output))
        of_target = probability if target else 1 - probability
        distance = 0.5 - output if target else 0.5 + output
        losses.append(max(distance, 0) - (1 - of_target) ** 2 * math.log(of_target))
    assert float(separation_loss(torch.tensor(normal), torch.tensor(noised))) == pytest.approx(
        sum(losses) / 6, rel=1e-5
    )
    certain = separation_loss(torch.tensor([-80.0]), torch.tensor([80.0]))
    assert float(certain) == pytest.approx(0, abs=1e-6)


def test_learning_puts_noised_patches_above_normal_ones_of_another_image():
    correlated = Images(*[(20, 20)] * 2, dim=6)
    correlated._images = [(first, first @ np.full((6, 6), 0.4, np.float32)) for first, _ in correlated]
    scorer, before = (
        learnt(images=correlated, neighbourhood=1, steps=steps, patches=256, hidden=64, noise=0.5) for steps in (600, 1)
    )
    fresh = Images(*[(20, 20)] * 3, dim=6)[2][0]
    normal = [fresh, fresh @ np.full((6, 6), 0.4, np.float32)]
    generator = np.random.default_rng(5)
    noised = [
        block + (0.5 * block.std(axis=(0, 1)) * generator.standard_normal(block.shape)).astype(np.float32)
        for block in normal
    ]

    def share_above(scorer: DiscriminatorScorer) -> float:
        low, high = (scorer.patch_scores([block[None] for block in blocks]).ravel() for blocks in (normal, noised))
        return float((high[:, None] > low[None]).mean())

    assert share_above(before) < 0.7
    assert share_above(scorer) > 0.9


def test_the_seed_decides_and_the_global_generators_do_not():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = learnt(seed=3).patch_scores(BATCH)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    np.testing.assert_array_equal(learnt(seed=3).patch_scores(BATCH), one)
    assert not np.array_equal(learnt(seed=4).patch_scores(BATCH), one)


def test_constant_features_leave_finite_scores():
    constant = Images((4, 4))
    constant._images = [(np.ones((4, 4, 6), np.float32),) * 2]
    scorer = learnt(images=constant)
    for value in (1, 5):
        assert np.isfinite(scorer.patch_scores([np.full((1, 4, 4, 6), value, np.float32)] * 2)).all()


def test_what_is_kept_is_two_statistics_the_adaptor_and_the_head():
    head = 8 * 12 + 8 + 4 * 8 + 8
    assert learnt().size_bytes == 4 * (2 * 12 + 12 * 12 + head) + 8  # and a count of batches in 64 bits
