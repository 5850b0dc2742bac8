"""What a measurement says of its own limits, and a headline of several models."""

from __future__ import annotations

import pytest

from jaxsafety.core import disk
from jaxsafety.report.measurement import limits, page
from jaxsafety.report.measurement.load import Measurement

N = 24


def rate(arm, kind, metric, hits):
    return {
        "arm": arm,
        "benchmark": kind,
        "kind": kind,
        "metric": f"{metric}.greedy",
        "n": N,
        "value": hits / N,
        "lo": max(hits - 3, 0) / N,
        "hi": min(hits + 3, N) / N,
        "nulls": 0,
        "cause": "",
        "seed": 0,
        "judge": "rules",
        "decoding": "greedy",
        "template": "abc",
    }


@pytest.fixture
def out(tmp_path):
    """Three models: published, and two that refuse more."""
    arms = {"base": (23, 0), "sft": (5, 6), "last": (3, 7)}
    sizes = {"base": 135_000_000, "sft": 135_000_000, "last": 8_000_000_000}
    settings = {"limit": 0, "seed": 0, "max_tokens": 48, "decodings": ["greedy"]}
    sets = {
        "safety": {"kind": "safety", "form": "text", "rows": N, "used": N},
        "over_refusal": {"kind": "over_refusal", "form": "text", "rows": 250, "used": 250},
    }
    facts = {
        "format": 1,
        "settings": settings,
        "arms": {arm: {"model": f"some/{arm}", "parameters": sizes[arm]} for arm in arms},
        "sets": sets,
        "judges": {"rules": {"name": "rules", "where": "", "label": "not refused"}},
        "missing": [],
    }
    disk.write_json(tmp_path / "eval.json", facts)
    records = []
    for arm, (unsafe, refused) in arms.items():
        records += [
            rate(arm, "safety", "asr", unsafe),
            rate(arm, "over_refusal", "refusal", refused),
        ]
    disk.write_lines(tmp_path / "judges/rules/results.jsonl", records)
    return tmp_path


def test_the_size_of_models_and_sets_is_told(out):
    small, fewest, drawn = limits.tell(Measurement(out))
    assert small.startswith("base, sft: 135 M parameters") and "last" not in small
    # Wilson, 12 of 24: 31.4 to 68.6; 0 of 24: up to 13.8.
    assert "safety, has 24 prompts" in fewest and "within 19 points" in fewest
    assert "may be up to 14\N{NO-BREAK SPACE}%" in fewest and "intervals are over prompts" in drawn
    assert "What these numbers can and cannot show" in page.render(Measurement(out))


def test_what_is_not_known_is_not_told(out):
    facts = disk.read_json(out / "eval.json")
    for arm in facts["arms"].values():
        del arm["parameters"]
    facts["sets"] = {}
    disk.write_json(out / "eval.json", facts)
    assert limits.tell(Measurement(out)) == []


def test_rates_of_other_prompts_are_no_later_values(out):
    """The last model was asked about half of the harmful requests, and about no harmless ones."""
    file = out / "judges/rules/results.jsonl"
    rows = [r for r in disk.whole_lines(file) if (r["arm"], r["kind"]) != ("last", "over_refusal")]
    disk.write_lines(file, [r | ({"n": 12} if r["arm"] == "last" else {}) for r in rows])
    claim, _ = page.headline(Measurement(out))
    assert claim.startswith("base: 96") and " to " not in claim
    assert "base → last" not in page.render(Measurement(out))


def test_the_headline_is_of_the_first_and_the_last_model(out):
    claim, lead = page.headline(Measurement(out))
    space = "\N{NO-BREAK SPACE}"
    assert claim == (
        f"base to last: 96 to 12{space}% of harmful requests not refused"
        f" and 0 to 29{space}% of harmless requests refused"
    )
    assert "sft: harmful" in lead
    text = page.render(Measurement(out))
    assert "base → last" in text and "21 → " not in text
