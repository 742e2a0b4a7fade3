"""`tinydefects monitor`: journals in, drift out; it goes on where it stopped, and says what it cannot compare."""

import json
import threading
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from command_line import run
from good_parts import record
from tinydefects.data.sample import Prediction
from tinydefects.decisions.calibration import (
    CALIBRATION_FILE,
    Calibration,
    read_calibration,
    write_calibration,
)
from tinydefects.decisions.drift import PictureStatistics, picture_statistics
from tinydefects.decisions.regions import Extent
from tinydefects.errors import NotFittedError, ResultError, SettingsError, TinyDefectsError
from tinydefects.report.drift_plot import DriftSpan, write_drift_plot
from tinydefects.serve.inbox import Inbox, WatchSettings, watch
from tinydefects.serve.journal import Arrival, Entry, Journal
from tinydefects.serve.line import LineMonitor

pytestmark = pytest.mark.slow  # long lives of a line

MORNING = datetime(2026, 11, 28, 6, 0, tzinfo=UTC)


def like(generator, light=120.0):
    return PictureStatistics(
        generator.normal(light, 4), generator.normal(20, 1), generator.normal(300, 20), 480.0, 640.0
    )


def calibration(n=60, *, seed=0, with_pictures=True, fingerprint="abc"):
    generator = np.random.default_rng((seed, 1))
    images = []
    for number in range(n):
        score = generator.normal(1, 0.1)
        picture = like(generator) if with_pictures else None
        images.append(record(number, score, peaks=[score]).model_copy(update={"picture": picture}))
    return Calibration(fingerprint=fingerprint, obtained="held out", extent=Extent(level=-99.0), images=tuple(images))


def entries(n, *, seed=0, drift_from=None, with_pictures=True, start=0, step=60):
    """Photographs whose light goes from 120 to 132 at one of them, 3 of its deviations, and whose scores stay."""
    generator = np.random.default_rng((seed, 2))
    made = []
    for number in range(n):
        light = 132.0 if drift_from is not None and number >= drift_from else 120.0
        score, picture = float(generator.normal(1, 0.1)), like(generator, light)
        made.append(
            Entry(
                time=MORNING + timedelta(seconds=start + step * number),
                arrival=Arrival(name=f"part_{number:04d}.png", n_bytes=1, changed_ns=number),
                decision={"score": score, "verdict": "good"},
                picture=picture if with_pictures else None,
            )
        )
    return made


def write(path, made, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        file.writelines(one.model_dump_json(exclude_none=True) + "\n" for one in made)
    return path


@pytest.fixture
def model(tmp_path):
    write_calibration(tmp_path / "a model" / CALIBRATION_FILE, calibration())
    return tmp_path / "a model"


@pytest.fixture
def monitor(monkeypatch, capsys, model):
    return lambda *arguments: run(monkeypatch, capsys, "monitor", model, *arguments)


def test_a_line_whose_light_changes_is_told_with_stream_and_time_and_code_3(tmp_path, monitor, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    journal = write(tmp_path / "out" / "decisions.jsonl", entries(260, drift_from=200))
    code, out, err = monitor(journal, "--json")
    told = json.loads(out)
    assert (code, err) == (3, "")
    assert (told["drifted"], told["n_photographs"], told["n_new"]) == (True, 260, 260)
    first = told["alarms"][0]
    assert (first["stream"], first["side"]) == ("brightness", "higher")
    assert 200 < first["at"] < 230
    assert 190 < first["began"] <= 201 + 3
    assert first["at_photograph"] == f"part_{first['at'] - 1:04d}.png"
    assert first["began_time"] == (MORNING + timedelta(minutes=first["began"] - 1)).isoformat()
    code, out, _ = monitor(journal)
    assert code == 3  # until it is settled
    line = out.splitlines()[0]
    assert line.startswith("drift: brightness is higher since about 2026-11-28 ")
    assert f"({first['began_photograph']}, photograph {first['began']})" in line
    assert "drift in 260 photographs (at most one false alarm expected in 10,000)" in out
    assert monitor(journal, "--acknowledge")[0] == 0
    code, out, _ = monitor(journal)
    assert (code, out.splitlines()[0][:8]) == (0, "no drift")


@pytest.mark.parametrize("seed", range(4))
def test_a_line_that_stays_as_it_was_is_no_drift(tmp_path, monitor, seed):
    code, out, err = monitor(write(tmp_path / "out" / "decisions.jsonl", entries(400, seed=seed)))
    assert (code, err) == (0, "")
    assert out.startswith("no drift in 400 photographs (at most")


@pytest.mark.parametrize("cuts", [(1,), (203,), (50, 150, 210, 215)])
def test_calls_in_between_change_no_alarm(tmp_path, cuts):
    made = entries(300, drift_from=200)
    whole = LineMonitor(tmp_path / "whole.json", calibration())
    whole.read([write(tmp_path / "whole.jsonl", made)])
    path, state = tmp_path / "decisions.jsonl", tmp_path / "monitor.json"
    alarms = []
    for start, end in zip((0, *cuts), (*cuts, 300), strict=True):
        write(path, made[start:end], mode="a")
        with path.open("a") as file:
            file.write('{"time": "2026-')  # another line is being written
        part = LineMonitor(state, calibration())
        alarms += part.read([path])
        part.save()
        with path.open("rb+") as file:
            file.truncate(path.stat().st_size - len('{"time": "2026-'))
    assert alarms == whole.state.alarms
    assert alarms
    assert part.state == whole.state


def test_journals_of_two_cameras_are_read_in_the_order_of_time(tmp_path):
    made = entries(300, drift_from=200)
    one, two = (write(tmp_path / name / "decisions.jsonl", made[start::2]) for start, name in enumerate("ab"))
    both, whole = (LineMonitor(tmp_path / f"{name}.json", calibration()) for name in ("both", "whole"))
    both.read([two, one])
    whole.read([write(tmp_path / "whole.jsonl", made)])
    assert both.state.alarms == whole.state.alarms
    assert both.state.monitor == whole.state.monitor
    (tmp_path / "b").rename(tmp_path / "moved")
    assert both.read([one, tmp_path / "moved" / "decisions.jsonl"]) == []
    assert both.state.monitor.n_seen == 300  # moved, and known all the same


def test_photographs_without_a_decision_are_left_out_and_counted(tmp_path, monitor):
    made = entries(20)
    bad = Entry(time=MORNING, arrival=Arrival(name="half.png", n_bytes=1, changed_ns=0), problem="half a file")
    out = monitor(write(tmp_path / "decisions.jsonl", [bad, *made, bad]))[1]
    assert "no drift in 20 photographs, 2 without a decision left out" in out


def test_a_photograph_that_does_not_say_what_it_is_like_counts_with_its_score(tmp_path):
    made = entries(30)
    made[7] = made[7].model_copy(update={"picture": None})
    line = LineMonitor(tmp_path / "monitor.json", calibration())
    line.read([write(tmp_path / "decisions.jsonl", made)])
    later = {name: len(stream.later) for name, stream in line.state.monitor.streams.items()}
    assert (later.pop("score"), set(later.values())) == (30, {29})


def test_scores_alone_are_compared_where_nothing_else_is_known_and_that_is_said_once(tmp_path, model, monitor):
    journal = write(tmp_path / "decisions.jsonl", entries(30))
    write_calibration(model / CALIBRATION_FILE, calibration(with_pictures=False))
    code, out, err = monitor(journal)
    assert (code, err.count("scores alone are compared: the calibration"), err.count("\n")) == (0, 1, 1)
    assert out.splitlines()[-1].startswith("evidence, of what an alarm needs: score ")
    assert "brightness" not in out
    assert monitor(journal)[2] == ""


def test_decisions_of_predict_have_scores_and_names_alone(tmp_path, monitor):
    generator = np.random.default_rng(5)
    scores = [*generator.normal(1, 0.1, 100), *generator.normal(1.3, 0.1, 60)]
    lines = [json.dumps({"image": f"test/{n}", "score": score, "verdict": "good"}) for n, score in enumerate(scores)]
    path = tmp_path / "decisions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    code, out, err = monitor(path)
    assert (code, err.count("\n")) == (3, 1)
    assert "these decisions do not say what the photographs are like" in err
    assert out.startswith("drift: score is higher since about test/")
    journal = write(tmp_path / "watched.jsonl", entries(3))
    code, _, err = monitor(path, journal)
    assert (code, "has no times" in err, err.count("\n")) == (2, True, 1)


def test_another_calibration_begins_anew_with_what_was_not_read_and_says_so(tmp_path, model, monitor):
    made = entries(260, drift_from=200)
    journal = write(tmp_path / "decisions.jsonl", made[:240])
    assert monitor(journal, "--run-length", 500)[0] == 3
    write_calibration(model / CALIBRATION_FILE, calibration(seed=1, fingerprint="new"))
    write(journal, made[240:], mode="a")
    _, out, err = monitor(journal, "--json")
    told = json.loads(out)
    assert "the calibration is another than before; the monitor begins anew" in err
    assert (told["n_photographs"], told["settings"]["run_length"]) == (20, 500)
    edited = read_calibration(model / CALIBRATION_FILE).with_changes(false_alarms=0.2)
    write_calibration(model / CALIBRATION_FILE, edited)  # the same photographs under other wishes
    assert monitor(journal)[2] == ""
    assert json.loads(monitor(journal, "--anew", "--json")[1])["n_photographs"] == 260


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', "\x00"])
def test_a_damaged_state_is_one_line_that_names_it(tmp_path, monitor, content):
    journal = write(tmp_path / "decisions.jsonl", entries(20))
    (tmp_path / "monitor.json").write_text(content)
    code, out, err = monitor(journal)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "monitor.json" in err
    assert "--anew" in err
    assert monitor(journal, "--anew")[0] == 0


def test_what_cannot_be_read_is_one_line(tmp_path, model, monitor):
    journal = write(tmp_path / "decisions.jsonl", entries(20))
    assert monitor(journal)[0] == 0
    code, _, err = monitor(journal, "--run-length", 7)
    assert (code, "was begun with run_length 10000.0, not 7" in err) == (2, True)
    write(journal, entries(25, seed=3))
    text = journal.read_text().splitlines()
    first = entries(1)[0].model_dump_json(exclude_none=True)
    journal.write_text("\n".join([first, *text[1:]]) + "\n")
    code, _, err = monitor(journal)
    assert (code, "goes on otherwise" in err) == (2, True)
    with journal.open("a") as file:
        file.write("nothing\n")
    assert "is no decision" in monitor(journal, "--anew")[2]
    assert "cannot be read" in monitor(tmp_path / "gone.jsonl")[2]
    code, _, err = monitor(journal, journal)
    assert (code, "give each of them once" in err) == (2, True)
    with pytest.raises(SettingsError, match="10 good photographs"):
        LineMonitor(tmp_path / "few.json", calibration(9))
    (model / CALIBRATION_FILE).unlink()
    assert "tinydefects calibrate" in monitor(journal)[2]


def test_the_scores_are_drawn_with_threshold_and_alarm(tmp_path, monitor):
    journal = write(tmp_path / "decisions.jsonl", entries(260, drift_from=200))
    code, _, err = monitor(journal, "--plot", tmp_path / "line.svg")
    assert (code, err) == (3, f"plot: {tmp_path / 'line.svg'}\n")
    text = "".join(ElementTree.parse(tmp_path / "line.svg").getroot().itertext())
    for told in ("good up to", "drift of brightness", "image score", "2026-11-28"):
        assert told in text
    drawn = (tmp_path / "line.svg").read_bytes()
    monitor(journal, "--plot", tmp_path / "line.svg")
    assert (tmp_path / "line.svg").read_bytes() == drawn


def test_many_scores_are_drawn_as_the_highest_of_a_few(tmp_path):
    scores = np.random.default_rng(0).normal(size=20_001)
    span = DriftSpan(stream="score", began=5, at=9)
    path = write_drift_plot(
        tmp_path / "a.svg", scores.tolist(), [None] * 20_001, thresholds={"never": np.inf}, spans=[span], begun=3
    )
    text = path.read_text()
    assert "score, the highest of 5" in text
    assert "calibrated anew" in text
    assert "never" not in text
    for name, given in (("a.gif", scores), ("a.png", [])):
        with pytest.raises(TinyDefectsError, match=r"rename it|no scores"):
            write_drift_plot(tmp_path / name, given, [None] * len(given), thresholds={})


# In the running loop.


def test_the_journal_of_watch_says_what_each_photograph_is_like(tmp_path):
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "in" / "a.png")
    given = WatchSettings(settle_seconds=0, once=True)
    inbox = Inbox(folder=tmp_path / "in", out=tmp_path / "out", settings=given)
    with Journal(tmp_path / "out" / "decisions.jsonl") as journal:
        watch(inbox, journal, lambda sample, image: {"score": 1.0}, detector="abc", stop=threading.Event())
        assert journal.last.picture == pytest.approx(picture_statistics(image))
    (line,) = (tmp_path / "out" / "decisions.jsonl").read_text().splitlines()
    assert json.loads(line)["picture"]["width"] == 40


class Dim:
    """A detector whose score is always the same."""

    colour_scale = (0.0, 1.0)
    fingerprint = "abc"

    def __init__(self, calibration):
        self.calibration = calibration

    def predict(self, image):
        return Prediction(np.zeros(image.shape[:2], np.float32), 1.0)


def test_watch_says_when_the_line_drifts_and_monitor_goes_on_from_there(tmp_path, monkeypatch, capsys, model, monitor):
    known = calibration()
    generator = np.random.default_rng(4)
    shots = [generator.integers(100, 140, (16, 16, 3), dtype=np.uint8) for _ in range(100)]
    images = tuple(
        one.model_copy(update={"picture": picture_statistics(shot)})
        for one, shot in zip(known.images, shots, strict=False)
    )
    known = known.model_copy(update={"images": images})
    write_calibration(model / CALIBRATION_FILE, known)
    monkeypatch.setattr("tinydefects.export.exported.load_model", lambda *_, **__: Dim(known))
    command = ("watch", model, tmp_path / "in", "--out", tmp_path / "out", "--once", "--settle-seconds", "0")

    def arrive(shots, first, light=0):
        for number, shot in enumerate(shots, start=first):
            path = tmp_path / "in" / f"{number:03d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(shot + np.uint8(light)).save(path)

    arrive(shots[60:70], 0)
    code, _, err = run(monkeypatch, capsys, *command)  # without a monitor; it catches up
    assert (code, "drift" in err) == (0, False)
    arrive(shots[70:100], 10, light=30)
    code, _, err = run(monkeypatch, capsys, *command, "--monitor")
    assert code == 0
    assert err.count("drift: brightness is higher since about") == 1
    code, out, _ = monitor(tmp_path / "out" / "decisions.jsonl", "--json")
    told = json.loads(out)
    assert (code, told["n_photographs"], told["n_new"]) == (3, 40, 0)
    assert 11 <= told["alarms"][0]["began"] <= 12


def test_a_model_without_thresholds_is_refused_before_anything_is_read(tmp_path):
    from tinydefects.cli.living import calibration_of

    with pytest.raises(NotFittedError, match="no thresholds"):
        calibration_of(tmp_path)
    (tmp_path / CALIBRATION_FILE).write_text("{}")
    with pytest.raises(ResultError, match=r"calibration\.json"):
        calibration_of(tmp_path)
