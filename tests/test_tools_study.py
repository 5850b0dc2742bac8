"""The tables of the study: limits that are missed, runs that stopped, random controls."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

TASKS = ("sort", "nth")


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("study_tool", root / "tools" / "study.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rates(arm, attack, capability=0.9, coherent=0.98):
    found = {
        ("wrapped_seen", "asr.t1"): attack,
        ("wrapped_held", "asr.t1"): attack,
        ("unseen_wrappers", "asr.t1"): attack,
        ("plain", "asr.greedy"): 0.0,
        ("over_refusal", "refusal.t1"): 0.01,
        ("all_safety", "coherent.t1"): coherent,
        ("all_safety", "coherent.greedy"): 1.0,
        ("all_capability", "accuracy.greedy"): 0.0,  # a pool, not a task
        **{(task, "accuracy.greedy"): capability for task in TASKS},
    }
    return [
        {"arm": arm, "benchmark": b, "metric": m, "value": v, "lo": v - 0.05, "hi": v + 0.05}
        for (b, m), v in found.items()
    ]


def write(directory, name, student, mass=0.1, log=""):
    run = directory / name
    (run / "artifacts").mkdir(parents=True)
    records = rates("base", 0.6) + student
    (run / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (directory / f"{name}.log").write_text(log)
    artifacts = {
        "mass": {"ratio": 0.9, "wrapped_ratio": 0.8, "predicted": 1.0},
        "direction": {"layer": 4, "position": -1, "coefficient": 2.0, "steer": "prompt"},
        "token_set": {"teacher_mass": mass, "voted_mass": 0.5},
    }
    for key, value in artifacts.items():
        (run / "artifacts" / f"{key}.json").write_text(json.dumps(value))


def test_every_missed_limit_is_named(tool, tmp_path):
    write(tmp_path, "0-default-0", rates("student", 0.3, 0.89))
    write(tmp_path, "0-default-1", rates("student", 0.31, 0.87, 0.96))
    runs = tool.read([str(tmp_path)])
    assert tool.missed(runs["0-default-0"]) == []
    assert tool.missed(runs["0-default-1"]) == [
        "wrapped_seen",
        "wrapped_held",
        "sort",
        "nth",
        "coherence",
    ]


def test_a_run_that_stopped_is_shown_and_one_that_still_goes_is_not(tool, tmp_path, capsys):
    why = "jaxsafety: error: direction: got 'none of 24'; allowed: KL <= 0.1"
    write(tmp_path, "0-paper-0", [], log=f"base: asr 60 %\n{why}\n")
    write(tmp_path, "0-paper-1", [], log="base: asr 60 %\n")
    runs = tool.read([str(tmp_path)])
    assert list(runs) == ["0-paper-0"]
    tool.tables(runs)
    assert f"`{why}`" in capsys.readouterr().out


def test_random_sets_are_compared_with_the_default_of_their_world(tool, tmp_path, capsys):
    write(tmp_path, "1-default-0", rates("student", 0.2))
    write(tmp_path, "1-matched0-0", rates("student", 0.5), mass=0.04)
    write(tmp_path, "1-matched1-0", rates("student", 0.4), mass=0.06)
    write(tmp_path, "2-matched0-0", rates("student", 0.4))  # without its default
    tool.tables(tool.read([str(tmp_path)]))
    out = capsys.readouterr().out
    line = "| 1 | wrapped_held | 60.0 | 20.0 | 40.0, 50.0 | +25.0 | +20.0 | 0.04 to 0.06 / 0.50 |"
    assert line in out and "| 2 |" not in out


def test_kept_lines_give_the_same_tables(tool, tmp_path, capsys, monkeypatch):
    write(tmp_path, "0-default-0", rates("student", 0.3))
    kept = tmp_path / "kept.jsonl"
    monkeypatch.setattr(sys, "argv", ["study", str(tmp_path), "--save", str(kept)])
    tool.main()
    first = capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["study", str(kept)])
    tool.main()
    assert capsys.readouterr().out == first and "0-default-0" in first
