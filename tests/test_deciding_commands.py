"""From good photographs to a running line by commands: fit, calibrate, predict, watch, and what goes wrong."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from command_line import run
from tinydefects.data.pixels import read_image
from tinydefects.decisions.calibration import CALIBRATION_FILE, CalibrationSettings, read_calibration
from tinydefects.detector.detector import Detector
from tinydefects.export.exported import ExportedDetector
from tinydefects.serve.journal import Journal, read_journal

pytestmark = pytest.mark.slow  # whole commands, and fits

SIZE = (60, 80)
WISHES = CalibrationSettings(false_alarms=0.2, confidence=0.8, false_regions=0.2)


def draw(path, seed, *, with_defect=False, size=SIZE, deep=False):
    """Noise, with a bright square as defect; `deep` is the same picture in 16 bits."""
    gray = np.clip(np.random.default_rng(seed).normal(110, 8, size), 0, 255).astype(np.uint8)
    if with_defect:
        gray[20:34, 30:44] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(gray.astype(np.uint16) * 257 if deep else gray).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose thresholds come from eight good photographs that it has not learnt from."""
    place = tmp_path_factory.mktemp("a model")
    learnt = [draw(place / f"learnt/{seed}.png", seed) for seed in range(6)]
    fresh = [draw(place / f"fresh/{seed}.png", seed) for seed in range(10, 18)]
    detector = Detector(teacher="builtin", resolution=84, epochs=2).fit(learnt, progress=False)
    detector.calibrate(fresh, WISHES, progress=False)
    detector.save(place / "model")
    return place / "model"


@pytest.fixture
def own_model(model, tmp_path):
    """A copy to be spoilt."""
    copy = tmp_path / "own model"
    copy.mkdir()
    for path in model.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


@pytest.fixture
def inbox(tmp_path):
    for number in range(3):
        draw(tmp_path / f"in/good {number}.png", 30 + number)
    draw(tmp_path / "in/Prüfling ä.png", 40, with_defect=True)
    return tmp_path / "in"


@pytest.fixture
def typed(monkeypatch, capsys):
    return lambda *words: run(monkeypatch, capsys, *words)


def one_line(err):
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("tinydefects: ")
    return lines[0]


def test_other_wishes_change_the_thresholds_and_neither_the_record_nor_the_rest_of_the_model(own_model, typed):
    before = {path.name: path.read_bytes() for path in own_model.iterdir()}
    images = read_calibration(own_model / CALIBRATION_FILE).images
    code, out, _ = typed("calibrate", own_model, "--false-alarms", "0.5", "--dry-run")
    assert code == 0
    assert "at most 50 %" in out
    assert {path.name: path.read_bytes() for path in own_model.iterdir()} == before
    code, out, err = typed("calibrate", own_model, "--false-alarms", "0.5", "--json")
    told = json.loads(out)
    assert (code, told["n_parts"], told["settings"]["false_alarms"]) == (0, 8, 0.5)
    assert str(own_model / CALIBRATION_FILE) in err
    after = read_calibration(own_model / CALIBRATION_FILE)
    assert after.images == images
    assert after.settings.confidence == WISHES.confidence  # what was not told stays
    assert told["good_up_to"] == after.good_up_to < Detector.load(own_model).calibration.defect_above
    assert all((own_model / name).read_bytes() == before[name] for name in before if name != CALIBRATION_FILE)


def test_wishes_come_from_a_file_and_quiet_says_nothing_beside_the_result(own_model, typed, tmp_path):
    _, page, _ = typed("config", "calibrate")
    (tmp_path / "wishes.yaml").write_text(page.replace("false_alarms: 0.01", "false_alarms: 0.25"))
    code, out, err = typed("calibrate", own_model, "--config", tmp_path / "wishes.yaml", "--quiet", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["settings"] == CalibrationSettings(false_alarms=0.25).model_dump()


def test_fresh_photographs_replace_the_record_and_keep_the_wishes(own_model, typed, tmp_path):
    for part in range(6):
        for camera in range(2):
            draw(tmp_path / f"more/{part}_cam{camera}.png", 100 + 2 * part + camera)
    words = ("calibrate", own_model, tmp_path / "more", "--part", "(.*)_cam")
    code, out, _ = typed(*words, "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "6 good parts in 12 photographs, taken after the detector had learnt")
    assert len(read_calibration(own_model / CALIBRATION_FILE).images) == 8
    code, _, err = typed(*words)
    assert (code, "in place of 8 good parts" in err) == (0, True)
    after = read_calibration(own_model / CALIBRATION_FILE)
    assert (len(after.images), after.settings) == (12, WISHES)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--part", "(.*)_cam"), "--part is for the names of good photographs"),
        (("--extent-quantile", "0.9"), "regions were recorded at 0.999"),
        (("--false-alarms", "2"), "--false-alarms"),
        (("--min-area-mm2", "0.5"), "needs pixel_pitch_mm"),
        (("nowhere",), "no such file"),
    ],
)
def test_what_cannot_be_calibrated_is_one_line_and_changes_nothing(own_model, typed, words, told):
    before = (own_model / CALIBRATION_FILE).read_bytes()
    code, _, err = typed("calibrate", own_model, *words)
    assert code == 2
    assert told in one_line(err)
    assert len(err) < 300
    assert (own_model / CALIBRATION_FILE).read_bytes() == before


def test_a_name_without_a_part_is_refused_before_anything_is_computed(own_model, typed, inbox):
    for pattern, told in (("(.*)_cam", "finds no part"), ("good", "has no group"), ("(", "no regular expression")):
        code, _, err = typed("calibrate", own_model, inbox, "--part", pattern)
        assert code == 2
        assert told in one_line(err)


def test_photographs_that_were_learnt_from_set_no_thresholds(model, own_model, typed):
    before = (own_model / CALIBRATION_FILE).read_bytes()
    code, _, err = typed("calibrate", own_model, model.parent / "learnt", "--quiet")
    assert code == 2
    assert "has learnt from this photograph" in one_line(err)
    assert "images/0" in err
    assert (own_model / CALIBRATION_FILE).read_bytes() == before


@pytest.mark.parametrize("content", ["{", "{}", None], ids=["damaged", "empty", "of another model"])
def test_calibration_that_fits_not_is_named_and_calibrating_again_mends_it(own_model, typed, inbox, content, tmp_path):
    path = own_model / CALIBRATION_FILE
    of_another = path.read_text().replace(read_calibration(path).fingerprint, "0" * 64)
    path.write_text(of_another if content is None else content)
    for words in (("predict", own_model, inbox), ("watch", own_model, inbox), ("calibrate", own_model)):
        code, _, err = typed(*words, "--quiet", *(() if words[0] == "calibrate" else ("--out", tmp_path / "out")))
        assert code == 2
        assert str(path) in one_line(err)
        assert "calibrate" in err
    assert len(list(inbox.iterdir())) == 4
    code, _, err = typed("calibrate", own_model, own_model.parent / "in/*.png")
    assert code == 0
    assert ("wishes are forgotten" in err) == (content is not None)
    assert read_calibration(path).settings == (WISHES if content is None else CalibrationSettings())


def test_edited_wishes_are_in_force_at_the_next_start(own_model, typed, inbox, tmp_path):
    path = own_model / CALIBRATION_FILE
    path.write_text(path.read_text().replace('"image_threshold": null', '"image_threshold": -1.0'))
    assert typed("watch", own_model, inbox, "--once", "--out", tmp_path / "out")[0] == 0
    verdicts = {entry.decision["verdict"] for entry in read_journal(tmp_path / "out/decisions.jsonl")}
    assert verdicts == {"defect"}


def test_without_thresholds_scores_are_written_and_decisions_refused(own_model, typed, inbox, tmp_path):
    (own_model / CALIBRATION_FILE).unlink()
    code, out, err = typed("predict", own_model, inbox, "--out", tmp_path / "out")
    assert code == 0
    assert f"tinydefects calibrate {own_model} GOOD" in err
    assert "decisions" not in out
    for words in (
        ("watch", own_model, inbox, "--out", tmp_path / "w"),
        ("predict", own_model, inbox, "--overlays", "alarms", "--out", tmp_path / "p"),
        ("predict", own_model, inbox, "--decisions", "coco", "--out", tmp_path / "p"),
        ("calibrate", own_model),
    ):
        code, _, err = typed(*words, "--quiet")
        assert code == 2
        assert f"tinydefects calibrate {own_model} GOOD" in one_line(err)
    assert not (tmp_path / "w").exists()


def test_watching_decides_as_the_detector_does_and_keeps_what_cannot_be_read_apart(model, typed, inbox, tmp_path):
    (inbox / "broken.png").write_text("no picture")
    draw(inbox / "deep.png", 30, deep=True)
    draw(inbox / "sub folder/small.png", 50, size=(30, 40))
    expected = {
        path.relative_to(inbox).as_posix(): Detector.load(model).decide(path).record()
        for path in inbox.rglob("*.png")
        if path.name != "broken.png"
    }
    words = ("watch", model, inbox, "--out", tmp_path / "out", "--once", "--settle-seconds", "0")
    code, out, err = typed(*words, "--patience-seconds", "0")
    assert (code, out) == (0, "6 decisions, 1 not readable (in failed/)\n")
    assert err.count("broken.png") == 1
    entries = {entry.arrival.name: entry for entry in read_journal(tmp_path / "out/decisions.jsonl")}
    assert {name: entry.decision for name, entry in entries.items() if entry.decision} == expected
    assert {entry.detector for entry in entries.values()} == {Detector.load(model).fingerprint}
    assert "not a readable image" in entries["broken.png"].problem
    assert expected["deep.png"] == expected["good 0.png"]
    assert expected["Prüfling ä.png"]["verdict"] == "defect"
    done = {path.relative_to(tmp_path / "out/done").as_posix() for path in (tmp_path / "out/done").rglob("*.png")}
    assert done == set(expected)
    assert list((tmp_path / "out/failed").iterdir()) == [tmp_path / "out/failed/broken.png"]
    alarms = {name for name, record in expected.items() if record["verdict"] != "good"}
    shown = {
        path.relative_to(tmp_path / "out/overlays").as_posix() for path in (tmp_path / "out/overlays").rglob("*.*")
    }
    assert shown == {f"{name}.png" for name in alarms}
    code, out, _ = typed(*words, "--json")
    assert (code, json.loads(out)) == (0, {"n_decided": 0, "n_failed": 0, "n_known": 0})


def test_settings_of_watch_come_from_a_file(model, typed, inbox, tmp_path):
    (tmp_path / "watch.yaml").write_text(f"once: true\ndone: keep\noverlays: none\nout: {tmp_path / 'out'}\n")
    code, out, err = typed("watch", model, inbox, "--config", tmp_path / "watch.yaml", "--quiet")
    assert (code, out, err) == (0, "4 decisions\n", "")
    assert len(list(inbox.iterdir())) == 4
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["decisions.jsonl"]


def test_places_that_cannot_be_watched_or_written_are_refused_in_one_line(model, typed, inbox, tmp_path):
    out = tmp_path / "out"
    file = tmp_path / "a file"
    file.write_text("")
    for words, told in (
        ((model, tmp_path / "nowhere"), "no such folder"),
        ((model, file), "no such folder"),
        ((tmp_path / "no model", inbox), "no such file"),
        ((model, inbox, "--out", inbox), "inbox itself"),
        ((model, inbox, "--out", file), "cannot write"),
    ):
        code, _, err = typed("watch", *words, "--once", "--quiet")
        assert code == 2
        assert told in one_line(err)
    assert len(list(inbox.iterdir())) == 4
    assert typed("watch", model, inbox, "--once", "--out", out)[0] == 0
    for folder in (out / "done", out / "overlays"):
        before = sorted(path.name for path in folder.iterdir())
        code, _, err = typed("watch", model, folder, "--once", "--out", out)
        assert code == 2
        assert "where photographs go that are done" in one_line(err)
        assert sorted(path.name for path in folder.iterdir()) == before
    with Journal(out / "decisions.jsonl"):
        code, _, err = typed("watch", model, inbox, "--once", "--out", out)
        assert code == 2
        assert "another run writes there" in one_line(err)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_watching_after_the_photograph_at_hand_with_a_summary(model, inbox, tmp_path, number):
    words = [sys.executable, "-m", "tinydefects", "watch", str(model), str(inbox), "--out", str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 120
        journal = tmp_path / "out/decisions.jsonl"
        while time.monotonic() < until and not (journal.exists() and journal.read_bytes().count(b"\n") == 4):
            time.sleep(0.05)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "4 decisions\n")
    assert "ending after the photograph at hand" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_an_export_decides_as_its_detector_does(model, typed, inbox, tmp_path, target):
    pytest.importorskip("onnx")
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[target])
    detector, out = Detector.load(model), tmp_path / "small"
    assert typed("export", model, "--to", target, "--out", out)[0] == 0
    exported = ExportedDetector.load(out)
    for path in inbox.iterdir():
        ours, theirs = detector.decide(path), exported.decide(path)
        assert theirs.verdict == ours.verdict
        assert theirs.score == pytest.approx(ours.score, abs=1e-4)
        assert theirs.n_regions == ours.n_regions
        assert [one.area_px for one in theirs.regions] == pytest.approx([one.area_px for one in ours.regions], rel=0.02)
    assert typed("watch", out, inbox, "--once", "--out", tmp_path / "w")[0] == 0
    assert len(list(read_journal(tmp_path / "w/decisions.jsonl"))) == 4
    code, _, err = typed("calibrate", out, model.parent / "learnt", "--quiet")
    assert (code, "has learnt from this photograph" in err) == (2, True)
    code, out_text, _ = typed("calibrate", out, model.parent / "fresh", "--false-alarms", "0.5")
    assert (code, "8 good parts" in out_text) == (0, True)
    assert ExportedDetector.load(out).calibration.settings.false_alarms == 0.5


@pytest.mark.slow
def test_an_export_of_other_numbers_leaves_thresholds_out_aloud(model, typed, inbox, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out = tmp_path / "small"
    code, _, err = typed("export", model, "--to", "onnx", "--precision", "fp16", "--out", out)
    assert code == 0
    assert f"tinydefects calibrate {out} GOOD" in err
    code, _, err = typed("watch", out, inbox, "--once", "--out", tmp_path / "w")
    assert code == 2
    assert f"tinydefects calibrate {out} GOOD" in one_line(err)


@pytest.mark.slow
def test_fit_takes_thresholds_and_says_how_to_change_them(typed, tmp_path):
    for seed in range(10):
        draw(tmp_path / f"parts/train/good/{seed}.png", seed)
    words = ("fit", "folder/parts", "--root", tmp_path, "--teacher", "builtin", "--resolution", "84", "--epochs", "1")
    for thresholds, n_parts in (("held-out", 2), ("folds", 10)):
        out = tmp_path / thresholds
        code, _, err = typed(*words, "--thresholds", thresholds, "--out", out)
        assert (code, f"{n_parts} good parts" in err) == (0, True)
        assert f"tinydefects calibrate {out} --false-alarms" in err
        held_out = [Path(one.id).name for one in read_calibration(out / CALIBRATION_FILE).images]
        given = [tmp_path / f"parts/train/good/{name}.png" for name in held_out]
        code, _, err = typed("calibrate", out, *given, "--dry-run")  # only those of folds were learnt from, too
        assert (code, "has learnt from" in err) == ((0, False) if thresholds == "held-out" else (2, True))
    assert typed(*words, "--thresholds", "none", "--out", tmp_path / "none")[0] == 0
    assert not (tmp_path / "none" / CALIBRATION_FILE).exists()


def test_decisions_of_predict_are_those_of_the_detector(model, typed, inbox, tmp_path):
    detector = Detector.load(model)
    code, out, _ = typed("predict", model, inbox, "--out", tmp_path / "out", "--pixel-pitch", "0.05")
    assert (code, out.startswith("3 good, 1 defect; 4 maps")) == (0, True)
    with (tmp_path / "out/decisions.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert len(rows) == 4
    for path in inbox.iterdir():
        decision, row = detector.decide(path, pixel_pitch_mm=0.05), rows[f"images/{path.stem}"]
        assert (row["verdict"], int(row["n_regions"])) == (decision.verdict, decision.n_regions)
        assert float(row["score"]) == pytest.approx(decision.score, abs=1e-9)
    with (tmp_path / "out/regions.csv").open() as file:
        region = next(csv.DictReader(file))
    assert float(region["diameter_mm"]) == pytest.approx(0.05 * float(region["diameter_px"]))
    assert read_image(tmp_path / "out/overlays/in/images/Prüfling ä.png").shape == (*SIZE, 3)
