"""Named protocols, and the benchmark called from Python: both are the command with the same settings."""

import json
import re
from pathlib import Path

import pytest

from benchmark_scene import CATEGORY, add_stand_in
from command_line import run
from tinydefects import run_benchmark
from tinydefects.benchmark.run_settings import SUITES, BenchmarkSettings, find_suite
from tinydefects.benchmark.selection import dataset_options, parse_methods
from tinydefects.cli.settings_options import settings_from
from tinydefects.errors import SettingsError, TinyDefectsError
from tinydefects.results.result import find_results

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "compare_methods.md"
NAMES = sorted(path.stem for path in SUITES.iterdir())
FEW = ("n_train=3", "n_good=3", "n_defect=4", "size=64")


@pytest.mark.parametrize("name", NAMES)
def test_a_suite_is_a_file_for_config(name):
    by_name, by_file = BenchmarkSettings(suite=name), settings_from(BenchmarkSettings, {}, SUITES / f"{name}.yaml")
    assert by_name.model_copy(update={"suite": ""}) == by_file
    assert by_name.suite == name


@pytest.mark.parametrize("name", NAMES)
def test_what_a_suite_names_exists(name):
    settings = BenchmarkSettings(suite=name)
    assert len(parse_methods(settings.methods)) > 2
    datasets = [pattern.replace("*", "any") for pattern in settings.categories.split(",")]
    assert bool(dataset_options(settings.option, datasets)) == bool(settings.option)
    assert "all" not in settings.methods.split(",")  # that would be others with every version of the package


def test_the_newest_version_is_taken_unless_one_is_named():
    assert find_suite("tiny") == "tiny-1"
    assert find_suite("tiny-1") == "tiny-1"
    with pytest.raises(TinyDefectsError, match=r"^--suite tinny: no such suite; did you mean tiny-1\? there are "):
        find_suite("tinny")


def test_what_is_given_wins_over_a_suite_and_a_suite_over_defaults(tmp_path):
    (tmp_path / "mine.yaml").write_text("suite: offline\nseeds: 5\nresolutions: 64\n")
    settings = settings_from(BenchmarkSettings, {"resolutions": "96"}, tmp_path / "mine.yaml")
    assert (settings.suite, settings.seeds, settings.resolutions) == ("offline-1", (5,), (96,))
    assert settings.teacher == "builtin"


def test_published_suites_stay_as_they_are():
    """Change one, and results of the same name can no longer be compared: give it a new version instead."""
    tiny = BenchmarkSettings(suite="tiny-1")
    assert (tiny.methods, tiny.categories) == ("fbft:epochs=5,gaussian,local_contrast", "synthetic/brushed_metal")
    assert (tiny.resolutions, tiny.seeds, tiny.teacher) == ((96,), (0,), "builtin")
    offline, paper = BenchmarkSettings(suite="offline-1"), BenchmarkSettings(suite="paper-1")
    assert (offline.resolutions, offline.seeds, offline.categories) == ((384,), (0, 1, 2), "synthetic/*")
    assert paper.teacher == "vit_base_patch14_reg4_dinov2"
    assert (paper.resolutions, paper.seeds, paper.categories) == ((1036, "own"), (0, 1, 2), "mvtec_ad/*,visa/*")


def test_without_methods_or_a_suite_both_are_asked_for(monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "benchmark", "--methods", "fbft")
    assert (code, err) == (2, "tinydefects: give --categories, or a --suite\n")


@pytest.mark.slow
def test_command_and_call_find_the_same_jobs_and_the_call_leaves_results(tmp_path, monkeypatch, capsys):
    where = {"root": tmp_path / "data", "out": tmp_path / "out"}
    few = {"methods": "gaussian,local_contrast", "option": FEW, "resolutions": (64,)}
    planned = run_benchmark(suite="tiny", dry_run=True, **where, **few)
    assert not (tmp_path / "out").exists()
    options = [f"--option={one}" for one in FEW]
    command = ("benchmark", "--suite", "tiny", "--root", where["root"], "--out", where["out"], *options)
    code, out, _ = run(
        monkeypatch, capsys, *command, "--methods", few["methods"], "--resolutions", 64, "--dry-run", "--json"
    )
    jobs = [(job["category"], job["method"], job["seed"]) for job in json.loads(out)["jobs"]]
    assert (code, jobs) == (0, [(one.category, one.method, one.seed) for one in planned.selection.jobs])
    done = run_benchmark(suite="tiny", **where, **few)
    assert (set(done.finished), done.failed) == ({job.name for job in done.selection.jobs}, {})
    assert len(list(find_results(tmp_path / "out"))) == 2
    ((_, ranked),) = done.leaderboards()
    assert {row.method.partition(" ")[0] for row in ranked.rows} == {"gaussian", "local_contrast"}
    again = run_benchmark(suite="tiny", dry_run=True, **where, **few)
    assert (again.plan.left, set(again.finished)) == ([], set(done.finished))


@pytest.mark.slow
def test_one_command_goes_from_data_to_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "a page.html"
    options = ["--methods", "local_contrast", *(f"--option={one}" for one in FEW), "--report", page]
    where = ["--root", tmp_path / "data", "--out", tmp_path / "out"]
    code, _, err = run(monkeypatch, capsys, "benchmark", "--suite", "tiny", *where, *options)
    assert (code, err.splitlines()[-1]) == (0, f"report: {page}")
    assert "local_contrast" in page.read_text()


def test_a_page_that_cannot_be_is_refused_before_any_job(tmp_path, monkeypatch, capsys):
    command = ("benchmark", "--suite", "tiny", "--out", tmp_path / "out", "--report")
    code, _, err = run(monkeypatch, capsys, *command, tmp_path / "page.html", "--shard", "1/2")
    assert (code, err.count("\n")) == (2, 1)
    assert "--report: a shard is not all" in err
    mine = tmp_path / "mine.json"
    mine.write_text("{}")
    for place, told in (
        (tmp_path, f"{tmp_path}: is a folder; name the page in it"),
        (mine, f"{mine}: is there already, and only pages"),
        (mine / "page.html", f"{mine}: cannot write"),
    ):
        code, _, err = run(monkeypatch, capsys, *command, place)
        assert (code, err.count("\n"), told in err) == (2, 1, True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_failed_job_raises_nothing_and_is_named(tmp_path, monkeypatch):
    def fail(samples):
        raise ValueError("no idea")

    name = add_stand_in(monkeypatch, "bad", on_fit=fail)
    options = tuple(f"synthetic.{one}" for one in FEW)
    done = run_benchmark(
        methods=name,
        categories=CATEGORY,
        root=tmp_path / "data",
        out=tmp_path / "out",
        option=options,
        teacher="builtin",
    )
    assert done.failed == {f"{CATEGORY} – bad seed 0": "ValueError: no idea"}
    assert done.leaderboards() == []


def test_a_setting_that_does_not_exist_is_one_line():
    with pytest.raises(
        SettingsError, match=r"^run_benchmark: field 'method': Extra inputs are not permitted"
    ) as caught:
        run_benchmark(suite="tiny", method="fbft")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_guide_s_call_runs(tmp_path, monkeypatch):
    """As printed, but on ten images of 64 px."""
    (code,) = [
        one for one in re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL) if "run_benchmark" in one
    ]
    assert 'suite="tiny"' in code
    few = f'suite="tiny", methods="gaussian,local_contrast", resolutions=(64,), option={FEW!r}'
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code.replace('suite="tiny"', few), names)
    assert len(names["done"].finished) == 2
