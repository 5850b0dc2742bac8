"""Summing up anchored studies: runs of one base are joined, others refused; kept lines count."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace

import pytest

from jaxsafety.report.load import Run
from jaxsafety.studies.anchored.results import rates, read
from jaxsafety.studies.anchored.results.judges import Bench
from tests.studies import anchored_results as small


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("anchored_tool", root / "tools" / "anchored.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    found = small.write(tmp_path_factory.mktemp("study"))
    return found


@pytest.fixture(scope="module")
def results(workdir):
    return read.read(Run(workdir))


def later(results, by=10):
    """The same study with other seeds."""
    rows = tuple({**row, "seed": row["seed"] + by} for row in results.rows)
    moved = {
        (m if m == read.NOBODY else m._replace(seed=m.seed + by)): told
        for m, told in results.answers.items()
    }
    curves = {(g, p, s + by): curve for (g, p, s), curve in results.curves.items()}
    return replace(results, rows=rows, answers=moved, curves=curves)


def test_runs_of_other_seeds_are_one_study(tool, results):
    both = tool.joined([results, later(results)])
    drawn = rates.draw(both, Bench(both), "letter", resamples=100)
    one = rates.draw(results, Bench(results), "letter", resamples=100)
    more = {s.anchor: s for s in rates.standings(both, drawn, "letter") if s.arm == "plain"}
    once = {s.anchor: s for s in rates.standings(results, one, "letter") if s.arm == "plain"}
    assert {a: s.seeds for a, s in more.items()} == {a: 2 * s.seeds for a, s in once.items()}
    for anchor, found in more.items():  # the same answers twice: the same rates
        assert found.lo.value == pytest.approx(once[anchor].lo.value)
        assert found.hi.value == pytest.approx(once[anchor].hi.value)


def test_a_seed_twice_and_another_base_are_refused(tool, results):
    with pytest.raises(SystemExit, match="two runs have"):
        tool.joined([results, results])
    told = results.answers[read.NOBODY]["plain"]
    base = {**results.answers[read.NOBODY], "plain": replace(told, responses=("other",) * 10)}
    other = replace(later(results), answers={**later(results).answers, read.NOBODY: base})
    with pytest.raises(SystemExit, match="answer plain otherwise"):
        tool.joined([results, other])


def test_kept_lines_give_the_shares_of_the_tables(tool, results, workdir, tmp_path):
    bench = Bench(results)
    lines = tool.lines(results, bench, [workdir])
    assert lines[0]["judge"] == results.judge and lines[1]["arm"] == "base"
    rows = [line for line in lines if "anchor" in line]
    assert len(rows) == len(results.rows)
    assert all(("counts" in row) == (row["step"] is not None) for row in rows)
    plain = next(r for r in rows if (r["arm"], r["anchor"], r["seed"]) == ("plain", "goal", 0))
    assert plain["harmless"] == {"over_refusal": [2, 9]}
    assert lines[1]["harmless"] == {"over_refusal": [1, 9]}
    path = tmp_path / "kept.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    table = "\n".join(tool.kept(path))
    drawn = rates.draw(results, bench, "letter", resamples=50)
    for one in rates.standings(results, drawn, "letter"):
        if one.anchor:
            cell = f"| letter | {one.arm} | {one.anchor} | {one.seeds} | {100 * one.lo.value:.1f} |"
            assert cell in table
