"""Where `fit` learns and saves: the place is tried first, and features stay there until the model is saved.

They lie in `OUT/.features`, in a folder for the settings that make them, so that a run that was stopped is resumed by
the next one with the same `--out`. Those of other settings make room for them.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from tinydefects.cli.options import say
from tinydefects.data.leftovers import LOCK_FILE, PREFIX, lock, present, remove, scratch_folder, size_of
from tinydefects.data.pixels import cannot_write
from tinydefects.detector.learnt import FEATURES_FOLDER, LEARNT_FILE
from tinydefects.detector.model_file import BESIDE_THEM, DETECTOR_FILES, refuse_foreign_files
from tinydefects.detector.updating import prune_features
from tinydefects.errors import ModelFileError, TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.detector.detector import Detector
    from tinydefects.detector.settings import DetectorSettings
    from tinydefects.progress import Progress

FEATURES = ".features"
DESCRIPTION_BYTES = 2**16  # more than detector.json takes
NOT_IN_FEATURES = {"steps", "epochs", "seed", "learning_rate", "patches_per_batch", "validation_fraction", "patience"}
GO_ON = "run the same command again to go on"


def require_place(out: Path) -> None:
    """Refuse a folder that cannot take a model, before anything slow begins; it is as it was after that.

    Raises:
        ModelFileError: it is a file, holds other files, or cannot be written.
    """
    with _room_in(out, n_bytes=0):
        pass


class FitPlace:
    """For the time of a fit: room for the model in `out`, and a folder for features unless the detector has one.

    Features in `out`/features stay with the model; those of an earlier model there go once it is saved over.

    Raises:
        ModelFileError: on entering, there is no room.
        KeyboardInterrupt: in place of one in the block, with a line that says how to go on.
    """

    def __init__(self, detector: "Detector", out: Path) -> None:
        self._detector = detector
        self._out = out
        self._room = contextlib.ExitStack()
        self._features: _Features | None = None

    def __enter__(self) -> Self:
        self._room.enter_context(_room_in(self._out, n_bytes=_model_bytes(self._detector)))
        if self._detector.cache_dir is None:
            with contextlib.ExitStack() as undo:
                undo.push(self._room)
                self._features = _Features(self._out / FEATURES, _key(self._detector.settings))
                undo.pop_all()
            self._detector.cache_dir = self._features.folder
        return self

    def watch(self, progress: "Progress", n_images: int) -> Callable[[str, int, int | None], None]:
        """For `Detector.fit`: shows its progress, and says before the students learn what an earlier run had left."""

        def report(stage: str, done: int, total: int | None) -> None:
            if stage == "students" and done == 1 and self._detector.n_resumed:
                progress.say(f"resumed: the features of {self._detector.n_resumed} of {n_images} images were there")
            progress(stage, done, total or n_images)

        return report

    def save(self) -> None:
        """Save the fitted detector; its features go.

        Raises:
            ModelFileError: it cannot be saved there; the message says where what was learnt lies instead.
        """
        self._room.close()
        try:
            self._detector.save(self._out)
        except TinyDefectsError as error:
            raise ModelFileError(f"{error}; {self._rescue()}") from error
        self._forget_features()
        if self._detector.cache_dir == self._out / FEATURES_FOLDER:
            prune_features(self._out)
        elif (self._out / LEARNT_FILE).exists():
            say(f"{self._out / FEATURES_FOLDER}: features of the model that was there are removed")
            remove(self._out / LEARNT_FILE)
            shutil.rmtree(self._out / FEATURES_FOLDER, ignore_errors=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept = self._features.close() if self._features else ""
        self._room.close()
        if isinstance(error, KeyboardInterrupt):
            raise type(error)("; ".join(filter(None, ["stopped", kept, GO_ON]))) from error
        if kept:
            say(f"{kept} until the next run with this --out is done")

    def _rescue(self) -> str:
        for parent in (Path(tempfile.gettempdir()), Path.cwd()):
            folder = parent / f"tinydefects-model-{secrets.token_hex(4)}"
            with contextlib.suppress(TinyDefectsError):
                self._detector.save(folder)
                self._forget_features()
                return f"the model was saved as {folder} instead: move it"
        return f"nor anywhere else; {GO_ON}"

    def _forget_features(self) -> None:
        if self._features:
            self._features.forget()
            self._features = None


class _Features:
    """The folder of the features of one kind below `place`, in use until `close` or `forget`."""

    def __init__(self, place: Path, key: str) -> None:
        self._place = place
        self.folder = place / key
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock: IO[bytes] = (place / LOCK_FILE).open("ab")
        except OSError as error:
            raise ModelFileError(cannot_write(place, error)) from error
        if lock(self._lock) is not False:  # nobody else learns into the same place
            for other in place.iterdir():
                if other.name not in {LOCK_FILE, key}:
                    say(f"{other}: {size_of(other) / 1e9:.3g} GB of features for other settings are removed")
                    remove(other)
        lock(self._lock, shared=True)

    def close(self) -> str:
        """Leave them there, and say so; nothing is said, and nothing left, where there are none."""
        n_files = sum(1 for _ in self.folder.rglob("*.npy"))
        if not n_files:
            self.forget()
            return ""
        self._lock.close()
        return f"{size_of(self.folder) / 1e9:.3g} GB of teacher features stay in {self.folder}"

    def forget(self) -> None:
        """Remove them, unless another run uses them."""
        is_alone = lock(self._lock) is not False
        self._lock.close()
        if is_alone:
            doomed = self._place.with_name(f"{PREFIX}{secrets.token_hex(6)}")
            with contextlib.suppress(OSError):
                remove(self._place.rename(doomed))


@contextlib.contextmanager
def _room_in(out: Path, *, n_bytes: int) -> Iterator[None]:
    """So many bytes of the disk are taken in the folder, for as long as the block runs."""
    refuse_foreign_files(out, DETECTOR_FILES | BESIDE_THEM)
    with contextlib.ExitStack() as taken:
        try:
            taken.enter_context(present(out))
            (taken.enter_context(scratch_folder(out)) / "room").write_bytes(bytes(n_bytes))
        except OSError as error:
            raise ModelFileError(cannot_write(out, error)) from error
        yield


def _model_bytes(detector: "Detector") -> int:
    from tinydefects.detector.students import StudentPair

    n_bytes = DESCRIPTION_BYTES
    for weights in StudentPair(detector.teacher.dim).parameters():
        n_bytes += weights.numel() * weights.element_size()
    return n_bytes


def _key(settings: "DetectorSettings") -> str:
    """A name for all settings that features depend on."""
    asked = settings.model_dump(mode="json", exclude=NOT_IN_FEATURES)
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
