"""How many of its 16 bits a camera fills: found once on the training photographs, then the same for all others.

Cameras of 10, 12 or 14 bits write files of 16, whose values end far below 65,535. Scaled by the full range such a
photograph is nearly black; scaled by its own largest value every photograph would have another brightness. So the
largest value of all training photographs decides, and a later one beyond it is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tinydefects.data.pixels import count_values, is_deep
from tinydefects.data.read_ahead import read_ahead
from tinydefects.data.sample import Category, Sample

CHOICES = (8, 10, 12, 14, 16)
MOST = CHOICES[-1]
FEW = 1e-4  # of all values: rather dead pixels and marks than parts of the photograph


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBits:
    """What was found on photographs.

    Attributes:
        bits: that the values of 16-bit files fill, one of `CHOICES`; 8 if no file is one, 16 if there is no file.
        n_images: photographs that were looked at; `n_deep` of them have more than 8 bits a channel.
        largest: value of those, 0 without any.
        few_beyond: the fewest bits that nearly all values fit, and how many do not; None where there are no such few.
    """

    bits: int
    n_images: int
    n_deep: int
    largest: int
    few_beyond: tuple[int, int] | None = None

    def __str__(self) -> str:
        told = (
            f"{self.n_deep:,} of {self.n_images:,} training photographs have 16 bits a channel; their largest value "
            f"is {self.largest:,}, so the values of every photograph are read as {self.bits} bits "
            f"(0 to {2**self.bits - 1:,})"
        )
        if self.n_deep < self.n_images:
            told += f"; the other {self.n_images - self.n_deep:,} have 8: all are brought to one range"
        if self.few_beyond is not None:
            bits, count = self.few_beyond
            told += f"; only {count:,} values lie beyond {bits} bits: if they are dead pixels or marks, mend them first"
        return f"{told}; --image-bits sets another number"


def find_image_bits(
    samples: Sequence[Sample], *, progress: Callable[[int, int], object] = lambda done, total: None
) -> ImageBits:
    """Headers first, then every pixel of the photographs that have more than 8 bits.

    Raises:
        ImageReadError: one cannot be read.
        MissingExtraError: its compression needs the extra `codecs`.
    """
    deep = [sample for sample in samples if is_deep(sample.image_path)]
    counts = np.zeros(2**MOST, dtype=np.int64)
    for done, found in enumerate(read_ahead(lambda sample: count_values(sample.image_path), deep), start=1):
        counts += found
        progress(done, len(deep))
    beyond = {bits: int(counts[2**bits :].sum()) for bits in CHOICES}
    bits = next(bits for bits in CHOICES if not beyond[bits]) if samples else MOST
    few = next((choice for choice in CHOICES if 0 < beyond[choice] <= FEW * counts.sum()), None)
    return ImageBits(
        bits=bits,
        n_images=len(samples),
        n_deep=len(deep),
        largest=int(np.flatnonzero(counts)[-1]) if deep else 0,
        few_beyond=None if few is None else (few, beyond[few]),
    )


def bits_to_show(category: Category, maker: Mapping[str, object]) -> int:
    """For crops and contrasts of test photographs: what the detector that made the maps took, or would have taken.

    `maker` is what `read_maker` knows of the maps. Photographs of 8 bits cost no more than their headers.

    Raises:
        ImageReadError, MissingExtraError: as `find_image_bits`.
    """
    known = maker.get("image_bits", MOST) if maker else None
    if isinstance(known, int):
        return known
    if not any(is_deep(sample.image_path) for sample in category.test):
        return MOST
    return find_image_bits(category.train or category.test).bits


def with_image_bits(samples: Sequence[Sample], bits: int) -> list[Sample]:
    """The same samples, their 16-bit values read as `bits`."""
    return [replace(sample, image_bits=bits) for sample in samples]


def category_with_image_bits(category: Category, bits: int) -> Category:
    """The same for all splits of a category."""
    return replace(
        category,
        train=with_image_bits(category.train, bits),
        test=with_image_bits(category.test, bits),
        validation=with_image_bits(category.validation, bits),
    )
