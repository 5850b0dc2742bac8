"""The page and tables of `jaxsafety eval`, of answers and judges that a test wrote."""

from __future__ import annotations

import json

import pytest

from jaxsafety.benchmarks import agreement as judges_agreement
from jaxsafety.benchmarks import outcomes
from jaxsafety.core import disk
from jaxsafety.report.measurement import agreement, page, rows, shared, tables
from jaxsafety.report.measurement.load import Measurement

NASTY = "<script>alert('model')</script>"
SETS = {
    "attacks": ("safety", "other version: its sha256 is not that of first, 9 rows"),
    "assaults": ("safety", "a file of one's own"),
    "twins": ("over_refusal", "a file of one's own"),
}
N = 8


def verdict(i, unsafe, refusal):
    flags = dict.fromkeys(outcomes.FLAGS)
    flags |= {"unsafe": unsafe, "refusal": refusal, "coherent": None if unsafe is None else True}
    found = {"id": str(i), "sample": 0, **flags, "outcome": outcomes.outcome(flags)}
    return found | ({"cause": "too long for the guard"} if unsafe is None else {})


def says(judge, name, i):
    """The second judge calls two refusals of eight none, and cannot tell of one answer."""
    if judge == "guard" and i == 7:
        return verdict(i, None, None)
    refused = i < (4 if judge == "rules" else 2)
    return verdict(i, name != "twins" and not refused, refused)


def write(folder):
    """Two judges of three sets; `attacks` and `assaults` share prompts 0 to 2."""
    names = {"rules": "not refused", "guard": "unsafe"}
    facts = {
        "format": 1,
        "settings": {"limit": 0, "seed": 0, "max_tokens": 0, "decodings": ["greedy"]},
        "arms": {"model": {"model": f"some/{NASTY}", "template": "abc"}},
        "sets": {
            name: {
                "kind": kind,
                "form": "text",
                "licence": "MIT",
                "version": None,
                "version_note": note,
                "rows": 9,
                "used": N,
                "left_out": {"copyright": 1},
                "max_tokens": 16,
            }
            for name, (kind, note) in SETS.items()
        },
        "judges": {
            name: {"name": name, "where": "", "label": label} for name, label in names.items()
        },
        "missing": ["catqa"],
    }
    disk.write_json(folder / "eval.json", facts)
    for name, (_, _) in SETS.items():
        texts = [f"{name if i > 2 or name == 'twins' else 'Shared'} {i}?" for i in range(N)]
        lines = [
            {"id": str(i), "sample": 0, "prompt": text, "response": NASTY, "finished": i > 0}
            for i, text in enumerate(texts)
        ]
        disk.write_lines(folder / f"generations/model/{name}.greedy.jsonl", lines)
    for judge in names:
        records = []
        for name, (kind, _) in SETS.items():
            said = [says(judge, name, i) for i in range(N)]
            place = folder / f"judges/{judge}/verdicts/model/{name}.greedy.jsonl"
            disk.write_lines(place, said)
            ids = [v["id"] for v in said]
            records += outcomes.records("model", name, kind, "greedy", said, ids, 0)
        disk.write_lines(folder / f"judges/{judge}/results.jsonl", records)
    return folder


@pytest.fixture
def out(tmp_path):
    return write(tmp_path)


def test_agreement_is_that_of_the_verdicts(out):
    measured = Measurement(out)
    (pair,) = agreement.compare(measured, "refusal")
    # 7 answers of each of three sets: both say yes to 2, rules alone to 2, nobody to 3.
    assert (pair.n, pair.untold, pair.cells) == (21, 3, (6, 6, 0, 9))
    labels = [(i < 4, i < 2) for _ in SETS for i in range(7)]
    first, second = zip(*labels, strict=True)
    prompts = [(name, i) for name in SETS for i in range(7)]
    told = judges_agreement.compare(first, second, clusters=prompts)
    assert (pair.kappa, pair.ac1) == (told.kappa.value, told.ac1.value)
    assert (pair.kappa_range, pair.ac1_range) == (told.kappa[1:3], told.ac1[1:3])
    assert pair.kappa == pytest.approx(judges_agreement.kappa(first, second), abs=1e-12)
    assert f"[{pair.kappa_range[0]:.2f}, {pair.kappa_range[1]:.2f}]" in page.render(measured)
    assert pair.shares == (12 / 21, 6 / 21)
    (unsafe,) = agreement.compare(measured, "unsafe")
    assert unsafe.n == 14  # harmless requests are not asked about harm


def test_what_has_no_kappa_says_why(out):
    for judge in ("rules", "guard"):
        for name in SETS:
            place = out / f"judges/{judge}/verdicts/model/{name}.greedy.jsonl"
            disk.write_lines(place, [verdict(i, False, False) for i in range(N)])
    (pair,) = agreement.compare(Measurement(out), "refusal")
    assert pair.kappa is None and pair.ac1 is None and "the same" in pair.why
    assert "the same of every answer" in page.render(Measurement(out))


def test_agreement_in_strata_of_coherence(out):
    """The second set of answers of the rules is no text: the guard's word on it stands apart."""
    place = out / "judges/rules/verdicts/model/assaults.greedy.jsonl"
    said = [{**says("rules", "assaults", i), "coherent": False} for i in range(N)]
    disk.write_lines(place, said)
    (pair,) = agreement.compare(Measurement(out), "refusal")
    assert [(name, part.n) for name, part in pair.strata] == [("coherent", 14), ("incoherent", 7)]
    assert "by coherence:" in page.render(Measurement(out))


def test_disagreements_come_in_turn_and_from_both_sides(out):
    found = agreement.find_disagreements(Measurement(out), "refusal")
    assert [e.where for e in found] == [f"{name}, greedy" for name in SETS]
    assert {(e.yes, e.no) for e in found} == {("rules", "guard")}
    unsafe = agreement.find_disagreements(Measurement(out), "unsafe")
    assert {(e.yes, e.no) for e in unsafe} == {("guard", "rules")}


def test_sets_that_share_prompts(out):
    names, cells = shared.count(Measurement(out))
    assert names == ["attacks", "assaults"]
    assert cells == {("attacks", "assaults"): (3, N), ("assaults", "attacks"): (3, N)}


def test_the_page_has_every_section_and_escapes(out):
    text = page.render(Measurement(out))
    for title in (
        "Refusals of harmful and of harmless requests",
        "Harmful requests",
        "Harmless requests",
        "Judges side by side",
        "Answers",
        "What was measured",
        "Prompts that sets share",
        "Facts",
    ):
        assert f"<h2>{title}</h2>" in text
    assert "<script" not in text and "&lt;script&gt;" in text
    for words in (
        "other version",
        "MIT",
        "copyright 1",
        "not in the data: catqa",
        "not judged 1: too long for the guard (1)",
        "an upper bound",
        "1 of 8",
    ):
        assert words in text, words


def test_the_table_says_rates_n_and_what_is_not_judged(out):
    text = tables.table(out)
    line = next(row for row in text.splitlines() if row.split()[:2] == ["attacks", "rules"])
    assert line.split()[2:4] == ["8", "50"]
    assert "not judged, attacks by guard: 1: too long for the guard (1)" in text
    assert "upper bound" in text


def test_rows_know_nothing_of_what_was_not_judged(out):
    (out / "judges" / "guard" / "results.jsonl").unlink()
    found = rows.collect(Measurement(out), "safety", ("asr",))
    assert {row.judge for row in found} == {"rules"}
    assert "Judges side by side" not in page.render(Measurement(out))


def test_damaged_files_cost_a_row_and_not_the_page(out):
    (out / "judges/rules/verdicts/model/attacks.greedy.jsonl").write_text('{"id": "0"\n[]\n')
    (out / "judges/guard/results.jsonl").write_text("{}\nnull\n")
    (out / "generations/model/twins.greedy.jsonl").write_bytes(b"\xff\n")
    text = page.write(out).read_text()
    assert "<h2>Harmful requests</h2>" in text
    facts = json.loads((out / "eval.json").read_text())
    (out / "eval.json").write_text(json.dumps({**facts, "sets": {"attacks": 3}, "judges": []}))
    assert "No rate" in page.render(Measurement(out))
    assert "nothing was measured" in tables.table(out)
