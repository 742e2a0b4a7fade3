"""The options of training: held-out images that end it, and a share of the patches."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.cli.detecting import told_of_the_end
from tinydefects.data.pixels import write_png
from tinydefects.decisions.calibration import CalibrationSettings
from tinydefects.detector.detector import Detector
from tinydefects.detector.features import FeatureCache, expected_bytes, spread_patches
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.settings import DetectorSettings
from tinydefects.detector.students import StudentPair, mean_loss, pair_loss
from tinydefects.detector.training import Epoch, has_stalled, split_passes, until_stalled
from tinydefects.errors import TinyDefectsError, TrainingError

CACHE_BYTES = 128 + 32 + 2 * 12 * 2  # of one patch of the counting teacher


def textures(n: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(90, 130, (n, 48, 64, 3), dtype=np.uint8))  # 6 x 8 patches


def untrained(**settings) -> Detector:
    return Detector(**{"teacher": counting_teacher(), "resolution": 64, "epochs": 5} | settings)


def weights_of(students: StudentPair) -> torch.Tensor:
    return torch.cat([weights.detach().flatten() for weights in students.parameters()])


def cache_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.npy"))


# Held-out images


@pytest.mark.parametrize(
    ("losses", "stalled"),
    [
        ([1.0, 0.5, 0.5, 0.5], False),  # the gain of epoch 2 is within the last three
        ([1.0, 0.5, 0.5, 0.5, 0.5], True),
        ([0.5, 0.496, 0.4959, 0.4958], True),  # 0.8 %
        ([0.5, 0.498, 0.496, 0.494], False),  # 1.2 % altogether
        ([0.5, 0.9, 0.9, 0.4], False),
        ([0.5, 0.4, 0.9, 0.9, 0.9], True),
        ([0.5, 0.5, 0.5], False),
    ],
)
def test_training_stalls_when_the_lowest_loss_falls_by_less_than_a_hundredth_in_three_epochs(losses, stalled):
    assert has_stalled(losses, 3) is stalled


def watched(held_out: Sequence[float], *, epochs: int, patience: int = 2) -> tuple[StudentPair, list]:
    """A made-up training: in epoch n all weights are n, and the held-out loss is what the list says."""
    students, told = StudentPair(4), iter(held_out)

    def training() -> Iterator[Epoch]:
        for epoch in range(1, epochs + 1):
            students.load_state_dict({name: torch.full_like(w, epoch) for name, w in students.state_dict().items()})
            yield Epoch(loss=1 / epoch, validation_loss=None, n_epochs=epochs, is_last=epoch == epochs)

    return students, list(until_stalled(students, training(), lambda: next(told), patience=patience))


def test_a_plateau_ends_training_early_with_the_students_of_the_lowest_loss():
    students, epochs = watched([0.9, 0.5, 0.6, 0.499, 0.7, 0.1, 0.1], epochs=7)
    assert [epoch.validation_loss for epoch in epochs] == [0.9, 0.5, 0.6, 0.499]
    assert [epoch.is_last for epoch in epochs] == [False, False, False, True]
    assert (weights_of(students) == 4).all()
    students, epochs = watched([0.9, 0.5, 0.6, 0.6, 0.1], epochs=5)
    assert len(epochs) == 4
    assert (weights_of(students) == 2).all()


def test_without_a_plateau_all_epochs_run_and_the_lowest_loss_still_decides():
    students, epochs = watched([0.9, 0.3, 0.4], epochs=3)
    assert [epoch.is_last for epoch in epochs] == [False, False, True]
    assert (weights_of(students) == 2).all()


def test_a_held_out_loss_that_is_not_finite_keeps_the_best_students_before():
    with pytest.raises(TrainingError, match=r"epoch 3: the loss of the held-out images is nan .*lower learning_rate"):
        watched([0.9, 0.3, math.nan], epochs=5)


def test_whole_images_are_held_out_whatever_the_number_of_their_tiles():
    n_passes = [3, 1, 4, 2, 5]
    learnt, held_out = split_passes(n_passes, 0.4, seed=0)
    assert sorted([*learnt, *held_out]) == list(range(15))
    image_of = np.repeat(np.arange(5), n_passes)
    assert len(set(image_of[held_out])) == 2
    assert not set(image_of[held_out]) & set(image_of[learnt])
    assert split_passes(n_passes, 0.4, seed=0) == (learnt, held_out)
    assert len({tuple(split_passes(n_passes, 0.4, seed=seed)[1]) for seed in range(20)}) > 3
    assert split_passes(n_passes, None, seed=0) == (list(range(15)), [])


@pytest.mark.parametrize(("fraction", "n_held_out"), [(0.01, 1), (0.5, 2), (0.99, 3)])
def test_one_image_at_least_is_held_out_and_never_all(fraction, n_held_out):
    assert len(split_passes([1] * 4, fraction, seed=0)[1]) == n_held_out


def test_one_training_image_cannot_be_split():
    with pytest.raises(TrainingError, match=r"one training image and none to hold out: give two or more"):
        untrained(validation_fraction=0.5).fit(textures(1))


def test_the_held_out_loss_is_the_mean_over_all_their_patches_and_changes_nothing():
    students, generator = StudentPair(6), torch.Generator().manual_seed(0)
    batches = [tuple(torch.randn(2, n, 6, generator=generator)) for n in (1, 30, 7)]
    before = weights_of(students)
    earlier, later = (torch.cat(blocks) for blocks in zip(*batches, strict=True))
    expected = pair_loss(earlier, later, *students(earlier, later)).item()
    assert mean_loss(students, batches) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(weights_of(students), before)


def test_nothing_is_learnt_from_held_out_images(tmp_path):
    images, settings = textures(4), {"validation_fraction": 0.3, "epochs": 2, "cache_dir": tmp_path}
    fitted = untrained(**settings).fit(images)
    _, (held_out,) = split_passes([1] * 4, 0.3, seed=0)
    corrupt = [255 - image if place == held_out else image for place, image in enumerate(images)]
    other = untrained(**settings).fit(corrupt)
    assert other.losses == fitted.losses
    assert other.validation_losses != fitted.validation_losses
    assert fitted.kept_epoch == other.kept_epoch == 2
    assert torch.equal(weights_of(other.students), weights_of(fitted.students))


def test_a_fit_that_stops_says_so_in_its_progress_and_keeps_its_losses_on_disk(tmp_path):
    told = []
    detector = untrained(epochs=200, learning_rate=3e-2, validation_fraction=0.25, patience=2)
    detector.fit(textures(4), progress=lambda *step: told.append(step))
    ran = len(detector.losses)
    assert 2 < ran < 200
    assert len(detector.validation_losses) == ran
    assert detector.validation_losses[detector.kept_epoch - 1] == min(detector.validation_losses)
    students = [step[1:] for step in told if step[0] == "students"]
    assert students == [(epoch, 200) for epoch in range(1, ran)] + [(ran, ran)]
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", teacher=detector.teacher)
    assert (loaded.validation_losses, loaded.kept_epoch) == (detector.validation_losses, detector.kept_epoch)
    assert loaded.settings == detector.settings.model_copy(update={"blocks": (7, 11)})


def test_a_model_saved_before_these_options_existed_still_loads(tmp_path):
    detector = untrained(epochs=1).fit(textures(2))
    detector.save(tmp_path / "model")
    file = tmp_path / "model/detector.json"
    described = json.loads(file.read_text())
    assert described.pop("validation_losses") == []
    for name in ("validation_fraction", "patience", "patch_fraction", "steps"):
        assert described["settings"].pop(name) is None
    file.write_text(json.dumps(described))
    loaded = Detector.load(tmp_path / "model", teacher=detector.teacher)
    assert loaded.fingerprint == detector.fingerprint
    assert (loaded.validation_losses, loaded.kept_epoch) == ([], 1)


@pytest.mark.parametrize(
    ("options", "n_epochs"),
    [
        ({}, 7),  # all patches are fewer than 4,096
        ({"preset": "v0.1"}, 4),  # 2 steps an epoch
        ({"patches_per_batch": 64}, 2),  # 5 steps
        ({"validation_fraction": 0.2, "patience": 9}, 7),  # 1 step
    ],
)
def test_steps_end_a_fit_that_counts_them_and_stay_with_the_model(options, n_epochs, tmp_path):
    told = []
    detector = Detector(teacher=counting_teacher(), resolution=64, steps=7, **options)
    detector.fit(textures(5), progress=lambda *step: told.append(step))
    assert detector.settings.epochs is None
    assert len(detector.losses) == n_epochs
    students = [step[1:] for step in told if step[0] == "students"]
    assert students == [(epoch, n_epochs) for epoch in range(1, n_epochs + 1)]
    detector.save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", teacher=detector.teacher)
    assert (loaded.settings.steps, loaded.settings.epochs) == (7, None)
    assert loaded.fingerprint == detector.fingerprint


def test_as_many_steps_as_epochs_take_are_the_same_training():
    by_epochs, by_steps = (
        Detector(teacher=counting_teacher(), resolution=64, **length).fit(textures(5))
        for length in ({"epochs": 3}, {"steps": 6, "preset": "v0.1"})
    )
    assert torch.equal(weights_of(by_epochs.students), weights_of(by_steps.students))
    assert by_epochs.losses == by_steps.losses


def test_students_of_folds_take_as_many_steps_and_say_how_far_they_are():
    told = []
    detector = Detector(teacher=counting_teacher(), resolution=64, steps=3)
    detector.fit(
        textures(5), calibration=CalibrationSettings(), unseen="folds", progress=lambda *step: told.append(step)
    )
    folds = [step[1:] for step in told if step[0] == "students of folds"]
    assert folds == [(epoch, 15) for epoch in range(1, 16)]  # 1 step an epoch without one of the images


def test_the_epochs_foretold_are_those_that_steps_make():
    counted = DetectorSettings(steps=30, preset="v0.1")
    assert counted.expected_epochs(n_passes=40, n_patches=400) == pytest.approx(3.0)
    mixed = DetectorSettings(steps=30, patches_per_batch=20)
    assert mixed.expected_epochs(n_passes=40, n_patches=400) == pytest.approx(1.5)
    assert DetectorSettings().expected_epochs(n_passes=40, n_patches=8192 * 40) == pytest.approx(2.5)  # 200 x 4096
    assert DetectorSettings(preset="v0.1").expected_epochs(n_passes=40, n_patches=400) == 50.0
    assert DetectorSettings(epochs=3).expected_epochs(n_passes=40, n_patches=400) == 3.0


@pytest.mark.parametrize(
    ("held_out", "kept"), [([3.0, 1.0, 2.0, 1.0], 2), ([2.0, 3.0], 1), ([3.0, 2.0], 2), ([], 4)], ids=str
)
def test_the_epoch_that_is_kept_is_the_first_of_the_lowest_held_out_loss_or_the_last(held_out, kept):
    detector = untrained()
    detector.losses, detector.validation_losses = [4.0, 3.0, 2.0, 1.0], held_out
    assert detector.kept_epoch == kept


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"patience": 4}, r"a patience of 4 epochs looks at held-out images: give a validation_fraction"),
        ({"steps": 9, "epochs": 4}, r"9 steps and 4 epochs are two ends of one training: give steps \(--steps\) or"),
        ({"steps": 0}, "field 'steps': Input should be greater than 0"),
        ({"validation_fraction": 0.1, "preset": "published"}, "the preset published learns from every patch"),
        ({"patch_fraction": 0.1, "preset": "published"}, "the preset published learns from every patch"),
        ({"validation_fraction": 1.0}, "field 'validation_fraction': Input should be less than 1"),
        ({"validation_fraction": 0.1, "patience": 0}, "field 'patience': Input should be greater than 0"),
        ({"patch_fraction": 0}, "field 'patch_fraction': Input should be greater than 0"),
    ],
)
def test_impossible_options_are_refused(settings, expected):
    with pytest.raises(TinyDefectsError, match=expected):
        Detector(**settings)


# A share of the patches


def farthest(patches: np.ndarray, chosen: np.ndarray) -> float:
    """Distance of the patch that is farthest from all chosen ones, (2, N, C) both."""
    one, other = (np.concatenate(list(features), axis=1) for features in (patches, chosen))
    return float(np.linalg.norm(one[:, None] - other[None], axis=-1).min(axis=1).max())


def test_kept_patches_cover_the_image_better_than_chance_and_are_the_same_twice():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((2, 20, 20, 5)).astype(np.float16)
    features[:, 3, 4] += 9  # a rare one
    kept = spread_patches(features, 40)
    assert kept.shape == (2, 40, 5)
    assert kept.dtype == np.float16
    assert np.array_equal(kept, spread_patches(features.copy(), 40))
    patches = features.reshape(2, 400, 5)
    by_chance = [farthest(patches, patches[:, generator.choice(400, 40, replace=False)]) for _ in range(5)]
    assert farthest(patches, kept) < 0.8 * min(by_chance)
    assert features[0, 3, 4].tolist() in kept[0].tolist()


def test_near_copies_are_left_out():
    different = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3) ** 2
    copies = np.repeat(different, 5, axis=2) + np.float32(1e-3) * np.arange(10).reshape(1, 1, 10, 1)
    kept = spread_patches(copies, 4)
    distances = np.abs(kept[0][:, None] - different[0].reshape(1, 4, 3)).max(axis=-1)
    assert sorted(distances.argmin(axis=1)) == [0, 1, 2, 3]


def test_the_cache_shrinks_and_the_bytes_foretold_are_those_on_disk(tmp_path):
    for index, image in enumerate(textures(2)):
        write_png(tmp_path / f"{index}.png", image)
    detector = untrained(patch_fraction=0.25, cache_dir=tmp_path / "cache", epochs=1)
    cost = detector.expected_cost(sorted(tmp_path.glob("*.png")))
    detector.fit(textures(2))
    assert (cost.n_patches, cost.n_kept) == (96, 24)
    assert cost.cache_bytes == sum(path.stat().st_size for path in cache_files(tmp_path)) == 2 * (160 + 12 * 12 * 4)
    assert str(cost) == "2 images, 96 patches, 24 of them kept, 1.47e-06 GB of teacher features"


def test_the_limit_of_the_folder_is_that_of_the_kept_patches():
    limit_gb = 4 * (160 + 12 * 12 * 4) / 1e9
    untrained(patch_fraction=0.25, cache_limit_gb=limit_gb, epochs=1).fit(textures(4))
    for settings in ({"patch_fraction": 0.5}, {}, {"patch_fraction": 0.25, "cache_limit_gb": limit_gb * 0.99}):
        with pytest.raises(TrainingError, match="raise cache_limit_gb"):
            untrained(**{"cache_limit_gb": limit_gb, "epochs": 1} | settings).fit(textures(4))


def test_shares_lie_beside_each_other_and_whole_grids_spare_the_teacher(tmp_path):
    teacher = counting_teacher()
    shares = [None, 0.25, 0.5, None, 0.25]
    fitted = [
        untrained(teacher=teacher, patch_fraction=share, cache_dir=tmp_path, epochs=1).fit(textures(2))
        for share in shares
    ]
    assert teacher.model.passes == 2
    assert len(cache_files(tmp_path)) == 3 * 2
    alone = untrained(patch_fraction=0.25, epochs=1).fit(textures(2))
    assert alone.fingerprint == fitted[1].fingerprint == fitted[4].fingerprint != fitted[0].fingerprint


def test_all_patches_are_what_the_default_learns_from():
    assert untrained(patch_fraction=1).fit(textures(3)).fingerprint == untrained().fit(textures(3)).fingerprint


@pytest.mark.parametrize("patches_per_batch", [None, 7])
def test_tiles_and_mixed_steps_work_with_both_options(patches_per_batch):
    options = {"patch_fraction": 0.3, "validation_fraction": 0.34, "patches_per_batch": patches_per_batch}
    detector = untrained(tile=32, overlap=8, resolution="native", epochs=2, **options)
    detector.fit([*textures(2), textures(1, seed=1)[0][:40, :30]])
    assert len(detector.validation_losses) == 2
    assert detector.predict(textures(1, seed=2)[0]).anomaly_map.shape == (48, 64)


def test_a_share_of_the_patches_is_no_grid(tmp_path):
    cache = FeatureCache(tmp_path, counting_teacher(), feature_format="float16", limit_bytes=10**9, patch_fraction=0.5)
    (image,) = textures(1)
    grid = PatchGrid.proportional((48, 64), patch=8, resolution=64)
    with pytest.raises(AssertionError, match="no grid"):
        cache.read(image, grid)
    assert expected_bytes([grid], dim=12, feature_format="float16", patch_fraction=1e-9) == CACHE_BYTES


# The command line

FIT = ["fit", "synthetic/brushed_metal", "--root", "data", "--option", "size=64", "--option", "n_train=4"]
FIT += ["--teacher", "builtin", "--resolution", "64", "--device", "cpu", "--out", "model"]


@pytest.mark.slow
def test_fit_says_when_it_stopped_and_which_students_it_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--epochs", 3, "--validation-fraction", 0.25, "--patience", 2, "--patch-fraction", 0.5]
    code, out, err = run(monkeypatch, capsys, *FIT, *options)
    assert code == 0, err
    assert "4 images, 256 patches, 128 of them kept" in err
    assert "students: 3 of 3 (100%)" in err
    described = json.loads(Path("model/detector.json").read_text())
    lowest = min(described["validation_losses"])
    expected = (
        f"did not stop before epoch 3, the last; those of epoch 3 are kept, where .* was lowest \\({lowest:.4g}\\)"
    )
    assert re.search(expected, err)
    assert described["settings"]["patience"] == 2
    assert out == "fitted on 4 images: model\n"


def test_an_early_end_is_told_with_its_epoch():
    detector = untrained(epochs=200, validation_fraction=0.5)
    detector.losses, detector.validation_losses = [0.4, 0.3, 0.2, 0.1], [0.5, 0.25, 0.3, 0.26]
    assert told_of_the_end(detector) == (
        "students: stopped after epoch 4 of 200; those of epoch 2 are kept, where the loss of the held-out images was "
        "lowest (0.25)"
    )


def test_the_end_of_counted_steps_is_told_with_its_epoch():
    detector = Detector(teacher=counting_teacher(), steps=9, validation_fraction=0.5)
    detector.losses, detector.validation_losses = [0.4, 0.3], [0.25, 0.5]
    assert told_of_the_end(detector).startswith("students: ended after epoch 2; those of epoch 1 are kept")


@pytest.mark.slow
def test_patience_without_held_out_images_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, *FIT, "--patience", 3)
    assert code == 2
    assert err.startswith("tinydefects: a patience of 3 epochs looks at held-out images: give a validation_fraction")
    assert err.count("\n") == 1
