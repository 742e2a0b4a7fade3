"""What is written of a predicted photograph: maps, overlays, scores, decisions; in which of them it appears."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.data.pixels import write_whole
from tinydefects.data.sample import Prediction, Sample
from tinydefects.data.walk import counted
from tinydefects.datasets.photographs import MASKS
from tinydefects.decisions.calibration import Calibration
from tinydefects.decisions.decision import Decision
from tinydefects.decisions.decision_files import (
    COCO_FILE,
    IMAGES_FILE,
    LINES_FILE,
    REGIONS_FILE,
    Decided,
    DecisionFormat,
    draw_outlines,
)

SCORES_FILE, PROBLEMS_FILE = "scores.csv", "problems.csv"
TABLES = (IMAGES_FILE, REGIONS_FILE, LINES_FILE, COCO_FILE)
LEVELS_FILE = "levels.json"  # beside overlays: by which levels regions are outlined there
ROWS_AT_ONCE = 256
HEAT_RGB = np.array([255, 40, 0], dtype=np.float32)


PixelPitch = Annotated[
    float | None,
    Field(
        gt=0,
        le=1e9,
        description="Millimetres a pixel, for sizes in mm; left out, as calibrated.",
        json_schema_extra={"flag": "--pixel-pitch"},
    ),
]


class OutputSettings(BaseModel):
    """What is written of each photograph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    maps: Literal["tiff", "png16", "none"] = Field(
        default="tiff",
        description="Anomaly maps of full size, 32-bit floats; png16: 16 bits, a tenth of the room; none: nothing is "
        "left to go on from.",
    )
    overlays: Literal["all", "alarms", "none"] = Field(
        default="all",
        description="Photographs with the map over them and regions outlined; alarms: of those that are not good.",
    )
    decisions: tuple[DecisionFormat, ...] = Field(
        default=("csv", "jsonl"),
        description="Verdicts and regions, once the model has thresholds. Repeatable.",
    )
    pixel_pitch_mm: PixelPitch = None

    @property
    def needs_decisions(self) -> bool:
        """Whether something is asked for that there is only with thresholds."""
        return self.overlays == "alarms" or bool(self.decisions and "decisions" in self.model_fields_set)

    def shows(self, decision: Decision | None) -> bool:
        """Whether an overlay of this photograph is wanted."""
        is_good = decision is not None and decision.verdict == "good"
        return self.overlays == "all" or (self.overlays == "alarms" and not is_good)


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


def drawn(
    image: NDArray[np.uint8], prediction: Prediction, decision: Decision | None, scale: tuple[float, float]
) -> NDArray[np.uint8]:
    """The photograph (H, W, 3) under its map, in place, with the regions of a decision outlined."""
    shown = overlay(image, prediction.anomaly_map, scale)
    return shown if decision is None else draw_outlines(shown, decision)


def levels_of(calibration: Calibration | None) -> dict[str, float]:
    """What outlines depend on; nothing where there are none."""
    if calibration is None:
        return {}
    area, extent = calibration.settings.smallest_px, calibration.extent
    half = {"good": extent.good, "patch_px": extent.patch_px} if extent.patch_px else {}
    return {"extent": extent.level, "seed": calibration.seed, "min_area_px": area, **half}


def told(count: int, outputs: OutputSettings, *, with_decisions: bool) -> tuple[str, ...]:
    """Names of what was written."""
    maps = [counted("map", count)] if outputs.maps != "none" else []
    overlays = {"all": ["overlays"], "alarms": ["overlays of alarms"], "none": []}[outputs.overlays]
    decisions = [f"decisions ({', '.join(outputs.decisions)})"] if with_decisions and outputs.decisions else []
    return (*maps, *overlays, *decisions, SCORES_FILE)


def decided(samples: Sequence[Sample], decisions: Mapping[str, Decision]) -> Iterator[Decided]:
    """The decisions with their photographs, in the order of the samples."""
    for sample in samples:
        if sample.id in decisions:
            yield Decided(id=sample.id, image_path=sample.image_path, decision=decisions[sample.id])


def left_from_before(folder: Path, outputs: OutputSettings | None) -> tuple[str, ...]:
    """Folders of decisions that lie there and are not written now; people may have worked on them."""
    written = () if outputs is None else outputs.decisions
    return tuple(name for name in (MASKS, "labelme") if name not in written and (folder / name).is_dir())


def write_scores(path: Path, samples: Sequence[Sample], scores: Mapping[str, float]) -> None:
    """One row a photograph: its id, its label and its score."""
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["image", "label", "score"])
    writer.writerows([sample.id, sample.label, scores[sample.id]] for sample in samples if sample.id in scores)
    write_whole(path, lambda file: file.write(table.getvalue().encode(errors="backslashreplace")))
