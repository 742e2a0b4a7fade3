"""A settings model is the options of a command, the content of a --config file and what `config` prints."""

import json
import os
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
import yaml
from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from typer.testing import CliRunner

from command_line import run
from tinydefects.benchmark.run_settings import BenchmarkSettings, RunSettings
from tinydefects.cli.detecting import FitSettings
from tinydefects.cli.options import with_basics
from tinydefects.cli.settings_options import config, describe_defaults, options_of, settings_from
from tinydefects.detector.settings import DetectorSettings
from tinydefects.errors import TinyDefectsError


class Oven(BaseModel):
    """Made for these tests: one field of every kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dish: str = Field(default="bread", description="What is baked.")
    minutes: int = Field(default=40, gt=0, le=600, description="How long.")
    heat: Annotated[float, Gt(0)] | None = Field(default=None, lt=300, description="Degrees.")
    steam: float = Field(default=0.5, description="Any share.", json_schema_extra={"panel": "Air"})
    mode: Literal["off", "above", "below"] = Field(default="above", description="Which heat.")
    turning: bool = Field(default=False, description="Turn it.", json_schema_extra={"flag": "--turn", "panel": "Air"})
    recipe: Path | None = Field(default=None, description="From a file.")
    trays: tuple[int, ...] = Field(default=(), description="Which trays.")
    toppings: tuple[Literal["nuts", "seeds"], ...] = Field(default=(), description="On top.")
    notes: tuple[str, ...] = Field(default=(), description="For the baker.", json_schema_extra={"flag": "--note"})
    shelves: tuple[int, ...] = Field(default=(), description="All in one text.", json_schema_extra={"as_text": True})
    size: int | Literal["full"] = Field(default="full", description="Of the tray.")
    corners: tuple[int, int] | None = Field(default=None, description="Two of them.")

    @field_validator("shelves", mode="before")
    @classmethod
    def _split(cls, value):
        return tuple(int(part) for part in value.split(",")) if isinstance(value, str) else tuple(value)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> "Oven":
        if self.mode == "off" and self.turning:
            raise ValueError("nothing turns in a cold oven: leave out --turn")
        return self


BAKED: list[tuple[Oven, int]] = []


@options_of(Oven, "settings")
def bake(
    name: Annotated[str, typer.Argument()],
    settings: Oven,
    seed: Annotated[int, typer.Option(min=0)] = 7,
) -> None:
    """Bake something."""
    BAKED.append((settings, seed))


def baked(*arguments: object) -> Oven:
    BAKED.clear()
    answer = invoked(*arguments)
    assert answer.exit_code == 0, answer.output
    ((settings, _),) = BAKED
    return settings


def invoked(*arguments: object):
    app = typer.Typer()
    app.command()(with_basics(bake))
    return CliRunner().invoke(app, ["loaf", *map(str, arguments)], env={"COLUMNS": "140"})


def refusal(*arguments: object) -> str:
    answer = invoked(*arguments)
    assert answer.exit_code != 0
    assert isinstance(answer.exception, TinyDefectsError | SystemExit)
    return str(answer.exception) if isinstance(answer.exception, TinyDefectsError) else answer.output


def written(folder: Path, text: str, name: str = "oven.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_left_out_options_are_the_defaults_of_the_model():
    assert baked() == Oven()


def test_every_kind_of_field_is_an_option():
    more = "--toppings nuts --toppings seeds --note 5 --note a --shelves 3,4"
    options = (
        f"{more} --dish pie --minutes 3 --heat 200 --steam 0.25 --mode below --turn --recipe a/b --trays 1 --trays 2"
    )
    assert baked(*options.split(), "--size", 12, "--corners", "[1, 2]", "--seed", 3) == Oven(
        dish="pie",
        minutes=3,
        heat=200,
        steam=0.25,
        mode="below",
        turning=True,
        recipe=Path("a/b"),
        trays=(1, 2),
        toppings=("nuts", "seeds"),
        notes=("5", "a"),
        shelves=(3, 4),
        size=12,
        corners=(1, 2),
    )
    assert BAKED[0][1] == 3


def test_a_text_that_looks_like_a_number_stays_text():
    assert baked("--dish", "17").dish == "17"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--minutes", "0"),
        ("--minutes", "601"),
        ("--minutes", "half"),
        ("--heat", "0"),
        ("--heat", "300"),
        ("--heat", "nan"),
        ("--steam", "nan"),
        ("--steam", "inf"),
        ("--steam", "-inf"),
        ("--mode", "sideways"),
        ("--trays", "one"),
        ("--toppings", "salt"),
        ("--size", "half"),
        ("--size", "1.5"),
        ("--corners", "[1]"),
        ("--corners", "[1, NaN]"),
    ],
)
def test_a_value_out_of_bounds_is_refused_and_its_option_named(option, value):
    assert option in refusal(option, value)


def test_a_contradiction_is_told_in_its_own_words():
    assert refusal("--mode", "off", "--turn") == "nothing turns in a cold oven: leave out --turn"


def test_help_tells_bounds_defaults_choices_and_panels():
    text = invoked("--help").output
    for told in ("1<=x<=600", "40", "above|below", "How long.", "--quiet", "Air", "--config"):
        assert told in text
    assert text.index("Air") > text.index("--minutes")
    assert "[default: 40]" in text
    assert "(40)" not in text


def test_a_file_gives_settings_and_options_win_over_it(tmp_path):
    path = written(tmp_path, "minutes: 5\nsteam: 1e-3\nmode: off\ntrays: [3, 4]\nsize: 9\nrecipe: x.txt\nheat:\n")
    assert baked("--config", path, "--minutes", 6) == Oven(
        minutes=6, steam=0.001, mode="off", trays=(3, 4), size=9, recipe=Path("x.txt")
    )


def test_a_truth_value_of_the_file_can_be_taken_back(tmp_path):
    path = written(tmp_path, "turning: true\n")
    assert baked("--config", path).turning
    assert not baked("--config", path, "--no-turn").turning


def test_a_json_file_is_read_too(tmp_path):
    path = written(tmp_path, '{"minutes": 5, "trays": [1], "heat": null}', "oven.json")
    assert baked("--config", path) == Oven(minutes=5, trays=(1,))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("minuets: 5", "minuets: no such setting; did you mean minutes?"),
        ("minutes: 0", "minutes: Input should be greater than 0 (got '0')"),
        ("minutes: yes", "minutes: Input should be a valid integer (got 'yes')"),
        ("steam: .nan", "steam: Input should be a valid number (got '.nan')"),
        ("steam: NaN", "steam: Input should be a valid number"),
        ("steam: 1e999", "steam: Input should be a valid number"),
        ("minutes: {a: 1}", "minutes: a setting is one value or a flat list"),
        ("trays: [[1]]", "trays: a setting is one value or a flat list"),
        ("minutes: 5\nminutes: 6", "minutes stands there twice"),
        ("- minutes", "holds no 'name: value' lines"),
        ("", "holds no 'name: value' lines"),
        ("minutes: [", "not readable as YAML or JSON"),
        ("a: !!python/object/apply:os.system [x]", "a: no such setting"),
        ("[\n" * 5000, "not readable as YAML or JSON"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(tmp_path, text, told):
    path = written(tmp_path, text)
    message = refusal("--config", path)
    assert message.startswith(f"{path}: ")
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["none.yaml", "none.json"])
def test_a_file_that_is_not_there_is_refused_by_name(tmp_path, name):
    assert refusal("--config", tmp_path / name).startswith(f"{tmp_path / name}: not readable (No such file")


def test_a_name_that_stands_twice_in_json_is_refused(tmp_path):
    path = written(tmp_path, '{"minutes": 5, "minutes": 6}', "oven.json")
    assert "minutes stands there twice" in refusal("--config", path)


def test_json_of_another_kind_is_refused(tmp_path):
    assert "not readable" in refusal("--config", written(tmp_path, '{"steam": NaN}', "oven.json"))


def test_an_option_is_named_where_both_give_the_same_setting(tmp_path):
    path = written(tmp_path, "size: 3")
    assert refusal("--config", path, "--size", "half").startswith("--size: ")


def test_the_printed_defaults_are_read_back(tmp_path):
    lines = list(describe_defaults(Oven))
    assert "# How long." in lines
    assert lines[lines.index("# How long.") + 1] == "minutes: 40"
    path = written(tmp_path, "\n".join(lines))
    assert set(yaml.safe_load(path.read_text())) == set(Oven.model_fields)
    assert settings_from(Oven, {}, path) == Oven()


def test_a_setting_without_a_default_is_printed_as_a_comment_and_asked_for():
    class Pan(BaseModel):
        size: int = Field(description="Of the pan.")

    assert list(describe_defaults(Pan)) == ["# Of the pan.", "# size: (must be given)"]
    with pytest.raises(TinyDefectsError, match=r"--size: Field required"):
        settings_from(Pan, {})


def test_the_command_prints_them_and_refuses_others(capsys):
    config("bake")
    assert "minutes: 40" in capsys.readouterr().out
    with pytest.raises(TinyDefectsError, match=r"bakee: takes no --config; did you mean bake\?"):
        config("bakee")


def test_every_setting_of_a_detector_is_an_option_of_fit_with_a_line_of_help(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    _, text, _ = run(monkeypatch, capsys, "fit", "--help")
    for name, field in DetectorSettings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in text
        assert (field.description or "no help")[:40] in text


@pytest.mark.slow
def test_fit_takes_its_settings_from_a_file_and_its_options_win(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, "teacher: builtin\ntile: 64\nepochs: 1\noverlap: 8\n")
    drawn = ["synthetic/granite", "--option", "size=96", "--option", "n_train=2", "--config", path, "--json"]
    assert run(monkeypatch, capsys, "fit", *drawn, "--device", "cpu", "--overlap", 0)[0] == 0
    kept = json.loads((tmp_path / "model/detector.json").read_text())["settings"]
    assert DetectorSettings.model_validate_json(json.dumps(kept)) == DetectorSettings(
        teacher="builtin", tile=64, epochs=1, overlap=0, image_bits=8
    )


def test_a_name_in_two_spellings_stands_there_twice(tmp_path):
    with pytest.raises(TinyDefectsError, match="image_bits: stands there twice; keep one of them"):
        settings_from(DetectorSettings, {}, written(tmp_path, "image-bits: 8\nimage_bits: 9\n"))


def test_the_printed_settings_of_fit_are_its_defaults(tmp_path, monkeypatch, capsys):
    code, text, _ = run(monkeypatch, capsys, "config", "fit")
    assert code == 0
    printed = settings_from(FitSettings, {}, written(tmp_path, text))
    assert printed == FitSettings()
    assert printed.of_detector() == DetectorSettings()
    assert "image_bits" not in printed.model_fields_set


def test_the_printed_settings_of_benchmark_are_its_defaults(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, text, _ = run(monkeypatch, capsys, "config", "benchmark")
    assert code == 0
    what = {"methods": "fbft", "categories": "mvtec_ad/*"}
    assert settings_from(BenchmarkSettings, what, written(tmp_path, text)) == BenchmarkSettings(**what)


def test_lists_of_a_file_are_what_stands_between_commas_on_the_command_line(tmp_path):
    text = (
        "methods: [local_contrast, 'fbft:epochs=2']\ncategories: [synthetic/granite]\nseeds: [0, 3]\nresolutions: 64\n"
    )
    path = written(tmp_path, text + "option: [size=64]\nallowed: [unmarked]\n")
    assert settings_from(BenchmarkSettings, {"out": tmp_path / "o"}, path) == BenchmarkSettings(
        methods="local_contrast,fbft:epochs=2",
        categories="synthetic/granite",
        seeds="0,3",
        resolutions=(64,),
        option=("size=64",),
        allowed=("unmarked",),
        out=tmp_path / "o",
    )


def test_folders_of_a_run_are_real_paths_and_features_lie_with_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = RunSettings(out="here")
    assert (settings.root, settings.out) == (tmp_path / "data", tmp_path / "here")
    assert settings.features == tmp_path / "here/features"
    assert RunSettings(features="there").features == tmp_path / "there"


@pytest.mark.parametrize(
    ("told", "n_workers", "n_beside"),
    [
        ({}, 1, 0),
        ({"workers": 3}, 3, 2),
        ({"cluster": "local"}, os.cpu_count(), os.cpu_count() - 1),
        ({"cluster": "tcp://host:8786"}, 1, 1),
        ({"shard": "1/8"}, 1, 1),
    ],
)
def test_a_run_knows_how_many_jobs_are_beside_one(told, n_workers, n_beside):
    assert (RunSettings(**told).n_workers, RunSettings(**told).n_beside) == (n_workers, n_beside)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--patience", "2"], "a patience of 2 epochs looks at held-out images: give a validation_fraction"),
        (["--steps", "9", "--epochs", "4"], "9 steps and 4 epochs are two ends of one training: give steps (--steps)"),
        (["--blocks", "7-"], "--blocks: give blocks from 0, ascending"),
        (["--blocks", "7"], "blocks 7: the students translate two blocks into each other; give an earlier"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: not readable"),
    ],
)
def test_fit_refuses_impossible_settings_in_one_line(tmp_path, monkeypatch, capsys, options, told):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capsys, "fit", "synthetic/granite", *options)
    assert (code, err.count("\n")) == (2, 1)
    assert told in err
    assert list(tmp_path.iterdir()) == []
