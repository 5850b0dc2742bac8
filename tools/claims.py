"""Verdict tables of result pages: rows of claims, judged together, as markdown.

No command: tools/controls.py, tools/safesteer_claims.py and tools/safemoe_claims.py use it. The
words come from jaxsafety/benchmarks/verdict.py and from nowhere else. A family is corrected by
Holm; where all its claims are asked for together (limits that must all be kept) no correction is
due, and `joint` says so: the corrected p stands beside, the word is the interval's own.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from jaxsafety.benchmarks.verdict import CONSTRUCTION, Claim, Interval, holm, t_interval  # noqa: E402
from jaxsafety.core.errors import UsageError  # noqa: E402


@dataclass(frozen=True)
class Row:
    """A claim in words, and the draws it is judged by.

    `draws` has one number per draw, by column; a column that lacks is "-" in its table. `unit` and
    `places` are how numbers are written, `bounds` what a t-interval may not leave, `step` what a
    draw can differ by at least (`verdict.t_interval`).
    """

    text: str
    claim: Claim
    draws: Mapping[str, Sequence[float]]
    places: int = 0
    bounds: tuple[float, float] = (-100.0, 100.0)
    step: float = 0.0


class Judged(NamedTuple):
    """What one column of a row came to; `alone` is the word without correction."""

    interval: Interval
    p: float
    holm: float
    alone: str
    word: str


def judge(rows: Sequence[Row], column: str, joint: bool = False) -> list[Judged | None]:
    """All rows of one family in one column; None where a row has no draws there."""
    ps = []
    for row in rows:
        values = row.draws.get(column) or ()
        tested = values and not row.claim.construction
        ps.append(row.claim.p(values, row.step) if tested else math.nan)
    found: list[Judged | None] = []
    for row, p, adjusted in zip(rows, ps, holm(ps), strict=True):
        values = row.draws.get(column) or ()
        if not values:
            found.append(None)
            continue
        interval = t_interval(values, step=row.step)
        alone = row.claim.verdict(interval)
        word = alone if joint else row.claim.verdict(interval, adjusted)
        found.append(Judged(interval, p, adjusted, alone, word))
    return found


def limit(claim: Claim) -> str:
    """The claim's side and margin; `construction` has its reason told in words."""
    signs = {"above": ">", "below": "<", "within": "within ±"}
    sign = signs[claim.side]
    return f"{sign}{'' if claim.side == 'within' else ' '}{claim.margin:g}"


def number(x: float, places: int, signed: bool = True) -> str:
    """A number that is never -0."""
    text = f"{x:{'+' if signed else ''}.{places}f}"
    return text.replace("-", "+" if signed else "") if float(text) == 0 else text


def told(row: Row, found: Interval, signed: bool = True) -> str:
    """Mean and interval, cut at what is possible; a single draw has none."""
    mean = number(found.mean, row.places, signed)
    if math.isnan(found.lo):
        return f"{mean} (one draw)" if found.n == 1 else mean
    ends = (max(found.lo, row.bounds[0]), min(found.hi, row.bounds[1]))
    low, high = (number(x, row.places, signed) for x in ends)
    return f"{mean} [{low}, {high}]"


def chance(p: float) -> str:
    """A p-value as text."""
    if math.isnan(p):
        return "-"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def word(judged: Judged) -> str:
    """The verdict; where only the correction opened it, what the interval alone says."""
    return judged.word if judged.word == judged.alone else f"{judged.word} (alone: {judged.alone})"


def table(
    rows: Sequence[Row], columns: Mapping[str, str], joint: bool = False, signed: bool = True
) -> list[str]:
    """A row per claim; per column its interval, p after Holm and the verdict."""
    head = "| claim | limit |"
    for name in columns.values():
        head += f" {name} | p, Holm | verdict |"
    lines = [head, "|---" * (2 + 3 * len(columns)) + "|"]
    judged = {column: judge(rows, column, joint) for column in columns}
    for i, row in enumerate(rows):
        cells = [row.text, limit(row.claim)]
        for column in columns:
            one = judged[column][i]
            if one is None:
                cells += ["-", "-", "not measured"]
                continue
            cells += [told(row, one.interval, signed), chance(one.holm), f"**{word(one)}**"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def command(
    argv: Sequence[str] | None,
    doc: str,
    file: Path,
    save: Callable[[list[str]], None],
    blocks: Callable[[], Mapping[str, Sequence[str]]],
) -> int:
    """A tool that keeps a line per run directory with --save, and prints the tables of `file`.

    Returns:
      0; 2 after one line for bad input, which `save` raises as `UsageError`, or nothing to print.
    """
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--save", nargs="+", metavar="RUN", default=[])
    args = parser.parse_args(argv)
    try:
        if args.save:
            save(args.save)
    except UsageError as error:
        print(f"{file.stem}: error: {error}", file=sys.stderr)
        return 2
    if not file.is_file():
        print(f"{file.stem}: nothing kept yet in {file.name}: --save RUN...", file=sys.stderr)
        return 2
    show(blocks())
    return 0


def show(blocks: Mapping[str, Sequence[str]]) -> None:
    """Prints the tables of a page, each under its name."""
    for name, lines in blocks.items():
        print(f"{name}\n")
        print("\n".join(lines), end="\n\n")


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why what is by construction is."""
    told = dict.fromkeys(r.claim.construction for r in rows if r.claim.construction)
    return [f"{CONSTRUCTION.capitalize()}: {reason}." for reason in told]
