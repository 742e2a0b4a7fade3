"""What ProCon computes, against the paper's sums written out one by one."""

import math

import numpy as np
import pytest

from method_samples import Images
from tinydefects.methods.memory_bank import NearestNeighbours, PatchCoreOptions, PatchCoreScorer
from tinydefects.methods.procon import ProConOptions, ProConScorer, random_channels

TRAIN = Images((4, 5), (3, 7), (6, 6), n_blocks=3)
BATCH = [np.stack(pair) for pair in zip(*Images((5, 4), (5, 4), seed=1, n_blocks=3), strict=True)]  # 3 x (2, 5, 4, 6)


def learnt(**options: object) -> ProConScorer:
    scorer = ProConScorer(ProConOptions(**options), seed=0)
    scorer.learn(TRAIN)
    return scorer


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / math.sqrt(sum(float(value) ** 2 for value in vector))


def vectors_of(bank: NearestNeighbours) -> np.ndarray:
    return np.array([bank._index.reconstruct(place) for place in range(bank.n_vectors)])


def residuals_by_hand(patches: list[np.ndarray], bank: np.ndarray, k: int) -> list[float]:
    """Of the patches of one image, one after another, in double precision."""
    neighbours = []
    for patch in patches:
        pairs = [(sum((float(a) - float(b)) ** 2 for a, b in zip(patch, one, strict=True)), one) for one in bank]
        neighbours.append(sorted(pairs, key=lambda pair: pair[0])[:k])
    temperature = np.median([squared for near in neighbours for squared, _ in near])
    residuals = []
    for patch, near in zip(patches, neighbours, strict=True):
        weights = [math.exp(-squared / temperature) for squared, _ in near]
        made_up = sum(weight * one.astype(float) for weight, (_, one) in zip(weights, near, strict=True)) / sum(weights)
        residuals.append(math.dist(patch, made_up))
    return residuals


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("bank_per_block", [True, False])
def test_procon_is_the_median_over_banks_and_the_mean_over_blocks_of_what_is_left_over(k, bank_per_block):
    scorer = learnt(coreset=0.2, banks=4, k=k, bank_per_block=bank_per_block)
    assert [len(banks) for banks in scorer._banks] == ([4] * 3 if bank_per_block else [4])
    scores = scorer.patch_scores(BATCH)
    for image in range(2):
        maps = []
        for place, banks in enumerate(scorer._banks):
            blocks = BATCH[place : place + 1] if bank_per_block else BATCH
            patches = [
                np.concatenate([unit(block[image, row, column]) for block in blocks])
                for row in range(5)
                for column in range(4)
            ]
            by_bank = [residuals_by_hand(patches, vectors_of(bank), k) for bank in banks]
            maps.append([sorted(values)[1:3] for values in zip(*by_bank, strict=True)])  # the middle two of four
        expected = [sum(sum(middle) / 2 for middle in values) / len(values) for values in zip(*maps, strict=True)]
        np.testing.assert_allclose(scores[image].ravel(), expected, rtol=1e-3, atol=1e-4)


def test_one_neighbour_of_one_bank_is_patchcore_on_blocks_at_unit_length():
    scorer = learnt(coreset=1, banks=1, k=1, bank_per_block=False)
    train = Images()
    train._images = [tuple(np.apply_along_axis(unit, -1, block) for block in image) for image in TRAIN]
    patchcore = PatchCoreScorer(PatchCoreOptions(coreset=1, neighbourhood=1), seed=0)
    patchcore.learn(train)
    expected = patchcore.patch_scores([np.apply_along_axis(unit, -1, block) for block in BATCH])
    np.testing.assert_allclose(scorer.patch_scores(BATCH), expected, rtol=1e-3, atol=1e-4)


def test_each_bank_is_a_coreset_of_patches_of_its_own_block_and_another_choice():
    scorer = learnt(coreset=0.2, banks=3)
    for place, banks in enumerate(scorer._banks):
        normal = np.array([unit(patch) for image in TRAIN for patch in image[place].reshape(-1, 6)])
        chosen = []
        for bank in banks:
            distances = np.abs(vectors_of(bank)[:, None] - normal[None]).max(axis=-1)
            assert distances.min(axis=1).max() < 1e-6
            chosen.append(frozenset(distances.argmin(axis=1).tolist()))
        assert [len(places) for places in chosen] == [15] * 3  # a fifth of 77
        assert len(set(chosen)) == 3
    assert scorer.settings["n_vectors"] == 3 * 3 * 15
    assert learnt(coreset=1, largest_bank=7, banks=2).settings["n_vectors"] == 3 * 2 * 7


def test_more_channels_than_are_kept_are_projected_so_that_distances_stay_about_the_same():
    assert learnt(coreset=1, banks=1, channels=6).patch_scores(BATCH).shape == (2, 5, 4)
    assert learnt(coreset=1, banks=1, channels=2)._banks[0][0]._index.d == 2
    vectors = np.random.default_rng(0).standard_normal((50, 2000)).astype(np.float32)
    lengths = np.linalg.norm(vectors @ random_channels(2000, 512, 0), axis=1) / np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, atol=0.15)
    assert not np.allclose(random_channels(2000, 512, 0), random_channels(2000, 512, 1))


def test_an_image_is_scored_alike_alone_and_among_others():
    scorer = learnt(coreset=0.5)
    together = scorer.patch_scores(BATCH)
    for image in range(2):
        alone = scorer.patch_scores([block[image : image + 1] for block in BATCH])
        np.testing.assert_allclose(alone[0], together[image], rtol=1e-5, atol=1e-6)


def test_patches_equal_to_those_of_the_bank_leave_nothing_over():
    constant = Images((4, 4))
    constant._images = [(np.ones((4, 4, 6), np.float32),) * 2]
    scorer = ProConScorer(ProConOptions(coreset=1), seed=0)
    scorer.learn(constant)
    np.testing.assert_allclose(scorer.patch_scores([np.ones((1, 4, 4, 6), np.float32)] * 2), 0, atol=1e-6)
    assert np.isfinite(scorer.patch_scores([np.full((1, 4, 4, 6), -5, np.float32)] * 2)).all()
