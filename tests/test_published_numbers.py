"""Numbers of others: each quoted one has its source and rule, the form asks for what a submission must say."""

import json
from pathlib import Path

import pytest
import yaml

from tinydefects.data.json_files import read_as
from tinydefects.errors import ResultError
from tinydefects.results.published import HEADS, Submission, published_rows, read_published

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "results/published.json"
COMMUNITY = ROOT / "results/community"
VALID = {
    "format": 1,
    "submitted_by": "A team",
    "date": "2026-11-28",
    "protocol": "0123456789abcdef",
    "methods": ["patchcore:coreset=0.01"],
    "categories": ["mvtec_ad/screw"],
    "hardware": "a laptop",
    "results": "results",
    "code": "the package",
    "chosen_on": "nothing, as it comes",
    "licence": "CC BY 4.0",
}


def test_every_quoted_number_has_a_source_and_a_rule_and_stands_there_once():
    numbers = read_published(FILE).numbers
    assert len(numbers) > 20
    keys = [(one.method, one.dataset, one.metric, one.learns_from) for one in numbers]
    assert len(set(keys)) == len(keys)
    assert all(0.5 < one.value < 1 for one in numbers)  # shares, not percentages
    assert {one.learns_from for one in numbers if one.method == "MuSc"} == {"test images"}


def test_the_methods_own_paper_is_quoted_as_it_says():
    found = {one.dataset: one.value for one in read_published(FILE).numbers if one.method == "FBFT (L2BT)"}
    assert found == {"mvtec_ad": 0.988, "visa": 0.964}


def test_rows_of_a_table_are_ordered_and_carry_source_and_rule():
    numbers = read_published(FILE).numbers
    rows = published_rows(numbers)
    assert len(rows) == len(numbers)
    assert all(len(row) == len(HEADS) and all(row) for row in rows)
    of_images = [float(row[3]) for row in rows if row[1:3] == ["mvtec_ad", "image_auroc"]]
    assert of_images == sorted(of_images, reverse=True)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("source", None, r"numbers\.0\.source"),
        ("rule", " ", r"numbers\.0\.rule"),
        ("value", 98.8, r"numbers\.0\.value"),
        ("metric", "aupro", r"numbers\.0\.metric"),
        ("input_px", 256, r"numbers\.0\.input_px"),
    ],
)
def test_a_number_without_source_or_rule_is_refused(tmp_path, field, value, told):
    content = json.loads(FILE.read_text())
    content["numbers"][0][field] = value
    if value is None:
        del content["numbers"][0][field]
    (tmp_path / "published.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match=rf"published\.json: field '{told}'"):
        read_published(tmp_path / "published.json")


def test_the_schema_is_that_of_the_model_and_every_submission_obeys_it():
    assert json.loads((COMMUNITY / "schema.json").read_text()) == Submission.model_json_schema()
    for folder in COMMUNITY.iterdir():
        if folder.is_dir():
            read_as(Submission, folder / "submission.json", ResultError, kind="submission", way_out="mend it")


@pytest.mark.parametrize(
    ("field", "value"),
    [("protocol", "0123"), ("date", "yesterday"), ("methods", []), ("sha256", "abc"), ("chosen_on", "")],
)
def test_a_submission_that_does_not_say_what_it_must_is_refused(tmp_path, field, value):
    path = tmp_path / "submission.json"
    path.write_text(json.dumps(VALID))
    assert read_as(Submission, path, ResultError, kind="submission", way_out="mend it").methods == tuple(
        VALID["methods"]
    )
    path.write_text(json.dumps({**VALID, field: value}))
    with pytest.raises(ResultError, match=f"field '{field}'"):
        read_as(Submission, path, ResultError, kind="submission", way_out="mend it")


def test_the_form_asks_for_all_that_a_submission_must_say():
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/submit_results.yml").read_text())
    fields = {one["id"]: one for one in form["body"] if "id" in one}
    assert {"name", "description", "body"} <= form.keys()
    asked = set(Submission.model_fields) - {"format", "date"}  # the issue has a date
    assert asked <= fields.keys()
    assert all(fields[name]["validations"]["required"] for name in asked)
