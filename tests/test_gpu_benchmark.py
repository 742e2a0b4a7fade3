"""What is measured on a GPU runs on a processor at a small size, and what is made of it is right."""

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gpu_passes
from replay import Replay
from tiny_teachers import TINY_VIT

pytestmark = pytest.mark.slow  # whole benchmarks

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.sh"
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="the script is for bash")


def run_passes(monkeypatch, out: Path, *arguments: str) -> dict:
    sizes = ["--teachers", TINY_VIT, "--resolutions", "64", "--size", "64x96", "--ceiling-side", "64"]
    monkeypatch.setattr("sys.argv", ["gpu_passes.py", *sizes, "--rounds", "1", "--out", str(out), *arguments])
    gpu_passes.main()
    return json.loads(out.read_text())


def run_script(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, **settings}
    return subprocess.run(["bash", str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, env=environment)


def test_passes_are_measured_by_batch_and_road_with_profiles_beside_them(tmp_path, monkeypatch):
    written = run_passes(monkeypatch, tmp_path / "passes.json", "--batches", "1,2", "--no-compile")
    roads = ["as it comes", "recorded"]
    assert [(row["images"], row["road"]) for row in written["rows"]] == [(n, road) for n in (1, 2) for road in roads]
    for row in written["rows"]:
        assert row["patches"] == [3, 4]
        assert row["largest_score_difference"] == 0
        assert row["share_of_ceiling"] == pytest.approx(row["floor_ms"] / row["ms_per_image"])
        ceiling = written["ceilings"]["bfloat16_tflops"]
        assert row["floor_ms"] == pytest.approx(1e3 * row["tflop_an_image"] / ceiling)
    assert {(one["images"], one["road"]) for one in written["profiles"]} >= {(1, road) for road in roads}
    assert all(0 < one["busy_ms"] <= one["span_ms"] for one in written["profiles"])
    assert {one["library"] for one in written["attention"]} == {"flash", "math"}  # a processor has no cuDNN
    assert {part.split(", ")[-1] for part in written["failures"]} == {"cuDNN"}
    assert set(written["failures"]) < set(written["seconds"])


def test_tables_are_made_of_the_files_that_are_there(tmp_path, monkeypatch):
    tables = runpy.run_path(str(SCRIPT.parents[1] / "runs" / "speed_tables.py"))
    monkeypatch.setitem(tables["benchmark"].__globals__, "STORED", tmp_path)
    shutil.copy(SCRIPT.parents[1] / "results" / "benchmarks" / "inference_cuda.json", tmp_path)
    make = tables["SPEED_TABLES"]
    assert make["passes_gpu"]() == "Not measured yet: `benchmarks/` has the script that writes `gpu_passes_cuda.json`."
    assert [line.split(" | ")[0] for line in make["aims_gpu"]().splitlines()[2:]] == [
        "| 6 times as quick as published or more"
    ]
    written = run_passes(monkeypatch, tmp_path / "gpu_passes_cuda.json", "--batches", "1,2", "--no-compile")
    assert {part.partition(",")[0] for part in written["failures"]} <= {"attention"}  # of libraries of a GPU
    for row in written["rows"]:
        row |= {"teacher": "vit_base_patch14_reg4_dinov2", "resolution": 1036, "ms_per_image": 8 / row["images"]}
        row["share_of_ceiling"] = 0.3 * row["images"]
    (tmp_path / "gpu_passes_cuda.json").write_text(json.dumps(written))
    aims = [[cell.strip() for cell in line.split("|")[1:-1]] for line in make["aims_gpu"]().splitlines()[2:]]
    assert [aim[2] for aim in aims[:3]] == ["as it comes", "recorded", "as it comes, 2 a pass"]
    assert aims[0][1].startswith("8.0 ms, ")
    assert aims[2][1] == "60 %"
    passes = make["passes_gpu"]().splitlines()
    assert passes[2].startswith("| vit_base_patch14_reg4_dinov2, 1036: as it comes | 8.00 | 4.00 | ")
    assert len(make["profiles_gpu"]().splitlines()) == 2 + 4 + 2 + 2


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself
def test_the_road_taken_is_left_again_whatever_happens():
    teacher = gpu_passes.random_teacher(TINY_VIT, "cpu")

    def fail_on_the_way() -> None:
        with gpu_passes.taken(gpu_passes.ROADS["compiled, recorded, cuDNN"], teacher):
            assert all(block._compiled_call_impl for block in teacher.model.blocks)
            assert not torch.backends.cuda.flash_sdp_enabled()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_on_the_way()
    assert not any(block._compiled_call_impl for block in teacher.model.blocks)
    assert torch.backends.cuda.flash_sdp_enabled()


def test_what_fails_is_written_with_its_reason_and_stops_nothing(tmp_path):
    def fail() -> None:
        raise ValueError("first line\nsecond line")

    names = {"size": "1x1", "rounds": 1, "device": "cpu", "batches": "1", "ceiling_side": 1}
    measured = gpu_passes.Measured(argparse.Namespace(out=tmp_path / "passes.json", **names))
    assert measured.take("fails", fail) is None
    assert measured.take("works", lambda: 3) == 3
    measured.write()
    written = json.loads((tmp_path / "passes.json").read_text())
    assert written["failures"] == {"fails": "ValueError: first line"}
    assert set(written["seconds"]) == {"fails", "works"}


def test_gaps_are_what_no_piece_of_work_covers():
    work = [("b", 5000.0, 7000.0), ("a", 1000.0, 3000.0), ("a", 2000.0, 4000.0), ("c", 2500.0, 2600.0)]
    found = gpu_passes.summarise(work)
    assert (found["n"], found["span_ms"], found["busy_ms"], found["gaps_ms"]) == pytest.approx((4, 6.0, 5.0, 1.0))
    assert [(one["name"], one["count"], one["ms"]) for one in found["longest"]] == [
        ("a", 2, 4.0),
        ("b", 1, 2.0),
        ("c", 1, pytest.approx(0.1)),
    ]
    assert gpu_passes.summarise([])["span_ms"] == 0


def test_the_best_pass_is_recorded_and_has_the_highest_share():
    shares = {(1, "recorded"): 0.2, (4, "recorded, cuDNN"): 0.5, (8, "as it comes"): 0.6, (8, "recorded"): 0.4}
    rows = [{"images": n, "road": road, "share_of_ceiling": share} for (n, road), share in shares.items()]
    best = gpu_passes.best_of(rows)
    assert best is rows[1]
    assert f"compiled, {best['road']}" in gpu_passes.ROADS
    assert gpu_passes.best_of(rows[2:3]) is None


def test_without_a_gpu_a_function_is_called_as_it_is():
    called = []
    replay = Replay(lambda given: called.append(given.shape) or given + 1)
    assert torch.equal(replay(torch.ones(2)), torch.full((2,), 2.0))
    assert torch.equal(replay(torch.zeros(2)), torch.ones(2))
    assert called == [(2,), (2,)]


@needs_bash
def test_a_wrong_call_says_how_the_script_is_used(tmp_path):
    for arguments in ([], ["--device"], ["--fast", tmp_path], [tmp_path, tmp_path]):
        finished = run_script(*arguments)
        assert finished.returncode == 2
        assert finished.stderr == "usage: benchmarks/gpu.sh [--device cuda|cpu] [--small] OUT\n"


@needs_bash
def test_without_time_nothing_is_begun(tmp_path):
    finished = run_script("--device", "cpu", "--small", tmp_path, LIMIT_SECONDS="4")
    assert finished.returncode == 1
    assert finished.stdout.count("no time left") == 4
    assert list(tmp_path.iterdir()) == []


@needs_bash
def test_all_parts_run_on_a_processor_and_say_what_they_took(tmp_path):
    out = tmp_path / "with blank"
    finished = run_script("--device", "cpu", "--small", out, OMP_NUM_THREADS="1", LIMIT_SECONDS="600")
    assert finished.returncode == 0, finished.stderr
    names = ["gpu_passes_cpu", "inference_cpu", "training_cpu", "training_1036_cpu"]
    assert sorted(path.stem for path in out.iterdir()) == sorted(names)
    written = {name: json.loads((out / f"{name}.json").read_text()) for name in names}
    assert [row["resolution"] for row in written["inference_cpu"]["rows"]] == [64]
    assert [len(written[name]["rows"]) for name in names[2:]] == [3, 3]
    *parts, whole = finished.stdout.splitlines()[-5:]
    assert [line.split(".json: ")[0] for line in parts] == names
    assert whole.startswith("all: ")
