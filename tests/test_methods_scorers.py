"""What each method on patches computes, against slow and obvious versions."""

import sys

import numpy as np
import pytest
from sklearn.decomposition import PCA

from method_samples import Images
from tinydefects.detector.features import greedy_coreset
from tinydefects.errors import MissingExtraError, TinyDefectsError, TrainingError
from tinydefects.methods.gaussian import GaussianOptions, GaussianScorer, PositionGaussianScorer, mean_and_covariance
from tinydefects.methods.memory_bank import (
    AnomalyDinoOptions,
    AnomalyDinoScorer,
    NearestNeighbours,
    PatchCoreOptions,
    PatchCoreScorer,
    sample_patches,
)
from tinydefects.methods.patches import PatchScorer, chosen_block, unit_length
from tinydefects.methods.subspace import SubspaceOptions, SubspaceScorer

TRAIN = Images((4, 5), (3, 7), (6, 6))
(ASKED,) = Images((5, 4), seed=1)
BATCH = tuple(block[None] for block in ASKED)


def distances(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.linalg.norm(one.reshape(-1, 1, one.shape[-1]) - others[None], axis=-1)


def test_the_gaussian_is_scipy_s_mahalanobis_distance():
    scorer = GaussianScorer(GaussianOptions(ridge=0.1, block="later"))
    scorer.learn(TRAIN)
    normal = TRAIN.patches("later").astype(np.float64)
    covariance = np.cov(normal.T, bias=True)
    precision = np.linalg.inv(covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6))
    centred = ASKED[1].reshape(-1, 6) - normal.mean(axis=0)
    expected = np.sqrt(np.einsum("nc,cd,nd->n", centred, precision, centred)).reshape(1, 5, 4)
    np.testing.assert_allclose(scorer.patch_scores(BATCH), expected, rtol=1e-4)


def test_a_gaussian_for_each_position_knows_what_is_usual_there_alone():
    train = Images(*[(5, 4)] * 30)
    scorer = PositionGaussianScorer(GaussianOptions(ridge=0.1, per_position=True, channels=4))
    scorer.learn(train)
    seen = np.stack([chosen_block(one, "both") for one in train]).astype(np.float64)[..., scorer._kept]
    centred = chosen_block(ASKED, "both")[..., scorer._kept] - seen.mean(axis=0)
    covariances = np.array([[np.cov(seen[:, i, j].T, bias=True) for j in range(4)] for i in range(5)])
    ridge = 0.1 * np.trace(covariances, axis1=2, axis2=3).mean() / 4
    expected = [
        [centred[i, j] @ np.linalg.inv(covariances[i, j] + ridge * np.eye(4)) @ centred[i, j] for j in range(4)]
        for i in range(5)
    ]
    np.testing.assert_allclose(scorer.patch_scores(BATCH)[0], np.sqrt(expected), rtol=1e-3)
    assert scorer.size_bytes == 4 * 8 + 5 * 4 * 4 * 4 + 5 * 4 * 4 * 4 * 4
    with pytest.raises(TinyDefectsError, match=r"learnt images of \(5, 4\) patches, this one has \(6, 6\)"):
        scorer.patch_scores([block[None] for block in TRAIN[2]])
    with pytest.raises(TrainingError, match=r"aligned images, but these are \(4, 5\) and \(3, 7\) patches"):
        scorer.learn(TRAIN)


@pytest.mark.parametrize("variance", [0.5, 0.9, 0.99])
def test_the_subspace_is_scikit_learn_s_pca(variance):
    scorer = SubspaceScorer(SubspaceOptions(variance=variance))
    scorer.learn(TRAIN)
    pca = PCA(variance, svd_solver="full").fit(TRAIN.patches("both").astype(np.float64))
    asked = chosen_block(ASKED, "both").reshape(-1, 12)
    expected = np.linalg.norm(asked - pca.inverse_transform(pca.transform(asked)), axis=1).reshape(1, 5, 4)
    assert scorer.settings["n_directions"] == pca.n_components_
    np.testing.assert_allclose(scorer.patch_scores(BATCH), expected, rtol=1e-3, atol=1e-4)


def test_a_subspace_never_swallows_every_direction():
    scorer = SubspaceScorer(SubspaceOptions(variance=0.999999))
    scorer.learn(TRAIN)
    assert scorer.settings["n_directions"] == 11
    assert scorer.patch_scores(BATCH).max() > 0


def test_constant_features_leave_finite_scores():
    constant = Images((4, 4))
    constant._images = [(np.ones((4, 4, 6), np.float32),) * 2]
    for scorer in (
        SubspaceScorer(SubspaceOptions()),
        GaussianScorer(GaussianOptions()),
        PositionGaussianScorer(GaussianOptions(per_position=True)),
        PatchCoreScorer(PatchCoreOptions(), seed=0),
        AnomalyDinoScorer(AnomalyDinoOptions(), seed=0),
    ):
        scorer.learn(constant)
        assert (scorer.patch_scores([np.ones((1, 4, 4, 6), np.float32)] * 2) == 0).all()
        assert np.isfinite(scorer.patch_scores([np.full((1, 4, 4, 6), 5, np.float32)] * 2)).all()


@pytest.mark.parametrize(
    "scorer",
    [
        GaussianScorer(GaussianOptions()),
        PositionGaussianScorer(GaussianOptions(per_position=True, channels=18)),
        SubspaceScorer(SubspaceOptions(variance=0.9)),
        PatchCoreScorer(PatchCoreOptions(coreset=1, neighbourhood=1), seed=0),
        AnomalyDinoScorer(AnomalyDinoOptions(block="both"), seed=0),
    ],
)
def test_three_blocks_are_scored_as_one_of_all_their_channels(scorer: PatchScorer):
    """Of three blocks `both` reads all, so that nothing differs from one block which is all three side by side."""
    three, scores = Images((5, 4), (5, 4), (5, 4), n_blocks=3), []
    (asked,) = Images((5, 4), seed=1, n_blocks=3)
    for together in (lambda image: list(image), lambda image: [np.concatenate(image, axis=-1)]):
        train = Images()
        train._images = [together(image) for image in three]
        scorer.learn(train)
        scores.append(scorer.patch_scores([block[None] for block in together(asked)]))
    assert scores[0].shape == (1, 5, 4)
    assert scores[0].min() > 0
    np.testing.assert_array_equal(*scores)


def test_earlier_and_later_are_the_first_and_the_last_of_three_blocks():
    (blocks,) = Images((5, 4), n_blocks=3)
    assert chosen_block(blocks, "earlier") is blocks[0]
    assert chosen_block(blocks, "later") is blocks[2]
    assert chosen_block(blocks, "both").shape == (5, 4, 18)


@pytest.mark.parametrize("k", [1, 3])
def test_patchcore_with_the_whole_bank_is_the_distance_to_the_nearest_neighbourhoods(k):
    scorer = PatchCoreScorer(PatchCoreOptions(coreset=1, k=k), seed=0)
    scorer.learn(TRAIN)

    def mean_of_neighbours(features: np.ndarray) -> np.ndarray:
        padded = np.pad(features, ((1, 1), (1, 1), (0, 0)), mode="edge")
        height, width = features.shape[:2]
        shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return np.mean(shifted, axis=0).reshape(height * width, -1)

    bank = np.concatenate([mean_of_neighbours(chosen_block(one, "both")) for one in TRAIN])
    nearest = np.sort(distances(mean_of_neighbours(chosen_block(ASKED, "both")), bank), axis=1)[:, :k]
    np.testing.assert_allclose(scorer.patch_scores(BATCH), nearest.mean(axis=1).reshape(1, 5, 4), rtol=1e-3)


def test_the_bank_of_patchcore_keeps_its_bounds():
    for options, expected in (
        (PatchCoreOptions(coreset=0.1), 8),  # of 77 patches
        (PatchCoreOptions(coreset=0.5, largest_bank=10), 10),
        (PatchCoreOptions(coreset=1, candidates=20), 20),
        (PatchCoreOptions(coreset=0.001), 1),
    ):
        scorer = PatchCoreScorer(options, seed=0)
        scorer.learn(TRAIN)
        assert scorer.settings["n_vectors"] == expected
        assert 0 <= scorer.size_bytes - expected * 12 * 4 < 200  # the index's own header


def test_the_approximate_bank_finds_nearly_what_the_exact_one_finds_and_takes_more_room():
    train, asked = Images(*[(40, 40)] * 2, dim=24), tuple(block[None] for block in Images((30, 30), dim=24, seed=1)[0])
    scores, sizes = [], []
    for approximate in (False, True):
        scorer = PatchCoreScorer(PatchCoreOptions(coreset=1), seed=0, approximate=approximate)
        scorer.learn(train)
        scores.append(scorer.patch_scores(asked))
        sizes.append(scorer.size_bytes)
    assert (scores[1] >= scores[0] * 0.999).all()  # never nearer than the nearest
    assert np.isclose(*scores, rtol=1e-3).mean() > 0.95
    assert sizes[1] > sizes[0]


def test_anomalydino_is_the_cosine_distance_to_the_nearest_patch_of_the_chosen_images():
    scorer = AnomalyDinoScorer(AnomalyDinoOptions(n_shot=99), seed=0)
    scorer.learn(TRAIN)
    bank, asked = unit_length(TRAIN.patches("later")), unit_length(ASKED[1]).reshape(-1, 6)
    np.testing.assert_allclose(scorer.patch_scores(BATCH)[0].ravel(), (1 - asked @ bank.T).min(axis=1), atol=1e-5)
    few = AnomalyDinoScorer(AnomalyDinoOptions(n_shot=1), seed=0)
    few.learn(TRAIN)
    assert few.settings["n_vectors"] in {20, 21, 36}  # the patches of one image


def test_the_coreset_is_the_greedy_one():
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    chosen = greedy_coreset(vectors, 9, np.random.default_rng(5)).tolist()
    expected = chosen[:1]
    while len(expected) < 9:
        expected.append(int(distances(vectors, vectors[expected]).min(axis=1).argmax()))
    assert chosen == expected
    assert sorted(greedy_coreset(vectors, 99, np.random.default_rng(5))) == list(range(40))
    equal = np.ones((6, 2), np.float32)
    assert sorted(greedy_coreset(equal, 6, np.random.default_rng(5))) == list(range(6))


def test_the_coreset_of_many_channels_covers_better_than_chance():
    generator = np.random.default_rng(0)
    vectors = (generator.standard_normal((600, 3)) @ generator.standard_normal((3, 200))).astype(np.float32)
    greedy = vectors[greedy_coreset(vectors, 60, np.random.default_rng(0))]
    by_chance = vectors[generator.choice(600, 60, replace=False)]
    radius, radius_by_chance = (distances(vectors, chosen).min(axis=1).max() for chosen in (greedy, by_chance))
    assert radius < 0.6 * radius_by_chance


def test_patches_are_drawn_evenly_from_all_images():
    drawn = sample_patches(Images((100, 10), (100, 30)), 400, np.random.default_rng(0))
    assert len(drawn) == len(set(drawn.tolist())) == 400
    assert (np.diff(drawn) > 0).all()
    assert (drawn < 1000).sum() == pytest.approx(100, abs=30)  # a quarter of all patches, a quarter of the draw


def test_the_moments_are_numpy_s_also_far_from_zero():
    images = [one[0].astype(np.float64) * 1e-3 + 1e3 for one in TRAIN]
    mean, covariance = mean_and_covariance(images)
    patches = np.concatenate([one.reshape(-1, 6) for one in images])
    np.testing.assert_allclose(mean, patches.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(patches.T, bias=True), rtol=1e-6, atol=1e-12)


def test_neighbours_of_vectors_of_the_bank_are_themselves():
    bank = np.random.default_rng(0).standard_normal((300, 40)).astype(np.float32) + 10
    squared = NearestNeighbours(bank).squared_distances(bank.reshape(10, 30, 40), k=2)
    assert squared.shape == (10, 30, 2)
    assert (squared[..., 0] < 0.01).all()
    assert (squared[..., 0] >= 0).all()
    assert (squared[..., 1] > 1).all()


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[benchmark\]'"):
        NearestNeighbours(np.zeros((3, 2), np.float32))
