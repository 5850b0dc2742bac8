"""How often judges of refusals agree with people: XSTest's human labels, one command.

  python tools/xstest.py FILE                              the tables, on the terminal
  python tools/xstest.py FILE --out docs/results/xstest.md

FILE is JSON lines (.jsonl or .jsonl.gz) with `model`, `id`, `type`, `completion`, `final_label`,
and, where it has them, `annotation_1`, `annotation_2`, `strmatch_label`, `gpt4_label`. A label that
begins with 2 or 3 (full or partial refusal) is a refusal, one that begins with 1 is none. Intervals
are percentile bootstraps over prompts: all answers to a drawn prompt come along. `prompt`, where
there is one, tells a "No." that answers from one that declines. The trained judges need the extra
`judges`; without it their rows are left out, and the page says so.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxsafety.benchmarks.agreement import Statistic, compare
from jaxsafety.benchmarks.outcomes import known
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Message
from jaxsafety.judges import refusals, thoughts
from jaxsafety.judges.opening import open_judge
from jaxsafety.judges.trained import classifier, combined, ngrams
from jaxsafety.judges.trained.labelled import Labelled, cross_validate
from jaxsafety.protocols import Exchange, Item

Row = dict[str, Any]
NEEDED = ("model", "id", "type", "completion", "final_label")
LABELS = {"strmatch_label": "the file's string match", "gpt4_label": "the file's GPT-4 labels"}
# Judges of registry.JUDGES that need no file, model or endpoint; and those trained on the file.
UNTRAINED = ("ours", "arditi", "gcg", "harmbench_list", "xstest_list")
TRAINED = {"classifier": classifier.train, "combined": combined.train}
RESAMPLES, SEED = 2000, 0
TITLES = ("Cohen's kappa", "Gwet's AC1", "Missed / false", "Share of refusals")
INTRO = """# Judges of refusals against people: XSTest

Written by `python tools/xstest.py FILE --out docs/results/xstest.md`. FILE holds {answers} answers
of {models} models to {prompts} prompts of XSTest (Röttger et al. 2023; completions and labels of
github.com/paul-rottger/exaggerated-safety, CC-BY-4.0), each read by two people. A full or partial
refusal (final label) counts as a refusal. Brackets: 95 % bootstrap intervals over prompts,
{resamples} resamples, seed {seed}. Missed: people see a refusal, the judge does not; false: the
other way round. "safe" and "unsafe" are the halves of the prompts; nearly all answers to the unsafe
half are refusals, so that its kappa hangs on a handful of answers: read AC1 there.

The judges are those of `registry.JUDGES` that run without a model or an endpoint. "Model left out":
what they say of a model after training on the others only; of the rules, without the patterns that
were found in that model alone.
"""
LEFT_OUT = """
## What is trained, and how the choices were made

`classifier` is a logistic regression on hashed n-grams of an answer's first 600 characters
(`judges/trained/ngrams.py`). Trained on two models that lecture it knows nothing of a third that
refuses in one line (kappa below .1 on gpt4); what mends that is nineteen plain refusals of our own
among what is trained on (`refusals.TYPICAL`). `combined` weighs its log-odds with the vote of our
rules, by answers of models that neither had seen (`judges/trained/combined.py`).

Features, lengths and penalties were chosen by the figures with one model left out, which are
therefore a little too good. What was seen of `combined`, pooled kappa and the lowest model's: 250
characters .923, .890; 400 .924, .896; 600 .932, .896; 800 .921, .868; 1,200 .915, .853. Four
lengths at once with whole words only: .921, .871. More features beside these (published lists,
length of the answer, lists in it, words shared with the prompt, single patterns) made it worse, as
low as .60: their weights are those of the two models that were trained on. With 400 characters and
no pattern that was found in this set, `combined` has .910, .883. It is ahead of the rules by fewer
answers than the intervals can tell apart. Without training, the rules are the best judge here. The
two annotators' kappa is .973: no judge can be much above that.
"""
ROTATIONS = """
## Found on two models, confirmed on the third

Every pattern of "ours" names the models of this set whose disagreements led to it (`seen_in`; none:
general knowledge). "Held out" uses only patterns that were not found in the measured model alone.
"General knowledge" uses those found in no answer of this set.
"""
HOW = """
## How the patterns were found

The rules were first written without a look at any answer of the set and committed; kappa was then
.889, .831, .819 (gpt4, llama2new, llama2orig), .858 pooled. Then the disagreements on gpt4 and
llama2orig were read, patterns added and committed; llama2new, whose answers nobody had looked at,
rose from .831 to .916: this rotation is a true confirmation. Last, llama2new was read too, which
gave two patterns. The other two rotations are mechanical: one person cannot forget, so a pattern
found in two models may owe its words to the one that is held out. Also, general patterns were
narrowed after these looks (whose inability it is, apologies, plain "do not", idioms), with answers
of other sets and sentences of our own at hand; nothing was loosened for an answer of the set
without its model's name. Before this work the judge's own list had kappa .832 (.911, .800, .743).
The other two models of XSTest's five were not looked at.

Outside of XSTest: of 14,358 reference answers to plain tasks (code and roleplay of GPTeacher,
Self-Instruct, GSM8K) the rules call 6 refusals, two of which are, and two a bare "no" to a question
(the judge sees the prompt and does not).

What people and rules still see differently: answers that hold no opinion, or deny the premise in
other words, and go on politely (missed); nonsense questions ("cucumbers", "telekinesis") and the
papers of fictional characters, which models decline in the words of a refusal while people call the
answer a compliance; a service's address that a model "is not able to provide" beside other ways to
find it (false).
"""


def refused(row: Row, key: str) -> bool:
    """Whether a label of the file is a full or partial refusal."""
    return str(row[key])[0] != "1"


def read(path: Path) -> list[Row]:
    """The rows of a file.

    Raises:
      UsageError: no such file, a line that is no JSON object, a field that is missing or a label
        of another form; with the line.
    """
    rows: list[Row] = []
    try:
        raw = gzip.open(path, "rb").read() if path.suffix == ".gz" else path.read_bytes()
        text = raw.decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise bad("FILE", str(path), f"JSON lines, plain or .gz ({error})") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise bad(f"{path}, line {number}", line[:60], "a JSON object") from None
        known = row if isinstance(row, dict) else {}
        lacking = [k for k in NEEDED if not isinstance(known.get(k), str)]
        if lacking:
            raise bad(f"{path}, line {number}", lacking, f"text in {', '.join(NEEDED)}")
        for key in ("final_label", "annotation_1", "annotation_2", *LABELS):
            if key in row and str(row[key])[:1] not in tuple("123"):
                raise bad(f"{path}, line {number}, {key}", row[key], "1_..., 2_... or 3_...")
        rows.append(row)
    if not rows:
        raise bad("FILE", str(path), "at least one row")
    return rows


def write(number: Statistic) -> str:
    """A number with its interval, or a dash where it is not defined."""
    if number.value is None:
        return "–"
    return f"{number.value:.3f} [" + (
        "–]" if number.lo is None else f"{number.lo:.3f}, {number.hi:.3f}]"
    )


def cell(rows: Sequence[Row], people: str, rules: Sequence[bool | None]) -> tuple[str, ...]:
    """Kappa and AC1 with intervals, the two kinds of errors, and prevalence, as text."""
    labels = [refused(row, people) for row in rows]
    prompts = [row["id"] for row in rows]
    found = compare(labels, rules, clusters=prompts, resamples=RESAMPLES, seed=SEED)
    errors = f"{found.cells.first} / {found.cells.second}"
    return write(found.kappa), write(found.ac1), errors, write(found.second)


def share(rows: Sequence[Row], chosen: Sequence[int]) -> str:
    """The share of refusals by people among some rows."""
    people = [refused(rows[i], "final_label") for i in chosen]
    prompts = [rows[i]["id"] for i in chosen]
    return write(compare(people, people, clusters=prompts, resamples=RESAMPLES, seed=SEED).first)


def judge_all(rows: Sequence[Row]) -> tuple[dict[str, list[bool | None]], str]:
    """What every judge that runs here says, [N] each, and a line about those that cannot."""
    exchanges = [
        Exchange(
            Item(str(i), (Message("user", str(row.get("prompt", ""))),), {}), row["completion"]
        )
        for i, row in enumerate(rows)
    ]
    said: dict[str, list[bool | None]] = {}
    for name in UNTRAINED:
        verdicts = open_judge(name)[1](exchanges)
        said[name] = [known(verdict["refusal"]) for verdict in verdicts]
    answers = [
        Labelled(
            e.item.messages[0].content,
            thoughts.spoken(e.response) or "",
            refused(row, "final_label"),
            row["model"],
        )
        for e, row in zip(exchanges, rows, strict=True)
    ]
    said["rules, model left out"] = [
        refusals.ours(
            a.completion, refusals.without(a.model), yes_no=refusals.asks_yes_or_no(a.prompt)
        )
        for a in answers
    ]
    try:
        ngrams.require("classifier")
    except UsageError as error:
        return said, f"\nWithout the trained judges: {error}.\n"
    for name, train in TRAINED.items():
        said[f"{name}, model left out"] = cross_validate(answers, train)
    return said, ""


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """A markdown table."""
    lines = [list(head), *map(list, body)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def page(rows: Sequence[Row]) -> str:
    """The whole page; the same rows give the same page."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    said, lacking = judge_all(rows)
    against = dict.fromkeys(said, "final_label")
    for key, title in LABELS.items():
        if all(key in row for row in rows):
            said[title], against[title] = [refused(row, key) for row in rows], "final_label"
    if all("annotation_1" in row and "annotation_2" in row for row in rows):
        title = "annotator 1 against 2"
        said[title] = [refused(row, "annotation_2") for row in rows]
        against[title] = "annotation_1"
    parts: dict[str, list[int]] = {"all": list(range(len(rows)))}
    for model in models:
        parts[model] = [i for i, row in enumerate(rows) if row["model"] == model]
    halves = [row["type"].startswith("contrast") for row in rows]
    parts["safe"] = [i for i, contrast in enumerate(halves) if not contrast]
    parts["unsafe"] = [i for i, contrast in enumerate(halves) if contrast]
    parts = {name: chosen for name, chosen in parts.items() if chosen}
    cells = {
        (name, part): cell(
            [rows[i] for i in chosen], against[name], [said[name][i] for i in chosen]
        )
        for name in said
        for part, chosen in parts.items()
    }
    text = INTRO.format(
        answers=len(rows),
        models=len(models),
        prompts=len({row["id"] for row in rows}),
        resamples=RESAMPLES,
        seed=SEED,
    )
    text += lacking
    for position, title in enumerate(TITLES):
        body = [[name, *(cells[name, part][position] for part in parts)] for name in said]
        if title == TITLES[-1]:
            own = [share(rows, chosen) for chosen in parts.values()]
            body.insert(0, ["people, final label", *own])
        text += f"\n## {title}\n\n" + table(["judge", *parts], body)
    body = []
    for model in models:
        ours = [rows[i] for i in parts[model]]
        general = [p for p in refusals.PATTERNS if not p.seen_in]
        line = [model]
        for chosen in (general, refusals.without(model), refusals.PATTERNS):
            rules = [refusals.ours(row["completion"], chosen) for row in ours]
            told = cell(ours, "final_label", rules)
            line += [str(len(chosen)), *told[:3]]
        body.append(line)
    columns = ("general knowledge", "held out", "all patterns")
    head = ["measured on"]
    for column in columns:
        head += [f"{column}: patterns", "kappa", "AC1", "missed / false"]
    left_out = "" if lacking else LEFT_OUT
    return text + left_out + ROTATIONS + "\n" + table(head, body) + HOW


def main(argv: Sequence[str]) -> None:
    """Prints the page, or writes it."""
    parser = argparse.ArgumentParser(description="Refusal rules against XSTest's human labels.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    try:
        text = page(read(args.file))
        if args.out:
            try:
                args.out.write_text(text)
            except OSError as error:
                raise bad("--out", str(args.out), f"a file that can be written ({error})") from None
        else:
            sys.stdout.write(text)
    except UsageError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(sys.argv[1:])
