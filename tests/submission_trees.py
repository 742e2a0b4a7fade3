"""A small MVTec AD 2 with maps for the tests of submissions: eight objects, two images in each private split."""

from pathlib import Path

import numpy as np
import tifffile

from dataset_trees import draw_all
from tinydefects.submission.layout import LIGHTING_OF_SPLIT, N_PRIVATE_IMAGES, expected_stems

SIZE = (12, 16)
N_VALIDATION = 3


def draw_dataset(root: Path, objects=tuple(N_PRIVATE_IMAGES)) -> Path:
    """Images of every split; the private ones are as many as `N_PRIVATE_IMAGES` says."""
    for name in objects:
        folder = root / "mvtec_ad_2" / name
        draw_all(folder / "train" / "good", "000_regular.png", size=SIZE)
        draw_all(folder / "test_public" / "good", "000_regular.png", size=SIZE)
        draw_all(folder / "test_public" / "bad", "000_regular.png", size=SIZE)
        draw_all(folder / "test_public" / "ground_truth" / "bad", "000_regular_mask.png", size=SIZE, spot=(0, 0))
        for number in range(N_VALIDATION):
            draw_all(folder / "validation" / "good", f"{number:03d}_regular.png", size=SIZE)
        for split in LIGHTING_OF_SPLIT:
            draw_all(folder / split, " ".join(f"{stem}.png" for stem in expected_stems(name, split)), size=SIZE)
    return root


def draw_maps(folder: Path, objects=tuple(N_PRIVATE_IMAGES), *, size=SIZE) -> Path:
    """A random float32 map for every private and validation image; every score occurs once in an object."""
    for number, name in enumerate(objects):
        stems = [("validation/good", f"{image:03d}_regular") for image in range(N_VALIDATION)]
        stems += [(split, stem) for split in LIGHTING_OF_SPLIT for stem in expected_stems(name, split)]
        shape = (len(stems), *size)
        scores = np.random.default_rng(number).permutation(int(np.prod(shape))).reshape(shape).astype(np.float32)
        for (split, stem), scored in zip(stems, scores / 1024, strict=True):
            path = folder / name / split / f"{stem}.tiff"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, scored)
    return folder
