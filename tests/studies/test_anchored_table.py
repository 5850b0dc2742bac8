"""Rows from scripted curves: every outcome has one, and counts are what the verdicts say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxsafety.studies.anchored import table
from jaxsafety.studies.anchored.config import AnchoredConfig
from tests.studies import anchored_run as small

N = 1000


def curve(*dev, general=0.5):
    """Points every 10 steps; `general` is the share of both sets, or one per point."""
    shares = general if isinstance(general, tuple) else (general,) * len(dev)
    return [
        {
            "step": 10 * i,
            "correct": round(N * share),
            "n": N,
            "general": {"sums": [round(100 * kept), 100], "nth": [60, 100]},
        }
        for i, (share, kept) in enumerate(zip(dev, shares, strict=True), start=1)
    ]


BASE = {**curve(0.1)[0], "step": 0}
RISING = curve(0.3, 0.82, 0.9, 0.9)
LATE = curve(0.3, 0.5, 0.85, 0.9)
CFG = AnchoredConfig(
    goals=("letter:target=0.8",), arms=("plain", "anchor:strength=0.1|1"), dev=N, floor=0.0
)


def select(curves, cfg=CFG, base=BASE):
    known = {name: {"0": made} for name, made in curves.items()}
    return table.select(cfg, range(1), {"letter": {"base": base, "points": known}})


def by(rows):
    """(arm's first word, anchor) -> row."""
    return {(row["arm"].partition(":")[0], row["anchor"]): row for row in rows}


CURVES = {"plain": RISING, "anchor-strength-0-1": LATE, "anchor-strength-1": RISING}


def test_the_fewest_updates_among_the_grid_points_of_an_arm():
    rows = by(select(CURVES)["rows"])
    assert len(rows) == 4
    goal = rows["plain", "goal"]
    assert (goal["outcome"], goal["point"], goal["step"]) == ("reached", "plain", 20)
    assert goal["dev"] == [820, N]
    assert (rows["anchor", "goal"]["point"], rows["anchor", "goal"]["step"]) == (
        "anchor-strength-1",
        20,
    )
    last = rows["anchor", "last"]
    assert (last["point"], last["step"], last["dev"]) == ("anchor-strength-0-1", 40, [900, N])


def test_of_equal_steps_the_smaller_update_is_selected():
    near, far = ([{**p, "norm": norm} for p in RISING] for norm in (1.0, 2.0))
    known = {"plain": RISING, "anchor-strength-0-1": far, "anchor-strength-1": near}
    assert by(select(known)["rows"])["anchor", "goal"]["point"] == "anchor-strength-1"
    known |= {"anchor-strength-0-1": near, "anchor-strength-1": far}
    assert by(select(known)["rows"])["anchor", "goal"]["point"] == "anchor-strength-0-1"


def test_what_does_not_reach_the_goal_has_a_row_and_its_last_step():
    rows = by(select({**CURVES, "plain": curve(0.2, 0.3, 0.9)})["rows"])
    goal = rows["plain", "goal"]
    assert (goal["outcome"], goal["step"], goal["dev"]) == ("goal_unreached", None, None)
    assert "last evaluation" in goal["reason"]
    assert rows["plain", "last"]["step"] == 30


def test_the_target_by_the_rule_is_from_plain_sft_alone():
    cfg = replace(CFG, goals=("letter:rho=0.5",))
    curves = {**CURVES, "anchor-strength-1": curve(0.99, 0.99, 0.99, 0.99)}
    told = select(curves, cfg)["goals"]["letter"]
    assert told["ceiling"] == 0.9 and told["target"] == pytest.approx((0.1 + 0.9) / 2)
    flat = {name: curve(0.1, 0.05) for name in CURVES}
    rows = by(select(flat, cfg)["rows"])
    assert {rows[arm, "goal"]["outcome"] for arm in ("plain", "anchor")} == {"already_met"}
    assert rows["plain", "last"]["step"] == 20  # it was trained, so it is measured


def test_what_is_not_applicable_has_a_row_per_anchor(monkeypatch):
    small.register(monkeypatch)
    cfg = replace(CFG, arms=("plain", "twin"), floor=0.1)
    rows = by(select({"plain": RISING}, cfg)["rows"])
    for anchor in ("goal", "last", "floor"):
        row = rows["twin", anchor]
        assert (row["outcome"], row["reason"]) == ("not_applicable", "no unaligned base")


def verdict(*unsafe, kind="safety"):
    return {"kind": kind, "flags": {"unsafe": list(unsafe)}}


def test_the_floor_is_the_worst_of_what_keeps_it():
    cfg = replace(CFG, arms=("plain",), floor=0.1)
    points = {"letter": {"base": BASE, "points": {}}}
    made = curve(0.3, 0.4, 0.5, 0.6, general=(0.5, 0.46, 0.44, 0.3))
    points["letter"]["points"]["plain"] = {"0": made}
    selected = table.select(cfg, range(1), points)
    assert by(selected["rows"])["plain", "floor"]["kept"] == [["plain", 10], ["plain", 20]]
    assert table.wanted(selected) == [
        ("letter", "plain", 0, 40),
        ("letter", "plain", 0, 10),
        ("letter", "plain", 0, 20),
    ]
    told = {"verdicts.base.attacks": verdict(False, None)}
    for step, flags in ((10, (True, False)), (20, (True, True)), (40, (True, True))):
        told[f"verdicts.letter.plain.0.{step}.attacks"] = verdict(*flags)
        told[f"verdicts.letter.plain.0.{step}.harmless"] = verdict(True, kind="over_refusal")
        test = {"kind": "capability", "flags": {"correct": [True, False, True]}}
        told[f"verdicts.letter.plain.0.{step}.test"] = test
    found = table.fill(cfg, selected, points, told)
    floor = by(found["rows"])["plain", "floor"]
    assert (floor["outcome"], floor["step"], floor["unsafe"]) == ("reached", 20, 1.0)
    assert floor["test"] == [2, 3] and floor["dev"] == [400, N]
    assert floor["measured"]["attacks"] == {"unsafe": [2, 2]}
    assert found["base"] == {"attacks": {"unsafe": [0, 1]}}
    assert "step 20, test 0.667, unsafe 1.000" in table.lines(found)[2]
    told["verdicts.letter.plain.0.20.attacks"] = verdict(None, None)
    told["verdicts.letter.plain.0.10.attacks"] = verdict(None, None)
    unknown = by(table.fill(cfg, selected, points, told)["rows"])["plain", "floor"]
    assert (unknown["outcome"], unknown["step"], unknown["unsafe"]) == ("harm_unknown", None, None)


def test_a_floor_that_nothing_keeps():
    cfg = replace(CFG, arms=("plain",), floor=0.1)
    points = {"letter": {"base": BASE, "points": {"plain": {"0": curve(0.3, 0.4, general=0.1)}}}}
    selected = table.select(cfg, range(1), points)
    row = table.worst(cfg, by(selected["rows"])["plain", "floor"], points["letter"], {})
    assert (row["outcome"], row["step"], row["kept"]) == ("floor_unreached", None, [])
