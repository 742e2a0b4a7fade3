"""A fitted detector on disk: a folder of model.safetensors (the students) and detector.json (everything else).

No pickle and no teacher weights; the teacher is named and recognised by its fingerprint.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinydefects.errors import ModelFileError

Preset = Literal["default", "published"]
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "detector.json"


class DetectorSettings(BaseModel):
    """What a detector was told; see `Detector` for each setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    teacher: str
    blocks: tuple[int, int] | None
    resolution: int = Field(gt=0)
    epochs: int = Field(gt=0)
    seed: int = Field(ge=0)
    preset: Preset
    learning_rate: float = Field(gt=0, allow_inf_nan=False)


class SavedTeacher(BaseModel):
    """Which teacher the students were trained on; see `Teacher`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    fingerprint: str
    patch_size: int = Field(gt=0)
    dim: int = Field(gt=0)
    blocks: tuple[int, int]


class SavedDetector(BaseModel):
    """The content of detector.json.

    Attributes:
        resolution_px: long side of what the teacher sees, the asked-for resolution rounded to whole patches.
        n_images: training images.
        losses: mean training loss of every finished epoch.
        device: where the students were trained.
        versions: of this package and those that change numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    settings: DetectorSettings
    teacher: SavedTeacher
    resolution_px: int = Field(gt=0)
    n_images: int = Field(gt=0)
    losses: tuple[float, ...]
    device: str
    versions: dict[str, str]


def write_detector(folder: Path, saved: SavedDetector, weights: dict[str, Tensor]) -> None:
    """Fill a temporary neighbour, then rename it: two detectors are never mixed, half a one never counts.

    Raises:
        ModelFileError: the folder holds other files, or cannot be written.
    """
    folder = folder.absolute()
    try:
        _refuse_foreign_files(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            new = temporary / "new"
            new.mkdir()
            save_file(weights, new / WEIGHTS_FILE)
            (new / DESCRIPTION_FILE).write_text(saved.model_dump_json(indent=2) + "\n", encoding="utf-8")
            _swap(new, folder, temporary / "old")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise ModelFileError(f"{folder}: cannot write ({reason}); free space or choose another folder") from error


def read_detector(folder: Path) -> tuple[SavedDetector, dict[str, Tensor]]:
    """The description and the students' weights, on the CPU.

    Raises:
        ModelFileError: a file is missing, damaged or says something impossible.
    """
    description, weights = folder / DESCRIPTION_FILE, folder / WEIGHTS_FILE
    for file in (description, weights):
        if not file.is_file():
            raise ModelFileError(f"{file}: no such file; give the folder that Detector.save() or `fit --out` wrote")
    try:
        saved = SavedDetector.model_validate_json(description.read_bytes())
    except ValidationError as error:
        raise ModelFileError(f"{description}: {first_fault(error)}; save the detector again") from error
    try:
        return saved, load_file(weights)
    except Exception as error:  # safetensors raises as it comes on damaged files
        raise ModelFileError(f"{weights}: not readable ({error}); save the detector again") from error


def first_fault(error: ValidationError) -> str:
    """Field, rule and value of the first thing wrong, in one line."""
    fault = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, fault["loc"])) or "file"
    return f"{field}: {fault['msg']} (got {str(fault['input'])[:60]!r})"


def _swap(new: Path, folder: Path, old: Path) -> None:
    replaces = folder.exists()
    if replaces:
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if replaces:
            old.rename(folder)
        raise


def _refuse_foreign_files(folder: Path) -> None:
    if not folder.exists():
        return
    foreign = sorted({path.name for path in folder.iterdir()} - {WEIGHTS_FILE, DESCRIPTION_FILE})
    if foreign:
        raise ModelFileError(f"{folder}: holds {foreign[0]}, which is no part of a detector; choose another folder")
