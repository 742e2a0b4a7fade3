"""One long side for photographs of several sizes: what it means for each of them is said."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Sample
from tinydefects.planner.input_plan import describe_by_size, outcomes_by_size, plan_input
from tinydefects.planner.inspection import inspect_defects
from tinydefects.planner.recommendation import cost_per_megapixel, recommend_input
from tinydefects.planner.showing import describe_inspection, describe_recommendation


def photograph(folder: Path, name: str, size: tuple[int, int], *, defect: bool) -> Sample:
    image_path, mask_path = folder / f"{name}.png", folder / f"{name}_mask.png"
    write_png(image_path, np.zeros(size, dtype=np.uint8))
    mask = np.zeros(size, dtype=bool)
    mask[10:22, 10:22] = True
    write_png(mask_path, mask)
    label = "defect" if defect else "good"
    return Sample(id=f"test/{label}/{name}", image_path=image_path, label=label, mask_paths=(mask_path,) * defect)


def test_the_same_long_side_enlarges_a_small_photograph_more():
    large, small = outcomes_by_size({(50, 80): 9, (100, 160): 1}, defect_px=14.0, patch_size=14, resolution=322)
    assert (large.image_size_px, large.n_images, small.image_size_px, small.n_images) == ((100, 160), 1, (50, 80), 9)
    assert (large.scale, small.scale) == (322 / 160, 322 / 80)  # 2.01 and 4.03 times
    assert (large.width_patches, small.width_patches) == pytest.approx((322 / 160, 322 / 80))


def test_at_native_size_no_photograph_is_enlarged_and_a_large_one_takes_more_passes():
    large, small = outcomes_by_size(
        {(140, 280): 1, (140, 140): 1}, defect_px=28.0, patch_size=14, resolution="native", tile=140, overlap=14
    )
    assert (large.scale, small.scale, large.width_patches) == (1.0, 1.0, 2.0)
    # 20 patches across in tiles of 10 that share one: 3; 10 patches are one tile
    assert (large.n_passes, small.n_passes) == (3, 1)


def test_inspect_says_it_of_good_photographs_too_and_plans_for_the_largest(tmp_path):
    samples = [photograph(tmp_path, f"d{i}", (80, 113), defect=True) for i in range(2)]
    samples += [photograph(tmp_path, "g", (106, 154), defect=False)]
    inspection = inspect_defects(samples, patch_size=14)
    assert inspection.input_plan is not None
    assert inspection.input_plan.image_size_px == (106, 154)
    assert [(one.image_size_px, one.n_images) for one in inspection.by_size] == [((106, 154), 1), ((80, 113), 2)]
    told = describe_inspection("parts", inspection)
    scale = inspection.input_plan.resolution_px / 113
    assert "the largest photograph, 106x154 px, is enlarged" in told
    assert f"80x113            2{scale:>11.3g}" in told


def test_photographs_of_one_size_need_no_table(tmp_path):
    inspection = inspect_defects([photograph(tmp_path, "d", (80, 113), defect=True)], patch_size=14)
    assert inspection.by_size == ()
    assert "an image of 80x113 px is" in describe_inspection("parts", inspection)
    assert describe_by_size(()) == ""


def test_a_recommendation_says_it_of_the_input_it_chose():
    plan = plan_input(14.0, (100, 160), patch_size=14)
    cost = cost_per_megapixel(100.0, patch_size=14)
    advice = recommend_input(plan, cost=cost, latency_ms=1e6, counts={(100, 160): 3, (50, 80): 4})
    assert advice.best is not None
    assert [one.scale for one in advice.by_size] == pytest.approx([advice.best.resolution / 160] * 1 + [4.025])
    assert "these 7 photographs have 2 sizes" in describe_recommendation(advice)
    assert recommend_input(plan, cost=cost, latency_ms=1e6, counts={(100, 160): 3}).by_size == ()
    assert recommend_input(plan, cost=cost, latency_ms=1e-9, counts={(100, 160): 3, (50, 80): 4}).by_size == ()


def test_of_hundreds_of_sizes_a_few_are_shown_and_the_rest_counted():
    counts = Counter({(100, 100 + side): 1 for side in range(1, 201)}) + Counter({(100, 150): 5})
    told = describe_by_size(outcomes_by_size(counts, defect_px=14.0, patch_size=14, resolution=448)).splitlines()
    assert len(told) == 2 + 6 + 1
    assert told[0] == "  these 205 photographs have 200 sizes; for each of them that means:"
    assert told[2].split()[:2] == ["100x300", "1"]
    assert ["100x150", "6"] in [line.split()[:2] for line in told]
    assert told[-2].split()[:2] == ["100x101", "1"]
    assert told[-1].startswith("  194 more sizes, 194 photographs, scaled by 1.")
