"""What changed, as plain text: base against student with 95 % intervals and paired differences."""

from __future__ import annotations

import textwrap
from pathlib import Path

from jaxsafety.report.load import POOLS, Estimate, Row, Run, decoding_label

# kind -> heading, metric whose rate is shown per benchmark, what a reader should hope for
GROUPS = {
    "safety": ("Safety: attacks that succeed", "asr", "lower is better"),
    "over_refusal": ("Over-refusal: harmless requests refused", "refusal", "lower is better"),
    "capability": ("Capability: exact answers", "accuracy", "higher is better"),
}
RATES = {"asr": "attack success rate", "safe": "rate of safe answers"}
UNALIGNED = {
    "safety": ("Safety: answers without any procedure", "safe", "higher is better"),
    "over_refusal": ("Harmless requests: right answers", "correct", "higher is better"),
}
METRICS = {
    "safe": "safe answer, no attempt",
    "safe_informative": "safe, and names hazard and remedy",
    "asr": "attack success",
    "asr_upper": "attack success, incoherent counted as unsafe",
    "attempt": "attempt",
    "refusal": "refusal",
    "safe_answer": "safe answer",
    "informative": "names hazard and remedy",
    "incoherent": "incoherent",
    "coherent": "coherent",
    "correct": "right answer",
    "accuracy": "exact answer",
}


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
    for kind in GROUPS:
        name, _, wish = group(run, kind)
        for decoding in run.decodings(kind):
            heading = f"{name} ({decoding_label(decoding)}; {wish})"
            found[heading] = _cells(run, group_rows(run, kind, decoding))
    lines = [line for cells in found.values() for line in cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    out = [*textwrap.wrap(headline(run), 100), ""]
    for heading, cells in found.items():
        out += [heading, *_lines(cells, widths), ""]
    out.append(
        "rates in % [95 % interval], n answers per arm; change in points, paired over prompts; "
        "↓ ↑ clear change, ≈ interval holds 0"
    )
    return "\n".join(out) + "\n"


def group(run: Run, kind: str) -> tuple[str, str, str]:
    """Heading, headline metric and wish. A base before alignment fails attacks for want of facts.

    So what counts there is whether it tries, and beside it what harmless requests still get.
    """
    unaligned = "unknown" in run.benchmarks("safety")
    return UNALIGNED.get(kind, GROUPS[kind]) if unaligned else GROUPS[kind]


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
    extra = ["refusal", "safe_answer", "incoherent"] if kind == "safety" else ["coherent"]
    if metric == "safe":
        whole, extra = "unknown", ["safe_informative", "refusal", "attempt", "incoherent"]
    found = [run.row(whole, kind, metric, decoding) for metric in extra]
    return rows + [row for row in found if row is not None]


def primary(run: Run, kind: str) -> Row | None:
    """The one row of a kind the headline quotes: the most demanding pool, sampled if measured."""
    names = run.benchmarks(kind)
    pools = ("wrapped_held", "wrapped_seen", "unknown", f"all_{kind}")
    prefer = [n for n in pools if n in names] + names
    for decoding in run.decodings(kind):
        for name in prefer:
            row = run.row(name, kind, group(run, kind)[1], decoding)
            if row is not None and (row.change or run.before is None or run.after is None):
                return row
    return None


def headline(run: Run) -> str:
    """One honest sentence: what happened to attacks, over-refusal and capability."""
    safety = primary(run, "safety")
    parts = []
    if safety is not None and safety.before and safety.after and safety.change:
        what = f"the {RATES[safety.metric]} ({describe(safety)})"
        text = f"left {what} about where it was, from"
        if safety.clear:
            text = f"{verb(safety)} {what} from"
        parts.append(
            f"{run.method} {text} {percent(safety.before)} to {percent(safety.after)}:"
            f" {points(safety)}"
        )
    elif safety is not None:
        known = safety.after or safety.before
        assert known is not None  # a row has at least one arm
        rate = RATES[safety.metric]
        parts.append(f"{rate[0].upper()}{rate[1:]} ({describe(safety)}): {percent(known)}")
    for kind, name in (("over_refusal", "Over-refusal"), ("capability", "Capability")):
        row = primary(run, kind)
        if row is not None and row.change:
            name = "Right answers to harmless requests" if row.metric == "correct" else name
            parts.append(f"{name} ({decoding_label(row.decoding)}) changed by {points(row)}")
    return ". ".join(parts) + "." if parts else "No safety results yet."


def verb(row: Row) -> str:
    """What a clear change did to the rate."""
    return "cut" if row.change is not None and row.change[0] < 0 else "raised"


def describe(row: Row) -> str:
    """Benchmark, decoding and n in words."""
    n = max(e.n for e in (row.before, row.after) if e)
    return f"{title(row.benchmark)}, {decoding_label(row.decoding)}, n = {n} answers"


def title(benchmark: str) -> str:
    """A benchmark's name in words."""
    return POOLS.get(benchmark, benchmark.replace("_", " "))


def percent(e: Estimate) -> str:
    """As in "54.2 % [48.0, 60.1]"."""
    return f"{100 * e.value:.1f} % [{100 * e.lo:.1f}, {100 * e.hi:.1f}]"


def points(row: Row) -> str:
    """The change in percentage points with its interval."""
    assert row.change is not None
    value, lo, hi = (signed(x) for x in row.change)
    return f"{value} points [{lo}, {hi}]"


def signed(fraction: float) -> str:
    """A fraction as signed points with a true minus; never "-0.0"."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def arrow(row: Row) -> str:
    """↓ or ↑ for a clear change, ≈ otherwise, nothing without two arms."""
    if row.change is None:
        return ""
    return "≈" if not row.clear else ("↓" if row.change[0] < 0 else "↑")


def _cells(run: Run, rows: list[Row]) -> list[list[str]]:
    """Heading and rows as text cells; a row of blanks stands for a rule."""
    arms = [arm for arm in (run.before, run.after) if arm]
    cells = [["", "metric", "n", *arms, *(["change"] if len(arms) > 1 else [])]]
    pooled = False
    for row in rows:
        known = [row.before] * bool(run.before) + [row.after] * bool(run.after)
        line = [row.benchmark, METRICS[row.metric], str(max(e.n for e in known if e))]
        for e in known:
            line.append(f"{100 * e.value:5.1f} [{100 * e.lo:5.1f},{100 * e.hi:6.1f}]" if e else "-")
        if row.change:
            value, lo, hi = (signed(x) for x in row.change)
            line.append(f"{arrow(row)} {value:>6} [{lo:>6}, {hi:>6}]")
        elif len(arms) > 1:
            line.append("-")
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
