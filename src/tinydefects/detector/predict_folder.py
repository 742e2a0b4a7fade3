"""Many images to disk: anomaly maps, overlays and a table of scores; goes on where it was stopped.

A map that is there is kept only if it was made of this very photograph by this very detector. A photograph that cannot
be read or predicted is listed with its reason and stops no other. Each is decoded once: map and overlay are of the same
pixels, and the colours of an overlay are the detector's own, so they do not depend on the other photographs.
"""

import csv
import io
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.images import with_image_bits
from tinydefects.data.map_files import Origin, Photograph, origin_in, read_header, read_photograph
from tinydefects.data.pairing import MapProblem, ProblemKind, write_problems
from tinydefects.data.pixels import write_png, write_whole
from tinydefects.data.predictions import map_path, read_prediction, write_maker, write_prediction
from tinydefects.data.read_ahead import read_ahead
from tinydefects.data.sample import Prediction, Sample
from tinydefects.datasets.photographs import OVERLAYS
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import ImageReadError, MissingExtraError, ResolutionMismatchError, ScoreError
from tinydefects.progress import Report

ROWS_AT_ONCE = 256
HEAT_RGB = np.array([255, 40, 0], dtype=np.float32)
SCORES_FILE, PROBLEMS_FILE = "scores.csv", "problems.csv"
BAD_PHOTOGRAPH: dict[type[Exception], ProblemKind] = {
    ImageReadError: "unreadable",
    MissingExtraError: "unreadable",
    ResolutionMismatchError: "wrong size",
    ScoreError: "not finite",
}
_Predicted = tuple[Sample, NDArray[np.uint8], Photograph, Prediction]


class Predicts(Protocol):
    """What makes maps: a detector, or an exported one."""

    @property
    def settings(self) -> DetectorSettings: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def colour_scale(self) -> tuple[float, float]: ...
    def predict_many(self, images: Iterable[NDArray[np.uint8]], *, batch_size: int) -> Iterator[Prediction]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedFolder:
    """What `predict_to_disk` leaves behind.

    Attributes:
        scores: image scores by sample id, in the order of the samples, of all photographs that have a map now.
        problems: the photographs that have none, and why, in the same order.
        n_remade: how many maps were there and are made again, by reason.
        n_strangers: maps that lie among them and belong to none of the photographs.
    """

    scores: Mapping[str, float]
    problems: tuple[MapProblem, ...]
    n_remade: Mapping[str, int]
    n_strangers: int

    def __str__(self) -> str:
        return f"{_maps(len(self.scores))}, overlays and {SCORES_FILE}" if self.scores else "no map"

    @property
    def remarks(self) -> list[str]:
        """A line for whatever a reader would not expect."""
        lines = []
        if self.n_remade:
            reasons = [f"{reason} ({count})" for reason, count in self.n_remade.items()]
            told = ", ".join(reasons) if len(reasons) > 1 else next(iter(self.n_remade))
            lines.append(f"{_maps(len(self.scores))}, {sum(self.n_remade.values())} of them made again: {told}")
        if self.n_strangers:
            gone = "gone, or not asked for this time"
            lines.append(f"{_maps(self.n_strangers)} of other photographs ({gone}) beside them: left as they are")
        return lines

    def require_whole(self, folder: Path) -> None:
        """Raise an ImageReadError that counts the problems and names the first, if there are any."""
        if self.problems:
            n_problems, n_maps = len(self.problems), len(self.scores)
            raise ImageReadError(
                f"{n_maps} of {n_maps + n_problems} photographs; {n_problems} problem{'s' * (n_problems > 1)}, "
                f"listed in {folder / PROBLEMS_FILE}: {self.problems[0].detail}"
            )


def predict_to_disk(
    detector: Predicts,
    category_id: str,
    samples: Sequence[Sample],
    folder: Path,
    *,
    progress: Report,
    batch_size: int = 1,
) -> PredictedFolder:
    """Write map and overlay of every sample, one scores.csv, and a problems.csv of the samples that have no map.

    Maps already there are kept if they were made of the same pixels by the same detector; others are made again. A
    photograph that is no image, of no size the detector takes, or gone, is a problem; its earlier map is removed. For
    `batch_size` see `Detector.predict_many`.

    Raises:
        TinyDefectsError: the folder cannot be written, or `batch_size` is too large for the detector or its GPU.
    """
    samples = with_image_bits(samples, detector.settings.image_bits)
    made_by = {"detector": detector.fingerprint, **detector.settings.model_dump(mode="json")}
    write_maker(folder, made_by)
    for name in (SCORES_FILE, PROBLEMS_FILE):  # those of an earlier run say nothing of this one
        (folder / name).unlink(missing_ok=True)
    run = _Run(
        category_id=category_id,
        samples=samples,
        folder=folder,
        made_by=made_by,
        colour_scale=detector.colour_scale,
        progress=progress,
    )
    run.keep_what_fits()
    run.predict_the_rest(detector, batch_size)
    scores = {sample.id: run.scores[sample.id] for sample in samples if sample.id in run.scores}
    problems = tuple(run.problems[sample.id] for sample in samples if sample.id in run.problems)
    if scores:
        _write_scores(folder / SCORES_FILE, samples, scores)
    write_problems(problems, folder / PROBLEMS_FILE)
    remade = Counter(run.outdated[sample_id] for sample_id in scores if sample_id in run.outdated)
    return PredictedFolder(scores=scores, problems=problems, n_remade=remade, n_strangers=run.count_strangers())


def overlay(
    image: NDArray[np.uint8], anomaly_map: NDArray[np.float32], scale: tuple[float, float]
) -> NDArray[np.uint8]:
    """The image (H, W, 3), tinted in place where the map is high: nothing at scale[0] and below, all at scale[1]."""
    low, high = scale
    for start in range(0, len(image), ROWS_AT_ONCE):  # as floats a photograph takes four times its memory, and again
        rows = slice(start, start + ROWS_AT_ONCE)
        strength = np.clip((anomaly_map[rows] - low) / max(high - low, 1e-12), 0, 1)[..., None] * np.float32(0.7)
        image[rows] = np.rint(image[rows] * (1 - strength) + HEAT_RGB * strength)
    return image


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run over many photographs: which are done, which are bad, which maps are out of date and why."""

    category_id: str
    samples: Sequence[Sample]
    folder: Path
    made_by: Mapping[str, object]
    colour_scale: tuple[float, float]
    progress: Report
    scores: dict[str, float] = field(default_factory=dict)
    problems: dict[str, MapProblem] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)

    def map_path(self, sample: Sample) -> Path:
        return map_path(self.folder, self.category_id, sample)

    def overlay_path(self, sample: Sample) -> Path:
        return map_path(self.folder / OVERLAYS, self.category_id, sample).with_suffix(".png")

    def keep_what_fits(self) -> None:
        """Look at every map that is there, and read those that answer for their photograph and this detector."""
        known = [sample for sample in self.samples if self.map_path(sample).is_file()]
        for sample, found in zip(known, read_ahead(self._kept, known), strict=True):
            if isinstance(found, float):
                self._note(sample, found)
            elif isinstance(found, MapProblem):
                self._give_up(sample, found)
            else:
                self.outdated[sample.id] = found

    def predict_the_rest(self, detector: Predicts, batch_size: int) -> None:
        """The next photographs are read while the detector looks at one, and maps are written behind it."""
        left = [sample for sample in self.samples if sample.id not in self.scores and sample.id not in self.problems]
        for sample, score in read_ahead(self._written, _predict_each(detector, left, batch_size, self._give_up)):
            self._note(sample, score)

    def count_strangers(self) -> int:
        """Maps in the folders of the samples that are none of theirs."""
        own = {self.map_path(sample) for sample in self.samples}
        tops = {self.map_path(sample).parents[sample.id.count("/") - 1] for sample in self.samples}
        found = (path for top in tops for path in top.rglob("*.tiff") if not path.name.startswith("."))
        return sum(path not in own for path in found)

    def _note(self, sample: Sample, score: float) -> None:
        self.scores[sample.id] = score
        self._tell()

    def _refuse(self, sample: Sample, problem: MapProblem) -> None:
        """What lies there under the name of a bad photograph is of an earlier one."""
        self.problems[sample.id] = problem
        for path in (self.map_path(sample), self.overlay_path(sample)):
            path.unlink(missing_ok=True)

    def _give_up(self, sample: Sample, problem: MapProblem) -> None:
        self._refuse(sample, problem)
        self._tell()

    def _tell(self) -> None:
        self.progress("predict", len(self.scores) + len(self.problems), len(self.samples))

    def _kept(self, sample: Sample) -> float | MapProblem | str:
        """The score of a map that fits, or why it does not, or what is wrong with its photograph."""
        path = self.map_path(sample)
        try:
            origin = origin_in(read_header(path).description)
            prediction = read_prediction(path)
        except (ImageReadError, ScoreError):
            return "not readable"
        if origin is None:
            return "they do not say of which photograph they are"
        if origin.made_by != self.made_by:
            return "by another detector or with other settings"
        try:
            if not origin.photograph.is_of(sample):
                return "the photograph has changed"
            if not self.overlay_path(sample).is_file():  # a run was stopped between map and overlay
                self._draw(sample, sample.image(), prediction)
        except tuple(BAD_PHOTOGRAPH) as error:
            return _problem(sample, error)
        return prediction.score

    def _written(self, made: _Predicted) -> tuple[Sample, float]:
        sample, image, photograph, prediction = made
        self.overlay_path(sample).unlink(missing_ok=True)  # it shows an earlier map
        origin = Origin(photograph=photograph, made_by=self.made_by)
        write_prediction(self.folder, self.category_id, sample, prediction, origin=origin)
        self._draw(sample, image, prediction)
        return sample, prediction.score

    def _draw(self, sample: Sample, image: NDArray[np.uint8], prediction: Prediction) -> None:
        write_png(self.overlay_path(sample), overlay(image, prediction.anomaly_map, self.colour_scale))


def _predict_each(
    detector: Predicts,
    samples: Sequence[Sample],
    batch_size: int,
    refuse: Callable[[Sample, MapProblem], None],
) -> Iterator[_Predicted]:
    """Every photograph with its prediction, in order; those that have none are refused."""
    readings = zip(samples, read_ahead(_read, samples), strict=True)
    waiting: deque[tuple[Sample, NDArray[np.uint8], Photograph]] = deque()  # shown to the detector, not answered yet

    def images() -> Iterator[NDArray[np.uint8]]:
        for sample, reading in readings:
            if isinstance(reading, MapProblem):
                refuse(sample, reading)
            else:
                waiting.append((sample, *reading))
                yield reading[0]

    while True:
        try:
            for prediction in detector.predict_many(images(), batch_size=batch_size):
                yield *waiting.popleft(), prediction
            return
        except tuple(BAD_PHOTOGRAPH):  # of one of those that wait: each of them alone, then on with the rest
            if not waiting:
                raise
        while waiting:
            sample, image, photograph = waiting.popleft()
            try:
                (prediction,) = detector.predict_many([image], batch_size=batch_size)
            except tuple(BAD_PHOTOGRAPH) as error:
                refuse(sample, _problem(sample, error))
            else:
                yield sample, image, photograph, prediction


def _read(sample: Sample) -> tuple[NDArray[np.uint8], Photograph] | MapProblem:
    try:
        return read_photograph(sample)
    except tuple(BAD_PHOTOGRAPH) as error:
        return _problem(sample, error)


def _maps(count: int) -> str:
    return "1 map" if count == 1 else f"{count} maps"


def _problem(sample: Sample, error: Exception) -> MapProblem:
    """By the sample's id, with a reason that names the file.

    Raises:
        MemoryError: it was for lack of memory, which is no fault of the photograph.
    """
    if isinstance(error.__cause__, MemoryError):
        raise error.__cause__
    kind = next(kind for known, kind in BAD_PHOTOGRAPH.items() if isinstance(error, known))
    reason = str(error)
    named = reason if str(sample.image_path) in reason else f"{sample.image_path}: {reason}"
    return MapProblem(kind=kind, name=sample.id, detail=named)


def _write_scores(path: Path, samples: Sequence[Sample], scores: Mapping[str, float]) -> None:
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["image", "label", "score"])
    writer.writerows([sample.id, sample.label, scores[sample.id]] for sample in samples if sample.id in scores)
    write_whole(path, lambda file: file.write(table.getvalue().encode(errors="backslashreplace")))
