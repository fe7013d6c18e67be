"""Rows: what comes back is what was written, and damage is told."""

import gzip
import json

import pytest

from meta_train import rows


def test_round_trip_with_nothing_that_json_lacks(tmp_path):
  path = tmp_path / "new" / "rows.jsonl"
  nan, inf = float("nan"), float("inf")
  rows.write_rows(path, [{"a": 1.5, "b": [nan, 2.0]}, {"a": -inf}])
  assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()
  found = rows.read_rows(path, required=("a",))
  assert found.rows == [{"a": 1.5, "b": [None, 2.0]}, {"a": None}]
  assert found.problems == []


def test_replacing_leaves_nothing_behind(tmp_path):
  path = tmp_path / "rows.jsonl"
  rows.write_rows(path, [{"a": i} for i in range(100)])
  rows.write_rows(path, [{"a": 0}])
  assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]
  assert len(rows.read_rows(path).rows) == 1


@pytest.mark.parametrize(
  ("line", "says"),
  [
    ('{"a": 1, "b"', "line 2 is half written"),
    ('{"b": 1}', "line 2 lacks a"),
    ("3", "line 2 is no JSON object"),
  ],
)
def test_damaged_line_is_told_and_the_rest_kept(tmp_path, line, says):
  path = tmp_path / "rows.jsonl"
  path.write_text('{"a": 1}\n' + line + '\n{"a": NaN}\n')
  found = rows.read_rows(path, required=("a",))
  assert found.rows == [{"a": 1}, {"a": None}]
  assert len(found.problems) == 1 and says in found.problems[0]


def test_line_cut_inside_a_character_is_told(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_bytes('{"a": "é"}'.encode()[:-3])
  assert "half written" in rows.read_rows(path).problems[0]


def test_missing_and_empty_files_are_told(tmp_path):
  path = tmp_path / "rows.jsonl"
  assert rows.read_rows(path).problems == ["rows.jsonl is missing."]
  path.write_text("")
  assert rows.read_rows(path).problems == ["rows.jsonl holds no rows."]
  assert rows.read_json(tmp_path / "x.json")[1] == ["x.json is missing."]


@pytest.mark.parametrize("text", ["{", "[1]", '{"b": 2}', ""])
def test_damaged_or_foreign_json_is_told(tmp_path, text):
  (tmp_path / "x.json").write_text(text)
  value, problems = rows.read_json(tmp_path / "x.json", required=("a",))
  assert value is None and "damaged" in problems[0]


def test_json_document_round_trip(tmp_path):
  rows.write_json(tmp_path / "x.json", {"a": (1, float("inf"))})
  assert json.loads((tmp_path / "x.json").read_text()) == {"a": [1, None]}


def test_packed_rows_are_read_where_there_are_no_others(tmp_path):
  path, packed = tmp_path / "rows.jsonl", tmp_path / "rows.jsonl.gz"
  packed.write_bytes(gzip.compress(b'{"a": 1}\n'))
  assert rows.read_rows(path).rows == [{"a": 1}]
  rows.write_rows(path, [{"a": 2}])
  assert rows.read_rows(path).rows == [{"a": 2}]
  path.unlink()
  packed.write_bytes(packed.read_bytes()[:-5])
  found = rows.read_rows(path)
  assert found.rows == [] and "rows.jsonl.gz is damaged" in found.problems[0]
