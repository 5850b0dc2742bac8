"""The table of SafeMoE's controls: points from workdirs, paired differences, kept lines."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("safemoe_tool", root / "tools" / "safemoe.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def point(tool, value):
    keys = [
        f"{s}.{m}.{d}"
        for s in tool.COLUMNS
        for m in ("safe", "safe_informative")
        for d in ("t1", "greedy")
    ]
    both = {f"over_refusal.correct.{d}": 0.9 for d in ("t1", "greedy")}
    return {**dict.fromkeys(keys, value), **both, "capability": 0.8}


def write(tool, run, arms):
    (run / "artifacts").mkdir(parents=True)
    for arm, value in arms.items():
        (run / "artifacts" / f"point.{arm}.json").write_text(json.dumps(point(tool, value)))
    return str(run)


def test_the_tables_pair_runs_and_survive_being_kept(tool, tmp_path, capsys):
    runs = [
        write(
            tool,
            tmp_path / str(i),
            {
                "base": 0.1,
                "safemoe": 0.5 + i / 10,
                "random": 0.1 + i / 10,
                "harmless": 0.3,
                "harmless_lora": 0.2,
            },
        )
        for i in range(3)
    ]
    for run in runs:
        layers = {
            "usage": [[0.2, 0.8], [0.5, 0.5]],
            "entropy": [0.5, 0.7],
            "information": [0.3, 0.1],
            "chance": [0.2, 0.2],
        }
        np.savez(f"{run}/artifacts/routes.safemoe.npz", **layers)
        np.savez(f"{run}/artifacts/routes.base.npz", nothing=np.zeros(1))
    kept = tmp_path / "kept.jsonl"
    tool.main([*runs, "--save", str(kept)])
    text = capsys.readouterr().out
    assert "| random | +40 [+40, +40] |" in text and "3 runs" in text
    assert "| harmless_lora (harmless) | +10 [+10, +10] |" in text  # not SafeMoE's other data
    assert "| safemoe | 3 | 35 % | 0.60 | 0.60 | 0.200 | 0.200 | 3 of 6 |" in text
    assert "tells of the prompt" not in text  # runs that are older than the question
    tool.main([str(kept)])
    assert capsys.readouterr().out == text


def test_topic_and_harm_are_a_table_of_the_runs_that_have_them(tool, tmp_path, capsys):
    runs = [write(tool, tmp_path / str(i), {"base": 0.1, "safemoe": 0.5}) for i in range(2)]
    layers = {"usage": [[0.2, 0.8], [0.5, 0.5]], "entropy": [0.5, 0.7], "information": [0.3, 0.1]}
    for index, run in enumerate(runs):
        told = {name: [0.1 * index, 0.3] for name in tool.TOPICS}
        told |= {f"{name}_chance": [0.05, 0.05] for name in tool.TOPICS}
        for arm, own in (("safemoe", told), ("untrained", told if index else {})):
            np.savez(f"{run}/artifacts/routes.{arm}.npz", **layers, chance=[0.2, 0.2], **own)
    kept = tmp_path / "kept.jsonl"
    tool.main([*runs, "--save", str(kept)])
    text = capsys.readouterr().out
    cell = "0.175 (0.050; 3 of 4)"
    assert f"| safemoe | 2 | {cell} | {cell} | {cell} |" in text
    assert "| untrained | 1 | 0.200 (0.050; 2 of 2) |" in text
    tool.main([str(kept)])
    assert capsys.readouterr().out == text


def test_arms_that_came_later_join_their_run(tool, tmp_path, capsys):
    first = write(tool, tmp_path / "first" / "0", {"base": 0.1, "safemoe": 0.5})
    later = write(tool, tmp_path / "later" / "0", {"base": 0.1, "facts": 0.2})
    file = tmp_path / "later/0/artifacts/point.facts.json"
    more = {"capability.sort": 0.7, "seen_held.asr.greedy": 0.3, "over_refusal.refusal.greedy": 0.1}
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
    tool.main([first, later])
    text = capsys.readouterr().out
    assert "1 runs" in text and "| facts | +30 |" in text
    assert "| facts | nan | 30 | nan | nan | nan | nan | 10 | nan | 70 |" in text


def test_an_expert_alone_is_read_by_domain(tool, tmp_path, capsys):
    run = tmp_path / "0"
    write(tool, run, {"base": 0.1, "single0": 0.2, "single1": 0.3})
    asked = {
        f"{s}.asr.greedy.{d}": x
        for s in ("seen_trained", "seen_held")
        for d, x in ((10, 0.5), (9, 0.1))
    }
    for arm in ("base", "single0", "single1"):
        file = run / "artifacts" / f"point.{arm}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | asked))
    early = write(tool, tmp_path / "early", {"base": 0.1, "safemoe": 0.2})  # without these arms
    tool.main([early, str(run)])
    text = capsys.readouterr().out
    assert "| 0 | 1 | 10 | 50 | 10 |" in text and "| 1 | 1 | 50 | 10 | 50 |" in text


def test_the_interval_is_students(tool):
    values = [0.1, 0.2, 0.6, 0.4, 0.3]
    mean, low, high, _ = tool.t_interval(values)
    half = 2.7764451 * np.std(values, ddof=1) / np.sqrt(5)
    assert (mean, low, high) == pytest.approx((0.32, 0.32 - half, 0.32 + half))
    assert tool.told([0.5]) == "50"
    many = [0.05 * i for i in range(15)]
    half = 2.1447867 * np.std(many, ddof=1) / np.sqrt(15)  # at 14 degrees of freedom
    assert tool.t_interval(many)[:3] == pytest.approx((0.35, 0.35 - half, 0.35 + half))


def test_intervals_stay_where_rates_can_be(tool):
    assert tool.told([0.9, 1.0, 1.0]) == "97 [82, 100]"
    assert tool.told([0.0, 0.0, 0.1]) == "3 [0, 18]"
    assert tool.told([-1.0, 1.0], signed=True) == "+0 [-100, +100]"


def test_what_does_not_survive_holm_is_marked(tool, capsys):
    clear, weak = (0.5, 0.50001, 0.50002), (0.3, 0.4, 0.5)
    runs = []
    for i in range(3):
        arms = {"safemoe": 0.9, "base": 0.9 - clear[i], "a": 0.9 - weak[i], "b": 0.9 - (i - 1) / 9}
        runs.append({arm: point(tool, value) for arm, value in arms.items()})
    tool.differences(runs, ["base", "safemoe", "a", "b"], "greedy")
    out = capsys.readouterr().out
    assert "| base | +50 [+50, +50] |" in out and "| a | +40 [+15, +65]° |" in out
    assert "| b | +0 [-28, +28] |" in out
    assert "9 differences vary over seeds: 6 have p < .05, 3 after Holm." in out


def test_runs_without_points_are_one_line(tool, tmp_path):
    with pytest.raises(SystemExit, match="allowed: workdirs"):
        tool.main([str(tmp_path)])
