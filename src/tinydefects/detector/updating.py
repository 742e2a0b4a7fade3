"""Models that learn on: the old one goes to MODEL/history/NNNN before a new one takes its place, and can come back.

A model's files change together or not at all. What is in the history is never changed; features lie in MODEL/features
for the model and for all of its history.
"""

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinydefects.data.leftovers import LOCK_FILE, lock, scratch_folder, settle, tell
from tinydefects.data.pixels import cannot_write
from tinydefects.decisions.calibration import CalibrationSettings
from tinydefects.detector.deciding import calibration_in
from tinydefects.detector.learnt import (
    FEATURES_FOLDER,
    HISTORY_FOLDER,
    LEARNT_FILE,
    Learnt,
    LearntPhotograph,
    read_learnt,
)
from tinydefects.detector.model_file import (
    BESIDE_THEM,
    DESCRIPTION_FILE,
    DETECTOR_FILES,
    FOLDER_SET,
    read_detector,
    replace_folder,
)
from tinydefects.errors import ModelFileError

if TYPE_CHECKING:
    from tinydefects.data.images import ImageLike
    from tinydefects.data.sample import Sample
    from tinydefects.detector.detector import Detector
    from tinydefects.progress import Report

SINGLE_FILES = DETECTOR_FILES | {LEARNT_FILE}


def learnt_by(model: Path, detector: "Detector") -> Learnt:
    """What a detector in a folder has learnt from.

    Raises:
        ModelFileError: no features are kept there, or those of another detector.
    """
    learnt = read_learnt(model)
    if learnt.fingerprint != detector.fingerprint:
        raise ModelFileError(
            f"{model / LEARNT_FILE}: belongs to another detector than this one; fit once more with --keep-features"
        )
    return learnt


def not_yet_learnt(samples: "Sequence[Sample]", learnt: Sequence[LearntPhotograph], image_bits: int) -> "list[Sample]":
    """Those whose pixels are not those of a photograph that was learnt, nor of another one of them."""
    from tinydefects.data.images import Images
    from tinydefects.data.map_files import pixels_sha256

    known, new = {one.pixels_sha256 for one in learnt}, []
    for sample, image in zip(samples, Images(samples, bits=image_bits), strict=True):
        digest = pixels_sha256(image)
        if digest not in known:
            new.append(sample)
        known.add(digest)
    return new


def learn_on(
    old: "Detector",
    model: Path,
    images: "Sequence[ImageLike]",
    report: "Report | bool",
    limit_gb: float = 20.0,
    say: Callable[[str], object] = tell,
) -> "Detector":
    """A detector like the old one that has learnt from its photographs and these; the teacher sees only these.

    Thresholds are taken anew, as they were by the fit, under the wishes that are in force; `say` is called with a line
    about those that are not.

    Raises:
        TinyDefectsError: as `Detector.fit` says, or features of old photographs are not there.
    """
    from tinydefects.detector.detector import Detector

    learnt = learnt_by(model, old)
    new = Detector(
        old.settings,
        teacher=old.teacher,
        device=old.device,
        compiled=old.compiled,
        cache_dir=model / FEATURES_FOLDER,
        cache_limit_gb=limit_gb,
    )
    return new.fit(
        images,
        calibration=_wishes(old, learnt, say),
        unseen=learnt.unseen or "held out",
        learnt=learnt.photographs,
        progress=report,
    )


def _wishes(old: "Detector", learnt: Learnt, say: Callable[[str], object]) -> CalibrationSettings | None:
    known = old.calibration
    if learnt.unseen is None:
        if known is not None:
            say("thresholds belong to the old model: take them anew with 'tinydefects calibrate'")
        return None
    if known is None:
        return CalibrationSettings()
    if known.obtained == "fresh":
        say("thresholds follow from photographs that students have not seen, no longer from those given to 'calibrate'")
    by_hand = [name for name in ("image_threshold", "region_threshold") if getattr(known.settings, name) is not None]
    if by_hand:
        say(f"{', '.join(by_hand)}: given by hand for the old model, and left out")
    return known.settings.with_changes(**dict.fromkeys(by_hand))


@contextlib.contextmanager
def alone_in(model: Path) -> Iterator[None]:
    """Nobody else updates this model in the block; what a killed run has finished is in its place.

    Raises:
        ModelFileError: somebody does, or the folder cannot be written.
    """
    settle(model, FOLDER_SET)
    history = model / HISTORY_FOLDER
    try:
        if not (model / DESCRIPTION_FILE).is_file():
            raise ModelFileError(f"{model}: holds no detector; give the folder that `fit --keep-features` wrote")
        history.mkdir(exist_ok=True)
        file = (history / LOCK_FILE).open("ab")
    except OSError as error:
        raise ModelFileError(cannot_write(model, error)) from error
    with file:
        if lock(file) is False:
            raise ModelFileError(f"{model}: another run updates it; wait for that one")
        yield


def store(model: Path) -> Path:
    """Copy the model's files to MODEL/history/NNNN; the folder that holds them, which may be there already.

    Raises:
        ModelFileError: it cannot be written.
    """
    history, same = model / HISTORY_FOLDER, stored_as(model)
    if same:
        return same
    names = [name for name in sorted(SINGLE_FILES) if (model / name).is_file()]
    stored = versions_of(model)
    target = history / f"{max(stored, default=0) + 1:04d}"
    try:
        history.mkdir(exist_ok=True)
        with scratch_folder(history) as new:
            for name in names:
                shutil.copy2(model / name, new / name)
            new.rename(target)
    except OSError as error:
        raise ModelFileError(cannot_write(target, error)) from error
    return target


def put_in_place(model: Path, detector: "Detector") -> Path:
    """Save a detector over the model, which goes to the history first; the folder there. Features of neither go.

    Raises:
        ModelFileError: the folder cannot be written.
    """
    kept = store(model)
    detector.save(model)
    prune_features(model)
    return kept


def versions_of(model: Path) -> dict[int, Path]:
    """The folders of the history by number, the oldest first."""
    history = model / HISTORY_FOLDER
    found = {int(path.name): path for path in history.iterdir() if path.name.isdecimal()} if history.is_dir() else {}
    return dict(sorted(found.items()))


def stored_as(model: Path) -> Path | None:
    """The latest folder of the history with the very files of the model; None where it was not kept yet."""
    content = {name: (model / name).read_bytes() for name in SINGLE_FILES if (model / name).is_file()}
    for folder in reversed(versions_of(model).values()):
        if {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == content:
            return folder
    return None


def version_to_go_back_to(model: Path, number: int | None) -> Path:
    """The folder of the history with that number, for None the latest other than the current model; it is looked at.

    Raises:
        ModelFileError, ResultError: there is no such model, or it is damaged.
    """
    known, current = versions_of(model), stored_as(model)
    others = [other for other, folder in known.items() if folder != current]
    if number is None and others:
        number = max(others)
    if number is None or number not in known:
        there = ", ".join(map(str, known)) or "none"
        raise ModelFileError(f"{model / HISTORY_FOLDER}: has no model {number or ''} to go back to; there are {there}")
    chosen = known[number]
    read_detector(chosen)
    calibration_in(chosen)
    if (chosen / LEARNT_FILE).exists():
        read_learnt(chosen)
    return chosen


def roll_back(model: Path, number: int | None) -> tuple[Path, Path]:
    """Put a model of the history in place, see `version_to_go_back_to`; that one, and where the current one now lies.

    Raises:
        ModelFileError, ResultError: there is no such model, it is damaged, or the folder cannot be written.
    """
    chosen = version_to_go_back_to(model, number)
    kept = store(model)

    def write(new: Path) -> None:
        for path in chosen.iterdir():
            shutil.copy2(path, new / path.name)

    replace_folder(model, write, own_files=DETECTOR_FILES, beside=BESIDE_THEM)
    return chosen, kept


def prune_features(model: Path) -> None:
    """Remove features that neither the model nor its history has learnt from; a damaged record stops it."""
    kept: set[str] = set()
    for folder in (model, *versions_of(model).values()):
        if (folder / LEARNT_FILE).exists():
            kept |= {name for one in read_learnt(folder).photographs for name in one.features}
    features = model / FEATURES_FOLDER
    for path in list(features.rglob("*.npy")):
        if path.relative_to(features).as_posix() not in kept:
            path.unlink(missing_ok=True)
