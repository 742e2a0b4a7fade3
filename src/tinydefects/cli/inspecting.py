"""What could be seen at all: inspect."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, Field

from tinydefects.cli.options import (
    Allow,
    Allowed,
    Json,
    Option,
    check_masks_of,
    load,
    parse_size,
    print_result,
    say,
    show_progress,
)
from tinydefects.cli.settings_options import DataFolder, GivenDevice, GivenWeights, options_of
from tinydefects.errors import TinyDefectsError
from tinydefects.limits import MOST_PIXELS

if TYPE_CHECKING:
    from tinydefects.data.sample import Category
    from tinydefects.planner.inspection import Inspection
    from tinydefects.planner.recall import RecallAdvice
    from tinydefects.planner.recommendation import PassCost

DEFAULT_PATCH_PX = 14
TIMED_PATCHES_A_SIDE = (18, 37)


class InspectSettings(BaseModel):
    """What `tinydefects inspect` is asked: of which patches, for which defect, in which time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: DataFolder = Path("data")
    patch_size: int | None = Field(
        default=None,
        ge=1,
        le=MOST_PIXELS,
        description="Patch size of the teacher in pixels; left out, the teacher's, or 14.",
    )
    pixel_pitch: float | None = Field(
        default=None, gt=0, le=1e9, description="Millimetres a pixel, to see sizes in mm."
    )
    defect_px: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Diameter to keep, in pixels; left out, the 5 % quantile of the category.",
    )
    defect_mm: float | None = Field(default=None, gt=0, le=1e9, description="The same in mm; needs --pixel-pitch.")
    image_size: str | None = Field(
        default=None,
        description="Pixels of an image, when no category is given.",
        json_schema_extra={"metavar": "HxW"},
    )
    max_input: int = Field(
        default=1036,
        ge=1,
        le=MOST_PIXELS,
        description="Longest side in pixels that the teacher takes in one pass.",
    )
    latency_ms: float | None = Field(
        default=None,
        gt=0,
        le=1e9,
        description="Recommend an input for so many ms an image; needs one of the next two.",
    )
    teacher: str | None = Field(
        default=None, description="Plan for its patches and time it here: any timm ViT, or 'builtin'."
    )
    ms_per_megapixel: float | None = Field(
        default=None, gt=0, le=1e9, description="Or its time for a million pixels of input."
    )
    recall: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Name the cheapest input at which so large a share of such defects was found, where measured.",
    )
    like: str | None = Field(
        default=None, description="With --recall: the measured surface to go by, such as synthetic/leather, not all."
    )
    teacher_weights: GivenWeights = None
    device: GivenDevice = None
    plot: Path | None = Field(default=None, description="Draw it: .svg, .png or .pdf.")

    def diameter_px(self) -> float | None:
        """Of the defect to keep, by whichever of its two names it was given."""
        if self.defect_mm is None:
            return self.defect_px
        if self.defect_px is not None:
            raise TinyDefectsError("--defect-px and --defect-mm are two names for one size: give one of them")
        if self.pixel_pitch is None:
            raise TinyDefectsError(f"--defect-mm {self.defect_mm:g} needs --pixel-pitch, the millimetres of one pixel")
        return self.defect_mm / self.pixel_pitch


@options_of(InspectSettings)
def inspect(
    settings: InspectSettings,
    category_id: Annotated[
        str | None, typer.Argument(metavar="[DATASET/CATEGORY]", help="Left out: plan for a defect size alone.")
    ] = None,
    option: Option = None,
    allow: Allow = None,
    as_json: Json = False,
) -> None:
    """Say what could be seen at all: defect sizes, what each input resolution leaves of them, and what to do."""
    from tinydefects.planner.recommendation import recommend_input
    from tinydefects.planner.showing import (
        describe_cost,
        describe_inspection,
        describe_recall,
        describe_recommendation,
        write_plot,
    )

    diameter = settings.diameter_px()
    if settings.like is not None and settings.recall is None:
        raise TinyDefectsError(f"--like {settings.like} needs --recall, the share of defects to find")
    patch_size, cost = _pass_cost(settings)
    plan = {
        "patch_size": patch_size,
        "pixel_pitch_mm": math.nan if settings.pixel_pitch is None else settings.pixel_pitch,
        "max_input": settings.max_input,
    }
    if category_id is None:
        title, inspection = _of_a_disc(diameter, settings.image_size, plan)
    else:
        category = load(category_id, settings.root, option, allow=allow)
        title, inspection = category.id, _of_category(category, allow, diameter, plan)
    told, advice = [describe_inspection(title, inspection)], None
    if cost is not None and settings.latency_ms is None:
        told += [describe_cost(inspection, cost)]
    if cost is not None and settings.latency_ms is not None and inspection.input_plan is not None:
        counts = {one.image_size_px: one.n_images for one in inspection.by_size}
        advice = recommend_input(inspection.input_plan, cost=cost, latency_ms=settings.latency_ms, counts=counts)
        told += ["", describe_recommendation(advice)]
    found = _for_recall(settings, inspection, cost)
    if found is not None:
        told += ["", describe_recall(found, pixel_pitch_mm=inspection.pixel_pitch_mm)]
    printed = {"recommendation": advice and asdict(advice), "recall": found and asdict(found)}
    print_result(asdict(inspection) | printed, as_json, *told)
    if settings.plot is not None:
        say(f"plot: {write_plot(title, inspection, settings.plot)}")


def _for_recall(settings: InspectSettings, inspection: "Inspection", cost: "PassCost | None") -> "RecallAdvice | None":
    """What `--recall` asks for, of the very defect that the plan is for; None where there is nothing to plan."""
    from tinydefects.planner.recall import ALL, COUNTED, inputs_for_recall

    plan = inspection.input_plan
    if settings.recall is None or plan is None:
        return None
    return inputs_for_recall(
        settings.recall,
        plan,
        cost=cost or COUNTED,
        latency_ms=settings.latency_ms or math.inf,
        counts={one.image_size_px: one.n_images for one in inspection.by_size},
        like=settings.like or ALL,
    )


def _of_a_disc(diameter: float | None, image_size: str | None, plan: dict[str, Any]) -> "tuple[str, Inspection]":
    """Title and inspection of a defect of one size, without any photograph."""
    from tinydefects.planner.inspection import inspect_disc

    if diameter is None or image_size is None:
        raise TinyDefectsError(
            "inspect: name DATASET/CATEGORY, or give --image-size HxW with --defect-px, or with --defect-mm and "
            "--pixel-pitch"
        )
    return f"discs of {diameter:.3g} px", inspect_disc(diameter, parse_size(image_size), **plan)


def _of_category(
    category: "Category", allow: Sequence[Allowed] | None, diameter: float | None, plan: dict[str, Any]
) -> "Inspection":
    """Every mask is looked at, first whether it is one."""
    from tinydefects.planner.inspection import inspect_defects

    with show_progress() as progress:
        category = check_masks_of(category, allow, progress)
        masks = progress.track(category.test, "read masks", len(category.test))
        return inspect_defects(masks, defect_px=diameter, **plan)


def _pass_cost(settings: InspectSettings) -> "tuple[int, PassCost | None]":
    """Patch size, and cost of a pass if it is asked for: timed on this machine or worked out from what was given."""
    from tinydefects.planner.recommendation import cost_from_passes, cost_per_megapixel

    teacher, ms_per_megapixel, patch_size = settings.teacher, settings.ms_per_megapixel, settings.patch_size
    if teacher is None and ms_per_megapixel is None and settings.latency_ms is None:
        return patch_size or DEFAULT_PATCH_PX, None
    if (teacher is None) == (ms_per_megapixel is None):
        asked = "--latency-ms needs" if teacher is None else "give either"
        raise TinyDefectsError(f"{asked} --teacher, which is timed here, or --ms-per-megapixel: one of them")
    if teacher is None:
        patch_size = patch_size or DEFAULT_PATCH_PX
        return patch_size, cost_per_megapixel(ms_per_megapixel or 0.0, patch_size=patch_size)
    from tinydefects.detector.students import time_pass
    from tinydefects.detector.teacher import load_teacher

    loaded = load_teacher(teacher, weights=settings.teacher_weights, device=settings.device)
    if patch_size not in {None, loaded.patch_size}:
        raise TinyDefectsError(f"{teacher} has patches of {loaded.patch_size} px: leave out --patch-size {patch_size}")
    few, many = ((side**2, 1000 * time_pass(loaded, (side, side), with_students=True)) for side in TIMED_PATCHES_A_SIDE)
    return loaded.patch_size, cost_from_passes(few, many, timed_with=f"{teacher} on {loaded.device}")
