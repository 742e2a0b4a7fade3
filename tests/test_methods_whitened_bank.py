"""What Mahalanobis PatchCore computes, against the inverse covariance matrix and loops over patches."""

import math

import numpy as np
import pytest

from method_samples import Images
from tinydefects.methods.memory_bank import NearestNeighbours
from tinydefects.methods.whitened_bank import WhitenedBankOptions, WhitenedBankScorer

TRAIN = Images((4, 5), (3, 7), (6, 6))
(ASKED,) = Images((5, 4), seed=1)
BATCH = tuple(block[None] for block in ASKED)


def learnt(images: Images = TRAIN, **options: object) -> WhitenedBankScorer:
    scorer = WhitenedBankScorer(WhitenedBankOptions(**options))
    scorer.learn(images)
    return scorer


def means_of_neighbourhoods(features: np.ndarray) -> list[np.ndarray]:
    height, width = features.shape[:2]
    means = []
    for row in range(height):
        for column in range(width):
            near = [
                features[min(max(row + down, 0), height - 1), min(max(column + right, 0), width - 1)].astype(float)
                for down in (-1, 0, 1)
                for right in (-1, 0, 1)
            ]
            means.append(sum(near) / 9)
    return means


@pytest.mark.parametrize("shrinkage", [0.0, 0.07, 0.5])
@pytest.mark.parametrize("variance", [0.8, 0.999999])
def test_the_score_is_the_mahalanobis_distance_to_the_nearest_normal_patch(shrinkage, variance):
    scorer = learnt(variance=variance, shrinkage=shrinkage)
    normal = np.array([one for image in TRAIN for one in means_of_neighbourhoods(np.concatenate(image, axis=-1))])
    asked = means_of_neighbourhoods(np.concatenate(ASKED, axis=-1))
    covariance = np.cov(normal.T, bias=True)
    lengths, axes = np.linalg.eigh(covariance)
    order = sorted(range(12), key=lambda place: -lengths[place])
    n_kept = next(n for n in range(1, 13) if sum(lengths[order[:n]]) >= variance * sum(lengths))
    basis = axes[:, order[:n_kept]]
    reduced = basis.T @ covariance @ basis
    precision = np.linalg.inv((1 - shrinkage) * reduced + shrinkage * np.trace(reduced) / n_kept * np.eye(n_kept))
    expected = []
    for patch in asked:
        gaps = [basis.T @ (patch - one) for one in normal]
        expected.append(min(math.sqrt(gap @ precision @ gap) for gap in gaps))
    assert scorer.settings["n_directions"] == n_kept
    assert scorer.settings["n_vectors"] == 77  # every patch, as long as there are fewer than the bank may hold
    np.testing.assert_allclose(scorer.patch_scores(BATCH).ravel(), expected, rtol=2e-3)


def vectors_of(bank: NearestNeighbours) -> np.ndarray:
    return np.array([bank._index.reconstruct(place) for place in range(bank.n_vectors)])


def test_no_more_than_its_coreset_of_an_image_and_no_more_than_the_bank_may_hold_is_kept():
    assert learnt(image_coreset=5).settings["n_vectors"] == 15
    small = learnt(image_coreset=21, largest_bank=10)
    assert small.settings["n_vectors"] == 10
    everything = vectors_of(learnt()._bank)
    kept = [int(np.abs(everything - one).max(axis=1).argmin()) for one in vectors_of(small._bank)]
    assert len(set(kept)) == 10
    np.testing.assert_allclose(everything[kept], vectors_of(small._bank), atol=1e-5)
    radius = max(min(math.dist(one, everything[place]) for place in kept) for one in everything)
    first_ten = max(min(math.dist(one, other) for other in everything[:10]) for one in everything)
    assert radius < 0.8 * first_ten  # spread over all images, not the first patches that came
    assert small.size_bytes < learnt().size_bytes


def test_whitened_normal_patches_vary_alike_in_all_directions():
    white = vectors_of(learnt(Images((30, 30)), shrinkage=0, neighbourhood=1, variance=0.999999)._bank)
    assert len(white) == 256
    whole = vectors_of(learnt(Images((15, 16)), shrinkage=0, neighbourhood=1, variance=0.999999)._bank)
    np.testing.assert_allclose(np.cov(whole.T, bias=True), np.eye(12), atol=1e-3)


def test_constant_features_leave_finite_scores():
    constant = Images((4, 4))
    constant._images = [(np.ones((4, 4, 6), np.float32),) * 2]
    scorer = learnt(constant)
    assert (scorer.patch_scores([np.ones((1, 4, 4, 6), np.float32)] * 2) == 0).all()
    assert np.isfinite(scorer.patch_scores([np.full((1, 4, 4, 6), 5, np.float32)] * 2)).all()
