"""RAD (arXiv 2601.22763): training images like this one are retrieved, patches compared with those near their place.

Nothing is learnt but a memory of all patches of all training images, at unit length. Of the `k_image` images most alike
each patch is compared with the patches at most `radius` rows and columns away, by cosine; the score is one minus the
highest, the mean over the blocks. Where grids differ, places are compared by their share of height and width.

Other than published: images are retrieved by the mean of their patches in the last block, since the class token is no
part of the features that methods share here; a memory holds one category, where the paper's main setting shares it
between all, so that retrieval has less to do; the blocks are those of the teacher unless named (`blocks=3-6-9-11` are
the paper's); the image score is the one that all methods share. `k_image` and `radius` are the paper's for MVTec AD; it
takes others for other data sets (VisA: 900 and 2). The memory is the training features, in 16 bits, and stays on the
disk: a thousand photographs of 1036 px would be 13 GB. On a processor the method is slow: every retrieved image is
looked at (2 radius + 1)² times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from tinydefects.methods.patches import Features, TrainingFeatures, unit_length


@dataclass(frozen=True, slots=True, kw_only=True)
class RadOptions:
    """Training images that are retrieved for each image (all if there are fewer), and how far a patch may look."""

    k_image: Annotated[int, Field(gt=0)] = 150
    radius: Annotated[int, Field(ge=0)] = 1


class RadScorer:
    """Knows what each training image is retrieved by; patches are read again when they are compared."""

    def __init__(self, options: RadOptions) -> None:
        self._options = options
        self._images: TrainingFeatures | None = None
        self._keys = np.zeros((0, 0), np.float32)  # (images, C), at unit length
        self._memory_bytes = 0

    @property
    def settings(self) -> Mapping[str, object]:
        return asdict(self._options) | {"n_images": len(self._keys)}

    @property
    def size_bytes(self) -> int:
        return self._keys.nbytes + self._memory_bytes

    def learn(self, images: TrainingFeatures) -> None:
        keys, n_values = [], 0
        for image in images:
            keys.append(_key(unit_length(image[-1])))
            n_values += sum(block.size for block in image)
        self._images, self._keys, self._memory_bytes = images, np.stack(keys), 2 * n_values  # in 16 bits

    def patch_scores(self, blocks: Sequence[Features]) -> Features:
        directions = [unit_length(block) for block in blocks]
        return np.stack([self._image_scores([block[place] for block in directions]) for place in range(len(blocks[0]))])

    def _image_scores(self, directions: Sequence[Features]) -> Features:
        """Of one image, features (h, w, C) of each block at unit length to scores (h, w)."""
        assert self._images is not None, "fit comes before predict"
        alike = self._keys @ _key(directions[-1])
        best = np.full((len(directions), *directions[0].shape[:2]), -np.inf, np.float32)
        for place in np.argsort(-alike, kind="stable")[: self._options.k_image]:
            for number, other in enumerate(self._images[int(place)]):
                cosines = best_cosine(directions[number], unit_length(other), self._options.radius)
                np.maximum(best[number], cosines, out=best[number])
        return np.asarray(np.mean(1 - best, axis=0), dtype=np.float32)


def best_cosine(features: Features, others: Features, radius: int) -> Features:
    """For features (h, w, C) the highest cosine (h, w) with others (H, W, C) around the same place; all unit length."""
    (height, width), (other_height, other_width) = features.shape[:2], others.shape[:2]
    rows = (2 * np.arange(height) + 1) * other_height // (2 * height)  # the patch in which a patch's centre falls
    columns = (2 * np.arange(width) + 1) * other_width // (2 * width)
    best = np.full((height, width), -np.inf, np.float32)
    for down in range(-min(radius, other_height - 1), min(radius, other_height - 1) + 1):
        near_rows = np.clip(rows + down, 0, other_height - 1)[:, None]
        for right in range(-min(radius, other_width - 1), min(radius, other_width - 1) + 1):
            near = others[near_rows, np.clip(columns + right, 0, other_width - 1)]
            np.maximum(best, np.einsum("hwc,hwc->hw", features, near), out=best)
    return best


def _key(directions: Features) -> Features:
    """(C,) at unit length: the mean of the directions (h, w, C) of an image's patches."""
    return unit_length(directions.mean(axis=(0, 1)))
