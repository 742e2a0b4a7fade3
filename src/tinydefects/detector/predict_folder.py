"""Many images to disk: maps, overlays, scores and, with thresholds, decisions; goes on where it was stopped.

A map that is there is kept only if it was made of this very photograph by this very detector. A photograph that cannot
be read or predicted is listed with its reason and stops no other. Each is decoded once: map and overlay are of the same
pixels, and the colours of an overlay are the detector's own, so they do not depend on the other photographs.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from tinydefects.data.images import with_image_bits
from tinydefects.data.json_files import read_as, write_json
from tinydefects.data.map_files import Origin, Photograph, as_in_png, origin_in, read_header, read_photograph
from tinydefects.data.pairing import MapProblem, ProblemKind, write_problems
from tinydefects.data.pixels import write_png
from tinydefects.data.predictions import SUFFIXES, map_path, own_maps, read_prediction, write_maker, write_prediction
from tinydefects.data.read_ahead import read_ahead
from tinydefects.data.sample import Prediction, Sample
from tinydefects.data.walk import counted
from tinydefects.datasets.photographs import OVERLAYS
from tinydefects.decisions.calibration import Calibration
from tinydefects.decisions.decision import Decision, Verdict
from tinydefects.decisions.decision_files import write_decisions
from tinydefects.detector.deciding import require_calibration
from tinydefects.detector.outputs import (
    LEVELS_FILE,
    PROBLEMS_FILE,
    SCORES_FILE,
    TABLES,
    OutputSettings,
    decided,
    drawn,
    left_from_before,
    levels_of,
    told,
    write_scores,
)
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import ImageReadError, MissingExtraError, ResolutionMismatchError, ResultError, ScoreError
from tinydefects.progress import Report

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
    @property
    def calibration(self) -> Calibration | None: ...
    def predict_many(self, images: Iterable[NDArray[np.uint8]], *, batch_size: int) -> Iterator[Prediction]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedFolder:
    """What `predict_to_disk` leaves behind.

    Attributes:
        scores: image scores by sample id, in the order of the samples, of all photographs that were predicted.
        decisions: of the same photographs, where the detector has thresholds.
        written: names of what lies in the folder now.
        problems: the photographs that have none, and why, in the same order.
        n_remade: how many maps were there and are made again, by reason.
        n_strangers: maps that lie among them and belong to none of the photographs.
        left: folders of decisions that an earlier run wrote, and this one did not.
    """

    scores: Mapping[str, float]
    decisions: Mapping[str, Decision]
    written: tuple[str, ...]
    problems: tuple[MapProblem, ...]
    n_remade: Mapping[str, int]
    n_strangers: int
    left: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.scores:
            return "no map"
        told = f"{', '.join(self.written[:-1])} and {self.written[-1]}" if len(self.written) > 1 else self.written[0]
        counts = Counter(one.verdict for one in self.decisions.values())
        verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in get_args(Verdict) if counts[verdict])
        return f"{verdicts}; {told}" if verdicts else told

    @property
    def remarks(self) -> list[str]:
        """A line for whatever a reader would not expect."""
        lines = []
        if self.n_remade:
            reasons = [f"{reason} ({count})" for reason, count in self.n_remade.items()]
            told = ", ".join(reasons) if len(reasons) > 1 else next(iter(self.n_remade))
            lines.append(
                f"{counted('map', len(self.scores))}, {sum(self.n_remade.values())} of them made again: {told}"
            )
        if self.n_strangers:
            gone = "gone, or not asked for this time"
            lines.append(
                f"{counted('map', self.n_strangers)} of other photographs ({gone}) beside them: left as they are"
            )
        if self.left:
            lines.append(f"{', '.join(self.left)}: of an earlier run, left as they are")
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
    outputs: OutputSettings | None = None,
    batch_size: int = 1,
) -> PredictedFolder:
    """Write map and overlay of every sample, one scores.csv, and a problems.csv of the samples that have no map.

    With thresholds, decisions are written as well, and regions outlined on the overlays.

    Maps already there are kept if they were made of the same pixels by the same detector; others are made again. A
    photograph that is no image, of no size the detector takes, or gone, is a problem; its earlier map is removed. For
    `batch_size` see `Detector.predict_many`.

    Raises:
        TinyDefectsError: the folder cannot be written, or `batch_size` is too large for the detector or its GPU.
        NotFittedError: what is asked for needs thresholds, and there are none.
    """
    outputs, calibration = outputs or OutputSettings(), detector.calibration
    if outputs.needs_decisions:
        require_calibration(calibration)
    samples = with_image_bits(samples, detector.settings.image_bits)
    made_by = {"detector": detector.fingerprint, **detector.settings.model_dump(mode="json")}
    write_maker(folder, made_by)
    run = _Run(
        category_id=category_id,
        samples=samples,
        folder=folder,
        made_by=made_by,
        colour_scale=detector.colour_scale,
        calibration=calibration,
        outputs=outputs,
        progress=progress,
    )
    run.forget_tables()
    run.forget_other_outlines()
    run.keep_what_fits()
    run.predict_the_rest(detector, batch_size)
    scores = {sample.id: run.scores[sample.id] for sample in samples if sample.id in run.scores}
    problems = tuple(run.problems[sample.id] for sample in samples if sample.id in run.problems)
    decisions = {sample_id: run.decisions[sample_id] for sample_id in scores if sample_id in run.decisions}
    if scores:
        write_scores(folder / SCORES_FILE, samples, scores)
    if decisions and outputs.decisions:
        write_decisions(decided(samples, decisions), folder, outputs.decisions)
    write_problems(problems, folder / PROBLEMS_FILE)
    remade = Counter(run.outdated[sample_id] for sample_id in scores if sample_id in run.outdated)
    return PredictedFolder(
        scores=scores,
        decisions=decisions,
        written=told(len(scores), outputs, with_decisions=bool(decisions)),
        problems=problems,
        n_remade=remade,
        n_strangers=run.count_strangers(),
        left=left_from_before(folder, outputs if decisions else None),
    )


class _Made(NamedTuple):
    """What follows from the map of one photograph."""

    score: float
    decision: Decision | None


@dataclass(slots=True, kw_only=True)
class _Run:
    """One run over many photographs: which are done, which are bad, which maps are out of date and why."""

    category_id: str
    samples: Sequence[Sample]
    folder: Path
    made_by: Mapping[str, object]
    colour_scale: tuple[float, float]
    calibration: Calibration | None
    outputs: OutputSettings
    progress: Report
    scores: dict[str, float] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    problems: dict[str, MapProblem] = field(default_factory=dict)
    outdated: dict[str, str] = field(default_factory=dict)

    def maps_of(self, sample: Sample) -> list[Path]:
        return own_maps(self.folder, self.category_id, sample)

    def overlay_path(self, sample: Sample) -> Path:
        return map_path(self.folder / OVERLAYS, self.category_id, sample).with_suffix(".png")

    def forget_tables(self) -> None:
        """Those of an earlier run say nothing of this one."""
        for name in (SCORES_FILE, PROBLEMS_FILE, *TABLES):
            (self.folder / name).unlink(missing_ok=True)

    def forget_other_outlines(self) -> None:
        """Remove overlays that show regions by other levels than now: they are drawn again, of the maps that stay."""
        levels = levels_of(self.calibration)
        path, before = self.folder / OVERLAYS / LEVELS_FILE, dict[str, float]()
        if path.exists():
            before = read_as(dict[str, float], path, ResultError, kind="record of levels", way_out="delete it")
        if before == levels:
            return
        for sample in self.samples:
            self.overlay_path(sample).unlink(missing_ok=True)
        if self.outputs.overlays != "none":
            write_json(path, levels)
        else:
            path.unlink(missing_ok=True)

    def keep_what_fits(self) -> None:
        """Look at every map that is there, and read those that answer for their photograph and this detector."""
        known = [sample for sample in self.samples if self.maps_of(sample)]
        for sample, found in zip(known, read_ahead(self._kept, known), strict=True):
            if isinstance(found, _Made):
                self._note(sample, found)
            elif isinstance(found, MapProblem):
                self._give_up(sample, found)
            else:
                self.outdated[sample.id] = found

    def predict_the_rest(self, detector: Predicts, batch_size: int) -> None:
        """The next photographs are read while the detector looks at one, and maps are written behind it."""
        left = [sample for sample in self.samples if sample.id not in self.scores and sample.id not in self.problems]
        for sample, made in read_ahead(self._written, _predict_each(detector, left, batch_size, self._give_up)):
            self._note(sample, made)

    def count_strangers(self) -> int:
        """Maps in the folders of the samples that are none of theirs."""
        paths = [map_path(self.folder, self.category_id, sample) for sample in self.samples]
        own = {path.with_suffix("") for path in paths}
        tops = {path.parents[sample.id.count("/") - 1] for path, sample in zip(paths, self.samples, strict=True)}
        found = (path for top in tops for path in top.rglob("*.*") if path.suffix in SUFFIXES.values())
        return sum(path.with_suffix("") not in own for path in found if not path.name.startswith("."))

    def _note(self, sample: Sample, made: "_Made") -> None:
        self.scores[sample.id] = made.score
        if made.decision is not None:
            self.decisions[sample.id] = made.decision
        self._tell()

    def _refuse(self, sample: Sample, problem: MapProblem) -> None:
        """What lies there under the name of a bad photograph is of an earlier one."""
        self.problems[sample.id] = problem
        for path in (*self.maps_of(sample), self.overlay_path(sample)):
            path.unlink(missing_ok=True)

    def _give_up(self, sample: Sample, problem: MapProblem) -> None:
        self._refuse(sample, problem)
        self._tell()

    def _tell(self) -> None:
        self.progress("predict", len(self.scores) + len(self.problems), len(self.samples))

    def _made(self, prediction: Prediction) -> "_Made":
        decision = self.calibration.decide(prediction, self.outputs.pixel_pitch_mm) if self.calibration else None
        return _Made(prediction.score, decision)

    def _kept(self, sample: Sample) -> "_Made | MapProblem | str":
        """What follows from a map that fits, or why it does not, or what is wrong with its photograph."""
        path, form = self.maps_of(sample)[0], self.outputs.maps
        if form == "tiff" and path.suffix != SUFFIXES[form]:
            return "of 16 bits"
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
            if form == "png16" and path.suffix != SUFFIXES[form]:
                prediction = self._rounded(prediction)
                write_prediction(self.folder, self.category_id, sample, prediction, origin=origin, form=form)
            made = self._made(prediction)
            if not self.outputs.shows(made.decision):
                self.overlay_path(sample).unlink(missing_ok=True)  # of a run that wanted more of them
            elif not self.overlay_path(sample).is_file():
                self._draw(sample, sample.image(), prediction, made)
        except tuple(BAD_PHOTOGRAPH) as error:
            return _problem(sample, error)
        return made

    def _written(self, predicted: _Predicted) -> "tuple[Sample, _Made]":
        sample, image, photograph, prediction = predicted
        prediction = self._rounded(prediction)
        made = self._made(prediction)
        self.overlay_path(sample).unlink(missing_ok=True)  # it shows an earlier map
        if self.outputs.maps != "none":
            origin = Origin(photograph=photograph, made_by=self.made_by)
            write_prediction(self.folder, self.category_id, sample, prediction, origin=origin, form=self.outputs.maps)
        if self.outputs.shows(made.decision):
            self._draw(sample, image, prediction, made)
        return sample, made

    def _rounded(self, prediction: Prediction) -> Prediction:
        """As it will be read back, so that a later run decides alike."""
        if self.outputs.maps != "png16":
            return prediction
        return Prediction(as_in_png(prediction.anomaly_map), prediction.score)

    def _draw(self, sample: Sample, image: NDArray[np.uint8], prediction: Prediction, made: "_Made") -> None:
        write_png(self.overlay_path(sample), drawn(image, prediction, made.decision, self.colour_scale))


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
