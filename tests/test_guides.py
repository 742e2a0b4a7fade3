"""The guides: their commands run in their order, on parts that they draw, small ones; their arithmetic is right."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinydefects
from tinydefects.decisions.calibration import read_calibration
from tinydefects.decisions.guarantees import parts_needed, photographs_needed
from tinydefects.serve.journal import read_journal

ROOT = Path(__file__).resolve().parents[1]
SMALLER = {  # what a page prints, and what is enough here
    "can_it_be_seen.md": {
        "size=256 --option n_train=60 --option n_good=30 --option n_defect=40": "size=96 --option n_train=12 "
        "--option n_good=6 --option n_defect=8",
        "--resolution 256": "--resolution 96 --epochs 2",
    },
    "small_defects.md": {
        "size=320": "size=96",
        "--tile 160 --overlap 32": "--tile 64 --overlap 16",
        "--resolution native": "--resolution native --epochs 2",
    },
}
needs_bash = pytest.mark.skipif(os.name == "nt" or not shutil.which("bash"), reason="there is no such shell")


def text_of(page):
    return (ROOT / "docs" / page).read_text()


def typed(page):
    """The commands of a page."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines() if line.strip()]


def run(line, place, **more):
    """One command in a shell; its output and its remarks."""
    line = re.sub("^tinydefects", 'exec "$PYTHON" -m tinydefects', line)
    environment = {**os.environ, "PYTHON": sys.executable, "TINYDEFECTS_OFFLINE": "1", **more}
    done = subprocess.run(["bash", "-c", line], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout, done.stderr


def printed_block(page, first):
    """The lines of the block that begins with these words."""
    (found,) = re.findall(rf"^```\n({re.escape(first)}.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return found


@pytest.mark.slow
@needs_bash
@pytest.mark.parametrize("page", SMALLER)
def test_commands_of_a_page_run_in_their_order(page, tmp_path):
    lines, place = typed(page), tmp_path / "a place"
    place.mkdir()
    for large, small in SMALLER[page].items():
        assert any(large in line for line in lines)
        lines = [line.replace(large, small) for line in lines]
    outputs = {line: run(line, place)[0] for line in lines}
    if page == "can_it_be_seen.md":
        shown = printed_block(page, "to keep a defect")
        assert shown in outputs[lines[0]]
        assert re.search(r"^> +0\.48 +580 ", outputs[lines[1]], re.MULTILINE)
        answer = outputs[lines[-1]]
        assert "detected: " in answer
        assert "POD: " in answer
        assert "parts called not good" in answer
    else:
        calibration = read_calibration(place / "native/calibration.json")
        assert calibration.settings.false_regions == 0.2
        assert "n_regions" in (place / "found/decisions.csv").read_text().splitlines()[0]
        assert "aupro_Q1@0.05" in outputs[lines[-1]]


def test_the_arithmetic_of_camera_and_lens_prints_what_the_page_shows():
    (code,) = re.findall(r"```python\n(.*?)```", text_of("can_it_be_seen.md"), re.DOTALL)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == printed_block("can_it_be_seen.md", "pixel pitch")


def test_a_pixel_lies_inside_a_disc_of_so_many_pixels_wherever_it_falls_and_of_fewer_not_everywhere():
    places = np.linspace(0, 1, 41)
    rows, columns = np.meshgrid(places, places)
    corners = [np.hypot(row - rows, column - columns) for row in range(-2, 4) for column in range(-2, 4)]
    far = np.array(corners).reshape(6, 6, *rows.shape)
    farthest = np.maximum.reduce([far[:-1, :-1], far[1:, :-1], far[:-1, 1:], far[1:, 1:]])  # of each pixel
    radius = farthest.min(axis=(0, 1)).max()  # the best pixel, in the worst place
    assert 2 * radius == pytest.approx(2.83, abs=0.005)


def test_numbers_of_parts_and_of_defects_for_a_claim_are_right():
    rows = re.findall(r"^\| (\d+) % \| (\d+) \| (\d+) \|$", text_of("can_it_be_seen.md"), re.MULTILINE)
    assert len(rows) == 3
    for percent, on_average, certain in rows:
        rate = int(percent) / 100
        assert (int(on_average), int(certain)) == (parts_needed(rate), parts_needed(rate, 0.95))
    assert (photographs_needed(0.1, 1), photographs_needed(0.01, 1)) == (9, 99)
    assert 0.9**29 <= 0.05 < 0.9**28
    assert 0.9**46 + 46 * 0.1 * 0.9**45 <= 0.05 < 0.9**45 + 45 * 0.1 * 0.9**44


@pytest.mark.slow
@needs_bash
def test_a_line_is_watched_updated_and_taken_back_as_the_page_says(tmp_path):
    watch, monitor, several, acknowledge, fit, dry_run, update, back = typed("monitoring.md")
    generator = np.random.default_rng(0)
    for folder, count in (("my_parts/train/good", 60), ("new_good", 2), ("inbox", 4), ("cam1 in", 3), ("cam2 in", 3)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(count):
            pixels = generator.normal(120, 20, size=(56, 56, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    run(f"{fit} --teacher builtin --resolution 56 --epochs 1", tmp_path)
    first = read_calibration(tmp_path / "model/calibration.json").fingerprint
    run(f"{watch} --once", tmp_path)
    for camera in ("cam1", "cam2"):
        run(f"tinydefects watch model '{camera} in' --out {camera} --once", tmp_path)
    assert "no drift in 4 photographs" in run(monitor, tmp_path)[0]
    assert "no drift in 6 photographs" in run(several, tmp_path)[0]
    assert (tmp_path / "line.svg").exists()
    run(acknowledge, tmp_path)
    assert "60 photographs whose features are there, and 2 new ones" in run(dry_run, tmp_path)[0]
    run(update, tmp_path)
    second = read_calibration(tmp_path / "model/calibration.json").fingerprint
    shutil.copy(tmp_path / "new_good/0.png", tmp_path / "inbox/5.png")
    assert "the monitor begins anew" in run(f"{watch} --once", tmp_path)[1]
    run(back, tmp_path)
    assert read_calibration(tmp_path / "model/calibration.json").fingerprint == first != second
    named = [entry.detector for entry in read_journal(tmp_path / "watched/decisions.jsonl")]
    assert named == [first] * 4 + [second]


def stand_in_for_a_wheel(folder):
    """The package as a wheel, as far as pip looks at it, and the command."""
    folder.mkdir()
    about = "tinydefects-0.1.0.dist-info"
    extras = "".join(f"Provides-Extra: {name}\n" for name in ("detector", "export"))
    with zipfile.ZipFile(folder / "tinydefects-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: tinydefects\nVersion: 0.1.0\n{extras}")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/entry_points.txt", "[console_scripts]\ntinydefects = tinydefects.cli.app:main\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.mark.slow
@needs_bash
def test_what_is_carried_in_is_installed_and_runs_without_a_network(tmp_path):
    switch, wheel, make, install, *lines = typed("offline.md")
    assert switch == "export TINYDEFECTS_OFFLINE=1"
    assert wheel == "pip wheel --wheel-dir wheels --constraint constraints.txt '.[detector,export]'"
    stand_in_for_a_wheel(tmp_path / "wheels")
    assert make == "python3 -m venv line"
    venv.create(tmp_path / "line", with_pip=True, symlinks=True)
    packages = [str(Path(tinydefects.__file__).parents[1]), *(path for path in sys.path if "site-packages" in path)]
    more = {"PYTHONPATH": os.pathsep.join(packages), "PIP_NO_DEPS": "1", "PIP_CONFIG_FILE": os.devnull}
    run(install, tmp_path, PIP_NO_DEPS="1", PIP_CONFIG_FILE=os.devnull, PYTHONPATH="")
    shipped = Path(tinydefects.__file__).parent / "detector/weights/builtin.safetensors"
    shutil.copy(shipped, tmp_path / "weights.safetensors")
    draw = "tinydefects inspect synthetic/brushed_metal --option size=96 --option n_train=8"
    run(f"{draw} --option n_good=2 --option n_defect=2", tmp_path)
    run("cp -r data/synthetic/brushed_metal-* parts", tmp_path)
    *lines, demo = lines
    assert demo == "line/bin/tinydefects demo --out demo --offline"  # minutes; the command has tests of its own
    for line in lines:
        run(line, tmp_path, **more)
    assert json.loads((tmp_path / "found/decisions.jsonl").read_text().splitlines()[0])["verdict"]
