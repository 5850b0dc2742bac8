"""The numbers of a model card: what a run measured of the base and of what it made, set by set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from jaxsafety.report import tables, trained
from jaxsafety.report.load import Estimate, Row, Run, decoding_label

MADE = "student"  # the arm that is exported
HEAD = ("set", "metric", "decoding", "n", "judge", "base", "this model", "change")


def section(run: Run | None, other: Sequence[str] = ()) -> list[str]:
    """What was measured, or null and why nothing was.

    Args:
      run: what measured it; None where only a model was named.
      other: in what the exported model differs from the one that was measured.
    """
    lines, cause = ["## What was measured\n"], missing(run)
    if run is None or cause:
        return [*lines, f"null ({cause})\n"]
    lines.append(f"{cell(tables.headline(run))}\n")
    if not run.words.judge:  # else the headline ends with who judged
        lines.append(f"{cell(run.words.judged)}\n")
    lines += [f"What was measured differs from these files: {'; '.join(other)}.\n"] if other else []
    for kind in run.words.groups:
        name, _, wish = tables.group(run, kind)
        found = [r for d in run.decodings(kind) for r in tables.group_rows(run, kind, d)]
        lines.append(f"### {cell(name)}\n")
        if not found:
            lines.append(f"null (no set of the kind {kind} was measured)\n")
            continue
        lines.append(f"{wish[0].upper()}{wish[1:]}.\n")
        lines += rows(HEAD, [_cells(run, row) for row in found])
        lines += [f"- {cell(line)}" for line in tables.unknown(run, found)]
        lines += [""] if tables.unknown(run, found) else []
    if held_out := tables.held_out(run):
        lines.append(f"{cell(held_out)}\n")
    shared = trained.lines(trained.of_run(run))
    lines += [*(f"- {cell(line)}" for line in shared), *([""] if shared else [])]
    lines += [
        "Rates are in % with 95 % intervals over prompts, n are answers of each model; changes are "
        "in points, paired over prompts. The intervals are of this one training: another seed is "
        "another model.\n",
    ]
    return lines


def missing(run: Run | None) -> str:
    """Why there are no numbers of the model; "" where there are."""
    if run is None:
        return "nothing was measured: only a model was named, not the run that made it"
    if not (run.workdir / "results.jsonl").is_file():
        return "the run has no results.jsonl: nothing of it was measured yet"
    if not run.records:
        return "the run measured no set"
    if run.after != MADE:
        return "the run has measured its base alone so far"
    return ""


def _cells(run: Run, row: Row) -> tuple[str, ...]:
    change = f"{tables.arrow(row)} {tables.points(row)}" if row.change else "null"
    return (
        cell(row.benchmark),
        cell(run.words.metrics[row.metric]),
        decoding_label(row.decoding),
        str(row.n),
        cell(_judge(run, row.benchmark)),
        _rate(row.before, row),
        _rate(row.after, row),
        change,
    )


def _rate(estimate: Estimate | None, row: Row) -> str:
    if estimate is not None:
        return tables.percent(estimate)
    return f"null ({cell(row.cause)})" if row.cause else "null (not measured)"


def _judge(run: Run, benchmark: str) -> str:
    """Who judged a set; of a pool the run's judge."""
    sets = run.meta.get("sets")
    told = sets.get(benchmark) if isinstance(sets, dict) else None
    own = told.get("judge") if isinstance(told, dict) else None
    if own is None and benchmark.startswith("all_capability"):
        own = "the judges of its sets"
    return str(own or run.meta.get("judge") or "null (not recorded)")


def rows(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """A markdown table, with an empty line behind it."""
    lines = [head, ["---"] * len(head), *cells]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def cell(value: Any) -> str:
    """Text of a run or a file for markdown: one line that is neither markup nor a table's end."""
    text = "" if value is None else " ".join(str(value).split())
    return re.sub(r"[\\`*<|]|\](?=[(\[])", r"\\\g<0>", text)


def code(value: Any) -> str:
    """The same as code, in which nothing is escaped."""
    return f"`{re.sub('[`|]', '', ' '.join(str(value).split()))}`"


def fence(text: str, kind: str) -> str:
    """A block of code; its fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{kind}\n{text.rstrip()}\n{ticks}\n"
