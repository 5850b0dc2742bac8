"""The tables of the loop, from workdirs and from kept lines."""

import json

import pytest

from jaxsafety.core import disk


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("selfmoa")


def rate(arm, benchmark, metric, hits, n):
    head = {"arm": arm, "benchmark": benchmark, "kind": "safety", "metric": metric, "seed": 3}
    return {**head, "value": hits / n, "lo": 0.1, "hi": 0.9, "n": n}


@pytest.fixture
def run(tmp_path):
    """A finished run of two rounds and eleven stages, the last of which undid the others."""
    path = tmp_path / "mine"
    made = path / "artifacts"
    disk.write_json(made / "loop.json", {"rounds": 2, "stages": 11})
    disk.write_json(path / "config.json", {"seed": 3})
    for r in range(2):
        disk.write_json(
            made / f"attack.{r}.json", {"expanded": ["secret"], "rejected": {"seen": 1}}
        )
        told = {"won": [True, False], "pairs": [[0, 1, 2]], "left_out": {}, "answer_tokens": 9}
        disk.write_json(made / f"round.{r}.json", {**told, "calls": {"safety": 16, "helpful": 16}})
    for k in range(12):
        disk.write_json(made / f"probe.{k}.json", {"wrapped_val": {"n": 64, "unsafe": [k, 64]}})
    rows = [
        rate("base", "wrapped", "asr.greedy", 9, 10),
        rate("student", "wrapped", "asr.greedy", 2, 10),
        rate("student", "over_refusal", "correct.greedy", 10, 10),
        rate("student", "unseen_wrappers", "asr.greedy", 1, 10),
    ]
    (path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_kept_lines_make_the_same_tables(tool, run, tmp_path, capsys):
    tool.main([f"adaptive-3={run}", "--save", str(tmp_path / "kept.jsonl")])
    first = capsys.readouterr().out
    cells = "90.0 [10.0, 90.0] | 20.0 [10.0, 90.0] | – | 100.0 [10.0, 90.0] | 11 | 64 |"
    assert f"| adaptive | 3 | {cells}" in first
    assert "| adaptive | 3 | 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 (last 10 to 28 %) | 64 |" in first
    tool.main([str(tmp_path / "kept.jsonl")])
    assert capsys.readouterr().out == first
    assert "secret" not in (tmp_path / "kept.jsonl").read_text()  # attackers' words stay there


def test_an_unfinished_run_is_one_line(tool, run):
    (run / "artifacts" / "loop.json").unlink()
    with pytest.raises(SystemExit, match="is no finished run of the loop, nor kept lines"):
        tool.main([str(run)])
