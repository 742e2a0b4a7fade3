"""What every drawn family looks like, pinned by small pictures: a clean part and three defects with their masks.

A change of a family raises `FORMAT_VERSION`, and `python tests/test_families.py` draws the pictures anew.
"""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tinydefects.data.masks import read_mask
from tinydefects.data.pixels import read_image, write_png
from tinydefects.datasets.synthetic.dataset import SYNTHETIC_FAMILIES, Settings, draw_clean, draw_defective
from tinydefects.datasets.synthetic.defects import DEFECT_KINDS

PICTURES = Path(__file__).parent / "reference" / "families"
SIDE = 64
# Floats are rounded otherwise by other processors: a pixel may land on the next gray level, or on the other side of a
# region's edge.
LEVELS, SHARE_OF_OTHER_LEVELS, OTHER_MASK_PIXELS = 1, 0.01, 2


def drawn(family: str) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A clean part, then three defective ones, side by side, and their masks; the families take the kinds in turn."""
    settings = Settings(
        family=family,
        seed=7,
        height=SIDE,
        width=SIDE,
        n_train=1,
        n_good=0,
        n_defect=len(DEFECT_KINDS),
        min_area_px=4,
        max_area_share=0.05,
    )
    clean = draw_clean(settings, "train", 0).image
    first = SYNTHETIC_FAMILIES.index(family)
    scenes = [draw_defective(settings, (first + step) % len(DEFECT_KINDS))[:2] for step in range(3)]
    images = [image if image.shape[2] == 3 else image.repeat(3, axis=2) for image in (clean, *(s[0] for s in scenes))]
    masks = [np.zeros((SIDE, SIDE), dtype=bool), *(mask for _, mask in scenes)]
    return np.concatenate(images, axis=1), np.concatenate(masks, axis=1)


@pytest.mark.parametrize("family", SYNTHETIC_FAMILIES)
def test_a_family_looks_as_it_did(family):
    image, mask = drawn(family)
    off = np.abs(image.astype(int) - read_image(PICTURES / f"{family}.png"))
    assert off.max() <= LEVELS
    assert np.count_nonzero(off) <= SHARE_OF_OTHER_LEVELS * off.size
    assert np.count_nonzero(mask != read_mask(PICTURES / f"{family}_mask.png")) <= OTHER_MASK_PIXELS


def test_the_pictures_show_every_kind_of_defect():
    places = range(len(SYNTHETIC_FAMILIES))
    assert {DEFECT_KINDS[(place + step) % len(DEFECT_KINDS)] for place in places for step in range(3)} == set(
        DEFECT_KINDS
    )


if __name__ == "__main__":
    for name in SYNTHETIC_FAMILIES:
        sheet, truth = drawn(name)
        write_png(PICTURES / f"{name}.png", sheet)
        write_png(PICTURES / f"{name}_mask.png", truth)
