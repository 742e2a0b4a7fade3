"""The command line as a user meets it: the whole road on tiny images, and one line for every mishap."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from command_line import run
from submission_trees import draw_dataset
from tinydefects.data.pixels import read_image, write_png
from tinydefects.detector.networks import load_timm
from tinydefects.results.result import read_result
from tinydefects.submission.layout import N_PRIVATE_IMAGES

pytestmark = pytest.mark.slow

SETTINGS = ["--teacher", "builtin", "--resolution", "64", "--epochs", "3"]


def draw_parts(root: Path) -> Path:
    """A folder of gray noise with a white square as defect, in the plain good/defect/mask layout."""
    noise = np.random.default_rng(0)
    for name in ("train/good/0", "train/good/1", "train/good/2", "test/good/3", "test/pit/4"):
        image = noise.integers(90, 130, (64, 48), dtype=np.uint8)
        mask = np.zeros((64, 48), dtype=bool)
        if "pit" in name:
            mask[20:26, 30:36] = True
            image[mask] = 255
            write_png(root / "ground_truth/pit/4_mask.png", mask)
        write_png(root / f"{name}.png", image)
    return root


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """data/mvtec_ad/screw, a fitted model and its maps, made once through the command itself."""
    folder = tmp_path_factory.mktemp("workshop")
    draw_parts(folder / "data/mvtec_ad/screw")
    for arguments in (
        ["fit", "mvtec_ad/screw", *SETTINGS, "--out", "model"],
        ["predict", "model", "mvtec_ad/screw", "--out", "maps"],
    ):
        finished = subprocess.run(
            [sys.executable, "-m", "tinydefects.cli.app", *arguments], cwd=folder, capture_output=True, text=True
        )
        assert finished.returncode == 0, finished.stderr
    return folder


@pytest.fixture
def inside(workshop, tmp_path, monkeypatch) -> Path:
    """A private copy of the workshop, and the current directory."""
    shutil.copytree(workshop, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_maps_are_32_bit_floats_at_the_image_size_in_mvtec_layout(workshop):
    stored = tifffile.imread(workshop / "maps/screw/test/pit/4.tiff")
    assert stored.dtype == np.float32
    assert stored.shape == (64, 48)
    assert read_image(workshop / "maps/overlays/screw/test/pit/4.png").shape == (64, 48, 3)
    assert (workshop / "maps/scores.csv").read_text().splitlines()[0] == "image,label,score"


def test_evaluate_then_report_ends_with_a_file_to_open(inside, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "evaluate", "maps", "mvtec_ad/screw", "--json")
    assert code == 0
    numbers = json.loads(out)
    assert numbers["overall"]["n_defects"] == 1
    assert numbers["overall"]["aupro"][0] > 0.9  # a white square on gray noise is not to be missed
    code, _, _ = run(monkeypatch, capsys, "report", "results")
    assert code == 0
    assert "mvtec_ad/screw" in Path("report.html").read_text()


def stems(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.tiff"))


def test_a_second_run_takes_the_same_photographs_though_its_maps_lie_among_them(inside, monkeypatch, capsys):
    shutil.copytree("data/mvtec_ad/screw/train/good", "in")
    for told in ("in: 3 photographs", "in: 3 photographs; left out: 1 folder of own output (maps)"):
        code, out, err = run(monkeypatch, capsys, "predict", "model", "in", "--out", "in/maps", "--json")
        assert (code, list(json.loads(out))) == (0, ["images/0", "images/1", "images/2"])
        assert err.splitlines()[0] == told
    for out in ("in", "."):
        code, _, err = run(monkeypatch, capsys, "predict", "model", "in", "--out", out)
        assert (code, "the maps would lie among the photographs" in err) == (2, True)


def test_predict_takes_files_and_patterns_and_keeps_their_maps_where_those_of_the_folder_lie(
    inside, monkeypatch, capsys
):
    good = Path("data/mvtec_ad/screw/train/good")
    for words in ([good], [good / "*.png"], sorted(good.iterdir())):
        assert run(monkeypatch, capsys, "predict", "model", *words, "--out", "theirs")[0] == 0
        assert stems(Path("theirs")) == ["good/images/0", "good/images/1", "good/images/2"]


def test_standing_in_the_data_folder_an_address_means_the_category(inside, monkeypatch, capsys):
    monkeypatch.chdir("data")
    arguments = ("predict", "../model", "mvtec_ad/screw", "--root", ".", "--out", "../theirs")
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert (code, stems(Path("../theirs"))) == (0, ["screw/test/good/3", "screw/test/pit/4"])
    assert "mvtec_ad/screw: a folder here, and a category below --root .: its 2 images are meant" in err


def test_an_address_typed_otherwise_leaves_the_same_results(inside, monkeypatch, capsys):
    assert run(monkeypatch, capsys, "evaluate", "maps", "MVTEC_AD\\Screw/", "--resamples", "0")[0] == 0
    assert Path("results/mvtec_ad/screw.json").is_file()


def test_maps_of_another_detector_are_made_again_and_both_are_never_scored_together(inside, monkeypatch, capsys):
    run(monkeypatch, capsys, "fit", "mvtec_ad/screw", *SETTINGS, "--seed", 1, "--out", "other")
    shutil.copytree("maps", "mixed")
    code, _, err = run(monkeypatch, capsys, "predict", "other", "mvtec_ad/screw", "--out", "maps")
    assert code == 0
    assert "2 maps, 2 of them made again: by another detector or with other settings" in err
    run(monkeypatch, capsys, "predict", "other", "mvtec_ad/screw", "--out", "fresh")
    for name in ("good/3", "pit/4"):
        again, fresh = (tifffile.imread(f"{folder}/screw/test/{name}.tiff") for folder in ("maps", "fresh"))
        np.testing.assert_array_equal(again, fresh)
    assert run(monkeypatch, capsys, "evaluate", "maps", "mvtec_ad/screw", "--resamples", 0)[0] == 0
    assert read_result(Path("results/mvtec_ad/screw.json")).provenance.settings["seed"] == "1"
    shutil.copy("maps/screw/test/pit/4.tiff", "mixed/screw/test/pit/4.tiff")
    code, _, err = run(monkeypatch, capsys, "evaluate", "mixed", "mvtec_ad/screw", "--out", "none")
    assert code == 2
    assert "1 other maker (test/pit/4: mixed/screw/test/pit/4.tiff)" in err
    assert not Path("none/mvtec_ad/screw.json").exists()


def test_predict_takes_a_plain_folder_of_photographs(inside, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "predict", "model", "data/mvtec_ad/screw/test", "--out", "new", "--json")
    assert code == 0
    scores = json.loads(out)
    assert set(scores) == {"images/good/3", "images/pit/4"}
    assert scores["images/pit/4"] > scores["images/good/3"]


def test_a_dry_run_needs_no_weights_of_the_teacher_it_counts_for(inside, monkeypatch, capsys):
    monkeypatch.setattr(load_timm().models, "load_state_dict", lambda *_, **__: pytest.fail("read weights"))
    code, out, err = run(monkeypatch, capsys, "fit", "mvtec_ad/screw", "--dry-run", "--json")  # the default teacher
    assert code == 0, err
    assert json.loads(out)["n_patches"] == 3 * 74 * 56  # 1036 x 777 px in patches of 14, rounded


def test_a_truncated_photograph_stops_no_other(inside, monkeypatch, capsys):
    Path("data/mvtec_ad/screw/test/pit/4.png").write_bytes(b"")
    code, out, err = run(monkeypatch, capsys, "predict", "model", "data/mvtec_ad/screw/test", "--out", "new", "--json")
    assert code == 2
    assert list(json.loads(out)) == ["images/good/3"]
    assert Path("new/scores.csv").read_text().splitlines()[1:] == [
        f"images/good/3,unknown,{json.loads(out)['images/good/3']}"
    ]
    assert "images/pit/4" in Path("new/problems.csv").read_text()
    assert err.splitlines()[-1].startswith(
        "tinydefects: 1 of 2 photographs; 1 problem, listed in new/problems.csv: data/mvtec_ad/screw/test/pit/4.png: "
    )


def test_fit_names_the_first_bad_image_and_counts_the_others_before_it_learns(inside, monkeypatch, capsys):
    for name in "02":
        Path(f"data/mvtec_ad/screw/train/good/{name}.png").write_bytes(b"\x89PNG no")
    code, _, err = run(monkeypatch, capsys, *FIT)
    assert code == 2
    assert "0.png: not a readable image" in err.splitlines()[-1]
    truncate_an_image()
    Path("data/mvtec_ad/screw/train/good/0.png").unlink()
    Path("data/mvtec_ad/screw/train/good/2.png").unlink()
    shutil.copy("data/mvtec_ad/screw/train/good/1.png", "data/mvtec_ad/screw/train/good/5.png")
    code, _, err = run(monkeypatch, capsys, *FIT)
    assert code == 2
    assert "in all 2 of 2 images cannot be read" in err.splitlines()[-1]
    assert not Path("again").exists()


def test_a_dry_run_says_what_fit_would_spend_and_writes_nothing(inside, monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch, capsys, "fit", "mvtec_ad/screw", *SETTINGS, "--dry-run", "--json", "--out", "unborn"
    )
    assert code == 0
    assert json.loads(out)["n_images"] == 3
    assert not Path("unborn").exists()


def test_inspect_counts_defects_at_every_resolution(inside, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "inspect", "mvtec_ad/screw", "--patch-size", 8, "--json")
    assert code == 0
    inspection = json.loads(out)
    assert inspection["area_quantiles_px"] == [36.0] * 6
    assert inspection["plans"][-1]["resolution"] is None


def test_inspect_plans_and_plots_for_a_defect_in_mm_without_any_data(inside, monkeypatch, capsys):
    code, out, _ = run(
        monkeypatch, capsys, "inspect", "--image-size", "300x400", "--pixel-pitch", 0.05, "--defect-mm", 0.2,
        "--patch-size", 8, "--max-input", 448, "--plot", "plan.svg", "--json",
    )  # fmt: skip
    assert code == 0
    plan = json.loads(out)["input_plan"]
    assert (plan["defect_px"], plan["scale"]) == (4.0, 4.0)  # two patches of 8 px across 4 px
    assert (plan["tile_size_px"], plan["n_tiles"]) == ([112, 112], [3, 4])
    assert "<svg" in Path("plan.svg").read_text()


def test_a_submission_is_predicted_listed_written_and_checked(inside, monkeypatch, capsys):
    monkeypatch.setitem(N_PRIVATE_IMAGES, "can", 2)
    draw_dataset(Path("data"), ["can"])
    for split in ("validation", "test_private", "test_private_mixed"):
        code, _, err = run(monkeypatch, capsys, "predict", "model", "mvtec_ad2/can", "--split", split, "--out", "m/can")
        assert code == 0, err
    code, out, _ = run(monkeypatch, capsys, "submit", "m", "mvtec_ad2/can", "--out", "ours.tar.gz", "--dry-run")
    assert code == 0
    assert "anomaly_images/can/test_private/000_regular.tiff" in out
    assert not Path("ours.tar.gz").exists()
    code, out, _ = run(monkeypatch, capsys, "submit", "m", "mvtec_ad2/can", "--out", "ours.tar.gz", "--json")
    assert code == 0
    assert json.loads(out)[0]["threshold"]["rule"] == "validation"
    code, out, _ = run(monkeypatch, capsys, "submit", "ours.tar.gz", "mvtec_ad2/can", "--check", "--json")
    assert code == 0
    assert (json.loads(out)["n_maps"], json.loads(out)["faults"]) == (4, [])
    code, out, err = run(monkeypatch, capsys, "submit", "ours.tar.gz", "--check")
    assert code == 2
    assert "7 missing (fabric, fruit_jelly, rice, and 4 more)" in err
    assert "fault: " in out


def break_nothing() -> None: ...


def truncate_an_image() -> None:
    path = Path("data/mvtec_ad/screw/train/good/1.png")
    path.write_bytes(path.read_bytes()[:200])


def shrink_a_map() -> None:
    tifffile.imwrite("maps/screw/test/pit/4.tiff", np.zeros((32, 24), dtype=np.float32))


def put_nan_into_a_map() -> None:
    tifffile.imwrite("maps/screw/test/pit/4.tiff", np.full((64, 48), np.nan, dtype=np.float32))


def remove_a_mask() -> None:
    Path("data/mvtec_ad/screw/ground_truth/pit/4_mask.png").unlink()


def resize_a_mask() -> None:
    write_png(Path("data/mvtec_ad/screw/ground_truth/pit/4_mask.png"), np.ones((30, 30), dtype=bool))


def remove_a_map() -> None:
    Path("maps/screw/test/pit/4.tiff").unlink()


def damage_the_model() -> None:
    next(Path("model").glob("*.safetensors")).write_bytes(b"not safetensors")


def truncate_the_settings() -> None:
    path = next(Path("model").glob("*.json"))
    path.write_text(path.read_text()[:40])


def add_a_photograph_of_the_same_stem() -> None:
    shutil.copy("data/mvtec_ad/screw/test/pit/4.png", "data/mvtec_ad/screw/test/pit/4.PNG")


FIT = ["fit", "mvtec_ad/screw", *SETTINGS, "--out", "again"]
EVALUATE = ["evaluate", "maps", "mvtec_ad/screw"]
PREDICT = ["predict", "model", "mvtec_ad/screw", "--out", "fresh"]


@pytest.mark.parametrize(
    ("mishap", "arguments", "named"),
    [
        (truncate_an_image, FIT, "1.png"),
        (remove_a_mask, EVALUATE, "4.png"),
        (shrink_a_map, EVALUATE, "test/pit/4"),
        (put_nan_into_a_map, EVALUATE, "4.tiff"),
        (resize_a_mask, EVALUATE, "4_mask.png"),
        (remove_a_map, EVALUATE, "test/pit/4"),
        (damage_the_model, PREDICT, "model"),
        (truncate_the_settings, PREDICT, "model"),
        (break_nothing, ["fit", "mvtec_ad/scrw", *SETTINGS], "screw"),
        (break_nothing, ["fit", "mvtec_ad/..", *SETTINGS], "not a path"),
        (break_nothing, ["evaluate", "maps", "folder/..", "--root", "data/mvtec_ad"], "not a path"),
        (break_nothing, ["predict", "model", "in/000.png"], "in/000.png: no such file, there is no folder in"),
        (break_nothing, ["predict", "model", "maps"], "maps: holds maps that 'predict' wrote"),
        (break_nothing, ["predict", "model", "data", "--split", "validation"], "for the address of a category"),
        (break_nothing, ["fit", "mvtec/screw", *SETTINGS], "mvtec_ad"),
        (break_nothing, ["fit", "mvtec_ad/screw", "--root", "nowhere", *SETTINGS], "nowhere"),
        (break_nothing, [*FIT, "--teacher", "no_such_vit"], "no_such_vit"),
        (break_nothing, [*FIT, "--teacher", "vit_tiny_patch16_224", "--teacher-weights", "none.pth"], "none.pth"),
        (break_nothing, [*FIT, "--cache-limit-gb", "0.0000001"], "--cache-limit-gb"),
        (break_nothing, ["predict", "nowhere", "mvtec_ad/screw"], "nowhere"),
        (break_nothing, ["report", "nowhere"], "nowhere"),
        (break_nothing, ["submit", "maps", "mvtec_ad2/screw"], "the objects of mvtec_ad2"),
        (break_nothing, ["submit", "maps", "mvtec_ad2/can"], "mvtec_ad2/can: not found"),
        (break_nothing, ["submit", "nowhere.tar.gz", "--check"], "nowhere.tar.gz"),
        (break_nothing, [*PREDICT, "--split", "validation"], "no validation images"),
        (break_nothing, [*PREDICT, "--split", "test_private"], "the objects of mvtec_ad2"),
        (break_nothing, ["inspect"], "--image-size HxW with --defect-px"),
        (break_nothing, ["inspect", "mvtec_ad/screw", "--defect-mm", "0.2"], "--pixel-pitch"),
        (break_nothing, ["inspect", "--image-size", "300", "--defect-px", "4"], "for example 1024x4096"),
        (break_nothing, ["inspect", "mvtec_ad/screw", "--plot", "plan.bmp"], "plan.bmp"),
        (add_a_photograph_of_the_same_stem, ["predict", "model", "data/mvtec_ad/screw/test/pit"], "4.png"),
    ],
)
def test_a_mishap_is_one_line_with_exit_code_2(inside, monkeypatch, capsys, mishap, arguments, named):
    mishap()
    code, _, err = run(monkeypatch, capsys, *arguments)
    complaint = [line for line in err.splitlines() if line.startswith("tinydefects: ")]
    assert code == 2, err
    assert len(complaint) == 1, err
    assert named in complaint[0]
    assert "Traceback" not in err


def test_fit_refuses_more_features_than_the_limit_before_it_reads_an_image(inside, monkeypatch, capsys):
    path = Path("data/mvtec_ad/screw/train/good/0.png")
    path.write_bytes(path.read_bytes()[:200])  # the first to be read: its header is whole, its pixels are not
    code, _, err = run(monkeypatch, capsys, *FIT, "--cache-limit-gb", "0.0000001")
    assert code == 2
    assert "--cache-limit-gb" in err
    assert "0.png" not in err


def test_without_torch_scoring_works_and_learning_names_the_extra(inside):
    def finish(*arguments: str) -> subprocess.CompletedProcess:
        program = f"import sys; sys.modules['torch'] = None; sys.argv = {['tinydefects', *arguments]}; "
        program += "from tinydefects.cli.app import main; main()"
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert finish(*EVALUATE).returncode == 0
    refused = finish(*FIT)
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "tinydefects: this command needs the extra 'detector': pip install '.[detector]' in the checkout\n"
    )


def test_a_full_disk_leaves_no_half_written_map(inside, monkeypatch, capsys):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    code, _, err = run(monkeypatch, capsys, *PREDICT)
    assert code == 2
    assert "No space left on device" in err
    assert list(Path("fresh").rglob("*tiff*")) == []


def test_a_killed_predict_goes_on_and_ends_with_the_same_maps(inside):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tinydefects.cli.app", *PREDICT]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(Path("fresh").rglob("*.tiff")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert list(Path("fresh").rglob("*.tiff"))
    subprocess.run(command, env=environment, check=True, capture_output=True)
    for path in Path("maps/screw").rglob("*.tiff"):
        again = tifffile.imread(Path("fresh") / path.relative_to("maps"))
        np.testing.assert_array_equal(again, tifffile.imread(path))


def test_help_names_every_command():
    finished = subprocess.run([sys.executable, "-m", "tinydefects.cli.app", "--help"], capture_output=True, text=True)
    for command in ("demo", "inspect", "fit", "predict", "evaluate", "report", "submit"):
        assert f" {command} " in finished.stdout
