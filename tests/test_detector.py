import hashlib
import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from killed import killed_at_each_step
from tiny_teachers import TINY_VIT, counting_teacher, tiny_vit, write_weights
from tinydefects.data.pixels import write_png
from tinydefects.detector.detector import Detector
from tinydefects.detector.model_file import fingerprint_of, read_detector, write_detector
from tinydefects.detector.patch_grid import PatchGrid
from tinydefects.detector.settings import DetectorSettings, image_score
from tinydefects.errors import (
    ImageReadError,
    ModelFileError,
    NotFittedError,
    ScoreError,
    TinyDefectsError,
    TrainingError,
)


def textures(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(90, 130, (*size, 3), dtype=np.uint8) for size in sizes]


def fitted(**settings) -> Detector:
    """Fitted to four textures of 48 x 64 px by a teacher of 8 px patches that costs nothing."""
    settings = {"teacher": counting_teacher(), "resolution": 64, "epochs": 10, "learning_rate": 3e-2} | settings
    return Detector(**settings).fit(textures(*[(48, 64)] * 4))


@pytest.fixture(scope="module")
def detector() -> Detector:
    return fitted()


def test_a_red_spot_is_the_highest_place_of_the_map_and_raises_the_score(detector):
    (good,) = textures((48, 64), seed=9)
    bad = good.copy()
    bad[30:34, 42:46] = (255, 0, 0)  # in patch (3, 5) to (4, 5)
    prediction = detector.predict(bad)
    row, column = np.unravel_index(prediction.anomaly_map.argmax(), (48, 64))
    assert 24 <= row < 40
    assert 40 <= column < 48
    assert prediction.score > 2 * detector.predict(good).score


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (31, 90), (8, 8), (200, 333)])
def test_the_map_has_the_size_of_the_image_whatever_it_is(detector, size):
    prediction = detector.predict(textures(size)[0])
    assert prediction.anomaly_map.shape == size
    assert prediction.anomaly_map.dtype == np.float32
    assert 0.0 <= prediction.anomaly_map.min() <= prediction.score <= prediction.anomaly_map.max() <= 4.0


def test_training_images_of_mixed_sizes_are_fine_and_each_is_shown_to_the_teacher_once():
    teacher = counting_teacher()
    images = textures((48, 64), (64, 48), (20, 30), (64, 64), (9, 64))
    detector = Detector(teacher=teacher, resolution=64, epochs=3).fit(iter(images))
    assert teacher.model.passes == detector.n_images == 5
    assert len(detector.losses) == 3


def test_one_seed_gives_one_detector_and_another_seed_another(detector):
    image = textures((48, 64), seed=5)[0]
    again, other = fitted(), fitted(seed=1)
    assert np.array_equal(again.predict(image).anomaly_map, detector.predict(image).anomaly_map)
    assert again.fingerprint == detector.fingerprint != other.fingerprint


def test_a_second_fit_with_the_same_cache_does_not_run_the_teacher(tmp_path):
    teacher = counting_teacher()
    first = fitted(teacher=teacher, cache_dir=tmp_path / "cache", epochs=2)
    second = fitted(teacher=teacher, cache_dir=tmp_path / "cache", epochs=2)
    assert teacher.model.passes == 4
    assert first.fingerprint == second.fingerprint == fitted(epochs=2).fingerprint


def test_without_a_cache_folder_nothing_stays_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fitted(epochs=1)
    assert list(tmp_path.iterdir()) == []


def test_saved_and_loaded_maps_are_equal_bit_by_bit(detector, tmp_path):
    detector.save(str(tmp_path / "model"))
    loaded = Detector.load(tmp_path / "model", teacher=detector.teacher)
    image = textures((31, 90), seed=3)[0]
    before, after = detector.predict(image), loaded.predict(image)
    assert np.array_equal(before.anomaly_map, after.anomaly_map)
    assert before.score == after.score
    assert loaded.fingerprint == detector.fingerprint
    assert (loaded.losses, loaded.n_images) == (detector.losses, 4)
    assert loaded.colour_scale == detector.colour_scale


def test_overlays_of_good_parts_stay_without_colour_and_a_spot_is_coloured(tmp_path):
    weights = write_weights(tiny_vit(), tmp_path / "tiny.safetensors")
    detector = Detector(teacher=TINY_VIT, teacher_weights=weights, resolution=60, epochs=20, device="cpu")
    good = textures((48, 64), seed=1)
    detector.fit(good)
    highest = [detector.predict(image).anomaly_map.max() for image in good]
    begins, _ = detector.colour_scale
    assert sum(score < begins for score in highest) > len(good) / 2
    spotted = good[0].copy()
    spotted[16:32, 16:32] = (255, 0, 255)
    assert detector.predict(spotted).anomaly_map.max() > begins


def test_a_saved_detector_finds_its_teacher_by_name_and_file(tmp_path):
    weights = write_weights(tiny_vit(), tmp_path / "tiny.safetensors")
    detector = Detector(teacher=TINY_VIT, teacher_weights=weights, resolution=60, epochs=1, device="cpu")
    detector.fit(textures((48, 64))).save(tmp_path / "model")
    loaded = Detector.load(tmp_path / "model", teacher_weights=weights, device="cpu")
    image = textures((48, 64), seed=3)[0]
    assert np.array_equal(loaded.predict(image).anomaly_map, detector.predict(image).anomaly_map)
    described = json.loads((tmp_path / "model/detector.json").read_text())
    assert described["settings"]["resolution"] == 60
    assert described["resolution_px"] == 64  # whole patches of 16
    assert described["teacher"]["fingerprint"] == detector.teacher.fingerprint
    assert described["device"] == "cpu"
    assert set(described["versions"]) >= {"tinydefects", "torch", "timm"}
    other = write_weights(tiny_vit(seed=1), tmp_path / "other.safetensors")
    with pytest.raises(ModelFileError, match="give the weights file it was trained with"):
        Detector.load(tmp_path / "model", teacher_weights=other)


def test_saving_again_replaces_and_never_touches_foreign_files(detector, tmp_path):
    fitted(epochs=1).save(tmp_path / "model")
    detector.save(tmp_path / "model")
    assert Detector.load(tmp_path / "model", teacher=detector.teacher).fingerprint == detector.fingerprint
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["detector.json", "model", "model.safetensors"]
    (tmp_path / "model/notes.txt").write_text("mine")
    with pytest.raises(ModelFileError, match=r"holds notes.txt, which is no part of a detector"):
        detector.save(tmp_path / "model")


def test_a_save_that_fails_half_way_leaves_the_old_detector(detector, tmp_path, monkeypatch):
    fitted(epochs=1).save(tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(ModelFileError, match="No space left on device"):
        detector.save(tmp_path / "model")
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_a_kill_at_any_step_of_saving_leaves_the_old_detector_or_the_new_one(detector, tmp_path):
    fitted(epochs=1).save(tmp_path / "model")
    saved, old = read_detector(tmp_path / "model")
    detector.save(tmp_path / "new")
    described, new = read_detector(tmp_path / "new")
    seen = []
    for _ in killed_at_each_step(lambda: write_detector(tmp_path / "model", described, new)):
        found, weights = read_detector(tmp_path / "model")
        seen.append(found == described)
        whole = new if seen[-1] else old
        assert all(torch.equal(weights[name], whole[name]) for name in whole)
        write_detector(tmp_path / "model", saved, old)
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_models_have_the_rights_of_the_users_umask(detector, tmp_path, umask):
    before = os.umask(umask)
    try:
        detector.save(tmp_path / "model")
    finally:
        os.umask(before)
    rights = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    files = dict.fromkeys(["detector.json", "model.safetensors"], 0o666 & ~umask)
    assert rights == {"model": 0o777 & ~umask, **files}


def test_files_of_the_file_manager_are_no_hindrance_to_saving(detector, tmp_path):
    for name in (".DS_Store", "Thumbs.db"):
        (tmp_path / name).touch()
    detector.save(tmp_path)
    assert Detector.load(tmp_path, teacher=detector.teacher).fingerprint == detector.fingerprint
    (tmp_path / "file").touch()
    with pytest.raises(ModelFileError, match="is a file; give the name of a folder"):
        detector.save(tmp_path / "file")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: no such file"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"short"),
            "model.safetensors: not the weights that",
        ),
        (lambda folder: zero_half(folder / "model.safetensors"), "model.safetensors: not the weights that were saved"),
        (lambda folder: without_digest(folder, b"short"), "model.safetensors: not readable"),
        (lambda folder: with_weights(folder, math.nan), "to_earlier.input.bias is not of finite float32 numbers"),
        (lambda folder: (folder / "detector.json").unlink(), "detector.json: no such file"),
        (
            lambda folder: (folder / "detector.json").write_text('{"format": 1'),
            "detector.json: not a readable detector",
        ),
        (lambda folder: edit(folder, "resolution", -3), "field 'settings.resolution': give a number of pixels, 16 to"),
        (
            lambda folder: edit(folder, "preset", "magic"),
            "field 'settings.preset': Input should be 'default'",
        ),
    ],
)
def test_a_damaged_model_is_one_line_that_names_the_file(detector, tmp_path, damage, expected):
    detector.save(tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(ModelFileError) as caught:
        Detector.load(tmp_path / "model", teacher=detector.teacher)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def edit(folder, setting, value, part="settings"):
    described = json.loads((folder / "detector.json").read_text())
    (described[part] if part else described)[setting] = value
    (folder / "detector.json").write_text(json.dumps(described))


def zero_half(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def without_digest(folder, content):
    edit(folder, "weights_sha256", None, part=None)
    (folder / "model.safetensors").write_bytes(content)


def with_weights(folder, value):
    """A whole file with its digest, one of whose numbers is another."""
    weights = load_file(folder / "model.safetensors")
    weights["to_earlier.input.bias"][3] = value
    content = save(weights)
    (folder / "model.safetensors").write_bytes(content)
    edit(folder, "weights_sha256", hashlib.sha256(content).hexdigest(), part=None)


def test_a_model_without_a_digest_still_loads_and_says_so(detector, tmp_path, capsys):
    detector.save(tmp_path / "model")
    assert Detector.load(tmp_path / "model", teacher=detector.teacher).fingerprint == detector.fingerprint
    assert capsys.readouterr().err == ""
    without_digest(tmp_path / "model", (tmp_path / "model/model.safetensors").read_bytes())
    assert Detector.load(tmp_path / "model", teacher=detector.teacher).fingerprint == detector.fingerprint
    assert "model.safetensors: saved without a digest" in capsys.readouterr().err


OF_0_1_0 = Path(__file__).parent / "goldens/model_of_0_1_0"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("first", {"preset": "published", "resolution": 64, "precision": "highest", "tile": None, "image_bits": 16}),
        ("tiled", {"preset": "v0.1", "tile": 32, "overlap": 8, "stride": 4, "patience": 2, "image_bits": 12}),
    ],
)
def test_models_of_0_1_0_load_and_give_the_same_map(name, told):
    """`first` was written by the first commit, before most settings were there; `tiled` shortly before this test."""
    detector = Detector.load(OF_0_1_0 / name, teacher=counting_teacher())
    assert {key: getattr(detector.settings, key) for key in told} == told
    assert detector.settings.epochs == len(detector.losses) == 3
    with np.load(OF_0_1_0 / f"{name}.npz") as kept:
        prediction = detector.predict(kept["image"])
        np.testing.assert_allclose(prediction.anomaly_map, kept["anomaly_map"], rtol=0, atol=1e-5)
        assert prediction.score == pytest.approx(float(kept["score"]), abs=1e-5)


def test_what_was_the_default_in_0_1_0_stays_so_when_it_is_saved_again(tmp_path):
    old = Detector.load(OF_0_1_0 / "tiled", teacher=counting_teacher())
    old.save(tmp_path)
    again = Detector.load(tmp_path, teacher=counting_teacher())
    assert again.settings == old.settings
    assert again.fingerprint == old.fingerprint
    now = old.settings.with_changes(preset="default")
    assert fingerprint_of(now, old.teacher, old.students) != old.fingerprint  # thresholds go by other maps


@pytest.mark.parametrize(("part", "value"), [("dim", 10**9), ("patch_size", 16), ("blocks", [0, 1])])
def test_a_description_that_does_not_fit_the_teacher_is_refused(detector, tmp_path, part, value):
    detector.save(tmp_path / "model")
    edit(tmp_path / "model", part, value, part="teacher")
    with pytest.raises(ModelFileError, match=rf"detector.json: teacher.{part} is .*, that of counting is"):
        Detector.load(tmp_path / "model", teacher=detector.teacher)


@pytest.mark.parametrize(
    "name", ["hf-hub:stranger/vit", "hf_hub:a/b", "local-dir:/tmp/x", "/tmp/x", "../x", "https://host/x", "a b", ""]
)
@pytest.mark.parametrize("part", ["settings.teacher", "teacher.name"])
def test_a_model_that_names_anything_but_a_plain_teacher_is_refused(detector, tmp_path, name, part):
    detector.save(tmp_path / "model")
    for section, field in (("settings", "teacher"), ("teacher", "name")):
        if f"{section}.{field}" == part:
            edit(tmp_path / "model", field, name, part=section)
    with pytest.raises(ModelFileError, match=rf"detector.json: field '{part}': a teacher is 'builtin' or a plain"):
        Detector.load(tmp_path / "model")
    with pytest.raises(TinyDefectsError, match="a teacher is 'builtin' or a plain model name"):
        Detector(teacher=name)


def test_two_teachers_in_one_description_are_refused(detector, tmp_path):
    detector.save(tmp_path / "model")
    edit(tmp_path / "model", "teacher", "vit_small_patch14_dinov2")
    with pytest.raises(
        ModelFileError, match=r"teacher\.name is counting, settings\.teacher is vit_small_patch14_dinov2"
    ):
        Detector.load(tmp_path / "model", teacher=detector.teacher)


def test_a_detector_that_knows_nothing_says_so(tmp_path):
    detector = Detector(teacher=counting_teacher())
    for question in (lambda: detector.predict(textures((8, 8))[0]), lambda: detector.save(tmp_path / "model")):
        with pytest.raises(NotFittedError, match="fit it to defect-free images or load a saved one"):
            question()


def test_the_constructor_loads_nothing_and_refuses_impossible_settings():
    Detector(teacher="vit_of_nobody")
    with pytest.raises(TinyDefectsError, match=r"Detector: field 'epochs': Input should be greater than 0 \(got '0'\)"):
        Detector(epochs=0)


def test_settings_and_changes_of_them_make_the_same_detector_as_changes_alone():
    told = DetectorSettings(teacher="vit_of_nobody", epochs=3)
    detector = Detector(told, tile=64)
    assert detector.settings == Detector(teacher="vit_of_nobody", epochs=3, tile=64).settings
    assert told.tile is None


def test_what_is_left_out_follows_from_the_other_settings():
    assert DetectorSettings().resolution == 1036
    assert DetectorSettings(tile=64).resolution == "native"
    assert DetectorSettings(tile=64, resolution=320).resolution == 320
    assert DetectorSettings(tile=64).with_changes(tile=None).resolution == 1036
    published = DetectorSettings(preset="published", resolution=None)
    assert (published.learning_rate, published.precision, published.resolution) == (1e-4, "highest", 1036)
    assert published.with_changes(preset="default").learning_rate == 1e-3
    assert published.with_changes(learning_rate=0.5, preset="default").learning_rate == 0.5


def test_students_take_200_steps_unless_told_otherwise():
    def length(settings):
        return settings.steps, settings.epochs

    assert length(DetectorSettings()) == length(DetectorSettings(validation_fraction=0.1)) == (200, None)
    assert length(DetectorSettings(epochs=3)) == length(DetectorSettings().with_changes(epochs=3)) == (None, 3)
    for preset in ("v0.1", "published"):
        assert length(DetectorSettings(preset=preset)) == (None, 50)
        assert length(DetectorSettings(preset=preset, steps=7)) == (7, None)
    assert length(DetectorSettings(preset="v0.1").with_changes(preset="default")) == (200, None)


def test_steps_of_the_default_take_4096_patches_and_epochs_those_of_four_images():
    assert DetectorSettings().patches_per_batch == DetectorSettings(steps=7).patches_per_batch == 4096
    assert DetectorSettings(patches_per_batch=50).patches_per_batch == 50
    assert DetectorSettings().with_changes(epochs=3).patches_per_batch is None
    for preset in ("v0.1", "published"):
        assert DetectorSettings(preset=preset, steps=7).patches_per_batch is None


def test_settings_survive_their_json():
    told = DetectorSettings(tile=64, blocks=(2, 5), learning_rate=1e-3, precision="bfloat16")
    assert DetectorSettings.model_validate_json(told.model_dump_json()) == told
    assert DetectorSettings(blocks="2-5").blocks == (2, 5)
    assert DetectorSettings(blocks="11") == DetectorSettings(blocks=11) == DetectorSettings(blocks=[11])


@pytest.mark.parametrize(
    "blocks", ["7-", "-1-2", "11-7", "7-7", "", [], [7, "11"], [7, -1], [-1, 7], [True, 2], [7, 7.5], 7.0, -7, True]
)
def test_blocks_are_ascending_numbers_from_0(blocks):
    with pytest.raises(TinyDefectsError, match="field 'blocks': give blocks from 0, ascending: 7-11"):
        Detector(blocks=blocks)


@pytest.mark.parametrize("blocks", ["7", "3-7-11", [7], (3, 7, 11), 7])
def test_a_detector_takes_two_blocks_of_its_settings_or_its_teacher(blocks):
    with pytest.raises(TinyDefectsError, match=r"^blocks (7|3-7-11): the students translate two blocks into .*7-11\)$"):
        Detector(blocks=blocks)
    told = DetectorSettings(blocks=blocks).blocks
    with pytest.raises(TinyDefectsError, match="the students translate two blocks"):
        Detector(teacher=replace(counting_teacher(), blocks=told))


def test_a_setting_that_does_not_exist_is_refused_by_name():
    with pytest.raises(TinyDefectsError, match="Detector: no such setting as resolutoin; teacher, tile, resolution"):
        Detector(resolutoin=64)


def test_no_images_and_no_image_are_refused():
    with pytest.raises(TrainingError, match="there are no training images"):
        Detector(teacher=counting_teacher()).fit([])
    with pytest.raises(ImageReadError, match=r"image 0 of those given, .* this array is \(8, 8, 5\)"):
        Detector(teacher=counting_teacher()).fit([np.zeros((8, 8, 5), np.uint8)])


def test_images_at_hand_are_refused_before_the_first_pass_if_their_features_do_not_fit():
    teacher = counting_teacher()
    detector = Detector(teacher=teacher, resolution=64, cache_limit_gb=5e-6)  # two of four images fit
    with pytest.raises(TrainingError, match="raise cache_limit_gb"):
        detector.fit(textures(*[(48, 64)] * 4))
    assert teacher.model.passes == 0


def test_the_cost_is_known_from_the_headers(tmp_path, detector):
    for index, image in enumerate(textures((48, 64), (64, 64))):
        write_png(tmp_path / f"{index}.png", image)
    cost = detector.expected_cost(sorted(tmp_path.iterdir()))
    assert (cost.n_images, cost.n_patches) == (2, 6 * 8 + 8 * 8)
    assert cost.cache_bytes == 2 * (128 + 32) + cost.n_patches * 2 * 12 * 2
    assert str(cost) == "2 images, 112 patches, 5.7e-06 GB of teacher features"


def test_a_cost_above_the_cache_limit_is_refused_and_one_at_the_limit_is_not(tmp_path):
    write_png(tmp_path / "0.png", textures((48, 64))[0])
    cost = Detector(teacher=counting_teacher(), resolution=64).expected_cost([tmp_path / "0.png"])
    enough = cost.cache_bytes / 1e9
    Detector(teacher=counting_teacher(), cache_limit_gb=enough).require_affordable(cost)
    with pytest.raises(TrainingError, match=r"the features of 1 images need .* GB, .*--cache-limit-gb"):
        Detector(teacher=counting_teacher(), cache_limit_gb=enough * 0.999).require_affordable(cost)


def test_a_loss_that_is_not_finite_keeps_the_last_finished_epoch():
    # A rate of 1e30 ends epoch 1 with huge but finite weights and overflows in epoch 2.
    detector = Detector(teacher=counting_teacher(), resolution=64, epochs=5, learning_rate=1e30)
    with pytest.raises(TrainingError, match="the students of epoch 1 are kept"):
        detector.fit(textures((48, 64)))
    assert len(detector.losses) == 1


def test_progress_is_told_of_every_image_and_epoch():
    told = []
    images = textures(*[(48, 64)] * 2)
    Detector(teacher=counting_teacher(), resolution=64, epochs=3).fit(images, progress=lambda *step: told.append(step))
    assert told == [("teacher", 1, 2), ("teacher", 2, 2)] + [("students", epoch, 3) for epoch in (1, 2, 3)]
    told.clear()
    detector = Detector(teacher=counting_teacher(), resolution=64, epochs=1)
    detector.fit((image for image in images), progress=lambda *step: told.append(step))
    assert told[0] == ("teacher", 1, None)


def test_the_image_score_is_the_mean_of_the_highest_thousandth():
    anomaly_map = np.random.default_rng(0).permutation(np.arange(4000, dtype=np.float32)).reshape(40, 100)
    assert image_score(anomaly_map) == (3999 + 3998 + 3997 + 3996) / 4
    assert image_score(anomaly_map[:, :3]) == anomaly_map[:, :3].max()


def test_only_the_default_of_0_1_and_the_published_preset_blur_a_map():
    scores = np.zeros((4, 6), np.float32)
    scores[2, 3] = 1.0
    for resolution in (48, "native"):
        now, before = (
            DetectorSettings(preset=preset, resolution=resolution).grid((32, 48), patch=8).to_image(scores)
            for preset in ("default", "v0.1")
        )
        assert now.max() > 0.8 > 0.5 > before.max()  # a pixel beside the centre of a patch of 8 has 0.9375²
        assert now.sum() == pytest.approx(before.sum(), rel=1e-3)


def test_as_published_an_image_below_1000_pixels_has_no_score(tmp_path):
    """There it is nan: the mean of no pixel."""
    said = "30 x 33 px, and the preset published has no score for an image below 1,000 pixels: take the preset default"
    with pytest.raises(ScoreError, match=f"^the image: {said}"):
        image_score(np.ones((30, 33), np.float32), preset="published")
    detector = fitted(preset="published", epochs=1)
    with pytest.raises(ScoreError, match=f"^image 1 of those given, counted from 0: {said}"):
        list(detector.predict_many(textures((30, 40), (30, 33))))
    small = tmp_path / "small.png"
    write_png(small, textures((30, 33))[0])
    with pytest.raises(ScoreError, match=f"^{re.escape(str(small))}: {said}"):
        detector.predict(small)


def test_the_preset_decides_the_geometry_and_nothing_pads_to_a_square_by_default():
    default, published = (Detector(teacher=counting_teacher(), preset=name) for name in ("default", "published"))
    assert default.grid((1500, 2000)) == PatchGrid.proportional((1500, 2000), patch=8, resolution=1036)
    assert published.grid((1500, 2000)) == PatchGrid.published((1500, 2000), patch=8, resolution=1036)
    assert default.grid((1500, 2000)).shape == (98, 130)  # 1040 / 8, and 780 / 8 = 97.5
    assert published.grid((1500, 2000)).shape == (130, 130)


def test_the_teacher_sees_what_its_own_normalisation_makes_of_the_image(tmp_path):
    weights = write_weights(tiny_vit(), tmp_path / "tiny.safetensors")
    detector = Detector(teacher=TINY_VIT, teacher_weights=weights, resolution=64, epochs=1).fit(textures((64, 64)))
    white = np.full((64, 64, 3), 255, np.uint8)
    seen = []
    detector.teacher.model.patch_embed.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    detector.predict(white)
    assert torch.allclose(seen[-1].cpu(), torch.ones(1, 3, 64, 64))  # (1 - 0.5) / 0.5
