"""What only all masks of a category show is said, or refused, before anything is scored, by every command."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

import command_line
from dataset_trees import draw, draw_loco
from tinydefects.benchmark.run_settings import Allowed
from tinydefects.cli import options
from tinydefects.data import mask_checks
from tinydefects.data.mask_checks import allowing, check_masks
from tinydefects.data.masks import Doubt
from tinydefects.data.opening import ORIENTATION_TAG
from tinydefects.data.pixels import write_map
from tinydefects.data.sample import Category, Prediction
from tinydefects.datasets.catalog import load_category
from tinydefects.errors import ImageReadError, MaskError
from tinydefects.metrics.evaluation import evaluate
from tinydefects.results.result import read_result

SIDE = 64
TRUTHS = [np.zeros((SIDE, SIDE), dtype=bool) for _ in range(3)]
for number, truth in enumerate(TRUTHS):
    truth[8 + 10 * number : 18 + 10 * number, 20:30] = True


def photograph(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 110, (SIDE, SIDE), dtype=np.uint8)


def put(path: Path, pixels: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return exif


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """data/parts in MVTec's layout with three good and three defective images, maps that are perfect; stands there."""
    folder = tmp_path / "data/parts"
    for number, mask in enumerate(TRUTHS):
        put(folder / f"train/good/{number}.png", photograph(number))
        put(folder / f"test/good/{number}.png", photograph(10 + number))
        put(folder / f"test/dark/{number}.png", np.where(mask, 10, photograph(20 + number)).astype(np.uint8))
        put(folder / f"ground_truth/dark/{number}.png", mask.astype(np.uint8) * 255)
        write_map(tmp_path / f"maps/test/good/{number}.tiff", photograph(number) / np.float32(1000))
        write_map(tmp_path / f"maps/test/dark/{number}.tiff", photograph(number) / np.float32(1000) + mask)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def run(parts, monkeypatch, capsys):
    return partial(command_line.run, monkeypatch, capsys)


def check(parts: Path, **options) -> tuple[str, ...]:
    return check_masks(load_category(f"folder/{parts.name}", root=parts.parent), **options).remarks


def rewrite(parts: Path, change, suffix: str = ".png", **options) -> None:
    """Every mask anew: `change` makes its pixels out of (number, truth)."""
    for number, truth in enumerate(TRUTHS):
        (parts / f"ground_truth/dark/{number}.png").unlink()
        put(parts / f"ground_truth/dark/{number}{suffix}", change(number, truth), **options)


def inverted(number, truth):
    return np.uint8(255) * ~truth


def empty(number, truth):
    return np.zeros_like(truth, dtype=np.uint8)


def copied(parts):
    return lambda number, truth: np.asarray(Image.open(parts / f"test/dark/{number}.png"))


def test_sound_masks_are_passed_over_in_silence(parts):
    assert check(parts) == ()


def test_masks_that_are_black_on_white_are_refused_with_the_rule_that_turns_them(parts):
    rewrite(parts, inverted)
    with pytest.raises(MaskError, match=r"more than half of the picture, .*0\.png 98%: .*mask_rule=zero") as caught:
        check(parts)
    assert caught.value.doubt == "mostly-marked"
    remarks = check(parts, allowed={"mostly-marked"})
    assert remarks == (
        "3 (test/dark/0, test/dark/1, test/dark/2) of 3 defective images: more than half of the picture is marked",
    )
    category = load_category("folder/parts", root=parts.parent, mask_rule="zero")
    assert check_masks(category).remarks == ()
    assert [sample.mask().sum() for sample in category.test if sample.mask_paths] == [100, 100, 100]


def test_one_large_defect_among_others_is_told(parts):
    rewrite(parts, lambda number, truth: np.uint8(255) * (truth if number else truth | (np.arange(SIDE) > 20)))
    assert check(parts) == ("1 (test/dark/0) of 3 defective images: more than half of the picture is marked",)


def test_one_mask_that_is_inside_out_is_refused_and_one_that_marks_everything_is_told(parts):
    rewrite(parts, lambda number, truth: np.uint8(255) * (~truth if number == 1 else truth))
    with pytest.raises(
        MaskError, match=r"1 of 3 masks mark more than 90% of the picture, .*1\.png 98%: black on white"
    ):
        check(parts)
    assert "1 (test/dark/1) of 3" in check(parts, allowed={"mostly-marked"})[0]
    put(parts / "ground_truth/dark/1.png", np.full((SIDE, SIDE), 255, np.uint8))
    assert "1 (test/dark/1) of 3" in check(parts)[0]


def test_masks_that_all_mark_nothing_are_refused_and_one_that_does_is_told(parts):
    rewrite(parts, empty)
    with pytest.raises(MaskError, match=r"no mask of 3 defective images marks a pixel, .*0\.png") as caught:
        check(parts)
    assert caught.value.doubt == "nothing-marked"
    assert "no pixel is marked" in check(parts, allowed={"nothing-marked"})[0]
    put(parts / "ground_truth/dark/1.png", np.uint8(255) * TRUTHS[1])
    assert check(parts) == (
        "2 (test/dark/0, test/dark/2) of 3 defective images: no pixel is marked; they count for image metrics only",
    )


def test_refused_masks_are_counted_and_the_first_is_named(parts):
    rewrite(parts, lambda number, truth: np.uint8(100 * truth) + np.uint8(truth & (np.arange(SIDE) > 25)))
    with pytest.raises(
        MaskError, match=r"dark/0\.png: holds 3 values .* \(3 of 3 images have masks that are refused\)"
    ):
        check(parts)


def test_the_photographs_in_the_place_of_masks_are_found_by_bytes_by_pixels_and_by_look(parts):
    for number in range(3):
        (parts / f"ground_truth/dark/{number}.png").write_bytes((parts / f"test/dark/{number}.png").read_bytes())
    with pytest.raises(MaskError, match=r"ground_truth/dark/0\.png: is the photograph .*test/dark/0\.png itself"):
        check(parts)
    rewrite(parts, copied(parts), ".bmp")
    with pytest.raises(MaskError, match=r"0\.bmp: holds 21 values|0\.bmp: looks like a photograph"):
        check(parts)


def test_an_empty_mask_of_a_black_photograph_is_not_the_photograph(parts):
    for place in ("test", "ground_truth"):
        put(parts / place / "dark/0.png", np.zeros((SIDE, SIDE), np.uint8))
    assert check(parts)[0].startswith("1 (test/dark/0) of 3 defective images: no pixel is marked")


def test_a_photograph_of_two_values_stored_anew_is_no_mask_either(parts):
    for number, truth in enumerate(TRUTHS):
        put(parts / f"test/dark/{number}.png", np.uint8(255) * (truth | (photograph(number) > 106)))
    rewrite(parts, copied(parts), ".bmp")
    with pytest.raises(MaskError, match=r"0\.bmp: has the very pixels of its photograph .*0\.png"):
        check(parts)
    assert check(parts, allowed={"photograph-as-mask"}) == ()


def test_lossy_masks_are_told(parts):
    rewrite(parts, lambda number, truth: np.uint8(255) * truth, ".jpg", quality=75)
    (remark,) = check(parts)
    assert remark.startswith("lossy masks (JPEG), 3 of 3, first ")
    assert "read above half" in remark
    category = load_category("folder/parts", root=parts.parent)
    assert [sample.mask().sum() for sample in category.test if sample.mask_paths] == [100, 100, 100]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_photograph_with_a_square_mask_that_carries_no_turn_is_refused(parts, orientation):
    stored = np.asarray(Image.open(parts / "test/dark/1.png"))
    put(parts / "test/dark/1.png", stored, exif=turned(orientation))
    with pytest.raises(
        MaskError, match=rf"1\.png: has EXIF orientation 1 and its photograph 1\.png has {orientation},"
    ):
        check(parts)
    assert check_masks(allowing(load_category("folder/parts", root=parts.parent), ["turned"])).remarks == ()
    put(parts / "ground_truth/dark/1.png", np.uint8(255) * TRUTHS[1], exif=turned(orientation))
    assert check(parts) == ()
    put(parts / "test/dark/1.png", stored)
    with pytest.raises(MaskError, match=rf"has EXIF orientation {orientation} and its photograph 1\.png has 1,"):
        check(parts)


@pytest.mark.parametrize(("orientation", "is_sound"), [(1, True), (3, False), (6, True)])
def test_the_size_of_a_mask_that_is_not_square_shows_a_quarter_turn_but_no_half_turn(parts, orientation, is_sound):
    mask = np.uint8(255) * TRUTHS[0][:, :40]
    upright = np.where(mask, 10, photograph(1)[:, :40]).astype(np.uint8)
    put(parts / "test/dark/0.png", upright.T if orientation == 6 else upright, exif=turned(orientation))
    put(parts / "ground_truth/dark/0.png", mask)
    if is_sound:
        assert check(parts) == ()
    else:
        with pytest.raises(MaskError, match="nobody can tell whether they lie alike"):
            check(parts)


def test_samples_without_a_mask_are_not_looked_at(parts):
    category = load_category("folder/parts", root=parts.parent)
    bare = [replace(sample, mask_paths=()) for sample in category.test]
    assert check_masks(replace(category, test=bare)).remarks == ()


def test_remembered_masks_are_those_that_were_read(parts):
    corner = np.zeros((SIDE, SIDE), dtype=bool)
    corner[0, 0] = corner[-1, -1] = True
    aside = np.zeros((SIDE, SIDE), dtype=bool)
    aside[3:6, 40:51] = np.random.default_rng(0).random((3, 11)) > 0.5
    strips = [corner, aside, np.zeros((SIDE, SIDE), dtype=bool)]
    rewrite(parts, lambda number, truth: np.uint8(255) * strips[number])
    category = load_category("folder/parts", root=parts.parent)
    checked = check_masks(category).category
    for path in (parts / "ground_truth/dark").iterdir():
        path.unlink()
    for sample, expected in zip([sample for sample in checked.test if sample.mask_paths], strips, strict=True):
        np.testing.assert_array_equal(sample.mask(), expected)
        assert sample.mask().dtype == np.bool_


def test_what_does_not_fit_into_memory_is_read_again(parts, monkeypatch):
    monkeypatch.setattr(mask_checks, "REMEMBERED_BYTES", 25)  # of the 20 of each mask
    checked = check_masks(load_category("folder/parts", root=parts.parent)).category
    for path in (parts / "ground_truth/dark").iterdir():
        path.unlink()
    first, second, _ = (sample for sample in checked.test if sample.mask_paths)
    assert first.mask().sum() == 100
    with pytest.raises(ImageReadError, match="no such file"):
        second.mask()


def test_too_many_regions_in_all_masks_together_are_refused(parts, monkeypatch):
    dots = np.zeros((SIDE, SIDE), dtype=bool)
    dots[::2, ::2] = True  # 1,024 regions
    rewrite(parts, lambda number, truth: np.uint8(255) * dots)
    assert check(parts) == ()
    monkeypatch.setattr("tinydefects.data.defects.MOST_IN_A_CATEGORY", 3000)
    monkeypatch.setattr("tinydefects.data.mask_checks.MOST_IN_A_CATEGORY", 3000)
    with pytest.raises(
        MaskError, match="folder/parts: 3,072 regions are marked in all masks together, more than 3,000"
    ):
        check(parts)
    category = load_category("folder/parts", root=parts.parent)
    pairs = [(one, Prediction(np.zeros((SIDE, SIDE), np.float32), 0.0)) for one in category.test]
    with pytest.raises(MaskError, match="3,072 regions are marked"):
        evaluate(pairs)


COMMANDS = {
    "inspect": ["inspect", "folder/parts"],
    "evaluate": ["evaluate", "maps", "folder/parts", "--resamples", 0],
    "evaluate --dry-run": ["evaluate", "maps", "folder/parts", "--dry-run"],
    "audit": ["audit", "maps", "folder/parts"],
    "benchmark --dry-run": ["benchmark", "--methods", "maps:maps", "--categories", "folder/parts", "--dry-run"],
    "benchmark": ["benchmark", "--methods", "maps:maps", "--categories", "folder/parts", "--cost", "off"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_uses_masks_refuses_what_can_only_be_a_mistake_first(run, parts, command):
    rewrite(parts, inverted)
    code, out, err = run(*COMMANDS[command])
    (line,) = [line for line in err.splitlines() if line.startswith("tinydefects: ")]
    assert code == 2
    assert "every mask marks more than half of the picture" in line
    assert out == ""
    assert not list(Path().rglob("*.json"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_what_is_allowed_on_purpose_and_says_it(run, parts, command):
    rewrite(parts, inverted)
    code, _, err = run(*COMMANDS[command], "--allow", "mostly-marked")
    assert code == 0, err
    assert "of 3 defective images: more than half of the picture is marked" in err


@pytest.mark.slow
def test_what_is_allowed_of_single_files_reaches_the_jobs_of_a_benchmark_and_stands_in_the_results(run, parts):
    for number, truth in enumerate(TRUTHS):
        page = Image.fromarray(np.uint8(255) * truth)
        (parts / f"ground_truth/dark/{number}.png").unlink()
        page.save(parts / f"ground_truth/dark/{number}.tif", save_all=True, append_images=[page])
    for command in ("evaluate", "benchmark"):
        code, _, err = run(*COMMANDS[command])
        assert (code, "holds 2 pages or frames" in err) == (2, True)
        code, _, err = run(*COMMANDS[command], "--allow", "multi-page")
        assert code == 0, err
    for path in Path("results").rglob("parts*.json"):
        result = read_result(path)
        assert result.evaluation.n_defect_pixels == 300
        assert result.provenance.settings["allowed"] == "multi-page"


@pytest.mark.parametrize(("address", "folder"), [("mvtec_ad/parts", "mvtec_ad"), ("btad/parts", "btad")])
def test_every_dataset_takes_a_mask_rule(run, parts, address, folder):
    rewrite(parts, lambda number, truth: np.uint8(255 * truth) + np.uint8(9 * np.roll(truth, 12)))
    if folder == "btad":
        (parts / "train/good").rename(parts / "train/ok")
        (parts / "test/good").rename(parts / "test/ok")
    (parts.parent / folder).mkdir()
    parts.rename(parts.parent / folder / "parts")
    code, out, err = run("inspect", address, "--option", "mask_rule=above_half", "--json")
    assert code == 0, err
    assert json.loads(out)["area_quantiles_px"] == [100.0] * 6
    code, _, err = run("inspect", address, "--option", "mask_rule=half")
    assert (code, "mask_rule=half: no such rule; choose auto" in err) == (2, True)


def test_crumbs_are_pointed_out(run, parts):
    rewrite(
        parts,
        lambda number, truth: np.uint8(255) * (truth | ((np.arange(SIDE**2).reshape(SIDE, SIDE) < 1) & (number > 0))),
    )
    code, out, err = run("inspect", "folder/parts")
    assert code == 0, err
    assert "caution: 2 defects (40%) in 2 masks are one pixel, often a crumb of annotation" in out
    numbers = json.loads(run("inspect", "folder/parts", "--json")[1])
    assert (numbers["n_defects"], numbers["n_crumbs"], numbers["n_masks_with_crumbs"]) == (5, 2, 2)


def test_inspect_counts_the_defective_images_that_it_has_no_outline_of(run, parts):
    (parts / "ground_truth/dark/1.png").unlink()
    code, out, err = run("inspect", "folder/parts", "--allow", "unmarked")
    assert code == 0, err
    assert "folder/parts: 1 of 3 defective images without outline (test/dark/1)" in err
    assert "2 defects in 3 images" in out


def test_learning_reads_no_mask(run, parts):
    rewrite(parts, inverted)
    (parts / "ground_truth/dark/1.png").write_bytes(b"no picture")
    code, _, err = run("fit", "folder/parts", "--teacher", "builtin", "--dry-run")
    assert code == 0, err


def test_a_category_may_have_no_defect(parts):
    category = load_category("folder/parts", root=parts.parent)
    good = [sample for sample in category.test if sample.label == "good"]
    assert check_masks(Category(id="a/b", train=(), test=good)).remarks == ()


def test_what_may_be_allowed_has_the_same_names_in_every_command():
    assert [name.value for name in options.Allowed] == list(get_args(Allowed)) == ["unmarked", *get_args(Doubt)]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (
            lambda part: draw(part / "ground_truth/logical_anomalies/0/000.png", spot=(0, 0), value=7),
            r"0/000\.png: holds 7, which .*defects_config\.json does not know",
        ),
        (lambda part: draw(part / "ground_truth/logical_anomalies/0/001.png"), r"0/001\.png: holds nothing beside 0"),
        (lambda part: (part / "defects_config.json").write_text("[]"), r"000\.png: holds 255, which .* not know"),
    ],
)
def test_masks_without_a_saturation_are_refused_before_anything_is_scored(tmp_path, spoil, complaint):
    part = draw_loco(tmp_path / "mvtec_loco/pushpins")
    shutil.copytree(part / "ground_truth/logical_anomalies/0", part / "ground_truth/logical_anomalies/1")
    draw(part / "test/logical_anomalies/1.png")
    assert check_masks(load_category("mvtec_loco/pushpins", root=tmp_path), allowed=["mostly-marked"]).remarks == ()
    spoil(part)
    with pytest.raises(MaskError, match=complaint):
        check_masks(load_category("mvtec_loco/pushpins", root=tmp_path))


def test_a_benchmark_finds_a_mask_without_a_saturation_before_it_learns(tmp_path, monkeypatch, capsys):
    part = draw_loco(tmp_path / "mvtec_loco/pushpins", size=(64, 64))
    draw(part / "ground_truth/logical_anomalies/0/000.png", size=(64, 64), spot=(0, 0), value=7)
    asked = ["--methods", "local_contrast", "--categories", "mvtec_loco/pushpins", "--root", tmp_path, "--cost", "off"]
    code, out, err = command_line.run(monkeypatch, capsys, "benchmark", *asked, "--out", tmp_path / "results")
    assert (code, out) == (2, "")
    assert [line for line in err.splitlines() if "holds 7, which" in line]
    assert not (tmp_path / "results").exists()
