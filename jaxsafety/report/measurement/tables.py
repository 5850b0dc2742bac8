"""The tables of `jaxsafety eval` as plain text, for the terminal and table.txt."""

from __future__ import annotations

from pathlib import Path

from jaxsafety.report.measurement import agreement, rows, shared
from jaxsafety.report.measurement.load import Measurement, Rate
from jaxsafety.report.tables import number


def table(out: Path | str) -> str:
    """Every rate with its interval, then how far the judges agree.

    Args:
      out: a directory of `jaxsafety eval`.

    Raises:
      UsageError: no such directory.
    """
    measured = Measurement(out)
    parts = []
    safety = rows.collect(measured, "safety", ("asr", "refusal", "incoherent"))
    parts += _part(measured, "Harmful requests", ("unsafe", "refused", "incoherent"), safety)
    harmless = rows.collect(measured, "over_refusal", ("refusal", "coherent"))
    parts += _part(measured, "Harmless requests", ("refused", "coherent"), harmless)
    parts += _part(measured, "Tasks", ("rate",), rows.collect_tasks(measured))
    for flag, (label, _) in agreement.FLAGS.items():
        pairs = agreement.compare(measured, flag)
        if pairs:
            cells = [["", "", "n", "kappa", "AC1"], *map(_pair, pairs)]
            parts += [f"Judges on the same answers: {label}", *_aligned(cells), ""]
    if any(judge.bound for judge in measured.opinions):
        parts.append("unsafe by phrase rules is “not refused”: an upper bound, they see no harm")
    if not parts:
        return f"{measured.out}: nothing was measured\n"
    parts += shared.lines(measured)
    parts.append("rates in % [95 % interval]; n answers that could be judged")
    return "\n".join(parts) + "\n"


def cell(rate: Rate | None) -> str:
    """As in " 12.5 [ 3.5, 36.0]"; "–" where it is not known."""
    if rate is None or rate.estimate is None:
        return "–"
    e = rate.estimate
    return f"{number(e, e.value, 5)} [{number(e, e.lo, 5)},{number(e, e.hi, 6)}]"


def _part(
    measured: Measurement, title: str, heads: tuple[str, ...], found: list[rows.Row]
) -> list[str]:
    """A heading, a row per set and judge, and what could not be judged."""
    if not found:
        return []
    several, ways = len(measured.arms) > 1, len(measured.decodings) > 1
    cells = [["set", "by", *["model"] * several, *["decoding"] * ways, "n", *heads]]
    for row in found:
        line = [row.set.replace("_", " ") if row.pooled else row.set, row.judge]
        line += [row.arm] * several + [row.decoding] * ways
        cells.append([*line, str(row.n), *map(cell, row.rates)])
    notes = [f"  not judged, {r.set} by {r.judge}: {r.untold}" for r in found if r.untold]
    return [title, *_aligned(cells), *notes, ""]


def _pair(pair: agreement.Pair) -> list[str]:
    numbers = [f"{x:5.2f}" if x is not None else "–" for x in (pair.kappa, pair.ac1)]
    return [pair.first, pair.second, str(pair.n), *numbers, pair.why]


def _aligned(cells: list[list[str]]) -> list[str]:
    width = max(map(len, cells))
    cells = [[*line, *[""] * (width - len(line))] for line in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  " + "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    return [lines[0], "  " + "-" * max(len(line) - 2 for line in lines), *lines[1:]]
