"""What `tinydefects draw` is told: families aside, everything that decides what is drawn, and where it goes."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tinydefects.datasets.synthetic.dataset import (
    FEWER,
    LARGEST_AREA_SHARE,
    MOST_IMAGES,
    SWEEP_CLEARANCE,
    Areas,
    Settings,
    Sweep,
    cells_of,
    check_settings,
    disc_area_px,
)
from tinydefects.datasets.synthetic.defects import least_room
from tinydefects.errors import DatasetError
from tinydefects.limits import MOST_SEED

MOST_STEPS, MOST_REPEATS, MOST_PER_IMAGE = 64, 1000, 9
OF_SWEEPS = ("diameters", "contrasts", "repeats", "per_image")
NOT_OF_SWEEPS = ("n_defect", "min_area_px", "max_area_share", "areas")
Kind = Literal["crack", "foreign", "missing", "pit", "scratch", "smudge", "stain"]


def _two(between: str, example: str) -> BeforeValidator:
    """Two numbers with something between them, `8x8`; one alone counts twice."""

    def read(value: object) -> object:
        parts = value.lower().split(between) if isinstance(value, str) else value
        given = list(parts) if isinstance(parts, list | tuple) else [parts, parts]
        if len(given) != 2 or "" in given:
            raise ValueError(f"write two numbers, as {example}")
        return given

    return BeforeValidator(read)


def _in_sweep(metavar: str) -> dict[str, Any]:
    return {"panel": "Sweep", "metavar": metavar, "as_text": True}


class DrawSettings(BaseModel):
    """What `tinydefects draw` draws of each family, and where it writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path = Field(description="The folder to make: OUT/FAMILY/train/good and so on, and a card.")
    size: Annotated[tuple[int, int], _two("x", "512x768")] = Field(
        default=(512, 512),
        description="Height x width of a photograph in pixels, or the side of a square; 64 to 4096.",
        json_schema_extra={"metavar": "HxW", "as_text": True},
    )
    n_train: int = Field(default=40, ge=0, le=MOST_IMAGES, description="Good photographs to learn from.")
    n_good: int = Field(default=20, ge=0, le=MOST_IMAGES, description="Good photographs to test on.")
    n_defect: int = Field(
        default=40, ge=0, le=MOST_IMAGES, description="Defective photographs; a sweep counts its own."
    )
    kinds: tuple[Kind, ...] = Field(
        default=(),
        description="A kind of defect; all in turn when left out. Repeatable.",
        json_schema_extra={"flag": "--kind"},
    )
    min_area_px: int = Field(default=1, ge=1, description="Area of the smallest defect in pixels.")
    max_area_share: float = Field(
        default=LARGEST_AREA_SHARE, gt=0, le=LARGEST_AREA_SHARE, description="Of the largest, as a share of the image."
    )
    areas: Areas = Field(default="log-uniform", description="How areas spread between the smallest and the largest.")
    seed: int = Field(default=0, ge=0, le=MOST_SEED, description="Seed of everything random.")
    sweep: Annotated[tuple[int, int], _two("x", "8x8")] | None = Field(
        default=None,
        description="One kind over a grid of so many diameters x contrasts, evenly spaced in their logarithms.",
        json_schema_extra=_in_sweep("8x8"),
    )
    diameters: Annotated[tuple[float, float], _two(",", "2,48")] = Field(
        default=(2.0, 48.0),
        description="Smallest and largest, in pixels, of discs of the same area.",
        json_schema_extra=_in_sweep("PX,PX"),
    )
    contrasts: Annotated[tuple[float, float], _two(",", "4,96")] = Field(
        default=(4.0, 96.0),
        description="Faintest and strongest: mean change in gray levels of 255.",
        json_schema_extra=_in_sweep("GRAY,GRAY"),
    )
    repeats: int = Field(
        default=4, ge=1, le=MOST_REPEATS, description="Defects of each pair.", json_schema_extra={"panel": "Sweep"}
    )
    per_image: int = Field(
        default=1,
        ge=1,
        le=MOST_PER_IMAGE,
        description="Defects on one photograph, an eighth of its longer side apart.",
        json_schema_extra={"panel": "Sweep"},
    )

    @model_validator(mode="after")
    def _agrees(self) -> "DrawSettings":
        """A sweep decides sizes itself, and nothing else has its settings."""
        fields = type(self).model_fields
        for name in OF_SWEEPS if self.sweep is None else NOT_OF_SWEEPS:
            if getattr(self, name) == fields[name].default:  # a file of all settings holds those of sweeps, too
                continue
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{flag}: is of a sweep; add --sweep 8x8, or leave it out"
                if self.sweep is None
                else f"{flag}: a sweep decides it by --diameters, --contrasts and --repeats; leave it out"
            )
        if self.sweep is None:
            return self
        if len(set(self.kinds)) != 1:
            raise ValueError("--sweep: draws one kind of defect; name it, such as --kind pit")
        if not all(2 <= steps <= MOST_STEPS for steps in self.sweep):
            raise ValueError(f"--sweep: give 2 to {MOST_STEPS} diameters and contrasts, as 8x8")
        if not 1 <= self.diameters[0] < self.diameters[1] < math.inf:
            raise ValueError("--diameters: give two, the smaller first, from 1 px on, as 2,48")
        if not 1 <= self.contrasts[0] < self.contrasts[1] <= 255:
            raise ValueError("--contrasts: give two, the fainter first, of 1 to 255 gray levels, as 4,96")
        return self

    def of(self, family: str) -> Settings:
        """What decides the bytes of one family.

        Raises:
            DatasetError: it cannot be drawn.
        """
        sweep = self._swept()
        (height, width), (smallest, largest) = self.size, self.diameters
        settings = Settings(
            family=family,
            seed=self.seed,
            height=height,
            width=width,
            n_train=self.n_train,
            n_good=self.n_good,
            n_defect=sweep.n_images if sweep else self.n_defect,
            min_area_px=disc_area_px(smallest) if sweep else self.min_area_px,
            max_area_share=self.max_area_share,
            kinds=tuple(dict.fromkeys(self.kinds)) or Settings.model_fields["kinds"].default,
            areas=self.areas,
            sweep=sweep,
        )
        check_settings(settings)
        if sweep and disc_area_px(largest) > settings.max_area_px:
            most = math.floor(2 * math.sqrt(settings.max_area_px / math.pi))
            raise DatasetError(
                f"--diameters: {largest:g} px is more than {LARGEST_AREA_SHARE:.0%} of {height} x {width} pixels; use "
                f"{most} at most, or a larger --size"
            )
        if sweep and (crowded := most_crowded(settings)).least_room > 1:
            raise DatasetError(
                f"--per-image: defects of {', '.join(map(str, crowded.areas_px))} pixels, {crowded.clearance_px} px "
                f"apart, find no room on one photograph of {height} x {width}; {FEWER}"
            )
        return settings

    def _swept(self) -> Sweep | None:
        if self.sweep is None:
            return None
        diameters_px, contrasts = (
            tuple(round(low * (high / low) ** (step / (steps - 1)), 3) for step in range(steps))
            for steps, (low, high) in zip(self.sweep, (self.diameters, self.contrasts), strict=True)
        )
        return Sweep(diameters_px=diameters_px, contrasts=contrasts, repeats=self.repeats, per_image=self.per_image)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowded:
    """A photograph of a sweep: its defects in pixels, the largest first, their distance, and see `least_room`."""

    least_room: float
    index: int
    areas_px: tuple[int, ...]
    clearance_px: int


def most_crowded(settings: Settings) -> Crowded:
    """The photograph of a sweep whose defects find room least easily."""
    size, clearance_px = (
        (settings.height, settings.width),
        round(max(settings.height, settings.width) * SWEEP_CLEARANCE),
    )
    areas_px = [tuple(area_px for area_px, _ in cells) for cells in cells_of(settings)]
    needed = [least_room(one, clearance_px, size) for one in areas_px]
    index = needed.index(max(needed))
    return Crowded(least_room=needed[index], index=index, areas_px=areas_px[index], clearance_px=clearance_px)
