"""Whatever lies where a JSON file of ours is expected is answered in one line that names it."""

import json
import os
from dataclasses import dataclass

import pytest

from tinydefects.data.json_files import LIMIT_BYTES, parse_json, read_as, read_json
from tinydefects.errors import ResultError


@dataclass(frozen=True)
class Box:
    width: int
    name: str = ""


def complaint_about(path, read=read_json) -> str:
    with pytest.raises(ResultError) as caught:
        read(path, ResultError, kind="result", way_out="make it again")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert text.endswith("; make it again")
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b'{"width": 1', "EOF"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"a":' * 100_000, "recursion limit"),
        (b'{"width": NaN}', "column 11"),
        (b'{"width": -Infinity}', "column"),
        (b'{"a": [0, {"b": 1e400}]}', "field 'a.1.b'"),
        (b'{"width": 1' + b"0" * 30 + b"}", "field 'width'"),
        (b'{"width": ' + b"9" * 5000 + b"}", "out of range"),
        ('{"width": 1}'.encode("utf-16"), "UTF-16"),
        ('{"width": 1}'.encode("utf-16-be"), "line 1"),
        (b'{"name": "\xff"}', "unicode"),
        (b'{"name": "\\ud800"}', "hex escape"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "line 1"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x1f\x8brest", "gzip"),
        (b"\x00" * 100, "line 1"),
        (b'{"name": "open', "EOF"),
        (b"{'width': 1}", "line 1"),
    ],
)
def test_what_is_no_strict_json_is_one_line_that_names_the_file(tmp_path, content, reason):
    path = tmp_path / "result.json"
    path.write_bytes(content)
    assert reason in complaint_about(path)
    assert reason in complaint_about(path, lambda *rest, **named: read_as(Box, *rest, **named))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{}", "field 'width'"),
        ('{"width": "wide"}', "field 'width'"),
        ('{"width": 1.5}', "field 'width'"),
        ("[]", "content"),
        ("null", "content"),
        ('{"width": 1, "name": 2}', "field 'name'"),
    ],
)
def test_a_field_that_is_wrong_is_named(tmp_path, text, reason):
    (tmp_path / "box.json").write_text(text)
    assert reason in complaint_about(tmp_path / "box.json", lambda *rest, **named: read_as(Box, *rest, **named))


def test_a_folder_a_pipe_a_missing_file_and_a_loop_of_links_are_told_apart_and_none_is_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    assert "it is a folder" in complaint_about(tmp_path)
    assert "no ordinary file" in complaint_about(tmp_path / "pipe")
    assert "No such file" in complaint_about(tmp_path / "nowhere.json")
    assert "symbolic links" in complaint_about(tmp_path / "loop")
    assert "File name too long" in complaint_about(tmp_path / ("n" * 300))


def test_a_file_beyond_the_limit_is_not_read(tmp_path):
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(LIMIT_BYTES + 1)
    assert "at most" in complaint_about(tmp_path / "large.json")


def test_what_our_own_writers_write_is_read_as_it_was(tmp_path):
    value = {"a": [1, -0.5, 1.7e308, 5e-324, 2**63 - 1, None, True], "ä": "\u2028 \x00", "deep": [[[[]]]]}
    path = tmp_path / "a.json"
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        path.write_text(text, encoding="utf-8")
        assert read_json(path, ResultError, kind="result", way_out="") == value
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(value).encode())  # as editors on Windows write it
    assert read_json(path, ResultError, kind="result", way_out="") == value
    assert read_as(dict[str, object], path, ResultError, kind="result", way_out="") == value


def test_tables_of_others_may_hold_nan_where_nobody_looks():
    assert str(parse_json("[NaN, 1]", finite=False)) == "[nan, 1]"
