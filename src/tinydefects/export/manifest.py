"""What an exported folder says of itself, in export.json: how it was made, how it was checked, how to feed it.

The manifest holds a sha256 of every file beside it, so a truncated or exchanged file is never run. A digest protects
from damage, not from strangers; for that, both formats hold numbers and named operations, no code.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.json_files import read_as
from tinydefects.data.leftovers import settle
from tinydefects.data.walk import EXPORT_FILE
from tinydefects.detector.model_file import FOLDER_SET
from tinydefects.detector.settings import DetectorSettings, in_todays_words
from tinydefects.errors import ModelFileError

Target = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Session = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], ...]]  # an opened model: one batch to its outputs
MODEL_FILES: dict[Target, tuple[str, ...]] = {
    "onnx": ("model.onnx",),
    "openvino": ("model.xml", "model.bin"),
}
FLOAT32_PARTS = ("resize", "draw")  # what the graph for one image size has around its networks
TORCH_FILE = "model.pt2"  # of an earlier version; opening one unpickles it and evaluates its shapes as Python
OWN_FILES = {EXPORT_FILE, TORCH_FILE, "model.onnx.data", *(name for names in MODEL_FILES.values() for name in names)}


class EqualityCheck(BaseModel):
    """How far the exported maps are from the detector's own, on images of noise.

    Attributes:
        image_sizes: (height, width) of the noise images.
        map_difference: largest difference between two maps, as a share of the highest value of the detector's map.
        score_difference: the same for the image scores, as a share of the detector's score.
        tolerance: neither may exceed it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image_sizes: tuple[tuple[int, int], ...]
    map_difference: float = Field(ge=0)
    score_difference: float = Field(ge=0)
    tolerance: float = Field(gt=0)


class Calibration(BaseModel):
    """The defect-free images that int8 ranges come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    category: str
    n_images: int = Field(gt=0)


class Interface(BaseModel):
    """What a model is fed and what it answers.

    Attributes:
        image_size: (height, width) that it is for, image to map and score; None: any size, resized pixels to patch
            scores, and resize and map are done around it.
        patch_size: of the teacher, in pixels.
        settings: of the detector it was made from; see `Detector`.
        mean: of R, G, B in [0, 1], subtracted inside the model; `std`: what it is then divided by.
        good_level: what the highest patch score of a good image usually is; None in exports of version 0.1.0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    image_size: tuple[int, int] | None
    patch_size: int = Field(gt=0)
    settings: DetectorSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]
    good_level: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class ExportManifest(BaseModel):
    """The content of export.json.

    Attributes:
        detector: fingerprint of the detector it was made from.
        files: sha256 of every other file of the folder.
        learnt: as in detector.json; none in older exports.
        versions: of the packages that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1, 2]
    target: Target
    precision: Precision
    detector: str
    interface: Interface
    calibration: Calibration | None
    check: EqualityCheck
    files: dict[str, str]
    learnt: tuple[str, ...] = ()
    versions: dict[str, str]


def is_export(folder: Path) -> bool:
    """Whether `export` wrote this folder."""
    settle(folder, FOLDER_SET)
    return (folder / EXPORT_FILE).is_file()


def read_manifest(folder: Path) -> ExportManifest:
    """The manifest of a folder all of whose files are whole.

    Raises:
        ModelFileError: a file is missing, damaged or not the one that was written.
    """
    path = folder / EXPORT_FILE
    if not is_export(folder):
        raise ModelFileError(f"{path}: no such file; give the folder that `tinydefects export` wrote")
    if (folder / TORCH_FILE).exists():
        raise ModelFileError(
            f"{folder / TORCH_FILE}: not opened, because files of this kind can run code; models are exported to "
            f"{' or '.join(MODEL_FILES)}: export the detector again"
        )
    manifest = read_as(ExportManifest, path, ModelFileError, kind="export", way_out="export the detector again")
    present = {name for name in OWN_FILES - {EXPORT_FILE} if (folder / name).exists()}
    needed = present.union(MODEL_FILES[manifest.target])
    unknown = sorted(needed - manifest.files.keys())
    if unknown:
        raise ModelFileError(f"{path}: has no sha256 of {unknown[0]}; export the detector again")
    for name, expected in manifest.files.items():
        if name not in OWN_FILES or not (folder / name).is_file():
            raise ModelFileError(f"{folder / name}: no such file; export the detector again")
        if sha256(folder / name) != expected:
            raise ModelFileError(f"{folder / name}: not the file that was exported; copy it again or export again")
    settings = in_todays_words(manifest.interface.settings, file_format=manifest.format)
    interface = manifest.interface.model_copy(update={"settings": settings})
    return manifest.model_copy(update={"interface": interface})


def sha256(path: Path) -> str:
    """The digest of a file, in hex; read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
