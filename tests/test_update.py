"""Models that learn on: as if all photographs had been there at once, and the old one can come back."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from command_line import run
from killed import killed_at_each_step
from tiny_teachers import counting_teacher
from tinydefects.decisions.calibration import CALIBRATION_FILE, CalibrationSettings
from tinydefects.detector.detector import Detector
from tinydefects.detector.learnt import FEATURES_FOLDER, LEARNT_FILE, read_learnt
from tinydefects.detector.updating import learn_on, roll_back, store, versions_of
from tinydefects.errors import ModelFileError, ResultError, TrainingError

pytestmark = pytest.mark.slow  # whole commands, and fits

OLD, NEW = np.split(np.random.default_rng(0).integers(90, 130, (10, 48, 64, 3), dtype=np.uint8), [7])
WISHES = CalibrationSettings(false_alarms=0.2)


def untrained(**changes):
    return Detector(**{"teacher": counting_teacher(), "resolution": 64, "epochs": 2, "device": "cpu"} | changes)


def fitted(model, images=OLD, unseen="held out", **changes):
    detector = untrained(cache_dir=model / FEATURES_FOLDER, **changes)
    detector.fit(list(images), calibration=WISHES, unseen=unseen, progress=False).save(model)
    return detector


def loaded(model):
    return Detector.load(model, teacher=counting_teacher(), device="cpu")


def same_students(one, other):
    pairs = zip(one.students.state_dict().values(), other.students.state_dict().values(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


@pytest.fixture
def model(tmp_path):
    fitted(tmp_path / "a model")
    return tmp_path / "a model"


@pytest.mark.parametrize("changes", [{}, {"tile": 32, "resolution": 48}, {"validation_fraction": 0.2}])
@pytest.mark.parametrize("unseen", ["held out", "folds"])
def test_learning_on_gives_bit_for_bit_what_learning_from_all_at_once_gives(tmp_path, unseen, changes):
    fitted(tmp_path / "model", unseen=unseen, **changes)
    old = loaded(tmp_path / "model")
    updated = learn_on(old, tmp_path / "model", list(NEW), report=False)
    n_passes = len(updated.passes((48, 64)).grids)
    assert updated.teacher.model is old.teacher.model
    assert updated.teacher.model.passes == n_passes * len(NEW)  # nothing of what was learnt before
    whole = untrained(**changes).fit([*OLD, *NEW], calibration=WISHES, unseen=unseen, progress=False)
    assert same_students(updated, whole)
    assert not same_students(updated, old)
    assert updated.calibration.scores.tolist() == whole.calibration.scores.tolist()
    assert (updated.n_images, updated.good_level) == (whole.n_images, whole.good_level)
    assert updated.fingerprint == whole.fingerprint


def test_what_was_learnt_on_can_be_learnt_on_again(tmp_path, model):
    learn_on(loaded(model), model, list(NEW[:1]), report=False).save(model)
    updated = learn_on(loaded(model), model, list(NEW[1:]), report=False)
    assert same_students(updated, untrained().fit([*OLD, *NEW], calibration=WISHES, progress=False))
    assert len({one.id for one in updated.photographs}) == 10


def test_what_photographs_are_like_is_noted_where_thresholds_keep_it(tmp_path, model):
    assert all(one.picture is not None for one in read_learnt(model).photographs)
    plain = untrained(cache_dir=tmp_path / "plain" / FEATURES_FOLDER).fit(list(OLD), progress=False)
    plain.save(tmp_path / "plain")
    assert {one.picture for one in read_learnt(tmp_path / "plain").photographs} == {None}
    updated = learn_on(loaded(tmp_path / "plain"), tmp_path / "plain", list(NEW), report=False)
    assert (len(updated.photographs), updated.calibration) == (10, None)
    updated = learn_on(loaded(model), model, list(NEW), report=False)
    assert all(one.picture is not None for one in updated.calibration.images)


def test_a_photograph_that_was_learnt_counts_once(model):
    updated = learn_on(loaded(model), model, [OLD[3], NEW[0], NEW[0]], report=False)
    assert updated.teacher.model.passes == 1
    assert len(updated.photographs) == 8
    assert same_students(updated, untrained().fit([*OLD, NEW[0]], calibration=WISHES, progress=False))


def test_features_that_are_gone_or_damaged_are_told(model):
    name = read_learnt(model).photographs[2].features[0]
    path = model / FEATURES_FOLDER / name
    content = path.read_bytes()
    path.write_bytes(content[:-40] + bytes(40))
    with pytest.raises(TrainingError, match="no whole features"):
        learn_on(loaded(model), model, list(NEW), report=False)
    path.unlink()
    with pytest.raises(TrainingError, match="no whole features"):
        learn_on(loaded(model), model, list(NEW), report=False)


def test_a_record_of_another_detector_and_none_are_refused(tmp_path, model):
    fitted(tmp_path / "other", OLD[:5])
    shutil.copy(tmp_path / "other" / LEARNT_FILE, model / LEARNT_FILE)
    with pytest.raises(ModelFileError, match="belongs to another detector"):
        learn_on(loaded(model), model, list(NEW), report=False)
    (model / LEARNT_FILE).write_text("{")
    with pytest.raises(ModelFileError, match=r"learnt\.json"):
        learn_on(loaded(model), model, list(NEW), report=False)
    (model / LEARNT_FILE).unlink()
    with pytest.raises(ModelFileError, match="--keep-features"):
        learn_on(loaded(model), model, list(NEW), report=False)


def test_no_room_is_one_error_and_leaves_the_model(model):
    before = loaded(model).fingerprint
    with pytest.raises(TrainingError, match="the limit is"):
        learn_on(loaded(model), model, list(NEW), report=False, limit_gb=1e-6)
    assert loaded(model).fingerprint == before


def test_wishes_stay_and_thresholds_by_hand_do_not(model):
    path = model / CALIBRATION_FILE
    content = json.loads(path.read_text())
    content["settings"] |= {"false_alarms": 0.3, "image_threshold": 0.5}
    path.write_text(json.dumps(content))
    lines = []
    settings = learn_on(loaded(model), model, list(NEW), report=False, say=lines.append).calibration.settings
    assert (settings.false_alarms, settings.image_threshold) == (0.3, None)
    assert lines == ["image_threshold: given by hand for the old model, and left out"]


def test_models_go_back_and_forth_and_none_is_lost(model):
    first = loaded(model).fingerprint
    updated = learn_on(loaded(model), model, list(NEW), report=False)
    assert store(model) == store(model) == model / "history" / "0001"
    updated.save(model)
    assert roll_back(model, None) == (model / "history" / "0001", model / "history" / "0002")
    assert loaded(model).fingerprint == first
    assert read_learnt(model).fingerprint == first
    assert roll_back(model, None)[0].name == "0002"
    assert loaded(model).fingerprint == updated.fingerprint
    assert roll_back(model, 1)[0].name == "0001"
    assert list(versions_of(model)) == [1, 2]
    with pytest.raises(ModelFileError, match="has no model 7 to go back to; there are 1, 2"):
        roll_back(model, 7)
    assert same_students(learn_on(loaded(model), model, list(NEW), report=False), updated)


@pytest.mark.parametrize("name", ["detector.json", "model.safetensors", "learnt.json", "calibration.json"])
def test_a_damaged_model_of_the_history_takes_nobodys_place(model, name):
    learn_on(loaded(model), model, list(NEW), report=False).save(model / "history" / "0003")
    damaged = model / "history" / "0003" / name
    if name == "learnt.json":  # a detector saved alone has none
        shutil.copy2(model / name, damaged)
    damaged.write_bytes(damaged.read_bytes()[:20])
    before = loaded(model).fingerprint
    with pytest.raises((ModelFileError, ResultError), match=name.replace(".", r"\.")):
        roll_back(model, None)
    assert loaded(model).fingerprint == before
    assert list(versions_of(model)) == [3]  # and nothing was kept for a change that did not come


def test_a_calibration_that_leads_nowhere_is_not_taken_for_none(model):
    (model / "calibration.json").unlink()
    (model / "calibration.json").symlink_to(model / "gone.json")
    with pytest.raises(ResultError, match=r"calibration\.json"):
        loaded(model)


@pytest.mark.slow
def test_a_killed_update_or_way_back_leaves_one_whole_model(tmp_path, model):
    first = loaded(model).fingerprint
    updated = learn_on(loaded(model), model, list(NEW), report=False)

    def change():
        store(model)
        updated.save(model)

    for _ in killed_at_each_step(change):
        found = loaded(model)
        assert found.fingerprint in {first, updated.fingerprint}
        assert found.calibration is not None
        assert read_learnt(model).fingerprint == found.fingerprint
        shutil.rmtree(model)
        fitted(model)
    for _ in killed_at_each_step(lambda: roll_back(model, 1)):
        found = loaded(model)
        assert read_learnt(model).fingerprint == found.fingerprint
    assert loaded(model).fingerprint == first


@pytest.mark.slow
def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "synthetic/brushed_metal", "--root", "data", "--option", "size=64", "--option", "n_train=6"]
    fit += ["--teacher", "builtin", "--resolution", "64", "--epochs", "2", "--device", "cpu", "--out", "model"]
    code, _, err = run(monkeypatch, capsys, *fit, "--keep-features")
    assert code == 0, err
    names = ["calibration.json", "detector.json", "features", "learnt.json", "model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == names
    for number, pixels in enumerate(NEW):
        (tmp_path / "new good").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "new good" / f"{number}.png")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    code, out, _ = run(monkeypatch, capsys, "update", "model", "new good", "--dry-run", "--json")
    assert (code, json.loads(out)["n_new"], json.loads(out)["n_images"]) == (0, 3, 3)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    code, out, err = run(monkeypatch, capsys, "update", "model", "new good")
    assert code == 0, err
    assert "learnt from 3 new photographs beside 6: model; the old model is model/history/0001" in out
    assert len(list((tmp_path / "model" / "features").rglob("*.npy"))) == 9
    code, out, err = run(monkeypatch, capsys, "update", "model", "new good")
    assert (code, out, "3 of 3 photographs were learnt before" in err) == (0, "nothing new to learn: model\n", True)
    now = (tmp_path / "model" / "model.safetensors").read_bytes()
    code, out, _ = run(monkeypatch, capsys, "update", "model", "--back", "last", "--dry-run")
    assert (code, out) == (0, "model/history/0001 would take its place\n")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == now
    assert run(monkeypatch, capsys, "update", "model", "--back", "last")[0] == 0
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    assert run(monkeypatch, capsys, "predict", "model", "new good", "--device", "cpu")[0] == 0
    for words, reason in (
        (["update", "model"], "or --back"),
        (["update", "model", "--back", "x"], "give 'last'"),
        (["update", "nowhere", "--back", "last"], "nowhere"),
        ([*fit, "--keep-features", "--cache-dir", "c"], "leave out --cache-dir"),
    ):
        code, _, err = run(monkeypatch, capsys, *words)
        assert (code, reason in err, err.count("\n")) == (2, True, 1), err
    code, _, err = run(monkeypatch, capsys, *fit)
    assert (code, "features of the model that was there are removed" in err) == (0, True)
    assert not (tmp_path / "model" / "features").exists()
    code, _, err = run(monkeypatch, capsys, "update", "model", "new good")
    assert (code, "keeps no features" in err) == (2, True)
