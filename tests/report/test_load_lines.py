"""What a report reads of a run: every line, whatever stands in it; torn ones are left out."""

from __future__ import annotations

import json

from jaxsafety.report.load import read_lines


def test_other_line_separators_are_no_ends_of_lines(tmp_path):
    rows = [{"id": str(i), "response": f"a{mark}b"} for i, mark in enumerate("\u2028\u2029\u0085")]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(text + '{"id": "torn', "utf-8")
    assert read_lines(tmp_path / "a.jsonl") == rows


def test_what_is_no_text_or_nested_without_end_is_left_out(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "\xff"}\n')
    assert read_lines(tmp_path / "a.jsonl") == []
    (tmp_path / "b.jsonl").write_text("[" * 200_000 + '\n{"id": "1"}\n[1]\n')
    assert read_lines(tmp_path / "b.jsonl") == [{"id": "1"}]
