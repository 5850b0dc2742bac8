"""The sections about a mixture of experts: its arms, its routing; nothing where there are none."""

import base64
import json
import re

import numpy as np
import pytest

from jaxsafety.methods.safemoe import sections as experts
from jaxsafety.report.load import Run

POINT = {f"{s}.{m}.greedy": 0.25 for s in experts.SPLITS for m in ("safe", "safe_informative")}
POINT |= {"seen_trained.asr.greedy": 0.11, "over_refusal.correct.greedy": 0.5, "capability": 0.75}


def kept(tmp_path, torn=False, controls=False, topics=False):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    end = ".safemoe" if controls else ""
    arms = {"base": POINT, "safemoe": {**POINT, "seen_held.safe_informative.greedy": 0.87}}
    arms["single1"] = {}
    if controls:
        for arm, point in arms.items():
            (folder / f"point.{arm}.json").write_text(json.dumps(point))
    else:
        (folder / "compared.json").write_text(json.dumps(arms))
    (folder / f"routes{end}.json").write_text(json.dumps({"domains": [3, 4], "tokens": 99}))
    layers, groups, count = 3, 2, 4
    grid = np.full((layers, groups, count), 0.25)
    arrays = {
        "usage": grid.mean(axis=1),
        "by_domain": grid,
        "entropy": np.ones(layers),
        "information": np.array([0.5, 0.0, 0.4]),
        "chance": np.full(layers, 0.1),
    }
    if topics:
        for index, key in enumerate(experts.TOLD):
            arrays[key] = np.array([0.5, 0.25, 0.125]) + index
            arrays[f"{key}_chance"] = np.full(layers, 0.011)
        np.savez(folder / "routes.untrained.npz", **{k: 2 * v for k, v in arrays.items()})
    np.savez(folder / f"routes{end}.npz", **arrays)
    if torn:
        (folder / "routes.npz").write_bytes(b"PK")
    return Run(tmp_path)


@pytest.mark.parametrize("controls", [False, True])
def test_arms_are_a_table(tmp_path, controls):
    text = experts.arms(kept(tmp_path, controls=controls))
    assert "the mixture" in text and "only expert 1" in text
    assert "87 <small>/ 25</small>" in text and ">50<" in text
    assert ">11<" in text and "\u2013" in text


@pytest.mark.parametrize("controls", [False, True])
def test_rates_have_their_intervals_over_entities(tmp_path, controls):
    run = kept(tmp_path, controls=controls)
    assert "[" not in re.sub(r"<style.*?</style>", "", experts.arms(run), flags=re.DOTALL)
    ends = {"seen_held.safe_informative.greedy": [0.712, 0.953]}
    ends |= {"over_refusal.correct.greedy": [0.0, 0.414], "unseen.safe_informative.greedy": None}
    said = {"entities": {}, "intervals": ends}
    (tmp_path / "artifacts/prompts.safemoe.json").write_text(json.dumps(said))
    text = experts.arms(run)
    assert "87 <small>/ 25</small><br><small>[71, 95]</small>" in text
    assert "50<br><small>[0, 41]</small>" in text
    assert text.count("<br><small>[") == 2 and "over the entities" in text


@pytest.mark.parametrize("controls", [False, True])
def test_routing_is_drawn_with_how_many_layers_know_the_domain(tmp_path, controls):
    text = experts.routing(kept(tmp_path, controls=controls))
    assert "99 tokens" in text and "in 2 of 3 layers" in text
    drawn = re.findall(r" src=\"[^,]+base64,([^\"]+)", text)
    maps, curves = (base64.b64decode(found).decode() for found in drawn)
    assert "layer 2" in maps and "domain of the request" in maps and "entropy" in curves


def test_topic_and_harm_are_a_table_beside_the_untrained_routers(tmp_path):
    text = experts.routing(kept(tmp_path, controls=True, topics=True))
    header = re.findall(r"<th[^>]*>([^<]+)</th>", text)
    names = list(experts.TOLD.values())
    assert header == ["layer", *names, *(f"{name} (untrained)" for name in names)]
    rows = re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)[1:]
    cells = [re.findall(r"([\d.]+) <small>([\d.]+)</small>", row) for row in rows]
    assert [row[0] for row in cells] == [("0.500", "0.011"), ("0.250", "0.011"), ("0.125", "0.011")]
    assert cells[2][2:4] == [("2.125", "0.011"), ("0.250", "0.022")] and len(cells[0]) == 6


def test_older_routes_have_no_such_table(tmp_path):
    assert "harmful or not" not in experts.routing(kept(tmp_path))


def test_nothing_is_said_without_the_artifacts(tmp_path):
    run = Run(tmp_path)
    assert experts.arms(run) == "" and experts.routing(run) == ""
    torn = kept(tmp_path, torn=True)
    assert experts.routing(torn) == ""
