import builtins
import json

import pyarrow.parquet
import pytest

from tinydefects.data.tables import read_rows, write_csv
from tinydefects.errors import MissingExtraError, TableError

COLUMNS = {"id": ["a", "b, c"], "score": [0.5, float("nan")], "count": [3, 4]}
ROWS = [{"id": "a", "score": 0.5, "count": 3}, {"id": "b, c", "score": float("nan"), "count": 4}]


def test_csv_has_a_header_and_empty_cells_for_what_is_undefined(tmp_path):
    write_csv(tmp_path / "a.csv", COLUMNS)
    assert (tmp_path / "a.csv").read_text() == 'id,score,count\na,0.5,3\n"b, c",,4\n'
    assert read_rows(tmp_path / "a.csv") == [
        {"id": "a", "score": "0.5", "count": "3"},
        {"id": "b, c", "score": None, "count": "4"},
    ]


def test_a_table_without_rows_keeps_its_header(tmp_path):
    write_csv(tmp_path / "a.csv", {"id": [], "score": []})
    assert (tmp_path / "a.csv").read_text() == "id,score\n"
    assert read_rows(tmp_path / "a.csv") == []


def test_parquet_keeps_types(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table(COLUMNS), tmp_path / "a.parquet")
    first, second = read_rows(tmp_path / "a.parquet")
    assert first == ROWS[0]
    assert second["score"] != second["score"]


@pytest.mark.parametrize("text", [json.dumps(ROWS[:1]), json.dumps({"a": {"score": 0.5, "count": 3}})])
def test_json_is_a_list_of_rows_or_an_object_of_them_by_id(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_rows(tmp_path / "a.json") == ROWS[:1]


def test_json_of_bare_values_means_maps(tmp_path):
    (tmp_path / "a.json").write_text('{"a": "a.npy"}')
    assert read_rows(tmp_path / "a.json") == [{"id": "a", "map": "a.npy"}]


def test_json_lines_may_have_empty_lines_and_a_byte_order_mark(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"id": "a"}\n\n{"id": "b"}\n')
    assert read_rows(tmp_path / "a.jsonl") == [{"id": "a"}, {"id": "b"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b"{"),
        ("a.json", b"3"),
        ("a.json", b'["a"]'),
        ("a.jsonl", b'{"id": 1}\n{"id'),
        ("a.jsonl", b"\xff\xfe\xff"),
        ("a.csv", b"id,map\na,b,c\n"),
        ("a.csv", b"\xff\xfe\xff"),
        ("a.parquet", b"PAR1 half a file"),
        ("a.xlsx", b""),
    ],
)
def test_a_broken_table_is_one_error_that_names_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=rf"{name}: ") as caught:
        read_rows(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(TableError, match="No such file"):
        read_rows(tmp_path / "a.csv")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"a\.parquet: Parquet needs the extra 'tables'"):
        read_rows(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b'id,map\n"open,1\n', "unexpected end of data"),
        ("a.csv", b'id,map\n"a"b,1\n', "expected after"),
        ("a.csv", b"id,map\n" + b"x" * 200_000, "field larger"),
        ("a.csv", "id,map\na,b\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"id,map,map\n1,2,3\n", "two columns of one name"),
        ("a.csv", b"id,map\n\xff,1\n", "decode"),
        ("a.csv", None, "it is a folder"),
        ("a.json", b"[" * 100_000, "recursion"),
        ("a.json", b"3", "neither a list"),
        ("a.json", b'"text"', "neither a list"),
        ("a.json", b'[{"id": ' + b"9" * 5000 + b"}]", "out of range"),
        ("a.jsonl", b"{}\n" + b"[" * 100_000, "line 2: recursion"),
        ("a.jsonl", b'{}\n{"open', "line 2"),
    ],
)
def test_damage_is_told_by_its_reason_and_never_as_a_traceback(tmp_path, name, content, reason):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(TableError, match=name) as caught:
        read_rows(path)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
