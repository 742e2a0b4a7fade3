"""`tinydefects evaluate --part` and `--merge`: one category on several machines."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from test_evaluate_command import EVALUATE, complaints, run, workplace  # noqa: F401 - fixtures
from tinydefects.benchmark.result import read_result

COMMAND = [*EVALUATE, "--bins", "diameter_px:2,5", "--contrast", "--exhibits", 3]
BASE = Path("results/mvtec_ad/screw")


def bytes_but_for_the_date():
    result = read_result(BASE.with_suffix(".json"))
    lines = [line for line in BASE.with_suffix(".json").read_text().splitlines() if '"created"' not in line]
    return lines, [BASE.with_suffix(suffix).read_bytes() for suffix in (".defects.csv", ".tally.npz", ".npz")], result


def test_parts_gathered_apart_and_merged_give_the_files_of_one_run(run):  # noqa: F811
    assert run(*COMMAND)[0] == 0
    lines, files, whole = bytes_but_for_the_date()
    shutil.rmtree("results")
    for share in ("2/3", "1/3", "3/3"):
        code, out, _ = run(*COMMAND, "--part", share)
        assert (code, out) == (0, f"written: {BASE}.part_{share.replace('/', '_of_')}\n")
    assert not BASE.with_suffix(".json").exists()
    code, out, _ = run(*COMMAND, "--merge")
    assert code == 0
    merged_lines, merged_files, merged = bytes_but_for_the_date()
    assert (merged_lines, merged_files) == (lines, files)
    assert merged.evaluation.pixel_auroc == whole.evaluation.pixel_auroc


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--part", "third"], "--part third: write which of how many, such as 2/5"),
        (["--part", "1/2", "--merge"], "--part and --merge exclude each other"),
        (["--part", "5/5"], "part 5 of 5: parts count from 1, and 4 test images make 4 parts at most"),
        (["--merge"], "results/mvtec_ad/screw: there are no parts here"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, arguments, complaint):  # noqa: F811
    code, out, err = run(*COMMAND, *arguments)
    assert (code, out) == (2, "")
    assert complaint in complaints(err)[0]


def merge_complaint(run):  # noqa: F811
    code, _, err = run(*COMMAND, "--merge")
    assert code == 2
    return complaints(err)[0]


def test_parts_that_do_not_fit_together_are_refused(run):  # noqa: F811
    run(*COMMAND, "--part", "1/2")
    assert "screw: no part has images 1, 3 of 4" in merge_complaint(run)
    run(*COMMAND, "--part", "2/3")
    assert "parts of 2 and of 3 lie here" in merge_complaint(run)
    shutil.rmtree(f"{BASE}.part_2_of_3")
    run(*COMMAND, "--part", "2/2", "--image-score", "max")
    assert 'not from {"image_score": "stored"' in merge_complaint(run)
    run(*COMMAND, "--part", "2/2")
    scores = Path(f"{BASE}.part_2_of_2/part.f32")
    np.fromfile(scores, dtype=np.float32)[:-1].tofile(scores)
    assert "part_2_of_2/part.f32: has" in merge_complaint(run)


def darken(path):
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 255
    Image.fromarray(pixels).save(path)


def add_one(path):
    np.save(path, np.load(path) + 1)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (darken, "data/mvtec_ad/screw/test/pit/002.png"),
        (darken, "data/mvtec_ad/screw/ground_truth/pit/002_mask.png"),
        (add_one, "maps/screw/test/pit/002.npy"),
    ],
)
def test_parts_of_files_that_have_changed_since_are_refused(run, change, path):  # noqa: F811
    for share in ("1/2", "2/2"):
        assert run(*COMMAND, "--part", share)[0] == 0
    change(Path(path))
    assert "part_1_of_2: gathered from other maps, masks or photographs than lie here now" in merge_complaint(run)
    run(*COMMAND, "--part", "1/2")
    assert run(*COMMAND, "--merge")[0] == 0
