"""A fitted detector on disk: a folder of model.safetensors (the students) and detector.json (everything else).

No pickle and no teacher weights; the teacher is named and recognised by its fingerprint. torch is imported only where
weights are read or written: exported detectors use the settings without it.
"""

import math
import shutil
import tempfile
from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from tinydefects.errors import ModelFileError, TinyDefectsError
from tinydefects.passes import PassPlan, plan_passes
from tinydefects.patch_grid import PatchGrid, Size
from tinydefects.sample import mean_of_highest
from tinydefects.walk import is_stray

if TYPE_CHECKING:
    from torch import Tensor

Preset = Literal["default", "published"]
Precision = Literal["highest", "float32", "bfloat16", "float16"]
SCORED_SHARE = 0.001  # the image score is the mean of the highest 0.1 % of the map
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "detector.json"


def _resolution(value: object) -> int | Literal["native"]:
    if value == "native":
        return "native"
    if type(value) is int and value > 0:
        return value
    raise PydanticCustomError("resolution", "Input should be greater than 0 and whole, or 'native'")


class DetectorSettings(BaseModel):
    """What a detector was told; see `Detector` for each setting."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    teacher: str
    blocks: tuple[int, int] | None
    resolution: Annotated[int | Literal["native"], PlainValidator(_resolution)]
    epochs: int = Field(gt=0)
    seed: int = Field(ge=0)
    preset: Preset
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    precision: Precision = "float32"
    patches_per_batch: int | None = Field(default=None, gt=0)
    tile: int | None = Field(default=None, gt=0)
    overlap: int | None = Field(default=None, ge=0)
    stride: int | None = Field(default=None, gt=0)
    validation_fraction: float | None = Field(default=None, gt=0, lt=1)
    patience: int | None = Field(default=None, gt=0)
    patch_fraction: float | None = Field(default=None, gt=0, le=1)

    @property
    def is_one_pass(self) -> bool:
        """Whether the teacher sees each image once, whole: neither tiles nor shifts."""
        return self.tile is None and self.stride is None

    def grid(self, size: Size, *, patch: int) -> PatchGrid:
        """How an image of (H, W) pixels is divided into patches of `patch` pixels."""
        if self.resolution == "native":
            return PatchGrid.native(size, patch=patch)
        make = PatchGrid.published if self.preset == "published" else PatchGrid.proportional
        return make(size, patch=patch, resolution=self.resolution)

    def passes(self, size: Size, *, patch: int) -> PassPlan:
        """In which passes the teacher sees an image of (H, W) pixels: one, or tiles and shifts."""
        return plan_passes(self.grid(size, patch=patch), tile=self.tile, overlap=self.overlap, stride=self.stride)


def image_score(anomaly_map: NDArray[np.float32], *, preset: Preset = "default") -> float:
    """Mean of the highest 0.1 % of an (H, W) map, at least one pixel; as published nan below 1000 pixels."""
    if preset == "published" and int(anomaly_map.size * SCORED_SHARE) == 0:
        return math.nan
    return mean_of_highest(anomaly_map, SCORED_SHARE)


def refuse_contradictions(settings: DetectorSettings) -> None:
    """Raise a TinyDefectsError if two settings exclude each other."""
    if settings.tile is None and settings.overlap is not None:
        raise TinyDefectsError(
            f"an overlap of {settings.overlap} px is that of tiles: give a tile (--tile), too, or leave it out"
        )
    if settings.validation_fraction is None and settings.patience is not None:
        raise TinyDefectsError(
            f"a patience of {settings.patience} epochs looks at held-out images: give a validation_fraction "
            "(--validation-fraction), too, or leave it out"
        )
    if settings.preset == "published" and (settings.resolution == "native" or not settings.is_one_pass):
        raise TinyDefectsError(
            "the preset published is one pass over a square: leave out tile, stride and a native resolution, "
            "or take the preset default"
        )
    if settings.preset == "published" and (settings.validation_fraction or settings.patch_fraction):
        raise TinyDefectsError(
            "the preset published learns from every patch of every image, for all epochs: leave out "
            "validation_fraction and patch_fraction, or take the preset default"
        )


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
        resolution_px: long side of the image as the teacher sees it, the asked-for resolution rounded to whole
            patches; None is the image's own.
        n_images: training images.
        losses: mean training loss of every finished epoch.
        validation_losses: of the held-out images after each of them; none if nothing was held out.
        device: where the students were trained.
        versions: of this package and those that change numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    settings: DetectorSettings
    teacher: SavedTeacher
    resolution_px: int | None = Field(gt=0)
    n_images: int = Field(gt=0)
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...] = ()
    device: str
    versions: dict[str, str]


def write_detector(folder: Path, saved: SavedDetector, weights: "dict[str, Tensor]") -> None:
    """The folder of a detector, whole or not at all.

    Raises:
        ModelFileError: the folder holds other files, or cannot be written.
    """
    from safetensors.torch import save_file

    def write(new: Path) -> None:
        save_file(weights, new / WEIGHTS_FILE)
        (new / DESCRIPTION_FILE).write_text(saved.model_dump_json(indent=2) + "\n", encoding="utf-8")

    replace_folder(folder, write, own_files={WEIGHTS_FILE, DESCRIPTION_FILE})


def replace_folder(folder: Path, write: Callable[[Path], object], *, own_files: Set[str]) -> None:
    """Let `write` fill a temporary neighbour, then rename it: two models are never mixed, half a one never counts.

    Raises:
        ModelFileError: the folder holds files other than `own_files`, or cannot be written.
    """
    folder = folder.absolute()
    try:
        _refuse_foreign_files(folder, own_files)
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            new = temporary / "new"
            new.mkdir()
            write(new)
            _swap(new, folder, temporary / "old")
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or error
        raise ModelFileError(f"{folder}: cannot write ({reason}); free space or choose another folder") from error


def read_detector(folder: Path) -> "tuple[SavedDetector, dict[str, Tensor]]":
    """The description and the students' weights, on the CPU.

    Raises:
        ModelFileError: a file is missing, damaged or says something impossible.
    """
    from safetensors.torch import load_file

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


def _refuse_foreign_files(folder: Path, own_files: Set[str]) -> None:
    if not folder.exists():
        return
    foreign = sorted({path.name for path in folder.iterdir() if not is_stray(path.name)} - own_files)
    if foreign:
        raise ModelFileError(f"{folder}: holds {foreign[0]}, which is no part of a detector; choose another folder")
