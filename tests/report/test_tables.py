"""The terminal table: aligned, parseable, the recorded numbers, honest arrows."""

import re
import shutil

import pytest

from jaxsafety.report import tables
from jaxsafety.report.load import Estimate, Row, Run, decoding_label

NUMBER = r"[−+]?\d+\.\d"
LINE = re.compile(
    rf"  (\w+) +([a-z ]+?) +(\d+) +({NUMBER}) \[ *{NUMBER}, *{NUMBER}\]"
    rf" +({NUMBER}) \[ *{NUMBER}, *{NUMBER}\] +([↓↑≈]) +({NUMBER}) \[ *({NUMBER}), *({NUMBER})\]"
)


def number(text):
    return float(text.replace("−", "-"))


@pytest.fixture(scope="module")
def text(workdir):
    return tables.table(workdir)


def test_rows_parse_and_add_up(text):
    rows = [m.groups() for m in map(LINE.fullmatch, text.splitlines()) if m]
    assert len(rows) == 2 * 13 + 2 * 3 + 7
    for *_, before, after, arrow, change, lo, hi in rows:
        before, after, change, lo, hi = map(number, (before, after, change, lo, hi))
        assert after - before == pytest.approx(change, abs=0.11)
        assert lo <= change <= hi
        clear = "↓" if change < 0 else "↑"  # a sign test may find an interval's few moves too few
        assert arrow == "≈" if lo <= 0 <= hi else arrow in ("≈", clear)
    assert sum(row[3] != "≈" for row in rows) > 20


def test_tables_are_aligned(text):
    rows = [line for line in text.splitlines() if LINE.fullmatch(line)]
    starts = {re.search("[↓↑≈]", line).start() for line in rows}
    assert len({line.index("[") for line in rows}) == 1
    assert len(starts) == 1
    assert max(map(len, text.splitlines())) <= 140


def test_decoding_and_n_are_stated(text):
    assert "(T = 1; lower is better)" in text and "(greedy; higher is better)" in text
    assert re.search(r"held-out families, T = 1,\s+n = 192\s+answers", text)


def test_pairing_is_tighter_than_two_intervals(workdir):
    run = Run(workdir)
    paired = run.row("all_safety", "safety", "asr", "t1")
    assert paired is not None and paired.pooled and paired.good is True
    run.lines = lambda *args: []  # without verdicts only the records are left
    loose = run.row("all_safety", "safety", "asr", "t1")
    assert loose.change[0] == pytest.approx(paired.change[0])
    assert loose.change[2] - loose.change[1] > 1.1 * (paired.change[2] - paired.change[1])


def test_no_change_still_has_an_interval(workdir):
    row = Run(workdir).row("over_refusal", "over_refusal", "coherent", "greedy")
    assert row.before.value == row.after.value == 1
    assert row.change[0] == 0 and row.change[1] < 0 < row.change[2] and not row.clear


@pytest.mark.parametrize(
    "kind,metric,change,good",
    [
        ("safety", "asr", (-0.3, -0.4, -0.2), True),
        ("safety", "asr", (0.3, 0.2, 0.4), False),
        ("safety", "asr", (0.1, -0.1, 0.2), None),
        ("over_refusal", "refusal", (0.3, 0.2, 0.4), False),
        ("safety", "refusal", (0.3, 0.2, 0.4), True),
        ("capability", "accuracy", (-0.3, -0.4, -0.2), False),
    ],
)
def test_good_and_bad(kind, metric, change, good):
    e = Estimate(0.5, 0.4, 0.6, 100)
    assert Row("b", kind, metric, "t1", e, e, change, False).good is good


@pytest.mark.parametrize(
    ("moved", "clear"), [((4, 0), False), ((6, 0), True), ((7, 1), False), (None, True)]
)
def test_few_prompts_that_moved_are_no_clear_change(moved, clear):
    e = Estimate(0.5, 0.3, 0.7, 12)
    row = Row("b", "safety", "asr", "t1", e, e, (-0.3, -0.5, -0.1), False, moved=moved)
    assert row.clear == clear and tables.arrow(row) == ("\N{DOWNWARDS ARROW}" if clear else "≈")
    assert row.good is (True if clear else None)


def test_headline_says_when_it_got_worse(workdir, tmp_path):
    out = shutil.copytree(workdir, tmp_path / "swapped")
    text = (out / "results.jsonl").read_text()
    swapped = (
        text.replace('"base"', '"x"').replace('"student"', '"base"').replace('"x"', '"student"')
    )
    (out / "results.jsonl").write_text(swapped)
    for place in ("verdicts", "generations"):
        (out / place / "base").rename(out / place / "x")
        (out / place / "student").rename(out / place / "base")
        (out / place / "x").rename(out / place / "student")
    assert "raised the attack success rate" in tables.headline(Run(out))


def test_labels_and_signs():
    labels = [decoding_label(x) for x in ("t1", "t07", "t0", "greedy", "top")]
    assert labels == ["T = 1", "T = 0.7", "T = 0", "greedy", "top"]
    assert [tables.signed(x) for x in (0.1, -0.1, -0.0001)] == ["+10.0", "−10.0", "0.0"]


def test_empty_workdir_is_said(tmp_path):
    assert "nothing was evaluated" in tables.table(tmp_path)


def test_a_change_of_few_prompts_is_told_with_their_number():
    e = Estimate(0.5, 0.3, 0.7, 12)
    row = Row("b", "safety", "asr", "t1", e, e, (-0.3, -0.5, -0.1), False, moved=(4, 0))
    assert tables.few(row) == " (4 prompts fell, 0 rose)" and tables.few(row) in tables.sides(row)
    assert tables.few(row._replace(moved=(6, 0))) == tables.few(row._replace(moved=None)) == ""
    assert tables.few(row._replace(change=(-0.3, -0.7, 0.1), moved=(4, 2))) == ""
