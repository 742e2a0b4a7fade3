"""The README keeps its promises: its Python and its commands run, its order is right, it carries no loose numbers."""

import functools
import re
import runpy
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from command_line import run
from tinydefects.cli import app as cli
from tinydefects.data.pixels import write_map, write_png
from tinydefects.datasets.catalog import LOADERS
from tinydefects.datasets.synthetic.dataset import load_synthetic

README = Path(__file__).resolve().parents[1] / "README.md"
LINES = README.read_text().splitlines()
DOCUMENTS = (README, *sorted((README.parent / "docs").glob("*.md")))
OF_OTHERS = {"--batches", "--ceiling-side", "--nthreads", "--resources"}  # of dask's own worker command
OF_PIP = {
    "--constraint", "--dest", "--extra-index-url", "--find-links", "--no-deps", "--no-index", "--only-binary",
    "--platform", "--python-version", "--upgrade", "--wheel-dir",
}  # fmt: skip


def first_line_with(pattern: str) -> int:
    return next(number for number, line in enumerate(LINES, start=1) if re.search(pattern, line))


@pytest.mark.parametrize(
    ("what", "pattern", "latest_line"),
    [
        ("picture", r"<img |!\[", 5),
        ("commands", r"^make demo", 15),
        ("table", r"^\|", 25),
        ("python", r"^```python", 45),
    ],
)
def test_the_good_part_comes_early(what, pattern, latest_line):
    assert first_line_with(pattern) <= latest_line, what


def test_it_is_at_most_180_lines():
    assert len(LINES) <= 180


def test_every_linked_file_exists():
    targets = re.findall(r"(?:\]\(|src=\"|srcset=\")([^)\"#:]+)(?:#[^)\"]*)?[)\"]", README.read_text())
    missing = [target for target in targets if not (README.parent / target).exists()]
    assert targets
    assert missing == []


@pytest.mark.slow
def test_its_tables_are_those_of_the_result_files():
    with_tables = runpy.run_path(str(README.parent / "runs" / "tables.py"))["with_tables"]
    assert "| fbft |" in README.read_text()
    for document in (README, *(README.parent / "docs").glob("*.md")):
        assert with_tables(document.read_text()) == document.read_text(), document.name


@pytest.mark.slow
def test_its_python_runs(tmp_path, monkeypatch):
    """As printed, but on ten images of 64 px instead of a hundred of 512, and two epochs."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    assert "resolution=512" in code
    few = {"size": 64, "n_train": 4, "n_good": 2, "n_defect": 4}
    monkeypatch.setitem(LOADERS, "synthetic", functools.partial(load_synthetic, **few))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace("resolution=512", "resolution=64, epochs=2"), names)
    assert names["evaluation"].n_images == 6
    assert "brushed_metal" in (tmp_path / "metal.html").read_text()
    assert sorted(path.name for path in (tmp_path / "metal").iterdir()) == ["detector.json", "model.safetensors"]


def shell_lines(document: Path) -> list[str]:
    """What a reader would type, without comments, in the order of the page."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
    typed = [block for language, block in blocks if language in {"", "bash"}]
    lines = [re.sub(r"\s+#.*", "", line) for block in typed for line in block.splitlines()]
    return [line for line in lines if re.match(r"(tinydefects|make|pip|git) ", line)]


def parts_to_learn_from(folder: Path, seed: int) -> Path:
    """The layout that the README shows: noise with a bright square as defect."""
    noise = np.random.default_rng(seed)
    names = [*(f"train/good/{n}" for n in range(3)), *(f"test/good/{n}" for n in range(2))]
    for name in (*names, "test/scratch/0", "test/scratch/1"):
        image = noise.integers(90, 130, (64, 48), dtype=np.uint8)
        if "scratch" in name:
            image[20:26, 30:36] = 255
            write_png(folder / f"ground_truth/{name.removeprefix('test/')}.png", image == 255)
        write_png(folder / f"{name}.png", image)
    return folder


@pytest.fixture
def place(tmp_path) -> Path:
    """All that the README takes for given: own images, photographs, a dataset, three methods' maps of it."""
    parts_to_learn_from(tmp_path / "parts", seed=0)
    shutil.copytree(tmp_path / "parts/test", tmp_path / "photographs")
    screw = parts_to_learn_from(tmp_path / "data/mvtec_ad/screw", seed=1)
    noise = np.random.default_rng(2)
    for method in ("maps_a", "maps_b", "their_maps"):
        for photograph in (screw / "test").rglob("*.png"):
            scores = noise.random((64, 48), dtype=np.float32)
            scores[20:26, 30:36] += "scratch" in photograph.parts
            write_map(tmp_path / method / "screw" / photograph.relative_to(screw).with_suffix(".tiff"), scores)
    return tmp_path


@pytest.mark.slow
def test_its_commands_work_as_typed_from_top_to_bottom(place, monkeypatch, capsys):
    for package in ("openvino", "faiss", "threadpoolctl"):
        pytest.importorskip(package)
    monkeypatch.chdir(place)
    monkeypatch.setattr("tinydefects.detector.settings.DEFAULT_RESOLUTION", 64)  # as typed, but on small images
    typed = [shlex.split(line) for line in shell_lines(README)]
    commands = [words[1:] for words in typed if words[0] == "tinydefects"]
    assert {"inspect", "fit", "predict", "export", "benchmark", "evaluate", "compare"} <= {one[0] for one in commands}
    for words in commands:
        code, _, err = run(monkeypatch, capsys, *words)
        assert code == 0, f"tinydefects {' '.join(words)}\n{err}"
    for page in ("report.html", "screw.html", "maps/scores.csv", "small/export.json"):
        assert (place / page).is_file(), page


def test_its_other_commands_can_be_followed():
    words = [shlex.split(line) for line in shell_lines(README)]
    targets = re.findall(r"^([a-z-]+):", (README.parent / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {typed[1] for typed in words if typed[0] == "make"} <= set(targets)
    for document in (README, *(README.parent / "docs").glob("*.md")):
        for asked in re.findall(r"pip install (?!--no-index --find-links )'?([^'\s`]+)", document.read_text()):
            assert asked.startswith("."), f"{document.name}: {asked}: the package is on no index"
            assert set(re.findall(r"\w+", asked)) <= set(extras), f"{document.name}: {asked}"


def test_ci_runs_all_tests_by_a_command_that_the_readme_names():
    script = (README.parent / ".ci/run").read_text()
    assert "make test-all" in script
    assert "`make test-all`" in README.read_text()
    recipe = re.search(r"^test-all:.*\n\t(.*)$", (README.parent / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert not re.search(r"\s-[mk]\s|--ignore|--deselect", recipe[1])


def options_of(command: str) -> set[str]:
    return {name for parameter in cli.load_command(command).params for name in parameter.opts} | {"-h", "--help"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_that_a_page_names_exists(document):
    known = set(cli.COMMANDS)
    text = re.sub(r"\\\n\s*", " ", document.read_text())
    for line in re.findall(r"(?:^|`)tinydefects +([a-z][^`\n#]*)", text, re.MULTILINE):
        command = line.split()[0]
        assert command in known, f"tinydefects {line}"
        named = set(re.findall(r"(?<=\s)(--[a-z][a-z-]*)", line))
        assert named <= options_of(command), f"tinydefects {line}"
    everywhere = {name for command in known for name in options_of(command)} | {"--version", *OF_OTHERS, *OF_PIP}
    assert set(re.findall(r"(?<=[\s`(])--[a-z][a-z-]*", text)) <= everywhere
