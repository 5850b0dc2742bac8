"""What changed, as plain text: base against student with 95 % intervals and paired differences."""

from __future__ import annotations

import textwrap
from pathlib import Path

from jaxsafety.report import trained
from jaxsafety.report.load import Estimate, Row, Run, beyond, decoding_label, finite

FEW = 30  # answers: below, an interval spans a dozen points or more and a decimal says nothing


def table(workdir: Path | str) -> str:
    """The terminal table of a workdir.

    Args:
      workdir: a run's directory.

    Returns:
      Aligned plain text; a note where nothing was measured.

    Raises:
      UsageError: no such directory.
    """
    run = Run(workdir)
    if not run.records:
        return f"{run.workdir}: no results.jsonl yet; nothing was evaluated\n"
    found = {}
    for kind in run.words.groups:
        name, _, wish = group(run, kind)
        for decoding in run.decodings(kind):
            heading = f"{name} ({decoding_label(decoding)}; {wish})"
            rows = group_rows(run, kind, decoding)
            found[heading] = _cells(run, drop_unknown(rows)), unknown(run, rows)
    lines = [line for cells, _ in found.values() for line in cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    out = [*textwrap.wrap(headline(run), 100), ""]
    for heading, (cells, notes) in found.items():
        out += [heading, *_lines(cells, widths), *(f"  {note}" for note in notes), ""]
    out += [*textwrap.wrap(held_out(run), 100), ""] if held_out(run) else []
    told = trained.lines(trained.of_run(run))
    out += [*told, ""] if told else []
    out.append(
        "rates in % [95 % interval], n answers per arm; change in points, paired over prompts;"
        "\n↓ ↑ clear change (the interval leaves out 0 and a sign test over prompts agrees), ≈ none"
    )
    return "\n".join(out) + "\n"


def held_out(run: Run) -> str:
    """The loss of dialogues that were not trained on, before and after; "" without them."""
    found = run.artifact("held_out") or {}
    start, end = finite(found.get("start")), finite(found.get("end"))
    if start is None or end is None:
        return ""
    where = f"{found.get('dialogues')} held-out dialogues ({found.get('tokens')} answer tokens)"
    text = f"On {where} the loss went from {start:.3f} to {end:.3f} nats per token."
    return text if end < start else f"{text} It did not fall."


def group(run: Run, kind: str) -> tuple[str, str, str]:
    """Heading, headline metric and wish of a kind."""
    return run.words.groups[kind]


def group_rows(run: Run, kind: str, decoding: str) -> list[Row]:
    """Rows of one table: the headline metric per benchmark, then what explains it.

    Args:
      run: the workdir.
      kind: "safety", "over_refusal" or "capability".
      decoding: which decoding.

    Returns:
      Rows; the explaining metrics come from the pool (safety) or each set (over-refusal).
    """
    metric = group(run, kind)[1]
    rows = run.rows(kind, [metric], decoding)
    if kind == "over_refusal":
        others = [m for m in ("refusal", "correct", "coherent") if m != metric]
        return run.rows(kind, [metric, *others], decoding)
    names = run.benchmarks(kind)
    whole = f"all_{kind}" if f"all_{kind}" in names else (names[-1] if names else "")
    extra = run.words.extra if kind == "safety" else ("coherent",)
    if metric == "safe":
        whole = "unknown"
    found = [run.row(whole, kind, metric, decoding) for metric in extra]
    return rows + [row for row in found if row is not None]


def primary(run: Run, kind: str) -> Row | None:
    """The one row of a kind the headline quotes: the most demanding pool, sampled if measured."""
    names = run.benchmarks(kind)
    prefer = [n for n in run.words.primary[kind] if n in names] + names
    for decoding in run.decodings(kind):
        for name in prefer:
            row = run.row(name, kind, group(run, kind)[1], decoding)
            if row is not None and (row.change or run.before is None or run.after is None):
                return row
    return None


def headline(run: Run) -> str:
    """What happened to attacks, over-refusal and capability, each with its interval.

    A change is called one only where it is clear (`Row.clear`); else both rates are told, and
    that they do not show a change.
    """
    safety = primary(run, "safety")
    parts = []
    if safety is not None:
        rate = run.words.rates[safety.metric]
        if safety.clear and safety.before and safety.after:
            parts.append(
                f"{run.method} {verb(safety)} the {rate} ({describe(run, safety)}) from "
                f"{percent(safety.before)} to {percent(safety.after)}: {points(safety)}"
            )
        else:
            parts.append(f"{rate[0].upper()}{rate[1:]} ({describe(run, safety)}): {sides(safety)}")
    for kind, name in (("over_refusal", "Over-refusal"), ("capability", "Capability")):
        row = primary(run, kind)
        if row is not None and row.change:
            name = "Right answers to harmless requests" if row.metric == "correct" else name
            where = f"{name} ({decoding_label(row.decoding)})"
            told = "changed by" if row.clear else "shows no clear change:"
            parts.append(f"{where} {told} {points(row)}{few(row)}")
    if run.words.judge and parts:
        parts.append(run.words.judge)
    return ". ".join(parts) + "." if parts else "No safety results yet."


def sides(row: Row) -> str:
    """Both rates and the change, said to be none where it is not clear."""
    if row.before is None or row.after is None or row.change is None:
        known = row.after or row.before
        return percent(known) if known else f"not known ({row.cause})"
    text = f"{percent(row.before)} before, {percent(row.after)} after, {points(row)}"
    return text if row.clear else f"{text}{few(row)}, which does not show a change"


def few(row: Row) -> str:
    """How few prompts moved, where the interval alone would call it a change; else nothing."""
    if row.clear or row.moved is None or not beyond(row.change, None):
        return ""
    return f" ({row.moved[0]} prompts fell, {row.moved[1]} rose)"


def verb(row: Row) -> str:
    """What a clear change did to the rate."""
    return "cut" if row.change is not None and row.change[0] < 0 else "raised"


def describe(run: Run, row: Row) -> str:
    """Benchmark, decoding and n in words."""
    return f"{run.title(row.benchmark)}, {decoding_label(row.decoding)}, n = {row.n} answers"


def number(e: Estimate, share: float, width: int = 0) -> str:
    """A share in percent; without decimals where answers are too few for them."""
    return f"{100 * share:{width}.{0 if e.n < FEW else 1}f}"


def percent(e: Estimate) -> str:
    """As in "54.2 % [48.0, 60.1]"."""
    return f"{number(e, e.value)} % [{number(e, e.lo)}, {number(e, e.hi)}]"


def points(row: Row) -> str:
    """The change in percentage points with its interval."""
    value, lo, hi = show_change(row)
    return f"{value} points [{lo}, {hi}]"


def show_change(row: Row) -> tuple[str, str, str]:
    """The change and its interval as signed points."""
    assert row.change is not None
    value, lo, hi = (signed(x, 0 if row.n < FEW else 1) for x in row.change)
    return value, lo, hi


def signed(fraction: float, digits: int = 1) -> str:
    """A fraction as signed points with a true minus; never "-0.0"."""
    text = f"{100 * fraction:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def arrow(row: Row) -> str:
    """↓ or ↑ for a clear change, ≈ otherwise, nothing without two arms."""
    if row.change is None:
        return ""
    return "≈" if not row.clear else ("↓" if row.change[0] < 0 else "↑")


def drop_unknown(rows: list[Row]) -> list[Row]:
    """Without those of which nothing is known in any arm: `unknown` says why."""
    return [row for row in rows if row.before or row.after]


def unknown(run: Run, rows: list[Row]) -> list[str]:
    """What the rows cannot tell, and why: a line per metric and cause."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.nulls:
            key = (run.words.metrics[row.metric], row.cause or "the judge cannot tell")
            found.setdefault(key, []).append(f"{run.title(row.benchmark)}, {row.nulls} answers")
    arms = " of both models" if run.before and run.after else ""
    return [f"{name} not known: {'; '.join(of)}{arms} ({why})" for (name, why), of in found.items()]


def _cells(run: Run, rows: list[Row]) -> list[list[str]]:
    """Heading and rows as text cells; a row of blanks stands for a rule."""
    arms = [arm for arm in (run.before, run.after) if arm]
    cells = [["", "metric", "n", *arms, *(["change"] if len(arms) > 1 else [])]]
    pooled = False
    for row in rows:
        known = [row.before] * bool(run.before) + [row.after] * bool(run.after)
        line = [row.benchmark, run.words.metrics[row.metric], str(row.n)]
        for e in known:
            text = "–"
            if e:
                text = f"{number(e, e.value, 5)} [{number(e, e.lo, 5)},{number(e, e.hi, 6)}]"
            line.append(text)
        if row.change:
            value, lo, hi = show_change(row)
            line.append(f"{arrow(row)} {value:>6} [{lo:>6}, {hi:>6}]")
        elif len(arms) > 1:
            line.append("–")
        if row.pooled and not pooled:
            cells.append([""] * len(line))
        pooled = row.pooled
        cells.append(line)
    return [cells[0], [""] * len(cells[0]), *cells[1:]]


def _lines(cells: list[list[str]], widths: list[int]) -> list[str]:
    """Pads cells to the common widths; a row of blanks becomes a rule."""
    lines = []
    for line in cells:
        padded = [c.ljust(w) for c, w in zip(line, widths, strict=True)]
        padded[2] = line[2].rjust(widths[2])
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)
        lines.append("  " + ("  ".join(padded) if any(line) else rule).rstrip())
    return lines
