"""How much one category is for a teacher: images, patches and the bytes of their features, from headers alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tinydefects.data.pixels import read_size
from tinydefects.data.sample import Category
from tinydefects.detector.features import FeatureFormat, expected_bytes
from tinydefects.detector.patch_grid import PatchGrid, Size
from tinydefects.detector.settings import DetectorSettings
from tinydefects.detector.teacher import Teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One category as a teacher sees it; patches and bytes are 0 where none looks.

    Attributes:
        n_train, n_test: images to learn from and to score.
        megapixels: of all images that are scored, validation images among them.
        n_train_patches, n_patches: of the images to learn from, and of all.
        training_bytes, feature_bytes: features to learn from in 16 bit (in the preset `published` in 32), and with
            them those to score in 32 bit.
    """

    n_train: int
    n_test: int
    megapixels: float
    n_train_patches: int = 0
    n_patches: int = 0
    training_bytes: int = 0
    feature_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CategorySizes:
    """(H, W) of the images of a category, read once for all jobs."""

    train: Sequence[Size]
    validation: Sequence[Size]
    test: Sequence[Size]

    def workload(self, teacher: Teacher | None, settings: DetectorSettings | None) -> Workload:
        """What the category is for this teacher, seen as the settings say: in one pass an image, tiles or shifts."""
        scored = [*self.validation, *self.test]
        n_train, n_test, megapixels = len(self.train), len(self.test), sum(map(prod, scored)) / 1e6
        if teacher is None or settings is None:
            return Workload(n_train=n_train, n_test=n_test, megapixels=megapixels)
        train, rest = (
            [grid for size in part for grid in settings.passes(size, patch=teacher.patch_size).grids]
            for part in (self.train, scored)
        )
        learnt_format: FeatureFormat = "float32" if settings.preset == "published" else "float16"
        n_blocks = len(settings.blocks or teacher.blocks)
        training_bytes = expected_bytes(train, n_blocks=n_blocks, dim=teacher.dim, feature_format=learnt_format)
        rest_bytes = expected_bytes(rest, n_blocks=n_blocks, dim=teacher.dim, feature_format="float32")
        return Workload(
            n_train=n_train,
            n_test=n_test,
            megapixels=megapixels,
            n_train_patches=sum(prod(grid.shape) for grid in train),
            n_patches=sum(prod(grid.shape) for grid in (*train, *rest)),
            training_bytes=training_bytes,
            feature_bytes=training_bytes + rest_bytes,
        )


def sizes_of(category: Category) -> CategorySizes:
    """From the headers of its images.

    Raises:
        ImageReadError: a file is no image.
    """
    train, validation, test = (
        [read_size(sample.image_path) for sample in split]
        for split in (category.train, category.validation, category.test)
    )
    return CategorySizes(train=train, validation=validation, test=test)


def shared_grid(teacher: Teacher, size: Size, resolution: int) -> PatchGrid:
    """The geometry of shared features."""
    return PatchGrid.proportional(size, patch=teacher.patch_size, resolution=resolution)
