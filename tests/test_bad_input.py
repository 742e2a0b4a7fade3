"""A table of bad inputs over all commands: each is one line that names the culprit, with exit code 2; none a traceback.

Every path that is written to lies in the test's own folder.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import run
from test_cli import draw_parts

pytestmark = pytest.mark.slow  # whole commands, and fits

SCREW = "mvtec_ad/screw"
RESULT, OTHER = "results/a/mvtec_ad/screw.json", "results/b/mvtec_ad/screw.json"
BENCHMARK = ("--categories", SCREW, "--teacher", "builtin", "--resolutions", 64, "--out", "bench")
SMALL = ("--teacher", "builtin", "--resolution", 64, "--epochs", 1)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory) -> Path:
    """A dataset, a model, its maps, two results, a benchmark, an export: one file of every kind we read."""
    folder = tmp_path_factory.mktemp("work shop ä")
    draw_parts(folder / "data/mvtec_ad/screw")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for arguments in (
            ("fit", SCREW, *SMALL, "--out", "model"),
            ("predict", "model", SCREW, "--out", "maps"),
            ("evaluate", "maps", SCREW, "--resamples", 0, "--out", "results/a"),
            ("evaluate", "maps", SCREW, "--resamples", 0, "--image-score", "max", "--out", "results/b"),
            ("benchmark", "--methods", "local_contrast", *BENCHMARK, "--cost", "off"),
        ):
            code, _, err = run(patch, Silent(), *arguments)
            assert code == 0, (arguments, err)
    rows = "".join(f"test/{name},maps/screw/test/{name}.tiff\n" for name in ("good/3", "pit/4"))
    (folder / "maps.csv").write_text(f"id,map\n{rows}")
    for name in ("maps.json", "maps.jsonl", "sent.tar.gz"):
        (folder / name).write_text("{}")
    return folder


class Silent:
    """In the place of pytest's capsys, which a fixture of a module cannot have."""

    def readouterr(self) -> "Silent":
        return self

    out = err = ""


@pytest.fixture
def inside(workshop, tmp_path, monkeypatch) -> Path:
    """A private copy of the workshop, and the current directory."""
    shutil.copytree(workshop, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    return tmp_path / "w"


def require_one_line(code: int, err: str, named: str) -> None:
    complaints = [line for line in err.splitlines() if line.startswith("tinydefects: ")]
    assert code == 2, err
    assert len(complaints) == 1, err
    assert "Traceback" not in err
    assert named in complaints[0]
    assert err.splitlines()[-1] == complaints[0]


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": written(b""),
    "binary": written(bytes(range(256))),
    "zeros": written(bytes(500)),
    "utf_16": written('{"format": 1}'.encode("utf-16")),
    "latin_1": written('{"ä": 1}'.encode("latin-1")),
    "deep": written(b"[" * 100_000),
    "deep_object": written(b'{"a":' * 100_000),
    "nan": written(b'{"format": NaN}'),
    "infinite": written(b'{"format": 1e400}'),
    "many_digits": written(b'{"format": ' + b"9" * 5000 + b"}"),
    "large": written(b'{"format": ' + b"9" * 40 + b"}"),
    "a_list": written(b"[1, 2]"),
    "null": written(b"null"),
    "open_quote": written(b'id,map\n"a,b\n'),
    "half": lambda path: path.write_bytes(path.with_name("kept").read_bytes()[:-20]),
    "folder": Path.mkdir,
    "loop": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
}
READERS: dict[str, list[tuple[object, ...]]] = {
    "model/detector.json": [("predict", "model", SCREW, "--out", "o")],
    "model/model.safetensors": [("predict", "model", SCREW, "--out", "o")],
    RESULT: [("report", RESULT, "--out", "o.html"), ("compare", RESULT, OTHER)],
    "results/a/mvtec_ad/screw.npz": [("report", RESULT, "--out", "o.html")],
    "results/a/mvtec_ad/screw.tally.npz": [("compare", RESULT, OTHER)],
    "maps.csv": [("evaluate", "maps.csv", SCREW, "--out", "o")],
    "maps.json": [("evaluate", "maps.json", SCREW, "--out", "o")],
    "maps.jsonl": [("evaluate", "maps.jsonl", SCREW, "--out", "o")],
    "maps/screw/test/pit/4.tiff": [("evaluate", "maps", SCREW, "--out", "o"), ("audit", "maps", SCREW)],
    "bench/protocol.json": [("benchmark", "--methods", "local_contrast", *BENCHMARK, "--dry-run")],
    "bench/mvtec_ad/screw/0/local_contrast/seed_0.json": [("report", "bench", "--out", "o.html")],
    "sent.tar.gz": [("submit", "sent.tar.gz", "--check")],
}


NO_FILES = {"folder", "loop", "pipe"}  # whoever walks through a folder passes them by, and misses what should be there
WALKED = {"maps/screw/test/pit/4.tiff": "test/pit/4", "bench/mvtec_ad/screw/0/local_contrast/seed_0.json": "bench"}


@pytest.mark.slow
@pytest.mark.parametrize("target", READERS)
def test_a_damaged_file_is_named_by_whoever_reads_it(inside, monkeypatch, capsys, target):
    path = inside / target
    path.rename(path.with_name("kept"))
    for kind, damage in DAMAGES.items():
        damage(path)
        named = WALKED.get(target, path.name) if kind in NO_FILES else path.name
        for arguments in READERS[target]:
            code, _, err = run(monkeypatch, capsys, *arguments)
            require_one_line(code, err, named)
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["empty", "binary", "folder", "deep"])
@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_damaged_weights_are_named(inside, monkeypatch, capsys, name, damage):
    DAMAGES[damage](inside / name)
    code, _, err = run(monkeypatch, capsys, "fit", SCREW, *SMALL, "--teacher-weights", name, "--out", "o")
    require_one_line(code, err, name)


NO_NUMBERS = ("-1", "nan", "inf", "1e400", "abc", "9" * 30, "9" * 5000)
FIT = ("fit", SCREW, "--teacher", "builtin", "--dry-run")
EVALUATE = ("evaluate", "maps", SCREW, "--out", "o", "--resamples", "0")
INSPECT = ("inspect", "--image-size", "300x400", "--defect-px", "4")
COMPARE = ("compare", RESULT, OTHER, "--resamples", "100")
SUBMIT = ("submit", "maps", "mvtec_ad2/can")
DRY = ("benchmark", "--methods", "local_contrast", *BENCHMARK, "--dry-run")
DRAWN = ("fit", "synthetic/granite", "--teacher", "builtin", "--dry-run", "--option")
NUMBERS: list[tuple[tuple[object, ...], str, tuple[str, ...]]] = [
    *((FIT, option, NO_NUMBERS) for option in ("--resolution", "--tile", "--overlap", "--stride", "--epochs")),
    *((FIT, option, (*NO_NUMBERS, "0")) for option in ("--patience", "--patches-per-batch")),
    *((FIT, option, (*NO_NUMBERS, "0", "1.5")) for option in ("--patch-fraction", "--validation-fraction")),
    *((FIT, option, NO_NUMBERS) for option in ("--cache-limit-gb", "--seed")),
    *((EVALUATE, option, (*NO_NUMBERS, "1.5")) for option in ("--limits", "--false-alarm-rate", "--threshold-rate")),
    *((EVALUATE, option, ("nan", "inf", "1e400", "abc")) for option in ("--threshold", "--image-threshold")),
    *((EVALUATE, option, NO_NUMBERS) for option in ("--pixel-pitch", "--crops", "--seed", "--resamples")),
    *((INSPECT, option, NO_NUMBERS) for option in ("--patch-size", "--pixel-pitch", "--defect-px", "--image-size")),
    *((COMPARE, option, NO_NUMBERS) for option in ("--resamples", "--seed")),
    *((SUBMIT, option, ("nan", "inf", "1e400", "abc")) for option in ("--alpha", "--threshold")),
    *((DRY, option, (*NO_NUMBERS, "0")) for option in ("--resolutions", "--workers", "--threads")),
    *((DRY, option, NO_NUMBERS) for option in ("--seeds", "--features-limit-gb")),
    (("audit", "maps", SCREW), "--input-px", (*NO_NUMBERS, "0")),
    (("demo", "--out", "o"), "--seed", NO_NUMBERS),
]


@pytest.mark.parametrize(("command", "option", "values"), NUMBERS, ids=lambda value: str(value)[:20])
def test_a_number_out_of_bounds_is_refused_before_any_work(inside, monkeypatch, capsys, command, option, values):
    for value in values:
        code, _, err = run(monkeypatch, capsys, *command, option, value)
        require_one_line(code, err, option)
        assert not (inside / "o").exists()


@pytest.mark.parametrize("name", ["size", "seed", "n_train", "n_good", "n_defect", "min_area_px", "max_area_share"])
def test_an_option_of_drawn_parts_out_of_bounds_is_refused(inside, monkeypatch, capsys, name):
    for value in ("-1", "nan", "9" * 30, "9" * 5000, "", "[1, 2, 3]", "{}", "["):
        code, _, err = run(monkeypatch, capsys, *DRAWN, f"{name}={value}")
        require_one_line(code, err, name)


PLACES = (
    "nowhere",
    "loop",
    "loop/x",
    "dangling",
    "pipe",
    "n" * 300,
    "a/" * 2500,
    "\udcff\udcfe",
    "photo\nname",
    "[b]x",
)
READ_FROM: list[tuple[object, ...]] = [
    *(("report", "@"), ("compare", "@", OTHER), ("compare", RESULT, "@"), ("audit", "@", SCREW)),
    *(("evaluate", "@", SCREW), ("predict", "@", SCREW), ("predict", "model", "@"), ("submit", "@", "--check")),
    *(("export", "@", "--to", "onnx", "--dry-run"), ("inspect", SCREW, "--root", "@"), (*FIT, "--root", "@")),
    *((*FIT, "--teacher-weights", "@"), (*DRY, "--root", "@"), ("submit", "@", "mvtec_ad2/can")),
    *(("verify", "@"), ("paper", "@"), ("merge", "@", "bench", "--out", "o"), ("merge", "bench", "@", "--out", "o")),
]


@pytest.mark.parametrize("command", READ_FROM, ids=lambda words: " ".join(map(str, words))[:40])
def test_a_place_that_is_not_there_is_one_line(inside, monkeypatch, capsys, command):
    (inside / "loop").symlink_to("loop")
    (inside / "dangling").symlink_to("gone")
    os.mkfifo(inside / "pipe")
    for place in PLACES:
        code, _, err = run(monkeypatch, capsys, *(place if word == "@" else word for word in command))
        require_one_line(code, err, "")


ADDRESSES = (
    "/",
    "a",
    "a/",
    "/b",
    "mvtec_ad/..",
    "mvtec_ad/../..",
    "folder/..",
    "mvtec_ad/\udcff",
    "mvtec_ad/" + "n" * 300,
)


@pytest.mark.parametrize("command", ["fit", "inspect", "evaluate", "audit"])
def test_an_address_that_names_nothing_is_one_line(inside, monkeypatch, capsys, command):
    before = ("maps",) if command in {"evaluate", "audit"} else ()
    for address in (*ADDRESSES, "visa/x", "mvtec_ad/\n", "~", "*", "[b]x[/]/y"):
        code, _, err = run(monkeypatch, capsys, command, *before, address)
        require_one_line(code, err, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("benchmark", "--methods", ":", *BENCHMARK), ":"),
        (("benchmark", "--methods", "fbft:=", *BENCHMARK), "fbft"),
        (("benchmark", "--methods", "patchcore:coreset=nan", *BENCHMARK), "coreset"),
        (("benchmark", "--methods", "../x", *BENCHMARK), "../x"),
        ((*DRY, "--cluster", "local", "--resources", "GPU=" + "9" * 400), "--resources"),
        ((*EVALUATE, "--bins", "diameter_px:nan"), "--bins"),
        ((*EVALUATE, "--bins", "diameter_px:5,2"), "bin edges"),
        ((*EVALUATE, "--limits", "0.3,0"), "--limits"),
        ((*COMPARE, "--metrics", "\udcff"), "metric"),
        (("audit", "maps", SCREW, "--out", "."), "names no file"),
        (("inspect", SCREW, "--plot", "plan"), "plan"),
        (("fit", "mvtec_ad/scr\0ew"), "zero byte"),
        (("fit", SCREW, "--out", ""), "--out"),
    ],
)
def test_what_else_cannot_be_is_one_line(inside, monkeypatch, capsys, arguments, named):
    code, _, err = run(monkeypatch, capsys, *arguments)
    require_one_line(code, err, named)


@pytest.mark.parametrize("command", [FIT, ("evaluate", "maps", SCREW), ("predict", "model", SCREW), ("inspect", SCREW)])
def test_a_name_in_a_dataset_that_is_no_utf_8_is_left_out_and_named(inside, monkeypatch, capsys, command):
    odd = os.fsdecode(b"data/mvtec_ad/screw/train/good/odd\xff.png")
    shutil.copy(inside / "data/mvtec_ad/screw/test/good/3.png", inside / odd)
    code, _, err = run(monkeypatch, capsys, *command)
    assert code == 0, err
    assert "left out: 1 file whose name is not UTF-8 ('train/good/odd\\udcff.png')" in err


def test_photographs_whose_names_are_no_utf_8_are_left_out_and_named(inside, monkeypatch, capsys):
    shutil.copy(inside / "data/mvtec_ad/screw/test/good/3.png", inside / os.fsdecode(b"data/odd\xff.png"))
    code, _, err = run(monkeypatch, capsys, "predict", "model", "data", "--out", "o")
    assert code == 0, err
    assert "1 file whose name is not UTF-8 ('odd\\udcff.png')" in err
