"""What RAD computes, against loops over images, patches and places."""

import math
import weakref
from typing import ClassVar

import numpy as np
import pytest

from method_samples import Images
from tinydefects.methods.retrieval import RadOptions, RadScorer, best_cosine

TRAIN = Images(*[(5, 4)] * 6, n_blocks=3)
BATCH = [np.stack(pair) for pair in zip(*Images((5, 4), (5, 4), seed=1, n_blocks=3), strict=True)]  # 3 x (2, 5, 4, 6)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(float), other.astype(float)
    return float(sum(one * other)) / math.sqrt(float(sum(one * one)) * float(sum(other * other)))


def mean_direction(block: np.ndarray) -> np.ndarray:
    patches = block.reshape(-1, block.shape[-1]).astype(float)
    return sum(patch / math.sqrt(float(sum(patch * patch))) for patch in patches) / len(patches)


def scores_by_hand(asked: list[np.ndarray], k_image: int, radius: int) -> list[list[float]]:
    key = mean_direction(asked[-1])
    retrieved = sorted(TRAIN, key=lambda image: -cosine(key, mean_direction(image[-1])))[:k_image]
    scores = []
    for row in range(5):
        scores.append([])
        for column in range(4):
            distances = []
            for block in range(3):
                compared = [
                    cosine(asked[block][row, column], image[block][other_row, other_column])
                    for image in retrieved
                    for other_row in range(5)
                    for other_column in range(4)
                    if abs(other_row - row) <= radius and abs(other_column - column) <= radius
                ]
                distances.append(1 - max(compared))
            scores[-1].append(sum(distances) / 3)
    return scores


@pytest.mark.parametrize(("k_image", "radius"), [(1, 0), (2, 1), (3, 0), (150, 1), (2, 99)])
def test_rad_is_the_distance_to_patches_near_the_same_place_of_images_alike(k_image, radius):
    scorer = RadScorer(RadOptions(k_image=k_image, radius=radius))
    scorer.learn(TRAIN)
    scores = scorer.patch_scores(BATCH)
    assert scores.shape == (2, 5, 4)
    for image in range(2):
        expected = scores_by_hand([block[image] for block in BATCH], k_image, radius)
        np.testing.assert_allclose(scores[image], expected, atol=1e-5)


def test_a_training_image_finds_itself():
    scorer = RadScorer(RadOptions(k_image=1, radius=0))
    scorer.learn(TRAIN)
    np.testing.assert_allclose(scorer.patch_scores([block[None] for block in TRAIN[3]]), 0, atol=1e-5)
    assert scorer.settings["n_images"] == 6
    assert scorer.size_bytes == 6 * (3 * 5 * 4 * 6 * 2 + 6 * 4)


def test_a_grid_of_another_size_is_compared_at_the_same_share_of_height_and_width():
    """Four places that a finer grid shows twice, or a coarser one every second of."""
    coarse = np.eye(4, dtype=np.float32).reshape(2, 2, 4)
    fine = coarse.repeat(2, axis=0).repeat(3, axis=1)
    assert (best_cosine(fine, coarse, 0) == 1).all()
    assert (best_cosine(coarse, fine, 0) == 1).all()
    middle = np.zeros((3, 5, 4), np.float32)
    middle[1, 2, 0] = 1
    assert best_cosine(coarse[:1, :1], middle, 0) == 1
    turned = coarse[::-1]
    assert (best_cosine(coarse, turned, 0) == 0).all()
    assert (best_cosine(coarse, turned, 1) == 1).all()
    assert (best_cosine(fine, turned, 1) == 1).all()
    mixed = RadScorer(RadOptions())
    mixed.learn(Images((4, 5), (3, 7), (1, 1)))
    assert mixed.patch_scores([block[None] for block in Images((6, 2))[0]]).shape == (1, 6, 2)


def test_one_training_image_at_a_time_is_in_memory():
    """A memory of all of them would be 13 GB for a thousand photographs of 1036 px."""

    class Counted(Images):
        held: ClassVar[list[weakref.ref]] = []

        def __getitem__(self, place: int) -> list[np.ndarray]:
            blocks = [block.copy() for block in super().__getitem__(place)]
            self.held += [weakref.ref(block) for block in blocks]
            n_alive.append(sum(one() is not None for one in self.held))
            return blocks

    n_alive: list[int] = []
    scorer = RadScorer(RadOptions())
    scorer.learn(Counted(*[(5, 4)] * 6))
    scorer.patch_scores(BATCH[:2])
    assert len(n_alive) == 6 + 2 * 6
    assert max(n_alive) <= 4  # the one that is read, and the one before it
