import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.data.pixels import write_png
from tinydefects.detector.detector import Detector
from tinydefects.detector.passes import plan_passes
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.errors import ResolutionMismatchError, TinyDefectsError

SIZE = (83, 121)  # 11 x 16 patches of 8 px, none of them whole below and right


def texture(size: tuple[int, int] = SIZE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(90, 130, (*size, 3), dtype=np.uint8)


def fitted(**options) -> Detector:
    """A teacher of 8 px patches that judges each patch for itself, so that tiles must not change a map."""
    options = {"teacher": counting_teacher(), "resolution": "native", "epochs": 8, "learning_rate": 3e-2} | options
    return Detector(**options).fit([texture(seed=seed) for seed in (1, 2)])


def shown_in_tiles(detector: Detector, folder, **options) -> Detector:
    """The same students, told to look through tiles."""
    detector.save(folder)
    described = json.loads((folder / "detector.json").read_text())
    described["settings"] |= options
    (folder / "detector.json").write_text(json.dumps(described))
    return Detector.load(folder, teacher=detector.teacher)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted()


@pytest.mark.slow
@pytest.mark.parametrize(("tile", "overlap"), [(16, 0), (24, 8), (40, 3), (64, 32), (200, 8)])
@pytest.mark.parametrize("stride", [None, 4])
def test_tiles_do_not_change_what_a_patch_alone_decides(detector, tmp_path, tile, overlap, stride):
    image = texture(seed=5)
    whole = shown_in_tiles(detector, tmp_path / "whole", stride=stride).predict(image)
    tiled = shown_in_tiles(detector, tmp_path / "tiled", tile=tile, overlap=overlap, stride=stride).predict(image)
    np.testing.assert_allclose(tiled.anomaly_map, whole.anomaly_map, atol=2e-6)
    assert tiled.score == pytest.approx(whole.score, abs=2e-6)


def test_an_even_surface_shows_no_tiles(detector, tmp_path):
    even = np.full((*SIZE, 3), 200, np.uint8)
    anomaly_map = shown_in_tiles(detector, tmp_path / "tiled", tile=32, overlap=16).predict(even).anomaly_map
    assert np.ptp(anomaly_map) < 1e-5 < anomaly_map.min()


def test_a_defect_on_the_border_of_two_tiles_peaks_as_high_as_one_inside(detector, tmp_path):
    tiled = shown_in_tiles(detector, tmp_path / "tiled", tile=48, overlap=8)
    starts = [columns.first for _, columns in tiled.passes((80, 128)).windows]
    assert sorted(set(starts)) == [0, 5, 10]  # of 6 patches: the second tile begins at 40 px
    peaks = []
    for left in (40, 48, 64):  # on both tiles, just behind the first one, in the middle of the second
        image = np.full((80, 128, 3), 110, np.uint8)
        image[32:40, left : left + 8] = (255, 0, 0)
        anomaly_map = tiled.predict(image).anomaly_map
        assert abs(int(anomaly_map.argmax()) % 128 + 0.5 - (left + 4)) <= 1
        peaks.append(anomaly_map.max())
    assert peaks == pytest.approx([peaks[0]] * 3, rel=1e-5)


def test_tiles_that_disagree_fade_into_each_other_without_a_step():
    plan = plan_passes(PatchGrid.native((8, 8 * 13), patch=8), tile=64, overlap=24)  # from 0 to 7 and from 5 to 12
    merged = plan.merge([np.zeros((1, 8), np.float32), np.ones((1, 8), np.float32)])[0]
    np.testing.assert_allclose(merged, [0, 0, 0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("stride", "shared"), [(8, [1 / 3, 1 / 2, 2 / 3]), (4, [1 / 4, 2 / 5, 1 / 2, 3 / 5, 3 / 4])], ids=["whole", "half"]
)
def test_tiles_that_share_more_than_the_overlap_fade_within_the_overlap_alone(stride, shared):
    """13 patches in tiles of 8 share 3, one was asked for: a tile counts fully from its second patch on."""
    plan = plan_passes(PatchGrid.native((8, 8 * 13), patch=8), tile=64, overlap=8, stride=stride)
    tiles = [float(columns.first >= 5 * 8 // stride) for _, columns in plan.windows]
    parts = [np.full(grid.shape, tile, np.float32) for tile, grid in zip(tiles, plan.grids, strict=True)]
    merged = plan.merge(parts)[0]
    steps = 8 // stride
    np.testing.assert_allclose(merged, [0] * 5 * steps + shared + [1] * 5 * steps, atol=1e-6)


@pytest.mark.parametrize("stride", [8, 4, 2])
@pytest.mark.parametrize("tile", [None, 16, 24, 40])
@pytest.mark.parametrize("size", [(8, 24), (40, 72), (83, 121)])
def test_the_shapes_of_all_passes_are_counted_without_making_them(size, tile, stride):
    plan = plan_passes(PatchGrid.native(size, patch=8), tile=tile, stride=stride)
    assert plan.pass_shapes == Counter(grid.shape for grid in plan.grids)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    tile=st.integers(16, 120),
    overlap=st.integers(0, 60),
    patch=st.sampled_from([4, 8]),
    halves=st.booleans(),
)
def test_every_place_is_seen_and_neighbours_share_what_was_asked_for(size, tile, overlap, patch, halves):
    try:
        plan = plan_passes(
            PatchGrid.native(size, patch=patch), tile=tile, overlap=overlap, stride=patch // 2 if halves else None
        )
    except TinyDefectsError:
        assert math.ceil(overlap / patch) >= round(tile / patch) - 1
        return
    image = np.zeros((*size, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(size[0])[:, None] % 256, np.arange(size[1]) % 256
    for (rows, columns), (pixels, grid) in zip(plan.windows, plan.views(image), strict=True):
        assert grid.shape == (len(rows.weights), len(columns.weights))
        assert max(grid.shape) <= plan.tile
        assert tuple(pixels[0, 0, :2]) == (rows.first * plan.stride % 256, columns.first * plan.stride % 256)
    merged = plan.merge(np.full(grid.shape, 2.0, np.float32) for grid in plan.grids)
    np.testing.assert_allclose(merged, np.full(plan.shape, 2.0), rtol=1e-6)
    for axis in (0, 1):
        spans = [window[axis] for window in plan.windows if window[axis].first * plan.stride % patch == 0]
        ends = sorted({(span.first * plan.stride, span.pixels(plan.stride).stop) for span in spans})
        for (_, end), (start, _) in pairwise(ends):
            assert end - start >= max(overlap, patch)


def test_a_tile_is_cut_from_the_image_without_copying_it():
    image = texture((200, 300))
    for pixels, grid in plan_passes(PatchGrid.native((200, 300), patch=8), tile=64).views(image):
        assert np.shares_memory(pixels, image)
        assert max(pixels.shape) <= 64
        assert grid == PatchGrid.native(pixels.shape[:2], patch=8)


def test_tiles_are_native_unless_a_resolution_is_given_and_then_cut_from_the_scaled_image():
    assert Detector(teacher=counting_teacher()).settings.resolution == 1036
    assert Detector(teacher=counting_teacher(), tile=64).settings.resolution == "native"
    plan = Detector(teacher=counting_teacher(), tile=64, resolution=320).passes((100, 160))
    assert plan.grid == PatchGrid.proportional((100, 160), patch=8, resolution=320)
    image = texture((100, 160))
    resized = plan.grid.resize(image)
    assert resized.shape == (200, 320, 3)
    pixels, _ = next(iter(plan.views(image)))
    assert np.array_equal(pixels, resized[:64, :64])


def test_a_native_image_reaches_the_teacher_pixel_by_pixel_each_at_its_own_size(detector):
    for size in ((13, 24), (40, 21)):
        image = texture(size)
        patches = detector.grid(size).to_patches(image, (0.0,) * 3, (1 / 255,) * 3)
        assert patches.shape == (3, math.ceil(size[0] / 8) * 8, math.ceil(size[1] / 8) * 8)
        np.testing.assert_allclose(patches[:, : size[0], : size[1]].permute(1, 2, 0), image, atol=1e-4)
        assert detector.predict(image).anomaly_map.shape == size


def test_students_learn_from_the_tiles_that_they_will_judge(tmp_path):
    teacher = counting_teacher()
    learned = fitted(teacher=teacher, tile=48, overlap=16, cache_dir=tmp_path / "cache", epochs=2)
    per_image = 3 * 4  # 11 rows in tiles of 6 sharing 2: 0, 2, 5; 16 columns: 0, 3, 6, 10
    assert teacher.model.passes == 2 * per_image
    assert learned.n_images == 2
    write_png(tmp_path / "0.png", texture())
    cost = learned.expected_cost([tmp_path / "0.png"])
    assert (cost.n_images, cost.n_passes, cost.n_patches) == (1, per_image, per_image * 36)
    assert str(cost).startswith("1 images, 12 passes, 432 patches, ")
    stored = sorted((tmp_path / "cache").rglob("*.npy"))
    assert sum(path.stat().st_size for path in stored) == 2 * cost.cache_bytes
    fitted(teacher=teacher, tile=48, overlap=16, cache_dir=tmp_path / "cache", epochs=2)
    assert teacher.model.passes == 2 * per_image


def test_tiles_too_many_for_the_cache_are_refused_before_the_first_pass():
    teacher = counting_teacher()
    with pytest.raises(TinyDefectsError, match="raise cache_limit_gb"):
        fitted(teacher=teacher, tile=48, overlap=16, cache_limit_gb=2e-5)  # an image needs 12 * (128 + 36 * 48) bytes
    assert teacher.model.passes == 0


@pytest.mark.slow
def test_settings_of_tiles_are_saved_and_tell_detectors_apart(detector, tmp_path):
    learned = fitted(tile=48, overlap=16, stride=4)
    learned.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", teacher=learned.teacher)
    assert loaded.settings == learned.settings.model_copy(update={"blocks": (7, 11)})
    assert (loaded.settings.resolution, loaded.settings.tile) == ("native", 48)
    image = texture(seed=7)
    assert np.array_equal(loaded.predict(image).anomaly_map, learned.predict(image).anomaly_map)
    same_students = [
        shown_in_tiles(detector, tmp_path / "other", **options).fingerprint
        for options in ({}, {"tile": 48}, {"tile": 48, "overlap": 16}, {"stride": 4}, {"resolution": 121})
    ]
    assert len(set(same_students)) == 5
    assert same_students[0] == detector.fingerprint


def test_a_detector_saved_before_there_were_tiles_still_loads(tmp_path):
    detector = fitted(resolution=64)
    detector.save(tmp_path / "model")
    described = json.loads((tmp_path / "model/detector.json").read_text())
    for new in ("tile", "overlap", "stride"):
        del described["settings"][new]
    (tmp_path / "model/detector.json").write_text(json.dumps(described))
    loaded = Detector.load(tmp_path / "model", teacher=detector.teacher)
    assert loaded.fingerprint == detector.fingerprint
    assert (loaded.settings.tile, loaded.settings.overlap, loaded.settings.stride) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"tile": 0}, r"Detector: field 'tile': Input should be greater than 0 \(got '0'\)"),
        ({"overlap": 8}, "an overlap of 8 px is that of tiles: give a tile"),
        ({"resolution": "huge"}, "field 'resolution': give a number of pixels, 16 to 1000000, or 'native'"),
        ({"preset": "published", "tile": 64}, "the preset published is one pass over a square"),
        ({"preset": "published", "stride": 4}, "the preset published is one pass over a square"),
        ({"preset": "published", "resolution": "native"}, "the preset published is one pass over a square"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_before_anything_is_loaded(options, expected):
    with pytest.raises(TinyDefectsError, match=expected):
        Detector(teacher="vit_of_nobody", **options)


def test_an_overlap_as_large_as_the_tile_is_refused_with_a_tile_that_would_do():
    with pytest.raises(TinyDefectsError, match=r"tiles of 48 px cannot overlap by 48 px .* a tile of 56 px or more"):
        plan_passes(PatchGrid.native((100, 100), patch=8), tile=48, overlap=41)
    assert plan_passes(PatchGrid.native((100, 100), patch=8), tile=48, overlap=40).overlap == 5


def test_a_plan_for_another_size_is_refused():
    plan = plan_passes(PatchGrid.native((100, 100), patch=8), tile=48)
    with pytest.raises(ResolutionMismatchError, match=r"the image is \(100, 99\)"):
        next(iter(plan.views(texture((100, 99)))))


def test_the_teacher_never_sees_more_than_one_tile(monkeypatch):
    teacher, shapes = counting_teacher(), []
    look = teacher.model.forward_intermediates

    def remember(batch: torch.Tensor, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.append(tuple(batch.shape))
        return look(batch, **options)

    monkeypatch.setattr(teacher.model, "forward_intermediates", remember)
    fitted(teacher=teacher, tile=40, epochs=1).predict(texture())
    assert len(shapes) == 3 * (3 * 4)  # two images to learn from, one to judge
    assert {shape[:2] for shape in shapes} == {(1, 3)}
    assert max(max(shape[2:]) for shape in shapes) == 40


DRAWN = [f"--option={option}" for option in ("size=64", "n_train=2", "n_good=1", "n_defect=1")]
FIT = ["fit", "synthetic/brushed_metal", *DRAWN, "--teacher", "builtin", "--epochs", "1", "--device", "cpu"]


@pytest.mark.slow
def test_the_command_fits_in_tiles_and_predict_repeats_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--tile", "40", "--overlap", "8", "--stride", "4"]
    code, out, _ = run(monkeypatch, capsys, *FIT, *options, "--dry-run", "--json")
    assert code == 0
    cost = json.loads(out)
    assert (cost["n_images"], cost["n_passes"]) == (2, 2 * 4 * 4)  # 8 patches in tiles of 5, from 0 and from 3
    assert cost["n_patches"] == 2 * 4 * (5 * 5 + 2 * 5 * 4 + 4 * 4)
    assert run(monkeypatch, capsys, *FIT, *options, "--out", "model")[0] == 0
    predict = ["predict", "model", "synthetic/brushed_metal", *DRAWN, "--device", "cpu"]
    assert run(monkeypatch, capsys, *predict, "--out", "maps")[0] == 0
    settings = json.loads((tmp_path / "model/detector.json").read_text())["settings"]
    assert {name: settings[name] for name in ("resolution", "tile", "overlap", "stride")} == {
        "resolution": "native",
        "tile": 40,
        "overlap": 8,
        "stride": 4,
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--resolution", "huge"], "--resolution: give a number of pixels, 16 to 1000000, or 'native'"),
        (["--resolution", "8"], "--resolution: give a number of pixels, 16 to 1000000"),
        (["--overlap", "8"], "give a tile (--tile), too, or leave it out"),
        (["--tile", "48", "--stride", "3"], "a stride of 3 px does not divide the patch of 8 px: choose 8, 4, 2, 1"),
        (["--tile", "16", "--overlap", "16"], "a tile of 24 px or more"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, capsys, options, expected):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *FIT, *options, "--dry-run")
    assert code == 2
    (complaint,) = [line for line in err.splitlines() if line.startswith("tinydefects: ")]
    assert expected in complaint
