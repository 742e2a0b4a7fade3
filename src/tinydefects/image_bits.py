"""How many of its 16 bits a camera fills: found once on the training photographs, then the same for all others.

Cameras of 10, 12 or 14 bits write files of 16, whose values end far below 65,535. Scaled by the full range such a
photograph is nearly black; scaled by its own largest value every photograph would have another brightness. So the
largest value of all training photographs decides, and a later one beyond it is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tinydefects.pixels import is_deep, largest_value
from tinydefects.read_ahead import read_ahead
from tinydefects.sample import Category, Sample

CHOICES = (8, 10, 12, 14, 16)
MOST = CHOICES[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBits:
    """What was found on photographs.

    Attributes:
        bits: that the values of 16-bit files fill, one of `CHOICES`; 8 if no file is one, 16 if there is no file.
        n_images: photographs that were looked at; `n_deep` of them have more than 8 bits a channel.
        largest: value of those, 0 without any.
    """

    bits: int
    n_images: int
    n_deep: int
    largest: int

    def __str__(self) -> str:
        others = self.n_images - self.n_deep
        mixed = f"; the other {others:,} have 8: all are brought to one range" if others else ""
        return (
            f"{self.n_deep:,} of {self.n_images:,} training photographs have 16 bits a channel; their largest value "
            f"is {self.largest:,}, so the values of every photograph are read as {self.bits} bits "
            f"(0 to {2**self.bits - 1:,}){mixed}; --image-bits sets another number"
        )


def find_image_bits(
    samples: Sequence[Sample], *, progress: Callable[[int, int], object] = lambda done, total: None
) -> ImageBits:
    """Headers first, then every pixel of the photographs that have more than 8 bits.

    Raises:
        ImageReadError: one cannot be read.
        MissingExtraError: its compression needs the extra `codecs`.
    """
    deep = [sample for sample in samples if is_deep(sample.image_path)]
    largest = 0
    values = read_ahead(lambda sample: largest_value(sample.image_path), deep)
    for done, value in enumerate(values, start=1):
        largest = max(largest, value)
        progress(done, len(deep))
    bits = next(bits for bits in CHOICES if largest < 2**bits) if samples else MOST
    return ImageBits(bits=bits, n_images=len(samples), n_deep=len(deep), largest=largest)


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
