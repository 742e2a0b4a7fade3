"""What could be seen at all: inspect."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinydefects.cli.options import (
    MOST_PIXELS,
    Allow,
    Device,
    Json,
    Option,
    Root,
    TeacherWeights,
    bounded,
    check_masks_of,
    load,
    parse_size,
    print_result,
    say,
    show_progress,
)
from tinydefects.errors import TinyDefectsError

if TYPE_CHECKING:
    from tinydefects.planner.recommendation import PassCost

DEFAULT_PATCH_PX = 14
TIMED_PATCHES_A_SIDE = (18, 37)
POSITIVE = bounded(0, 1e9, without_least=True)


def inspect(
    category_id: Annotated[
        str | None, typer.Argument(metavar="[DATASET/CATEGORY]", help="Left out: plan for a defect size alone.")
    ] = None,
    root: Root = Path("data"),
    option: Option = None,
    allow: Allow = None,
    patch_size: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_PIXELS, help="Patch size of the teacher in pixels; left out, the teacher's, or 14."
        ),
    ] = None,
    pixel_pitch: Annotated[
        float, typer.Option(callback=POSITIVE, help="Millimetres a pixel, to see sizes in mm.")
    ] = float("nan"),
    defect_px: Annotated[
        float | None,
        typer.Option(
            callback=POSITIVE, help="Diameter to keep, in pixels; left out, the 5 % quantile of the category."
        ),
    ] = None,
    defect_mm: Annotated[
        float | None, typer.Option(callback=POSITIVE, help="The same in mm; needs --pixel-pitch.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="HxW", help="Pixels of an image, when no category is given.")
    ] = None,
    max_input: Annotated[
        int, typer.Option(min=1, max=MOST_PIXELS, help="Longest side in pixels that the teacher takes in one pass.")
    ] = 1036,
    latency_ms: Annotated[
        float | None,
        typer.Option(callback=POSITIVE, help="Recommend an input for so many ms an image; needs one of the next two."),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Plan for its patches and time it here: any timm ViT, or 'builtin'.")
    ] = None,
    ms_per_megapixel: Annotated[
        float | None, typer.Option(callback=POSITIVE, help="Or its time for a million pixels of input.")
    ] = None,
    teacher_weights: TeacherWeights = None,
    device: Device = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: .svg, .png or .pdf.")] = None,
    as_json: Json = False,
) -> None:
    """Say what could be seen at all: defect sizes, what each input resolution leaves of them, and what to do."""
    from tinydefects.planner.inspection import inspect_defects, inspect_disc
    from tinydefects.planner.plot import write_plot
    from tinydefects.planner.recommendation import recommend_input
    from tinydefects.planner.text import describe_cost, describe_inspection, describe_recommendation

    diameter = _diameter_px(defect_px, defect_mm, pixel_pitch)
    cost = None
    if latency_ms is not None or teacher is not None or ms_per_megapixel is not None:
        patch_size, cost = _pass_cost(teacher, ms_per_megapixel, patch_size, teacher_weights, device)
    patch_size = patch_size or DEFAULT_PATCH_PX
    if category_id is None:
        if diameter is None or image_size is None:
            raise TinyDefectsError(
                "inspect: name DATASET/CATEGORY, or give --image-size HxW with --defect-px, or with --defect-mm and "
                "--pixel-pitch"
            )
        title = f"discs of {diameter:.3g} px"
        inspection = inspect_disc(
            diameter, parse_size(image_size), patch_size=patch_size, pixel_pitch_mm=pixel_pitch, max_input=max_input
        )
    else:
        category = load(category_id, root, option, allow=allow)
        title = category.id
        with show_progress() as progress:
            category = check_masks_of(category, allow, progress)
            inspection = inspect_defects(
                progress.track(category.test, "read masks", len(category.test)),
                patch_size=patch_size,
                pixel_pitch_mm=pixel_pitch,
                defect_px=diameter,
                max_input=max_input,
            )
    told, advice = [describe_inspection(title, inspection)], None
    if cost is not None and latency_ms is None:
        told += [describe_cost(inspection, cost)]
    if cost is not None and latency_ms is not None and inspection.input_plan is not None:
        counts = {one.image_size_px: one.n_images for one in inspection.by_size}
        advice = recommend_input(inspection.input_plan, cost=cost, latency_ms=latency_ms, counts=counts)
        told += ["", describe_recommendation(advice)]
    print_result(asdict(inspection) | {"recommendation": advice and asdict(advice)}, as_json, *told)
    if plot is not None:
        say(f"plot: {write_plot(title, inspection, plot)}")


def _pass_cost(
    teacher: str | None,
    ms_per_megapixel: float | None,
    patch_size: int | None,
    weights: Path | None,
    device: str | None,
) -> "tuple[int, PassCost]":
    """Patch size and cost of a pass, timed on this machine or worked out from what was given."""
    from tinydefects.planner.recommendation import cost_from_passes, cost_per_megapixel

    if (teacher is None) == (ms_per_megapixel is None):
        asked = "--latency-ms needs" if teacher is None else "give either"
        raise TinyDefectsError(f"{asked} --teacher, which is timed here, or --ms-per-megapixel: one of them")
    if teacher is None:
        patch_size = patch_size or DEFAULT_PATCH_PX
        return patch_size, cost_per_megapixel(ms_per_megapixel or 0.0, patch_size=patch_size)
    from tinydefects.detector.pass_timing import time_pass
    from tinydefects.detector.teacher import load_teacher

    loaded = load_teacher(teacher, weights=weights, device=device)
    if patch_size not in {None, loaded.patch_size}:
        raise TinyDefectsError(f"{teacher} has patches of {loaded.patch_size} px: leave out --patch-size {patch_size}")
    few, many = ((side**2, 1000 * time_pass(loaded, (side, side), with_students=True)) for side in TIMED_PATCHES_A_SIDE)
    return loaded.patch_size, cost_from_passes(few, many, timed_with=f"{teacher} on {loaded.device}")


def _diameter_px(defect_px: float | None, defect_mm: float | None, pixel_pitch: float) -> float | None:
    if defect_mm is None:
        return defect_px
    if defect_px is not None:
        raise TinyDefectsError("--defect-px and --defect-mm are two names for one size: give one of them")
    if not pixel_pitch > 0:
        raise TinyDefectsError(f"--defect-mm {defect_mm:g} needs --pixel-pitch, the millimetres of one pixel")
    return defect_mm / pixel_pitch
