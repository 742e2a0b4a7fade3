"""`tinydefects evaluate` as a user meets it: anybody's maps, every option, and one line for whatever is broken."""

import json
import os
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import command_line
from dataset_trees import draw
from tinydefects.data.tables import read_rows
from tinydefects.results.result import read_result

SIZE = (24, 32)
BOX = (slice(4, 7), slice(5, 9))
IDS = ("test/good/000", "test/good/001", "test/pit/002", "test/pit/003")
TRAIN = ("train/good/010", "train/good/011")
EVALUATE = ["evaluate", "maps", "mvtec_ad/screw", "--resamples", 20]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """data/mvtec_ad/screw with four test images and their maps as npy; the current folder."""
    noise = np.random.default_rng(0)
    for name in (*IDS, *TRAIN):
        image = noise.integers(90, 110, SIZE, dtype=np.uint8)
        anomaly_map = noise.random(SIZE, dtype=np.float32)
        if "pit" in name:
            mask = np.zeros(SIZE, dtype=np.uint8)
            mask[BOX] = 255
            image[BOX], anomaly_map[BOX] = 200, 2.0
            path = tmp_path / f"data/mvtec_ad/screw/{name.replace('test', 'ground_truth')}_mask.png"
            Image.fromarray(mask).save(draw(path))
        Image.fromarray(image).save(draw(tmp_path / f"data/mvtec_ad/screw/{name}.png"))
        path = tmp_path / f"maps/screw/{name}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, anomaly_map)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(workplace, monkeypatch, capsys):
    """Runs the command in this process: exit code, standard output, standard error."""
    return partial(command_line.run, monkeypatch, capsys)


def complaints(err):
    return [line for line in err.splitlines() if line.startswith("tinydefects: ")]


def result():
    return read_result(Path("results/mvtec_ad/screw.json"))


def save_map(name, anomaly_map):
    np.save(Path("maps/screw") / f"{name}.npy", anomaly_map)


def test_a_result_a_table_of_defects_and_nothing_about_problems_are_written(run):
    code, out, err = run(*EVALUATE, "--contrast", "--pixel-pitch", 0.1)
    assert code == 0, err
    assert sorted(path.name for path in Path("results/mvtec_ad").iterdir()) == [
        "screw.defects.csv",
        "screw.json",
        "screw.npz",
        "screw.tally.npz",
    ]
    assert "screw.defects.csv" in out
    rows = read_rows(Path("results/mvtec_ad/screw.defects.csv"))
    assert [(row["image"], row["area_px"], row["detected"]) for row in rows] == [
        ("test/pit/002", "12", "True"),
        ("test/pit/003", "12", "True"),
    ]
    assert float(rows[0]["diameter_mm"]) == pytest.approx(0.1 * float(rows[0]["diameter_px"]))
    assert float(rows[0]["contrast"]) == result().evaluation.defects[0].contrast > 3
    assert result().provenance.settings["maps"] == "4 .npy float32"


def test_the_licence_of_a_published_dataset_is_told_once_on_standard_error(run):
    _, out, err = run(*EVALUATE, "--json")
    assert err.count("licence of mvtec_ad: CC BY-NC-SA 4.0") == 1
    assert "licence" not in out
    shutil.copytree("data/mvtec_ad/screw", "mine/screw")
    assert "licence" not in run("evaluate", "maps", "folder/screw", "--root", "mine", "--resamples", 0)[2]


def test_every_option_reaches_the_result(run):
    options = ["--limits", "0.2,0.05", "--bins", "diameter_px:2,5", "--bins", "area_mm2:0.01", "--pixel-pitch", "0.1"]
    options += ["--threshold", "1.5", "--image-threshold", "1.25", "--detection-rule", "half_at_pixel_fpr"]
    options += ["--false-alarm-rate", "0.02", "--crops", "0", "--curve", "published_99", "--image-score", "max"]
    code, _, err = run(*EVALUATE, *options)
    assert code == 0, err
    evaluation = result().evaluation
    assert evaluation.fpr_limits == (0.2, 0.05)
    assert [group.n_defects for group in evaluation.by_bin] == [0, 2, 0, 0, 2]
    assert (evaluation.threshold, evaluation.pixel_f1) == (1.5, 1.0)
    assert (evaluation.image_threshold, evaluation.image_f1) == (1.25, 1.0)
    assert (evaluation.detectability.rule, evaluation.detectability.rate) == ("half_at_pixel_fpr", 0.02)
    assert (evaluation.curve_rule, evaluation.crops) == ("published_99", ())
    told = result().provenance.settings
    assert (told["n_resamples"], told["detection_rule"]) == ("20", "half_at_pixel_fpr")
    assert not {"seed", "contrast", "root", "out"} & told.keys(), "defaults and folders need no telling"


def test_a_file_of_settings_does_what_its_options_do(run):
    options = ["--limits", "0.2,0.05", "--bins", "diameter_px:2,5", "--detection-rule", "half_at_pixel_fpr"]
    assert run(*EVALUATE, *options)[0] == 0
    by_options = result()
    text = "fpr_limits: [0.2, 0.05]\nbins: ['diameter_px:2,5']\ndetection_rule: half_at_pixel_fpr\n"
    Path("settings.yaml").write_text(text + "n_resamples: 20\nout: elsewhere\n")
    code, _, err = run("evaluate", "maps", "mvtec_ad/screw", "--config", "settings.yaml")
    assert code == 0, err
    by_file = read_result(Path("elsewhere/mvtec_ad/screw.json"))
    assert by_file.provenance.settings == by_options.provenance.settings
    assert str(by_file.evaluation) == str(by_options.evaluation)


def test_a_threshold_from_training_images_is_theirs_and_recorded(run):
    save_map("train/good/010", np.full(SIZE, 0.25))
    save_map("train/good/011", np.full(SIZE, 0.75))
    code, _, err = run(*EVALUATE, "--threshold-from", "train", "--threshold-rate", 0.5, "--image-score", "max")
    assert code == 0, err
    assert (result().evaluation.threshold, result().evaluation.image_threshold) == (0.25, 0.25)
    assert result().provenance.settings["threshold_from"] == "train, exceeded by at most 0.5"
    run(*EVALUATE, "--threshold-from", "train", "--threshold", 1.5)
    assert (result().evaluation.threshold, result().evaluation.image_threshold) == (1.5, 0.75)


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl", ".parquet"])
def test_a_manifest_does_what_its_folder_does(run, suffix):
    run(*EVALUATE)
    from_folder = result().evaluation
    columns = {"id": list(IDS), "map": [f"maps/screw/{name}.npy" for name in IDS], "score": [1.0, 2.0, 3.0, 4.0]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    manifest = Path(f"manifest{suffix}")
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), manifest)
    elif suffix == ".csv":
        manifest.write_text("\n".join([",".join(columns), *(",".join(map(str, row.values())) for row in rows)]))
    else:
        manifest.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)))
    code, _, err = run("evaluate", manifest, "mvtec_ad/screw", "--resamples", 0)
    assert code == 0, err
    assert result().evaluation.overall.aupro == from_folder.overall.aupro
    assert result().evaluation.image_auroc == 1.0


def test_a_dry_run_checks_the_maps_and_writes_no_result(run):
    code, out, _ = run(*EVALUATE, "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["n_images"] == 4
    assert json.loads(out)["temporary_bytes"] == 4 * 4 * 24 * 32
    assert not Path("results").exists()
    Path("maps/screw/test/pit/002.npy").unlink()
    assert run(*EVALUATE, "--dry-run")[0] == 2


def test_resampling_is_refused_by_default_and_recorded_when_asked_for(run):
    save_map("test/pit/002", np.zeros((12, 16)))
    code, _, err = run(*EVALUATE)
    assert code == 2
    assert "1 wrong size (test/pit/002: " in complaints(err)[0]
    code, _, err = run(*EVALUATE, "--resample", "bilinear")
    assert code == 0, err
    assert result().provenance.settings["resample"].endswith("1 of 4 maps, 1 from 12 x 16 to 24 x 32")


def test_maps_without_an_image_are_told_and_listed_but_left_out(run):
    save_map("test/pit/999", np.zeros(SIZE))
    code, _, err = run(*EVALUATE)
    assert code == 0
    assert "1 extra (maps/screw/test/pit/999.npy)" in err
    assert [row["kind"] for row in read_rows(Path("results/mvtec_ad/screw.problems.csv"))] == ["extra"]
    assert result().evaluation.n_images == 4


def test_misnamed_maps_are_told_as_missing_and_as_strangers(run):
    for name in IDS:
        Path(f"maps/screw/{name}.npy").rename(f"maps/screw/{name}_map.npy")
    (line,) = complaints(run(*EVALUATE)[2])
    assert "4 missing (test/good/000: expected maps/screw/test/good/000 with .tiff" in line
    assert "4 extra (maps/screw/test/good/000_map.npy" in line


def test_everything_wrong_is_one_line_and_one_complete_list(run):
    Path("maps/screw/test/good/000.npy").unlink()
    Path("maps/screw/test/good/001.npy").write_bytes(b"half a file")
    save_map("test/pit/002", np.zeros((2, 2)))
    shutil.copy("maps/screw/test/pit/003.npy", "maps/screw/test/pit/003.tiff")
    code, _, err = run(*EVALUATE)
    assert code == 2
    (line,) = complaints(err)
    for named in (
        "1 missing (test/good/000",
        "1 unreadable (test/good/001",
        "1 wrong size (test/pit/002",
        "1 duplicate",
    ):
        assert named in line
    assert "results/mvtec_ad/screw.problems.csv" in line
    assert len(read_rows(Path("results/mvtec_ad/screw.problems.csv"))) == 4
    assert not Path("results/mvtec_ad/screw.json").exists()


def test_maps_that_are_not_finite_are_all_found_and_no_result_is_written(run):
    for name, value in (("test/good/000", np.nan), ("test/pit/002", np.inf), ("test/pit/003", 1e300)):
        save_map(name, np.full(SIZE, value))
    code, _, err = run(*EVALUATE)
    assert code == 2
    assert (
        "3 not finite (test/good/000: maps/screw/test/good/000.npy, test/pit/002, test/pit/003)" in complaints(err)[0]
    )
    assert [path.name for path in Path("results/mvtec_ad").iterdir()] == ["screw.problems.csv"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere", "mvtec_ad/screw"], "nowhere: no such folder of maps"),
        (
            ["maps", "mvtec_ad/screw", "--limits", "0.3,x"],
            "--limits: Input should be a valid number, unable to parse string as a number (got 'x')",
        ),
        (["maps", "mvtec_ad/screw", "--limits", "2"], "--limits: Input should be less than or equal to 1 (got '2')"),
        (["maps", "mvtec_ad/screw", "--bins", "2,5"], "--bins: '2,5': write UNIT:EDGES"),
        (["maps", "mvtec_ad/screw", "--bins", "inch:2"], "--bins: size unit 'inch' is unknown"),
        (["maps", "mvtec_ad/screw", "--bins", "area_mm2:2"], "give --pixel-pitch"),
        (["maps", "mvtec_ad/screw", "--threshold-from", "validation"], "has no validation images"),
        (["maps", "mvtec_ad/screw", "--threshold-from", "train", "--threshold-rate", "1"], "1 is not in [0, 1)"),
        (["maps", "mvtec_ad/screw", "--false-alarm-rate", "1"], "1 is not in [0, 1)"),
        (["maps", "mvtec_ad/screw", "--option", "seed=3"], "one of mask_rule (str)"),
        (
            ["maps", "magnetic_tile/all", "--option", "ntrain=3"],
            "one of n_train (int), n_good (int or None), seed (int)",
        ),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_line(run, arguments, named):
    code, _, err = run("evaluate", *arguments)
    assert code == 2
    assert len(complaints(err)) == 1, err
    assert named in complaints(err)[0]
    assert "Traceback" not in err


def test_the_datasets_options_are_used_and_recorded(run):
    shutil.copytree("data/mvtec_ad/screw/test/pit", "data/mine/defect")
    shutil.copytree("data/mvtec_ad/screw/ground_truth/pit", "data/mine/mask")
    shutil.copytree("data/mvtec_ad/screw/train/good", "data/mine/fine")
    for name in ("test/good/010", "test/defect/002", "test/defect/003"):
        path = Path(f"maps/mine/{name}.npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.zeros(SIZE))
    arguments = ["folder/mine", "--option", "good=fine", "--option", "test_good=fine", "--resamples", 0]
    code, _, err = run("evaluate", "maps", *arguments, "--option", "mask_rule=above_127")
    assert code == 2
    assert "test/good/011" in complaints(err)[0]
    np.save("maps/mine/test/good/011.npy", np.zeros(SIZE))
    assert run("evaluate", "maps", *arguments)[0] == 0
    settings = read_result(Path("results/folder/mine.json")).provenance.settings
    assert settings["dataset_options"] == "good=fine test_good=fine"


def finish(*arguments, **options):
    command = [sys.executable, "-m", "tinydefects.cli.app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half_written(workplace):
    def allow_small_files_only():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    finished = finish(*EVALUATE, preexec_fn=allow_small_files_only)
    assert finished.returncode == 2
    (line,) = complaints(finished.stderr)
    assert "File too large" in line
    assert [path for path in workplace.rglob("*") if "results" in path.parts and path.is_file()] == []


@pytest.mark.slow
def test_a_run_that_is_killed_amid_the_scoring_leaves_nothing_behind(workplace):
    temporary = workplace / "temporary"
    temporary.mkdir()
    program = f"""
import itertools, os, signal, sys
from tinydefects.cli import app as cli
from tinydefects.data import predictions
read, calls = predictions.read_map, itertools.count()
def read_thrice(*arguments):
    if next(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(*arguments)
predictions.read_map = read_thrice
sys.argv = {["tinydefects", *map(str, EVALUATE)]}
cli.main()
"""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    assert killed.returncode == -9
    assert list(temporary.iterdir()) == []
    assert not Path("results").exists()
    assert finish(*EVALUATE).returncode == 0


@pytest.mark.slow
def test_without_torch_and_without_pyarrow_maps_are_scored_and_parquet_names_its_extra(workplace):
    def without(*arguments):
        program = f"import sys; sys.modules['torch'] = sys.modules['pyarrow'] = None; sys.argv = {['', *arguments]}; "
        program += "from tinydefects.cli.app import main; main()"
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    scored = without(*map(str, EVALUATE))
    assert scored.returncode == 0, scored.stderr
    Path("maps.parquet").write_bytes(b"PAR1")
    refused = without("evaluate", "maps.parquet", "mvtec_ad/screw")
    assert refused.returncode == 2
    assert "pip install '.[tables]'" in complaints(refused.stderr)[0]


@pytest.mark.slow
def test_the_help_shows_its_options_in_groups_and_examples(workplace):
    shown = finish("evaluate", "--help").stdout
    for part in ("The maps", "Numbers and size groups", "Decisions", "What is written", "tinydefects evaluate maps"):
        assert part in shown
    first = shown.partition("Numbers and size groups")[0]
    places = [first.index(f"--{name} ") for name in ("limits", "bins", "pixel-pitch", "root", "out", "config")]
    assert places == sorted(places), "what matters most stands first"
