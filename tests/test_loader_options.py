import json
import sys

import pytest

from command_line import run
from tinydefects.cli import app as cli
from tinydefects.datasets.catalog import LOADERS, option_kinds, parse_options
from tinydefects.errors import DatasetError


@pytest.mark.parametrize(
    ("dataset", "texts", "options"),
    [
        ("magnetic_tile", ["n_train=300", "seed=2"], {"n_train": 300, "seed": 2}),
        ("synthetic", ["size=480", "max_area_share=0.01"], {"size": 480, "max_area_share": 0.01}),
        ("synthetic", ["size=[480, 640]"], {"size": (480, 640)}),
        ("mvtec_ad2", ["split=test_private"], {"split": "test_private"}),
        (
            "folder",
            ["good=a=b", "mask=007", "mask_rule=above_127"],
            {"good": "a=b", "mask": "007", "mask_rule": "above_127"},
        ),
        ("visa", [], {}),
    ],
)
def test_text_becomes_what_the_loader_takes(dataset, texts, options):
    assert parse_options(dataset, texts) == options


@pytest.mark.parametrize(
    ("dataset", "text", "complaint"),
    [
        (
            "magnetic_tile",
            "ntrain=300",
            r"'ntrain=300' is no option; write NAME=VALUE, one of n_train \(int\), n_good \(int or None\), seed",
        ),
        ("magnetic_tile", "n_train", "'n_train' is no option"),
        ("magnetic_tile", "n_train=many", "option n_train is int, not 'many'"),
        ("mvtec_ad2", "split=test", "test_public or test_private or test_private_mixed, not 'test'"),
        ("mvtec_ad", "n_train=3", "mvtec_ad: 'n_train=3' is no option; write NAME=VALUE, one of mask_rule"),
        ("synthetic", "root=elsewhere", "is no option"),
        ("magnetic", "n_train=3", "no such dataset; .*magnetic_tile"),
    ],
)
def test_what_the_loader_does_not_take_is_named_with_what_it_takes(dataset, text, complaint):
    with pytest.raises(DatasetError, match=complaint):
        parse_options(dataset, [text])


def test_every_loader_can_be_asked_for_its_options():
    assert {dataset for dataset in LOADERS if option_kinds(dataset).keys() > {"mask_rule"}} == {
        "mvtec_ad2",
        "kolektor_sdd",
        "real_iad",
        "magnetic_tile",
        "folder",
        "synthetic",
    }
    assert all("mask_rule" in option_kinds(dataset) for dataset in LOADERS)


@pytest.mark.parametrize(
    "command", [["inspect"], ["fit", "--dry-run"], ["predict", "no_model"], ["evaluate", "no_maps"]]
)
def test_every_command_that_reads_a_dataset_takes_its_options(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tinydefects", *command, "synthetic/granite", "--option", "n_trian=3"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert "synthetic: 'n_trian=3' is no option; write NAME=VALUE, one of seed (int), size" in capsys.readouterr().err


def test_inspect_draws_the_parts_that_the_options_describe(tmp_path, monkeypatch, capsys):
    options = [word for text in ("size=64", "n_train=1", "n_good=1", "n_defect=3") for word in ("--option", text)]
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capsys, "inspect", "synthetic/granite", *options, "--json")
    assert (code, bool(json.loads(out))) == (0, True), err
    assert len(list(tmp_path.rglob("*_mask.png"))) == 3
