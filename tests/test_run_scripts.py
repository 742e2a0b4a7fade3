"""The scripts behind published tables run from end to end, on a few tiny images in the datasets' own layouts."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinydefects.benchmark.summary import Summary, read_summary
from tinydefects.data.pixels import write_png
from tinydefects.datasets.catalog import load_category

RUNS = Path(__file__).resolve().parents[1] / "runs"
TINY = ("--teacher", "builtin", "--resolutions", "64", "--cost", "off")
pytestmark = pytest.mark.slow


def draw(path: Path, number: int, *, defect: bool = False) -> None:
    """A noisy square of 64 px, with a bright spot if asked for."""
    pixels = np.random.default_rng(number).integers(90, 110, (64, 64), dtype=np.uint8)
    if defect:
        pixels[20:26, 30:36] = 240
    write_png(path, pixels)


def draw_mask(path: Path) -> None:
    mask = np.zeros((64, 64), dtype=bool)
    mask[20:26, 30:36] = True
    write_png(path, mask)


def draw_category(folder: Path, defect: str, mask_name: str) -> None:
    """Train and test in MVTec's layout, which re-organised VisA shares."""
    for number in range(3):
        draw(folder / f"train/good/{number:03d}.png", number)
        draw(folder / f"test/good/{number:03d}.png", 10 + number)
        draw(folder / f"test/{defect}/{number:03d}.png", 20 + number, defect=True)
        draw_mask(folder / f"ground_truth/{defect}" / mask_name.format(number))


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def run_paper(folder: Path, *options: str) -> tuple[int, Summary]:
    """The suite of the paper with the small teacher, and what the summary of its results holds."""
    where = ("--root", folder / "data", "--out", folder / "results", "--report", folder / "page.html")
    tried = run(sys.executable, "-m", "tinydefects", "benchmark", "--suite", "paper", *where, *TINY, *options)
    summed = run(sys.executable, RUNS / "summary.py", folder / "results", folder / "summary.json")
    assert summed.returncode == 0, tried.stderr + summed.stderr
    return tried.returncode, read_summary(folder / "summary.json")


def test_the_suite_of_the_paper_ends_with_a_summary_and_a_page(tmp_path):
    draw_category(tmp_path / "data/visa/candle", "bad", "{:03d}.png")
    methods = ("--methods", "subspace,local_contrast")
    code, summary = run_paper(tmp_path, "--categories", "visa/*", *methods)
    jobs = {(row.category, row.method, row.resolution, row.seed) for row in summary.rows}
    assert (code, jobs) == (0, {("visa/candle", "subspace", 64, 0), ("visa/candle", "local_contrast", 0, 0)})
    assert summary.rows[0].n_defects == 3
    assert "visa/candle" in (tmp_path / "page.html").read_text()


def test_the_suite_goes_on_after_a_failed_job_and_says_so(tmp_path):
    for category in ("screw", "pill"):
        draw_category(tmp_path / f"data/mvtec_ad/{category}", "bent", "{:03d}_mask.png")
    torn = tmp_path / "data/mvtec_ad/pill/train/good/001.png"
    torn.write_bytes(torn.read_bytes()[:1000])
    code, summary = run_paper(tmp_path, "--categories", "mvtec_ad/*", "--methods", "gaussian")
    assert (code, [row.category for row in summary.rows]) == (2, ["mvtec_ad/screw"])
    assert [(one.category, "001.png" in one.reason) for one in summary.failed] == [("mvtec_ad/pill", True)]
    assert "mvtec_ad/screw" in (tmp_path / "page.html").read_text()


@pytest.mark.skipif(shutil.which("bash") is None, reason="the script is for bash")
def test_the_script_of_the_own_benchmark_says_how_it_is_used():
    finished = run("bash", RUNS / "benchmark.sh")
    assert (finished.returncode, "usage: runs/benchmark.sh DATA [OUT" in finished.stderr) == (1, True)


def test_halves_of_the_study_share_no_tile_and_no_board(tmp_path):
    tiles, boards = tmp_path / "data/magnetic_tile", tmp_path / "data/deeppcb"
    for number in range(24):  # every third tile has a defective photograph; an exposure that falls ends a group
        for exposure in (1, 6):
            stem = f"exp{exposure}_num_{1000 + 10 * number + exposure}"
            kind = "Crack" if number % 3 == 0 and exposure == 1 else "Free"
            draw(tiles / f"MT_{kind}/Imgs/{stem}.jpg", number, defect=kind == "Crack")
            draw_mask(tiles / f"MT_{kind}/Imgs/{stem}.png")
        draw(boards / f"train/good/{number:03d}.png", number)
        draw(boards / f"test/defect/d{number:03d}.png", number, defect=True)
        draw_mask(boards / f"ground_truth/defect/d{number:03d}_mask.png")
    command = [sys.executable, str(RUNS / "study_data.py"), str(tmp_path / "data"), str(tmp_path / "the halves")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    for subject in ("tiles", "boards"):
        stems = [{path.stem for path in (tmp_path / "the halves" / f"{subject}_{half}").rglob("*.*")} for half in "AB"]
        assert stems[0]
        assert stems[1]
        assert not stems[0] & stems[1]
    for half in "AB":
        category = tmp_path / "the halves" / f"tiles_{half}"
        numbers = {
            split: {path.stem.split("_")[-1] for path in (category / where).rglob("*.jpg")}
            for split, where in (("train", "train"), ("defective", "test/crack"))
        }
        assert not numbers["train"] & numbers["defective"]  # no other photograph of a defective tile is learnt from


def test_halves_of_the_study_need_their_images(tmp_path):
    command = [sys.executable, str(RUNS / "study_data.py"), str(tmp_path), str(tmp_path / "out")]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 2
    assert "no images; give the folder that holds magnetic_tile/" in finished.stderr
    assert finished.stderr.count("\n") == 1


def test_small_defects_are_counted_by_size_for_an_input(tmp_path):
    script = runpy.run_path(str(RUNS / "small_defects.py"))
    drawn = {**script["DRAWN"], "size": 64, "n_train": 2, "n_good": 2, "n_defect": 3}
    judged = script["judge"](load_category("synthetic/machined_part", root=tmp_path, **drawn), {"resolution": 64})
    row = script["row_of"]("its own size", [judged])
    assert sum(row["n_defects"]) == len(judged["diameters_px"]) >= 3
    assert (row["patches"], row["n_good"]) == (64, 2)
    assert row["image_auroc"].keys() == script["SCORES"].keys()
