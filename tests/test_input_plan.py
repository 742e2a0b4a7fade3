import pytest

from tinydefects.errors import TinyDefectsError
from tinydefects.planner.input_plan import describe_plan, plan_input


def test_one_pass_suffices_when_the_defect_is_large_enough():
    plan = plan_input(28.0, (500, 700), patch_size=14)
    assert (plan.scale, plan.resolution_px, plan.n_passes, plan.overlap_px) == (1.0, 700, 1, 0)
    assert plan.n_patches == 36 * 50
    assert "one teacher pass" in describe_plan(plan)


def test_a_resolution_is_rounded_up_to_whole_patches_so_that_two_patches_are_kept():
    plan = plan_input(30.0, (500, 701), patch_size=14)
    assert plan.resolution_px % 14 == 0
    assert 30.0 * plan.resolution_px / 701 / 14 >= 2
    assert 30.0 * (plan.resolution_px - 14) / 701 / 14 < 2


@pytest.mark.parametrize("patch_size", [8, 14])
@pytest.mark.parametrize("defect_px", [1.0, 4.3, 17.0])
@pytest.mark.parametrize("size", [(1024, 1024), (1056, 4224), (300, 7000)])
def test_every_defect_lies_whole_in_some_tile_at_two_patches(defect_px, size, patch_size):
    plan = plan_input(defect_px, size, patch_size=patch_size, max_input=518)
    for side, tile, count in zip(size, plan.tile_size_px, plan.n_tiles, strict=True):
        step = tile - plan.overlap_px
        assert tile + (count - 1) * step >= side  # they cover the image
        assert tile + (count - 2) * step < side or count == 1  # and none is too many
    assert plan.n_passes > 1
    assert plan.overlap_px >= defect_px
    assert plan.tile_input_px <= 518
    assert defect_px * plan.tile_input_px / max(plan.tile_size_px) / patch_size >= 2


def test_a_plan_ends_with_the_options_that_carry_it_out():
    assert "fit ... --resolution 700\n" in describe_plan(plan_input(28.0, (500, 700), patch_size=14)) + "\n"
    text = describe_plan(plan_input(14.0, (1000, 1400), patch_size=14, max_input=518))
    assert "fit ... --resolution 2800 --tile 518 --overlap 84" in text  # three defects of 28 px, enlarged twice


def test_a_defect_below_one_camera_pixel_is_named_as_hopeless():
    assert "only a finer pixel pitch" in describe_plan(plan_input(0.5, (1000, 1000)))
    assert "only a finer pixel pitch" not in describe_plan(plan_input(1.0, (1000, 1000)))


@pytest.mark.parametrize("defect_px", [0.0, -1.0, float("nan")])
def test_a_defect_without_a_size_is_refused(defect_px):
    with pytest.raises(TinyDefectsError, match="sizes are above zero"):
        plan_input(defect_px, (100, 100))


def test_an_input_too_small_to_tile_is_refused_with_the_least_that_would_do():
    with pytest.raises(TinyDefectsError, match="--max-input 168"):
        plan_input(3.0, (1000, 1000), patch_size=14, max_input=154)
    assert plan_input(3.0, (1000, 1000), patch_size=14, max_input=168).n_passes > 1
