"""GSM8K strict and flexible: cases that lm-eval 0.4.13 was seen to read so, and the records."""

from __future__ import annotations

import json

import pytest

import jaxsafety
from jaxsafety.evaluation import filters
from jaxsafety.judges import answers

GOLD = "9 + 9 = <<9+9=18>>18.\n#### 18"
# answer -> what strict reads, what flexible reads, whether each is 18
CASES = {
    "So 18.\n#### 18": ("18", "18", True, True),
    "#### 17\n#### 18": ("17", "18", False, True),
    "#### $18": ("[invalid]", "$18", False, True),
    "It is 18 (see step 2.)": ("[invalid]", "2.", False, False),
    "It is 18...": ("[invalid]", "18...", False, False),
    "It is $18.": ("[invalid]", "$18.", False, True),
    "18.00": ("[invalid]", "18.00", False, False),
    "#### 018": ("018", "018", False, False),
    "10-7": ("[invalid]", "-7", False, False),
    "#### 18\nQuestion: 5?\n#### 5": ("18", "18", True, True),
    "eighteen": ("[invalid]", "[invalid]", False, False),
    "": ("[invalid]", "[invalid]", False, False),
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_read(text):
    strict, flexible, hard, soft = CASES[text]
    assert (filters.strict(text), filters.flexible(text)) == (strict, flexible)
    assert (filters.equal(strict, GOLD), filters.equal(flexible, GOLD)) == (hard, soft)


def test_records_stand_beside_our_own_reading(tmp_path):
    meta = {"kind": "task", "answer": GOLD, "grade": "gsm8k"}
    items = [jaxsafety.Item(str(i), (jaxsafety.Message("user", "?"),), meta) for i in range(3)]
    bench = jaxsafety.Benchmark("sums", "capability", tuple(items), 8)
    said = ["#### 18", "It is 18 (see step 2.)", "It is $18."]
    lines = [{"id": str(i), "sample": 0, "response": text} for i, text in enumerate(said)]
    path = tmp_path / "generations/base/sums.greedy.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = filters.saved(tmp_path, "base", [bench])
    assert [r["metric"] for r in found] == ["strict.greedy", "flexible.greedy"]
    assert [r["value"] for r in found] == pytest.approx([1 / 3, 2 / 3])
    assert [r["n"] for r in found] == [3, 3] and found[0]["lo"] < 1 / 3 < found[0]["hi"]
    assert [answers.grade(text, meta) for text in said] == [True, True, True]
    other = bench._replace(items=(items[0]._replace(meta={"answer": "18", "grade": "number"}),))
    assert filters.records(other, "base", "greedy", lines, 0) == []
