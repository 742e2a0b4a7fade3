"""What a detector has learnt from, photograph by photograph, and where the teacher's features of each lie.

A model that keeps them can learn from more photographs later without showing the teacher the old ones again, see
`updating`. The record belongs to one detector, by its fingerprint.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.json_files import read_as
from tinydefects.decisions.drift import PictureRecord
from tinydefects.errors import ModelFileError

LEARNT_FILE = "learnt.json"
FEATURES_FOLDER, HISTORY_FOLDER = "features", "history"  # in a model's folder, beside its files
Unseen = Literal["folds", "held out"]
FORM = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LearntPhotograph(BaseModel):
    """One photograph.

    Attributes:
        id: what it is called; `part` is what it shows, where several show one.
        height, width: in pixels.
        pixels_sha256: by which it is known when it comes again.
        picture: what it is like, for drift monitors; None where no thresholds were taken.
        features: files of its passes below the folder of features, in their order.
    """

    model_config = FORM

    id: str
    part: str | None
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    pixels_sha256: str
    picture: PictureRecord | None = None
    features: tuple[str, ...]


class Learnt(BaseModel):
    """The content of learnt.json: of which detector, how its thresholds were taken (None: not), and photographs."""

    model_config = FORM

    format: Literal[1] = 1
    fingerprint: str
    unseen: Unseen | None
    photographs: tuple[LearntPhotograph, ...] = Field(min_length=1)


def read_learnt(model: Path) -> Learnt:
    """The record in a model's folder.

    Raises:
        ModelFileError: there is none, or it is damaged.
    """
    path = model / LEARNT_FILE
    if not path.exists():
        raise ModelFileError(f"{model}: keeps no features; fit once more with --keep-features, then update that")
    return read_as(Learnt, path, ModelFileError, kind="record of what was learnt", way_out="fit again")
