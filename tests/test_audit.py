"""The audit of several methods: rank correlation by hand, files, text, picture and command."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from command_line import run
from dataset_trees import draw
from tinydefects.audit.audit import Audit, RuleNote, agreement, audit_maps, read_audit, write_audit
from tinydefects.audit.rescoring import METRICS
from tinydefects.audit.rules import standard_rules
from tinydefects.audit.showing import describe_audit, plot_audit
from tinydefects.data.masks import read_mask
from tinydefects.data.pairing import MapsError
from tinydefects.data.pixels import write_map, write_png
from tinydefects.datasets.catalog import load_category
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.results.result import describe_run


def make_audit(**by_method: tuple[float, float]) -> Audit:
    """Every figure of a method has one value under the exact rule and another under the rule `other`."""
    rules = tuple(RuleNote(name=name, does="counts", used_by="some") for name in ("exact", "other"))
    values = {
        method: {rule.name: dict.fromkeys(METRICS, value) for rule, value in zip(rules, pair, strict=True)}
        for method, pair in by_method.items()
    }
    return Audit(
        category="mvtec_ad/screw",
        n_images=3,
        rules=rules,
        methods=tuple(values),
        values=values,
        provenance=describe_run({}),
    )


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A folder dataset of three 48 x 32 px images, and two methods' maps of it in `fine/` and `poor/`."""
    for name in ("train/good/0", "test/good/1", "test/pit/2", "test/pit/3"):
        draw(tmp_path / f"parts/{name}.png", size=(48, 32))
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        mask = np.zeros((48, 32), dtype=bool)
        mask[10 * number : 10 * number + 4, 8:14] = number > 1
        kind = "pit" if number > 1 else "good"
        if number > 1:
            write_png(tmp_path / f"parts/ground_truth/pit/{number}_mask.png", mask)
        noise = rng.random((48, 32))
        write_map(tmp_path / f"fine/parts/test/{kind}/{number}.tiff", (noise + mask).astype(np.float32))
        write_map(tmp_path / f"poor/parts/test/{kind}/{number}.tiff", (noise + 0.2 * mask).astype(np.float32))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tau_counts_pairs_in_order_less_pairs_turned_round():
    """Three methods have three pairs; one is turned round: (2 - 1) / 3."""
    found = agreement(make_audit(a=(0.9, 0.8), b=(0.7, 0.85), c=(0.5, 0.1)), "other", "aupro@0.3")
    assert found.tau == pytest.approx(1 / 3)
    assert found.swaps == (("a", "b"),)
    assert found.n_methods == 3


def test_tau_is_that_of_scipy_with_ties():
    pairs = {"a": (0.9, 0.8), "b": (0.7, 0.8), "c": (0.5, 0.6), "d": (0.5, 0.7)}
    found = agreement(make_audit(**pairs), "other", "aupro@0.3")
    assert found.tau == pytest.approx(stats.kendalltau(*zip(*pairs.values(), strict=True)).statistic)
    assert found.swaps == ()  # a tie is no swap


def test_a_method_without_a_number_is_left_out_of_the_order():
    found = agreement(make_audit(a=(0.9, 0.8), b=(0.7, math.nan), c=(0.5, 0.9)), "other", "rho@0.3")
    assert (found.n_methods, found.tau, found.swaps) == (2, -1.0, (("a", "c"),))


@pytest.mark.parametrize("pairs", [{"a": (0.5, 0.4)}, {"a": (0.5, 0.4), "b": (0.5, 0.3)}])
def test_without_an_order_tau_is_undefined(pairs):
    assert math.isnan(agreement(make_audit(**pairs), "other", "rho@0.3").tau)


def test_an_audit_survives_the_disk_and_undefined_is_null(tmp_path):
    audit = make_audit(a=(0.25, math.nan), b=(0.5, 0.125))
    path = write_audit(audit, tmp_path / "screw.json")
    assert json.loads(path.read_text())["audit"]["values"]["a"]["other"]["rho@0.3"] is None
    again = read_audit(path)
    assert again.values["b"] == audit.values["b"]
    assert math.isnan(again.values["a"]["other"]["rho@0.3"])
    assert (again.rules, again.methods, again.provenance) == (audit.rules, audit.methods, audit.provenance)


@pytest.mark.parametrize("text", ["{}", "no json", '{"format": 1, "audit": {"category": 3}}'])
def test_a_file_that_is_no_audit_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"broken\.json: (not a readable audit|field ')"):
        read_audit(path)


def test_a_missing_audit_says_how_to_make_one(tmp_path):
    with pytest.raises(ResultError, match="run 'tinydefects audit"):
        read_audit(tmp_path / "none.json")


def test_the_text_gives_the_exact_number_the_difference_and_who_falls_behind():
    text = describe_audit(make_audit(a=(0.9, 0.8), b=(0.7, 0.85)))
    assert "0.900" in text
    assert "-0.100" in text
    assert "+0.150" in text
    assert "aupro@0.3: a falls behind b" in text
    assert "-1.000" in text


def test_the_text_of_one_method_ranks_nothing():
    text = describe_audit(make_audit(a=(0.9, 0.9)))
    assert "tau" not in text
    assert text.splitlines()[-1].split() == ["other", *["."] * len(METRICS)]


def test_methods_are_named_after_their_folders_and_read_with_the_images(inside):
    category = load_category("folder/parts", root=inside)
    audit = audit_maps([inside / "fine", inside / "poor"], category, track=lambda things, stage, total: things)
    assert audit.methods == ("fine", "poor")
    assert tuple(audit.values["fine"]) == tuple(rule.name for rule in standard_rules())
    assert audit.values["fine"]["exact"]["n_defects"] == 2
    assert audit.values["fine"]["exact"]["aupro@0.05"] > audit.values["poor"]["exact"]["aupro@0.05"]
    assert audit.provenance.settings["input_px"] == "224"


def test_two_folders_of_one_name_are_refused(inside):
    category = load_category("folder/parts", root=inside)
    (inside / "other").mkdir()
    (inside / "fine").rename(inside / "other" / "poor")
    with pytest.raises(TinyDefectsError, match="both are called poor"):
        audit_maps([inside / "poor", inside / "other/poor"], category, track=lambda things, stage, total: things)


def test_a_missing_map_is_refused(inside):
    (inside / "poor/parts/test/pit/2.tiff").unlink()
    category = load_category("folder/parts", root=inside)
    with pytest.raises(MapsError, match=r"pit/2"):
        audit_maps([inside / "poor"], category, track=lambda things, stage, total: things)


@pytest.mark.slow
def test_the_command_prints_writes_and_draws(inside, monkeypatch, capsys):
    arguments = ("fine", "poor", "folder/parts", "--root", ".", "--out", "audit.json", "--plot", "audit.png")
    code, out, err = run(monkeypatch, capsys, "audit", *arguments)
    assert code == 0, err
    assert "Kendall's tau" in out
    assert read_audit(inside / "audit.json").methods == ("fine", "poor")
    assert (inside / "audit.png").read_bytes().startswith(b"\x89PNG")


def test_json_of_the_command_is_parseable_and_has_every_number(inside, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "audit", "fine", "folder/parts", "--root", ".", "--json", "--input-px", 32)
    values = json.loads(out)["values"]["fine"]
    assert code == 0
    assert set(values["32_px_nearest"]) == set(METRICS)


def test_mishaps_of_the_command_are_one_line_and_exit_code_2(inside, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "audit", "fine", "fine", "folder/parts", "--root", ".")
    assert (code, err.splitlines()[-1].startswith("tinydefects: fine and fine: both")) == (2, True)
    code, _, err = run(monkeypatch, capsys, "audit", "fine", "folder/parts", "--root", ".", "--plot", "audit.doc")
    assert code == 2
    assert "name it .png or .svg" in err


def test_a_picture_of_more_methods_than_colours_is_refused(tmp_path):
    many = {f"m{number}": (0.1 * number, 0.2) for number in range(8)}
    with pytest.raises(TinyDefectsError, match="8 methods"):
        plot_audit([make_audit(**many)], tmp_path / "audit.png")


@pytest.mark.slow
def test_an_audit_needs_no_torch():
    program = "import sys, tinydefects.audit.showing, tinydefects.audit.showing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_masks_on_disk_are_as_they_were(inside, monkeypatch, capsys):
    path = inside / "parts/ground_truth/pit/2_mask.png"
    before = read_mask(path)
    run(monkeypatch, capsys, "audit", "fine", "folder/parts", "--root", ".")
    assert np.array_equal(read_mask(path), before)
