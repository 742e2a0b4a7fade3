"""Where `fit` saves and what it leaves there when it is stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from tiny_teachers import counting_teacher
from tinydefects.cli.fit_place import FEATURES, FitPlace, require_place
from tinydefects.data.leftovers import sweep_once
from tinydefects.detector.detector import Detector
from tinydefects.errors import ModelFileError

pytestmark = pytest.mark.slow

FIT = ["fit", "synthetic/brushed_metal", "--root", "data", "--option", "size=64", "--option", "n_train=4"]
FIT += ["--teacher", "builtin", "--resolution", "64", "--device", "cpu", "--out", "my model"]
IMAGES = list(np.random.default_rng(0).integers(90, 130, (4, 48, 64, 3), dtype=np.uint8))


@pytest.fixture(autouse=True)
def a_new_process(tmp_path, monkeypatch):
    sweep_once.cache_clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()


def untrained(**settings) -> Detector:
    return Detector(**{"teacher": counting_teacher(), "resolution": 64, "epochs": 1} | settings)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stop_after(n_images: int):
    yield from IMAGES[:n_images]
    raise KeyboardInterrupt


def interrupted(out: Path, **settings) -> str:
    """A fit that is stopped after three of four images; the line it ends with."""
    detector = untrained(**settings)
    with pytest.raises(KeyboardInterrupt) as stopped, FitPlace(detector, out):
        detector.fit(stop_after(3))
    return str(stopped.value)


def fitted(out: Path, **settings) -> Detector:
    detector = untrained(**settings)
    with FitPlace(detector, out) as place:
        detector.fit(IMAGES)
        place.save()
    return detector


def test_a_fit_that_is_stopped_is_resumed_by_the_next_one(tmp_path):
    out = tmp_path / "model"
    line = interrupted(out)
    assert line.startswith("stopped; ")
    assert f" GB of teacher features stay in {out / FEATURES}/" in line
    assert line.endswith("; run the same command again to go on")
    assert names(out) == [FEATURES]
    resumed = fitted(out)
    assert (resumed.n_resumed, resumed.n_images, resumed.teacher.model.passes) == (3, 4, 1)
    assert names(out) == ["detector.json", "model.safetensors"]
    assert list((tmp_path / "temporary").glob("*tinydefects*")) == []
    assert resumed.fingerprint == untrained().fit(IMAGES).fingerprint


def test_other_epochs_and_seeds_use_the_same_features_and_other_resolutions_none(tmp_path, capsys):
    interrupted(tmp_path / "a")
    assert fitted(tmp_path / "a", epochs=2, seed=1).n_resumed == 3
    interrupted(tmp_path / "b")
    assert capsys.readouterr().err == ""
    assert fitted(tmp_path / "b", resolution=48).n_resumed == 0
    assert "GB of features for other settings are removed" in capsys.readouterr().err


def test_features_of_a_living_run_with_other_settings_stay(tmp_path):
    out, images = tmp_path / "model", iter(IMAGES)
    detector = untrained()
    with FitPlace(detector, out) as place:
        with pytest.raises(KeyboardInterrupt):
            detector.fit(stop_after(3))
        fitted(out, resolution=48)
        detector.fit(images)
        assert detector.n_resumed == 3
        place.save()
    assert names(out) == ["detector.json", "model.safetensors"]


def test_a_cache_of_ones_own_stays_and_nothing_else_is_made(tmp_path):
    fitted(tmp_path / "model", cache_dir=tmp_path / "cache")
    assert names(tmp_path / "model") == ["detector.json", "model.safetensors"]
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 4


def test_a_fit_that_fails_before_its_first_image_leaves_nothing(tmp_path):
    detector = untrained()
    with pytest.raises(ZeroDivisionError), FitPlace(detector, tmp_path / "new/model"):
        detector.fit(1 / 0 for _ in range(1))
    assert names(tmp_path) == ["temporary"]


def test_an_earlier_model_stays_until_the_new_one_is_there(tmp_path):
    first = fitted(tmp_path / "model")
    interrupted(tmp_path / "model", seed=1)
    loaded = Detector.load(tmp_path / "model", teacher=first.teacher)
    assert loaded.fingerprint == first.fingerprint


def test_what_cannot_be_saved_in_its_place_is_saved_elsewhere_and_named(tmp_path):
    out, detector = tmp_path / "model", untrained()
    with FitPlace(detector, out) as place:
        detector.fit(IMAGES)
        (out / "model.safetensors").mkdir()  # nothing can be put there
        with pytest.raises(ModelFileError) as failed:
            place.save()
    (rescued,) = (tmp_path / "temporary").glob("tinydefects-model-*")
    assert str(failed.value).endswith(f"the model was saved as {rescued} instead: move it")
    assert Detector.load(rescued, teacher=detector.teacher).fingerprint == detector.fingerprint
    assert not (out / FEATURES).exists()


@pytest.mark.parametrize(
    ("occupied", "message"),
    [("model/notes.txt", "holds notes.txt, which is no part of a detector"), ("model", "is a file; give the name of")],
)
def test_a_place_that_cannot_take_a_model_is_refused_before_anything_is_read(
    tmp_path, monkeypatch, capsys, occupied, message
):
    path = tmp_path / occupied
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(ModelFileError, match=message):
        require_place(tmp_path / "model")
    code, out, err = run(monkeypatch, capsys, "fit", "folder/nowhere", "--out", "model")
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_place_without_room_for_the_model_is_refused_before_the_first_image(tmp_path, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    detector = untrained()
    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(ModelFileError, match=r"cannot write \(No space left"), FitPlace(detector, tmp_path / "model"):
        pytest.fail("it began")
    assert names(tmp_path) == ["temporary"]


def signalled(arguments: list[str], line: str, sign: signal.Signals) -> tuple[int, str]:
    """Exit code and standard error of a command that gets a signal once it has written a line that begins so."""
    command = [sys.executable, "-m", "tinydefects.cli.app", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = []
    for one in process.stderr:
        said.append(one)
        if one.startswith(line):
            break
    time.sleep(0.1)
    process.send_signal(sign)
    _, rest = process.communicate(timeout=120)
    return process.returncode, "".join(said) + rest


@pytest.mark.parametrize(
    ("stage", "sign", "expected"),
    [("teacher: ", signal.SIGINT, 130), ("students: ", signal.SIGINT, 130), ("students: ", signal.SIGTERM, 143)],
)
def test_ctrl_c_in_a_fit_is_one_line_and_the_next_run_goes_on(monkeypatch, capsys, stage, sign, expected):
    many = [option.replace("n_train=4", "n_train=12") for option in FIT]
    code, err = signalled([*many, "--epochs", "1000"], stage, sign)
    assert code == expected
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("stopped; ")
    code, _, err = run(monkeypatch, capsys, *many, "--epochs", "1")
    assert code == 0
    assert "resumed: the features of " in err
    assert names(Path("my model")) == ["calibration.json", "detector.json", "model.safetensors"]


def test_what_a_killed_fit_left_is_swept_by_the_next_one(monkeypatch, capsys, caplog):
    code, _ = signalled([*FIT, "--epochs", "2000"], "students: ", signal.SIGKILL)
    assert code == -signal.SIGKILL
    time.sleep(1)
    assert run(monkeypatch, capsys, *FIT, "--epochs", "1")[0] == 0
    assert any(record.getMessage().startswith("swept from my model: one temporary") for record in caplog.records)
    assert names(Path("my model")) == ["calibration.json", "detector.json", "model.safetensors"]
