"""The page of fresh worlds: claims as they were frozen, and the rate that the rule takes."""

import re

import pytest

KEYS = ("over_refusal.correct", "seen_held.safe_informative", "seen_held.safe", "seen_held.asr")


@pytest.fixture(scope="module")
def worlds(load_tool):
    return load_tool("safemoe_worlds")


def point(worlds, **percent):
    """Every measurement 0 but those named, greedy and sampled alike."""
    names = {"harmless": "over_refusal.correct", "held": worlds.HELD, "safe": "seen_held.safe"}
    names |= {"carried": worlds.CARRIED, "tasks": "capability"}
    keys = dict.fromkeys((*worlds.MARKS.values(), "seen_held.safe"), 0.0)
    keys |= {names[k]: v / 100 for k, v in percent.items()}
    return {k if k == "capability" else f"{k}.{d}": v for k, v in keys.items() for d in ("t1",)}


def test_the_claims_are_the_frozen_ones(worlds, root):
    """Ids, sides and margins of docs/predictions/safemoe_worlds.md."""
    text = (root / worlds.SINCE).read_text()
    frozen = re.findall(r"^\| (W\d) \| .*: (above|below|within) \| (\d+)", text, re.MULTILINE)
    arms = ("base", "safemoe", "lora_pooled", "no_always", "daily400")
    runs = {"11": {arm: point(worlds) for arm in arms}}
    rows = [*worlds.goals(runs), *worlds.rivals(runs)]
    ours = [(r.text.split(":")[0], r.claim.side, f"{r.claim.margin:g}") for r in rows]
    assert ours == frozen and len(ours) == 8


def test_differences_are_of_one_world(worlds):
    kept = dict(harmless=95, held=30, tasks=90, carried=4)
    runs = {
        w: {
            "base": point(worlds, harmless=98 + d, tasks=91),
            "safemoe": point(worlds, **kept),
            "lora_pooled": point(worlds, harmless=95, held=20 - d),
            "no_always": point(worlds, harmless=60),
            "daily400": point(worlds, harmless=80),
        }
        for w, d in (("11", 0), ("12", 1), ("13", 2))
    }
    lost, carried, facts, tasks = (row.draws[worlds.ALL] for row in worlds.goals(runs))
    assert lost == pytest.approx([3, 4, 5]) and carried == pytest.approx([4, 4, 4])
    assert facts == pytest.approx([30] * 3) and tasks == pytest.approx([1] * 3)
    ahead, alike, always, _ = (row.draws[worlds.ALL] for row in worlds.rivals(runs))
    assert ahead == pytest.approx([10, 11, 12]) and alike == pytest.approx([0] * 3)
    assert always == pytest.approx([35] * 3)
    lines = worlds.table(runs)
    assert "**fails**" in lines[4] and "**holds**" in lines[5]  # W3 and W4
    assert lines[2].startswith("| W1: harmless right, lost | < 5 | +3.0 | +4.0 | +5.0 |")
    assert "| 95 (95 to 95) | 30 (30 to 30) |" in worlds.parts(runs)[3]


@pytest.mark.parametrize(
    ("found", "rate"),
    [
        ({1e-3: (97, 10), 3e-3: (94, 30), 1e-2: (60, 50)}, 3e-3),  # kept, and the most facts
        ({1e-3: (80, 10), 3e-3: (85, 30), 1e-2: (60, 50)}, 3e-3),  # none kept: most harmless
        ({1e-3: (97, 10), 3e-3: (92, 30)}, 1e-3),
    ],
)
def test_the_rule_takes_a_rate(worlds, found, rate):
    points = {"base": point(worlds, harmless=98)}
    for r, (harmless, held) in found.items():
        points[f"lora_pooled_lr{r:g}"] = point(worlds, harmless=harmless, held=held)
        points[f"lora_matched_lr{r:g}"] = point(worlds, harmless=harmless, safe=held)
    assert worlds.chosen(points, "lora_pooled") == rate
    assert worlds.chosen(points, "lora_matched") == rate
    names = [line.split("|")[2].strip() for line in worlds.rates(points)[2:]]
    assert names[0] == "-" and len(names) == 1 + 2 * len(found)
