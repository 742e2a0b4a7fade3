"""RAD (arXiv 2601.22763): training images like this one are retrieved, patches compared with those near their place.

Nothing is learnt but a memory of all patches of all training images, at unit length. Of the `k_image` images most alike
each patch is compared with the patches at most `radius` rows and columns away, by cosine; the score is one minus the
highest, the mean over the blocks. Where grids differ, places are compared by their share of height and width.

Other than published: images are retrieved by the mean of their patches in the last block, since the class token is no
part of the features that methods share here; a memory holds one category, where the paper's main setting shares it
between all, so that retrieval has less to do; the blocks are those of the teacher unless named (`blocks=3-6-9-11` are
the paper's); the image score is the one that all methods share. `k_image` and `radius` are the paper's for MVTec AD; it
takes others for other data sets (VisA: 900 and 2). The memory is as large as the training features, in 16 bits, and on
a processor the method is slow: every retrieved image is looked at (2 radius + 1)² times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tinydefects.methods.patches import Features, TrainingFeatures, unit_length

Memory = NDArray[np.float16]  # (h, w, C) of an image in one block, at unit length


@dataclass(frozen=True, slots=True, kw_only=True)
class RadOptions:
    """Training images that are retrieved for each image (all if there are fewer), and how far a patch may look."""

    k_image: Annotated[int, Field(gt=0)] = 150
    radius: Annotated[int, Field(ge=0)] = 1


class RadScorer:
    """Keeps every training image: its patches in each block, and what it is retrieved by."""

    def __init__(self, options: RadOptions) -> None:
        self._options = options
        self._memory: list[list[Memory]] = []  # by image and block
        self._keys = np.zeros((0, 0), np.float32)  # (images, C), at unit length

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options) | {"n_images": len(self._memory)}

    @property
    def size_bytes(self) -> int:
        return self._keys.nbytes + sum(block.nbytes for image in self._memory for block in image)

    def learn(self, images: TrainingFeatures) -> None:
        self._memory, keys = [], []
        for image in images:
            directions = [unit_length(block) for block in image]
            self._memory.append([block.astype(np.float16) for block in directions])
            keys.append(_key(directions))
        self._keys = np.stack(keys)

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        assert self._memory, "fit comes before predict"
        directions = [unit_length(block) for block in blocks]
        return np.stack([self._image_scores([block[place] for block in directions]) for place in range(len(blocks[0]))])

    def _image_scores(self, directions: Sequence[Features]) -> Features:
        """Of one image, features (h, w, C) of each block at unit length to scores (h, w)."""
        alike = self._keys @ _key(directions)
        retrieved = np.argsort(-alike, kind="stable")[: self._options.k_image]
        by_block = []
        for number, block in enumerate(directions):
            nearest = [best_cosine(block, self._memory[place][number], self._options.radius) for place in retrieved]
            by_block.append(1 - np.max(nearest, axis=0))
        return np.asarray(np.mean(by_block, axis=0), dtype=np.float32)


def best_cosine(features: Features, others: Memory, radius: int) -> Features:
    """For features (h, w, C) the highest cosine (h, w) with others (H, W, C) around the same place; all unit length."""
    (height, width), (other_height, other_width) = features.shape[:2], others.shape[:2]
    rows = (2 * np.arange(height) + 1) * other_height // (2 * height)  # the patch in which a patch's centre falls
    columns = (2 * np.arange(width) + 1) * other_width // (2 * width)
    best = np.full((height, width), -np.inf, np.float32)
    wide = others.astype(np.float32)
    for down in range(-min(radius, other_height - 1), min(radius, other_height - 1) + 1):
        near_rows = np.clip(rows + down, 0, other_height - 1)[:, None]
        for right in range(-min(radius, other_width - 1), min(radius, other_width - 1) + 1):
            near = wide[near_rows, np.clip(columns + right, 0, other_width - 1)]
            np.maximum(best, np.einsum("hwc,hwc->hw", features, near), out=best)
    return best


def _key(directions: Sequence[Features]) -> Features:
    """(C,) at unit length: the mean direction of the patches in the last block, (h, w, C)."""
    return unit_length(directions[-1].mean(axis=(0, 1)))
