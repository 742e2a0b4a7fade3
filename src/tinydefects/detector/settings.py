"""What a detector is told, each setting declared once: argument of `Detector`, option of `fit`, record in a model.

Without torch: commands and exported detectors read it, too.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from tinydefects.data.json_files import first_fault
from tinydefects.data.sample import mean_of_highest, n_scored
from tinydefects.detector.passes import PassPlan, plan_passes
from tinydefects.detector.patch_grid import Blur, PatchGrid, Size
from tinydefects.errors import ScoreError, TinyDefectsError
from tinydefects.limits import MOST_PIXELS

Preset = Literal["default", "v0.1", "published"]
Precision = Literal["highest", "float32", "bfloat16", "float16"]
BUILTIN = "builtin"  # the teacher that comes with the package
PLAIN_NAMES: Final = "a teacher is 'builtin' or a plain model name of timm, as vit_base_patch14_reg4_dinov2"


def is_plain_name(teacher: str) -> bool:
    """Whether it can be nothing but a name: timm follows `hf-hub:` and `local-dir:` to whatever lies there."""
    return re.fullmatch(r"\w[\w.-]*", teacher, flags=re.ASCII) is not None


def _plain_name(teacher: str) -> str:
    if not is_plain_name(teacher):
        raise PydanticCustomError("teacher", PLAIN_NAMES)
    return teacher


TeacherName = Annotated[str, AfterValidator(_plain_name)]


LEFT_OUT: Any = None  # of a field whose value then follows from others
DEFAULT_TEACHER = "vit_base_patch14_reg4_dinov2"
DEFAULT_RESOLUTION, SMALLEST_RESOLUTION = 1036, 16
DEFAULT_BITS = 16
DEFAULT_STEPS, DEFAULT_PATCHES = 200, 4096
EPOCHS = 50  # of the published code, and of the default before
LEARNING_RATE, PUBLISHED_LEARNING_RATE = 1e-3, 1e-4  # the paper's, better in fewer epochs; its code's
MOST_EPOCHS = 1_000_000
MOST_STEPS = 1_000_000_000
IMAGES_PER_BATCH = 4  # of one step of the students, unless its patches are counted
MOST_BATCH = 2**31 - 1  # patches
TINT_BEGINS, TINT_IS_FULL = 1.2, 3.0  # times what the highest score of a good image usually is
MOST_OF_TORCH = 2**63 - 1  # a seed; JSON takes no more, either


def _resolution(value: object, told: ValidationInfo) -> int | Literal["native"]:
    if value is None:
        return DEFAULT_RESOLUTION if told.data.get("tile") is None else "native"
    if value == "native":
        return "native"
    if type(value) is int and SMALLEST_RESOLUTION <= value <= MOST_PIXELS:
        return value
    raise PydanticCustomError(
        "resolution", f"give a number of pixels, {SMALLEST_RESOLUTION} to {MOST_PIXELS}, or 'native'"
    )


def _learning_rate(value: object, told: ValidationInfo) -> object:
    own = PUBLISHED_LEARNING_RATE if told.data.get("preset") == "published" else LEARNING_RATE
    return own if value is None else value


def _precision(value: object, told: ValidationInfo) -> object:
    own: Precision = "highest" if told.data.get("preset") == "published" else "float32"
    return own if value is None else value


def _image_bits(value: object) -> object:
    return DEFAULT_BITS if value is None else value


def _blocks(value: object) -> tuple[int, ...] | None:
    """One or more numbers, or their text as on the command line."""
    if value is None:
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}(-[0-9]{1,4})*", value):
        value = [int(number) for number in value.split("-")]
    numbers = value if isinstance(value, list | tuple) else (value,)
    is_ascending = all(type(one) is int for one in numbers) and list(numbers) == sorted({*numbers})
    if numbers and is_ascending and numbers[0] >= 0:
        return tuple(numbers)
    raise PydanticCustomError("blocks", "give blocks from 0, ascending: 7-11")


def require_pair(blocks: Sequence[int] | None) -> None:
    """Raise a TinyDefectsError unless these are two blocks, for the students to translate into each other, or None."""
    if blocks is not None and len(blocks) != 2:
        raise TinyDefectsError(
            f"blocks {'-'.join(map(str, blocks))}: the students translate two blocks into each other; give an earlier "
            "and a later one (--blocks 7-11)"
        )


def _in(panel: str, metavar: str | None = None) -> dict[str, Any]:
    """The heading below which the help of a command shows a field, and the form of its value."""
    return {"panel": panel, "metavar": metavar}


class DetectorSettings(BaseModel):
    """What a detector is told: an argument of `Detector`, the options of `fit`, and part of a saved detector.

    What is left out and follows from other settings is resolved: no field but those that may be None holds None.

    Attributes:
        teacher: `builtin`, or any ViT of timm.
        tile: side of the squares into which the scaled image is cut, in its pixels; one pass of the teacher each.
        resolution: long side, in pixels, to which an image is scaled for the teacher, rounded to whole patches;
            `native` scales nothing. Left out, 1036, and `native` with tiles.
        steps: optimiser steps of the students: they go through the training images as often as that takes, the last
            time in part. At most so many with a `validation_fraction`. Left out, 200, unless epochs are counted: after
            more of them, students begin to predict odd patches, too.
        epochs: passes of the students over the training images, in place of `steps`; at most so many with a
            `validation_fraction`. Left out, 50 in the presets `v0.1` and `published`; None where steps are counted.
        overlap: pixels that neighbouring tiles share, at least; None is an eighth of a tile.
        stride: pixels from one patch to the next, a divisor of the patch size; half of it is four shifted passes.
        image_bits: how many bits the values of 16-bit photographs fill, see `images.find_image_bits`; saved for
            those who read the photographs. Left out, 16.
        blocks: those of the teacher that are read, from 0, ascending; None is the teacher's own choice. A detector
            takes an earlier and a later one, methods on patches any number.
        preset: `published` does everything as the published code does, `default` mends it; see `detector`. `v0.1` is
            the default of version 0.1: it learns for 50 epochs, however many images there are, and blurs its maps.
        seed: of the students' initial weights, the order of images and which of them are held out.
        learning_rate: of Adam; left out, 1e-3, in the preset `published` 1e-4.
        patches_per_batch: patches in one step of the students, mixed across images. Left out, 4,096 in the preset
            `default` where steps are counted, so that a fit takes as long for large images as for small ones; else
            None, all patches of four images.
        patch_fraction: share of the patches of each pass that is kept and learnt from, in (0, 1], spread by greedy
            k-centre selection: left out are those nearly equal to a kept one, so rare patches weigh more than in the
            image. The cache shrinks with it; None is all.
        validation_fraction: share of the images, in (0, 1), held out to stop early: training ends when their lowest
            loss has fallen by less than 1 % within `patience` epochs, and the students of that loss are kept. It looks
            at defect-free images alone, which need not tell when defects are found best. None is none.
        patience: epochs, see there; None is 3.
        precision: of all matrix products, see `precision.arithmetic`; left out, `float32`, in the preset `published`
            `highest`. With `float16` the students still learn in float32. The cache keeps 16-bit features apart.

    Raises:
        ValidationError: a value out of its bounds, or two settings that exclude each other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)

    teacher: TeacherName = Field(default=DEFAULT_TEACHER, description="Any timm ViT, or 'builtin'.")
    tile: int | None = Field(
        default=None, gt=0, le=MOST_PIXELS, description="Cut the image into tiles of this side in pixels."
    )
    resolution: Annotated[int | Literal["native"], PlainValidator(_resolution)] = Field(
        default=LEFT_OUT,
        description="Long side for the teacher; left out, 1036, with tiles native.",
        json_schema_extra={"metavar": "PX|native"},
    )
    steps: int | None = Field(
        default=None,
        gt=0,
        le=MOST_STEPS,
        description="Optimiser steps of the students, at most; left out, 200.",
    )
    epochs: int | None = Field(
        default=None,
        gt=0,
        le=MOST_EPOCHS,
        description="Passes over the training images, at most, in place of --steps.",
        json_schema_extra=_in("Training"),
    )
    overlap: int | None = Field(
        default=None,
        ge=0,
        le=MOST_PIXELS,
        description="Pixels that tiles share; left out, an eighth.",
        json_schema_extra=_in("Input"),
    )
    stride: int | None = Field(
        default=None,
        gt=0,
        le=MOST_PIXELS,
        description="Pixels between patches; half a patch makes four shifted passes.",
        json_schema_extra=_in("Input"),
    )
    image_bits: Annotated[int, BeforeValidator(_image_bits)] = Field(
        default=LEFT_OUT,
        ge=8,
        le=16,
        description="Bits that the values of 16-bit files fill; left out, found on the training images.",
        json_schema_extra=_in("Input"),
    )
    blocks: Annotated[tuple[int, ...] | None, BeforeValidator(_blocks)] = Field(
        default=None,
        description="Blocks of the teacher that are read, from 0; left out, its own choice.",
        json_schema_extra=_in("Input", "EARLIER-LATER") | {"as_text": True},
    )
    preset: Preset = Field(
        default="default",
        description="'published' repeats the paper's code, quirks included; 'v0.1' is the default of 0.1.",
        json_schema_extra=_in("Training"),
    )
    seed: int = Field(
        default=0, ge=0, le=MOST_OF_TORCH, description="Seed of everything random.", json_schema_extra=_in("Training")
    )
    learning_rate: Annotated[float, BeforeValidator(_learning_rate)] = Field(
        default=LEFT_OUT,
        gt=0,
        allow_inf_nan=False,
        description="Of Adam; left out, 1e-3, with the preset published 1e-4.",
        json_schema_extra=_in("Training"),
    )
    patches_per_batch: int | None = Field(
        default=None,
        gt=0,
        le=MOST_BATCH,
        description="Patches a training step, mixed across images; left out, 4096, with --epochs all of 4 images.",
        json_schema_extra=_in("Training"),
    )
    patch_fraction: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Learn from this share of the patches, without near copies; shrinks the cache.",
        json_schema_extra=_in("Training"),
    )
    validation_fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Hold out this share of the images and stop when they no longer improve.",
        json_schema_extra=_in("Training"),
    )
    patience: int | None = Field(
        default=None,
        gt=0,
        le=MOST_EPOCHS,
        description="Epochs without 1 % of improvement before that; left out, 3.",
        json_schema_extra=_in("Training"),
    )
    precision: Annotated[Precision, BeforeValidator(_precision)] = Field(
        default=LEFT_OUT,
        description="Of matrix products; left out, float32 by the quickest exact route, with the preset published "
        "highest.",
        json_schema_extra=_in("Machine"),
    )

    @model_validator(mode="after")
    def _resolve_length(self) -> Self:
        if self.steps is None and self.epochs is None:
            self._resolve(**({"steps": DEFAULT_STEPS} if self.preset == "default" else {"epochs": EPOCHS}))
        if self.preset == "default" and self.steps is not None and self.patches_per_batch is None:
            self._resolve(patches_per_batch=DEFAULT_PATCHES)
        return self

    def _resolve(self, **values: int) -> None:
        """Past `__setattr__`, which would count them as given: whoever changes the settings may give others then."""
        self.__dict__.update(values)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        for applies, text in (
            (
                self.tile is None and self.overlap is not None,
                f"an overlap of {self.overlap} px is that of tiles: give a tile (--tile), too, or leave it out",
            ),
            (
                self.steps is not None and self.epochs is not None,
                f"{self.steps} steps and {self.epochs} epochs are two ends of one training: give steps (--steps) or "
                "epochs (--epochs), and leave the other out",
            ),
            (
                self.validation_fraction is None and self.patience is not None,
                f"a patience of {self.patience} epochs looks at held-out images: give a validation_fraction "
                "(--validation-fraction), too, or leave it out",
            ),
            (
                self.preset == "published" and (self.resolution == "native" or not self.is_one_pass),
                "the preset published is one pass over a square: leave out tile, stride and a native resolution, "
                "or take the preset default",
            ),
            (
                self.preset == "published" and bool(self.validation_fraction or self.patch_fraction),
                "the preset published learns from every patch of every image, for all epochs: leave out "
                "validation_fraction and patch_fraction, or take the preset default",
            ),
        ):
            if applies:
                raise PydanticCustomError("contradiction", text)
        return self

    def with_changes(self, **changes: object) -> "DetectorSettings":
        """The same settings but for these; what was left out follows anew.

        Raises:
            TinyDefectsError: no such setting, a value out of its bounds, or two that exclude each other.
        """
        for name in changes.keys() - DetectorSettings.model_fields:
            raise TinyDefectsError(f"Detector: no such setting as {name}; {', '.join(DetectorSettings.model_fields)}")
        try:
            return DetectorSettings.model_validate(self.model_dump(exclude_unset=True) | changes)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            raise TinyDefectsError(f"Detector: {first_fault(error)}" if fault["loc"] else fault["msg"]) from error

    @property
    def is_one_pass(self) -> bool:
        """Whether the teacher sees each image once, whole: neither tiles nor shifts."""
        return self.tile is None and self.stride is None

    def expected_epochs(self, *, n_passes: int, n_patches: int) -> float:
        """How often the students see each of these patches, of so many passes of the teacher; at most."""
        if self.steps is None:
            return float(self.epochs or 0)
        return self.steps * (self.patches_per_batch or IMAGES_PER_BATCH * n_patches / n_passes) / n_patches

    def grid(self, size: Size, *, patch: int) -> PatchGrid:
        """How an image of (H, W) pixels is divided into patches of `patch` pixels."""
        if self.preset == "published" and self.resolution != "native":
            return PatchGrid.published(size, patch=patch, resolution=self.resolution)
        blur: Blur = "reflect" if self.preset == "v0.1" else "none"
        if self.resolution == "native":
            return PatchGrid.native(size, patch=patch, blur=blur)
        return PatchGrid.proportional(size, patch=patch, resolution=self.resolution, blur=blur)

    def passes(self, size: Size, *, patch: int) -> PassPlan:
        """In which passes the teacher sees an image of (H, W) pixels: one, or tiles and shifts."""
        return plan_passes(self.grid(size, patch=patch), tile=self.tile, overlap=self.overlap, stride=self.stride)


def require_scored(size: Size, *, preset: Preset, name: str = "the image") -> None:
    """Raise a ScoreError that begins with `name` if the preset has no score for an image of (H, W) pixels.

    As published, it is the mean of 0.1 % of the pixels: below 1,000 of them, of none.
    """
    height, width = size
    if preset == "published" and not n_scored(height * width):
        raise ScoreError(
            f"{name}: {height} x {width} px, and the preset published has no score for an image below 1,000 pixels: "
            "take the preset default (fbft as a method), or leave the image out"
        )


def image_score(anomaly_map: NDArray[np.float32], *, preset: Preset = "default") -> float:
    """Mean of the highest 0.1 % of an (H, W) map, at least one pixel.

    Raises:
        ScoreError: see `require_scored`.
    """
    height, width = anomaly_map.shape
    require_scored((height, width), preset=preset)
    return mean_of_highest(anomaly_map)


def in_todays_words(settings: DetectorSettings, *, file_format: int) -> DetectorSettings:
    """Settings as a file says them: in files of format 1 the preset `v0.1` was called `default`."""
    was_default = file_format == 1 and settings.preset == "default"
    return settings.model_copy(update={"preset": "v0.1"}) if was_default else settings


def colour_scale(good_level: float | None) -> tuple[float, float]:
    """Between which values of a map an overlay goes from the photograph to red.

    A good part stays as it is: the tint begins above what good images usually reach. Where that is not known, as in
    models of version 0.1.0, it is a fixed part of the range that all maps have.
    """
    if good_level is None:
        return 0.5, 2.0
    return TINT_BEGINS * good_level, TINT_IS_FULL * good_level
