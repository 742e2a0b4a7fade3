import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_teachers import TINY_VIT, counting_teacher, tiny_vit
from tinydefects.detector.features import FeatureCache, expected_bytes
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.teacher import Teacher, freeze_teacher
from tinydefects.errors import TinyDefectsError, TrainingError

DiskUsage = namedtuple("DiskUsage", "total used free")


def photographs() -> list[np.ndarray]:
    """Three sizes: 2 x 3, 3 x 3 and 1 x 3 patches."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (height, 24, 3), dtype=np.uint8) for height in (16, 24, 8)]


def grid_of(image: np.ndarray, resolution: int = 24) -> PatchGrid:
    return PatchGrid.proportional(image.shape[:2], patch=8, resolution=resolution)


def filled(folder: Path, teacher: Teacher, **settings) -> FeatureCache:
    cache = FeatureCache(folder, teacher, **({"feature_format": "float16", "limit_bytes": 10**9} | settings))
    for image in photographs():
        cache.add(image, grid_of(image))
    return cache


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_second_fit_does_not_run_the_teacher_again(tmp_path):
    teacher = counting_teacher()
    first, second = filled(tmp_path, teacher), filled(tmp_path, teacher)
    assert teacher.model.passes == len(first) == len(second) == 3
    for one, other in zip(first.batches([0, 1, 2], images=1), second.batches([0, 1, 2], images=1), strict=True):
        assert torch.equal(torch.stack(one), torch.stack(other))


def test_another_teacher_pixel_size_or_number_format_is_computed_anew(tmp_path):
    image = np.random.default_rng(1).integers(0, 256, (17, 24, 3), dtype=np.uint8)  # 3 x 3 patches, square or not
    changed = image.copy()
    changed[0, 0, 0] ^= 1
    teacher, other = counting_teacher(), counting_teacher(seed=1)
    half, full = (
        FeatureCache(tmp_path, teacher, feature_format=name, limit_bytes=10**9) for name in ("float16", "float32")
    )
    half.add(image, grid_of(image))
    half.add(changed, grid_of(image))
    half.add(image, PatchGrid.published((17, 24), patch=8, resolution=24))
    half.add(image, grid_of(image, resolution=48))
    full.add(image, grid_of(image))
    assert teacher.model.passes == 5
    FeatureCache(tmp_path, other, feature_format="float16", limit_bytes=10**9).add(image, grid_of(image))
    assert other.model.passes == 1


@pytest.mark.parametrize("change", [{"precision": "highest"}, {"precision": "bfloat16"}, {"compiled": True}])
def test_products_computed_in_another_way_are_no_longer_the_same_features(tmp_path, change):
    teacher, image = counting_teacher(), photographs()[0]
    FeatureCache(tmp_path, teacher, feature_format="float32", limit_bytes=10**9).add(image, grid_of(image))
    changed = FeatureCache(tmp_path, replace(teacher, **change), feature_format="float32", limit_bytes=10**9)
    assert not changed.holds(image, grid_of(image))


def test_batches_hold_all_patches_of_their_images_in_the_order_asked_for(tmp_path):
    teacher = counting_teacher()
    cache = filled(tmp_path, teacher)
    batches = list(cache.batches([2, 0, 1], images=2))
    assert [tuple(earlier.shape) for earlier, _ in batches] == [(1 * 3 + 2 * 3, 12), (3 * 3, 12)]
    image = photographs()[2]
    earlier, later = teacher.features(grid_of(image).to_patches(image)[None])
    assert torch.equal(batches[0][0][:3], earlier.reshape(3, 12).half().float())
    assert torch.equal(batches[0][1][:3], later.reshape(3, 12).half().float())


@pytest.mark.parametrize(("room", "n_read"), [(0, 6), (500, 4), (864, 3)])
def test_what_a_gpu_has_room_for_is_read_once_and_stays_the_same(tmp_path, monkeypatch, room, n_read):
    cache = filled(tmp_path, counting_teacher())
    expected = [torch.stack(one) for one in cache.batches([2, 0, 1], images=2)]
    read, load = [], np.load
    monkeypatch.setattr("tinydefects.detector.features.room_on_gpu", lambda device, held: room)
    monkeypatch.setattr(np, "load", lambda path, **how: read.append(path) or load(path, **how))
    for _ in range(2):  # epochs
        found = [torch.stack(one) for one in cache.batches([2, 0, 1], images=2)]
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(read) == n_read


def test_float32_features_come_back_bit_by_bit(tmp_path):
    teacher = counting_teacher()
    ((earlier, _),) = filled(tmp_path, teacher, feature_format="float32").batches([0], images=1)
    image = photographs()[0]
    assert torch.equal(earlier, teacher.features(grid_of(image).to_patches(image)[None])[0].reshape(6, 12))


@pytest.mark.parametrize("feature_format", ["float16", "float32"])
def test_the_bytes_foretold_are_the_bytes_on_disk(tmp_path, feature_format):
    filled(tmp_path, counting_teacher(), feature_format=feature_format)
    grids = [grid_of(image) for image in photographs()]
    foretold = expected_bytes(grids, dim=12, feature_format=feature_format)
    assert foretold == sum(path.stat().st_size for path in files_in(tmp_path))


def test_features_of_two_blocks_lie_under_the_names_that_version_0_1_0_gave_them(tmp_path):
    image = photographs()[0]
    for settings in ({"feature_format": "float16"}, {"feature_format": "float32", "patch_fraction": 0.5}):
        FeatureCache(tmp_path, counting_teacher(), limit_bytes=10**9, **settings).add(image, grid_of(image))
    assert [path.stem[:16] for path in files_in(tmp_path)] == ["30f936a0eb4f256a", "aff0f4208e5d194c"]


@pytest.mark.parametrize("blocks", [(3,), (0, 2, 5), (1, 2, 3, 4)])
def test_any_number_of_blocks_is_kept_and_read_back(tmp_path, blocks):
    teacher = freeze_teacher(TINY_VIT, tiny_vit(), blocks=blocks, device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    grid = PatchGrid.native((32, 48), patch=16)
    expected = teacher.features(grid.to_patches(image, teacher.mean, teacher.std)[None])
    cache = FeatureCache(tmp_path, teacher, feature_format="float32", limit_bytes=10**9)
    for read, block in zip(cache.read(image, grid), expected, strict=True):
        torch.testing.assert_close(read, block, rtol=1e-4, atol=1e-4)
    cache = FeatureCache(tmp_path, teacher, feature_format="float32", limit_bytes=10**9)
    assert cache.add(image, grid)  # found, as the first left it
    (whole,) = cache.batches([0], images=1)
    (mixed,) = cache.patch_batches([0], patches=9, shuffle=torch.Generator().manual_seed(0))
    assert [block.shape for block in whole] == [block.shape for block in mixed] == [(6, 64)] * len(blocks)
    order = [whole[0].tolist().index(patch) for patch in mixed[0].tolist()]
    for block, other, read in zip(whole, mixed, cache.read(image, grid), strict=True):
        assert torch.equal(block, read.reshape(6, 64))
        assert torch.equal(block[order], other)
    foretold = expected_bytes([grid], dim=64, feature_format="float32", n_blocks=len(blocks))
    assert foretold == sum(path.stat().st_size for path in files_in(tmp_path))


def test_of_three_blocks_the_same_share_of_the_patches_is_kept(tmp_path):
    teacher = freeze_teacher(TINY_VIT, tiny_vit(), blocks=(0, 2, 5), device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    grid = PatchGrid.native((64, 64), patch=16)
    settings = {"feature_format": "float32", "limit_bytes": 10**9}
    all_patches = FeatureCache(tmp_path / "all", teacher, **settings).read(image, grid)
    cache = FeatureCache(tmp_path / "some", teacher, **settings, patch_fraction=0.25)
    cache.add(image, grid)
    (kept,) = cache.batches([0], images=1)
    places = [all_patches[0].reshape(16, 64).tolist().index(patch) for patch in kept[0].tolist()]
    assert len(set(places)) == 4
    for block, some in zip(all_patches, kept, strict=True):
        assert torch.equal(block.reshape(16, 64)[places], some)
    foretold = expected_bytes([grid], dim=64, feature_format="float32", n_blocks=3, patch_fraction=0.25)
    assert foretold == sum(path.stat().st_size for path in files_in(tmp_path / "some"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[:40],
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
        lambda whole: whole[:200] + bytes([whole[200] ^ 1]) + whole[201:],
        lambda whole: whole[:-32],
    ],
)
def test_a_file_that_was_cut_off_or_changed_does_not_count(tmp_path, damage):
    teacher = counting_teacher()
    filled(tmp_path, teacher)
    for path in files_in(tmp_path):
        path.write_bytes(damage(path.read_bytes()))
    cache = filled(tmp_path, teacher)
    assert teacher.model.passes == 6
    assert len(list(cache.batches([0, 1, 2], images=1))) == 3


def test_a_fit_killed_while_writing_leaves_nothing_that_counts(tmp_path, monkeypatch):
    teacher = counting_teacher()

    def killed(file, array):
        file.write(array.tobytes()[:10])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            filled(tmp_path, teacher)
    assert files_in(tmp_path) == []
    filled(tmp_path, teacher)
    assert teacher.model.passes == 1 + 3


def test_one_byte_above_the_limit_is_refused_before_the_teacher_runs(tmp_path):
    first = expected_bytes([grid_of(photographs()[0])], dim=12, feature_format="float16")
    teacher = counting_teacher()
    with pytest.raises(TrainingError, match=r"4.48e-07 GB .*the limit is 4.47e-07 GB: raise cache_limit_gb") as caught:
        filled(tmp_path, teacher, limit_bytes=first - 1)
    assert first == 128 + 32 + 2 * (2 * 3 * 12) * 2 == 448
    assert str(tmp_path) in str(caught.value)
    assert teacher.model.passes == 0


def test_what_lies_in_the_folder_counts_towards_the_limit_and_cached_images_need_no_room(tmp_path):
    teacher = counting_teacher()
    filled(tmp_path, teacher)
    used = sum(path.stat().st_size for path in files_in(tmp_path))
    cache = filled(tmp_path, teacher, limit_bytes=used)
    extra = photographs()[0] // 2
    with pytest.raises(TrainingError, match="that lie there"):
        cache.add(extra, grid_of(extra))


def test_a_full_disk_is_refused_before_the_teacher_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: DiskUsage(10**12, 10**12 - 415, 415))
    teacher = counting_teacher()
    with pytest.raises(TrainingError, match=r"the disk has 4.15e-07 GB free: lower the resolution"):
        filled(tmp_path, teacher)
    assert teacher.model.passes == 0


def test_a_cache_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(TinyDefectsError, match="choose another cache_dir"):
        filled(tmp_path / "cache", counting_teacher())


def test_equal_images_share_a_file_and_still_count_twice(tmp_path):
    teacher, image = counting_teacher(), photographs()[0]
    cache = FeatureCache(tmp_path, teacher, feature_format="float16", limit_bytes=10**9)
    for _ in range(2):
        cache.add(image, grid_of(image))
    assert (len(cache), teacher.model.passes, len(files_in(tmp_path))) == (2, 1, 1)


def test_patch_batches_show_every_patch_once_in_batches_of_nearly_one_size(tmp_path):
    cache = filled(tmp_path, counting_teacher())
    ((earlier, later),) = cache.batches([0, 1, 2], images=3)  # 6 + 9 + 3 patches
    mixed = list(cache.patch_batches([0, 1, 2], patches=7, shuffle=torch.Generator().manual_seed(0)))
    assert [len(batch[0]) for batch in mixed] == [6, 6, 6]
    for block, features in enumerate((earlier, later)):
        shown = torch.cat([batch[block] for batch in mixed])
        assert not torch.equal(shown, features)
        assert sorted(shown.tolist()) == sorted(features.tolist())
    rows = {tuple(patch): tuple(other) for patch, other in zip(earlier.tolist(), later.tolist(), strict=True)}
    for batch in mixed:
        assert [rows[tuple(patch)] for patch in batch[0].tolist()] == [tuple(patch) for patch in batch[1].tolist()]


def test_images_take_turns_and_every_batch_has_patches_of_as_many(tmp_path, monkeypatch):
    monkeypatch.setattr("tinydefects.detector.features.IMAGES_PER_STEP", 2)
    cache = filled(tmp_path, counting_teacher())
    images = [block[0].tolist() for block in (next(iter(cache.batches([place], images=1))) for place in range(3))]
    mixed = list(cache.patch_batches([0, 1, 2], patches=3, shuffle=torch.Generator().manual_seed(0)))
    # 6 and 3 patches, then 9 of the image between them, in three turns
    assert [len(earlier) for earlier, _ in mixed] == [3, 3] * 3
    for number, (earlier, _) in enumerate(mixed):
        found = [sum(patch in image for patch in earlier.tolist()) for image in images]
        assert found == ([0, 3, 0] if number % 2 else [2, 0, 1])


def test_the_folder_is_not_looked_through_for_every_image(tmp_path, monkeypatch):
    looks, walk = [], os.walk
    monkeypatch.setattr(os, "walk", lambda folder: looks.append(folder) or walk(folder))
    filled(tmp_path, counting_teacher())
    assert len(looks) == 1
