"""Pairs of tests/bench about experts run at toy size, both sides; speed needs a quiet machine."""

from __future__ import annotations

import pytest

from jaxsafety import testing
from jaxsafety.models.formats import hf
from tests.bench import speed


@pytest.mark.parametrize("name", ["experts", "gated_x-lora"])
def test_both_sides_of_a_pair_run_and_are_told(tmp_path, name):
    model, params = testing.tiny_model("llama", vocab_size=96)
    hf.save(tmp_path, model, params, dtype="float32")
    row = speed.compare(name, tmp_path, 1)
    ours, theirs = row["seconds"]
    assert len(ours) == len(theirs) == 1 and min(*ours, *theirs) > 0
    assert row["agreement"] == ("other outputs" if name == "experts" else "as long")
    assert row["floor"] > 0 and all(r["flops"] > 1e8 < r["bytes"] for r in row["rates"])
    text = speed.page([{**row, "load": 2.3}], {"cpu": "one"})
    line = next(x for x in text.splitlines() if x.startswith(f"| {row['what']} |"))
    assert line.endswith("| one | 1 (2.3) |")
    head = next(x for x in text.splitlines() if x.startswith("| what |"))
    assert line.count("|") == head.count("|") == 14
