"""FBFT whose distances know how good patches vary: the students' residuals, measured by their covariance.

The residual of a student is the direction it expects minus the one that is there, C numbers a patch. Where good patches
leave large residuals, a large one says little. Residuals of patches that the students have learnt from are too small,
and not in all directions alike, so the covariance comes from folds: each is seen by students of their own, who have
learnt from the other images. The students that score learn from all images, as those of `fbft` do.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tinydefects.data.images import Images
from tinydefects.data.sample import Sample
from tinydefects.detector.cross_fit import N_FOLDS, deal, judges_of
from tinydefects.detector.features import FeatureCache
from tinydefects.detector.settings import Precision
from tinydefects.detector.students import StudentPair
from tinydefects.detector.training import FilledCache, fill_cache, open_cache, places_of
from tinydefects.errors import TrainingError
from tinydefects.methods.fbft import FbftMethod
from tinydefects.methods.gaussian import Moments
from tinydefects.methods.method import INPUT, LEARNING, MethodInputs, read_options

SMALLEST_VARIANCE = 1e-6  # of the mean one: less cannot be told from rounding
ROUNDING = 1e-12  # of the squared mean


@dataclass(frozen=True, slots=True, kw_only=True)
class WhitenedOptions:
    """Of FBFT with whitened residuals.

    Attributes:
        combine: the product or the sum of the lengths of both residuals, each by its own covariance, or the length of
            both side by side by one `joint` covariance.
        folds: into how many the images are dealt, at most.
    """

    combine: Literal["product", "sum", "joint"] = "product"
    folds: Annotated[int, Field(ge=2, le=100)] = N_FOLDS


class Residuals:
    """Sums over residuals (D,), whatever their number, in float64: enough for their mean and shrunk covariance."""

    def __init__(self, dim: int) -> None:
        self._n = 0
        self._sum, self._products = np.zeros(dim), np.zeros((dim, dim))
        self._sum_by_length, self._fourth_powers = np.zeros(dim), 0.0  # of x |x|², and of |x|⁴

    def add(self, residuals: Moments) -> None:
        """Count (n, D) residuals in."""
        squared = np.einsum("nc,nc->n", residuals, residuals)
        self._n += len(residuals)
        self._sum += residuals.sum(axis=0)
        self._products += residuals.T @ residuals
        self._sum_by_length += squared @ residuals
        self._fourth_powers += float(squared @ squared)

    @property
    def mean(self) -> Moments:
        """(D,)."""
        return self._sum / self._n

    @property
    def covariance(self) -> Moments:
        """(D, D), shrunk towards a multiple of the identity as far as Ledoit and Wolf (2004) advise.

        `sklearn.covariance.ledoit_wolf` gives the same, and takes all residuals at once.
        """
        mean, dim, n = self.mean, len(self._sum), self._n
        plain = self._products / n - np.outer(mean, mean)
        variance, length = np.trace(plain) / dim, mean @ mean
        # The mean of |x - mean|⁴, multiplied out.
        fourth = (self._fourth_powers - 4 * mean @ self._sum_by_length + 2 * length * np.trace(self._products)) / n
        fourth += 4 * mean @ self._products @ mean / n - 3 * length**2
        squares = (plain**2).sum()
        spread = squares - dim * variance**2  # of the eigenvalues around their mean
        share = min(1.0, max(0.0, (fourth - squares) / n) / spread) if spread > 0 else 0.0
        return np.asarray((1 - share) * plain + share * variance * np.eye(dim))


@dataclass(frozen=True, slots=True, kw_only=True)
class Whitening:
    """Makes residuals (..., D) white: mean (D,) and matrix (D, D), float32 on the teacher's device."""

    mean: Tensor
    matrix: Tensor

    @classmethod
    def of(cls, residuals: Residuals, device: str) -> Self:
        """Whitening by their mean and covariance."""
        variances, directions = np.linalg.eigh(residuals.covariance)
        typical, mean = float(variances.mean()), residuals.mean
        # Equal residuals all over have no covariance to go by: their lengths then count as they are.
        are_equal = typical <= ROUNDING * (mean @ mean) / len(mean)
        variances = np.ones_like(variances) if are_equal else np.maximum(variances, SMALLEST_VARIANCE * typical)
        centre, matrix = (
            torch.from_numpy(array.astype(np.float32)).to(device) for array in (mean, directions / np.sqrt(variances))
        )
        return cls(mean=centre, matrix=matrix)

    def length(self, residuals: Tensor) -> Tensor:
        """Mahalanobis distance (...) of residuals (..., D), 1 for a usual good patch: divided by the root of D."""
        white: Tensor = (residuals - self.mean) @ self.matrix
        length: Tensor = torch.linalg.vector_norm(white, dim=-1) / white.shape[-1] ** 0.5
        return length

    @property
    def size_bytes(self) -> int:
        """Of both arrays."""
        return self.mean.nbytes + self.matrix.nbytes


class WhitenedFbftMethod(FbftMethod):
    """FBFT, its distances between directions replaced by Mahalanobis distances of their residuals."""

    def __init__(self, inputs: MethodInputs) -> None:
        super().__init__(inputs)
        self._options = read_options(WhitenedOptions, inputs.options, beside=(*INPUT, *LEARNING))
        self._inputs = inputs
        self._whitenings: list[Whitening] = []

    @property
    def settings(self) -> Mapping[str, object]:
        return {**super().settings, **asdict(self._options)}

    @property
    def size_bytes(self) -> int:
        return super().size_bytes + sum(whitening.size_bytes for whitening in self._whitenings)

    def fit(self, samples: Sequence[Sample]) -> None:
        super().fit(samples)
        sums: list[Residuals] = []
        for blocks in self._held_out(samples):
            rows = [part.double().cpu().numpy() for part in self._parts(blocks)]
            sums = sums or [Residuals(part.shape[-1]) for part in rows]
            for one, part in zip(sums, rows, strict=True):
                one.add(part)
        self._whitenings = [Whitening.of(one, self._source.teacher.device) for one in sums]

    def patch_scores(self, earlier: Tensor, later: Tensor) -> Tensor:
        """As of `FbftMethod`, at least 0."""
        residuals = both_residuals(self._detector.students, earlier, later, self._source.settings.precision)
        lengths = [
            whitening.length(part) for whitening, part in zip(self._whitenings, self._parts(residuals), strict=True)
        ]
        stacked = torch.stack(lengths)  # of one length alone, sum and product are that length
        return stacked.sum(dim=0) if self._options.combine == "sum" else stacked.prod(dim=0)

    def _parts(self, residuals: Sequence[Tensor]) -> list[Tensor]:
        """What is whitened by one covariance each."""
        return [torch.cat(list(residuals), dim=-1)] if self._options.combine == "joint" else list(residuals)

    def _held_out(self, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, Tensor]]:
        """Both residuals (n, C) of every pass over the images, by students who have not learnt from them.

        Where all images show one part there are none, and the students' own stand in for them.
        """
        settings, teacher = self._source.settings, self._source.teacher
        limit_gb = self._inputs.features_limit_gb
        with open_cache(self._inputs.features_folder, teacher, settings, limit_gb=limit_gb) as cache:
            images = Images(sample.image() for sample in samples)
            filled = fill_cache(cache, images, self._detector.passes, _unheard)
            for held_out, judges in self._judges(samples, cache, filled):
                _, places = places_of(filled.n_passes, held_out)
                for place in places:
                    ((earlier, later),) = cache.batches([place], images=1)
                    yield both_residuals(judges, earlier, later, settings.precision)

    def _judges(
        self, samples: Sequence[Sample], cache: FeatureCache, filled: FilledCache
    ) -> Iterator[tuple[Container[int], StudentPair]]:
        """Images, and who is to judge them."""
        # Numbers for names: a category may call two images alike.
        names = [(str(place), sample.group) for place, sample in enumerate(samples)]
        settings = self._source.settings
        try:
            folds = deal(names, filled.digests, unseen="folds", seed=settings.seed, n_folds=self._options.folds)
        except TrainingError:  # one part
            yield range(len(samples)), self._detector.students
            return
        yield from judges_of(folds, cache, filled, settings, _unheard)


@torch.inference_mode()
def both_residuals(
    students: StudentPair, earlier: Tensor, later: Tensor, precision: Precision = "highest"
) -> tuple[Tensor, Tensor]:
    """Directions that the students expect minus those of the features (..., C), in the earlier and the later block."""
    expected_earlier, expected_later = students.expectations(earlier, later, precision)
    return (
        F.normalize(expected_earlier, dim=-1) - F.normalize(earlier, dim=-1),
        F.normalize(expected_later, dim=-1) - F.normalize(later, dim=-1),
    )


def _unheard(stage: str, done: int, total: int | None) -> None:
    """Progress that nobody asked for."""
