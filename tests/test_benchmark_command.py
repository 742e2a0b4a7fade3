import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from benchmark_scene import CATEGORY, SCENE, add_stand_in
from command_line import run
from tinydefects.benchmark.run_folder import read_protocol
from tinydefects.data.map_files import read_header, read_map
from tinydefects.data.pixels import write_map, write_png
from tinydefects.results.result import find_results

pytestmark = pytest.mark.slow

SMALL = [f"--option={name}={value}" for name, value in SCENE.items()]
COMMON = ("benchmark", "--teacher", "builtin", "--resolutions", "96", "--cost", "off", *SMALL)


@pytest.fixture
def benchmark(tmp_path, monkeypatch, capsys):
    def run_it(*arguments, out="out", categories=CATEGORY):
        where = ("--root", tmp_path / "data", "--out", tmp_path / out, "--categories", categories)
        return run(monkeypatch, capsys, *COMMON, *where, *arguments)

    return run_it


def evaluations(folder):
    """Everything but times and provenance, by the place of the result."""
    return {
        str(path.relative_to(folder)): json.dumps(json.loads(path.read_text())["evaluation"])
        for path in find_results(folder)
    }


def test_methods_are_compared_and_their_leaderboard_is_printed(benchmark, tmp_path):
    code, out, err = benchmark("--methods", "subspace,local_contrast")
    assert code == 0, err
    assert set(evaluations(tmp_path / "out")) == {
        f"{CATEGORY}/0/local_contrast/seed_0.json",
        f"{CATEGORY}/96/subspace/seed_0.json",
    }
    rows = [line.split() for line in out.splitlines()]
    assert out.splitlines()[0] == "synthetic at 96 px, 1 category"
    assert {row[0] for row in rows[2:4]} == {"local_contrast", "subspace"}
    evaluation = json.loads(evaluations(tmp_path / "out")[f"{CATEGORY}/96/subspace/seed_0.json"])
    own = next(row for row in rows if row[0] == "subspace")
    assert float(own[1]) == pytest.approx(evaluation["cumulative"][0]["aupro"][2], abs=5e-5)
    assert f"tinydefects report {tmp_path / 'out'}" in err


def test_a_dry_run_lists_jobs_and_costs_and_writes_nothing(benchmark, tmp_path):
    code, out, err = benchmark("--methods", "fbft,subspace,local_contrast", "--seeds", "0,1", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0, err
    assert [(job["method"], job["seed"]) for job in plan["jobs"]] == [
        ("fbft", 0),
        ("fbft", 1),
        ("subspace", 0),
        ("local_contrast", 0),
    ]
    assert {(job["n_train"], job["n_test"], job["is_done"]) for job in plan["jobs"]} == {(4, 10, False)}
    patches, channels, header = 12 * 12, 192, 128 + 32  # and a digest behind
    assert plan["feature_bytes"] == 4 * (patches * 2 * channels * 2 + header) + 10 * (
        patches * 2 * channels * 4 + header
    )
    assert all(job["seconds"] > 0 for job in plan["jobs"])
    assert not (tmp_path / "out").exists()


def test_a_dry_run_counts_the_steps_and_epochs_that_students_are_told(benchmark):
    methods = "fbft_v0.1,fbft:epochs=25,fbft_v0.1:steps=5"
    code, out, err = benchmark("--methods", methods, "--seeds", "0,1", "--dry-run", "--json")
    assert code == 0, err
    full, half, few = (job["seconds"] for job in json.loads(out)["jobs"] if job["seed"] == 1)  # no timing among them
    assert full - half == pytest.approx(5 * (half - few) / 4, rel=1e-6)  # 50, 25 and 5 epochs of 4 images


def test_what_is_finished_is_shown_as_done_and_tells_how_long_the_rest_takes(benchmark):
    benchmark("--methods", "local_contrast")
    code, out, _ = benchmark("--methods", "local_contrast,subspace", "--dry-run")
    rows = {line.split()[2]: line for line in out.splitlines() if line.startswith(CATEGORY)}
    assert code == 0
    assert rows["local_contrast"].endswith("done")
    assert rows["subspace"].endswith("(guess)")
    assert "2 jobs, 1 done" in out


def test_methods_with_tiles_share_features_of_their_own_and_their_size_is_known_before(benchmark, tmp_path):
    methods = ("--methods", "fbft:epochs=1:tile=48,subspace:tile=48")
    code, out, _ = benchmark(*methods, "--dry-run", "--json")
    assert code == 0
    assert benchmark(*methods)[0] == 0
    kept = [path.stat().st_size for path in (tmp_path / "out/features").rglob("*.npy")]
    assert sum(kept) == json.loads(out)["feature_bytes"]
    assert len(kept) == 14 * 9  # four images to learn from, ten to score; three tiles along each side


def test_settings_of_a_benchmark_come_from_a_file(benchmark, tmp_path):
    (tmp_path / "run.yaml").write_text("methods: [local_contrast, subspace]\nseeds: [0, 1]\nthreads: 2\n")
    code, out, _ = benchmark("--config", tmp_path / "run.yaml", "--methods", "local_contrast", "--dry-run", "--json")
    assert (code, [job["method"] for job in json.loads(out)["jobs"]]) == (0, ["local_contrast"])
    (tmp_path / "run.yaml").write_text("method: fbft\n")
    code, _, err = benchmark("--config", tmp_path / "run.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'run.yaml'}: method: no such setting; did you mean methods?" in err


def test_features_that_cannot_fit_are_refused_before_the_first_job(benchmark, tmp_path):
    code, _, err = benchmark("--methods", "subspace,local_contrast", "--features-limit-gb", "0.001")
    assert code == 2
    assert "raise --features-limit-gb" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_processes_give_the_numbers_of_the_serial_run(benchmark, tmp_path):
    methods = ("--methods", "fbft:epochs=1,local_contrast")
    assert benchmark(*methods, out="serial")[0] == 0
    code, _, err = benchmark(*methods, "--workers", "2", out="parallel")
    assert code == 0, err
    assert evaluations(tmp_path / "parallel") == evaluations(tmp_path / "serial")


def test_shards_are_disjoint_and_give_the_results_of_one_run(benchmark, tmp_path):
    methods = ("--methods", "fbft:epochs=1,local_contrast,subspace", "--seeds", "0,1")
    assert benchmark(*methods, out="whole")[0] == 0
    written = set()
    for part in ("2/3", "1/3", "3/3"):
        code, out, _ = benchmark(*methods, "--shard", part, "--dry-run", out="parts")
        assert (code, f"shard {part} of 4 jobs: " in out) == (0, True)
        code, out, err = benchmark(*methods, "--shard", part, "--json", out="parts")
        assert code == 0, err
        assert json.loads(out)["leaderboards"] == []
        now = {path.relative_to(tmp_path / "parts") for path in (tmp_path / "parts").rglob("seed_?.json")}
        assert json.loads(out)["finished"] == len(now - written) > 0
        written = now
    assert evaluations(tmp_path / "parts") == evaluations(tmp_path / "whole")
    assert benchmark(*methods, "--dry-run", out="parts")[1].count("done") == 4 + 1  # in every row and in the sum


def test_a_run_that_was_killed_goes_on_where_it_stopped(benchmark, tmp_path):
    methods = ("--methods", "fbft:epochs=2,local_contrast,subspace", "--seeds", "0,1,2")
    assert benchmark(*methods, out="whole")[0] == 0
    out = tmp_path / "killed"
    where = ("--root", tmp_path / "data", "--out", out, "--categories", CATEGORY)
    command = [sys.executable, "-m", "tinydefects.cli.app", *COMMON, *where, *methods]
    kept = {}
    for n_wanted in (1, 3):
        process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL, start_new_session=True)
        written = f"{glob.escape(str(out))}/**/seed_*.tally.npz"  # Path.rglob stumbles over folders that go meanwhile
        while len(glob.glob(written, recursive=True)) < n_wanted and process.poll() is None:  # noqa: PTH207
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept |= {path: path.stat().st_mtime_ns for path in out.rglob("seed_?.json")}
    assert kept
    code, _, err = benchmark(*methods, out="killed")
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert evaluations(out) == evaluations(tmp_path / "whole")


def test_failed_jobs_are_listed_with_their_reasons_and_tried_again(benchmark, monkeypatch):
    def fail(samples):
        raise ValueError("no idea")

    add_stand_in(monkeypatch, "bad", on_fit=fail)
    code, out, err = benchmark("--methods", "bad,local_contrast")
    assert code == 2
    assert "local_contrast" in out
    assert err.splitlines()[-2:] == [
        "1 of 2 jobs failed; the same command tries them again:",
        f"  {CATEGORY} – bad seed 0: ValueError: no idea",
    ]
    add_stand_in(monkeypatch, "bad")
    assert benchmark("--methods", "bad,local_contrast")[0] == 0


def test_ctrl_c_says_how_to_go_on_and_is_no_failure(benchmark, monkeypatch, tmp_path):
    def press(samples):
        raise KeyboardInterrupt

    add_stand_in(monkeypatch, "slow", on_fit=press)
    code, out, err = benchmark("--methods", "local_contrast,slow")
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "stopped; run the same command again to go on"
    assert len(evaluations(tmp_path / "out")) == 1
    assert not list((tmp_path / "out").rglob("*.failed.json"))


def test_a_folder_holds_results_of_one_protocol(benchmark):
    assert benchmark("--methods", "local_contrast")[0] == 0
    code, _, err = benchmark("--methods", "local_contrast", "--option", "synthetic.n_good=5")
    assert code == 2
    assert "options of synthetic: " in err
    assert "n_good=4 n_train=4 seed=0 size=96 there" in err
    assert "choose another --out" in err


def test_a_second_run_adds_to_the_protocol_of_the_folder(benchmark, tmp_path):
    benchmark("--methods", "local_contrast")
    benchmark("--methods", "local_contrast", "--seeds", "1", categories="synthetic/woven_fabric")
    protocol = read_protocol(tmp_path / "out")
    assert protocol.categories == (CATEGORY, "synthetic/woven_fabric")
    assert protocol.seeds == (0, 1)
    assert {path.rpartition("/")[2] for path in evaluations(tmp_path / "out")} == {"seed_0.json"}  # the first seed is


def test_a_damaged_protocol_is_named(benchmark, tmp_path):
    benchmark("--methods", "local_contrast")
    (tmp_path / "out" / "protocol.json").write_text('{"version": 1}')
    code, _, err = benchmark("--methods", "local_contrast")
    assert code == 2
    assert "protocol.json: field 'fingerprint'" in err


def turn(path):
    """Another picture of the same size under the same name."""
    write_png(path, np.asarray(Image.open(path))[::-1])


@pytest.mark.parametrize("changed", ["train/good/000.png", "test/good/000.png", "ground_truth/*/000_mask.png"])
@pytest.mark.parametrize("asked_next", ["local_contrast", "subspace"])
def test_changed_images_and_masks_are_not_mixed_with_results_of_the_old_ones(benchmark, tmp_path, changed, asked_next):
    benchmark("--methods", "local_contrast")
    turn(next(next((tmp_path / "data/synthetic").iterdir()).glob(changed)))  # of the same size in pixels as before
    code, _, err = benchmark("--methods", asked_next)
    assert code == 2
    assert f"the images, masks or saturations of {CATEGORY} have changed" in err
    shutil.rmtree(tmp_path / "out" / CATEGORY)
    assert benchmark("--methods", "local_contrast", "--dry-run", "--json")[0] == 0


def test_changed_maps_are_scored_again(benchmark, tmp_path):
    benchmark("--methods", "local_contrast", "--keep-maps", out="first")
    maps = tmp_path / "first" / CATEGORY / "0/local_contrast/seed_0"
    imported = f"maps:{maps}"
    assert benchmark("--methods", imported)[0] == 0
    (before,) = evaluations(tmp_path / "out").values()
    code, out, err = benchmark("--methods", imported, "--dry-run")
    assert (code, "1 jobs, 1 done" in out, "have changed" in err) == (0, True, False)
    path = next(maps.rglob("test/good/*.tiff"))
    write_map(path, 1 - read_map(path), description=read_header(path).description)
    code, _, err = benchmark("--methods", imported)
    assert code == 0
    assert "its maps have changed since, so it is scored again" in err
    (after,) = evaluations(tmp_path / "out").values()
    assert after != before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--methods", "fbtf"), "fbtf: no such method; did you mean fbft?"),
        (("--methods", "fbft,"), "--methods 'fbft,'"),
        (("--methods", "fbft:epoch=3"), "epoch: no such option; did you mean epochs?"),
        (("--methods", "fbft", "--categories", "synthetic/brushed_metl"), "did you mean synthetic/brushed_metal?"),
        (("--methods", "fbft", "--categories", "synthetik/*"), "did you mean synthetic?"),
        (("--methods", "fbft", "--categories", "mvtec_ad/*"), "no category of mvtec_ad lies below"),
        (("--methods", "fbft", "--categories", "synthetic"), "write dataset/category or dataset/*"),
        (("--methods", "fbft", "--option", "n_trian=3"), "none of synthetic has it; did you mean n_train?"),
        (("--methods", "fbft", "--option", "synthetic.size=big"), "option size is"),
        (("--methods", "fbft", "--seeds", "0,x"), "--seeds 0,x: write whole numbers"),
        (("--methods", "fbft", "--resolutions", "8"), "--resolutions 8: write whole numbers from 16 to 1000000"),
        (("--methods", "fbft", "--workers", "2", "--cluster", "local"), "exclude each other"),
        (("--methods", "fbft", "--resources", "GPU=1"), "is for the workers of a cluster"),
        (
            ("--methods", "fbft", "--cluster", "local", "--resources", "GPU"),
            "--resources GPU: write names with",
        ),
        (
            ("--methods", "fbft", "--shard", "9/8"),
            "--shard 9/8: write which part of how many, the first is 1",
        ),
        (("--methods", "fbft", "--shard", "3"), "--shard 3: write which part of how many"),
        (("--methods", "fbft", "--shard", "0/0"), "--shard 0/0: write which part of how many"),
        (("--methods", "fbft", "--teacher", "no_such_vit"), "no_such_vit"),
        (("--methods", "patchcore:k=1,patchcore_k=1"), "patchcore_k=1: no such method"),
    ],
)
def test_what_cannot_be_is_found_before_any_work(benchmark, tmp_path, arguments, complaint):
    code, _, err = benchmark(*arguments)
    assert code == 2
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "out").exists()
