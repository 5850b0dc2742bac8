"""`python tools/weak.py`: a table in, sources, copies, soft labels out; mistakes are one line."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest

from tests.weak.planted import copied


@pytest.fixture(scope="module")
def tool(root):
    spec = importlib.util.spec_from_file_location("weak_tool", root / "tools" / "weak.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    truth, votes = copied(0, n=600, coverage=0.8)
    path = tmp_path_factory.mktemp("weak") / "votes.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["label", "who", "task"])
        for (n, j), v in np.ndenumerate(votes.array):
            out.writerow([["safe", "unsafe", ""][v], votes.sources[j], f"t{n}"])
    return path, truth, votes


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_copies_and_soft_labels(tool, table, tmp_path, capsys):
    path, truth, votes = table
    out = tmp_path / "soft.csv"
    options = ["--worker=who", "--classes=safe,unsafe"]
    assert tool.main([str(path), *options, f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert "600 items, 8 sources, classes safe, unsafe" in said
    assert "copies (false alarms 5 %): s3 = copy0 = copy1 = copy2 = copy3" in said
    assert "warning: s3 and copy0 and copy1 and copy2 and copy3 count as one" in said
    found = rows(out)
    assert [row["task"] for row in found] == [f"t{n}" for n in range(600)]
    unsafe = np.array([float(row["unsafe"]) for row in found])
    assert np.allclose([float(r["safe"]) for r in found], 1 - unsafe, atol=2e-6)
    assert [r["unlabelled"] == "1" for r in found] == votes.silent.tolist()
    assert ((unsafe > 0.5) == truth).mean() > 0.85
    assert tool.main([str(path), *options, "--apart", f"--out={out}"]) == 0
    assert "copies" not in capsys.readouterr().out
    apart = np.array([float(row["unsafe"]) for row in rows(out)])
    assert ((apart > 0.5) == truth).mean() < 0.75
    assert tool.main([str(path), *options, "--model=majority"]) == 0
    assert "unknown: a vote share says nothing" in capsys.readouterr().out


def test_mistakes_are_one_line(tool, table, tmp_path, capsys):
    path, *_ = table
    for argv, line in (
        ([str(path)], "votes.worker: got 'worker in row 1'"),
        ([str(path), "--worker=who", "--classes=safe,other"], "votes.label: got 'unsafe in row"),
        ([str(tmp_path / "none.csv")], "votes: got"),
        ([str(path), "--worker=who", f"--out={tmp_path}"], "out: got"),
    ):
        assert tool.main(argv) == 2
        error = capsys.readouterr().err
        assert error.startswith(line) and error.count("\n") == 1
