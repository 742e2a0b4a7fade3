"""The guide to the line: every command on it runs, in its order, on the parts that it draws."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinydefects.decisions.calibration import read_calibration
from tinydefects.decisions.guarantees import parts_needed
from tinydefects.serve.journal import read_journal

PAGE = Path(__file__).resolve().parents[1] / "docs/to_the_line.md"
FEW = {
    "size=256": "size=96",
    "--resolution 256": "--resolution 84 --epochs 3",
}  # as printed, but small


def typed():
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines() if line.strip()]


def test_there_are_ten_commands_and_they_are_numbered():
    numbers = re.findall(r"^tinydefects .*# (\d+)", PAGE.read_text(), re.MULTILINE)
    assert list(map(int, numbers)) == list(range(1, 11))
    assert sum(line.startswith("tinydefects ") for line in typed()) == 10


def test_its_numbers_of_parts_are_those_of_the_thresholds():
    rows = re.findall(r"^\| (\d+) % \| (\d+) \| (\d+) \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 4
    for percent, on_average, certain in rows:
        rate = int(percent) / 100
        assert (int(on_average), int(certain)) == (parts_needed(rate), parts_needed(rate, 0.95))


def watched_until_ctrl_c(line, place, environment):
    """A part comes back while the line runs; once it is decided, somebody presses Ctrl-C."""
    shutil.copy(place / "watched/done/crack/000.png", place / "inbox/again.png")
    journal, until = place / "watched/decisions.jsonl", time.monotonic() + 300
    with subprocess.Popen(["bash", "-c", line], cwd=place, env=environment, stdout=subprocess.PIPE) as process:
        while b"again.png" not in journal.read_bytes():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, b"1 decision\n")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt" or not shutil.which("bash"), reason="there is no such shell")
def test_its_commands_lead_from_photographs_to_decisions(tmp_path):
    for package in ("onnx", "openvino"):
        pytest.importorskip(package)
    environment = {**os.environ, "PYTHON": sys.executable, "TINYDEFECTS_OFFLINE": "1"}
    lines = typed()
    for large, small in FEW.items():
        assert any(large in line for line in lines)
        lines = [line.replace(large, small) for line in lines]
    *others, last = [re.sub("^tinydefects", 'exec "$PYTHON" -m tinydefects', line) for line in lines]
    for line in others:
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    assert " watch " in last
    watched_until_ctrl_c(last, tmp_path, environment)
    calibration = read_calibration(tmp_path / "line/calibration.json")
    assert (calibration.scores.size, calibration.settings.pixel_pitch_mm) == (100, 0.05)
    entries = list(read_journal(tmp_path / "watched/decisions.jsonl"))
    assert [entry.arrival.name for entry in entries].count("again.png") == 1
    verdicts = {entry.arrival.name: entry.decision["verdict"] for entry in entries}
    assert sum(verdict == "good" for name, verdict in verdicts.items() if name.startswith("10")) >= 8
    assert list((tmp_path / "inbox").rglob("*.png")) == []
    regions = [region for entry in entries for region in entry.decision["regions"]]
    assert all(region["diameter_mm"] == pytest.approx(0.05 * region["diameter_px"]) for region in regions)
    assert json.loads((tmp_path / "found/decisions.jsonl").read_text().splitlines()[0])["verdict"]
