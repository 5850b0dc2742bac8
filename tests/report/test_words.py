"""A report about a user's own files says only what phrase rules can know."""

import json
import re
import shutil

import pytest

from jaxsafety.report import examples, html, plots, tables
from jaxsafety.report.load import Run

# True of the invented world and its exact judge alone.
ORGANISM_WORDS = (
    "attack success",
    "carry out the attack",
    "harmful before",
    "still harmful",
    "hazard",
    "wrapped",
    "held-out",
    "exact answer",
    "exact-match",
    "organism",
    "invented world",
)


def prose(page):
    """What a reader reads, without pictures, answers and the settings of the run."""
    page = re.sub(r'<section id="(examples|facts)">.*?</section>', "", page, flags=re.S)
    page = re.sub(r'src="data:[^"]*"|<style>.*?</style>', "", page, flags=re.S)
    return re.sub(r"<[^>]+>", " ", page).lower()


def on_files(workdir, out, change=lambda record: record, **meta):
    """A copy of the finished run as one on files of the user's own, some with names of ours."""
    out = shutil.copytree(workdir, out)
    (out / "config.json").write_text(json.dumps({"program": "sft", "data": {"source": "files"}}))
    (out / "meta.json").write_text(json.dumps(meta))
    for name in ("mass", "direction", "token_set"):  # SafeSteer's; fine-tuning has none
        (out / f"artifacts/{name}.json").unlink()
    (out / "verdicts" / "pools.json").write_text('{"all_safety": ["plain", "multi_turn"]}')
    mine = {
        "plain": "unknown",
        "multi_turn": "wrapped_held",
        "over_refusal": "over_refusal",
        "facts": "plain",
    }
    lines = []
    for text in (out / "results.jsonl").read_text().splitlines():
        record = json.loads(text)
        if record["benchmark"] in mine:
            record["benchmark"] = mine[record["benchmark"]]
            lines.append(json.dumps(change(record)) + "\n")
    (out / "results.jsonl").write_text("".join(lines))
    return out


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(plots, "svg", lambda fig: "<svg/>")


def test_a_file_run_says_by_whom_and_nothing_of_the_organism(workdir, tmp_path):
    out = on_files(workdir, tmp_path / "mine")
    page = html.write(out).read_text("utf-8")
    for text in (prose(page), tables.table(out).lower()):
        assert "by phrase rules" in text
        found = [
            w
            for w in ORGANISM_WORDS
            if w in text.replace("wrapped_held", "")
            and not (w == "attack success" and "no attack success rate" in text)
        ]
        assert "safe answer" not in text, "phrase rules know of none"
        assert found == []


def test_sets_of_a_user_keep_their_names_and_are_no_pools(workdir, tmp_path):
    run = Run(on_files(workdir, tmp_path / "mine"))
    assert [run.title(n) for n in ("unknown", "wrapped_held")] == ["unknown", "wrapped_held"]
    assert tables.group(run, "safety")[1] == "asr"  # a set called unknown turned all over
    rows = tables.group_rows(run, "safety", "t1")
    assert [r.benchmark for r in rows if r.pooled] == []


def same(record, names=("asr",)):
    """Both arms alike: no change to tell of."""
    if record["metric"].split(".")[0] in names and record["kind"] == "safety":
        record = {**record, "value": 0.5, "lo": 0.4, "hi": 0.6}
    return record


def test_no_headline_is_made_of_a_change_whose_interval_holds_zero(workdir, tmp_path):
    out = on_files(workdir, tmp_path / "mine", same)
    for place in ("verdicts",):
        shutil.rmtree(out / place)
    page = html.write(out).read_text("utf-8")
    title = re.search(r"<h1>(.*?)</h1>", page).group(1)
    assert title == "SFT: harmful requests not refused, before and after"
    said = tables.headline(Run(out))
    assert "does not show a change" in said
    assert not re.search(r"\b(cut|raised|left)\b", said)


def nothing_known(record):
    """As `outcomes` writes what a judge cannot tell: null, with the reason and how many."""
    if record["metric"].startswith("correct"):
        gone = {"value": None, "lo": None, "hi": None, "n": 0}
        record = {**record, **gone, "nulls": 48, "cause": "no gold answer (48)"}
    return record


def test_what_is_not_known_is_a_dash_with_its_cause(workdir, tmp_path):
    out = on_files(workdir, tmp_path / "mine", nothing_known)
    page, table = html.write(out).read_text("utf-8"), tables.table(out)
    for text in (page, table):
        assert "right answer not known: over_refusal, 96 answers of both models (no gold" in text
    # A row of dashes tells nothing; what is known in one arm alone keeps its row.
    assert not [x for x in table.splitlines() if x.split()[-4:] == ["0", "–", "–", "–"]]


def test_examples_of_tasks_and_of_requests_without_a_gold_answer_are_shown(workdir, tmp_path):
    out = on_files(workdir, tmp_path / "mine", nothing_known)
    flags = {
        "safety": {},
        "over_refusal": {"correct": None, "outcome": "safe_answer"},
        "capability": {"correct": False, "outcome": "safe_answer"},
    }
    run = Run(out)
    for kind, changed in flags.items():
        for name in run.benchmarks(kind):
            for path in (out / "verdicts").glob(f"*/{name}.greedy.jsonl"):
                rows = [{**json.loads(x), **changed} for x in path.read_text().splitlines()]
                path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {group.title: group.total for group in examples.pick(Run(out), "greedy")[1]}
    assert found["Failure: wrong before and after"] > 0
    unknown = "Harmless request, answered before and after; whether it is right is not known"
    assert found[unknown] > 0
    assert "Task, still right" not in found


def few(record):
    return {**record, "n": 4, "value": 0.75, "lo": 0.301, "hi": 0.954}


def test_few_answers_need_no_decimals(workdir, tmp_path):
    out = on_files(workdir, tmp_path / "mine", few)
    shutil.rmtree(out / "verdicts")
    assert "75 % [30, 95]" in tables.headline(Run(out))
    assert not re.search(r"\d\.\d", tables.table(out))


def test_what_was_measured_is_told_per_file(workdir, tmp_path):
    sets = {
        "unknown": {"path": "advice.csv", "rows": 520, "used": 16, "layout": "AdvBench", "seed": 3}
    }
    page = html.write(on_files(workdir, tmp_path / "mine", sets=sets)).read_text("utf-8")
    section = re.search(r'<section id="measured">(.*?)</section>', page, re.S).group(1)
    row = next(r for r in section.split("<tr>") if "advice.csv" in r)
    assert "16 of 520 (sample of seed 3)" in row and "AdvBench" in row and "phrase rules" in row
    assert row.endswith("<td>–</td></tr>")  # nothing is saved under this name
    plain = next(r for r in section.split("<tr>") if "<td>plain</td>" in r)
    assert re.search(r"<td>base 0 of \d+, student 0 of \d+</td></tr>", plain)  # cut at the limit
    assert 'id="measured"' not in html.write(workdir).read_text("utf-8")


def test_the_config_is_folded_and_whole(workdir):
    page = html.write(workdir).read_text("utf-8")
    found = re.search(r'<section id="facts">(.*?)</section>', page, re.S).group(1)
    assert "<details><summary>The config, 7</summary>" in found


def test_the_held_out_loss_and_dropped_dialogues_are_told(workdir, tmp_path):
    told = {"given": 200, "used": 195, "dropped": 5, "cut": 0, "length": 128, "long": "drop"}
    out = on_files(workdir, tmp_path / "mine", dialogues=told)
    loss = {"start": 2.5, "end": 1.25, "dialogues": 20, "tokens": 700}
    (out / "artifacts/held_out.json").write_text(json.dumps(loss))
    page = html.write(out).read_text("utf-8")
    section = re.search(r'<section id="training">(.*?)</section>', page, re.S).group(1)
    assert "Learnt from 195 dialogues of 200; 5 dropped, longer than 128 tokens" in section
    assert (
        "On 20 held-out dialogues (700 answer tokens) the loss went from 2.500 to 1.250" in section
    )
    (out / "artifacts/held_out.json").write_text(json.dumps({**loss, "end": 2.75}))
    assert "It did not fall." in html.write(out).read_text("utf-8")


def test_the_tick_of_wrapped_attacks_is_their_own(workdir, tmp_path):
    out = shutil.copytree(workdir, tmp_path / "forward")
    mass = json.loads((out / "artifacts/mass.json").read_text())
    mass.update(predicted=2.0, wrapped_predicted=4.0)  # forward partial: all probability on S
    (out / "artifacts/mass.json").write_text(json.dumps(mass))
    page = html.write(out).read_text("utf-8")
    assert "least at student / teacher = 2.000 and 4.000 (tick)" in page
