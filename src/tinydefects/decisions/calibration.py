"""The record from which thresholds follow: what the good parts scored, and what is wished for. One JSON file.

No threshold is stored. They follow from the wishes and the good parts whenever the file is read, so a wish that is
edited there, such as `"false_alarms": 0.05`, is in force at the next start. A number given for a threshold itself
(`"image_threshold": 1.23`) wins over what would follow, and has no guarantee.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tinydefects.data.json_files import first_fault, read_as
from tinydefects.data.pixels import write_whole
from tinydefects.data.sample import Prediction
from tinydefects.decisions.decision import Decision, Verdict
from tinydefects.decisions.drift import PictureRecord
from tinydefects.decisions.guarantees import (
    Scores,
    SeenRegions,
    Threshold,
    conformal_threshold,
    p_value,
    part_scores,
    region_threshold,
    tolerance_threshold,
)
from tinydefects.decisions.regions import Extent, find_regions
from tinydefects.errors import ResultError, SettingsError

CALIBRATION_FILE = "calibration.json"
MOST_KEPT = 100  # regions of one good photograph that the record holds
Obtained = Literal["held out", "folds", "fresh"]
STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class CalibrationSettings(BaseModel):
    """What is wished for: how often good parts may alarm, and what counts as a region.

    Attributes:
        false_alarms, confidence: see `guarantees`; on average, and with this confidence.
        false_regions: in a good photograph, in the mean; each photograph counts up to `most_counted`. With 1 it is the
            share of good photographs that show any. That is the default, because one alarm stops a line as well as ten,
            and because it needs the fewest good parts: 9 for 0.1, where counting up to 10 needs 99.
        min_area_px: smaller regions are left out; in mm² instead where `min_area_mm2` is given.
        extent_quantile: regions never reach below the level that all but this share of the pixels of good maps stay
            below, see `regions.Extent`; fixed once the good parts are recorded, so it cannot be edited later.
        image_threshold, region_threshold: given by hand, they win over what follows from the good parts.

    Raises:
        ValidationError: a value out of its bounds, or two settings that exclude each other.
    """

    model_config = STRICT | ConfigDict(validate_default=True)

    false_alarms: float = Field(default=0.01, gt=0, le=0.5, description="Share of good parts that may alarm.")
    confidence: float = Field(
        default=0.95, ge=0.8, lt=1, description="How sure it is that no more do, before a part is called a defect."
    )
    false_regions: float = Field(
        default=0.1, gt=0, le=100, description="Regions shown in a good photograph by mistake, in the mean."
    )
    most_counted: int = Field(
        default=1, ge=1, le=MOST_KEPT, description="Up to how many regions of one photograph count for that."
    )
    min_area_px: int = Field(default=1, ge=1, description="Leave out regions of fewer pixels.")
    min_area_mm2: float | None = Field(
        default=None, gt=0, description="Leave out smaller regions, in mm²; needs the pixel pitch."
    )
    pixel_pitch_mm: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Millimetres a pixel, for sizes in mm.",
        json_schema_extra={"flag": "--pixel-pitch"},
    )
    extent_quantile: float = Field(
        default=0.999, ge=0.5, lt=1, description="Regions never reach below this quantile of good pixels."
    )
    image_threshold: float | None = Field(
        default=None, description="Call images that score above it defective, without any guarantee."
    )
    region_threshold: float | None = Field(
        default=None, description="Show regions whose peak exceeds it, without any guarantee."
    )

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        if self.min_area_mm2 is not None and self.pixel_pitch_mm is None:
            raise PydanticCustomError("contradiction", "min_area_mm2 needs pixel_pitch_mm: give it, or min_area_px")
        if self.min_area_mm2 is not None and self.min_area_px > 1:
            raise PydanticCustomError("contradiction", "min_area_mm2 and min_area_px exclude each other: give one")
        if self.false_regions > self.most_counted:
            raise PydanticCustomError(
                "contradiction", "false_regions lies above most_counted, which allows everything: lower it"
            )
        return self

    @property
    def smallest_px(self) -> int:
        """The fewest pixels of a region."""
        if self.min_area_mm2 is None or self.pixel_pitch_mm is None:
            return self.min_area_px
        return max(1, math.ceil(self.min_area_mm2 / self.pixel_pitch_mm**2 * (1 - 1e-12)))

    def with_changes(self, **changes: object) -> "CalibrationSettings":
        """The same settings but for these.

        Raises:
            SettingsError: no such setting, a value out of its bounds, or two that exclude each other.
        """
        try:
            return CalibrationSettings.model_validate(self.model_dump() | changes)
        except ValidationError as error:
            raise SettingsError(f"calibration: {first_fault(error)}") from error


class GoodImage(BaseModel):
    """What is kept of one good photograph.

    Attributes:
        id: its sample's; `part` is what must not be counted twice.
        score: of the image.
        pixels_sha256: by which a photograph that is there twice is known; empty where nobody looked.
        n_regions: whatever their peaks. `peaks` and `areas_px` are those of the highest, at most `MOST_KEPT`.
        picture: what the photograph is like, for drift monitors; None where nobody looked, as in older files.
    """

    model_config = STRICT

    id: str = Field(min_length=1)
    part: str = Field(min_length=1)
    score: float
    pixels_sha256: str = ""
    n_regions: int = Field(ge=0)
    peaks: tuple[float, ...]
    areas_px: tuple[Annotated[int, Field(ge=1)], ...]
    picture: PictureRecord | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not len(self.peaks) == len(self.areas_px) == min(self.n_regions, MOST_KEPT):
            _refuse(
                f"{self.id}: n_regions {self.n_regions} with {len(self.peaks)} peaks and {len(self.areas_px)} areas_px;"
                f" a number of each is kept, up to {MOST_KEPT}"
            )
        if list(self.peaks) != sorted(self.peaks, reverse=True):
            _refuse(f"{self.id}: peaks are listed highest first")
        return self

    def seen(self, min_area_px: int) -> SeenRegions:
        """The peaks of its regions of at least this area."""
        large = [peak for peak, area in zip(self.peaks, self.areas_px, strict=True) if area >= min_area_px]
        down_to = self.peaks[-1] if self.n_regions > len(self.peaks) else -math.inf
        return SeenRegions(part=self.part, peaks=large, known_down_to=down_to)


class Calibration(BaseModel):
    """Good parts, wishes, and the thresholds that follow. `str()` gives them in words.

    Attributes:
        version: of this file's form.
        fingerprint: of the detector whose scores these are; another's need a calibration of their own.
        obtained: `held out` (good photographs that the detector did not learn from), `fresh` (taken afterwards) or
            `folds` (each scored by students that had not seen it; see `guarantees` for what that is worth).
        settings: what is wished for.
        extent: how far regions reach.
        duplicates: ids of photographs left out because their pixels are those of another.
        images: one record a photograph.

    Raises:
        ValidationError: a field is missing, unknown, out of bounds or contradicts another.
    """

    model_config = STRICT

    version: Literal[1] = 1
    fingerprint: str = Field(min_length=1)
    obtained: Obtained
    settings: CalibrationSettings = CalibrationSettings()
    extent: Extent
    duplicates: tuple[str, ...] = ()
    images: tuple[GoodImage, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name, values in (
            ("id", [one.id for one in self.images]),
            ("pixels_sha256", [one.pixels_sha256 for one in self.images if one.pixels_sha256]),
        ):
            if len(set(values)) < len(values):
                twice = next(value for place, value in enumerate(values) if value in values[:place])
                _refuse(f"images: two have the {name} {twice[:80]}; a photograph counts once, remove one")
        if self.extent.quantile not in {None, self.settings.extent_quantile}:
            _refuse(
                f"settings.extent_quantile is {self.settings.extent_quantile:g}, regions were recorded at "
                f"{self.extent.quantile:g}: set it back, or calibrate again"
            )
        if any(one.peaks and one.peaks[-1] <= self.extent.level for one in self.images):
            _refuse("extent.level is not below all peaks: regions of another level need to be recorded again")
        given = self.settings.region_threshold
        if given is not None and given < self.extent.level:
            _refuse(f"settings.region_threshold {given:g} is below the level that regions reach, {self.extent.level:g}")
        return self

    def __str__(self) -> str:
        from tinydefects.decisions.text import describe  # it reads the class

        return "\n".join(describe(self))

    @cached_property
    def scores(self) -> Scores:
        """(n parts,) the score of each part, ascending."""
        return part_scores([one.score for one in self.images], [one.part for one in self.images])

    @cached_property
    def average_threshold(self) -> Threshold:
        """What a good part exceeds with a chance of at most `false_alarms`, on average."""
        return conformal_threshold(self.scores, self.settings.false_alarms)

    @cached_property
    def certain_threshold(self) -> Threshold:
        """What at most a share `false_alarms` of the good parts to come exceed, with `confidence`."""
        return tolerance_threshold(self.scores, self.settings.false_alarms, self.settings.confidence)

    @cached_property
    def region_threshold(self) -> Threshold:
        """What a region's peak must exceed, so that good photographs show at most `false_regions`."""
        return region_threshold(self._seen, self.settings.false_regions, self.settings.most_counted)

    @cached_property
    def highest_peaks(self) -> Scores:
        """(n parts,) the highest peak of a region that is large enough, ascending; -inf where a part has none.

        Where too few regions of a photograph are known to tell, it is the highest that it can be.
        """
        highest = dict.fromkeys((one.part for one in self._seen), -math.inf)
        for one in self._seen:
            highest[one.part] = max(highest[one.part], one.peaks[0] if one.peaks else one.known_down_to)
        return np.sort(np.array(list(highest.values())))

    @cached_property
    def _seen(self) -> Sequence[SeenRegions]:
        return [one.seen(self.settings.smallest_px) for one in self.images]

    @property
    def good_up_to(self) -> float:
        """The score up to which a photograph is good: given, else that on average, else the highest of a good part."""
        given, follows = self.settings.image_threshold, self.average_threshold.value
        return next(one for one in (given, follows, float(self.scores[-1])) if one is not None)

    @property
    def defect_above(self) -> float:
        """The score above which a photograph shows a defect: given, else that with confidence, else infinite."""
        given, follows = self.settings.image_threshold, self.certain_threshold.value
        return next(one for one in (given, follows, math.inf) if one is not None)

    @property
    def seed(self) -> float:
        """What a region's peak must exceed: given, else as promised, else the highest of the good parts."""
        given, follows = self.settings.region_threshold, self.region_threshold.value
        seed = next(one for one in (given, follows, float(self.highest_peaks[-1])) if one is not None)
        return max(seed, self.extent.level)

    def decide(self, prediction: Prediction, pixel_pitch_mm: float | None = None) -> Decision:
        """Verdict and regions of one photograph; sizes in mm by this pixel pitch, or that of the settings."""
        pitch = pixel_pitch_mm or self.settings.pixel_pitch_mm or math.nan
        regions, n_regions = find_regions(
            prediction.anomaly_map,
            extent=self.extent,
            seed=self.seed,
            min_area_px=self.settings.smallest_px,
            pixel_pitch_mm=pitch,
        )
        height, width = prediction.anomaly_map.shape
        return Decision(
            verdict=self._verdict(prediction.score),
            score=prediction.score,
            p_value=p_value(prediction.score, self.scores),
            image_size=(height, width),
            regions=tuple(replace(one, p_value=p_value(one.peak, self.highest_peaks)) for one in regions),
            n_regions=n_regions,
        )

    def _verdict(self, score: float) -> Verdict:
        if score <= self.good_up_to:
            return "good"
        return "defect" if score > self.defect_above else "unsure"

    def with_changes(self, **changes: object) -> "Calibration":
        """The same good parts under other wishes, by the names of `CalibrationSettings`.

        Raises:
            SettingsError: as the settings say, or they do not fit what was recorded.
        """
        content = {name: getattr(self, name) for name in Calibration.model_fields}
        content["settings"] = self.settings.with_changes(**changes)
        try:
            return Calibration.model_validate(content)
        except ValidationError as error:  # of the whole, which is too long to be shown
            raise SettingsError(f"calibration: {error.errors()[0]['msg']}") from error

    def require_made_by(self, fingerprint: str, source: object) -> None:
        """Refuse scores of another detector; `source` names where this calibration lies.

        Raises:
            ResultError: the fingerprints differ.
        """
        if fingerprint != self.fingerprint:
            raise ResultError(
                f"{source}: calibrated for the detector {self.fingerprint[:12]}, this one is {fingerprint[:12]}; "
                "scores of two detectors do not compare: calibrate this one"
            )


def read_calibration(path: Path) -> Calibration:
    """The calibration in a file.

    Raises:
        ResultError: it is missing, no strict JSON, or a field is missing, unknown, of another type or out of bounds.
    """
    return read_as(Calibration, path, ResultError, kind="calibration", way_out="mend that, or calibrate again")


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write the file, whole or not at all: settings first, to be edited, and one photograph a line.

    Raises:
        TinyDefectsError: the disk is full or the folder cannot be written.
    """
    content = calibration.model_dump(mode="json")
    images = ",\n  ".join(json.dumps(one, allow_nan=False) for one in content.pop("images"))
    head = json.dumps(content, indent=1, allow_nan=False).removesuffix("\n}")
    write_whole(path, lambda file: file.write(f'{head},\n "images": [\n  {images}\n ]\n}}\n'.encode()))


def _refuse(text: str) -> None:
    raise PydanticCustomError("calibration", "{text}", {"text": text})
