"""`tinydefects methods`: what it says of each method is what the benchmark does."""

import json

import pytest

from command_line import run
from tinydefects.errors import TinyDefectsError
from tinydefects.methods.catalog import METHODS, list_methods, parse_method
from tinydefects.methods.known_methods import ANOMALIB_MODELS, EXCLUDED


@pytest.fixture
def methods(monkeypatch, capsys):
    return lambda *arguments: run(monkeypatch, capsys, "methods", *arguments)


def test_every_method_is_listed_once_and_what_is_left_out_with_its_reason(methods):
    code, out, err = methods("--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names)
    plain = {name for name, kind in METHODS.items() if not kind.argument}
    assert set(names) == plain | {"maps:FOLDER", "anomalib:MODEL", *EXCLUDED} | {
        f"anomalib:{one}" for one in ANOMALIB_MODELS
    }
    by_name = {row["name"]: row for row in rows}
    assert by_name["musc"]["offline"] == "excluded"
    assert "learns from the test images" in by_name["musc"]["excluded"]
    assert by_name["procon"]["paper"] == "2607.04894"
    assert by_name["procon"]["options"]["banks"] == 5
    assert by_name["local_contrast"]["options"] == {}
    assert (by_name["subspace"]["chance"], by_name["fbft"]["chance"]) == (False, True)
    assert (by_name["subspace"]["extra"], by_name["rad"]["extra"], by_name["patchcore"]["extra"]) == (
        None,
        None,
        "benchmark",
    )


def test_the_list_for_people_has_a_row_for_each(methods):
    code, out, _ = methods()
    heads = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert code == 0
    assert set(list_methods()) <= set(heads)
    assert "mutual scoring of unlabelled images (MuSc): learns from the test images" in out


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if not kind.argument])
def test_options_can_be_written_as_they_are_listed(methods, name):
    code, out, _ = methods(name)
    listed = [line.split()[0] for line in out.splitlines() if line.startswith("    ") and "=" in line.split()[0]]
    assert code == 0
    assert {one.partition("=")[0] for one in listed} == set(METHODS[name].defaults)
    written = [one for one in listed if not one.endswith("=")]
    _, read = parse_method(":".join([name, *written]))
    assert len(read) == len(written)


def test_a_model_of_anomalib_says_what_it_fetches_and_how_to_give_it(methods):
    code, out, _ = methods("anomalib:efficientad")
    text = " ".join(out.split())
    assert code == 0
    assert "fetches weights of its teacher from anomalib's releases at github.com" in text
    assert "from a file: weights=FILE (pretrained_teacher_small.pth), or pre_trained=false for random ones" in text
    assert "needs the extra 'anomalib'; pictures=FOLDER of anything else" in text
    code, out, _ = methods("anomalib:Ganomaly")
    assert (code, "excluded  gives an image score and no map" in out, "option" in out) == (0, True, False)


def test_an_argument_may_be_left_out(methods):
    assert methods("maps")[1].startswith("maps:FOLDER: anybody's maps")


def test_a_method_that_is_not_there_is_one_line_that_names_the_near_one(methods):
    code, out, err = methods("patchkore")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "patchkore: no such method; did you mean patchcore?" in err


@pytest.mark.parametrize("text", ["musc", "musc_v2:k=3"])
def test_what_is_excluded_is_refused_with_the_reason(text):
    with pytest.raises(TinyDefectsError, match=r"^musc(_v2)?: learns from the test images: each is scored by"):
        parse_method(text)


def test_whatever_fetches_says_from_where_and_how_to_do_without():
    for name, (facts, _) in list_methods().items():
        assert bool(facts.fetches) == bool(facts.from_file), name
        assert not (facts.excluded and facts.fetches), name
        assert facts.offline in {"yes", "from a file", "excluded"}, name
