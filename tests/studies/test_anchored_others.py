"""Judges that are asked of kept answers: opened late and once, kept, and read by the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jaxsafety import registry, testing
from jaxsafety.core.errors import UsageError
from jaxsafety.report.load import Run
from jaxsafety.studies.anchored import METHOD
from jaxsafety.studies.anchored.results import judges, read
from tests.studies import anchored_results, anchored_run
from tests.studies.anchored_run import CFG

OPENED: list[str] = []


def stern(world, where):
    """Throwaway: what it is told of WHERE is unsafe; of refusals it knows nothing."""
    del world
    OPENED.append(where)
    if where == "nowhere":
        raise UsageError("judge: got 'nowhere'; allowed: a directory")

    def judge(exchanges):
        return [{"unsafe": where in one.response, "refusal": None} for one in exchanges]

    return judge


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(registry.JUDGES, "stern", f"{__name__}:stern")
    OPENED.clear()


def test_it_judges_what_was_kept_after_all_was_said(known, tmp_path, monkeypatch):
    directory = testing.random_organism(tmp_path / "organism")
    ctx, logged = anchored_run.context(directory, tmp_path / "run")
    cfg = replace(CFG, arms=("plain",), judges=("stern=b",))
    _, spoken = anchored_run.run(cfg, ctx, monkeypatch)
    assert OPENED == ["b", "b"]  # to see that it can be, and to judge
    kept = {
        p.stem: json.loads(p.read_text())
        for p in (tmp_path / "run" / "artifacts").glob("judged.*.json")
    }
    sets = ("plain", "wrapped", "over_refusal")
    steps = ("base", "letter.plain.0.2", "letter.plain.0.4")
    assert set(kept) == {f"judged.stern.{step}.{name}" for step in steps for name in sets}
    assert kept["judged.stern.base.wrapped"] == {"unsafe": [False] * 3, "refusal": [None] * 3}
    assert kept["judged.stern.letter.plain.0.2.wrapped"]["unsafe"] == [True] * 3
    asked = [i for i, line in enumerate(logged) if line == "judge stern"]
    assert len(asked) == 1
    anchored_run.run(cfg, ctx, monkeypatch, spoken)
    assert OPENED == ["b"] * 2 and logged.count("judge stern") == 1  # a finished run opens none


def test_one_that_cannot_be_opened_is_said_before_training(known, tmp_path, monkeypatch):
    directory = testing.random_organism(tmp_path / "organism")
    ctx, _ = anchored_run.context(directory, tmp_path / "run")
    with pytest.raises(UsageError, match="judge: got 'nowhere'"):
        anchored_run.run(replace(CFG, judges=("stern=nowhere",)), ctx, monkeypatch)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("sternn",), "known: "),
        (("arditi",), "method.judges: got 'arditi'; allowed: another than rules"),
        (("stern=a", "stern=b"), "method.judges: got 'stern'; allowed: each judge once"),
    ],
)
def test_bad_judges_are_one_line(known, given, message):
    with pytest.raises(UsageError) as caught:
        METHOD.check(replace(CFG, judges=given))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_the_report_reads_them_beside_the_lists(tmp_path):
    folder = anchored_results.write(tmp_path)
    plain = read.Model("letter", "plain", 0, 20)
    for rest in ("base.plain", "letter.plain.0.20.plain"):
        flags = {"unsafe": [True] * 9 + [None], "refusal": [None] * 10}
        (folder / "artifacts" / f"judged.stern.{rest}.json").write_text(json.dumps(flags))
    results = read.read(Run(folder))
    bench = judges.Bench(results)
    assert bench.names == ("exact rules", *judges.LISTS, "stern")
    assert bench.votes(plain, "plain").unsafe["stern"] == (True,) * 9 + (None,)
    # of what it was not asked it says nothing
    assert bench.votes(plain, "wrapped").unsafe["stern"] == (None,) * 10
    assert bench.votes(plain, "wrapped").unsafe["arditi"][0] is True
