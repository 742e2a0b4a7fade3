"""From anybody's maps on disk to an evaluation: checked as a whole first, everything wrong written down by name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinydefects.data.map_description import write_problems
from tinydefects.data.pairing import MapsError, Pairing, Resample, pair_maps, require_one_maker
from tinydefects.data.predictions import ImageScoreRule, read_paired
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.errors import DatasetError
from tinydefects.metrics.detectability import thresholds_of_normals

NormalSource = Literal["validation", "train"]
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapReader:
    """Where maps are, how they are read, and the file that lists what is wrong with them.

    Attributes:
        source: folder or manifest, see `pair_maps`; so are `key` and `resample`.
        image_score: see `image_score` of `predictions.py`.
        problems_path: CSV of every problem; it is not there when nothing is wrong.
        progress: called with (stage, done, total).
    """

    source: Path
    key: str | None = None
    resample: Resample = "none"
    image_score: ImageScoreRule = "stored"
    problems_path: Path
    progress: Progress = lambda stage, done, total: None

    def check(self, category: Category, split: Literal["test", "validation", "train"] = "test") -> Pairing:
        """The maps of a split's images, compared with them by headers alone.

        Raises:
            MapsError: they do not fit.
            DatasetError: the split has no images.
        """
        samples = getattr(category, split)
        if not samples:
            raise DatasetError(f"{category.id}: has no {split} images; choose another split")
        pairing = pair_maps(
            self.source,
            category,
            samples=samples,
            key=self.key,
            resample=self.resample,
            stored_scores=self.image_score == "stored",
            progress=self.progress,
        )
        write_problems(pairing.problems, self.problems_path)
        with self._listing(pairing):
            pairing.require_sound()
        return pairing

    def pairs(self, pairing: Pairing, stage: str = "score") -> Iterator[tuple[Sample, Prediction]]:
        """Samples with their maps, one in memory at a time.

        Raises:
            MapsError: at the end, when some hold nan or infinity or cannot be decoded.
        """
        with self._listing(pairing):
            for done, pair in enumerate(read_paired(pairing, self.image_score), start=1):
                yield pair
                self.progress(stage, done, len(pairing.pairs))

    def thresholds(self, category: Category, split: NormalSource, rate: float, tested: Pairing) -> tuple[float, float]:
        """Thresholds for pixels and for images from maps of good images that are not `tested`.

        Raises:
            MapsError, DatasetError: as `check`; maps of another maker than the tested ones; an image that is not good.
            TinyDefectsError: a rate outside [0, 1).
        """
        pairing = self.check(category, split)
        with self._listing(pairing):
            require_one_maker(self.source, [*tested.pairs, *pairing.pairs])
        defective = [pair.sample.id for pair in pairing.pairs if pair.sample.label != "good"]
        if defective:
            raise DatasetError(f"{defective[0]}: not labelled good; a threshold comes from good images alone")
        n_pixels = sum(pair.image_size[0] * pair.image_size[1] for pair in pairing.pairs)
        predictions = (prediction for _, prediction in self.pairs(pairing, "threshold"))
        return thresholds_of_normals(predictions, n_pixels, rate)

    @contextmanager
    def _listing(self, pairing: Pairing) -> Iterator[None]:
        """Any MapsError inside goes on with a full list on disk."""
        try:
            yield
        except MapsError as error:
            others = [problem for problem in pairing.problems if problem not in error.problems]
            write_problems([*error.problems, *others], self.problems_path)
            raise MapsError(error.source, error.problems, self.problems_path) from error
