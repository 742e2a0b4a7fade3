"""A fitted detector between memory and disk: what is written of it, its fingerprint, its students from weights."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from tinydefects.data.image_bits import MOST
from tinydefects.detector.model_file import DESCRIPTION_FILE, WEIGHTS_FILE, SavedDetector, SavedTeacher
from tinydefects.detector.patch_grid import whole_patches
from tinydefects.detector.precision import SIXTEEN_BITS
from tinydefects.detector.settings import DetectorSettings
from tinydefects.detector.students import StudentPair
from tinydefects.detector.teacher import Teacher
from tinydefects.errors import ModelFileError

PACKAGES = ("tinydefects", "torch", "timm", "numpy", "pillow")  # those that change numbers


def describe_fit(
    settings: DetectorSettings,
    teacher: Teacher,
    *,
    n_images: int,
    losses: list[float],
    validation_losses: list[float],
    good_level: float | None,
) -> SavedDetector:
    """The content of detector.json."""
    resolution, (earlier, later) = settings.resolution, teacher.blocks
    return SavedDetector(
        format=1,
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
        device=teacher.device,
        versions={package: version(package) for package in PACKAGES},
    )


def fingerprint_of(settings: DetectorSettings, teacher: Teacher, students: StudentPair) -> str:
    """sha256 over all that the maps depend on: settings of the passes and the photographs, teacher and students."""
    digest = hashlib.sha256(f"{settings.preset} {settings.resolution} {teacher.fingerprint}".encode())
    if not settings.is_one_pass:
        digest.update(f"tile {settings.tile} overlap {settings.overlap} stride {settings.stride}".encode())
    if settings.precision in SIXTEEN_BITS:
        digest.update(settings.precision.encode())
    if settings.image_bits != MOST:
        digest.update(f"image_bits {settings.image_bits}".encode())
    for weights in students.state_dict().values():
        digest.update(weights.cpu().contiguous().numpy())
    return digest.hexdigest()


def restore_students(
    saved: SavedDetector, weights: Mapping[str, Tensor], teacher: Teacher, *, folder: str | Path
) -> StudentPair:
    """The students from the files of that folder, on the teacher's device.

    Raises:
        ModelFileError: they were trained with another teacher than this one, or are no students of it.
    """
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
