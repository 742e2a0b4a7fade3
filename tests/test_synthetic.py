"""The synthetic dataset keeps its promises: exact areas, exact masks, the same bytes every time, nothing half drawn."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from tinydefects.data.defects import find_defects
from tinydefects.datasets.synthetic import dataset as synthetic
from tinydefects.datasets.synthetic.canvas import smooth_noise, white_noise
from tinydefects.datasets.synthetic.dataset import (
    SYNTHETIC_FAMILIES,
    Settings,
    draw_clean,
    draw_defective,
    load_synthetic,
)
from tinydefects.datasets.synthetic.defects import CONTRAST_RANGES, DEFECT_KINDS, MINIMUM_CONTRAST, plant
from tinydefects.datasets.synthetic.regions import connected_pixels
from tinydefects.datasets.synthetic.surfaces import Scene
from tinydefects.errors import DatasetError, TinyDefectsError

SMALL = {"size": (64, 96), "n_train": 2, "n_good": 1, "n_defect": 7}


def settings(family: str = "granite", **changes: object) -> Settings:
    values = {"family": family, "seed": 0, "height": 64, "width": 96, "n_train": 2, "n_good": 1, "n_defect": 7}
    return Settings.model_validate({**values, "min_area_px": 1, "max_area_share": 0.10, **changes})


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def plain_scene(level: int = 128, channels: int = 3, size: tuple[int, int] = (80, 100)) -> Scene:
    """A flat photograph, so that whatever changes is the defect."""
    image = np.full((*size, channels), level, dtype=np.uint8)
    return Scene(image=image, part=np.ones(size, dtype=bool), beneath=(70.0,) * channels)


@pytest.fixture(scope="module")
def granite(tmp_path_factory):
    """A small category on disk, drawn once."""
    root = tmp_path_factory.mktemp("synthetic")
    return root, load_synthetic("granite", root=root, **SMALL)


def test_the_families_are_the_eight_that_are_documented():
    assert SYNTHETIC_FAMILIES == (
        "blister",
        "brushed_metal",
        "circuit_board",
        "granite",
        "leather",
        "machined_part",
        "wood_grain",
        "woven_fabric",
    )


@pytest.mark.parametrize("kind", DEFECT_KINDS)
@pytest.mark.parametrize("area_px", [1, 2, 3, 7, 19, 64, 257, 800])  # 800 is 10 % of 80 x 100
def test_every_kind_has_exactly_the_area_asked_for_in_one_region(kind, area_px):
    rng = np.random.default_rng(area_px)
    scene = plain_scene()
    image, mask, planted = plant(rng, scene, kind, [area_px])
    (defect,) = find_defects(mask)
    assert defect.area_px == area_px
    assert [(one.kind, one.area_px, one.box) for one in planted] == [(kind, area_px, defect.box)]
    assert np.array_equal((image != scene.image).any(axis=2), mask)


@pytest.mark.parametrize("level", [0, 4, 128, 251, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mask_pixel_is_visible_and_no_other_pixel_changes_even_in_black_and_white(level, channels):
    scene = plain_scene(level, channels)
    for kind in DEFECT_KINDS:
        image, mask, planted = plant(np.random.default_rng(3), scene, kind, [300, 5])
        change = np.abs(image.astype(int) - scene.image.astype(int)).max(axis=2)
        assert change[mask].min() >= MINIMUM_CONTRAST
        assert change[~mask].max() == 0
        for one in planted:
            inside = mask[one.box]
            if len(find_defects(inside)) == 1:
                assert one.contrast == pytest.approx(change[one.box][inside].mean(), abs=0.006)


@pytest.mark.slow
@pytest.mark.parametrize("family", SYNTHETIC_FAMILIES)
def test_planted_photographs_differ_from_their_clean_twins_exactly_on_the_mask_and_on_the_part(family):
    chosen = settings(family)
    for index in (0, 2, 5):
        clean = draw_clean(chosen, "defect", index)
        image, mask, planted = draw_defective(chosen, index)
        change = np.abs(image.astype(int) - clean.image.astype(int)).max(axis=2)
        assert change[mask].min() >= 8
        assert change[~mask].max() == 0
        assert not (mask & ~clean.part).any()
        assert sorted(defect.area_px for defect in find_defects(mask)) == sorted(one.area_px for one in planted)
        assert 1 <= len(planted) <= 3


def test_defects_keep_three_clear_pixels_between_them():
    _, mask, planted = plant(np.random.default_rng(0), plain_scene(size=(64, 64)), "pit", [60] * 12)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    assert count == len(planted) >= 6
    for one in range(1, count + 1):
        others = mask & (labels != one)
        near = ndimage.binary_dilation(labels == one, structure=np.ones((3, 3)), iterations=3)
        assert not (near & others).any()


def test_a_defect_without_room_is_left_out_and_never_shrunk():
    scene = plain_scene(size=(64, 64))
    narrow = np.zeros((64, 64), dtype=bool)
    narrow[10, 5:25] = True  # room for 20 pixels
    tight = Scene(image=scene.image, part=narrow, beneath=scene.beneath)
    _, mask, planted = plant(np.random.default_rng(0), tight, "scratch", [21])
    assert not mask.any()
    assert planted == []
    _, mask, _ = plant(np.random.default_rng(0), tight, "scratch", [20])
    assert np.array_equal(mask, narrow)


def test_a_region_is_one_piece_of_high_scores_around_what_is_forbidden():
    wall = -np.inf
    score = np.array([[9, 8, wall, 7], [1, 2, wall, 6], [0, 3, 4, 5]], dtype=np.float32)
    assert score[connected_pixels(score, 2)].tolist() == [9, 8]
    assert score[connected_pixels(score, 3)].tolist() == [7, 6, 5]  # 9, 8 and 7 would be two pieces
    assert connected_pixels(score, 10).sum() == 10
    assert connected_pixels(score, 11) is None


def test_what_a_piece_lacks_grows_from_its_rim_best_first():
    score = np.full((3, 9), -np.inf, dtype=np.float32)
    score[1] = [4, 1, 9, 8, 7, 2, 3, 5, 6]  # above 2: {9, 8, 7}, with 6, 5, 3 cut off by the 2
    assert score[connected_pixels(score, 4)].tolist() == [9, 8, 7, 2]


def test_areas_are_equally_present_on_a_logarithmic_scale():
    chosen = settings(height=512, width=512)
    start = synthetic._generator(chosen, 5).random()
    areas = [synthetic._area_px(chosen, (start + i * synthetic.GOLDEN_RATIO) % 1.0) for i in range(200)]
    assert min(areas) == 1
    assert 0.9 * 26_214 < max(areas) <= 26_214  # floor(0.10 * 512 * 512)
    counts, _ = np.histogram(np.log(areas) / np.log(26_214), bins=5, range=(0, 1))
    assert counts.tolist() == pytest.approx([40] * 5, abs=6)


def test_the_same_settings_give_the_same_bytes_and_another_seed_others(granite, tmp_path):
    _, category = granite
    folder = category.train[0].image_path.parents[2]
    load_synthetic("granite", root=tmp_path, **SMALL)
    load_synthetic("granite", root=tmp_path, seed=1, **SMALL)
    again, other = (
        tmp_path / "synthetic" / folder.name,
        next(path for path in (tmp_path / "synthetic").iterdir() if path.name != folder.name),
    )
    assert digests(again) == digests(folder)
    pngs = [name for name in digests(folder) if name.startswith(("train", "test"))]
    assert len(pngs) == 10
    assert all(digests(folder)[name] != digests(other)[name] for name in pngs)


def test_an_image_does_not_depend_on_the_order_or_number_of_the_others():
    few, many = settings(n_train=1, n_defect=1), settings(n_train=9, n_defect=99)
    last_first = [draw_defective(many, index)[0] for index in (6, 3)]
    assert np.array_equal(draw_defective(few, 3)[0], last_first[1])
    assert not np.array_equal(last_first[0], last_first[1])
    assert np.array_equal(draw_clean(few, "train", 8).image, draw_clean(many, "train", 8).image)


def test_train_good_and_defective_photographs_are_all_different():
    chosen = settings("machined_part")
    series = [
        draw_clean(chosen, name, index).image.tobytes() for name in ("train", "good", "defect") for index in (0, 1)
    ]
    assert len(set(series)) == 6


@pytest.mark.parametrize("family", SYNTHETIC_FAMILIES)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 200), (150, 70)])
def test_every_family_fills_any_size_without_clipping_to_black_or_white(family, height, width):
    scene = draw_clean(settings(family, height=height, width=width), "train", 0)
    assert scene.image.shape[:2] == scene.part.shape == (height, width)
    assert scene.part.mean() > 0.3
    assert len(scene.beneath) == scene.image.shape[2]
    assert ((scene.image == 0) | (scene.image == 255)).mean() < 0.01
    assert scene.image.std() > 4


def test_more_pixels_show_the_same_part_finer():
    def holes(side):
        image = draw_clean(settings("machined_part", height=side, width=side), "train", 0).image[..., 0]
        labels, _ = ndimage.label(image < 90)
        areas = np.bincount(labels.ravel())[1:]
        return np.sort(areas[areas > 0.002 * side**2])[:4].mean()  # the four bolt holes

    assert holes(320) / holes(160) == pytest.approx(4.0, rel=0.1)


def test_the_category_is_laid_out_and_labelled_like_mvtec(granite):
    root, category = granite
    assert category.id == "synthetic/granite"
    assert [sample.id for sample in category.train] == ["train/good/000", "train/good/001"]
    assert [sample.id for sample in category.test] == [
        "test/good/000",
        *(f"test/{kind}/000" for kind in ("crack", "foreign", "missing", "pit", "scratch", "smudge", "stain")),
    ]
    assert [sample.label for sample in category.test] == ["good"] + ["defect"] * 7
    crack = category.test[1]
    assert crack.defect_type == "crack"
    assert crack.mask_paths[0].relative_to(root / "synthetic").parts[1:] == ("ground_truth", "crack", "000_mask.png")
    assert all(sample.image().shape == (64, 96, 3) for sample in [*category.train, *category.test])
    assert not category.test[0].mask().any()


def test_the_manifest_tells_the_exact_truth_of_every_mask(granite):
    _, category = granite
    manifest = synthetic.read_manifest(category.train[0].image_path.parents[2])
    assert manifest is not None
    assert manifest.minimum_contrast == 8
    assert manifest.contrast_ranges == CONTRAST_RANGES
    samples = {sample.id: sample for sample in [*category.train, *category.test]}
    assert [record.id for record in manifest.images] == list(samples)
    for record in manifest.images:
        found = find_defects(samples[record.id].mask())
        boxes = {(b[0].start, b[1].start, b[0].stop, b[1].stop): d.area_px for d in found for b in [d.box]}
        assert boxes == {defect.box: defect.area_px for defect in record.defects}
        assert all(defect.contrast >= 8 for defect in record.defects)


def test_a_second_call_reads_and_does_not_draw(granite, monkeypatch):
    root, category = granite
    for drawing in ("draw_clean", "draw_defective"):
        monkeypatch.setattr(synthetic, drawing, lambda *_: pytest.fail("drew again"))
    assert load_synthetic("granite", root=root, **SMALL) == category


@pytest.mark.parametrize("stop_after", [1, 4, 9])
def test_a_killed_drawing_is_never_taken_for_whole(granite, tmp_path, stop_after):
    def killed(done, total):
        assert total == 10
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_synthetic("granite", root=tmp_path, progress=killed, **SMALL)
    (half,) = (tmp_path / "synthetic").iterdir()
    assert not (half / "manifest.json").exists()
    (half / "train/good/000.png").write_bytes(b"torn")
    load_synthetic("granite", root=tmp_path, **SMALL)
    assert digests(half) == digests(granite[1].train[0].image_path.parents[2])


@pytest.mark.parametrize("damage", ["a lost image", "a lost mask", "a torn manifest", "a foreign manifest"])
def test_a_damaged_folder_is_drawn_again(granite, tmp_path, damage):
    category = load_synthetic("granite", root=tmp_path, **SMALL)
    folder = category.train[0].image_path.parents[2]
    manifest = folder / "manifest.json"
    if damage == "a lost image":
        category.test[3].image_path.unlink()
    elif damage == "a lost mask":
        category.test[3].mask_paths[0].unlink()
    elif damage == "a torn manifest":
        manifest.write_bytes(manifest.read_bytes()[:200])
    else:
        manifest.write_text(manifest.read_text().replace('"seed": 0', '"seed": 7').replace('"seed":0', '"seed":7'))
    load_synthetic("granite", root=tmp_path, **SMALL)
    assert digests(folder) == digests(granite[1].train[0].image_path.parents[2])


def test_progress_counts_every_image_once(tmp_path):
    calls = []
    load_synthetic(
        "brushed_metal", root=tmp_path, progress=lambda *call: calls.append(call), **{**SMALL, "n_defect": 1}
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("granit", {}, "did you mean granite"),
        ("x", {}, "there are blister, brushed_metal"),
        ("granite", {"size": 63}, "63 x 63"),
        ("granite", {"size": (64, 4097)}, "64 x 4097"),
        ("granite", {"seed": -1}, "seed is -1"),
        ("granite", {"n_good": -1}, "2, -1 and 7"),
        ("granite", {"max_area_share": 0.2}, "max_area_share is 0.2"),
        ("granite", {"max_area_share": 0.0}, "max_area_share is 0.0"),
        ("granite", {"max_area_share": float("nan")}, "max_area_share is nan"),
        ("granite", {"min_area_px": 0}, "min_area_px is 0; use 1 to 614"),  # floor(0.1 * 64 * 96)
        ("granite", {"min_area_px": 615}, "min_area_px is 615; use 1 to 614"),
        ("granite", {"size": (64, 64, 3)}, "size is (64, 64, 3)"),
        ("granite", {"size": "large"}, "height is 'large'"),
        ("granite", {"n_train": 2.5}, "n_train is 2.5"),
    ],
)
def test_a_bad_argument_is_answered_in_one_line_and_nothing_is_drawn(tmp_path, name, changes, words):
    with pytest.raises(DatasetError) as caught:
        load_synthetic(name, root=tmp_path, **{**SMALL, **changes})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path):
    (tmp_path / "synthetic").write_text("a file where a folder must be")
    with pytest.raises(TinyDefectsError, match="cannot write"):
        load_synthetic("granite", root=tmp_path, **SMALL)


def test_noise_has_mean_zero_and_variance_one_at_every_scale():
    rng = np.random.default_rng(0)
    assert white_noise(rng, (400, 400)).mean() == pytest.approx(0, abs=0.01)
    assert white_noise(rng, (400, 400)).std() == pytest.approx(1, abs=0.01)
    for cell in (1, 1.5, 4, (1, 6)):
        noise = smooth_noise(rng, (400, 400), cell)
        assert noise.shape == (400, 400)
        assert noise.std() == pytest.approx(1, abs=0.05)
    rough, smooth = (np.abs(np.diff(smooth_noise(rng, (200, 200), cell), axis=0)).mean() for cell in (2, 16))
    assert rough > 5 * smooth


@pytest.mark.slow
def test_another_process_with_another_hash_seed_draws_the_same_pixels():
    chosen = settings("leather")
    program = (
        "import sys, hashlib; from tinydefects.datasets.synthetic.dataset import Settings, draw_defective;"
        "chosen = Settings.model_validate_json(sys.argv[1]); image, mask, _ = draw_defective(chosen, 4);"
        "print(hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-c", program, chosen.model_dump_json()]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    image, mask, _ = draw_defective(chosen, 4)
    assert hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest() == printed
