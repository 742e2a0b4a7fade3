"""Anybody's maps from disk as a method of the benchmark: `maps:FOLDER` in MVTec's layout, or a manifest."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tinydefects.data.map_files import file_sha256
from tinydefects.data.pairing import PairedMap, Resample, list_maps, pair_listed, pair_maps, require_one_maker
from tinydefects.data.predictions import ImageScoreRule, read_maker, read_paired
from tinydefects.data.sample import Category, Prediction, Sample
from tinydefects.methods.method import MethodInputs


@dataclass(frozen=True, slots=True, kw_only=True)
class MapsOptions:
    """The folder (or manifest), which image score counts, and whether maps of another size than their image do.

    Attributes:
        folder: with `<category>/test/crack/000.tiff` below it, or without the category.
        image_score: by default the mean of the highest 0.1 % of the map, as for every method; `stored` is what came
            with the map.
    """

    folder: str
    image_score: ImageScoreRule = "top_0.1_percent"
    resample: Resample = "none"


class ImportedMaps:
    """Looks the map of each sample up, in a folder that is listed once; there is nothing to fit."""

    size_bytes = 0

    def __init__(self, inputs: MethodInputs, options: MapsOptions) -> None:
        self._options = options
        self._folder = Path(options.folder)
        self._clock = inputs.clock
        self._listing = list_maps(self._folder, inputs.category)
        self._first: PairedMap | None = None

    @property
    def settings(self) -> Mapping[str, object]:
        origin = self._first.origin if self._first else None
        made_by = origin.made_by if origin else read_maker(self._folder)
        return asdict(self._options) | {f"made_by.{name}": str(value) for name, value in made_by.items()}

    def fit(self, samples: Sequence[Sample]) -> None:
        """Whoever made the maps has done that."""

    def predict(self, samples: Sequence[Sample]) -> list[Prediction]:
        options, stored_scores = self._options, self._options.image_score == "stored"
        with self._clock("map"):
            pairing = pair_listed(self._listing, samples, resample=options.resample, stored_scores=stored_scores)
            pairing.require_sound()
            # Images come one by one: what must be alike in all maps is compared with the first.
            alike = [self._first, *pairing.pairs] if self._first else pairing.pairs
            self._first = next(iter(alike), None)
            require_one_maker(self._folder, alike, stored_scores=stored_scores)
            return [prediction for _, prediction in read_paired(pairing, options.image_score)]


def maps_sha256(options: Mapping[str, str], category: Category) -> str:
    """Of the files of all maps that a category's test and validation images have in the folder or manifest.

    Raises:
        TinyDefectsError: there is no such folder or manifest, or it cannot be read.
    """
    samples = (*category.test, *category.validation)
    pairing = pair_maps(Path(options["folder"]), category, samples=samples, resample="bilinear", stored_scores=False)
    lines = (f"{pair.sample.id} {pair.stored_score} {file_sha256(pair.path)}\n" for pair in pairing.pairs)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
