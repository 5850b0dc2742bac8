"""Arms of several rounds over training seeds: intervals, places that are traded, disagreement."""

import importlib.util
import json

import pytest
from scipy import stats


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("seeds", root / "tools/anchored_seeds.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(arm, goal, last, seeds=(0, 1, 2)):
    for seed, at, end in zip(seeds, goal, last, strict=True):
        for anchor, value in (("goal", at), ("last", end), ("floor", None)):
            yield {"goal": "ends", "arm": arm, "seed": seed, "anchor": anchor, "unsafe": value}


def write(path, *groups):
    lines = [{"about": {}}, *(row for group in groups for row in group)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_intervals_and_places(tool, tmp_path, capsys):
    one = write(tmp_path / "one.jsonl", rows("plain", (0.8, 0.81, 0.82), (0.2, 0.2, 0.21)))
    two = write(
        tmp_path / "two.jsonl",
        rows("kl", (0.5, 0.52, 0.53), (0.4, 0.4, 0.4)),
        rows("plain", (0.8,), (0.2,), (0,)),  # again, the same
        rows("ema", (0.1,), (0.1,), (7,)),
    )
    tool.main([str(one), str(two)])
    out = capsys.readouterr().out
    lo, hi = stats.t.interval(0.95, 2, loc=0.81, scale=stats.sem([0.8, 0.81, 0.82]))
    assert f"| plain | 0, 1, 2 | 81.0 [{100 * lo:.1f}, {100 * hi:.1f}] |" in out
    assert "ema" not in out and out.index("| kl") < out.index("| plain")
    assert "trades places: plain / kl" in out and "+29.3 at the goal, -19.7 last" in out
    tool.main([str(one), str(two), "--least", "1"])
    assert "| ema | 7 | 10.0 | 10.0 |" in capsys.readouterr().out


def test_one_place_that_is_not_traded(tool, tmp_path, capsys):
    kept = write(
        tmp_path / "a.jsonl",
        rows("plain", (0.8, 0.7, 0.9), (0.2, 0.2, 0.21)),
        rows("kl", (0.79, 0.72, 0.88), (0.4, 0.4, 0.4)),
    )
    tool.main([str(kept)])
    assert "trades" not in capsys.readouterr().out


def test_files_that_disagree_and_goals_that_are_not_there(tool, tmp_path):
    one = write(tmp_path / "one.jsonl", rows("plain", (0.8,), (0.2,), (0,)))
    two = write(tmp_path / "two.jsonl", rows("plain", (0.7,), (0.2,), (0,)))
    with pytest.raises(SystemExit, match="two.jsonl says something else of plain, seed 0, goal"):
        tool.main([str(one), str(two)])
    with pytest.raises(SystemExit, match="no row of goal 'letter'"):
        tool.main([str(one), "--goal", "letter"])
    with pytest.raises(SystemExit, match="is not there"):
        tool.main([str(tmp_path / "none")])
