"""From anybody's maps on disk to an evaluation: checked as a whole first, everything wrong written down by name."""

import math
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self, TypedDict

from tinydefects.data.map_files import file_sha256
from tinydefects.data.pairing import (
    MapsError,
    Pairing,
    Resample,
    describe_problems,
    pair_maps,
    require_one_maker,
    write_problems,
)
from tinydefects.data.predictions import ImageScoreRule, maker_of, read_paired
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.decisions.calibration import CALIBRATION_FILE, Calibration, read_calibration
from tinydefects.errors import DatasetError, ResultError
from tinydefects.metrics.detectability import thresholds_of_normals

if TYPE_CHECKING:
    from tinydefects.progress import Report

NormalSource = Literal["validation", "train"]
EIGHT_BITS = {"uint8", "int8"}
SPOOLED_BYTES = 4  # a normal pixel's score, as float32


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
    progress: "Report" = lambda stage, done, total: None

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenThresholds:
    """A calibration from disk; `detectors` are those whose maps it is for, `sha256` is that of the file."""

    path: Path
    sha256: str
    calibration: Calibration
    detectors: frozenset[str]

    @classmethod
    def read(cls, path: Path, exports: Mapping[str, str] = MappingProxyType({})) -> Self:
        """From the folder of a model or the file itself; for its detector, and for exports of that.

        Args:
            path: see above.
            exports: fingerprints of exports, to those of the detectors they were made from.

        Raises:
            ResultError: there is none, or it cannot be read.
        """
        path = path / CALIBRATION_FILE if path.is_dir() else path
        if not path.exists():
            raise ResultError(
                f"{path}: no such file; give a model with thresholds, or take them: tinydefects calibrate MODEL GOOD"
            )
        calibration = read_calibration(path)
        own = calibration.fingerprint
        alike = {export for export, detector in exports.items() if detector == own}
        return cls(path=path, sha256=file_sha256(path), calibration=calibration, detectors=frozenset({own, *alike}))

    def require_for(self, pairing: Pairing, image_score: ImageScoreRule = "stored") -> None:
        """Refuse maps that these thresholds are not for, and test images that they were taken from.

        Raises:
            ResultError: the maps are of another detector or of unknown origin, or not as it made them.
            DatasetError: a test image has the pixels of one that the thresholds come from.
        """
        maker = maker_of(pairing)
        if "detector" not in maker:
            known = f"were made by {maker['method']}" if "method" in maker else "do not say who made them"
            raise ResultError(
                f"{pairing.source}: the maps {known}, and {self.path} holds for one detector alone; let 'tinydefects "
                "predict' write them, or count your own predictions in Python (decisions.outcome.measure_outcome)"
            )
        if maker["detector"] not in self.detectors:
            self.calibration.require_made_by(str(maker["detector"]), self.path)
        if image_score != "stored" or any(pair.stored_score is None for pair in pairing.pairs):
            raise ResultError(
                f"{self.path}: holds for the image scores of the detector; use those stored with its maps "
                "(--image-score stored)"
            )
        if pairing.resampled:
            name = pairing.resampled[0].path
            raise ResultError(f"{name}: resampled maps have other peaks than {self.path} was taken from; predict again")
        known_pixels = {one.pixels_sha256: one.id for one in self.calibration.images if one.pixels_sha256}
        for pair in pairing.pairs:
            pixels = pair.origin.photograph.pixels_sha256 if pair.origin else ""
            if pixels in known_pixels:
                raise DatasetError(
                    f"{pair.sample.id}: has the pixels of {known_pixels[pixels]}, from which {self.path} takes its "
                    "thresholds; calibrate with good photographs that are not tested"
                )


class ScoringCost(TypedDict):
    """What scoring will read, and the most it puts into the temporary folder meanwhile."""

    n_images: int
    n_pixels: int
    n_resampled: int
    temporary_bytes: int
    temporary_folder: str


def scoring_cost(pairing: Pairing) -> ScoringCost:
    """What scoring these maps will cost; of the temporary folder `TMPDIR` is the choice."""
    n_pixels = sum(math.prod(pair.image_size) for pair in pairing.pairs)
    return ScoringCost(
        n_images=len(pairing.pairs),
        n_pixels=n_pixels,
        n_resampled=len(pairing.resampled),
        temporary_bytes=SPOOLED_BYTES * n_pixels,
        temporary_folder=tempfile.gettempdir(),
    )


def describe_cost(cost: ScoringCost) -> str:
    """One line for people."""
    return (
        f"{cost['n_images']} images, {cost['n_pixels'] / 1e6:.1f} million pixels, "
        f"{cost['n_resampled']} maps to resample, "
        f"{cost['temporary_bytes'] / 1e9:.2f} GB in {cost['temporary_folder']} while scoring (TMPDIR chooses another)"
    )


def map_settings(pairing: Pairing) -> dict[str, str]:
    """For the provenance of a result: what kinds of file the maps were, and how many were resampled from which size."""
    kinds = Counter(f"{pair.path.suffix.lower()} {pair.header.dtype}" for pair in pairing.pairs)
    settings = {"maps": ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))}
    if pairing.resampled:
        sizes = Counter((pair.header.size, pair.image_size) for pair in pairing.resampled)
        settings["resample"] = (
            f"bilinear, centre-aligned (Pillow): {len(pairing.resampled)} of {len(pairing.pairs)} maps, "
            + ", ".join(f"{count} from {_plain(old)} to {_plain(new)}" for (old, new), count in sizes.most_common(3))
            + (", …" if len(sizes) > 3 else "")
        )
    return settings


def warnings_about(pairing: Pairing) -> list[str]:
    """What a reader should know of maps that can be scored all the same."""
    shallow = sum(pair.header.dtype in EIGHT_BITS for pair in pairing.pairs)
    extra = [problem for problem in pairing.problems if problem.kind == "extra"]
    remarks = [describe_problems(pairing.source, extra)] if extra else []
    if pairing.left_out:
        remarks.append(f"{pairing.source}: {len(pairing.pairs)} maps; {pairing.left_out}")
    if shallow:
        remarks.append(
            f"{shallow} maps have 8 bits: 256 levels tie many pixels, which small false-positive rates feel first; "
            "export 16 bits or floats"
        )
    return remarks


def _plain(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
