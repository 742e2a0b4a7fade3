"""A fitted detector between memory and disk: a folder of model.safetensors (the students) and detector.json (the rest).

No pickle and no teacher weights; the teacher is named and recognised by its fingerprint. torch is imported only where
weights are read or written: exported detectors use the settings without it.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Set
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.images import ALL_BITS
from tinydefects.data.json_files import read_as, write_json
from tinydefects.data.leftovers import replace_together, settle
from tinydefects.data.pixels import cannot_write
from tinydefects.data.walk import SYSTEM_NAMES
from tinydefects.decisions.calibration import CALIBRATION_FILE, Calibration, write_calibration
from tinydefects.detector.learnt import FEATURES_FOLDER, HISTORY_FOLDER, LEARNT_FILE, Learnt
from tinydefects.detector.patch_grid import whole_patches
from tinydefects.detector.settings import DetectorSettings, TeacherName, in_todays_words
from tinydefects.errors import ModelFileError

if TYPE_CHECKING:
    from torch import Tensor

    from tinydefects.detector.students import StudentPair
    from tinydefects.detector.teacher import Teacher

PACKAGES = ("tinydefects", "torch", "timm", "numpy", "pillow")  # those that change numbers
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "detector.json"
DETECTOR_FILES = frozenset({WEIGHTS_FILE, DESCRIPTION_FILE, CALIBRATION_FILE})
BESIDE_THEM = frozenset({LEARNT_FILE, FEATURES_FOLDER, HISTORY_FOLDER})  # stay when a model is saved over another
FOLDER_SET = "folder"  # all files of a model's folder are one set, see `together`


class SavedTeacher(BaseModel):
    """Which teacher the students were trained on; see `Teacher`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: TeacherName
    fingerprint: str
    patch_size: int = Field(gt=0)
    dim: int = Field(gt=0)
    blocks: tuple[int, int]


class SavedDetector(BaseModel):
    """The content of detector.json.

    Attributes:
        resolution_px: long side of the image as the teacher sees it, the asked-for resolution rounded to whole
            patches; None is the image's own.
        n_images: training images.
        losses: mean training loss of every finished epoch.
        validation_losses: of the held-out images after each of them; none if nothing was held out.
        good_level: what the highest patch score of a good image usually is; None in models of version 0.1.0.
        learnt: digests of the photographs that the students know, see `deciding.learnt_of`; none in older models.
        device: where the students were trained.
        weights_sha256: of model.safetensors; None in models of version 0.1.0, whose weights cannot be checked.
        versions: of this package and those that change numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1, 2]
    settings: DetectorSettings
    teacher: SavedTeacher
    resolution_px: int | None = Field(gt=0)
    n_images: int = Field(gt=0)
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...] = ()
    good_level: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    learnt: tuple[str, ...] = ()
    device: str
    versions: dict[str, str]
    weights_sha256: str | None = None


def describe_fit(
    settings: DetectorSettings,
    teacher: "Teacher",
    *,
    n_images: int,
    losses: list[float],
    validation_losses: list[float],
    good_level: float | None,
    learnt: Iterable[str],
) -> SavedDetector:
    """The content of detector.json."""
    resolution, (earlier, later) = settings.resolution, teacher.blocks
    return SavedDetector(
        format=2,
        settings=settings,
        teacher=SavedTeacher(
            name=teacher.name,
            fingerprint=teacher.fingerprint,
            patch_size=teacher.patch_size,
            dim=teacher.dim,
            blocks=(earlier, later),
        ),
        resolution_px=None if resolution == "native" else whole_patches(resolution, teacher.patch_size),
        n_images=n_images,
        losses=tuple(losses),
        validation_losses=tuple(validation_losses),
        good_level=good_level,
        learnt=tuple(sorted(learnt)),
        device=teacher.device,
        versions={package: version(package) for package in PACKAGES},
    )


def fingerprint_of(settings: DetectorSettings, teacher: "Teacher", students: "StudentPair") -> str:
    """sha256 over all that the maps depend on: settings of the passes and the photographs, teacher and students."""
    # What is called v0.1 now had the name of the default, in fingerprints that calibrations go by.
    name = {"default": "unblurred", "v0.1": "default"}.get(settings.preset, settings.preset)
    digest = hashlib.sha256(f"{name} {settings.resolution} {teacher.fingerprint}".encode())
    if not settings.is_one_pass:
        digest.update(f"tile {settings.tile} overlap {settings.overlap} stride {settings.stride}".encode())
    if settings.precision in {"bfloat16", "float16"}:
        digest.update(settings.precision.encode())
    if settings.image_bits != ALL_BITS:
        digest.update(f"image_bits {settings.image_bits}".encode())
    for weights in students.state_dict().values():
        digest.update(weights.cpu().contiguous().numpy())
    return digest.hexdigest()


def restore_students(
    saved: SavedDetector, weights: "Mapping[str, Tensor]", teacher: "Teacher", *, folder: str | Path
) -> "StudentPair":
    """The students from the files of that folder, on the teacher's device.

    Raises:
        ModelFileError: they were trained with another teacher than this one, or are no students of it.
    """
    from tinydefects.detector.students import StudentPair

    if teacher.fingerprint != saved.teacher.fingerprint:
        raise ModelFileError(
            f"{folder}: trained with {saved.teacher.name} of fingerprint {saved.teacher.fingerprint[:12]}, this is "
            f"{teacher.fingerprint[:12]}: give the weights file it was trained with, or fit again"
        )
    for name in ("patch_size", "dim", "blocks"):
        said, is_so = getattr(saved.teacher, name), getattr(teacher, name)
        if said != is_so:
            raise ModelFileError(
                f"{folder}/{DESCRIPTION_FILE}: teacher.{name} is {said}, that of {teacher.name} is {is_so}; "
                "copy the folder again or fit again"
            )
    students = StudentPair(teacher.dim)
    try:
        students.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelFileError(
            f"{folder}/{WEIGHTS_FILE}: no students of {saved.teacher.name}; copy the folder again or fit again"
        ) from error
    return students.to(teacher.device)


def write_detector(
    folder: Path,
    saved: SavedDetector,
    weights: "dict[str, Tensor]",
    calibration: Calibration | None = None,
    learnt: Learnt | None = None,
) -> None:
    """The folder of a detector, whole or not at all; the digest of the weights is added to what is saved.

    Without a calibration, that of an earlier detector goes.

    Raises:
        ModelFileError: the folder holds other files, or cannot be written.
    """
    from safetensors.torch import save  # save_file writes for this user alone, and raises as it comes on a full disk

    def write(new: Path) -> None:
        content = save(weights)
        described = saved.model_copy(update={"weights_sha256": hashlib.sha256(content).hexdigest()})
        (new / WEIGHTS_FILE).write_bytes(content)
        (new / DESCRIPTION_FILE).write_text(described.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if calibration is not None:
            write_calibration(new / CALIBRATION_FILE, calibration)
        if learnt is not None:
            write_json(new / LEARNT_FILE, learnt)

    replace_folder(folder, write, own_files=DETECTOR_FILES, beside=BESIDE_THEM)


def replace_folder(
    folder: Path, write: Callable[[Path], object], *, own_files: Set[str], beside: Set[str] = frozenset()
) -> None:
    """Let `write` fill a new folder, whose files then replace those of `folder`: two models are never mixed.

    What is called like those `beside` stays. Readers call `settle(folder, FOLDER_SET)` first, see `together`.

    Raises:
        ModelFileError: the folder holds files other than `own_files`, or cannot be written.
    """
    folder = folder.absolute()
    try:
        refuse_foreign_files(folder, own_files | beside)
        replace_together(folder, FOLDER_SET, write, gone=own_files)
    except OSError as error:
        raise ModelFileError(cannot_write(folder, error)) from error


def refuse_foreign_files(folder: Path, own_files: Set[str]) -> None:
    """Raise a ModelFileError if there is anything but `own_files` and hidden files, or no folder at all but a file."""
    if folder.exists() and not folder.is_dir():
        raise ModelFileError(f"{folder}: is a file; give the name of a folder")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    foreign = sorted(
        name for name in names - own_files if not name.startswith(".") and name.lower() not in SYSTEM_NAMES
    )
    if foreign:
        raise ModelFileError(f"{folder}: holds {foreign[0]}, which is no part of a detector; choose another folder")


def read_detector(folder: Path) -> "tuple[SavedDetector, dict[str, Tensor]]":
    """The description and the students' weights, on the CPU.

    Raises:
        ModelFileError: a file is missing, damaged or says something impossible.
    """
    settle(folder, FOLDER_SET)
    description, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
    for file in (description, weights):
        if not file.is_file():
            raise ModelFileError(f"{file}: no such file; give the folder that Detector.save() or `fit --out` wrote")
    saved = read_as(SavedDetector, description, ModelFileError, kind="detector", way_out="save the detector again")
    if saved.settings.teacher != saved.teacher.name:
        raise ModelFileError(
            f"{description}: teacher.name is {saved.teacher.name}, settings.teacher is {saved.settings.teacher}; "
            "copy the folder again or fit again"
        )
    settings = in_todays_words(saved.settings, file_format=saved.format)
    return saved.model_copy(update={"settings": settings}), _read_weights(weights, saved.weights_sha256)


def _read_weights(path: Path, expected: str | None) -> "dict[str, Tensor]":
    """The numbers of a file, once it is the one that was saved and all of them are finite."""
    from safetensors.torch import load

    content = path.read_bytes()
    if expected is None:
        sys.stderr.write(f"{path}: saved without a digest, as by version 0.1.0: damage to it may go unseen\n")
    elif hashlib.sha256(content).hexdigest() != expected:
        raise ModelFileError(
            f"{path}: not the weights that were saved with {DESCRIPTION_FILE}; copy the folder again or fit again"
        )
    try:
        weights = load(content)
    except Exception as error:  # safetensors raises as it comes on damaged files
        raise ModelFileError(f"{path}: not readable ({error}); save the detector again") from error
    for name, values in weights.items():
        if str(values.dtype) != "torch.float32" or not values.isfinite().all():
            raise ModelFileError(f"{path}: {name} is not of finite float32 numbers; copy the folder again or fit again")
    return weights
