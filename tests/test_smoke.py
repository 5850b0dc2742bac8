"""Every configuration runs at smoke size, to the report, and a second run repeats it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

CONFIGS = sorted(
    p for p in (Path(__file__).parent.parent / "configs").rglob("*.py") if p.name != "common.py"
)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_config_runs(file, tmp_path, capsys):
    from jaxsafety import cli

    command = ["run", f"--config={file}:smoke", f"--workdir={tmp_path}"]
    assert cli.main(command) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out.rstrip().endswith("report.html")
    first = (tmp_path / "results.jsonl").read_text()
    records = [json.loads(line) for line in first.splitlines()]
    assert {"base", "student"} <= {record["arm"] for record in records}
    assert all(r["lo"] <= r["value"] <= r["hi"] and r["n"] > 0 for r in records)
    assert (tmp_path / "student" / "config.json").is_file()
    assert (tmp_path / "metrics.jsonl").read_text().strip()
    assert cli.main(command) == 0
    assert (tmp_path / "results.jsonl").read_text() == first
    assert cli.main([*command, "--config.seed=91"]) == 2
    assert "workdir" in capsys.readouterr().err
